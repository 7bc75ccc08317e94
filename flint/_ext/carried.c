/* carried.c - what checks carry along as the limit of their key, to notice that two places of a
 * program disagree. */
#include "native.h"

static bool same_values(const CarriedValues* one, const CarriedValues* other) {
  return one->rate == other->rate && one->per_ns == other->per_ns && one->burst == other->burst &&
         one->algorithm == other->algorithm;
}

/* Values that come back after others, in the same place: each of the two takes effect in turn. */
static bool came_back(Carried* seen, uint64_t hash, const CarriedValues* values) {
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
                       (unsigned long long)values->per_ns, (unsigned long long)values->burst,
                       state->algorithms[values->algorithm]);
}

/* FNV-1a: a str of a class of its own may have no hash, or another. */
static uint64_t hash_of(const char* key, Py_ssize_t size) {
  uint64_t hash = UINT64_C(14695981039346656037);
  for (Py_ssize_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)key[i]) * 1099511628211u;
  return hash;
}

/* Whether the key is limited by what its checks carry. One with limits of its own keeps these. */
static bool takes_effect(LimiterObject* self, const char* key, Py_ssize_t size) {
  flint_limiter_status_info status = {.struct_size = sizeof status};
  int32_t code;
  LIMITER_CALL_RELEASED(self, code, flint_limiter_status_named, key, (uint64_t)size, "", 0,
                        FLINT_LIMITER_KIND_EXACT, &status, NULL);
  return code == FLINT_LIMITER_OK && status.kind == FLINT_LIMITER_KIND_INLINE;
}

bool carried_note(LimiterObject* self, PyObject* key, const char* bytes, Py_ssize_t size,
                  const flint_limiter_config* config) {
  const uint64_t hash = hash_of(bytes, size);
  const uint64_t burst = config->burst == 0 ? config->rate : config->burst;
  const CarriedValues values = {config->rate, config->per_ns, burst, config->algorithm};
  if (atomic_flag_test_and_set(&self->noting)) return true; /* another thread's says enough */
  Carried* seen = &self->carried[hash % FLINT_CARRIED];
  const bool back = came_back(seen, hash, &values);
  const CarriedValues others = seen->before;
  atomic_flag_clear(&self->noting);
  if (!back || !takes_effect(self, bytes, size)) return true;
  PyObject* told =
      PyObject_CallMethod((PyObject*)self, "_values_differ", "ONN", key,
                          values_tuple(self->state, &others), values_tuple(self->state, &values));
  Py_XDECREF(told);
  return told != NULL;
}
