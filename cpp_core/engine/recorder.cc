#include "engine/recorder.h"

#include <vector>

#include "base/assert.h"
#include "base/small_vector.h"
#include "engine/place.h"

namespace flint {
namespace {

// Of a key's denials between two syncs so many are recorded one by one, the rest as one.
constexpr uint8_t kDenialsOneByOne = 16;
constexpr uint64_t kMergedAtMost = 1024;  // what a crash can lose of the count of denials

}  // namespace

KeyPayload Recorder::KeyOf(const Counter& counter) {
  KeyPayload key;
  key.config = *counter.config;
  key.kind = counter.kind;
  key.key = counter.key();
  key.name = counter.name();
  if (counter.parent() != nullptr) {
    key.prefix_bytes = static_cast<uint32_t>(counter.parent()->prefix.size());
  }
  return key;
}

AppendOutcome Recorder::BindKey(Counter* counter, bool no_wait) {
  const AppendOutcome result =
      log_->AppendKey(KeyOf(*counter), KeyedIn(*counter), no_wait, &counter->binding);
  FLINT_ASSERT(result != AppendOutcome::kOk || counter->binding.id != 0);
  return result;
}

// ---- Admissions --------------------------------------------------------------------------------

// What is about to be forgotten must be told of before what begins anew. A counter that is fresh
// may be forgotten at any time, so this is done whatever comes of the admission, and before room is
// made for that: what has been recorded must not fail for want of memory.
AppendOutcome Recorder::BeginAnew(Keyspace::Shard& shard, Counter* counter, bool no_wait) {
  if (!shard.merged.empty()) {
    const AppendOutcome flushed = FlushMerged(shard, counter, no_wait);
    if (flushed != AppendOutcome::kOk) return flushed;
  }
  Forget(counter);
  return AppendOutcome::kOk;
}

AppendOutcome Recorder::RecordAllow(Keyspace::Shard& shard, Counter* counter, int64_t now_ns,
                                    uint64_t cost, bool no_wait, uint64_t* ticket) {
  return VisitAlgorithm(counter->config->algorithm, [&](auto algorithm) {
    shard.mutex.AssertHeld();
    auto view = algorithm.At(*counter->config, counter->state, now_ns);
    return RecordAllowAs<decltype(algorithm)>(shard, counter, now_ns, cost, &view, no_wait, ticket);
  });
}

AppendOutcome Recorder::RecordAllowAll(std::span<const Claim> claims, int64_t now_ns, bool one_key,
                                       bool no_wait, uint64_t* ticket) {
  *ticket = 0;
  for (const Claim& claim : claims) {
    claim.shard->mutex.AssertHeld();
    if (claim.counter->Forgettable(now_ns)) {
      const AppendOutcome begun = BeginAnew(*claim.shard, claim.counter, no_wait);
      if (begun != AppendOutcome::kOk) return begun;
    }
    PrepareAdmit(*claim.counter->config, claim.counter->state, now_ns);
  }
  if (log_ != nullptr) {
    SmallVector<KeyShare, Place::kFewItems> shares(claims.size());
    for (size_t i = 0; i < claims.size(); ++i) {
      shares[i] = {&claims[i].counter->binding, claims[i].cost};
    }
    const std::span<const KeyShare> all(shares.data(), shares.size());
    AppendOutcome result = log_->AppendAllowAll(all, now_ns, one_key, no_wait, ticket);
    while (result == AppendOutcome::kNeedKey) {
      result = BindStale(claims, no_wait);
      if (result == AppendOutcome::kOk)
        result = log_->AppendAllowAll(all, now_ns, one_key, no_wait, ticket);
    }
    if (result != AppendOutcome::kOk) return result;
  }
  FLINT_ASSERT(log_ == nullptr || *ticket != 0);
  for (const Claim& claim : claims) keyspace_->AdmittedInUse(claim.counter, now_ns, claim.cost);
  return AppendOutcome::kOk;
}

// Gives an id in the active segment to every key that has none there. A segment holds all keys of
// one call and their record, so this ends.
AppendOutcome Recorder::BindStale(std::span<const Claim> claims, bool no_wait) {
  const uint32_t active = log_->active_segment();
  for (const Claim& claim : claims) {
    if (claim.counter->binding.segment == active) continue;
    const AppendOutcome result = BindKey(claim.counter, no_wait);
    if (result != AppendOutcome::kOk) return result;
  }
  return AppendOutcome::kOk;
}

// ---- Denials -----------------------------------------------------------------------------------

AppendOutcome Recorder::AppendDeny(Counter* counter, const Denials& deny, bool no_wait,
                                   uint64_t* ticket) {
  AppendOutcome result = log_->AppendDeny(counter->binding, deny, no_wait, ticket);
  while (result == AppendOutcome::kNeedKey) {
    result = BindKey(counter, no_wait);
    if (result == AppendOutcome::kOk)
      result = log_->AppendDeny(counter->binding, deny, no_wait, ticket);
  }
  return result;
}

AppendOutcome Recorder::RecordDeny(Keyspace::Shard& shard, Counter* counter, int64_t now_ns,
                                   uint64_t cost, bool no_wait, uint64_t* ticket) {
  const Denials deny{now_ns, cost, 1, now_ns};
  if (log_ != nullptr && sync_denials_) {
    const AppendOutcome result = AppendDeny(counter, deny, no_wait, ticket);
    if (result != AppendOutcome::kOk) return result;
  }
  if (log_ != nullptr && !sync_denials_) MergeDeny(shard, counter, deny, no_wait);
  keyspace_->Denied(counter, deny);
  return AppendOutcome::kOk;
}

// Appends it, or adds it to those that are recorded as one.
void Recorder::MergeDeny(Keyspace::Shard& shard, Counter* counter, const Denials& deny,
                         bool no_wait) {
  const auto interval = static_cast<uint16_t>(log_->sync_count());
  if (counter->deny_interval != interval) {
    counter->deny_interval = interval;
    counter->deny_count = 0;
  }
  const bool one_by_one = counter->deny_count < kDenialsOneByOne;
  if (one_by_one) ++counter->deny_count;
  if (one_by_one || !merge_denials_) {
    uint64_t ticket = 0;
    if (AppendDeny(counter, deny, no_wait, &ticket) == AppendOutcome::kOk) return;
  }
  const auto [entry, first] = shard.merged.try_emplace(counter, deny);
  if (!first) {
    Denials& merged = entry->second;
    FLINT_ASSERT(merged.count >= 1 && merged.time_ns <= deny.time_ns);
    merged.count += 1;
    merged.cost = SaturatingAdd(merged.cost, deny.cost);
    merged.time_ns = deny.time_ns;
    if (merged.count >= kMergedAtMost && FlushMerged(shard, counter, no_wait) == AppendOutcome::kOk)
      return;
  }
  if (!shard.has_merged.exchange(true, std::memory_order_relaxed)) {
    shards_with_merged_.fetch_add(1, std::memory_order_relaxed);
    log_->ExpectEvent();
  }
}

AppendOutcome Recorder::FlushMerged(Keyspace::Shard& shard, Counter* counter, bool no_wait) {
  const auto found = shard.merged.find(counter);
  if (found == shard.merged.end()) return AppendOutcome::kOk;
  FLINT_ASSERT(found->second.count >= 1 && found->second.cost >= 1);
  uint64_t ticket = 0;
  const AppendOutcome result = AppendDeny(counter, found->second, no_wait, &ticket);
  if (result == AppendOutcome::kOk) shard.merged.erase(found);
  return result;
}

AppendOutcome Recorder::FlushMerged(Keyspace::Shard& shard, bool no_wait) {
  FLINT_ASSERT(shard.merged.empty() || shard.has_merged.load());
  while (!shard.merged.empty()) {
    const AppendOutcome result = FlushMerged(shard, shard.merged.begin()->first, no_wait);
    if (result != AppendOutcome::kOk) return result;
  }
  if (shard.has_merged.exchange(false, std::memory_order_relaxed)) {
    FLINT_ASSERT(shards_with_merged_.load() > 0);
    shards_with_merged_.fetch_sub(1, std::memory_order_relaxed);
  }
  return AppendOutcome::kOk;
}

// Runs before each sync.
AppendOutcome Recorder::FlushAllMerged() {
  if (shards_with_merged_.load(std::memory_order_relaxed) == 0) return AppendOutcome::kOk;
  for (Keyspace::Shard& shard : keyspace_->shards()) {
    if (!shard.has_merged.load(std::memory_order_relaxed)) continue;
    const MutexLock lock(shard.mutex);
    const AppendOutcome result = FlushMerged(shard, false);
    if (result != AppendOutcome::kOk) return result;
  }
  return AppendOutcome::kOk;
}

// ---- Changes of limits -------------------------------------------------------------------------

AppendOutcome Recorder::RecordChange(RecordType type, std::string_view payload, bool no_wait,
                                     uint64_t* ticket) {
  if (log_ == nullptr) return AppendOutcome::kOk;
  const AppendOutcome result = log_->Append(type, payload, no_wait, ticket);
  FLINT_ASSERT(result != AppendOutcome::kOk || *ticket > 0);
  uint64_t newest = last_change_ticket_.load();
  while (newest < *ticket && !last_change_ticket_.compare_exchange_weak(newest, *ticket)) {
  }
  return result;
}

uint64_t Recorder::UnsyncedChange() const {
  const uint64_t newest = last_change_ticket_.load();
  return log_ == nullptr || log_->durable() >= newest ? 0 : newest;
}

// What is fresh by now was never there: replay does not know it any more.
AppendOutcome Recorder::RecordEviction(Keyspace::Shard& shard, Counter* counter, int64_t now_ns,
                                       bool no_wait) {
  FLINT_ASSERT(counter->ephemeral());
  AppendOutcome result = FlushMerged(shard, counter, no_wait);
  if (result != AppendOutcome::kOk || counter->Forgettable(now_ns)) return result;
  LimitPayload payload;
  payload.time_ns = now_ns;
  payload.kind = counter->kind;
  payload.key = counter->key();
  payload.name = counter->name();
  uint64_t ticket = 0;
  result = RecordChange(RecordType::kLimitRemoved, EncodeKeyed(payload), no_wait, &ticket);
  if (result == AppendOutcome::kOk) evicted_.fetch_add(1, std::memory_order_relaxed);
  return result;
}

}  // namespace flint
