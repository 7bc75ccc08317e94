#pragma once

#include <condition_variable>
#include <mutex>

namespace flint {

// Holds up whoever passes while it is closed: calls to the disk, for example.
class Gate {
 public:
  void Close() { Set(true); }
  void Open() { Set(false); }
  void Pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !closed_; });
  }
  // Until somebody has come since it was closed.
  void AwaitSomebody() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return waiting_; });
  }

 private:
  void Set(bool closed) {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = closed;
    if (closed) waiting_ = false;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  bool waiting_ = false;
};

}  // namespace flint
