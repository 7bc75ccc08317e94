#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "storage/record.h"

namespace flint {

// Engine time: starts at the wall clock when a directory is created, follows the boot clock while
// a process runs, and never goes back, unless it is set anew. Any thread.
class EngineClock {
 public:
  explicit EngineClock(const Clock* clock) : clock_(clock) {}

  // Makes engine time `engine_ns` at this moment.
  void StartAt(int64_t engine_ns) {
    offset_ns_.store(engine_ns - clock_->BootNs(), std::memory_order_relaxed);
    floor_ns_.store(engine_ns, std::memory_order_relaxed);
  }

  int64_t Now() {
    const int64_t now_ns = Follow(clock_->BootNs());
    // The system's boot clock cannot go back, so the common case touches no shared memory.
    return clock_->monotonic() ? now_ns : NotBefore(now_ns);
  }

  int64_t WallNs() const { return clock_->WallNs(); }
  BootId Boot() const { return clock_->Boot(); }

  ClockPair Pair() {
    const int64_t boot_ns = clock_->BootNs();
    return ClockPair{Now(), boot_ns, clock_->WallNs()};
  }

 private:
  static constexpr int64_t kMaxTimeNs = int64_t{1} << 62;

  int64_t Follow(int64_t boot_ns) const {
    return std::min(boot_ns + offset_ns_.load(std::memory_order_relaxed), kMaxTimeNs);
  }

  int64_t NotBefore(int64_t now_ns) {
    int64_t floor_ns = floor_ns_.load(std::memory_order_relaxed);
    while (floor_ns < now_ns &&
           !floor_ns_.compare_exchange_weak(floor_ns, now_ns, std::memory_order_relaxed)) {
    }
    return std::max(floor_ns, now_ns);
  }

  const Clock* clock_;
  std::atomic<int64_t> offset_ns_{0};
  std::atomic<int64_t> floor_ns_{0};
};

}  // namespace flint
