#pragma once

#include <semaphore.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "storage/engine_clock.h"
#include "storage/record.h"
#include "storage/ring.h"
#include "storage/segment.h"

namespace flint {

// The write-ahead log while it is being written: appends go into the ring, a drain moves them to
// the active segment, a sync makes them durable and seals them. Group commit: of the threads that
// wait for a sync, one leads it; a background thread syncs what nobody waits for, prepares the
// next segment and finishes rotated ones.
//
// Any thread may call any method but Close, which must be the last. Append never waits and makes
// no system call (but may wake the background thread, once per batch or idle time).
class Log {
 public:
  struct Options {
    bool always = true;
    uint64_t flush_every_events = 100;
    uint64_t flush_every_ns = 100'000'000;
    uint64_t segment_bytes = uint64_t{8} << 20;  // the largest; the first ones are smaller
    uint64_t ring_bytes = uint64_t{1} << 20;     // a power of two
    StoreMode store_mode = StoreMode::kMapped;
    // With this many events not on disk, appending waits, but for denials; in batch mode.
    uint64_t max_unsynced_events = UINT64_MAX;
  };

  // A segment that is being written or waits to be finished. Guarded by the log's mutex; `file`
  // is also used by whoever holds the drain or sync role.
  struct Segment {
    std::string name;
    SegmentHeader header;
    uint64_t start = 0;  // position of its first record
    uint64_t first_sequence = 0;
    uint64_t end = UINT64_MAX;  // set when rotated
    int64_t floor_ns = 0;       // as of its CLOCK records
    std::unique_ptr<File> file;
  };

  // Where appending goes on: what opening a directory has prepared.
  struct Start {
    std::shared_ptr<Segment> segment;
    std::unique_ptr<Ring> ring;
    uint64_t position = 0;  // everything before it is on disk
    uint64_t sequence = 0;  // of the last record
    uint32_t crc = 0;
    uint32_t next_id = 1;
  };

  // What a counter remembers of the log: the segment in which its key has an id, and the id.
  struct Binding {
    uint32_t segment = 0;
    uint32_t id = 0;
  };

  // What an admission of several keys takes of one of them.
  struct Share {
    const Binding* binding = nullptr;
    uint64_t cost = 0;
  };

  enum class Result {
    kOk,
    kNeedKey,      // the key has no id in the active segment yet: AppendKey, then again
    kRingFull,     // WaitForRoom, then again
    kSegmentFull,  // likewise
    kUnsynced,     // likewise: as many events as may be lost with the power are not on disk
    kDiskFull,     // no space for the next segment, see no_segment(); nothing was changed
    kPoisoned,
    kClosed,
  };

  struct Counts {
    uint64_t sequence = 0;
    uint64_t appended = 0;
    uint64_t durable = 0;
    uint64_t syncs = 0;
  };

  Log(Env* env, std::string directory, const Options& options, EngineClock* clock, Start start);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // Called by whoever syncs, before it does, without any lock held: the engine appends what it
  // has merged. Set before Run.
  void set_before_sync(std::function<void()> hook) { before_sync_ = std::move(hook); }
  // Called by the background thread after a segment has ended and got its name.
  void set_on_rotated(std::function<void()> hook) { on_rotated_ = std::move(hook); }
  // Called by the background thread after each of its syncs.
  void set_on_synced(std::function<void()> hook) { on_synced_ = std::move(hook); }
  // Called when there is no space for the next segment; true if it has made some.
  void set_make_room(std::function<bool()> hook) { make_room_ = std::move(hook); }
  // Called by the background thread, without any lock held: an engine time that nothing appended
  // after it has returned is earlier than, but for denials.
  void set_time_floor(std::function<int64_t()> hook) { time_floor_ = std::move(hook); }
  // Starts the background thread; without it the log must not be used.
  Status Run();

  Result AppendAllow(const Binding& binding, int64_t time_ns, uint64_t cost, uint64_t* ticket);
  Result AppendDeny(const Binding& binding, const DenyPayload& deny, uint64_t* ticket);
  // At most 1,024.
  Result AppendAllowAll(std::span<const Share> shares, int64_t time_ns, bool one_key,
                        uint64_t* ticket);
  Result AppendKey(const KeyPayload& key, Binding* binding);
  Result Append(RecordType type, std::string_view payload, uint64_t* ticket);

  // Something will be appended by the hook before the next sync: lets that sync come in time.
  void ExpectEvent();

  // A descriptor (eventfd) that becomes readable when `durable` advances, when the log fails, and
  // when it is closed. Unwatch, or the destructor, closes it.
  Status Watch(int* fd);
  Status Unwatch(int fd);

  // Waits until an append that found the ring or the segment full is worth trying again.
  Status WaitForRoom(Result why);
  // Has the background thread see to it.
  void MakeRoomSoon() { SyncSoon(); }
  // Waits until `ticket` is on disk, or has the background thread sync it when the time is over.
  // 0 does not wait at all; UINT64_MAX is without end.
  Status WaitDurable(uint64_t ticket, uint64_t timeout_ns);
  // Waits until everything appended so far is on disk.
  Status Flush();

  // Ends the active segment, syncs it, gives it its name, and tells its number.
  Status Rotate(uint64_t* ended_segment);

  // Appends fail from now on, and those that wait for room or a rotation return.
  void StopAppending();
  // Syncs everything, seals it as a clean close and stops the background thread. Appends fail
  // from now on.
  Status Close();

  uint64_t durable() const { return durable_.load(std::memory_order_acquire); }
  // Changes with every sync; tells denials of one sync interval from the next's.
  uint32_t sync_count() const { return sync_count_.load(std::memory_order_relaxed); }
  Counts counts();
  // The segment in which a binding counts now, as a binding has it.
  uint32_t active_segment();
  Status poison();
  // Why there is no next segment, after kDiskFull.
  Status no_segment();

 private:
  // Positions [begin, end) of one segment, to be written.
  struct Part {
    std::shared_ptr<Segment> segment;
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t events = 0;  // how many have been written when it is
    bool ends_segment = false;
  };

  Result AppendOne(RecordType type, const Binding& binding, int64_t time_ns, uint64_t cost,
                   uint64_t* ticket);
  // Under mutex_.
  Result Reserve(uint32_t length);
  Result ReserveBounded(uint32_t length);
  bool FitsSegment(uint32_t length) const;
  void Switch();
  void Emit(RecordType type, uint8_t flags, uint32_t id, std::string_view payload);
  void Advance(uint32_t length, uint32_t crc);
  void EmitPendingSeals(uint8_t flags);
  bool HasReserve(uint32_t length) const;
  bool ClockStepped() const;
  void EmitClockIfStepped();
  void EmitClock();
  void CountEvent(bool* wake);
  Result Appended(bool wake);
  Status RingFailed() const;
  void FinishFront();
  void Wake();
  void SyncSoon();

  class DrainRole;
  void TakeDrainRole();
  void LeaveDrainRole();
  // In the drain role.
  Part NextPart();
  Status WritePart(const Part& part);
  bool TakeSeal(const Part& part, SealPayload* seal);
  // In the sync role.
  void SyncOnce();
  Status SyncPart();
  void FinishSync(const Part& part, bool sealed, const SealPayload& seal);

  void SignalWatchers();
  Status WaitForRing();
  Status WaitForSegment();
  void Poison(const Status& status);
  Status SyncThrough(uint64_t position) { return WaitDurable(position, UINT64_MAX); }

  // In the background thread; what comes next and when.
  enum class Due { kNothing, kSync, kIdleSeal };
  void Background();
  Due NextDue(int64_t* sleep_ns);
  void ForgetExpected();
  void Sleep(int64_t sleep_ns);
  void EmitIdleSeal();
  Status Housekeep();
  Status FinishRotated();
  Status NameActive();
  Status PrepareNext();
  void StopBackground();
  Status SealCleanClose();

  Env* const env_;
  const std::string directory_;
  const Options options_;
  EngineClock* const clock_;
  std::function<void()> before_sync_;
  std::function<void()> on_rotated_;
  std::function<void()> on_synced_;
  std::function<bool()> make_room_;
  std::function<int64_t()> time_floor_;
  std::unique_ptr<Ring> ring_;

  // The append side: held for the copy of a record, never across a system call. What every append
  // changes stands together, so that threads on several processors hand on one cache line.
  alignas(64) Mutex mutex_;
  bool background_idle_ = false;
  bool sync_soon_ = false;
  bool closed_ = false;
  uint32_t next_id_;
  uint64_t head_;
  uint64_t sequence_;
  uint64_t events_ = 0;         // records that are not the log's own
  uint64_t events_synced_ = 0;  // of these, in the last sync that took all there was
  uint64_t events_at_wake_ = 0;
  uint32_t crc_;

  alignas(64) std::shared_ptr<Segment> active_;
  std::shared_ptr<Segment> previous_;              // the one before active_, if it was rotated
  std::deque<std::shared_ptr<Segment>> unsynced_;  // oldest first; the last is active_
  std::vector<std::shared_ptr<Segment>> rotated_;  // synced to their end, to be finished
  std::shared_ptr<Segment> prepared_;
  bool prepare_wanted_ = false;
  bool prepare_failed_ = false;  // for want of space, or of descriptors
  Status prepare_status_;
  uint64_t events_at_idle_seal_ = UINT64_MAX;
  int64_t wall_minus_boot_ns_;  // as of the last clock pair in the log
  std::vector<SealPayload> pending_seals_;
  std::vector<char> scratch_;

  alignas(64)
      std::atomic<uint64_t> written_;  // everything before it is in its segment, not nec. synced
  std::atomic<uint64_t> durable_;
  std::atomic<uint32_t> sync_count_{0};
  std::atomic<bool> poisoned_{false};

  std::condition_variable_any segment_changed_;  // with mutex_

  // The waiting side. Roles are held across system calls; the mutex is not.
  std::mutex wait_mutex_;
  std::condition_variable durable_changed_;
  std::condition_variable drain_changed_;
  bool syncing_ = false;
  bool draining_ = false;
  Status poison_;
  std::vector<int> watchers_;

  // In the drain role.
  Sha256 digest_;
  uint64_t digest_begin_;

  // The background thread.
  sem_t wake_;
  Thread background_;
  std::atomic<bool> stop_{false};
  uint64_t events_seen_ = 0;
  int64_t events_seen_at_ns_ = 0;
  int64_t sync_due_at_ns_ = 0;  // 0: nothing is waiting for a timed sync
  int64_t prepare_retry_at_ns_ = 0;
};

}  // namespace flint
