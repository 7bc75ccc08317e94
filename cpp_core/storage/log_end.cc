#include "storage/log_end.h"

#include <algorithm>

#include "base/coding.h"
#include "storage/file_names.h"

namespace flint {

Status LogEnd::Check(const Known& known) {
  damage_end_ = UINT64_MAX;
  FLINT_RETURN_IF_ERROR(CheckRingOwner());
  FLINT_RETURN_IF_ERROR(CheckRingRecords(known.on_disk_to));
  FLINT_RETURN_IF_ERROR(LookForSeals());
  return known.same_boot ? CheckNothingWasWritten(known) : Status();
}

// A ring is made when its owner is on disk.
Status LogEnd::CheckRingOwner() const {
  const SegmentHeader& newest = path_->segments.back()->header();
  const RingOwner& owner = ring_->owner();
  const bool fits = owner.segment < newest.number ||
                    (owner.segment == newest.number && owner.generation == newest.generation);
  if (fits) return Status();
  return Status(Code::kCorruption, "the log ends in segment number " +
                                       std::to_string(newest.number) + ", but " + kRingName +
                                       " was made for segment number " +
                                       std::to_string(owner.segment) + ", which is missing")
      .At(kRingName, 0, 0);
}

// What is sealed had been in its segment: that the ring still has it does not undo the damage.
Status LogEnd::CheckRingRecords(uint64_t on_disk_to) const {
  const uint64_t first = stream_->first_ring_position();
  if (first >= on_disk_to) return Status();
  return Status(Code::kCorruption, "the log is damaged at position " + std::to_string(first) +
                                       ": a record that a seal covers is only in " + kRingName)
      .At(stream_->segment().name(), stream_->segment().OffsetOf(first),
          stream_->first_ring_sequence());
}

// ---- Seals -------------------------------------------------------------------------------------

bool LogEnd::IsKnown(uint64_t generation) const {
  const auto has = [generation](const std::unique_ptr<SegmentReader>& reader) {
    return reader->header().generation == generation;
  };
  if (generation == ring_->owner().generation) return true;
  for (const auto* readers : {&path_->segments, &path_->history, &path_->superseded,
                              &path_->unreachable, &path_->unstarted}) {
    if (std::any_of(readers->begin(), readers->end(), has)) return true;
  }
  return false;
}

// A key that somebody chose may look like a seal, but nobody can choose a generation.
Status LogEnd::CheckSeal(std::string_view bytes, const std::string& where) {
  if (bytes.size() < kSealBytes || static_cast<RecordType>(bytes[16]) != RecordType::kSeal ||
      Decode32(bytes.data() + 4) != kSealBytes) {
    return Status();
  }
  SealPayload seal;
  if (!Decode(bytes.substr(kRecordHeaderBytes, kSealBytes - kRecordHeaderBytes), &seal) ||
      !IsKnown(seal.generation) || seal.end <= stream_->position()) {
    return Status();
  }
  damage_end_ = std::max(torn_end_, seal.end);
  return stream_->DamageHere("no valid record, but a seal in " + where +
                             " shows that the log had been on disk up to position " +
                             std::to_string(seal.end) + " (the damage is at position " +
                             std::to_string(stream_->position()) + ")");
}

// `*used_end` becomes the position behind the last byte that is not zero, if there is one.
Status LogEnd::ScanFile(SegmentReader* reader, uint64_t position, uint64_t* used_end) {
  constexpr size_t kPieceBytes = size_t{1} << 20;
  while (true) {
    std::string bytes;
    FLINT_RETURN_IF_ERROR(reader->Read(position, kPieceBytes + kSealBytes, &bytes));
    const size_t starts = std::min(bytes.size(), kPieceBytes);
    for (size_t at = 0; at + kRecordAlignment <= starts; at += kRecordAlignment) {
      if (Decode64(bytes.data() + at) == 0) continue;
      *used_end = position + at + kRecordAlignment;
      FLINT_RETURN_IF_ERROR(CheckSeal(std::string_view(bytes).substr(at), reader->name()));
    }
    if (bytes.size() <= kPieceBytes) break;
    position += kPieceBytes;
  }
  return Status();
}

// What runs over the ring's end goes on at its beginning.
Status LogEnd::ScanRing() {
  const std::string ring = ring_->Bytes(0, ring_->size()) + ring_->Bytes(0, kSealBytes);
  for (size_t at = 0; at + kSealBytes <= ring.size(); at += kRecordAlignment) {
    FLINT_RETURN_IF_ERROR(CheckSeal(std::string_view(ring).substr(at), kRingName));
  }
  return Status();
}

// A segment is only written to when the one before it is on disk with its footer, so nothing can
// stand in one to which no footer leads. An opening of an earlier Flint wrote to flint.aof.new.
Status LogEnd::LookForSeals() {
  torn_end_ = stream_->position();
  FLINT_RETURN_IF_ERROR(ScanFile(stream_->mutable_segment(), stream_->position(), &torn_end_));
  for (const auto& reader : path_->unstarted) {
    if (reader->header().number <= stream_->segment().header().number) continue;
    uint64_t used_end = 0;
    FLINT_RETURN_IF_ERROR(ScanFile(reader.get(), 0, &used_end));
    reader->LetGo();
    if (used_end == 0 || reader->name() == kNewName) continue;
    return Status(Code::kCorruption, reader->name() +
                                         ": the segment holds records, but its first "
                                         "is damaged and no other segment leads to it")
        .At(reader->name(), kSegmentHeaderBytes, 0);
  }
  return ScanRing();
}

// ---- When no power was lost --------------------------------------------------------------------

// Whatever was written is still there, in the segment or in the ring.
Status LogEnd::CheckNothingWasWritten(const Known& known) {
  if (torn_end_ > stream_->position()) {
    damage_end_ = torn_end_;
    return stream_->DamageHere("no valid record, although the machine has been running since");
  }
  if (ring_->present()) return CheckRingEnd();
  if (known.closed) return Status();
  return Status(Code::kCorruption,
                std::string(kRingName) + " is missing or damaged, and the log was not closed")
      .At(kRingName, 0, 0);
}

// Opening writes its own records to the segment before it makes a ring: where a crash came between,
// the ring is of the time before.
bool LogEnd::RingGoesOnHere() const {
  const uint64_t position = stream_->position();
  const RingOwner& owner = ring_->owner();
  if (owner.segment != 0 && owner.position == position) return true;
  if (stream_->length() == 0) return false;
  const std::string word = ring_->Bytes(position - stream_->length(), sizeof(uint64_t));
  return Decode32(word.data()) == stream_->crc() && Decode32(word.data() + 4) == stream_->length();
}

// A record's first word, which is never zero, is stored when the rest is: where one has been
// finished, the word is not what stood there one lap of the ring before.
Status LogEnd::CheckRingEnd() {
  const uint64_t position = stream_->position();
  const uint64_t word = Decode64(ring_->Bytes(position, sizeof(uint64_t)).data());
  if (word == 0 || !RingGoesOnHere()) return Status();
  uint64_t before = 0;
  bool known = true;
  FLINT_RETURN_IF_ERROR(WordOneLapBefore(&before, &known));
  if (!known || word == before) return Status();
  damage_end_ = position + kRecordHeaderBytes;
  return stream_->DamageHere(std::string("the record in ") + kRingName +
                             " is damaged, although the machine has been running since");
}

// Not known when the segment is not kept any more.
Status LogEnd::WordOneLapBefore(uint64_t* word, bool* known) const {
  if (stream_->position() < ring_->owner().position + ring_->size()) return Status();  // first lap
  const uint64_t position = stream_->position() - ring_->size();
  SegmentReader* segment = nullptr;
  for (const auto* readers : {&path_->history, &path_->segments}) {
    for (const auto& reader : *readers) {
      if (reader->start().position <= position) segment = reader.get();
    }
  }
  *known = segment != nullptr;
  if (!*known) return Status();
  std::string bytes;
  FLINT_RETURN_IF_ERROR(segment->Read(position, sizeof(*word), &bytes));
  *known = bytes.size() == sizeof(*word);
  if (*known) *word = Decode64(bytes.data());
  if (segment != stream_->mutable_segment()) segment->LetGo();
  return Status();
}

}  // namespace flint
