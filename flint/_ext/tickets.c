/* tickets.c - what event loops await: which tickets are on disk, and a descriptor that tells when
 * more are. */
#include "native.h"

#define AS_LIMITER(object) ((LimiterObject*)(object))
#define SIGNALS_EVERY_NS 50000000

/* For a limiter that could not be entered. */
static int32_t durable_when_closed(LimiterObject* self, uint64_t ticket) {
  if (atomic_load(&self->phase) != PHASE_CLOSED) return FLINT_LIMITER_TIMEOUT;
  return ticket <= self->durable_at_close ? FLINT_LIMITER_OK : FLINT_LIMITER_CLOSED;
}

/* Signals are handled by the main thread of the process alone. */
static bool handles_signals(void) { return gettid() == getpid(); }

bool limiter_waits_for_signals(const LimiterObject* self) {
  return self->sync == FLINT_LIMITER_SYNC_ALWAYS && handles_signals();
}

int32_t limiter_wait_for_disk(LimiterObject* self, uint64_t ticket, flint_limiter_error* error) {
  int32_t code;
  do {
    error_init(error);
    LIMITER_CALL_RELEASED(self, code, flint_limiter_wait, ticket, SIGNALS_EVERY_NS, error);
    if (code == FLINT_LIMITER_CLOSED) {
      limiter_wait_until_closed(self);
      code = durable_when_closed(self, ticket);
    }
    if (code == FLINT_LIMITER_TIMEOUT && PyErr_CheckSignals() < 0) return CODE_INTERRUPTED;
  } while (code == FLINT_LIMITER_TIMEOUT);
  return code;
}

PyObject* limiter_durable(PyObject* op, PyObject* const* args, Py_ssize_t given) {
  LimiterObject* self = AS_LIMITER(op);
  if (given != 2) {
    PyErr_SetString(PyExc_TypeError, "_durable() takes a ticket and whether to wait");
    return NULL;
  }
  uint64_t ticket;
  bool wait;
  if (!args_quantity("ticket", args[0], 1, INT64_MAX, &ticket)) return NULL;
  if (!args_bool("wait", args[1], &wait)) return NULL;
  flint_limiter_error error;
  error_init(&error);
  uint64_t durable = 0;
  int32_t code;
  LIMITER_CALL_HELD(self, code, flint_limiter_durable, &durable, &error);
  if (code == FLINT_LIMITER_OK && durable < ticket) {
    uint64_t timeout_ns = wait ? UINT64_MAX : 0;
    LIMITER_CALL_RELEASED(self, code, flint_limiter_wait, ticket, timeout_ns, &error);
  }
  if (code == FLINT_LIMITER_CLOSED) code = durable_when_closed(self, ticket);
  if (code == FLINT_LIMITER_OK) Py_RETURN_TRUE;
  if (code == FLINT_LIMITER_TIMEOUT) Py_RETURN_FALSE;
  error_raise(self->state, code, &error, NULL);
  return NULL;
}

/* The engine closes its descriptor when the limiter is closed, perhaps while an event loop has it
 * registered; so the loop gets one of its own for the same eventfd. */
static int32_t watch_with_copy(flint_limiter* handle, int32_t* fd, int* copy,
                               flint_limiter_error* error) {
  int32_t code = flint_limiter_watch(handle, fd, error);
  if (code != FLINT_LIMITER_OK) return code;
  *copy = fcntl(*fd, F_DUPFD_CLOEXEC, 0);
  if (*copy >= 0) return FLINT_LIMITER_OK;
  error->code = FLINT_LIMITER_IO;
  error->system_errno = errno;
  snprintf(error->message, sizeof error->message, "cannot duplicate an eventfd");
  flint_limiter_unwatch(handle, *fd, NULL);
  return FLINT_LIMITER_IO;
}

PyObject* limiter_watch(PyObject* op, PyObject* ignored) {
  (void)ignored;
  LimiterObject* self = AS_LIMITER(op);
  flint_limiter_error error;
  error_init(&error);
  int32_t fd = -1;
  int copy = -1;
  int32_t code;
  FLINT_GIL_CHECK(flint_limiter_watch, RELEASED);
  LIMITER_CALL_UNLOCKED_(self, code, watch_with_copy, &fd, &copy, &error);
  if (code == FLINT_LIMITER_OK) return Py_BuildValue("(ii)", (int)fd, copy);
  error_raise(self->state, code, &error, NULL);
  return NULL;
}

PyObject* limiter_unwatch(PyObject* op, PyObject* name) {
  LimiterObject* self = AS_LIMITER(op);
  int64_t fd;
  if (!args_int64("name", name, 0, INT32_MAX, &fd)) return NULL;
  flint_limiter_error error;
  error_init(&error);
  int32_t code;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_unwatch, (int32_t)fd, &error);
  if (code == FLINT_LIMITER_OK || code == FLINT_LIMITER_CLOSED) Py_RETURN_NONE;
  error_raise(self->state, code, &error, NULL);
  return NULL;
}
