/* reading.c - status, lists and history. */

#include <string.h>
#include <time.h>

#include "support.h"

static void TotalsAndStamps(void) {
  Clock clock;
  flint_limiter* limiter = OpenMemory(&clock);
  const int64_t start_ns = (int64_t)START_NS;
  CHECK_OK(Configure(limiter, Config("key", 10, MINUTE)));
  flint_limiter_status_info status = Status(limiter, "key", FLINT_LIMITER_KIND_EXACT);
  CHECK(status.struct_size == sizeof(status) && status.kind == FLINT_LIMITER_KIND_EXACT);
  CHECK(status.key == NULL && status.key_bytes == 3 && status.reserved == 0);
  CHECK(status.rate == 10 && status.per_ns == MINUTE && status.burst == 10);
  CHECK(status.algorithm == FLINT_LIMITER_TOKEN_BUCKET && status.counters == 0);
  CHECK(status.remaining == 10 && status.reset_at_ns == start_ns);
  CHECK(status.total_allowed == 0 && status.total_denied == 0 && status.total_allowed_cost == 0);
  CHECK(status.total_denied_cost == 0 && status.last_allowed_at_ns == 0);
  CHECK(status.last_denied_at_ns == 0 && status.last_reset_at_ns == 0);
  Advance(&clock, 1);
  CHECK(Decide(limiter, "key", 2).allowed && Decide(limiter, "key", 5).allowed);
  Advance(&clock, 1);
  CHECK(!Decide(limiter, "key", 4).allowed && !Decide(limiter, "key", 9).allowed);
  status = Status(limiter, "key", FLINT_LIMITER_KIND_EXACT);
  CHECK(status.remaining == 3 && status.reset_at_ns == start_ns + 1 + 42 * (int64_t)SECOND);
  CHECK(status.total_allowed == 2 && status.total_allowed_cost == 7);
  CHECK(status.total_denied == 2 && status.total_denied_cost == 13);
  CHECK(status.last_allowed_at_ns == start_ns + 1 && status.last_denied_at_ns == start_ns + 2);
  Advance(&clock, 1);
  CHECK_OK(Reset(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
  status = Status(limiter, "key", FLINT_LIMITER_KIND_EXACT);
  CHECK(status.remaining == 10 && status.last_reset_at_ns == start_ns + 3);
  CHECK(status.total_allowed == 2 && status.total_denied == 2);
  Close(limiter);
}

/* Limits in the order in which they are listed. */
static const struct {
  const char* key;
  uint32_t kind;
} listed[] = {
    {"", FLINT_LIMITER_KIND_TEMPLATE},   {"a", FLINT_LIMITER_KIND_EXACT},
    {"a", FLINT_LIMITER_KIND_TEMPLATE},  {"a1", FLINT_LIMITER_KIND_COUNTER},
    {"a2", FLINT_LIMITER_KIND_COUNTER},  {"aa", FLINT_LIMITER_KIND_EXACT},
    {"aa", FLINT_LIMITER_KIND_TEMPLATE}, {"b", FLINT_LIMITER_KIND_TEMPLATE},
    {"b", FLINT_LIMITER_KIND_INLINE},    {"\xC3\xA9", FLINT_LIMITER_KIND_EXACT},
};
enum { LISTED = sizeof(listed) / sizeof(*listed) };

static void ConfigureListed(flint_limiter* limiter) {
  const flint_limiter_config inline_config = Config(NULL, 9, MINUTE);
  for (int i = LISTED - 1; i >= 0; --i) {
    flint_limiter_result result = NewResult();
    flint_limiter_config config = Config(listed[i].key, 9, MINUTE);
    config.kind = listed[i].kind;
    if (listed[i].kind <= FLINT_LIMITER_KIND_TEMPLATE) {
      CHECK_OK(Configure(limiter, config));
    } else {
      const flint_limiter_config* given =
          listed[i].kind == FLINT_LIMITER_KIND_INLINE ? &inline_config : NULL;
      if (given == NULL) CHECK_OK(Configure(limiter, Template("a", 9, MINUTE)));
      CHECK_OK(flint_limiter_check(limiter, listed[i].key, strlen(listed[i].key), 1, 0, given,
                                   &result, NewError()));
    }
  }
}

static void ListPages(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_status_info page[LISTED + 1];
  ConfigureListed(limiter);
  for (uint32_t flags = 0; flags <= FLINT_LIMITER_ALL_COUNTERS;
       flags += FLINT_LIMITER_ALL_COUNTERS) {
    for (size_t capacity = 1; capacity <= LISTED + 1; ++capacity) {
      flint_limiter_status_info last;
      uint64_t count = List(limiter, NULL, flags, page, capacity);
      size_t next = 0;
      while (count > 0) {
        for (uint64_t i = 0; i < count; ++i, ++next) {
          const int skip = flags == 0;
          while (skip && next < LISTED && listed[next].kind == FLINT_LIMITER_KIND_COUNTER) ++next;
          CHECK(next < LISTED);
          if (next >= LISTED) break;
          CHECK(HasKey(&page[i], listed[next].key) && page[i].kind == listed[next].kind);
          CHECK(page[i].rate == 9 && page[i].reserved == 0);
        }
        CHECK(count == capacity || next == LISTED);
        last = page[count - 1];
        count = List(limiter, &last, flags, page, capacity);
      }
      CHECK(next == LISTED);
    }
  }
  CHECK(List(limiter, NULL, 0, page, 0) == 0);
  CHECK(List(limiter, NULL, 0, page, LISTED) == LISTED - 2);
  CHECK(page[2].kind == FLINT_LIMITER_KIND_TEMPLATE && page[2].counters == 2);
  CHECK(page[2].total_allowed == 2);
  Close(limiter);
}

/* A cursor need not be the key of anything. */
static void ListCursors(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_status_info page[LISTED];
  ConfigureListed(limiter);
  static const struct {
    const char* after;
    uint32_t kind;
    uint64_t rest; /* of the 10, with counters */
  } cases[] = {{"", FLINT_LIMITER_KIND_EXACT, 10},   {"", FLINT_LIMITER_KIND_TEMPLATE, 9},
               {"a", FLINT_LIMITER_KIND_EXACT, 8},   {"a", FLINT_LIMITER_KIND_INLINE, 7},
               {"a11", FLINT_LIMITER_KIND_EXACT, 6}, {"az", FLINT_LIMITER_KIND_EXACT, 3},
               {"b", FLINT_LIMITER_KIND_INLINE, 1},  {"zz", FLINT_LIMITER_KIND_EXACT, 1},
               {"\xFF", FLINT_LIMITER_KIND_EXACT, 0}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); ++i) {
    flint_limiter_status_info after = NewStatus();
    after.key = cases[i].after;
    after.key_bytes = strlen(cases[i].after);
    after.kind = cases[i].kind;
    CHECK(List(limiter, &after, FLINT_LIMITER_ALL_COUNTERS, page, LISTED) == cases[i].rest);
  }
  Close(limiter);
}

static void TextBuffer(void) {
  enum { KEYS = 3, KEY_BYTES = 40000, TWO_KEYS_BYTES = 2 * KEY_BYTES };
  static char text[TWO_KEYS_BYTES + 1];
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_status_info page[KEYS];
  uint64_t n = 7;
  for (int i = 0; i < KEYS; ++i) {
    memset(text, 'a' + i, KEY_BYTES);
    flint_limiter_config config = Config(NULL, 1, MINUTE);
    flint_limiter_result result = NewResult();
    config.key = text;
    config.key_bytes = KEY_BYTES;
    CHECK_OK(Configure(limiter, config));
    CHECK_OK(flint_limiter_check(limiter, text, KEY_BYTES, 1, 0, NULL, &result, NewError()));
  }
  PrepareEntries(page, KEYS);
  CHECK_INVALID("text_bytes is 65535",
                flint_limiter_list(limiter, NULL, 0, 0, 0, page, KEYS, sizeof(*page), text, 65535,
                                   &n, NewError()));
  CHECK_INVALID("text_bytes is 0", flint_limiter_top(limiter, 0, 0, page, KEYS, sizeof(*page), text,
                                                     0, &n, NewError()));
  CHECK(n == 7);
  const uint64_t fit[] = {65536, TWO_KEYS_BYTES - 1, TWO_KEYS_BYTES};
  for (int i = 0; i < 3; ++i) {
    const uint64_t expected = i < 2 ? 1 : 2;
    for (int top = 0; top < 2; ++top) {
      PrepareEntries(page, KEYS);
      memset(text, FILLER, sizeof(text));
      CHECK_OK(top ? flint_limiter_top(limiter, FLINT_LIMITER_BY_ALLOWED, 0, page, KEYS,
                                       sizeof(*page), text, fit[i], &n, NewError())
                   : flint_limiter_list(limiter, NULL, 0, 0, 0, page, KEYS, sizeof(*page), text,
                                        fit[i], &n, NewError()));
      CHECK(n == expected && page[0].key == text && page[0].key_bytes == KEY_BYTES);
      const size_t used = expected * KEY_BYTES;
      CHECK(text[used - 1] == 'a' + (int)expected - 1);
      CHECK(IsFilled(text + used, sizeof(text) - used));
      CHECK(IsFilled(&page[expected].kind, sizeof(*page) - 4));
    }
  }
  Close(limiter);
}

static void TopKeys(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_status_info entries[8];
  const flint_limiter_config inline_config = Config(NULL, 10, MINUTE);
  flint_limiter_result result = NewResult();
  CHECK_OK(Configure(limiter, Config("a", 10, MINUTE)));
  CHECK_OK(Configure(limiter, Config("b", 10, MINUTE)));
  CHECK_OK(Configure(limiter, Config("unused", 10, MINUTE)));
  CHECK_OK(Configure(limiter, Template("t", 10, MINUTE)));
  CHECK(Decide(limiter, "a", 9).allowed); /* 1 allowed of cost 9, 2 denied of cost 4 */
  CHECK(!Decide(limiter, "a", 2).allowed && !Decide(limiter, "a", 2).allowed);
  CHECK(Decide(limiter, "b", 1).allowed &&
        Decide(limiter, "b", 1).allowed); /* 2 of cost 2, 1 of cost 10 */
  CHECK(!Decide(limiter, "b", 10).allowed);
  for (int i = 0; i < 3; ++i) CHECK(Decide(limiter, "tx", 1).allowed); /* 3 of cost 3 */
  CHECK_OK(flint_limiter_check(limiter, "i", 1, 4, 0, &inline_config, &result, NewError()));
  static const struct {
    uint32_t by;
    const char* order; /* t stands for tx */
  } cases[] = {{FLINT_LIMITER_BY_DENIED, "ab"},
               {FLINT_LIMITER_BY_ALLOWED, "tbai"}, /* with equal totals the smaller key first */
               {FLINT_LIMITER_BY_DENIED_COST, "ba"},
               {FLINT_LIMITER_BY_ALLOWED_COST, "aitb"}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); ++i) {
    for (size_t capacity = 0; capacity <= 8; ++capacity) {
      const uint64_t all = strlen(cases[i].order);
      const uint64_t count =
          Top(limiter, cases[i].by, FLINT_LIMITER_ALL_COUNTERS, entries, capacity);
      CHECK(count == (capacity < all ? capacity : all));
      for (uint64_t j = 0; j < count; ++j) CHECK(entries[j].key[0] == cases[i].order[j]);
    }
  }
  CHECK(Top(limiter, FLINT_LIMITER_BY_ALLOWED, 0, entries, 8) == 3);
  CHECK(HasKey(&entries[0], "b") && HasKey(&entries[1], "a") && HasKey(&entries[2], "i"));
  CHECK(entries[0].total_allowed == 2 && entries[2].kind == FLINT_LIMITER_KIND_INLINE);
  Close(limiter);
}

static uint64_t SteadyNs(void) {
  struct timespec now;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* Held against a clock that is read before and after, so that it does not matter how slow all is.
 */
static void InfoOfSyncs(void) {
  const Path path = NewPath();
  const flint_limiter_options lazy = Lazy();
  const uint64_t begin_ns = SteadyNs();
  flint_limiter* limiter = OpenWith(&path, &lazy);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  const uint64_t flushed_ns = SteadyNs();
  flint_limiter_info info = Info(limiter);
  CHECK(info.unsynced_events == 0 && info.poisoned == 0);
  CHECK(info.sync_time_ns > 0 && info.sync_time_ns <= flushed_ns - begin_ns);
  CHECK(Decide(limiter, "key", 1).allowed && Decide(limiter, "key", 1).allowed);
  CHECK(Info(limiter).unsynced_events == 2 && Info(limiter).sync_time_ns >= info.sync_time_ns);
  const uint64_t asked_ns = SteadyNs();
  info = Info(limiter);
  CHECK(info.since_sync_ns >= asked_ns - flushed_ns);
  CHECK(info.since_sync_ns <= SteadyNs() - begin_ns);
  const uint64_t syncing_ns = SteadyNs();
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  CHECK(Info(limiter).unsynced_events == 0 && Info(limiter).sync_time_ns > info.sync_time_ns);
  CHECK(Info(limiter).since_sync_ns <= SteadyNs() - syncing_ns);
  Close(limiter);
  limiter = OpenMemory(NULL);
  info = Info(limiter);
  CHECK(info.unsynced_events == 0 && info.since_sync_ns == 0 && info.sync_time_ns == 0);
  Close(limiter);
}

static void InfoOfDirectory(void) {
  const Path path = NewPath();
  Clock clock;
  InitClock(&clock);
  flint_limiter_options options = Options(FLINT_LIMITER_SYNC_BATCH);
  options.clock = ReadClock;
  options.clock_argument = &clock;
  flint_limiter* limiter = OpenWith(&path, &options);
  flint_limiter_info info = Info(limiter);
  CHECK(info.struct_size == sizeof(info) && info.sync == FLINT_LIMITER_SYNC_BATCH);
  CHECK(info.recovered_records == 0 && info.recovered_ring_records == 0 && info.torn_bytes == 0);
  CHECK(info.snapshot_limits == 0 && info.snapshot_bytes == 0 && info.segments == 1);
  CHECK(info.limits == 0 && info.counters == 0 && info.log_bytes > 0);
  CHECK(info.directory_mode == 0700 && info.engine_time_ns == (int64_t)START_NS);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  CHECK_OK(Configure(limiter, Template("t", 5, MINUTE)));
  CHECK(Decide(limiter, "tx", 1).allowed && Decide(limiter, "key", 1).allowed);
  info = Info(limiter);
  CHECK(info.limits == 2 && info.counters == 1 && info.appended >= info.durable);
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  CHECK(Info(limiter).durable >= info.appended && Info(limiter).syncs > 0 && info.sequence > 0);
  Close(limiter);

  Advance(&clock, (int64_t)SECOND);
  limiter = OpenWith(&path, &options);
  info = Info(limiter);
  CHECK(info.recovered_records > 0 && info.recovered_ring_records == 0 && info.torn_bytes == 0);
  CHECK(info.limits == 2 && info.counters == 1);
  CHECK(info.engine_time_ns == (int64_t)(START_NS + SECOND));
  CHECK_OK(Compact(limiter, NewError()));
  info = Info(limiter);
  CHECK(info.snapshot_bytes > 0 && info.limits == 2);
  CHECK(info.segments >= 1 && info.log_bytes > 0);
  Close(limiter);
  limiter = OpenWith(&path, &options);
  CHECK(Info(limiter).snapshot_limits == 3 && Info(limiter).limits == 2 &&
        Info(limiter).counters == 1);
  CHECK(Peek(limiter, "tx", 1).remaining == 4);
  Close(limiter);
}

/* What RecordEvents leaves behind, a nanosecond apart, oldest first. */
static const struct {
  uint32_t type;
  const char* key;
  uint32_t kind;
  uint64_t cost;
  uint32_t item_index, item_count;
} recorded[] = {
    {FLINT_LIMITER_EVENT_LIMIT_CONFIGURED, "key", FLINT_LIMITER_KIND_EXACT, 0, 0, 1},
    {FLINT_LIMITER_EVENT_LIMIT_CONFIGURED, "t", FLINT_LIMITER_KIND_TEMPLATE, 0, 0, 1},
    {FLINT_LIMITER_EVENT_ALLOW, "key", FLINT_LIMITER_KIND_EXACT, 2, 0, 1},
    {FLINT_LIMITER_EVENT_DENY, "key", FLINT_LIMITER_KIND_EXACT, 4, 0, 1},
    {FLINT_LIMITER_EVENT_ALLOW_ALL, "key", FLINT_LIMITER_KIND_EXACT, 1, 0, 2},
    {FLINT_LIMITER_EVENT_ALLOW_ALL, "tx", FLINT_LIMITER_KIND_COUNTER, 3, 1, 2},
    {FLINT_LIMITER_EVENT_RESET, "key", FLINT_LIMITER_KIND_EXACT, 0, 0, 1},
    {FLINT_LIMITER_EVENT_LIMIT_REMOVED, "key", FLINT_LIMITER_KIND_EXACT, 0, 0, 1},
};
enum { RECORDED = sizeof(recorded) / sizeof(*recorded) };

static int64_t RecordedAt(int index) {
  return (int64_t)START_NS + (index > 4 ? index - 1 : index); /* 4 and 5 are one moment */
}

static flint_limiter* RecordEvents(const Path* path, Clock* clock) {
  flint_limiter_options options = Lazy();
  flint_limiter_result results[2];
  uint64_t denied = 0;
  const flint_limiter_item items[2] = {Item("key", 1), Item("tx", 3)};
  InitClock(clock);
  options.clock = ReadClock;
  options.clock_argument = clock;
  flint_limiter* limiter = OpenWith(path, &options);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  Advance(clock, 1);
  flint_limiter_config stacking = Template("t", 9, MINUTE);
  stacking.flags = FLINT_LIMITER_STACK;
  CHECK_OK(Configure(limiter, stacking));
  Advance(clock, 1);
  CHECK(Decide(limiter, "key", 2).allowed);
  Advance(clock, 1);
  CHECK(!Decide(limiter, "key", 4).allowed);
  Advance(clock, 1);
  CHECK_OK(CheckAll(limiter, items, 2, results, &denied));
  Advance(clock, 1);
  CHECK_OK(Reset(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
  Advance(clock, 1);
  CHECK_OK(Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
  return limiter;
}

static void CheckEvent(const flint_limiter_event* event, int index) {
  const size_t bytes = strlen(recorded[index].key);
  const int ended = recorded[index].type == FLINT_LIMITER_EVENT_RESET ||
                    recorded[index].type == FLINT_LIMITER_EVENT_LIMIT_REMOVED;
  const uint64_t rate = recorded[index].key[0] == 't' ? 9 : 5;
  CHECK(event->struct_size == sizeof(*event) && event->type == recorded[index].type);
  CHECK(event->key_bytes == bytes && memcmp(event->key, recorded[index].key, bytes) == 0);
  CHECK(event->kind == recorded[index].kind && event->cost == recorded[index].cost);
  CHECK(event->at_ns == RecordedAt(index) && event->first_at_ns == event->at_ns);
  CHECK(event->count == 1 && event->item_index == recorded[index].item_index);
  CHECK(event->item_count == recorded[index].item_count && event->sequence > 0);
  CHECK(event->algorithm == (ended ? 0 : FLINT_LIMITER_TOKEN_BUCKET));
  CHECK(event->per_ns == (ended ? 0 : MINUTE) && event->burst == event->rate);
  CHECK(event->rate == (ended ? 0 : rate));
  /* The clock stands for all clocks. */
  CHECK(event->engine_ns == event->at_ns && event->first_engine_ns == event->first_at_ns);
  const int counter = recorded[index].kind == FLINT_LIMITER_KIND_COUNTER && !ended;
  CHECK(event->prefix_bytes == (counter ? 1 : 0));
  CHECK(event->flags == (rate == 9 ? FLINT_LIMITER_STACK : 0) && event->reserved == 0);
}

static void HistoryPages(void) {
  static const int newest_first[RECORDED] = {7, 6, 4, 5, 3, 2, 1, 0};
  const Path path = NewPath();
  Clock clock;
  flint_limiter* limiter = RecordEvents(&path, &clock);
  flint_limiter_event events[RECORDED + 1];
  for (uint32_t flags = 0; flags <= FLINT_LIMITER_NEWEST_FIRST; ++flags) {
    for (size_t capacity = 2; capacity <= RECORDED + 1; ++capacity) {
      flint_limiter_history_query query = Query(flags);
      int seen = 0;
      uint64_t last = 0;
      for (uint64_t count = 1; count > 0;) {
        count = NextEvents(limiter, NULL, &query, events, capacity);
        for (uint64_t i = 0; i < count; ++i, ++seen) {
          CHECK(seen < RECORDED);
          if (seen >= RECORDED) break;
          CheckEvent(&events[i], flags == 0 ? seen : newest_first[seen]);
          const int same = events[i].item_index > 0;
          CHECK(last == 0 || same == (events[i].sequence == last));
          CHECK(last == 0 || same || (events[i].sequence > last) == (flags == 0));
          last = events[i].sequence;
        }
      }
      CHECK(seen == RECORDED);
    }
  }
  flint_limiter_history_query query = Query(0);
  uint64_t count = 0;
  while (NextEvents(limiter, NULL, &query, events, 4) > 0) {
  }
  CHECK(Decide(limiter, "tx", 1).allowed); /* the end is only the end for now */
  CHECK(NextEvents(limiter, NULL, &query, events, 4) == 1);
  CHECK(events[0].type == FLINT_LIMITER_EVENT_ALLOW);
  PrepareEvents(events, 1);
  query = Query(0);
  query.since_ns = RecordedAt(4);
  CHECK_INVALID(
      "room for 2 entries",
      flint_limiter_history(limiter, NULL, 0, &query, events, 1, sizeof(*events), page_text,
                            sizeof(page_text), &count, &query.cursor, NewError()));
  Close(limiter);
}

static void HistoryFilters(void) {
  const Path path = NewPath();
  Clock clock;
  flint_limiter* limiter = RecordEvents(&path, &clock);
  flint_limiter_event events[RECORDED + 1];
  Close(limiter);
  limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS); /* history survives */
  flint_limiter_history_query query = Query(0);
  query.since_ns = RecordedAt(3);
  query.until_ns = RecordedAt(6);
  CHECK(NextEvents(limiter, NULL, &query, events, RECORDED) == 3);
  for (int i = 0; i < 3; ++i) CheckEvent(&events[i], 3 + i);
  CHECK(NextEvents(limiter, NULL, &query, events, RECORDED) == 0);
  query = Query(0);
  CHECK(NextEvents(limiter, "tx", &query, events, RECORDED) == 2);
  for (int i = 0; i < 2; ++i) CheckEvent(&events[i], 4 + i);
  query = Query(0);
  CHECK(NextEvents(limiter, "key", &query, events, RECORDED) == 7); /* with the other item */
  query = Query(FLINT_LIMITER_NEWEST_FIRST);
  query.kind = FLINT_LIMITER_KIND_TEMPLATE;
  CHECK(NextEvents(limiter, "t", &query, events, RECORDED) == 1);
  CheckEvent(&events[0], 1);
  query = Query(0);
  CHECK(NextEvents(limiter, "t", &query, events, RECORDED) == 0);
  Close(limiter);
}

static void HistoryArguments(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  struct {
    flint_limiter_event known;
    unsigned char more[MORE];
  } grown;
  flint_limiter_event event;
  flint_limiter_history_query query = Query(0);
  const uint64_t size = sizeof(event);
  const uint64_t bytes = sizeof(page_text);
  uint64_t n = 7;
  uint64_t cursor = 7;
  PrepareEvents(&event, 1);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
#define CHECK_HISTORY(part, key, query, events, stride, text, text_bytes, count, cursor)     \
  CHECK_INVALID(part, flint_limiter_history(limiter, key, 3, query, events, 1, stride, text, \
                                            text_bytes, count, cursor, NewError()))
  CHECK_HISTORY("query is NULL", "key", NULL, &event, size, page_text, bytes, &n, &cursor);
  CHECK_HISTORY("key is NULL", NULL, &query, &event, size, page_text, bytes, &n, &cursor);
  CHECK_HISTORY("events is NULL", "key", &query, NULL, size, page_text, bytes, &n, &cursor);
  CHECK_HISTORY("text is NULL", "key", &query, &event, size, NULL, bytes, &n, &cursor);
  CHECK_HISTORY("count is NULL", "key", &query, &event, size, page_text, bytes, NULL, &cursor);
  CHECK_HISTORY("next_cursor is NULL", "key", &query, &event, size, page_text, bytes, &n, NULL);
  CHECK_HISTORY("stride is 8", "key", &query, &event, 8, page_text, bytes, &n, &cursor);
  CHECK_HISTORY("text_bytes is 9", "key", &query, &event, size, page_text, 9, &n, &cursor);
  query.flags = 2;
  CHECK_HISTORY("flags is 2", "key", &query, &event, size, page_text, bytes, &n, &cursor);
  query = Query(0);
  query.kind = FLINT_LIMITER_KIND_COUNTER;
  CHECK_HISTORY("kind is 2", "key", &query, &event, size, page_text, bytes, &n, &cursor);
  query = Query(0);
  query.struct_size = 4;
  CHECK_HISTORY("struct_size is 4", "key", &query, &event, size, page_text, bytes, &n, &cursor);
  query = Query(0);
  event.struct_size = 4;
  CHECK_HISTORY("struct_size is 4", "key", &query, &event, size, page_text, bytes, &n, &cursor);
#undef CHECK_HISTORY
  CHECK(n == 7 && cursor == 7 && IsFilled(&event.type, sizeof(event) - 4));
  memset(&grown, FILLER, sizeof(grown));
  grown.known.struct_size = sizeof(grown);
  CHECK_OK(flint_limiter_history(limiter, "key", 3, &query, &grown.known, 1, sizeof(grown),
                                 page_text, bytes, &n, &cursor, NewError()));
  CHECK(n == 1 && grown.known.struct_size == sizeof(grown) && IsFilled(grown.more, MORE));
  CHECK(grown.known.type == FLINT_LIMITER_EVENT_LIMIT_CONFIGURED && grown.known.rate == 5);
  Close(limiter);
  limiter = OpenMemory(NULL);
  CHECK_FAILS(UNSUPPORTED, "in memory", CallHistory(limiter, NewError()));
  Close(limiter);
}

const Test reading_tests[] = {
    TEST(TotalsAndStamps), TEST(ListPages),        TEST(ListCursors), TEST(TextBuffer),
    TEST(TopKeys),         TEST(InfoOfDirectory),  TEST(InfoOfSyncs), TEST(HistoryPages),
    TEST(HistoryFilters),  TEST(HistoryArguments), {NULL, NULL},
};
