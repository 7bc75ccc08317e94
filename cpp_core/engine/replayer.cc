#include "engine/replayer.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace flint {
namespace {

Status Nonsense(const char* what) { return Status(Code::kCorruption, what); }

}  // namespace

Status LoadSnapshot(Env* env, const std::string& directory, Keyspace* keyspace,
                    LoadedSnapshot* loaded) {
  const auto add = [&](const SavedLimit& limit, State state) {
    ++loaded->limits;
    keyspace->AssumeAlone();
    return keyspace->Restore(limit, std::move(state));
  };
  return ReadSnapshot(env, directory, &loaded->exists, &loaded->head, add, &loaded->bytes);
}

void Replayer::SawTime(int64_t at_ns) { last_time_ns_ = std::max(last_time_ns_, at_ns); }

Status Replayer::Apply(const Record& record) {
  if (record.type == RecordType::kAllow) [[likely]]
    return ApplyAllow(record);
  return ApplyOther(record);
}

Status Replayer::ApplyOther(const Record& record) {
  switch (record.type) {
    case RecordType::kStart:
      // Nothing is bound here, so what is over can go, that memory follows the live counters.
      bound_.Clear();
      keyspace_->AssumeAlone();
      keyspace_->SweepAll(floor_ns_);
      return Status();
    case RecordType::kClock:
      return ApplyClock(record);
    case RecordType::kFooter:
    case RecordType::kSeal:
      return Status();
    case RecordType::kKey:
      return ApplyKey(record);
    case RecordType::kKeyAllow:
      return ApplyKeyAllow(record);
    case RecordType::kLimitConfigured:
      return ApplyConfigured(record);
    case RecordType::kLimitRemoved:
    case RecordType::kReset:
      return ApplyKeyed(record);
    case RecordType::kAllow:
      return ApplyAllow(record);
    case RecordType::kAllowAll:
      return ApplyAllowAll(record);
    case RecordType::kDeny:
      return ApplyDeny(record);
  }
  return Status();  // of a newer version, which said that it may be skipped
}

Status Replayer::ApplyClock(const Record& record) {
  ClockPayload clock;
  if (!Decode(record.payload, &clock)) return Nonsense("an unreadable clock");
  floor_ns_ = std::max(floor_ns_, clock.floor_ns);
  return Status();
}

Status Replayer::ApplyKey(const Record& record) {
  KeyPayload key;
  if (!Decode(record.payload, &key)) return Nonsense("a key that cannot be read");
  return Bind(record.id, key);
}

Status Replayer::ApplyKeyAllow(const Record& record) {
  KeyAllowPayload first;
  if (!Decode(record.payload, &first)) return Nonsense("a key that cannot be read");
  KeyPayload key;
  key.kind = LimitKind::kCounter;
  key.prefix_bytes = first.prefix_bytes;
  key.key = first.key;
  FLINT_RETURN_IF_ERROR(Bind(record.id, key));
  return Admit(record.id, first.time_ns, first.cost);
}

Status Replayer::Bind(uint32_t id, const KeyPayload& key) {
  if (key.key.empty() || key.key.size() > UINT16_MAX) return Nonsense("a key that cannot be read");
  const uint64_t hash = keyspace_->Hash(key.key);
  Keyspace::Shard& shard = keyspace_->ShardOf(hash);
  shard.AssumeHeld();
  Counter* counter = keyspace_->Find(shard, hash, key.key, key.name);
  if (key.kind == LimitKind::kExact) {
    if (counter == nullptr || counter->kind != LimitKind::kExact) {
      return Nonsense("a key without its limit");
    }
    bound_.Bind(id, counter);
    return Status();
  }
  const bool same =
      counter != nullptr && counter->kind == key.kind &&
      (key.kind == LimitKind::kInline ? counter->config->SameAs(key.config)
                                      : counter->parent()->prefix.size() == key.prefix_bytes);
  if (!same) {
    if (counter != nullptr && !counter->ephemeral()) return Nonsense("a key with another limit");
    counter = Replace(key, hash, counter);
    if (counter == nullptr) return Nonsense("a key without its template");
  }
  bound_.Bind(id, counter);
  return Status();
}

// What stands in the way had been forgotten when the record was written.
Counter* Replayer::Replace(const KeyPayload& key, uint64_t hash, Counter* standing) {
  Keyspace::Shard& shard = keyspace_->ShardOf(hash);
  shard.AssumeHeld();
  if (standing != nullptr) {
    bound_.Unbind(standing);
    Forget(standing);
    keyspace_->Erase(shard, standing);
  }
  Template* parent = nullptr;
  if (key.kind != LimitKind::kInline) {
    parent = keyspace_->templates().Find(key.key.substr(0, key.prefix_bytes), key.name);
    if (parent == nullptr) return nullptr;
  }
  keyspace_->CountKey();
  return parent == nullptr ? keyspace_->CreateInline(shard, hash, key.key, key.config)
                           : keyspace_->CreateCounter(shard, hash, key.key, parent);
}

Status Replayer::ApplyConfigured(const Record& record) {
  LimitPayload limit;
  if (!DecodeConfigured(record.payload, &limit)) return Nonsense("a limit that cannot be read");
  SawTime(limit.time_ns);
  if (limit.kind == LimitKind::kTemplate) {
    keyspace_->AssumeAlone();
    keyspace_->ConfigureTemplate(limit.key, limit.name, limit.config, limit.time_ns);
    if (keyspace_->any_names()) UnbindGone();
    return Status();
  }
  if (limit.key.empty() || limit.key.size() > UINT16_MAX) return Nonsense("a limit without key");
  const uint64_t hash = keyspace_->Hash(limit.key);
  Keyspace::Shard& shard = keyspace_->ShardOf(hash);
  shard.AssumeHeld();
  if (limit.kind == LimitKind::kInline) return ChangeInline(shard, hash, limit);
  keyspace_->ConfigureExact(shard, hash, limit.key, limit.name, limit.config, limit.time_ns);
  EndUncovered(shard, hash, limit.key);
  return Status();
}

// One that is fresh may have been forgotten before; the KEY that follows has its values.
Status Replayer::ChangeInline(Keyspace::Shard& shard, uint64_t hash, const LimitPayload& limit) {
  Counter* const counter = keyspace_->Find(shard, hash, limit.key);
  if (counter == nullptr) return Status();
  if (counter->kind != LimitKind::kInline) return Nonsense("an inline limit of another kind");
  keyspace_->ConfigureInline(shard, counter, std::make_unique<LimitConfig>(limit.config),
                             limit.time_ns);
  return Status();
}

Status Replayer::ApplyKeyed(const Record& record) {
  LimitPayload limit;
  if (!DecodeKeyed(record.payload, &limit)) return Nonsense("a record that cannot be read");
  SawTime(limit.time_ns);
  const bool removed = record.type == RecordType::kLimitRemoved;
  if (limit.kind == LimitKind::kTemplate) {
    keyspace_->AssumeAlone();
    Template* subject = keyspace_->templates().Find(limit.key, limit.name);
    if (subject == nullptr) return Nonsense("a template that does not exist");
    if (removed) {
      keyspace_->RemoveTemplate(subject, limit.time_ns);
      UnbindGone();
    } else {
      keyspace_->ResetTemplate(subject, limit.time_ns);
    }
    return Status();
  }
  const uint64_t hash = keyspace_->Hash(limit.key);
  Keyspace::Shard& shard = keyspace_->ShardOf(hash);
  shard.AssumeHeld();
  Counter* counter = keyspace_->Find(shard, hash, limit.key, limit.name);
  // What is fresh may have been forgotten before, and kind 0 also stands for a counter where
  // Flint 1.0.0 has written it.
  if (counter == nullptr) return Status();
  if (removed) {
    bound_.Unbind(counter);
    keyspace_->RemoveExact(shard, counter);
    EndUncovered(shard, hash, limit.key);
  } else {
    keyspace_->ResetExact(shard, counter, limit.time_ns);
  }
  return Status();
}

// What a change of a template has ended is erased as soon as anyone looks for it.
void Replayer::UnbindGone() {
  bound_.UnbindIf([this](Counter* counter) { return !keyspace_->templates().CatchUp(counter); });
}

void Replayer::EndUncovered(Keyspace::Shard& shard, uint64_t hash, std::string_view key) {
  keyspace_->EndUncovered(shard, hash, key, [this](Counter* counter) { bound_.Unbind(counter); });
}

Counter* Replayer::Bound(uint32_t id) {
  Counter* const counter = bound_.Find(id);
  return counter != nullptr && keyspace_->templates().CatchUp(counter) ? counter : nullptr;
}

Status Replayer::Admit(uint32_t id, int64_t at_ns, uint64_t cost) {
  Counter* counter = Bound(id);
  if (counter == nullptr) return Nonsense("an admission of an unknown key");
  if (cost < 1 || cost > counter->config->burst) return Nonsense("an admission out of bounds");
  SawTime(at_ns);
  keyspace_->Admitted(counter, at_ns, cost);
  return Status();
}

Status Replayer::ApplyAllow(const Record& record) {
  int64_t at_ns = 0;
  uint64_t cost = 0;
  if (!DecodeAllow(record.payload, &at_ns, &cost)) return Nonsense("an unreadable admission");
  return Admit(record.id, at_ns, cost);
}

Status Replayer::ApplyAllowAll(const Record& record) {
  const AllowAllReader reader(record.payload);
  if (!reader.valid()) return Nonsense("an unreadable admission");
  for (uint32_t i = 0; i < reader.count(); ++i) {
    const AllowAllItem item = reader.item(i);
    FLINT_RETURN_IF_ERROR(Admit(item.id, reader.time_ns(), item.cost));
  }
  return Status();
}

Status Replayer::ApplyDeny(const Record& record) {
  Denials deny;
  Counter* counter = Bound(record.id);
  if (!Decode(record.payload, &deny)) return Nonsense("an unreadable denial");
  if (counter == nullptr) return Nonsense("a denial of an unknown key");
  SawTime(deny.time_ns);
  keyspace_->Denied(counter, deny);
  return Status();
}

}  // namespace flint
