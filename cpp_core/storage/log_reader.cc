#include "storage/log_reader.h"

#include <algorithm>
#include <cstring>

#include "base/coding.h"
#include "storage/file_names.h"

namespace flint {
namespace {

// Flint 0.1 and 0.2 wrote JSON lines; both name their log flint.aof.
Status ExplainForeignLog(Env* env, const std::string& directory, const Status& status) {
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(env->OpenFile(directory + "/" + kLogName, OpenMode::kRead, &file));
  char first = 0;
  size_t got = 0;
  FLINT_RETURN_IF_ERROR(file->Read(0, &first, 1, &got));
  if (got == 1 && first == '{') {
    return Status(Code::kUnsupported,
                  directory + ": written by Flint 0.1 or 0.2; opening it for writing converts it");
  }
  return status;
}

struct Found {
  std::vector<std::unique_ptr<SegmentReader>> readers;  // by number, oldest first
  std::vector<uint64_t> numbers;  // theirs, also of those that have been taken out
  bool has_log_name = false;
};

Status OpenAll(Env* env, const std::string& directory, bool rotated_only, LogPath* path,
               Found* found) {
  std::vector<std::string> names;
  FLINT_RETURN_IF_ERROR(env->List(directory, &names));
  for (const std::string& name : names) {
    if (!IsSegmentName(name) || (rotated_only && !IsRotatedName(name))) continue;
    std::unique_ptr<SegmentReader> reader;
    const Status status = SegmentReader::Open(env, directory, name, &reader);
    if (status.code() == Code::kCorruption && (name == kNextName || name == kNewName)) {
      path->unusable.push_back(name);  // its header was never synced, so it was never used
      continue;
    }
    if (status.code() == Code::kCorruption && name == kLogName) {
      return ExplainForeignLog(env, directory, status);
    }
    if (status.code() == Code::kCorruption) {
      path->damaged.push_back(name);
      continue;
    }
    FLINT_RETURN_IF_ERROR(status);
    if (name == kLogName) found->has_log_name = true;
    found->readers.push_back(std::move(reader));
  }
  return Status();
}

// A crash between linking and renaming leaves two names for one segment; the rotated one stays.
void DropSecondNames(Found* found) {
  auto& readers = found->readers;
  std::stable_sort(readers.begin(), readers.end(), [](const auto& a, const auto& b) {
    return a->header().number < b->header().number ||
           (a->header().number == b->header().number && a->name().size() > b->name().size());
  });
  const auto same = [](const auto& a, const auto& b) {
    return a->header().number == b->header().number &&
           a->header().generation == b->header().generation;
  };
  readers.erase(std::unique(readers.begin(), readers.end(), same), readers.end());
  for (const auto& reader : readers) found->numbers.push_back(reader->header().number);
}

Status CheckIdentity(const Found& found, const Covered& covered, LogPath* path) {
  if (covered.present) path->directory_id = covered.directory_id;
  if (!covered.present && !found.readers.empty()) {
    path->directory_id = found.readers.front()->header().directory_id;
  }
  for (const auto& reader : found.readers) {
    if (reader->header().directory_id != path->directory_id) {
      return Status(Code::kCorruption, reader->name() + ": belongs to another data directory")
          .At(reader->name(), 0, 0);
    }
    path->last_number = std::max(path->last_number, reader->header().number);
    path->last_epoch = std::max(path->last_epoch, reader->header().epoch);
  }
  return Status();
}

// Moves the segment that START names out of `found`; null when it is not there.
std::unique_ptr<SegmentReader> TakePrevious(const SegmentReader& reader, Found* found) {
  const StartPayload& start = reader.start();
  const std::vector<uint64_t>& numbers = found->numbers;
  auto at = std::lower_bound(numbers.begin(), numbers.end(), start.previous_segment);
  for (; at != numbers.end() && *at == start.previous_segment; ++at) {
    auto& candidate = found->readers[static_cast<size_t>(at - numbers.begin())];
    if (candidate != nullptr && candidate->started() &&
        candidate->header().generation == start.previous_generation) {
      return std::move(candidate);
    }
  }
  return nullptr;
}

Status CheckJoin(const SegmentReader& first, const Covered& covered) {
  if (!covered.present || first.start().position != covered.position ||
      (first.start().previous_crc == covered.crc &&
       first.first_sequence() == covered.sequence + 1)) {
    return Status();
  }
  return Status(Code::kCorruption, first.name() + ": the snapshot was made from another log")
      .At(first.name(), kSegmentHeaderBytes, first.first_sequence());
}

}  // namespace

bool ReadClock(const Record& record, ClockPayload* clock) {
  if (record.type == RecordType::kClock) return Decode(record.payload, clock);
  SealPayload seal;
  if (!Decode(record.payload, &seal)) return false;
  clock->clock = seal.clock;
  return true;
}

Status FindLogPath(Env* env, const std::string& directory, const Covered& covered,
                   uint64_t last_segment, LogPath* path) {
  Found found;
  const bool rotated_only = last_segment != UINT64_MAX;
  path->bounded = rotated_only;
  FLINT_RETURN_IF_ERROR(OpenAll(env, directory, rotated_only, path, &found));
  DropSecondNames(&found);
  FLINT_RETURN_IF_ERROR(CheckIdentity(found, covered, path));
  auto& readers = found.readers;
  const auto newest = std::find_if(readers.rbegin(), readers.rend(), [&](const auto& reader) {
    return reader->started() && reader->header().number <= last_segment;
  });
  if (newest == readers.rend()) {
    if (!covered.present && !found.has_log_name) {
      path->others = std::move(readers);
      return Status();
    }
    return Status(Code::kCorruption, directory + ": the log segment flint.aof is missing or empty")
        .At(kLogName, 0, 0);
  }
  if (!rotated_only && !found.has_log_name && IsRotatedName((*newest)->name())) {
    return Status(Code::kCorruption, directory + ": the log segment flint.aof is missing")
        .At(kLogName, 0, 0);
  }
  path->segments.push_back(std::move(*newest));  // newest first, until all are there
  while (true) {
    const SegmentReader& oldest = *path->segments.back();
    const StartPayload& start = oldest.start();
    if (start.previous_segment == 0 || start.position <= covered.position) break;
    std::unique_ptr<SegmentReader> previous = TakePrevious(oldest, &found);
    if (previous == nullptr) {
      return Status(Code::kCorruption,
                    directory + ": log segment number " + std::to_string(start.previous_segment) +
                        (covered.present ? " is missing or damaged"
                                         : " or the snapshot is missing or damaged"))
          .At(oldest.name(), 0, oldest.first_sequence());
    }
    path->segments.push_back(std::move(previous));
  }
  std::reverse(path->segments.begin(), path->segments.end());
  FLINT_RETURN_IF_ERROR(CheckJoin(*path->segments.front(), covered));
  for (const SegmentReader* oldest = path->segments.front().get(); oldest != nullptr;) {
    std::unique_ptr<SegmentReader> previous = TakePrevious(*oldest, &found);
    oldest = previous.get();
    if (previous != nullptr) path->history.push_back(std::move(previous));
  }
  std::reverse(path->history.begin(), path->history.end());
  for (auto& reader : readers) {
    if (reader != nullptr) path->others.push_back(std::move(reader));
  }
  return Status();
}

LogStream::LogStream(LogPath* path, const RingImage* ring, const Covered& covered)
    : path_(path), ring_(ring), covered_(covered) {
  const SegmentReader& first = *path_->segments.front();
  position_ = first.start().position;
  sequence_ = first.first_sequence() - 1;
  Enter(0);
}

void LogStream::DropWindow() {
  ahead_ = {};
  mutable_segment()->DropWindow();
}

void LogStream::Enter(size_t index) {
  ahead_ = {};
  index_ = index;
  generation_ = segment().header().generation;
  next_at_ = at_last_segment() ? UINT64_MAX : path_->segments[index_ + 1]->start().position;
  crc_ = ChainStart(generation_);
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
  DropWindow();
  Enter(index_ + 1);
  return Status();
}

Status LogStream::ReadHere(Record* record, bool* found) {
  // A record that led here may have been the last of the segment before.
  if (index_ > 0) path_->segments[index_ - 1]->DropWindow();
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
  auto& others = path_->others;
  const auto next = std::find_if(others.begin(), others.end(), [&](const auto& reader) {
    return reader->header().generation == footer.next_generation;
  });
  if (next == others.end()) {
    return DamageHere("the segment after it, number " + std::to_string(footer.next_segment) +
                      ", is missing");
  }
  (*next)->Place(record.end());
  path_->segments.push_back(std::move(*next));
  others.erase(next);
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
  ahead_.remove_prefix(std::min<size_t>(record->length, ahead_.size()));
  FLINT_RETURN_IF_ERROR(CheckCovered(*record));
  if (record->type == RecordType::kFooter) return FollowFooter(*record);
  return Status();
}

}  // namespace flint
