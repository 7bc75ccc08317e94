#include "engine/template_set.h"

#include <algorithm>
#include <functional>
#include <utility>

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

Template* TemplateSet::Match(std::string_view key) const {
  for (const size_t length : prefix_lengths_) {
    if (length > key.size()) continue;
    Template* found = Find(key.substr(0, length));
    if (found != nullptr) return found;
  }
  return nullptr;
}

Template* TemplateSet::Find(std::string_view prefix) const {
  const auto found = templates_.find(prefix);
  return found == templates_.end() ? nullptr : found->second.get();
}

Template* TemplateSet::Configure(std::string_view prefix, const LimitConfig& config,
                                 int64_t at_ns) {
  auto made = std::make_unique<TemplateConfig>(config);
  const JournalRoom room(&journal_);
  Template* subject = Find(prefix);
  if (subject == nullptr) subject = Add(prefix);
  made->owner = subject;
  Change change{Kind::kConfigured, at_ns, subject, made.get(), nullptr, nullptr};
  change.old_config.reset(std::exchange(subject->config, made.release()));
  Note(std::move(change));
  return subject;
}

void TemplateSet::Remove(Template* removed, int64_t at_ns) {
  const JournalRoom room(&journal_);
  auto node = templates_.extract(removed->prefix);
  Change change{Kind::kRemoved, at_ns, removed, nullptr, nullptr, std::move(node.mapped())};
  change.old_config.reset(removed->config);
  const size_t length = removed->prefix.size();
  const auto as_long = [length](const auto& entry) { return entry.first.size() == length; };
  if (std::none_of(templates_.begin(), templates_.end(), as_long)) {
    std::erase(prefix_lengths_, length);
  }
  Note(std::move(change));
}

void TemplateSet::Reset(Template* reset, int64_t at_ns) {
  const JournalRoom room(&journal_);
  Note(Change{Kind::kReset, at_ns, reset, nullptr, nullptr, nullptr});
}

// In the room that has been made for it.
void TemplateSet::Note(Change change) {
  journal_.back() = std::move(change);
  ++epoch_;
}

Template* TemplateSet::Add(std::string_view prefix) {
  const auto at = std::lower_bound(prefix_lengths_.begin(), prefix_lengths_.end(), prefix.size(),
                                   std::greater<>());
  if (at == prefix_lengths_.end() || *at != prefix.size()) {
    prefix_lengths_.insert(at, prefix.size());  // no harm if there is no memory for the rest
  }
  return templates_.emplace(prefix, std::make_unique<Template>(prefix)).first->second.get();
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
      const bool takes_over =
          change.kind == Kind::kConfigured && prefix.size() >= counter->parent()->prefix.size();
      if (!takes_over && !(change.kind == Kind::kReset && own)) continue;
      if (change.kind == Kind::kReset || IsFresh(*counter->config, counter->state, change.at_ns)) {
        Forget(counter);
      }
      if (!takes_over) continue;
      counter->state = Migrate(*counter->config, counter->state, *change.config, change.at_ns);
      counter->parent()->counters.fetch_sub(1, std::memory_order_relaxed);
      counter->config = change.config;
      counter->parent()->counters.fetch_add(1, std::memory_order_relaxed);
      counter->binding = Log::Binding{};
    }
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
}

}  // namespace flint
