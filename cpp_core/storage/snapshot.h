#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "algorithms/algorithm.h"
#include "base/env.h"
#include "base/sha256.h"
#include "storage/known.h"
#include "storage/log_path.h"
#include "storage/record.h"

namespace flint {

inline constexpr int64_t kNever = -1;

// What has happened to a limit.
struct Totals {
  uint64_t allowed = 0;
  uint64_t denied = 0;
  uint64_t allowed_cost = 0;
  uint64_t denied_cost = 0;
  int64_t last_allowed_ns = kNever;  // engine time, as are the others
  int64_t last_denied_ns = kNever;
  int64_t last_reset_ns = kNever;
};

// One line of a snapshot.
struct SnapshotLimit {
  std::string_view key;
  LimitKind kind = LimitKind::kExact;
  LimitConfig config;
  uint32_t prefix_bytes = 0;
  Totals totals;
  const State* state = nullptr;  // null for a template
  std::string_view name{};       // empty for the limit without one
};

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
class SnapshotWriter {
 public:
  SnapshotWriter(Env* env, std::string directory) : env_(env), directory_(std::move(directory)) {}
  ~SnapshotWriter();
  SnapshotWriter(const SnapshotWriter&) = delete;
  SnapshotWriter& operator=(const SnapshotWriter&) = delete;

  // The temporary file: whether one can be made is known before the rest is begun.
  Status Create();
  Status Begin(const SnapshotHead& head);
  Status Add(const SnapshotLimit& limit);
  Status Finish();
  uint64_t bytes() const { return offset_; }

 private:
  Status Put(std::string_view bytes);
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
using AddLimit = std::function<Status(const SnapshotLimit& limit, State state)>;
Status ReadSnapshot(Env* env, const std::string& directory, bool* exists, SnapshotHead* head,
                    const AddLimit& add, uint64_t* bytes);

}  // namespace flint
