#pragma once

#include <cstdint>
#include <string>

#include "base/env.h"
#include "engine/id_table.h"
#include "engine/keyspace.h"
#include "storage/recovery.h"
#include "storage/snapshot.h"

namespace flint {

// Reading what a directory tells into a keyspace: its snapshot, then the records behind it.

struct LoadedSnapshot {
  bool exists = false;
  SnapshotHead head;
  uint64_t limits = 0;
  uint64_t bytes = 0;
};
Status LoadSnapshot(Env* env, const std::string& directory, Keyspace* keyspace,
                    LoadedSnapshot* loaded);

// Replays a log's records into a keyspace. One thread; nobody else uses the keyspace, or all its
// locks are held.
class Replayer final : public RecordSink {
 public:
  explicit Replayer(Keyspace* keyspace) : keyspace_(keyspace) {}
  Status Apply(const Record& record) override;
  // What has been replayed is in another keyspace now.
  void MoveTo(Keyspace* keyspace) { keyspace_ = keyspace; }
  // The largest time any record told of. Records are not in order of time: one is appended a moment
  // after its time has been read, and another key's may come in between.
  int64_t last_time_ns() const { return last_time_ns_; }
  void SawTime(int64_t at_ns);

 private:
  // Apart, so that most records need not prepare for what few do.
  [[gnu::noinline]] Status ApplyOther(const Record& record);
  Status ApplyClock(const Record& record);
  Status ApplyKey(const Record& record);
  Status ApplyKeyAllow(const Record& record);
  Status Bind(uint32_t id, const KeyPayload& key);
  Status ApplyConfigured(const Record& record);
  Status ChangeInline(Keyspace::Shard& shard, uint64_t hash, const LimitPayload& limit)
      FLINT_REQUIRES(shard.mutex);
  Status ApplyKeyed(const Record& record);
  Status ApplyAllow(const Record& record);
  Status ApplyAllowAll(const Record& record);
  Status ApplyDeny(const Record& record);
  Status Admit(uint32_t id, int64_t at_ns, uint64_t cost);
  Counter* Bound(uint32_t id);
  void UnbindGone();
  void EndUncovered(Keyspace::Shard& shard, uint64_t hash, std::string_view key)
      FLINT_REQUIRES(shard.mutex);
  Counter* Replace(const KeyPayload& key, uint64_t hash, Counter* standing);

  Keyspace* keyspace_;
  IdTable bound_;  // of the current segment
  int64_t last_time_ns_ = 0;
  int64_t floor_ns_ = 0;  // what comes is not earlier, but for denials
};

}  // namespace flint
