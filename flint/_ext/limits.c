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

/* The flags of a change; where it has to look for signals, settled() waits for the disk. */
static uint32_t change_flags(const LimiterObject* self, bool if_absent) {
  return (if_absent ? FLINT_LIMITER_IF_ABSENT : 0) |
         (limiter_waits_for_signals(self) ? FLINT_LIMITER_NO_SYNC : 0);
}

static int32_t settled(LimiterObject* self, int32_t code, uint32_t flags, uint64_t ticket,
                       flint_limiter_error* error) {
  if (code != FLINT_LIMITER_OK || (flags & FLINT_LIMITER_NO_SYNC) == 0 || ticket == 0) return code;
  return limiter_wait_for_disk(self, ticket, error);
}

static bool expect_values(const char* function, Py_ssize_t given, Py_ssize_t expected) {
  if (given == expected) return true;
  PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, not %zd", function, expected, given);
  return false;
}

/* Which limit of the key it is, and what else applies. */
static bool config_name(PyObject* name, PyObject* stack, flint_limiter_config* config) {
  bool stacks = false;
  if (stack != NULL && !args_bool("stack", stack, &stacks)) return false;
  config->flags = stacks ? FLINT_LIMITER_STACK : 0;
  return args_name(name, &config->name, &config->name_bytes);
}

/* _limit(key, template, rate, per_ns, burst, algorithm, if_absent, name, stack) */
PyObject* limiter_set_limit(PyObject* op, PyObject* const* args, Py_ssize_t given) {
  LimiterObject* self = AS_LIMITER(op);
  flint_limiter_config config;
  bool if_absent;
  if (!expect_values("_limit", given, CONFIG_VALUES + 3)) return NULL;
  if (!args_config(self->state, args, &config)) return NULL;
  if (!args_bool("if_absent", args[CONFIG_VALUES], &if_absent)) return NULL;
  if (!config_name(args[CONFIG_VALUES + 1], args[CONFIG_VALUES + 2], &config)) return NULL;
  flint_limiter_error error;
  error_init(&error);
  const uint32_t flags = change_flags(self, if_absent);
  uint64_t ticket = 0;
  int32_t code;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_limit, &config, flags, &ticket, &error);
  code = settled(self, code, flags, ticket, &error);
  return none_or_raise(self, code, &error, args[0]);
}

/* ---- Many ---------------------------------------------------------------------------------- */

/* The parts of a limit as limit_many takes it: first those that a tuple may hold, in its order. */
enum {
  PART_KEY,
  PART_RATE,
  PART_PER,
  PART_ALGORITHM,
  PART_BURST,
  PART_TEMPLATE,
  PART_PER_NS,
  PART_NAME,
  PART_STACK
};
#define TUPLE_PARTS 5
#define PARTS 9

static const char limit_forms[] =
    "{'key': ..., 'rate': ..., 'per' or 'per_ns': ...} with algorithm, burst, template, name "
    "and stack if "
    "wanted, or (key, rate, per), (key, rate, per, algorithm) or (key, rate, per, algorithm, "
    "burst)";

/* What limit_many has read. */
typedef struct {
  flint_limiter_config* configs; /* borrow the text of their keys */
  PyObject** keys;               /* new references, as the next */
  PyObject** names;              /* NULL where there is none */
  PyObject* per;                 /* the last text that was read, since most limits share one */
  PyObject* per_ns;              /* what it means */
} Limits;

static void limits_free(Limits* limits, Py_ssize_t count) {
  for (Py_ssize_t i = 0; limits->keys != NULL && i < count; i++) Py_XDECREF(limits->keys[i]);
  Py_XDECREF(limits->per);
  Py_XDECREF(limits->per_ns);
  for (Py_ssize_t i = 0; limits->names != NULL && i < count; i++) Py_XDECREF(limits->names[i]);
  PyMem_Free(limits->keys);
  PyMem_Free(limits->names);
  PyMem_Free(limits->configs);
}

static bool limits_allocate(Limits* limits, Py_ssize_t count) {
  limits->configs = PyMem_Calloc((size_t)count + 1, sizeof *limits->configs);
  limits->keys = PyMem_Calloc((size_t)count + 1, sizeof *limits->keys);
  limits->names = PyMem_Calloc((size_t)count + 1, sizeof *limits->names);
  if (limits->configs != NULL && limits->keys != NULL && limits->names != NULL) return true;
  PyErr_NoMemory();
  return false;
}

/* New references to the parts of a dict, NULL where it has none. */
static bool dict_parts(ModuleState* state, PyObject* limit, PyObject** parts) {
  static const uint8_t names[PARTS] = {NAME_key,       NAME_rate,  NAME_per,
                                       NAME_algorithm, NAME_burst, NAME_template,
                                       NAME_per_ns,    NAME_name,  NAME_stack};
  Py_ssize_t found = 0;
  for (int i = 0; i < PARTS; i++) {
    parts[i] = args_item(limit, state->names[names[i]]);
    if (parts[i] == NULL && PyErr_Occurred()) return false;
    found += parts[i] != NULL;
  }
  if (parts[PART_KEY] != NULL && parts[PART_RATE] != NULL && PyDict_Size(limit) == found) {
    return true;
  }
  error_argument(PyExc_ValueError, "a limit", limit_forms, limit);
  return false;
}

/* The same for any limit. */
static bool limit_parts(ModuleState* state, PyObject* limit, PyObject** parts) {
  if (PyDict_Check(limit)) return dict_parts(state, limit, parts);
  if (!PyTuple_Check(limit) && !PyList_Check(limit)) {
    error_argument(PyExc_TypeError, "a limit", limit_forms, limit);
    return false;
  }
  PyObject* values = PySequence_Tuple(limit);
  if (values == NULL) return false;
  Py_ssize_t size = PyTuple_Size(values);
  bool ok = size > PART_PER && size <= TUPLE_PARTS;
  for (Py_ssize_t i = 0; ok && i < size; i++) parts[i] = Py_NewRef(PyTuple_GetItem(values, i));
  Py_DECREF(values);
  if (!ok) error_argument(PyExc_ValueError, "a limit", limit_forms, limit);
  return ok;
}

/* The one that is given of `per` and `per_ns`, in nanoseconds. A new reference. */
static PyObject* period_ns(ModuleState* state, Limits* limits, PyObject* const* parts) {
  PyObject* per = parts[PART_PER] == Py_None ? NULL : parts[PART_PER];
  PyObject* per_ns = parts[PART_PER_NS] == Py_None ? NULL : parts[PART_PER_NS];
  if ((per == NULL) == (per_ns == NULL)) {
    PyErr_SetString(PyExc_TypeError, "either per or per_ns must be given, and not both");
    return NULL;
  }
  if (per_ns != NULL) return Py_NewRef(per_ns);
  const bool is_text = PyUnicode_CheckExact(per);
  if (is_text && limits->per != NULL && PyUnicode_Compare(per, limits->per) == 0) {
    return Py_NewRef(limits->per_ns);
  }
  PyObject* read = PyObject_CallFunctionObjArgs(state->per_to_ns, per, NULL);
  if (read == NULL || !is_text) return read;
  Py_XDECREF(limits->per);
  Py_XDECREF(limits->per_ns);
  limits->per = Py_NewRef(per);
  limits->per_ns = Py_NewRef(read);
  return read;
}

static bool limit_read(ModuleState* state, Limits* limits, Py_ssize_t index, PyObject* limit) {
  PyObject* parts[PARTS] = {NULL};
  PyObject* per_ns = NULL;
  bool ok = limit_parts(state, limit, parts);
  if (ok) per_ns = period_ns(state, limits, parts);
  if (per_ns != NULL) {
    PyObject* const template = parts[PART_TEMPLATE];
    PyObject* const burst = parts[PART_BURST];
    PyObject* const algorithm = parts[PART_ALGORITHM];
    PyObject* const values[CONFIG_VALUES] = {
        parts[PART_KEY],
        template == NULL ? Py_None : template,
        parts[PART_RATE],
        per_ns,
        burst == NULL ? Py_None : burst,
        algorithm == NULL ? state->algorithms[FLINT_LIMITER_TOKEN_BUCKET] : algorithm};
    ok = args_config(state, values, &limits->configs[index]) &&
         config_name(parts[PART_NAME], parts[PART_STACK], &limits->configs[index]);
    limits->names[index] = Py_XNewRef(parts[PART_NAME]);
    limits->keys[index] = Py_NewRef(parts[PART_KEY]);
  }
  for (int i = 0; i < PARTS; i++) Py_XDECREF(parts[i]);
  Py_XDECREF(per_ns);
  return ok && per_ns != NULL;
}

/* _limit_many(limits, if_absent) */
PyObject* limiter_set_limits(PyObject* op, PyObject* const* args, Py_ssize_t given) {
  LimiterObject* self = AS_LIMITER(op);
  bool if_absent;
  if (!expect_values("_limit_many", given, 2)) return NULL;
  if (!args_bool("if_absent", args[1], &if_absent)) return NULL;
  /* Reading a number can run Python code, which can change a list but not a tuple. */
  PyObject* all = PySequence_Tuple(args[0]);
  if (all == NULL) return NULL;
  Py_ssize_t count = PyTuple_Size(all);
  Limits limits = {0};
  bool ok = limits_allocate(&limits, count);
  for (Py_ssize_t i = 0; ok && i < count; i++) {
    ok = limit_read(self->state, &limits, i, PyTuple_GetItem(all, i));
    if (!ok) error_prefix("limits", i);
  }
  PyObject* answer = NULL;
  if (ok) {
    flint_limiter_error error;
    error_init(&error);
    const uint32_t flags = change_flags(self, if_absent);
    uint64_t ticket = 0;
    int32_t code;
    LIMITER_CALL_RELEASED(self, code, flint_limiter_limit_many, limits.configs, (uint64_t)count,
                          sizeof *limits.configs, flags, &ticket, &error);
    code = settled(self, code, flags, ticket, &error);
    answer = none_or_raise(self, code, &error, NULL);
  }
  limits_free(&limits, count);
  Py_DECREF(all);
  return answer;
}

/* ---- Removing and resetting ---------------------------------------------------------------- */

bool target_read(LimiterObject* self, const char* function, PyObject* const* args, Py_ssize_t given,
                 PyObject* keywords, Target* target) {
  const Signature signature = {function, 3, 2, 1, {NAME_key, NAME_template, NAME_name}};
  PyObject** values = target->values;
  return args_parse(self->state, &signature, args, given, keywords, values) &&
         args_target(values[0], values[1] ? values[1] : Py_None, &target->key, &target->size,
                     &target->kind) &&
         args_name(values[2], &target->name, &target->name_size);
}

bool target_take_literally(LimiterObject* self, Target* target) {
  PyObject* template = target->values[1];
  bool is_asked_for = template != NULL && template != Py_None;
  if (target->kind != FLINT_LIMITER_KIND_TEMPLATE || is_asked_for) return false;
  flint_limiter_status_info status = {.struct_size = sizeof status};
  int32_t code;
  uint64_t size = target->size + 1;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_status_named, target->key, size, target->name,
                        target->name_size, FLINT_LIMITER_KIND_EXACT, &status, NULL);
  bool is_own = status.kind == FLINT_LIMITER_KIND_EXACT || status.kind == FLINT_LIMITER_KIND_INLINE;
  if (code != FLINT_LIMITER_OK || !is_own) return false;
  target->size = size;
  target->kind = FLINT_LIMITER_KIND_EXACT;
  return true;
}

PyObject* limiter_remove(PyObject* op, PyObject* const* args, Py_ssize_t given,
                         PyObject* keywords) {
  LimiterObject* self = AS_LIMITER(op);
  Target target;
  if (!target_read(self, "_remove", args, given, keywords, &target)) return NULL;
  const uint32_t flags = change_flags(self, false);
  uint64_t ticket = 0;
  flint_limiter_error error;
  int32_t code;
  do {
    error_init(&error);
    LIMITER_CALL_RELEASED(self, code, flint_limiter_remove_named, target.key, target.size,
                          target.name, target.name_size, target.kind, flags, &ticket, &error);
  } while (code == FLINT_LIMITER_NOT_CONFIGURED && target_take_literally(self, &target));
  code = settled(self, code, flags, ticket, &error);
  return none_or_raise(self, code, &error, target.values[0]);
}

PyObject* limiter_reset(PyObject* op, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
  LimiterObject* self = AS_LIMITER(op);
  Target target;
  if (!target_read(self, "_reset", args, given, keywords, &target)) return NULL;
  const uint32_t flags = change_flags(self, false);
  uint64_t ticket = 0;
  flint_limiter_error error;
  int32_t code;
  do {
    error_init(&error);
    LIMITER_CALL_RELEASED(self, code, flint_limiter_reset_named, target.key, target.size,
                          target.name, target.name_size, target.kind, flags, &ticket, &error);
  } while (code == FLINT_LIMITER_NOT_CONFIGURED && target_take_literally(self, &target));
  code = settled(self, code, flags, ticket, &error);
  return none_or_raise(self, code, &error, target.values[0]);
}
