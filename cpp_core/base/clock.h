#pragma once

#include <time.h>

#include <array>
#include <cstdint>

#include "base/check_path.h"
#include "base/status.h"

namespace flint {

// 16 bytes that change with every boot of the machine.
using BootId = std::array<uint8_t, 16>;

// The only door to time. Nanoseconds, between 0 and 2^62. Methods may be called from any thread,
// under engine locks, and must not block.
class Clock {
 public:
  static constexpr int64_t kMaxNs = int64_t{1} << 62;  // in 2116, on 20 February
  // 2116-01-01 00:00 UTC. A clock that shows this or more leaves no time to count, and is wrong.
  static constexpr int64_t kEndNs = 4'607'280'000'000'000'000;

  virtual ~Clock() = default;
  // Whether it can be read at all, and shows a time that can be counted on from. Asked when a
  // limiter is opened.
  virtual Status Check() const;
  // Counts on through suspend, from an arbitrary start. Never goes back when `monotonic()`.
  virtual int64_t BootNs() const = 0;
  virtual int64_t WallNs() const = 0;  // since 1970
  // The system's clock has a random id when the kernel tells none: no two processes then agree
  // that the machine has stayed up in between, which is the safe thing to believe.
  virtual BootId Boot() const = 0;
  // False when BootNs may go back (an injected clock): the engine then guards against it itself.
  virtual bool monotonic() const = 0;

  static const Clock* System();
  // The same, of which an EngineClock asks each time.
  static const Clock* SystemWithoutCounter();
  // What its BootNs tells.
  FLINT_CHECK_PATH static int64_t SystemBootNs() {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  }
};

// A clock given by the user: one function stands for both clocks.
class CallbackClock final : public Clock {
 public:
  using Function = int64_t (*)(void* argument);
  CallbackClock(Function function, void* argument) : function_(function), argument_(argument) {}
  int64_t BootNs() const override;
  int64_t WallNs() const override { return BootNs(); }
  // Tells boots apart, and this clock from the system's, whose readings it does not continue.
  BootId Boot() const override;
  bool monotonic() const override { return false; }

 private:
  Function function_;
  void* argument_;
};

}  // namespace flint
