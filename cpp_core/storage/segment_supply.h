#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "storage/log_appender.h"
#include "storage/log_observer.h"

namespace flint {

// The log's files: makes the next segment before it is needed, and gives rotated ones their final
// size and name.
//
// One thread at a time: the background thread, and when that has ended whoever closes.
class SegmentSupply {
 public:
  static constexpr int64_t kRetryNs = 100'000'000;

  SegmentSupply(Env* env, std::string directory, const LogOptions& options, LogAppender* appender,
                LogObserver* observer);
  SegmentSupply(const SegmentSupply&) = delete;
  SegmentSupply& operator=(const SegmentSupply&) = delete;

  // All that there is to be done. An error is for good; what may pass (no space, no descriptor, no
  // memory) is tried again in kRetryNs, and appends that need the next segment fail until then.
  Status Housekeep();
  bool retrying() const { return retrying_; }
  // The part of it that closing still needs.
  Status FinishRotated();
  // Then, at closing: the next segment is not needed, and the active one gets its final size.
  Status RemovePrepared();
  Status FinishLast();

 private:
  // Giving the active segment its name. Each step is on disk before the next; one that fails for a
  // reason that may pass is tried again.
  enum class NamingStep { kLink, kSyncLink, kRename, kSyncRename };

  // A step that may run out of memory.
  Status Attempt(Status (SegmentSupply::*step)());
  Status Supply();
  Status CutRotated();
  Status NameActive();
  Status TakeLogName();
  Status PrepareNext();
  Status Prepare(SegmentHeader header, std::shared_ptr<LogSegment>* next);

  Env* const env_;
  const std::string directory_;
  const LogOptions options_;
  LogAppender* const appender_;
  LogObserver* const observer_;
  std::vector<std::shared_ptr<LogSegment>> rotated_;  // to be cut to their final size
  NamingStep naming_step_ = NamingStep::kLink;
  std::string rotated_name_;  // of the segment that is leaving the name flint.aof
  bool retrying_ = false;
  int64_t retry_at_ns_ = 0;
};

}  // namespace flint
