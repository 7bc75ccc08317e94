#include "storage/log_stream.h"

#include <algorithm>
#include <cstring>

#include "base/coding.h"
#include "storage/file_names.h"

namespace flint {
bool ReadClock(const Record& record, ClockPayload* clock) {
  if (record.type == RecordType::kClock) return Decode(record.payload, clock);
  SealPayload seal;
  if (!Decode(record.payload, &seal)) return false;
  clock->clock = seal.clock;
  return true;
}

LogStream::LogStream(LogPath* path, const RingImage* ring, const Covered& covered)
    : path_(path), ring_(ring), covered_(covered) {
  const SegmentReader& first = *path_->segments.front();
  position_ = first.start().position;
  sequence_ = first.first_sequence() - 1;
  Enter(0);
}

void LogStream::ReadAnew() {
  ahead_ = {};
  mutable_segment()->LetGo();
}

void LogStream::Enter(size_t index) {
  ahead_ = {};
  index_ = index;
  generation_ = segment().header().generation;
  next_at_ = at_last_segment() ? UINT64_MAX : path_->segments[index_ + 1]->start().position;
  crc_ = ChainStart(generation_);
  length_ = 0;
}

Status LogStream::DamageHere(const std::string& what) const {
  const uint64_t offset = segment().OffsetOf(position_);
  return Status(Code::kCorruption, "the log is damaged: " + segment().name() + " at offset " +
                                       std::to_string(offset) + ", record " +
                                       std::to_string(sequence_ + 1) + ": " + what)
      .At(segment().name(), offset, sequence_ + 1);
}

Status LogStream::EnterNext() {
  const SegmentHeader& from = segment().header();
  const SegmentReader& next = *path_->segments[index_ + 1];
  if (next.start().previous_segment != from.number ||
      next.start().previous_generation != from.generation || next.start().previous_crc != crc_ ||
      next.first_sequence() != sequence_ + 1) {
    return DamageHere("the next segment, " + next.name() + ", does not continue it");
  }
  if (!at_footer_) without_footer_.push_back(index_);
  ReadAnew();
  Enter(index_ + 1);
  return Status();
}

Status LogStream::ReadHere(Record* record, bool* found) {
  // A record that led here may have been the last of the segment before.
  if (index_ > 0) path_->segments[index_ - 1]->LetGo();
  FLINT_RETURN_IF_ERROR(mutable_segment()->Bytes(position_, &ahead_));
  *found = ParseRecord(ahead_, crc_, generation_, sequence_ + 1, position_, record);
  if (*found || ring_ == nullptr || !at_last_segment()) return Status();
  ring_record_ = ring_->Bytes(position_, kRecordHeaderBytes);
  if (ring_record_.size() < kRecordHeaderBytes) return Status();
  const uint32_t length = Decode32(ring_record_.data() + 4);
  if (length > kMaxRecordBytes || length > ring_->size()) return Status();
  ring_record_ = ring_->Bytes(position_, length);
  *found = ParseRecord(ring_record_, crc_, generation_, sequence_ + 1, position_, record);
  if (*found && ring_records_++ == 0) {
    first_ring_position_ = position_;
    first_ring_sequence_ = record->sequence;
    first_ring_record_ = ring_record_;
    first_ring_index_ = index_;
  }
  return Status();
}

Status LogStream::RecheckRingRecords() {
  if (ring_records_ == 0) return Status();
  std::string bytes;
  FLINT_RETURN_IF_ERROR(path_->segments[first_ring_index_]->Read(
      first_ring_position_, first_ring_record_.size(), &bytes));
  if (bytes != first_ring_record_) return Status();
  ring_records_ = 0;
  first_ring_position_ = UINT64_MAX;
  return Status();
}

Status LogStream::FollowFooter(const Record& record) {
  FooterPayload footer;
  if (!Decode(record.payload, &footer)) return DamageHere("a footer that cannot be read");
  if (!at_last_segment() || path_->bounded) return Status();
  auto& unstarted = path_->unstarted;
  const auto next = std::find_if(unstarted.begin(), unstarted.end(), [&](const auto& reader) {
    return reader->header().generation == footer.next_generation;
  });
  if (next == unstarted.end()) {
    return DamageHere("the segment after it, number " + std::to_string(footer.next_segment) +
                      ", is missing");
  }
  const SegmentHeader& from = segment().header();
  (*next)->Place(StartPayload{record.end(), from.number, from.generation, record.crc},
                 record.sequence + 1);
  path_->segments.push_back(std::move(*next));
  unstarted.erase(next);
  Enter(index_ + 1);
  return Status();
}

Status LogStream::CheckCovered(const Record& record) const {
  if (!covered_.present || record.end() != covered_.position) return Status();
  if (record.crc == covered_.crc && record.sequence == covered_.sequence) return Status();
  return DamageHere("the snapshot was made from another log");
}

Status LogStream::Next(Record* record, bool* end) {
  *end = false;
  if (position_ == next_at_) FLINT_RETURN_IF_ERROR(EnterNext());
  bool found = ParseRecord(ahead_, crc_, generation_, sequence_ + 1, position_, record);
  if (!found) FLINT_RETURN_IF_ERROR(ReadHere(record, &found));
  if (!found) {
    if (!at_last_segment()) {
      return DamageHere("no valid record, although the log went on");
    }
    *end = true;
    return Status();
  }
  if (record->sequence > covered_.sequence) {
    const Status known = CheckKnown(*record);
    if (!known.ok()) return segment().Newer(*record, known.message());
  }
  position_ = record->end();
  sequence_ = record->sequence;
  crc_ = record->crc;
  length_ = record->length;
  ahead_.remove_prefix(std::min<size_t>(record->length, ahead_.size()));
  at_footer_ = record->type == RecordType::kFooter;
  FLINT_RETURN_IF_ERROR(CheckCovered(*record));
  if (at_footer_) return FollowFooter(*record);
  return Status();
}

}  // namespace flint
