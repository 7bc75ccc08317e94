#include "engine/kept_segments.h"

#include <cerrno>

namespace flint {

void KeptSegments::Add(const std::vector<HistorySegment>& segments) {
  const std::lock_guard<std::mutex> lock(mutex_);
  segments_.insert(segments_.end(), segments.begin(), segments.end());
}

bool KeptSegments::DropOldest() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !segments_.empty() && DropFront();
}

Status KeptSegments::Trim() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (OutOfBounds() && DropFront()) {
    }
  }
  return env_->SyncDirectory(directory_);
}

uint64_t KeptSegments::bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return BytesLocked();
}

uint64_t KeptSegments::failures() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failures_;
}

bool KeptSegments::DropFront() {
  const Status status = env_->Remove(directory_ + "/" + segments_.front().name);
  const bool gone = status.detail() != nullptr && status.detail()->system_errno == ENOENT;
  if (!status.ok() && !gone) {
    ++failures_;
    return false;
  }
  segments_.pop_front();
  return true;
}

bool KeptSegments::OutOfBounds() const {
  if (segments_.empty()) return false;
  if (BytesLocked() > bounds_.max_bytes) return true;
  return bounds_.max_age_ns != 0 &&
         clock_->Now() - segments_.front().last_time_ns > static_cast<int64_t>(bounds_.max_age_ns);
}

uint64_t KeptSegments::BytesLocked() const {
  uint64_t bytes = 0;
  for (const HistorySegment& segment : segments_) bytes += segment.bytes;
  return bytes;
}

}  // namespace flint
