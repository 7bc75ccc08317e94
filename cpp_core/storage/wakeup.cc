#include "storage/wakeup.h"

#include <time.h>

#include <chrono>

namespace flint {

void Wakeup::SleepUntil(int64_t steady_ns) {
  timespec until;
  until.tv_sec = static_cast<time_t>(steady_ns / 1'000'000'000);
  until.tv_nsec = static_cast<decltype(until.tv_nsec)>(steady_ns % 1'000'000'000);
  if (sem_clockwait(&semaphore_, CLOCK_MONOTONIC, &until) != 0) return;
  while (sem_trywait(&semaphore_) == 0) {
  }
}

int64_t SteadyNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace flint
