#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "base/check_path.h"

namespace flint {

// A mutex for what is held for moments, as shards and the log's append side are: taken in one
// atomic step and left by a plain store. Whoever finds it held looks again for about as long as it
// is usually held, and then from time to time, more and more seldom, so that nobody has to be woken
// by whoever leaves it, for whom looking whether somebody sleeps would cost as much as all the
// rest. (std::mutex does look, and goes to sleep at once: two threads which append all the time
// then spend it in the system.) Not recursive; any thread; no order among waiters.
class Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  FLINT_CHECK_PATH void lock() {
    if (!try_lock()) [[unlikely]]
      LockSlowly();
  }
  // Looks for about as long as it is usually held, and never sleeps: for who must not wait longer.
  bool TryLockForAMoment() {
    for (int look = 0; look < kLooks; ++look) {
      if (!held_.load(std::memory_order_relaxed) && try_lock()) return true;
      Pause();
    }
    return false;
  }
  bool try_lock() { return !held_.exchange(true, std::memory_order_acquire); }
  void unlock() { held_.store(false, std::memory_order_release); }

 private:
  static constexpr int kLooks = 200;
  static constexpr std::chrono::microseconds kShortestNap{50};
  static constexpr std::chrono::microseconds kLongestNap{1000};

  static void Pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
  }

  [[gnu::noinline]] void LockSlowly() {
    for (auto nap = kShortestNap;; nap = std::min(2 * nap, kLongestNap)) {
      if (TryLockForAMoment()) return;
      std::this_thread::sleep_for(nap);
    }
  }

  std::atomic<bool> held_{false};
};

}  // namespace flint
