#include <algorithm>
#include <memory_resource>
#include <span>

#include "base/check_path.h"
#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/key.h"

// Decisions: deciding under the shard's lock, recording, and only then changing state.
namespace flint {
namespace {

// Of a key's denials between two syncs so many are recorded one by one, the rest as one.
constexpr uint8_t kDenialsOneByOne = 16;
constexpr uint64_t kMergedAtMost = 1024;  // what a crash can lose of the count of denials
constexpr uint64_t kUndecidedRetryNs = 1'000'000'000;  // or callers would ask again at once
constexpr size_t kMaxItems = 1024;
constexpr size_t kArenaBytes = 2048;  // what a few items need while they are decided
constexpr size_t kKeysToChooseFrom = 16;
constexpr size_t kMaxKeyBytesTogether = 65535;

int64_t AddTime(int64_t at_ns, uint64_t after_ns) {
  const uint64_t sum = static_cast<uint64_t>(at_ns) + after_ns;
  return static_cast<int64_t>(std::min(sum, static_cast<uint64_t>(INT64_MAX)));
}

}  // namespace

bool Engine::WouldWaitForDisk(const Flags& flags) const {
  return flags.no_wait && !flags.no_sync && options_.log.always && log_ != nullptr;
}

FLINT_CHECK_PATH Status Engine::Resolve(Shard& shard, uint64_t hash, const Item& item,
                                        const LimitConfig* inline_config, int64_t now_ns,
                                        Keyspace::Room* room, Counter** counter) {
  Counter* const found = keyspace_.Find(shard, hash, item.key);
  if (found == nullptr || found->kind == LimitKind::kInline) [[unlikely]] {
    return ResolveOther(shard, hash, item, inline_config, now_ns, room, found, counter);
  }
  if (!CostFits(*found->config, item.cost)) [[unlikely]]
    return WrongCost(*found->config, item);
  *counter = found;
  return Status();
}

// A key without counter, or an inline limit's.
Status Engine::ResolveOther(Shard& shard, uint64_t hash, const Item& item,
                            const LimitConfig* inline_config, int64_t now_ns, Keyspace::Room* room,
                            Counter* found, Counter** counter) {
  const std::string_view key = item.key;
  if (found != nullptr && found->Forgettable(now_ns)) {
    // Merged denials of a limit that is being forgotten may go with it if the log has no room.
    FlushMerged(shard, found);
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
    if (!room->Take(1)) return Status::TableFull();
    found = parent != nullptr ? keyspace_.CreateCounter(shard, hash, key, parent)
                              : keyspace_.CreateInline(shard, hash, key, *config);
    room->Use();
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

// ---- Recording ---------------------------------------------------------------------------------

Log::Result Engine::BindKey(Counter* counter) {
  KeyPayload key;
  key.config = *counter->config;
  key.kind = counter->kind;
  key.key = counter->key();
  if (counter->parent() != nullptr) {
    key.prefix_bytes = static_cast<uint32_t>(counter->parent()->prefix.size());
  }
  return log_->AppendKey(key, &counter->binding);
}

FLINT_CHECK_PATH Log::Result Engine::RecordAllow(Shard& shard, Counter* counter, int64_t now_ns,
                                                 uint64_t cost, uint64_t* ticket) {
  PrepareAdmit(*counter->config, counter->state, now_ns);
  *ticket = 0;
  if (log_ != nullptr) {
    // What is about to be forgotten must be told of before what begins anew.
    if (!shard.merged.empty() && counter->Forgettable(now_ns)) {
      const Log::Result flushed = FlushMerged(shard, counter);
      if (flushed != Log::Result::kOk) return flushed;
    }
    Log::Result result = log_->AppendAllow(counter->binding, now_ns, cost, ticket);
    while (result == Log::Result::kNeedKey) {
      result = BindKey(counter);
      if (result == Log::Result::kOk) {
        result = log_->AppendAllow(counter->binding, now_ns, cost, ticket);
      }
    }
    if (result != Log::Result::kOk) [[unlikely]]
      return result;
  }
  keyspace_.Admitted(counter, now_ns, cost);
  return Log::Result::kOk;
}

Log::Result Engine::AppendDeny(Counter* counter, const DenyPayload& deny, uint64_t* ticket) {
  Log::Result result = log_->AppendDeny(counter->binding, deny, ticket);
  while (result == Log::Result::kNeedKey) {
    result = BindKey(counter);
    if (result == Log::Result::kOk) result = log_->AppendDeny(counter->binding, deny, ticket);
  }
  return result;
}

// With sync_denials like an admission. Otherwise it never fails and never waits: a denial that the
// log has no room for is merged as well.
Log::Result Engine::RecordDeny(Shard& shard, Counter* counter, int64_t now_ns, uint64_t cost,
                               uint64_t* ticket) {
  const DenyPayload deny{now_ns, cost, 1, now_ns};
  if (log_ != nullptr && options_.sync_denials) {
    const Log::Result result = AppendDeny(counter, deny, ticket);
    if (result != Log::Result::kOk) return result;
  }
  keyspace_.Denied(counter, deny);
  if (log_ != nullptr && !options_.sync_denials) MergeDeny(shard, counter, deny);
  return Log::Result::kOk;
}

// Appends it, or adds it to those that are recorded as one.
void Engine::MergeDeny(Shard& shard, Counter* counter, const DenyPayload& deny) {
  const auto interval = static_cast<uint16_t>(log_->sync_count());
  if (counter->deny_interval != interval) {
    counter->deny_interval = interval;
    counter->deny_count = 0;
  }
  if (counter->deny_count < kDenialsOneByOne) {
    ++counter->deny_count;
    uint64_t ticket = 0;
    if (AppendDeny(counter, deny, &ticket) == Log::Result::kOk) return;
  }
  const auto [entry, first] = shard.merged.try_emplace(counter, deny);
  if (!first) {
    DenyPayload& merged = entry->second;
    merged.count += 1;
    merged.cost = SaturatingAdd(merged.cost, deny.cost);
    merged.time_ns = deny.time_ns;
    if (merged.count >= kMergedAtMost && FlushMerged(shard, counter) == Log::Result::kOk) return;
  }
  if (!shard.has_merged.exchange(true, std::memory_order_relaxed)) {
    shards_with_merged_.fetch_add(1, std::memory_order_relaxed);
    log_->ExpectEvent();
  }
}

Log::Result Engine::FlushMerged(Shard& shard, Counter* counter) {
  const auto found = shard.merged.find(counter);
  if (found == shard.merged.end()) return Log::Result::kOk;
  uint64_t ticket = 0;
  const Log::Result result = AppendDeny(counter, found->second, &ticket);
  if (result == Log::Result::kOk) shard.merged.erase(found);
  return result;
}

Log::Result Engine::FlushMerged(Shard& shard) {
  while (!shard.merged.empty()) {
    const Log::Result result = FlushMerged(shard, shard.merged.begin()->first);
    if (result != Log::Result::kOk) return result;
  }
  if (shard.has_merged.exchange(false, std::memory_order_relaxed)) {
    shards_with_merged_.fetch_sub(1, std::memory_order_relaxed);
  }
  return Log::Result::kOk;
}

// Runs before each sync.
Log::Result Engine::FlushAllMerged() {
  if (shards_with_merged_.load(std::memory_order_relaxed) == 0) return Log::Result::kOk;
  for (Shard& shard : keyspace_.shards()) {
    if (!shard.has_merged.load(std::memory_order_relaxed)) continue;
    const std::lock_guard<Mutex> lock(shard.mutex);
    const Log::Result result = FlushMerged(shard);
    if (result != Log::Result::kOk) return result;
  }
  return Log::Result::kOk;
}

// ---- One key -----------------------------------------------------------------------------------

FLINT_CHECK_PATH void Engine::Describe(const Counter& counter, int64_t now_ns, uint64_t cost,
                                       bool allowed, Decision* decision) {
  const LimitConfig& config = *counter.config;
  decision->algorithm = config.algorithm;
  decision->cost = cost;
  decision->limit = config.burst;
  decision->remaining = Remaining(config, counter.state, now_ns);
  decision->reset_after_ns = ResetAfterNs(config, counter.state, now_ns);
  decision->reset_at_ns = AddTime(clock_.WallAt(now_ns), decision->reset_after_ns);
  decision->retry_after_ns = allowed ? 0 : RetryAfterNs(config, counter.state, now_ns, cost);
}

FLINT_CHECK_PATH Status Engine::CheckLocked(Shard& shard, uint64_t hash, const Item& item,
                                            const Flags& flags, const LimitConfig* inline_config,
                                            Keyspace::Room* room, Decision* decision,
                                            Log::Result* result) {
  // Read under the lock: what is decided later is not decided as of earlier.
  const int64_t now_ns = clock_.Now();
  keyspace_.SweepAsUsed(shard, now_ns);
  Counter* counter = nullptr;
  FLINT_RETURN_IF_ERROR(Resolve(shard, hash, item, inline_config, now_ns, room, &counter));
  const bool allowed = !flags.refuse && Allows(*counter->config, counter->state, now_ns, item.cost);
  uint64_t ticket = 0;
  if ((allowed || options_.sync_denials) && WouldWaitForDisk(flags)) return Status::WouldBlock();
  *result = allowed ? RecordAllow(shard, counter, now_ns, item.cost, &ticket)
                    : RecordDeny(shard, counter, now_ns, item.cost, &ticket);
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

Status Engine::AwaitDisk(uint64_t ticket) {
  const Running running(this);
  return log_->WaitDurable(ticket, UINT64_MAX);
}

Status Engine::Decide(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                      Decision* decision) {
  const uint64_t hash = keyspace_.Hash(item.key);
  Shard& shard = keyspace_.ShardOf(hash);
  Keyspace::Room room(&keyspace_);
  while (true) {
    Log::Result result = Log::Result::kOk;
    Status status;
    // In a forked child the lock may be held for ever.
    if (unusable_.load(std::memory_order_relaxed)) [[unlikely]]
      return WhyUnusable();
    {
      if (!Lock(&shard.mutex, flags.no_wait)) return Status::WouldBlock();
      const std::lock_guard<Mutex> lock(shard.mutex, std::adopt_lock);
      if (unusable_.load(std::memory_order_relaxed)) [[unlikely]]
        return WhyUnusable();
      status = CheckLocked(shard, hash, item, flags, inline_config, &room, decision, &result);
    }
    if (!status.ok()) [[unlikely]] {
      if (status.code() != Code::kTableFull) return status;
      FLINT_RETURN_IF_ERROR(MakeRoom(flags, &room));
      continue;
    }
    if (result == Log::Result::kOk) [[likely]]
      return AwaitTicket(decision->ticket, flags);
    FLINT_RETURN_IF_ERROR(AfterAppend(result, flags));
  }
}

Status Engine::CheckOrAnswer(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                             Decision* decision) {
  bool undecided = false;
  Status status =
      Deciding([&] { return Decide(item, flags, inline_config, decision); }, &undecided);
  if (!undecided) return status;
  FLINT_RETURN_IF_ERROR(AnswerUndecided(item, flags, inline_config, decision));
  undecided_.fetch_add(1, std::memory_order_relaxed);
  return Status();
}

// ---- When it cannot be decided -----------------------------------------------------------------

// Makes a decision; sets `*undecided`, and returns success, when that fails for a reason that lies
// with the limiter and not with the caller.
template <typename Call>
Status Engine::Deciding(const Call& call, bool* undecided) {
  Status status;
  try {
    status = call();
  } catch (const std::bad_alloc&) {
    status = Status(Code::kNoMemory, CodeSentence(Code::kNoMemory));
  }
  switch (status.code()) {
    case Code::kDiskFull:
    case Code::kPoisoned:
    case Code::kIo:
    case Code::kNoMemory:
    case Code::kTableFull:
      *undecided = true;
      return Status();
    default:
      return status;
  }
}

// The figures are as they stand, or 0 if there is no memory for them; what is allowed has not been
// counted. What is wrong with the call itself is still told.
Status Engine::AnswerUndecided(const Item& item, const Flags& flags,
                               const LimitConfig* inline_config, Decision* decision) {
  *decision = Decision();
  decision->cost = item.cost;
  try {
    const Status status = Peek(item, flags, inline_config, decision);
    const bool wrong =
        status.code() == Code::kInvalidArgument || status.code() == Code::kNotConfigured;
    if (wrong) return status;
  } catch (const std::bad_alloc&) {
    *decision = Decision();
    decision->cost = item.cost;
  }
  decision->undecided = true;
  decision->allowed = options_.on_error == OnError::kAllow;
  decision->retry_after_ns =
      decision->allowed ? 0 : std::max(decision->retry_after_ns, kUndecidedRetryNs);
  return Status();
}

// Finds room for one more key: fresh counters go first, then, if the options say so, the one that
// would be fresh first of a few. No lock is held, so what becomes free may go to others; `room` is
// what they cannot take.
Status Engine::MakeRoom(const Flags& flags, Keyspace::Room* room) {
  if (!room->possible()) return TableFull();
  const int64_t now_ns = clock_.Now();
  bool missed = false;
  for (size_t tries = 0; tries < Keyspace::kShards; ++tries) {
    Shard& shard = NextShardToClear();
    if (!Lock(&shard.mutex, flags.no_wait)) {
      missed = true;
      continue;
    }
    const std::lock_guard<Mutex> lock(shard.mutex, std::adopt_lock);
    if (keyspace_.ForgetOne(shard, now_ns) && room->Take(room->held() + 1)) return Status();
  }
  if (options_.when_full == WhenFull::kEvict) return Evict(flags, room);
  return missed ? Status::WouldBlock() : TableFull();
}

Engine::Shard& Engine::NextShardToClear() {
  const size_t index = next_shard_to_clear_.fetch_add(1, std::memory_order_relaxed);
  return keyspace_.shards()[index % Keyspace::kShards];
}

Status Engine::TableFull() const {
  return Status(Code::kTableFull,
                "a new key finds " + std::to_string(options_.max_keys) +
                    " keys in use, as many as max_keys allows; raise it, or evict when full");
}

// The key that would be fresh first of a few, from as many shards as it takes to find a few.
bool Engine::ChooseVictim(const Flags& flags, std::string* key, bool* missed) {
  bool found = false;
  uint64_t least_ns = 0;
  size_t seen = 0;
  for (size_t tries = 0; tries < Keyspace::kShards && seen < kKeysToChooseFrom; ++tries) {
    Shard& shard = NextShardToClear();
    if (!Lock(&shard.mutex, flags.no_wait)) {
      *missed = true;
      continue;
    }
    const std::lock_guard<Mutex> lock(shard.mutex, std::adopt_lock);
    uint64_t left_ns = 0;
    const Counter* const counter = keyspace_.LeastUsed(shard, clock_.Now(), &left_ns, &seen);
    if (counter == nullptr || (found && left_ns >= least_ns)) continue;
    found = true;
    least_ns = left_ns;
    *key = counter->key();
  }
  return found;
}

// The room of the one that goes is handed on.
Status Engine::Evict(const Flags& flags, Keyspace::Room* room) {
  // A key that is new is admitted, so the answer would have to wait: nobody goes for that.
  if (WouldWaitForDisk(flags)) return Status::WouldBlock();
  bool missed = false;
  std::string key;
  while (ChooseVictim(flags, &key, &missed)) {
    const uint64_t hash = keyspace_.Hash(key);
    Shard& shard = keyspace_.ShardOf(hash);
    Log::Result result = Log::Result::kOk;
    {
      if (!Lock(&shard.mutex, flags.no_wait)) return Status::WouldBlock();
      const std::lock_guard<Mutex> lock(shard.mutex, std::adopt_lock);
      FLINT_RETURN_IF_ERROR(CheckUsable());
      Counter* const counter = keyspace_.Find(shard, hash, key);
      if (counter == nullptr || !counter->ephemeral()) continue;
      result = RecordEviction(shard, counter);
      if (result == Log::Result::kOk) {
        room->TakeOver();
        keyspace_.RemoveExact(shard, counter);
        return Status();
      }
    }
    FLINT_RETURN_IF_ERROR(AfterAppend(result, flags));
  }
  return missed ? Status::WouldBlock() : TableFull();
}

// What is fresh by now was never there: replay does not know it any more.
Log::Result Engine::RecordEviction(Shard& shard, Counter* counter) {
  const int64_t now_ns = clock_.Now();
  Log::Result result = FlushMerged(shard, counter);
  if (result != Log::Result::kOk || counter->Forgettable(now_ns)) return result;
  LimitPayload payload;
  payload.time_ns = now_ns;
  payload.key = counter->key();
  uint64_t ticket = 0;
  result = Append(RecordType::kLimitRemoved, EncodeKeyed(payload), &ticket);
  if (result == Log::Result::kOk) evicted_.fetch_add(1, std::memory_order_relaxed);
  return result;
}

Status Engine::Peek(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                    Decision* decision) {
  FLINT_RETURN_IF_ERROR(CheckReadable());
  const uint64_t hash = keyspace_.Hash(item.key);
  Shard& shard = keyspace_.ShardOf(hash);
  if (!Lock(&shard.mutex, flags.no_wait)) return Status::WouldBlock();
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

// ---- Several keys ------------------------------------------------------------------------------

// One of the keys, as it is being decided.
struct Engine::Part {
  uint64_t hash = 0;
  Shard* shard = nullptr;
  Counter* counter = nullptr;
};

// All of them, and their numbers in order of hash, which is that of their shards too.
struct Engine::Parts {
  explicit Parts(size_t count, Arena* arena) : all(count, arena), order(count, arena) {}
  std::pmr::vector<Part> all;
  std::pmr::vector<uint32_t> order;
};

// The locks of their shards, each taken once.
class Engine::PartLocks {
 public:
  explicit PartLocks(const Parts& parts) : parts_(parts) {}
  ~PartLocks() {
    for (size_t i = 0; i < taken_; ++i) {
      if (IsFirst(i)) ShardAt(i)->mutex.unlock();
    }
  }
  PartLocks(const PartLocks&) = delete;
  PartLocks& operator=(const PartLocks&) = delete;

  bool Take(bool no_wait) {
    for (; taken_ < parts_.order.size(); ++taken_) {
      if (IsFirst(taken_) && !Lock(&ShardAt(taken_)->mutex, no_wait)) return false;
    }
    return true;
  }

 private:
  Shard* ShardAt(size_t i) const { return parts_.all[parts_.order[i]].shard; }
  bool IsFirst(size_t i) const { return i == 0 || ShardAt(i) != ShardAt(i - 1); }

  const Parts& parts_;
  size_t taken_ = 0;
};

// Keys that are the same have the same hash; seldom do others.
Status Engine::CheckDifferent(std::span<const Item> items, const Parts& parts) {
  const auto& order = parts.order;
  size_t twice = items.size();
  for (size_t i = 0; i < order.size(); ++i) {
    const uint64_t hash = parts.all[order[i]].hash;
    for (size_t j = i; j > 0 && parts.all[order[j - 1]].hash == hash; --j) {
      if (items[order[j - 1]].key != items[order[i]].key) continue;
      twice = std::min<size_t>(twice, order[i]);
      break;
    }
  }
  if (twice == items.size()) return Status();
  return Status(Code::kInvalidArgument,
                "items has key " + Shown(items[twice].key) + " twice; each key may appear once");
}

Status Engine::ReadItems(std::span<const Item> items, Parts* parts) {
  size_t bytes = 0;
  for (const Item& item : items) bytes += item.key.size();
  if (bytes > kMaxKeyBytesTogether) {
    return Status(Code::kInvalidArgument, "the keys of items have " + std::to_string(bytes) +
                                              " bytes; together at most 65,535 are allowed");
  }
  for (size_t i = 0; i < items.size(); ++i) {
    Part& part = parts->all[i];
    part.hash = keyspace_.Hash(items[i].key);
    part.shard = &keyspace_.ShardOf(part.hash);
    parts->order[i] = static_cast<uint32_t>(i);
  }
  const auto before = [parts](uint32_t a, uint32_t b) {
    const uint64_t hash_a = parts->all[a].hash;
    const uint64_t hash_b = parts->all[b].hash;
    return hash_a != hash_b ? hash_a < hash_b : a < b;
  };
  std::sort(parts->order.begin(), parts->order.end(), before);
  return CheckDifferent(items, *parts);
}

Log::Result Engine::RecordAllowAll(std::span<const Part> parts, std::span<const Item> items,
                                   int64_t now_ns, Arena* arena, uint64_t* ticket) {
  *ticket = 0;
  for (const Part& part : parts) {
    PrepareAdmit(*part.counter->config, part.counter->state, now_ns);
  }
  if (log_ != nullptr) {
    std::pmr::vector<Log::Share> shares(parts.size(), arena);
    for (size_t i = 0; i < parts.size(); ++i) {
      const Part& part = parts[i];
      shares[i] = {&part.counter->binding, items[i].cost};
      if (part.shard->merged.empty() || !part.counter->Forgettable(now_ns)) continue;
      const Log::Result flushed = FlushMerged(*part.shard, part.counter);
      if (flushed != Log::Result::kOk) return flushed;
    }
    Log::Result result = log_->AppendAllowAll(shares, now_ns, ticket);
    while (result == Log::Result::kNeedKey) {
      result = BindStale(parts);
      if (result == Log::Result::kOk) result = log_->AppendAllowAll(shares, now_ns, ticket);
    }
    if (result != Log::Result::kOk) return result;
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    keyspace_.Admitted(parts[i].counter, now_ns, items[i].cost);
  }
  return Log::Result::kOk;
}

// Gives an id in the active segment to every key that has none there. A segment holds all keys of
// one call and their record, so this ends.
Log::Result Engine::BindStale(std::span<const Part> parts) {
  const uint32_t active = log_->active_segment();
  for (const Part& part : parts) {
    if (part.counter->binding.segment == active) continue;
    const Log::Result result = BindKey(part.counter);
    if (result != Log::Result::kOk) return result;
  }
  return Log::Result::kOk;
}

// For all keys that are new before the first is created: a counter that has used nothing yet would
// make room for the next.
Status Engine::TakeRoomForAll(std::span<const Item> items, std::span<const Part> parts,
                              Keyspace::Room* room) {
  if (options_.max_keys == 0) return Status();
  size_t missing = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const bool is_new = keyspace_.Find(*parts[i].shard, parts[i].hash, items[i].key) == nullptr;
    if (is_new && keyspace_.templates().Match(items[i].key) != nullptr) ++missing;
  }
  return room->Take(missing) ? Status() : Status::TableFull();
}

Status Engine::CheckAllLocked(std::span<const Item> items, std::span<Part> parts,
                              const Flags& flags, Arena* arena, Keyspace::Room* room,
                              Decision* decisions, size_t* denied, Log::Result* result) {
  const int64_t now_ns = clock_.Now();
  *denied = items.size();
  for (const Part& part : parts) keyspace_.SweepAsUsed(*part.shard, now_ns);
  FLINT_RETURN_IF_ERROR(TakeRoomForAll(items, parts, room));
  for (size_t i = 0; i < items.size(); ++i) {
    Part& part = parts[i];
    FLINT_RETURN_IF_ERROR(
        Resolve(*part.shard, part.hash, items[i], nullptr, now_ns, room, &part.counter));
  }
  for (size_t i = 0; i < items.size() && *denied == items.size(); ++i) {
    Counter* const counter = parts[i].counter;
    if (!Allows(*counter->config, counter->state, now_ns, items[i].cost)) *denied = i;
  }
  uint64_t ticket = 0;
  const bool allowed = *denied == items.size();
  if ((allowed || options_.sync_denials) && WouldWaitForDisk(flags)) return Status::WouldBlock();
  *result = allowed ? RecordAllowAll(parts, items, now_ns, arena, &ticket)
                    : RecordDeny(*parts[*denied].shard, parts[*denied].counter, now_ns,
                                 items[*denied].cost, &ticket);
  if (*result != Log::Result::kOk) return Status();
  for (size_t i = 0; i < items.size() && i <= *denied; ++i) {
    decisions[i].allowed = i != *denied;
    decisions[i].ticket = ticket;
    if (!flags.decision_only) {
      Describe(*parts[i].counter, now_ns, items[i].cost, decisions[i].allowed, &decisions[i]);
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
  Parts parts(items.size(), &arena);
  FLINT_RETURN_IF_ERROR(ReadItems(items, &parts));
  Keyspace::Room room(&keyspace_);
  while (true) {
    Log::Result result = Log::Result::kOk;
    Status status;
    {
      PartLocks locks(parts);
      if (!locks.Take(flags.no_wait)) return Status::WouldBlock();
      FLINT_RETURN_IF_ERROR(CheckUsable());
      status = CheckAllLocked(items, parts.all, flags, &arena, &room, decisions, denied, &result);
    }
    if (status.code() == Code::kTableFull) {
      FLINT_RETURN_IF_ERROR(MakeRoom(flags, &room));
      continue;
    }
    FLINT_RETURN_IF_ERROR(status);
    if (result == Log::Result::kOk) return AwaitTicket(decisions[0].ticket, flags);
    FLINT_RETURN_IF_ERROR(AfterAppend(result, flags));
  }
}

Status Engine::CheckAll(std::span<const Item> items, const Flags& flags, Decision* decisions,
                        size_t* denied) {
  if (options_.on_error == OnError::kRaise) return DecideAll(items, flags, decisions, denied);
  bool undecided = false;
  Status status = Deciding([&] { return DecideAll(items, flags, decisions, denied); }, &undecided);
  if (!undecided) return status;
  *denied = options_.on_error == OnError::kAllow ? items.size() : 0;
  for (size_t i = 0; i < items.size() && i <= *denied; ++i) {
    FLINT_RETURN_IF_ERROR(AnswerUndecided(items[i], flags, nullptr, &decisions[i]));
  }
  undecided_.fetch_add(1, std::memory_order_relaxed);
  return Status();
}

}  // namespace flint
