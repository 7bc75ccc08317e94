#include "storage/log_background.h"

#include <algorithm>
#include <new>
#include <utility>

namespace flint {
namespace {

constexpr int64_t kIdleSealAfterNs = 1'000'000'000;
constexpr int64_t kIdleSleepNs = 10'000'000'000;

}  // namespace

LogBackground::LogBackground(const LogOptions& options, LogAppender* appender, LogSyncer* syncer,
                             SegmentSupply* supply, Wakeup* wakeup, LogObserver* observer)
    : options_(options),
      appender_(appender),
      syncer_(syncer),
      supply_(supply),
      wakeup_(wakeup),
      observer_(observer) {}

Status LogBackground::Start() {
  return thread_.Start(
      "flint-log", [this] { Run(); }, [this](const Status& status) { syncer_->Poison(status); });
}

void LogBackground::Stop() {
  stop_.store(true, std::memory_order_relaxed);
  wakeup_->Wake();
  thread_.Join();
}

void LogBackground::Run() {
  while (!stop_.load(std::memory_order_relaxed)) {
    try {
      Turn();
    } catch (const std::bad_alloc&) {
      // What was to be done is still to be done.
      wakeup_->SleepUntil(SteadyNs() + SegmentSupply::kRetryNs);
    }
  }
}

void LogBackground::Turn() {
  const Status status = supply_->Housekeep();
  if (!status.ok()) syncer_->Poison(status);
  int64_t sleep_ns = 0;
  const Due due = NextDue(&sleep_ns);
  if (due == Due::kIdleSeal) appender_->EmitIdleSeal();
  // A failure is kept as the poison, where every caller finds it.
  if (due != Due::kNothing && syncer_->Flush().ok()) {
    appender_->ForgetExpected();
    observer_->OnSynced();
    return;
  }
  wakeup_->SleepUntil(SteadyNs() + sleep_ns);
}

LogBackground::Due LogBackground::NextDue(int64_t* sleep_ns) {
  *sleep_ns = kIdleSleepNs;
  // Asking also notices that the ring has failed, and tells it to all who wait.
  if (!syncer_->poison().ok()) return Due::kNothing;
  const LogAppender::Backlog backlog = appender_->TakeBacklog();
  const Due due = DueOf(backlog, sleep_ns);
  if (due == Due::kNothing && (backlog.wants_segment || supply_->retrying())) {
    *sleep_ns = std::min(*sleep_ns, SegmentSupply::kRetryNs);
  }
  return due;
}

LogBackground::Due LogBackground::DueOf(const LogAppender::Backlog& backlog, int64_t* sleep_ns) {
  const int64_t now_ns = SteadyNs();
  if (backlog.events != events_seen_) {
    events_seen_ = backlog.events;
    events_seen_at_ns_ = now_ns;
  }
  if (backlog.unsynced_events == 0) {
    sync_due_at_ns_ = 0;
    if (!backlog.wants_seal) return Due::kNothing;
    *sleep_ns = events_seen_at_ns_ + kIdleSealAfterNs - now_ns;
    if (*sleep_ns > 0) return Due::kNothing;
    events_seen_at_ns_ = now_ns;  // if there is no room for it, not at once again
    return Due::kIdleSeal;
  }
  if (backlog.sync_soon) return Due::kSync;
  if (!options_.always && backlog.unsynced_events >= options_.flush_every_events) {
    return Due::kSync;
  }
  if (sync_due_at_ns_ == 0) {
    sync_due_at_ns_ = now_ns + static_cast<int64_t>(options_.flush_every_ns);
  }
  *sleep_ns = sync_due_at_ns_ - now_ns;
  if (*sleep_ns > 0) return Due::kNothing;
  sync_due_at_ns_ = 0;
  return Due::kSync;
}

}  // namespace flint
