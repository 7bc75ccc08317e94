#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/fork_registry.h"
#include "engine/reading.h"

// A limiter that follows a directory which another process may be writing. Reading it anew holds
// no lock; reading on does, while records are applied, as whoever asks shall not see half of them.
namespace flint {

Status Engine::OpenReadOnly(const std::string& directory, Options options,
                            std::unique_ptr<Engine>* engine) {
  std::unique_ptr<Engine> opened(new Engine(directory, std::move(options)));
  FLINT_RETURN_IF_ERROR(opened->options_.clock->Check());
  FLINT_RETURN_IF_ERROR(opened->keyspace_.DrawHashSecret(opened->options_.env));
  opened->read_only_ = true;
  opened->unusable_.store(true);
  FLINT_RETURN_IF_ERROR(opened->options_.env->Mode(directory, &opened->opened_.directory_mode));
  {
    const MutexLock lock(opened->refresh_mutex_);
    FLINT_RETURN_IF_ERROR(opened->LoadAnew());
    FLINT_RETURN_IF_ERROR(opened->reading_->CheckHasLog(true));
  }
  RegisterForFork(opened.get());
  *engine = std::move(opened);
  return Status();
}

Status Engine::Refresh() {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckReadable());
  if (!read_only_) {
    return Status(Code::kInvalidArgument, "only a limiter opened for reading is refreshed");
  }
  const MutexLock lock(refresh_mutex_);
  if (reading_ != nullptr && !reading_->report().fresh) {
    const MutexLock locks(keyspace_.all_shards());
    const Status status = reading_->ReadOn();
    if (status.ok()) {
      FollowClock();
      return status;
    }
  }
  return LoadAnew();
}

Status Engine::LoadAnew() {
  return UntilItStays([this] {
    refresh_mutex_.AssertHeld();
    Keyspace keyspace(&keyspace_);
    auto reading = std::make_unique<Reading>(options_.env, options_.clock, directory_);
    FLINT_RETURN_IF_ERROR(reading->Load(&keyspace));
    const MutexLock locks(keyspace_.all_shards());
    keyspace_.Swap(&keyspace);
    if (!reading->report().fresh) reading->MovedTo(&keyspace_);
    reading_ = std::move(reading);
    FollowClock();
    return Status();
  });
}

// Whoever has a shard's lock reads the clock.
void Engine::FollowClock() {
  const Recovery::Report& report = reading_->report();
  const int64_t engine_ns =
      report.fresh ? clock_.WallNs() : EngineTimeAtOpen(report.clock, reading_->last_time_ns());
  clock_.StartAt(engine_ns);
  keyspace_.StartTimeAt(engine_ns);
}

Status Engine::GetReadOnlyInfo(Info* info) {
  const MutexLock lock(refresh_mutex_);
  info->read_only = true;
  info->recovered_records = reading_->report().records;
  info->recovered_ring_records = reading_->report().ring_records;
  info->torn_bytes = reading_->report().torn_bytes;
  info->damaged_history = reading_->report().damaged_history;
  info->snapshot_limits = reading_->snapshot_limits();
  info->log.sequence = reading_->sequence();
  return CountFiles(info);
}

}  // namespace flint
