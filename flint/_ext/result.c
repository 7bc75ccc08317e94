/* result.c - Result: one decision. It holds the engine's raw numbers and makes Python objects of
 * them when they are read. */
#include "native.h"

#define AS_RESULT(object) ((ResultObject*)(object))
#define RESULT_ARGUMENTS 12
#define RESULT_REQUIRED 9

/* A Result's type cannot be subclassed, so it is always the module's own. */
static ModuleState* result_state(PyObject* self) { return PyType_GetModuleState(Py_TYPE(self)); }

ResultObject* result_new(ModuleState* state, PyObject* key) {
  PyObject* exact = PyUnicode_FromObject(key); /* `key` itself unless it is of a subclass */
  if (exact == NULL) return NULL;
  ResultObject* self = PyObject_New(ResultObject, state->result_type);
  if (self == NULL) {
    Py_DECREF(exact);
    return NULL;
  }
  self->key = exact;
  self->name = NULL;
  self->results = NULL;
  memset(&self->fields, 0, sizeof self->fields);
  self->fields.struct_size = sizeof self->fields;
  return self;
}

static void result_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_DECREF(AS_RESULT(self)->key);
  Py_XDECREF(AS_RESULT(self)->name);
  Py_XDECREF(AS_RESULT(self)->results);
  PyObject_Free(self);
  Py_DECREF(type);
}

/* One limit's own result. A new reference. */
static ResultObject* limit_result(ModuleState* state, const ResultObject* whole,
                                  const flint_limiter_limit_result* limit) {
  ResultObject* self = result_new(state, whole->key);
  if (self == NULL) return NULL;
  flint_limiter_result* fields = &self->fields;
  fields->allowed = limit->allowed;
  fields->algorithm = limit->algorithm;
  fields->undecided = whole->fields.undecided;
  fields->cost = whole->fields.cost;
  fields->limit = limit->limit;
  fields->remaining = limit->remaining;
  fields->reset_at_ns = limit->reset_at_ns;
  fields->reset_after_ns = limit->reset_after_ns;
  fields->retry_after_ns = limit->retry_after_ns;
  if (limit->name_bytes > 0) {
    self->name = PyUnicode_DecodeUTF8(limit->name, (Py_ssize_t)limit->name_bytes, "strict");
    if (self->name == NULL) {
      Py_DECREF(self);
      return NULL;
    }
  }
  return self;
}

bool result_set_limits(ModuleState* state, ResultObject* self,
                       const flint_limiter_limit_result* limits, uint64_t count) {
  PyObject* results = PyTuple_New((Py_ssize_t)count);
  for (uint64_t i = 0; results != NULL && i < count; i++) {
    ResultObject* one = limit_result(state, self, &limits[i]);
    if (one == NULL || PyTuple_SetItem(results, (Py_ssize_t)i, (PyObject*)one) < 0) {
      Py_CLEAR(results);
    } else if (i == self->fields.limit_index) {
      self->name = Py_XNewRef(one->name);
    }
  }
  self->results = results;
  return results != NULL;
}

/* The name and the results of Result(), which may be None. */
static bool result_take_limits(ModuleState* state, ResultObject* self, PyObject* name,
                               PyObject* results) {
  const char* text;
  Py_ssize_t size;
  if (name != Py_None) {
    if (!args_text("name", name, &text, &size)) return false;
    self->name = PyUnicode_FromObject(name);
    if (self->name == NULL) return false;
  }
  if (results == Py_None) return true;
  bool ok = PyTuple_Check(results);
  for (Py_ssize_t i = 0; ok && i < PyTuple_Size(results); i++) {
    ok = Py_TYPE(PyTuple_GetItem(results, i)) == state->result_type;
  }
  if (!ok) {
    error_argument(PyExc_TypeError, "results", "a tuple of Results, or None", results);
    return false;
  }
  self->results = PyTuple_GetSlice(results, 0, PyTuple_Size(results));
  return self->results != NULL;
}

/* Result(key, allowed, cost, limit, remaining, reset_at_ns, reset_after_ns, retry_after_ns,
 * algorithm, undecided=False, name=None, results=None): what unpickling calls, and tests of
 * programs that use Flint. */
static PyObject* result_from_python(PyTypeObject* type, PyObject* args, PyObject* keywords) {
  static const char* const names[RESULT_ARGUMENTS] = {
      "key",       "allowed",     "cost",           "limit",
      "remaining", "reset_at_ns", "reset_after_ns", "retry_after_ns",
      "algorithm", "undecided",   "name",           "results"};
  if (keywords != NULL && PyDict_Size(keywords) > 0) {
    PyErr_SetString(PyExc_TypeError, "Result() takes no keyword arguments");
    return NULL;
  }
  Py_ssize_t given = PyTuple_Size(args);
  if (given < RESULT_REQUIRED || given > RESULT_ARGUMENTS) {
    PyErr_Format(PyExc_TypeError, "Result() takes %d to %d arguments, not %zd", RESULT_REQUIRED,
                 RESULT_ARGUMENTS, given);
    return NULL;
  }
  PyObject* values[RESULT_ARGUMENTS] = {
      [RESULT_REQUIRED] = Py_False, [10] = Py_None, [11] = Py_None};
  for (Py_ssize_t i = 0; i < given; i++) values[i] = PyTuple_GetItem(args, i);
  const char* text;
  Py_ssize_t size;
  if (!args_text(names[0], values[0], &text, &size)) return NULL;
  ModuleState* state = PyType_GetModuleState(type);
  if (state == NULL) return NULL;
  ResultObject* self = result_new(state, values[0]);
  if (self == NULL) return NULL;
  flint_limiter_result* fields = &self->fields;
  uint64_t* const numbers[RESULT_ARGUMENTS] = {
      [2] = &fields->cost,           [3] = &fields->limit,          [4] = &fields->remaining,
      [6] = &fields->reset_after_ns, [7] = &fields->retry_after_ns,
  };
  bool allowed;
  bool undecided;
  bool ok = args_bool(names[1], values[1], &allowed) &&
            args_bool(names[9], values[9], &undecided) &&
            args_int64(names[5], values[5], 0, INT64_MAX, &fields->reset_at_ns) &&
            args_algorithm(state, values[8], &fields->algorithm);
  for (int i = 0; ok && i < RESULT_ARGUMENTS; i++) {
    if (numbers[i] != NULL) ok = args_quantity(names[i], values[i], 0, INT64_MAX, numbers[i]);
  }
  if (!ok || !result_take_limits(state, self, values[10], values[11])) {
    Py_DECREF(self);
    return NULL;
  }
  fields->allowed = allowed;
  fields->undecided = undecided;
  return (PyObject*)self;
}

/* ---- Attributes ---------------------------------------------------------------------------- */

static PyObject* result_get_allowed(PyObject* self, void* closure) {
  (void)closure;
  return PyBool_FromLong(AS_RESULT(self)->fields.allowed != 0);
}

static PyObject* result_get_undecided(PyObject* self, void* closure) {
  (void)closure;
  return PyBool_FromLong(AS_RESULT(self)->fields.undecided != 0);
}

static PyObject* result_get_algorithm(PyObject* self, void* closure) {
  (void)closure;
  uint32_t algorithm = AS_RESULT(self)->fields.algorithm;
  if (algorithm == 0 || algorithm > FLINT_ALGORITHMS) Py_RETURN_NONE; /* still being filled */
  return Py_NewRef(result_state(self)->algorithms[algorithm]);
}

static PyObject* result_get_reset_at(PyObject* self, void* closure) {
  (void)closure;
  return time_text(AS_RESULT(self)->fields.reset_at_ns, "+00:00");
}

static PyObject* result_get_retry_after(PyObject* self, void* closure) {
  (void)closure;
  return PyFloat_FromDouble(time_seconds_up(AS_RESULT(self)->fields.retry_after_ns));
}

static PyObject* result_get_name(PyObject* self, void* closure) {
  (void)closure;
  PyObject* name = AS_RESULT(self)->name;
  return Py_NewRef(name == NULL ? Py_None : name);
}

static PyObject* result_get_results(PyObject* self, void* closure) {
  (void)closure;
  PyObject* results = AS_RESULT(self)->results;
  return results == NULL ? PyTuple_Pack(1, self) : Py_NewRef(results);
}

#define FIELD(name, kind, doc) \
  { #name, kind, offsetof(ResultObject, fields.name), READONLY, doc }

static PyMemberDef result_members[] = {
    {"key", T_OBJECT_EX, offsetof(ResultObject, key), READONLY, "The key that was checked."},
    FIELD(cost, T_ULONGLONG, "How many units were asked for."),
    FIELD(limit, T_ULONGLONG,
          "The most that can be admitted at once: the burst of a bucket, the rate of a window."),
    FIELD(remaining, T_ULONGLONG, "Whole units that would still be admitted now."),
    FIELD(reset_at_ns, T_LONGLONG,
          "When the limit is full again (windows: see the algorithm), in ns since 1970."),
    FIELD(reset_after_ns, T_ULONGLONG, "The same, in ns from the decision on; rounded up."),
    FIELD(retry_after_ns, T_ULONGLONG,
          "How many ns until this cost would be admitted; 0 when it was; rounded up."),
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef result_getset[] = {
    {"allowed", result_get_allowed, NULL, "Whether the units may be used.", NULL},
    {"algorithm", result_get_algorithm, NULL, "The name of the limit's algorithm.", NULL},
    {"undecided", result_get_undecided, NULL,
     "Whether the limiter could not decide and its option on_error answered: nothing was counted.",
     NULL},
    {"name", result_get_name, NULL,
     "The name of the limit whose numbers these are; None if it has none. Of several limits of the "
     "key: when it was denied, of the denying ones that which will deny longest, otherwise that "
     "which has the least left.",
     NULL},
    {"results", result_get_results, NULL,
     "What each limit of the key said, a tuple of Results: those of the key's own in order of "
     "name, then those of templates, of the longest prefix first.",
     NULL},
    {"reset_at", result_get_reset_at, NULL,
     "When the limit is full again (windows: see the algorithm): RFC 3339, UTC, '+00:00'.", NULL},
    {"retry_after", result_get_retry_after, NULL,
     "How many seconds until this cost would be admitted, a float that is never too small; 0.0 "
     "when it was.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- Behaviour ----------------------------------------------------------------------------- */

static int result_bool(PyObject* self) { return AS_RESULT(self)->fields.allowed != 0; }

/* The constructor's arguments. A new reference. */
static PyObject* result_arguments(PyObject* self) {
  const flint_limiter_result* fields = &AS_RESULT(self)->fields;
  PyObject* results = AS_RESULT(self)->results;
  return Py_BuildValue("(OOKKKLKKNONO)", AS_RESULT(self)->key, fields->allowed ? Py_True : Py_False,
                       (unsigned long long)fields->cost, (unsigned long long)fields->limit,
                       (unsigned long long)fields->remaining, (long long)fields->reset_at_ns,
                       (unsigned long long)fields->reset_after_ns,
                       (unsigned long long)fields->retry_after_ns, result_get_algorithm(self, NULL),
                       fields->undecided ? Py_True : Py_False, result_get_name(self, NULL),
                       results == NULL ? Py_None : results);
}

static PyObject* result_reduce(PyObject* self, PyObject* ignored) {
  (void)ignored;
  PyObject* arguments = result_arguments(self);
  if (arguments == NULL) return NULL;
  return Py_BuildValue("(ON)", (PyObject*)Py_TYPE(self), arguments);
}

static PyObject* result_compare(PyObject* self, PyObject* other, int operation) {
  if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(self) != Py_TYPE(other)) {
    Py_RETURN_NOTIMPLEMENTED;
  }
  PyObject* left = result_arguments(self);
  PyObject* right = left == NULL ? NULL : result_arguments(other);
  PyObject* answer = right == NULL ? NULL : PyObject_RichCompare(left, right, operation);
  Py_XDECREF(left);
  Py_XDECREF(right);
  return answer;
}

static Py_hash_t result_hash(PyObject* self) {
  PyObject* arguments = result_arguments(self);
  if (arguments == NULL) return -1;
  Py_hash_t hash = PyObject_Hash(arguments);
  Py_DECREF(arguments);
  return hash;
}

static PyObject* result_repr(PyObject* self) {
  const flint_limiter_result* fields = &AS_RESULT(self)->fields;
  PyObject* algorithm = result_get_algorithm(self, NULL);
  PyObject* reset_at = result_get_reset_at(self, NULL);
  PyObject* retry_after = result_get_retry_after(self, NULL);
  PyObject* text = NULL;
  if (algorithm != NULL && reset_at != NULL && retry_after != NULL) {
    text = PyUnicode_FromFormat(
        "<flint.Result key=%R allowed=%s cost=%llu limit=%llu remaining=%llu reset_at=%R "
        "retry_after=%R algorithm=%R>",
        AS_RESULT(self)->key, fields->allowed ? "True" : "False", (unsigned long long)fields->cost,
        (unsigned long long)fields->limit, (unsigned long long)fields->remaining, reset_at,
        retry_after, algorithm);
  }
  Py_XDECREF(algorithm);
  Py_XDECREF(reset_at);
  Py_XDECREF(retry_after);
  return text;
}

static PyMethodDef result_methods[] = {
    {"__reduce__", result_reduce, METH_NOARGS, "__reduce__($self, /)\n--\n\nHow to pickle it."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot result_slots[] = {
    {Py_tp_doc,
     (void*)"Result(key, allowed, cost, limit, remaining, reset_at_ns, reset_after_ns, "
            "retry_after_ns, algorithm, undecided=False, name=None, results=None, /)\n--\n\n"
            "A decision: true if the units may be used. Immutable, comparable and picklable. "
            "Limiter.check and Limiter.peek make it; tests may."},
    {Py_tp_new, result_from_python},
    {Py_tp_dealloc, result_dealloc},
    {Py_tp_repr, result_repr},
    {Py_tp_hash, result_hash},
    {Py_tp_richcompare, result_compare},
    {Py_tp_methods, result_methods},
    {Py_tp_members, result_members},
    {Py_tp_getset, result_getset},
    {Py_nb_bool, result_bool},
    {0, NULL},
};

PyType_Spec result_type_spec = {
    .name = "flint.Result",
    .basicsize = sizeof(ResultObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = result_slots,
};
