#pragma once

#include <algorithm>
#include <cstdint>

#include "algorithms/limit.h"
#include "base/check_path.h"

namespace flint {

// The exact level behind token_bucket, gcra and leaky_bucket.
//
// A bucket of `burst` units drains at rate/per. What is in it is kept as the time at which it will
// be empty: the theoretical arrival time, TAT. With d = max(TAT - now, 0), the level is
// d * rate / per, and `cost` fits when
//
//     d + cost * per / rate <= burst * per / rate,
//
// whereupon TAT becomes now + d + cost * per / rate. All times are multiples of 1/rate nanosecond
// and are kept so, as whole nanoseconds and a fraction: nothing is ever rounded, so nothing
// accumulates, and the comparison is one of pairs. For a cost of 1 both increments are constants of
// the configuration and a check divides nothing.
//
// d and every increment are at most 2^62 ns, so sums fit; products of two quantities have 128 bits.
struct BucketLevel {
  // As of one time: d. It is computed once for a decision and for all that is told of it.
  struct View {
    uint64_t ns;
    uint64_t fraction;  // in [0, rate), of 1/rate nanosecond
  };

  FLINT_CHECK_PATH static View At(const LimitConfig& /*config*/, const State& state,
                                  int64_t now_ns) {
    const uint64_t tat_ns = static_cast<uint64_t>(state.bucket.tat_ns);
    const uint64_t now = static_cast<uint64_t>(now_ns);
    if (tat_ns < now) return {0, 0};
    return {tat_ns - now, state.bucket.fraction};
  }

  FLINT_CHECK_PATH static bool Allows(const LimitConfig& config, View view, uint64_t cost) {
    const View sum = Add(config, view, cost);
    return sum.ns < config.span_ns ||
           (sum.ns == config.span_ns && sum.fraction <= config.span_fraction);
  }

  static void Tidy(const LimitConfig& /*config*/, State& /*state*/, int64_t /*now_ns*/) {}
  static void PrepareAdmit(const LimitConfig& /*config*/, State& /*state*/, int64_t /*now_ns*/) {}

  FLINT_CHECK_PATH static View Admit(const LimitConfig& config, State& state, View view,
                                     int64_t now_ns, uint64_t cost) {
    const View sum = Add(config, view, cost);
    state.bucket.tat_ns = static_cast<int64_t>(static_cast<uint64_t>(now_ns) + sum.ns);
    state.bucket.fraction = sum.fraction;
    return sum;
  }

  FLINT_CHECK_PATH static uint64_t Used(const LimitConfig& config, View view) {
    // The level times per_ns, and what rounds up; the latter two take one word together.
    const uint64_t rounded_up = view.fraction + (config.per_ns - 1);
    const Uint128 level = Uint128{view.ns} * config.rate + rounded_up;
    return std::min(Divide(level, config.per_ns).quotient, config.burst);
  }

  FLINT_CHECK_PATH static uint64_t Remaining(const LimitConfig& config, View view) {
    return config.burst - Used(config, view);
  }

  static uint64_t ResetAfterNs(const LimitConfig& /*config*/, View view) {
    return view.ns + (view.fraction > 0 ? 1 : 0);
  }

  // How much of d must pass before the cost fits. Only a denial asks.
  [[gnu::noinline]] static uint64_t RetryAfterNs(const LimitConfig& config, View view,
                                                 uint64_t cost) {
    if (Allows(config, view, cost)) return 0;
    const View sum = Add(config, view, cost);
    return sum.ns - config.span_ns + (sum.fraction > config.span_fraction ? 1 : 0);
  }

  static bool IsFresh(const LimitConfig& /*config*/, View view) {
    return view.ns == 0 && view.fraction == 0;
  }

 private:
  // units * per / rate.
  FLINT_CHECK_PATH static View UnitsSpan(const LimitConfig& config, uint64_t units) {
    if (units == 1) [[likely]]
      return {config.unit_ns, config.unit_fraction};
    const Quotient span = Divide(Uint128{units} * config.per_ns, config.rate);
    return {span.quotient, span.remainder};
  }

  FLINT_CHECK_PATH static View Add(const LimitConfig& config, View view, uint64_t units) {
    const View span = UnitsSpan(config, units);
    const uint64_t fraction = view.fraction + span.fraction;
    if (fraction < config.rate) return {view.ns + span.ns, fraction};
    return {view.ns + span.ns + 1, fraction - config.rate};
  }
};

}  // namespace flint
