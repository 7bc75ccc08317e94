#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/counter.h"

namespace flint {

// The templates and the journal of their changes. A change touches no counter; each counter goes
// through the journal when it is next used, at the changes' own times, and comes to the same state
// as if it had been there. Read with any shard's lock held, changed with all of them held.
class TemplateSet {
 public:
  TemplateSet() = default;
  ~TemplateSet();
  TemplateSet(const TemplateSet&) = delete;
  TemplateSet& operator=(const TemplateSet&) = delete;

  // Calls `visit` for each template that applies to a key without limits of its own: those of the
  // longest prefix that has any, in order of name; where one of them stacks, also those of the next
  // shorter one, and so on. A name that a longer prefix has is not taken from a shorter one.
  template <typename Visit>
  void ForEachApplying(std::string_view key, const Visit& visit) const {
    std::array<std::string_view, kMaxLimitsOfKey> names;
    size_t seen = 0;
    for (const size_t length : prefix_lengths_) {
      if (length > key.size()) continue;
      bool any = false;
      bool stacks = false;
      for (auto at = First(key.substr(0, length)); IsOf(at, key.substr(0, length)); ++at) {
        Template* const subject = at->second.get();
        any = true;
        stacks = stacks || subject->config->stack;
        const auto end = names.begin() + static_cast<ptrdiff_t>(seen);
        if (std::find(names.begin(), end, subject->name) != end) continue;
        visit(subject);
        if (seen < names.size()) names[seen++] = subject->name;
      }
      if (any && !stacks) return;
    }
  }
  // The one of these with a name, or null.
  Template* Match(std::string_view key, std::string_view name) const;
  bool Covers(std::string_view key) const;
  Template* Find(std::string_view prefix, std::string_view name) const;
  // All of a prefix, in order of name.
  std::vector<Template*> Of(std::string_view prefix) const;
  // Whether several templates may apply to one key, or one with a name.
  bool several() const { return special_ > 0; }

  // Adds or changes a template.
  Template* Configure(std::string_view prefix, std::string_view name, const LimitConfig& config,
                      int64_t at_ns);
  void Remove(Template* removed, int64_t at_ns);
  // Makes every counter of a template fresh.
  void Reset(Template* reset, int64_t at_ns);

  uint32_t epoch() const { return epoch_; }
  // Takes a counter under a template through the changes since it was last used. False when its
  // template has been removed: the counter is to be erased.
  bool CatchUp(Counter* counter) const {
    if (counter->template_epoch == epoch_) [[likely]]
      return true;
    return GoThroughChanges(counter);
  }
  // Forgets the changes; every counter has been through all of them.
  void ClearJournal() { journal_.clear(); }
  size_t journal_size() const { return journal_.size(); }
  void Swap(TemplateSet* other);

  // In order of prefix, then name.
  struct Id {
    std::string prefix;
    std::string name;
  };
  struct IdView {
    std::string_view prefix;
    std::string_view name;
  };
  struct Before {
    using is_transparent = void;
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      const int order = std::string_view(a.prefix).compare(b.prefix);
      return order != 0 ? order < 0 : std::string_view(a.name) < std::string_view(b.name);
    }
  };
  using Map = std::map<Id, std::unique_ptr<Template>, Before>;
  const Map& all() const { return templates_; }

 private:
  enum class Kind : uint8_t { kConfigured, kRemoved, kReset };
  struct Change {
    Kind kind{};
    int64_t at_ns = 0;
    Template* subject = nullptr;
    const TemplateConfig* config = nullptr;
    // Limits of shorter prefixes do not apply behind it, but for those that it takes over.
    bool ends_shorter = false;
    // Kept alive until every counter is through this change.
    std::unique_ptr<const TemplateConfig> old_config;
    std::unique_ptr<Template> removed;
  };
  bool GoThroughChanges(Counter* counter) const;
  void Note(Change change);
  class JournalRoom;
  Template* Add(std::string_view prefix, std::string_view name);
  Map::const_iterator First(std::string_view prefix) const {
    return templates_.lower_bound(IdView{prefix, {}});
  }
  bool IsOf(Map::const_iterator at, std::string_view prefix) const {
    return at != templates_.end() && at->first.prefix == prefix;
  }
  bool EndsShorter(std::string_view prefix) const;
  static bool IsSpecial(const Template& subject) {
    return !subject.name.empty() || subject.config->stack;
  }

  Map templates_;
  size_t special_ = 0;                  // those that have a name or stack
  std::vector<size_t> prefix_lengths_;  // distinct, longest first
  std::deque<Change> journal_;          // the last is change number epoch_
  uint32_t epoch_ = 0;
};

// A counter that is back to its fresh state is forgotten: its totals move to the template, and
// it begins anew.
void Forget(Counter* counter);

}  // namespace flint
