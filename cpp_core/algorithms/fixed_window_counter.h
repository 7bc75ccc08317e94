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
  // As of one time: the window that it is in, or that would begin.
  struct View {
    int64_t start_ns;
    uint64_t used;  // 0: none has begun
    uint64_t left_ns;
  };

  static View At(const LimitConfig& config, const State& state, int64_t now_ns) {
    const FixedWindowState& window = state.fixed;
    if (window.used == 0 || now_ns - window.start_ns >= static_cast<int64_t>(config.per_ns)) {
      return {now_ns, 0, config.per_ns};
    }
    const auto elapsed_ns = static_cast<uint64_t>(now_ns - window.start_ns);
    return {window.start_ns, window.used, config.per_ns - elapsed_ns};
  }

  static bool Allows(const LimitConfig& config, View view, uint64_t cost) {
    return view.used + cost <= config.rate;
  }

  static void Tidy(const LimitConfig& /*config*/, State& /*state*/, int64_t /*now_ns*/) {}
  static void PrepareAdmit(const LimitConfig& /*config*/, State& /*state*/, int64_t /*now_ns*/) {}

  static View Admit(const LimitConfig& /*config*/, State& state, View view, int64_t /*now_ns*/,
                    uint64_t cost) {
    state.fixed = {view.start_ns, view.used + cost};
    return {view.start_ns, view.used + cost, view.left_ns};
  }

  static uint64_t Used(const LimitConfig& /*config*/, View view) { return view.used; }

  static uint64_t Remaining(const LimitConfig& config, View view) {
    return config.rate - view.used;
  }

  static uint64_t ResetAfterNs(const LimitConfig& /*config*/, View view) {
    return view.used == 0 ? 0 : view.left_ns;
  }

  static uint64_t RetryAfterNs(const LimitConfig& config, View view, uint64_t cost) {
    return Allows(config, view, cost) ? 0 : ResetAfterNs(config, view);
  }

  static bool IsFresh(const LimitConfig& /*config*/, View view) { return view.used == 0; }
};

}  // namespace flint
