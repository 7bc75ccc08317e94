#include "engine/engine.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/bus_guard.h"
#include "engine/engine_internal.h"
#include "engine/fork_registry.h"
#include "engine/key.h"
#include "engine/reading.h"
#include "engine/replayer.h"
#include "storage/file_names.h"

namespace flint {

// Opening, closing, reading, files. Decisions are in decide.cc and check_all.cc, limits in
// limits.cc.

namespace {

constexpr uint64_t kLeastReplaySegments = 4;

}  // namespace

Engine::Engine(std::string directory, Options options)
    : directory_(std::move(directory)),
      options_(std::move(options)),
      clock_(options_.clock),
      recorder_(&keyspace_, options_.sync_denials, options_.merge_denials),
      room_maker_({options_.max_keys, options_.when_full == WhenFull::kEvict}, &keyspace_,
                  &recorder_, &clock_, &unusable_) {
  // A compaction covers segments that have ended.
  options_.log.max_replay_bytes =
      std::max(options_.log.max_replay_bytes, kLeastReplaySegments * options_.log.segment_bytes);
}

Engine::~Engine() {
  if (!closed_.load(std::memory_order_relaxed)) {
    // The log keeps the failure; whoever wants to know it calls Shutdown.
    const Status status = Shutdown();
    static_cast<void>(status);
  }
  UnregisterForFork(this);
}

Status Engine::Open(const std::string& directory, Options options,
                    std::unique_ptr<Engine>* engine) {
  std::unique_ptr<Engine> opened(new Engine(directory, std::move(options)));
  FLINT_RETURN_IF_ERROR(opened->options_.clock->Check());
  FLINT_RETURN_IF_ERROR(opened->keyspace_.DrawHashSecret(opened->options_.env));
  if (directory.empty()) {
    opened->clock_.StartAt(opened->clock_.WallNs());
  } else {
    FLINT_RETURN_IF_ERROR(opened->OpenDirectory());
  }
  opened->keyspace_.set_max_keys(opened->options_.max_keys);
  opened->answers_at_once_ = opened->log_ == nullptr || !opened->options_.log.always;
  RegisterForFork(opened.get());
  *engine = std::move(opened);
  return Status();
}

// From here on the environment is that of the open directory: whatever comes to stand at its path,
// this limiter's files are in the directory that it has locked.
Status Engine::LockDirectory() {
  Env* env = options_.env;
  std::unique_ptr<Env> for_others;
  if (options_.access.file_mode != Access().file_mode ||
      options_.access.group != Access::kOwnGroup) {
    for_others = env->WithAccess(options_.access);
    env = for_others.get();
  }
  FLINT_RETURN_IF_ERROR(env->CreateDirectories(directory_));
  FLINT_RETURN_IF_ERROR(AwaitLock(env, directory_, options_.lock_timeout_ns, &lock_));
  open_directory_ = lock_->directory();
  options_.env = open_directory_.get();
  return Status();
}

Status Engine::OpenDirectory() {
  FLINT_RETURN_IF_ERROR(LockDirectory());
  Env* const env = options_.env;
  FLINT_RETURN_IF_ERROR(env->Mode(directory_, &opened_.directory_mode));
  FLINT_RETURN_IF_ERROR(ConvertLegacy(env, directory_, &opened_.legacy));

  LoadedSnapshot loaded;
  FLINT_RETURN_IF_ERROR(LoadSnapshot(env, directory_, &keyspace_, &loaded));
  const SnapshotHead& head = loaded.head;
  opened_.snapshot_limits = loaded.limits;
  Replayer replayer(&keyspace_);
  replayer.SawTime(head.last_ns);
  Recovery recovery(env, directory_, head, clock_.Boot());
  Recovery::Report report;
  FLINT_RETURN_IF_ERROR(recovery.Replay(&replayer, &report));
  const int64_t engine_ns =
      report.fresh ? clock_.WallNs() : EngineTimeAtOpen(report.clock, replayer.last_time_ns());
  if (engine_ns >= Clock::kEndNs) {
    return Status(Code::kInvalidArgument,
                  directory_ +
                      ": the time of its limits has come to its end, as a clock that "
                      "showed a time after 2115 had brought about; nothing would be "
                      "given back in it. Dump it and begin a new directory");
  }
  clock_.StartAt(engine_ns);
  kept_ = std::make_unique<KeptSegments>(
      env, directory_, &clock_,
      KeptSegments::Bounds{options_.history_max_bytes, options_.history_max_age_ns,
                           options_.log.segment_bytes});
  opened_.recovered_records = report.records;
  opened_.damaged_history = report.damaged_history;
  opened_.recovered_ring_records = report.ring_records;
  opened_.torn_bytes = report.torn_bytes;

  // Time goes on from here, so nothing that comes is earlier.
  const ClockPair now = clock_.Pair();
  keyspace_.AssumeAlone();
  keyspace_.StartTimeAt(now.engine_ns);
  ResumePoint resume;
  FLINT_RETURN_IF_ERROR(
      recovery.GoOn(options_.log, ClockPayload{now, clock_.Boot(), now.engine_ns}, &resume));
  kept_->Add(recovery.history());
  FLINT_RETURN_IF_ERROR(
      StartLog(std::move(resume), head.covered, loaded.bytes, recovery.segments()));
  return kept_->Trim();
}

Status Engine::StartLog(ResumePoint resume, const Covered& covered, uint64_t snapshot_bytes,
                        uint64_t segments) {
  LogObserver* const observer = this;
  log_ = std::make_unique<Log>(options_.env, directory_, options_.log, &clock_, std::move(resume),
                               observer);
  recorder_.set_log(log_.get());
  compactor_ = std::make_unique<Compactor>(options_.env, directory_, log_.get(), &keyspace_,
                                           &clock_, kept_.get(), options_.log.max_replay_bytes);
  compactor_->StartFrom(covered, snapshot_bytes, segments);
  FLINT_RETURN_IF_ERROR(compactor_->StartThread());
  FLINT_RETURN_IF_ERROR(log_->Run());
  compactor_->StartIfOwed();
  return Status();
}

// What finds no room, in the log or in memory, stays merged until the next sync, which has to come.
void Engine::BeforeSync() {
  bool flushed = false;
  try {
    flushed = recorder_.FlushAllMerged() == AppendOutcome::kOk;
  } catch (const std::bad_alloc&) {
    flushed = false;
  }
  if (!flushed) log_->ExpectEvent();
}

void Engine::OnSynced() { compactor_->StartIfWorth(); }

void Engine::OnRotated() { compactor_->OnRotated(); }

bool Engine::FreeDiskSpace() { return kept_->DropOldest(); }

int64_t Engine::TimeFloor() { return keyspace_.TimeFloor(&clock_); }

// Time has gone on since the last pair by the boot clock if the machine has not been restarted,
// else by the wall clock; it never goes back, not even behind a record that came after the pair.
// A boot clock that is another than it was, as in a time namespace or a restored container, may be
// far ahead: it counts for no more than a day beyond what the wall clock tells.
int64_t Engine::EngineTimeAtOpen(const ClockPayload& last, int64_t last_record_ns) const {
  const int64_t boot_ns = options_.clock->BootNs();
  const int64_t wall_ns = options_.clock->WallNs();
  const bool same_boot = last.boot == options_.clock->Boot() && boot_ns >= last.clock.boot_ns;
  constexpr int64_t kMostBeyondWallNs = int64_t{24} * 3600 * 1'000'000'000;
  int64_t elapsed_ns = std::max<int64_t>(wall_ns - last.clock.wall_ns, 0);
  if (same_boot)
    elapsed_ns = std::min(boot_ns - last.clock.boot_ns, elapsed_ns + kMostBeyondWallNs);
  if (options_.max_downtime_ns != 0) {
    elapsed_ns = std::min(elapsed_ns, static_cast<int64_t>(options_.max_downtime_ns));
  }
  elapsed_ns = std::min(elapsed_ns, Clock::kMaxNs - std::min(last.clock.engine_ns, Clock::kMaxNs));
  return std::max(last.clock.engine_ns + elapsed_ns, last_record_ns);
}

Status Engine::CheckReadable() const {
  if (forked_.load(std::memory_order_relaxed)) {
    return Status(Code::kForked, CodeSentence(Code::kForked));
  }
  return closed_.load(std::memory_order_relaxed) ? Status::Closed() : Status();
}

Status Engine::WhyUnusable() const {
  FLINT_RETURN_IF_ERROR(CheckReadable());
  return read_only_ ? Status(Code::kReadOnly, CodeSentence(Code::kReadOnly)) : Status();
}

// Merged denials that find no room wait for it; a full disk may keep them out.
Status Engine::FlushWithMerged() {
  AppendOutcome result = recorder_.FlushAllMerged();
  while (result == AppendOutcome::kRingFull || result == AppendOutcome::kSegmentFull ||
         result == AppendOutcome::kUnsynced) {
    FLINT_RETURN_IF_ERROR(log_->WaitForRoom(result));
    result = recorder_.FlushAllMerged();
  }
  return log_->Flush();
}

Status Engine::Shutdown() {
  if (forked_.load(std::memory_order_relaxed)) {
    return Status(Code::kForked, CodeSentence(Code::kForked));
  }
  if (closed_.exchange(true)) return Status();
  unusable_.store(true);
  answers_at_once_.store(false);
  // Who holds a shard's lock now may still append; who takes it later sees that this is closed.
  keyspace_.AwaitHolders();
  Status status;
  if (log_ != nullptr) {
    status = FlushWithMerged();
    log_->StopAppending();
    compactor_->Stop();
    const Status closed = log_->Close();
    if (status.ok()) status = closed;
  }
  const MutexLock lock(running_mutex_);
  while (running_ != 0) running_changed_.Wait(running_mutex_);
  lock_.reset();
  return status;
}

void Engine::AbandonInChild() {
  forked_.store(true, std::memory_order_relaxed);
  unusable_.store(true, std::memory_order_relaxed);
  answers_at_once_.store(false, std::memory_order_relaxed);
}

// ---- Reading -----------------------------------------------------------------------------------

Status Engine::StatusOf(LimitKind kind, std::string_view key, std::string_view name,
                        LimitStatus* status) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckReadable());
  FLINT_RETURN_IF_ERROR(CheckName(name));
  return listing_.StatusOf(kind, key, name, status);
}

Status Engine::ListBehind(const Listing::Position* after, const Listing::Wanted& wanted,
                          std::vector<LimitStatus>* page) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckReadable());
  listing_.Page(after, wanted, page);
  return Status();
}

Status Engine::Top(TopBy by, const Flags& flags, size_t capacity, std::vector<LimitStatus>* top) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckReadable());
  listing_.Top(by, {flags.all_counters, capacity}, top);
  return Status();
}

// ---- Durability --------------------------------------------------------------------------------

Status Engine::Flush() {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  return log_ == nullptr ? Status() : FlushWithMerged();
}

Status Engine::Wait(uint64_t ticket, uint64_t timeout_ns) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  const uint64_t appended = log_ == nullptr ? 0 : log_->counts().appended;
  if (ticket > appended) {
    return Status(Code::kInvalidArgument, "ticket " + std::to_string(ticket) +
                                              " was never given out; the newest is " +
                                              std::to_string(appended));
  }
  return ticket == 0 ? Status() : log_->WaitDurable(ticket, timeout_ns);
}

Status Engine::Durable(uint64_t* ticket) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  *ticket = log_ == nullptr ? 0 : log_->durable();
  return Status();
}

Status Engine::Watch(int* fd) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  if (log_ == nullptr) {
    return Status(Code::kUnsupported, "in memory there is nothing to wait for and to watch");
  }
  return log_->Watch(fd);
}

Status Engine::Unwatch(int fd) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  return log_ == nullptr ? Status() : log_->Unwatch(fd);
}

// ---- Files -------------------------------------------------------------------------------------

Status Engine::Compact(const Flags& flags) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  if (log_ == nullptr) return Status();
  FLINT_RETURN_IF_ERROR(log_->poison());
  const uint64_t wanted = compactor_->Start();
  return flags.no_wait ? Status() : compactor_->Await(wanted);
}

// What happened so far is brought to the segments first; the rest is reading files, so it goes on
// when the log can no longer be written.
Status Engine::History(const HistoryQuery& query, HistoryPage* page) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckReadable());
  if (read_only_) return history_.Read(options_.env, directory_, query, page);
  if (log_ == nullptr) return Status(Code::kUnsupported, "in memory no history is kept");
  Status status = log_->Flush();
  if (!status.ok() && status.code() != Code::kPoisoned) return status;
  return history_.Read(options_.env, directory_, query, page);
}

Status Engine::GetInfo(Info* info) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckReadable());
  *info = opened_;
  info->limits = keyspace_.limits();
  {
    Shard& any = keyspace_.shards().front();
    const MutexLock lock(any.mutex);
    info->counters = keyspace_.counters();
  }
  info->undecided = undecided_.load(std::memory_order_relaxed);
  info->evicted = recorder_.evicted();
  info->engine_time_ns = clock_.Now();
  info->bus_guard_replaced = BusGuard::Replaced();
  listing_.GiveUpOldRuns();
  if (read_only_) return GetReadOnlyInfo(info);
  if (log_ == nullptr) return Status();
  info->always = options_.log.always;
  const Compactor::Counts compactions = compactor_->counts();
  info->compactions = compactions.compactions;
  info->compaction_failures = compactions.failures;
  info->compaction_done_bytes = compactions.done_bytes;
  info->compaction_total_bytes = compactions.total_bytes;
  if (!compactions.last_failure.ok()) {
    info->compaction_failure = compactions.last_failure;
    info->compaction_retry_at_ns = clock_.WallNs() + compactions.retry_at_ns - info->engine_time_ns;
  }
  info->history_bytes = kept_->bytes();
  info->history_failures = kept_->failures();
  info->log = log_->counts();
  return CountFiles(info);
}

Status Engine::CountFiles(Info* info) const {
  std::vector<std::string> names;
  FLINT_RETURN_IF_ERROR(options_.env->List(directory_, &names));
  for (const std::string& name : names) {
    const bool segment = IsSegmentName(name);
    if (!segment && name != kSnapshotName) continue;
    uint64_t bytes = 0;
    // A file that was renamed or removed since it was listed is not there to be counted.
    if (!options_.env->FileSize(directory_ + "/" + name, &bytes).ok()) continue;
    if (segment) {
      ++info->segments;
      info->log_bytes += bytes;
    } else {
      info->snapshot_bytes = bytes;
    }
  }
  return Status();
}

}  // namespace flint
