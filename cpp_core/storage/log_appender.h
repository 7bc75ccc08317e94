#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "base/check_path.h"
#include "base/env.h"
#include "base/mutex.h"
#include "model/engine_clock.h"
#include "model/key_binding.h"
#include "storage/record.h"
#include "storage/ring.h"
#include "storage/segment.h"
#include "storage/wakeup.h"

namespace flint {

struct LogOptions {
  bool always = true;
  uint64_t flush_every_events = 100;
  uint64_t flush_every_ns = 100'000'000;
  uint64_t segment_bytes = uint64_t{8} << 20;  // the largest; the first ones are smaller
  uint64_t ring_bytes = uint64_t{1} << 20;     // a power of two
  StoreMode store_mode = StoreMode::kMapped;
  // With this many events not on disk, appending waits, but for denials; in batch mode.
  uint64_t max_unsynced_events = UINT64_MAX;
  // With so much behind the snapshot, and a segment that is full, appending waits for a
  // compaction.
  uint64_t max_replay_bytes = UINT64_MAX;
};

// A segment that is being written or waits to be finished. Guarded by the appender's mutex; `file`
// is used by whoever holds the drain or sync role, and then by whoever finishes the segment.
struct LogSegment {
  std::string name;
  SegmentHeader header;
  uint64_t start = 0;  // position of its first record
  uint64_t first_sequence = 0;
  uint64_t end = UINT64_MAX;  // set when rotated
  int64_t floor_ns = 0;       // as of its CLOCK records
  std::unique_ptr<File> file;
};

// Where appending goes on: what opening a directory has prepared.
struct ResumePoint {
  std::shared_ptr<LogSegment> segment;
  std::unique_ptr<Ring> ring;
  uint64_t position = 0;  // everything before it is on disk
  uint64_t sequence = 0;  // of the last record
  uint32_t crc = 0;
  uint32_t next_id = 1;
};

// What an admission of several keys takes of one of them.
struct KeyShare {
  const KeyBinding* binding = nullptr;
  uint64_t cost = 0;
};

enum class AppendOutcome {
  kOk,
  kNeedKey,      // the key has no id in the active segment yet: AppendKey, then again
  kRingFull,     // Log::WaitForRoom, then again
  kSegmentFull,  // likewise
  kBusy,         // another thread is in the way for longer than a moment; with `no_wait` only
  kUnsynced,     // likewise: as many events as may be lost with the power are not on disk
  kReplayFull,   // an opening would have to replay too much: to be compacted, then again
  kDiskFull,     // no space for the next segment, see no_segment(); nothing was changed
  kPoisoned,
  kClosed,
};

// How far segments have ended and have their names.
struct EndedSegments {
  uint64_t last_number = 0;  // no later segment counts
  uint64_t position = 0;     // where the segment behind them begins
  int64_t floor_ns = 0;      // no record from there on but a DENY is earlier
};

// Positions [begin, end) of one segment, to be drained and synced.
struct DrainRange {
  std::shared_ptr<LogSegment> segment;
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t events = 0;  // how many have been synced when it is
  bool ends_segment = false;
};

// The append side of the log: gives each record its position, sequence, crc and, for a key, its id,
// and puts it into the ring. It moves on to the next segment when the active one is full.
//
// Any thread may call any method but those that name a role. The mutex is held for the copy of a
// record into the ring. That is a matter of memory, and yet it may last: where the ring is mapped,
// its page may have to be read from the disk or wait until it is written there, and where it is
// not, the copy is a system call. So an append with `no_wait` takes the mutex within a moment or
// not at all (kBusy). AwaitPrepared and AwaitNamed alone wait for something else.
class LogAppender {
 public:
  // What the background thread decides by.
  struct Backlog {
    uint64_t events = 0;
    uint64_t unsynced_events = 0;
    bool sync_soon = false;
    bool wants_seal = false;  // a seal or a clock is waiting to be written
    bool wants_segment = false;
  };

  LogAppender(const LogOptions& options, EngineClock* clock, Wakeup* background,
              ResumePoint resume);
  LogAppender(const LogAppender&) = delete;
  LogAppender& operator=(const LogAppender&) = delete;

  // ---- Appending. `*ticket` is what to wait for.
  FLINT_CHECK_PATH AppendOutcome AppendAllow(const KeyBinding& binding, int64_t time_ns,
                                             uint64_t cost, bool no_wait, uint64_t* ticket) {
    if (mutex_.try_lock()) [[likely]] {
      if (IsPlain(binding)) [[likely]] {
        *ticket = PutEvent(RecordType::kAllow, binding.id, time_ns, cost);
        ++events_;
        mutex_.unlock();
        if (ring_->failed()) [[unlikely]]
          return NoteRingFailed();
        return AppendOutcome::kOk;
      }
      mutex_.unlock();
    }
    return AppendOne(RecordType::kAllow, binding, time_ns, cost, no_wait, ticket);
  }
  AppendOutcome AppendDeny(const KeyBinding& binding, const Denials& deny, bool no_wait,
                           uint64_t* ticket);
  // At most 1,024.
  AppendOutcome AppendAllowAll(std::span<const KeyShare> shares, int64_t time_ns, bool one_key,
                               bool no_wait, uint64_t* ticket);
  // Gives a key its id in the active segment. `keyed_in` is of the template that covers the key,
  // and null where there is none or it has a name: the segment in which a KEY has its
  // configuration.
  AppendOutcome AppendKey(const KeyPayload& key, uint32_t* keyed_in, bool no_wait,
                          KeyBinding* binding);
  // AppendKey and AppendAllow in one, in one record where that is possible.
  AppendOutcome AppendFirstAllow(const KeyPayload& key, uint32_t* keyed_in, int64_t time_ns,
                                 uint64_t cost, bool no_wait, KeyBinding* binding,
                                 uint64_t* ticket);
  AppendOutcome Append(RecordType type, std::string_view payload, bool no_wait, uint64_t* ticket);
  // Something will be appended before the next sync: lets that sync come in time. Takes no lock.
  void ExpectEvent();
  // Has the background thread sync what has been appended now.
  void SyncSoon();
  // Appends fail from now on, and those that wait for a segment return.
  void Close() FLINT_EXCLUDES(mutex_);
  void Fail() FLINT_EXCLUDES(mutex_);
  // The first part of it, which takes no lock.
  void RefuseAppends() {
    failed_.store(true);
    plain_until_.store(0);
  }
  bool failed() const { return failed_.load(std::memory_order_relaxed); }
  bool ring_failed() const { return ring_->failed(); }

  uint64_t head() FLINT_EXCLUDES(mutex_);
  void Count(uint64_t* sequence, uint64_t* head, uint64_t* unsynced_events) FLINT_EXCLUDES(mutex_);
  uint32_t active_segment() const { return segment_.load(std::memory_order_relaxed); }

  // ---- Draining, in the drain role.
  // What comes next, up to the head or the end of a segment.
  DrainRange NextRange() FLINT_EXCLUDES(mutex_);
  // The bytes in the ring from `position` on, as far as they stand in one piece.
  std::string_view RingBytes(uint64_t position, uint64_t size) const {
    return ring_->Bytes(position, size);
  }
  // Everything before `position` is in its segment: its place in the ring is free.
  void SetWritten(uint64_t position) {
    FLINT_ASSERT(position > written_.load());
    written_.store(position, std::memory_order_release);
  }
  // ---- Syncing, in the sync role. `seal` may be null. True when that ended a segment, which is
  // now to be finished.
  bool Synced(const DrainRange& range, const SealPayload* seal) FLINT_EXCLUDES(mutex_);

  // ---- Segments, for SegmentSupply.
  // Whether the next segment is to be made; `*last` is the header of the active one.
  bool WantsSegment(SegmentHeader* last) FLINT_EXCLUDES(mutex_);
  void TakePrepared(std::shared_ptr<LogSegment> next) FLINT_EXCLUDES(mutex_);
  // For a reason that may pass. Until there is a next segment, appends that need it fail.
  void SupplyFailed(const Status& status) FLINT_EXCLUDES(mutex_, supply_mutex_);
  Status no_segment() FLINT_EXCLUDES(supply_mutex_);
  // Takes the prepared one back, when it is not needed any more; null if there is none.
  std::shared_ptr<LogSegment> DropPrepared() FLINT_EXCLUDES(mutex_);
  // Adds the segments that have been synced to their end, to be finished; each is told once.
  void TakeRotated(std::vector<std::shared_ptr<LogSegment>>* rotated) FLINT_EXCLUDES(mutex_);
  // Whether the active segment must still get its name, and the one before it its own.
  bool MustName(std::shared_ptr<LogSegment>* active, std::shared_ptr<LogSegment>* previous)
      FLINT_EXCLUDES(mutex_);
  void Named(LogSegment* active, LogSegment* previous, std::string previous_name)
      FLINT_EXCLUDES(mutex_);

  // ---- Rotating and waiting.
  // Waits until an append that found the segment full is worth trying again.
  void AwaitSegment() FLINT_EXCLUDES(mutex_);
  // Waits for the next segment to be prepared.
  Status AwaitPrepared() FLINT_EXCLUDES(mutex_);
  // Goes on in the next segment; kRingFull if that has to wait. `*old` is the one that has ended.
  AppendOutcome Switch(std::shared_ptr<LogSegment>* old) FLINT_EXCLUDES(mutex_);
  // Up to where a snapshot has it all.
  void set_covered(uint64_t position) FLINT_EXCLUDES(mutex_);
  EndedSegments ended() FLINT_EXCLUDES(mutex_);
  // Waits until that one has its final name, or that fails for a reason that may pass.
  Status AwaitNamed(const LogSegment& old) FLINT_EXCLUDES(mutex_);

  // ---- The background thread.
  // Marks the background thread as idle when there is nothing to sync: the next event wakes it.
  Backlog TakeBacklog() FLINT_EXCLUDES(mutex_);
  // Events that were expected and for which there was no room are not waited for any longer.
  void ForgetExpected() FLINT_EXCLUDES(mutex_);
  // A seal is normally written along with the next events; when none come it is written alone.
  void EmitIdleSeal() FLINT_EXCLUDES(mutex_);

  // ---- Whoever closes, alone.
  // The last seal.
  void EmitCleanClose() FLINT_EXCLUDES(mutex_);
  // The active segment, to be cut to its final size when all of it has been synced.
  std::shared_ptr<LogSegment> LastSegment(uint64_t* used) FLINT_EXCLUDES(mutex_);

 private:
  // With `no_wait` within a moment or not at all.
  bool Lock(bool no_wait) FLINT_TRY_ACQUIRE(true, mutex_) {
    if (no_wait) return mutex_.TryLockForAMoment();
    mutex_.lock();
    return true;
  }
  // Whether an event of a key can be put where the last one ended, with nothing to see to.
  FLINT_CHECK_PATH bool IsPlain(const KeyBinding& binding) const FLINT_REQUIRES(mutex_) {
    if (head_ + kAllowBytes > plain_until_.load(std::memory_order_relaxed)) [[unlikely]]
      return false;
    return binding.segment == active_segment();
  }
  AppendOutcome AppendOne(RecordType type, const KeyBinding& binding, int64_t time_ns,
                          uint64_t cost, bool no_wait, uint64_t* ticket);
  AppendOutcome NoteRingFailed() FLINT_EXCLUDES(mutex_);
  // An ALLOW or a DENY of one key, for which there is room; returns its ticket.
  FLINT_CHECK_PATH uint64_t PutEvent(RecordType type, uint32_t id, int64_t time_ns, uint64_t cost)
      FLINT_REQUIRES(mutex_) {
    FLINT_ASSERT(!closed_ && id != 0 && id < next_id_);
    FLINT_ASSERT(head_ + kAllowBytes <= std::min(SegmentEnd(), RingEnd()));
    const EventRecord record =
        BuildEvent(crc_, generation_, sequence_ + 1, type, id, time_ns, cost);
    ring_->Put(head_, record);
    Advance(kAllowBytes, record.crc);
    return head_;
  }
  FLINT_CHECK_PATH void Advance(uint32_t length, uint32_t crc) FLINT_REQUIRES(mutex_) {
    FLINT_ASSERT(length >= kRecordHeaderBytes && length <= kMaxRecordBytes);
    head_ += length;
    ++sequence_;
    crc_ = crc;
    AssertInOrder();
  }
  // What is true whenever somebody else may have the mutex.
  FLINT_CHECK_PATH void AssertInOrder() const FLINT_REQUIRES(mutex_) {
    FLINT_ASSERT(covered_ <= head_ && synced_ <= written_.load() && written_.load() <= head_);
    FLINT_ASSERT(head_ - written_.load() <= ring_->size());
    FLINT_ASSERT(active_->start <= head_);
    FLINT_ASSERT(kSegmentHeaderBytes + head_ - active_->start <= active_->header.capacity);
    FLINT_ASSERT(events_synced_ <= events_ && next_id_ >= 1);
  }
  void LookAhead() FLINT_REQUIRES(mutex_);
  AppendOutcome Reserve(uint32_t length) FLINT_REQUIRES(mutex_);
  AppendOutcome ReserveBounded(uint32_t length) FLINT_REQUIRES(mutex_);
  // Up to where events may go: the log keeps some room for its own records.
  uint64_t SegmentEnd() const FLINT_REQUIRES(mutex_);
  uint64_t RingEnd() const;
  // Behind it the next segment is prepared.
  uint64_t QuarterEnd() const FLINT_REQUIRES(mutex_) {
    return active_->start + active_->header.capacity / 4;
  }
  void GoOnIn(const SegmentHeader& header) FLINT_REQUIRES(mutex_);
  void SwitchNow() FLINT_REQUIRES(mutex_);
  void Emit(RecordType type, uint8_t flags, uint32_t id, std::string_view payload)
      FLINT_REQUIRES(mutex_);
  // A record whose payload stands in the scratch memory already.
  void EmitScratch(RecordType type, uint8_t flags, uint32_t id, size_t payload_bytes)
      FLINT_REQUIRES(mutex_);
  void EmitKey(const KeyPayload& key, uint32_t* keyed_in, KeyBinding* binding)
      FLINT_REQUIRES(mutex_);
  void EmitPendingSeals(uint8_t flags) FLINT_REQUIRES(mutex_);
  bool HasReserve(uint32_t length) const FLINT_REQUIRES(mutex_);
  bool ClockStepped() const FLINT_REQUIRES(mutex_);
  void EmitClockIfStepped() FLINT_REQUIRES(mutex_);
  void EmitClock() FLINT_REQUIRES(mutex_);
  void CountEvent(bool* wake) FLINT_REQUIRES(mutex_);
  AppendOutcome Appended(bool wake) FLINT_EXCLUDES(mutex_);
  void FinishFront() FLINT_REQUIRES(mutex_);

  const LogOptions options_;
  EngineClock* const clock_;
  Wakeup* const background_;
  std::unique_ptr<Ring> ring_;

  // What every append changes stands together, so that threads on several processors hand on one
  // cache line.
  alignas(64) Mutex mutex_;
  uint32_t next_id_ FLINT_GUARDED_BY(mutex_);
  uint64_t head_ FLINT_GUARDED_BY(mutex_);
  uint64_t sequence_ FLINT_GUARDED_BY(mutex_);
  uint64_t events_ FLINT_GUARDED_BY(mutex_) = 0;  // records that are not the log's own
  // An admission that ends here or before needs nothing looked at: the ring and the segment have
  // room, nobody has to be woken, nothing is closed and nothing has failed. Without the mutex it is
  // only set to 0.
  std::atomic<uint64_t> plain_until_{0};
  uint32_t crc_ FLINT_GUARDED_BY(mutex_);
  // Of the active segment: what a binding and the crc have of its header.
  std::atomic<uint32_t> segment_{0};
  uint32_t generation_ FLINT_GUARDED_BY(mutex_) = 0;

  alignas(64) std::shared_ptr<LogSegment> active_ FLINT_GUARDED_BY(mutex_);
  bool background_idle_ FLINT_GUARDED_BY(mutex_) = false;
  bool closed_ FLINT_GUARDED_BY(mutex_) = false;
  uint64_t events_synced_ FLINT_GUARDED_BY(mutex_) = 0;  // in the last sync that took all there was
  uint64_t events_at_wake_ FLINT_GUARDED_BY(mutex_) = 0;
  // The one before active_, if it was rotated.
  std::shared_ptr<LogSegment> previous_ FLINT_GUARDED_BY(mutex_);
  // Oldest first; the last is active_. This and rotated_ have room for one more: going on in the
  // next segment and syncing need no memory.
  std::vector<std::shared_ptr<LogSegment>> unsynced_ FLINT_GUARDED_BY(mutex_);
  // Synced to their end, to be finished.
  std::vector<std::shared_ptr<LogSegment>> rotated_ FLINT_GUARDED_BY(mutex_);
  std::shared_ptr<LogSegment> prepared_ FLINT_GUARDED_BY(mutex_);
  bool prepare_wanted_ FLINT_GUARDED_BY(mutex_) = false;
  bool supply_failed_ FLINT_GUARDED_BY(mutex_) = false;
  SystemMutex supply_mutex_;  // never held for longer than a copy takes
  Status supply_status_ FLINT_GUARDED_BY(supply_mutex_);
  uint64_t synced_ FLINT_GUARDED_BY(mutex_);  // everything before it has been synced
  uint64_t covered_ FLINT_GUARDED_BY(mutex_) = 0;
  uint64_t events_at_idle_seal_ FLINT_GUARDED_BY(mutex_) = UINT64_MAX;
  int64_t wall_minus_boot_ns_ FLINT_GUARDED_BY(mutex_);  // as of the last clock pair in the log
  std::vector<SealPayload> pending_seals_ FLINT_GUARDED_BY(mutex_);
  std::vector<char> scratch_ FLINT_GUARDED_BY(mutex_);
  Condition<Mutex> segment_changed_;

  // Everything before it is in its segment, not necessarily synced.
  alignas(64) std::atomic<uint64_t> written_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> sync_soon_{false};
  std::atomic<bool> event_expected_{false};
};

}  // namespace flint
