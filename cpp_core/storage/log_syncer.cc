#include "storage/log_syncer.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <new>
#include <utility>

#include "base/assert.h"
#include "base/event_fd.h"
#include "storage/file_names.h"

namespace flint {
namespace {

constexpr char kStopped[] = "the log could not be written and the limiter stopped";

}  // namespace

LogSyncer::LogSyncer(std::string directory, LogAppender* appender, Wakeup* background,
                     LogObserver* observer, uint64_t position)
    : directory_(std::move(directory)),
      appender_(appender),
      background_(background),
      observer_(observer),
      short_of_memory_(Status::FromErrno(Code::kPoisoned, ENOMEM, kStopped)),
      durable_(position),
      synced_at_(std::chrono::steady_clock::now()),
      digest_begin_(position) {}

LogSyncer::~LogSyncer() {
  for (const int fd : watchers_) CloseEventFd(fd);
}

Status LogSyncer::RingFailed() const {
  return Status(Code::kIo, directory_ + "/" + kRingName +
                               " was cut short or its disk failed while it was in use");
}

// ---- Draining ----------------------------------------------------------------------------------

// Leaves the role, which has been taken, also when there is no memory for what is done in it.
class FLINT_SCOPED_CAPABILITY LogSyncer::DrainRole {
 public:
  explicit DrainRole(LogSyncer* syncer) FLINT_REQUIRES(syncer->drain_role_) : syncer_(syncer) {}
  ~DrainRole() FLINT_RELEASE() { syncer_->LeaveDrainRole(); }
  DrainRole(const DrainRole&) = delete;
  DrainRole& operator=(const DrainRole&) = delete;

 private:
  LogSyncer* const syncer_;
};

void LogSyncer::TakeDrainRole() {
  const MutexLock lock(mutex_);
  while (draining_) drain_changed_.Wait(mutex_);
  draining_ = true;
  drain_role_.Take();
}

void LogSyncer::LeaveDrainRole() {
  {
    const MutexLock lock(mutex_);
    FLINT_ASSERT(draining_);
    draining_ = false;
    drain_role_.Leave();
  }
  drain_changed_.NotifyAll();
}

Status LogSyncer::WriteRange(const DrainRange& range) {
  // What is read is what was appended, but what has been answered already may have been lost.
  if (appender_->ring_failed()) return RingFailed();
  FLINT_ASSERT(range.begin >= digest_begin_ && digest_begin_ >= range.segment->start);
  FLINT_ASSERT(range.begin <= range.end);
  uint64_t at = range.begin;
  while (at < range.end) {
    const std::string_view bytes = appender_->RingBytes(at, range.end - at);
    FLINT_ASSERT(!bytes.empty() && bytes.size() <= range.end - at);
    const uint64_t offset = kSegmentHeaderBytes + at - range.segment->start;
    FLINT_RETURN_IF_ERROR(range.segment->file->Write(offset, bytes.data(), bytes.size()));
    digest_.Update(bytes.data(), bytes.size());
    at += bytes.size();
    appender_->SetWritten(at);  // what the digest covers, whatever comes next
  }
  return Status();
}

bool LogSyncer::TakeSeal(const DrainRange& range, SealPayload* seal) {
  if (range.end == digest_begin_) return false;
  FLINT_ASSERT(digest_begin_ < range.end && digest_begin_ >= range.segment->start);
  seal->generation = range.segment->header.generation;
  seal->begin = digest_begin_;
  seal->end = range.end;
  seal->digest = digest_.Final();
  digest_.Reset();
  digest_begin_ = range.end;
  return true;
}

Status LogSyncer::WaitForRing() {
  {
    const MutexLock lock(mutex_);
    if (!poison_.ok()) return poison_;
    if (draining_) {
      while (draining_) drain_changed_.Wait(mutex_);
      return poison_;
    }
    draining_ = true;
    drain_role_.Take();
  }
  DrainRange range;
  Status status;
  {
    const DrainRole role(this);
    range = appender_->NextRange();
    status = WriteRange(range);
  }
  if (!status.ok()) {
    Poison(status);
    return status;
  }
  // Nothing to write but a segment that has ended: it must be synced before the next is written.
  return range.begin == range.end && range.ends_segment ? SyncThrough(range.end) : Status();
}

// ---- Syncing -----------------------------------------------------------------------------------

Status LogSyncer::WaitDurable(uint64_t ticket, uint64_t timeout_ns) {
  if (durable() >= ticket) return Status();
  const bool endless = timeout_ns > uint64_t{1} << 62;
  const auto deadline = std::chrono::steady_clock::now() +
                        std::chrono::nanoseconds(endless ? 0 : static_cast<int64_t>(timeout_ns));
  const MutexLock lock(mutex_);
  while (durable_.load(std::memory_order_relaxed) < ticket) {
    if (!poison_.ok()) return poison_;
    if (timeout_ns == 0) break;
    if (!endless) {
      // Who has no time without end cannot do the syncing, which may take as long as it likes.
      {
        const MutexUnlock unlock(mutex_);
        appender_->SyncSoon();
      }
      if (durable_.load(std::memory_order_relaxed) >= ticket || !poison_.ok()) continue;
      if (!durable_changed_.WaitUntil(mutex_, deadline)) timeout_ns = 0;
    } else if (syncing_) {
      durable_changed_.Wait(mutex_);
    } else {
      syncing_ = true;
      sync_role_.Take();
      {
        const MutexUnlock unlock(mutex_);
        SyncOnce();
      }
      sync_role_.Leave();
      FLINT_ASSERT(syncing_);
      syncing_ = false;
      durable_changed_.NotifyAll();
    }
  }
  if (durable_.load(std::memory_order_relaxed) >= ticket) return Status();
  const MutexUnlock unlock(mutex_);
  appender_->SyncSoon();
  return Status(Code::kTimeout, CodeSentence(Code::kTimeout));
}

Status LogSyncer::Flush() {
  observer_->BeforeSync();
  return SyncThrough(appender_->head());
}

void LogSyncer::SyncOnce() {
  Status status;
  try {
    observer_->BeforeSync();
    status = SyncRange();
  } catch (const std::bad_alloc&) {
    status = short_of_memory_;
  } catch (const std::exception& error) {
    status = Status(Code::kInternal, error.what());
  }
  if (!status.ok()) Poison(status);
}

Status LogSyncer::SyncRange() {
  TakeDrainRole();
  DrainRange range;
  SealPayload seal;
  bool sealed = false;
  {
    const DrainRole role(this);
    range = appender_->NextRange();
    FLINT_RETURN_IF_ERROR(WriteRange(range));
    sealed = TakeSeal(range, &seal);
  }
  if (range.end > durable()) {
    FLINT_RETURN_IF_ERROR(SyncFile(range));
    FinishSync(range, sealed ? &seal : nullptr);
  }
  return Status();
}

Status LogSyncer::SyncFile(const DrainRange& range) {
  const auto begin = std::chrono::steady_clock::now();
  FLINT_RETURN_IF_ERROR(range.segment->file->SyncData());
  const MutexLock lock(mutex_);
  FLINT_ASSERT(syncing_ && synced_at_ <= begin);
  synced_at_ = std::chrono::steady_clock::now();
  sync_time_ += synced_at_ - begin;
  return Status();
}

LogSyncer::Times LogSyncer::times() {
  const MutexLock lock(mutex_);
  const std::chrono::nanoseconds since_sync = std::chrono::steady_clock::now() - synced_at_;
  return {static_cast<uint64_t>(since_sync.count()), static_cast<uint64_t>(sync_time_.count())};
}

void LogSyncer::FinishSync(const DrainRange& range, const SealPayload* seal) {
  const bool rotated = appender_->Synced(range, seal);
  {
    const MutexLock lock(mutex_);
    FLINT_ASSERT(syncing_ && range.end > durable());
    durable_.store(range.end, std::memory_order_release);
    sync_count_.fetch_add(1, std::memory_order_relaxed);
    SignalWatchersLocked();
  }
  durable_changed_.NotifyAll();
  if (rotated) background_->Wake();
}

Status LogSyncer::PoisonOf(const Status& status) const {
  try {
    return Status(Code::kPoisoned, std::string(kStopped) + ": " + status.message())
        .WithErrnoOf(status);
  } catch (const std::bad_alloc&) {
    return short_of_memory_;
  }
}

void LogSyncer::Poison(const Status& status) {
  FLINT_ASSERT(!status.ok());
  {
    const MutexLock lock(mutex_);
    if (poison_.ok()) poison_ = PoisonOf(status);
    FLINT_ASSERT(poison_.code() == Code::kPoisoned);
    // At once: who learns of the failure and asks again must not be admitted in memory.
    appender_->RefuseAppends();
    SignalWatchersLocked();
  }
  durable_changed_.NotifyAll();
  drain_changed_.NotifyAll();
  appender_->Fail();
}

Status LogSyncer::poison() {
  {
    const MutexLock lock(mutex_);
    if (!poison_.ok() || !appender_->failed()) return poison_;
  }
  // An append has found the ring failed and has told nobody why.
  Poison(RingFailed());
  const MutexLock lock(mutex_);
  return poison_;
}

// ---- Watching ----------------------------------------------------------------------------------

Status LogSyncer::Watch(int* fd) {
  *fd = MakeEventFd();
  if (*fd < 0) return Status::FromErrno(errno, "cannot make an eventfd");
  const MutexLock lock(mutex_);
  FLINT_ASSERT(std::find(watchers_.begin(), watchers_.end(), *fd) == watchers_.end());
  watchers_.push_back(*fd);
  return Status();
}

Status LogSyncer::Unwatch(int fd) {
  const MutexLock lock(mutex_);
  if (std::erase(watchers_, fd) == 0) {
    return Status(Code::kInvalidArgument, "fd " + std::to_string(fd) + " is not being watched");
  }
  CloseEventFd(fd);
  return Status();
}

void LogSyncer::SignalWatchers() {
  const MutexLock lock(mutex_);
  SignalWatchersLocked();
}

void LogSyncer::SignalWatchersLocked() {
  for (const int fd : watchers_) SignalEventFd(fd);
}

}  // namespace flint
