#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/mutex.h"
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
  Status WaitDurable(uint64_t ticket, uint64_t timeout_ns) FLINT_EXCLUDES(mutex_);
  Status SyncThrough(uint64_t position) { return WaitDurable(position, UINT64_MAX); }
  // Waits until everything appended so far is on disk.
  Status Flush();
  // Waits until an append that found the ring full is worth trying again.
  Status WaitForRing() FLINT_EXCLUDES(mutex_);

  // Everything before it is on disk.
  uint64_t durable() const { return durable_.load(std::memory_order_acquire); }
  // Changes with every sync.
  uint32_t sync_count() const { return sync_count_.load(std::memory_order_relaxed); }
  struct Times {
    uint64_t since_sync_ns = 0;  // or since the log was opened
    uint64_t sync_time_ns = 0;   // that the system took for all syncs
  };
  Times times() FLINT_EXCLUDES(mutex_);

  // Nothing is appended, written or synced from now on, and whoever waits gets `status`. The first
  // one stays.
  void Poison(const Status& status) FLINT_EXCLUDES(mutex_);
  Status poison() FLINT_EXCLUDES(mutex_);

  // A descriptor (eventfd) that becomes readable when `durable` advances, when the log is poisoned,
  // and by SignalWatchers. Unwatch, or the destructor, closes it.
  Status Watch(int* fd) FLINT_EXCLUDES(mutex_);
  Status Unwatch(int fd) FLINT_EXCLUDES(mutex_);
  void SignalWatchers() FLINT_EXCLUDES(mutex_);

 private:
  class DrainRole;
  void TakeDrainRole() FLINT_EXCLUDES(mutex_) FLINT_ACQUIRE(drain_role_);
  void LeaveDrainRole() FLINT_EXCLUDES(mutex_) FLINT_RELEASE(drain_role_);
  Status WriteRange(const DrainRange& range) FLINT_REQUIRES(drain_role_);
  bool TakeSeal(const DrainRange& range, SealPayload* seal) FLINT_REQUIRES(drain_role_);
  void SyncOnce() FLINT_REQUIRES(sync_role_) FLINT_EXCLUDES(mutex_);
  Status SyncRange() FLINT_REQUIRES(sync_role_) FLINT_EXCLUDES(mutex_);
  Status SyncFile(const DrainRange& range) FLINT_REQUIRES(sync_role_) FLINT_EXCLUDES(mutex_);
  void FinishSync(const DrainRange& range, const SealPayload* seal) FLINT_REQUIRES(sync_role_)
      FLINT_EXCLUDES(mutex_);

  Status RingFailed() const;
  Status PoisonOf(const Status& status) const;
  void SignalWatchersLocked() FLINT_REQUIRES(mutex_);

  const std::string directory_;
  LogAppender* const appender_;
  Wakeup* const background_;
  LogObserver* const observer_;
  const Status short_of_memory_;  // made while there is some

  std::atomic<uint64_t> durable_;
  std::atomic<uint32_t> sync_count_{0};

  SystemMutex mutex_;
  Condition<SystemMutex> durable_changed_;
  Condition<SystemMutex> drain_changed_;
  Role sync_role_;
  Role drain_role_;
  bool syncing_ FLINT_GUARDED_BY(mutex_) = false;   // somebody has the sync role
  bool draining_ FLINT_GUARDED_BY(mutex_) = false;  // or the drain role
  Status poison_ FLINT_GUARDED_BY(mutex_);
  std::vector<int> watchers_ FLINT_GUARDED_BY(mutex_);
  // By a clock that nothing is decided or recorded by.
  std::chrono::steady_clock::time_point synced_at_ FLINT_GUARDED_BY(mutex_);
  std::chrono::nanoseconds sync_time_ FLINT_GUARDED_BY(mutex_){0};

  // Of what has been written since the last sync.
  Sha256 digest_ FLINT_GUARDED_BY(drain_role_);
  uint64_t digest_begin_ FLINT_GUARDED_BY(drain_role_);
};

}  // namespace flint
