#pragma once

#include <algorithm>
#include <cassert>
#include <cstdint>

#include "algorithms/limit.h"

namespace flint {

// An estimate of the last `per` from two numbers: the units of the current window, and those of the
// window before it, counted in proportion to how much of that one is still in reach. Windows are
// [k * per, (k + 1) * per) of engine time. `cost` is admitted when
//
//     previous * (per - elapsed) + (current + cost) * per <= rate * per.
//
// Remaining: the whole units that are left by this. Reset: the end of the current window.
//
// Source: J. Desgats, "How we built rate limiting capable of scaling to millions of domains",
// Cloudflare, 2017; here without rounding. Every term is below 2^126.
struct SlidingWindowCounter {
  // As of one time: the window that it is in, the one before it, and what is left: per - elapsed.
  struct View {
    int64_t index;
    uint64_t previous;
    uint64_t current;
    uint64_t left_ns;
  };

  static View At(const LimitConfig& config, const State& state, int64_t now_ns) {
    const int64_t per_ns = static_cast<int64_t>(config.per_ns);
    const int64_t index = now_ns / per_ns;
    const uint64_t left_ns = static_cast<uint64_t>(per_ns - now_ns % per_ns);
    const SlidingCounterState& counts = state.sliding;
    if (index == counts.index) return {index, counts.previous, counts.current, left_ns};
    if (index == counts.index + 1) return {index, counts.current, 0, left_ns};
    if (index < counts.index) return {index, counts.previous, counts.current, left_ns};
    return {index, 0, 0, left_ns};
  }

  static bool Allows(const LimitConfig& config, View view, uint64_t cost) {
    return view.current + cost <= config.rate &&
           Uint128{view.previous} * view.left_ns <= Budget(config, view.current + cost);
  }

  static void Tidy(const LimitConfig& /*config*/, State& /*state*/, int64_t /*now_ns*/) {}
  static void PrepareAdmit(const LimitConfig& /*config*/, State& /*state*/, int64_t /*now_ns*/) {}

  static View Admit(const LimitConfig& /*config*/, State& state, View view, int64_t /*now_ns*/,
                    uint64_t cost) {
    state.sliding = {view.index, view.previous, view.current + cost};
    return {view.index, view.previous, view.current + cost, view.left_ns};
  }

  static uint64_t Used(const LimitConfig& config, View view) {
    const Uint128 weighted = Uint128{view.previous} * view.left_ns;
    const uint64_t before = Divide(weighted + config.per_ns - 1, config.per_ns).quotient;
    return std::min(std::min(before, config.rate) + view.current, config.rate);
  }

  static uint64_t Remaining(const LimitConfig& config, View view) {
    return config.rate - Used(config, view);
  }

  static uint64_t ResetAfterNs(const LimitConfig& /*config*/, View view) { return view.left_ns; }

  // Within one window the estimate only falls, by `previous` / per each nanosecond. So the cost
  // fits once at most budget / previous nanoseconds of the window are left. When that is 0, the
  // moment is the window's end, and there the next window agrees: its estimate starts at `current`.
  static uint64_t RetryAfterNs(const LimitConfig& config, View view, uint64_t cost) {
    if (Allows(config, view, cost)) return 0;
    if (view.current + cost <= config.rate) {
      assert(view.previous > 0);  // or it would be allowed
      const Uint128 left_ns = Budget(config, view.current + cost) / view.previous;
      return view.left_ns - static_cast<uint64_t>(left_ns);
    }
    // Not in this window. In the next one `current` is what comes before.
    assert(view.current > 0);  // as cost <= rate
    const Uint128 left_ns = Budget(config, cost) / view.current;
    return view.left_ns + config.per_ns - static_cast<uint64_t>(left_ns);
  }

  static bool IsFresh(const LimitConfig& /*config*/, View view) {
    return view.previous == 0 && view.current == 0;
  }

 private:
  // What the window before may weigh beside `units` of the current one, times per.
  static Uint128 Budget(const LimitConfig& config, uint64_t units) {
    return Uint128{config.rate - units} * config.per_ns;
  }
};

}  // namespace flint
