#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace flint {

// A clock that shows what the test sets. Setters may be called from any thread.
class FakeClock final : public Clock {
 public:
  static constexpr int64_t kStartBootNs = 1'000'000'000;
  static constexpr int64_t kStartWallNs = 1'700'000'000'000'000'000;

  int64_t BootNs() const override { return boot_ns_; }
  int64_t WallNs() const override { return wall_ns_; }
  BootId Boot() const override { return BootId{boot_number_}; }
  bool monotonic() const override { return monotonic_; }

  void SetBootNs(int64_t boot_ns) { boot_ns_ = boot_ns; }
  void SetWallNs(int64_t wall_ns) { wall_ns_ = wall_ns; }
  void SetMonotonic(bool monotonic) { monotonic_ = monotonic; }
  // Time passes on both clocks.
  void AdvanceNs(int64_t ns) {
    boot_ns_ += ns;
    wall_ns_ += ns;
  }
  // The machine starts again: the boot clock begins anew and the boot id changes.
  void Reboot() {
    ++boot_number_;
    boot_ns_ = 0;
  }

 private:
  std::atomic<int64_t> boot_ns_ = kStartBootNs;
  std::atomic<int64_t> wall_ns_ = kStartWallNs;
  std::atomic<uint8_t> boot_number_ = 1;
  std::atomic<bool> monotonic_ = true;
};

}  // namespace flint
