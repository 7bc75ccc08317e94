#include "storage/recovery.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/coding.h"
#include "storage/file_names.h"

namespace flint {
namespace {

constexpr uint64_t kFirstSegmentBytes = uint64_t{1} << 20;
constexpr uint64_t kRoomForOwnRecords = 4096;
constexpr size_t kTailMovedFrom = size_t{1} << 16;

// The records that stand one after the other in `bytes`, the first of them at `position`.
std::vector<Record> RecordsIn(std::string_view bytes, uint64_t position) {
  std::vector<Record> records;
  while (!bytes.empty()) {
    TakeApart(bytes, position, &records.emplace_back());
    bytes.remove_prefix(records.back().length);
    position = records.back().end();
  }
  return records;
}

}  // namespace

Recovery::Recovery(Env* env, std::string directory, const SnapshotHead& snapshot,
                   const BootId& boot)
    : env_(env),
      directory_(std::move(directory)),
      covered_(snapshot.covered),
      boot_(boot),
      features_(snapshot.features) {
  report_.clock = snapshot.clock;
}

Status Recovery::Replay(RecordSink* sink, Report* report) {
  FLINT_RETURN_IF_ERROR(Begin());
  if (!report_.fresh) {
    FLINT_RETURN_IF_ERROR(ReadOn(sink));
    FLINT_RETURN_IF_ERROR(CheckEnd());
  }
  *report = report_;
  return Status();
}

Status Recovery::Begin() {
  FLINT_RETURN_IF_ERROR(FindLogPath(env_, directory_, covered_, UINT64_MAX, &path_));
  if (path_.segments.empty()) return RefuseRemains();
  report_.fresh = false;
  report_.damaged_history = path_.damaged.size();
  stream_ = std::make_unique<LogStream>(&path_, &ring_, covered_);
  const SegmentReader& first = stream_->segment();
  sealed_ = Boundary{first.start().position, first.first_sequence() - 1, first.start().previous_crc,
                     first.start().previous_segment, first.start().previous_generation};
  return Status();
}

// The ring is read before the segment: what leaves the ring meanwhile is in the segment then.
Status Recovery::ReadOn(RecordSink* sink) {
  FLINT_RETURN_IF_ERROR(RingImage::Read(env_, directory_, path_.directory_id, &ring_));
  stream_->DropWindow();
  FLINT_RETURN_IF_ERROR(stream_->RecheckRingRecords());
  Record record;
  while (true) {
    bool end = false;
    FLINT_RETURN_IF_ERROR(stream_->Next(&record, &end));
    if (end) break;
    if (record.sequence > covered_.sequence) {
      const Status status = sink->Apply(record);
      if (!status.ok()) return stream_->DamageHere(status.message());
      ++report_.records;
    }
    FLINT_RETURN_IF_ERROR(Observe(record));
  }
  report_.ring_records = stream_->ring_records();
  return Status();
}

// Whether the log still goes on where the stream stands, and not in a segment that a recovery or a
// rotation has put in its place, or in another directory of the same name.
Status Recovery::CheckNewest() {
  std::unique_ptr<SegmentReader> newest;
  FLINT_RETURN_IF_ERROR(SegmentReader::Open(env_, directory_, kLogName, &newest));
  const auto is_newest = [&newest](const std::unique_ptr<SegmentReader>& reader) {
    return reader->header().generation == newest->header().generation;
  };
  if (std::any_of(path_.segments.begin(), path_.segments.end(), is_newest)) return Status();
  return Status(Code::kCorruption, directory_ + ": the log goes on in another segment");
}

// A directory without a log is new, unless its ring tells that there was one.
Status Recovery::RefuseRemains() const {
  bool used = false;
  FLINT_RETURN_IF_ERROR(RingImage::Used(env_, directory_, &used));
  if (!used) return Status();
  return Status(Code::kCorruption, directory_ + ": the log segment flint.aof is missing")
      .At(kLogName, 0, 0);
}

Status Recovery::Observe(const Record& record) {
  tail_.append(record.bytes);
  if (!UpdateClock(record, &report_.clock)) return stream_->DamageHere("an unreadable clock");
  SealPayload seal;
  const bool sealed = record.type == RecordType::kSeal && Decode(record.payload, &seal);
  clean_ = sealed && (record.flags & kFlagCleanClose) != 0;
  if (sealed) ForgetThrough(seal.end);
  if (record.end() <= covered_.position) ForgetThrough(record.end());
  return Status();
}

// Moves the boundary up to `position`, remembering which ids are bound there.
void Recovery::ForgetThrough(uint64_t position) {
  const size_t begin = tail_begin_;
  Record record;
  while (tail_begin_ < tail_.size()) {
    TakeApart(std::string_view(tail_).substr(tail_begin_), sealed_.position, &record);
    if (record.end() > position) break;
    if (record.type == RecordType::kStart) keys_at_seal_.clear();
    if (record.type == RecordType::kKey) {
      largest_id_ = std::max(largest_id_, record.id);
      keys_at_seal_.append(record.bytes);
    }
    sealed_.position = record.end();
    sealed_.sequence = record.sequence;
    sealed_.crc = record.crc;
    tail_begin_ += record.length;
  }
  if (tail_begin_ != begin) NameSegmentBefore();
  if (tail_begin_ < kTailMovedFrom || tail_begin_ * 2 < tail_.size()) return;
  tail_.erase(0, tail_begin_);
  tail_begin_ = 0;
}

// The segment in which the last record before the boundary stands.
void Recovery::NameSegmentBefore() {
  const auto segment = std::find_if(
      path_.segments.rbegin(), path_.segments.rend(),
      [this](const auto& reader) { return reader->start().position < sealed_.position; });
  sealed_.segment = (*segment)->header().number;
  sealed_.generation = (*segment)->header().generation;
}

// Ages are counted from the opening that first saw them as history: the records of a segment may
// be older, never younger.
std::vector<HistorySegment> Recovery::history() const {
  std::vector<HistorySegment> history;
  history.reserve(path_.history.size());
  for (const auto& reader : path_.history) {
    history.push_back({reader->name(), reader->file_bytes(), report_.clock.clock.engine_ns});
  }
  return history;
}

// ---- Torn or damaged? --------------------------------------------------------------------------

bool Recovery::KnownGeneration(uint64_t generation) const {
  const auto has = [generation](const std::unique_ptr<SegmentReader>& reader) {
    return reader->header().generation == generation;
  };
  return std::any_of(path_.segments.begin(), path_.segments.end(), has) ||
         std::any_of(path_.history.begin(), path_.history.end(), has) ||
         std::any_of(path_.others.begin(), path_.others.end(), has);
}

Status Recovery::CheckSeal(std::string_view bytes, const std::string& where) {
  if (bytes.size() < kSealBytes || static_cast<RecordType>(bytes[16]) != RecordType::kSeal ||
      Decode32(bytes.data() + 4) != kSealBytes) {
    return Status();
  }
  SealPayload seal;
  if (!Decode(bytes.substr(kRecordHeaderBytes, kSealBytes - kRecordHeaderBytes), &seal) ||
      !KnownGeneration(seal.generation) || seal.end <= stream_->position()) {
    return Status();
  }
  damage_end_ = std::max(torn_end_, seal.end);
  return stream_->DamageHere("no valid record, but a seal in " + where +
                             " shows that the log had been on disk up to position " +
                             std::to_string(seal.end) + " (the damage is at position " +
                             std::to_string(stream_->position()) + ")");
}

Status Recovery::ScanFile(SegmentReader* reader, uint64_t position) {
  const bool newest = reader == stream_->mutable_segment();
  constexpr size_t kPieceBytes = size_t{1} << 20;
  while (true) {
    std::string bytes;
    FLINT_RETURN_IF_ERROR(reader->Read(position, kPieceBytes + kSealBytes, &bytes));
    const size_t starts = std::min(bytes.size(), kPieceBytes);
    for (size_t at = 0; at + kRecordAlignment <= starts; at += kRecordAlignment) {
      if (Decode64(bytes.data() + at) == 0) continue;
      if (newest) torn_end_ = position + at + kRecordAlignment;
      FLINT_RETURN_IF_ERROR(CheckSeal(std::string_view(bytes).substr(at), reader->name()));
    }
    if (bytes.size() <= kPieceBytes) return Status();
    position += kPieceBytes;
  }
}

Status Recovery::LookForSeals() {
  torn_end_ = stream_->position();
  FLINT_RETURN_IF_ERROR(ScanFile(stream_->mutable_segment(), stream_->position()));
  for (const auto& reader : path_.others) {
    if (reader->header().number > stream_->segment().header().number) {
      FLINT_RETURN_IF_ERROR(ScanFile(reader.get(), reader->start().position));
    }
  }
  // What runs over the ring's end goes on at its beginning.
  const std::string ring = ring_.Bytes(0, ring_.size()) + ring_.Bytes(0, kSealBytes);
  for (size_t at = 0; at + kSealBytes <= ring.size(); at += kRecordAlignment) {
    FLINT_RETURN_IF_ERROR(CheckSeal(std::string_view(ring).substr(at), kRingName));
  }
  return Status();
}

Status Recovery::CheckEnd() {
  damage_end_ = UINT64_MAX;
  // What is sealed had been in its segment: that the ring still has it does not undo the damage.
  if (stream_->first_ring_position() < sealed_.position) {
    return Status(Code::kCorruption, "the log is damaged at position " +
                                         std::to_string(stream_->first_ring_position()) +
                                         ": a record that a seal covers is only in flint.ring")
        .At(stream_->segment().name(), stream_->segment().OffsetOf(stream_->first_ring_position()),
            stream_->first_ring_sequence());
  }
  FLINT_RETURN_IF_ERROR(LookForSeals());
  if (report_.clock.boot != boot_) {
    report_.torn_bytes = torn_end_ - stream_->position();
    return Status();
  }
  // No power was lost, so whatever was written is still there, in the segment or in the ring.
  if (torn_end_ > stream_->position()) {
    damage_end_ = torn_end_;
    return stream_->DamageHere("no valid record, although the machine has been running since");
  }
  if (!ring_.present() && !clean_) {
    return Status(Code::kCorruption,
                  directory_ + ": flint.ring is missing or damaged, and the log was not closed")
        .At(kRingName, 0, 0);
  }
  return Status();
}

// ---- Taking over -------------------------------------------------------------------------------

Status Recovery::TakeOver(const LogOptions& options, const ClockPayload& clock,
                          ResumePoint* resume) {
  if (path_.segments.empty()) {
    FLINT_RETURN_IF_ERROR(env_->Random(path_.directory_id.data(), path_.directory_id.size()));
  }
  FLINT_RETURN_IF_ERROR(CheckFeatures());
  FLINT_RETURN_IF_ERROR(KeepTornAside());
  FLINT_RETURN_IF_ERROR(FreeNewName());
  // A log that has not been closed always has a ring: one that holds nothing is made before the
  // segment that needs it, one that holds records is replaced after them.
  const auto create_ring = [&] {
    return Ring::Create(env_, directory_, path_.directory_id, options.ring_bytes,
                        options.store_mode, &resume->ring);
  };
  const bool ring_first = !ring_.present();
  if (ring_first) FLINT_RETURN_IF_ERROR(create_ring());
  FLINT_RETURN_IF_ERROR(WriteSegment(options, clock, resume));
  FLINT_RETURN_IF_ERROR(NameFiles(*resume->segment));
  resume->segment->name = kLogName;
  return ring_first ? Status() : create_ring();
}

// What reading alone put up with, and what the new segment has to repeat.
Status Recovery::CheckFeatures() {
  FLINT_RETURN_IF_ERROR(CheckWritable(features_, kSnapshotName));
  for (const auto* readers : {&path_.history, &path_.segments}) {
    for (const auto& reader : *readers) {
      FLINT_RETURN_IF_ERROR(CheckWritable(reader->header().features, reader->name()));
      features_ = features_ | reader->header().features;
    }
  }
  return Status();
}

Status Recovery::KeepTornAside() {
  if (report_.torn_bytes == 0) return Status();
  std::string bytes;
  FLINT_RETURN_IF_ERROR(
      stream_->mutable_segment()->Read(stream_->position(), report_.torn_bytes, &bytes));
  const std::string path =
      directory_ + "/" + kTornPrefix + std::to_string(stream_->segment().header().number);
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env_->Exists(path, &exists));
  if (exists) FLINT_RETURN_IF_ERROR(env_->Remove(path));
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(env_->OpenFile(path, OpenMode::kCreate, &file));
  FLINT_RETURN_IF_ERROR(file->Write(0, bytes.data(), bytes.size()));
  return file->Sync();
}

// A segment that an interrupted opening had committed but not renamed.
Status Recovery::FreeNewName() {
  for (const auto& reader : path_.segments) {
    if (reader->name() != kNewName) continue;
    const std::string name = RotatedSegmentName(reader->first_sequence());
    // Whoever committed it may have been killed before that was on disk, and the new name may be
    // that of a segment it supersedes.
    std::unique_ptr<File> file;
    FLINT_RETURN_IF_ERROR(env_->OpenFile(directory_ + "/" + kNewName, OpenMode::kReadWrite, &file));
    FLINT_RETURN_IF_ERROR(file->Sync());
    FLINT_RETURN_IF_ERROR(env_->Rename(directory_ + "/" + kNewName, directory_ + "/" + name));
    FLINT_RETURN_IF_ERROR(env_->SyncDirectory(directory_));
    reader->set_name(name);
    // A superseded segment that began at the same record had this name until now.
    std::erase_if(path_.others, [&](const auto& other) { return other->name() == name; });
  }
  return Status();
}

// Of the ids that the tail uses as they are bound at the boundary, the KEYs' payloads.
std::map<uint32_t, std::string_view> Recovery::KeysBoundBeforeTail(
    const std::vector<Record>& tail) const {
  std::set<uint32_t> used;
  for (const Record& record : tail) {
    if (record.type == RecordType::kStart) break;
    if (record.type == RecordType::kAllow || record.type == RecordType::kDeny) {
      used.insert(record.id);
    }
    if (record.type != RecordType::kAllowAll) continue;
    const AllowAllReader reader(record.payload);
    for (uint32_t i = 0; reader.valid() && i < reader.count(); ++i) used.insert(reader.item(i).id);
  }
  std::map<uint32_t, std::string_view> keys;
  Record record;
  for (std::string_view rest = keys_at_seal_; !rest.empty();) {
    TakeApart(rest, 0, &record);
    if (used.count(record.id) != 0) keys[record.id] = record.payload;
    rest.remove_prefix(record.length);
  }
  return keys;
}

// START and what is taken over, as one run of bytes.
std::string Recovery::BuildContents(uint64_t generation, const ClockPayload& clock,
                                    ResumePoint* resume) {
  std::string bytes;
  resume->position = sealed_.position;
  resume->sequence = sealed_.sequence;
  resume->crc = ChainStart(generation);
  const auto add = [&](RecordType type, uint8_t flags, uint32_t id, std::string_view payload) {
    const size_t at = bytes.size();
    bytes.resize(at + RecordBytes(payload.size()));
    resume->crc = BuildRecord(bytes.data() + at, resume->crc, generation, ++resume->sequence, type,
                              flags, id, payload);
  };
  add(RecordType::kStart, 0, 0,
      Encode(StartPayload{sealed_.position, sealed_.segment, sealed_.generation, sealed_.crc}));
  const std::vector<Record> tail =
      RecordsIn(std::string_view(tail_).substr(tail_begin_), sealed_.position);
  for (const auto& [id, key] : KeysBoundBeforeTail(tail)) add(RecordType::kKey, 0, id, key);
  for (const Record& record : tail) {
    if (record.type == RecordType::kStart || record.type == RecordType::kFooter) continue;
    largest_id_ = std::max(largest_id_, record.id);
    const uint8_t flags = record.flags & static_cast<uint8_t>(~kFlagCleanClose);
    add(record.type, flags, record.id, record.payload);
  }
  add(RecordType::kClock, 0, 0, Encode(clock));
  resume->position += bytes.size();
  resume->next_id = largest_id_ + 1;
  return bytes;
}

// START is written last: a segment without it is not part of the log, one with it is complete.
Status Recovery::WriteSegment(const LogOptions& options, const ClockPayload& clock,
                              ResumePoint* resume) {
  auto segment = std::make_shared<LogSegment>();
  SegmentHeader& header = segment->header;
  FLINT_RETURN_IF_ERROR(env_->Random(&header.generation, sizeof(header.generation)));
  header.generation |= 1;
  header.directory_id = path_.directory_id;
  header.features = features_;
  header.number = path_.last_number + 1;
  header.epoch = path_.last_epoch + 1;
  const std::string bytes = BuildContents(header.generation, clock, resume);
  header.capacity = std::max(std::min(kFirstSegmentBytes, options.segment_bytes),
                             kSegmentHeaderBytes + 2 * bytes.size() + kRoomForOwnRecords);
  segment->name = kNewName;
  segment->start = sealed_.position;
  segment->first_sequence = sealed_.sequence + 1;
  segment->floor_ns = clock.floor_ns;
  FLINT_RETURN_IF_ERROR(
      CreateSegment(env_, directory_, kNewName, header, options.always, &segment->file));
  FLINT_RETURN_IF_ERROR(segment->file->Write(
      kSegmentHeaderBytes + kStartBytes, bytes.data() + kStartBytes, bytes.size() - kStartBytes));
  FLINT_RETURN_IF_ERROR(segment->file->SyncData());
  FLINT_RETURN_IF_ERROR(segment->file->Write(kSegmentHeaderBytes, bytes.data(), kStartBytes));
  FLINT_RETURN_IF_ERROR(segment->file->SyncData());
  resume->segment = std::move(segment);
  return Status();
}

// Every segment of the path that still counts gets its rotated name and its final size; then the
// new one becomes flint.aof in one step, so that there is always one.
Status Recovery::NameFiles(const LogSegment& taken) {
  std::vector<std::string> superseded = path_.unusable;
  for (const auto& reader : path_.others) superseded.push_back(reader->name());
  for (const auto& reader : path_.segments) {
    const bool counts = reader->started() && reader->start().position < sealed_.position;
    if (!counts) {
      superseded.push_back(reader->name());
      continue;
    }
    const std::string path = directory_ + "/" + reader->name();
    if (reader->header().number == sealed_.segment) {
      std::unique_ptr<File> file;
      FLINT_RETURN_IF_ERROR(env_->OpenFile(path, OpenMode::kReadWrite, &file));
      FLINT_RETURN_IF_ERROR(file->Truncate(reader->OffsetOf(sealed_.position)));
      FLINT_RETURN_IF_ERROR(file->Sync());
    }
    const std::string rotated_path =
        directory_ + "/" + RotatedSegmentName(reader->first_sequence());
    if (reader->name() == kLogName) FLINT_RETURN_IF_ERROR(env_->Link(path, rotated_path));
    if (reader->name() == kNextName) FLINT_RETURN_IF_ERROR(env_->Rename(path, rotated_path));
  }
  FLINT_RETURN_IF_ERROR(env_->Rename(directory_ + "/" + taken.name, directory_ + "/" + kLogName));
  FLINT_RETURN_IF_ERROR(env_->SyncDirectory(directory_));
  for (const std::string& name : superseded) {
    if (name == kLogName || name == kNewName) continue;  // replaced by the rename
    FLINT_RETURN_IF_ERROR(env_->Remove(directory_ + "/" + name));
  }
  return env_->SyncDirectory(directory_);
}

}  // namespace flint
