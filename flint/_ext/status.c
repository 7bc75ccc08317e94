/* status.c - reading a limiter: status, list, top, info. */
#include "native.h"

#define AS_LIMITER(object) ((LimiterObject*)(object))
#define LIST_PAGE 256
#define LIST_TEXT_BYTES (FLINT_LIMITER_MIN_TEXT_BYTES + FLINT_LIMITER_MAX_NAME_BYTES)
#define TOP_MOST 65536

/* ---- One limit as a dict ------------------------------------------------------------------- */

/* Stores a new reference under a name; `value` NULL means that making it failed. */
static bool put(ModuleState* state, PyObject* dict, int name, PyObject* value) {
  if (value == NULL) return false;
  int failed = PyDict_SetItem(dict, state->names[name], value);
  Py_DECREF(value);
  return failed == 0;
}

static PyObject* whole(uint64_t number) { return PyLong_FromUnsignedLongLong(number); }

static PyObject* stamp(int64_t at_ns) {
  return at_ns == 0 ? Py_NewRef(Py_None) : time_text(at_ns, "+00:00");
}

/* The key as the user writes it: a template with its `*`. */
static PyObject* shown_key(const flint_limiter_status_info* status, PyObject* key) {
  bool is_template = status->kind == FLINT_LIMITER_KIND_TEMPLATE;
  PyObject* text;
  if (key == NULL) {
    text = PyUnicode_DecodeUTF8(status->key, (Py_ssize_t)status->key_bytes, "strict");
  } else {
    text = PyUnicode_FromObject(key);
  }
  if (text == NULL || !is_template) return text;
  PyObject* marked = NULL;
  Py_ssize_t size = PyUnicode_GetLength(text);
  if (key != NULL && size > 0 && PyUnicode_ReadChar(text, size - 1) == '*') {
    marked = Py_NewRef(text);
  } else {
    marked = PyUnicode_FromFormat("%U*", text);
  }
  Py_DECREF(text);
  return marked;
}

/* A new reference: the name of a limit, None if it has none. */
static PyObject* shown_name(const flint_limiter_status_info* status, PyObject* name) {
  if (status->name_bytes == 0) return Py_NewRef(Py_None);
  if (name != NULL) return PyUnicode_FromObject(name);
  return PyUnicode_DecodeUTF8(status->name, (Py_ssize_t)status->name_bytes, "strict");
}

static bool put_all(ModuleState* state, PyObject* dict, const flint_limiter_status_info* status,
                    PyObject* key, PyObject* name) {
  uint32_t algorithm = status->algorithm <= FLINT_ALGORITHMS ? status->algorithm : 0;
  PyObject* algorithm_name = state->algorithms[algorithm];
  bool is_template = status->kind == FLINT_LIMITER_KIND_TEMPLATE;
  return put(state, dict, NAME_key, shown_key(status, key)) &&
         put(state, dict, NAME_rate, whole(status->rate)) &&
         put(state, dict, NAME_per_millis, whole(status->per_ns / 1000000)) &&
         put(state, dict, NAME_algorithm, Py_NewRef(algorithm_name ? algorithm_name : Py_None)) &&
         put(state, dict, NAME_remaining, whole(status->remaining)) &&
         put(state, dict, NAME_reset_at, time_text(status->reset_at_ns, "+00:00")) &&
         put(state, dict, NAME_total_allowed, whole(status->total_allowed)) &&
         put(state, dict, NAME_total_denied, whole(status->total_denied)) &&
         put(state, dict, NAME_total_allowed_cost, whole(status->total_allowed_cost)) &&
         put(state, dict, NAME_total_denied_cost, whole(status->total_denied_cost)) &&
         put(state, dict, NAME_last_allowed_at, stamp(status->last_allowed_at_ns)) &&
         put(state, dict, NAME_last_denied_at, stamp(status->last_denied_at_ns)) &&
         put(state, dict, NAME_last_reset_at, stamp(status->last_reset_at_ns)) &&
         put(state, dict, NAME_burst, whole(status->burst)) &&
         put(state, dict, NAME_per_ns, whole(status->per_ns)) &&
         put(state, dict, NAME_template, PyBool_FromLong(is_template)) &&
         put(state, dict, NAME_name, shown_name(status, name)) &&
         put(state, dict, NAME_stack, PyBool_FromLong((status->flags & FLINT_LIMITER_STACK) != 0));
}

/* `key` and `name` are NULL when the status holds them itself. */
static PyObject* status_dict(ModuleState* state, const flint_limiter_status_info* status,
                             PyObject* key, PyObject* name) {
  PyObject* dict = PyDict_New();
  if (dict == NULL) return NULL;
  if (put_all(state, dict, status, key, name)) return dict;
  Py_DECREF(dict);
  return NULL;
}

PyObject* limiter_status(PyObject* op, PyObject* const* args, Py_ssize_t given,
                         PyObject* keywords) {
  LimiterObject* self = AS_LIMITER(op);
  Target target;
  if (!target_read(self, "status", args, given, keywords, &target)) return NULL;
  flint_limiter_status_info status = {.struct_size = sizeof status};
  flint_limiter_error error;
  int32_t code;
  do {
    error_init(&error);
    LIMITER_CALL_RELEASED(self, code, flint_limiter_status_named, target.key, target.size,
                          target.name, target.name_size, target.kind, &status, &error);
  } while (code == FLINT_LIMITER_NOT_CONFIGURED && target_take_literally(self, &target));
  if (code == FLINT_LIMITER_NOT_CONFIGURED) Py_RETURN_NONE;
  if (code == FLINT_LIMITER_OK) {
    return status_dict(self->state, &status, target.values[0], target.values[2]);
  }
  error_raise(self->state, code, &error, target.values[0]);
  return NULL;
}

/* ---- Many limits --------------------------------------------------------------------------- */

/* Room for entries and the text of their keys. */
typedef struct {
  flint_limiter_status_info* entries;
  char* text;
  uint64_t capacity;
  uint64_t text_bytes;
} Page;

static void page_free(Page* page) {
  PyMem_Free(page->entries);
  PyMem_Free(page->text);
}

static bool page_allocate(Page* page, uint64_t capacity, uint64_t text_bytes) {
  page->capacity = capacity;
  page->text_bytes = text_bytes;
  page->entries = PyMem_Calloc(capacity, sizeof *page->entries);
  page->text = PyMem_Malloc(text_bytes);
  if (page->entries == NULL || page->text == NULL) {
    page_free(page);
    PyErr_NoMemory();
    return false;
  }
  for (uint64_t i = 0; i < capacity; i++) page->entries[i].struct_size = sizeof *page->entries;
  return true;
}

static bool append_page(ModuleState* state, PyObject* list, const Page* page, uint64_t count,
                        bool with_inline) {
  for (uint64_t i = 0; i < count; i++) {
    if (!with_inline && page->entries[i].kind == FLINT_LIMITER_KIND_INLINE) continue;
    PyObject* dict = status_dict(state, &page->entries[i], NULL, NULL);
    if (dict == NULL) return false;
    int failed = PyList_Append(list, dict);
    Py_DECREF(dict);
    if (failed) return false;
  }
  return true;
}

/* Reads all pages into `list`. */
static bool list_pages(LimiterObject* self, uint32_t flags, bool with_inline, Page* page,
                       PyObject* list) {
  flint_limiter_error error;
  error_init(&error);
  char* cursor = PyMem_Malloc(FLINT_LIMITER_MAX_CURSOR_BYTES);
  if (cursor == NULL) {
    PyErr_NoMemory();
    return false;
  }
  uint64_t cursor_bytes = 0;
  bool ok;
  for (;;) {
    uint64_t count = 0;
    int32_t code;
    LIMITER_CALL_RELEASED(self, code, flint_limiter_list_page, cursor, cursor_bytes, flags,
                          page->entries, page->capacity, sizeof *page->entries, page->text,
                          page->text_bytes, &count, cursor, &cursor_bytes, &error);
    ok = code == FLINT_LIMITER_OK;
    if (!ok) error_raise(self->state, code, &error, NULL);
    ok = ok && append_page(self->state, list, page, count, with_inline);
    if (!ok || count == 0) break;
  }
  PyMem_Free(cursor);
  return ok;
}

PyObject* limiter_list(PyObject* op, PyObject* counters) {
  LimiterObject* self = AS_LIMITER(op);
  const bool with_inline = counters != Py_None;
  bool all = false;
  if (with_inline && !args_bool("counters", counters, &all)) return NULL;
  Page page;
  if (!page_allocate(&page, LIST_PAGE, LIST_TEXT_BYTES)) return NULL;
  PyObject* list = PyList_New(0);
  const uint32_t flags = all ? FLINT_LIMITER_ALL_COUNTERS : 0;
  if (list != NULL && !list_pages(self, flags, with_inline, &page, list)) {
    Py_CLEAR(list);
  }
  page_free(&page);
  return list;
}

/* Whether the engine may have left keys out because `page->text` had no room for another. */
static bool text_may_be_short(const Page* page, uint64_t count) {
  uint64_t used = 0;
  for (uint64_t i = 0; i < count; i++) {
    used += page->entries[i].key_bytes + page->entries[i].name_bytes;
  }
  return count < page->capacity &&
         used + FLINT_LIMITER_MAX_KEY_BYTES + FLINT_LIMITER_MAX_NAME_BYTES > page->text_bytes;
}

static PyObject* top_list(LimiterObject* self, uint32_t by, uint64_t limit) {
  uint64_t text_bytes = FLINT_LIMITER_MIN_TEXT_BYTES + limit * 128;
  for (;;) {
    Page page;
    if (!page_allocate(&page, limit, text_bytes)) return NULL;
    flint_limiter_error error;
    error_init(&error);
    uint64_t count = 0;
    int32_t code;
    LIMITER_CALL_RELEASED(self, code, flint_limiter_top, by, FLINT_LIMITER_ALL_COUNTERS,
                          page.entries, page.capacity, sizeof *page.entries, page.text,
                          page.text_bytes, &count, &error);
    bool again = code == FLINT_LIMITER_OK && text_may_be_short(&page, count);
    PyObject* list = NULL;
    if (code != FLINT_LIMITER_OK) {
      error_raise(self->state, code, &error, NULL);
    } else if (!again) {
      list = PyList_New(0);
      if (list != NULL && !append_page(self->state, list, &page, count, true)) Py_CLEAR(list);
    }
    page_free(&page);
    if (!again) return list;
    text_bytes *= 2; /* ends: at limit * FLINT_LIMITER_MAX_KEY_BYTES every key has room */
  }
}

PyObject* limiter_top(PyObject* op, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
  static const Signature signature = {"top", 2, 2, 0, {NAME_by, NAME_limit}};
  static const char* const totals[] = {"denied", "allowed", "denied_cost", "allowed_cost", NULL};
  LimiterObject* self = AS_LIMITER(op);
  PyObject* values[2];
  if (!args_parse(self->state, &signature, args, given, keywords, values)) return NULL;
  uint32_t by = FLINT_LIMITER_BY_DENIED;
  uint64_t limit = 20;
  if (values[0] != NULL && !args_word("by", values[0], totals, &by)) return NULL;
  if (values[1] != NULL && !args_quantity("limit", values[1], 0, TOP_MOST, &limit)) return NULL;
  PyObject* list = top_list(self, by, limit == 0 ? 1 : limit);
  if (limit > 0 || list == NULL) return list;
  Py_DECREF(list);
  return PyList_New(0);
}

/* ---- Info ---------------------------------------------------------------------------------- */

#define INFO_FIELDS(X)      \
  X(recovered_records)      \
  X(recovered_ring_records) \
  X(torn_bytes)             \
  X(snapshot_limits)        \
  X(limits)                 \
  X(counters)               \
  X(log_bytes)              \
  X(segments)               \
  X(snapshot_bytes)         \
  X(sequence)               \
  X(appended)               \
  X(durable)                \
  X(syncs)                  \
  X(directory_mode)         \
  X(converted_events)       \
  X(warnings)               \
  X(undecided)              \
  X(evicted)                \
  X(compactions)            \
  X(compaction_failures)    \
  X(compaction_done_bytes)  \
  X(compaction_total_bytes) \
  X(history_bytes)          \
  X(damaged_history)        \
  X(read_only)              \
  X(compaction_failure)     \
  X(history_failures)       \
  X(unsynced_events)        \
  X(since_sync_ns)          \
  X(sync_time_ns)           \
  X(poisoned)

/* By the header's constants. */
static const char* const role_names[] = {"alone", "owner", "client"};

PyObject* limiter_info(PyObject* op, PyObject* ignored) {
  (void)ignored;
  LimiterObject* self = AS_LIMITER(op);
  flint_limiter_info info = {.struct_size = sizeof info};
  flint_limiter_error error;
  error_init(&error);
  int32_t code;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_get_info, &info, &error);
  if (code != FLINT_LIMITER_OK) {
    error_raise(self->state, code, &error, NULL);
    return NULL;
  }
#define INFO_FORMAT(name) "sK"
#define INFO_VALUE(name) #name, (unsigned long long)info.name,
  return Py_BuildValue("{ssss" INFO_FIELDS(INFO_FORMAT) "sLsL}", "sync",
                       info.sync == FLINT_LIMITER_SYNC_BATCH ? "batch" : "always", "role",
                       role_names[info.role], INFO_FIELDS(INFO_VALUE) "engine_time_ns",
                       (long long)info.engine_time_ns, "compaction_retry_at_ns",
                       (long long)info.compaction_retry_at_ns);
#undef INFO_FORMAT
#undef INFO_VALUE
}
