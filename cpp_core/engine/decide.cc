#include <algorithm>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "base/assert.h"
#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/key.h"
#include "engine/plain_check.h"

// Deciding what is asked of one key: under the shard's lock, recorded, and only then counted.
namespace flint {

bool Engine::WouldWaitForDisk(const Flags& flags) const {
  return flags.no_wait && !flags.no_sync && options_.log.always && log_ != nullptr;
}

// Finds the limits of a key that decide together, in the cases that a check does not have ready: a
// key without a counter, several limits, one with a name, an inline one.
Status Engine::ResolveOther(Shard& shard, uint64_t hash, const Item& item, const Flags& flags,
                            const LimitConfig* inline_config, int64_t now_ns,
                            Keyspace::Places* places, ClaimsOfKey* claims) {
  Counter* const standing = keyspace_.Find(shard, hash, item.key);
  if (standing != nullptr && standing->kind == LimitKind::kInline &&
      standing->Forgettable(now_ns)) {
    // Merged denials of a limit that is being forgotten may go with it if the log has no room.
    recorder_.FlushMerged(shard, standing, flags.no_wait);
    keyspace_.Erase(shard, standing);
  }
  Keyspace::Applying applying;
  FLINT_RETURN_IF_ERROR(FindApplying(shard, hash, item, flags, inline_config, now_ns, &applying));
  size_t missing = 0;
  for (const Keyspace::Applying::One& limit : applying.limits) {
    if (limit.counter == nullptr) ++missing;
  }
  if (!places->Take(missing)) return Status::TableFull();
  for (const Keyspace::Applying::One& limit : applying.limits) {
    Counter* counter = limit.counter;
    if (counter == nullptr) {
      counter = limit.parent != nullptr
                    ? keyspace_.CreateCounter(shard, hash, item.key, limit.parent)
                    : keyspace_.CreateInline(shard, hash, item.key, *limit.config);
      places->Use();
    }
    claims->push_back({hash, &shard, counter, item.cost});
  }
  keyspace_.NotePlain((*claims)[0].counter, claims->size());
  return Status();
}

// Says what is wrong with the call, which takes nobody's place. The values that an inline limit is
// to have are those of the call.
Status Engine::FindApplying(Shard& shard, uint64_t hash, const Item& item, const Flags& flags,
                            const LimitConfig* inline_config, int64_t now_ns,
                            Keyspace::Applying* applying) {
  keyspace_.FindApplying(shard, hash, item.key, now_ns, applying);
  if (applying->limits.empty()) {
    FLINT_RETURN_IF_ERROR(CheckKey(item.key));
    if (inline_config == nullptr) {
      return Status(Code::kNotConfigured, "limit is not configured: " + Named(item.key, ""));
    }
    applying->limits.push_back({{}, inline_config, nullptr, nullptr});
  } else if (applying->limits.back().parent != nullptr) {
    FLINT_RETURN_IF_ERROR(CheckKey(item.key));
  }
  if (applying->too_many) {
    return Status(Code::kInvalidArgument,
                  "more than 16 limits apply to key " + Shown(item.key) + "; at most 16 may");
  }
  Keyspace::Applying::One& first = applying->limits[0];
  // One that a template covers by now is only left over from before.
  const bool has_inline = first.parent == nullptr && first.counter != nullptr &&
                          first.counter->kind == LimitKind::kInline;
  if (flags.update && inline_config != nullptr && has_inline) first.config = inline_config;
  for (const Keyspace::Applying::One& limit : applying->limits) {
    if (!CostFits(*limit.config, item.cost)) return WrongCost(*limit.config, limit.name, item);
  }
  return Status();
}

Status Engine::WrongCost(const LimitConfig& config, std::string_view name, const Item& item) {
  const std::string limit = name.empty() ? "the limit" : "its limit " + Shown(name);
  return Status(Code::kInvalidArgument, "cost " + std::to_string(item.cost) + " for key " +
                                            Shown(item.key) + " must be between 1 and " +
                                            std::to_string(config.burst) + ", the burst of " +
                                            limit);
}

// ---- One limit ---------------------------------------------------------------------------------

Status Engine::Check(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                     Decision* decision) {
  bool decided = false;
  try {
    decided = CheckPlain(item, flags, [&](const Decision& plain) { *decision = plain; });
  } catch (const std::bad_alloc&) {
    decided = false;  // what is answered then is said below
  }
  return decided ? Status() : CheckInFull(item, flags, inline_config, decision);
}

Status Engine::CheckInFull(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                           Decision* decision) {
  return options_.on_error == OnError::kRaise ? Decide(item, flags, inline_config, decision)
                                              : CheckOrAnswer(item, flags, inline_config, decision);
}

AppendOutcome Engine::CheckAnyAlgorithm(Shard& shard, Counter* counter, uint64_t cost,
                                        const Flags& flags, int64_t now_ns, Decision* decision) {
  return VisitAlgorithm(counter->config->algorithm, [&](auto algorithm) {
    shard.mutex.AssertHeld();
    return CheckAs<decltype(algorithm)>(shard, counter, cost, flags, now_ns, decision);
  });
}

Status Engine::CheckCounter(Shard& shard, Counter* counter, uint64_t cost, const Flags& flags,
                            int64_t now_ns, Decision* decision, AppendOutcome* result) {
  if (WouldWaitForDisk(flags)) {
    const bool allowed = !flags.refuse && Allows(*counter->config, counter->state, now_ns, cost);
    if (allowed || options_.sync_denials) return Status::WouldBlock();
  }
  *result = CheckAnyAlgorithm(shard, counter, cost, flags, now_ns, decision);
  return Status();
}

// Fills in how a limit stands.
void Engine::Describe(const LimitConfig& config, const State& state, int64_t now_ns, uint64_t cost,
                      bool allowed, Decision* decision) {
  VisitAlgorithm(config.algorithm, [&](auto algorithm) {
    DescribeAs<decltype(algorithm)>(config, algorithm.At(config, state, now_ns), now_ns, cost,
                                    allowed, decision);
  });
}

Status Engine::CheckLocked(Shard& shard, uint64_t hash, const Item& item, const Flags& flags,
                           const LimitConfig* inline_config, Keyspace::Places* places,
                           Decision* decision, AppendOutcome* result) {
  // Read under the lock: what is decided later is not decided as of earlier.
  const int64_t now_ns = Keyspace::NowIn(shard, &clock_);
  keyspace_.SweepAsUsed(shard, now_ns);
  Counter* const counter = keyspace_.FindAny(shard, hash, item.key);
  if (counter == nullptr || !counter->plain) [[unlikely]] {
    return CheckOther(shard, hash, item, flags, inline_config, now_ns, places, decision, result);
  }
  if (!CostFits(*counter->config, item.cost)) [[unlikely]]
    return WrongCost(*counter->config, {}, item);
  return CheckCounter(shard, counter, item.cost, flags, now_ns, decision, result);
}

Status Engine::CheckOther(Shard& shard, uint64_t hash, const Item& item, const Flags& flags,
                          const LimitConfig* inline_config, int64_t now_ns,
                          Keyspace::Places* places, Decision* decision, AppendOutcome* result) {
  ClaimsOfKey claims;
  FLINT_RETURN_IF_ERROR(
      ResolveOther(shard, hash, item, flags, inline_config, now_ns, places, &claims));
  if (claims.size() > 1 || claims[0].counter->name_bytes > 0) {
    return CheckTogether(claims, flags, now_ns, decision, result);
  }
  Counter* const counter = claims[0].counter;
  uint64_t change = 0;
  if (flags.update && inline_config != nullptr && counter->kind == LimitKind::kInline) {
    const bool changes = !counter->config->SameAs(*inline_config);
    FLINT_RETURN_IF_ERROR(
        ChangeInline(shard, counter, *inline_config, flags, now_ns, &change, result));
    if (*result != AppendOutcome::kOk) return Status();
    if (changes) decision->limit_changed = true;
  }
  FLINT_RETURN_IF_ERROR(CheckCounter(shard, counter, item.cost, flags, now_ns, decision, result));
  // A denial has no ticket of its own.
  if (*result == AppendOutcome::kOk) decision->ticket = std::max(decision->ticket, change);
  return Status();
}

// The program has been changed, or asks in two places with different values. Who finds the values
// changed waits for that too: it may have been this call, before it found no room to go on.
Status Engine::ChangeInline(Shard& shard, Counter* counter, const LimitConfig& config,
                            const Flags& flags, int64_t now_ns, uint64_t* ticket,
                            AppendOutcome* result) {
  if (counter->config->SameAs(config)) {
    const uint64_t newest = keyspace_.configured_at();
    if (log_ != nullptr && log_->durable() < newest) *ticket = newest;
    return *ticket != 0 && WouldWaitForDisk(flags) ? Status::WouldBlock() : Status();
  }
  if (WouldWaitForDisk(flags)) return Status::WouldBlock();
  auto changed = std::make_unique<LimitConfig>(config);
  *result = recorder_.FlushMerged(shard, counter, flags.no_wait);
  if (*result != AppendOutcome::kOk) return Status();
  const LimitPayload limit{now_ns, config, LimitKind::kInline, counter->key(), {}};
  *result = recorder_.RecordChange(RecordType::kLimitConfigured, EncodeConfigured(limit),
                                   flags.no_wait, ticket);
  if (*result != AppendOutcome::kOk) return Status();
  keyspace_.NoteConfigured(*ticket);
  keyspace_.ConfigureInline(shard, counter, std::move(changed), now_ns);
  return Status();
}

// ---- Several limits of one key -----------------------------------------------------------------

// What is decided together becomes one record, whose keys have to fit into one segment.
Status Engine::CheckFits(std::span<const Claim> claims) {
  size_t bytes = 0;
  for (const Claim& claim : claims) bytes += claim.counter->key_bytes + claim.counter->name_bytes;
  if (claims.size() == 1 || (bytes <= kMaxKeyBytesTogether && claims.size() <= kMaxItems)) {
    return Status();
  }
  return Status(Code::kInvalidArgument,
                std::to_string(claims.size()) + " limits would decide together, whose keys and " +
                    "names have " + std::to_string(bytes) +
                    " bytes; at most 1,024 limits and 65,535 bytes are allowed");
}

// The limit that stands for all: of those that deny the one that will do so longest, otherwise the
// one that has the least left.
size_t Engine::DecisiveOf(std::span<const Standing> limits, int64_t now_ns, uint64_t cost) {
  size_t decisive = 0;
  bool denied = false;
  uint64_t longest_ns = 0;
  uint64_t least = UINT64_MAX;
  for (size_t i = 0; i < limits.size(); ++i) {
    const LimitConfig& config = *limits[i].config;
    State& state = *limits[i].state;
    const uint64_t remaining = Remaining(config, state, now_ns);
    FLINT_ASSERT(Allows(config, state, now_ns, cost) == (remaining >= cost));
    if (remaining < cost) {
      const uint64_t retry_ns = RetryAfterNs(config, state, now_ns, cost);
      if (denied && retry_ns <= longest_ns) continue;
      denied = true;
      longest_ns = retry_ns;
      decisive = i;
    } else if (!denied) {
      if (remaining >= least) continue;
      least = remaining;
      decisive = i;
    }
  }
  return decisive;
}

// Fills what the decisive limit says, and tells each one's share to whoever asked for it.
void Engine::DescribeTogether(std::span<const Standing> limits, size_t decisive, const Flags& flags,
                              int64_t now_ns, uint64_t cost, Decision* decision) {
  decision->limit_count = static_cast<uint32_t>(limits.size());
  decision->limit_index = static_cast<uint32_t>(decisive);
  if (flags.decision_only) return;
  const Standing& standing = limits[decisive];
  Describe(*standing.config, *standing.state, now_ns, cost, decision->allowed, decision);
  if (decision->each == nullptr) return;
  for (const Standing& limit : limits) {
    Decision one;
    one.allowed = limit.allows;
    one.ticket = decision->ticket;
    Describe(*limit.config, *limit.state, now_ns, cost, limit.allows, &one);
    decision->each->Add(limit.name, one);
  }
}

Status Engine::CheckTogether(std::span<const Claim> claims, const Flags& flags, int64_t now_ns,
                             Decision* decision, AppendOutcome* result) {
  FLINT_RETURN_IF_ERROR(CheckFits(claims));
  BoundedArray<Standing, kMaxLimitsOfKey> limits;
  const uint64_t cost = claims[0].cost;
  bool allowed = !flags.refuse;
  for (const Claim& claim : claims) {
    Counter& counter = *claim.counter;
    const bool allows = Allows(*counter.config, counter.state, now_ns, cost);
    limits.push_back({counter.name(), counter.config, &counter.state, allows});
    allowed = allowed && allows;
  }
  uint64_t ticket = 0;
  if ((allowed || options_.sync_denials) && WouldWaitForDisk(flags)) return Status::WouldBlock();
  const Claim& denying = claims[allowed ? 0 : DecisiveOf(limits, now_ns, cost)];
  denying.shard->mutex.AssertHeld();
  if (!allowed) {
    *result =
        recorder_.RecordDeny(*denying.shard, denying.counter, now_ns, cost, flags.no_wait, &ticket);
  } else if (claims.size() == 1) {
    *result = recorder_.RecordAllow(*denying.shard, denying.counter, now_ns, cost, flags.no_wait,
                                    &ticket);
  } else {
    *result = recorder_.RecordAllowAll(claims, now_ns, true, flags.no_wait, &ticket);
  }
  if (*result != AppendOutcome::kOk) return Status();
  decision->allowed = allowed;
  decision->ticket = ticket;
  const size_t decisive = flags.decision_only ? 0 : DecisiveOf(limits, now_ns, allowed ? 1 : cost);
  DescribeTogether(limits, decisive, flags, now_ns, cost, decision);
  return Status();
}

// ---- Around a decision -------------------------------------------------------------------------

Status Engine::AfterAppend(AppendOutcome result, const Flags& flags) {
  switch (result) {
    case AppendOutcome::kOk:
      return Status();
    case AppendOutcome::kRingFull:
    case AppendOutcome::kSegmentFull:
    case AppendOutcome::kUnsynced:
      if (!flags.no_wait) return log_->WaitForRoom(result);
      log_->MakeRoomSoon();
      return Status::WouldBlock();
    case AppendOutcome::kBusy:
      return Status::Busy();
    case AppendOutcome::kReplayFull:
      if (!flags.no_wait) return compactor_->WaitForRoom();
      compactor_->StartSoon();
      return Status::WouldBlock();
    case AppendOutcome::kDiskFull: {
      const Status why = log_->no_segment();
      if (why.code() != Code::kDiskFull) {
        return Status(why.code(), why.message() + kNotRecorded + "that is over").WithErrnoOf(why);
      }
      return Status(Code::kDiskFull,
                    "no space left on the disk of " + directory_ + kNotRecorded + "there is room")
          .WithErrnoOf(why);
    }
    case AppendOutcome::kPoisoned:
      return log_->poison();
    case AppendOutcome::kClosed:
      return Status::Closed();
    case AppendOutcome::kNeedKey:
      break;
  }
  return Status(Code::kInternal, "an append without a key");
}

// Finds a place for one more key, and waits for what that needs.
Status Engine::MakeRoom(const Flags& flags, Keyspace::Places* places) {
  AppendOutcome result = AppendOutcome::kOk;
  FLINT_RETURN_IF_ERROR(
      room_maker_.MakeRoom(flags.no_wait, !WouldWaitForDisk(flags), places, &result));
  return AfterAppend(result, flags);
}

// Whether a check has more to do behind its locks: to find room, or to wait.
bool Engine::GoesOn(const Status& status, AppendOutcome result, uint64_t ticket,
                    const Flags& flags) const {
  if (!status.ok()) return status.code() == Code::kTableFull;
  return result != AppendOutcome::kOk || MustAwait(ticket, flags);
}

Status Engine::Decide(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                      Decision* decision) {
  const uint64_t hash = keyspace_.Hash(item.key);
  Shard& shard = keyspace_.ShardOf(hash);
  std::optional<Running> running;
  Keyspace::Places places(&keyspace_);
  while (true) {
    AppendOutcome result = AppendOutcome::kOk;
    Status status;
    // In a forked child the lock may be held for ever.
    if (unusable_.load(std::memory_order_relaxed)) [[unlikely]]
      return WhyUnusable();
    {
      if (!shard.Lock(flags.no_wait)) return Status::Busy();
      const MutexLock lock(shard.mutex, std::adopt_lock);
      if (unusable_.load(std::memory_order_relaxed)) [[unlikely]]
        return WhyUnusable();
      status = CheckLocked(shard, hash, item, flags, inline_config, &places, decision, &result);
      if (GoesOn(status, result, decision->ticket, flags)) NoteRunning(&running);
    }
    if (!status.ok()) [[unlikely]] {
      if (status.code() != Code::kTableFull) return status;
      FLINT_RETURN_IF_ERROR(MakeRoom(flags, &places));
      continue;
    }
    if (result == AppendOutcome::kOk) [[likely]]
      return AwaitTicket(decision->ticket, flags);
    FLINT_RETURN_IF_ERROR(AfterAppend(result, flags));
  }
}

Status Engine::Peek(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                    Decision* decision) {
  FLINT_RETURN_IF_ERROR(CheckReadable());
  const uint64_t hash = keyspace_.Hash(item.key);
  Shard& shard = keyspace_.ShardOf(hash);
  if (!shard.Lock(flags.no_wait)) return Status::Busy();
  const MutexLock lock(shard.mutex, std::adopt_lock);
  FLINT_RETURN_IF_ERROR(CheckReadable());
  const int64_t now_ns = Keyspace::NowIn(shard, &clock_);
  Keyspace::Applying applying;
  FLINT_RETURN_IF_ERROR(FindApplying(shard, hash, item, flags, inline_config, now_ns, &applying));
  State fresh;
  BoundedArray<Standing, kMaxLimitsOfKey> limits;
  decision->allowed = true;
  decision->ticket = 0;
  for (const Keyspace::Applying::One& limit : applying.limits) {
    Counter* const counter = limit.counter;
    const bool changes = counter != nullptr && !counter->config->SameAs(*limit.config);
    if (changes) fresh = Migrate(*counter->config, counter->state, *limit.config, now_ns);
    State& state = counter == nullptr || changes ? fresh : counter->state;
    const bool allows = Allows(*limit.config, state, now_ns, item.cost);
    limits.push_back({limit.name, limit.config, &state, allows});
    decision->allowed = decision->allowed && allows;
  }
  if (limits.size() > 1 || !limits[0].name.empty()) {
    const size_t decisive = DecisiveOf(limits, now_ns, item.cost);
    DescribeTogether(limits, decisive, flags, now_ns, item.cost, decision);
  } else if (!flags.decision_only) {
    Describe(*limits[0].config, *limits[0].state, now_ns, item.cost, decision->allowed, decision);
  }
  return Status();
}

}  // namespace flint
