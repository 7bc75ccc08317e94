#include "engine/compactor.h"

#include <algorithm>
#include <exception>
#include <new>
#include <vector>

#include "base/assert.h"
#include "engine/key.h"
#include "engine/replayer.h"
#include "storage/file_names.h"
#include "storage/recovery.h"

namespace flint {
namespace {

// The log is worth compacting when it has outgrown the snapshot by so much, or is in many pieces.
constexpr uint64_t kLeastBytes = uint64_t{8} << 20;
constexpr uint64_t kTimesSnapshot = 4;
constexpr uint64_t kMostSegments = 64;
// Of that much it is worth compacting, and overdue.
constexpr uint64_t kWorth = 1;
constexpr uint64_t kOverdue = 2;
// An opening has already replayed what it finds, and a program that never lives long enough to
// compact must not replay more each time: it waits for much smaller a log to be compacted. A log
// that has outgrown even that is of a program that lived long, and an opening that waited would
// take twice as long for something that its own life has time for.
constexpr uint64_t kLeastBytesAtOpening = uint64_t{1} << 19;
constexpr uint64_t kOfALongLife = 4;

// After a failure; doubled with each one that follows.
constexpr int64_t kFirstRetryNs = 1'000'000'000;
constexpr uint32_t kMostDoublings = 12;

bool SameTotals(const Totals& a, const Totals& b) {
  return a.allowed == b.allowed && a.denied == b.denied && a.allowed_cost == b.allowed_cost &&
         a.denied_cost == b.denied_cost && a.last_allowed_ns == b.last_allowed_ns &&
         a.last_denied_ns == b.last_denied_ns && a.last_reset_ns == b.last_reset_ns;
}

bool SameAnswers(const Counter& a, const Counter& b, int64_t now_ns) {
  return Remaining(*a.config, a.state, now_ns) == Remaining(*b.config, b.state, now_ns) &&
         ResetAfterNs(*a.config, a.state, now_ns) == ResetAfterNs(*b.config, b.state, now_ns) &&
         Used(*a.config, a.state, now_ns) == Used(*b.config, b.state, now_ns);
}

}  // namespace

// ---- When --------------------------------------------------------------------------------------

void Compactor::StartFrom(const Covered& covered, uint64_t snapshot_bytes, uint64_t segments) {
  FLINT_ASSERT(covered_position_.load() == 0);
  covered_position_.store(covered.position);
  log_->set_covered(covered.position);
  snapshot_bytes_.store(snapshot_bytes);
  segments_since_snapshot_.store(segments);
}

Status Compactor::StartThread() {
  return thread_.Start(
      "flint-compactor", [this] { Run(); },
      [this](const Status&) {
        const MutexLock lock(mutex_);
        stop_.store(true);
        changed_.NotifyAll();
      });
}

bool Compactor::HasOutgrown(uint64_t times, uint64_t least_bytes) const {
  const uint64_t log_bytes = log_->ended().position - covered_position_.load();
  const uint64_t outgrown = times * std::max(least_bytes, kTimesSnapshot * snapshot_bytes_.load());
  // Early enough for appends to go on meanwhile.
  const uint64_t bound = std::min(outgrown, max_replay_bytes_ / 4 * (times + 1));
  return log_bytes > bound || segments_since_snapshot_.load() > times * kMostSegments;
}

void Compactor::OnRotated() {
  segments_since_snapshot_.fetch_add(1);
  StartIfWorth();
}

void Compactor::StartIfWorth() {
  if (!HasOutgrown(kWorth, kLeastBytes)) return;
  const MutexLock lock(mutex_);
  if (wanted_ <= ended_ && !Resting()) StartLocked();
}

void Compactor::StartSoon() {
  const MutexLock lock(mutex_);
  if (wanted_ <= ended_ && !Resting()) StartLocked();
}

// After a failure.
bool Compactor::Resting() const { return clock_->Now() < retry_at_ns_; }

Status Compactor::WaitForRoom() {
  uint64_t wanted = 0;
  {
    const MutexLock lock(mutex_);
    if (wanted_ <= ended_) {
      if (Resting()) return NoRoom(last_failure_);
      StartLocked();
    }
    wanted = wanted_;
  }
  const Status status = Await(wanted);
  return status.ok() || status.code() == Code::kClosed ? status : NoRoom(status);
}

Status Compactor::NoRoom(const Status& why) const {
  // Whatever is wrong with older segments, this call has found no damage.
  const Code code = why.code() == Code::kCorruption ? Code::kIo : why.code();
  return Status(code, "the log is " + std::to_string(max_replay_bytes_) +
                          " bytes ahead of its snapshot, as much as max_replay_bytes allows, and "
                          "could not be compacted: " +
                          why.message() + kNotRecorded + "it can")
      .WithErrnoOf(why);
}

// Half of what may be replayed at most is left for lives that all end before a compaction has.
bool Compactor::IsToBeWaitedFor() const {
  if (!HasOutgrown(kOverdue, kLeastBytesAtOpening)) return false;
  const uint64_t log_bytes = log_->ended().position - covered_position_.load();
  return !HasOutgrown(kOfALongLife, kLeastBytesAtOpening) || log_bytes > max_replay_bytes_ / 2;
}

void Compactor::StartIfOwed() {
  if (!HasOutgrown(kOverdue, kLeastBytesAtOpening) && !HasOutgrown(kWorth, kLeastBytes)) return;
  uint64_t owed = 0;
  {
    const MutexLock lock(mutex_);
    owed = owed_ = StartLocked();
  }
  if (!IsToBeWaitedFor()) return;
  // A failure is counted and told of; opening does not need it.
  const Status status = Await(owed);
  static_cast<void>(status);
}

uint64_t Compactor::Start() {
  const MutexLock lock(mutex_);
  return whole_ = StartLocked();
}

uint64_t Compactor::StartLocked() {
  if (stop_.load()) return wanted_;
  // One that is running may have begun before what the caller wants covered was written.
  FLINT_ASSERT(ended_ <= begun_ && begun_ <= wanted_ && wanted_ <= ended_ + 2);
  wanted_ = begun_ + 1;
  changed_.NotifyAll();
  return wanted_;
}

Status Compactor::Await(uint64_t wanted) {
  const MutexLock lock(mutex_);
  while (ended_ < wanted && !stop_.load()) changed_.Wait(mutex_);
  return ended_ >= wanted ? last_status_ : Status::Closed();
}

void Compactor::Run() {
  const MutexLock lock(mutex_);
  while (true) {
    while (wanted_ <= ended_ && !stop_.load()) changed_.Wait(mutex_);
    if (stop_.load()) return;
    FLINT_ASSERT(begun_ == ended_ && whole_ <= wanted_ && owed_ <= wanted_);
    const bool whole = ++begun_ <= whole_;
    Status status;
    {
      const MutexUnlock unlock(mutex_);
      status = TryToCompact(whole);
    }
    FLINT_ASSERT(begun_ == ended_ + 1);
    ended_ = begun_;
    NoteEnd(status);
    changed_.NotifyAll();
  }
}

// Nothing escapes it.
Status Compactor::TryToCompact(bool whole) {
  Status status;
  try {
    status = CompactOnce(whole);
  } catch (const std::bad_alloc&) {
    status = Status(Code::kNoMemory, CodeSentence(Code::kNoMemory));
  } catch (const std::exception& error) {
    status = Status(Code::kInternal, error.what());
  }
  done_bytes_.store(0);
  total_bytes_.store(0);
  return status;
}

void Compactor::NoteEnd(const Status& status) {
  FLINT_ASSERT((failures_in_row_ == 0) == last_failure_.ok() &&
               (retry_at_ns_ == 0) == last_failure_.ok());
  last_status_ = status;
  if (status.ok()) {
    last_failure_ = Status();
    failures_in_row_ = 0;
    retry_at_ns_ = 0;
    return;
  }
  if (status.code() == Code::kClosed) return;
  ++failures_;
  last_failure_ = status;
  retry_at_ns_ = clock_->Now() + (kFirstRetryNs << std::min(failures_in_row_, kMostDoublings));
  ++failures_in_row_;
}

void Compactor::Stop() {
  {
    const MutexLock lock(mutex_);
    while (ended_ < owed_ && !stop_.load()) changed_.Wait(mutex_);
    stop_.store(true);
  }
  changed_.NotifyAll();
  thread_.Join();
  const MutexLock lock(mutex_);
  FLINT_ASSERT(begun_ == ended_);
}

Compactor::Counts Compactor::counts() {
  const MutexLock lock(mutex_);
  return {compactions_.load(), failures_.load(), done_bytes_.load(),
          total_bytes_.load(), last_failure_,    retry_at_ns_};
}

// ---- How ---------------------------------------------------------------------------------------

struct Compactor::Built {
  explicit Built(const Keyspace* live) : keyspace(live) {}

  Keyspace keyspace;
  Replayer replayer{&keyspace};
  SnapshotHead head;
  std::vector<HistorySegment> covered;  // by this compaction
};

// What makes it fail is found before the active segment is ended, as far as it can be.
Status Compactor::CompactOnce(bool whole) {
  SnapshotWriter writer(env_, directory_);
  FLINT_RETURN_IF_ERROR(writer.Create());
  Built built(live_);
  LoadedSnapshot loaded;
  FLINT_RETURN_IF_ERROR(LoadSnapshot(env_, directory_, &built.keyspace, &loaded));
  built.head = loaded.head;
  built.replayer.SawTime(built.head.last_ns);
  EndedSegments end = log_->ended();
  FLINT_RETURN_IF_ERROR(ReplayThrough(end, &built));
  if (whole) FLINT_RETURN_IF_ERROR(RotateAndReplay(&built, &end));
  FLINT_RETURN_IF_ERROR(CheckAgainstLive(&built.keyspace, end.position));
  FLINT_RETURN_IF_ERROR(WriteSnapshot(&writer, end.floor_ns, &built));
  kept_->Add(built.covered);
  return kept_->Trim();
}

// Behind the segment that is ended here nothing is earlier than now.
Status Compactor::RotateAndReplay(Built* built, EndedSegments* end) {
  FLINT_RETURN_IF_ERROR(log_->Flush());
  const int64_t floor_ns = live_->TimeFloor(clock_);
  FLINT_RETURN_IF_ERROR(log_->Rotate());
  *end = log_->ended();
  end->floor_ns = std::max(end->floor_ns, floor_ns);
  return ReplayThrough(*end, built);
}

Status Compactor::ReplayThrough(const EndedSegments& end, Built* built) {
  SnapshotHead& head = built->head;
  if (end.position <= head.covered.position) return Status();
  // With the next segment's START, which shows that those before it came to an end.
  FLINT_RETURN_IF_ERROR(log_->WaitDurable(end.position + kStartBytes, UINT64_MAX));
  LogPath path;
  FLINT_RETURN_IF_ERROR(FindLogPath(env_, directory_, head.covered, end.last_number, &path));
  if (path.segments.empty()) {
    return Status(Code::kCorruption, directory_ + ": log segment number " +
                                         std::to_string(end.last_number) +
                                         " or the snapshot is missing or damaged")
        .At(kLogName, 0, 0);
  }
  for (const auto& segment : path.segments) total_bytes_.fetch_add(segment->file_bytes());
  LogStream stream(&path, nullptr, head.covered);
  FLINT_RETURN_IF_ERROR(ReplayRecords(end, &stream, built));
  head.covered =
      Covered{stream.position(), stream.sequence(), stream.crc(), path.directory_id, true};
  head.last_ns = built->replayer.last_time_ns();
  FLINT_ASSERT(head.covered.position == end.position);
  for (size_t i = 0; i < path.segments.size(); ++i) {
    // Where it ends; the file may still have the size that it was written with.
    const uint64_t next =
        i + 1 < path.segments.size() ? path.segments[i + 1]->start().position : end.position;
    const SegmentReader& segment = *path.segments[i];
    head.features = head.features | segment.header().features;
    built->covered.push_back({segment.name(), segment.OffsetOf(next), head.last_ns});
  }
  return Status();
}

Status Compactor::ReplayRecords(const EndedSegments& end, LogStream* stream, Built* built) {
  const uint64_t before = done_bytes_.load();
  const uint64_t begin = stream->position();
  while (stream->position() < end.position) {
    Record record;
    bool none = false;
    FLINT_RETURN_IF_ERROR(stream->Next(&record, &none));
    if (none) return stream->DamageHere("no valid record, although the log went on");
    if (record.sequence > built->head.covered.sequence) {
      const Status status = built->replayer.Apply(record);
      if (!status.ok()) return stream->DamageHere(status.message());
    }
    if (!UpdateClock(record, &built->head.clock)) return stream->DamageHere("an unreadable clock");
    done_bytes_.store(before + stream->position() - begin, std::memory_order_relaxed);
    if (stop_.load(std::memory_order_relaxed)) return Status::Closed();
  }
  if (stream->position() == end.position) return Status();
  return stream->DamageHere("the next segment does not begin where this one ends");
}

Status Compactor::WriteSnapshot(SnapshotWriter* writer, int64_t floor_ns, Built* built) {
  SnapshotHead& head = built->head;
  head.last_ns = std::max(head.last_ns, floor_ns);
  FLINT_RETURN_IF_ERROR(writer->Begin(head));
  built->keyspace.AssumeAlone();
  FLINT_RETURN_IF_ERROR(built->keyspace.Save(writer, floor_ns));
  FLINT_RETURN_IF_ERROR(writer->Finish());
  snapshot_bytes_.store(writer->bytes());
  FLINT_ASSERT(head.covered.position >= covered_position_.load());
  covered_position_.store(head.covered.position);
  log_->set_covered(head.covered.position);
  segments_since_snapshot_.fetch_sub(
      std::min<uint64_t>(segments_since_snapshot_.load(), built->covered.size()));
  compactions_.fetch_add(1);
  return Status();
}

// A counter to which nothing has happened since must give the same answers live. One to which
// something has cannot be compared, and one that is gone may have been forgotten or removed. That
// its limit has been changed does not show when it has been changed back.
Status Compactor::CheckAgainstLive(Keyspace* built, uint64_t covered_position) {
  for (Keyspace::Shard& built_shard : built->shards()) {
    built_shard.AssumeHeld();
    for (size_t slot = 0; slot < built_shard.table.slots(); ++slot) {
      Counter* counter = built_shard.table.at(slot);
      if (counter == nullptr || !built->templates().CatchUp(counter)) continue;
      const uint64_t hash = live_->Hash(counter->key());
      Keyspace::Shard& shard = live_->ShardOf(hash);
      const MutexLock lock(shard.mutex);
      if (live_->configured_at() > covered_position) return Status();
      const Counter* live = live_->Find(shard, hash, counter->key(), counter->name());
      if (live == nullptr || live->kind != counter->kind ||
          !live->config->SameAs(*counter->config) || !SameTotals(live->totals, counter->totals)) {
        continue;
      }
      if (!SameAnswers(*live, *counter, Keyspace::NowIn(shard, clock_))) {
        return Status(Code::kCorruption, "the log tells another state of key " +
                                             Shown(counter->key()) +
                                             " than the limiter has; the log was not compacted");
      }
    }
  }
  return Status();
}

}  // namespace flint
