/* replay.c - what was decided, as rows of numbers, and the same decided again by another limiter.
 * flint/_what_if.py makes counts of them. A million rows pass through here, so nothing is made of
 * Python's objects for a row but its key's number. */
#include "native.h"

#define AS_LIMITER(object) ((LimiterObject*)(object))
#define DECIDED_VALUES 4
#define REPLAY_VALUES 5

enum { ROW_DENIED, ROW_ALLOWED, ROW_RESET, ROW_RESET_PREFIX };
enum { ANSWER_DENIED, ANSWER_ALLOWED, ANSWER_UNKNOWN, ANSWER_WAS_ALLOWED = 4 };

typedef struct {
  int64_t key; /* its number */
  int64_t kind;
  int64_t at_ns;
  int64_t first_at_ns;
  int64_t engine_ns;
  int64_t first_engine_ns;
  int64_t cost;
  int64_t count; /* how many denials are in one */
} Row;

/* ---- Rows of what was decided ---------------------------------------------------------------- */

typedef struct {
  const char* text;
  uint64_t size;
  bool is_prefix;
} Pattern;

static bool matches(const Pattern* pattern, const flint_limiter_event* event) {
  if (pattern->is_prefix ? event->key_bytes < pattern->size : event->key_bytes != pattern->size) {
    return false;
  }
  return memcmp(event->key, pattern->text, pattern->size) == 0;
}

/* The kind of the row that an event makes, or -1 for none. */
static int64_t row_kind(const Pattern* pattern, const flint_limiter_event* event) {
  if (event->type == FLINT_LIMITER_EVENT_RESET && event->kind == FLINT_LIMITER_KIND_TEMPLATE) {
    return ROW_RESET_PREFIX; /* of another pattern perhaps, whose keys it has too */
  }
  if (!matches(pattern, event)) return -1;
  if (event->type == FLINT_LIMITER_EVENT_DENY) return ROW_DENIED;
  if (event->type == FLINT_LIMITER_EVENT_RESET) return ROW_RESET;
  if (event->type == FLINT_LIMITER_EVENT_ALLOW || event->type == FLINT_LIMITER_EVENT_ALLOW_ALL) {
    return ROW_ALLOWED;
  }
  return -1;
}

/* The number of a key, a new one if it has none; -1 with an exception set. */
static int64_t key_number(PyObject* numbers, const flint_limiter_event* event) {
  PyObject* key = PyUnicode_DecodeUTF8(event->key, (Py_ssize_t)event->key_bytes, "strict");
  if (key == NULL) return -1;
  int64_t number = -1;
  PyObject* found = args_item(numbers, key);
  if (found == NULL && !PyErr_Occurred()) {
    found = PyLong_FromSsize_t(PyDict_Size(numbers));
    if (found != NULL && PyDict_SetItem(numbers, key, found) < 0) Py_CLEAR(found);
  }
  if (found != NULL) number = PyLong_AsLongLong(found);
  Py_XDECREF(found);
  Py_DECREF(key);
  return number;
}

/* Whether one of `rows`, those of one event, is about the key: it may have several limits. */
static bool has_key(const Row* rows, uint64_t count, int64_t key) {
  for (uint64_t i = 0; i < count; i++) {
    if (rows[i].key == key) return true;
  }
  return false;
}

/* Rows of a page, each in its place of `rows`. False with an exception set. */
static bool make_rows(const HistoryPage* page, const Pattern* pattern, PyObject* numbers, Row* rows,
                      uint64_t* made) {
  uint64_t count = 0;
  uint64_t first = 0; /* of the event */
  for (uint64_t i = 0; i < page->count; i++) {
    const flint_limiter_event* event = &page->events[i];
    if (event->item_index == 0) first = count;
    const int64_t kind = row_kind(pattern, event);
    if (kind < 0) continue;
    const int64_t key = key_number(numbers, event);
    if (key < 0) return false;
    if (has_key(rows + first, count - first, key)) continue;
    rows[count++] = (Row){
        .key = key,
        .kind = kind,
        .at_ns = event->at_ns,
        .first_at_ns = event->first_at_ns,
        .engine_ns = event->engine_ns,
        .first_engine_ns = event->first_engine_ns,
        .cost = (int64_t)event->cost,
        .count = (int64_t)event->count,
    };
  }
  *made = count;
  return true;
}

/* _decided(pattern, cursor, capacity, numbers) */
PyObject* limiter_decided(PyObject* op, PyObject* const* args, Py_ssize_t given) {
  LimiterObject* self = AS_LIMITER(op);
  if (given != DECIDED_VALUES || !PyDict_Check(args[3])) {
    PyErr_SetString(PyExc_TypeError, "_decided() takes a str, two integers and a dict");
    return NULL;
  }
  HistoryRequest request;
  Pattern pattern;
  Py_ssize_t size;
  memset(&request, 0, sizeof request);
  request.query.struct_size = sizeof request.query;
  if (!args_text("pattern", args[0], &pattern.text, &size) ||
      !args_quantity("cursor", args[1], 0, INT64_MAX, &request.query.cursor) ||
      !args_quantity("capacity", args[2], 1, 1 << 20, &request.capacity)) {
    return NULL;
  }
  pattern.is_prefix = size > 0 && pattern.text[size - 1] == '*';
  pattern.size = (uint64_t)size - (pattern.is_prefix ? 1 : 0);
  HistoryPage page;
  PyObject* bytes = NULL;
  uint64_t made = 0;
  Row* rows = PyMem_Calloc(request.capacity, sizeof *rows);
  if (rows == NULL) return PyErr_NoMemory();
  if (history_read(self, &request, &page) && make_rows(&page, &pattern, args[3], rows, &made)) {
    bytes = PyBytes_FromStringAndSize((const char*)rows, (Py_ssize_t)(made * sizeof *rows));
  }
  const unsigned long long next = page.count == 0 ? 0 : page.next_cursor;
  history_free(&page);
  PyMem_Free(rows);
  return bytes == NULL ? NULL : Py_BuildValue("(NK)", bytes, next);
}

/* ---- Deciding again ------------------------------------------------------------------------- */

typedef struct {
  LimiterObject* limiter;
  ClockObject* clock;
  PyObject* keys;
  int64_t* last_admitted_ns; /* by key */
  int64_t most;
} Replay;

static bool ask(const Replay* self, const Row* row, uint64_t cost, uint32_t peek, bool* allowed) {
  const char* key;
  Py_ssize_t size;
  PyObject* text = PyList_GetItem(self->keys, (Py_ssize_t)row->key);
  if (text == NULL || !args_text("key", text, &key, &size)) return false;
  flint_limiter_result result;
  flint_limiter_error error;
  error_init(&error);
  result.struct_size = sizeof result;
  uint32_t flags = FLINT_LIMITER_DECISION_ONLY;
  uint64_t limits = 0;
  int32_t code;
  LIMITER_CALL_HELD_FIRST(self->limiter, code, flags, flint_limiter_check_limits, key,
                          (uint64_t)size, cost, flags, NULL, peek, &result, NULL, 0, 0, &limits,
                          &error);
  if (code != FLINT_LIMITER_OK) {
    error_raise(self->limiter->state, code, &error, text);
    return false;
  }
  *allowed = result.allowed != 0;
  return true;
}

/* The answer to one row; -1 with an exception set. */
static int answer(const Replay* self, const Row* row) {
  bool allowed = false;
  atomic_store(&self->clock->now_ns, row->engine_ns);
  if (row->count == 1) {
    if (row->cost > self->most) return ANSWER_DENIED;
    if (!ask(self, row, (uint64_t)row->cost, 0, &allowed)) return -1;
    if (allowed) self->last_admitted_ns[row->key] = row->engine_ns;
    return allowed ? ANSWER_ALLOWED : ANSWER_DENIED;
  }
  /* Of one unit each, with no admission since the first of them: if the last finds nothing, then
   * who came earlier did not either. Anything else cannot be known. */
  if (row->cost != row->count || self->last_admitted_ns[row->key] > row->first_engine_ns) {
    return ANSWER_UNKNOWN;
  }
  if (!ask(self, row, 1, 1, &allowed)) return -1;
  return allowed ? ANSWER_UNKNOWN : ANSWER_DENIED;
}

static PyObject* answers(const Replay* self, const Row* rows, Py_ssize_t count) {
  PyObject* bytes = PyBytes_FromStringAndSize(NULL, count);
  if (bytes == NULL) return NULL;
  char* out = PyBytes_AsString(bytes);
  for (Py_ssize_t i = 0; i < count; i++) {
    const int found = answer(self, &rows[i]);
    if (found < 0) {
      Py_DECREF(bytes);
      return NULL;
    }
    out[i] = (char)(rows[i].kind == ROW_ALLOWED ? found | ANSWER_WAS_ALLOWED : found);
  }
  return bytes;
}

/* Whether the rows are about keys that are there. */
static bool rows_fit(const Row* rows, Py_ssize_t count, Py_ssize_t keys) {
  for (Py_ssize_t i = 0; i < count; i++) {
    if (rows[i].key < 0 || rows[i].key >= keys || rows[i].cost < 1) return false;
  }
  return true;
}

/* _replay(clock, keys, rows, last_admitted, most) */
PyObject* limiter_replay(PyObject* op, PyObject* const* args, Py_ssize_t given) {
  Replay self = {.limiter = AS_LIMITER(op)};
  if (given != REPLAY_VALUES || !PyList_Check(args[1]) ||
      !PyObject_TypeCheck(args[0], self.limiter->state->clock_type)) {
    PyErr_SetString(PyExc_TypeError, "_replay() takes a Clock, a list, two buffers and an integer");
    return NULL;
  }
  if (!args_int64("most", args[4], 1, INT64_MAX, &self.most)) return NULL;
  self.clock = (ClockObject*)args[0];
  self.keys = args[1];
  Py_buffer rows;
  Py_buffer last;
  if (PyObject_GetBuffer(args[2], &rows, PyBUF_SIMPLE) < 0) return NULL;
  if (PyObject_GetBuffer(args[3], &last, PyBUF_WRITABLE) < 0) {
    PyBuffer_Release(&rows);
    return NULL;
  }
  PyObject* found = NULL;
  const Py_ssize_t count = rows.len / (Py_ssize_t)sizeof(Row);
  const Py_ssize_t keys = last.len / (Py_ssize_t)sizeof(int64_t);
  self.last_admitted_ns = last.buf;
  if (rows.len % (Py_ssize_t)sizeof(Row) == 0 && rows_fit(rows.buf, count, keys)) {
    found = answers(&self, rows.buf, count);
  } else {
    PyErr_SetString(PyExc_ValueError, "rows must be those of _decided, about these keys");
  }
  PyBuffer_Release(&last);
  PyBuffer_Release(&rows);
  return found;
}
