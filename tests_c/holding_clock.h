#pragma once

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
    if (hold_me_) {
      hold_me_ = false;
      gate_.Pass();
    }
    return now_ns;
  }
  int64_t WallNs() const override { return clock_->WallNs(); }
  BootId Boot() const override { return clock_->Boot(); }
  bool monotonic() const override { return true; }

  // Runs `call` in a thread of its own, which is held up when it has read the clock.
  template <typename Call>
  void Hold(Call call) {
    gate_.Close();
    held_ = std::thread([call] {
      hold_me_ = true;
      call();
      hold_me_ = false;
    });
    gate_.AwaitSomebody();
  }
  void Release() {
    gate_.Open();
    held_.join();
  }

 private:
  static inline thread_local bool hold_me_ = false;

  const Clock* const clock_;
  mutable Gate gate_;
  std::thread held_;
};

}  // namespace flint
