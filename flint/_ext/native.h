/* native.h - what the files of the extension share. The only header that includes Python.h.
 *
 * Python.h wants to come before the system's headers, so every file includes this one alone.
 *
 * flint._native is written against the limited API of CPython 3.11 (free-threaded builds, which
 * have none, compile it against their own). It has no mutable globals: what lives as long as the
 * module is in ModuleState, which every function reaches through the object it works on.
 */
#ifndef FLINT_EXT_NATIVE_H
#define FLINT_EXT_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <pyconfig.h>
#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <structmember.h> /* PyMemberDef's types; a part of Python */
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "flint_limiter.h"
#include "gil.h"

/* Functions shared between files stay inside the extension. */
#pragma GCC visibility push(hidden)

#define FLINT_MAX_QUANTITY (UINT64_C(1) << 62)
#define FLINT_ALGORITHMS 6

/* ---- Module state -------------------------------------------------------------------------- */

/* Parameter names and dictionary keys: interned once, so that most comparisons are of pointers. */
#define FLINT_NAMES(X)  \
  X(key)                \
  X(cost)               \
  X(rate)               \
  X(per)                \
  X(burst)              \
  X(algorithm)          \
  X(items)              \
  X(template)           \
  X(by)                 \
  X(limit)              \
  X(allowed)            \
  X(remaining)          \
  X(reset_at)           \
  X(denied_key)         \
  X(results)            \
  X(per_millis)         \
  X(per_ns)             \
  X(total_allowed)      \
  X(total_denied)       \
  X(total_allowed_cost) \
  X(total_denied_cost)  \
  X(last_allowed_at)    \
  X(last_denied_at)     \
  X(last_reset_at)      \
  X(wait)               \
  X(clock)              \
  X(name)               \
  X(stack)

enum {
#define FLINT_NAME(name) NAME_##name,
  FLINT_NAMES(FLINT_NAME)
#undef FLINT_NAME
      NAME_COUNT
};

/* Status code, class that set_errors is given (MemoryError and ValueError are Python's own). */
#define FLINT_ERROR_CLASSES(X)                        \
  X(FLINT_LIMITER_NOT_CONFIGURED, NotConfiguredError) \
  X(FLINT_LIMITER_LOCKED, LockedError)                \
  X(FLINT_LIMITER_PERMISSION, FlintPermissionError)   \
  X(FLINT_LIMITER_UNSUPPORTED, UnsupportedError)      \
  X(FLINT_LIMITER_IO, FlintOSError)                   \
  X(FLINT_LIMITER_DISK_FULL, DiskFullError)           \
  X(FLINT_LIMITER_CORRUPTION, CorruptionError)        \
  X(FLINT_LIMITER_CLOSED, ClosedError)                \
  X(FLINT_LIMITER_FORKED, ForkedError)                \
  X(FLINT_LIMITER_TIMEOUT, FlintConnectionError)      \
  X(FLINT_LIMITER_POISONED, PoisonedError)            \
  X(FLINT_LIMITER_INTERNAL, FlintError)               \
  X(FLINT_LIMITER_HISTORY_GONE, HistoryGoneError)     \
  X(FLINT_LIMITER_TABLE_FULL, TableFullError)         \
  X(FLINT_LIMITER_READ_ONLY, ReadOnlyError)

#define FLINT_ERROR_CODES (FLINT_LIMITER_READ_ONLY + 1)

typedef struct {
  PyTypeObject* limiter_type;
  PyTypeObject* result_type;
  PyTypeObject* clock_type;
  PyObject* names[NAME_COUNT];
  PyObject* algorithms[FLINT_ALGORITHMS + 1]; /* by the header's constants; [0] is NULL */
  PyObject* errors[FLINT_ERROR_CODES];        /* by status code; NULL where there is no class */
  PyObject* per_to_ns;                        /* what set_per_to_ns was given, or NULL */
  PyObject* read_limit;                       /* what set_read_limit was given, or NULL */
} ModuleState;

/* ---- Objects ------------------------------------------------------------------------------- */

enum { PHASE_CLOSED, PHASE_OPENING, PHASE_OPEN, PHASE_CLOSING };

/* The limits that checks of a key carried last, and before that. */
typedef struct {
  uint64_t rate;
  uint64_t per_ns;
  uint64_t burst;
  uint32_t algorithm;
} CarriedValues;
typedef struct {
  uint64_t hash; /* of the key */
  bool used;
  CarriedValues now;
  CarriedValues before;
} Carried;
#define FLINT_CARRIED 16

/* The base of flint.Limiter. `handle` may be used between limiter_enter and limiter_leave. */
typedef struct {
  PyObject_HEAD ModuleState* state; /* of `module`, which keeps it alive */
  PyObject* module;
  flint_limiter* handle;
  PyObject* data_dir; /* str; NULL before the first open */
  PyObject* clock;    /* a Clock that the engine reads, or NULL */
  uint32_t sync;
  pid_t owner;               /* the process that opened it */
  uint64_t durable_at_close; /* in PHASE_CLOSED: every ticket up to this one is on disk */
  atomic_int phase;
  atomic_long running;            /* calls that were entered and not left */
  atomic_flag noting;             /* somebody writes into `carried` */
  Carried carried[FLINT_CARRIED]; /* by the key's hash; the last of each place */
} LimiterObject;

/* One decision. */
typedef struct {
  PyObject_HEAD PyObject* key; /* exactly a str, so a result can be no part of a cycle */
  flint_limiter_result fields;
  PyObject* name;    /* exactly a str; NULL for a limit without a name */
  PyObject* results; /* a tuple of those of all limits, or NULL: of one that has no name */
} ResultObject;

/* A time that only the program moves. */
typedef struct {
  PyObject_HEAD _Atomic int64_t now_ns;
} ClockObject;

extern const char* const algorithm_names[]; /* the header's constants less 1; ends with NULL */
extern const char* const sync_names[];      /* by the header's constants; ends with NULL */

/* Types are made by these, one for each. */
extern PyType_Spec limiter_type_spec;
extern PyType_Spec result_type_spec;
extern PyType_Spec clock_type_spec;

/* ---- Calls on a limiter -------------------------------------------------------------------- */

/* Closing sets the phase first and frees the handle when `running` is 0; a call counts itself
 * first and looks at the phase then. So either the call sees that it is too late, or the closer
 * sees the call. */
static inline bool limiter_enter(LimiterObject* self) {
  atomic_fetch_add(&self->running, 1);
  if (atomic_load(&self->phase) == PHASE_OPEN) return true;
  atomic_fetch_sub(&self->running, 1);
  return false;
}

static inline void limiter_leave(LimiterObject* self) { atomic_fetch_sub(&self->running, 1); }

/* The same for a call that keeps Python's lock. The phase leaves OPEN only under that lock, so
 * where it exists nothing needs counting. */
static inline bool limiter_enter_held(LimiterObject* self) {
#ifdef Py_GIL_DISABLED
  return limiter_enter(self);
#else
  return atomic_load_explicit(&self->phase, memory_order_relaxed) == PHASE_OPEN;
#endif
}

static inline void limiter_leave_held(LimiterObject* self) {
#ifdef Py_GIL_DISABLED
  limiter_leave(self);
#else
  (void)self;
#endif
}

/* ---- errors.c ------------------------------------------------------------------------------ */

static inline void error_init(flint_limiter_error* error) {
  error->struct_size = sizeof *error;
  error->code = FLINT_LIMITER_OK;
}

/* Sets the Python exception for a status code; `key` names the limit and may be NULL. */
void error_raise(ModuleState* state, int32_t code, const flint_limiter_error* error, PyObject* key);
/* Sets `exception`: "<name> must be <allowed>, not <value>". */
void error_argument(PyObject* exception, const char* name, const char* allowed, PyObject* value);
/* Puts "<list>[<index>]: " before the message of a TypeError or ValueError that is set. */
void error_prefix(const char* list, Py_ssize_t index);

/* ---- args.c -------------------------------------------------------------------------------- */

#define MAX_PARAMETERS 7

/* The parameters of a function: `names` are NAME_... values. */
typedef struct {
  const char* function;
  uint8_t count;
  uint8_t positional; /* how many may be given by position */
  uint8_t required;   /* how many must be given */
  uint8_t names[MAX_PARAMETERS];
} Signature;

/* Sorts arguments into `values`, borrowed, NULL where nothing was given. */
bool args_parse(ModuleState* state, const Signature* signature, PyObject* const* args,
                Py_ssize_t given, PyObject* keywords, PyObject** values);
/* The UTF-8 of a str, which belongs to the str. */
bool args_text(const char* name, PyObject* value, const char** data, Py_ssize_t* size);
/* A new reference to what a dict has under `name`; NULL if nothing, or with an exception set. */
PyObject* args_item(PyObject* dict, PyObject* name);
/* An integer (never a bool) from `low` to `high`. */
bool args_quantity(const char* name, PyObject* value, uint64_t low, uint64_t high, uint64_t* out);
bool args_int64(const char* name, PyObject* value, int64_t low, int64_t high, int64_t* out);
bool args_bool(const char* name, PyObject* value, bool* out);
/* One of a list of words that ends with NULL, as its index. */
bool args_word(const char* name, PyObject* value, const char* const* words, uint32_t* out);
bool args_algorithm(ModuleState* state, PyObject* value, uint32_t* out);
/* A limit's name: a trailing `*` means a template unless `template` is False. */
bool args_target(PyObject* key, PyObject* template, const char** data, uint64_t* size,
                 uint32_t* kind);
/* A limit from key, template, rate, per_ns, burst, algorithm. */
/* The name of a limit: NULL when it is left out or None. */
bool args_name(PyObject* value, const char** name, uint64_t* size);
bool args_config(ModuleState* state, PyObject* const* values, flint_limiter_config* config);
/* The limit that a check carries: rate, per, burst, algorithm, each NULL or None if not given.
 * `*given` says whether there is one. */
bool args_inline(ModuleState* state, PyObject* const* values, flint_limiter_config* config,
                 bool* given);
/* The same from a tuple of rate, per_ns, burst (may be None) and algorithm. */
bool args_rate(ModuleState* state, PyObject* values, flint_limiter_config* config);
/* Calls the limiter's _values_differ where checks of a key carry two limits in turn. False with an
 * exception set. */
bool carried_note(LimiterObject* self, PyObject* key, const char* bytes, Py_ssize_t size,
                  const flint_limiter_config* config);

/* ---- options.c ----------------------------------------------------------------------------- */

/* Every option of a dict into `options`. `*clock` is a new reference or NULL, also on failure. */
bool options_read(ModuleState* state, PyObject* given, flint_limiter_options* options,
                  PyObject** clock);

/* ---- time.c -------------------------------------------------------------------------------- */

/* RFC 3339 in UTC with 0, 3, 6 or 9 decimals; `zone` is "+00:00" or "Z". A new reference. */
PyObject* time_text(int64_t at_ns, const char* zone);
/* The smallest float that is not less than `ns` nanoseconds. */
double time_seconds_up(uint64_t ns);

/* ---- result.c ------------------------------------------------------------------------------ */

/* A result for `key` whose fields are still to be filled. */
ResultObject* result_new(ModuleState* state, PyObject* key);
/* What each of several limits said, or the one that has a name. False with an exception set. */
bool result_set_limits(ModuleState* state, ResultObject* self,
                       const flint_limiter_limit_result* limits, uint64_t count);

/* ---- limits.c ------------------------------------------------------------------------------ */

/* The limit that status, remove or reset is about. */
typedef struct {
  PyObject* values[3]; /* key, template and name, of which the last two may be NULL */
  const char* key;
  uint64_t size;
  uint32_t kind;
  const char* name; /* NULL if none was asked for */
  uint64_t name_size;
} Target;

bool target_read(LimiterObject* self, const char* function, PyObject* const* args, Py_ssize_t given,
                 PyObject* keywords, Target* target);
/* For a template that is not there: if it was taken for one only because of its `*`, and there is a
 * limit of exactly that name (Flint 0.2 knew no templates), the target is that limit from now on.
 */
bool target_take_literally(LimiterObject* self, Target* target);

/* ---- history.c ----------------------------------------------------------------------------- */

/* What a page of history is asked for with; `key` NULL for all. */
typedef struct {
  const char* key;
  uint64_t key_bytes;
  flint_limiter_history_query query;
  uint64_t capacity;
} HistoryRequest;

typedef struct {
  flint_limiter_event* events;
  char* text; /* theirs */
  uint64_t count;
  uint64_t next_cursor;
} HistoryPage;

/* False with an exception set. The page is to be freed in either case. */
bool history_read(LimiterObject* self, const HistoryRequest* request, HistoryPage* page);
void history_free(HistoryPage* page);

/* ---- Methods of LimiterBase outside limiter.c: items.c, limits.c, replay.c, status.c ----------
 */

PyObject* limiter_allow_all(PyObject* op, PyObject* const* args, Py_ssize_t given, PyObject* kw);
PyObject* limiter_check_all(PyObject* op, PyObject* const* args, Py_ssize_t given, PyObject* kw);
PyObject* limiter_check_all_now(PyObject* op, PyObject* items);
PyObject* limiter_remove(PyObject* op, PyObject* const* args, Py_ssize_t given, PyObject* kw);
PyObject* limiter_reset(PyObject* op, PyObject* const* args, Py_ssize_t given, PyObject* kw);
PyObject* limiter_status(PyObject* op, PyObject* const* args, Py_ssize_t given, PyObject* kw);
PyObject* limiter_top(PyObject* op, PyObject* const* args, Py_ssize_t given, PyObject* kw);
PyObject* limiter_set_limit(PyObject* op, PyObject* const* args, Py_ssize_t given);
PyObject* limiter_set_limits(PyObject* op, PyObject* const* args, Py_ssize_t given);
PyObject* limiter_list(PyObject* op, PyObject* counters);
PyObject* limiter_history(PyObject* op, PyObject* const* args, Py_ssize_t given);
PyObject* limiter_decided(PyObject* op, PyObject* const* args, Py_ssize_t given);
PyObject* limiter_replay(PyObject* op, PyObject* const* args, Py_ssize_t given);
PyObject* limiter_info(PyObject* op, PyObject* ignored);

/* ---- limiter.c ----------------------------------------------------------------------------- */

/* When it returns nobody is closing the limiter. */
void limiter_wait_until_closed(LimiterObject* self);

/* ---- tickets.c ----------------------------------------------------------------------------- */

/* The ticket that stands between a decision and its answer; 0 when there is nothing to wait for. */
static inline uint64_t limiter_ticket(const LimiterObject* self, uint64_t ticket) {
  return self->sync == FLINT_LIMITER_SYNC_ALWAYS ? ticket : 0;
}

/* Whether a call of this thread that waits for the disk has to look for signals meanwhile. If so it
 * makes its change with NO_SYNC and calls limiter_wait_for_disk. */
bool limiter_waits_for_signals(const LimiterObject* self);
#define CODE_INTERRUPTED (-1) /* a signal's handler has set an exception; the change stands */
int32_t limiter_wait_for_disk(LimiterObject* self, uint64_t ticket, flint_limiter_error* error);

PyObject* limiter_durable(PyObject* op, PyObject* const* args, Py_ssize_t given);
PyObject* limiter_watch(PyObject* op, PyObject* ignored);
PyObject* limiter_unwatch(PyObject* op, PyObject* fd);

/* ---- doctor.c ------------------------------------------------------------------------------ */

PyObject* examine(PyObject* module, PyObject* path);

/* ---- arithmetic.c -------------------------------------------------------------------------- */

PyObject* describe(PyObject* module, PyObject* args);

/* ---- module.c ------------------------------------------------------------------------------ */

/* The module that made a type or one of its bases. Borrowed. */
PyObject* module_of_type(PyTypeObject* type);

/* ---- clock.c ------------------------------------------------------------------------------- */

/* The flint_limiter_clock of a ClockObject. */
int64_t clock_read(void* argument);

#pragma GCC visibility pop

#endif /* FLINT_EXT_NATIVE_H */
