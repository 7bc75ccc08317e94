/* decisions.c - decisions, also those of what is scarce. */

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

static void ExactTimes(void) {
  Clock clock;
  flint_limiter* limiter = OpenMemory(&clock);
  const int64_t start_ns = (int64_t)START_NS;
  flint_limiter_config config = Config("key", 3, 10);
  config.burst = 5;
  CHECK_OK(Configure(limiter, config));
  flint_limiter_result result = Decide(limiter, "key", 4);
  CHECK(result.allowed == 1 && result.cost == 4 && result.limit == 5 && result.remaining == 1);
  CHECK(result.algorithm == FLINT_LIMITER_TOKEN_BUCKET && result.undecided == 0);
  CHECK(result.reset_after_ns == 14 && result.reset_at_ns == start_ns + 14); /* 13 1/3 */
  CHECK(result.retry_after_ns == 0 && result.ticket == 0);
  result = Decide(limiter, "key", 3);
  CHECK(result.allowed == 0 && result.cost == 3 && result.remaining == 1);
  CHECK(result.retry_after_ns == 7 && result.reset_after_ns == 14); /* 6 2/3 */
  Advance(&clock, 6);
  result = Peek(limiter, "key", 3);
  CHECK(result.allowed == 0 && result.retry_after_ns == 1 && result.remaining == 2);
  CHECK(result.reset_after_ns == 8 && result.reset_at_ns == start_ns + 14);
  Advance(&clock, 1);
  CHECK(Peek(limiter, "key", 3).allowed && Peek(limiter, "key", 3).remaining == 3);
  result = Decide(limiter, "key", 3);
  CHECK(result.allowed == 1 && result.remaining == 0 && result.reset_after_ns == 17);
  Advance(&clock, -5); /* engine time stands until the clock is past where it was */
  CHECK(Peek(limiter, "key", 1).retry_after_ns == 3);
  Advance(&clock, 5 + 3);
  CHECK(Decide(limiter, "key", 1).allowed);
  Close(limiter);
}

static void SixAlgorithms(void) {
  Clock clock;
  flint_limiter* limiter = OpenMemory(&clock);
  for (uint32_t algorithm = 1; algorithm <= 6; ++algorithm) {
    flint_limiter_config config = Config("key", 3, MINUTE);
    config.algorithm = algorithm;
    CHECK_OK(Configure(limiter, config));
    for (uint64_t i = 0; i < 3; ++i) {
      const flint_limiter_result result = Decide(limiter, "key", 1);
      CHECK(result.allowed && result.algorithm == algorithm && result.limit == 3);
      CHECK(result.remaining == 2 - i && result.retry_after_ns == 0);
    }
    const flint_limiter_result denied = Decide(limiter, "key", 1);
    CHECK(!denied.allowed && denied.remaining == 0 && denied.retry_after_ns > 0);
    Advance(&clock, (int64_t)denied.retry_after_ns - 1);
    CHECK(!Peek(limiter, "key", 1).allowed && Peek(limiter, "key", 1).retry_after_ns == 1);
    Advance(&clock, 1);
    CHECK(Decide(limiter, "key", 1).allowed);
    CHECK_OK(Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
  }
  Close(limiter);
}

static void PeekChangesNothing(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  const flint_limiter_config config = Config(NULL, 2, MINUTE);
  flint_limiter_result result = NewResult();
  CHECK_OK(Configure(limiter, Template("t", 1, MINUTE)));
  for (int i = 0; i < 10; ++i) {
    CHECK(Peek(limiter, "tx", 1).allowed && Peek(limiter, "tx", 1).ticket == 0);
    CHECK_OK(flint_limiter_peek(limiter, "new", 3, 2, 0, &config, &result, NewError()));
    CHECK(result.allowed && result.remaining == 2 && result.reset_after_ns == 0);
  }
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: new",
              flint_limiter_peek(limiter, "new", 3, 1, 0, NULL, &result, NewError()));
  CHECK(CountEvents(limiter) == 1 && Info(limiter).limits == 1 && Info(limiter).counters == 0);
  CHECK(Decide(limiter, "tx", 1).allowed && !Peek(limiter, "tx", 1).allowed);
  CHECK(Status(limiter, "tx", FLINT_LIMITER_KIND_EXACT).total_denied == 0);
  Close(limiter);
}

static void DecisionOnly(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK_OK(Configure(limiter, Config("key", 1, MINUTE)));
  const flint_limiter_item item = Item("key", 1);
  flint_limiter_result results[3];
  uint64_t denied = 7;
  const uint32_t flag = FLINT_LIMITER_DECISION_ONLY;
  results[0] = results[1] = results[2] = NewResult();
  CHECK_OK(flint_limiter_peek(limiter, "key", 3, 1, flag, NULL, &results[0], NewError()));
  CHECK(results[0].allowed == 1 && results[0].ticket == 0);
  results[0] = CheckWith(limiter, "key", 1, flag);
  CHECK(results[0].allowed == 1 && results[0].ticket > 0);
  results[1] = CheckWith(limiter, "key", 1, flag);
  CHECK(results[1].allowed == 0 && results[1].ticket == 0);
  CHECK_OK(flint_limiter_check_all(limiter, &item, 1, sizeof(item), flag, &results[2],
                                   sizeof(*results), &denied, NewError()));
  CHECK(results[2].allowed == 0 && results[2].ticket == 0 && denied == 0);
  for (int i = 0; i < 3; ++i) {
    const size_t from = offsetof(flint_limiter_result, cost);
    const size_t bytes = offsetof(flint_limiter_result, ticket) - from;
    CHECK(results[i].undecided == 0);
    CHECK(IsFilled((const char*)&results[i].algorithm, sizeof(results[i].algorithm)));
    CHECK(IsFilled((const char*)&results[i] + from, bytes));
    CHECK(results[i].struct_size == sizeof(*results));
  }
  Close(limiter);
}

static void RefusingIsRecorded(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  const flint_limiter_result refused = CheckWith(limiter, "key", 2, FLINT_LIMITER_REFUSE);
  CHECK(!refused.allowed && refused.remaining == 5 && refused.ticket == 0);
  const flint_limiter_status_info status = Status(limiter, "key", FLINT_LIMITER_KIND_EXACT);
  CHECK(status.total_denied == 1 && status.total_denied_cost == 2 && status.total_allowed == 0);
  flint_limiter_result result = NewResult();
  CHECK_FAILS(
      INVALID_ARGUMENT, "flags is 32",
      flint_limiter_peek(limiter, "key", 3, 1, FLINT_LIMITER_REFUSE, NULL, &result, NewError()));
  Close(limiter);
}

static void CheckAllOrNone(void) {
  Clock clock;
  flint_limiter* limiter = OpenMemory(&clock);
  flint_limiter_result results[3];
  const flint_limiter_item items[3] = {Item("a", 2), Item("b", 1), Item("tc", 3)};
  uint64_t denied = 7;
  CHECK_OK(Configure(limiter, Config("a", 5, MINUTE)));
  CHECK_OK(Configure(limiter, Config("b", 1, MINUTE)));
  CHECK_OK(Configure(limiter, Template("t", 9, MINUTE)));
  CHECK_OK(CheckAll(limiter, items, 3, results, &denied));
  CHECK(denied == 3 && results[0].remaining == 3 && results[2].remaining == 6);
  CHECK(results[0].allowed && results[1].allowed && results[2].allowed);
  CHECK(results[2].cost == 3 && results[2].limit == 9 && results[2].retry_after_ns == 0);
  CHECK_OK(CheckAll(limiter, items, 3, results, &denied));
  CHECK(denied == 1 && results[0].allowed == 1 && results[0].remaining == 3);
  CHECK(results[1].allowed == 0 && results[1].retry_after_ns == MINUTE);
  CHECK(IsFilled(&results[2].allowed, sizeof(results[2]) - 4));
  CHECK(Status(limiter, "a", FLINT_LIMITER_KIND_EXACT).total_allowed == 1);
  CHECK(Status(limiter, "a", FLINT_LIMITER_KIND_EXACT).total_denied == 0);
  CHECK(Status(limiter, "b", FLINT_LIMITER_KIND_EXACT).total_denied == 1);
  CHECK(Status(limiter, "tc", FLINT_LIMITER_KIND_EXACT).total_allowed == 1);
  const flint_limiter_item unknown[2] = {Item("a", 1), Item("x", 1)};
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: x",
              CheckAll(limiter, unknown, 2, results, &denied));
  CHECK(Status(limiter, "a", FLINT_LIMITER_KIND_EXACT).total_allowed == 1 && denied == 1);
  CHECK(IsFilled(&results[0].allowed, sizeof(results[0]) - 4));
  Close(limiter);
}

static void CheckAllBounds(void) {
  enum { MOST_ITEMS = FLINT_LIMITER_MAX_ITEMS };
  static flint_limiter_item items[MOST_ITEMS + 1];
  static flint_limiter_result results[MOST_ITEMS + 1];
  static char keys[MOST_ITEMS + 1][64];
  flint_limiter* limiter = OpenMemory(NULL);
  uint64_t denied = 7;
  CHECK_OK(Configure(limiter, Template("", 9, MINUTE)));
  for (int i = 0; i <= MOST_ITEMS; ++i) {
    snprintf(keys[i], sizeof(keys[i]), "%063d", i); /* 64,512 bytes of keys in 1,024 items */
    items[i] = Item(keys[i], 1);
  }
  CHECK_INVALID("items has 0 entries", CheckAll(limiter, items, 0, results, &denied));
  CHECK_INVALID("items has 0 entries",
                flint_limiter_check_all(limiter, NULL, 0, sizeof(*items), 0, NULL, sizeof(*results),
                                        &denied, NewError()));
  CHECK_INVALID("items has 1025 entries",
                CheckAll(limiter, items, MOST_ITEMS + 1, results, &denied));
  CHECK_INVALID("items has 18446744073709551615 entries",
                flint_limiter_check_all(limiter, items, UINT64_MAX, sizeof(*items), 0, results,
                                        sizeof(*results), &denied, NewError()));
  CHECK(denied == 7);
  CHECK_OK(CheckAll(limiter, items, MOST_ITEMS, results, &denied));
  CHECK(denied == MOST_ITEMS && results[MOST_ITEMS - 1].remaining == 8);
  items[5].key = keys[900];
  CHECK_INVALID("twice", CheckAll(limiter, items, MOST_ITEMS, results, &denied));
  static char longest[FLINT_LIMITER_MAX_KEY_BYTES];
  memset(longest, 'k', sizeof(longest));
  items[0].key = longest;
  items[0].key_bytes = sizeof(longest) - 63;
  CHECK_OK(CheckAll(limiter, items, 2, results, &denied));
  items[0].key_bytes = sizeof(longest) - 62;
  CHECK_INVALID("have 65536 bytes", CheckAll(limiter, items, 2, results, &denied));
  items[0].key_bytes = sizeof(longest);
  CHECK_OK(CheckAll(limiter, items, 1, results, &denied));
  Close(limiter);
}

static void* CheckMany(void* argument) {
  flint_limiter* limiter = argument;
  uintptr_t allowed = 0;
  for (int i = 0; i < 2000; ++i) {
    flint_limiter_result result = NewResult();
    flint_limiter_error error;
    ClearError(&error);
    CHECK_OK(flint_limiter_check(limiter, "key", 3, 1, 0, NULL, &result, &error));
    allowed += result.allowed;
  }
  return (void*)allowed; /* NOLINT(performance-no-int-to-ptr) */
}

static void Threads(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  pthread_t threads[4];
  uintptr_t sum = 0;
  CHECK_OK(Configure(limiter, Config("key", 1000, YEAR)));
  for (int i = 0; i < 4; ++i) CHECK(pthread_create(&threads[i], NULL, CheckMany, limiter) == 0);
  for (int i = 0; i < 4; ++i) {
    void* allowed = NULL;
    CHECK(pthread_join(threads[i], &allowed) == 0);
    sum += (uintptr_t)allowed;
  }
  const flint_limiter_status_info status = Status(limiter, "key", FLINT_LIMITER_KIND_EXACT);
  CHECK(sum == 1000 && status.total_allowed == 1000 && status.total_denied == 7000);
  Close(limiter);
}

/* ---- What is scarce -------------------------------------------------------------------------- */

static void MaxKeys(void) {
  flint_limiter_options options = Options(FLINT_LIMITER_SYNC_ALWAYS);
  const flint_limiter_config config = Config("ip:", 5, YEAR);
  for (uint32_t when_full = 0; when_full <= FLINT_LIMITER_WHEN_FULL_EVICT; ++when_full) {
    const Path path = NewPath();
    options.max_keys = 2;
    options.when_full = when_full;
    flint_limiter* limiter = OpenWith(&path, &options);
    flint_limiter_config template = config;
    template.kind = FLINT_LIMITER_KIND_TEMPLATE;
    CHECK_OK(Configure(limiter, template));
    CHECK(Decide(limiter, "ip:1", 1).allowed && Decide(limiter, "ip:2", 1).allowed);
    if (when_full == FLINT_LIMITER_WHEN_FULL_REFUSE) {
      CHECK_FAILS(TABLE_FULL, "max_keys", TryCheck(limiter, "ip:3", 1, 0));
    } else {
      CHECK_OK(TryCheck(limiter, "ip:3", 1, 0));
    }
    CHECK(Info(limiter).evicted == when_full && Info(limiter).counters == 2);
    Close(limiter);
  }
}

static void OnError(void) {
  for (uint32_t on_error = FLINT_LIMITER_ON_ERROR_ALLOW; on_error <= FLINT_LIMITER_ON_ERROR_DENY;
       ++on_error) {
    const Path path = NewPath();
    const uint32_t allowed = on_error == FLINT_LIMITER_ON_ERROR_ALLOW;
    flint_limiter_options options = Options(FLINT_LIMITER_SYNC_ALWAYS);
    options.on_error = on_error;
    flint_limiter* limiter = OpenWith(&path, &options);
    CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
    CHECK(Decide(limiter, "key", 1).undecided == 0);
    SetSync(SYNC_FAILS);
    for (uint64_t i = 1; i <= 2; ++i) {
      const flint_limiter_result result = Decide(limiter, "key", 1);
      CHECK(result.undecided == 1 && result.allowed == allowed && result.ticket == 0);
      CHECK(result.limit == 5 && result.cost == 1);
      CHECK(Info(limiter).undecided == i);
    }
    CHECK_CODE(INVALID_ARGUMENT, TryCheck(limiter, "key", 6, 0));
    SetSync(SYNC_WORKS);
    CHECK_CODE(POISONED, flint_limiter_close(&limiter, NewError()));
  }
}

static void CheckManyOneByOne(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  const flint_limiter_item items[] = {Item("a", 1), Item("a", 2), Item("none", 1), Item("b", 9),
                                      Item("b", 4), Item("a", 2), Item("", 1)};
  enum { COUNT = sizeof(items) / sizeof(*items) };
  const int32_t expected[COUNT] = {
      0, 0, FLINT_LIMITER_NOT_CONFIGURED,  FLINT_LIMITER_INVALID_ARGUMENT,
      0, 0, FLINT_LIMITER_INVALID_ARGUMENT};
  const uint32_t allowed[COUNT] = {1, 1, 0, 0, 1, 0, 0};
  flint_limiter_result results[COUNT];
  int32_t codes[COUNT];
  CHECK_OK(Configure(limiter, Config("a", 4, YEAR)));
  CHECK_OK(Configure(limiter, Config("b", 5, YEAR)));
  const uint64_t syncs = Info(limiter).syncs;
  for (int i = 0; i < COUNT; ++i) results[i] = NewResult();
  CHECK_OK(flint_limiter_check_many(limiter, items, COUNT, sizeof(*items), 0, results,
                                    sizeof(*results), codes, NewError()));
  for (int i = 0; i < COUNT; ++i) {
    CHECK(codes[i] == expected[i]);
    if (codes[i] == FLINT_LIMITER_OK) {
      CHECK(results[i].allowed == allowed[i] && results[i].cost == items[i].cost);
      CHECK(results[i].ticket <= Durable(limiter));
    } else {
      CHECK(IsFilled(&results[i].allowed, sizeof(results[i]) - 4));
    }
  }
  CHECK(results[1].remaining == 1 && results[4].remaining == 1);
  CHECK(Info(limiter).syncs <= syncs + 2); /* the one that was on its way, and one for all */
  Close(limiter);
  limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK(Peek(limiter, "a", 1).remaining == 1 && Peek(limiter, "b", 1).remaining == 1);
  Close(limiter);
}

static void CheckManyArguments(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_item item = Item("key", 1);
  flint_limiter_result result = NewResult();
  int32_t code = 77;
  CHECK_OK(Configure(limiter, Config("key", 5, SECOND)));
#define CHECK_MANY(part, count, item_stride, flags, result_stride, codes)                          \
  CHECK_INVALID(part, flint_limiter_check_many(limiter, &item, count, item_stride, flags, &result, \
                                               result_stride, codes, NewError()))
  CHECK_MANY("items has 0 entries", 0, sizeof(item), 0, sizeof(result), &code);
  CHECK_MANY("items has 1025 entries", 1025, sizeof(item), 0, sizeof(result), &code);
  CHECK_MANY("item_stride is 8", 1, 8, 0, sizeof(result), &code);
  CHECK_MANY("result_stride is 8", 1, sizeof(item), 0, 8, &code);
  CHECK_MANY("codes is NULL", 1, sizeof(item), 0, sizeof(result), NULL);
  CHECK_MANY("flags is 32", 1, sizeof(item), FLINT_LIMITER_REFUSE, sizeof(result), &code);
  item.struct_size = 4;
  CHECK_MANY("items.struct_size is 4", 1, sizeof(item), 0, sizeof(result), &code);
  item = Item("key", 1);
  result.struct_size = 4;
  CHECK_MANY("results.struct_size is 4", 1, sizeof(item), 0, sizeof(result), &code);
#undef CHECK_MANY
  CHECK(code == 77 && Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 0);
  /* Only what a decision is, where no more is asked for. */
  result = NewResult();
  CHECK_OK(flint_limiter_check_many(limiter, &item, 1, sizeof(item), FLINT_LIMITER_DECISION_ONLY,
                                    &result, sizeof(result), &code, NewError()));
  CHECK(code == FLINT_LIMITER_OK && result.allowed == 1 && result.undecided == 0);
  CHECK(IsFilled(&result.cost, sizeof(result.cost)));
  Close(limiter);
}

const Test decisions_tests[] = {
    TEST(ExactTimes),
    TEST(SixAlgorithms),
    TEST(PeekChangesNothing),
    TEST(DecisionOnly),
    TEST(RefusingIsRecorded),
    TEST(CheckAllOrNone),
    TEST(CheckAllBounds),
    TEST(Threads),
    TEST(MaxKeys),
    TEST(OnError),
    TEST(CheckManyOneByOne),
    TEST(CheckManyArguments),
    {NULL, NULL},
};
