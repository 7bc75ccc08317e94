#include "engine/reading.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "storage/file_names.h"

namespace flint {
namespace {

constexpr int kMostAttempts = 1000;
constexpr int kSameFailures = 3;
constexpr int kSameMissing = 30;
constexpr auto kPause = std::chrono::milliseconds(5);

}  // namespace

Status UntilItStays(const std::function<Status()>& attempt) {
  Status status;
  std::string last;
  int same = 0;
  for (int i = 0; i < kMostAttempts; ++i) {
    status = attempt();
    if (status.code() != Code::kCorruption && status.code() != Code::kIo) return status;
    same = status.message() == last ? same + 1 : 1;
    // That a file of one name has just been renamed may be met several times in a row.
    if (same == (status.code() == Code::kIo ? kSameMissing : kSameFailures)) return status;
    last = status.message();
    std::this_thread::sleep_for(kPause);
  }
  return status;
}

Status Reading::Load(Keyspace* keyspace) {
  FLINT_RETURN_IF_ERROR(ReadSnapshot(
      env_, directory_, &snapshot_exists_, &head_,
      [&](const SavedLimit& limit, State state) {
        ++snapshot_limits_;
        keyspace->AssumeAlone();
        return keyspace->Restore(limit, std::move(state));
      },
      &snapshot_bytes_));
  replayer_ = std::make_unique<Replayer>(keyspace);
  replayer_->SawTime(head_.last_ns);
  recovery_ = std::make_unique<Recovery>(env_, directory_, head_, clock_->Boot());
  FLINT_RETURN_IF_ERROR(recovery_->Begin());
  if (recovery_->report().fresh) return Status();
  FLINT_RETURN_IF_ERROR(recovery_->ReadOn(replayer_.get()));
  // A writer goes on between the last record that was read and the look at what is behind it. One
  // that never rests is not waited for: what has been seen there only has to be records by now.
  return UntilItStays([this]() -> Status {
    Status status = recovery_->CheckEnd();
    if (status.ok()) return status;
    FLINT_RETURN_IF_ERROR(recovery_->ReadOn(replayer_.get()));
    return recovery_->WasInMotion() ? Status() : status;
  });
}

Status Reading::CheckHasLog(bool but_empty) const {
  if (!recovery_->report().fresh) return Status();
  std::vector<std::string> names;
  if (but_empty) FLINT_RETURN_IF_ERROR(env_->List(directory_, &names));
  const bool foreign = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return !name.starts_with(kFilePrefix);
  });
  if (but_empty && !foreign) return Status();
  return Status::FromErrno(ENOENT,
                           "there is no log of Flint in " + directory_ +
                               "; either another directory was meant or its files are gone");
}

// Behind a record that it could not go on from there is nothing more to be read.
Status Reading::ReadOn() {
  if (failed_.ok()) failed_ = recovery_->ReadOn(replayer_.get());
  FLINT_RETURN_IF_ERROR(failed_);
  return recovery_->CheckNewest();
}

}  // namespace flint
