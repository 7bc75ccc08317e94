#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "engine/keyspace.h"
#include "model/engine_clock.h"

namespace flint {

// A limit and what has happened to it. Stamps are the wall clock's, 0 for never.
struct LimitStatus {
  LimitKind kind = LimitKind::kExact;
  std::string key;
  std::string name;  // empty for a limit without one
  LimitConfig config;
  uint64_t remaining = 0;
  int64_t reset_at_ns = 0;
  Totals totals;
  uint64_t counters = 0;
};

enum class TopBy { kDenied, kAllowed, kDeniedCost, kAllowedCost };

// Reads limits: one, a page in order of key, the largest. Any thread. Each shard is locked by
// itself and for its own slots only, so what is read is not one moment's.
//
// The table is in order of hash, pages are in order of key. So the first page walks over the table
// once and keeps the next keys, sorted: a run. The pages behind it look up theirs one by one. A run
// holds an eighth of the keys, so a listing walks over the table nine times at most, however many
// pages it has, and holds much less memory than the table. A run is given up when its listing has
// come to the end, when another listing begins, and when it is old.
class Listing {
 public:
  // Where a page begins: behind this.
  struct Position {
    std::string_view key;
    LimitKind kind{};
    std::string_view name{};
  };
  struct Wanted {
    bool all_counters = false;
    size_t capacity = 0;
    size_t key_bytes = 0;  // of all keys and names together
    bool unnamed_only = false;
  };

  static constexpr size_t kFewestKeysInRun = 1 << 16;  // so that small tables are walked over once

  Listing(Keyspace* keyspace, EngineClock* clock, size_t fewest_keys_in_run = kFewestKeysInRun)
      : keyspace_(keyspace), clock_(clock), fewest_keys_in_run_(fewest_keys_in_run) {}

  // A template's totals are those of all counters, so it walks over the table.
  Status StatusOf(LimitKind kind, std::string_view key, std::string_view name, LimitStatus* status);
  // `after` is null for the first page.
  void Page(const Position* after, const Wanted& wanted, std::vector<LimitStatus>* page);
  // Walks over the table.
  void Top(TopBy by, const Wanted& wanted, std::vector<LimitStatus>* top);

  // How many slots of the table have been looked at by walks over it.
  uint64_t slots_seen() const { return slots_seen_.load(std::memory_order_relaxed); }
  // How many keys are held for listings that have not come to their end.
  size_t keys_held() FLINT_EXCLUDES(mutex_);
  void GiveUpOldRuns() FLINT_EXCLUDES(mutex_);

 private:
  struct SortedRun;
  struct TemplateSums;

  Status StatusOfKey(std::string_view key, std::string_view name, LimitStatus* status);
  Status StatusOfTemplate(std::string_view prefix, std::string_view name, LimitStatus* status);
  template <typename Visit>
  void WalkShard(Keyspace::Shard& shard, const Visit& visit) FLINT_EXCLUDES(shard.mutex);
  void Count(const Counter& counter, int64_t now_ns, TemplateSums* sums) const;
  void AddAbsorbed(TemplateSums* sums);
  std::shared_ptr<const SortedRun> RunBehind(const Position* after, bool all_counters);
  std::shared_ptr<SortedRun> BeginRun(const Position* after, bool all_counters);
  void ReadRun(SortedRun* run);
  void Keep(std::shared_ptr<const SortedRun> run);
  bool FillPage(const SortedRun& run, const Position* after, const Wanted& wanted,
                std::vector<LimitStatus>* page);
  bool Lookup(const SortedRun& run, const Position& name, LimitStatus* status);
  void FillStatus(const Counter& counter, int64_t now_ns, LimitStatus* status) const;
  void FillTemplate(const Template& subject, LimitStatus* status) const;
  int64_t WallFromEngine(int64_t engine_ns, int64_t now_ns) const;
  Totals WithWallTimes(Totals totals, int64_t now_ns) const;

  Keyspace* const keyspace_;
  EngineClock* const clock_;
  const size_t fewest_keys_in_run_;
  std::atomic<uint64_t> slots_seen_{0};

  SystemMutex mutex_;
  // The one used last is the last.
  std::vector<std::shared_ptr<const SortedRun>> runs_ FLINT_GUARDED_BY(mutex_);
  uint64_t runs_begun_ FLINT_GUARDED_BY(mutex_) = 0;
  // Number of a run, without and with all counters.
  uint64_t first_valid_[2] FLINT_GUARDED_BY(mutex_) = {0, 0};
};

Status NotConfigured(LimitKind kind, std::string_view key, std::string_view name);

// A position as bytes: kind, how long the name is, the name, the key.
std::string CursorOf(const Listing::Position& position);
// False for what is no cursor. `*position` points into it.
bool ReadCursor(std::string_view cursor, Listing::Position* position);

}  // namespace flint
