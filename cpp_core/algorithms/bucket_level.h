#pragma once

#include <algorithm>
#include <cstdint>

#include "algorithms/limit.h"

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
  static bool Allows(const LimitConfig& config, const State& state, int64_t now_ns, uint64_t cost) {
    const Span sum = Add(config, Backlog(state, now_ns), UnitsSpan(config, cost));
    return sum.ns < config.span_ns ||
           (sum.ns == config.span_ns && sum.fraction <= config.span_fraction);
  }

  static void PrepareAdmit(const LimitConfig& /*config*/, State& /*state*/, int64_t /*now_ns*/) {}

  static void Admit(const LimitConfig& config, State& state, int64_t now_ns, uint64_t cost) {
    const Span sum = Add(config, Backlog(state, now_ns), UnitsSpan(config, cost));
    state.bucket.tat_ns = static_cast<int64_t>(static_cast<uint64_t>(now_ns) + sum.ns);
    state.bucket.fraction = sum.fraction;
  }

  static uint64_t Used(const LimitConfig& config, const State& state, int64_t now_ns) {
    const Span backlog = Backlog(state, now_ns);
    const Uint128 level = Uint128{backlog.ns} * config.rate + backlog.fraction;  // times per_ns
    const Uint128 raised = level + config.per_ns - 1;
    // The processor divides a word by a word; for two, a function is called.
    const Uint128 used =
        raised >> 64 == 0 ? static_cast<uint64_t>(raised) / config.per_ns : raised / config.per_ns;
    return static_cast<uint64_t>(std::min<Uint128>(used, config.burst));
  }

  static uint64_t Remaining(const LimitConfig& config, const State& state, int64_t now_ns) {
    return config.burst - Used(config, state, now_ns);
  }

  static uint64_t ResetAfterNs(const LimitConfig& /*config*/, const State& state, int64_t now_ns) {
    const Span backlog = Backlog(state, now_ns);
    return backlog.ns + (backlog.fraction > 0 ? 1 : 0);
  }

  // How much of d must pass before the cost fits.
  static uint64_t RetryAfterNs(const LimitConfig& config, const State& state, int64_t now_ns,
                               uint64_t cost) {
    if (Allows(config, state, now_ns, cost)) return 0;
    const Span sum = Add(config, Backlog(state, now_ns), UnitsSpan(config, cost));
    return sum.ns - config.span_ns + (sum.fraction > config.span_fraction ? 1 : 0);
  }

  static bool IsFresh(const LimitConfig& /*config*/, const State& state, int64_t now_ns) {
    const Span backlog = Backlog(state, now_ns);
    return backlog.ns == 0 && backlog.fraction == 0;
  }

 private:
  struct Span {
    uint64_t ns;
    uint64_t fraction;  // in [0, rate), of 1/rate nanosecond
  };

  // d = max(TAT - now, 0).
  static Span Backlog(const State& state, int64_t now_ns) {
    const uint64_t tat_ns = static_cast<uint64_t>(state.bucket.tat_ns);
    const uint64_t now = static_cast<uint64_t>(now_ns);
    if (tat_ns < now) return {0, 0};
    return {tat_ns - now, state.bucket.fraction};
  }

  // units * per / rate.
  static Span UnitsSpan(const LimitConfig& config, uint64_t units) {
    if (units == 1) [[likely]]
      return {config.unit_ns, config.unit_fraction};
    const Uint128 product = Uint128{units} * config.per_ns;
    return {static_cast<uint64_t>(product / config.rate),
            static_cast<uint64_t>(product % config.rate)};
  }

  static Span Add(const LimitConfig& config, Span a, Span b) {
    const uint64_t fraction = a.fraction + b.fraction;
    if (fraction < config.rate) return {a.ns + b.ns, fraction};
    return {a.ns + b.ns + 1, fraction - config.rate};
  }
};

}  // namespace flint
