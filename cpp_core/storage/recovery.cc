#include "storage/recovery.h"

#include <algorithm>
#include <utility>

#include "storage/file_names.h"
#include "storage/take_over.h"

namespace flint {
namespace {

constexpr size_t kTailMovedFrom = size_t{1} << 16;

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

// An opening writes the ring after it has begun to change the directory. What would stop it there
// stops it here.
Status Recovery::CheckRingCanBeMade() const {
  const std::string path = directory_ + "/" + kRingTemporaryName;
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env_->Exists(path, &exists));
  std::unique_ptr<File> file;
  return exists ? env_->OpenFile(path, OpenMode::kRead, &file) : Status();
}

Status Recovery::Begin() {
  FLINT_RETURN_IF_ERROR(CheckRingCanBeMade());
  FLINT_RETURN_IF_ERROR(FindLogPath(env_, directory_, covered_, UINT64_MAX, &path_));
  if (path_.segments.empty()) return RefuseRemains();
  report_.fresh = false;
  report_.damaged_history = path_.damaged.size() + path_.unreachable.size();
  stream_ = std::make_unique<LogStream>(&path_, &ring_, covered_);
  end_ = std::make_unique<LogEnd>(&path_, stream_.get(), &ring_);
  on_disk_to_ = stream_->position();
  return Status();
}

// The ring is read before the segment: what leaves the ring meanwhile is in the segment then.
Status Recovery::ReadOn(RecordSink* sink) {
  FLINT_RETURN_IF_ERROR(RingImage::Read(env_, directory_, path_.directory_id, &ring_));
  stream_->ReadAnew();
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
  if (record.type == RecordType::kStart) {
    largest_id_ = 0;
    floor_ns_ = 0;
    clock_due_ = true;
  }
  // Later ones may be those of openings that went on in the segment.
  if (record.type == RecordType::kClock && std::exchange(clock_due_, false)) {
    floor_ns_ = report_.clock.floor_ns;
  }
  if (record.type == RecordType::kKey || record.type == RecordType::kKeyAllow) {
    largest_id_ = std::max(largest_id_, record.id);
  }
  SealPayload seal;
  const bool sealed = record.type == RecordType::kSeal && Decode(record.payload, &seal);
  closed_ = sealed && (record.flags & kFlagCleanClose) != 0;
  if (sealed) ForgetThrough(seal.end);
  if (record.end() <= covered_.position) ForgetThrough(record.end());
  return Status();
}

// Positions are known to be on disk up to there.
void Recovery::ForgetThrough(uint64_t position) {
  if (position <= on_disk_to_) return;
  const uint64_t bytes = std::min<uint64_t>(position - on_disk_to_, tail_.size() - tail_begin_);
  tail_begin_ += bytes;
  on_disk_to_ += bytes;
  if (tail_begin_ < kTailMovedFrom || tail_begin_ * 2 < tail_.size()) return;
  tail_.erase(0, tail_begin_);
  tail_begin_ = 0;
}

// Ages are counted from the opening that first saw them as history: the records of a segment may
// be older, never younger.
std::vector<HistorySegment> Recovery::history() const {
  std::vector<HistorySegment> history;
  for (const auto* readers : {&path_.unreachable, &path_.history}) {
    for (const auto& reader : *readers) {
      history.push_back({reader->name(), reader->file_bytes(), report_.clock.clock.engine_ns});
    }
  }
  return history;
}

Status Recovery::CheckEnd() {
  const bool same_boot = report_.clock.boot == boot_;
  FLINT_RETURN_IF_ERROR(end_->Check({same_boot, closed_, on_disk_to_}));
  report_.torn_bytes = end_->torn_end() - stream_->position();
  return Status();
}

// What reading alone put up with, and what a new segment has to repeat.
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

Status Recovery::GoOn(const LogOptions& options, const ClockPayload& clock, ResumePoint* start) {
  FLINT_RETURN_IF_ERROR(CheckFeatures());
  TakeOver take_over(env_, directory_, &path_, features_, options, clock);
  if (path_.segments.empty()) return take_over.Begin(start);
  stream_->ReadAnew();
  LogTail tail;
  tail.position = stream_->position();
  tail.sequence = stream_->sequence();
  tail.crc = stream_->crc();
  tail.largest_id = largest_id_;
  tail.floor_ns = floor_ns_;
  tail.on_disk_to = on_disk_to_;
  tail.records = std::string_view(tail_).substr(tail_begin_);
  tail.torn_bytes = report_.torn_bytes;
  tail.without_footer = stream_->without_footer();
  return take_over.GoOn(tail, ring_.present(), start);
}

}  // namespace flint
