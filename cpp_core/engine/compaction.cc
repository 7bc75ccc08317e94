#include <algorithm>

#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/key.h"

// Compaction: a snapshot is built from the old snapshot and the segments behind it, never from live
// state, and then held against live state. It takes no lock that a check needs for longer than a
// check does. Segments that a snapshot covers are history: kept within bounds, oldest dropped
// first.
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

bool Engine::WorthCompacting() {
  const uint64_t log_bytes = log_->counts().appended - covered_position_.load();
  const uint64_t bound = std::max(kLeastBytes, kTimesSnapshot * snapshot_bytes_.load());
  return log_bytes > bound || segments_since_snapshot_.load() > kMostSegments;
}

void Engine::OnRotated() {
  segments_since_snapshot_.fetch_add(1);
  CompactIfWorth();
}

void Engine::CompactIfWorth() {
  if (!WorthCompacting()) return;
  {
    const std::lock_guard<std::mutex> lock(compact_mutex_);
    if (compact_wanted_ > compact_ended_) return;
  }
  StartCompaction();
}

uint64_t Engine::StartCompaction() {
  const std::lock_guard<std::mutex> lock(compact_mutex_);
  if (compactor_stop_) return compact_wanted_;
  if (!compactor_.joinable()) compactor_ = std::thread(&Engine::RunCompactor, this);
  // One that is running may have begun before what the caller wants covered was written.
  compact_wanted_ = compact_begun_ + 1;
  compact_changed_.notify_all();
  return compact_wanted_;
}

Status Engine::Compact(const Flags& flags) {
  FLINT_RETURN_IF_ERROR(CheckUsable());
  if (log_ == nullptr) return Status();
  const Running running(this);
  FLINT_RETURN_IF_ERROR(log_->poison());
  const uint64_t wanted = StartCompaction();
  if (flags.no_wait) return Status();
  std::unique_lock<std::mutex> lock(compact_mutex_);
  compact_changed_.wait(lock, [&] { return compact_ended_ >= wanted || compactor_stop_; });
  return compact_ended_ >= wanted ? compact_status_ : Status::Closed();
}

void Engine::RunCompactor() {
  std::unique_lock<std::mutex> lock(compact_mutex_);
  while (true) {
    compact_changed_.wait(lock,
                          [&] { return compact_wanted_ > compact_ended_ || compactor_stop_; });
    if (compactor_stop_) return;
    ++compact_begun_;
    lock.unlock();
    Status status;
    try {
      status = CompactOnce();
    } catch (const std::bad_alloc&) {
      status = Status(Code::kNoMemory, CodeSentence(Code::kNoMemory));
    } catch (const std::exception& error) {
      status = Status(Code::kInternal, error.what());
    }
    compaction_done_bytes_.store(0);
    compaction_total_bytes_.store(0);
    lock.lock();
    compact_ended_ = compact_begun_;
    compact_status_ = status;
    if (!status.ok()) ++compaction_failures_;
    compact_changed_.notify_all();
  }
}

void Engine::StopCompactor() {
  {
    const std::lock_guard<std::mutex> lock(compact_mutex_);
    compactor_stop_ = true;
  }
  compact_changed_.notify_all();
  if (compactor_.joinable()) compactor_.join();
}

// ---- How ---------------------------------------------------------------------------------------

Status Engine::CompactOnce() {
  FLINT_RETURN_IF_ERROR(log_->Flush());
  uint64_t last_segment = 0;
  FLINT_RETURN_IF_ERROR(log_->Rotate(&last_segment));
  Env* const env = options_.env;
  Keyspace keyspace;
  SnapshotHead head;
  uint64_t limits = 0;
  FLINT_RETURN_IF_ERROR(LoadSnapshot(&keyspace, &head, &limits));
  LogPath path;
  FLINT_RETURN_IF_ERROR(FindLogPath(env, directory_, head.covered, last_segment, &path));
  int64_t last_time_ns = 0;
  FLINT_RETURN_IF_ERROR(ReplayForSnapshot(&path, &keyspace, &head, &last_time_ns));
  FLINT_RETURN_IF_ERROR(CheckAgainstLive(&keyspace));
  SnapshotWriter writer(env, directory_);
  FLINT_RETURN_IF_ERROR(writer.Begin(head));
  FLINT_RETURN_IF_ERROR(keyspace.Save(&writer, last_time_ns));
  FLINT_RETURN_IF_ERROR(writer.Finish());
  snapshot_bytes_.store(writer.bytes());
  covered_position_.store(head.covered.position);
  segments_since_snapshot_.store(0);
  compactions_.fetch_add(1);
  {
    const std::lock_guard<std::mutex> lock(history_mutex_);
    for (size_t i = 0; i < path.segments.size(); ++i) {
      // Where it ends; the file may still have the size that it was written with.
      const uint64_t end = i + 1 < path.segments.size() ? path.segments[i + 1]->start().position
                                                        : head.covered.position;
      history_.push_back({path.segments[i]->name(), path.segments[i]->OffsetOf(end), last_time_ns});
    }
  }
  return TrimHistory();
}

Status Engine::ReplayForSnapshot(LogPath* path, Keyspace* keyspace, SnapshotHead* head,
                                 int64_t* last_time_ns) {
  uint64_t total_bytes = 0;
  for (const auto& segment : path->segments) total_bytes += segment->file_bytes();
  compaction_total_bytes_.store(total_bytes);
  LogStream stream(path, nullptr, head->covered);
  Replayer replayer(keyspace);
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
    compaction_done_bytes_.store(stream.position() - begin, std::memory_order_relaxed);
    if (closed_.load(std::memory_order_relaxed)) return Status::Closed();
  } while (record.type != RecordType::kFooter || !stream.at_last_segment());
  head->covered = Covered{record.end(), record.sequence, record.crc, path->directory_id, true};
  *last_time_ns = head->last_ns = replayer.last_time_ns();
  return Status();
}

// A counter to which nothing has happened since must give the same answers live. One to which
// something has cannot be compared, and one that is gone may have been forgotten or removed.
Status Engine::CheckAgainstLive(Keyspace* built) {
  for (Shard& built_shard : built->shards()) {
    for (size_t slot = 0; slot < built_shard.table.slots(); ++slot) {
      Counter* counter = built_shard.table.at(slot);
      if (counter == nullptr || !built->templates().CatchUp(counter)) continue;
      const uint64_t hash = keyspace_.Hash(counter->key());
      Shard& shard = keyspace_.ShardOf(hash);
      const std::lock_guard<Mutex> lock(shard.mutex);
      const Counter* live = keyspace_.Find(shard, hash, counter->key());
      if (live == nullptr || live->kind != counter->kind ||
          !live->config->SameAs(*counter->config) || !SameTotals(live->totals, counter->totals)) {
        continue;
      }
      if (!SameAnswers(*live, *counter, clock_.Now())) {
        return Status(Code::kCorruption, "the log tells another state of key " +
                                             Shown(counter->key()) +
                                             " than the limiter has; the log was not compacted");
      }
    }
  }
  return Status();
}

// ---- History -----------------------------------------------------------------------------------

bool Engine::DropOldestHistory(bool only_if_due) {
  const std::lock_guard<std::mutex> lock(history_mutex_);
  if (history_.empty()) return false;
  if (only_if_due) {
    uint64_t bytes = 0;
    for (const HistorySegment& segment : history_) bytes += segment.bytes;
    const bool too_much = bytes > options_.history_max_bytes;
    const bool too_old =
        options_.history_max_age_ns != 0 && clock_.Now() - history_.front().last_time_ns >
                                                static_cast<int64_t>(options_.history_max_age_ns);
    if (!too_much && !too_old) return false;
  }
  const bool removed = options_.env->Remove(directory_ + "/" + history_.front().name).ok();
  history_.pop_front();
  return removed;
}

Status Engine::TrimHistory() {
  while (DropOldestHistory(true)) {
  }
  return options_.env->SyncDirectory(directory_);
}

}  // namespace flint
