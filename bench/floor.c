/* floor.c CLOCK - what no limiter that keeps a log can leave out: hashing the key, reading the
 * clock and copying a record of 40 bytes, here into a ring of 1 MiB. CLOCK is `system`, which asks
 * the system each time, or `counter`, which reads the processor's as Flint does where it can. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "side.h"

#define RING_BYTES (UINT64_C(1) << 20)

typedef struct record {
  uint64_t hash;
  int64_t time_ns;
  uint64_t rest[3];
} record;

static char ring[RING_BYTES + sizeof(record)];

/* A line from one reading of both clocks, as steep as 50 ms have shown it to be. */
typedef struct line {
  uint64_t from_ticks;
  int64_t from_ns;
  uint64_t slope; /* ns of a tick, times 2^32 */
} line;

static inline int64_t boot_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline uint64_t ticks(void) {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return 0;
#endif
}

static line draw(void) {
  const int64_t from_ns = boot_ns();
  const uint64_t from_ticks = ticks();
  int64_t to_ns = boot_ns();
  while (to_ns < from_ns + 50000000) to_ns = boot_ns();
  const uint64_t passed = ticks() - from_ticks;
  if (passed == 0) fail("this processor has no counter that Flint reads");
  return (line){from_ticks, from_ns, ((uint64_t)(to_ns - from_ns) << 32) / passed};
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const int counts = strcmp(argv[1], "counter") == 0;
  line drawn = {0, 0, 0};
  if (counts) drawn = draw();
  static const char key[] = "user:00000000042";
  uint64_t total = 0;
  char version[16];
  snprintf(version, sizeof version, "%u", XXH_VERSION_NUMBER);
  ready("xxhash", version);
  for (uint64_t calls = next_round(); calls > 0; calls = next_round()) {
    uint64_t at = 0;
    const int64_t started_ns = now_ns();
    for (uint64_t i = 0; i < calls; ++i) {
      /* Some seconds' ticks times the slope overflow; what the time is does not matter here. */
      const int64_t now =
          counts ? drawn.from_ns + (int64_t)((ticks() - drawn.from_ticks) * drawn.slope >> 32)
                 : boot_ns();
      const record made = {XXH3_64bits(key, sizeof key - 1), now, {i, 1, 0}};
      memcpy(ring + at, &made, sizeof made);
      at = (at + sizeof made) % RING_BYTES;
      __asm__ volatile("" : : : "memory"); /* the copy, and the next hash, really happen */
    }
    const int64_t ns = now_ns() - started_ns;
    total += calls;
    printf("{\"ns\": %" PRId64 ", \"calls\": %" PRIu64 ", \"allowed\": %" PRIu64
           ", \"denied\": 0, \"unsynced\": %" PRIu64 "}\n",
           ns, calls, calls, total);
    fflush(stdout);
  }
  return 0;
}
