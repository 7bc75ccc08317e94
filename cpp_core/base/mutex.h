#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <type_traits>

#include "base/assert.h"
#include "base/check_path.h"
#include "base/thread_annotations.h"

namespace flint {

// A mutex for what is held for moments, as shards and the log's append side are: taken in one
// atomic step and left by a plain store. Whoever finds it held looks again for about as long as it
// is usually held, and then from time to time, more and more seldom, so that nobody has to be woken
// by whoever leaves it, for whom looking whether somebody sleeps would cost as much as all the
// rest. (std::mutex does look, and goes to sleep at once: two threads which append all the time
// then spend it in the system.) Not recursive; any thread; no order among waiters.
class FLINT_CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  FLINT_CHECK_PATH void lock() FLINT_ACQUIRE() {
    if (!try_lock()) [[unlikely]]
      LockSlowly();
  }
  // Looks for about as long as it is usually held, and never sleeps: for who must not wait longer.
  bool TryLockForAMoment() FLINT_TRY_ACQUIRE(true) {
    for (int look = 0; look < kLooks; ++look) {
      if (!held_.load(std::memory_order_relaxed) && try_lock()) return true;
      Pause();
    }
    return false;
  }
  bool try_lock() FLINT_TRY_ACQUIRE(true) {
    return !held_.exchange(true, std::memory_order_acquire);
  }
  void unlock() FLINT_RELEASE() {
    FLINT_ASSERT(held_.load(std::memory_order_relaxed));
    held_.store(false, std::memory_order_release);
  }
  // For who knows that the caller holds it where clang cannot see that, as in a lambda.
  void AssertHeld() const FLINT_ASSERT_CAPABILITY(this) {
    FLINT_ASSERT(held_.load(std::memory_order_relaxed));
  }

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

  [[gnu::noinline]] void LockSlowly() FLINT_ACQUIRE() {
    for (auto nap = kShortestNap;; nap = std::min(2 * nap, kLongestNap)) {
      if (TryLockForAMoment()) return;
      std::this_thread::sleep_for(nap);
    }
  }

  std::atomic<bool> held_{false};
};

// std::mutex, for what may be held for longer.
class FLINT_CAPABILITY("mutex") SystemMutex {
 public:
  SystemMutex() = default;
  SystemMutex(const SystemMutex&) = delete;
  SystemMutex& operator=(const SystemMutex&) = delete;

  void lock() FLINT_ACQUIRE() { mutex_.lock(); }
  void unlock() FLINT_RELEASE() { mutex_.unlock(); }
  // As Mutex::AssertHeld, but only for clang: std::mutex does not tell.
  void AssertHeld() const FLINT_ASSERT_CAPABILITY(this) {}

 private:
  template <typename M>
  friend class Condition;
  std::mutex mutex_;
};

// Holds a mutex of either kind, or whatever is locked like one, as long as it lives.
template <typename M>
class FLINT_SCOPED_CAPABILITY MutexLock {
 public:
  FLINT_CHECK_PATH explicit MutexLock(M& mutex) FLINT_ACQUIRE(mutex) : mutex_(mutex) {
    mutex.lock();
  }
  // The caller has it already, and gives it away.
  FLINT_CHECK_PATH MutexLock(M& mutex, std::adopt_lock_t) FLINT_REQUIRES(mutex) : mutex_(mutex) {}
  FLINT_CHECK_PATH ~MutexLock() FLINT_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  M& mutex_;
};

// Leaves a mutex that is held, and takes it again at the end of its life.
template <typename M>
class FLINT_SCOPED_CAPABILITY MutexUnlock {
 public:
  explicit MutexUnlock(M& mutex) FLINT_RELEASE(mutex) : mutex_(mutex) { mutex.unlock(); }
  // Clang reads it as: ends what the constructor began.
  ~MutexUnlock() FLINT_RELEASE() { mutex_.lock(); }
  MutexUnlock(const MutexUnlock&) = delete;
  MutexUnlock& operator=(const MutexUnlock&) = delete;

 private:
  M& mutex_;
};

// What those who hold a mutex wait for. As with any condition variable a wait may end for no
// reason, so it stands in a loop; the loop is the caller's, where clang sees what it looks at.
template <typename M>
class Condition {
 public:
  Condition() = default;
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  void Wait(M& mutex) FLINT_REQUIRES(mutex) {
    if constexpr (kSystem) {
      std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
      condition_.wait(lock);
      lock.release();
    } else {
      condition_.wait(mutex);
    }
  }
  // False when the time was over.
  bool WaitUntil(M& mutex, std::chrono::steady_clock::time_point until) FLINT_REQUIRES(mutex) {
    static_assert(kSystem);
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const std::cv_status status = condition_.wait_until(lock, until);
    lock.release();
    return status == std::cv_status::no_timeout;
  }
  void NotifyAll() { condition_.notify_all(); }

 private:
  static constexpr bool kSystem = std::is_same_v<M, SystemMutex>;
  std::conditional_t<kSystem, std::condition_variable, std::condition_variable_any> condition_;
};

// A part that one thread at a time plays, across calls that wait: who plays it is told by a member
// under a mutex, and here only to clang.
class FLINT_CAPABILITY("role") Role {
 public:
  void Take() FLINT_ACQUIRE() {}
  void Leave() FLINT_RELEASE() {}
};

}  // namespace flint
