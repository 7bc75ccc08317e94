/* module.c - the module flint._native: its state, types and constants. */
#include "native.h"

const char* const algorithm_names[] = {
    "token_bucket",           "gcra", "leaky_bucket", "fixed_window_counter", "sliding_window_log",
    "sliding_window_counter", NULL};

static ModuleState* state_of(PyObject* module) { return PyModule_GetState(module); }

static bool add_type(PyObject* module, PyType_Spec* spec, PyTypeObject** type) {
  *type = (PyTypeObject*)PyType_FromModuleAndSpec(module, spec, NULL);
  return *type != NULL && PyModule_AddType(module, *type) == 0;
}

static bool intern_names(ModuleState* state) {
  static const char* const names[] = {
#define FLINT_NAME(name) #name,
      FLINT_NAMES(FLINT_NAME)
#undef FLINT_NAME
  };
  for (int i = 0; i < NAME_COUNT; i++) {
    state->names[i] = PyUnicode_InternFromString(names[i]);
    if (state->names[i] == NULL) return false;
  }
  for (int i = 0; i < FLINT_ALGORITHMS; i++) {
    state->algorithms[i + 1] = PyUnicode_InternFromString(algorithm_names[i]);
    if (state->algorithms[i + 1] == NULL) return false;
  }
  return true;
}

/* Stores a new reference in `*slot`. */
static void replace(PyObject** slot, PyObject* value) {
  PyObject* old = *slot;
  *slot = value;
  Py_XDECREF(old);
}

/* set_errors(module): its exception classes are those that are raised for status codes. */
static PyObject* set_errors(PyObject* module, PyObject* errors) {
  ModuleState* state = state_of(module);
#define FLINT_ERROR_CLASS(code, name)                       \
  {                                                         \
    PyObject* type = PyObject_GetAttrString(errors, #name); \
    if (type == NULL) return NULL;                          \
    replace(&state->errors[code], type);                    \
  }
  FLINT_ERROR_CLASSES(FLINT_ERROR_CLASS)
#undef FLINT_ERROR_CLASS
  Py_RETURN_NONE;
}

/* set_per_to_ns(function): it reads the `per` of a limit. */
static PyObject* set_per_to_ns(PyObject* module, PyObject* function) {
  replace(&state_of(module)->per_to_ns, Py_NewRef(function));
  Py_RETURN_NONE;
}

/* set_read_limit(function): it reads the `limit` that a check carries along in words. */
static PyObject* set_read_limit(PyObject* module, PyObject* function) {
  replace(&state_of(module)->read_limit, Py_NewRef(function));
  Py_RETURN_NONE;
}

/* gil_table: what each call into the library does with Python's lock, for the tests. */
static bool add_gil_table(PyObject* module) {
#define FLINT_GIL_FORMAT(function, use) "ss"
#define FLINT_GIL_VALUES(function, use) , #function, #use
  PyObject* table =
      Py_BuildValue("{" FLINT_GIL_TABLE(FLINT_GIL_FORMAT) "}" FLINT_GIL_TABLE(FLINT_GIL_VALUES));
#undef FLINT_GIL_FORMAT
#undef FLINT_GIL_VALUES
  if (table == NULL) return false;
  int failed = PyModule_AddObjectRef(module, "gil_table", table);
  Py_DECREF(table);
  return failed == 0;
}

static int module_exec(PyObject* module) {
  ModuleState* state = state_of(module);
  bool ok = intern_names(state) && add_gil_table(module) &&
            add_type(module, &limiter_type_spec, &state->limiter_type) &&
            add_type(module, &result_type_spec, &state->result_type) &&
            add_type(module, &clock_type_spec, &state->clock_type) &&
            PyModule_AddStringConstant(module, "version", flint_limiter_version()) == 0;
  return ok ? 0 : -1;
}

static int module_traverse(PyObject* module, visitproc visit, void* arg) {
  ModuleState* state = state_of(module);
  Py_VISIT(state->limiter_type);
  Py_VISIT(state->result_type);
  Py_VISIT(state->clock_type);
  for (int i = 0; i < FLINT_ERROR_CODES; i++) Py_VISIT(state->errors[i]);
  Py_VISIT(state->per_to_ns);
  Py_VISIT(state->read_limit);
  return 0;
}

static int module_clear(PyObject* module) {
  ModuleState* state = state_of(module);
  Py_CLEAR(state->limiter_type);
  Py_CLEAR(state->result_type);
  Py_CLEAR(state->clock_type);
  for (int i = 0; i < NAME_COUNT; i++) Py_CLEAR(state->names[i]);
  for (int i = 0; i <= FLINT_ALGORITHMS; i++) Py_CLEAR(state->algorithms[i]);
  for (int i = 0; i < FLINT_ERROR_CODES; i++) Py_CLEAR(state->errors[i]);
  Py_CLEAR(state->per_to_ns);
  Py_CLEAR(state->read_limit);
  return 0;
}

static void module_free(void* module) { module_clear(module); }

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyMethodDef module_methods[] = {
    {"examine", examine, METH_O,
     "examine($module, path, /)\n--\n\nVerify a data directory; see flint.doctor."},
    {"describe", describe, METH_VARARGS,
     "describe($module, limit, state, now_ns, cost, allowed, /)\n--\n\n"
     "How a limit stands whose counter another store keeps: (remaining, reset_after_ns,\n"
     "retry_after_ns), as flint_limiter_describe says."},
    {"set_errors", set_errors, METH_O,
     "set_errors($module, errors, /)\n--\n\n"
     "Raise the exception classes of a module that has those of flint.errors."},
    {"set_per_to_ns", set_per_to_ns, METH_O,
     "set_per_to_ns($module, function, /)\n--\n\n"
     "Read the per of limits by a function that returns nanoseconds."},
    {"set_read_limit", set_read_limit, METH_O,
     "set_read_limit($module, function, /)\n--\n\n"
     "Read the limit of a check by a function of the limiter, the limit, burst and algorithm, "
     "which\n"
     "returns (rate, per_ns, burst, algorithm), or another object for the limiter's\n"
     "_decide_several."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "flint._native",
    .m_doc = "The part of Flint that is written in C. Use the package flint.",
    .m_size = sizeof(ModuleState),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyObject* module_of_type(PyTypeObject* type) {
  for (; type != NULL; type = PyType_GetSlot(type, Py_tp_base)) {
    PyObject* module = PyType_GetModule(type);
    if (module != NULL && PyModule_GetDef(module) == &module_definition) return module;
    PyErr_Clear();
  }
  PyErr_SetString(PyExc_TypeError, "not a subclass of a type of flint._native");
  return NULL;
}

PyMODINIT_FUNC PyInit__native(void);
PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module_definition); }
