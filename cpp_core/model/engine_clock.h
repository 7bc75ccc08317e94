#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/check_path.h"
#include "base/clock.h"
#include "base/counter_clock.h"

namespace flint {

// Engine time, boot clock and wall clock read together.
struct ClockPair {
  int64_t engine_ns = 0;
  int64_t boot_ns = 0;
  int64_t wall_ns = 0;
};

// Engine time: starts at the wall clock when a directory is created, follows the boot clock while
// a process runs, and never goes back, unless it is set anew. Any thread. Told by the processor's
// counter it may differ by microseconds from one thread to another: what has to be in order goes by
// Keyspace::NowIn.
class EngineClock {
 public:
  explicit EngineClock(const Clock* clock)
      : clock_(clock), is_system_(clock == Clock::System()), monotonic_(clock->monotonic()) {
    if (is_system_ && Processor::HasSteadyCounter()) counter_.Start();
  }

  // Makes engine time `engine_ns` at this moment; at most 2^62.
  void StartAt(int64_t engine_ns) {
    engine_ns = std::min(engine_ns, Clock::kMaxNs);
    offset_ns_.store(engine_ns - clock_->BootNs(), std::memory_order_relaxed);
    floor_ns_.store(engine_ns, std::memory_order_relaxed);
  }

  FLINT_CHECK_PATH int64_t Now() {
    int64_t boot_ns = 0;
    if (counter_.Read(&boot_ns)) [[likely]]
      return Follow(boot_ns);
    return NowAnew();
  }

  // By the system's clock.
  int64_t NowAnew() {
    const int64_t now_ns = Follow(is_system_ ? counter_.ReadAnew() : clock_->BootNs());
    // The system's boot clock cannot go back, so the common case touches no shared memory.
    return monotonic_ ? now_ns : NotBefore(now_ns);
  }

  // When what was read is no later than this: the system is asked, as the counter may stand still.
  int64_t NowFrom(int64_t last_ns) { return is_system_ ? std::max(NowAnew(), last_ns) : last_ns; }

  int64_t WallNs() const { return clock_->WallNs(); }

  // The wall clock's time at a moment of engine time not long ago. A step of the wall clock is seen
  // after a millisecond, so that a check reads one clock and not two.
  FLINT_CHECK_PATH int64_t WallAt(int64_t engine_ns) {
    if (!monotonic_) [[unlikely]]
      return clock_->WallNs();
    const int64_t read_at_ns = wall_read_at_ns_.load(std::memory_order_relaxed);
    // What is earlier is another thread's, or time has been set anew.
    if (static_cast<uint64_t>(engine_ns - read_at_ns) > kWallAgeNs) [[unlikely]] {
      wall_minus_engine_ns_.store(clock_->WallNs() - NowAnew(), std::memory_order_relaxed);
      wall_read_at_ns_.store(engine_ns, std::memory_order_relaxed);
    }
    return engine_ns + wall_minus_engine_ns_.load(std::memory_order_relaxed);
  }
  BootId Boot() const { return clock_->Boot(); }

  ClockPair Pair() {
    const int64_t boot_ns = clock_->BootNs();
    const int64_t now_ns = Follow(boot_ns);
    return ClockPair{monotonic_ ? now_ns : NotBefore(now_ns), boot_ns, clock_->WallNs()};
  }

 private:
  static constexpr int64_t kWallAgeNs = 1'000'000;

  FLINT_CHECK_PATH int64_t Follow(int64_t boot_ns) const {
    return std::min(boot_ns + offset_ns_.load(std::memory_order_relaxed), Clock::kMaxNs);
  }

  int64_t NotBefore(int64_t now_ns) {
    int64_t floor_ns = floor_ns_.load(std::memory_order_relaxed);
    while (floor_ns < now_ns &&
           !floor_ns_.compare_exchange_weak(floor_ns, now_ns, std::memory_order_relaxed)) {
    }
    return std::max(floor_ns, now_ns);
  }

  const Clock* const clock_;
  const bool is_system_;  // the usual case
  const bool monotonic_;
  std::atomic<int64_t> offset_ns_{0};
  std::atomic<int64_t> floor_ns_{0};
  std::atomic<int64_t> wall_read_at_ns_{-2 * kWallAgeNs};
  std::atomic<int64_t> wall_minus_engine_ns_{0};
  CounterClock<Processor> counter_;
};

}  // namespace flint
