#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/env.h"
#include "base/thread.h"
#include "engine/kept_segments.h"
#include "engine/keyspace.h"
#include "storage/engine_clock.h"
#include "storage/log.h"
#include "storage/log_reader.h"
#include "storage/snapshot.h"

namespace flint {

// Compaction: a snapshot is built from the old snapshot and the segments behind it, never from live
// state, and then held against live state. It takes no lock that a check needs for longer than a
// check does. Segments that the snapshot covers are kept for their history.
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
  };

  // `live` is the state that `log` tells of; what is compacted goes to `kept`.
  Compactor(Env* env, std::string directory, Log* log, Keyspace* live, EngineClock* clock,
            KeptSegments* kept)
      : env_(env),
        directory_(std::move(directory)),
        log_(log),
        live_(live),
        clock_(clock),
        kept_(kept) {}
  Compactor(const Compactor&) = delete;
  Compactor& operator=(const Compactor&) = delete;

  // What opening found: where the snapshot stands, and how many segments are behind it. Before
  // anything else.
  void StartFrom(const Covered& covered, uint64_t snapshot_bytes, uint64_t segments);

  // Starts the thread: at opening, when a failure can still be told to somebody.
  Status StartThread();

  // A segment has been rotated.
  void OnRotated();
  // Starts a compaction if the log has outgrown the snapshot and none is running or wanted.
  void StartIfWorth();
  // One that has not begun yet; its number is for Await.
  uint64_t Start();
  // What that compaction, or a later one, has come to; kClosed when it was stopped before.
  Status Await(uint64_t wanted);
  // Aborts the one that is running and ends the thread.
  void Stop();

  Counts counts() const;

 private:
  bool Worth() const;
  void Run();
  Status CompactOnce();
  Status ReplayForSnapshot(LogPath* path, Keyspace* built, SnapshotHead* head);
  Status CheckAgainstLive(Keyspace* built);
  Status WriteSnapshot(Keyspace* built, const SnapshotHead& head, int64_t floor_ns);
  Status KeepHistory(const LogPath& path, const SnapshotHead& head);

  Env* const env_;
  const std::string directory_;
  Log* const log_;
  Keyspace* const live_;
  EngineClock* const clock_;
  KeptSegments* const kept_;

  // Compactions are numbered as they begin.
  std::mutex mutex_;
  std::condition_variable changed_;
  Thread thread_;
  uint64_t wanted_ = 0;
  uint64_t begun_ = 0;
  uint64_t ended_ = 0;
  Status last_status_;  // of the last that ended
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
