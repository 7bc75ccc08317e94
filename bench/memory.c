/* memory.c DIRECTORY - what the process grows by when it checks so many keys of 16 bytes under one
 * template for the first time. In a directory the log's growth starts compactions, which take
 * memory of their own while they run. */
#include <unistd.h>

#include "side.h"

static uint64_t resident_bytes(void) {
  FILE* file = fopen("/proc/self/statm", "r");
  if (file == NULL) fail("no /proc/self/statm");
  unsigned long long size = 0;
  unsigned long long resident = 0;
  if (fscanf(file, "%llu %llu", &size, &resident) != 2) fail("/proc/self/statm is strange");
  fclose(file);
  return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Returns how many were allowed. */
static uint64_t check_keys(flint_limiter* limiter, uint64_t count) {
  flint_limiter_result result;
  memset(&result, 0, sizeof result);
  result.struct_size = sizeof result;
  uint64_t allowed = 0;
  for (uint64_t i = 0; i < count; ++i) {
    char key[32];
    const int key_bytes = snprintf(key, sizeof key, "user:%011" PRIu64, i);
    must(flint_limiter_check(limiter, key, (uint64_t)key_bytes, 1, 0, NULL, &result, NULL),
         "check");
    allowed += result.allowed;
  }
  return allowed;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  flint_limiter* limiter = open_limiter(argv[1], FLINT_LIMITER_SYNC_BATCH, 0);
  configure(limiter, FLINT_LIMITER_KIND_TEMPLATE, "user:");
  /* Takes what does not grow with the keys: the ring, the threads' stacks. */
  configure(limiter, FLINT_LIMITER_KIND_EXACT, "warm");
  for (int i = 0; i < 100000; ++i) check_once(limiter, "warm");
  must(flint_limiter_flush(limiter, NULL), "flush");
  ready("flint", flint_limiter_version());
  for (uint64_t calls = next_round(); calls > 0; calls = next_round()) {
    const uint64_t before = resident_bytes();
    const int64_t started_ns = now_ns();
    const uint64_t allowed = check_keys(limiter, calls);
    const int64_t ns = now_ns() - started_ns;
    must(flint_limiter_flush(limiter, NULL), "flush");
    printf("{\"ns\": %" PRId64 ", \"bytes\": %" PRIu64 ", \"calls\": %" PRIu64
           ", \"allowed\": %" PRIu64 ", \"denied\": %" PRIu64 ", \"unsynced\": 0}\n",
           ns, resident_bytes() - before, calls, allowed, calls - allowed);
    fflush(stdout);
  }
  must(flint_limiter_close(&limiter, NULL), "close");
  return 0;
}
