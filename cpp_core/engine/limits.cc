#include <algorithm>
#include <vector>

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
    AppendOutcome result = AppendOutcome::kOk;
    FLINT_RETURN_IF_ERROR(attempt(&result));
    if (result == AppendOutcome::kOk) return Status();
    FLINT_RETURN_IF_ERROR(AfterAppend(result, flags));
  }
}

Status Engine::TooMany(const Limit& limit) {
  const char* const mark = limit.kind == LimitKind::kTemplate ? "*" : "";
  return Status(Code::kInvalidArgument, "limit " + Shown(limit.name) + " would be the 17th of " +
                                            Shown(std::string(limit.key) + mark) +
                                            "; at most 16 may decide together");
}

Status Engine::ConfigureExact(const Limit& limit, const Flags& flags, uint64_t* ticket,
                              AppendOutcome* result) {
  const uint64_t hash = keyspace_.Hash(limit.key);
  Shard& shard = keyspace_.ShardOf(hash);
  if (!shard.Lock(flags.no_wait)) return Status::Busy();
  const MutexLock lock(shard.mutex, std::adopt_lock);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  const int64_t now_ns = Keyspace::NowIn(shard, &clock_);
  Counter* counter = keyspace_.Find(shard, hash, limit.key, limit.name);
  if (counter != nullptr && counter->kind == LimitKind::kExact &&
      (flags.if_absent || counter->config->SameAs(limit.config))) {
    *ticket = recorder_.UnsyncedChange();
    return *ticket != 0 && WouldWaitForDisk(flags) ? Status::WouldBlock() : Status();
  }
  if (WouldWaitForDisk(flags)) return Status::WouldBlock();
  const std::vector<Counter*> limits = keyspace_.FindAll(shard, hash, limit.key);
  size_t own = 0;
  for (Counter* const one : limits) {
    if (one->kind == LimitKind::kExact && one != counter) ++own;
    *result = recorder_.FlushMerged(shard, one, flags.no_wait);
    if (*result != AppendOutcome::kOk) return Status();
  }
  if (own >= kMaxLimitsOfKey) return TooMany(limit);
  *result = recorder_.RecordChange(
      RecordType::kLimitConfigured,
      EncodeConfigured(LimitPayload{now_ns, limit.config, limit.kind, limit.key, limit.name}),
      flags.no_wait, ticket);
  if (*result != AppendOutcome::kOk) return Status();
  keyspace_.NoteConfigured(*ticket);
  keyspace_.ConfigureExact(shard, hash, limit.key, limit.name, limit.config, now_ns);
  keyspace_.EndUncovered(shard, hash, limit.key, [](Counter*) {});
  return Status();
}

Status Engine::ConfigureTemplate(const Limit& limit, const Flags& flags, uint64_t* ticket,
                                 AppendOutcome* result) {
  if (!keyspace_.all_shards().Lock(flags.no_wait)) return Status::Busy();
  const MutexLock locks(keyspace_.all_shards(), std::adopt_lock);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  const Template* standing = keyspace_.templates().Find(limit.key, limit.name);
  if (standing != nullptr && (flags.if_absent || standing->config->SameAs(limit.config))) {
    *ticket = recorder_.UnsyncedChange();
    return *ticket != 0 && WouldWaitForDisk(flags) ? Status::WouldBlock() : Status();
  }
  if (standing == nullptr && keyspace_.templates().Of(limit.key).size() >= kMaxLimitsOfKey) {
    return TooMany(limit);
  }
  if (WouldWaitForDisk(flags)) return Status::WouldBlock();
  for (Shard& shard : keyspace_.shards()) {
    shard.AssumeHeld();
    *result = recorder_.FlushMerged(shard, flags.no_wait);
    if (*result != AppendOutcome::kOk) return Status();
  }
  const int64_t now_ns = keyspace_.NowInAll(&clock_);
  *result = recorder_.RecordChange(
      RecordType::kLimitConfigured,
      EncodeConfigured(LimitPayload{now_ns, limit.config, limit.kind, limit.key, limit.name}),
      flags.no_wait, ticket);
  if (*result != AppendOutcome::kOk) return Status();
  keyspace_.NoteConfigured(*ticket);
  keyspace_.ConfigureTemplate(limit.key, limit.name, limit.config, now_ns);
  return Status();
}

Status Engine::Configure(const Limit& limit, const Flags& flags, uint64_t* ticket) {
  return ConfigureMany({limit}, flags, ticket);
}

Status Engine::ConfigureMany(const std::vector<Limit>& limits, const Flags& flags,
                             uint64_t* ticket) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  for (const Limit& limit : limits) {
    const bool is_template = limit.kind == LimitKind::kTemplate;
    FLINT_RETURN_IF_ERROR(is_template ? CheckPrefix(limit.key) : CheckKey(limit.key));
    FLINT_RETURN_IF_ERROR(CheckName(limit.name));
  }
  uint64_t last = 0;
  for (const Limit& limit : limits) {
    uint64_t own = 0;
    FLINT_RETURN_IF_ERROR(Change(flags, &own, [&](AppendOutcome* result) {
      return limit.kind == LimitKind::kTemplate ? ConfigureTemplate(limit, flags, &own, result)
                                                : ConfigureExact(limit, flags, &own, result);
    }));
    last = std::max(last, own);
  }
  *ticket = last;
  return AwaitTicket(last, flags);
}

// ---- Removing and resetting --------------------------------------------------------------------

// The limits that a change is meant for: those in use, of one name or of all.
std::vector<Counter*> Engine::LimitsToEnd(Shard& shard, uint64_t hash, std::string_view key,
                                          const std::string_view* name, int64_t now_ns) {
  std::vector<Counter*> limits = keyspace_.FindAll(shard, hash, key);
  std::erase_if(limits, [&](const Counter* counter) {
    return counter->Forgettable(now_ns) || (name != nullptr && counter->name() != *name);
  });
  return limits;
}

Status Engine::EndExact(RecordType type, std::string_view key, const std::string_view* name,
                        const Flags& flags, uint64_t* ticket, AppendOutcome* result) {
  const uint64_t hash = keyspace_.Hash(key);
  Shard& shard = keyspace_.ShardOf(hash);
  if (!shard.Lock(flags.no_wait)) return Status::Busy();
  const MutexLock lock(shard.mutex, std::adopt_lock);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  const int64_t now_ns = Keyspace::NowIn(shard, &clock_);
  std::vector<Counter*> limits = LimitsToEnd(shard, hash, key, name, now_ns);
  if (limits.empty()) {
    FLINT_RETURN_IF_ERROR(CheckKey(key));  // a converted directory may hold one of blanks
    // A key that only a template covers has used nothing: resetting it has nothing to do.
    const bool covered = name == nullptr ? keyspace_.templates().Covers(key)
                                         : keyspace_.templates().Match(key, *name) != nullptr;
    if (type == RecordType::kReset && covered) return Status();
    return Status(Code::kNotConfigured,
                  "limit is not configured: " + Named(key, name == nullptr ? "" : *name));
  }
  if (WouldWaitForDisk(flags)) return Status::WouldBlock();
  for (Counter* const counter : keyspace_.FindAll(shard, hash, key)) {
    *result = recorder_.FlushMerged(shard, counter, flags.no_wait);
    if (*result != AppendOutcome::kOk) return Status();
  }
  for (; !limits.empty(); limits.pop_back()) {
    Counter* const counter = limits.back();
    LimitPayload payload;
    payload.time_ns = now_ns;
    payload.kind = counter->kind;
    payload.key = key;
    payload.name = counter->name();
    *result = recorder_.RecordChange(type, EncodeKeyed(payload), flags.no_wait, ticket);
    if (*result != AppendOutcome::kOk) return Status();
    if (type == RecordType::kReset) {
      keyspace_.ResetExact(shard, counter, now_ns);
      continue;
    }
    keyspace_.RemoveExact(shard, counter);
    keyspace_.EndUncovered(shard, hash, key,
                           [&](const Counter* gone) { std::erase(limits, gone); });
  }
  return Status();
}

Status Engine::EndTemplate(RecordType type, std::string_view prefix, const std::string_view* name,
                           const Flags& flags, uint64_t* ticket, AppendOutcome* result) {
  if (!keyspace_.all_shards().Lock(flags.no_wait)) return Status::Busy();
  const MutexLock locks(keyspace_.all_shards(), std::adopt_lock);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  std::vector<Template*> subjects = keyspace_.templates().Of(prefix);
  std::erase_if(subjects, [name](const Template* subject) {
    return name != nullptr && subject->name != *name;
  });
  if (subjects.empty()) {
    return Status(Code::kNotConfigured,
                  "limit is not configured: " +
                      Named(std::string(prefix) + "*", name == nullptr ? "" : *name));
  }
  if (WouldWaitForDisk(flags)) return Status::WouldBlock();
  for (Shard& shard : keyspace_.shards()) {
    shard.AssumeHeld();
    *result = recorder_.FlushMerged(shard, flags.no_wait);
    if (*result != AppendOutcome::kOk) return Status();
  }
  const int64_t now_ns = keyspace_.NowInAll(&clock_);
  for (Template* const subject : subjects) {
    LimitPayload payload;
    payload.time_ns = now_ns;
    payload.kind = LimitKind::kTemplate;
    payload.key = prefix;
    payload.name = subject->name;
    *result = recorder_.RecordChange(type, EncodeKeyed(payload), flags.no_wait, ticket);
    if (*result != AppendOutcome::kOk) return Status();
    if (type == RecordType::kReset) {
      keyspace_.ResetTemplate(subject, now_ns);
    } else {
      keyspace_.RemoveTemplate(subject, now_ns);
    }
  }
  return Status();
}

Status Engine::Remove(LimitKind kind, std::string_view key, const std::string_view* name,
                      const Flags& flags, uint64_t* ticket) {
  return End(RecordType::kLimitRemoved, kind, key, name, flags, ticket);
}

Status Engine::Reset(LimitKind kind, std::string_view key, const std::string_view* name,
                     const Flags& flags, uint64_t* ticket) {
  return End(RecordType::kReset, kind, key, name, flags, ticket);
}

Status Engine::End(RecordType type, LimitKind kind, std::string_view key,
                   const std::string_view* name, const Flags& flags, uint64_t* ticket) {
  const Running running(this);
  const bool is_template = kind == LimitKind::kTemplate;
  FLINT_RETURN_IF_ERROR(CheckPrefix(key));
  FLINT_RETURN_IF_ERROR(CheckName(name == nullptr ? "" : *name));
  FLINT_RETURN_IF_ERROR(Change(flags, ticket, [&](AppendOutcome* result) {
    return is_template ? EndTemplate(type, key, name, flags, ticket, result)
                       : EndExact(type, key, name, flags, ticket, result);
  }));
  return AwaitTicket(*ticket, flags);
}

}  // namespace flint
