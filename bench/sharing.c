/* sharing.c DIRECTORY ROLE - checks in batch mode, as many as each line asks for.
 *
 *   owner   of a directory that is shared; it serves the others too, until its input ends
 *   client  of one that another process owns
 *   alone   the directory is not shared
 */
#include "side.h"

#define ONE_KEY "user:00000000042"

static uint64_t role_of(flint_limiter* limiter) {
  flint_limiter_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  must(flint_limiter_get_info(limiter, &info, NULL), "info");
  return info.role;
}

/* Uses the clock until its rate has been measured, as in a program that has run for a moment. */
static void warm_up(flint_limiter* limiter, flint_limiter_result* result) {
  const int64_t until_ns = now_ns() + 300000000;
  while (now_ns() < until_ns) {
    must(flint_limiter_peek(limiter, ONE_KEY, sizeof ONE_KEY - 1, 1, 0, NULL, result, NULL),
         "peek");
  }
}

/* What callgrind counts: the checks of this thread, and not what others ask for meanwhile. */
__attribute__((noinline)) void own_check(flint_limiter* limiter, flint_limiter_result* result) {
  must(flint_limiter_check(limiter, ONE_KEY, sizeof ONE_KEY - 1, 1, 0, NULL, result, NULL),
       "check");
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const char* role = argv[2];
  const uint32_t shared = strcmp(role, "alone") != 0;
  const uint64_t wanted = strcmp(role, "client") == 0  ? FLINT_LIMITER_ROLE_CLIENT
                          : strcmp(role, "owner") == 0 ? FLINT_LIMITER_ROLE_OWNER
                                                       : FLINT_LIMITER_ROLE_ALONE;
  flint_limiter* limiter = open_with(argv[1], FLINT_LIMITER_SYNC_BATCH, 0, shared);
  if (role_of(limiter) != wanted) fail("another process owns the directory, or none does");
  configure(limiter, FLINT_LIMITER_KIND_EXACT, ONE_KEY);
  flint_limiter_result result;
  memset(&result, 0, sizeof result);
  result.struct_size = sizeof result;
  warm_up(limiter, &result);
  ready("flint", flint_limiter_version());
  for (uint64_t calls = next_round(); calls > 0; calls = next_round()) {
    uint64_t allowed = 0;
    const int64_t started_ns = now_ns();
    for (uint64_t i = 0; i < calls; ++i) {
      own_check(limiter, &result);
      allowed += result.allowed;
    }
    const int64_t ns = now_ns() - started_ns;
    printf("{\"ns\": %" PRId64 ", \"calls\": %" PRIu64 ", \"allowed\": %" PRIu64
           ", \"denied\": %" PRIu64 ", \"unsynced\": null}\n",
           ns, calls, allowed, calls - allowed);
    fflush(stdout);
  }
  must(flint_limiter_close(&limiter, NULL), "close");
  return 0;
}
