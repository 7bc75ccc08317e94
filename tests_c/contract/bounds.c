/* bounds.c - the bounds of options, limits, costs and keys. */

#include <stddef.h>
#include <string.h>

#include "support.h"

/* ---- Bounds ---------------------------------------------------------------------------------- */

static void OptionChoices(void) {
  static const struct {
    size_t offset;
    const char* name;
    uint32_t most;
  } choices[] = {
      {offsetof(flint_limiter_options, when_full), "options.when_full is ", 1},
      {offsetof(flint_limiter_options, on_error), "options.on_error is ", 2},
      {offsetof(flint_limiter_options, mapped), "options.mapped is ", 1},
      {offsetof(flint_limiter_options, sync_denials), "options.sync_denials is ", 1},
      {offsetof(flint_limiter_options, tell_busy), "options.tell_busy is ", 1},
      {offsetof(flint_limiter_options, single_denials), "options.single_denials is ", 1},
      {offsetof(flint_limiter_options, clock_source), "options.clock_source is ", 1},
  };
  for (size_t i = 0; i < sizeof(choices) / sizeof(*choices); ++i) {
    flint_limiter* limiter = NULL;
    flint_limiter_options options = Options(FLINT_LIMITER_SYNC_ALWAYS);
    const uint32_t bad[] = {choices[i].most + 1, UINT32_MAX};
    memcpy((char*)&options + choices[i].offset, &choices[i].most, sizeof(choices[i].most));
    CHECK_OK(TryOpen(":memory:", &options, &limiter));
    Close(limiter);
    for (size_t j = 0; j < 2; ++j) {
      memcpy((char*)&options + choices[i].offset, &bad[j], sizeof(bad[j]));
      CHECK_INVALID(choices[i].name, TryOpen(":memory:", &options, &limiter));
      CHECK(limiter == NULL);
    }
  }
}

static void OptionBounds(void) {
  static const struct {
    size_t offset;
    const char* name;
    uint64_t least, most;
  } bounds[] = {
      {offsetof(flint_limiter_options, flush_every_events), "options.flush_every_events is ", 1,
       UINT64_C(1) << 32},
      {offsetof(flint_limiter_options, flush_every_ms), "options.flush_every_ms is ", 1, 3600000},
      {offsetof(flint_limiter_options, segment_bytes), "options.segment_bytes is ", 1 << 18,
       1 << 30},
      {offsetof(flint_limiter_options, ring_bytes), "options.ring_bytes is ", 1 << 18, 1 << 26},
      {offsetof(flint_limiter_options, max_unsynced_events), "options.max_unsynced_events is ", 1,
       UINT64_C(1) << 32},
      {offsetof(flint_limiter_options, max_downtime_ns), "options.max_downtime_ns is ", 1, MOST},
      {offsetof(flint_limiter_options, history_max_bytes), "options.history_max_bytes is ", 1,
       MOST},
      {offsetof(flint_limiter_options, history_max_age_ns), "options.history_max_age_ns is ", 1,
       MOST},
      {offsetof(flint_limiter_options, max_replay_bytes), "options.max_replay_bytes is ", 1 << 20,
       MOST},
      {offsetof(flint_limiter_options, max_keys), "options.max_keys is ", 1, MOST},
      {offsetof(flint_limiter_options, lock_timeout_ns), "options.lock_timeout_ns is ", 1, MOST},
  };
  flint_limiter* limiter = NULL;
  flint_limiter_options options;
  for (size_t i = 0; i < sizeof(bounds) / sizeof(*bounds); ++i) {
    const uint64_t good[] = {0, bounds[i].least, bounds[i].most};
    const uint64_t bad[] = {bounds[i].least - 1, bounds[i].most + 1, UINT64_MAX};
    for (size_t j = 0; j < 3; ++j) {
      options = Options(FLINT_LIMITER_SYNC_BATCH);
      memcpy((char*)&options + bounds[i].offset, &good[j], sizeof(good[j]));
      CHECK_OK(TryOpen(":memory:", &options, &limiter));
      Close(limiter);
      memcpy((char*)&options + bounds[i].offset, &bad[j], sizeof(bad[j]));
      if (bad[j] == 0) continue; /* the default */
      CHECK_INVALID(bounds[i].name, TryOpen(":memory:", &options, &limiter));
      CHECK(limiter == NULL);
    }
  }
  OptionChoices();
  options = Options(2);
  CHECK_INVALID("options.sync is 2", TryOpen(":memory:", &options, &limiter));
  options = Options(FLINT_LIMITER_SYNC_ALWAYS);
  options.ring_bytes = (1 << 18) + 4096;
  CHECK_INVALID("a power of two", TryOpen(":memory:", &options, &limiter));
}

static void ConfigBounds(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  const struct {
    const char* part; /* NULL: accepted */
    uint64_t rate, per_ns, burst;
    uint32_t algorithm;
  } cases[] = {
      {NULL, 1, 1, 0, 1},
      {NULL, MOST, 1, MOST, 1},
      {NULL, MOST, MOST, 0, 2},
      {NULL, 1, MOST, 1, 3},
      {NULL, MOST, MOST, MOST, 4},
      {NULL, MOST, MOST, 0, 5},
      {NULL, MOST, 1, 0, 6},
      {NULL, 3, MOST, 2, 1},
      {"rate is 0;", 0, 1, 0, 1},
      {"rate is 4611686018427387905;", MOST + 1, 1, 0, 1},
      {"rate is 18446744073709551615;", UINT64_MAX, 1, 0, 6},
      {"per_ns is 0;", 1, 0, 0, 1},
      {"per_ns is 4611686018427387905;", 1, MOST + 1, 0, 4},
      {"burst is 4611686018427387905;", 1, 1, MOST + 1, 1},
      {"burst is 4;", 3, MOST, 4, 1}, /* takes longer than 2^62 ns to fill */
      {"burst is 2;", 1, MOST, 2, 3},
      {"burst is 2;", 1, 1, 2, 4},
      {"burst is 2;", 3, 1, 2, 5},
      {"burst is 2;", 1, 1, 2, 6},
      {"algorithm is 0;", 1, 1, 0, 0},
      {"algorithm is 7;", 1, 1, 0, 7},
      {"algorithm is 257;", 1, 1, 0, 257},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); ++i) {
    flint_limiter_result result = NewResult();
    flint_limiter_config config = Config("key", cases[i].rate, cases[i].per_ns);
    config.burst = cases[i].burst;
    config.algorithm = cases[i].algorithm;
    if (cases[i].part == NULL) {
      CHECK_OK(Configure(limiter, config));
      const flint_limiter_status_info status = Status(limiter, "key", FLINT_LIMITER_KIND_EXACT);
      const uint64_t burst = config.burst == 0 ? config.rate : config.burst;
      CHECK(status.rate == config.rate && status.per_ns == config.per_ns);
      CHECK(status.burst == burst && status.algorithm == config.algorithm);
      CHECK(Decide(limiter, "key", burst).allowed);
      CHECK_OK(Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
    } else {
      CHECK_INVALID(cases[i].part, Configure(limiter, config));
      CHECK_INVALID(cases[i].part,
                    flint_limiter_check(limiter, "key", 3, 1, 0, &config, &result, NewError()));
      CHECK(IsFilled(&result.allowed, sizeof(result) - 4));
    }
  }
  CHECK_FAILS(NOT_CONFIGURED, "key", TryStatus(limiter, "key", FLINT_LIMITER_KIND_EXACT));
  CHECK(Info(limiter).limits == 0);
  Close(limiter);
}

static void CostBounds(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  const flint_limiter_item items[] = {Item("other", 1), Item("key", 6)};
  flint_limiter_result results[2];
  uint64_t denied = 7;
  flint_limiter_config config = Config("key", 2, SECOND);
  config.burst = 5;
  CHECK_OK(Configure(limiter, config));
  CHECK_OK(Configure(limiter, Config("other", 5, SECOND)));
  CHECK_INVALID("cost 0 ", TryCheck(limiter, "key", 0, 0));
  CHECK_INVALID("cost 6 ", TryCheck(limiter, "key", 6, 0));
  CHECK_INVALID("between 1 and 5", TryCheck(limiter, "key", MOST, 0));
  CHECK_INVALID("cost 18446744073709551615 ", TryCheck(limiter, "key", UINT64_MAX, 0));
  results[0] = NewResult();
  CHECK_INVALID("cost 6 ",
                flint_limiter_peek(limiter, "key", 3, 6, 0, NULL, &results[0], NewError()));
  CHECK_INVALID("cost 6 for key \"key\"", CheckAll(limiter, items, 2, results, &denied));
  CHECK(denied == 7 && IsFilled(&results[0].allowed, sizeof(results[0]) - 4));
  CHECK(Peek(limiter, "other", 5).allowed && Peek(limiter, "key", 5).allowed);
  CHECK(Decide(limiter, "key", 5).allowed);
  Close(limiter);
}

/* ---- Keys ------------------------------------------------------------------------------------ */

static void CheckKeyRefused(flint_limiter* limiter, const char* key, uint64_t bytes,
                            const char* part) {
  flint_limiter_result result = NewResult();
  flint_limiter_status_info status = NewStatus();
  flint_limiter_config config = Config("key", 1, SECOND);
  flint_limiter_item item = Item("key", 1);
  uint64_t denied = 0;
  CHECK_INVALID(part, flint_limiter_check(limiter, key, bytes, 1, 0, &config, &result, NewError()));
  CHECK_INVALID(part, flint_limiter_peek(limiter, key, bytes, 1, 0, &config, &result, NewError()));
  config.key = item.key = key;
  config.key_bytes = item.key_bytes = bytes;
  CHECK_INVALID(part, Configure(limiter, config));
  CHECK_INVALID(part, flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, &result,
                                              sizeof(result), &denied, NewError()));
  CHECK_INVALID(part, flint_limiter_remove(limiter, key, bytes, 0, 0, NULL, NewError()));
  CHECK_INVALID(part, flint_limiter_reset(limiter, key, bytes, 0, 0, NULL, NewError()));
  CHECK_INVALID(part, flint_limiter_status(limiter, key, bytes, 0, &status, NewError()));
}

static void BadKeys(void) {
  static char longest[FLINT_LIMITER_MAX_KEY_BYTES + 1];
  static const struct {
    const char* key;
    const char* part;
  } cases[] = {
      {"", "key \"\" is empty"},
      {" ", "key \" \" is all white space"},
      {"\t\n\v\f\r", "is all white space"},
      {"\xC2\xA0\xE3\x80\x80\xE2\x80\x89", "is all white space"}, /* no-break, ideographic, thin */
      {"\xFF", "key \"\\xff\" is not UTF-8"},
      {"a\x80", "is not UTF-8"},
      {"\xC3", "is not UTF-8"},
      {"\xC0\xAF", "is not UTF-8"},         /* overlong */
      {"\xE0\x80\x80", "is not UTF-8"},     /* overlong */
      {"\xED\xA0\x80", "is not UTF-8"},     /* a surrogate */
      {"\xF4\x90\x80\x80", "is not UTF-8"}, /* above U+10FFFF */
      {"\xF0\x9F\x98", "is not UTF-8"},
  };
  flint_limiter* limiter = OpenMemory(NULL);
  for (int templates = 0; templates < 2; ++templates) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); ++i) {
      CheckKeyRefused(limiter, cases[i].key, strlen(cases[i].key), cases[i].part);
    }
    memset(longest, 'k', sizeof(longest));
    CheckKeyRefused(limiter, longest, sizeof(longest), "has 65536 bytes");
    CheckKeyRefused(limiter, longest, UINT64_MAX, "has 18446744073709551615 bytes");
    CheckKeyRefused(limiter, NULL, 3, "key is NULL");
    /* The same keys are refused where a template covers everything. */
    CHECK_OK(Configure(limiter, Template("", 1, SECOND)));
  }
  CHECK(Info(limiter).limits == 1);
  Close(limiter);
}

static void CheckKeyWorks(flint_limiter* limiter, const char* key, uint64_t bytes) {
  flint_limiter_result result = NewResult();
  flint_limiter_status_info entry = NewStatus();
  flint_limiter_config config = Config(NULL, 1, SECOND);
  uint64_t count = 0;
  config.key = key;
  config.key_bytes = bytes;
  CHECK_OK(Configure(limiter, config));
  CHECK_OK(flint_limiter_check(limiter, key, bytes, 1, 0, NULL, &result, NewError()));
  CHECK(result.allowed == 1);
  CHECK_OK(flint_limiter_check(limiter, key, bytes, 1, 0, NULL, &result, NewError()));
  CHECK(result.allowed == 0);
  CHECK_OK(flint_limiter_status(limiter, key, bytes, 0, &entry, NewError()));
  CHECK(entry.total_allowed == 1 && entry.total_denied == 1 && entry.key == NULL);
  CHECK_OK(flint_limiter_list(limiter, NULL, 0, 0, 0, &entry, 1, sizeof(entry), page_text,
                              sizeof(page_text), &count, NewError()));
  CHECK(count == 1 && entry.key_bytes == bytes && memcmp(entry.key, key, bytes) == 0);
  CHECK_OK(flint_limiter_remove(limiter, key, bytes, 0, 0, NULL, NewError()));
}

static void GoodKeys(void) {
  static char longest[FLINT_LIMITER_MAX_KEY_BYTES];
  flint_limiter* limiter = OpenMemory(NULL);
  memset(longest, 'k', sizeof(longest));
  CheckKeyWorks(limiter, "k", 1);
  CheckKeyWorks(limiter, longest, sizeof(longest));
  CheckKeyWorks(limiter, "\0", 1);
  CheckKeyWorks(limiter, " a ", 3);
  CheckKeyWorks(limiter, "\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF\xC2\x80", 12);
  CheckKeyWorks(limiter, "*", 1);
  CHECK(Info(limiter).limits == 0);
  Close(limiter);
}

static void ZeroByteInKey(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_config configs[3] = {Config("a", 1, SECOND), Config("a\0b", 2, SECOND),
                                     Config("a\0c", 3, SECOND)};
  configs[1].key_bytes = configs[2].key_bytes = 3;
  CHECK_OK(flint_limiter_limit_many(limiter, configs, 3, sizeof(*configs), 0, NULL, NewError()));
  for (uint64_t i = 0; i < 3; ++i) {
    flint_limiter_status_info status = NewStatus();
    CHECK_OK(flint_limiter_status(limiter, configs[i].key, configs[i].key_bytes, 0, &status,
                                  NewError()));
    CHECK(status.rate == i + 1);
  }
  Close(limiter);
}

const Test bounds_tests[] = {
    TEST(OptionBounds), TEST(ConfigBounds),  TEST(CostBounds), TEST(BadKeys),
    TEST(GoodKeys),     TEST(ZeroByteInKey), {NULL, NULL},
};
