#include <algorithm>
#include <optional>
#include <span>

#include "base/small_vector.h"
#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/key.h"
#include "engine/key_hash.h"

// Deciding what is asked of several keys together.
namespace flint {

// Where the keys of the items are, and their numbers in order of hash, which is that of their
// shards too.
struct Engine::ItemKeys {
  struct Key {
    uint64_t hash = 0;
    Shard* shard = nullptr;
  };

  explicit ItemKeys(size_t count) : all(count), order(count) {}
  SmallVector<Key, kFewItems> all;
  SmallVector<uint32_t, kFewItems> order;
};

// The limits of all items, those of one item together.
struct Engine::ItemClaims {
  explicit ItemClaims(size_t items) : end(items) {}
  std::span<const Claim> Of(size_t item) const {
    const size_t begin = item == 0 ? 0 : end[item - 1];
    return {all.data() + begin, end[item] - begin};
  }

  SmallVector<Claim, kFewItems> all;
  SmallVector<uint32_t, kFewItems> end;  // of each item's
};

// The locks of their shards, each taken once. Clang does not follow locks in a container: whoever
// works under these says so, with AssertHeld.
class Engine::ItemLocks {
 public:
  explicit ItemLocks(const ItemKeys& keys) : keys_(keys) {}
  ~ItemLocks() {
    for (size_t i = 0; i < taken_; ++i) {
      if (IsFirst(i)) ShardAt(i)->mutex.unlock();
    }
  }
  ItemLocks(const ItemLocks&) = delete;
  ItemLocks& operator=(const ItemLocks&) = delete;

  bool Take(bool no_wait) FLINT_NO_THREAD_SAFETY_ANALYSIS {
    for (; taken_ < keys_.order.size(); ++taken_) {
      if (IsFirst(taken_) && !ShardAt(taken_)->Lock(no_wait)) return false;
    }
    return true;
  }

 private:
  Shard* ShardAt(size_t i) const { return keys_.all[keys_.order[i]].shard; }
  bool IsFirst(size_t i) const { return i == 0 || ShardAt(i) != ShardAt(i - 1); }

  const ItemKeys& keys_;
  size_t taken_ = 0;
};

// Keys that are the same have the same hash; seldom do others.
Status Engine::CheckDifferent(std::span<const Item> items, const ItemKeys& keys) {
  const auto& order = keys.order;
  size_t twice = items.size();
  for (size_t i = 0; i < order.size(); ++i) {
    const uint64_t hash = keys.all[order[i]].hash;
    for (size_t j = i; j > 0 && keys.all[order[j - 1]].hash == hash; --j) {
      if (items[order[j - 1]].key != items[order[i]].key) continue;
      twice = std::min<size_t>(twice, order[i]);
      break;
    }
  }
  if (twice == items.size()) return Status();
  return Status(Code::kInvalidArgument,
                "items has key " + Shown(items[twice].key) + " twice; each key may appear once");
}

Status CheckTogetherBounds(std::span<const Place::Item> items) {
  if (items.empty() || items.size() > kMaxItems) {
    return Status(Code::kInvalidArgument,
                  "items has " + std::to_string(items.size()) + " entries; 1 to 1,024 are allowed");
  }
  size_t bytes = 0;
  for (const Place::Item& item : items) bytes += item.key.size();
  if (bytes <= kMaxKeyBytesTogether) return Status();
  return Status(Code::kInvalidArgument, "the keys of items have " + std::to_string(bytes) +
                                            " bytes; together at most 65,535 are allowed");
}

Status Engine::ReadItems(std::span<const Item> items, ItemKeys* keys) {
  const auto before = [keys](uint32_t a, uint32_t b) {
    const uint64_t hash_a = keys->all[a].hash;
    const uint64_t hash_b = keys->all[b].hash;
    return hash_a != hash_b ? hash_a < hash_b : a < b;
  };
  const bool few = items.size() <= kFewItems;
  ItemKeys::Key* const all = keys->all.data();
  uint32_t* const order = keys->order.data();
  bool some_alike = !few;
  for (uint32_t i = 0; i < items.size(); ++i) {
    const uint64_t hash = HashOf(items[i].key, keyspace_.hash_secret());
    all[i] = {hash, &keyspace_.ShardOf(hash)};
    uint32_t at = i;
    if (few) {
      // Put in order as they come, which takes less than to call a sort.
      for (; at > 0 && all[order[at - 1]].hash > hash; --at) order[at] = order[at - 1];
      some_alike |= at > 0 && all[order[at - 1]].hash == hash;
    }
    order[at] = i;
  }
  if (!few) std::sort(order, order + items.size(), before);
  return some_alike ? CheckDifferent(items, *keys) : Status();
}

// For all keys that are new before the first is created: a counter that has used nothing yet would
// make room for the next.
Status Engine::TakePlacesForAll(std::span<const Item> items, const ItemKeys& keys, int64_t now_ns,
                                Keyspace::Places* places) {
  if (options_.max_keys == 0) return Status();
  size_t missing = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    Shard& shard = *keys.all[i].shard;
    shard.mutex.AssertHeld();
    Keyspace::Applying applying;
    keyspace_.FindApplying(shard, keys.all[i].hash, items[i].key, now_ns, &applying);
    for (const Keyspace::Applying::One& limit : applying.limits) {
      if (limit.counter == nullptr) ++missing;
    }
  }
  return places->Take(missing) ? Status() : Status::TableFull();
}

Status Engine::ResolveAll(std::span<const Item> items, const ItemKeys& keys, const Flags& flags,
                          int64_t now_ns, Keyspace::Places* places, ItemClaims* claims) {
  bool all_plain = true;
  for (size_t i = 0; i < items.size(); ++i) {
    const auto& [hash, shard] = keys.all[i];
    shard->mutex.AssertHeld();
    Counter* const counter = keyspace_.FindAny(*shard, hash, items[i].key);
    if (counter != nullptr && counter->plain) [[likely]] {
      if (!CostFits(*counter->config, items[i].cost)) {
        return WrongCost(*counter->config, {}, items[i]);
      }
      claims->all.push_back({hash, shard, counter, items[i].cost});
    } else {
      all_plain = false;
      ClaimsOfKey of_key;
      FLINT_RETURN_IF_ERROR(
          ResolveOther(*shard, hash, items[i], flags, nullptr, now_ns, places, &of_key));
      for (const Claim& claim : of_key) claims->all.push_back(claim);
    }
    claims->end[i] = static_cast<uint32_t>(claims->all.size());
  }
  // A plain one has no more than its item's key, which has been counted.
  return all_plain ? Status() : CheckFits({claims->all.data(), claims->all.size()});
}

void Engine::DescribeItem(std::span<const Claim> claims, int64_t now_ns, Decision* decision) {
  const uint64_t cost = claims[0].cost;
  const Counter& first = *claims[0].counter;
  if (claims.size() == 1 && first.name_bytes == 0) [[likely]] {
    Describe(*first.config, first.state, now_ns, cost, decision->allowed, decision);
    return;
  }
  BoundedArray<Standing, kMaxLimitsOfKey> limits;
  for (const Claim& claim : claims) {
    Counter& counter = *claim.counter;
    limits.push_back({counter.name(), counter.config, &counter.state, decision->allowed});
  }
  const size_t decisive = DecisiveOf(limits, now_ns, decision->allowed ? 1 : cost);
  DescribeTogether(limits, decisive, Flags(), now_ns, cost, decision);
}

// Makes one time of what is decided in all of their shards, and lets each sweep.
int64_t Engine::UseAll(const ItemKeys& keys) {
  Shard& first = *keys.all[0].shard;
  first.mutex.AssertHeld();
  int64_t now_ns = Keyspace::NowIn(first, &clock_);
  for (const ItemKeys::Key& key : keys.all) {
    key.shard->mutex.AssertHeld();
    now_ns = std::max(now_ns, key.shard->last_ns);
  }
  for (const ItemKeys::Key& key : keys.all) {
    key.shard->mutex.AssertHeld();
    key.shard->last_ns = now_ns;
    keyspace_.SweepAsUsed(*key.shard, now_ns);
  }
  return now_ns;
}

Status Engine::CheckAllLocked(std::span<const Item> items, const ItemKeys& keys, const Flags& flags,
                              Keyspace::Places* places, Decision* decisions, size_t* denied,
                              AppendOutcome* result) {
  const int64_t now_ns = UseAll(keys);
  FLINT_RETURN_IF_ERROR(TakePlacesForAll(items, keys, now_ns, places));
  ItemClaims claims(items.size());
  FLINT_RETURN_IF_ERROR(ResolveAll(items, keys, flags, now_ns, places, &claims));
  const Claim* denying = nullptr;
  uint64_t longest_ns = 0;
  size_t told = 0;  // of so many items, from the first, is told how they stand
  for (; told < items.size() && denying == nullptr; ++told) {
    for (const Claim& claim : claims.Of(told)) {
      Counter& counter = *claim.counter;
      if (Allows(*counter.config, counter.state, now_ns, claim.cost)) continue;
      const uint64_t retry_ns = RetryAfterNs(*counter.config, counter.state, now_ns, claim.cost);
      if (denying != nullptr && retry_ns <= longest_ns) continue;
      denying = &claim;
      longest_ns = retry_ns;
    }
  }
  const bool allowed = denying == nullptr;
  *denied = allowed ? told : told - 1;
  uint64_t ticket = 0;
  if ((allowed || options_.sync_denials) && WouldWaitForDisk(flags)) return Status::WouldBlock();
  if (allowed) {
    *result = recorder_.RecordAllowAll({claims.all.data(), claims.all.size()}, now_ns,
                                       items.size() == 1, flags.no_wait, &ticket);
  } else {
    denying->shard->mutex.AssertHeld();
    *result = recorder_.RecordDeny(*denying->shard, denying->counter, now_ns, denying->cost,
                                   flags.no_wait, &ticket);
  }
  if (*result != AppendOutcome::kOk) return Status();
  for (size_t i = 0; i < told; ++i) {
    decisions[i].allowed = allowed || i + 1 < told;
    decisions[i].ticket = ticket;
    if (!flags.decision_only) DescribeItem(claims.Of(i), now_ns, &decisions[i]);
  }
  return Status();
}

Status Engine::CheckAll(std::span<const Item> items, const Flags& flags, Decision* decisions,
                        size_t* denied) {
  return options_.on_error == OnError::kRaise ? DecideAll(items, flags, decisions, denied)
                                              : CheckAllOrAnswer(items, flags, decisions, denied);
}

Status Engine::DecideAll(std::span<const Item> items, const Flags& flags, Decision* decisions,
                         size_t* denied) {
  FLINT_RETURN_IF_ERROR(CheckUsable());
  FLINT_RETURN_IF_ERROR(CheckTogetherBounds(items));
  ItemKeys keys(items.size());
  FLINT_RETURN_IF_ERROR(ReadItems(items, &keys));
  std::optional<Running> running;
  Keyspace::Places places(&keyspace_);
  while (true) {
    AppendOutcome result = AppendOutcome::kOk;
    Status status;
    {
      ItemLocks locks(keys);
      if (!locks.Take(flags.no_wait)) return Status::Busy();
      FLINT_RETURN_IF_ERROR(CheckUsable());
      status = CheckAllLocked(items, keys, flags, &places, decisions, denied, &result);
      if (GoesOn(status, result, decisions[0].ticket, flags)) NoteRunning(&running);
    }
    if (status.code() == Code::kTableFull) {
      FLINT_RETURN_IF_ERROR(MakeRoom(flags, &places));
      continue;
    }
    FLINT_RETURN_IF_ERROR(status);
    if (result == AppendOutcome::kOk) return AwaitTicket(decisions[0].ticket, flags);
    FLINT_RETURN_IF_ERROR(AfterAppend(result, flags));
  }
}

}  // namespace flint
