/* floor.c - what no limiter that keeps a log can leave out: hashing the key, reading the clock and
 * copying a record of 40 bytes, here into a ring of 1 MiB. */
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

int main(void) {
  static const char key[] = "user:00000000042";
  uint64_t total = 0;
  char version[16];
  snprintf(version, sizeof version, "%u", XXH_VERSION_NUMBER);
  ready("xxhash", version);
  for (uint64_t calls = next_round(); calls > 0; calls = next_round()) {
    uint64_t at = 0;
    const int64_t started_ns = now_ns();
    for (uint64_t i = 0; i < calls; ++i) {
      struct timespec now;
      clock_gettime(CLOCK_BOOTTIME, &now);
      const record made = {XXH3_64bits(key, sizeof key - 1),
                           (int64_t)now.tv_sec * 1000000000 + now.tv_nsec,
                           {i, 1, 0}};
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
