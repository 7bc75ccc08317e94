#include "engine/listing.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "engine/key.h"

namespace flint {
namespace {

constexpr uint64_t kRunShare = 8;      // of the keys, one in so many
constexpr size_t kKeyBytesInRun = 64;  // for each key, on average
constexpr size_t kMaxRuns = 4;         // listings that go on side by side
constexpr int64_t kMaxRunAgeNs = 10'000'000'000;

using Position = Listing::Position;

// By key, then kind, then name.
bool ComesBefore(const Position& a, const Position& b) {
  return std::tie(a.key, a.kind, a.name) < std::tie(b.key, b.kind, b.name);
}

struct Name {
  std::string key;
  LimitKind kind;
  std::string name;

  Position position() const { return {key, kind, name}; }
};

Position PositionOf(const LimitStatus& status) { return {status.key, status.kind, status.name}; }

uint64_t Total(const Totals& totals, TopBy by) {
  switch (by) {
    case TopBy::kDenied:
      return totals.denied;
    case TopBy::kAllowed:
      return totals.allowed;
    case TopBy::kDeniedCost:
      return totals.denied_cost;
    case TopBy::kAllowedCost:
      return totals.allowed_cost;
  }
  return 0;
}

}  // namespace

// What templates and their counters have counted together, with stamps of the wall clock.
struct Listing::TemplateSums {
  struct Sum {
    Totals totals;
    uint64_t counters = 0;
  };

  void Begin(std::string_view prefix, std::string_view name) {
    Totals& totals = of[{std::string(prefix), std::string(name)}].totals;
    totals.last_allowed_ns = totals.last_denied_ns = totals.last_reset_ns = 0;
  }

  std::map<TemplateSet::Id, Sum, TemplateSet::Before> of;
};

// The names that follow a position, in order, and what their templates had counted when it was
// made.
struct Listing::SortedRun {
  bool Covers(const Position& after) const {
    const bool behind_start = from_start || !ComesBefore(after, from.position());
    return behind_start && (to_end || ComesBefore(after, names.back().position()));
  }
  bool OlderThan(uint64_t age_ns, int64_t now_ns) const {
    return now_ns - begun_ns > static_cast<int64_t>(age_ns);  // begun a moment later elsewhere
  }

  // While it is made: names come in any order, and those that it has no room for go again.
  bool Wants(const Position& name) const {
    return (from_start || ComesBefore(from.position(), name)) &&
           (to_end || ComesBefore(name, names[kept - 1].position()));
  }
  void Add(const Position& name) {
    names.push_back({std::string(name.key), name.kind, std::string(name.name)});
    key_bytes += name.key.size() + name.name.size();
  }
  bool MuchTooLarge() const {
    return names.size() > 2 * max_names || key_bytes > 2 * max_names * kKeyBytesInRun;
  }
  void SortAndTrim() {
    std::sort(names.begin(), names.end(),
              [](const Name& a, const Name& b) { return ComesBefore(a.position(), b.position()); });
    kept = 0;
    key_bytes = 0;
    while (kept < names.size() && kept < max_names && key_bytes <= max_names * kKeyBytesInRun) {
      key_bytes += names[kept].key.size() + names[kept].name.size();
      ++kept;
    }
    if (kept == names.size()) return;
    to_end = false;
    names.resize(kept);
  }

  uint64_t number = 0;
  int64_t begun_ns = 0;
  bool all_counters = false;
  bool from_start = true;
  Name from{};  // or behind this
  bool to_end = true;
  std::vector<Name> names;
  TemplateSums templates;

  size_t max_names = 0;
  size_t kept = 0;
  size_t key_bytes = 0;
};

// ---- One limit ---------------------------------------------------------------------------------

int64_t Listing::WallFromEngine(int64_t engine_ns, int64_t now_ns) const {
  if (engine_ns == kNever) return 0;
  return std::max<int64_t>(clock_->WallNs() - (now_ns - engine_ns), 0);
}

Totals Listing::WithWallTimes(Totals totals, int64_t now_ns) const {
  totals.last_allowed_ns = WallFromEngine(totals.last_allowed_ns, now_ns);
  totals.last_denied_ns = WallFromEngine(totals.last_denied_ns, now_ns);
  totals.last_reset_ns = WallFromEngine(totals.last_reset_ns, now_ns);
  return totals;
}

void Listing::FillStatus(const Counter& counter, int64_t now_ns, LimitStatus* status) const {
  const LimitConfig& config = *counter.config;
  status->kind = counter.kind;
  status->key = counter.key();
  status->name = counter.name();
  status->config = config;
  status->remaining = Remaining(config, counter.state, now_ns);
  const uint64_t reset_after_ns = ResetAfterNs(config, counter.state, now_ns);
  const auto wall_ns = static_cast<uint64_t>(clock_->WallNs());
  status->reset_at_ns =
      static_cast<int64_t>(std::min<uint64_t>(wall_ns + reset_after_ns, INT64_MAX));
  status->totals = counter.Forgettable(now_ns) ? Totals{} : counter.totals;
  status->totals = WithWallTimes(status->totals, now_ns);
}

// Without totals, which are its counters' too.
void Listing::FillTemplate(const Template& subject, LimitStatus* status) const {
  status->kind = LimitKind::kTemplate;
  status->key = subject.prefix;
  status->name = subject.name;
  status->config = *subject.config;
  status->remaining = subject.config->burst;
  status->reset_at_ns = clock_->WallNs();
}

Status Listing::StatusOf(LimitKind kind, std::string_view key, std::string_view name,
                         LimitStatus* status) {
  return kind == LimitKind::kTemplate ? StatusOfTemplate(key, name, status)
                                      : StatusOfKey(key, name, status);
}

// Where there is no counter yet, the limit that would apply.
Status Listing::StatusOfKey(std::string_view key, std::string_view name, LimitStatus* status) {
  const uint64_t hash = keyspace_->Hash(key);
  Keyspace::Shard& shard = keyspace_->ShardOf(hash);
  const MutexLock lock(shard.mutex);
  const int64_t now_ns = Keyspace::NowIn(shard, clock_);
  Counter* counter = keyspace_->Find(shard, hash, key, name);
  if (counter != nullptr && counter->Forgettable(now_ns)) counter = nullptr;
  CounterPointer imagined;
  if (counter == nullptr && CheckKey(key).ok()) {
    Keyspace::Applying applying;
    keyspace_->FindApplying(shard, hash, key, now_ns, &applying);
    for (const Keyspace::Applying::One& limit : applying.limits) {
      if (limit.name != name || limit.parent == nullptr) continue;
      imagined.reset(Counter::Create(key, 0, name));
      imagined->kind = LimitKind::kCounter;
      imagined->config = limit.config;
      counter = imagined.get();
    }
  }
  if (counter == nullptr) return NotConfigured(LimitKind::kExact, key, name);
  *status = LimitStatus();
  FillStatus(*counter, now_ns, status);
  return Status();
}

Status Listing::StatusOfTemplate(std::string_view prefix, std::string_view name,
                                 LimitStatus* status) {
  LimitStatus found;
  {
    const MutexLock lock(keyspace_->shards()[0].mutex);
    const Template* subject = keyspace_->templates().Find(prefix, name);
    if (subject == nullptr) return NotConfigured(LimitKind::kTemplate, prefix, name);
    FillTemplate(*subject, &found);
  }
  TemplateSums sums;
  sums.Begin(prefix, name);
  for (Keyspace::Shard& shard : keyspace_->shards()) {
    WalkShard(shard,
              [&](const Counter& counter, int64_t now_ns) { Count(counter, now_ns, &sums); });
  }
  AddAbsorbed(&sums);
  *status = std::move(found);
  status->totals = sums.of.begin()->second.totals;
  status->counters = sums.of.begin()->second.counters;
  return Status();
}

// ---- Walking over the table --------------------------------------------------------------------

// Calls `visit` for each counter. Those that come to know here that their template has been reset
// move their totals meanwhile.
template <typename Visit>
void Listing::WalkShard(Keyspace::Shard& shard, const Visit& visit) {
  const MutexLock lock(shard.mutex);
  const int64_t now_ns = Keyspace::NowIn(shard, clock_);
  for (size_t slot = 0; slot < shard.table.slots(); ++slot) {
    Counter* const counter = shard.table.at(slot);
    if (counter != nullptr && keyspace_->templates().CatchUp(counter)) visit(*counter, now_ns);
  }
  slots_seen_.fetch_add(shard.table.slots(), std::memory_order_relaxed);
}

// Adds a counter to its template.
void Listing::Count(const Counter& counter, int64_t now_ns, TemplateSums* sums) const {
  if (counter.parent() == nullptr) return;
  const Template& parent = *counter.parent();
  const auto found = sums->of.find(TemplateSet::IdView{parent.prefix, parent.name});
  if (found == sums->of.end()) return;
  Merge(&found->second.totals, WithWallTimes(counter.totals, now_ns));
  if (!counter.Forgettable(now_ns)) ++found->second.counters;
}

// And then what the templates have absorbed.
void Listing::AddAbsorbed(TemplateSums* sums) {
  const MutexLock lock(keyspace_->shards()[0].mutex);
  const int64_t now_ns = Keyspace::NowIn(keyspace_->shards()[0], clock_);
  for (auto& [id, sum] : sums->of) {
    const Template* const subject = keyspace_->templates().Find(id.prefix, id.name);
    if (subject != nullptr) Merge(&sum.totals, WithWallTimes(subject->Absorbed(), now_ns));
  }
}

void Listing::Top(TopBy by, const Wanted& wanted, std::vector<LimitStatus>* top) {
  top->clear();
  if (wanted.capacity == 0) return;
  const auto before = [by](const LimitStatus& a, const LimitStatus& b) {
    const uint64_t of_a = Total(a.totals, by);
    const uint64_t of_b = Total(b.totals, by);
    return of_a > of_b || (of_a == of_b && ComesBefore(PositionOf(a), PositionOf(b)));
  };
  // A heap whose top is the one to go when a better one comes.
  const auto consider = [&](const Counter& counter, int64_t now_ns) {
    if ((counter.kind == LimitKind::kCounter && !wanted.all_counters) ||
        Total(counter.totals, by) == 0 || counter.Forgettable(now_ns)) {
      return;
    }
    LimitStatus status;
    FillStatus(counter, now_ns, &status);
    if (top->size() == wanted.capacity) {
      if (!before(status, top->front())) return;
      std::pop_heap(top->begin(), top->end(), before);
      top->pop_back();
    }
    top->push_back(std::move(status));
    std::push_heap(top->begin(), top->end(), before);
  };
  for (Keyspace::Shard& shard : keyspace_->shards()) WalkShard(shard, consider);
  std::sort_heap(top->begin(), top->end(), before);
}

// ---- Sorted runs -------------------------------------------------------------------------------

// The run that tells what comes behind `after`, made if there is none.
std::shared_ptr<const Listing::SortedRun> Listing::RunBehind(const Position* after,
                                                             bool all_counters) {
  GiveUpOldRuns();
  if (after != nullptr) {
    const MutexLock lock(mutex_);
    const auto found = std::find_if(runs_.begin(), runs_.end(), [&](const auto& run) {
      return run->all_counters == all_counters && run->Covers(*after);
    });
    if (found != runs_.end()) {
      std::rotate(found, found + 1, runs_.end());
      return runs_.back();
    }
  }
  const std::shared_ptr<SortedRun> run = BeginRun(after, all_counters);
  ReadRun(run.get());
  Keep(run);
  return run;
}

// A listing that begins is shown everything that is there, so it takes no part in what has been
// read before, and neither do the pages that follow.
std::shared_ptr<Listing::SortedRun> Listing::BeginRun(const Position* after, bool all_counters) {
  auto run = std::make_shared<SortedRun>();
  run->all_counters = all_counters;
  run->begun_ns = clock_->Now();
  if (after != nullptr) {
    run->from_start = false;
    run->from = {std::string(after->key), after->kind, std::string(after->name)};
  }
  const MutexLock lock(mutex_);
  run->number = ++runs_begun_;
  if (after == nullptr) {
    first_valid_[all_counters] = run->number;
    std::erase_if(runs_, [&](const auto& old) { return old->all_counters == all_counters; });
  }
  return run;
}

void Listing::ReadRun(SortedRun* run) {
  {
    const MutexLock lock(keyspace_->shards()[0].mutex);
    const uint64_t keys = keyspace_->limits() + keyspace_->counters();
    run->max_names = std::max<size_t>(fewest_keys_in_run_, keys / kRunShare);
    for (const auto& entry : keyspace_->templates().all()) {
      const Position name{entry.first.prefix, LimitKind::kTemplate, entry.first.name};
      if (!run->Wants(name)) continue;
      run->Add(name);
      run->templates.Begin(name.key, name.name);
    }
  }
  const auto consider = [&](const Counter& counter, int64_t now_ns) {
    Count(counter, now_ns, &run->templates);
    const bool hidden = counter.kind == LimitKind::kCounter && !run->all_counters;
    const Position name{counter.key(), counter.kind, counter.name()};
    if (!hidden && !counter.Forgettable(now_ns) && run->Wants(name)) run->Add(name);
  };
  for (Keyspace::Shard& shard : keyspace_->shards()) {
    WalkShard(shard, consider);
    if (run->MuchTooLarge()) run->SortAndTrim();
  }
  run->SortAndTrim();
  AddAbsorbed(&run->templates);
}

void Listing::Keep(std::shared_ptr<const SortedRun> run) {
  const MutexLock lock(mutex_);
  if (run->number < first_valid_[run->all_counters]) return;
  if (runs_.size() == kMaxRuns) runs_.erase(runs_.begin());
  runs_.push_back(std::move(run));
}

void Listing::GiveUpOldRuns() {
  const int64_t now_ns = clock_->Now();
  const MutexLock lock(mutex_);
  std::erase_if(runs_, [&](const auto& run) { return run->OlderThan(kMaxRunAgeNs, now_ns); });
}

size_t Listing::keys_held() {
  const MutexLock lock(mutex_);
  size_t keys = 0;
  for (const auto& run : runs_) keys += run->names.size();
  return keys;
}

// ---- Pages -------------------------------------------------------------------------------------

void Listing::Page(const Position* after, const Wanted& wanted, std::vector<LimitStatus>* page) {
  page->clear();
  if (wanted.capacity == 0) return;
  std::shared_ptr<const SortedRun> run = RunBehind(after, wanted.all_counters);
  while (FillPage(*run, after, wanted, page) && !run->to_end) {
    const std::shared_ptr<const SortedRun> before = std::move(run);
    const Position end = before->names.back().position();
    run = RunBehind(&end, wanted.all_counters);
  }
  if (!page->empty()) return;
  const MutexLock lock(mutex_);
  std::erase(runs_, run);
}

// Whether there is room for more than the run has.
bool Listing::FillPage(const SortedRun& run, const Position* after, const Wanted& wanted,
                       std::vector<LimitStatus>* page) {
  size_t key_bytes = 0;
  for (const LimitStatus& status : *page) key_bytes += status.key.size() + status.name.size();
  const auto is_shown = [&](const Position& name) {
    if (!page->empty()) return !ComesBefore(PositionOf(page->back()), name);
    return after != nullptr && !ComesBefore(*after, name);
  };
  auto name = run.names.begin();
  if (after != nullptr) {
    name = std::upper_bound(name, run.names.end(), *after, [](const Position& a, const Name& b) {
      return ComesBefore(a, b.position());
    });
  }
  for (; name != run.names.end(); ++name) {
    if (page->size() == wanted.capacity) return false;
    if (wanted.unnamed_only && !name->name.empty()) continue;
    LimitStatus status;
    // A limit that has changed its kind since has changed its place too.
    if (!Lookup(run, name->position(), &status) || is_shown(PositionOf(status))) continue;
    key_bytes += status.key.size() + status.name.size();
    if (key_bytes > wanted.key_bytes) return false;
    page->push_back(std::move(status));
  }
  return page->size() < wanted.capacity;
}

// False when it is not there any more.
bool Listing::Lookup(const SortedRun& run, const Position& name, LimitStatus* status) {
  if (name.kind == LimitKind::kTemplate) {
    const MutexLock lock(keyspace_->shards()[0].mutex);
    const Template* const subject = keyspace_->templates().Find(name.key, name.name);
    if (subject == nullptr) return false;
    FillTemplate(*subject, status);
    const TemplateSums::Sum& sum =
        run.templates.of.find(TemplateSet::IdView{name.key, name.name})->second;
    status->totals = sum.totals;
    status->counters = sum.counters;
    return true;
  }
  const uint64_t hash = keyspace_->Hash(name.key);
  Keyspace::Shard& shard = keyspace_->ShardOf(hash);
  const MutexLock lock(shard.mutex);
  const int64_t now_ns = Keyspace::NowIn(shard, clock_);
  const Counter* const counter = keyspace_->Find(shard, hash, name.key, name.name);
  if (counter == nullptr || counter->Forgettable(now_ns)) return false;
  if (counter->kind == LimitKind::kCounter && !run.all_counters) return false;
  FillStatus(*counter, now_ns, status);
  return true;
}

Status NotConfigured(LimitKind kind, std::string_view key, std::string_view name) {
  const char* const mark = kind == LimitKind::kTemplate ? "*" : "";
  return Status(Code::kNotConfigured,
                "limit is not configured: " + Named(std::string(key) + mark, name));
}

std::string CursorOf(const Listing::Position& position) {
  std::string cursor;
  cursor += static_cast<char>(position.kind);
  cursor += static_cast<char>(position.name.size());
  return cursor.append(position.name).append(position.key);
}

bool ReadCursor(std::string_view cursor, Listing::Position* position) {
  if (cursor.size() < 2 ||
      static_cast<uint8_t>(cursor[0]) > static_cast<uint8_t>(LimitKind::kInline))
    return false;
  const size_t name_bytes = static_cast<uint8_t>(cursor[1]);
  if (cursor.size() - 2 < name_bytes) return false;
  position->kind = static_cast<LimitKind>(cursor[0]);
  position->name = cursor.substr(2, name_bytes);
  position->key = cursor.substr(2 + name_bytes);
  return true;
}

}  // namespace flint
