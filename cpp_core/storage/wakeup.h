#pragma once

#include <semaphore.h>

#include <cstdint>

namespace flint {

// What one thread sleeps on and others wake it with. Wakes that come together are one.
class Wakeup {
 public:
  Wakeup() { sem_init(&semaphore_, 0, 0); }
  ~Wakeup() { sem_destroy(&semaphore_); }
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;

  // Any thread. A wake before the sleep ends that sleep at once.
  void Wake() { sem_post(&semaphore_); }
  // The one thread.
  void SleepUntil(int64_t steady_ns);

 private:
  sem_t semaphore_;
};

// Of the clock that SleepUntil takes. For durations; what is recorded has the engine's clock.
int64_t SteadyNs();

}  // namespace flint
