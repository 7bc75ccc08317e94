/* limits.c - configuring, removing and resetting limits. */
#include "native.h"

#define AS_LIMITER(object) ((LimiterObject*)(object))
#define CONFIG_VALUES 6

static PyObject* none_or_raise(LimiterObject* self, int32_t code, const flint_limiter_error* error,
                               PyObject* key) {
  if (code == FLINT_LIMITER_OK) Py_RETURN_NONE;
  error_raise(self->state, code, error, key);
  return NULL;
}

static bool expect_values(const char* function, Py_ssize_t given, Py_ssize_t expected) {
  if (given == expected) return true;
  PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, not %zd", function, expected, given);
  return false;
}

/* _limit(key, template, rate, per_ns, burst, algorithm, if_absent) */
PyObject* limiter_set_limit(PyObject* op, PyObject* const* args, Py_ssize_t given) {
  LimiterObject* self = AS_LIMITER(op);
  flint_limiter_config config;
  bool if_absent;
  if (!expect_values("_limit", given, CONFIG_VALUES + 1)) return NULL;
  if (!args_config(self->state, args, &config)) return NULL;
  if (!args_bool("if_absent", args[CONFIG_VALUES], &if_absent)) return NULL;
  flint_limiter_error error;
  error_init(&error);
  int32_t code;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_limit, &config,
                        if_absent ? FLINT_LIMITER_IF_ABSENT : 0, NULL, &error);
  return none_or_raise(self, code, &error, args[0]);
}

/* A tuple's values into `config`, which borrows the text of its key. */
static bool config_read(ModuleState* state, PyObject* tuple, flint_limiter_config* config) {
  PyObject* values[CONFIG_VALUES];
  if (!PyTuple_Check(tuple)) {
    error_argument(PyExc_TypeError, "limit", "a tuple", tuple);
    return false;
  }
  if (!expect_values("_limit_many", PyTuple_Size(tuple), CONFIG_VALUES)) return false;
  for (int i = 0; i < CONFIG_VALUES; i++) values[i] = PyTuple_GetItem(tuple, i);
  return args_config(state, values, config);
}

/* _limit_many(limits, if_absent): `limits` is a list of tuples (key, template, rate, per_ns, burst,
 * algorithm). */
PyObject* limiter_set_limits(PyObject* op, PyObject* const* args, Py_ssize_t given) {
  LimiterObject* self = AS_LIMITER(op);
  bool if_absent;
  if (!expect_values("_limit_many", given, 2)) return NULL;
  if (!args_bool("if_absent", args[1], &if_absent)) return NULL;
  /* A tuple of tuples: nothing can take the keys away while Python's lock is released. */
  PyObject* limits = PySequence_Tuple(args[0]);
  if (limits == NULL) return NULL;
  Py_ssize_t count = PyTuple_Size(limits);
  flint_limiter_config* configs = PyMem_Calloc((size_t)count + 1, sizeof *configs);
  bool ok = configs != NULL;
  if (!ok) PyErr_NoMemory();
  for (Py_ssize_t i = 0; ok && i < count; i++) {
    ok = config_read(self->state, PyTuple_GetItem(limits, i), &configs[i]);
    if (!ok) error_prefix("limits", i);
  }
  PyObject* answer = NULL;
  if (ok) {
    flint_limiter_error error;
    error_init(&error);
    int32_t code;
    LIMITER_CALL_RELEASED(self, code, flint_limiter_limit_many, configs, (uint64_t)count,
                          sizeof *configs, if_absent ? FLINT_LIMITER_IF_ABSENT : 0, NULL, &error);
    answer = none_or_raise(self, code, &error, NULL);
  }
  PyMem_Free(configs);
  Py_DECREF(limits);
  return answer;
}

/* The arguments of remove and reset. */
typedef struct {
  PyObject* values[2];
  const char* key;
  uint64_t size;
  uint32_t kind;
} Target;

static bool target_read(LimiterObject* self, const char* function, PyObject* const* args,
                        Py_ssize_t given, PyObject* keywords, Target* target) {
  const Signature signature = {function, 2, 1, 1, {NAME_key, NAME_template}};
  PyObject** values = target->values;
  return args_parse(self->state, &signature, args, given, keywords, values) &&
         args_target(values[0], values[1] ? values[1] : Py_None, &target->key, &target->size,
                     &target->kind);
}

PyObject* limiter_remove(PyObject* op, PyObject* const* args, Py_ssize_t given,
                         PyObject* keywords) {
  LimiterObject* self = AS_LIMITER(op);
  Target target;
  if (!target_read(self, "remove", args, given, keywords, &target)) return NULL;
  flint_limiter_error error;
  error_init(&error);
  int32_t code;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_remove, target.key, target.size, target.kind, 0,
                        NULL, &error);
  return none_or_raise(self, code, &error, target.values[0]);
}

PyObject* limiter_reset(PyObject* op, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
  LimiterObject* self = AS_LIMITER(op);
  Target target;
  if (!target_read(self, "reset", args, given, keywords, &target)) return NULL;
  flint_limiter_error error;
  error_init(&error);
  int32_t code;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_reset, target.key, target.size, target.kind, 0,
                        NULL, &error);
  return none_or_raise(self, code, &error, target.values[0]);
}
