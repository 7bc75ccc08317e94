#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/env.h"
#include "engine/keyspace.h"
#include "engine/replayer.h"
#include "storage/recovery.h"

namespace flint {

// Reading a directory that another process may be writing: no lock is taken and nothing is written.

// Makes an attempt again for as long as it fails in another way than the time before: files are
// renamed, replaced and removed while they are read, and damage stays where it is.
Status UntilItStays(const std::function<Status()>& attempt);

// What a directory holds, read into a keyspace, and how to read on. One thread at a time; with the
// keyspace's locks held if others use it.
class Reading {
 public:
  Reading(Env* env, const Clock* clock, std::string directory)
      : env_(env), clock_(clock), directory_(std::move(directory)) {}

  // Once, into an empty keyspace.
  Status Load(Keyspace* keyspace);
  // After Load: kIo (ENOENT) where Flint has left no log. `but_empty`: an empty directory will do,
  // since a limiter may begin in it.
  Status CheckHasLog(bool but_empty) const;
  // What has come since goes to the same keyspace. kCorruption when that is not all there is: load
  // anew then.
  Status ReadOn();
  // What was read has been exchanged with this keyspace's.
  void MovedTo(Keyspace* keyspace) { replayer_->MoveTo(keyspace); }

  const SnapshotHead& head() const { return head_; }
  bool snapshot_exists() const { return snapshot_exists_; }
  uint64_t snapshot_bytes() const { return snapshot_bytes_; }
  uint64_t snapshot_limits() const { return snapshot_limits_; }
  const Recovery::Report& report() const { return recovery_->report(); }
  uint64_t sequence() const { return recovery_->sequence(); }
  int64_t last_time_ns() const { return replayer_->last_time_ns(); }

 private:
  Env* const env_;
  const Clock* const clock_;
  const std::string directory_;
  bool snapshot_exists_ = false;
  uint64_t snapshot_bytes_ = 0;
  uint64_t snapshot_limits_ = 0;
  SnapshotHead head_;
  Status failed_;  // of ReadOn
  std::unique_ptr<Replayer> replayer_;
  std::unique_ptr<Recovery> recovery_;
};

}  // namespace flint
