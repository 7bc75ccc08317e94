#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "base/status.h"
#include "storage/log_appender.h"
#include "storage/log_observer.h"
#include "storage/wakeup.h"

namespace flint {

// The disk side of the log. A drain moves what has been appended from the ring to its segment; a
// sync makes it durable and has it sealed. Of the threads that wait for a sync one leads it, and
// the others go with it or with the next: group commit. What cannot be written poisons the log for
// good.
//
// Any thread may call any method. Two roles, each one thread's at a time, are held across system
// calls: to drain, and to sync, which drains first. The mutex is not.
class LogSyncer {
 public:
  LogSyncer(std::string directory, LogAppender* appender, Wakeup* background, LogObserver* observer,
            uint64_t position);
  ~LogSyncer();
  LogSyncer(const LogSyncer&) = delete;
  LogSyncer& operator=(const LogSyncer&) = delete;

  // Waits until `ticket` is on disk, or has the background thread sync it when the time is over.
  // 0 does not wait at all; UINT64_MAX is without end.
  Status WaitDurable(uint64_t ticket, uint64_t timeout_ns);
  Status SyncThrough(uint64_t position) { return WaitDurable(position, UINT64_MAX); }
  // Waits until everything appended so far is on disk.
  Status Flush();
  // Waits until an append that found the ring full is worth trying again.
  Status WaitForRing();

  // Everything before it is on disk.
  uint64_t durable() const { return durable_.load(std::memory_order_acquire); }
  // Changes with every sync.
  uint32_t sync_count() const { return sync_count_.load(std::memory_order_relaxed); }
  struct Times {
    uint64_t since_sync_ns = 0;  // or since the log was opened
    uint64_t sync_time_ns = 0;   // that the system took for all syncs
  };
  Times times();

  // Nothing is appended, written or synced from now on, and whoever waits gets `status`. The first
  // one stays.
  void Poison(const Status& status);
  Status poison();

  // A descriptor (eventfd) that becomes readable when `durable` advances, when the log is poisoned,
  // and by SignalWatchers. Unwatch, or the destructor, closes it.
  Status Watch(int* fd);
  Status Unwatch(int fd);
  void SignalWatchers();

 private:
  class DrainRole;
  void TakeDrainRole();
  void LeaveDrainRole();
  // In the drain role.
  Status WriteRange(const DrainRange& range);
  bool TakeSeal(const DrainRange& range, SealPayload* seal);
  // In the sync role.
  void SyncOnce();
  Status SyncRange();
  Status SyncFile(const DrainRange& range);
  void FinishSync(const DrainRange& range, const SealPayload* seal);

  Status RingFailed() const;
  Status PoisonOf(const Status& status) const;
  // Under mutex_.
  void SignalWatchersLocked();

  const std::string directory_;
  LogAppender* const appender_;
  Wakeup* const background_;
  LogObserver* const observer_;
  const Status short_of_memory_;  // made while there is some

  std::atomic<uint64_t> durable_;
  std::atomic<uint32_t> sync_count_{0};

  std::mutex mutex_;
  std::condition_variable durable_changed_;
  std::condition_variable drain_changed_;
  bool syncing_ = false;
  bool draining_ = false;
  Status poison_;
  std::vector<int> watchers_;
  // By a clock that nothing is decided or recorded by.
  std::chrono::steady_clock::time_point synced_at_;
  std::chrono::nanoseconds sync_time_{0};

  // In the drain role: of what has been written since the last sync.
  Sha256 digest_;
  uint64_t digest_begin_;
};

}  // namespace flint
