#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/env.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "engine/kept_segments.h"
#include "engine/keyspace.h"
#include "model/engine_clock.h"
#include "storage/log.h"
#include "storage/log_path.h"
#include "storage/log_stream.h"
#include "storage/snapshot.h"

namespace flint {

// The end of what a call says that found no room to record something. Before that it may have
// recorded another part of what was asked: a change of an inline limit, or one of several limits.
inline constexpr char kNotRecorded[] =
    "; what could not be recorded has not happened, and it works again when ";

// Compaction: a snapshot is built from the old snapshot and the segments behind it that have ended,
// never from live state, and then held against live state. It takes no lock that a check needs for
// longer than a check does. Segments that the snapshot covers are kept for their history.
//
// It starts by itself when the log has outgrown the snapshot; then the segment that is being
// written is left alone, so one that fails leaves nothing behind, and it is tried again later and
// later. One that is asked for ends that segment first.
//
// Compactions run in a thread of their own, one at a time. Any thread may call any method but Stop,
// which must be the last.
class Compactor {
 public:
  struct Counts {
    uint64_t compactions = 0;
    uint64_t failures = 0;
    uint64_t done_bytes = 0;   // of the one that is running
    uint64_t total_bytes = 0;  // 0: none is
    Status last_failure;       // since the last that succeeded
    int64_t retry_at_ns = 0;   // engine time of the next attempt after it; 0: there was none
  };

  // `live` is the state that `log` tells of; what is compacted goes to `kept`.
  Compactor(Env* env, std::string directory, Log* log, Keyspace* live, EngineClock* clock,
            KeptSegments* kept, uint64_t max_replay_bytes)
      : env_(env),
        directory_(std::move(directory)),
        log_(log),
        live_(live),
        clock_(clock),
        kept_(kept),
        max_replay_bytes_(max_replay_bytes) {}
  Compactor(const Compactor&) = delete;
  Compactor& operator=(const Compactor&) = delete;

  // What opening found: where the snapshot stands, and how many segments are behind it. Before
  // anything else.
  void StartFrom(const Covered& covered, uint64_t snapshot_bytes, uint64_t segments);

  // Starts the thread: at opening, when a failure can still be told to somebody.
  Status StartThread();

  // A segment has been rotated.
  void OnRotated() FLINT_EXCLUDES(mutex_);
  // Starts a compaction if the log has outgrown the snapshot and none is running or wanted, or to
  // be waited for after a failure.
  void StartIfWorth() FLINT_EXCLUDES(mutex_);
  // The same at opening; Stop waits for that one, or a program that is always over soon would never
  // have its log compacted. Such a program may be killed at any time as well: so what is overdue,
  // and little is at an opening, has ended, well or not, when this returns. A log that is far
  // longer was left by a program that lived long: that one is compacted beside.
  void StartIfOwed() FLINT_EXCLUDES(mutex_);
  // One that covers all that is in the log; its number is for Await.
  uint64_t Start() FLINT_EXCLUDES(mutex_);
  // What that compaction, or a later one, has come to; kClosed when it was stopped before.
  Status Await(uint64_t wanted) FLINT_EXCLUDES(mutex_);
  // For an append that found too much to be replayed: waits for a compaction, or says why there is
  // none. StartSoon only sees to it.
  Status WaitForRoom() FLINT_EXCLUDES(mutex_);
  void StartSoon() FLINT_EXCLUDES(mutex_);
  // Aborts the one that is running, unless it was owed at opening, and ends the thread.
  void Stop() FLINT_EXCLUDES(mutex_);

  Counts counts() FLINT_EXCLUDES(mutex_);

 private:
  // What a compaction has read so far.
  struct Built;

  bool HasOutgrown(uint64_t times, uint64_t least_bytes) const;
  bool IsToBeWaitedFor() const;
  uint64_t StartLocked() FLINT_REQUIRES(mutex_);
  bool Resting() const FLINT_REQUIRES(mutex_);
  Status NoRoom(const Status& why) const;
  void Run() FLINT_EXCLUDES(mutex_);
  void NoteEnd(const Status& status) FLINT_REQUIRES(mutex_);
  Status TryToCompact(bool whole);
  Status CompactOnce(bool whole);
  Status RotateAndReplay(Built* built, EndedSegments* end);
  Status ReplayThrough(const EndedSegments& end, Built* built);
  Status ReplayRecords(const EndedSegments& end, LogStream* stream, Built* built);
  Status CheckAgainstLive(Keyspace* built, uint64_t covered_position);
  Status WriteSnapshot(SnapshotWriter* writer, int64_t floor_ns, Built* built);

  Env* const env_;
  const std::string directory_;
  Log* const log_;
  Keyspace* const live_;
  EngineClock* const clock_;
  KeptSegments* const kept_;
  const uint64_t max_replay_bytes_;

  // Compactions are numbered as they begin.
  SystemMutex mutex_;
  Condition<SystemMutex> changed_;
  Thread thread_;
  uint64_t wanted_ FLINT_GUARDED_BY(mutex_) = 0;
  uint64_t begun_ FLINT_GUARDED_BY(mutex_) = 0;
  uint64_t ended_ FLINT_GUARDED_BY(mutex_) = 0;
  // Up to this one they cover all that is in the log when they begin.
  uint64_t whole_ FLINT_GUARDED_BY(mutex_) = 0;
  uint64_t owed_ FLINT_GUARDED_BY(mutex_) = 0;    // Stop waits for this one
  Status last_status_ FLINT_GUARDED_BY(mutex_);   // of the last that ended
  Status last_failure_ FLINT_GUARDED_BY(mutex_);  // since the last that succeeded
  uint32_t failures_in_row_ FLINT_GUARDED_BY(mutex_) = 0;
  int64_t retry_at_ns_ FLINT_GUARDED_BY(mutex_) = 0;  // engine time
  std::atomic<bool> stop_{false};

  std::atomic<uint64_t> compactions_{0};
  std::atomic<uint64_t> failures_{0};
  std::atomic<uint64_t> done_bytes_{0};
  std::atomic<uint64_t> total_bytes_{0};
  std::atomic<uint64_t> covered_position_{0};
  std::atomic<uint64_t> snapshot_bytes_{0};
  std::atomic<uint64_t> segments_since_snapshot_{0};
};

}  // namespace flint
