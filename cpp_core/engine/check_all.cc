#include <algorithm>
#include <memory_resource>
#include <span>

#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/key.h"

// Deciding what is asked of several keys together.
namespace flint {
namespace {

constexpr size_t kMaxItems = 1024;
constexpr size_t kArenaBytes = 2048;  // what a few items need while they are decided
constexpr size_t kMaxKeyBytesTogether = 65535;

}  // namespace

// One for each item, and their numbers in order of hash, which is that of their shards too.
struct Engine::Claims {
  explicit Claims(size_t count, Arena* arena) : all(count, arena), order(count, arena) {}
  std::pmr::vector<Claim> all;
  std::pmr::vector<uint32_t> order;
};

// The locks of their shards, each taken once.
class Engine::ClaimLocks {
 public:
  explicit ClaimLocks(const Claims& claims) : claims_(claims) {}
  ~ClaimLocks() {
    for (size_t i = 0; i < taken_; ++i) {
      if (IsFirst(i)) ShardAt(i)->mutex.unlock();
    }
  }
  ClaimLocks(const ClaimLocks&) = delete;
  ClaimLocks& operator=(const ClaimLocks&) = delete;

  bool Take(bool no_wait) {
    for (; taken_ < claims_.order.size(); ++taken_) {
      if (IsFirst(taken_) && !ShardAt(taken_)->Lock(no_wait)) return false;
    }
    return true;
  }

 private:
  Shard* ShardAt(size_t i) const { return claims_.all[claims_.order[i]].shard; }
  bool IsFirst(size_t i) const { return i == 0 || ShardAt(i) != ShardAt(i - 1); }

  const Claims& claims_;
  size_t taken_ = 0;
};

// Keys that are the same have the same hash; seldom do others.
Status Engine::CheckDifferent(std::span<const Item> items, const Claims& claims) {
  const auto& order = claims.order;
  size_t twice = items.size();
  for (size_t i = 0; i < order.size(); ++i) {
    const uint64_t hash = claims.all[order[i]].hash;
    for (size_t j = i; j > 0 && claims.all[order[j - 1]].hash == hash; --j) {
      if (items[order[j - 1]].key != items[order[i]].key) continue;
      twice = std::min<size_t>(twice, order[i]);
      break;
    }
  }
  if (twice == items.size()) return Status();
  return Status(Code::kInvalidArgument,
                "items has key " + Shown(items[twice].key) + " twice; each key may appear once");
}

Status Engine::ReadItems(std::span<const Item> items, Claims* claims) {
  size_t bytes = 0;
  for (const Item& item : items) bytes += item.key.size();
  if (bytes > kMaxKeyBytesTogether) {
    return Status(Code::kInvalidArgument, "the keys of items have " + std::to_string(bytes) +
                                              " bytes; together at most 65,535 are allowed");
  }
  for (size_t i = 0; i < items.size(); ++i) {
    Claim& claim = claims->all[i];
    claim.hash = keyspace_.Hash(items[i].key);
    claim.shard = &keyspace_.ShardOf(claim.hash);
    claim.cost = items[i].cost;
    claims->order[i] = static_cast<uint32_t>(i);
  }
  const auto before = [claims](uint32_t a, uint32_t b) {
    const uint64_t hash_a = claims->all[a].hash;
    const uint64_t hash_b = claims->all[b].hash;
    return hash_a != hash_b ? hash_a < hash_b : a < b;
  };
  std::sort(claims->order.begin(), claims->order.end(), before);
  return CheckDifferent(items, *claims);
}

// For all keys that are new before the first is created: a counter that has used nothing yet would
// make room for the next.
Status Engine::TakePlacesForAll(std::span<const Item> items, std::span<const Claim> claims,
                                Keyspace::Places* places) {
  if (options_.max_keys == 0) return Status();
  size_t missing = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const bool is_new = keyspace_.Find(*claims[i].shard, claims[i].hash, items[i].key) == nullptr;
    if (is_new && keyspace_.templates().Match(items[i].key) != nullptr) ++missing;
  }
  return places->Take(missing) ? Status() : Status::TableFull();
}

Status Engine::CheckAllLocked(std::span<const Item> items, std::span<Claim> claims,
                              const Flags& flags, Arena* arena, Keyspace::Places* places,
                              Decision* decisions, size_t* denied, Log::Result* result) {
  const int64_t now_ns = clock_.Now();
  *denied = items.size();
  for (const Claim& claim : claims) keyspace_.SweepAsUsed(*claim.shard, now_ns);
  FLINT_RETURN_IF_ERROR(TakePlacesForAll(items, claims, places));
  for (size_t i = 0; i < items.size(); ++i) {
    Claim& claim = claims[i];
    FLINT_RETURN_IF_ERROR(
        Resolve(*claim.shard, claim.hash, items[i], nullptr, now_ns, places, &claim.counter));
  }
  for (size_t i = 0; i < items.size() && *denied == items.size(); ++i) {
    Counter* const counter = claims[i].counter;
    if (!Allows(*counter->config, counter->state, now_ns, items[i].cost)) *denied = i;
  }
  uint64_t ticket = 0;
  const bool allowed = *denied == items.size();
  if ((allowed || options_.sync_denials) && WouldWaitForDisk(flags)) return Status::WouldBlock();
  *result = allowed ? recorder_.RecordAllowAll(claims, now_ns, arena, &ticket)
                    : recorder_.RecordDeny(*claims[*denied].shard, claims[*denied].counter, now_ns,
                                           items[*denied].cost, &ticket);
  if (*result != Log::Result::kOk) return Status();
  for (size_t i = 0; i < items.size() && i <= *denied; ++i) {
    decisions[i].allowed = i != *denied;
    decisions[i].ticket = ticket;
    if (!flags.decision_only) {
      Describe(*claims[i].counter, now_ns, items[i].cost, decisions[i].allowed, &decisions[i]);
    }
  }
  return Status();
}

Status Engine::DecideAll(std::span<const Item> items, const Flags& flags, Decision* decisions,
                         size_t* denied) {
  FLINT_RETURN_IF_ERROR(CheckUsable());
  if (items.empty() || items.size() > kMaxItems) {
    return Status(Code::kInvalidArgument,
                  "items has " + std::to_string(items.size()) + " entries; 1 to 1,024 are allowed");
  }
  char memory[kArenaBytes];
  Arena arena(memory, sizeof(memory));
  Claims claims(items.size(), &arena);
  FLINT_RETURN_IF_ERROR(ReadItems(items, &claims));
  Keyspace::Places places(&keyspace_);
  while (true) {
    Log::Result result = Log::Result::kOk;
    Status status;
    {
      ClaimLocks locks(claims);
      if (!locks.Take(flags.no_wait)) return Status::WouldBlock();
      FLINT_RETURN_IF_ERROR(CheckUsable());
      status =
          CheckAllLocked(items, claims.all, flags, &arena, &places, decisions, denied, &result);
    }
    if (status.code() == Code::kTableFull) {
      FLINT_RETURN_IF_ERROR(MakeRoom(flags, &places));
      continue;
    }
    FLINT_RETURN_IF_ERROR(status);
    if (result == Log::Result::kOk) return AwaitTicket(decisions[0].ticket, flags);
    FLINT_RETURN_IF_ERROR(AfterAppend(result, flags));
  }
}

}  // namespace flint
