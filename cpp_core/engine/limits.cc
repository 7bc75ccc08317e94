#include <algorithm>

#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/key.h"

// Configuring, removing and resetting limits.
namespace flint {

template <typename Attempt>
Status Engine::Change(const Flags& flags, uint64_t* ticket, const Attempt& attempt) {
  *ticket = 0;
  while (true) {
    FLINT_RETURN_IF_ERROR(CheckUsable());
    Log::Result result = Log::Result::kOk;
    FLINT_RETURN_IF_ERROR(attempt(&result));
    if (result == Log::Result::kOk) return Status();
    FLINT_RETURN_IF_ERROR(AfterAppend(result, flags));
  }
}

Status Engine::ConfigureExact(const Limit& limit, const Flags& flags, uint64_t* ticket,
                              Log::Result* result) {
  const uint64_t hash = keyspace_.Hash(limit.key);
  Shard& shard = keyspace_.ShardOf(hash);
  if (!shard.Lock(flags.no_wait)) return Status::WouldBlock();
  const std::lock_guard<Mutex> lock(shard.mutex, std::adopt_lock);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  const int64_t now_ns = clock_.Now();
  Counter* counter = keyspace_.Find(shard, hash, limit.key);
  if (counter != nullptr && counter->kind == LimitKind::kExact &&
      (flags.if_absent || counter->config->SameAs(limit.config))) {
    *ticket = recorder_.UnsyncedChange();
    return *ticket != 0 && WouldWaitForDisk(flags) ? Status::WouldBlock() : Status();
  }
  if (WouldWaitForDisk(flags)) return Status::WouldBlock();
  if (counter != nullptr) *result = recorder_.FlushMerged(shard, counter);
  if (*result != Log::Result::kOk) return Status();
  *result = recorder_.RecordChange(
      RecordType::kLimitConfigured,
      EncodeConfigured(LimitPayload{now_ns, limit.config, limit.kind, limit.key}), ticket);
  if (*result != Log::Result::kOk) return Status();
  keyspace_.ConfigureExact(shard, hash, limit.key, limit.config, now_ns);
  return Status();
}

Status Engine::ConfigureTemplate(const Limit& limit, const Flags& flags, uint64_t* ticket,
                                 Log::Result* result) {
  const AllShards locks(&keyspace_, flags.no_wait);
  if (!locks.held()) return Status::WouldBlock();
  FLINT_RETURN_IF_ERROR(CheckUsable());
  const Template* standing = keyspace_.templates().Find(limit.key);
  if (standing != nullptr && (flags.if_absent || standing->config->SameAs(limit.config))) {
    *ticket = recorder_.UnsyncedChange();
    return *ticket != 0 && WouldWaitForDisk(flags) ? Status::WouldBlock() : Status();
  }
  if (WouldWaitForDisk(flags)) return Status::WouldBlock();
  for (Shard& shard : keyspace_.shards()) {
    *result = recorder_.FlushMerged(shard);
    if (*result != Log::Result::kOk) return Status();
  }
  const int64_t now_ns = clock_.Now();
  *result = recorder_.RecordChange(
      RecordType::kLimitConfigured,
      EncodeConfigured(LimitPayload{now_ns, limit.config, limit.kind, limit.key}), ticket);
  if (*result != Log::Result::kOk) return Status();
  keyspace_.ConfigureTemplate(limit.key, limit.config, now_ns);
  return Status();
}

Status Engine::Configure(const Limit& limit, const Flags& flags, uint64_t* ticket) {
  return ConfigureMany({limit}, flags, ticket);
}

Status Engine::ConfigureMany(const std::vector<Limit>& limits, const Flags& flags,
                             uint64_t* ticket) {
  FLINT_RETURN_IF_ERROR(CheckUsable());
  for (const Limit& limit : limits) {
    const bool is_template = limit.kind == LimitKind::kTemplate;
    FLINT_RETURN_IF_ERROR(is_template ? CheckPrefix(limit.key) : CheckKey(limit.key));
  }
  uint64_t last = 0;
  for (const Limit& limit : limits) {
    uint64_t own = 0;
    FLINT_RETURN_IF_ERROR(Change(flags, &own, [&](Log::Result* result) {
      return limit.kind == LimitKind::kTemplate ? ConfigureTemplate(limit, flags, &own, result)
                                                : ConfigureExact(limit, flags, &own, result);
    }));
    last = std::max(last, own);
  }
  *ticket = last;
  return AwaitTicket(last, flags);
}

// ---- Removing and resetting --------------------------------------------------------------------

Status Engine::EndExact(RecordType type, std::string_view key, const Flags& flags, uint64_t* ticket,
                        Log::Result* result) {
  const uint64_t hash = keyspace_.Hash(key);
  Shard& shard = keyspace_.ShardOf(hash);
  if (!shard.Lock(flags.no_wait)) return Status::WouldBlock();
  const std::lock_guard<Mutex> lock(shard.mutex, std::adopt_lock);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  const int64_t now_ns = clock_.Now();
  Counter* counter = keyspace_.Find(shard, hash, key);
  if (counter == nullptr || counter->Forgettable(now_ns)) {
    // A key that only a template covers has used nothing: resetting it has nothing to do.
    const bool covered = keyspace_.templates().Match(key) != nullptr;
    if (type == RecordType::kReset && covered) return Status();
    return Status(Code::kNotConfigured, "limit is not configured: " + std::string(key));
  }
  if (WouldWaitForDisk(flags)) return Status::WouldBlock();
  *result = recorder_.FlushMerged(shard, counter);
  if (*result != Log::Result::kOk) return Status();
  LimitPayload payload;
  payload.time_ns = now_ns;
  payload.key = key;
  *result = recorder_.RecordChange(type, EncodeKeyed(payload), ticket);
  if (*result != Log::Result::kOk) return Status();
  if (type == RecordType::kReset) {
    keyspace_.ResetExact(counter, now_ns);
  } else {
    keyspace_.RemoveExact(shard, counter);
  }
  return Status();
}

Status Engine::EndTemplate(RecordType type, std::string_view prefix, const Flags& flags,
                           uint64_t* ticket, Log::Result* result) {
  const AllShards locks(&keyspace_, flags.no_wait);
  if (!locks.held()) return Status::WouldBlock();
  FLINT_RETURN_IF_ERROR(CheckUsable());
  Template* subject = keyspace_.templates().Find(prefix);
  if (subject == nullptr) {
    return Status(Code::kNotConfigured, "limit is not configured: " + std::string(prefix) + "*");
  }
  if (WouldWaitForDisk(flags)) return Status::WouldBlock();
  for (Shard& shard : keyspace_.shards()) {
    *result = recorder_.FlushMerged(shard);
    if (*result != Log::Result::kOk) return Status();
  }
  const int64_t now_ns = clock_.Now();
  LimitPayload payload;
  payload.time_ns = now_ns;
  payload.kind = LimitKind::kTemplate;
  payload.key = prefix;
  *result = recorder_.RecordChange(type, EncodeKeyed(payload), ticket);
  if (*result != Log::Result::kOk) return Status();
  if (type == RecordType::kReset) {
    keyspace_.ResetTemplate(subject, now_ns);
  } else {
    keyspace_.RemoveTemplate(subject, now_ns);
  }
  return Status();
}

Status Engine::Remove(LimitKind kind, std::string_view key, const Flags& flags, uint64_t* ticket) {
  return End(RecordType::kLimitRemoved, kind, key, flags, ticket);
}

Status Engine::Reset(LimitKind kind, std::string_view key, const Flags& flags, uint64_t* ticket) {
  return End(RecordType::kReset, kind, key, flags, ticket);
}

Status Engine::End(RecordType type, LimitKind kind, std::string_view key, const Flags& flags,
                   uint64_t* ticket) {
  const bool is_template = kind == LimitKind::kTemplate;
  FLINT_RETURN_IF_ERROR(is_template ? CheckPrefix(key) : CheckKey(key));
  FLINT_RETURN_IF_ERROR(Change(flags, ticket, [&](Log::Result* result) {
    return is_template ? EndTemplate(type, key, flags, ticket, result)
                       : EndExact(type, key, flags, ticket, result);
  }));
  return AwaitTicket(*ticket, flags);
}

}  // namespace flint
