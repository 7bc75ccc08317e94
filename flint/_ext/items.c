/* items.c - check_all and allow_all: several keys, all or nothing. */
#include "native.h"

#define AS_LIMITER(object) ((LimiterObject*)(object))

/* One item of a call. `key` is owned: user code that runs while the items are read, or beside the
 * call, may change the list they came from. */
typedef struct {
  PyObject* key;
  flint_limiter_item item;
  flint_limiter_result result;
} Entry;

#define FEW_ITEMS 8

typedef struct {
  Py_ssize_t count; /* of those that have been read */
  Entry* entries;   /* `few`, or allocated */
  Entry few[FEW_ITEMS];
} Batch;

static void batch_init(Batch* batch) {
  batch->count = 0;
  batch->entries = batch->few;
  batch->few[0].result.ticket = 0; /* of no items there is nothing to wait for */
}

static void batch_clear(Batch* batch) {
  for (Py_ssize_t i = 0; i < batch->count; i++) Py_DECREF(batch->entries[i].key);
  batch->count = 0;
}

static void batch_free(Batch* batch) {
  batch_clear(batch);
  if (batch->entries != batch->few) PyMem_Free(batch->entries);
}

static bool batch_allocate(Batch* batch, Py_ssize_t count) {
  if (count <= FEW_ITEMS) return true;
  Entry* entries = PyMem_Calloc((size_t)count, sizeof *entries);
  if (entries == NULL) {
    PyErr_NoMemory();
    return false;
  }
  batch->entries = entries;
  return true;
}

static const char item_forms[] = "a key, (key, cost), [key, cost] or {'key': key, 'cost': cost}";

/* New references to the key and (NULL if not given) the cost of a dict. */
static bool dict_parts(ModuleState* state, PyObject* item, PyObject** key, PyObject** cost) {
  *key = args_item(item, state->names[NAME_key]);
  if (*key == NULL && PyErr_Occurred()) return false;
  *cost = args_item(item, state->names[NAME_cost]);
  if (*cost == NULL && PyErr_Occurred()) return false;
  if (*key != NULL && PyDict_Size(item) == (*cost == NULL ? 1 : 2)) return true;
  error_argument(PyExc_ValueError, "item", item_forms, item);
  return false;
}

/* The same for any item. */
static bool item_parts(ModuleState* state, PyObject* item, PyObject** key, PyObject** cost) {
  if (PyUnicode_Check(item)) {
    *key = Py_NewRef(item);
    return true;
  }
  if (PyDict_Check(item)) return dict_parts(state, item, key, cost);
  if (!PyTuple_Check(item) && !PyList_Check(item)) {
    error_argument(PyExc_TypeError, "item", item_forms, item);
    return false;
  }
  PyObject* pair = PySequence_Tuple(item);
  if (pair == NULL) return false;
  if (PyTuple_Size(pair) != 2) {
    Py_DECREF(pair);
    error_argument(PyExc_ValueError, "item", item_forms, item);
    return false;
  }
  *key = Py_NewRef(PyTuple_GetItem(pair, 0));
  *cost = Py_NewRef(PyTuple_GetItem(pair, 1));
  Py_DECREF(pair);
  return true;
}

/* `*key` is a new reference, or NULL with an exception set. */
static bool item_read(ModuleState* state, PyObject* item, PyObject** key, flint_limiter_item* out) {
  PyObject* cost = NULL;
  Py_ssize_t size = 0;
  *out = (flint_limiter_item){.struct_size = sizeof *out, .cost = 1};
  *key = NULL;
  bool ok = item_parts(state, item, key, &cost) && args_text("key", *key, &out->key, &size) &&
            (cost == NULL || args_quantity("cost", cost, 1, FLINT_MAX_QUANTITY, &out->cost));
  out->key_bytes = (uint64_t)size;
  Py_XDECREF(cost);
  if (!ok) Py_CLEAR(*key);
  return ok;
}

static void refuse_items(PyObject* items) {
  error_argument(PyExc_TypeError, "items", "a list or other iterable of items", items);
}

/* What an iterable gives, up to one item more than a call may have. */
static PyObject* read_iterable(PyObject* items) {
  PyObject* iterator = PyObject_GetIter(items);
  if (iterator == NULL) {
    if (PyErr_ExceptionMatches(PyExc_TypeError) && !PyIter_Check(items)) {
      PyErr_Clear();
      refuse_items(items);
    }
    return NULL;
  }
  PyObject* list = PyList_New(0);
  PyObject* item = NULL;
  while (list != NULL && PyList_Size(list) <= FLINT_LIMITER_MAX_ITEMS &&
         (item = PyIter_Next(iterator)) != NULL) {
    if (PyList_Append(list, item) < 0) Py_CLEAR(list);
    Py_DECREF(item);
  }
  Py_DECREF(iterator);
  if (list == NULL || !PyErr_Occurred()) return list;
  Py_DECREF(list);
  return NULL;
}

/* The items as a tuple. Reading one can run Python code, which can change a list but no tuple. */
static PyObject* all_items(PyObject* items) {
  if (PyUnicode_Check(items) || PyDict_Check(items)) {
    refuse_items(items);
    return NULL;
  }
  PyObject* all = NULL;
  bool is_sequence = PyTuple_Check(items) || PyList_Check(items);
  PyObject* read = is_sequence ? Py_NewRef(items) : read_iterable(items);
  if (read != NULL) all = PySequence_Tuple(read);
  Py_XDECREF(read);
  if (all == NULL) return NULL;
  Py_ssize_t count = PyTuple_Size(all);
  if (count >= 1 && count <= FLINT_LIMITER_MAX_ITEMS) return all;
  Py_DECREF(all);
  const char* more = is_sequence || count == 0 ? "" : " or more";
  PyErr_Format(PyExc_ValueError, "items must hold 1 to %d items, not %zd%s",
               FLINT_LIMITER_MAX_ITEMS, count, more);
  return NULL;
}

/* A few keys without costs, which most calls have: reading these runs no Python code that could
 * change a list meanwhile. False if there is anything else, and then nothing has been read. */
static bool batch_read_keys(PyObject* items, Batch* batch) {
#ifdef Py_GIL_DISABLED
  (void)items; /* another thread may change a list at any moment */
  (void)batch;
  return false;
#else
  bool is_list = PyList_Check(items);
  if (!is_list && !PyTuple_Check(items)) return false;
  Py_ssize_t count = is_list ? PyList_Size(items) : PyTuple_Size(items);
  if (count < 1 || count > FEW_ITEMS) return false;
  for (; batch->count < count; batch->count++) {
    PyObject* key =
        is_list ? PyList_GetItem(items, batch->count) : PyTuple_GetItem(items, batch->count);
    Entry* entry = &batch->few[batch->count];
    Py_ssize_t size;
    const char* bytes = PyUnicode_Check(key) ? PyUnicode_AsUTF8AndSize(key, &size) : NULL;
    if (bytes == NULL) {
      PyErr_Clear(); /* the other way makes a better error of it */
      batch_clear(batch);
      return false;
    }
    entry->key = Py_NewRef(key);
    entry->item = (flint_limiter_item){sizeof entry->item, 0, bytes, (uint64_t)size, 1};
    entry->result.struct_size = sizeof entry->result;
  }
  return true;
#endif
}

/* Fills `batch` from any iterable but a str or a dict, which are items themselves. */
static bool batch_read(ModuleState* state, PyObject* items, Batch* batch) {
  if (batch_read_keys(items, batch)) return true;
  PyObject* all = all_items(items);
  if (all == NULL) return false;
  Py_ssize_t count = PyTuple_Size(all);
  bool ok = batch_allocate(batch, count);
  for (Py_ssize_t i = 0; ok && i < count; i++) {
    Entry* entry = &batch->entries[i];
    entry->result.struct_size = sizeof entry->result;
    ok = item_read(state, PyTuple_GetItem(all, i), &entry->key, &entry->item);
    if (ok) batch->count++;
    if (!ok) error_prefix("items", i);
  }
  Py_DECREF(all);
  return ok;
}

static int32_t decide_batch(LimiterObject* self, Batch* batch, uint32_t flags,
                            uint64_t* denied_index, flint_limiter_error* error) {
  int32_t code;
  LIMITER_CALL_HELD_FIRST(self, code, flags, flint_limiter_check_all, &batch->entries->item,
                          (uint64_t)batch->count, sizeof *batch->entries, flags,
                          &batch->entries->result, sizeof *batch->entries, denied_index, error);
  return code;
}

/* Parses, decides, and leaves the results in `batch`, which the caller frees in any case. */
static bool decide_all(LimiterObject* self, const char* function, PyObject* const* args,
                       Py_ssize_t given, PyObject* keywords, uint32_t flags, Batch* batch,
                       uint64_t* denied_index) {
  PyObject* items;
  if (given == 1 && keywords == NULL) {
    items = args[0];
  } else {
    const Signature signature = {function, 1, 1, 1, {NAME_items}};
    if (!args_parse(self->state, &signature, args, given, keywords, &items)) return false;
  }
  if (!batch_read(self->state, items, batch)) return false;
  flint_limiter_error error;
  error_init(&error);
  const uint32_t no_sync = limiter_waits_for_signals(self) ? FLINT_LIMITER_NO_SYNC : 0;
  int32_t code = decide_batch(self, batch, flags | no_sync, denied_index, &error);
  if (code == FLINT_LIMITER_OK && no_sync != 0 && batch->entries->result.ticket != 0) {
    code = limiter_wait_for_disk(self, batch->entries->result.ticket, &error);
    /* That is for on_error to answer; see decide in limiter.c. */
    if (code == FLINT_LIMITER_POISONED)
      code = decide_batch(self, batch, flags, denied_index, &error);
  }
  if (code == FLINT_LIMITER_OK) return true;
  error_raise(self->state, code, &error, NULL);
  return false;
}

static PyObject* item_dict(ModuleState* state, PyObject* key, const flint_limiter_result* result) {
  uint32_t algorithm = result->algorithm <= FLINT_ALGORITHMS ? result->algorithm : 0;
  PyObject* reset_at = time_text(result->reset_at_ns, "Z");
  if (reset_at == NULL) return NULL;
  return Py_BuildValue("{OOOOOKOKONOO}", state->names[NAME_key], key, state->names[NAME_allowed],
                       result->allowed ? Py_True : Py_False, state->names[NAME_cost],
                       (unsigned long long)result->cost, state->names[NAME_remaining],
                       (unsigned long long)result->remaining, state->names[NAME_reset_at], reset_at,
                       state->names[NAME_algorithm],
                       algorithm == 0 ? Py_None : state->algorithms[algorithm]);
}

/* The dict that check_all returns. */
static PyObject* all_dict(ModuleState* state, const Batch* batch, uint64_t denied) {
  bool allowed = denied >= (uint64_t)batch->count;
  Py_ssize_t filled = allowed ? batch->count : (Py_ssize_t)denied + 1;
  PyObject* results = PyList_New(filled);
  for (Py_ssize_t i = 0; results != NULL && i < filled; i++) {
    PyObject* dict = item_dict(state, batch->entries[i].key, &batch->entries[i].result);
    if (dict == NULL || PyList_SetItem(results, i, dict) < 0) Py_CLEAR(results);
  }
  if (results == NULL) return NULL;
  return Py_BuildValue("{OOOOON}", state->names[NAME_allowed], allowed ? Py_True : Py_False,
                       state->names[NAME_denied_key],
                       allowed ? Py_None : batch->entries[denied].key, state->names[NAME_results],
                       results);
}

PyObject* limiter_check_all(PyObject* op, PyObject* const* args, Py_ssize_t given,
                            PyObject* keywords) {
  LimiterObject* self = AS_LIMITER(op);
  Batch batch;
  batch_init(&batch);
  uint64_t denied = 0;
  bool ok = decide_all(self, "check_all", args, given, keywords, 0, &batch, &denied);
  PyObject* answer = ok ? all_dict(self->state, &batch, denied) : NULL;
  batch_free(&batch);
  return answer;
}

/* For event loops: neither waits nor syncs. */
PyObject* limiter_check_all_now(PyObject* op, PyObject* items) {
  LimiterObject* self = AS_LIMITER(op);
  Batch batch;
  batch_init(&batch);
  uint64_t denied = 0;
  PyObject* answer = NULL;
  if (!batch_read(self->state, items, &batch)) goto done;
  flint_limiter_error error;
  error_init(&error);
  uint32_t flags = FLINT_LIMITER_NO_SYNC;
  int32_t code;
  LIMITER_CALL_NO_WAIT(self, code, flags, flint_limiter_check_all, &batch.entries->item,
                       (uint64_t)batch.count, sizeof *batch.entries, flags, &batch.entries->result,
                       sizeof *batch.entries, &denied, &error);
  if (code == FLINT_LIMITER_OK) {
    unsigned long long ticket = limiter_ticket(self, batch.entries->result.ticket);
    PyObject* dict = all_dict(self->state, &batch, denied);
    if (dict != NULL) answer = Py_BuildValue("(NK)", dict, ticket);
  } else if (code == FLINT_LIMITER_WOULD_BLOCK) {
    answer = Py_NewRef(Py_None);
  } else {
    error_raise(self->state, code, &error, NULL);
  }
done:
  batch_free(&batch);
  return answer;
}

PyObject* limiter_allow_all(PyObject* op, PyObject* const* args, Py_ssize_t given,
                            PyObject* keywords) {
  Batch batch;
  batch_init(&batch);
  uint64_t denied = 0;
  bool ok = decide_all(AS_LIMITER(op), "allow_all", args, given, keywords,
                       FLINT_LIMITER_DECISION_ONLY, &batch, &denied);
  PyObject* answer = ok ? PyBool_FromLong(denied >= (uint64_t)batch.count) : NULL;
  batch_free(&batch);
  return answer;
}
