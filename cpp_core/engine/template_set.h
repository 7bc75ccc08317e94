#pragma once

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

  // The longest template that covers `key`, or null.
  Template* Match(std::string_view key) const;
  Template* Find(std::string_view prefix) const;

  // Adds or changes a template.
  Template* Configure(std::string_view prefix, const LimitConfig& config, int64_t at_ns);
  void Remove(Template* removed, int64_t at_ns);
  // Makes every counter of a template fresh.
  void Reset(Template* reset, int64_t at_ns);

  uint32_t epoch() const { return epoch_; }
  // Takes a counter under a template through the changes since it was last used. False when its
  // template has been removed: the counter is to be erased.
  bool CatchUp(Counter* counter) const {
    return counter->template_epoch == epoch_ || GoThroughChanges(counter);
  }
  // Forgets the changes; every counter has been through all of them.
  void ClearJournal() { journal_.clear(); }
  size_t journal_size() const { return journal_.size(); }
  void Swap(TemplateSet* other);

  const std::map<std::string, std::unique_ptr<Template>, std::less<>>& all() const {
    return templates_;
  }

 private:
  enum class Kind : uint8_t { kConfigured, kRemoved, kReset };
  struct Change {
    Kind kind{};
    int64_t at_ns = 0;
    Template* subject = nullptr;
    const TemplateConfig* config = nullptr;
    // Kept alive until every counter is through this change.
    std::unique_ptr<const TemplateConfig> old_config;
    std::unique_ptr<Template> removed;
  };
  bool GoThroughChanges(Counter* counter) const;
  void Note(Change change);
  class JournalRoom;
  Template* Add(std::string_view prefix);

  std::map<std::string, std::unique_ptr<Template>, std::less<>> templates_;
  std::vector<size_t> prefix_lengths_;  // distinct, longest first
  std::deque<Change> journal_;          // the last is change number epoch_
  uint32_t epoch_ = 0;
};

// A counter that is back to its fresh state is forgotten: its totals move to the template, and
// it begins anew.
void Forget(Counter* counter);

}  // namespace flint
