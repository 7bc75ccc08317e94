#include "storage/segment_supply.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "storage/file_names.h"
#include "storage/segment_naming.h"
#include "storage/wakeup.h"

namespace flint {
namespace {

// What keeps a file from being made without telling anything of the disk's health.
bool IsPassing(const Status& status) {
  if (status.code() == Code::kDiskFull) return true;
  const int error = status.detail() == nullptr ? 0 : status.detail()->system_errno;
  return error == EMFILE || error == ENFILE || error == ENOMEM;
}

}  // namespace

SegmentSupply::SegmentSupply(Env* env, std::string directory, const LogOptions& options,
                             LogAppender* appender, LogObserver* observer)
    : env_(env),
      directory_(std::move(directory)),
      options_(options),
      appender_(appender),
      observer_(observer) {}

Status SegmentSupply::Housekeep() {
  FLINT_RETURN_IF_ERROR(FinishRotated());
  return PrepareNext();
}

Status SegmentSupply::FinishRotated() {
  FLINT_RETURN_IF_ERROR(CutRotated());
  return NameActive();
}

Status SegmentSupply::CutRotated() {
  for (const std::shared_ptr<LogSegment>& segment : appender_->TakeRotated()) {
    const uint64_t used = kSegmentHeaderBytes + segment->end - segment->start;
    FLINT_RETURN_IF_ERROR(segment->file->Truncate(used));
    FLINT_RETURN_IF_ERROR(segment->file->Sync());
  }
  return Status();
}

Status SegmentSupply::NameActive() {
  std::shared_ptr<LogSegment> active;
  std::shared_ptr<LogSegment> previous;
  if (!appender_->MustName(&active, &previous)) return Status();
  std::string rotated_name;
  FLINT_RETURN_IF_ERROR(TakeLogName(env_, directory_, previous->first_sequence, &rotated_name));
  appender_->Named(active.get(), previous.get(), rotated_name);
  observer_->OnRotated();
  return Status();
}

Status SegmentSupply::PrepareNext() {
  SegmentHeader header;
  if (!appender_->WantsSegment(SteadyNs() >= retry_at_ns_, &header)) return Status();
  std::shared_ptr<LogSegment> next;
  Status status;
  do {
    status = Prepare(header, &next);
  } while (status.code() == Code::kDiskFull && observer_->FreeDiskSpace());
  if (status.ok()) {
    appender_->TakePrepared(std::move(next));
  } else if (IsPassing(status)) {
    retry_at_ns_ = SteadyNs() + kRetryNs;
    appender_->PrepareFailed(status);
  } else {
    return status;
  }
  return Status();
}

// `header` is the one of the segment before.
Status SegmentSupply::Prepare(SegmentHeader header, std::shared_ptr<LogSegment>* next) {
  ++header.number;
  header.capacity = std::min(header.capacity * 2, options_.segment_bytes);
  FLINT_RETURN_IF_ERROR(env_->Random(&header.generation, sizeof(header.generation)));
  header.generation |= 1;
  auto made = std::make_shared<LogSegment>();
  made->name = kNextName;
  made->header = header;
  made->floor_ns = observer_->TimeFloor();
  FLINT_RETURN_IF_ERROR(
      CreateSegment(env_, directory_, kNextName, header, options_.always, &made->file));
  if (options_.always) made->file->ExpectAppends(kSegmentHeaderBytes);
  *next = std::move(made);
  return Status();
}

Status SegmentSupply::RemovePrepared() {
  if (appender_->DropPrepared() == nullptr) return Status();
  return env_->Remove(directory_ + "/" + kNextName);
}

Status SegmentSupply::FinishLast() {
  uint64_t used = 0;
  const std::shared_ptr<LogSegment> last = appender_->LastSegment(&used);
  FLINT_RETURN_IF_ERROR(last->file->Truncate(used));
  return last->file->Sync();
}

}  // namespace flint
