#include "storage/take_over.h"

#include <algorithm>
#include <utility>

#include "storage/file_names.h"
#include "storage/segment_naming.h"

namespace flint {
namespace {

constexpr uint64_t kFirstSegmentBytes = uint64_t{1} << 20;
// What a segment must still hold for an opening to go on in it: START, CLOCK, and what the log
// keeps free for its own records.
constexpr uint64_t kRoomToGoOnBytes = 2048;
// What was torn off is kept of that many power losses.
constexpr size_t kTornFiles = 8;

void Append(ResumePoint* start, std::string* bytes, RecordType type, std::string_view payload) {
  const size_t at = bytes->size();
  bytes->resize(at + RecordBytes(payload.size()));
  start->crc = BuildRecord(bytes->data() + at, start->crc, start->segment->header.generation,
                           ++start->sequence, type, 0, 0, payload);
  start->position += bytes->size() - at;
}

// What of the tail stands in positions [begin, end).
std::string_view Slice(const LogTail& tail, uint64_t begin, uint64_t end) {
  begin = std::max(begin, tail.on_disk_to);
  return begin >= end ? std::string_view()
                      : tail.records.substr(begin - tail.on_disk_to, end - begin);
}

}  // namespace

// ---- Room on the disk --------------------------------------------------------------------------

// Kept history gives way, as it does while the log is written.
template <typename Step>
Status TakeOver::WithRoom(const Step& step) {
  Status status = step();
  while (status.code() == Code::kDiskFull && DropOldestHistory()) status = step();
  return status;
}

bool TakeOver::DropOldestHistory() {
  auto& oldest = path_->unreachable.empty() ? path_->history : path_->unreachable;
  if (oldest.empty()) return false;
  const bool removed = env_->Remove(PathOf(oldest.front()->name())).ok();
  oldest.erase(oldest.begin());
  return removed && env_->SyncDirectory(directory_).ok();
}

// ---- New files ---------------------------------------------------------------------------------

// A log that has not been closed always has a ring, so one is made before anything is written. It
// is of no segment and holds nothing.
Status TakeOver::MakeFirstRing(bool sync) {
  std::unique_ptr<Ring> ring;
  const Ring::Options options{options_.ring_bytes, options_.store_mode, RingOwner(), sync};
  return WithRoom(
      [&] { return Ring::Create(env_, directory_, path_->directory_id, options, &ring); });
}

// When everything before it is on disk.
Status TakeOver::MakeRing(ResumePoint* start) {
  const SegmentHeader& header = start->segment->header;
  const RingOwner owner{header.number, header.generation, start->position};
  const Ring::Options options{options_.ring_bytes, options_.store_mode, owner, false};
  return WithRoom(
      [&] { return Ring::Create(env_, directory_, path_->directory_id, options, &start->ring); });
}

// As flint.aof.next, with its header on disk.
Status TakeOver::CreateNext(uint64_t number, std::shared_ptr<LogSegment>* next) {
  auto segment = std::make_shared<LogSegment>();
  SegmentHeader& header = segment->header;
  FLINT_RETURN_IF_ERROR(env_->Random(&header.generation, sizeof(header.generation)));
  header.generation |= 1;
  header.directory_id = path_->directory_id;
  header.features = features_;
  header.number = number;
  header.epoch = path_->last_epoch + 1;
  header.capacity = std::max(std::min(kFirstSegmentBytes, options_.segment_bytes),
                             kSegmentHeaderBytes + 2 * kRoomToGoOnBytes);
  FLINT_RETURN_IF_ERROR(WithRoom([&] {
    return CreateSegment(env_, directory_, kNextName, header, options_.always, &segment->file);
  }));
  *next = std::move(segment);
  return Status();
}

// With START and a CLOCK on disk.
Status TakeOver::StartSegment(std::shared_ptr<LogSegment> segment, const StartPayload& begin,
                              ResumePoint* start) {
  segment->start = begin.position;
  segment->first_sequence = start->sequence + 1;
  segment->floor_ns = clock_.floor_ns;
  start->segment = std::move(segment);
  start->crc = ChainStart(start->segment->header.generation);
  start->next_id = 1;
  std::string bytes;
  Append(start, &bytes, RecordType::kStart, Encode(begin));
  Append(start, &bytes, RecordType::kClock, Encode(clock_));
  FLINT_RETURN_IF_ERROR(
      start->segment->file->Write(kSegmentHeaderBytes, bytes.data(), bytes.size()));
  return start->segment->file->SyncData();
}

// The empty ring is on disk before the segment is: where a crash leaves a ring alone, it tells
// whether there was a log.
Status TakeOver::Begin(ResumePoint* start) {
  FLINT_RETURN_IF_ERROR(env_->Random(path_->directory_id.data(), path_->directory_id.size()));
  FLINT_RETURN_IF_ERROR(MakeFirstRing(true));
  std::shared_ptr<LogSegment> first;
  FLINT_RETURN_IF_ERROR(CreateNext(1, &first));
  FLINT_RETURN_IF_ERROR(StartSegment(std::move(first), StartPayload(), start));
  FLINT_RETURN_IF_ERROR(env_->Rename(PathOf(kNextName), PathOf(kLogName)));
  FLINT_RETURN_IF_ERROR(env_->SyncDirectory(directory_));
  start->segment->name = kLogName;
  return MakeRing(start);
}

// ---- The end of the log ------------------------------------------------------------------------

Status TakeOver::GoOn(const LogTail& tail, bool has_ring, ResumePoint* start) {
  // A program that was killed may have changed names without living to sync them.
  FLINT_RETURN_IF_ERROR(env_->SyncDirectory(directory_));
  if (!has_ring) FLINT_RETURN_IF_ERROR(MakeFirstRing(false));
  FLINT_RETURN_IF_ERROR(CutTorn(tail));
  FLINT_RETURN_IF_ERROR(FinishOlder(tail));
  FLINT_RETURN_IF_ERROR(WriteNewest(tail, start));
  FLINT_RETURN_IF_ERROR(NameSegments(env_, directory_, path_));
  FLINT_RETURN_IF_ERROR(RemoveExplained(env_, directory_, *path_));
  if (!HasRoom(tail)) FLINT_RETURN_IF_ERROR(BeginNext(start));
  start->segment->name = kLogName;
  return MakeRing(start);
}

Status TakeOver::CutTorn(const LogTail& tail) {
  if (tail.torn_bytes == 0) return Status();
  FLINT_RETURN_IF_ERROR(WithRoom([&] { return KeepTornAside(tail); }));
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(env_->OpenFile(PathOf(newest().name()), OpenMode::kReadWrite, &file));
  FLINT_RETURN_IF_ERROR(file->Truncate(newest().OffsetOf(tail.position)));
  return file->Sync();
}

Status TakeOver::KeepTornAside(const LogTail& tail) {
  std::string bytes;
  FLINT_RETURN_IF_ERROR(newest().Read(tail.position, tail.torn_bytes, &bytes));
  newest().LetGo();
  FLINT_RETURN_IF_ERROR(RemoveOldestTorn());
  const std::string path = PathOf(TornName(tail.position));
  bool exists = false;  // where an opening was interrupted before it cut the file
  FLINT_RETURN_IF_ERROR(env_->Exists(path, &exists));
  if (exists) FLINT_RETURN_IF_ERROR(env_->Remove(path));
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(env_->OpenFile(path, OpenMode::kCreate, &file));
  FLINT_RETURN_IF_ERROR(file->Write(0, bytes.data(), bytes.size()));
  return file->Sync();
}

// What cannot be removed stays.
Status TakeOver::RemoveOldestTorn() {
  std::vector<std::string> names;
  FLINT_RETURN_IF_ERROR(env_->List(directory_, &names));
  std::erase_if(names, [](const std::string& name) { return !IsTornName(name); });
  std::sort(names.begin(), names.end());
  for (size_t i = 0; i + kTornFiles <= names.size(); ++i) {
    (void)env_->Remove(PathOf(names[i]));
  }
  return Status();
}

// A segment is on disk to its end before the next one is written.
Status TakeOver::FinishOlder(const LogTail& tail) {
  for (size_t i = 0; i + 1 < path_->segments.size(); ++i) {
    const bool add_footer = std::find(tail.without_footer.begin(), tail.without_footer.end(), i) !=
                            tail.without_footer.end();
    FLINT_RETURN_IF_ERROR(FinishSegment(i, tail, add_footer));
  }
  return Status();
}

// What is not needed behind its end is cut off. A footer that is added there belongs to no record's
// chain: it is for whoever finds this segment without the next.
Status TakeOver::FinishSegment(size_t index, const LogTail& tail, bool add_footer) {
  const SegmentReader& reader = *path_->segments[index];
  const uint64_t end = path_->segments[index + 1]->start().position;
  const uint64_t end_offset = reader.OffsetOf(end);
  const std::string_view records = Slice(tail, reader.start().position, end);
  std::string footer;
  bool has_footer = false;
  if (add_footer) FLINT_RETURN_IF_ERROR(FindFooterBehind(index, &footer, &has_footer));
  const uint64_t used = end_offset + footer.size();
  const bool finished =
      has_footer ? reader.file_bytes() == used : !add_footer && reader.file_bytes() <= used;
  if (records.empty() && finished) return Status();
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(env_->OpenFile(PathOf(reader.name()), OpenMode::kReadWrite, &file));
  if (!records.empty()) {
    FLINT_RETURN_IF_ERROR(file->Write(end_offset - records.size(), records.data(), records.size()));
  }
  FLINT_RETURN_IF_ERROR(file->Truncate(end_offset));
  FLINT_RETURN_IF_ERROR(file->Sync());
  if (footer.empty()) return Status();
  FLINT_RETURN_IF_ERROR(
      WithRoom([&] { return file->Write(end_offset, footer.data(), footer.size()); }));
  return file->Sync();
}

Status TakeOver::FindFooterBehind(size_t index, std::string* footer, bool* there) {
  SegmentReader* const reader = path_->segments[index].get();
  const SegmentReader& next = *path_->segments[index + 1];
  footer->resize(kFooterBytes);
  BuildRecord(footer->data(), next.start().previous_crc, reader->header().generation,
              next.first_sequence(), RecordType::kFooter, 0, 0,
              Encode(FooterPayload{next.header().generation, next.header().number}));
  std::string bytes;
  FLINT_RETURN_IF_ERROR(reader->Read(next.start().position, kFooterBytes, &bytes));
  reader->LetGo();
  *there = bytes == *footer;
  return Status();
}

bool TakeOver::HasRoom(const LogTail& tail) const {
  return newest().OffsetOf(tail.position) + kRoomToGoOnBytes <= newest().header().capacity;
}

// What is known to be on disk stays as it is; the rest is written again as it was, since a sync may
// have failed that the process before did not live to tell of.
Status TakeOver::WriteNewest(const LogTail& tail, ResumePoint* start) {
  auto segment = std::make_shared<LogSegment>();
  segment->header = newest().header();
  segment->start = newest().start().position;
  segment->first_sequence = newest().first_sequence();
  segment->floor_ns = tail.floor_ns;
  FLINT_RETURN_IF_ERROR(
      env_->OpenFile(PathOf(newest().name()), OpenMode::kReadWrite, &segment->file));
  start->segment = segment;
  start->position = tail.position;
  start->sequence = tail.sequence;
  start->crc = tail.crc;
  start->next_id = tail.largest_id + 1;
  std::string bytes(Slice(tail, segment->start, tail.position));
  const uint64_t offset = newest().OffsetOf(tail.position) - bytes.size();
  if (tail.position == segment->start) {
    Append(start, &bytes, RecordType::kStart, Encode(newest().start()));
  }
  if (HasRoom(tail)) {
    Append(start, &bytes, RecordType::kClock, Encode(clock_));
    FLINT_RETURN_IF_ERROR(WithRoom(
        [&] { return segment->file->Reserve(segment->header.capacity, options_.always); }));
  }
  if (bytes.empty()) return Status();
  FLINT_RETURN_IF_ERROR(segment->file->Write(offset, bytes.data(), bytes.size()));
  return segment->file->Sync();
}

// As the log does when it rotates: the footer is on disk before the next segment's START is.
Status TakeOver::BeginNext(ResumePoint* start) {
  const std::shared_ptr<LogSegment> old = start->segment;
  std::shared_ptr<LogSegment> next;
  FLINT_RETURN_IF_ERROR(CreateNext(old->header.number + 1, &next));
  const uint64_t offset = kSegmentHeaderBytes + start->position - old->start;
  std::string footer;
  Append(start, &footer, RecordType::kFooter,
         Encode(FooterPayload{next->header.generation, next->header.number}));
  FLINT_RETURN_IF_ERROR(
      WithRoom([&] { return old->file->Write(offset, footer.data(), footer.size()); }));
  FLINT_RETURN_IF_ERROR(old->file->Truncate(offset + footer.size()));
  FLINT_RETURN_IF_ERROR(old->file->Sync());
  const StartPayload begin{start->position, old->header.number, old->header.generation, start->crc};
  FLINT_RETURN_IF_ERROR(StartSegment(std::move(next), begin, start));
  return TakeLogName(env_, directory_, old->first_sequence, &old->name);
}

}  // namespace flint
