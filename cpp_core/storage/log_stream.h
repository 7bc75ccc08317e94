#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "storage/log_path.h"
#include "storage/record.h"
#include "storage/ring.h"

namespace flint {

// Takes over the clock pair of a CLOCK or SEAL; false when it cannot be read.
bool ReadClock(const Record& record, ClockPayload* clock);
// The same of any record: others have none.
inline bool UpdateClock(const Record& record, ClockPayload* clock) {
  const bool has_one = record.type == RecordType::kClock || record.type == RecordType::kSeal;
  return !has_one || ReadClock(record, clock);
}

// The records along a path, each checked against the chain. One thread at a time.
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
  uint32_t length() const { return length_; }  // likewise; 0 before the first
  // For a log that is being written: what has been read ahead is read again.
  void ReadAnew();
  // Forgets the records that only the ring had, if the first has come to its segment since.
  Status RecheckRingRecords();
  uint64_t ring_records() const { return ring_records_; }
  // Where the first of them is; UINT64_MAX if there is none.
  uint64_t first_ring_position() const { return first_ring_position_; }
  uint64_t first_ring_sequence() const { return first_ring_sequence_; }
  // Indexes of the path's segments that end without a FOOTER although another follows: an opening
  // of an earlier Flint has begun that one.
  const std::vector<size_t>& without_footer() const { return without_footer_; }
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
  uint32_t length_ = 0;
  bool at_footer_ = false;  // the last record is one
  std::vector<size_t> without_footer_;
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
