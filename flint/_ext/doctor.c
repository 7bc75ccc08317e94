/* doctor.c - verifying a directory that need not be open. */
#include "native.h"

#define REPORT_FIELDS(X) \
  X(limits)              \
  X(counters)            \
  X(records)             \
  X(ring_records)        \
  X(history_events)      \
  X(segments)            \
  X(history_segments)    \
  X(log_bytes)           \
  X(snapshot_bytes)      \
  X(seals)               \
  X(torn_bytes)          \
  X(directory_mode)

/* None, or (message, segment, offset, sequence). */
static PyObject* damage(int32_t code, const flint_limiter_error* error) {
  if (code == FLINT_LIMITER_OK) return Py_NewRef(Py_None);
  PyObject* text =
      PyUnicode_DecodeUTF8(error->message, (Py_ssize_t)strlen(error->message), "backslashreplace");
  if (text == NULL) return NULL;
  return Py_BuildValue("(NsKK)", text, error->segment, (unsigned long long)error->offset,
                       (unsigned long long)error->sequence);
}

static PyObject* report_dict(const flint_limiter_doctor_report* report, PyObject* found) {
#define REPORT_FORMAT(name) "sK"
#define REPORT_VALUE(name) , #name, (unsigned long long)report->name
  return Py_BuildValue("{sNsO" REPORT_FIELDS(REPORT_FORMAT) "}", "damage", found, "snapshot_exists",
                       report->snapshot_exists ? Py_True : Py_False REPORT_FIELDS(REPORT_VALUE));
#undef REPORT_FORMAT
#undef REPORT_VALUE
}

/* examine(path): what flint.doctor makes its answer of. */
PyObject* examine(PyObject* module, PyObject* path) {
  ModuleState* state = PyModule_GetState(module);
  if (!PyUnicode_Check(path)) {
    error_argument(PyExc_TypeError, "path", "a str", path);
    return NULL;
  }
  PyObject* bytes = PyUnicode_EncodeFSDefault(path);
  if (bytes == NULL) return NULL;
  flint_limiter_doctor_report report = {.struct_size = sizeof report};
  flint_limiter_error error;
  error_init(&error);
  int32_t code;
  const char* data = PyBytes_AsString(bytes);
  uint64_t size = (uint64_t)PyBytes_Size(bytes);
  CALL_RELEASED(code, flint_limiter_doctor, data, size, &report, &error);
  Py_DECREF(bytes);
  if (code != FLINT_LIMITER_OK && code != FLINT_LIMITER_CORRUPTION) {
    error_raise(state, code, &error, NULL);
    return NULL;
  }
  PyObject* found = damage(code, &error);
  return found == NULL ? NULL : report_dict(&report, found);
}
