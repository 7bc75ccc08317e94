/* instructions.c DIRECTORY CALLS LIMITS KEYS - so many checks in batch mode, for callgrind to
 * count: of one key, which has one limit without a name or several, or of several keys together.
 * The checks are fewer than the ring holds, so that it does not matter when the syncer runs. */
#include "side.h"

#define MOST_KEYS 16
#define KEY_BYTES 24

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

static void check_one(flint_limiter* limiter, const char* key, uint64_t calls) {
  flint_limiter_result result;
  memset(&result, 0, sizeof result);
  result.struct_size = sizeof result;
  for (uint64_t i = 0; i < calls; ++i) {
    must(flint_limiter_check(limiter, key, strlen(key), 1, 0, NULL, &result, NULL), "check");
    if (!result.allowed) fail("denied");
  }
}

static void check_together(flint_limiter* limiter, char keys[][KEY_BYTES], uint64_t count,
                           uint64_t calls) {
  flint_limiter_item items[MOST_KEYS];
  flint_limiter_result results[MOST_KEYS];
  memset(items, 0, sizeof items);
  memset(results, 0, sizeof results);
  for (uint64_t i = 0; i < count; ++i) {
    items[i].struct_size = sizeof *items;
    items[i].key = keys[i];
    items[i].key_bytes = strlen(keys[i]);
    items[i].cost = 1;
    results[i].struct_size = sizeof *results;
  }
  for (uint64_t i = 0; i < calls; ++i) {
    uint64_t denied = 0;
    must(flint_limiter_check_all(limiter, items, count, sizeof *items, 0, results, sizeof *results,
                                 &denied, NULL),
         "check_all");
    if (denied < count) fail("denied");
  }
}

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  static char keys[MOST_KEYS][KEY_BYTES];
  static const char names[] = "abcdefghijklmnop";
  const uint64_t calls = strtoull(argv[2], NULL, 10);
  const uint64_t limits = strtoull(argv[3], NULL, 10);
  const uint64_t count = strtoull(argv[4], NULL, 10);
  if (limits >= sizeof names || count < 1 || count > MOST_KEYS) return 2;
  flint_limiter* limiter = open_limiter(argv[1], FLINT_LIMITER_SYNC_BATCH, 0);
  for (uint64_t i = 0; i < count; ++i) {
    snprintf(keys[i], KEY_BYTES, "user:%011u", 42 + (unsigned)i);
    for (uint64_t limit = 0; limit < limits; ++limit) {
      configure_named(limiter, keys[i], &names[limit], limit == 0 ? 0 : 1);
    }
  }
  warm_up(limiter, keys[0]);
  if (count == 1) {
    check_one(limiter, keys[0], calls);
  } else {
    check_together(limiter, keys, count, calls);
  }
  must(flint_limiter_close(&limiter, NULL), "close");
  return 0;
}
