#pragma once

#include <cstdint>
#include <string>

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
  // How long after a failure that may pass it is tried again.
  static constexpr int64_t kRetryNs = 100'000'000;

  SegmentSupply(Env* env, std::string directory, const LogOptions& options, LogAppender* appender,
                LogObserver* observer);
  SegmentSupply(const SegmentSupply&) = delete;
  SegmentSupply& operator=(const SegmentSupply&) = delete;

  // All that there is to be done. An error is for good.
  Status Housekeep();
  // The part of it that closing still needs.
  Status FinishRotated();
  // Then, at closing: the next segment is not needed, and the active one gets its final size.
  Status RemovePrepared();
  Status FinishLast();

 private:
  Status CutRotated();
  Status NameActive();
  Status PrepareNext();
  Status Prepare(SegmentHeader header, std::shared_ptr<LogSegment>* next);

  Env* const env_;
  const std::string directory_;
  const LogOptions options_;
  LogAppender* const appender_;
  LogObserver* const observer_;
  int64_t retry_at_ns_ = 0;
};

}  // namespace flint
