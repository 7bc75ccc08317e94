#include <algorithm>
#include <functional>
#include <tuple>
#include <utility>

#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/key.h"

// Reading limits: one, a page in order, the largest. Each shard is locked by itself, so what is
// read is not one moment's.
namespace flint {
namespace {

// By key, then kind.
bool ComesBefore(std::string_view key_a, LimitKind kind_a, std::string_view key_b,
                 LimitKind kind_b) {
  return std::tie(key_a, kind_a) < std::tie(key_b, kind_b);
}

uint64_t Total(const Totals& totals, Engine::TopBy by) {
  switch (by) {
    case Engine::TopBy::kDenied:
      return totals.denied;
    case Engine::TopBy::kAllowed:
      return totals.allowed;
    case Engine::TopBy::kDeniedCost:
      return totals.denied_cost;
    case Engine::TopBy::kAllowedCost:
      return totals.allowed_cost;
  }
  return 0;
}

}  // namespace

// What a walk over the limits is looking for: those that `wants` in order of `before`, of which
// the first `capacity` are kept.
struct Engine::Listed {
  size_t capacity;
  bool templates;
  std::function<bool(std::string_view key, LimitKind kind, const Totals& totals)> wants;
  std::function<bool(const LimitStatus& a, const LimitStatus& b)> before;
};

int64_t Engine::WallFromEngine(int64_t engine_ns, int64_t now_ns) const {
  if (engine_ns == kNever) return 0;
  return std::max<int64_t>(clock_.WallNs() - (now_ns - engine_ns), 0);
}

void Engine::FillStatus(const Counter& counter, int64_t now_ns, LimitStatus* status) const {
  const LimitConfig& config = *counter.config;
  status->kind = counter.kind;
  status->key = counter.key();
  status->config = config;
  status->remaining = Remaining(config, counter.state, now_ns);
  const uint64_t reset_after_ns = ResetAfterNs(config, counter.state, now_ns);
  const auto wall_ns = static_cast<uint64_t>(clock_.WallNs());
  status->reset_at_ns =
      static_cast<int64_t>(std::min<uint64_t>(wall_ns + reset_after_ns, INT64_MAX));
  status->totals = counter.Forgettable(now_ns) ? Totals{} : counter.totals;
  status->totals.last_allowed_ns = WallFromEngine(status->totals.last_allowed_ns, now_ns);
  status->totals.last_denied_ns = WallFromEngine(status->totals.last_denied_ns, now_ns);
  status->totals.last_reset_ns = WallFromEngine(status->totals.last_reset_ns, now_ns);
}

// Without totals: AddTotals adds them.
void Engine::FillTemplate(const Template& subject, LimitStatus* status) const {
  status->kind = LimitKind::kTemplate;
  status->key = subject.prefix;
  status->config = *subject.config;
  status->remaining = subject.config->burst;
  status->reset_at_ns = clock_.WallNs();
  status->totals.last_allowed_ns = 0;
  status->totals.last_denied_ns = 0;
  status->totals.last_reset_ns = 0;
}

void Engine::AddWithWallTimes(Totals totals, int64_t now_ns, LimitStatus* status) const {
  totals.last_allowed_ns = WallFromEngine(totals.last_allowed_ns, now_ns);
  totals.last_denied_ns = WallFromEngine(totals.last_denied_ns, now_ns);
  totals.last_reset_ns = WallFromEngine(totals.last_reset_ns, now_ns);
  Merge(&status->totals, totals);
}

// What the templates' counters have counted, and then what they have absorbed: counters that come
// to know here that they have been reset move their totals meanwhile.
void Engine::AddTotals(std::vector<LimitStatus>* page) {
  std::unordered_map<std::string_view, LimitStatus*> templates;
  for (LimitStatus& status : *page) {
    if (status.kind == LimitKind::kTemplate) templates[status.key] = &status;
  }
  if (templates.empty()) return;
  for (Shard& shard : keyspace_.shards()) {
    const std::lock_guard<Mutex> lock(shard.mutex);
    const int64_t now_ns = clock_.Now();
    for (size_t slot = 0; slot < shard.table.slots(); ++slot) {
      Counter* counter = shard.table.at(slot);
      if (counter == nullptr || counter->kind != LimitKind::kCounter ||
          !keyspace_.templates().CatchUp(counter)) {
        continue;
      }
      const auto found = templates.find(counter->parent()->prefix);
      if (found == templates.end()) continue;
      AddWithWallTimes(counter->totals, now_ns, found->second);
      if (!counter->Forgettable(now_ns)) ++found->second->counters;
    }
  }
  const std::lock_guard<Mutex> lock(keyspace_.shards()[0].mutex);
  const int64_t now_ns = clock_.Now();
  for (const auto& [prefix, status] : templates) {
    const Template* subject = keyspace_.templates().Find(prefix);
    if (subject != nullptr) AddWithWallTimes(subject->Absorbed(), now_ns, status);
  }
}

Status Engine::StatusOf(LimitKind kind, std::string_view key, LimitStatus* status) {
  FLINT_RETURN_IF_ERROR(CheckReadable());
  const Running running(this);
  const uint64_t hash = keyspace_.Hash(key);
  Shard& shard = keyspace_.ShardOf(hash);
  std::vector<LimitStatus> found(1);
  {
    const std::lock_guard<Mutex> lock(shard.mutex);
    FLINT_RETURN_IF_ERROR(CheckReadable());
    const int64_t now_ns = clock_.Now();
    const TemplateSet& templates = keyspace_.templates();
    if (kind == LimitKind::kTemplate) {
      const Template* subject = templates.Find(key);
      if (subject == nullptr) {
        return Status(Code::kNotConfigured, "limit is not configured: " + std::string(key) + "*");
      }
      FillTemplate(*subject, &found[0]);
    } else {
      Counter* counter = keyspace_.Find(shard, hash, key);
      if (counter != nullptr && counter->Forgettable(now_ns)) counter = nullptr;
      const Template* parent = counter == nullptr ? templates.Match(key) : nullptr;
      CounterPointer imagined;
      if (parent != nullptr && CheckKey(key).ok()) {
        imagined.reset(Counter::Create(key, 0));
        imagined->kind = LimitKind::kCounter;
        imagined->config = parent->config;
        counter = imagined.get();
      }
      if (counter == nullptr) {
        return Status(Code::kNotConfigured, "limit is not configured: " + std::string(key));
      }
      FillStatus(*counter, now_ns, &found[0]);
    }
  }
  AddTotals(&found);
  *status = std::move(found[0]);
  return Status();
}

void Engine::Collect(const Flags& flags, const Listed& wanted, std::vector<LimitStatus>* page) {
  // A heap whose top is the one to go when a better one comes.
  const auto keep = [&](LimitStatus status) {
    if (page->size() == wanted.capacity) {
      if (!wanted.before(status, page->front())) return;
      std::pop_heap(page->begin(), page->end(), wanted.before);
      page->pop_back();
    }
    page->push_back(std::move(status));
    std::push_heap(page->begin(), page->end(), wanted.before);
  };
  bool templates = wanted.templates;
  for (Shard& shard : keyspace_.shards()) {
    const std::lock_guard<Mutex> lock(shard.mutex);
    const int64_t now_ns = clock_.Now();
    if (std::exchange(templates, false)) {
      for (const auto& entry : keyspace_.templates().all()) {
        if (!wanted.wants(entry.first, LimitKind::kTemplate, Totals{})) continue;
        LimitStatus status;
        FillTemplate(*entry.second, &status);
        keep(std::move(status));
      }
    }
    for (size_t slot = 0; slot < shard.table.slots(); ++slot) {
      Counter* counter = shard.table.at(slot);
      if (counter == nullptr || (counter->kind == LimitKind::kCounter && !flags.all_counters) ||
          !keyspace_.templates().CatchUp(counter) || counter->Forgettable(now_ns) ||
          !wanted.wants(counter->key(), counter->kind, counter->totals)) {
        continue;
      }
      LimitStatus status;
      FillStatus(*counter, now_ns, &status);
      keep(std::move(status));
    }
  }
  std::sort_heap(page->begin(), page->end(), wanted.before);
}

Status Engine::List(const std::string_view* after, LimitKind after_kind, const Flags& flags,
                    size_t capacity, size_t key_bytes, std::vector<LimitStatus>* page) {
  FLINT_RETURN_IF_ERROR(CheckReadable());
  const Running running(this);
  Listed wanted{capacity, true, nullptr, nullptr};
  wanted.wants = [&](std::string_view key, LimitKind kind, const Totals&) {
    return after == nullptr || ComesBefore(*after, after_kind, key, kind);
  };
  wanted.before = [](const LimitStatus& a, const LimitStatus& b) {
    return ComesBefore(a.key, a.kind, b.key, b.kind);
  };
  page->clear();
  if (capacity > 0) Collect(flags, wanted, page);
  size_t bytes = 0;
  size_t fitting = 0;
  while (fitting < page->size() && bytes + (*page)[fitting].key.size() <= key_bytes) {
    bytes += (*page)[fitting++].key.size();
  }
  page->resize(fitting);
  AddTotals(page);
  return Status();
}

Status Engine::Top(TopBy by, const Flags& flags, size_t capacity, std::vector<LimitStatus>* top) {
  FLINT_RETURN_IF_ERROR(CheckReadable());
  const Running running(this);
  Listed wanted{capacity, false, nullptr, nullptr};
  wanted.wants = [by](std::string_view, LimitKind, const Totals& totals) {
    return Total(totals, by) > 0;
  };
  wanted.before = [by](const LimitStatus& a, const LimitStatus& b) {
    const uint64_t of_a = Total(a.totals, by);
    const uint64_t of_b = Total(b.totals, by);
    return of_a > of_b || (of_a == of_b && ComesBefore(a.key, a.kind, b.key, b.kind));
  };
  top->clear();
  if (capacity > 0) Collect(flags, wanted, top);
  return Status();
}

}  // namespace flint
