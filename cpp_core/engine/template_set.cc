#include "engine/template_set.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/assert.h"

namespace flint {

// Room for a change in the journal, made before anything is changed: behind that, memory must not
// be needed. Given back if it was not used.
class TemplateSet::JournalRoom {
 public:
  explicit JournalRoom(std::deque<Change>* journal) : journal_(journal) { journal->emplace_back(); }
  ~JournalRoom() {
    if (journal_->back().subject == nullptr) journal_->pop_back();
  }
  JournalRoom(const JournalRoom&) = delete;
  JournalRoom& operator=(const JournalRoom&) = delete;

 private:
  std::deque<Change>* const journal_;
};

TemplateSet::~TemplateSet() {
  for (const auto& entry : templates_) delete entry.second->config;
}

Template* TemplateSet::Match(std::string_view key, std::string_view name) const {
  Template* found = nullptr;
  ForEachApplying(key, [&](Template* subject) {
    if (subject->name == name) found = subject;
  });
  return found;
}

bool TemplateSet::Covers(std::string_view key) const {
  return std::any_of(prefix_lengths_.begin(), prefix_lengths_.end(), [&](size_t length) {
    const std::string_view prefix = key.substr(0, length);
    return length <= key.size() && IsOf(First(prefix), prefix);
  });
}

Template* TemplateSet::Find(std::string_view prefix, std::string_view name) const {
  const auto found = templates_.find(IdView{prefix, name});
  return found == templates_.end() ? nullptr : found->second.get();
}

std::vector<Template*> TemplateSet::Of(std::string_view prefix) const {
  std::vector<Template*> all;
  for (auto at = First(prefix); IsOf(at, prefix); ++at) all.push_back(at->second.get());
  return all;
}

bool TemplateSet::EndsShorter(std::string_view prefix) const {
  bool any = false;
  bool stacks = false;
  for (auto at = First(prefix); IsOf(at, prefix); ++at) {
    any = true;
    stacks = stacks || at->second->config->stack;
  }
  return any && !stacks;
}

Template* TemplateSet::Configure(std::string_view prefix, std::string_view name,
                                 const LimitConfig& config, int64_t at_ns) {
  auto made = std::make_unique<TemplateConfig>(config);
  const JournalRoom room(&journal_);
  Template* subject = Find(prefix, name);
  if (subject == nullptr) subject = Add(prefix, name);
  if (subject->config != nullptr && IsSpecial(*subject)) --special_;
  made->owner = subject;
  Change change{Kind::kConfigured, at_ns, subject, made.get(), false, nullptr, nullptr};
  change.old_config.reset(std::exchange(subject->config, made.release()));
  change.ends_shorter = EndsShorter(prefix);
  subject->keyed_in = 0;
  if (IsSpecial(*subject)) ++special_;
  Note(std::move(change));
  return subject;
}

void TemplateSet::Remove(Template* removed, int64_t at_ns) {
  const JournalRoom room(&journal_);
  if (IsSpecial(*removed)) --special_;
  auto node = templates_.extract(templates_.find(IdView{removed->prefix, removed->name}));
  Change change{
      Kind::kRemoved,          at_ns, removed, nullptr, EndsShorter(removed->prefix), nullptr,
      std::move(node.mapped())};
  change.old_config.reset(removed->config);
  const size_t length = removed->prefix.size();
  const auto as_long = [length](const auto& entry) { return entry.first.prefix.size() == length; };
  if (std::none_of(templates_.begin(), templates_.end(), as_long)) {
    std::erase(prefix_lengths_, length);
  }
  Note(std::move(change));
}

void TemplateSet::Reset(Template* reset, int64_t at_ns) {
  const JournalRoom room(&journal_);
  Note(Change{Kind::kReset, at_ns, reset, nullptr, false, nullptr, nullptr});
}

// In the room that has been made for it.
void TemplateSet::Note(Change change) {
  FLINT_ASSERT(change.subject != nullptr && journal_.back().subject == nullptr);
  FLINT_ASSERT(special_ <= templates_.size());
  journal_.back() = std::move(change);
  ++epoch_;
}

Template* TemplateSet::Add(std::string_view prefix, std::string_view name) {
  const auto at = std::lower_bound(prefix_lengths_.begin(), prefix_lengths_.end(), prefix.size(),
                                   std::greater<>());
  if (at == prefix_lengths_.end() || *at != prefix.size()) {
    prefix_lengths_.insert(at, prefix.size());  // no harm if there is no memory for the rest
  }
  Id id{std::string(prefix), std::string(name)};
  return templates_.emplace(std::move(id), std::make_unique<Template>(prefix, name))
      .first->second.get();
}

bool TemplateSet::GoThroughChanges(Counter* counter) const {
  if (counter->parent() != nullptr) {
    for (size_t i = journal_.size() - (epoch_ - counter->template_epoch); i < journal_.size();
         ++i) {
      const Change& change = journal_[i];
      const std::string& prefix = change.subject->prefix;
      if (!counter->key().starts_with(prefix)) continue;
      const bool own = change.subject == counter->parent();
      if (change.kind == Kind::kRemoved && own) return false;
      const size_t own_bytes = counter->parent()->prefix.size();
      const bool takes_over = change.kind == Kind::kConfigured && prefix.size() >= own_bytes &&
                              change.subject->name == counter->name();
      if (!takes_over && change.ends_shorter && prefix.size() > own_bytes) {
        Forget(counter);
        return false;
      }
      if (!takes_over && !(change.kind == Kind::kReset && own)) continue;
      if (change.kind == Kind::kReset || IsFresh(*counter->config, counter->state, change.at_ns)) {
        Forget(counter);
      }
      if (!takes_over) continue;
      counter->state = Migrate(*counter->config, counter->state, *change.config, change.at_ns);
      counter->parent()->counters.fetch_sub(1, std::memory_order_relaxed);
      counter->config = change.config;
      counter->parent()->counters.fetch_add(1, std::memory_order_relaxed);
      counter->binding = KeyBinding{};
    }
    if (several()) counter->plain = false;
  }
  counter->template_epoch = epoch_;
  return true;
}

void Forget(Counter* counter) {
  if (counter->parent() != nullptr) counter->parent()->Absorb(counter->totals);
  counter->totals = Totals{};
  counter->state = State();
}

void TemplateSet::Swap(TemplateSet* other) {
  templates_.swap(other->templates_);
  prefix_lengths_.swap(other->prefix_lengths_);
  journal_.swap(other->journal_);
  std::swap(epoch_, other->epoch_);
  std::swap(special_, other->special_);
}

}  // namespace flint
