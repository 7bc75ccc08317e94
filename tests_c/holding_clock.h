#pragma once

#include <atomic>
#include <thread>

#include "base/clock.h"
#include "gate.h"

namespace flint {

// Shows another clock's time, and can hold a thread up between reading it and going on, as the
// system does when it stops a thread there: others then read later times and are done earlier.
// Never goes back for one thread.
class HoldingClock final : public Clock {
 public:
  explicit HoldingClock(const Clock* clock) : clock_(clock) {}

  int64_t BootNs() const override {
    const int64_t now_ns = clock_->BootNs();
    if (readings_left_ == 0) return now_ns;
    --readings_left_;
    if (readings_left_ == 0) {
      holding_ = true;
      gate_.Pass();
      holding_ = false;
    }
    return now_ns;
  }
  int64_t WallNs() const override { return clock_->WallNs(); }
  BootId Boot() const override { return clock_->Boot(); }
  bool monotonic() const override { return true; }

  // Runs `call` in a thread of its own, which is held up when it has read the clock so many times.
  template <typename Call>
  void Hold(Call call, int readings = 1) {
    gate_.Close();
    held_ = std::thread([call, readings] {
      readings_left_ = readings;
      call();
      readings_left_ = 0;
    });
    gate_.AwaitSomebody();
  }
  bool holding() const { return holding_; }
  void Release() {
    gate_.Open();
    held_.join();
  }

 private:
  static inline thread_local int readings_left_ = 0;

  const Clock* const clock_;
  mutable Gate gate_;
  mutable std::atomic<bool> holding_ = false;
  std::thread held_;
};

}  // namespace flint
