#include "engine/legacy_writer.h"

#include <algorithm>
#include <utility>

#include "algorithms/algorithm.h"

namespace flint {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
// A clock that seems to have gone back by no more than this has not.
constexpr int64_t kOvertakenNs = 1'000'000'000;
// A binding's segment number; there is but one.
constexpr uint32_t kSegment = 1;

Status NoLimit(const LegacyEvent& event) {
  return LegacyDamage(event.file, event.offset, "an event of a key that has no limit");
}

}  // namespace

LegacyWriter::LegacyWriter(const SegmentHeader& header, std::unique_ptr<File> file)
    : generation_(header.generation), file_(std::move(file)), crc_(ChainStart(header.generation)) {}

Status LegacyWriter::Begin(Env* env) {
  FLINT_RETURN_IF_ERROR(keyspace_.DrawHashSecret(env));
  return Append(RecordType::kStart, 0, Encode(StartPayload{}));
}

Status LegacyWriter::Append(RecordType type, uint32_t id, std::string_view payload, uint8_t flags) {
  const uint32_t bytes = RecordBytes(payload.size());
  const size_t at = buffer_.size();
  buffer_.resize(at + bytes);
  crc_ = BuildRecord(buffer_.data() + at, crc_, generation_, ++sequence_, type, flags, id, payload);
  return buffer_.size() < kBufferBytes ? Status() : WriteOut();
}

Status LegacyWriter::WriteOut() {
  digest_.Update(buffer_.data(), buffer_.size());
  FLINT_RETURN_IF_ERROR(
      file_->Write(kSegmentHeaderBytes + written_, buffer_.data(), buffer_.size()));
  written_ += buffer_.size();
  buffer_.clear();
  return Status();
}

// ---- Time --------------------------------------------------------------------------------------

Status LegacyWriter::CheckTime() const {
  if (engine_ns_ <= static_cast<int64_t>(kMaxQuantity)) return Status();
  return Status(Code::kUnsupported, "the times of Flint 0.1 or 0.2 go beyond the year 2116");
}

// The boot is unknown: time since then is taken from the wall clock.
Status LegacyWriter::AppendClock() {
  FLINT_RETURN_IF_ERROR(CheckTime());
  has_clock_ = true;
  return Append(RecordType::kClock, 0, Encode(ClockPayload{{engine_ns_, 0, wall_ns_}, BootId{}}));
}

// Goes to an event's wall time.
Status LegacyWriter::SetTime(int64_t at_ns) {
  const int64_t elapsed_ns = has_clock_ ? at_ns - wall_ns_ : at_ns;
  engine_ns_ += std::max<int64_t>(elapsed_ns, 0);
  wall_ns_ = at_ns;
  if (elapsed_ns < 0 || !has_clock_) return AppendClock();
  return CheckTime();
}

// In engine time the event happened later than its wall time tells.
Status LegacyWriter::Delay(int64_t at_ns, int64_t time_ns, uint64_t delay_ns) {
  engine_ns_ = std::max(engine_ns_, time_ns + static_cast<int64_t>(delay_ns));
  wall_ns_ = at_ns;
  return AppendClock();
}

// Today's log, and so a dump, is not quite in order of time: threads overtake each other, and
// merged denials wait for a sync. That is no clock going back.
bool LegacyWriter::IsSlightlyBehind(const LegacyEvent& event, int64_t after_ns,
                                    int64_t* time_ns) const {
  const int64_t behind_ns = wall_ns_ - event.at_ns;
  *time_ns = engine_ns_ - behind_ns;
  return has_clock_ && behind_ns > 0 && (behind_ns <= kOvertakenNs || event.count > 1) &&
         *time_ns >= after_ns;
}

// The engine time of an event that may not come before `after_ns`.
Status LegacyWriter::TimeOf(const LegacyEvent& event, int64_t after_ns, int64_t* time_ns) {
  if (IsSlightlyBehind(event, after_ns, time_ns)) return Status();
  FLINT_RETURN_IF_ERROR(SetTime(event.at_ns));
  *time_ns = engine_ns_;
  return Status();
}

int64_t LegacyWriter::ChangedAt(const Counter& counter) const {
  const auto changed = changed_.find(std::string(counter.key()));
  const int64_t changed_ns = changed == changed_.end() ? 0 : changed->second;
  return std::max({changed_ns, template_changed_ns_, counter.totals.last_allowed_ns});
}

void LegacyWriter::NoteChanged(const LegacyItem& item) {
  if (item.kind == LimitKind::kTemplate) {
    template_changed_ns_ = engine_ns_;
  } else {
    changed_[item.key] = engine_ns_;
    ++added_;
  }
}

Status LegacyWriter::Add(LegacyEvent event, LegacyFindings* findings) {
  if (event.at_ns == kUnknownTime) event.at_ns = event.first_ns = wall_ns_;
  ++events_;
  Sweep();
  switch (event.type) {
    case RecordType::kLimitConfigured:
      return Configure(event);
    case RecordType::kLimitRemoved:
    case RecordType::kReset:
      return End(event);
    case RecordType::kDeny:
      return AddDeny(event, findings);
    default:
      return Admit(event, findings);
  }
}

// Counters and inline limits that are back to their start need no longer be known. Their number
// doubles between two sweeps.
void LegacyWriter::Sweep() {
  if (added_ < sweep_at_) return;
  keyspace_.AssumeAlone();
  keyspace_.SweepAll(engine_ns_);
  std::erase_if(changed_,
                [this](const auto& entry) { return entry.second < engine_ns_ - kOvertakenNs; });
  sweep_at_ = std::max(keyspace_.limits() + keyspace_.counters() + changed_.size(), kSweepAtLeast);
  added_ = 0;
}

// ---- Limits ------------------------------------------------------------------------------------

Status LegacyWriter::Configure(const LegacyEvent& event) {
  FLINT_RETURN_IF_ERROR(SetTime(event.at_ns));
  const LegacyItem& item = event.items[0];
  if (!Change(item)) return Status();
  NoteChanged(item);
  const LimitPayload payload{engine_ns_, item.config, item.kind, item.key, item.name};
  return Append(event.type, 0, EncodeConfigured(payload));
}

// False when nothing has changed.
bool LegacyWriter::Change(const LegacyItem& item) {
  if (item.kind == LimitKind::kTemplate) {
    keyspace_.AssumeAlone();
    keyspace_.ConfigureTemplate(item.key, item.name, item.config, engine_ns_);
    return true;
  }
  const uint64_t hash = keyspace_.Hash(item.key);
  Keyspace::Shard& shard = keyspace_.ShardOf(hash);
  shard.AssumeHeld();
  if (item.kind != LimitKind::kInline) {
    keyspace_.ConfigureExact(shard, hash, item.key, item.name, item.config, engine_ns_);
    keyspace_.EndUncovered(shard, hash, item.key, [](Counter*) {});
    return true;
  }
  // Other values for an inline limit whose uses are not known change nothing: the next use has them
  // too.
  Counter* const counter = keyspace_.Find(shard, hash, item.key, item.name);
  if (counter == nullptr || counter->kind != LimitKind::kInline) return false;
  keyspace_.ConfigureInline(shard, counter, std::make_unique<LimitConfig>(item.config), engine_ns_);
  return true;
}

// RESET and LIMIT_REMOVED. What has no limit has nothing to lose: its record is left out.
Status LegacyWriter::End(const LegacyEvent& event) {
  const LegacyItem& item = event.items[0];
  const bool removed = event.type == RecordType::kLimitRemoved;
  if (item.kind == LimitKind::kTemplate) {
    Template* const subject = keyspace_.templates().Find(item.key, item.name);
    if (subject == nullptr) return Status();
    FLINT_RETURN_IF_ERROR(SetTime(event.at_ns));
    keyspace_.AssumeAlone();
    if (removed) {
      keyspace_.RemoveTemplate(subject, engine_ns_);
    } else {
      keyspace_.ResetTemplate(subject, engine_ns_);
    }
  } else {
    const uint64_t hash = keyspace_.Hash(item.key);
    Keyspace::Shard& shard = keyspace_.ShardOf(hash);
    shard.AssumeHeld();
    Counter* const counter = keyspace_.Find(shard, hash, item.key, item.name);
    if (counter == nullptr) return Status();
    FLINT_RETURN_IF_ERROR(SetTime(event.at_ns));
    if (removed) {
      keyspace_.RemoveExact(shard, counter);
      keyspace_.EndUncovered(shard, hash, item.key, [](Counter*) {});
    } else {
      keyspace_.ResetExact(shard, counter, engine_ns_);
    }
  }
  NoteChanged(item);
  const LimitKind kind =
      item.kind == LimitKind::kTemplate ? LimitKind::kTemplate : LimitKind::kExact;
  return Append(event.type, 0, EncodeKeyed({engine_ns_, {}, kind, item.key, item.name}));
}

// ---- Uses --------------------------------------------------------------------------------------

// Finds an item's limit; a counter or an inline limit begins with its first use.
Status LegacyWriter::Find(const LegacyEvent& event, const LegacyItem& item, Counter** counter) {
  const uint64_t hash = keyspace_.Hash(item.key);
  Keyspace::Shard& shard = keyspace_.ShardOf(hash);
  shard.AssumeHeld();
  Counter* const standing = keyspace_.Find(shard, hash, item.key, item.name);
  const bool has_exact = standing != nullptr && !standing->ephemeral();
  if (has_exact != (item.kind == LimitKind::kExact)) return NoLimit(event);
  *counter = standing;
  if (has_exact) return Status();
  Template* parent = nullptr;
  if (item.kind == LimitKind::kCounter) {
    const std::string_view prefix = std::string_view(item.key).substr(0, item.prefix_bytes);
    parent = keyspace_.templates().Find(prefix, item.name);
    if (parent == nullptr) return NoLimit(event);
  }
  const bool same =
      standing != nullptr && standing->kind == item.kind &&
      (parent != nullptr ? standing->parent() == parent : standing->config->SameAs(item.config));
  if (same) return Status();
  if (standing != nullptr) {
    Forget(standing);
    keyspace_.Erase(shard, standing);
  }
  ++added_;
  keyspace_.CountKey();
  *counter = parent == nullptr ? keyspace_.CreateInline(shard, hash, item.key, item.config)
                               : keyspace_.CreateCounter(shard, hash, item.key, parent);
  return Status();
}

Status LegacyWriter::BindKey(Counter* counter) {
  if (counter->binding.id != 0) return Status();
  counter->binding = {kSegment, next_id_++};
  KeyPayload payload;
  payload.config = *counter->config;
  payload.kind = counter->kind;
  if (counter->parent() != nullptr) {
    payload.prefix_bytes = static_cast<uint32_t>(counter->parent()->prefix.size());
  }
  payload.key = counter->key();
  payload.name = counter->name();
  return Append(RecordType::kKey, counter->binding.id, Encode(payload));
}

// Finds the items' limits, gives them ids, and brings the costs into the limits' bounds.
Status LegacyWriter::Prepare(const LegacyEvent& event, LegacyFindings* findings,
                             std::vector<Use>* uses) {
  for (const LegacyItem& item : event.items) {
    Counter* counter = nullptr;
    FLINT_RETURN_IF_ERROR(Find(event, item, &counter));
    const uint64_t most = event.count > 1 ? UINT64_MAX : counter->config->burst;
    const uint64_t cost = std::clamp<uint64_t>(item.cost, 1, most);
    if (cost != item.cost) findings->clamped = true;
    uses->push_back({counter, cost});
    FLINT_RETURN_IF_ERROR(BindKey(counter));
  }
  return Status();
}

Status LegacyWriter::AddDeny(const LegacyEvent& event, LegacyFindings* findings) {
  std::vector<Use> uses;
  FLINT_RETURN_IF_ERROR(Prepare(event, findings, &uses));
  Denials deny;
  FLINT_RETURN_IF_ERROR(TimeOf(event, 0, &deny.time_ns));
  deny.cost = uses[0].cost;
  deny.count = event.count;
  deny.first_ns = std::max<int64_t>(deny.time_ns - (event.at_ns - event.first_ns), 0);
  return Append(event.type, uses[0].counter->binding.id, Encode(deny));
}

// ALLOW and ALLOW_ALL.
Status LegacyWriter::Admit(const LegacyEvent& event, LegacyFindings* findings) {
  std::vector<Use> uses;
  FLINT_RETURN_IF_ERROR(Prepare(event, findings, &uses));
  int64_t after_ns = 0;
  for (const Use& use : uses) after_ns = std::max(after_ns, ChangedAt(*use.counter));
  int64_t time_ns = 0;
  FLINT_RETURN_IF_ERROR(TimeOf(event, after_ns, &time_ns));
  // What fits goes on fitting as time passes, so one item's delay after the other is enough.
  for (const Use& use : uses) {
    const Counter& counter = *use.counter;
    const uint64_t delay_ns = RetryAfterNs(*counter.config, counter.state, time_ns, use.cost);
    if (delay_ns == 0) continue;
    FLINT_RETURN_IF_ERROR(Delay(event.at_ns, time_ns, delay_ns));
    time_ns = engine_ns_;
  }
  for (const Use& use : uses) keyspace_.Admitted(use.counter, time_ns, use.cost);
  if (event.type == RecordType::kAllowAll) return AppendAllowAll(event, uses, time_ns);
  Denials allow;  // an ALLOW has the same payload
  allow.time_ns = time_ns;
  allow.cost = uses[0].cost;
  return Append(event.type, uses[0].counter->binding.id, Encode(allow));
}

Status LegacyWriter::AppendAllowAll(const LegacyEvent& event, const std::vector<Use>& uses,
                                    int64_t time_ns) {
  std::string payload(AllowAllBytes(uses.size()), '\0');
  if (RecordBytes(payload.size()) > kMaxRecordBytes) {
    return LegacyDamage(event.file, event.offset, "an ALLOW_ALL of too many items");
  }
  EncodeAllowAll(payload.data(), time_ns, static_cast<uint32_t>(uses.size()));
  bool one_key = uses.size() > 1;
  for (uint32_t index = 0; index < uses.size(); ++index) {
    const Counter& counter = *uses[index].counter;
    EncodeAllowAllItem(payload.data(), index, {counter.binding.id, uses[index].cost});
    one_key = one_key && counter.key() == uses[0].counter->key();
  }
  return Append(event.type, 0, payload, one_key ? kFlagOneKey : uint8_t{0});
}

Status LegacyWriter::Finish() {
  FLINT_RETURN_IF_ERROR(AppendClock());
  FLINT_RETURN_IF_ERROR(WriteOut());
  SealPayload seal;
  seal.generation = generation_;
  seal.end = written_;
  seal.digest = digest_.Final();
  seal.clock = ClockPair{engine_ns_, 0, wall_ns_};
  digest_.Reset();
  FLINT_RETURN_IF_ERROR(Append(RecordType::kSeal, 0, Encode(seal)));
  FLINT_RETURN_IF_ERROR(WriteOut());
  return file_->Sync();
}

}  // namespace flint
