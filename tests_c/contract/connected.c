/* connected.c - a limiter that a server keeps, asked by flint_limiter_connect: the real server,
 * beside a limiter in memory that is asked the same. Limits are so slow that what passes meanwhile
 * changes nothing but times. */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server.h"
#include "support.h"

#define SECONDS(ns) ((ns) / (int64_t)SECOND)
#define TOLERANCE_S 600
#define TOKEN "hush-hush"

/* ---- Both ------------------------------------------------------------------------------------ */

/* The same limiter twice: kept by a server, and in memory. */
typedef struct Both {
  Server server;
  flint_limiter* of[2];
} Both;

static Both OpenBoth(void) {
  Both both;
  both.server = StartServer();
  both.of[0] = Connect(both.server.unix_url);
  both.of[1] = OpenMemory(NULL);
  return both;
}

static void CloseBoth(Both* both) {
  Close(both->of[0]);
  Close(both->of[1]);
  EndServer(&both->server, SIGTERM);
}

static int AreNear(int64_t one_ns, int64_t other_ns) {
  return (one_ns == 0) == (other_ns == 0) &&
         llabs(SECONDS(one_ns) - SECONDS(other_ns)) < TOLERANCE_S;
}

static void CompareErrors(const flint_limiter_error* errors, const int32_t* codes,
                          const char* where) {
  char told[2200];
  if (codes[0] == FLINT_LIMITER_OK && codes[1] == FLINT_LIMITER_OK) return;
  snprintf(told, sizeof(told), "%d \"%s\" and %d \"%s\"", codes[0], errors[0].message, codes[1],
           errors[1].message);
  if (codes[0] != codes[1]) Fail(where, "other codes", told);
  if (strcmp(errors[0].message, errors[1].message) != 0) Fail(where, "other messages", told);
}

static void CompareResults(const flint_limiter_result* results, const char* where) {
  const flint_limiter_result* const one = &results[0];
  const flint_limiter_result* const other = &results[1];
  const int same = one->allowed == other->allowed && one->algorithm == other->algorithm &&
                   one->undecided == other->undecided && one->cost == other->cost &&
                   one->limit == other->limit && one->remaining == other->remaining &&
                   one->limit_count == other->limit_count && one->limit_index == other->limit_index;
  const int near = AreNear(one->reset_at_ns, other->reset_at_ns) &&
                   AreNear((int64_t)one->reset_after_ns, (int64_t)other->reset_after_ns) &&
                   AreNear((int64_t)one->retry_after_ns, (int64_t)other->retry_after_ns);
  if (!same || !near || one->ticket != 0) Fail(where, "other results", "");
}

/* Checks, and perhaps peeks, with what each limit says. */
static void Ask(Both* both, const char* key, uint64_t key_bytes, uint64_t cost, uint32_t flags,
                const flint_limiter_config* inline_config, uint32_t peek, const char* where) {
  flint_limiter_error errors[2];
  flint_limiter_result results[2];
  flint_limiter_limit_result limits[2][4];
  uint64_t counts[2] = {99, 99};
  int32_t codes[2];
  for (int i = 0; i < 2; ++i) {
    ClearError(&errors[i]);
    results[i] = NewResult();
    memset(limits[i], 0, sizeof(limits[i]));
    limits[i][0].struct_size = sizeof(limits[i][0]);
    codes[i] = flint_limiter_check_limits(both->of[i], key, key_bytes, cost, flags, inline_config,
                                          peek, &results[i], limits[i], 4, sizeof(limits[i][0]),
                                          &counts[i], &errors[i]);
  }
  CompareErrors(errors, codes, where);
  if (codes[0] != FLINT_LIMITER_OK) return;
  CompareResults(results, where);
  if (counts[0] != counts[1]) Fail(where, "other counts", "");
  for (uint64_t i = 0; i < counts[0] && i < 4; ++i) {
    const flint_limiter_limit_result* const one = &limits[0][i];
    const flint_limiter_limit_result* const other = &limits[1][i];
    const int same = one->allowed == other->allowed && one->algorithm == other->algorithm &&
                     one->limit == other->limit && one->remaining == other->remaining &&
                     one->name_bytes == other->name_bytes && strcmp(one->name, other->name) == 0;
    const int near = AreNear(one->reset_at_ns, other->reset_at_ns) &&
                     AreNear((int64_t)one->retry_after_ns, (int64_t)other->retry_after_ns);
    if (!same || !near) Fail(where, "other limits", one->name);
  }
}

#define ASK(key, cost) Ask(&both, key, strlen(key), cost, 0, NULL, 0, WHERE)
#define PEEK(key, cost) Ask(&both, key, strlen(key), cost, 0, NULL, 1, WHERE)

/* Makes one call, an expression of `limiter` and `error`, on both. */
#define ON_BOTH(call)                                \
  do {                                               \
    flint_limiter_error errors[2];                   \
    int32_t codes[2];                                \
    for (int i = 0; i < 2; ++i) {                    \
      flint_limiter* const limiter = both.of[i];     \
      flint_limiter_error* const error = &errors[i]; \
      ClearError(error);                             \
      codes[i] = (call);                             \
    }                                                \
    CompareErrors(errors, codes, WHERE);             \
  } while (0)

static int32_t Limit(flint_limiter* limiter, flint_limiter_config config, const char* name,
                     uint32_t stack, uint32_t flags, flint_limiter_error* error) {
  uint64_t ticket = 0;
  config.name = name;
  config.name_bytes = strlen(name);
  config.flags = stack;
  return flint_limiter_limit(limiter, &config, flags, &ticket, error);
}

static void CompareStatus(Both* both, const char* key, const char* name, uint32_t kind,
                          const char* where) {
  flint_limiter_error errors[2];
  flint_limiter_status_info statuses[2];
  int32_t codes[2];
  for (int i = 0; i < 2; ++i) {
    ClearError(&errors[i]);
    statuses[i] = NewStatus();
    codes[i] = flint_limiter_status_named(both->of[i], key, strlen(key), name, strlen(name), kind,
                                          &statuses[i], &errors[i]);
  }
  CompareErrors(errors, codes, where);
  if (codes[0] != FLINT_LIMITER_OK) return;
  const flint_limiter_status_info* const one = &statuses[0];
  const flint_limiter_status_info* const other = &statuses[1];
  const int same = one->kind == other->kind && one->rate == other->rate &&
                   one->per_ns == other->per_ns && one->burst == other->burst &&
                   one->algorithm == other->algorithm && one->remaining == other->remaining &&
                   one->total_allowed == other->total_allowed &&
                   one->total_denied == other->total_denied &&
                   one->total_allowed_cost == other->total_allowed_cost &&
                   one->total_denied_cost == other->total_denied_cost &&
                   one->counters == other->counters && one->flags == other->flags;
  const int near = AreNear(one->reset_at_ns, other->reset_at_ns) &&
                   AreNear(one->last_allowed_at_ns, other->last_allowed_at_ns) &&
                   AreNear(one->last_denied_at_ns, other->last_denied_at_ns) &&
                   AreNear(one->last_reset_at_ns, other->last_reset_at_ns);
  if (!same || !near) Fail(where, "other status", key);
}

#define STATUS(key, name, kind) CompareStatus(&both, key, name, FLINT_LIMITER_KIND_##kind, WHERE)

/* ---- The same answers ------------------------------------------------------------------------ */

static void ConfigureBoth(Both* the) {
  Both both = *the;
  flint_limiter_config bursting = Template("t:", 3, YEAR);
  bursting.burst = 7;
  ON_BOTH(Limit(limiter, Config("a", 4, YEAR), "", 0, 0, error));
  ON_BOTH(Limit(limiter, Config("a", 9, YEAR), "", 0, FLINT_LIMITER_IF_ABSENT, error));
  ON_BOTH(Limit(limiter, Config("b", 6, YEAR + 1), "per year", 0, 0, error));
  ON_BOTH(Limit(limiter, Config("b", 4, YEAR / 2), "per half", 0, 0, error));
  ON_BOTH(Limit(limiter, bursting, "", 0, 0, error));
  ON_BOTH(Limit(limiter, Template("t:s:", 5, YEAR), "own", FLINT_LIMITER_STACK, 0, error));
  ON_BOTH(Limit(limiter, Template("x*", 2, YEAR), "", 0, 0, error));
  ON_BOTH(Limit(limiter, Config("x*", 3, YEAR), "", 0, 0, error));
  for (uint32_t algorithm = 1; algorithm <= 6; ++algorithm) {
    char key[16];
    snprintf(key, sizeof(key), "alg:%u", (unsigned)algorithm);
    flint_limiter_config config = Config(key, 3, 2 * YEAR);
    config.algorithm = algorithm;
    ON_BOTH(Limit(limiter, config, "", 0, 0, error));
  }
  ON_BOTH(Limit(limiter, Config("", 3, YEAR), "", 0, 0, error));
  ON_BOTH(Limit(limiter, Config(" \n", 3, YEAR), "", 0, 0, error));
  ON_BOTH(Limit(limiter, Config("\xff", 3, YEAR), "", 0, 0, error));
  ON_BOTH(Limit(limiter, Config("a", 0, YEAR), "", 0, 0, error));
  ON_BOTH(Limit(limiter, Config("a", 1, YEAR), "\xff", 0, 0, error));
}

static void ConnectedDecisions(void) {
  Both both = OpenBoth();
  ConfigureBoth(&both);
  for (int round = 0; round < 3; ++round) {
    ASK("a", 1);
    PEEK("a", 2);
    ASK("a", 3);
    ASK("b", 2);
    ASK("t:1", 2);
    ASK("t:s:1", 2);
    ASK("x*", 1);
    ASK("xy", 1);
    for (char key[] = "alg:1"; key[4] <= '6'; ++key[4]) ASK(key, 2);
  }
  ASK("nothing", 1);
  PEEK("nothing", 1);
  ASK("a", 0);
  ASK("a", 5);
  ASK("", 1);
  ASK("a\r\nb", 1);
  Ask(&both, "t:1", 3, 1, FLINT_LIMITER_REFUSE, NULL, 0, WHERE);
  Ask(&both, "t:\0\n", 4, 1, 0, NULL, 0, WHERE);
  flint_limiter_config config = Config("", 8, YEAR);
  for (int round = 0; round < 2; ++round) {
    Ask(&both, "inline", 6, 2, 0, &config, 0, WHERE);
    Ask(&both, "inline", 6, 2, FLINT_LIMITER_UPDATE, &config, 0, WHERE);
    config.rate = 12;
    config.burst = 20;
    config.algorithm = FLINT_LIMITER_GCRA;
    Ask(&both, "inline", 6, 1, 0, &config, 1, WHERE);
  }
  STATUS("inline", "", EXACT);
  CloseBoth(&both);
}

static void CheckAllOnBoth(Both* both, const flint_limiter_item* items, uint64_t count,
                           const char* where) {
  flint_limiter_error errors[2];
  flint_limiter_result results[2][3];
  uint64_t denied[2] = {99, 99};
  int32_t codes[2];
  for (int i = 0; i < 2; ++i) {
    ClearError(&errors[i]);
    for (int item = 0; item < 3; ++item) results[i][item] = NewResult();
    codes[i] = flint_limiter_check_all(both->of[i], items, count, sizeof(*items), 0, results[i],
                                       sizeof(results[i][0]), &denied[i], &errors[i]);
  }
  CompareErrors(errors, codes, where);
  if (codes[0] != FLINT_LIMITER_OK) return;
  if (denied[0] != denied[1]) Fail(where, "other items denied", "");
  for (uint64_t item = 0; item < count && item <= denied[0]; ++item) {
    flint_limiter_result pair[2] = {results[0][item], results[1][item]};
    CompareResults(pair, where);
  }
}

static void ConnectedItems(void) {
  Both both = OpenBoth();
  ConfigureBoth(&both);
  const flint_limiter_item items[3] = {Item("a", 2), Item("b", 1), Item("t:9", 1)};
  for (int round = 0; round < 3; ++round) CheckAllOnBoth(&both, items, 3, WHERE);
  const flint_limiter_item twice[2] = {Item("a", 1), Item("a", 1)};
  CheckAllOnBoth(&both, twice, 2, WHERE);
  CheckAllOnBoth(&both, items, 0, WHERE);
  const flint_limiter_item unknown[2] = {Item("a", 1), Item("nothing", 1)};
  CheckAllOnBoth(&both, unknown, 2, WHERE);

  const flint_limiter_item many[5] = {Item("t:a", 1), Item("nothing", 1), Item("t:a", 99),
                                      Item("t:a", 6), Item("t:a", 1)};
  flint_limiter_result results[2][5];
  int32_t codes[2][5];
  for (int i = 0; i < 2; ++i) {
    for (int item = 0; item < 5; ++item) results[i][item] = NewResult();
    CHECK_OK(flint_limiter_check_many(both.of[i], many, 5, sizeof(*many), 0, results[i],
                                      sizeof(results[i][0]), codes[i], NULL));
  }
  CHECK(memcmp(codes[0], codes[1], sizeof(codes[0])) == 0);
  CHECK(codes[0][1] == FLINT_LIMITER_NOT_CONFIGURED &&
        codes[0][2] == FLINT_LIMITER_INVALID_ARGUMENT);
  for (int item = 0; item < 5; ++item) {
    flint_limiter_result pair[2] = {results[0][item], results[1][item]};
    if (codes[0][item] == FLINT_LIMITER_OK) CompareResults(pair, WHERE);
  }
  CHECK(results[0][3].allowed == 1 && results[0][4].allowed == 0);
  CloseBoth(&both);
}

/* More and longer keys than one request holds. */
static void ConnectedLongKeys(void) {
  Both both = OpenBoth();
  static char key[FLINT_LIMITER_MAX_KEY_BYTES + 2];
  static flint_limiter_item items[FLINT_LIMITER_MAX_ITEMS];
  static flint_limiter_result results[FLINT_LIMITER_MAX_ITEMS];
  static int32_t each[FLINT_LIMITER_MAX_ITEMS];
  memset(key, 'k', sizeof(key));
  ON_BOTH(Limit(limiter, Template("", 2000, YEAR), "", 0, 0, error));
  Ask(&both, key, FLINT_LIMITER_MAX_KEY_BYTES, 1, 0, NULL, 0, WHERE);
  Ask(&both, key, FLINT_LIMITER_MAX_KEY_BYTES + 1, 1, 0, NULL, 0, WHERE);
  flint_limiter_config config = Template("", 5, YEAR);
  config.key = key;
  config.key_bytes = FLINT_LIMITER_MAX_KEY_BYTES;
  ON_BOTH(flint_limiter_limit(limiter, &config, 0, NULL, error));
  for (size_t i = 0; i < FLINT_LIMITER_MAX_ITEMS; ++i) {
    items[i] = Item("", 1);
    items[i].key = key;
    items[i].key_bytes = 1 + i;
    results[i] = NewResult();
  }
  CHECK_OK(flint_limiter_check_many(both.of[0], items, FLINT_LIMITER_MAX_ITEMS, sizeof(*items), 0,
                                    results, sizeof(*results), each, NewError()));
  for (size_t i = 0; i < FLINT_LIMITER_MAX_ITEMS; ++i) {
    CHECK(each[i] == FLINT_LIMITER_OK && results[i].remaining == 1999);
  }
  for (size_t i = 0; i < 3; ++i) items[i].key_bytes = 30000 + i;
  CheckAllOnBoth(&both, items, 2, WHERE);
  CheckAllOnBoth(&both, items, 3, WHERE); /* too long together */
  CloseBoth(&both);
}

static void ConnectedEnds(void) {
  Both both = OpenBoth();
  ConfigureBoth(&both);
  ASK("b", 2);
  ASK("t:1", 2);
  STATUS("b", "", EXACT);
  STATUS("b", "per half", EXACT);
  STATUS("t:", "", TEMPLATE);
  STATUS("t:1", "", EXACT);
  STATUS("t:new", "", EXACT);
  STATUS("t:none:", "", TEMPLATE);
  STATUS("", "", EXACT);
  STATUS("x*", "", EXACT);
  STATUS("x*", "", TEMPLATE);
  for (uint32_t kind = 0; kind < 2; ++kind) {
    ON_BOTH(flint_limiter_reset(limiter, "t:", 2, kind, 0, NULL, error));
    ON_BOTH(flint_limiter_reset_named(limiter, "b", 1, "per half", 8, kind, 0, NULL, error));
    ON_BOTH(flint_limiter_reset_named(limiter, "b", 1, "", 0, kind, 0, NULL, error));
  }
  STATUS("b", "per half", EXACT);
  STATUS("t:1", "", EXACT);
  ON_BOTH(flint_limiter_remove_named(limiter, "a", 1, "", 0, 0, 0, NULL, error));
  ON_BOTH(flint_limiter_remove_named(limiter, "b", 1, "", 0, 0, 0, NULL, error));
  ON_BOTH(flint_limiter_remove(limiter, "x*", 2, FLINT_LIMITER_KIND_TEMPLATE, 0, NULL, error));
  STATUS("x*", "", EXACT);
  ON_BOTH(flint_limiter_remove(limiter, "b", 1, FLINT_LIMITER_KIND_EXACT, 0, NULL, error));
  STATUS("b", "per year", EXACT);
  STATUS("a", "", EXACT);
  CloseBoth(&both);
}

/* ---- Listings -------------------------------------------------------------------------------- */

static void CompareEntries(const flint_limiter_status_info* one,
                           const flint_limiter_status_info* other, const char* where) {
  const int same =
      one->kind == other->kind && one->key_bytes == other->key_bytes &&
      memcmp(one->key, other->key, one->key_bytes) == 0 && one->name_bytes == other->name_bytes &&
      memcmp(one->name, other->name, one->name_bytes) == 0 && one->rate == other->rate &&
      one->remaining == other->remaining && one->total_allowed == other->total_allowed;
  if (!same) Fail(where, "other entries", one->key);
}

static char texts[2][FLINT_LIMITER_MIN_TEXT_BYTES + FLINT_LIMITER_MAX_NAME_BYTES];

static void CompareLists(Both* both, uint64_t capacity) {
  flint_limiter_status_info pages[2][8];
  uint64_t counts[2] = {0, 0};
  flint_limiter_status_info last;
  char key[64];
  int first = 1;
  do {
    for (int i = 0; i < 2; ++i) {
      PrepareEntries(pages[i], 8);
      CHECK_OK(flint_limiter_list(both->of[i], first ? NULL : key, first ? 0 : last.key_bytes,
                                  first ? 0 : last.kind, 0, pages[i], capacity, sizeof(pages[i][0]),
                                  texts[i], sizeof(texts[i]), &counts[i], NewError()));
    }
    CHECK(counts[0] == counts[1]);
    for (uint64_t i = 0; i < counts[0]; ++i) CompareEntries(&pages[0][i], &pages[1][i], WHERE);
    if (counts[0] > 0) last = pages[0][counts[0] - 1];
    if (counts[0] > 0) memcpy(key, last.key, last.key_bytes);
    first = 0;
  } while (counts[0] > 0);
}

static void ComparePages(Both* both, uint64_t capacity, uint32_t flags) {
  static char cursors[2][FLINT_LIMITER_MAX_CURSOR_BYTES];
  uint64_t sizes[2] = {0, 0};
  uint64_t counts[2] = {0, 0};
  do {
    flint_limiter_status_info pages[2][8];
    for (int i = 0; i < 2; ++i) {
      PrepareEntries(pages[i], 8);
      CHECK_OK(flint_limiter_list_page(both->of[i], cursors[i], sizes[i], flags, pages[i], capacity,
                                       sizeof(pages[i][0]), texts[i], sizeof(texts[i]), &counts[i],
                                       cursors[i], &sizes[i], NewError()));
    }
    CHECK(counts[0] == counts[1] && sizes[0] == sizes[1]);
    CHECK(memcmp(cursors[0], cursors[1], sizes[0]) == 0);
    for (uint64_t i = 0; i < counts[0]; ++i) CompareEntries(&pages[0][i], &pages[1][i], WHERE);
  } while (counts[0] > 0);
}

static void ConnectedListings(void) {
  Both both = OpenBoth();
  ConfigureBoth(&both);
  for (char key[] = "t:a"; key[2] <= 'e'; ++key[2]) ASK(key, (uint64_t)(key[2] - 'a' + 1));
  ASK("a", 3);
  for (uint64_t capacity = 1; capacity <= 8; capacity += 3) {
    CompareLists(&both, capacity);
    ComparePages(&both, capacity, 0);
    ComparePages(&both, capacity, FLINT_LIMITER_ALL_COUNTERS);
  }
  for (uint32_t flags = 0; flags <= FLINT_LIMITER_ALL_COUNTERS;
       flags += FLINT_LIMITER_ALL_COUNTERS) {
    flint_limiter_status_info pages[2][8];
    uint64_t counts[2];
    for (int i = 0; i < 2; ++i) {
      PrepareEntries(pages[i], 8);
      CHECK_OK(flint_limiter_top(both.of[i], FLINT_LIMITER_BY_ALLOWED_COST, flags, pages[i], 3,
                                 sizeof(pages[i][0]), texts[i], sizeof(texts[i]), &counts[i],
                                 NewError()));
    }
    CHECK(counts[0] == counts[1] && counts[0] == (flags == 0 ? 1 : 3));
    CompareEntries(&pages[0][0], &pages[1][0], WHERE);
  }
  CloseBoth(&both);
}

static void ConnectedHistory(void) {
  const Server server = StartServer();
  flint_limiter* const limiter = Connect(server.tcp_url);
  flint_limiter_event events[4];
  flint_limiter_config stacking = Template("t:", 5, YEAR);
  stacking.flags = FLINT_LIMITER_STACK;
  CHECK_OK(Configure(limiter, stacking));
  CHECK_OK(Configure(limiter, Config("a", 5, YEAR)));
  flint_limiter_result results[2] = {NewResult(), NewResult()};
  const flint_limiter_item items[2] = {Item("a", 2), Item("t:1", 1)};
  uint64_t denied = 0;
  CHECK_OK(CheckAll(limiter, items, 2, results, &denied));
  CHECK(Decide(limiter, "a", 4).allowed == 0);
  flint_limiter_history_query query = Query(0);
  CHECK(NextEvents(limiter, NULL, &query, events, 4) == 4);
  CHECK(events[0].type == FLINT_LIMITER_EVENT_LIMIT_CONFIGURED && events[0].rate == 5);
  CHECK(events[0].kind == FLINT_LIMITER_KIND_TEMPLATE && events[0].key_bytes == 2);
  CHECK(events[2].type == FLINT_LIMITER_EVENT_ALLOW_ALL && events[2].item_count == 2);
  CHECK(events[3].item_index == 1 && events[3].sequence == events[2].sequence);
  CHECK(events[3].kind == FLINT_LIMITER_KIND_COUNTER && events[3].prefix_bytes == 2);
  CHECK(events[3].engine_ns > 0 && events[3].cost == 1);
  CHECK(events[0].flags == FLINT_LIMITER_STACK && events[1].flags == 0 && events[2].flags == 0);
  CHECK(events[3].flags == FLINT_LIMITER_STACK);
  CHECK(NextEvents(limiter, NULL, &query, events, 4) == 1);
  CHECK(events[0].type == FLINT_LIMITER_EVENT_DENY && events[0].cost == 4);
  CHECK(NextEvents(limiter, NULL, &query, events, 4) == 0);
  query = Query(FLINT_LIMITER_NEWEST_FIRST);
  CHECK(NextEvents(limiter, "a", &query, events, 1) == 1);
  CHECK(events[0].type == FLINT_LIMITER_EVENT_DENY);
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  const flint_limiter_info info = Info(limiter);
  CHECK(info.sync == FLINT_LIMITER_SYNC_BATCH && info.limits == 2 && info.counters == 1);
  CHECK(info.durable == info.appended && info.appended > 0 && info.directory_mode == 0700);
  CHECK_OK(Compact(limiter, NewError()));
  CHECK_OK(flint_limiter_compact(limiter, FLINT_LIMITER_NO_WAIT, NewError()));
  CHECK(Info(limiter).compactions >= 1);
  Close(limiter);
  EndServer(&server, SIGTERM);
}

/* ---- What a server cannot do ----------------------------------------------------------------- */

static void ConnectedDifferences(void) {
  const Server server = StartServer();
  flint_limiter* const limiter = Connect(server.unix_url);
  int32_t fd = -1;
  CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
  CHECK_CODE(WOULD_BLOCK, TryCheck(limiter, "key", 1, FLINT_LIMITER_NO_WAIT));
  CHECK(CheckWith(limiter, "key", 1, FLINT_LIMITER_NO_SYNC).ticket == 0);
  CHECK(CheckWith(limiter, "key", 1, FLINT_LIMITER_DECISION_ONLY).allowed == 1);
  CHECK_OK(Wait(limiter, 0, 0));
  CHECK_INVALID("none but 0", flint_limiter_wait(limiter, 7, 0, NewError()));
  CHECK(Durable(limiter) == 0);
  CHECK_FAILS(UNSUPPORTED, "nothing to watch", flint_limiter_watch(limiter, &fd, NewError()));
  CHECK_INVALID("opened for reading", flint_limiter_refresh(limiter, NewError()));
  CHECK_INVALID("result", flint_limiter_check(limiter, "key", 3, 1, 0, NULL, NULL, NewError()));
  CHECK_OK(flint_limiter_shutdown(limiter, NewError()));
  CallEveryFunction(limiter, FLINT_LIMITER_CLOSED, "", WHERE);
  Close(limiter);
  EndServer(&server, SIGTERM);
}

static void ConnectRefused(void) {
  static const char* const wrong[] = {
      "",
      "http://a",
      "flint:",
      "flint://",
      "flint://:1",
      "flint://a:0",
      "flint://a:65536",
      "flint://a:x",
      "flint://a/b",
      "flint://[::1",
      "unix:",
      "redis://a:1",
      "flint://a:1?db=1",
  };
  flint_limiter* limiter = NULL;
  for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); ++i) {
    CHECK_INVALID("flint://host:port", ConnectWith(wrong[i], NULL, &limiter));
    CHECK(limiter == NULL);
  }
  CHECK_INVALID("token is an option", ConnectWith("flint://default:" TOKEN "@a:1", NULL, &limiter));
  CHECK(strstr(last_error.message, TOKEN) == NULL);
  CHECK_FAILS(IO, "cannot connect to unix:/nowhere/s",
              ConnectWith("unix:/nowhere/s", NULL, &limiter));
  CHECK(last_error.system_errno == ENOENT);
  flint_limiter_connect_options options = ConnectOptions("a b", 0);
  CHECK_INVALID("token", ConnectWith("unix:/nowhere/s", &options, &limiter));
  CHECK(strstr(last_error.message, "a b") == NULL);
  options = ConnectOptions(NULL, 86401 * SECOND);
  CHECK_INVALID("timeout_ns", ConnectWith("unix:/nowhere/s", &options, &limiter));
  options = ConnectOptions(NULL, 0);
  options.lazy = 1;
  CHECK_OK(ConnectWith("unix:/nowhere/s", &options, &limiter));
  CHECK_CODE(IO, TryCheck(limiter, "key", 1, 0));
  Close(limiter);
}

static void ConnectToken(void) {
  const ServerOptions token = {TOKEN, NULL, NULL, NULL};
  const Server server = StartServerWith(&token);
  flint_limiter* limiter = NULL;
  CHECK_FAILS(PERMISSION, "token", ConnectWith(server.unix_url, NULL, &limiter));
  flint_limiter_connect_options options = ConnectOptions("hush", 0);
  CHECK_FAILS(PERMISSION, "the server refuses", ConnectWith(server.unix_url, &options, &limiter));
  CHECK(limiter == NULL);
  options = ConnectOptions(TOKEN, 0);
  CHECK_OK(ConnectWith(server.tcp_url, &options, &limiter));
  CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
  CHECK(Decide(limiter, "key", 1).remaining == 4);
  Close(limiter);
  EndServer(&server, SIGTERM);
}

/* ---- A server that fails --------------------------------------------------------------------- */

static void ConnectedServerStops(void) {
  const Server server = StartServer();
  flint_limiter* limiter = NULL;
  const flint_limiter_connect_options options = ConnectOptions(NULL, SECOND / 5);
  CHECK_OK(ConnectWith(server.unix_url, &options, &limiter));
  CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
  kill(server.process, SIGSTOP);
  CHECK_CODE(TIMEOUT, TryCheck(limiter, "key", 1, 0));
  CHECK(strstr(last_error.message, "whether the call took effect is unknown") != NULL);
  CHECK_CODE(TIMEOUT, TryStatus(limiter, "key", FLINT_LIMITER_KIND_EXACT));
  CHECK(strstr(last_error.message, "unknown") == NULL);
  kill(server.process, SIGCONT);
  int32_t code = FLINT_LIMITER_TIMEOUT;
  for (int i = 0; i < PATIENCE_MS / 200 && code == FLINT_LIMITER_TIMEOUT; ++i) {
    code = TryStatus(limiter, "key", FLINT_LIMITER_KIND_EXACT);
  }
  CHECK(code == FLINT_LIMITER_OK);
  Close(limiter);
  EndServer(&server, SIGTERM);
}

static void ConnectedServerDies(void) {
  Server server = StartServer();
  flint_limiter* const limiter = Connect(server.unix_url);
  CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
  CHECK(Decide(limiter, "key", 2).remaining == 3);
  EndServer(&server, SIGKILL);
  CHECK_CODE(IO, TryCheck(limiter, "key", 1, 0));
  RestartServer(&server);
  CHECK(Decide(limiter, "key", 1).remaining == 2);
  Close(limiter);
  EndServer(&server, SIGTERM);
}

static void ShutdownEndsCalls(void) {
  const Server server = StartServer();
  Caller caller;
  memset(&caller, 0, sizeof(caller));
  caller.limiter = Connect(server.unix_url);
  caller.call = CallCheck;
  kill(server.process, SIGSTOP);
  Start(&caller);
  SleepMs(50);
  CHECK_OK(flint_limiter_shutdown(caller.limiter, NewError()));
  CHECK(Join(&caller) == FLINT_LIMITER_CLOSED);
  kill(server.process, SIGCONT);
  Close(caller.limiter);
  EndServer(&server, SIGTERM);
}

/* Answers what comes first on one connection by this text. */
typedef struct Liar {
  int listening;
  const char* text;
  pthread_t thread;
} Liar;

static void* Lie(void* argument) {
  const Liar* const liar = argument;
  char request[256];
  const int connection = accept(liar->listening, NULL, NULL);
  if (read(connection, request, sizeof(request)) > 0 && liar->text != NULL) {
    CHECK(write(connection, liar->text, strlen(liar->text)) > 0);
  }
  close(connection);
  return NULL;
}

static void LieWith(const char* text, int32_t expected, const char* part) {
  const Path path = NewPath();
  char url[600];
  struct sockaddr_un name;
  flint_limiter* limiter = NULL;
  Liar liar;
  memset(&name, 0, sizeof(name));
  name.sun_family = AF_UNIX;
  snprintf(name.sun_path, sizeof(name.sun_path), "%.100s", path.text);
  snprintf(url, sizeof(url), "unix:%s", path.text);
  liar.text = text;
  liar.listening = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(bind(liar.listening, (struct sockaddr*)&name, sizeof(name)) == 0);
  CHECK(listen(liar.listening, 1) == 0);
  CHECK(pthread_create(&liar.thread, NULL, Lie, &liar) == 0);
  CheckFailure(expected, part, ConnectWith(url, NULL, &limiter), text, WHERE);
  pthread_join(liar.thread, NULL);
  close(liar.listening);
}

static void ConnectToOthers(void) {
  LieWith("%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n", FLINT_LIMITER_UNSUPPORTED, "no Flint server");
  LieWith("HTTP/1.1 400 Bad Request\r\n\r\n", FLINT_LIMITER_INTERNAL, "not the Redis protocol");
  LieWith("-ERR unknown command 'HELLO'\r\n", FLINT_LIMITER_UNSUPPORTED, "unknown command");
  LieWith("-NOPROTO unsupported\r\n", FLINT_LIMITER_UNSUPPORTED, "unsupported");
  LieWith("+OK\r\n+OK\r\n", FLINT_LIMITER_INTERNAL, "more came");
  LieWith("$99999999999\r\n", FLINT_LIMITER_INTERNAL, "too long");
  LieWith("%1\r\n$6\r\nser", FLINT_LIMITER_IO, "has ended");
}

/* ---- Threads and children -------------------------------------------------------------------- */

static int32_t CheckOften(flint_limiter* limiter, flint_limiter_error* error) {
  int32_t code = FLINT_LIMITER_OK;
  for (int i = 0; i < 50 && code == FLINT_LIMITER_OK; ++i) code = CallCheck(limiter, error);
  return code;
}

static void ConnectedThreads(void) {
  const Server server = StartServer();
  flint_limiter* const limiter = Connect(server.tcp_url);
  Caller callers[4];
  CHECK_OK(Configure(limiter, Config("key", 1000, YEAR)));
  memset(callers, 0, sizeof(callers));
  for (int i = 0; i < 4; ++i) {
    callers[i].limiter = limiter;
    callers[i].call = CheckOften;
    Start(&callers[i]);
  }
  for (int i = 0; i < 4; ++i) CHECK(Join(&callers[i]) == FLINT_LIMITER_OK);
  CHECK(Decide(limiter, "key", 1).remaining == 799);
  Close(limiter);
  EndServer(&server, SIGTERM);
}

static void DecideInChild(void* argument) {
  flint_limiter* limiter = argument;
  for (int i = 0; i < 20; ++i) CHECK(Decide(limiter, "key", 1).allowed == 1);
  Close(limiter);
}

static void ConnectedFork(void) {
  const Server server = StartServer();
  flint_limiter* const limiter = Connect(server.unix_url);
  Caller caller;
  CHECK_OK(Configure(limiter, Config("key", 1000, YEAR)));
  memset(&caller, 0, sizeof(caller));
  caller.limiter = limiter;
  caller.call = CheckOften;
  Start(&caller);
  RunInChild(DecideInChild, limiter);
  CHECK(Join(&caller) == FLINT_LIMITER_OK);
  CHECK(Decide(limiter, "key", 1).remaining == 1000 - 50 - 20 - 1);
  Close(limiter);
  EndServer(&server, SIGTERM);
}

const Test connected_tests[] = {
    TEST(ConnectedDecisions),   TEST(ConnectedItems),
    TEST(ConnectedLongKeys),    TEST(ConnectedEnds),
    TEST(ConnectedListings),    TEST(ConnectedHistory),
    TEST(ConnectedDifferences), TEST(ConnectRefused),
    TEST(ConnectToken),         TEST(ConnectedServerStops),
    TEST(ConnectedServerDies),  TEST(ShutdownEndsCalls),
    TEST(ConnectToOthers),      TEST(ConnectedThreads),
    TEST(ConnectedFork),        {NULL, NULL},
};
