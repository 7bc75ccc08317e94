/* limits.c - limits and templates. */

#include <stdio.h>
#include <string.h>

#include "support.h"

static void ConfigureTwice(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  flint_limiter_config config = Config("key", 5, SECOND);
  uint64_t first = 0;
  uint64_t ticket = 7;
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, &first, NewError()));
  CHECK(first > 0 && Durable(limiter) >= first);
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, &ticket, NewError()));
  CHECK(ticket == 0);
  config.burst = 5; /* which is what 0 means */
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, &ticket, NewError()));
  CHECK(ticket == 0 && CountEvents(limiter) == 1);
  config.burst = 6;
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, &ticket, NewError()));
  CHECK(ticket > first && Durable(limiter) >= ticket && CountEvents(limiter) == 2);
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, NULL, NewError()));
  Close(limiter);
}

static void ReconfigureKeepsWhatWasUsed(void) {
  Clock clock;
  flint_limiter* limiter = OpenMemory(&clock);
  CHECK_OK(Configure(limiter, Config("key", 10, MINUTE)));
  CHECK(Decide(limiter, "key", 7).remaining == 3);
  CHECK_OK(Configure(limiter, Config("key", 100, MINUTE)));
  CHECK(Peek(limiter, "key", 1).remaining == 93);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  CHECK(Peek(limiter, "key", 1).remaining == 0);
  CHECK_OK(Configure(limiter, Config("key", 10, MINUTE)));
  CHECK(Peek(limiter, "key", 1).remaining == 5);
  Advance(&clock, 3 * (int64_t)SECOND); /* half a unit */
  flint_limiter_config config = Config("key", 10, MINUTE);
  config.algorithm = FLINT_LIMITER_FIXED_WINDOW_COUNTER;
  CHECK_OK(Configure(limiter, config));
  CHECK(Peek(limiter, "key", 1).remaining == 5);
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed_cost == 7);
  Close(limiter);
}

static void IfAbsent(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  const flint_limiter_config first[2] = {Config("a", 1, SECOND), Template("t", 1, SECOND)};
  const flint_limiter_config second[4] = {Config("a", 2, SECOND), Template("t", 2, SECOND),
                                          Config("b", 2, SECOND), Template("u", 2, SECOND)};
  CHECK_OK(flint_limiter_limit_many(limiter, first, 2, sizeof(*first), FLINT_LIMITER_IF_ABSENT,
                                    NULL, NewError()));
  CHECK_OK(flint_limiter_limit_many(limiter, second, 4, sizeof(*second), FLINT_LIMITER_IF_ABSENT,
                                    NULL, NewError()));
  CHECK(Status(limiter, "a", FLINT_LIMITER_KIND_EXACT).rate == 1);
  CHECK(Status(limiter, "t", FLINT_LIMITER_KIND_TEMPLATE).rate == 1);
  CHECK(Status(limiter, "b", FLINT_LIMITER_KIND_EXACT).rate == 2);
  CHECK(Status(limiter, "u", FLINT_LIMITER_KIND_TEMPLATE).rate == 2);
  CHECK_OK(flint_limiter_limit(limiter, &second[0], FLINT_LIMITER_IF_ABSENT, NULL, NewError()));
  CHECK(Status(limiter, "a", FLINT_LIMITER_KIND_EXACT).rate == 1);
  Close(limiter);
}

static void LimitMany(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  enum { COUNT = 500 };
  flint_limiter_config configs[COUNT];
  char keys[COUNT][16];
  uint64_t ticket = 0;
  for (int i = 0; i < COUNT; ++i) {
    snprintf(keys[i], sizeof(keys[i]), "key-%03d", i);
    configs[i] = Config(keys[i], (uint64_t)i + 1, SECOND);
  }
  /* All are checked before the first takes effect. */
  configs[COUNT - 1].rate = 0;
  CHECK_INVALID("rate is 0", flint_limiter_limit_many(limiter, configs, COUNT, sizeof(*configs), 0,
                                                      &ticket, NewError()));
  configs[COUNT - 1] = Config(" ", 1, SECOND);
  CHECK_INVALID("white space", flint_limiter_limit_many(limiter, configs, COUNT, sizeof(*configs),
                                                        0, &ticket, NewError()));
  CHECK(Info(limiter).limits == 0 && ticket == 0);
  configs[COUNT - 1] = Config("last", 1, SECOND);
  const uint64_t syncs = Info(limiter).syncs;
  CHECK_OK(
      flint_limiter_limit_many(limiter, configs, COUNT, sizeof(*configs), 0, &ticket, NewError()));
  const flint_limiter_info info = Info(limiter);
  CHECK(info.limits == COUNT && ticket > 0 && info.durable >= ticket);
  CHECK(info.syncs - syncs < 20);
  /* A count that is nonsense is refused before anything is read. */
  CHECK_CODE(NO_MEMORY, flint_limiter_limit_many(limiter, configs, UINT64_MAX, sizeof(*configs), 0,
                                                 &ticket, NewError()));
  Close(limiter);
}

static void RemoveAndReset(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  const uint32_t exact = FLINT_LIMITER_KIND_EXACT;
  const uint32_t template = FLINT_LIMITER_KIND_TEMPLATE;
  CHECK_OK(Configure(limiter, Config("ab", 2, MINUTE)));
  CHECK_OK(Configure(limiter, Template("a", 3, MINUTE)));
  CHECK(!Decide(limiter, "ab", 2).remaining && Decide(limiter, "ac", 1).remaining == 2);
  CHECK(Decide(limiter, "ad", 1).remaining == 2);
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: b*", TryStatus(limiter, "b", template));
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: b", Reset(limiter, "b", exact, 0));
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: b*", Reset(limiter, "b", template, 0));
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: b", Remove(limiter, "b", exact, 0));
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: ab*", Remove(limiter, "ab", template, 0));
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: ax", Remove(limiter, "ax", exact, 0));

  CHECK_OK(Reset(limiter, "ab", exact, 0));
  CHECK(Peek(limiter, "ab", 1).remaining == 2 && Peek(limiter, "ac", 1).remaining == 2);
  CHECK(Status(limiter, "ab", exact).total_allowed_cost == 2);
  CHECK(Status(limiter, "ab", exact).last_reset_at_ns > 0);
  CHECK_OK(Reset(limiter, "ac", exact, 0));
  CHECK(Peek(limiter, "ac", 1).remaining == 3 && Peek(limiter, "ad", 1).remaining == 2);
  CHECK_OK(Reset(limiter, "ax", exact, 0)); /* covered, and has used nothing */
  CHECK_OK(Reset(limiter, "a", template, 0));
  CHECK(Peek(limiter, "ad", 1).remaining == 3);
  CHECK(Status(limiter, "a", template).total_allowed == 2);

  CHECK(Decide(limiter, "ac", 2).allowed && Decide(limiter, "ad", 2).allowed);
  CHECK_OK(Remove(limiter, "ac", exact, 0));
  CHECK(Peek(limiter, "ac", 1).remaining == 3 && Peek(limiter, "ad", 1).remaining == 1);
  CHECK_OK(Remove(limiter, "ab", exact, 0));
  CHECK(Status(limiter, "ab", exact).kind == FLINT_LIMITER_KIND_COUNTER);
  CHECK_OK(Remove(limiter, "a", template, 0));
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: ad", TryCheck(limiter, "ad", 1, 0));
  CHECK(Info(limiter).limits == 0);
  Close(limiter);
}

static void Templates(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  CHECK_OK(Configure(limiter, Template("", 1, MINUTE)));
  CHECK_OK(Configure(limiter, Template("ip:", 2, MINUTE)));
  CHECK_OK(Configure(limiter, Template("ip:10.", 3, MINUTE)));
  CHECK_OK(Configure(limiter, Template(" ", 4, MINUTE)));
  CHECK_OK(Configure(limiter, Config("ip:10.1", 5, MINUTE)));
  static const struct {
    const char* key;
    uint64_t limit;
  } cases[] = {{"x", 1},       {"ip", 1}, {"ip:", 2},     {"ip:1", 2},    {"ip:10.", 3},
               {"ip:10.2", 3}, {" x", 4}, {"ip:10.1", 5}, {"ip:10.11", 3}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); ++i) {
    const flint_limiter_result result = Decide(limiter, cases[i].key, 1);
    CHECK(result.limit == cases[i].limit && result.remaining == cases[i].limit - 1);
  }
  const flint_limiter_status_info own = Status(limiter, "ip:10.", FLINT_LIMITER_KIND_TEMPLATE);
  CHECK(own.kind == FLINT_LIMITER_KIND_TEMPLATE && own.rate == 3 && own.remaining == 3);
  CHECK(own.counters == 3 && own.total_allowed == 3 && own.total_allowed_cost == 3);
  CHECK(own.last_allowed_at_ns > 0 && own.last_denied_at_ns == 0 && own.last_reset_at_ns == 0);
  const flint_limiter_status_info counter = Status(limiter, "ip:10.2", FLINT_LIMITER_KIND_EXACT);
  CHECK(counter.kind == FLINT_LIMITER_KIND_COUNTER && counter.remaining == 2);
  CHECK(counter.counters == 0 && counter.total_allowed == 1);
  const flint_limiter_status_info unseen = Status(limiter, "ip:99", FLINT_LIMITER_KIND_EXACT);
  CHECK(unseen.kind == FLINT_LIMITER_KIND_COUNTER && unseen.remaining == 2);
  CHECK(unseen.total_allowed == 0 && unseen.last_allowed_at_ns == 0);
  CHECK(Info(limiter).limits == 5 && Info(limiter).counters == 8);
  CHECK_OK(Remove(limiter, "ip:10.1", FLINT_LIMITER_KIND_EXACT, 0));
  CHECK(Peek(limiter, "ip:10.1", 1).limit == 3);
  Close(limiter);
}

static void InlineLimits(void) {
  Clock clock;
  flint_limiter* limiter = OpenMemory(&clock);
  const flint_limiter_config config = Config(NULL, 2, MINUTE);
  flint_limiter_result result = NewResult();
  CHECK_OK(flint_limiter_peek(limiter, "key", 3, 1, 0, &config, &result, NewError()));
  CHECK(result.allowed && result.remaining == 2);
  CHECK_FAILS(NOT_CONFIGURED, "key", TryStatus(limiter, "key", FLINT_LIMITER_KIND_EXACT));
  CHECK_OK(flint_limiter_check(limiter, "key", 3, 1, 0, &config, &result, NewError()));
  CHECK(result.allowed && result.remaining == 1 && result.limit == 2);
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).kind == FLINT_LIMITER_KIND_INLINE);
  /* What has a limit already keeps it. */
  const flint_limiter_config larger = Config(NULL, 9, MINUTE);
  CHECK_OK(flint_limiter_check(limiter, "key", 3, 1, 0, &larger, &result, NewError()));
  CHECK(result.allowed && result.remaining == 0 && result.limit == 2);
  CHECK(!Decide(limiter, "key", 1).allowed);
  CHECK(Info(limiter).limits == 1);
  /* With UPDATE it takes the values of the call. */
  CHECK_OK(
      flint_limiter_peek(limiter, "key", 3, 1, FLINT_LIMITER_UPDATE, &larger, &result, NewError()));
  CHECK(result.allowed && result.remaining == 7 && result.limit == 9);
  CHECK(!Decide(limiter, "key", 1).allowed);
  CHECK_OK(flint_limiter_check(limiter, "key", 3, 1, FLINT_LIMITER_UPDATE, &larger, &result,
                               NewError()));
  CHECK(result.allowed && result.remaining == 6 && result.limit == 9);
  CHECK(Decide(limiter, "key", 1).allowed);
  Advance(&clock, MINUTE); /* fresh, and so forgotten */
  CHECK_FAILS(NOT_CONFIGURED, "key", TryStatus(limiter, "key", FLINT_LIMITER_KIND_EXACT));
  CHECK_FAILS(NOT_CONFIGURED, "key", TryCheck(limiter, "key", 1, 0));
  CHECK_OK(flint_limiter_check(limiter, "key", 3, 1, 0, &larger, &result, NewError()));
  CHECK(result.limit == 9);
  CHECK_OK(Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
  CHECK_OK(Configure(limiter, Template("k", 3, MINUTE)));
  CHECK_OK(flint_limiter_check(limiter, "key", 3, 1, 0, &larger, &result, NewError()));
  CHECK(result.limit == 3);
  Close(limiter);
}

static flint_limiter_config Named(flint_limiter_config config, const char* name) {
  config.name = name;
  config.name_bytes = strlen(name);
  return config;
}

static uint64_t RemainingOf(flint_limiter* limiter, const char* key, const char* name) {
  flint_limiter_status_info status = NewStatus();
  CHECK_OK(flint_limiter_status_named(limiter, key, strlen(key), name, strlen(name),
                                      FLINT_LIMITER_KIND_EXACT, &status, NewError()));
  CHECK(status.name == NULL && status.name_bytes == strlen(name));
  return status.remaining;
}

static void SeveralLimitsOfAKey(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK_OK(Configure(limiter, Named(Config("key", 5, MINUTE), "minute")));
  CHECK_OK(Configure(limiter, Named(Config("key", 3, 1000 * (uint64_t)MINUTE), "day")));
  flint_limiter_result result = NewResult();
  flint_limiter_limit_result limits[FLINT_LIMITER_MAX_LIMITS_OF_KEY];
  uint64_t count = 0;
  memset(limits, 0xaa, sizeof(limits));
  limits[0].struct_size = sizeof(*limits);
  CHECK_OK(flint_limiter_check_limits(limiter, "key", 3, 2, 0, NULL, 0, &result, limits,
                                      FLINT_LIMITER_MAX_LIMITS_OF_KEY, sizeof(*limits), &count,
                                      NewError()));
  CHECK(result.allowed && result.limit_count == 2 && result.limit_index == 0 && count == 2);
  CHECK(result.remaining == 1 && result.limit == 3);
  CHECK(strcmp(limits[0].name, "day") == 0 && limits[0].name_bytes == 3);
  CHECK(limits[0].allowed && limits[0].remaining == 1 && limits[0].limit == 3);
  CHECK(strcmp(limits[1].name, "minute") == 0 && limits[1].remaining == 3);
  CHECK(limits[1].struct_size == sizeof(*limits));
  CHECK_OK(flint_limiter_check_limits(limiter, "key", 3, 2, 0, NULL, 1, &result, limits, 1,
                                      sizeof(*limits), &count, NewError()));
  CHECK(!result.allowed && result.limit_index == 0 && count == 2 && !limits[0].allowed);
  CHECK(!Decide(limiter, "key", 2).allowed);
  CHECK(RemainingOf(limiter, "key", "minute") == 3);
  CHECK_INVALID("name", flint_limiter_reset_named(limiter, "key", 3, "\xff", 1,
                                                  FLINT_LIMITER_KIND_EXACT, 0, NULL, NewError()));
  CHECK_FAILS(NOT_CONFIGURED, "key (name \"hour\")",
              flint_limiter_remove_named(limiter, "key", 3, "hour", 4, FLINT_LIMITER_KIND_EXACT, 0,
                                         NULL, NewError()));
  CHECK_FAILS(NOT_CONFIGURED, "key", TryStatus(limiter, "key", FLINT_LIMITER_KIND_EXACT));
  CHECK_OK(flint_limiter_reset_named(limiter, "key", 3, "day", 3, FLINT_LIMITER_KIND_EXACT, 0, NULL,
                                     NewError()));
  CHECK(RemainingOf(limiter, "key", "day") == 3 && RemainingOf(limiter, "key", "minute") == 3);
  flint_limiter_event events[8];
  flint_limiter_history_query query = Query(0);
  PrepareEvents(events, 8);
  CHECK(NextEvents(limiter, "key", &query, events, 8) == 6);
  CHECK(events[0].name_bytes == 6 && memcmp(events[0].name, "minute", 6) == 0);
  CHECK(events[2].type == FLINT_LIMITER_EVENT_ALLOW_ALL && events[2].item_count == 2);
  CHECK(events[3].name_bytes == 6 && events[2].name_bytes == 3);
  CHECK(events[4].type == FLINT_LIMITER_EVENT_DENY && memcmp(events[4].name, "day", 3) == 0);
  CHECK(events[5].type == FLINT_LIMITER_EVENT_RESET && events[5].name_bytes == 3);
  CHECK_OK(flint_limiter_remove_named(limiter, "key", 3, "day", 3, FLINT_LIMITER_KIND_EXACT, 0,
                                      NULL, NewError()));
  CHECK(Decide(limiter, "key", 1).limit_count == 1);
  CHECK_OK(Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
  CHECK_FAILS(NOT_CONFIGURED, "key", TryCheck(limiter, "key", 1, 0));
  Close(limiter);
}

/* A cursor goes on behind one of several limits of a key, which a key alone cannot. */
static void ListNamedLimits(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  CHECK_OK(Configure(limiter, Config("a", 1, MINUTE)));
  CHECK_OK(Configure(limiter, Named(Config("b", 2, MINUTE), "x")));
  CHECK_OK(Configure(limiter, Named(Config("b", 3, MINUTE), "y")));
  flint_limiter_config stacking = Named(Template("b", 4, MINUTE), "z");
  stacking.flags = FLINT_LIMITER_STACK;
  CHECK_OK(Configure(limiter, stacking));
  char cursor[FLINT_LIMITER_MAX_CURSOR_BYTES];
  uint64_t cursor_bytes = 0;
  uint64_t count = 0;
  for (uint64_t rate = 1; rate <= 5; ++rate) {
    flint_limiter_status_info entry = NewStatus();
    CHECK_OK(flint_limiter_list_page(limiter, cursor, cursor_bytes, 0, &entry, 1, sizeof(entry),
                                     page_text, sizeof(page_text), &count, cursor, &cursor_bytes,
                                     NewError()));
    CHECK(count == (rate <= 4));
    if (count == 0) break;
    CHECK(entry.rate == rate && entry.name_bytes == (rate > 1));
    CHECK(rate == 1 || entry.name[0] == (char)('w' + (int)rate - 1));
    CHECK(entry.flags == (rate == 4 ? FLINT_LIMITER_STACK : 0));
  }
  flint_limiter_status_info page[4];
  CHECK(List(limiter, NULL, 0, page, 4) == 1 && HasKey(&page[0], "a"));
  CHECK_INVALID("cursor", flint_limiter_list_page(limiter, "?", 1, 0, page, 4, sizeof(*page),
                                                  page_text, sizeof(page_text), &count, cursor,
                                                  &cursor_bytes, NewError()));
  stacking.flags = 2;
  CHECK_INVALID("config.flags is 2", Configure(limiter, stacking));
  Close(limiter);
}

const Test limits_tests[] = {
    TEST(ConfigureTwice),  TEST(ReconfigureKeepsWhatWasUsed),
    TEST(IfAbsent),        TEST(LimitMany),
    TEST(RemoveAndReset),  TEST(Templates),
    TEST(InlineLimits),    TEST(SeveralLimitsOfAKey),
    TEST(ListNamedLimits), {NULL, NULL},
};
