#pragma once

#include <cstdint>
#include <type_traits>

#include "algorithms/fixed_window_counter.h"
#include "algorithms/gcra.h"
#include "algorithms/leaky_bucket.h"
#include "algorithms/limit.h"
#include "algorithms/sliding_window_counter.h"
#include "algorithms/sliding_window_log.h"
#include "algorithms/token_bucket.h"

namespace flint {

// The six algorithms behind one set of pure functions: (configuration, state, now, cost) ->
// decision. Integers only, exact. This header dispatches; each algorithm has a header of its own
// with the same functions, and says there what it admits and where its formula comes from. There
// the state as of one time is a View, so that who decides and then tells how the counter stands
// looks at the state once: Tidy, At, Allows, PrepareAdmit, Admit (which gives the View behind the
// admission), and what is told.
//
// Time is engine time in nanoseconds, 0 <= now <= 2^62, and never goes back for one state, but for
// IsFresh: at a time before the state's own nothing that it holds has become fresh. Bounds, checked
// before anything comes here: 1 <= cost <= burst; rate, burst, per_ns and
// ceil(burst * per_ns / rate) are 1 to 2^62. For the window algorithms burst equals rate.

// NOLINTNEXTLINE(misc-redundant-expression): they have names of their own.
static_assert(std::is_same_v<TokenBucket, BucketLevel> && std::is_same_v<Gcra, BucketLevel> &&
              std::is_same_v<LeakyBucket, BucketLevel>);

// Calls `visit` with an instance of the algorithm's struct. Buckets come first and need no jump
// table: they are the default, and their decision takes little more than the jump would.
template <typename Visitor>
inline auto VisitAlgorithm(Algorithm algorithm, Visitor visit) {
  if (IsBucket(algorithm)) [[likely]]
    return visit(BucketLevel{});
  if (algorithm == Algorithm::kFixedWindowCounter) return visit(FixedWindowCounter{});
  if (algorithm == Algorithm::kSlidingWindowLog) return visit(SlidingWindowLog{});
  return visit(SlidingWindowCounter{});
}

// Whether `cost` would be admitted now. Changes nothing that any later answer depends on (the
// log algorithm drops entries that have left its window). Allocates nothing.
inline bool Allows(const LimitConfig& config, State& state, int64_t now_ns, uint64_t cost) {
  return VisitAlgorithm(config.algorithm, [&](auto algorithm) {
    algorithm.Tidy(config, state, now_ns);
    return algorithm.Allows(config, algorithm.At(config, state, now_ns), cost);
  });
}

// Makes room so that the next Admit, at the same time, cannot fail or allocate; throws
// std::bad_alloc. Only the log algorithm needs any.
inline void PrepareAdmit(const LimitConfig& config, State& state, int64_t now_ns) {
  VisitAlgorithm(config.algorithm,
                 [&](auto algorithm) { algorithm.PrepareAdmit(config, state, now_ns); });
}

// Records an admission that Allows has granted, or that a log record says was granted. Without
// PrepareAdmit before it, it may throw std::bad_alloc, and then has changed nothing.
inline void Admit(const LimitConfig& config, State& state, int64_t now_ns, uint64_t cost) {
  VisitAlgorithm(config.algorithm, [&](auto algorithm) {
    algorithm.Admit(config, state, algorithm.At(config, state, now_ns), now_ns, cost);
  });
}

// Whole units that would be admitted now, 0 to burst.
inline uint64_t Remaining(const LimitConfig& config, const State& state, int64_t now_ns) {
  return VisitAlgorithm(config.algorithm, [&](auto algorithm) {
    return algorithm.Remaining(config, algorithm.At(config, state, now_ns));
  });
}

// Nanoseconds from now until reset_at, which each algorithm defines. At most 2^62.
inline uint64_t ResetAfterNs(const LimitConfig& config, const State& state, int64_t now_ns) {
  return VisitAlgorithm(config.algorithm, [&](auto algorithm) {
    return algorithm.ResetAfterNs(config, algorithm.At(config, state, now_ns));
  });
}

// Nanoseconds until `cost` would be admitted if nothing else came; 0 when it would be now. At most
// 2^62, and 2^63 for sliding_window_counter.
uint64_t RetryAfterNs(const LimitConfig& config, const State& state, int64_t now_ns, uint64_t cost);

// Whether the state can no longer be told from a new counter's, now and ever after.
inline bool IsFresh(const LimitConfig& config, const State& state, int64_t now_ns) {
  return VisitAlgorithm(config.algorithm, [&](auto algorithm) {
    return algorithm.IsFresh(config, algorithm.At(config, state, now_ns));
  });
}

// Units used as of now, rounded up, at most burst.
uint64_t Used(const LimitConfig& config, const State& state, int64_t now_ns);
// A state in which `used` units (at most burst) were used at `now_ns`, in one piece.
State FromUsed(const LimitConfig& config, uint64_t used, int64_t now_ns);
// Reconfiguration: what was used counts as used at the moment of the change, under the new
// configuration, at most its burst.
State Migrate(const LimitConfig& from, const State& state, const LimitConfig& to, int64_t at_ns);

}  // namespace flint
