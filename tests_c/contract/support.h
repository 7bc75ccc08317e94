/* support.h - what the contract tests share. They promise to be what a user's program is: C99 that
 * includes nothing of Flint but the public header and links nothing but the library. */
#ifndef FLINT_CONTRACT_SUPPORT_H
#define FLINT_CONTRACT_SUPPORT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "flint_limiter.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define YEAR (UINT64_C(365) * 86400 * SECOND)
#define MOST (UINT64_C(1) << 62)
#define START_NS (UINT64_C(1700000000) * SECOND)
#define FOREVER UINT64_MAX
#define PATIENCE_MS 20000 /* for what another thread must do; only a failure takes that long */
#define MORE 24           /* bytes that a later version may have added to a structure */
#define FIRST_SIZE(type, last) (offsetof(type, last) + sizeof(((type*)0)->last))
#define FILLER 0xA5 /* what structures hold that must be left alone */

/* ---- Tests ----------------------------------------------------------------------------------- */

typedef struct Test {
  const char* name; /* NULL: the end of the list */
  void (*run)(void);
} Test;

#define TEST(name) \
  { #name, name }

extern const Test arithmetic_tests[];
extern const Test library_tests[];
extern const Test arguments_tests[];
extern const Test bounds_tests[];
extern const Test limits_tests[];
extern const Test decisions_tests[];
extern const Test reading_tests[];
extern const Test durability_tests[];
extern const Test opening_tests[];
extern const Test read_only_tests[];
extern const Test sharing_tests[];
#ifdef FLINT_SERVER /* the program */
extern const Test connected_tests[];
extern const Test connected_tls_tests[];
#endif

/* ---- Checking -------------------------------------------------------------------------------- */

/* What calls on the main thread report into; see NewError. */
extern flint_limiter_error last_error;

#define TEXT_OF(value) #value
#define LINE_TEXT(line) TEXT_OF(line)
#define WHERE __FILE__ ":" LINE_TEXT(__LINE__)

void Fail(const char* where, const char* what, const char* details);
int Failures(void);
void ClearError(flint_limiter_error* error);
flint_limiter_error* NewError(void);
void CheckCode(int32_t expected, int32_t code, const char* call, const char* where);
/* The call has just reported into `last_error`, unless it was given no error. */
void CheckFailure(int32_t expected, const char* part, int32_t code, const char* call,
                  const char* where);
int IsFilled(const void* memory, size_t size);
void SleepMs(long ms);

#define CHECK(condition)                                   \
  do {                                                     \
    if (!(condition)) Fail(WHERE, #condition, "is false"); \
  } while (0)

#define CHECK_OK(call) CheckCode(FLINT_LIMITER_OK, call, #call, WHERE)
#define CHECK_CODE(expected, call) CheckCode(FLINT_LIMITER_##expected, call, #call, WHERE)
/* `call` ends in NewError(); the message must contain `part`. */
#define CHECK_FAILS(expected, part, call) \
  CheckFailure(FLINT_LIMITER_##expected, part, call, #call, WHERE)
#define CHECK_INVALID(part, call) CHECK_FAILS(INVALID_ARGUMENT, part, call)

/* ---- Faults ---------------------------------------------------------------------------------- */

/* The library's fdatasync, fallocate and flock come to this program, because a program's own
 * functions go before those of the C library. That is how a disk is slow, broken or full without a
 * stand-in for anything else. */

enum { SYNC_WORKS, SYNC_HOLDS, SYNC_FAILS };

void SetSync(int mode);
void AwaitHeldSync(void);
void SetDiskFull(int full);
void SetCannotLock(int fails);

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

void InitClock(Clock* clock);
int64_t ReadClock(void* argument);
void Advance(Clock* clock, int64_t ns);
void Hold(Clock* clock, int held);
void AwaitHeldReader(Clock* clock);

/* ---- Directories ----------------------------------------------------------------------------- */

extern char root[256]; /* everything that this program creates is in it */

typedef struct Path {
  char text[512];
} Path;

extern const Path in_memory;

/* A path in `root` at which nothing is yet. */
Path NewPath(void);
Path In(const Path* directory, const char* name);
void WriteFile(const Path* path, const char* text);

/* ---- Threads and children -------------------------------------------------------------------- */

/* A thread that makes one call, so that another can be made meanwhile. */
typedef struct Caller {
  pthread_t thread;
  flint_limiter* limiter;
  uint64_t ticket;
  int32_t (*call)(flint_limiter* limiter, flint_limiter_error* error); /* NULL: wait for ticket */
  int32_t code;
  flint_limiter_error error;
} Caller;

void Start(Caller* caller);
int32_t Join(Caller* caller);
/* Runs `body` in a forked child and checks that it succeeds there. */
void RunInChild(void (*body)(void* argument), void* argument);

/* ---- Calling --------------------------------------------------------------------------------- */

extern char page_text[FLINT_LIMITER_MIN_TEXT_BYTES + FLINT_LIMITER_MAX_NAME_BYTES];

flint_limiter_options Options(uint32_t sync);
/* Batch mode that syncs only when it is told to. */
flint_limiter_options Lazy(void);
int32_t TryOpen(const char* path, const flint_limiter_options* options, flint_limiter** limiter);
flint_limiter* OpenWith(const Path* path, const flint_limiter_options* options);
flint_limiter* Open(const Path* path, uint32_t sync);
/* `clock` may be NULL. */
flint_limiter* OpenMemory(Clock* clock);
void Close(flint_limiter* limiter);
flint_limiter_config Config(const char* key, uint64_t rate, uint64_t per_ns);
flint_limiter_config Template(const char* prefix, uint64_t rate, uint64_t per_ns);
int32_t Configure(flint_limiter* limiter, flint_limiter_config config);
flint_limiter_result NewResult(void);
int32_t TryCheck(flint_limiter* limiter, const char* key, uint64_t cost, uint32_t flags);
flint_limiter_result CheckWith(flint_limiter* limiter, const char* key, uint64_t cost,
                               uint32_t flags);
flint_limiter_result Decide(flint_limiter* limiter, const char* key, uint64_t cost);
flint_limiter_result Peek(flint_limiter* limiter, const char* key, uint64_t cost);
flint_limiter_status_info NewStatus(void);
int32_t TryStatus(flint_limiter* limiter, const char* key, uint32_t kind);
flint_limiter_status_info Status(flint_limiter* limiter, const char* key, uint32_t kind);
flint_limiter_info Info(flint_limiter* limiter);
uint64_t Durable(flint_limiter* limiter);
int32_t Wait(flint_limiter* limiter, uint64_t ticket, uint64_t timeout_ns);
int32_t Remove(flint_limiter* limiter, const char* key, uint32_t kind, uint32_t flags);
int32_t Reset(flint_limiter* limiter, const char* key, uint32_t kind, uint32_t flags);
void PrepareEntries(flint_limiter_status_info* entries, size_t capacity);
/* How many entries of `page` a call of list has filled; the cursor is the last entry before. */
uint64_t List(flint_limiter* limiter, const flint_limiter_status_info* after, uint32_t flags,
              flint_limiter_status_info* page, size_t capacity);
uint64_t Top(flint_limiter* limiter, uint32_t by, uint32_t flags,
             flint_limiter_status_info* entries, size_t capacity);
flint_limiter_history_query Query(uint32_t flags);
void PrepareEvents(flint_limiter_event* events, size_t capacity);
/* The next page of what `query` asks for; moves its cursor on. `key` may be NULL. */
uint64_t NextEvents(flint_limiter* limiter, const char* key, flint_limiter_history_query* query,
                    flint_limiter_event* events, size_t capacity);
/* How many events have been recorded; there must be few. */
uint64_t CountEvents(flint_limiter* limiter);
int HasKey(const flint_limiter_status_info* entry, const char* key);
flint_limiter_item Item(const char* key, uint64_t cost);
int32_t CheckAll(flint_limiter* limiter, const flint_limiter_item* items, uint64_t count,
                 flint_limiter_result* results, uint64_t* denied_index);

/* ---- Every function -------------------------------------------------------------------------- */

typedef struct Function {
  const char* name;
  int32_t (*call)(flint_limiter* limiter, flint_limiter_error* error);
} Function;

/* One valid call of each function that needs a limiter, for what all of them have in common. They
 * expect a limit for "key"; `error` may be NULL. */
extern const Function every_function[];
extern const size_t function_count;

int32_t CallCheck(flint_limiter* limiter, flint_limiter_error* error);
int32_t CallHistory(flint_limiter* limiter, flint_limiter_error* error);
int32_t Compact(flint_limiter* limiter, flint_limiter_error* error);
void CallEveryFunction(flint_limiter* limiter, int32_t expected, const char* part,
                       const char* where);

#endif /* FLINT_CONTRACT_SUPPORT_H */
