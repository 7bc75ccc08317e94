/* options.c - the options of flint.Limiter, which come as a dict. */
#include "native.h"

const char* const sync_names[] = {"always", "batch", NULL};
static const char* const full_names[] = {"refuse", "evict", NULL};
static const char* const error_names[] = {"raise", "allow", "deny", NULL};
static const char* const mapped_names[] = {"auto", "never", NULL};
static const char* const clock_names[] = {"system", NULL};

/* How the value of an option is read: a power is one of two. None leaves any but a word and a flag
 * to the engine. */
enum { OPTION_NUMBER, OPTION_POWER, OPTION_WORD, OPTION_FLAG };

/* One option of _open. */
typedef struct {
  const char* name;
  uint8_t kind;
  uint8_t bytes;   /* of the field in flint_limiter_options: 4 or 8 */
  uint16_t offset; /* of the same */
  uint64_t low;    /* of a number */
  uint64_t high;
  const char* const* words; /* of a word, by the header's constants */
} Option;

#define FIELD_OF(field) \
  (uint8_t)sizeof((flint_limiter_options*)NULL)->field, offsetof(flint_limiter_options, field)
#define NUMBER(name, field, low, high) \
  { name, OPTION_NUMBER, FIELD_OF(field), low, high, NULL }
#define POWER(name, field, low, high) \
  { name, OPTION_POWER, FIELD_OF(field), low, high, NULL }
#define WORD(name, field, words) \
  { name, OPTION_WORD, FIELD_OF(field), 0, 0, words }
#define FLAG(name, field) \
  { name, OPTION_FLAG, FIELD_OF(field), 0, 0, NULL }

/* Every option but the clock. */
static const Option open_options[] = {
    WORD("sync", sync, sync_names),
    NUMBER("flush_every_ms", flush_every_ms, 1, 3600000),
    NUMBER("flush_every_events", flush_every_events, 1, UINT64_C(1) << 32),
    NUMBER("segment_bytes", segment_bytes, 256 << 10, 1 << 30),
    POWER("ring_bytes", ring_bytes, 256 << 10, 64 << 20),
    NUMBER("max_unsynced_events", max_unsynced_events, 1, UINT64_C(1) << 32),
    NUMBER("max_downtime", max_downtime_ns, 1, FLINT_MAX_QUANTITY),
    NUMBER("history_max_bytes", history_max_bytes, 0, FLINT_MAX_QUANTITY),
    NUMBER("history_max_age", history_max_age_ns, 1, FLINT_MAX_QUANTITY),
    NUMBER("max_replay_bytes", max_replay_bytes, 1 << 20, FLINT_MAX_QUANTITY),
    NUMBER("max_keys", max_keys, 1, FLINT_MAX_QUANTITY),
    WORD("when_full", when_full, full_names),
    WORD("on_error", on_error, error_names),
    WORD("mapped", mapped, mapped_names),
    FLAG("sync_denials", sync_denials),
    NUMBER("lock_timeout", lock_timeout_ns, 1, FLINT_MAX_QUANTITY),
    NUMBER("file_mode", file_mode, 0600, 0666),
    NUMBER("group_plus_1", group_plus_1, 1, UINT32_MAX),
    FLAG("shared", shared),
    NUMBER("answer_timeout", answer_timeout_ns, 1, FLINT_MAX_QUANTITY),
};

#define OPTION_COUNT ((int)(sizeof open_options / sizeof *open_options))

static bool read_value(const Option* option, PyObject* value, uint64_t* number) {
  uint32_t word = 0;
  bool flag = false;
  switch (option->kind) {
    case OPTION_WORD:
      if (!args_word(option->name, value, option->words, &word)) return false;
      *number = word;
      return true;
    case OPTION_FLAG:
      if (!args_bool(option->name, value, &flag)) return false;
      *number = flag;
      return true;
    default:
      if (value == Py_None) return true;
      if (!args_quantity(option->name, value, option->low, option->high, number)) return false;
      if (option->kind == OPTION_POWER && (*number & (*number - 1)) != 0) {
        error_argument(PyExc_ValueError, option->name, "a power of two", value);
        return false;
      }
      /* To the engine 0 is the default. Where 0 bytes are asked for, 1 is as little as any. */
      if (*number == 0) *number = 1;
      return true;
  }
}

/* An option's value into its field. */
static bool read_option(const Option* option, PyObject* value, flint_limiter_options* options) {
  uint64_t number = 0;
  if (!read_value(option, value, &number)) return false;
  char* field = (char*)options + option->offset;
  uint32_t narrow = (uint32_t)number;
  if (option->bytes == sizeof narrow) {
    memcpy(field, &narrow, sizeof narrow);
  } else {
    memcpy(field, &number, sizeof number);
  }
  return true;
}

/* The clock that replaces the system's, NULL if there is none; a new reference. */
static bool read_clock(ModuleState* state, PyObject* given, flint_limiter_options* options,
                       PyObject** clock) {
  PyObject* value = args_item(given, state->names[NAME_clock]);
  if (value == NULL && PyErr_Occurred()) return false;
  if (value != NULL && PyUnicode_Check(value)) {
    uint32_t word = 0;
    bool known = args_word("clock", value, clock_names, &word);
    Py_DECREF(value);
    options->clock_source = FLINT_LIMITER_CLOCK_SYSTEM;
    return known;
  }
  if (value == Py_None) Py_CLEAR(value);
  *clock = value;
  if (value == NULL) return true;
  if (!PyObject_TypeCheck(value, state->clock_type)) {
    error_argument(PyExc_TypeError, "clock", "a flint.testing.ManualClock, 'system' or None",
                   value);
    return false;
  }
  options->clock = clock_read;
  options->clock_argument = value;
  return true;
}

static const Option* option_named(PyObject* name) {
  for (int i = 0; i < OPTION_COUNT; i++) {
    if (PyUnicode_CompareWithASCIIString(name, open_options[i].name) == 0) return &open_options[i];
  }
  return NULL;
}

bool options_read(ModuleState* state, PyObject* given, flint_limiter_options* options,
                  PyObject** clock) {
  if (!read_clock(state, given, options, clock)) return false;
  PyObject* items = PyDict_Items(given);
  if (items == NULL) return false;
  bool ok = true;
  Py_ssize_t count = PyList_Size(items);
  for (Py_ssize_t i = 0; ok && i < count; i++) {
    PyObject* item = PyList_GetItem(items, i);
    PyObject* name = PyTuple_GetItem(item, 0);
    PyObject* value = PyTuple_GetItem(item, 1);
    const Option* option = PyUnicode_Check(name) ? option_named(name) : NULL;
    if (option != NULL) {
      ok = read_option(option, value, options);
    } else if (name != state->names[NAME_clock]) {
      PyErr_Format(PyExc_TypeError, "_open() has no option %R", name);
      ok = false;
    }
  }
  Py_DECREF(items);
  return ok;
}
