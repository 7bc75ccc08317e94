/* arithmetic.c - the algorithms for counters that another store keeps. */
#include "native.h"

/* describe((algorithm, rate, per_ns, burst), (at_ns, fraction, index, used, previous, entries,
 * oldest_ns, leaves_ns), now_ns, cost, allowed) */
PyObject* describe(PyObject* module, PyObject* args) {
  flint_limiter_config config = {.struct_size = sizeof config};
  flint_limiter_state state = {.struct_size = sizeof state};
  unsigned long long rate, per_ns, burst, fraction, used, previous, entries, cost;
  long long at_ns, index, oldest_ns, leaves_ns, now_ns;
  int allowed;
  if (!PyArg_ParseTuple(args, "(IKKK)(LKLKKKLL)LKp", &config.algorithm, &rate, &per_ns, &burst,
                        &at_ns, &fraction, &index, &used, &previous, &entries, &oldest_ns,
                        &leaves_ns, &now_ns, &cost, &allowed)) {
    return NULL;
  }
  config.rate = rate;
  config.per_ns = per_ns;
  config.burst = burst;
  state.at_ns = at_ns;
  state.fraction = fraction;
  state.index = index;
  state.used = used;
  state.previous = previous;
  state.entries = entries;
  state.oldest_ns = oldest_ns;
  state.leaves_ns = leaves_ns;
  flint_limiter_result result = {.struct_size = sizeof result};
  flint_limiter_error error;
  error_init(&error);
  FLINT_GIL_CHECK(flint_limiter_describe, HELD);
  int32_t code =
      flint_limiter_describe(&config, &state, now_ns, cost, (uint32_t)allowed, &result, &error);
  if (code != FLINT_LIMITER_OK) {
    error_raise(PyModule_GetState(module), code, &error, NULL);
    return NULL;
  }
  return Py_BuildValue("KKK", (unsigned long long)result.remaining,
                       (unsigned long long)result.reset_after_ns,
                       (unsigned long long)result.retry_after_ns);
}
