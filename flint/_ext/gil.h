/* gil.h - what every call into flint_limiter.h does with Python's lock.
 *
 * The table is the only place where this is decided. The macros below refuse to compile a call that
 * is not listed, or that is made in another way than listed. tests_py/test_threads.py compares the
 * table with what is called, and runs a Python thread beside every call that releases the lock.
 *
 * HELD        answers at once: the lock stays held.
 * HELD_FIRST  is first made with FLINT_LIMITER_NO_WAIT and the lock held, since releasing and
 *             retaking it costs more than a decision and, beside a busy Python thread, up to a
 *             whole switch interval. Only when that answers WOULD_BLOCK is the lock released and
 *             the call made again without the flag.
 * RELEASED    may wait or run long.
 */
#ifndef FLINT_EXT_GIL_H
#define FLINT_EXT_GIL_H

#define FLINT_GIL_TABLE(X)                  \
  X(flint_limiter_version, HELD)            \
  X(flint_limiter_code_text, HELD)          \
  X(flint_limiter_durable, HELD)            \
  X(flint_limiter_describe, HELD)           \
  X(flint_limiter_check, HELD_FIRST)        \
  X(flint_limiter_check_limits, HELD_FIRST) \
  X(flint_limiter_check_all, HELD_FIRST)    \
  X(flint_limiter_open, RELEASED)           \
  X(flint_limiter_open_readonly, RELEASED)  \
  X(flint_limiter_refresh, RELEASED)        \
  X(flint_limiter_doctor, RELEASED)         \
  X(flint_limiter_shutdown, RELEASED)       \
  X(flint_limiter_close, RELEASED)          \
  X(flint_limiter_limit, RELEASED)          \
  X(flint_limiter_limit_many, RELEASED)     \
  X(flint_limiter_remove_named, RELEASED)   \
  X(flint_limiter_reset_named, RELEASED)    \
  X(flint_limiter_status_named, RELEASED)   \
  X(flint_limiter_list_page, RELEASED)      \
  X(flint_limiter_top, RELEASED)            \
  X(flint_limiter_get_info, RELEASED)       \
  X(flint_limiter_flush, RELEASED)          \
  X(flint_limiter_compact, RELEASED)        \
  X(flint_limiter_history, RELEASED)        \
  X(flint_limiter_wait, RELEASED)           \
  X(flint_limiter_watch, RELEASED)          \
  X(flint_limiter_unwatch, RELEASED)

enum { GIL_HELD, GIL_HELD_FIRST, GIL_RELEASED };

enum {
#define FLINT_GIL_ENTRY(function, use) GIL_OF_##function = GIL_##use,
  FLINT_GIL_TABLE(FLINT_GIL_ENTRY)
#undef FLINT_GIL_ENTRY
};

#define FLINT_GIL_CHECK(function, use) \
  _Static_assert((int)GIL_OF_##function == (int)GIL_##use, #function " is " #use)

/* code = function(...) with Python's lock released; for calls on no open limiter. */
#define CALL_RELEASED(code, function, ...)              \
  do {                                                  \
    FLINT_GIL_CHECK(function, RELEASED);                \
    PyThreadState* thread_state_ = PyEval_SaveThread(); \
    (code) = function(__VA_ARGS__);                     \
    PyEval_RestoreThread(thread_state_);                \
  } while (0)

#define LIMITER_CALL_UNLOCKED_(limiter, code, function, ...) \
  do {                                                       \
    if (!limiter_enter(limiter)) {                           \
      (code) = FLINT_LIMITER_CLOSED;                         \
    } else {                                                 \
      PyThreadState* thread_state_ = PyEval_SaveThread();    \
      (code) = function((limiter)->handle, __VA_ARGS__);     \
      limiter_leave(limiter);                                \
      PyEval_RestoreThread(thread_state_);                   \
    }                                                        \
  } while (0)

/* code = function(limiter's handle, ...) with Python's lock released. */
#define LIMITER_CALL_RELEASED(limiter, code, function, ...)           \
  do {                                                                \
    FLINT_GIL_CHECK(function, RELEASED);                              \
    LIMITER_CALL_UNLOCKED_((limiter), (code), function, __VA_ARGS__); \
  } while (0)

#define LIMITER_CALL_LOCKED_(limiter, code, function, ...) \
  do {                                                     \
    if (!limiter_enter_held(limiter)) {                    \
      (code) = FLINT_LIMITER_CLOSED;                       \
    } else {                                               \
      (code) = function((limiter)->handle, __VA_ARGS__);   \
      limiter_leave_held(limiter);                         \
    }                                                      \
  } while (0)

/* The same for HELD. */
#define LIMITER_CALL_HELD(limiter, code, function, ...)             \
  do {                                                              \
    FLINT_GIL_CHECK(function, HELD);                                \
    LIMITER_CALL_LOCKED_((limiter), (code), function, __VA_ARGS__); \
  } while (0)

/* The first call of HELD_FIRST alone, for event loops, which do not wait: WOULD_BLOCK is an answer.
 * `flags` is a variable that the arguments pass on. */
#define LIMITER_CALL_NO_WAIT(limiter, code, flags, function, ...)   \
  do {                                                              \
    FLINT_GIL_CHECK(function, HELD_FIRST);                          \
    (flags) |= FLINT_LIMITER_NO_WAIT;                               \
    LIMITER_CALL_LOCKED_((limiter), (code), function, __VA_ARGS__); \
  } while (0)

/* The same, and the second call when it is needed. */
#define LIMITER_CALL_HELD_FIRST(limiter, code, flags, function, ...)    \
  do {                                                                  \
    LIMITER_CALL_NO_WAIT(limiter, code, flags, function, __VA_ARGS__);  \
    if ((code) == FLINT_LIMITER_WOULD_BLOCK) {                          \
      (flags) &= ~(uint32_t)FLINT_LIMITER_NO_WAIT;                      \
      LIMITER_CALL_UNLOCKED_((limiter), (code), function, __VA_ARGS__); \
    }                                                                   \
  } while (0)

#endif /* FLINT_EXT_GIL_H */
