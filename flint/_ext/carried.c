/* carried.c - what checks carry along as the limit of their key, to notice that two places of a
 * program disagree. */
#include "native.h"

static bool same_values(const CarriedValues* one, const CarriedValues* other) {
  return one->rate == other->rate && one->per_ns == other->per_ns && one->burst == other->burst &&
         one->algorithm == other->algorithm;
}

/* Values that come back after others, in the same place: each of the two takes effect in turn. */
static bool came_back(Carried* seen, Py_hash_t hash, const CarriedValues* values) {
  if (!seen->used || seen->hash != hash) {
    memset(seen, 0, sizeof *seen);
    seen->used = true;
    seen->hash = hash;
    seen->now = *values;
  }
  if (same_values(&seen->now, values)) return false;
  const bool back = same_values(&seen->before, values);
  seen->before = seen->now;
  seen->now = *values;
  return back;
}

static PyObject* values_tuple(const ModuleState* state, const CarriedValues* values) {
  return Py_BuildValue("(KKKO)", (unsigned long long)values->rate,
                       (unsigned long long)values->per_ns,
                       (unsigned long long)(values->burst == 0 ? values->rate : values->burst),
                       state->algorithms[values->algorithm]);
}

bool carried_note(LimiterObject* self, PyObject* key, const flint_limiter_config* config) {
  const Py_hash_t hash = PyObject_Hash(key);
  if (hash == -1) return false;
  const CarriedValues values = {config->rate, config->per_ns, config->burst, config->algorithm};
  if (atomic_flag_test_and_set(&self->noting)) return true; /* another thread's says enough */
  Carried* seen = &self->carried[(size_t)hash % FLINT_CARRIED];
  const bool back = came_back(seen, hash, &values);
  const CarriedValues others = seen->before;
  atomic_flag_clear(&self->noting);
  if (!back) return true;
  PyObject* told =
      PyObject_CallMethod((PyObject*)self, "_values_differ", "ONN", key,
                          values_tuple(self->state, &others), values_tuple(self->state, &values));
  Py_XDECREF(told);
  return told != NULL;
}
