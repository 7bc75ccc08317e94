#include "engine/compactor.h"

#include <algorithm>
#include <exception>
#include <new>
#include <vector>

#include "engine/key.h"
#include "engine/replayer.h"
#include "storage/recovery.h"

namespace flint {
namespace {

// The log is worth compacting when it has outgrown the snapshot by so much, or is in many pieces.
constexpr uint64_t kLeastBytes = uint64_t{8} << 20;
constexpr uint64_t kTimesSnapshot = 4;
constexpr uint64_t kMostSegments = 64;

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
  covered_position_.store(covered.position);
  snapshot_bytes_.store(snapshot_bytes);
  segments_since_snapshot_.store(segments);
}

Status Compactor::StartThread() {
  return thread_.Start(
      "flint-compactor", [this] { Run(); },
      [this](const Status&) {
        const std::lock_guard<std::mutex> lock(mutex_);
        stop_.store(true);
        changed_.notify_all();
      });
}

bool Compactor::Worth() const {
  const uint64_t log_bytes = log_->counts().appended - covered_position_.load();
  const uint64_t bound = std::max(kLeastBytes, kTimesSnapshot * snapshot_bytes_.load());
  return log_bytes > bound || segments_since_snapshot_.load() > kMostSegments;
}

void Compactor::OnRotated() {
  segments_since_snapshot_.fetch_add(1);
  StartIfWorth();
}

void Compactor::StartIfWorth() {
  if (!Worth()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (wanted_ > ended_) return;
  }
  Start();
}

uint64_t Compactor::Start() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stop_.load()) return wanted_;
  // One that is running may have begun before what the caller wants covered was written.
  wanted_ = begun_ + 1;
  changed_.notify_all();
  return wanted_;
}

Status Compactor::Await(uint64_t wanted) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return ended_ >= wanted || stop_.load(); });
  return ended_ >= wanted ? last_status_ : Status::Closed();
}

void Compactor::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return wanted_ > ended_ || stop_.load(); });
    if (stop_.load()) return;
    ++begun_;
    lock.unlock();
    Status status;
    try {
      status = CompactOnce();
    } catch (const std::bad_alloc&) {
      status = Status(Code::kNoMemory, CodeSentence(Code::kNoMemory));
    } catch (const std::exception& error) {
      status = Status(Code::kInternal, error.what());
    }
    done_bytes_.store(0);
    total_bytes_.store(0);
    lock.lock();
    ended_ = begun_;
    last_status_ = status;
    if (!status.ok()) ++failures_;
    changed_.notify_all();
  }
}

void Compactor::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_.store(true);
  }
  changed_.notify_all();
  thread_.Join();
}

Compactor::Counts Compactor::counts() const {
  return {compactions_.load(), failures_.load(), done_bytes_.load(), total_bytes_.load()};
}

// ---- How ---------------------------------------------------------------------------------------

Status Compactor::CompactOnce() {
  FLINT_RETURN_IF_ERROR(log_->Flush());
  // What comes behind the segments that are compacted is not earlier, so what is fresh then can be
  // left out.
  const int64_t floor_ns = live_->TimeFloor(clock_);
  uint64_t last_segment = 0;
  FLINT_RETURN_IF_ERROR(log_->Rotate(&last_segment));
  Keyspace built;
  LoadedSnapshot loaded;
  FLINT_RETURN_IF_ERROR(LoadSnapshot(env_, directory_, &built, &loaded));
  SnapshotHead* const head = &loaded.head;
  LogPath path;
  FLINT_RETURN_IF_ERROR(FindLogPath(env_, directory_, head->covered, last_segment, &path));
  FLINT_RETURN_IF_ERROR(ReplayForSnapshot(&path, &built, head));
  head->last_ns = std::max(head->last_ns, floor_ns);
  FLINT_RETURN_IF_ERROR(CheckAgainstLive(&built));
  FLINT_RETURN_IF_ERROR(WriteSnapshot(&built, *head, floor_ns));
  return KeepHistory(path, *head);
}

Status Compactor::WriteSnapshot(Keyspace* built, const SnapshotHead& head, int64_t floor_ns) {
  SnapshotWriter writer(env_, directory_);
  FLINT_RETURN_IF_ERROR(writer.Begin(head));
  FLINT_RETURN_IF_ERROR(built->Save(&writer, floor_ns));
  FLINT_RETURN_IF_ERROR(writer.Finish());
  snapshot_bytes_.store(writer.bytes());
  covered_position_.store(head.covered.position);
  segments_since_snapshot_.store(0);
  compactions_.fetch_add(1);
  return Status();
}

Status Compactor::KeepHistory(const LogPath& path, const SnapshotHead& head) {
  std::vector<HistorySegment> covered;
  for (size_t i = 0; i < path.segments.size(); ++i) {
    // Where it ends; the file may still have the size that it was written with.
    const uint64_t end = i + 1 < path.segments.size() ? path.segments[i + 1]->start().position
                                                      : head.covered.position;
    covered.push_back({path.segments[i]->name(), path.segments[i]->OffsetOf(end), head.last_ns});
  }
  kept_->Add(covered);
  return kept_->Trim();
}

Status Compactor::ReplayForSnapshot(LogPath* path, Keyspace* built, SnapshotHead* head) {
  uint64_t total_bytes = 0;
  for (const auto& segment : path->segments) total_bytes += segment->file_bytes();
  total_bytes_.store(total_bytes);
  LogStream stream(path, nullptr, head->covered);
  Replayer replayer(built);
  replayer.SawTime(head->last_ns);
  const uint64_t begin = stream.position();
  Record record;
  do {
    bool end = false;
    FLINT_RETURN_IF_ERROR(stream.Next(&record, &end));
    if (end) return stream.DamageHere("the segment has no footer");
    if (record.sequence > head->covered.sequence) {
      const Status status = replayer.Apply(record);
      if (!status.ok()) return stream.DamageHere(status.message());
    }
    if (!UpdateClock(record, &head->clock)) return stream.DamageHere("an unreadable clock");
    done_bytes_.store(stream.position() - begin, std::memory_order_relaxed);
    if (stop_.load(std::memory_order_relaxed)) return Status::Closed();
  } while (record.type != RecordType::kFooter || !stream.at_last_segment());
  head->covered = Covered{record.end(), record.sequence, record.crc, path->directory_id, true};
  for (const auto& reader : path->segments)
    head->features = head->features | reader->header().features;
  head->last_ns = replayer.last_time_ns();
  return Status();
}

// A counter to which nothing has happened since must give the same answers live. One to which
// something has cannot be compared, and one that is gone may have been forgotten or removed.
Status Compactor::CheckAgainstLive(Keyspace* built) {
  for (Keyspace::Shard& built_shard : built->shards()) {
    for (size_t slot = 0; slot < built_shard.table.slots(); ++slot) {
      Counter* counter = built_shard.table.at(slot);
      if (counter == nullptr || !built->templates().CatchUp(counter)) continue;
      const uint64_t hash = live_->Hash(counter->key());
      Keyspace::Shard& shard = live_->ShardOf(hash);
      const std::lock_guard<Mutex> lock(shard.mutex);
      const Counter* live = live_->Find(shard, hash, counter->key(), counter->name());
      if (live == nullptr || live->kind != counter->kind ||
          !live->config->SameAs(*counter->config) || !SameTotals(live->totals, counter->totals)) {
        continue;
      }
      if (!SameAnswers(*live, *counter, clock_->Now())) {
        return Status(Code::kCorruption, "the log tells another state of key " +
                                             Shown(counter->key()) +
                                             " than the limiter has; the log was not compacted");
      }
    }
  }
  return Status();
}

}  // namespace flint
