#include "storage/segment_supply.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "base/assert.h"
#include "storage/file_names.h"
#include "storage/segment_naming.h"
#include "storage/wakeup.h"

namespace flint {
namespace {

// What keeps a file or a name from being made without telling anything of the disk's health.
bool IsPassing(const Status& status) {
  if (status.code() == Code::kDiskFull || status.code() == Code::kNoMemory) return true;
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
  if (retrying_ && SteadyNs() < retry_at_ns_) return Status();
  Status supplied = Attempt(&SegmentSupply::Supply);
  const bool supply_passes = IsPassing(supplied);
  if (supply_passes) appender_->SupplyFailed(supplied);
  // Last, since nobody waits for it.
  const Status cut = Attempt(&SegmentSupply::CutRotated);
  const bool cut_passes = IsPassing(cut);
  retrying_ = supply_passes || cut_passes;
  if (retrying_) retry_at_ns_ = SteadyNs() + kRetryNs;
  FLINT_ASSERT(!retrying_ || !supplied.ok() || !cut.ok());
  if (!supplied.ok() && !supply_passes) return supplied;
  return cut_passes ? Status() : cut;
}

Status SegmentSupply::Attempt(Status (SegmentSupply::*step)()) {
  try {
    return (this->*step)();
  } catch (const std::bad_alloc&) {
    return Status::NoMemory();
  }
}

Status SegmentSupply::Supply() {
  FLINT_RETURN_IF_ERROR(NameActive());
  return PrepareNext();
}

Status SegmentSupply::FinishRotated() {
  FLINT_RETURN_IF_ERROR(CutRotated());
  return NameActive();
}

Status SegmentSupply::CutRotated() {
  appender_->TakeRotated(&rotated_);
  while (!rotated_.empty()) {
    const LogSegment& segment = *rotated_.back();
    FLINT_ASSERT(segment.end >= segment.start && segment.end != UINT64_MAX);
    FLINT_ASSERT(kSegmentHeaderBytes + segment.end - segment.start <= segment.header.capacity);
    FLINT_RETURN_IF_ERROR(
        segment.file->Truncate(kSegmentHeaderBytes + segment.end - segment.start));
    FLINT_RETURN_IF_ERROR(segment.file->Sync());
    rotated_.pop_back();
  }
  return Status();
}

Status SegmentSupply::NameActive() {
  std::shared_ptr<LogSegment> active;
  std::shared_ptr<LogSegment> previous;
  if (!appender_->MustName(&active, &previous)) return Status();
  if (rotated_name_.empty()) {
    FLINT_ASSERT(naming_step_ == NamingStep::kLink);
    FLINT_RETURN_IF_ERROR(
        ChooseRotatedName(env_, directory_, previous->first_sequence, &rotated_name_));
  }
  FLINT_RETURN_IF_ERROR(TakeLogName());
  FLINT_ASSERT(naming_step_ == NamingStep::kSyncRename);
  appender_->Named(active.get(), previous.get(), std::exchange(rotated_name_, std::string()));
  naming_step_ = NamingStep::kLink;
  observer_->OnRotated();
  return Status();
}

// As flint::TakeLogName, in steps: the new name of the old segment is on disk before its old one is
// taken, since a file system may keep the changes of a directory in any order.
Status SegmentSupply::TakeLogName() {
  FLINT_ASSERT(!rotated_name_.empty());
  const std::string log_path = directory_ + "/" + kLogName;
  switch (naming_step_) {
    case NamingStep::kLink:
      FLINT_RETURN_IF_ERROR(LeaveLogName(env_, directory_, rotated_name_));
      naming_step_ = NamingStep::kSyncLink;
      [[fallthrough]];
    case NamingStep::kSyncLink:
      FLINT_RETURN_IF_ERROR(env_->SyncDirectory(directory_));
      naming_step_ = NamingStep::kRename;
      [[fallthrough]];
    case NamingStep::kRename:
      FLINT_RETURN_IF_ERROR(env_->Rename(directory_ + "/" + kNextName, log_path));
      naming_step_ = NamingStep::kSyncRename;
      [[fallthrough]];
    case NamingStep::kSyncRename:
      return env_->SyncDirectory(directory_);
  }
  return Status();
}

Status SegmentSupply::PrepareNext() {
  SegmentHeader header;
  if (!appender_->WantsSegment(&header)) return Status();
  std::shared_ptr<LogSegment> next;
  Status status;
  do {
    status = Prepare(header, &next);
  } while (status.code() == Code::kDiskFull && observer_->FreeDiskSpace());
  if (status.ok()) appender_->TakePrepared(std::move(next));
  return status;
}

// `header` is the one of the segment before.
Status SegmentSupply::Prepare(SegmentHeader header, std::shared_ptr<LogSegment>* next) {
  ++header.number;
  header.capacity = std::min(header.capacity * 2, options_.segment_bytes);
  FLINT_RETURN_IF_ERROR(env_->Random(&header.generation, sizeof(header.generation)));
  header.generation |= 1;
  FLINT_ASSERT(header.capacity > kSegmentHeaderBytes && naming_step_ == NamingStep::kLink);
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
  FLINT_ASSERT(naming_step_ == NamingStep::kLink);
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
