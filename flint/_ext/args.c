/* args.c - arguments as C values. Every error names the parameter, its value and what is allowed,
 * and is raised before the engine is called. Bounds that depend on a limit, and what a key may
 * hold, are the engine's to judge. */
#include "native.h"

/* ---- Parameters ---------------------------------------------------------------------------- */

static int parameter_index(ModuleState* state, const Signature* signature, PyObject* keyword) {
  for (int i = 0; i < signature->count; i++) {
    if (state->names[signature->names[i]] == keyword) return i;
  }
  for (int i = 0; i < signature->count; i++) {
    int order = PyUnicode_Compare(state->names[signature->names[i]], keyword);
    if (order == 0) return i;
    if (order == -1 && PyErr_Occurred()) return -1;
  }
  PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", signature->function,
               keyword);
  return -1;
}

bool args_parse(ModuleState* state, const Signature* signature, PyObject* const* args,
                Py_ssize_t given, PyObject* keywords, PyObject** values) {
  if (given > signature->positional) {
    PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments, not %zd",
                 signature->function, (int)signature->positional, given);
    return false;
  }
  for (int i = 0; i < signature->count; i++) values[i] = i < given ? args[i] : NULL;
  Py_ssize_t named = keywords == NULL ? 0 : PyTuple_Size(keywords);
  for (Py_ssize_t i = 0; i < named; i++) {
    PyObject* keyword = PyTuple_GetItem(keywords, i);
    int index = parameter_index(state, signature, keyword);
    if (index < 0) return false;
    if (values[index] != NULL) {
      PyErr_Format(PyExc_TypeError, "%s() got more than one value for %R", signature->function,
                   keyword);
      return false;
    }
    values[index] = args[given + i];
  }
  for (int i = 0; i < signature->required; i++) {
    if (values[i] == NULL) {
      PyErr_Format(PyExc_TypeError, "%s() needs the argument %R", signature->function,
                   state->names[signature->names[i]]);
      return false;
    }
  }
  return true;
}

/* ---- Values -------------------------------------------------------------------------------- */

bool args_text(const char* name, PyObject* value, const char** data, Py_ssize_t* size) {
  if (!PyUnicode_Check(value)) {
    error_argument(PyExc_TypeError, name, "a str", value);
    return false;
  }
  *data = PyUnicode_AsUTF8AndSize(value, size);
  if (*data != NULL) return true;
  if (PyErr_ExceptionMatches(PyExc_UnicodeError)) {
    PyErr_Clear();
    error_argument(PyExc_ValueError, name, "text without lone surrogates", value);
  }
  return false;
}

PyObject* args_item(PyObject* dict, PyObject* name) {
#ifdef Py_GIL_DISABLED
  PyObject* item; /* another thread may take it out of the dict at any moment */
  return PyDict_GetItemRef(dict, name, &item) < 0 ? NULL : item;
#else
  return Py_XNewRef(PyDict_GetItemWithError(dict, name));
#endif
}

/* An exact int for anything with __index__ but a bool, or NULL with nothing set. A new reference;
 * NULL with an exception set if __index__ fails. */
static PyObject* as_integer(PyObject* value) {
  if (PyLong_CheckExact(value)) return Py_NewRef(value);
  if (PyBool_Check(value) || !PyIndex_Check(value)) return NULL;
  return PyNumber_Index(value);
}

bool args_int64(const char* name, PyObject* value, int64_t low, int64_t high, int64_t* out) {
  PyObject* integer = as_integer(value);
  if (integer == NULL && PyErr_Occurred()) return false;
  int overflow = 0;
  long long number = integer == NULL ? 0 : PyLong_AsLongLongAndOverflow(integer, &overflow);
  Py_XDECREF(integer);
  if (integer != NULL && overflow == 0 && number >= low && number <= high) {
    *out = number;
    return true;
  }
  char allowed[80];
  snprintf(allowed, sizeof allowed, "an integer from %lld to %lld", (long long)low,
           (long long)high);
  error_argument(integer == NULL ? PyExc_TypeError : PyExc_ValueError, name, allowed, value);
  return false;
}

bool args_quantity(const char* name, PyObject* value, uint64_t low, uint64_t high, uint64_t* out) {
  int64_t number;
  if (!args_int64(name, value, (int64_t)low, (int64_t)high, &number)) return false;
  *out = (uint64_t)number;
  return true;
}

bool args_bool(const char* name, PyObject* value, bool* out) {
  if (!PyBool_Check(value)) {
    error_argument(PyExc_TypeError, name, "True or False", value);
    return false;
  }
  *out = value == Py_True;
  return true;
}

bool args_word(const char* name, PyObject* value, const char* const* words, uint32_t* out) {
  bool is_text = PyUnicode_Check(value);
  char allowed[200] = "";
  size_t used = 0;
  for (uint32_t i = 0; words[i] != NULL; i++) {
    if (is_text && PyUnicode_CompareWithASCIIString(value, words[i]) == 0) {
      *out = i;
      return true;
    }
    const char* join = i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ";
    int size = snprintf(allowed + used, sizeof allowed - used, "%s'%s'", join, words[i]);
    used += (size_t)size;
  }
  error_argument(is_text ? PyExc_ValueError : PyExc_TypeError, name, allowed, value);
  return false;
}

bool args_algorithm(ModuleState* state, PyObject* value, uint32_t* out) {
  for (uint32_t i = 1; i <= FLINT_ALGORITHMS; i++) {
    if (state->algorithms[i] == value) {
      *out = i;
      return true;
    }
  }
  uint32_t index;
  if (!args_word("algorithm", value, algorithm_names, &index)) return false;
  *out = index + 1;
  return true;
}

/* ---- Limits -------------------------------------------------------------------------------- */

bool args_target(PyObject* key, PyObject* template, const char** data, uint64_t* size,
                 uint32_t* kind) {
  bool is_template = false;
  if (template != Py_None && !PyBool_Check(template)) {
    error_argument(PyExc_TypeError, "template", "True, False or None", template);
    return false;
  }
  Py_ssize_t bytes;
  if (!args_text("key", key, data, &bytes)) return false;
  if (template != Py_False && bytes > 0 && (*data)[bytes - 1] == '*') {
    is_template = true;
    bytes -= 1;
  }
  is_template = is_template || template == Py_True;
  *size = (uint64_t)bytes;
  *kind = is_template ? FLINT_LIMITER_KIND_TEMPLATE : FLINT_LIMITER_KIND_EXACT;
  return true;
}

/* rate, per_ns, burst (may be None) and algorithm into `config`. */
static bool config_numbers(ModuleState* state, PyObject* const* values,
                           flint_limiter_config* config) {
  if (!args_quantity("rate", values[0], 1, FLINT_MAX_QUANTITY, &config->rate)) return false;
  if (!args_quantity("per_ns", values[1], 1, FLINT_MAX_QUANTITY, &config->per_ns)) return false;
  if (values[2] != Py_None &&
      !args_quantity("burst", values[2], 1, FLINT_MAX_QUANTITY, &config->burst)) {
    return false;
  }
  return args_algorithm(state, values[3], &config->algorithm);
}

bool args_name(PyObject* value, const char** name, uint64_t* size) {
  Py_ssize_t bytes = 0;
  *name = NULL;
  *size = 0;
  if (value == NULL || value == Py_None) return true;
  if (!args_text("name", value, name, &bytes)) return false;
  *size = (uint64_t)bytes;
  return true;
}

bool args_config(ModuleState* state, PyObject* const* values, flint_limiter_config* config) {
  memset(config, 0, sizeof *config);
  config->struct_size = sizeof *config;
  return args_target(values[0], values[1], &config->key, &config->key_bytes, &config->kind) &&
         config_numbers(state, values + 2, config);
}

bool args_inline(ModuleState* state, PyObject* const* values, flint_limiter_config* config,
                 bool* given) {
  bool has[4];
  for (int i = 0; i < 4; i++) has[i] = values[i] != NULL && values[i] != Py_None;
  *given = has[0];
  if (!has[0] && !has[1] && !has[2] && !has[3]) return true;
  if (!has[0] || !has[1]) {
    PyErr_SetString(PyExc_TypeError,
                    "a check that carries its limit needs both rate and per; burst and algorithm "
                    "go with them");
    return false;
  }
  PyObject* per_ns = PyObject_CallFunctionObjArgs(state->per_to_ns, values[1], NULL);
  if (per_ns == NULL) return false;
  PyObject* const numbers[4] = {values[0], per_ns, has[2] ? values[2] : Py_None,
                                has[3] ? values[3] : state->algorithms[FLINT_LIMITER_TOKEN_BUCKET]};
  memset(config, 0, sizeof *config);
  config->struct_size = sizeof *config;
  bool ok = config_numbers(state, numbers, config);
  Py_DECREF(per_ns);
  return ok;
}

bool args_rate(ModuleState* state, PyObject* values, flint_limiter_config* config) {
  PyObject* numbers[4];
  if (PyTuple_Size(values) != 4) {
    PyErr_SetString(PyExc_TypeError, "a limit was read as a tuple that is none");
    return false;
  }
  for (int i = 0; i < 4; i++) numbers[i] = PyTuple_GetItem(values, i);
  memset(config, 0, sizeof *config);
  config->struct_size = sizeof *config;
  return config_numbers(state, numbers, config);
}
