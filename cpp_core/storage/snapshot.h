#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/env.h"
#include "base/sha256.h"
#include "model/saved_limit.h"
#include "storage/known.h"
#include "storage/log_path.h"
#include "storage/record.h"

namespace flint {

// Where in the log a snapshot stands.
struct SnapshotHead {
  Covered covered;
  ClockPayload clock;
  // The largest engine time of any covered record and of what has been left out as fresh: time goes
  // on from there.
  int64_t last_ns = 0;
  Features features;
};

// Writes flint.snapshot: to a temporary file, synced, renamed, directory synced. What does not get
// to Finish, or fails, leaves nothing behind.
class SnapshotWriter final : public LimitSink {
 public:
  SnapshotWriter(Env* env, std::string directory) : env_(env), directory_(std::move(directory)) {}
  ~SnapshotWriter();
  SnapshotWriter(const SnapshotWriter&) = delete;
  SnapshotWriter& operator=(const SnapshotWriter&) = delete;

  // The temporary file: whether one can be made is known before the rest is begun.
  Status Create();
  Status Begin(const SnapshotHead& head);
  Status Add(const SavedLimit& limit) override;
  Status Finish();
  uint64_t bytes() const { return offset_; }

 private:
  Status Put(std::string_view bytes);
  Status WriteIfFull();
  Status WriteOut();

  Env* const env_;
  const std::string directory_;
  std::unique_ptr<File> file_;
  Sha256 digest_;
  std::string buffer_;
  uint64_t offset_ = 0;
  uint64_t count_ = 0;
};

// Reads flint.snapshot, verifying its digest before anything is passed on. Without one, `*exists`
// is false, `*bytes` 0 and nothing is called. `add` may take the limit's state. Errors name the
// place.
using AddLimit = std::function<Status(const SavedLimit& limit, State state)>;
Status ReadSnapshot(Env* env, const std::string& directory, bool* exists, SnapshotHead* head,
                    const AddLimit& add, uint64_t* bytes);

}  // namespace flint
