#pragma once

#include <atomic>
#include <cstdint>

#include "base/status.h"
#include "base/thread.h"
#include "storage/log_appender.h"
#include "storage/log_observer.h"
#include "storage/log_syncer.h"
#include "storage/segment_supply.h"
#include "storage/wakeup.h"

namespace flint {

// The log's background thread: syncs what nobody waits for, and keeps the supply of segments going.
//
// Start and Stop by whoever opens and closes; everything else is the thread's.
class LogBackground {
 public:
  LogBackground(const LogOptions& options, LogAppender* appender, LogSyncer* syncer,
                SegmentSupply* supply, Wakeup* wakeup, LogObserver* observer);
  ~LogBackground() { Stop(); }
  LogBackground(const LogBackground&) = delete;
  LogBackground& operator=(const LogBackground&) = delete;

  Status Start();
  void Stop();

 private:
  enum class Due { kNothing, kSync, kIdleSeal };
  void Run();
  void Turn();
  // What comes next, and how long there is nothing to do.
  Due NextDue(int64_t* sleep_ns);
  Due DueOf(const LogAppender::Backlog& backlog, int64_t* sleep_ns);

  const LogOptions options_;
  LogAppender* const appender_;
  LogSyncer* const syncer_;
  SegmentSupply* const supply_;
  Wakeup* const wakeup_;
  LogObserver* const observer_;
  Thread thread_;
  std::atomic<bool> stop_{false};
  uint64_t events_seen_ = 0;
  int64_t events_seen_at_ns_ = 0;
  int64_t sync_due_at_ns_ = 0;  // 0: nothing is waiting for a timed sync
};

}  // namespace flint
