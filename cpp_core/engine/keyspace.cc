#include "engine/keyspace.h"

#include <algorithm>
#include <utility>

#include "engine/key_hash.h"

namespace flint {
namespace {

constexpr size_t kMaxTemplateJournal = 1024;
constexpr uint32_t kSlotsPerCounter = 2;
constexpr int64_t kLingerNs = 100'000'000;
constexpr size_t kSlotsToChooseFrom = 16;

}  // namespace

Keyspace::Keyspace() : hash_secret_(kHashSecretBytes) {}

Status Keyspace::DrawHashSecret(Env* env) {
  return env->Random(hash_secret_.data(), hash_secret_.size());
}

// Clang does not follow locks in an array.
bool Keyspace::AllShards::Lock(bool no_wait) {
  for (size_t i = 0; i < kShards; ++i) {
    if (shards_[i].Lock(no_wait)) continue;
    Unlock(i);
    return false;
  }
  return true;
}

void Keyspace::AllShards::Unlock(size_t count) {
  for (size_t i = 0; i < count; ++i) shards_[i].mutex.unlock();
}

uint64_t Keyspace::Hash(std::string_view key) const { return HashOf(key, hash_secret_); }

void Keyspace::CountAdded(const Counter& counter) {
  if (counter.parent() != nullptr) {
    counter.parent()->counters.fetch_add(1, std::memory_order_relaxed);
  } else {
    limits_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Keyspace::CountGone(const Counter& counter) {
  FLINT_ASSERT(!counter.ephemeral() || keys_.load() > 0);
  if (counter.ephemeral()) keys_.fetch_sub(1, std::memory_order_relaxed);
  if (counter.parent() == nullptr) {
    FLINT_ASSERT(limits_.load() > 0);
    limits_.fetch_sub(1, std::memory_order_relaxed);
  } else {
    FLINT_ASSERT(counter.parent()->counters.load() > 0);
    counter.parent()->counters.fetch_sub(1, std::memory_order_relaxed);
  }
}

bool Keyspace::TakeKey() {
  const uint64_t before = keys_.fetch_add(1, std::memory_order_relaxed);
  if (max_keys_ == 0 || before < max_keys_) [[likely]]
    return true;
  keys_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

bool Keyspace::Places::Take(size_t wanted) {
  wanted_ = wanted;
  while (held_ < wanted && keyspace_->TakeKey()) ++held_;
  return held_ >= wanted;
}

void Keyspace::Places::TakeOver() {
  keyspace_->CountKey();
  ++held_;
}

Counter* Keyspace::Add(Shard& shard, uint64_t hash, CounterPointer counter) {
  counter->template_epoch = templates_.epoch();
  if (counter->ephemeral()) {
    shard.slots_due += kSlotsPerCounter;
    shard.uses_to_sweep = 0;
  }
  const bool named = any_names();
  counter->plain = !named && counter->kind != LimitKind::kInline;
  FLINT_ASSERT(named || counter->name_bytes == 0);
  FLINT_ASSERT(shard.table.Find(hash, counter->key(), counter->name()) == nullptr);
  SearchAnew(shard);
  Counter* added = shard.table.Insert(hash, std::move(counter));
  CountAdded(*added);
  if (named) NoteOthers(shard, hash, added->key());
  return added;
}

void Keyspace::SeeName(std::string_view name, const LimitConfig& config) {
  if (!name.empty() || config.stack) any_names_.store(true, std::memory_order_relaxed);
}

// A check that comes across one of several limits has to look for the others.
void Keyspace::NoteOthers(Shard& shard, uint64_t hash, std::string_view key) {
  size_t count = 0;
  bool plain = !templates_.several();
  shard.table.ForEach(hash, key, [&](const Counter* counter) {
    ++count;
    plain = plain && counter->name_bytes == 0 && counter->kind != LimitKind::kInline &&
            !counter->config->stack;
  });
  plain = plain && count == 1;
  shard.table.ForEach(hash, key, [plain](Counter* counter) { counter->plain = plain; });
}

Counter* Keyspace::Find(Shard& shard, uint64_t hash, std::string_view key, std::string_view name) {
  Counter* const counter = shard.table.Find(hash, key, name);
  if (counter == nullptr || templates_.CatchUp(counter)) return counter;
  Erase(shard, counter);
  return nullptr;
}

std::vector<Counter*> Keyspace::FindAll(Shard& shard, uint64_t hash, std::string_view key) {
  std::vector<Counter*> all;
  std::vector<Counter*> gone;
  shard.table.ForEach(hash, key, [&](Counter* counter) {
    (templates_.CatchUp(counter) ? all : gone).push_back(counter);
  });
  for (Counter* const counter : gone) Erase(shard, counter);
  std::sort(all.begin(), all.end(),
            [](const Counter* a, const Counter* b) { return a->name() < b->name(); });
  return all;
}

// An inline limit in use decides alone until it is fresh, as limits that come later find it.
void Keyspace::FindApplying(Shard& shard, uint64_t hash, std::string_view key, int64_t now_ns,
                            Applying* applying) {
  auto& limits = applying->limits;
  bool stacks = false;
  Counter* alone = nullptr;
  shard.table.ForEach(hash, key, [&](Counter* counter) {
    if (counter->kind == LimitKind::kInline && !counter->Forgettable(now_ns)) alone = counter;
    if (counter->kind != LimitKind::kExact) return;
    limits.push_back({counter->name(), counter->config, nullptr, counter});
    stacks = stacks || counter->config->stack;
  });
  if (alone != nullptr) {
    limits.clear();
    limits.push_back({alone->name(), alone->config, nullptr, alone});
    return;
  }
  std::sort(limits.begin(), limits.end(),
            [](const Applying::One& a, const Applying::One& b) { return a.name < b.name; });
  const size_t own = limits.size();
  if (own > 0 && !stacks) return;
  templates_.ForEachApplying(key, [&](Template* subject) {
    const auto same_name = [subject](const Applying::One& one) {
      return one.name == subject->name;
    };
    if (std::any_of(limits.begin(), limits.begin() + own, same_name)) return;
    applying->too_many = limits.full();
    if (applying->too_many) return;
    shard.mutex.AssertHeld();
    Counter* const counter = Find(shard, hash, key, subject->name);
    FLINT_ASSERT(counter == nullptr || counter->kind != LimitKind::kCounter ||
                 counter->parent() == subject);
    limits.push_back({subject->name, subject->config, subject, counter});
  });
}

std::vector<Counter*> Keyspace::Uncovered(Shard& shard, uint64_t hash, std::string_view key) {
  bool own = false;
  bool stacks = false;
  std::vector<Counter*> others;
  for (Counter* const counter : FindAll(shard, hash, key)) {
    if (counter->kind == LimitKind::kExact) {
      own = true;
      stacks = stacks || counter->config->stack;
    } else {
      others.push_back(counter);
    }
  }
  if (!own) return {};
  if (stacks) {
    std::erase_if(others, [](const Counter* counter) { return counter->parent() != nullptr; });
  }
  return others;
}

Counter* Keyspace::CreateCounter(Shard& shard, uint64_t hash, std::string_view key,
                                 Template* parent) {
  CounterPointer counter(Counter::Create(key, static_cast<uint32_t>(hash), parent->name));
  counter->kind = LimitKind::kCounter;
  counter->config = parent->config;
  return Add(shard, hash, std::move(counter));
}

Counter* Keyspace::CreateInline(Shard& shard, uint64_t hash, std::string_view key,
                                const LimitConfig& config) {
  CounterPointer counter(Counter::Create(key, static_cast<uint32_t>(hash)));
  counter->kind = LimitKind::kInline;
  counter->config = new LimitConfig(config);
  return Add(shard, hash, std::move(counter));
}

void Keyspace::Erase(Shard& shard, Counter* counter) {
  if (!shard.merged.empty()) shard.merged.erase(counter);
  CountGone(*counter);
  shard.table.Erase(counter);
  // Others have moved into the gap. What is known of all of them stays true.
  RestartSearch(shard);
}

uint64_t Keyspace::counters() const {
  uint64_t counters = 0;
  for (const auto& entry : templates_.all()) {
    counters += entry.second->counters.load(std::memory_order_relaxed);
  }
  return counters;
}

void Keyspace::AwaitHolders() {
  for (Shard& shard : shards_) {
    const MutexLock lock(shard.mutex);
  }
}

int64_t Keyspace::NowInAll(EngineClock* clock) {
  int64_t now_ns = clock->NowAnew();
  for (const Shard& shard : shards_) {
    shard.AssumeHeld();
    now_ns = std::max(now_ns, shard.last_ns);
  }
  StartTimeAt(now_ns);
  return now_ns;
}

void Keyspace::StartTimeAt(int64_t now_ns) {
  for (Shard& shard : shards_) {
    shard.AssumeHeld();
    shard.last_ns = now_ns;
  }
}

int64_t Keyspace::TimeFloor(EngineClock* clock) {
  const int64_t now_ns = clock->Now();
  for (Shard& shard : shards_) {
    const MutexLock lock(shard.mutex);
    shard.last_ns = std::max(shard.last_ns, now_ns);
  }
  return now_ns;
}

void Keyspace::NoteConfigured(uint64_t ticket) {
  uint64_t newest = configured_at_.load(std::memory_order_relaxed);
  while (newest < ticket &&
         !configured_at_.compare_exchange_weak(newest, ticket, std::memory_order_relaxed)) {
  }
}

// ---- Forgetting --------------------------------------------------------------------------------

void Keyspace::Sweep(Shard& shard, int64_t now_ns) {
  shard.uses_to_sweep = kUsesPerSlot - 1;
  shard.slots_due = std::max(shard.slots_due, uint32_t{1});
  for (; shard.slots_due > 0; --shard.slots_due) {
    if (shard.sweep_slot >= shard.table.slots()) shard.sweep_slot = 0;
    if (shard.table.slots() == 0) continue;
    // What closed the gap that an erased counter left has to be looked at too.
    if (!SweepSlot(shard, now_ns, kLingerNs)) ++shard.sweep_slot;
  }
}

// Whether the sweep erased what it found. `linger_ns`: what was used so recently stays, since it
// is likely to be used again and making it anew costs more than keeping it.
bool Keyspace::SweepSlot(Shard& shard, int64_t now_ns, int64_t linger_ns) {
  Counter* counter = shard.table.at(shard.sweep_slot);
  return counter != nullptr && ForgetIfFresh(shard, counter, now_ns, linger_ns);
}

// What has merged denials stays: they are told of first.
bool Keyspace::ForgetIfFresh(Shard& shard, Counter* counter, int64_t now_ns, int64_t linger_ns) {
  if (!counter->ephemeral() || shard.merged.count(counter) != 0) return false;
  if (templates_.CatchUp(counter)) {
    if (counter->totals.last_allowed_ns > now_ns - linger_ns) return false;
    if (!counter->Forgettable(now_ns)) return false;
    Forget(counter);
  }
  Erase(shard, counter);
  return true;
}

void Keyspace::SweepAll(int64_t now_ns) {
  for (Shard& shard : shards_) {
    shard.AssumeHeld();
    for (size_t slot = 0; slot < shard.table.slots();) {
      const uint32_t layout = shard.table.layouts();
      shard.sweep_slot = slot;
      if (!SweepSlot(shard, now_ns, 0)) {
        ++slot;
      } else if (layout != shard.table.layouts()) {
        slot = 0;
      }
    }
    shard.sweep_slot = 0;
  }
}

// ---- Making room -------------------------------------------------------------------------------

bool Keyspace::ForgetOne(Shard& shard, int64_t now_ns, size_t* looks) {
  for (; shard.slots_searched < shard.table.slots(); ++shard.slots_searched) {
    if (shard.search_slot >= shard.table.slots()) shard.search_slot = 0;
    Counter* const counter = shard.table.at(shard.search_slot);
    if (counter != nullptr) {
      if (*looks == 0) return false;
      if (ForgetIfFresh(shard, counter, now_ns, 0)) return true;
      --*looks;
      shard.search_fresh_ns = std::min(shard.search_fresh_ns, FreshFromNs(shard, counter, now_ns));
    }
    ++shard.search_slot;
  }
  LowestFreshNs(shard).store(shard.search_fresh_ns, std::memory_order_relaxed);
  RestartSearch(shard);
  return false;
}

// No later than when it becomes fresh, if nothing but admissions happens to it.
int64_t Keyspace::FreshFromNs(const Shard& shard, Counter* counter, int64_t now_ns) {
  if (!counter->ephemeral()) return INT64_MAX;
  if (shard.merged.count(counter) != 0) return now_ns;
  const uint64_t after_ns = ResetAfterNs(*counter->config, counter->state, now_ns);
  return static_cast<int64_t>(
      std::min<uint64_t>(static_cast<uint64_t>(now_ns) + after_ns, INT64_MAX));
}

// After what may make a counter fresh earlier than has been seen.
void Keyspace::SearchAnew(Shard& shard) {
  RestartSearch(shard);
  LowestFreshNs(shard).store(0, std::memory_order_relaxed);
}

void Keyspace::SearchAllAnew() {
  if (max_keys_ == 0) return;
  for (Shard& shard : shards_) {
    shard.AssumeHeld();
    SearchAnew(shard);
  }
}

Counter* Keyspace::LeastUsed(Shard& shard, int64_t now_ns, uint64_t* left_ns, size_t* seen) {
  Counter* least = nullptr;
  const size_t looks = std::min(kSlotsToChooseFrom, shard.table.slots());
  for (size_t look = 0; look < looks; ++look) {
    if (shard.sweep_slot >= shard.table.slots()) shard.sweep_slot = 0;
    Counter* const counter = shard.table.at(shard.sweep_slot++);
    if (counter == nullptr || !counter->ephemeral() || !templates_.CatchUp(counter)) continue;
    ++*seen;
    const uint64_t reset_ns = ResetAfterNs(*counter->config, counter->state, now_ns);
    if (least != nullptr && reset_ns >= *left_ns) continue;
    least = counter;
    *left_ns = reset_ns;
  }
  return least;
}

// ---- Changes -----------------------------------------------------------------------------------

void Keyspace::Denied(Counter* counter, const Denials& deny) {
  FLINT_ASSERT(deny.count >= 1);
  Totals& totals = counter->totals;
  totals.denied += deny.count;
  totals.denied_cost = SaturatingAdd(totals.denied_cost, deny.cost);
  totals.last_denied_ns = std::max(totals.last_denied_ns, deny.time_ns);
}

void Keyspace::ConfigureExact(Shard& shard, uint64_t hash, std::string_view key,
                              std::string_view name, const LimitConfig& config, int64_t at_ns) {
  SeeName(name, config);
  auto made = std::make_unique<LimitConfig>(config);
  Counter* counter = Find(shard, hash, key, name);
  if (counter == nullptr) {
    CounterPointer fresh(Counter::Create(key, static_cast<uint32_t>(hash), name));
    fresh->kind = LimitKind::kExact;
    fresh->config = made.release();
    Add(shard, hash, std::move(fresh));
    return;
  }
  if (counter->Forgettable(at_ns)) Forget(counter);
  counter->state = Migrate(*counter->config, counter->state, config, at_ns);
  CountGone(*counter);
  if (counter->kind != LimitKind::kCounter) delete counter->config;
  counter->config = made.release();
  counter->kind = LimitKind::kExact;
  counter->binding = KeyBinding{};
  CountAdded(*counter);
  NoteOthers(shard, hash, key);
}

void Keyspace::ConfigureInline(Shard& shard, Counter* counter, std::unique_ptr<LimitConfig> config,
                               int64_t at_ns) {
  FLINT_ASSERT(counter->kind == LimitKind::kInline);
  if (counter->Forgettable(at_ns)) Forget(counter);
  counter->state = Migrate(*counter->config, counter->state, *config, at_ns);
  delete counter->config;
  counter->config = config.release();
  counter->binding = KeyBinding{};
  SearchAnew(shard);  // it may be fresh earlier now
}

void Keyspace::RemoveExact(Shard& shard, Counter* counter) {
  if (counter->parent() != nullptr) Forget(counter);
  Erase(shard, counter);
}

void Keyspace::ResetExact(Shard& shard, Counter* counter, int64_t at_ns) {
  FLINT_ASSERT(shard.table.Find(Hash(counter->key()), counter->key(), counter->name()) == counter);
  counter->totals.last_reset_ns = at_ns;
  if (counter->ephemeral()) {
    Forget(counter);
    SearchAnew(shard);
  } else {
    counter->state = State();
  }
}

void Keyspace::ConfigureTemplate(std::string_view prefix, std::string_view name,
                                 const LimitConfig& config, int64_t at_ns) {
  SeeName(name, config);
  if (templates_.Find(prefix, name) == nullptr) limits_.fetch_add(1, std::memory_order_relaxed);
  templates_.Configure(prefix, name, config, at_ns);
  SearchAllAnew();
  BoundTemplateJournal();
}

void Keyspace::RemoveTemplate(Template* removed, int64_t at_ns) {
  FLINT_ASSERT(templates_.Find(removed->prefix, removed->name) == removed);
  limits_.fetch_sub(1, std::memory_order_relaxed);
  templates_.Remove(removed, at_ns);
  SearchAllAnew();
}

void Keyspace::ResetTemplate(Template* reset, int64_t at_ns) {
  FLINT_ASSERT(templates_.Find(reset->prefix, reset->name) == reset);
  Totals totals;
  totals.last_reset_ns = at_ns;
  reset->Absorb(totals);
  templates_.Reset(reset, at_ns);
  SearchAllAnew();
  BoundTemplateJournal();
}

// Rare, so a pause is accepted: after this many changes every counter goes through them at once.
void Keyspace::BoundTemplateJournal() {
  if (templates_.journal_size() < kMaxTemplateJournal) return;
  for (Shard& shard : shards_) {
    shard.AssumeHeld();
    for (size_t slot = 0; slot < shard.table.slots();) {
      Counter* counter = shard.table.at(slot);
      if (counter == nullptr || templates_.CatchUp(counter)) {
        ++slot;
        continue;
      }
      const uint32_t layout = shard.table.layouts();
      Erase(shard, counter);
      if (layout != shard.table.layouts()) slot = 0;
    }
  }
  templates_.ClearJournal();
}

// ---- Snapshots ---------------------------------------------------------------------------------

Status Keyspace::Restore(const SavedLimit& limit, State state) {
  if (limit.kind == LimitKind::kTemplate) {
    if (templates_.Find(limit.key, limit.name) != nullptr) {
      return Status(Code::kCorruption, "a template appears twice");
    }
    limits_.fetch_add(1, std::memory_order_relaxed);
    SeeName(limit.name, limit.config);
    templates_.Configure(limit.key, limit.name, limit.config, 0)->Absorb(limit.totals);
    return Status();
  }
  const uint64_t hash = Hash(limit.key);
  Shard& shard = ShardOf(hash);
  shard.AssumeHeld();
  if (limit.key.empty() || limit.key.size() > UINT16_MAX ||
      Find(shard, hash, limit.key, limit.name) != nullptr) {
    return Status(Code::kCorruption, "a key that is empty, too long or appears twice");
  }
  Counter* counter = nullptr;
  if (limit.kind == LimitKind::kCounter) {
    Template* parent = limit.prefix_bytes > limit.key.size()
                           ? nullptr
                           : templates_.Find(limit.key.substr(0, limit.prefix_bytes), limit.name);
    if (parent == nullptr) return Status(Code::kCorruption, "a counter without its template");
    CountKey();
    counter = CreateCounter(shard, hash, limit.key, parent);
  } else if (limit.kind == LimitKind::kInline) {
    CountKey();
    counter = CreateInline(shard, hash, limit.key, limit.config);
  } else {
    ConfigureExact(shard, hash, limit.key, limit.name, limit.config, 0);
    counter = Find(shard, hash, limit.key, limit.name);
  }
  counter->state = std::move(state);
  counter->totals = limit.totals;
  return Status();
}

// Templates first, so that a reader knows them before their counters.
Status Keyspace::Save(LimitSink* sink, int64_t now_ns) {
  SweepAll(now_ns);
  for (const auto& entry : templates_.all()) {
    SavedLimit saved;
    saved.key = entry.first.prefix;
    saved.name = entry.first.name;
    saved.kind = LimitKind::kTemplate;
    saved.config = *entry.second->config;
    saved.totals = entry.second->Absorbed();
    FLINT_RETURN_IF_ERROR(sink->Add(saved));
  }
  for (const Shard& shard : shards_) {
    shard.AssumeHeld();
    for (size_t slot = 0; slot < shard.table.slots(); ++slot) {
      const Counter* counter = shard.table.at(slot);
      if (counter == nullptr) continue;
      SavedLimit saved;
      saved.key = counter->key();
      saved.name = counter->name();
      saved.kind = counter->kind;
      saved.config = *counter->config;
      if (counter->parent() != nullptr) {
        saved.prefix_bytes = static_cast<uint32_t>(counter->parent()->prefix.size());
      }
      saved.totals = counter->totals;
      saved.state = &counter->state;
      FLINT_RETURN_IF_ERROR(sink->Add(saved));
    }
  }
  return Status();
}

void Keyspace::Swap(Keyspace* other) {
  for (size_t i = 0; i < kShards; ++i) {
    Shard& own = shards_[i];
    Shard& others = other->shards_[i];
    own.AssumeHeld();
    others.AssumeHeld();
    own.table.Swap(&others.table);
    own.merged.swap(others.merged);
  }
  templates_.Swap(&other->templates_);
  const auto exchange = [](std::atomic<uint64_t>* a, std::atomic<uint64_t>* b) {
    b->store(a->exchange(b->load()));
  };
  exchange(&limits_, &other->limits_);
  exchange(&keys_, &other->keys_);
  const bool any_names = any_names_.exchange(other->any_names_.load());
  other->any_names_.store(any_names);
}

}  // namespace flint
