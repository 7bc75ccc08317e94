#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "storage/record.h"
#include "storage/ring.h"
#include "storage/segment.h"

namespace flint {

// Reading the log that a directory holds, one thread at a time.

// Up to where a snapshot stands for the log. All zero: there is no snapshot.
struct Covered {
  uint64_t position = 0;
  uint64_t sequence = 0;
  uint32_t crc = 0;
  DirectoryId directory_id{};
  bool present = false;
};

// The segments of a directory: those that make up the log from the snapshot on, oldest first, and
// the rest. What a file is follows from its header, not from its name.
struct LogPath {
  std::vector<std::unique_ptr<SegmentReader>> segments;
  // What the snapshot covers, oldest first, as far back as it goes without a gap.
  std::vector<std::unique_ptr<SegmentReader>> history;
  // Spare (never started) or superseded by a recovery.
  std::vector<std::unique_ptr<SegmentReader>> others;
  // Rotated segments whose header cannot be read. They are history, or the path has a gap.
  std::vector<std::string> damaged;
  // Files that a crash left before they became segments.
  std::vector<std::string> unusable;
  DirectoryId directory_id{};
  uint64_t last_number = 0;
  uint64_t last_epoch = 0;
  bool bounded = false;  // the log may go on behind the last segment
};

// Takes over the clock pair of a CLOCK or SEAL; false when it cannot be read.
bool ReadClock(const Record& record, ClockPayload* clock);
// The same of any record: others have none.
inline bool UpdateClock(const Record& record, ClockPayload* clock) {
  const bool has_one = record.type == RecordType::kClock || record.type == RecordType::kSeal;
  return !has_one || ReadClock(record, clock);
}

// An empty path means that the directory holds no log. With a `last_segment` other than UINT64_MAX
// only segments up to that number count, which have their final names: then a log that is being
// written can be read as well.
Status FindLogPath(Env* env, const std::string& directory, const Covered& covered,
                   uint64_t last_segment, LogPath* path);

// The records along a path, each checked against the chain.
class LogStream {
 public:
  // `ring` may be null: then only segments are read.
  LogStream(LogPath* path, const RingImage* ring, const Covered& covered);

  // The next record, good until the next call; `*end` when there is none. kCorruption where the
  // chain breaks and a later segment proves that it went on.
  Status Next(Record* record, bool* end);

  bool at_last_segment() const { return index_ + 1 == path_->segments.size(); }
  const SegmentReader& segment() const { return *path_->segments[index_]; }
  SegmentReader* mutable_segment() { return path_->segments[index_].get(); }
  uint64_t position() const { return position_; }
  uint64_t sequence() const { return sequence_; }  // of the last record
  uint32_t crc() const { return crc_; }
  // For a log that is being written: what has been read ahead is read again.
  void DropWindow();
  // Forgets the records that only the ring had, if the first has come to its segment since.
  Status RecheckRingRecords();
  uint64_t ring_records() const { return ring_records_; }
  // Where the first of them is; UINT64_MAX if there is none.
  uint64_t first_ring_position() const { return first_ring_position_; }
  uint64_t first_ring_sequence() const { return first_ring_sequence_; }
  // Damage at the current position, said in one form everywhere.
  Status DamageHere(const std::string& what) const;

 private:
  Status ReadHere(Record* record, bool* found);
  void Enter(size_t index);
  Status EnterNext();
  Status FollowFooter(const Record& record);
  Status CheckCovered(const Record& record) const;

  LogPath* path_;
  const RingImage* ring_;
  const Covered covered_;
  size_t index_ = 0;
  uint64_t position_ = 0;
  uint64_t sequence_ = 0;
  uint32_t crc_ = 0;
  // Of the segment it stands in; the next one takes over at `next_at_`.
  uint64_t generation_ = 0;
  uint64_t next_at_ = UINT64_MAX;
  std::string_view ahead_;  // what is known to stand at position_
  uint64_t ring_records_ = 0;
  uint64_t first_ring_position_ = UINT64_MAX;
  uint64_t first_ring_sequence_ = 0;
  std::string first_ring_record_;
  size_t first_ring_index_ = 0;  // of its segment
  std::string ring_record_;
};

}  // namespace flint
