/* contract_test.c - every promise of flint_limiter.h 1.0.0, from the outside. It stays as it was
 * with that version, and so does the header beside it, which it is compiled with. Only the version
 * that the library says it has may be a later one, and no structure is larger than it was then:
 * what this file took for the future has become the present. Messages are no promise: a long key
 * was shown whole in them, and a message is cut off by a long path now.
 *
 * A C99 program that includes nothing of Flint but the public header and links nothing but the
 * library. `contract_test` runs everything, `contract_test Fork List` the tests so named. */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): nftw, flock, fallocate, syscall */

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "flint_limiter.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define YEAR (UINT64_C(365) * 86400 * SECOND)
#define MOST (UINT64_C(1) << 62)
#define START_NS (UINT64_C(1700000000) * SECOND)
#define FOREVER UINT64_MAX
#define PATIENCE_MS 20000 /* for what another thread must do; only a failure takes that long */
#define FILLER 0xA5       /* what structures hold that must be left alone */

/* ---- Checking -------------------------------------------------------------------------------- */

static pthread_mutex_t failures_mutex = PTHREAD_MUTEX_INITIALIZER;
static int failures;
/* What calls on the main thread report into; see NewError. */
static flint_limiter_error last_error;

static void Fail(int line, const char* what, const char* details) {
  pthread_mutex_lock(&failures_mutex);
  ++failures;
  fprintf(stderr, "  line %d: %s: %s\n", line, what, details);
  pthread_mutex_unlock(&failures_mutex);
}

static int Failures(void) {
  pthread_mutex_lock(&failures_mutex);
  const int count = failures;
  pthread_mutex_unlock(&failures_mutex);
  return count;
}

static void ClearError(flint_limiter_error* error) {
  memset(error, FILLER, sizeof(*error));
  error->struct_size = sizeof(*error);
}

static flint_limiter_error* NewError(void) {
  ClearError(&last_error);
  return &last_error;
}

static void CheckCode(int32_t expected, int32_t code, const char* call, int line) {
  char details[96];
  if (code == expected) return;
  snprintf(details, sizeof(details), "returned %d (%s), not %d", code,
           flint_limiter_code_text(code), expected);
  Fail(line, call, details);
}

/* The call has just reported into `last_error`, unless it was given no error. */
static void CheckFailure(int32_t expected, const char* part, int32_t code, const char* call,
                         int line) {
  CheckCode(expected, code, call, line);
  if (code != expected) return;
  if (last_error.code != code || last_error.struct_size != sizeof(last_error) ||
      last_error.reserved != 0 ||
      memchr(last_error.segment, 0, sizeof(last_error.segment)) == NULL ||
      memchr(last_error.message, 0, sizeof(last_error.message)) == NULL) {
    Fail(line, call, "did not fill the error");
  } else if (strstr(last_error.message, part) == NULL) {
    Fail(line, call, last_error.message);
  }
}

#define CHECK(condition)                                      \
  do {                                                        \
    if (!(condition)) Fail(__LINE__, #condition, "is false"); \
  } while (0)

#define CHECK_OK(call) CheckCode(FLINT_LIMITER_OK, call, #call, __LINE__)
#define CHECK_CODE(expected, call) CheckCode(FLINT_LIMITER_##expected, call, #call, __LINE__)
/* `call` ends in NewError(); the message must contain `part`. */
#define CHECK_FAILS(expected, part, call) \
  CheckFailure(FLINT_LIMITER_##expected, part, call, #call, __LINE__)
#define CHECK_INVALID(part, call) CHECK_FAILS(INVALID_ARGUMENT, part, call)

static int IsFilled(const void* memory, size_t size) {
  const unsigned char* bytes = memory;
  for (size_t i = 0; i < size; ++i) {
    if (bytes[i] != FILLER) return 0;
  }
  return 1;
}

static void SleepMs(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&time, &time) != 0) {
  }
}

/* ---- Faults ---------------------------------------------------------------------------------- */

/* The library's calls of these three functions come here, because a program's own functions go
 * before those of the C library. That is how a disk is slow, broken or full without a stand-in
 * for anything else. */

enum { SYNC_WORKS, SYNC_HOLDS, SYNC_FAILS };

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int sync_mode;
  int holding; /* how many calls are being held */
  int disk_full;
  int cannot_lock;
} faults = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, SYNC_WORKS, 0, 0, 0};

int fdatasync(int fd) {
  pthread_mutex_lock(&faults.mutex);
  ++faults.holding;
  pthread_cond_broadcast(&faults.changed);
  while (faults.sync_mode == SYNC_HOLDS) pthread_cond_wait(&faults.changed, &faults.mutex);
  --faults.holding;
  const int fails = faults.sync_mode == SYNC_FAILS;
  pthread_mutex_unlock(&faults.mutex);
  if (fails) {
    errno = EIO;
    return -1;
  }
  return (int)syscall(SYS_fdatasync, fd);
}

int fallocate(int fd, int mode, off_t offset, off_t bytes) {
  pthread_mutex_lock(&faults.mutex);
  const int full = faults.disk_full;
  pthread_mutex_unlock(&faults.mutex);
  if (full) {
    errno = ENOSPC;
    return -1;
  }
  return (int)syscall(SYS_fallocate, fd, mode, offset, bytes);
}

int flock(int fd, int operation) {
  pthread_mutex_lock(&faults.mutex);
  const int fails = faults.cannot_lock;
  pthread_mutex_unlock(&faults.mutex);
  if (fails) {
    errno = ENOLCK;
    return -1;
  }
  return (int)syscall(SYS_flock, fd, operation);
}

static void SetFault(int* fault, int value) {
  pthread_mutex_lock(&faults.mutex);
  *fault = value;
  pthread_cond_broadcast(&faults.changed);
  pthread_mutex_unlock(&faults.mutex);
}

static void SetSync(int mode) { SetFault(&faults.sync_mode, mode); }

static void AwaitHeldSync(void) {
  pthread_mutex_lock(&faults.mutex);
  while (faults.holding == 0) pthread_cond_wait(&faults.changed, &faults.mutex);
  pthread_mutex_unlock(&faults.mutex);
}

/* ---- A clock --------------------------------------------------------------------------------- */

/* Stands until it is advanced. While `held`, any other thread than `owner` is kept inside it. */
typedef struct Clock {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int64_t now_ns;
  pthread_t owner;
  int held;
  int holding;
} Clock;

static void InitClock(Clock* clock) {
  memset(clock, 0, sizeof(*clock));
  pthread_mutex_init(&clock->mutex, NULL);
  pthread_cond_init(&clock->changed, NULL);
  clock->now_ns = (int64_t)START_NS;
  clock->owner = pthread_self();
}

static int64_t ReadClock(void* argument) {
  Clock* clock = argument;
  pthread_mutex_lock(&clock->mutex);
  if (!pthread_equal(pthread_self(), clock->owner)) {
    ++clock->holding;
    pthread_cond_broadcast(&clock->changed);
    while (clock->held) pthread_cond_wait(&clock->changed, &clock->mutex);
    --clock->holding;
  }
  const int64_t now_ns = clock->now_ns;
  pthread_mutex_unlock(&clock->mutex);
  return now_ns;
}

static void Advance(Clock* clock, int64_t ns) {
  pthread_mutex_lock(&clock->mutex);
  clock->now_ns += ns;
  pthread_mutex_unlock(&clock->mutex);
}

static void Hold(Clock* clock, int held) {
  pthread_mutex_lock(&clock->mutex);
  clock->held = held;
  pthread_cond_broadcast(&clock->changed);
  pthread_mutex_unlock(&clock->mutex);
}

static void AwaitHeldReader(Clock* clock) {
  pthread_mutex_lock(&clock->mutex);
  while (clock->holding == 0) pthread_cond_wait(&clock->changed, &clock->mutex);
  pthread_mutex_unlock(&clock->mutex);
}

/* ---- Directories ----------------------------------------------------------------------------- */

static char root[256]; /* everything that this program creates is in it */

typedef struct Path {
  char text[512];
} Path;

/* A path in `root` at which nothing is yet. */
static Path NewPath(void) {
  static int count;
  Path path;
  snprintf(path.text, sizeof(path.text), "%s/%d", root, ++count);
  return path;
}

static Path In(const Path* directory, const char* name) {
  Path path;
  snprintf(path.text, sizeof(path.text), "%.400s/%.100s", directory->text, name);
  return path;
}

static void WriteFile(const Path* path, const char* text) {
  FILE* file = fopen(path->text, "w");
  CHECK(file != NULL);
  if (file == NULL) return;
  fputs(text, file);
  fclose(file);
}

/* ---- Calling --------------------------------------------------------------------------------- */

static flint_limiter_options Options(uint32_t sync) {
  flint_limiter_options options;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.sync = sync;
  return options;
}

/* Batch mode that syncs only when it is told to. */
static flint_limiter_options Lazy(void) {
  flint_limiter_options options = Options(FLINT_LIMITER_SYNC_BATCH);
  options.flush_every_events = UINT64_C(1) << 32;
  options.flush_every_ms = 3600000;
  options.ring_bytes = 1 << 18;
  return options;
}

static int32_t TryOpen(const char* path, const flint_limiter_options* options,
                       flint_limiter** limiter) {
  return flint_limiter_open(path, strlen(path), options, limiter, NewError());
}

static flint_limiter* OpenWith(const Path* path, const flint_limiter_options* options) {
  flint_limiter* limiter = NULL;
  const int32_t code = TryOpen(path->text, options, &limiter);
  if (code != FLINT_LIMITER_OK) {
    fprintf(stderr, "cannot open %s: %s\n", path->text, last_error.message);
    exit(1);
  }
  return limiter;
}

static flint_limiter* Open(const Path* path, uint32_t sync) {
  const flint_limiter_options options = Options(sync);
  return OpenWith(path, &options);
}

static const Path memory = {":memory:"};

/* `clock` may be NULL. */
static flint_limiter* OpenMemory(Clock* clock) {
  flint_limiter_options options = Options(FLINT_LIMITER_SYNC_ALWAYS);
  if (clock != NULL) {
    InitClock(clock);
    options.clock = ReadClock;
    options.clock_argument = clock;
  }
  return OpenWith(&memory, &options);
}

static void Close(flint_limiter* limiter) {
  CHECK_OK(flint_limiter_close(&limiter, NewError()));
  CHECK(limiter == NULL);
}

static flint_limiter_config Config(const char* key, uint64_t rate, uint64_t per_ns) {
  flint_limiter_config config;
  memset(&config, 0, sizeof(config));
  config.struct_size = sizeof(config);
  config.key = key;
  config.key_bytes = key == NULL ? 0 : strlen(key);
  config.rate = rate;
  config.per_ns = per_ns;
  config.algorithm = FLINT_LIMITER_TOKEN_BUCKET;
  return config;
}

static flint_limiter_config Template(const char* prefix, uint64_t rate, uint64_t per_ns) {
  flint_limiter_config config = Config(prefix, rate, per_ns);
  config.kind = FLINT_LIMITER_KIND_TEMPLATE;
  return config;
}

static int32_t Configure(flint_limiter* limiter, flint_limiter_config config) {
  return flint_limiter_limit(limiter, &config, FLINT_LIMITER_NO_SYNC, NULL, NewError());
}

static flint_limiter_result NewResult(void) {
  flint_limiter_result result;
  memset(&result, FILLER, sizeof(result));
  result.struct_size = sizeof(result);
  return result;
}

static int32_t TryCheck(flint_limiter* limiter, const char* key, uint64_t cost, uint32_t flags) {
  flint_limiter_result result = NewResult();
  return flint_limiter_check(limiter, key, strlen(key), cost, flags, NULL, &result, NewError());
}

static flint_limiter_result CheckWith(flint_limiter* limiter, const char* key, uint64_t cost,
                                      uint32_t flags) {
  flint_limiter_result result = NewResult();
  CHECK_OK(flint_limiter_check(limiter, key, strlen(key), cost, flags, NULL, &result, NewError()));
  return result;
}

static flint_limiter_result Decide(flint_limiter* limiter, const char* key, uint64_t cost) {
  return CheckWith(limiter, key, cost, 0);
}

static flint_limiter_result Peek(flint_limiter* limiter, const char* key, uint64_t cost) {
  flint_limiter_result result = NewResult();
  CHECK_OK(flint_limiter_peek(limiter, key, strlen(key), cost, 0, NULL, &result, NewError()));
  return result;
}

static flint_limiter_status_info NewStatus(void) {
  flint_limiter_status_info status;
  memset(&status, FILLER, sizeof(status));
  status.struct_size = sizeof(status);
  return status;
}

static int32_t TryStatus(flint_limiter* limiter, const char* key, uint32_t kind) {
  flint_limiter_status_info status = NewStatus();
  return flint_limiter_status(limiter, key, strlen(key), kind, &status, NewError());
}

static flint_limiter_status_info Status(flint_limiter* limiter, const char* key, uint32_t kind) {
  flint_limiter_status_info status = NewStatus();
  CHECK_OK(flint_limiter_status(limiter, key, strlen(key), kind, &status, NewError()));
  return status;
}

static flint_limiter_info Info(flint_limiter* limiter) {
  flint_limiter_info info;
  memset(&info, FILLER, sizeof(info));
  info.struct_size = sizeof(info);
  CHECK_OK(flint_limiter_get_info(limiter, &info, NewError()));
  return info;
}

static uint64_t Durable(flint_limiter* limiter) {
  uint64_t ticket = 0;
  CHECK_OK(flint_limiter_durable(limiter, &ticket, NewError()));
  return ticket;
}

static int32_t Wait(flint_limiter* limiter, uint64_t ticket, uint64_t timeout_ns) {
  return flint_limiter_wait(limiter, ticket, timeout_ns, NewError());
}

static int32_t Remove(flint_limiter* limiter, const char* key, uint32_t kind, uint32_t flags) {
  return flint_limiter_remove(limiter, key, strlen(key), kind, flags, NULL, NewError());
}

static int32_t Reset(flint_limiter* limiter, const char* key, uint32_t kind, uint32_t flags) {
  return flint_limiter_reset(limiter, key, strlen(key), kind, flags, NULL, NewError());
}

static char page_text[FLINT_LIMITER_MIN_TEXT_BYTES];

static void PrepareEntries(flint_limiter_status_info* entries, size_t capacity) {
  for (size_t i = 0; i < capacity; ++i) entries[i] = NewStatus();
}

/* How many entries of `page` a call of list has filled; the cursor is the last entry before. */
static uint64_t List(flint_limiter* limiter, const flint_limiter_status_info* after, uint32_t flags,
                     flint_limiter_status_info* page, size_t capacity) {
  char cursor[FLINT_LIMITER_MAX_KEY_BYTES];
  uint64_t count = UINT64_MAX;
  uint64_t bytes = 0;
  uint32_t kind = 0;
  if (after != NULL) {
    bytes = after->key_bytes;
    kind = after->kind;
    memcpy(cursor, after->key, bytes);
  }
  PrepareEntries(page, capacity);
  CHECK_OK(flint_limiter_list(limiter, after == NULL ? NULL : cursor, bytes, kind, flags, page,
                              capacity, sizeof(*page), page_text, sizeof(page_text), &count,
                              NewError()));
  CHECK(count <= capacity);
  return count;
}

static uint64_t Top(flint_limiter* limiter, uint32_t by, uint32_t flags,
                    flint_limiter_status_info* entries, size_t capacity) {
  uint64_t count = UINT64_MAX;
  PrepareEntries(entries, capacity);
  CHECK_OK(flint_limiter_top(limiter, by, flags, entries, capacity, sizeof(*entries), page_text,
                             sizeof(page_text), &count, NewError()));
  CHECK(count <= capacity);
  return count;
}

static flint_limiter_history_query Query(uint32_t flags) {
  flint_limiter_history_query query;
  memset(&query, 0, sizeof(query));
  query.struct_size = sizeof(query);
  query.flags = flags;
  return query;
}

static void PrepareEvents(flint_limiter_event* events, size_t capacity) {
  memset(events, FILLER, capacity * sizeof(*events));
  for (size_t i = 0; i < capacity; ++i) events[i].struct_size = sizeof(*events);
}

/* The next page of what `query` asks for; moves its cursor on. `key` may be NULL. */
static uint64_t NextEvents(flint_limiter* limiter, const char* key,
                           flint_limiter_history_query* query, flint_limiter_event* events,
                           size_t capacity) {
  uint64_t count = UINT64_MAX;
  PrepareEvents(events, capacity);
  CHECK_OK(flint_limiter_history(limiter, key, key == NULL ? 0 : strlen(key), query, events,
                                 capacity, sizeof(*events), page_text, sizeof(page_text), &count,
                                 &query->cursor, NewError()));
  CHECK(count <= capacity);
  return count > capacity ? 0 : count;
}

/* How many events have been recorded; there must be few. */
static uint64_t CountEvents(flint_limiter* limiter) {
  flint_limiter_event events[16];
  flint_limiter_history_query query = Query(0);
  const uint64_t count = NextEvents(limiter, NULL, &query, events, 16);
  CHECK(count < 16);
  return count;
}

static int HasKey(const flint_limiter_status_info* entry, const char* key) {
  return entry->key_bytes == strlen(key) && memcmp(entry->key, key, entry->key_bytes) == 0;
}

static flint_limiter_item Item(const char* key, uint64_t cost) {
  flint_limiter_item item;
  memset(&item, 0, sizeof(item));
  item.struct_size = sizeof(item);
  item.key = key;
  item.key_bytes = strlen(key);
  item.cost = cost;
  return item;
}

static int32_t CheckAll(flint_limiter* limiter, const flint_limiter_item* items, uint64_t count,
                        flint_limiter_result* results, uint64_t* denied_index) {
  for (uint64_t i = 0; i < count; ++i) results[i] = NewResult();
  return flint_limiter_check_all(limiter, items, count, sizeof(*items), 0, results,
                                 sizeof(*results), denied_index, NewError());
}

/* ---- Every function -------------------------------------------------------------------------- */

/* One valid call of each function that needs a limiter, for what all of them have in common. They
 * expect a limit for "key"; `error` may be NULL. */

static int32_t CallLimit(flint_limiter* limiter, flint_limiter_error* error) {
  const flint_limiter_config config = Config("new", 1, SECOND);
  return flint_limiter_limit(limiter, &config, 0, NULL, error);
}

static int32_t CallLimitMany(flint_limiter* limiter, flint_limiter_error* error) {
  const flint_limiter_config configs[2] = {Config("new", 1, SECOND), Template("n", 1, SECOND)};
  uint64_t ticket = 0;
  return flint_limiter_limit_many(limiter, configs, 2, sizeof(*configs), 0, &ticket, error);
}

static int32_t CallLimitNone(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_limit_many(limiter, NULL, 0, sizeof(flint_limiter_config), 0, NULL, error);
}

static int32_t CallReset(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_reset(limiter, "key", 3, FLINT_LIMITER_KIND_EXACT, 0, NULL, error);
}

static int32_t CallCheck(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_result result = NewResult();
  return flint_limiter_check(limiter, "key", 3, 1, 0, NULL, &result, error);
}

static int32_t CallPeek(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_result result = NewResult();
  return flint_limiter_peek(limiter, "key", 3, 1, 0, NULL, &result, error);
}

static int32_t CallCheckAll(flint_limiter* limiter, flint_limiter_error* error) {
  const flint_limiter_item item = Item("key", 1);
  flint_limiter_result result = NewResult();
  uint64_t denied = 0;
  return flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, &result, sizeof(result),
                                 &denied, error);
}

static int32_t CallStatus(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_status_info status = NewStatus();
  return flint_limiter_status(limiter, "key", 3, FLINT_LIMITER_KIND_EXACT, &status, error);
}

static int32_t CallList(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_status_info entry = NewStatus();
  uint64_t count = 0;
  return flint_limiter_list(limiter, NULL, 0, 0, 0, &entry, 1, sizeof(entry), page_text,
                            sizeof(page_text), &count, error);
}

static int32_t CallTop(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_status_info entry = NewStatus();
  uint64_t count = 0;
  return flint_limiter_top(limiter, FLINT_LIMITER_BY_DENIED, 0, &entry, 1, sizeof(entry), page_text,
                           sizeof(page_text), &count, error);
}

static int32_t CallHistory(flint_limiter* limiter, flint_limiter_error* error) {
  const flint_limiter_history_query query = Query(0);
  flint_limiter_event event;
  uint64_t count = 0;
  uint64_t cursor = 0;
  PrepareEvents(&event, 1);
  return flint_limiter_history(limiter, NULL, 0, &query, &event, 1, sizeof(event), page_text,
                               sizeof(page_text), &count, &cursor, error);
}

static int32_t CallGetInfo(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_info info;
  info.struct_size = sizeof(info);
  return flint_limiter_get_info(limiter, &info, error);
}

static int32_t CallWait(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_wait(limiter, 0, 0, error);
}

static int32_t CallDurable(flint_limiter* limiter, flint_limiter_error* error) {
  uint64_t ticket = 0;
  return flint_limiter_durable(limiter, &ticket, error);
}

static int32_t CallWatch(flint_limiter* limiter, flint_limiter_error* error) {
  int32_t fd = -1;
  return flint_limiter_watch(limiter, &fd, error);
}

static int32_t CallUnwatch(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_unwatch(limiter, -1, error);
}

static int32_t Compact(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_compact(limiter, 0, error);
}

static int32_t CallRemove(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_remove(limiter, "key", 3, FLINT_LIMITER_KIND_EXACT, 0, NULL, error);
}

static const struct {
  const char* name;
  int32_t (*call)(flint_limiter* limiter, flint_limiter_error* error);
} every_function[] = {
    {"limit", CallLimit},
    {"limit_many", CallLimitMany},
    {"limit_many of none", CallLimitNone},
    {"reset", CallReset},
    {"check", CallCheck},
    {"peek", CallPeek},
    {"check_all", CallCheckAll},
    {"status", CallStatus},
    {"list", CallList},
    {"top", CallTop},
    {"history", CallHistory},
    {"get_info", CallGetInfo},
    {"flush", flint_limiter_flush},
    {"wait", CallWait},
    {"durable", CallDurable},
    {"compact", Compact},
    {"refresh", flint_limiter_refresh},
    {"remove", CallRemove},
    {"watch", CallWatch},
    {"unwatch", CallUnwatch},
};

static void CallEveryFunction(flint_limiter* limiter, int32_t expected, const char* part,
                              int line) {
  for (size_t i = 0; i < sizeof(every_function) / sizeof(*every_function); ++i) {
    const char* name = every_function[i].name;
    CheckFailure(expected, part, every_function[i].call(limiter, NewError()), name, line);
    CheckCode(expected, every_function[i].call(limiter, NULL), name, line);
  }
}

/* ---- About the library ----------------------------------------------------------------------- */

static void Version(void) {
  CHECK(strncmp(flint_limiter_version(), "1.", 2) == 0);
  CHECK(flint_limiter_version() == flint_limiter_version());
}

static void CodeText(void) {
  for (int32_t code = FLINT_LIMITER_OK; code <= FLINT_LIMITER_READ_ONLY; ++code) {
    CHECK(strlen(flint_limiter_code_text(code)) > 0);
    CHECK(strcmp(flint_limiter_code_text(code), "unknown status") != 0);
    CHECK(flint_limiter_code_text(code) == flint_limiter_code_text(code));
  }
  const int32_t unknown[] = {-1, 1000, INT32_MIN, INT32_MAX};
  for (size_t i = 0; i < sizeof(unknown) / sizeof(*unknown); ++i) {
    CHECK(strcmp(flint_limiter_code_text(unknown[i]), "unknown status") == 0);
  }
}

/* ---- NULL, sizes, strides, flags, kinds ------------------------------------------------------ */

static void SuccessLeavesErrorAlone(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  int works = 0;
  CHECK_OK(Configure(limiter, Config("key", 5, SECOND)));
  for (size_t i = 0; i < sizeof(every_function) / sizeof(*every_function); ++i) {
    if (every_function[i].call(limiter, NewError()) != FLINT_LIMITER_OK) continue;
    CHECK(IsFilled(&last_error.code, sizeof(last_error) - sizeof(last_error.struct_size)));
    ++works;
  }
  CHECK(works >= 16); /* what needs a directory fails in memory */
  Close(limiter);
}

static void NullLimiter(void) {
  CallEveryFunction(NULL, FLINT_LIMITER_INVALID_ARGUMENT, "limiter is NULL", __LINE__);
  CHECK_INVALID("limiter is NULL", flint_limiter_shutdown(NULL, NewError()));
  CHECK_INVALID("limiter is NULL", flint_limiter_open(":memory:", 8, NULL, NULL, NewError()));
  CHECK_CODE(INVALID_ARGUMENT, flint_limiter_open(":memory:", 8, NULL, NULL, NULL));
}

static void NullArguments(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_status_info entry = NewStatus();
  flint_limiter_result result = NewResult();
  const flint_limiter_item item = Item("key", 1);
  const uint64_t text_bytes = sizeof(page_text);
  uint64_t n = 7;
  CHECK_OK(Configure(limiter, Config("key", 5, SECOND)));
  CHECK_INVALID("config is NULL", flint_limiter_limit(limiter, NULL, 0, NULL, NewError()));
  CHECK_INVALID("config is NULL",
                flint_limiter_limit_many(limiter, NULL, 1, sizeof(flint_limiter_config), 0, NULL,
                                         NewError()));
  CHECK_INVALID("result is NULL",
                flint_limiter_check(limiter, "key", 3, 1, 0, NULL, NULL, NewError()));
  CHECK_INVALID("result is NULL",
                flint_limiter_peek(limiter, "key", 3, 1, 0, NULL, NULL, NewError()));
  CHECK_INVALID("items is NULL", flint_limiter_check_all(limiter, NULL, 1, sizeof(item), 0, &result,
                                                         sizeof(result), &n, NewError()));
  CHECK_INVALID("results is NULL", flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, NULL,
                                                           sizeof(result), &n, NewError()));
  CHECK_INVALID("denied_index is NULL",
                flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, &result, sizeof(result),
                                        NULL, NewError()));
  CHECK_INVALID("status is NULL", flint_limiter_status(limiter, "key", 3, 0, NULL, NewError()));
  CHECK_INVALID("entries is NULL",
                flint_limiter_list(limiter, NULL, 0, 0, 0, NULL, 1, sizeof(entry), page_text,
                                   text_bytes, &n, NewError()));
  CHECK_INVALID("text is NULL", flint_limiter_list(limiter, NULL, 0, 0, 0, &entry, 1, sizeof(entry),
                                                   NULL, text_bytes, &n, NewError()));
  CHECK_INVALID("count is NULL",
                flint_limiter_list(limiter, NULL, 0, 0, 0, &entry, 1, sizeof(entry), page_text,
                                   text_bytes, NULL, NewError()));
  CHECK_INVALID("after is NULL",
                flint_limiter_list(limiter, NULL, 1, 0, 0, &entry, 1, sizeof(entry), page_text,
                                   text_bytes, &n, NewError()));
  CHECK_INVALID("entries is NULL", flint_limiter_top(limiter, 0, 0, NULL, 1, sizeof(entry),
                                                     page_text, text_bytes, &n, NewError()));
  CHECK_INVALID("text is NULL", flint_limiter_top(limiter, 0, 0, &entry, 1, sizeof(entry), NULL,
                                                  text_bytes, &n, NewError()));
  CHECK_INVALID("count is NULL", flint_limiter_top(limiter, 0, 0, &entry, 1, sizeof(entry),
                                                   page_text, text_bytes, NULL, NewError()));
  CHECK_INVALID("info is NULL", flint_limiter_get_info(limiter, NULL, NewError()));
  CHECK_INVALID("ticket is NULL", flint_limiter_durable(limiter, NULL, NewError()));
  CHECK(n == 7);
  flint_limiter* none = limiter;
  CHECK_INVALID("path is NULL", flint_limiter_open(NULL, 4, NULL, &none, NewError()));
  CHECK(none == NULL);
  CHECK_INVALID("key is NULL",
                flint_limiter_peek(limiter, NULL, 1, 1, 0, NULL, &result, NewError()));
  CHECK_INVALID("key \"\" is empty",
                flint_limiter_peek(limiter, NULL, 0, 1, 0, NULL, &result, NewError()));
  Close(limiter);
}

static void SmallStructs(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_config config = Config("key", 5, SECOND);
  flint_limiter_options options = Options(0);
  flint_limiter_result result = NewResult();
  flint_limiter_status_info status = NewStatus();
  flint_limiter_item item = Item("key", 1);
  flint_limiter_info info;
  flint_limiter* none = limiter;
  uint64_t n = 7;
  CHECK_OK(Configure(limiter, config));
  --config.struct_size;
  --options.struct_size;
  CHECK_INVALID("config.struct_size is ", Configure(limiter, config));
  CHECK_INVALID("inline_config.struct_size is ",
                flint_limiter_check(limiter, "key", 3, 1, 0, &config, &result, NewError()));
  CHECK_INVALID("options.struct_size is ", TryOpen(":memory:", &options, &none));
  CHECK(none == NULL);
  result.struct_size = 0;
  CHECK_INVALID("result.struct_size is 0",
                flint_limiter_check(limiter, "key", 3, 1, 0, NULL, &result, NewError()));
  CHECK_INVALID("results.struct_size is 0",
                flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, &result, sizeof(result),
                                        &n, NewError()));
  result = NewResult();
  item.struct_size = 4;
  CHECK_INVALID("items.struct_size is 4",
                flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, &result, sizeof(result),
                                        &n, NewError()));
  CHECK(IsFilled(&result.allowed, sizeof(result) - 4));
  status.struct_size = sizeof(status) - 8;
  CHECK_INVALID("status.struct_size is ",
                flint_limiter_status(limiter, "key", 3, 0, &status, NewError()));
  CHECK_INVALID("entries.struct_size is ",
                flint_limiter_list(limiter, NULL, 0, 0, 0, &status, 1, sizeof(status), page_text,
                                   sizeof(page_text), &n, NewError()));
  CHECK(IsFilled(&status.kind, sizeof(status) - 4) && n == 7);
  info.struct_size = 8;
  CHECK_INVALID("info.struct_size is 8", flint_limiter_get_info(limiter, &info, NewError()));
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 0);
  Close(limiter);
}

/* Structures with something behind them that nobody may touch. */
enum { MORE = 24 };
typedef struct GrownResult {
  flint_limiter_result known;
  unsigned char more[MORE];
} GrownResult;
typedef struct GrownStatus {
  flint_limiter_status_info known;
  unsigned char more[MORE];
} GrownStatus;
typedef struct GrownConfig {
  flint_limiter_config known;
  unsigned char more[MORE];
} GrownConfig;
typedef struct GrownItem {
  flint_limiter_item known;
  unsigned char more[MORE];
} GrownItem;

static void GrownInputs(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  GrownConfig configs[2];
  GrownItem items[2];
  flint_limiter_result results[2] = {NewResult(), NewResult()};
  uint64_t denied = 0;
  memset(configs, FILLER, sizeof(configs));
  memset(items, FILLER, sizeof(items));
  for (int i = 0; i < 2; ++i) {
    const char* key = i == 0 ? "a" : "b";
    configs[i].known = Config(key, 5, SECOND);
    configs[i].known.struct_size = sizeof(flint_limiter_config);
    items[i].known = Item(key, 2);
    items[i].known.struct_size = sizeof(flint_limiter_item);
  }
  CHECK_OK(flint_limiter_limit_many(limiter, &configs[0].known, 2, sizeof(GrownConfig), 0, NULL,
                                    NewError()));
  CHECK_OK(flint_limiter_check_all(limiter, &items[0].known, 2, sizeof(GrownItem), 0, results,
                                   sizeof(*results), &denied, NewError()));
  CHECK(denied == 2 && results[1].remaining == 3);

  struct {
    flint_limiter_options known;
    unsigned char more[MORE];
  } options;
  flint_limiter* other = NULL;
  memset(&options, FILLER, sizeof(options));
  options.known = Options(FLINT_LIMITER_SYNC_BATCH);
  options.known.struct_size = sizeof(options.known);
  CHECK_OK(TryOpen(":memory:", &options.known, &other));
  Close(other);
  Close(limiter);
}

static void GrownOutputs(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  GrownResult results[2];
  GrownStatus entries[2];
  uint64_t n = 0;
  const flint_limiter_item items[2] = {Item("a", 1), Item("b", 1)};
  struct {
    flint_limiter_info known;
    unsigned char more[MORE];
  } info;
  memset(results, FILLER, sizeof(results));
  memset(entries, FILLER, sizeof(entries));
  memset(&info, FILLER, sizeof(info));
  info.known.struct_size = sizeof(info.known);
  for (int i = 0; i < 2; ++i) {
    CHECK_OK(Configure(limiter, Config(items[i].key, 5, SECOND)));
    results[i].known.struct_size = sizeof(flint_limiter_result);
    entries[i].known.struct_size = sizeof(flint_limiter_status_info);
  }
  CHECK_OK(flint_limiter_check_all(limiter, items, 2, sizeof(*items), 0, &results[0].known,
                                   sizeof(GrownResult), &n, NewError()));
  CHECK_OK(flint_limiter_list(limiter, NULL, 0, 0, 0, &entries[0].known, 2, sizeof(GrownStatus),
                              page_text, sizeof(page_text), &n, NewError()));
  CHECK(n == 2);
  CHECK_OK(flint_limiter_get_info(limiter, &info.known, NewError()));
  CHECK(info.known.struct_size == sizeof(info.known) && IsFilled(info.more, MORE));
  CHECK(info.known.limits == 2);
  for (int i = 0; i < 2; ++i) {
    CHECK(results[i].known.struct_size == sizeof(flint_limiter_result) &&
          IsFilled(results[i].more, MORE));
    CHECK(results[i].known.allowed == 1 && results[i].known.remaining == 4);
    CHECK(entries[i].known.struct_size == sizeof(flint_limiter_status_info) &&
          IsFilled(entries[i].more, MORE));
    CHECK(HasKey(&entries[i].known, items[i].key) && entries[i].known.total_allowed == 1);
  }
  CHECK_OK(flint_limiter_check(limiter, "a", 1, 1, 0, NULL, &results[0].known, NewError()));
  CHECK_OK(flint_limiter_peek(limiter, "a", 1, 1, 0, NULL, &results[1].known, NewError()));
  CHECK_OK(flint_limiter_status(limiter, "a", 1, 0, &entries[0].known, NewError()));
  CHECK(IsFilled(results[0].more, MORE) && IsFilled(results[1].more, MORE));
  CHECK(IsFilled(entries[0].more, MORE) &&
        entries[0].known.struct_size == sizeof(flint_limiter_status_info));
  Close(limiter);
}

static void ErrorSizes(void) {
  struct {
    flint_limiter_error known;
    unsigned char more[MORE];
  } grown;
  flint_limiter_error small;
  memset(&grown, FILLER, sizeof(grown));
  grown.known.struct_size = sizeof(grown);
  CHECK_CODE(INVALID_ARGUMENT, flint_limiter_flush(NULL, &grown.known));
  CHECK(grown.known.struct_size == sizeof(grown) && IsFilled(grown.more, MORE));
  CHECK(strcmp(grown.known.message, "limiter is NULL") == 0);
  const uint32_t sizes[] = {0, 4, 8, offsetof(flint_limiter_error, message)};
  for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); ++i) {
    ClearError(&small);
    small.struct_size = sizes[i];
    CHECK_CODE(INVALID_ARGUMENT, flint_limiter_flush(NULL, &small));
    CHECK(small.struct_size == sizes[i]);
    if (sizes[i] >= 8) CHECK(small.code == FLINT_LIMITER_INVALID_ARGUMENT);
    const size_t from = sizes[i] < 4 ? 4 : sizes[i];
    CHECK(IsFilled((const char*)&small + from, sizeof(small) - from));
  }
}

static void ErrorText(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  char key[1500];
  for (size_t i = 0; i < sizeof(key); i += 3) memcpy(key + i, "\xE2\x82\xAC", 3);
  flint_limiter_result result = NewResult();
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: \xE2\x82\xAC",
              flint_limiter_check(limiter, key, sizeof(key), 1, 0, NULL, &result, NewError()));
  /* The key is shown in part, and ends with a whole character. */
  CHECK(strstr(last_error.message, "\xE2\x82\xAC...") != NULL);
  CHECK(last_error.system_errno == 0 && last_error.segment[0] == '\0');
  CHECK(last_error.offset == 0 && last_error.sequence == 0);
  CHECK(IsFilled(&result.allowed, sizeof(result) - 4));
  /* A message that is too long ends with the last character that fits. */
  char path[2998] = "/";
  for (size_t i = 1; i + 3 <= sizeof(path); i += 3) memcpy(path + i, "\xE2\x82\xAC", 3);
  flint_limiter* none = NULL;
  CHECK(flint_limiter_open_readonly(path, sizeof(path), NULL, &none, NewError()) ==
        FLINT_LIMITER_IO);
  const size_t length = strlen(last_error.message);
  CHECK(length > 1020 && length < 1024);
  CHECK(memcmp(last_error.message + length - 3, "\xE2\x82\xAC", 3) == 0);
  Close(limiter);
}

static void Strides(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  const flint_limiter_config config = Config("key", 5, SECOND);
  const flint_limiter_item item = Item("key", 1);
  flint_limiter_result result = NewResult();
  flint_limiter_status_info entry = NewStatus();
  const uint64_t text_bytes = sizeof(page_text);
  uint64_t n = 7;
  const uint64_t wrong[] = {0, 8, sizeof(config) - 8, sizeof(entry) + 4, UINT64_MAX};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); ++i) {
    const uint64_t stride = wrong[i];
    const int small = stride < sizeof(result);
    if (small || stride % 8 != 0) {
      CHECK_INVALID("stride is ",
                    flint_limiter_limit_many(limiter, &config, 1, stride, 0, NULL, NewError()));
      CHECK_INVALID("result_stride is ", flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0,
                                                                 &result, stride, &n, NewError()));
    }
    if (stride < sizeof(item) || stride % 8 != 0) {
      CHECK_INVALID("item_stride is ",
                    flint_limiter_check_all(limiter, &item, 1, stride, 0, &result, sizeof(result),
                                            &n, NewError()));
    }
    CHECK_INVALID("stride is ", flint_limiter_list(limiter, NULL, 0, 0, 0, &entry, 1, stride,
                                                   page_text, text_bytes, &n, NewError()));
    CHECK_INVALID("stride is ", flint_limiter_top(limiter, 0, 0, &entry, 1, stride, page_text,
                                                  text_bytes, &n, NewError()));
  }
  CHECK(n == 7);
  CHECK_FAILS(NOT_CONFIGURED, "key", TryStatus(limiter, "key", FLINT_LIMITER_KIND_EXACT));
  Close(limiter);
}

static void Flags(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  const flint_limiter_config config = Config("key", 5, SECOND);
  const flint_limiter_item item = Item("key", 1);
  flint_limiter_result result = NewResult();
  flint_limiter_status_info entry = NewStatus();
  const uint64_t text_bytes = sizeof(page_text);
  uint64_t n = 7;
  CHECK_OK(Configure(limiter, config));
  for (uint32_t bit = 0; bit < 32; ++bit) {
    const uint32_t flag = UINT32_C(1) << bit;
    const uint32_t both = FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC;
    char part[32];
    snprintf(part, sizeof(part), "flags is %u;", flag);
    if ((flag & (both | FLINT_LIMITER_IF_ABSENT)) == 0) {
      CHECK_INVALID(part, flint_limiter_limit(limiter, &config, flag, NULL, NewError()));
      CHECK_INVALID(part, flint_limiter_limit_many(limiter, &config, 1, sizeof(config), flag, NULL,
                                                   NewError()));
    }
    if ((flag & both) == 0) {
      CHECK_INVALID(part, Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, flag));
      CHECK_INVALID(part, Reset(limiter, "key", FLINT_LIMITER_KIND_EXACT, flag));
    }
    if ((flag & (both | FLINT_LIMITER_DECISION_ONLY)) == 0) {
      if (flag != FLINT_LIMITER_REFUSE) CHECK_INVALID(part, TryCheck(limiter, "key", 1, flag));
      CHECK_INVALID(part,
                    flint_limiter_peek(limiter, "key", 3, 1, flag, NULL, &result, NewError()));
      CHECK_INVALID(part, flint_limiter_check_all(limiter, &item, 1, sizeof(item), flag, &result,
                                                  sizeof(result), &n, NewError()));
    }
    if ((flag & FLINT_LIMITER_ALL_COUNTERS) == 0) {
      CHECK_INVALID(part, flint_limiter_list(limiter, NULL, 0, 0, flag, &entry, 1, sizeof(entry),
                                             page_text, text_bytes, &n, NewError()));
      CHECK_INVALID(part, flint_limiter_top(limiter, 0, flag, &entry, 1, sizeof(entry), page_text,
                                            text_bytes, &n, NewError()));
    }
  }
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 0 && n == 7);
  Close(limiter);
}

static void Kinds(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_status_info entry = NewStatus();
  flint_limiter_config config = Config("key", 5, SECOND);
  uint64_t n = 7;
  CHECK_OK(Configure(limiter, config));
  const uint32_t wrong[] = {FLINT_LIMITER_KIND_COUNTER, FLINT_LIMITER_KIND_INLINE, 4, UINT32_MAX};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); ++i) {
    char part[32];
    snprintf(part, sizeof(part), "kind is %u;", wrong[i]);
    config.kind = wrong[i];
    CHECK_INVALID(part, Configure(limiter, config));
    CHECK_INVALID(part, Remove(limiter, "key", wrong[i], 0));
    CHECK_INVALID(part, Reset(limiter, "key", wrong[i], 0));
    CHECK_INVALID(part, TryStatus(limiter, "key", wrong[i]));
  }
  CHECK_INVALID("after_kind is 4",
                flint_limiter_list(limiter, "a", 1, 4, 0, &entry, 1, sizeof(entry), page_text,
                                   sizeof(page_text), &n, NewError()));
  CHECK_INVALID("by is 4", flint_limiter_top(limiter, 4, 0, &entry, 1, sizeof(entry), page_text,
                                             sizeof(page_text), &n, NewError()));
  /* Neither the kind nor the key of an inline limit matters. */
  flint_limiter_result result = NewResult();
  config.key = NULL;
  CHECK_OK(flint_limiter_check(limiter, "inline", 6, 1, 0, &config, &result, NewError()));
  Close(limiter);
}

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
      {offsetof(flint_limiter_options, max_keys), "options.max_keys is ", 1, MOST},
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

/* ---- Limits ---------------------------------------------------------------------------------- */

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

/* ---- Decisions ------------------------------------------------------------------------------- */

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

/* ---- Reading --------------------------------------------------------------------------------- */

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
  CHECK_OK(Configure(limiter, Template("t", 9, MINUTE)));
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
  grown.known.struct_size = sizeof(grown.known);
  CHECK_OK(flint_limiter_history(limiter, "key", 3, &query, &grown.known, 1, sizeof(grown),
                                 page_text, bytes, &n, &cursor, NewError()));
  CHECK(n == 1 && grown.known.struct_size == sizeof(grown.known) && IsFilled(grown.more, MORE));
  CHECK(grown.known.type == FLINT_LIMITER_EVENT_LIMIT_CONFIGURED && grown.known.rate == 5);
  Close(limiter);
  limiter = OpenMemory(NULL);
  CHECK_FAILS(UNSUPPORTED, "in memory", CallHistory(limiter, NewError()));
  Close(limiter);
}

/* ---- Durability ------------------------------------------------------------------------------ */

static void Tickets(void) {
  const Path path = NewPath();
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  flint_limiter_config config = Config("key", 2, MINUTE);
  uint64_t configured = 0;
  uint64_t reset = 0;
  uint64_t removed = 0;
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, &configured, NewError()));
  const uint64_t first = Decide(limiter, "key", 1).ticket;
  const uint64_t second = Decide(limiter, "key", 1).ticket;
  CHECK(!Decide(limiter, "key", 1).ticket);
  CHECK(0 < configured && configured < first && first < second);
  CHECK(Durable(limiter) < configured);
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, configured, 0));
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, second, 0));
  CHECK_OK(Wait(limiter, 0, 0));
  CHECK_OK(Wait(limiter, first, FOREVER));
  CHECK(Durable(limiter) >= first);
  CHECK_OK(Wait(limiter, first, 0));
  CHECK_OK(flint_limiter_reset(limiter, "key", 3, 0, 0, &reset, NewError()));
  CHECK(reset > second && Durable(limiter) < reset);
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  CHECK(Durable(limiter) >= reset);
  CHECK_OK(flint_limiter_remove(limiter, "key", 3, 0, 0, &removed, NewError()));
  CHECK(removed > reset && Durable(limiter) < removed);
  CHECK_OK(Wait(limiter, removed, 10 * SECOND));
  CHECK_INVALID("was never given out", Wait(limiter, MOST, 0));
  CHECK_INVALID("ticket 18446744073709551615 was never", Wait(limiter, UINT64_MAX, FOREVER));
  Close(limiter);
}

static void SyncedBeforeAnswered(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  flint_limiter_config config = Config("key", 3, MINUTE);
  uint64_t ticket = 0;
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, &ticket, NewError()));
  CHECK(ticket > 0 && Durable(limiter) >= ticket);
  for (int i = 0; i < 3; ++i) {
    ticket = Decide(limiter, "key", 1).ticket;
    CHECK(ticket > 0 && Durable(limiter) >= ticket);
  }
  CHECK_OK(flint_limiter_reset(limiter, "key", 3, 0, 0, &ticket, NewError()));
  CHECK(Durable(limiter) >= ticket);
  SetSync(SYNC_HOLDS);
  /* These would wait for ever without NO_SYNC, and the last one is a denial. */
  ticket = CheckWith(limiter, "key", 3, FLINT_LIMITER_NO_SYNC).ticket;
  CHECK(ticket > 0 && Durable(limiter) < ticket);
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, ticket, 0));
  CHECK_OK(Configure(limiter, Config("other", 1, MINUTE)));
  CHECK_OK(Reset(limiter, "other", FLINT_LIMITER_KIND_EXACT, FLINT_LIMITER_NO_SYNC));
  CHECK_OK(Remove(limiter, "other", FLINT_LIMITER_KIND_EXACT, FLINT_LIMITER_NO_SYNC));
  CHECK(!Decide(limiter, "key", 1).allowed);
  CHECK(Durable(limiter) < ticket);
  SetSync(SYNC_WORKS);
  CHECK_OK(Wait(limiter, ticket, FOREVER));
  CHECK(Durable(limiter) >= ticket);
  Close(limiter);
}

/* A thread that makes one call, so that another can be made meanwhile. */
typedef struct Caller {
  pthread_t thread;
  flint_limiter* limiter;
  uint64_t ticket;
  int32_t (*call)(flint_limiter* limiter, flint_limiter_error* error); /* NULL: wait for ticket */
  int32_t code;
  flint_limiter_error error;
} Caller;

static void* RunCaller(void* argument) {
  Caller* caller = argument;
  ClearError(&caller->error);
  if (caller->call != NULL) {
    caller->code = caller->call(caller->limiter, &caller->error);
  } else {
    caller->code = flint_limiter_wait(caller->limiter, caller->ticket, FOREVER, &caller->error);
  }
  return NULL;
}

static void Start(Caller* caller) {
  CHECK(pthread_create(&caller->thread, NULL, RunCaller, caller) == 0);
}

static int32_t Join(Caller* caller) {
  CHECK(pthread_join(caller->thread, NULL) == 0);
  return caller->code;
}

static void WaitTimesOut(void) {
  const Path path = NewPath();
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  SetSync(SYNC_HOLDS);
  Caller first = {.limiter = limiter, .ticket = Decide(limiter, "key", 1).ticket};
  Start(&first);
  AwaitHeldSync();
  const uint64_t second = Decide(limiter, "key", 1).ticket;
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, first.ticket, 20 * MS));
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, second, 20 * MS));
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, second, 0));
  SetSync(SYNC_WORKS);
  CHECK_OK(Join(&first));
  CHECK_OK(Wait(limiter, second, 60 * SECOND));
  Close(limiter);
}

static int IsReadable(int32_t fd, int timeout_ms) {
  struct pollfd watched = {fd, POLLIN, 0};
  return poll(&watched, 1, timeout_ms) == 1 && (watched.revents & POLLIN) != 0;
}

static void Clear(int32_t fd) {
  uint64_t count = 0;
  CHECK(read(fd, &count, sizeof(count)) == sizeof(count) && !IsReadable(fd, 0));
}

static int IsOpen(int32_t fd) { return fcntl(fd, F_GETFD) >= 0; }

static void Watch(void) {
  const Path path = NewPath();
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  int32_t fds[2] = {-1, -1};
  CHECK_INVALID("fd is NULL", flint_limiter_watch(limiter, NULL, NewError()));
  CHECK_INVALID("fd -1 is not being watched", flint_limiter_unwatch(limiter, -1, NewError()));
  CHECK_INVALID("fd 0 is not being watched", flint_limiter_unwatch(limiter, 0, NewError()));
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  for (int i = 0; i < 2; ++i) CHECK_OK(flint_limiter_watch(limiter, &fds[i], NewError()));
  CHECK(fds[0] >= 0 && fds[1] >= 0 && fds[0] != fds[1]);
  const uint64_t ticket = Decide(limiter, "key", 1).ticket;
  CHECK(!IsReadable(fds[0], 0) && !IsReadable(fds[1], 0) && Durable(limiter) < ticket);
  CHECK_OK(Wait(limiter, ticket, FOREVER));
  for (int i = 0; i < 2; ++i) {
    CHECK(IsReadable(fds[i], 0));
    Clear(fds[i]);
  }
  CHECK_OK(flint_limiter_unwatch(limiter, fds[0], NewError()));
  CHECK(!IsOpen(fds[0]) && IsOpen(fds[1]));
  CHECK_INVALID("is not being watched", flint_limiter_unwatch(limiter, fds[0], NewError()));
  CHECK(Decide(limiter, "key", 1).allowed);
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  CHECK(IsReadable(fds[1], 0));
  Clear(fds[1]);
  CHECK_OK(flint_limiter_shutdown(limiter, NewError()));
  CHECK(IsReadable(fds[1], 0));
  Close(limiter);
  CHECK(!IsOpen(fds[1]));
  limiter = OpenMemory(NULL);
  CHECK_FAILS(UNSUPPORTED, "in memory", flint_limiter_watch(limiter, &fds[0], NewError()));
  Close(limiter);
}

/* Waiting for no time at all starts the sync, and the descriptor says when it is done. */
static void WatchInAlwaysMode(void) {
  const Path path = NewPath();
  flint_limiter_options options = Lazy();
  options.sync = FLINT_LIMITER_SYNC_ALWAYS;
  flint_limiter* limiter = OpenWith(&path, &options);
  int32_t fd = -1;
  uint64_t durable = 0;
  CHECK_OK(flint_limiter_watch(limiter, &fd, NewError()));
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  const uint64_t ticket = CheckWith(limiter, "key", 1, FLINT_LIMITER_NO_SYNC).ticket;
  const int32_t started = flint_limiter_wait(limiter, ticket, 0, NULL);
  CHECK(started == FLINT_LIMITER_TIMEOUT || started == FLINT_LIMITER_OK);
  while (durable < ticket && IsReadable(fd, PATIENCE_MS)) {
    Clear(fd);
    durable = Durable(limiter);
  }
  CHECK(durable >= ticket);
  SetSync(SYNC_FAILS);
  const uint64_t lost = CheckWith(limiter, "key", 1, FLINT_LIMITER_NO_SYNC).ticket;
  CHECK(lost > ticket);
  CHECK(flint_limiter_wait(limiter, lost, 0, NULL) != FLINT_LIMITER_OK);
  CHECK(IsReadable(fd, PATIENCE_MS));
  CHECK_FAILS(POISONED, path.text, Wait(limiter, Info(limiter).appended, 0));
  SetSync(SYNC_WORKS);
  CHECK_OK(flint_limiter_unwatch(limiter, fd, NewError()));
  CHECK_FAILS(POISONED, path.text, flint_limiter_close(&limiter, NewError()));
}

static void NoWaitForDisk(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  const uint32_t exact = FLINT_LIMITER_KIND_EXACT;
  const uint32_t flag = FLINT_LIMITER_NO_WAIT;
  const uint32_t both = FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC;
  flint_limiter_config config = Config("key", 1, MINUTE);
  flint_limiter_config prefix = Template("t", 1, MINUTE);
  flint_limiter_result result = NewResult();
  const flint_limiter_item item = Item("key", 1);
  uint64_t ticket = 7;
  CHECK_FAILS(WOULD_BLOCK, "", flint_limiter_limit(limiter, &config, flag, &ticket, NewError()));
  CHECK_FAILS(WOULD_BLOCK, "", flint_limiter_limit(limiter, &prefix, flag, &ticket, NewError()));
  CHECK(Info(limiter).limits == 0 && ticket == 7);
  CHECK_OK(flint_limiter_limit(limiter, &config, both, &ticket, NewError()));
  CHECK_OK(flint_limiter_limit(limiter, &prefix, both, &ticket, NewError()));
  const int32_t repeated = flint_limiter_limit(limiter, &config, flag, &ticket, NewError());
  CHECK(repeated == FLINT_LIMITER_WOULD_BLOCK || ticket == 0); /* what it repeats may be on disk */
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  CHECK_OK(flint_limiter_limit(limiter, &config, flag, &ticket, NewError())); /* nothing to write */
  CHECK(ticket == 0);
  CHECK_FAILS(WOULD_BLOCK, "", TryCheck(limiter, "key", 1, flag));
  CHECK_FAILS(WOULD_BLOCK, "",
              flint_limiter_check_all(limiter, &item, 1, sizeof(item), flag, &result,
                                      sizeof(result), &ticket, NewError()));
  CHECK_FAILS(WOULD_BLOCK, "", Reset(limiter, "key", exact, flag));
  CHECK_FAILS(WOULD_BLOCK, "", Remove(limiter, "key", exact, flag));
  CHECK_FAILS(WOULD_BLOCK, "", Reset(limiter, "t", FLINT_LIMITER_KIND_TEMPLATE, flag));
  CHECK_FAILS(WOULD_BLOCK, "", Remove(limiter, "t", FLINT_LIMITER_KIND_TEMPLATE, flag));
  CHECK(CountEvents(limiter) == 2 && Peek(limiter, "key", 1).allowed);
  CHECK_OK(flint_limiter_peek(limiter, "key", 3, 1, flag, NULL, &result, NewError()));
  CHECK(CheckWith(limiter, "key", 1, both).allowed);
  CHECK(!CheckWith(limiter, "key", 1, flag).allowed); /* a denial waits for nothing */
  CHECK_OK(Reset(limiter, "key", exact, both));
  CHECK_OK(Remove(limiter, "key", exact, both));
  CHECK_FAILS(NOT_CONFIGURED, "", Remove(limiter, "key", exact, flag));
  Close(limiter);
}

static void NoWaitForLock(void) {
  Clock clock;
  flint_limiter* limiter = OpenMemory(&clock);
  const flint_limiter_item item = Item("key", 1);
  flint_limiter_config config = Config("key", 2, MINUTE);
  flint_limiter_config prefix = Template("t", 2, MINUTE);
  flint_limiter_result result = NewResult();
  uint64_t denied = 0;
  CHECK_OK(Configure(limiter, Config("key", 1, MINUTE)));
  CHECK_OK(Configure(limiter, Template("u", 1, MINUTE)));
  Hold(&clock, 1);
  Caller holder = {.limiter = limiter,
                   .call = CallCheck}; /* the clock is read under the key's lock */
  Start(&holder);
  AwaitHeldReader(&clock);
  const uint32_t flag = FLINT_LIMITER_NO_WAIT;
  CHECK_FAILS(WOULD_BLOCK, "", TryCheck(limiter, "key", 1, flag));
  CHECK_FAILS(WOULD_BLOCK, "",
              flint_limiter_peek(limiter, "key", 3, 1, flag, NULL, &result, NewError()));
  CHECK_FAILS(WOULD_BLOCK, "",
              flint_limiter_check_all(limiter, &item, 1, sizeof(item), flag, &result,
                                      sizeof(result), &denied, NewError()));
  CHECK_FAILS(WOULD_BLOCK, "", flint_limiter_limit(limiter, &config, flag, NULL, NewError()));
  CHECK_FAILS(WOULD_BLOCK, "", flint_limiter_limit(limiter, &prefix, flag, NULL, NewError()));
  CHECK_FAILS(WOULD_BLOCK, "", Reset(limiter, "key", FLINT_LIMITER_KIND_EXACT, flag));
  CHECK_FAILS(WOULD_BLOCK, "", Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, flag));
  CHECK_FAILS(WOULD_BLOCK, "", Reset(limiter, "u", FLINT_LIMITER_KIND_TEMPLATE, flag));
  CHECK_FAILS(WOULD_BLOCK, "", Remove(limiter, "u", FLINT_LIMITER_KIND_TEMPLATE, flag));
  Hold(&clock, 0);
  CHECK_OK(Join(&holder));
  CHECK(IsFilled(&result.allowed, sizeof(result) - 4));
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 1 &&
        Info(limiter).limits == 2);
  Close(limiter);
}

static void NoWaitForRoom(void) {
  const Path path = NewPath();
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  int32_t code = FLINT_LIMITER_OK;
  uint64_t allowed = 0;
  uint64_t blocked = 0; /* in a row: another thread may be in the way for a moment */
  CHECK_OK(Configure(limiter, Config("key", MOST, 1)));
  SetSync(SYNC_HOLDS);
  while (blocked < 20000 && allowed < 100000) {
    code = TryCheck(limiter, "key", 1, FLINT_LIMITER_NO_WAIT);
    if (code != FLINT_LIMITER_OK && code != FLINT_LIMITER_WOULD_BLOCK) break;
    allowed += code == FLINT_LIMITER_OK;
    blocked = code == FLINT_LIMITER_OK ? 0 : blocked + 1;
  }
  CHECK_CODE(WOULD_BLOCK, code);
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == allowed &&
        allowed > 1000);
  SetSync(SYNC_WORKS);
  CHECK_OK(TryCheck(limiter, "key", 1, 0));
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == allowed + 1);
  Close(limiter);
}

static void Poisoned(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  flint_limiter_result result = NewResult();
  flint_limiter_status_info entry;
  const flint_limiter_config config = Config("new", 5, MINUTE);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  const uint64_t ticket = Decide(limiter, "key", 1).ticket;
  SetSync(SYNC_FAILS);
  CHECK_FAILS(POISONED, "Input/output error",
              flint_limiter_check(limiter, "key", 3, 1, 0, NULL, &result, NewError()));
  CHECK(IsFilled(&result.allowed, sizeof(result) - 4) && last_error.system_errno == EIO);
  SetSync(SYNC_WORKS); /* what has failed once is not tried again */
  CHECK_FAILS(POISONED, path.text, TryCheck(limiter, "key", 1, 0));
  CHECK_FAILS(POISONED, path.text, TryCheck(limiter, "key", 1, FLINT_LIMITER_NO_SYNC));
  CHECK_FAILS(POISONED, path.text, flint_limiter_limit(limiter, &config, 0, NULL, NewError()));
  CHECK_FAILS(POISONED, path.text, Reset(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
  CHECK_FAILS(POISONED, path.text, Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
  CHECK_FAILS(POISONED, path.text, flint_limiter_flush(limiter, NewError()));
  CHECK_FAILS(POISONED, path.text, Compact(limiter, NewError()));
  CHECK_FAILS(POISONED, path.text, Wait(limiter, Info(limiter).appended, FOREVER));
  CHECK_OK(Wait(limiter, ticket, FOREVER));
  CHECK(Peek(limiter, "key", 1).allowed && List(limiter, NULL, 0, &entry, 1) == 1);
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed >= 1);
  CHECK(Durable(limiter) >= ticket);
  CHECK_FAILS(POISONED, path.text, flint_limiter_shutdown(limiter, NewError()));
  CHECK_OK(flint_limiter_close(&limiter, NewError()));
  limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  const uint64_t allowed = Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed;
  CHECK(allowed == 1 || allowed == 2);
  CHECK(Decide(limiter, "key", 1).allowed);
  SetSync(SYNC_FAILS);
  CHECK_CODE(POISONED, TryCheck(limiter, "key", 1, 0));
  SetSync(SYNC_WORKS);
  CHECK_FAILS(POISONED, path.text, flint_limiter_close(&limiter, NewError()));
  CHECK(limiter == NULL);
}

static void DiskFull(void) {
  const Path path = NewPath();
  flint_limiter_options options = Lazy();
  options.segment_bytes = 1 << 18;
  flint_limiter* limiter = NULL;
  SetFault(&faults.disk_full, 1);
  CHECK_FAILS(DISK_FULL, path.text, TryOpen(path.text, &options, &limiter));
  CHECK(limiter == NULL && last_error.system_errno == ENOSPC);
  SetFault(&faults.disk_full, 0);
  limiter = OpenWith(&path, &options);
  CHECK_OK(Configure(limiter, Config("key", MOST, 1)));
  CHECK_OK(Configure(limiter, Config("denied", 1, YEAR)));
  CHECK(Decide(limiter, "denied", 1).allowed);
  SetFault(&faults.disk_full, 1);
  int32_t code = FLINT_LIMITER_OK;
  uint64_t allowed = 0;
  while (code == FLINT_LIMITER_OK && allowed < 100000) {
    code = TryCheck(limiter, "key", 1, 0);
    allowed += code == FLINT_LIMITER_OK;
  }
  CHECK_CODE(DISK_FULL, code);
  CHECK(strstr(last_error.message, path.text) != NULL);
  CHECK_FAILS(DISK_FULL, path.text, TryCheck(limiter, "key", 1, 0));
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == allowed &&
        allowed > 1000);
  CHECK(!Decide(limiter, "denied", 1).allowed); /* still answered */
  SetFault(&faults.disk_full, 0);
  for (int ms = 0; ms < PATIENCE_MS && code == FLINT_LIMITER_DISK_FULL; ms += 10) {
    SleepMs(10);
    code = TryCheck(limiter, "key", 1, 0);
  }
  CHECK_OK(code);
  Close(limiter);
  limiter = OpenWith(&path, &options);
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == allowed + 1);
  CHECK(Status(limiter, "denied", FLINT_LIMITER_KIND_EXACT).total_denied == 1);
  Close(limiter);
}

/* ---- Opening --------------------------------------------------------------------------------- */

static void Memory(void) {
  Clock clock;
  flint_limiter* limiter = OpenMemory(&clock);
  flint_limiter* other = OpenMemory(&clock);
  uint64_t ticket = 7;
  const flint_limiter_config config = Config("key", 5, MINUTE);
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, &ticket, NewError()));
  CHECK(ticket == 0 && Decide(limiter, "key", 1).ticket == 0 && Durable(limiter) == 0);
  CHECK_FAILS(NOT_CONFIGURED, "key", TryCheck(other, "key", 1, 0));
  CHECK_OK(Wait(limiter, 0, FOREVER));
  CHECK_INVALID("ticket 1 was never given out", Wait(limiter, 1, 0));
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  CHECK_OK(Compact(limiter, NewError()));
  const flint_limiter_info info = Info(limiter);
  CHECK(info.limits == 1 && info.segments == 0 && info.log_bytes == 0 && info.appended == 0);
  CHECK(info.directory_mode == 0 && info.engine_time_ns == (int64_t)START_NS);
  Close(limiter);
  Close(other);
  CHECK(access(":memory:", F_OK) != 0);
}

static void OpenCreates(void) {
  const Path path = NewPath();
  const Path deep = In(&path, "a/b");
  struct stat info;
  flint_limiter* limiter = NULL;
  CHECK_OK(flint_limiter_open(deep.text, strlen(deep.text), NULL, &limiter, NewError()));
  CHECK(stat(path.text, &info) == 0 && (info.st_mode & 07777) == 0700);
  CHECK(stat(deep.text, &info) == 0 && (info.st_mode & 07777) == 0700);
  const Path log = In(&deep, "flint.aof");
  CHECK(stat(log.text, &info) == 0 && (info.st_mode & 07777) == 0600);
  Close(limiter);
  /* Not terminated, and longer than it says. */
  const Path exact = NewPath();
  char padded[sizeof(exact.text) + 8];
  snprintf(padded, sizeof(padded), "%sxyz", exact.text);
  CHECK_OK(flint_limiter_open(padded, strlen(exact.text), NULL, &limiter, NULL));
  CHECK(access(exact.text, F_OK) == 0 && access(padded, F_OK) != 0);
  Close(limiter);
}

static void OpenRemembers(void) {
  for (uint32_t sync = 0; sync <= FLINT_LIMITER_SYNC_BATCH; ++sync) {
    const Path path = NewPath();
    flint_limiter* limiter = Open(&path, sync);
    const flint_limiter_config inline_config = Config(NULL, 5, YEAR);
    flint_limiter_result result = NewResult();
    CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
    CHECK_OK(Configure(limiter, Template("t", 5, YEAR)));
    CHECK(Decide(limiter, "key", 2).allowed && Decide(limiter, "tx", 3).allowed);
    CHECK(!Decide(limiter, "key", 4).allowed);
    CHECK_OK(flint_limiter_check(limiter, "inline", 6, 4, 0, &inline_config, &result, NewError()));
    Close(limiter);
    limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH - sync);
    CHECK(Peek(limiter, "key", 1).remaining == 3 && Peek(limiter, "tx", 1).remaining == 2);
    CHECK(Peek(limiter, "inline", 1).remaining == 1);
    CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_denied_cost == 4);
    CHECK(Status(limiter, "t", FLINT_LIMITER_KIND_TEMPLATE).counters == 1);
    CHECK(Status(limiter, "inline", FLINT_LIMITER_KIND_EXACT).kind == FLINT_LIMITER_KIND_INLINE);
    Close(limiter);
  }
}

static void OpenRefuses(void) {
  flint_limiter* limiter = NULL;
  const Path directory = NewPath();
  CHECK_INVALID("path is empty", flint_limiter_open("", 0, NULL, &limiter, NewError()));
  CHECK_INVALID("path is empty", flint_limiter_open(NULL, 0, NULL, &limiter, NewError()));
  CHECK_INVALID("path has a zero byte", flint_limiter_open("a\0b", 3, NULL, &limiter, NewError()));
  CHECK(mkdir(directory.text, 0700) == 0);
  const Path file = In(&directory, "file");
  const Path below = In(&file, "below");
  WriteFile(&file, "");
  CHECK_INVALID(file.text, TryOpen(file.text, NULL, &limiter));
  CHECK_INVALID(file.text, TryOpen(below.text, NULL, &limiter));
  CHECK_FAILS(IO, "/proc/", TryOpen("/proc/flint-contract-test", NULL, &limiter));
  CHECK(limiter == NULL && last_error.system_errno == ENOENT);
  SetFault(&faults.cannot_lock, 1);
  CHECK_FAILS(UNSUPPORTED, directory.text, TryOpen(directory.text, NULL, &limiter));
  CHECK(limiter == NULL && last_error.system_errno == ENOLCK);
  SetFault(&faults.cannot_lock, 0);
  char longest[300];
  memset(longest, 'x', sizeof(longest));
  longest[0] = '/';
  CHECK_FAILS(IO, "File name too long",
              flint_limiter_open(longest, sizeof(longest), NULL, &limiter, NewError()));
  CHECK(limiter == NULL && last_error.system_errno == ENAMETOOLONG);
}

static void OpenLocked(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  flint_limiter* second = limiter;
  CHECK_FAILS(LOCKED, "already locked", TryOpen(path.text, NULL, &second));
  CHECK(second == NULL && strstr(last_error.message, path.text) != NULL);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  CHECK_OK(flint_limiter_shutdown(limiter, NewError()));
  second = Open(&path, FLINT_LIMITER_SYNC_BATCH); /* shutting down has unlocked it */
  CHECK(Decide(second, "key", 1).allowed);
  Close(limiter);
  CHECK(Decide(second, "key", 1).allowed);
  limiter = NULL;
  CHECK_FAILS(LOCKED, "already locked", TryOpen(path.text, NULL, &limiter));
  Close(second);
  limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  Close(limiter);
}

/* Runs `body` in a forked child and checks that it succeeds there. */
static void RunInChild(void (*body)(void* argument), void* argument) {
  int status = 0;
  fflush(NULL);
  const int before = Failures();
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    body(argument);
    fflush(NULL);
    _exit(Failures() == before ? 0 : 1);
  }
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void OpenWithoutPermission(void* argument) {
  const Path* directory = argument;
  const Path below = In(directory, "below");
  flint_limiter* limiter = NULL;
  if (geteuid() == 0) CHECK(seteuid(65534) == 0); /* to the superuser everything is permitted */
  CHECK_FAILS(PERMISSION, below.text, TryOpen(below.text, NULL, &limiter));
  CHECK(limiter == NULL && last_error.system_errno == EACCES);
  CHECK_FAILS(PERMISSION, directory->text, TryOpen(directory->text, NULL, &limiter));
  CHECK(limiter == NULL && last_error.system_errno == EACCES);
}

static void OpenNotPermitted(void) {
  Path directory = NewPath();
  CHECK(chmod(root, 0755) == 0);
  CHECK(mkdir(directory.text, 0700) == 0 && chmod(directory.text, 0555) == 0);
  RunInChild(OpenWithoutPermission, &directory);
  CHECK(chmod(directory.text, 0700) == 0 && chmod(root, 0700) == 0);
}

/* Changes one bit; a second time, back again. */
static void FlipBit(const Path* file, off_t offset) {
  char byte = 0;
  const int fd = open(file->text, O_RDWR);
  CHECK(fd >= 0 && pread(fd, &byte, 1, offset) == 1);
  byte = (char)(byte ^ 0x10);
  CHECK(pwrite(fd, &byte, 1, offset) == 1 && close(fd) == 0);
}

static void OpenDamaged(void) {
  const Path path = NewPath();
  const Path log = In(&path, "flint.aof");
  const uint64_t damaged = 4096 + 1000; /* behind the header, amid the records */
  const uint64_t checks = 10000;        /* so many that the ring has the first ones no more */
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  CHECK_OK(Configure(limiter, Config("key", MOST, 1)));
  for (uint64_t i = 0; i < checks; ++i) CHECK_OK(TryCheck(limiter, "key", 1, 0));
  Close(limiter);
  FlipBit(&log, (off_t)damaged);
  CHECK_FAILS(CORRUPTION, "damaged", TryOpen(path.text, NULL, &limiter));
  CHECK(limiter == NULL && strcmp(last_error.segment, "flint.aof") == 0);
  CHECK(last_error.offset > damaged - 100 && last_error.offset <= damaged);
  CHECK(last_error.sequence > 1 && last_error.sequence < 100);
  FlipBit(&log, (off_t)damaged); /* the failed attempt has changed nothing */
  limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == checks);
  Close(limiter);
}

/* ---- The end of a limiter -------------------------------------------------------------------- */

static void CloseTwice(void) {
  const Path path = NewPath();
  flint_limiter* limiter = NULL;
  ClearError(&last_error);
  CHECK_OK(flint_limiter_close(NULL, NULL));
  CHECK_OK(flint_limiter_close(NULL, &last_error));
  CHECK_OK(flint_limiter_close(&limiter, &last_error));
  limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(flint_limiter_close(&limiter, NULL));
  CHECK(limiter == NULL);
  CHECK_OK(flint_limiter_close(&limiter, NULL));
  limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(flint_limiter_shutdown(limiter, NULL));
  CHECK_OK(flint_limiter_shutdown(limiter, NULL));
  CHECK_OK(flint_limiter_close(&limiter, NULL));
  CHECK(limiter == NULL);
}

static void CallsAfterShutdown(void) {
  const Path path = NewPath();
  flint_limiter* limiters[2] = {Open(&path, FLINT_LIMITER_SYNC_ALWAYS), OpenMemory(NULL)};
  for (int i = 0; i < 2; ++i) {
    CHECK_OK(Configure(limiters[i], Config("key", 5, MINUTE)));
    CHECK_OK(flint_limiter_shutdown(limiters[i], NewError()));
    CallEveryFunction(limiters[i], FLINT_LIMITER_CLOSED, "closed", __LINE__);
    Close(limiters[i]);
  }
}

static void ShutdownEndsWaiting(void) {
  const Path path = NewPath();
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  uint64_t ticket = 0;
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  SetSync(SYNC_HOLDS);
  Caller waiting[2] = {{.limiter = limiter, .ticket = Decide(limiter, "key", 1).ticket},
                       {.limiter = limiter}};
  waiting[1].ticket = Decide(limiter, "key", 1).ticket;
  Start(&waiting[0]);
  AwaitHeldSync();
  Start(&waiting[1]);
  Caller stopping = {.limiter = limiter, .call = flint_limiter_shutdown};
  Start(&stopping);
  int32_t code = FLINT_LIMITER_OK;
  for (int ms = 0; ms < PATIENCE_MS && code == FLINT_LIMITER_OK; ++ms) {
    SleepMs(1);
    code = flint_limiter_durable(limiter, &ticket, NewError());
  }
  CHECK_CODE(CLOSED, code);
  CHECK_FAILS(CLOSED, "closed", TryCheck(limiter, "key", 1, 0));
  SetSync(SYNC_WORKS);
  for (int i = 0; i < 2; ++i) {
    const int32_t ended = Join(&waiting[i]);
    CHECK(ended == FLINT_LIMITER_OK || ended == FLINT_LIMITER_CLOSED);
  }
  CHECK_OK(Join(&stopping));
  Close(limiter);
  limiter = OpenWith(&path, &options); /* what was answered is on disk */
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 2);
  Close(limiter);
}

static void ShutdownEndsWaitingForRoom(void) {
  const Path path = NewPath();
  flint_limiter_options options = Lazy();
  options.segment_bytes = 1 << 18;
  flint_limiter* limiter = OpenWith(&path, &options);
  int32_t code = FLINT_LIMITER_OK;
  CHECK_OK(Configure(limiter, Config("key", MOST, 1)));
  SetSync(SYNC_HOLDS);
  for (int i = 0; i < 100000 && code == FLINT_LIMITER_OK; ++i) {
    code = TryCheck(limiter, "key", 1, FLINT_LIMITER_NO_WAIT);
  }
  CHECK_CODE(WOULD_BLOCK, code);
  Caller waiting = {.limiter = limiter, .call = CallCheck};
  Start(&waiting);
  Caller stopping = {.limiter = limiter, .call = flint_limiter_shutdown};
  Start(&stopping);
  SleepMs(20);
  SetSync(SYNC_WORKS);
  code = Join(&waiting);
  CHECK(code == FLINT_LIMITER_OK || code == FLINT_LIMITER_CLOSED);
  CHECK_OK(Join(&stopping));
  Close(limiter);
}

static void* CheckUntilClosed(void* argument) {
  int32_t code = FLINT_LIMITER_OK;
  while (code == FLINT_LIMITER_OK) code = CallCheck(argument, NULL);
  CHECK_CODE(CLOSED, code);
  return NULL;
}

static void ShutdownWhileOthersCheck(void) {
  for (uint32_t sync = 0; sync <= FLINT_LIMITER_SYNC_BATCH; ++sync) {
    const Path path = NewPath();
    flint_limiter* limiter = Open(&path, sync);
    pthread_t threads[3];
    CHECK_OK(Configure(limiter, Config("key", MOST, 1)));
    for (int i = 0; i < 3; ++i)
      CHECK(pthread_create(&threads[i], NULL, CheckUntilClosed, limiter) == 0);
    SleepMs(20);
    CHECK_OK(flint_limiter_shutdown(limiter, NewError()));
    for (int i = 0; i < 3; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
    Close(limiter);
  }
}

/* ---- Fork ------------------------------------------------------------------------------------ */

typedef struct Family {
  Path path;
  flint_limiter* limiters[2]; /* of `path`, and in memory */
} Family;

static void UseInChild(void* argument) {
  Family* family = argument;
  flint_limiter* limiter = family->limiters[0];
  for (int i = 0; i < 2; ++i) {
    CallEveryFunction(family->limiters[i], FLINT_LIMITER_FORKED, "parent", __LINE__);
    CHECK_FAILS(FORKED, "parent", flint_limiter_shutdown(family->limiters[i], NewError()));
    CHECK_FAILS(FORKED, "parent", flint_limiter_close(&family->limiters[i], NewError()));
    CHECK(family->limiters[i] == NULL);
    CHECK_OK(flint_limiter_close(&family->limiters[i], NewError()));
  }
  CHECK_FAILS(LOCKED, "already locked", TryOpen(family->path.text, NULL, &limiter));
  limiter = OpenMemory(NULL); /* one of its own works */
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  CHECK(Decide(limiter, "key", 1).allowed);
  Close(limiter);
}

static void OpenInChild(void* argument) {
  const Family* family = argument;
  flint_limiter* limiter = NULL;
  CHECK_FAILS(LOCKED, "already locked", TryOpen(family->path.text, NULL, &limiter));
}

static void Fork(void) {
  for (uint32_t sync = 0; sync <= FLINT_LIMITER_SYNC_BATCH; ++sync) {
    Family family = {NewPath(), {NULL, OpenMemory(NULL)}};
    flint_limiter* second = NULL;
    family.limiters[0] = Open(&family.path, sync);
    for (int i = 0; i < 2; ++i) {
      CHECK_OK(Configure(family.limiters[i], Config("key", 5, YEAR)));
      CHECK(Decide(family.limiters[i], "key", 1).remaining == 4);
    }
    RunInChild(UseInChild, &family);
    RunInChild(OpenInChild, &family);
    CHECK_FAILS(LOCKED, "already locked", TryOpen(family.path.text, NULL, &second));
    for (int i = 0; i < 2; ++i) {
      CHECK(Decide(family.limiters[i], "key", 1).remaining == 3);
      CHECK_OK(flint_limiter_flush(family.limiters[i], NewError()));
      Close(family.limiters[i]);
    }
    second = Open(&family.path, sync);
    CHECK(Peek(second, "key", 1).remaining == 3);
    Close(second);
  }
}

/* ---- Reading only, and the doctor -------------------------------------------------------------
 */

static int32_t OpenReadOnly(const Path* path, flint_limiter** limiter) {
  return flint_limiter_open_readonly(path->text, strlen(path->text), NULL, limiter, NewError());
}

static flint_limiter_doctor_report NewReport(void) {
  flint_limiter_doctor_report report;
  memset(&report, FILLER, sizeof(report));
  report.struct_size = sizeof(report);
  return report;
}

static int32_t Examine(const Path* path, flint_limiter_doctor_report* report) {
  *report = NewReport();
  return flint_limiter_doctor(path->text, strlen(path->text), report, NewError());
}

static void ReadOnly(void) {
  const Path path = NewPath();
  const Path ring = In(&path, "flint.ring");
  struct stat before;
  struct stat after;
  flint_limiter* reader = NULL;
  CHECK_FAILS(IO, path.text,
              OpenReadOnly(&path, &reader)); /* there is no directory, and stays none */
  CHECK(reader == NULL && access(path.text, F_OK) != 0);
  flint_limiter* writer = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(Configure(writer, Config("key", 5, YEAR)));
  CHECK(Decide(writer, "key", 2).remaining == 3);
  CHECK_OK(OpenReadOnly(&path, &reader));
  CHECK(Peek(reader, "key", 1).remaining == 3 && Info(reader).read_only == 1);
  CHECK(Info(writer).read_only == 0);
  CHECK(stat(ring.text, &before) == 0);
  static const char* const reading[] = {"peek",    "status",   "list",   "top",
                                        "history", "get_info", "refresh"};
  for (size_t i = 0; i < sizeof(every_function) / sizeof(*every_function); ++i) {
    int32_t expected = FLINT_LIMITER_READ_ONLY;
    for (size_t j = 0; j < sizeof(reading) / sizeof(*reading); ++j) {
      if (strcmp(every_function[i].name, reading[j]) == 0) expected = FLINT_LIMITER_OK;
    }
    CheckCode(expected, every_function[i].call(reader, NewError()), every_function[i].name,
              __LINE__);
  }
  CHECK_FAILS(READ_ONLY, "read", TryCheck(reader, "key", 1, FLINT_LIMITER_NO_WAIT));
  CHECK(stat(ring.text, &after) == 0 && before.st_mtime == after.st_mtime);
  CHECK(Decide(writer, "key", 1).remaining == 2);
  CHECK(Peek(reader, "key", 1).remaining == 3); /* until it is refreshed */
  CHECK_OK(flint_limiter_refresh(reader, NewError()));
  CHECK(Peek(reader, "key", 1).remaining == 2);
  CHECK_INVALID("opened for reading", flint_limiter_refresh(writer, NewError()));
  Close(writer);
  CHECK_OK(flint_limiter_refresh(reader, NewError()));
  CHECK_OK(flint_limiter_shutdown(reader, NewError()));
  CHECK_CODE(CLOSED, flint_limiter_refresh(reader, NewError()));
  Close(reader);
}

static void ReadOnlyArguments(void) {
  const Path path = NewPath();
  const Path file = NewPath();
  flint_limiter* limiter = NULL;
  flint_limiter_options options = Options(2);
  WriteFile(&file, "no directory");
  CHECK_INVALID("limiter is NULL",
                flint_limiter_open_readonly(path.text, 3, NULL, NULL, NewError()));
  CHECK_INVALID("path is NULL", flint_limiter_open_readonly(NULL, 3, NULL, &limiter, NewError()));
  CHECK_INVALID("path is empty", flint_limiter_open_readonly("", 0, NULL, &limiter, NewError()));
  CHECK_INVALID("zero byte", flint_limiter_open_readonly("a\0b", 3, NULL, &limiter, NewError()));
  CHECK_INVALID("options.sync is 2", flint_limiter_open_readonly(path.text, strlen(path.text),
                                                                 &options, &limiter, NewError()));
  CHECK_FAILS(UNSUPPORTED, "in memory", OpenReadOnly(&memory, &limiter));
  CHECK(OpenReadOnly(&file, &limiter) != FLINT_LIMITER_OK && limiter == NULL);
  CHECK(mkdir(path.text, 0700) == 0);
  CHECK_OK(OpenReadOnly(&path, &limiter)); /* empty: a writer may come */
  flint_limiter* writer = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK_OK(Configure(writer, Config("key", 5, YEAR)));
  CHECK_OK(flint_limiter_refresh(limiter, NewError()));
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).rate == 5);
  Close(limiter);
  Close(writer);
}

static void DoctorReports(void) {
  const Path path = NewPath();
  flint_limiter_doctor_report report = NewReport();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
  for (int i = 0; i < 2; ++i) CHECK(Decide(limiter, "key", 1).allowed);
  CHECK_OK(Examine(&path, &report)); /* while it is in use */
  CHECK(report.limits == 1 && report.snapshot_exists == 0);
  CHECK_OK(flint_limiter_compact(limiter, 0, NewError()));
  CHECK(Decide(limiter, "key", 1).allowed);
  Close(limiter);
  CHECK_OK(Examine(&path, &report));
  CHECK(report.snapshot_exists == 1 && report.snapshot_bytes > 0);
  CHECK(report.limits == 1 && report.counters == 0 && report.history_events == 4);
  CHECK(report.segments == 1 && report.history_segments >= 1 && report.seals > 0);
  CHECK(report.torn_bytes == 0 && report.ring_records == 0 && report.directory_mode == 0700);
  CHECK(report.struct_size == sizeof(report));
  const Path log = In(&path, "flint.aof");
  FILE* file = fopen(log.text, "r+");
  CHECK(file != NULL && fseek(file, 4200, SEEK_SET) == 0);
  if (file == NULL) return;
  CHECK(fputs("damage", file) >= 0 && fclose(file) == 0);
  CHECK_FAILS(CORRUPTION, "the log is damaged", Examine(&path, &report));
  CHECK(strcmp(last_error.segment, "flint.aof") == 0 && last_error.offset > 0);
  CHECK(report.limits == 1 && report.snapshot_exists == 1); /* as far as it came */
}

static void DoctorArguments(void) {
  const Path path = NewPath();
  flint_limiter_doctor_report report = NewReport();
  CHECK_INVALID("report is NULL", flint_limiter_doctor("a", 1, NULL, NewError()));
  CHECK_INVALID("path is NULL", flint_limiter_doctor(NULL, 1, &report, NewError()));
  CHECK_INVALID("path is empty", flint_limiter_doctor("", 0, &report, NewError()));
  CHECK_INVALID("zero byte", flint_limiter_doctor("a\0b", 3, &report, NewError()));
  CHECK_FAILS(UNSUPPORTED, "in memory", flint_limiter_doctor(":memory:", 8, &report, NewError()));
  CHECK(IsFilled(&report.snapshot_exists, sizeof(report) - 4));
  CHECK_FAILS(IO, path.text, Examine(&path, &report));
  CHECK(access(path.text, F_OK) != 0);
  report.struct_size = sizeof(report) - 8;
  CHECK_INVALID("report", flint_limiter_doctor("a", 1, &report, NewError()));
  report.struct_size = 0;
  CHECK_INVALID("report", flint_limiter_doctor("a", 1, &report, NewError()));
}

static void CompactFlags(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  const uint32_t bad[] = {FLINT_LIMITER_NO_SYNC, FLINT_LIMITER_DECISION_ONLY,
                          FLINT_LIMITER_IF_ABSENT, FLINT_LIMITER_ALL_COUNTERS, UINT32_MAX};
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); ++i) {
    CHECK_INVALID("flags is ", flint_limiter_compact(limiter, bad[i], NewError()));
  }
  CHECK(Info(limiter).compactions == 0);
  CHECK_OK(flint_limiter_compact(limiter, FLINT_LIMITER_NO_WAIT, NewError()));
  CHECK_OK(flint_limiter_compact(limiter, 0, NewError()));
  CHECK(Info(limiter).compactions >= 1);
  Close(limiter);
}

/* ---- What is scarce ---------------------------------------------------------------------------
 */

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

/* ---- Running --------------------------------------------------------------------------------- */

#define TEST(name) \
  { #name, name }
static const struct {
  const char* name;
  void (*run)(void);
} tests[] = {
    TEST(Version),
    TEST(CodeText),
    TEST(SuccessLeavesErrorAlone),
    TEST(NullLimiter),
    TEST(NullArguments),
    TEST(SmallStructs),
    TEST(GrownInputs),
    TEST(GrownOutputs),
    TEST(ErrorSizes),
    TEST(ErrorText),
    TEST(Strides),
    TEST(Flags),
    TEST(Kinds),
    TEST(OptionBounds),
    TEST(ConfigBounds),
    TEST(CostBounds),
    TEST(BadKeys),
    TEST(GoodKeys),
    TEST(ZeroByteInKey),
    TEST(ConfigureTwice),
    TEST(ReconfigureKeepsWhatWasUsed),
    TEST(IfAbsent),
    TEST(LimitMany),
    TEST(RemoveAndReset),
    TEST(Templates),
    TEST(InlineLimits),
    TEST(ExactTimes),
    TEST(SixAlgorithms),
    TEST(PeekChangesNothing),
    TEST(DecisionOnly),
    TEST(RefusingIsRecorded),
    TEST(CheckAllOrNone),
    TEST(CheckAllBounds),
    TEST(Threads),
    TEST(TotalsAndStamps),
    TEST(ListPages),
    TEST(ListCursors),
    TEST(TextBuffer),
    TEST(TopKeys),
    TEST(InfoOfDirectory),
    TEST(HistoryPages),
    TEST(HistoryFilters),
    TEST(HistoryArguments),
    TEST(Tickets),
    TEST(SyncedBeforeAnswered),
    TEST(WaitTimesOut),
    TEST(Watch),
    TEST(WatchInAlwaysMode),
    TEST(NoWaitForDisk),
    TEST(NoWaitForLock),
    TEST(NoWaitForRoom),
    TEST(Poisoned),
    TEST(DiskFull),
    TEST(Memory),
    TEST(OpenCreates),
    TEST(OpenRemembers),
    TEST(OpenRefuses),
    TEST(OpenLocked),
    TEST(OpenNotPermitted),
    TEST(OpenDamaged),
    TEST(CloseTwice),
    TEST(CallsAfterShutdown),
    TEST(ShutdownEndsWaiting),
    TEST(ShutdownEndsWaitingForRoom),
    TEST(ShutdownWhileOthersCheck),
    TEST(Fork),
    TEST(ReadOnly),
    TEST(ReadOnlyArguments),
    TEST(DoctorReports),
    TEST(DoctorArguments),
    TEST(CompactFlags),
    TEST(MaxKeys),
    TEST(OnError),
};

static int Delete(const char* path, const struct stat* info, int type, struct FTW* place) {
  (void)info;
  (void)type;
  (void)place;
  return remove(path);
}

static int IsWanted(const char* name, int count, char** wanted) {
  for (int i = 0; i < count; ++i) {
    if (strcmp(name, wanted[i]) == 0) return 1;
  }
  return count == 0;
}

int main(int argc, char** argv) {
  const char* parent = getenv("TMPDIR");
  snprintf(root, sizeof(root), "%.200s/flint-contract-XXXXXX", parent == NULL ? "/tmp" : parent);
  if (mkdtemp(root) == NULL) {
    perror(root);
    return 1;
  }
  int run = 0;
  for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); ++i) {
    if (!IsWanted(tests[i].name, argc - 1, argv + 1)) continue;
    const int before = Failures();
    printf("%-32s", tests[i].name);
    fflush(stdout);
    tests[i].run();
    ++run;
    puts(Failures() == before ? "ok" : "FAILED");
  }
  nftw(root, Delete, 16, FTW_DEPTH | FTW_PHYS);
  printf("%d tests, %d failures\n", run, Failures());
  return Failures() == 0 && run > 0 ? 0 : 1;
}
