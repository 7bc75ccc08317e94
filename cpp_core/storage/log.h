#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/env.h"
#include "model/engine_clock.h"
#include "storage/log_appender.h"
#include "storage/log_background.h"
#include "storage/log_observer.h"
#include "storage/log_syncer.h"
#include "storage/segment_supply.h"
#include "storage/wakeup.h"

// The words of the log, each of which means one thing:
//
//   position    where a record begins: bytes since the directory was made, segment headers apart
//   ticket      the position behind a record: what to wait for until the record is on disk
//   head        the position behind the last record that was appended; it may be in the ring only
//   written     the position up to which records are in their segment; at most head
//   durable     the position up to which they have been synced; at most written
//   sequence    counts records, one by one, over all segments
//   number      counts segments, one by one
//   generation  a random number per segment, in the crc of each of its records: what an older file
//               left on the same blocks is never taken for a record
//   epoch       counts openings of the directory
//   seal        a record that says which bytes a sync has made durable, with their digest
//   rotated     of a segment: it has ended, another one follows; its file gets a name for good
//
// FORMAT.md has the bytes.
namespace flint {

// The write-ahead log while it is being written: appends go into the ring, a drain moves them to
// the active segment, a sync makes them durable and seals them. This class only ties the parts
// together: LogAppender, LogSyncer, SegmentSupply, LogBackground.
//
// Any thread may call any method but Run and Close, which are the first and the last. An append
// waits for nothing but whoever else is appending, with `no_wait` for no longer than a moment, and
// makes no system call where the ring is mapped (but may wake the background thread, once per batch
// or idle time).
class Log {
 public:
  struct Counts {
    uint64_t sequence = 0;
    uint64_t appended = 0;
    uint64_t durable = 0;
    uint64_t syncs = 0;
    uint64_t unsynced_events = 0;  // records that are not on disk, at most
    LogSyncer::Times times;
    bool poisoned = false;
  };

  Log(Env* env, const std::string& directory, const LogOptions& options, EngineClock* clock,
      ResumePoint resume, LogObserver* observer);
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // Starts the background thread; without it the log must not be used.
  Status Run() { return background_.Start(); }

  FLINT_CHECK_PATH AppendOutcome AppendAllow(const KeyBinding& binding, int64_t time_ns,
                                             uint64_t cost, bool no_wait, uint64_t* ticket) {
    return appender_.AppendAllow(binding, time_ns, cost, no_wait, ticket);
  }
  AppendOutcome AppendDeny(const KeyBinding& binding, const Denials& deny, bool no_wait,
                           uint64_t* ticket) {
    return appender_.AppendDeny(binding, deny, no_wait, ticket);
  }
  AppendOutcome AppendAllowAll(std::span<const KeyShare> shares, int64_t time_ns, bool one_key,
                               bool no_wait, uint64_t* ticket) {
    return appender_.AppendAllowAll(shares, time_ns, one_key, no_wait, ticket);
  }
  AppendOutcome AppendKey(const KeyPayload& key, uint32_t* keyed_in, bool no_wait,
                          KeyBinding* binding) {
    return appender_.AppendKey(key, keyed_in, no_wait, binding);
  }
  AppendOutcome AppendFirstAllow(const KeyPayload& key, uint32_t* keyed_in, int64_t time_ns,
                                 uint64_t cost, bool no_wait, KeyBinding* binding,
                                 uint64_t* ticket) {
    return appender_.AppendFirstAllow(key, keyed_in, time_ns, cost, no_wait, binding, ticket);
  }
  AppendOutcome Append(RecordType type, std::string_view payload, bool no_wait, uint64_t* ticket) {
    return appender_.Append(type, payload, no_wait, ticket);
  }
  void ExpectEvent() { appender_.ExpectEvent(); }

  // Waits until an append that found the ring or the segment full is worth trying again.
  Status WaitForRoom(AppendOutcome why);
  // Has the background thread see to it.
  void MakeRoomSoon() { appender_.SyncSoon(); }
  Status WaitDurable(uint64_t ticket, uint64_t timeout_ns) {
    return syncer_.WaitDurable(ticket, timeout_ns);
  }
  Status Flush() { return syncer_.Flush(); }
  // Up to where a snapshot has it all.
  void set_covered(uint64_t position) { appender_.set_covered(position); }
  // Ends the active segment, syncs it and gives it its name.
  Status Rotate();
  // How far segments have ended and have their names.
  EndedSegments ended() { return appender_.ended(); }
  Status Watch(int* fd) { return syncer_.Watch(fd); }
  Status Unwatch(int fd) { return syncer_.Unwatch(fd); }

  // Appends fail from now on, and those that wait for room or a rotation return.
  void StopAppending() { appender_.Close(); }
  // Syncs everything, seals it as a clean close and stops the background thread. Appends fail
  // from now on.
  Status Close();

  uint64_t durable() const { return syncer_.durable(); }
  // Changes with every sync; tells denials of one sync interval from the next's.
  uint32_t sync_count() const { return syncer_.sync_count(); }
  Counts counts();
  // The segment in which a binding counts now, as a binding has it.
  uint32_t active_segment() const { return appender_.active_segment(); }
  Status poison() { return syncer_.poison(); }
  // Why there is no next segment, after kDiskFull.
  Status no_segment() { return appender_.no_segment(); }

 private:
  Wakeup wakeup_;  // of the background thread
  LogAppender appender_;
  LogSyncer syncer_;
  SegmentSupply supply_;
  LogBackground background_;
};

}  // namespace flint
