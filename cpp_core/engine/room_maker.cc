#include "engine/room_maker.h"

namespace flint {
namespace {

constexpr size_t kLooksForFresh = 64;  // so many keys are searched at once
constexpr size_t kKeysToChooseFrom = 16;

}  // namespace

Status RoomMaker::MakeRoom(bool no_wait, bool may_evict, Keyspace::Places* places,
                           AppendOutcome* result) {
  if (!places->possible()) return TableFull();
  bool missed = false;
  if (ForgetOne(no_wait, places, &missed)) return Status();
  if (!options_.evict) return missed ? Status::Busy() : TableFull();
  return may_evict ? Evict(no_wait, places, result) : Status::WouldBlock();
}

// What is known to have nothing fresh is passed over, so a key that is refused costs no more in a
// large table. What is not known is searched a part at a time: who is refused meanwhile may be
// refused although somewhere a counter is fresh.
bool RoomMaker::ForgetOne(bool no_wait, Keyspace::Places* places, bool* missed) {
  const int64_t now_ns = clock_->Now();
  const size_t first = next_shard_to_clear_.load(std::memory_order_relaxed);
  size_t looks = kLooksForFresh;
  for (size_t i = first; i < first + Keyspace::kShards; ++i) {
    const size_t index = i % Keyspace::kShards;
    if (!keyspace_->MayHaveFresh(index, now_ns)) continue;
    Keyspace::Shard& shard = keyspace_->shards()[index];
    if (!shard.Lock(no_wait)) {
      *missed = true;
      continue;
    }
    const MutexLock lock(shard.mutex, std::adopt_lock);
    if (keyspace_->ForgetOne(shard, Keyspace::NowIn(shard, clock_), &looks) &&
        places->Take(places->held() + 1)) {
      next_shard_to_clear_.store(i + 1, std::memory_order_relaxed);
      return true;
    }
    if (looks == 0) {
      next_shard_to_clear_.store(i, std::memory_order_relaxed);
      break;
    }
  }
  keys_looked_at_.fetch_add(kLooksForFresh - looks, std::memory_order_relaxed);
  return false;
}

Keyspace::Shard& RoomMaker::NextShardToClear() {
  const size_t index = next_shard_to_clear_.fetch_add(1, std::memory_order_relaxed);
  return keyspace_->shards()[index % Keyspace::kShards];
}

Status RoomMaker::TableFull() const {
  return Status(Code::kTableFull,
                "a new key finds " + std::to_string(options_.max_keys) +
                    " keys in use, as many as max_keys allows; raise it, or evict when full");
}

// The key that would be fresh first of a few, from as many shards as it takes to find a few.
bool RoomMaker::ChooseVictim(bool no_wait, Victim* victim, bool* missed) {
  bool found = false;
  uint64_t least_ns = 0;
  size_t seen = 0;
  for (size_t tries = 0; tries < Keyspace::kShards && seen < kKeysToChooseFrom; ++tries) {
    Keyspace::Shard& shard = NextShardToClear();
    if (!shard.Lock(no_wait)) {
      *missed = true;
      continue;
    }
    const MutexLock lock(shard.mutex, std::adopt_lock);
    uint64_t left_ns = 0;
    const Counter* const counter =
        keyspace_->LeastUsed(shard, Keyspace::NowIn(shard, clock_), &left_ns, &seen);
    if (counter == nullptr || (found && left_ns >= least_ns)) continue;
    found = true;
    least_ns = left_ns;
    *victim = {std::string(counter->key()), std::string(counter->name())};
  }
  return found;
}

// The place of the one that goes is handed on.
Status RoomMaker::Evict(bool no_wait, Keyspace::Places* places, AppendOutcome* result) {
  bool missed = false;
  Victim victim;
  while (ChooseVictim(no_wait, &victim, &missed)) {
    const uint64_t hash = keyspace_->Hash(victim.key);
    Keyspace::Shard& shard = keyspace_->ShardOf(hash);
    if (!shard.Lock(no_wait)) return Status::Busy();
    const MutexLock lock(shard.mutex, std::adopt_lock);
    if (unusable_->load(std::memory_order_relaxed)) return Status();  // the caller sees it too
    Counter* const counter = keyspace_->Find(shard, hash, victim.key, victim.name);
    if (counter == nullptr || !counter->ephemeral()) continue;
    *result = recorder_->RecordEviction(shard, counter, Keyspace::NowIn(shard, clock_), no_wait);
    if (*result != AppendOutcome::kOk) return Status();
    places->TakeOver();
    keyspace_->RemoveExact(shard, counter);
    return Status();
  }
  return missed ? Status::Busy() : TableFull();
}

}  // namespace flint
