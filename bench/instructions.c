/* instructions.c DIRECTORY CALLS LIMITS - so many checks of one key in batch mode, for callgrind to
 * count. The key has one limit, without a name, or several. The checks are fewer than the ring
 * holds, so that it does not matter when the syncer runs. */
#include "side.h"

/* Uses the clock until the rate of the processor's counter has been measured, so that checks read
 * the time from it, as they do in a program that has run for a moment. */
static void warm_up(flint_limiter* limiter, const char* key) {
  const int64_t until_ns = now_ns() + 300000000;
  flint_limiter_result result;
  memset(&result, 0, sizeof result);
  result.struct_size = sizeof result;
  while (now_ns() < until_ns) {
    must(flint_limiter_peek(limiter, key, strlen(key), 1, 0, NULL, &result, NULL), "peek");
  }
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  static const char key[] = "user:00000000042";
  flint_limiter* limiter = open_limiter(argv[1], FLINT_LIMITER_SYNC_BATCH, 0);
  static const char names[] = "abcdefghijklmnop";
  const uint64_t limits = strtoull(argv[3], NULL, 10);
  for (uint64_t i = 0; i < limits; ++i) configure_named(limiter, key, &names[i], i == 0 ? 0 : 1);
  warm_up(limiter, key);
  flint_limiter_result result;
  memset(&result, 0, sizeof result);
  result.struct_size = sizeof result;
  const uint64_t calls = strtoull(argv[2], NULL, 10);
  for (uint64_t i = 0; i < calls; ++i) {
    must(flint_limiter_check(limiter, key, sizeof key - 1, 1, 0, NULL, &result, NULL), "check");
    if (!result.allowed) fail("denied");
  }
  must(flint_limiter_close(&limiter, NULL), "close");
  return 0;
}
