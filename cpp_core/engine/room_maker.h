#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "engine/keyspace.h"
#include "engine/recorder.h"
#include "model/engine_clock.h"

namespace flint {

// Finds a place for a key that is new when as many as may be remembered are there: fresh counters
// go first, then, if it may evict, the one that would be fresh first of a few. No lock is held
// between its steps, so what becomes free may go to others; `places` is what they cannot take.
class RoomMaker {
 public:
  struct Options {
    uint64_t max_keys = 0;
    bool evict = false;
  };

  // `unusable`: nothing may be recorded any more.
  RoomMaker(const Options& options, Keyspace* keyspace, Recorder* recorder, EngineClock* clock,
            const std::atomic<bool>* unusable)
      : options_(options),
        keyspace_(keyspace),
        recorder_(recorder),
        clock_(clock),
        unusable_(unusable) {}
  RoomMaker(const RoomMaker&) = delete;
  RoomMaker& operator=(const RoomMaker&) = delete;

  // One more place than `places` holds. kBusy where it would wait for a lock, kWouldBlock where it
  // would evict and may not now. When the log does not take an eviction, `*result` says so and
  // nobody went: the caller waits for the log and asks again.
  Status MakeRoom(bool no_wait, bool may_evict, Keyspace::Places* places, AppendOutcome* result);

  // How many keys have been looked at for those that were refused or had to evict.
  uint64_t keys_looked_at() const { return keys_looked_at_.load(std::memory_order_relaxed); }

 private:
  struct Victim {
    std::string key;
    std::string name;
  };

  bool ForgetOne(bool no_wait, Keyspace::Places* places, bool* missed);
  Keyspace::Shard& NextShardToClear();
  bool ChooseVictim(bool no_wait, Victim* victim, bool* missed);
  Status Evict(bool no_wait, Keyspace::Places* places, AppendOutcome* result);
  Status TableFull() const;

  const Options options_;
  Keyspace* const keyspace_;
  Recorder* const recorder_;
  EngineClock* const clock_;
  const std::atomic<bool>* const unusable_;
  std::atomic<size_t> next_shard_to_clear_{0};
  std::atomic<uint64_t> keys_looked_at_{0};
};

}  // namespace flint
