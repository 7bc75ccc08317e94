#pragma once

#include <cstdint>

#include "algorithms/limit.h"

namespace flint {

// At most `rate` units in a window of `per`. A window begins with the first admission after the
// one before it has ended, and is half-open: [start, start + per). Across the border of two windows
// up to 2 * rate units can come close together; who minds takes one of the sliding algorithms.
// Remaining: rate - used. Reset: the end of the window; at once when none has begun.
//
// Source: the common counter that expires `per` after it was created.
struct FixedWindowCounter {
  static bool Allows(const LimitConfig& config, const State& state, int64_t now_ns, uint64_t cost) {
    return Used(config, state, now_ns) + cost <= config.rate;
  }

  static void PrepareAdmit(const LimitConfig& /*config*/, State& /*state*/, int64_t /*now_ns*/) {}

  static void Admit(const LimitConfig& config, State& state, int64_t now_ns, uint64_t cost) {
    if (IsFresh(config, state, now_ns)) state.fixed = {now_ns, 0};
    state.fixed.used += cost;
  }

  static uint64_t Used(const LimitConfig& config, const State& state, int64_t now_ns) {
    return IsFresh(config, state, now_ns) ? 0 : state.fixed.used;
  }

  static uint64_t Remaining(const LimitConfig& config, const State& state, int64_t now_ns) {
    return config.rate - Used(config, state, now_ns);
  }

  static uint64_t ResetAfterNs(const LimitConfig& config, const State& state, int64_t now_ns) {
    if (IsFresh(config, state, now_ns)) return 0;
    return config.per_ns - static_cast<uint64_t>(now_ns - state.fixed.start_ns);
  }

  static uint64_t RetryAfterNs(const LimitConfig& config, const State& state, int64_t now_ns,
                               uint64_t cost) {
    return Allows(config, state, now_ns, cost) ? 0 : ResetAfterNs(config, state, now_ns);
  }

  static bool IsFresh(const LimitConfig& config, const State& state, int64_t now_ns) {
    return state.fixed.used == 0 ||
           now_ns - state.fixed.start_ns >= static_cast<int64_t>(config.per_ns);
  }
};

}  // namespace flint
