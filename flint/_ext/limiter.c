/* limiter.c - LimiterBase: opening, deciding, closing. flint.Limiter is its subclass. */
#include "native.h"

#define AS_LIMITER(object) ((LimiterObject*)(object))

/* ---- Open ---------------------------------------------------------------------------------- */

/* Opens a directory. */
static int32_t open_path(PyObject* path, bool read_only, const flint_limiter_options* options,
                         flint_limiter** handle, flint_limiter_error* error) {
  int32_t code;
  const char* bytes = PyBytes_AsString(path);
  uint64_t size = (uint64_t)PyBytes_Size(path);
  if (read_only) {
    CALL_RELEASED(code, flint_limiter_open_readonly, bytes, size, options, handle, error);
  } else {
    CALL_RELEASED(code, flint_limiter_open, bytes, size, options, handle, error);
  }
  return code;
}

/* Opens `data_dir` for a limiter in PHASE_OPENING. Takes the reference to `clock` when it does. */
static bool open_handle(LimiterObject* self, PyObject* data_dir, bool read_only,
                        const flint_limiter_options* options, PyObject* clock) {
  PyObject* path = PyUnicode_EncodeFSDefault(data_dir);
  if (path == NULL) return false;
  flint_limiter* handle = NULL;
  flint_limiter_error error;
  error_init(&error);
  int32_t code = open_path(path, read_only, options, &handle, &error);
  Py_DECREF(path);
  if (code != FLINT_LIMITER_OK) {
    error_raise(self->state, code, &error, NULL);
    return false;
  }
  PyObject* old_clock = self->clock;
  PyObject* old_data_dir = self->data_dir;
  self->clock = clock;
  self->data_dir = Py_NewRef(data_dir);
  self->sync = options->sync;
  self->owner = getpid();
  self->handle = handle;
  Py_XDECREF(old_clock);
  Py_XDECREF(old_data_dir);
  return true;
}

/* _open(data_dir, read_only, options) */
static PyObject* limiter_open(PyObject* op, PyObject* const* args, Py_ssize_t given) {
  LimiterObject* self = AS_LIMITER(op);
  if (given != 3 || !PyUnicode_Check(args[0]) || !PyDict_Check(args[2])) {
    PyErr_SetString(PyExc_TypeError, "_open() takes a str, a bool and a dict");
    return NULL;
  }
  bool read_only;
  if (!args_bool("read_only", args[1], &read_only)) return NULL;
  int expected = PHASE_CLOSED;
  if (!atomic_compare_exchange_strong(&self->phase, &expected, PHASE_OPENING)) {
    PyErr_SetString(PyExc_RuntimeError, "the limiter is open already");
    return NULL;
  }
  flint_limiter_options options = {.struct_size = sizeof options};
  PyObject* clock = NULL;
  bool opened = options_read(self->state, args[2], &options, &clock) &&
                open_handle(self, args[0], read_only, &options, clock);
  if (!opened) Py_XDECREF(clock);
  atomic_store(&self->phase, opened ? PHASE_OPEN : PHASE_CLOSED);
  if (!opened) return NULL;
  Py_RETURN_NONE;
}

/* ---- Close --------------------------------------------------------------------------------- */

static void pause_shortly(void) {
  const struct timespec pause = {.tv_sec = 0, .tv_nsec = 50000};
  nanosleep(&pause, NULL);
}

/* With PHASE_CLOSING set and Python's lock released: the handle is freed when this returns.
 * `durable` is the newest ticket that was on disk before; when all goes well, then all are.
 * Shutting down wakes every call that waits and makes the others return at once, and a call that
 * has been entered needs no lock of ours to be left, so the loop is short; the handle is not freed
 * later because the directory must be unlocked when this returns. */
static int32_t shut_and_free(LimiterObject* self, uint64_t durable, flint_limiter_error* error) {
  FLINT_GIL_CHECK(flint_limiter_shutdown, RELEASED);
  FLINT_GIL_CHECK(flint_limiter_close, RELEASED);
  int32_t code = flint_limiter_shutdown(self->handle, error);
  while (atomic_load(&self->running) > 0) pause_shortly();
  flint_limiter_close(&self->handle, NULL);
  self->durable_at_close = code == FLINT_LIMITER_OK ? UINT64_MAX : durable;
  atomic_store(&self->phase, PHASE_CLOSED);
  return code;
}

static void wait_until_closed(LimiterObject* self) {
  while (atomic_load(&self->phase) == PHASE_CLOSING) pause_shortly();
}

void limiter_wait_until_closed(LimiterObject* self) {
  PyThreadState* thread_state = PyEval_SaveThread();
  wait_until_closed(self);
  PyEval_RestoreThread(thread_state);
}

/* Closes if open. When it returns nobody uses the handle and it is freed, whoever did it. */
static int32_t close_limiter(LimiterObject* self, flint_limiter_error* error) {
  if (self->owner != getpid()) {
    /* A forked child: the handle is the parent's, and the threads that were inside are gone. */
    self->handle = NULL;
    atomic_store(&self->phase, PHASE_CLOSED);
    return FLINT_LIMITER_OK;
  }
  int phase = PHASE_OPEN;
  int32_t code = FLINT_LIMITER_OK;
  /* The phase changes with Python's lock held: see limiter_enter_held. */
  bool first = atomic_compare_exchange_strong(&self->phase, &phase, PHASE_CLOSING);
  uint64_t durable = 0;
  FLINT_GIL_CHECK(flint_limiter_durable, HELD);
  if (first) flint_limiter_durable(self->handle, &durable, NULL);
  PyThreadState* thread_state = PyEval_SaveThread();
  if (first) {
    code = shut_and_free(self, durable, error);
  } else {
    wait_until_closed(self);
  }
  PyEval_RestoreThread(thread_state);
  return code;
}

/* Of the calls that were inside, the child has none. */
static PyObject* limiter_adopt(PyObject* op, PyObject* ignored) {
  (void)ignored;
  LimiterObject* self = AS_LIMITER(op);
  self->owner = getpid();
  atomic_store(&self->running, 0);
  if (atomic_load(&self->phase) != PHASE_OPEN) atomic_store(&self->phase, PHASE_CLOSED);
  Py_RETURN_NONE;
}

static PyObject* limiter_close(PyObject* op, PyObject* ignored) {
  (void)ignored;
  LimiterObject* self = AS_LIMITER(op);
  flint_limiter_error error;
  error_init(&error);
  int32_t code = close_limiter(self, &error);
  if (code == FLINT_LIMITER_OK) Py_RETURN_NONE;
  error_raise(self->state, code, &error, NULL);
  return NULL;
}

/* ---- Decide -------------------------------------------------------------------------------- */

/* The arguments of allow, check and peek. */
typedef struct {
  PyObject* key_object;
  const char* key;
  Py_ssize_t size;
  uint64_t cost;
  const flint_limiter_config* config; /* &storage or NULL */
  PyObject* several;                  /* more limits than one that the check carries, or NULL */
  flint_limiter_config storage;
} Request;

static PyObject* or_none(PyObject* value) { return value == NULL ? Py_None : value; }

/* The limit that a check carries in words: `limit`, and rate, per, burst and algorithm beside it.
 */
static bool request_read_limit(LimiterObject* self, PyObject* limit, PyObject* const* values,
                               Request* request) {
  if (or_none(values[0]) != Py_None || or_none(values[1]) != Py_None) {
    PyErr_SetString(PyExc_TypeError, "limit says the rate and the period; leave rate and per out");
    return false;
  }
  PyObject* read = PyObject_CallFunctionObjArgs(self->state->read_limit, (PyObject*)self, limit,
                                                or_none(values[2]), or_none(values[3]), NULL);
  if (read == NULL) return false;
  if (!PyTuple_Check(read)) {
    request->several = read;
    return true;
  }
  bool ok = args_rate(self->state, read, &request->storage);
  Py_DECREF(read);
  request->config = &request->storage;
  return ok;
}

static bool request_read_slowly(LimiterObject* self, const char* function, PyObject* const* args,
                                Py_ssize_t given, PyObject* keywords, Request* request) {
  ModuleState* state = self->state;
  const Signature signature = {
      function,
      7,
      2,
      1,
      {NAME_key, NAME_cost, NAME_rate, NAME_per, NAME_burst, NAME_algorithm, NAME_limit}};
  PyObject* values[7];
  bool has_config;
  if (!args_parse(state, &signature, args, given, keywords, values)) return false;
  request->key_object = values[0];
  if (values[1] != NULL &&
      !args_quantity("cost", values[1], 1, FLINT_MAX_QUANTITY, &request->cost)) {
    return false;
  }
  if (!args_text("key", request->key_object, &request->key, &request->size)) return false;
  if (or_none(values[6]) != Py_None) {
    return request_read_limit(self, values[6], values + 2, request);
  }
  if (!args_inline(state, values + 2, &request->storage, &has_config)) return false;
  if (has_config) request->config = &request->storage;
  return true;
}

static inline bool request_read(LimiterObject* self, const char* function, PyObject* const* args,
                                Py_ssize_t given, PyObject* keywords, Request* request) {
  request->cost = 1;
  request->config = NULL;
  request->several = NULL;
  if (given == 1 && keywords == NULL && PyUnicode_Check(args[0])) {
    request->key_object = args[0];
    request->key = PyUnicode_AsUTF8AndSize(args[0], &request->size);
    if (request->key != NULL) return true;
    PyErr_Clear(); /* the other way makes a better error of it */
  }
  return request_read_slowly(self, function, args, given, keywords, request);
}

/* For what counts the use. */
static inline bool request_read_to_use(LimiterObject* self, const char* function,
                                       PyObject* const* args, Py_ssize_t given, PyObject* keywords,
                                       Request* request) {
  return request_read(self, function, args, given, keywords, request) &&
         (request->config == NULL ||
          carried_note(self, request->key_object, request->key, request->size, request->config));
}

/* Several limits that go with a check are for the surface to decide, by calls of one key each. */
static PyObject* decide_several(LimiterObject* self, const char* function, Request* request) {
  return PyObject_CallMethod((PyObject*)self, "_decide_several", "sOKN", function,
                             request->key_object, (unsigned long long)request->cost,
                             request->several);
}

/* Room for what each limit says, of which only the first size is read. */
typedef struct {
  flint_limiter_limit_result all[FLINT_LIMITER_MAX_LIMITS_OF_KEY];
  uint64_t count;
} LimitResults;

/* What a decision has filled; takes the reference to `result`. */
static PyObject* finished(ModuleState* state, ResultObject* result, const LimitResults* limits) {
  if (limits->count == 0 || result_set_limits(state, result, limits->all, limits->count)) {
    return (PyObject*)result;
  }
  Py_DECREF(result);
  return NULL;
}

/* The limit of a program that was changed takes effect at its first check. */
static uint32_t request_flags(const Request* request) {
  return request->config == NULL ? 0 : FLINT_LIMITER_UPDATE;
}

static int32_t ask(LimiterObject* self, const Request* request, uint32_t flags,
                   flint_limiter_result* result, LimitResults* limits, flint_limiter_error* error) {
  flags |= request_flags(request);
  const uint64_t size = (uint64_t)request->size;
  int32_t code;
  if (limits == NULL) {
    LIMITER_CALL_HELD_FIRST(self, code, flags, flint_limiter_check, request->key, size,
                            request->cost, flags, request->config, result, error);
  } else {
    LIMITER_CALL_HELD_FIRST(self, code, flags, flint_limiter_check_limits, request->key, size,
                            request->cost, flags, request->config, 0, result, limits->all,
                            FLINT_LIMITER_MAX_LIMITS_OF_KEY, sizeof *limits->all, &limits->count,
                            error);
  }
  return code;
}

/* Decides, and waits for the disk. What that fails with is `on_error`'s to answer, so the check is
 * made again then: nothing more can be recorded, and it says so or answers at once. */
static int32_t decide(LimiterObject* self, const Request* request, uint32_t flags,
                      flint_limiter_result* result, LimitResults* limits,
                      flint_limiter_error* error) {
  const uint32_t no_sync = limiter_waits_for_signals(self) ? FLINT_LIMITER_NO_SYNC : 0;
  int32_t code = ask(self, request, flags | no_sync, result, limits, error);
  if (code != FLINT_LIMITER_OK || no_sync == 0 || result->ticket == 0) return code;
  code = limiter_wait_for_disk(self, result->ticket, error);
  return code == FLINT_LIMITER_POISONED ? ask(self, request, flags, result, limits, error) : code;
}

static PyObject* limiter_allow(PyObject* op, PyObject* const* args, Py_ssize_t given,
                               PyObject* keywords) {
  LimiterObject* self = AS_LIMITER(op);
  Request request;
  if (!request_read_to_use(self, "allow", args, given, keywords, &request)) return NULL;
  if (request.several != NULL) return decide_several(self, "allow", &request);
  flint_limiter_result result;
  flint_limiter_error error;
  error_init(&error);
  result.struct_size = sizeof result;
  int32_t code = decide(self, &request, FLINT_LIMITER_DECISION_ONLY, &result, NULL, &error);
  if (code == FLINT_LIMITER_OK) return Py_NewRef(result.allowed ? Py_True : Py_False);
  error_raise(self->state, code, &error, request.key_object);
  return NULL;
}

/* The result is made before the decision: when there is no memory for it, nothing is counted. */
static PyObject* limiter_check(PyObject* op, PyObject* const* args, Py_ssize_t given,
                               PyObject* keywords) {
  LimiterObject* self = AS_LIMITER(op);
  Request request;
  if (!request_read_to_use(self, "check", args, given, keywords, &request)) return NULL;
  if (request.several != NULL) return decide_several(self, "check", &request);
  ResultObject* result = result_new(self->state, request.key_object);
  LimitResults limits;
  if (result == NULL) return NULL;
  flint_limiter_error error;
  error_init(&error);
  limits.all[0].struct_size = sizeof *limits.all;
  int32_t code = decide(self, &request, 0, &result->fields, &limits, &error);
  if (code == FLINT_LIMITER_OK) return finished(self->state, result, &limits);
  Py_DECREF(result);
  error_raise(self->state, code, &error, request.key_object);
  return NULL;
}

/* Takes the reference to `result`. */
static PyObject* with_ticket(LimiterObject* self, ResultObject* result,
                             const LimitResults* limits) {
  unsigned long long ticket = limiter_ticket(self, result->fields.ticket);
  PyObject* answer = finished(self->state, result, limits);
  return answer == NULL ? NULL : Py_BuildValue("(NK)", answer, ticket);
}

/* Neither waits nor syncs. */
static PyObject* decide_now(LimiterObject* self, const char* function, uint32_t flags,
                            PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
  Request request;
  if (!request_read_to_use(self, function, args, given, keywords, &request)) return NULL;
  if (request.several != NULL) return decide_several(self, function, &request);
  ResultObject* result = result_new(self->state, request.key_object);
  LimitResults limits;
  if (result == NULL) return NULL;
  flint_limiter_error error;
  error_init(&error);
  int32_t code;
  limits.all[0].struct_size = sizeof *limits.all;
  flags |= request_flags(&request);
  LIMITER_CALL_NO_WAIT(self, code, flags, flint_limiter_check_limits, request.key,
                       (uint64_t)request.size, request.cost, flags, request.config, 0,
                       &result->fields, limits.all, FLINT_LIMITER_MAX_LIMITS_OF_KEY,
                       sizeof *limits.all, &limits.count, &error);
  if (code == FLINT_LIMITER_OK) return with_ticket(self, result, &limits);
  Py_DECREF(result);
  if (code == FLINT_LIMITER_WOULD_BLOCK) Py_RETURN_NONE;
  error_raise(self->state, code, &error, request.key_object);
  return NULL;
}

/* For event loops. */
static PyObject* limiter_check_now(PyObject* op, PyObject* const* args, Py_ssize_t given,
                                   PyObject* keywords) {
  return decide_now(AS_LIMITER(op), "_check_now", FLINT_LIMITER_NO_SYNC, args, given, keywords);
}

/* For who gives up waiting in line. */
static PyObject* limiter_refuse_now(PyObject* op, PyObject* const* args, Py_ssize_t given,
                                    PyObject* keywords) {
  uint32_t flags = FLINT_LIMITER_NO_SYNC | FLINT_LIMITER_REFUSE;
  return decide_now(AS_LIMITER(op), "_refuse_now", flags, args, given, keywords);
}

/* The same, waiting where it must. */
static PyObject* limiter_refuse(PyObject* op, PyObject* const* args, Py_ssize_t given,
                                PyObject* keywords) {
  LimiterObject* self = AS_LIMITER(op);
  Request request;
  if (!request_read_to_use(self, "_refuse", args, given, keywords, &request)) return NULL;
  if (request.several != NULL) return decide_several(self, "_refuse", &request);
  ResultObject* result = result_new(self->state, request.key_object);
  LimitResults limits;
  if (result == NULL) return NULL;
  flint_limiter_error error;
  error_init(&error);
  limits.all[0].struct_size = sizeof *limits.all;
  int32_t code = ask(self, &request, FLINT_LIMITER_NO_SYNC | FLINT_LIMITER_REFUSE, &result->fields,
                     &limits, &error);
  if (code == FLINT_LIMITER_OK) return with_ticket(self, result, &limits);
  Py_DECREF(result);
  error_raise(self->state, code, &error, request.key_object);
  return NULL;
}

static PyObject* peek(LimiterObject* self, const char* function, bool waits, PyObject* const* args,
                      Py_ssize_t given, PyObject* keywords) {
  Request request;
  if (!request_read(self, function, args, given, keywords, &request)) return NULL;
  if (request.several != NULL) return decide_several(self, function, &request);
  ResultObject* result = result_new(self->state, request.key_object);
  LimitResults limits;
  if (result == NULL) return NULL;
  flint_limiter_error error;
  error_init(&error);
  uint32_t flags = request_flags(&request);
  int32_t code;
  limits.all[0].struct_size = sizeof *limits.all;
  const uint64_t size = (uint64_t)request.size;
  if (waits) {
    LIMITER_CALL_HELD_FIRST(self, code, flags, flint_limiter_check_limits, request.key, size,
                            request.cost, flags, request.config, 1, &result->fields, limits.all,
                            FLINT_LIMITER_MAX_LIMITS_OF_KEY, sizeof *limits.all, &limits.count,
                            &error);
  } else {
    LIMITER_CALL_NO_WAIT(self, code, flags, flint_limiter_check_limits, request.key, size,
                         request.cost, flags, request.config, 1, &result->fields, limits.all,
                         FLINT_LIMITER_MAX_LIMITS_OF_KEY, sizeof *limits.all, &limits.count,
                         &error);
  }
  if (code == FLINT_LIMITER_OK) return finished(self->state, result, &limits);
  Py_DECREF(result);
  if (code == FLINT_LIMITER_WOULD_BLOCK) Py_RETURN_NONE;
  error_raise(self->state, code, &error, request.key_object);
  return NULL;
}

static PyObject* limiter_peek(PyObject* op, PyObject* const* args, Py_ssize_t given,
                              PyObject* keywords) {
  return peek(AS_LIMITER(op), "peek", true, args, given, keywords);
}

/* For event loops. */
static PyObject* limiter_peek_now(PyObject* op, PyObject* const* args, Py_ssize_t given,
                                  PyObject* keywords) {
  return peek(AS_LIMITER(op), "_peek_now", false, args, given, keywords);
}

/* ---- Log ----------------------------------------------------------------------------------- */

static PyObject* limiter_flush(PyObject* op, PyObject* ignored) {
  (void)ignored;
  LimiterObject* self = AS_LIMITER(op);
  flint_limiter_error error;
  error_init(&error);
  int32_t code;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_flush, &error);
  if (code == FLINT_LIMITER_OK) Py_RETURN_NONE;
  error_raise(self->state, code, &error, NULL);
  return NULL;
}

static PyObject* limiter_compact(PyObject* op, PyObject* const* args, Py_ssize_t given,
                                 PyObject* keywords) {
  static const Signature signature = {"compact", 1, 0, 0, {NAME_wait}};
  LimiterObject* self = AS_LIMITER(op);
  PyObject* values[1];
  bool wait = true;
  if (!args_parse(self->state, &signature, args, given, keywords, values)) return NULL;
  if (values[0] != NULL && !args_bool("wait", values[0], &wait)) return NULL;
  flint_limiter_error error;
  error_init(&error);
  uint32_t flags = wait ? 0 : FLINT_LIMITER_NO_WAIT;
  int32_t code;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_compact, flags, &error);
  if (code == FLINT_LIMITER_OK) Py_RETURN_NONE;
  error_raise(self->state, code, &error, NULL);
  return NULL;
}

static PyObject* limiter_refresh(PyObject* op, PyObject* ignored) {
  (void)ignored;
  LimiterObject* self = AS_LIMITER(op);
  flint_limiter_error error;
  error_init(&error);
  int32_t code;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_refresh, &error);
  if (code == FLINT_LIMITER_OK) Py_RETURN_NONE;
  error_raise(self->state, code, &error, NULL);
  return NULL;
}

/* ---- Life ---------------------------------------------------------------------------------- */

static PyObject* limiter_new(PyTypeObject* type, PyObject* args, PyObject* keywords) {
  (void)args; /* a subclass's __init__ takes them */
  (void)keywords;
  PyObject* module = module_of_type(type);
  if (module == NULL) return NULL;
  LimiterObject* self = (LimiterObject*)PyType_GenericAlloc(type, 0);
  if (self == NULL) return NULL;
  self->module = Py_NewRef(module);
  self->state = PyModule_GetState(module);
  self->owner = getpid();
  atomic_init(&self->phase, PHASE_CLOSED);
  atomic_init(&self->running, 0);
  atomic_flag_clear(&self->noting);
  return (PyObject*)self;
}

/* There is no tp_clear: the engine reads the clock until the limiter is closed, and every cycle
 * through a limiter also passes the dict of its subclass or of its clock's. */
static int limiter_traverse(PyObject* op, visitproc visit, void* arg) {
  LimiterObject* self = AS_LIMITER(op);
  Py_VISIT(Py_TYPE(op));
  Py_VISIT(self->module);
  Py_VISIT(self->clock);
  return 0;
}

/* What could not be synced is reported as Python reports errors in destructors. */
static void close_at_last(LimiterObject* self) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  flint_limiter_error error;
  error_init(&error);
  int32_t code = close_limiter(self, &error);
  if (code != FLINT_LIMITER_OK) {
    error_raise(self->state, code, &error, NULL);
    PyErr_WriteUnraisable(self->data_dir);
  }
  PyErr_Restore(type, value, traceback);
}

static void limiter_dealloc(PyObject* op) {
  LimiterObject* self = AS_LIMITER(op);
  PyTypeObject* type = Py_TYPE(op);
  PyObject_GC_UnTrack(op);
  if (atomic_load(&self->phase) != PHASE_CLOSED) close_at_last(self);
  Py_CLEAR(self->clock);
  Py_CLEAR(self->data_dir);
  Py_CLEAR(self->module);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(op);
  Py_DECREF(type);
}

static PyObject* limiter_reduce(PyObject* op, PyObject* ignored) {
  (void)op;
  (void)ignored;
  PyErr_SetString(PyExc_TypeError,
                  "a Limiter cannot be pickled or copied: it owns its open data directory. Pass "
                  "the same object to threads; in another process open a Limiter on a data "
                  "directory of its own");
  return NULL;
}

/* ---- Attributes ---------------------------------------------------------------------------- */

static PyObject* limiter_get_data_dir(PyObject* op, void* closure) {
  (void)closure;
  PyObject* data_dir = AS_LIMITER(op)->data_dir;
  return Py_NewRef(data_dir == NULL ? Py_None : data_dir);
}

static PyObject* limiter_get_sync(PyObject* op, void* closure) {
  (void)closure;
  return PyUnicode_FromString(sync_names[AS_LIMITER(op)->sync]);
}

static PyObject* limiter_get_closed(PyObject* op, void* closure) {
  (void)closure;
  return PyBool_FromLong(atomic_load(&AS_LIMITER(op)->phase) != PHASE_OPEN);
}

static PyGetSetDef limiter_getset[] = {
    {"data_dir", limiter_get_data_dir, NULL,
     "The absolute path of the data directory, or ':memory:'.", NULL},
    {"sync", limiter_get_sync, NULL, "'always' or 'batch'.", NULL},
    {"closed", limiter_get_closed, NULL, "Whether the limiter has been closed.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define KEYWORD_METHOD(name, function, doc) \
  { name, (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS, doc }
#define PLAIN_METHOD(name, function, doc) \
  { name, (PyCFunction)(void (*)(void))(function), METH_FASTCALL, doc }

#include "limiter_doc.h"

static PyMethodDef limiter_methods[] = {
    KEYWORD_METHOD("allow", limiter_allow, ALLOW_DOC),
    KEYWORD_METHOD("check", limiter_check, CHECK_DOC),
    KEYWORD_METHOD("peek", limiter_peek, PEEK_DOC),
    KEYWORD_METHOD("allow_all", limiter_allow_all, ALLOW_ALL_DOC),
    KEYWORD_METHOD("check_all", limiter_check_all, CHECK_ALL_DOC),
    KEYWORD_METHOD("status", limiter_status, STATUS_DOC),
    KEYWORD_METHOD("top", limiter_top, TOP_DOC),
    KEYWORD_METHOD("_remove", limiter_remove, REMOVE_DOC),
    KEYWORD_METHOD("_reset", limiter_reset, RESET_DOC),
    {"info", limiter_info, METH_NOARGS, INFO_DOC},
    {"flush", limiter_flush, METH_NOARGS, FLUSH_DOC},
    KEYWORD_METHOD("compact", limiter_compact, COMPACT_DOC),
    {"refresh", limiter_refresh, METH_NOARGS, REFRESH_DOC},
    {"close", limiter_close, METH_NOARGS, CLOSE_DOC},
    {"__reduce__", limiter_reduce, METH_NOARGS,
     "__reduce__($self, /)\n--\n\nRaises TypeError: a limiter cannot be pickled or copied."},
    PLAIN_METHOD("_open", limiter_open, OPEN_DOC),
    PLAIN_METHOD("_limit", limiter_set_limit, LIMIT_DOC),
    PLAIN_METHOD("_limit_many", limiter_set_limits, LIMIT_MANY_DOC),
    {"_list", limiter_list, METH_O, LIST_DOC},
    PLAIN_METHOD("_history", limiter_history, HISTORY_DOC),
    PLAIN_METHOD("_decided", limiter_decided, DECIDED_DOC),
    PLAIN_METHOD("_replay", limiter_replay, REPLAY_DOC),
    KEYWORD_METHOD("_check_now", limiter_check_now, CHECK_NOW_DOC),
    KEYWORD_METHOD("_refuse_now", limiter_refuse_now, REFUSE_NOW_DOC),
    KEYWORD_METHOD("_refuse", limiter_refuse, REFUSE_DOC),
    KEYWORD_METHOD("_peek_now", limiter_peek_now, PEEK_NOW_DOC),
    {"_check_all_now", limiter_check_all_now, METH_O, CHECK_ALL_NOW_DOC},
    PLAIN_METHOD("_durable", limiter_durable, DURABLE_DOC),
    {"_adopt", limiter_adopt, METH_NOARGS, ADOPT_DOC},
    {"_watch", limiter_watch, METH_NOARGS, WATCH_DOC},
    {"_unwatch", limiter_unwatch, METH_O, UNWATCH_DOC},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot limiter_slots[] = {
    {Py_tp_doc, (void*)"LimiterBase(*args, **kwargs)\n--\n\nWhat flint.Limiter does in C."},
    {Py_tp_new, limiter_new},
    {Py_tp_dealloc, limiter_dealloc},
    {Py_tp_traverse, limiter_traverse},
    {Py_tp_methods, limiter_methods},
    {Py_tp_getset, limiter_getset},
    {0, NULL},
};

PyType_Spec limiter_type_spec = {
    .name = "flint._native.LimiterBase",
    .basicsize = sizeof(LimiterObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = limiter_slots,
};
