#pragma once

#include <atomic>

namespace flint {

// A mutex for what is held for moments, as shards and the log's append side are: taken and left in
// one atomic step each when nobody else wants it. Whoever finds it held looks again for about as
// long as it is usually held before it asks the system to be woken, since going to sleep and being
// woken takes a hundred times as long. (std::mutex does not look again, so that two threads which
// append all the time spend it in the system.) Not recursive; any thread; no order among waiters.
class Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() {
    if (!try_lock()) [[unlikely]]
      LockSlowly();
  }
  bool try_lock() {
    int expected = kFree;
    return state_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }
  void unlock() {
    if (state_.exchange(kFree, std::memory_order_release) == kWanted) [[unlikely]]
      state_.notify_one();
  }

 private:
  static constexpr int kFree = 0;
  static constexpr int kHeld = 1;
  static constexpr int kWanted = 2;  // held, and somebody sleeps until it is left
  static constexpr int kLooks = 200;

  static void Pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
  }

  [[gnu::noinline]] void LockSlowly() {
    for (int look = 0; look < kLooks; ++look) {
      if (state_.load(std::memory_order_relaxed) == kFree && try_lock()) return;
      Pause();
    }
    while (state_.exchange(kWanted, std::memory_order_acquire) != kFree) state_.wait(kWanted);
  }

  std::atomic<int> state_{kFree};
};

}  // namespace flint
