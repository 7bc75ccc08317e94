#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "storage/log_appender.h"
#include "storage/log_end.h"
#include "storage/log_stream.h"
#include "storage/snapshot.h"

namespace flint {

// Receives the log's records in order.
class RecordSink {
 public:
  virtual ~RecordSink() = default;
  // kCorruption with a message when the record makes no sense; the caller adds the place.
  virtual Status Apply(const Record& record) = 0;
};

// A segment that the snapshot covers: kept for its history, and may go.
struct HistorySegment {
  std::string name;
  uint64_t bytes = 0;
  int64_t last_time_ns = 0;  // engine time; nothing in it is later
};

// Opening a directory's log: replay what it holds, decide whether its end is torn or damaged, and
// go on writing it. Used once, by one thread; for GoOn, which alone writes, the directory is
// locked.
class Recovery {
 public:
  struct Report {
    bool fresh = true;  // the directory held no log
    uint64_t records = 0;
    uint64_t ring_records = 0;
    uint64_t torn_bytes = 0;
    uint64_t damaged_history = 0;  // segments of it that cannot be read, or are behind a gap
    // The last clock pair; engine time is at least that of any record.
    ClockPayload clock;
  };

  // `snapshot` is all zero when there is none.
  Recovery(Env* env, std::string directory, const SnapshotHead& snapshot, const BootId& boot);

  // Reads everything, giving `sink` the records behind the snapshot, and sets `report`.
  Status Replay(RecordSink* sink, Report* report);
  // The steps of Replay, for a directory that another process may be writing: finding the segments;
  // reading what there is, or what has come since; deciding about the end.
  Status Begin();
  Status ReadOn(RecordSink* sink);
  Status CheckEnd();
  // Whether what CheckEnd last took for damage has been read as records since.
  bool WasInMotion() const { return stream_->position() >= end_->damage_end(); }
  // kCorruption when the log goes on elsewhere than where it has been read.
  Status CheckNewest();
  const Report& report() const { return report_; }
  uint64_t sequence() const { return stream_ == nullptr ? 0 : stream_->sequence(); }
  // After Replay: makes the directory ready to be written, and tells where.
  Status GoOn(const LogOptions& options, const ClockPayload& clock, ResumePoint* start);
  // Then: how many segments the log has, and those before it that are still there, oldest first.
  uint64_t segments() const { return path_.segments.size(); }
  std::vector<HistorySegment> history() const;

 private:
  Status CheckRingCanBeMade() const;
  Status RefuseRemains() const;
  Status Observe(const Record& record);
  void ForgetThrough(uint64_t position);
  Status CheckFeatures();

  Env* const env_;
  const std::string directory_;
  const Covered covered_;
  const BootId boot_;
  Features features_;  // of the snapshot, then also of the segments
  LogPath path_;
  RingImage ring_;
  std::unique_ptr<LogStream> stream_;
  std::unique_ptr<LogEnd> end_;
  Report report_;
  bool closed_ = false;      // the last record is a clean close
  uint64_t on_disk_to_ = 0;  // everything before this position is known to be on disk
  std::string tail_;         // the records from there on
  size_t tail_begin_ = 0;    // what is before that is forgotten
  uint32_t largest_id_ = 0;  // in the last segment
  int64_t floor_ns_ = 0;     // that nothing in the last segment is earlier than; 0: not known
  bool clock_due_ = false;   // the CLOCK behind its START
};

}  // namespace flint
