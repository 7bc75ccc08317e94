#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/mutex.h"
#include "model/engine_clock.h"
#include "storage/recovery.h"

namespace flint {

// The segments that the snapshot covers: they are kept for their history alone, within bounds, and
// dropped oldest first. Any thread.
class KeptSegments {
 public:
  struct Bounds {
    uint64_t max_bytes = 0;
    uint64_t max_age_ns = 0;     // 0: however old
    uint64_t segment_bytes = 1;  // of a full one

    // Small ones are no more than full ones would be and some: each opening looks at them all.
    uint64_t max_files() const { return kLeastFiles + max_bytes / segment_bytes; }
  };
  static constexpr uint64_t kLeastFiles = 256;

  KeptSegments(Env* env, std::string directory, EngineClock* clock, const Bounds& bounds)
      : env_(env), directory_(std::move(directory)), clock_(clock), bounds_(bounds) {}
  KeptSegments(const KeptSegments&) = delete;
  KeptSegments& operator=(const KeptSegments&) = delete;

  // Newer than all that are kept.
  void Add(const std::vector<HistorySegment>& segments) FLINT_EXCLUDES(mutex_);
  // Removes the oldest, within bounds or not; true if that has made room on the disk. One that
  // cannot be removed stays the oldest, is counted and tried again.
  bool DropOldest() FLINT_EXCLUDES(mutex_);
  // Removes what is out of bounds. Each removal is on disk before the next, or a power loss could
  // leave a gap in the history, which would look like damage.
  Status Trim() FLINT_EXCLUDES(mutex_);
  uint64_t bytes() const { return bytes_.load(); }
  uint64_t failures() const { return failures_.load(); }  // to remove one

 private:
  bool DropFront() FLINT_REQUIRES(mutex_);
  Status SyncRemovals() FLINT_REQUIRES(mutex_);
  bool OutOfBounds() const FLINT_REQUIRES(mutex_);

  Env* const env_;
  const std::string directory_;
  EngineClock* const clock_;
  const Bounds bounds_;
  SystemMutex mutex_;
  std::deque<HistorySegment> segments_ FLINT_GUARDED_BY(mutex_);  // oldest first
  std::atomic<uint64_t> bytes_{0};
  bool unsynced_ FLINT_GUARDED_BY(mutex_) = false;  // the last removal
  std::atomic<uint64_t> failures_{0};
};

}  // namespace flint
