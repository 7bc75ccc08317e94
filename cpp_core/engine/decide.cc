#include "base/check_path.h"
#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/key.h"

// Deciding what is asked of one key: under the shard's lock, recorded, and only then counted.
namespace flint {

bool Engine::WouldWaitForDisk(const Flags& flags) const {
  return flags.no_wait && !flags.no_sync && options_.log.always && log_ != nullptr;
}

// A key without counter, or an inline limit's.
Status Engine::ResolveOther(Shard& shard, uint64_t hash, const Item& item,
                            const LimitConfig* inline_config, int64_t now_ns,
                            Keyspace::Places* places, Counter* found, Counter** counter) {
  const std::string_view key = item.key;
  if (found != nullptr && found->Forgettable(now_ns)) {
    // Merged denials of a limit that is being forgotten may go with it if the log has no room.
    recorder_.FlushMerged(shard, found);
    keyspace_.Erase(shard, found);
    found = nullptr;
  }
  if (found == nullptr) {
    FLINT_RETURN_IF_ERROR(CheckKey(key));
    Template* parent = keyspace_.templates().Match(key);
    const LimitConfig* const config = parent != nullptr ? parent->config : inline_config;
    if (config == nullptr) {
      return Status(Code::kNotConfigured, "limit is not configured: " + std::string(key));
    }
    // What is wrong with the call takes nobody's room.
    if (!CostFits(*config, item.cost)) return WrongCost(*config, item);
    if (!places->Take(1)) return Status::TableFull();
    found = parent != nullptr ? keyspace_.CreateCounter(shard, hash, key, parent)
                              : keyspace_.CreateInline(shard, hash, key, *config);
    places->Use();
  } else if (!CostFits(*found->config, item.cost)) {
    return WrongCost(*found->config, item);
  }
  *counter = found;
  return Status();
}

Status Engine::WrongCost(const LimitConfig& config, const Item& item) {
  return Status(Code::kInvalidArgument, "cost " + std::to_string(item.cost) + " for key " +
                                            Shown(item.key) + " must be between 1 and " +
                                            std::to_string(config.burst) + ", the limit's burst");
}

FLINT_CHECK_PATH Status Engine::CheckLocked(Shard& shard, uint64_t hash, const Item& item,
                                            const Flags& flags, const LimitConfig* inline_config,
                                            Keyspace::Places* places, Decision* decision,
                                            Log::Result* result) {
  // Read under the lock: what is decided later is not decided as of earlier.
  const int64_t now_ns = clock_.Now();
  keyspace_.SweepAsUsed(shard, now_ns);
  Counter* counter = nullptr;
  FLINT_RETURN_IF_ERROR(Resolve(shard, hash, item, inline_config, now_ns, places, &counter));
  const bool allowed = !flags.refuse && Allows(*counter->config, counter->state, now_ns, item.cost);
  uint64_t ticket = 0;
  if ((allowed || options_.sync_denials) && WouldWaitForDisk(flags)) return Status::WouldBlock();
  *result = allowed ? recorder_.RecordAllow(shard, counter, now_ns, item.cost, &ticket)
                    : recorder_.RecordDeny(shard, counter, now_ns, item.cost, &ticket);
  if (*result != Log::Result::kOk) [[unlikely]]
    return Status();
  decision->allowed = allowed;
  decision->ticket = ticket;
  if (!flags.decision_only) Describe(*counter, now_ns, item.cost, allowed, decision);
  return Status();
}

Status Engine::AfterAppend(Log::Result result, const Flags& flags) {
  switch (result) {
    case Log::Result::kOk:
      return Status();
    case Log::Result::kRingFull:
    case Log::Result::kSegmentFull:
    case Log::Result::kUnsynced: {
      const Running running(this);
      if (!flags.no_wait) return log_->WaitForRoom(result);
      log_->MakeRoomSoon();
      return Status::WouldBlock();
    }
    case Log::Result::kDiskFull: {
      const Status why = log_->no_segment();
      if (why.code() != Code::kDiskFull) {
        return Status(why.code(), why.message() +
                                      "; nothing has changed, and it works again when "
                                      "that is over")
            .WithErrnoOf(why);
      }
      return Status(Code::kDiskFull, "no space left on the disk of " + directory_ +
                                         "; nothing has changed, and it works again when there "
                                         "is room")
          .WithErrnoOf(why);
    }
    case Log::Result::kPoisoned:
      return log_->poison();
    case Log::Result::kClosed:
      return Status::Closed();
    case Log::Result::kNeedKey:
      break;
  }
  return Status(Code::kInternal, "an append without a key");
}

// Finds a place for one more key, and waits for what that needs.
Status Engine::MakeRoom(const Flags& flags, Keyspace::Places* places) {
  Log::Result result = Log::Result::kOk;
  FLINT_RETURN_IF_ERROR(
      room_maker_.MakeRoom(flags.no_wait, !WouldWaitForDisk(flags), places, &result));
  return AfterAppend(result, flags);
}

Status Engine::AwaitDisk(uint64_t ticket) {
  const Running running(this);
  return log_->WaitDurable(ticket, UINT64_MAX);
}

Status Engine::Decide(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                      Decision* decision) {
  const uint64_t hash = keyspace_.Hash(item.key);
  Shard& shard = keyspace_.ShardOf(hash);
  Keyspace::Places places(&keyspace_);
  while (true) {
    Log::Result result = Log::Result::kOk;
    Status status;
    // In a forked child the lock may be held for ever.
    if (unusable_.load(std::memory_order_relaxed)) [[unlikely]]
      return WhyUnusable();
    {
      if (!shard.Lock(flags.no_wait)) return Status::WouldBlock();
      const std::lock_guard<Mutex> lock(shard.mutex, std::adopt_lock);
      if (unusable_.load(std::memory_order_relaxed)) [[unlikely]]
        return WhyUnusable();
      status = CheckLocked(shard, hash, item, flags, inline_config, &places, decision, &result);
    }
    if (!status.ok()) [[unlikely]] {
      if (status.code() != Code::kTableFull) return status;
      FLINT_RETURN_IF_ERROR(MakeRoom(flags, &places));
      continue;
    }
    if (result == Log::Result::kOk) [[likely]]
      return AwaitTicket(decision->ticket, flags);
    FLINT_RETURN_IF_ERROR(AfterAppend(result, flags));
  }
}

Status Engine::Peek(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                    Decision* decision) {
  FLINT_RETURN_IF_ERROR(CheckReadable());
  const uint64_t hash = keyspace_.Hash(item.key);
  Shard& shard = keyspace_.ShardOf(hash);
  if (!shard.Lock(flags.no_wait)) return Status::WouldBlock();
  const std::lock_guard<Mutex> lock(shard.mutex, std::adopt_lock);
  FLINT_RETURN_IF_ERROR(CheckReadable());
  const int64_t now_ns = clock_.Now();
  Counter* counter = keyspace_.Find(shard, hash, item.key);
  if (counter != nullptr && counter->kind == LimitKind::kInline && counter->Forgettable(now_ns)) {
    counter = nullptr;
  }
  CounterPointer imagined;
  if (counter == nullptr) {
    FLINT_RETURN_IF_ERROR(CheckKey(item.key));
    const Template* parent = keyspace_.templates().Match(item.key);
    const LimitConfig* config = parent != nullptr ? parent->config : inline_config;
    if (config == nullptr) {
      return Status(Code::kNotConfigured, "limit is not configured: " + std::string(item.key));
    }
    imagined.reset(Counter::Create(item.key, 0));
    imagined->config = new LimitConfig(*config);
    counter = imagined.get();
  }
  if (!CostFits(*counter->config, item.cost)) return WrongCost(*counter->config, item);
  decision->allowed = Allows(*counter->config, counter->state, now_ns, item.cost);
  decision->ticket = 0;
  if (!flags.decision_only) {
    Describe(*counter, now_ns, item.cost, decision->allowed, decision);
  }
  return Status();
}

}  // namespace flint
