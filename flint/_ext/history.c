/* history.c - pages of what has been recorded. flint/_local/history.py makes dicts of them. */
#include "native.h"

#define AS_LIMITER(object) ((LimiterObject*)(object))
#define HISTORY_VALUES 7

/* (sequence, type, at, first_at, count, cost, key, kind, rate, per_ns, burst, algorithm,
 * item_index, item_count, name, stack), name '' where there is none */
static PyObject* event_tuple(ModuleState* state, const flint_limiter_event* event) {
  uint32_t algorithm = event->algorithm <= FLINT_ALGORITHMS ? event->algorithm : 0;
  PyObject* name = state->algorithms[algorithm];
  PyObject* at = time_text(event->at_ns, "Z");
  PyObject* first_at = time_text(event->first_at_ns, "Z");
  PyObject* key = PyUnicode_DecodeUTF8(event->key, (Py_ssize_t)event->key_bytes, "strict");
  PyObject* limit = PyUnicode_DecodeUTF8(event->name, (Py_ssize_t)event->name_bytes, "strict");
  if (at == NULL || first_at == NULL || key == NULL || limit == NULL) {
    Py_XDECREF(limit);
    Py_XDECREF(at);
    Py_XDECREF(first_at);
    Py_XDECREF(key);
    return NULL;
  }
  return Py_BuildValue("(KINNKKNIKKKOIINO)", (unsigned long long)event->sequence,
                       (unsigned int)event->type, at, first_at, (unsigned long long)event->count,
                       (unsigned long long)event->cost, key, (unsigned int)event->kind,
                       (unsigned long long)event->rate, (unsigned long long)event->per_ns,
                       (unsigned long long)event->burst, name ? name : Py_None,
                       (unsigned int)event->item_index, (unsigned int)event->item_count, limit,
                       (event->flags & FLINT_LIMITER_STACK) != 0 ? Py_True : Py_False);
}

static PyObject* event_list(ModuleState* state, const flint_limiter_event* events, uint64_t count) {
  PyObject* list = PyList_New((Py_ssize_t)count);
  for (uint64_t i = 0; list != NULL && i < count; i++) {
    PyObject* tuple = event_tuple(state, &events[i]);
    if (tuple == NULL || PyList_SetItem(list, (Py_ssize_t)i, tuple) < 0) Py_CLEAR(list);
  }
  return list;
}

static bool request_read(PyObject* const* args, HistoryRequest* request) {
  flint_limiter_history_query* query = &request->query;
  bool newest_first;
  uint64_t cursor;
  memset(request, 0, sizeof *request);
  query->struct_size = sizeof *query;
  if (args[0] != Py_None &&
      !args_target(args[0], args[1], &request->key, &request->key_bytes, &query->kind)) {
    return false;
  }
  if (!args_bool("newest_first", args[2], &newest_first) ||
      !args_int64("since", args[3], 0, INT64_MAX, &query->since_ns) ||
      !args_int64("until", args[4], 0, INT64_MAX, &query->until_ns) ||
      !args_quantity("cursor", args[5], 0, INT64_MAX, &cursor) ||
      !args_quantity("capacity", args[6], 1, 1 << 20, &request->capacity)) {
    return false;
  }
  query->flags = newest_first ? FLINT_LIMITER_NEWEST_FIRST : 0;
  query->cursor = cursor;
  return true;
}

bool history_read(LimiterObject* self, const HistoryRequest* request, HistoryPage* page) {
  const uint64_t text_bytes = FLINT_LIMITER_MIN_TEXT_BYTES + 128 * request->capacity;
  memset(page, 0, sizeof *page);
  page->events = PyMem_Calloc(request->capacity, sizeof *page->events);
  page->text = PyMem_Malloc(text_bytes);
  if (page->events == NULL || page->text == NULL) {
    PyErr_NoMemory();
    return false;
  }
  flint_limiter_error error;
  error_init(&error);
  int32_t code;
  for (uint64_t i = 0; i < request->capacity; i++) {
    page->events[i].struct_size = sizeof *page->events;
  }
  LIMITER_CALL_RELEASED(self, code, flint_limiter_history, request->key, request->key_bytes,
                        &request->query, page->events, request->capacity, sizeof *page->events,
                        page->text, text_bytes, &page->count, &page->next_cursor, &error);
  if (code == FLINT_LIMITER_OK) return true;
  error_raise(self->state, code, &error, NULL);
  return false;
}

void history_free(HistoryPage* page) {
  PyMem_Free(page->events);
  PyMem_Free(page->text);
}

/* _history(key, template, newest_first, since_ns, until_ns, cursor, capacity) */
PyObject* limiter_history(PyObject* op, PyObject* const* args, Py_ssize_t given) {
  LimiterObject* self = AS_LIMITER(op);
  if (given != HISTORY_VALUES) {
    PyErr_Format(PyExc_TypeError, "_history() takes %d arguments, not %zd", HISTORY_VALUES, given);
    return NULL;
  }
  HistoryRequest request;
  HistoryPage page;
  if (!request_read(args, &request)) return NULL;
  PyObject* list = NULL;
  if (history_read(self, &request, &page)) list = event_list(self->state, page.events, page.count);
  history_free(&page);
  if (list == NULL) return NULL;
  return Py_BuildValue("(NK)", list, (unsigned long long)page.next_cursor);
}
