#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "base/env.h"
#include "storage/engine_clock.h"
#include "storage/recovery.h"

namespace flint {

// The segments that the snapshot covers: they are kept for their history alone, within bounds, and
// dropped oldest first. Any thread.
class KeptSegments {
 public:
  struct Bounds {
    uint64_t max_bytes = 0;
    uint64_t max_age_ns = 0;  // 0: however old
  };

  KeptSegments(Env* env, std::string directory, EngineClock* clock, const Bounds& bounds)
      : env_(env), directory_(std::move(directory)), clock_(clock), bounds_(bounds) {}
  KeptSegments(const KeptSegments&) = delete;
  KeptSegments& operator=(const KeptSegments&) = delete;

  // Newer than all that are kept.
  void Add(const std::vector<HistorySegment>& segments);
  // Removes the oldest, within bounds or not; true if that has made room on the disk. One that
  // cannot be removed stays the oldest, is counted and tried again.
  bool DropOldest();
  // Removes what is out of bounds.
  Status Trim();
  uint64_t bytes() const;
  uint64_t failures() const;  // to remove one

 private:
  bool DropFront();
  bool OutOfBounds() const;
  uint64_t BytesLocked() const;

  Env* const env_;
  const std::string directory_;
  EngineClock* const clock_;
  const Bounds bounds_;
  mutable std::mutex mutex_;
  std::deque<HistorySegment> segments_;  // oldest first
  uint64_t failures_ = 0;
};

}  // namespace flint
