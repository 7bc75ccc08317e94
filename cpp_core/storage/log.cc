#include "storage/log.h"

#include <utility>

namespace flint {

Log::Log(Env* env, const std::string& directory, const LogOptions& options, EngineClock* clock,
         ResumePoint resume, LogObserver* observer)
    : appender_(options, clock, &wakeup_, std::move(resume)),
      syncer_(directory, &appender_, &wakeup_, observer, appender_.head()),
      supply_(env, directory, options, &appender_, observer),
      background_(options, &appender_, &syncer_, &supply_, &wakeup_, observer) {}

Status Log::WaitForRoom(AppendOutcome why) {
  if (why == AppendOutcome::kUnsynced) return syncer_.SyncThrough(appender_.head());
  if (why == AppendOutcome::kRingFull) return syncer_.WaitForRing();
  appender_.AwaitSegment();
  return syncer_.poison();
}

Log::Counts Log::counts() {
  Counts counts;
  counts.durable = durable();
  counts.syncs = sync_count();
  appender_.Count(&counts.sequence, &counts.appended, &counts.unsynced_events);
  counts.times = syncer_.times();
  counts.poisoned = !syncer_.poison().ok();
  return counts;
}

Status Log::Rotate() {
  FLINT_RETURN_IF_ERROR(appender_.AwaitPrepared());
  std::shared_ptr<LogSegment> old;
  AppendOutcome outcome = appender_.Switch(&old);
  while (outcome == AppendOutcome::kRingFull) {
    FLINT_RETURN_IF_ERROR(syncer_.WaitForRing());
    outcome = appender_.Switch(&old);
  }
  if (outcome == AppendOutcome::kClosed) return Status::Closed();
  if (outcome == AppendOutcome::kPoisoned) return syncer_.poison();
  wakeup_.Wake();
  // With the next segment's START: without it, what comes before may not be removed.
  FLINT_RETURN_IF_ERROR(syncer_.SyncThrough(old->end + kStartBytes));
  FLINT_RETURN_IF_ERROR(appender_.AwaitNamed(*old));
  return syncer_.poison();
}

Status Log::Close() {
  appender_.Close();
  background_.Stop();
  syncer_.SignalWatchers();
  FLINT_RETURN_IF_ERROR(syncer_.SyncThrough(appender_.head()));
  FLINT_RETURN_IF_ERROR(supply_.FinishRotated());
  FLINT_RETURN_IF_ERROR(supply_.RemovePrepared());
  appender_.EmitCleanClose();
  FLINT_RETURN_IF_ERROR(syncer_.SyncThrough(appender_.head()));
  return supply_.FinishLast();
}

}  // namespace flint
