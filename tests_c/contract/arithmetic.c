/* arithmetic.c - counters that the caller keeps, held against a limiter's own. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

#define STEPS 3000
#define MOST_ENTRIES 4096

/* The entries of a sliding_window_log, as a store keeps them. */
typedef struct Entries {
  int64_t at_ns[MOST_ENTRIES];
  uint64_t cost[MOST_ENTRIES];
  size_t count;
} Entries;

static uint64_t Random(uint64_t* seed) {
  *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return *seed >> 11;
}

static flint_limiter_state NewState(void) {
  flint_limiter_state state;
  memset(&state, 0, sizeof(state));
  state.struct_size = sizeof(state);
  return state;
}

/* Drops what has left the window, and says in `state` what is left. */
static void Tell(Entries* entries, const flint_limiter_config* config, int64_t now_ns,
                 uint64_t cost, flint_limiter_state* state) {
  size_t gone = 0;
  while (gone < entries->count && entries->at_ns[gone] <= now_ns - (int64_t)config->per_ns) ++gone;
  entries->count -= gone;
  memmove(entries->at_ns, entries->at_ns + gone, entries->count * sizeof(*entries->at_ns));
  memmove(entries->cost, entries->cost + gone, entries->count * sizeof(*entries->cost));
  state->used = 0;
  state->entries = entries->count;
  for (size_t i = 0; i < entries->count; ++i) state->used += entries->cost[i];
  if (entries->count == 0) return;
  state->oldest_ns = entries->at_ns[0];
  state->at_ns = entries->at_ns[entries->count - 1];
  if (state->used + cost <= config->rate) return;
  uint64_t leaving = 0;
  for (size_t i = 0; leaving < state->used + cost - config->rate; ++i) {
    leaving += entries->cost[i];
    state->leaves_ns = entries->at_ns[i];
  }
}

static void Note(Entries* entries, int64_t now_ns, uint64_t cost) {
  if (entries->count > 0 && entries->at_ns[entries->count - 1] == now_ns) {
    entries->cost[entries->count - 1] += cost;
    return;
  }
  CHECK(entries->count < MOST_ENTRIES);
  entries->at_ns[entries->count] = now_ns;
  entries->cost[entries->count] = cost;
  ++entries->count;
}

static int IsSame(const flint_limiter_result* one, const flint_limiter_result* other) {
  return one->allowed == other->allowed && one->algorithm == other->algorithm &&
         one->undecided == other->undecided && one->cost == other->cost &&
         one->limit == other->limit && one->remaining == other->remaining &&
         one->reset_at_ns == other->reset_at_ns && one->reset_after_ns == other->reset_after_ns &&
         one->retry_after_ns == other->retry_after_ns;
}

static void Compare(uint32_t algorithm, uint64_t seed) {
  static Entries entries;
  Clock clock;
  flint_limiter* limiter = OpenMemory(&clock);
  flint_limiter_config config = Config("key", 1 + Random(&seed) % 50, 1 + Random(&seed) % SECOND);
  config.algorithm = algorithm;
  if (algorithm <= FLINT_LIMITER_LEAKY_BUCKET) config.burst = 1 + Random(&seed) % 80;
  const uint64_t burst = config.burst == 0 ? config.rate : config.burst;
  CHECK_OK(Configure(limiter, config));
  flint_limiter_state state = NewState();
  int64_t now_ns = (int64_t)START_NS;
  uint64_t denied = 0;
  entries.count = 0;
  for (int i = 0; i < STEPS; ++i) {
    const int64_t passed_ns = (int64_t)(Random(&seed) % (config.per_ns * 2 / config.rate + 2));
    Advance(&clock, passed_ns);
    now_ns += passed_ns;
    const uint64_t cost = 1 + Random(&seed) % burst % 5;
    const flint_limiter_result expected = Decide(limiter, "key", cost);
    flint_limiter_result result = NewResult();
    flint_limiter_result described = NewResult();
    if (algorithm == FLINT_LIMITER_SLIDING_WINDOW_LOG) {
      Tell(&entries, &config, now_ns, cost, &state);
    }
    CHECK_OK(flint_limiter_decide(&config, &state, now_ns, cost, &result, NewError()));
    CHECK(IsSame(&result, &expected));
    CHECK_OK(flint_limiter_describe(&config, &state, now_ns, cost, expected.allowed, &described,
                                    NewError()));
    CHECK(IsSame(&described, &expected));
    if (expected.allowed == 0) ++denied;
    if (expected.allowed == 1) Note(&entries, now_ns, cost);
  }
  CHECK(denied > STEPS / 100 && denied < STEPS);
  Close(limiter);
}

static void DecidesAsALimiterDoes(void) {
  for (uint32_t algorithm = 1; algorithm <= 6; ++algorithm) {
    for (uint64_t seed = 1; seed <= 5; ++seed) Compare(algorithm, seed);
  }
}

static void SpansAreExact(void) {
  flint_limiter_span span;
  memset(&span, 0, sizeof(span));
  span.struct_size = sizeof(span);
  flint_limiter_config config = Config("", 3, 10 * SECOND);
  CHECK_OK(flint_limiter_get_span(&config, 2, &span, NewError())); /* 6 2/3 s */
  CHECK(span.ns == UINT64_C(6666666666) && span.fraction == 2);
  CHECK(span.seconds == 6 && span.nanoseconds == 666666666);
  CHECK(span.fraction_high == 0 && span.fraction_low == 2);
  config = Config("", MOST, MOST - 1);
  CHECK_OK(flint_limiter_get_span(&config, 1, &span, NewError()));
  CHECK(span.ns == 0 && span.fraction == MOST - 1 && span.seconds == 0 && span.nanoseconds == 0);
  CHECK(span.fraction_high == 0x7FFFFFFF && span.fraction_low == 0x7FFFFFFF);
  CHECK_OK(flint_limiter_get_span(&config, MOST, &span, NewError()));
  CHECK(span.ns == MOST - 1 && span.fraction == 0);
  config = Config("", 1, SECOND);
  CHECK_INVALID("units is 4611686019",
                flint_limiter_get_span(&config, UINT64_C(4611686019), &span, NewError()));
  CHECK_INVALID("units is 0", flint_limiter_get_span(&config, 0, &span, NewError()));
  CHECK_INVALID("span is NULL", flint_limiter_get_span(&config, 1, NULL, NewError()));
  CHECK_INVALID("config is NULL", flint_limiter_get_span(NULL, 1, &span, NewError()));
}

static void CheckWrong(const char* part, uint32_t algorithm, flint_limiter_state state) {
  flint_limiter_config config = Config("", 10, SECOND);
  config.algorithm = algorithm;
  const int64_t now_ns = (int64_t)START_NS;
  flint_limiter_result result = NewResult();
  flint_limiter_state left = state;
  CHECK_INVALID(part, flint_limiter_decide(&config, &left, now_ns, 1, &result, NewError()));
  CHECK(memcmp(&left, &state, sizeof(state)) == 0);
  CHECK_INVALID(part, flint_limiter_describe(&config, &state, now_ns, 1, 0, &result, NewError()));
}

static void StatesThatCannotBe(void) {
  flint_limiter_state state = NewState();
  state.fraction = 10;
  CheckWrong("state.fraction must be below", FLINT_LIMITER_GCRA, state);
  state = NewState();
  state.at_ns = (int64_t)(START_NS + MOST + 1);
  CheckWrong("state.at_ns must be at most", FLINT_LIMITER_TOKEN_BUCKET, state);
  state = NewState();
  state.used = 11;
  CheckWrong("state.used must be at most", FLINT_LIMITER_FIXED_WINDOW_COUNTER, state);
  state = NewState();
  state.at_ns = (int64_t)START_NS + 1;
  CheckWrong("state.at_ns must be at least 0", FLINT_LIMITER_FIXED_WINDOW_COUNTER, state);
  state = NewState();
  state.previous = 11;
  CheckWrong("state.previous must be", FLINT_LIMITER_SLIDING_WINDOW_COUNTER, state);
  state = NewState();
  state.index = (int64_t)(START_NS / SECOND) + 1;
  CheckWrong("state.index must be", FLINT_LIMITER_SLIDING_WINDOW_COUNTER, state);
  state = NewState();
  state.used = 1;
  CheckWrong("state.entries must be 0", FLINT_LIMITER_SLIDING_WINDOW_LOG, state);
  state.entries = (1 << 20) + 1;
  CheckWrong("state.entries must be at most", FLINT_LIMITER_SLIDING_WINDOW_LOG, state);
  state.entries = 1;
  state.oldest_ns = 7;
  CheckWrong("state.oldest_ns must be", FLINT_LIMITER_SLIDING_WINDOW_LOG, state);
  state = NewState();
  state.struct_size = 8;
  CheckWrong("state.struct_size is 8", FLINT_LIMITER_GCRA, state);
}

static void CallsThatCannotBe(void) {
  const flint_limiter_config config = Config("", 10, SECOND);
  flint_limiter_state state = NewState();
  flint_limiter_result result = NewResult();
  CHECK_INVALID("cost is 0", flint_limiter_decide(&config, &state, 0, 0, &result, NewError()));
  CHECK_INVALID("cost is 11; it must be between 1 and 10, the limit's burst",
                flint_limiter_decide(&config, &state, 0, 11, &result, NewError()));
  CHECK_INVALID("now_ns", flint_limiter_decide(&config, &state, -1, 1, &result, NewError()));
  CHECK_INVALID("state is NULL", flint_limiter_decide(&config, NULL, 0, 1, &result, NewError()));
  CHECK_INVALID("result is NULL", flint_limiter_decide(&config, &state, 0, 1, NULL, NewError()));
  CHECK_INVALID("allowed is 2",
                flint_limiter_describe(&config, &state, 0, 1, 2, &result, NewError()));
  state.used = 10;
  state.entries = 1;
  state.leaves_ns = 1;
  flint_limiter_config log = Config("", 10, SECOND);
  log.algorithm = FLINT_LIMITER_SLIDING_WINDOW_LOG;
  CHECK_INVALID("state.leaves_ns", flint_limiter_decide(&log, &state, 9, 1, &result, NewError()));
}

/* A log of 2^20 entries takes no more, but for the time of the newest. */
static void AFullLog(void) {
  flint_limiter_config config = Config("", UINT64_C(1) << 30, SECOND);
  config.algorithm = FLINT_LIMITER_SLIDING_WINDOW_LOG;
  flint_limiter_state state = NewState();
  state.used = state.entries = UINT64_C(1) << 20;
  state.oldest_ns = state.leaves_ns = 100;
  state.at_ns = 5000;
  flint_limiter_result result = NewResult();
  CHECK_OK(flint_limiter_decide(&config, &state, 6000, 1, &result, NewError()));
  CHECK(result.allowed == 0 && result.remaining == 0);
  CHECK(result.retry_after_ns == SECOND - 5900 && result.reset_after_ns == SECOND - 5900);
  CHECK_OK(flint_limiter_decide(&config, &state, 5000, 1, &result, NewError()));
  CHECK(result.allowed == 1 && state.entries == UINT64_C(1) << 20);
}

const Test arithmetic_tests[] = {
    TEST(DecidesAsALimiterDoes), TEST(SpansAreExact), TEST(StatesThatCannotBe),
    TEST(CallsThatCannotBe),     TEST(AFullLog),      {NULL, NULL},
};
