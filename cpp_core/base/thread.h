#pragma once

#include <pthread.h>

#include <functional>

#include "base/status.h"

namespace flint {

// The one way to start a thread. The program that Flint lives in does not notice it: the thread
// takes none of the program's signals (all are blocked in it but those that a fault of its own
// raises), tells by its name whose it is, and ends nothing when it cannot be made or fails.
class Thread {
 public:
  Thread() = default;
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  ~Thread();  // of one that has been joined, or was never started

  // Runs `run` in a thread called `name`, of at most 15 bytes. What `run` throws is handed to
  // `on_escape`, in that thread and as its last act; it must not throw. When no thread can be made
  // the error says what ran out, with its errno, and Start may be called again.
  Status Start(const char* name, std::function<void()> run,
               std::function<void(const Status& status)> on_escape);
  bool started() const { return started_; }
  // Waits for its end. Does nothing when it has not been started.
  void Join();

 private:
  pthread_t thread_{};
  bool started_ = false;
};

}  // namespace flint
