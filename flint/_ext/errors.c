/* errors.c - status codes and bad arguments as Python exceptions. */
#include "native.h"

#define SHOWN_CHARACTERS 60      /* of a str */
#define SHOWN_KEY_CHARACTERS 120 /* as in flint/errors.py */
#define SHOWN_REPR_CHARACTERS 120

/* repr(value), shortened; a placeholder where that fails, so that the error about the value wins.
 * A new reference. */
static PyObject* shown(PyObject* value) {
  PyObject* part = NULL;
  if (PyUnicode_Check(value) && PyUnicode_GetLength(value) > SHOWN_CHARACTERS) {
    part = PyUnicode_Substring(value, 0, SHOWN_CHARACTERS);
    if (part == NULL) return NULL;
    value = part;
  }
  PyObject* text = PyObject_Repr(value);
  if (text == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
    PyErr_Clear();
    text = PyUnicode_FromFormat("a value of %R", (PyObject*)Py_TYPE(value));
  }
  if (text != NULL && (part != NULL || PyUnicode_GetLength(text) > SHOWN_REPR_CHARACTERS)) {
    PyObject* start = PyUnicode_Substring(text, 0, SHOWN_REPR_CHARACTERS);
    Py_DECREF(text);
    text = start == NULL ? NULL : PyUnicode_FromFormat("%U...", start);
    Py_XDECREF(start);
  }
  Py_XDECREF(part);
  return text;
}

void error_argument(PyObject* exception, const char* name, const char* allowed, PyObject* value) {
  PyObject* text = shown(value);
  if (text == NULL) return;
  PyErr_Format(exception, "%s must be %s, not %U", name, allowed, text);
  Py_DECREF(text);
}

void error_prefix(const char* list, Py_ssize_t index) {
  PyObject* kind;
  if (PyErr_ExceptionMatches(PyExc_TypeError)) {
    kind = PyExc_TypeError;
  } else if (PyErr_ExceptionMatches(PyExc_ValueError)) {
    kind = PyExc_ValueError;
  } else {
    return;
  }
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_Format(kind, "%s[%zd]: %S", list, index, value);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
}

static PyObject* message_text(int32_t code, const flint_limiter_error* error) {
  const char* text = error->code == code ? error->message : flint_limiter_code_text(code);
  return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "backslashreplace");
}

/* A key for people: what cannot be printed is escaped, and the end of a long one left out. A new
 * reference. */
static PyObject* shown_key(PyObject* key) {
  const bool is_long = PyUnicode_GetLength(key) > SHOWN_KEY_CHARACTERS;
  PyObject* start = PyUnicode_Substring(key, 0, SHOWN_KEY_CHARACTERS);
  if (start == NULL) return NULL;
  PyObject* printable = PyObject_CallMethod(start, "isprintable", NULL);
  PyObject* text = NULL;
  if (printable == Py_True) {
    text = Py_NewRef(start);
  } else if (printable != NULL) {
    PyObject* quoted = PyObject_Repr(start);
    if (quoted != NULL) text = PyUnicode_Substring(quoted, 1, PyUnicode_GetLength(quoted) - 1);
    Py_XDECREF(quoted);
  }
  Py_XDECREF(printable);
  Py_DECREF(start);
  if (text == NULL || !is_long) return text;
  PyObject* cut = PyUnicode_FromFormat("%U...", text);
  Py_DECREF(text);
  return cut;
}

/* The arguments of the exception class for `code`. A new reference. */
static PyObject* exception_arguments(int32_t code, const flint_limiter_error* error,
                                     PyObject* key) {
  if (code == FLINT_LIMITER_NOT_CONFIGURED && key != NULL) {
    PyObject* name = shown_key(key);
    if (name == NULL) return NULL;
    PyObject* text = PyUnicode_FromFormat("limit is not configured: %U", name);
    Py_DECREF(name);
    return text == NULL ? NULL : Py_BuildValue("(N)", text);
  }
  PyObject* text = message_text(code, error);
  if (text == NULL) return NULL;
  if (error->code == code) {
    if (code == FLINT_LIMITER_CORRUPTION) {
      return Py_BuildValue("(NsKK)", text, error->segment, (unsigned long long)error->offset,
                           (unsigned long long)error->sequence);
    }
    bool is_os_error = code == FLINT_LIMITER_PERMISSION || code == FLINT_LIMITER_IO ||
                       code == FLINT_LIMITER_DISK_FULL || code == FLINT_LIMITER_POISONED ||
                       code == FLINT_LIMITER_INVALID_ARGUMENT;
    if (is_os_error && error->system_errno != 0) {
      return Py_BuildValue("(iN)", (int)error->system_errno, text);
    }
  }
  return Py_BuildValue("(N)", text);
}

void error_raise(ModuleState* state, int32_t code, const flint_limiter_error* error,
                 PyObject* key) {
  if (code == CODE_INTERRUPTED) return;
  if (code == FLINT_LIMITER_NO_MEMORY) {
    PyErr_NoMemory();
    return;
  }
  PyObject* type = state->errors[FLINT_LIMITER_INTERNAL];
  if (code == FLINT_LIMITER_INVALID_ARGUMENT) {
    /* A path that leads to a file where a directory is meant is an error of the system's too. */
    bool is_os_error = error->code == code && error->system_errno != 0;
    type = is_os_error ? state->errors[FLINT_LIMITER_IO] : PyExc_ValueError;
  } else if (code > 0 && code < FLINT_ERROR_CODES && state->errors[code] != NULL) {
    type = state->errors[code];
  }
  if (type == NULL) type = PyExc_RuntimeError; /* the interpreter has taken the module apart */
  PyObject* arguments = exception_arguments(code, error, key);
  if (arguments == NULL) return;
  PyErr_SetObject(type, arguments);
  Py_DECREF(arguments);
}
