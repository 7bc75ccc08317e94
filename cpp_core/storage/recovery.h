#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"
#include "storage/log_appender.h"
#include "storage/log_reader.h"
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
// go on in a new segment. Used once, by one thread; for TakeOver, which alone writes, the directory
// is locked.
class Recovery {
 public:
  struct Report {
    bool fresh = true;  // the directory held no log
    uint64_t records = 0;
    uint64_t ring_records = 0;
    uint64_t torn_bytes = 0;
    uint64_t damaged_history = 0;
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
  bool WasInMotion() const { return stream_->position() >= damage_end_; }
  // kCorruption when the log goes on elsewhere than where it has been read.
  Status CheckNewest();
  const Report& report() const { return report_; }
  uint64_t sequence() const { return stream_ == nullptr ? 0 : stream_->sequence(); }
  // After Replay: how many segments the log has, and those before it, oldest first.
  uint64_t segments() const { return path_.segments.size(); }
  std::vector<HistorySegment> history() const;
  // Then: writes the new segment, which commits, names the files and removes what is superseded.
  Status TakeOver(const LogOptions& options, const ClockPayload& clock, ResumePoint* resume);

 private:
  // A place between two records.
  struct Boundary {
    uint64_t position = 0;
    uint64_t sequence = 0;
    uint32_t crc = 0;
    uint64_t segment = 0;  // number and generation of the segment before it
    uint64_t generation = 0;
  };
  Status RefuseRemains() const;
  Status Observe(const Record& record);
  void ForgetThrough(uint64_t position);
  void NameSegmentBefore();
  Status LookForSeals();
  Status CheckSeal(std::string_view bytes, const std::string& where);
  Status ScanFile(SegmentReader* reader, uint64_t position);
  bool KnownGeneration(uint64_t generation) const;
  Status CheckFeatures();
  Status KeepTornAside();
  std::map<uint32_t, std::string_view> KeysBoundBeforeTail(const std::vector<Record>& tail) const;
  std::string BuildContents(uint64_t generation, const ClockPayload& clock, ResumePoint* resume);
  Status WriteSegment(const LogOptions& options, const ClockPayload& clock, ResumePoint* resume);
  Status FreeNewName();
  Status NameFiles(const LogSegment& taken);

  Env* const env_;
  const std::string directory_;
  const Covered covered_;
  const BootId boot_;
  Features features_;  // of the snapshot, then also of the segments
  LogPath path_;
  RingImage ring_;
  std::unique_ptr<LogStream> stream_;
  Report report_;
  bool clean_ = false;                // the last record is a clean close
  uint64_t torn_end_ = 0;             // position behind the last byte that is not zero
  uint64_t damage_end_ = UINT64_MAX;  // up to there nothing must be missing
  Boundary sealed_;                   // everything before it is known to be on disk
  std::string tail_;                  // the records behind it, one after the other
  size_t tail_begin_ = 0;             // what is before that is forgotten
  std::string keys_at_seal_;          // KEYs of the ids bound at sealed_; the last of an id counts
  uint32_t largest_id_ = 0;
};

}  // namespace flint
