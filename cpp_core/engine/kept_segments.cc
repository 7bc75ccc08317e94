#include "engine/kept_segments.h"

#include <cerrno>

#include "base/assert.h"

namespace flint {

void KeptSegments::Add(const std::vector<HistorySegment>& segments) {
  const MutexLock lock(mutex_);
  segments_.insert(segments_.end(), segments.begin(), segments.end());
  for (const HistorySegment& segment : segments) bytes_ += segment.bytes;
  FLINT_ASSERT(!segments_.empty() || bytes_ == 0);
}

bool KeptSegments::DropOldest() {
  const MutexLock lock(mutex_);
  return !segments_.empty() && DropFront();
}

Status KeptSegments::Trim() {
  const MutexLock lock(mutex_);
  while (OutOfBounds() && DropFront()) {
  }
  return SyncRemovals();
}

bool KeptSegments::DropFront() {
  Status status = SyncRemovals();
  if (status.ok()) {
    status = env_->Remove(directory_ + "/" + segments_.front().name);
    const bool gone = status.detail() != nullptr && status.detail()->system_errno == ENOENT;
    if (gone) status = Status();
  }
  if (!status.ok()) {
    ++failures_;
    return false;
  }
  FLINT_ASSERT(bytes_ >= segments_.front().bytes && !unsynced_);
  unsynced_ = true;
  bytes_ -= segments_.front().bytes;
  segments_.pop_front();
  return true;
}

Status KeptSegments::SyncRemovals() {
  if (!unsynced_) return Status();
  FLINT_RETURN_IF_ERROR(env_->SyncDirectory(directory_));
  unsynced_ = false;
  return Status();
}

bool KeptSegments::OutOfBounds() const {
  if (segments_.empty()) return false;
  if (bytes_ > bounds_.max_bytes || segments_.size() > bounds_.max_files()) return true;
  return bounds_.max_age_ns != 0 &&
         clock_->Now() - segments_.front().last_time_ns > static_cast<int64_t>(bounds_.max_age_ns);
}

}  // namespace flint
