#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/assert.h"
#include "base/bounded_array.h"
#include "base/check_path.h"
#include "base/env.h"
#include "base/mutex.h"
#include "engine/counter.h"
#include "engine/counter_table.h"
#include "engine/template_set.h"
#include "model/denials.h"
#include "model/engine_clock.h"
#include "model/limit_kind.h"
#include "model/saved_limit.h"
#include "model/totals.h"

namespace flint {

// All limits and counters, split into shards by the hash of the key, and every way in which their
// state may change. The engine (which decides and records) and replay (which reads what was
// recorded) call the same functions here, so both come to the same state.
//
// A function that takes a Shard needs that shard's lock; those that change templates need all.
// Replay has neither: nobody else uses its keyspace, and it says so (AssumeHeld, AssumeAlone).
class Keyspace {
 public:
  static constexpr size_t kShards = 256;

  struct alignas(64) Shard {
    bool Lock(bool no_wait) FLINT_TRY_ACQUIRE(true, mutex) {
      if (no_wait) return mutex.try_lock();
      mutex.lock();
      return true;
    }
    // For who has all shards' locks, or a keyspace that nobody else uses; tells it to clang.
    void AssumeHeld() const FLINT_ASSERT_CAPABILITY(mutex) {}

    Mutex mutex;
    // The latest time that has been read for it.
    int64_t last_ns FLINT_GUARDED_BY(mutex) = 0;
    CounterTable table FLINT_GUARDED_BY(mutex);
    // Denials beyond the first few of a sync interval, to be recorded as one.
    std::unordered_map<Counter*, Denials> merged FLINT_GUARDED_BY(mutex);
    std::atomic<bool> has_merged{false};
    // The sweep that forgets fresh counters, a few slots at a time: uses until one is due at the
    // latest, how many are due, and which comes next.
    int32_t uses_to_sweep FLINT_GUARDED_BY(mutex) = 0;
    uint32_t slots_due FLINT_GUARDED_BY(mutex) = 0;
    size_t sweep_slot FLINT_GUARDED_BY(mutex) = 0;
    // The search for fresh counters while no place is left: how far it has come since a key last
    // came or went, and when the first of those seen becomes fresh.
    size_t search_slot FLINT_GUARDED_BY(mutex) = 0;
    size_t slots_searched FLINT_GUARDED_BY(mutex) = 0;
    int64_t search_fresh_ns FLINT_GUARDED_BY(mutex) = INT64_MAX;
  };

  // All shards' locks as one, taken in order of index: for changing templates, and what else must
  // not be seen half done.
  class FLINT_CAPABILITY("locks") AllShards {
   public:
    explicit AllShards(std::array<Shard, kShards>* shards) : shards_(*shards) {}
    // With `no_wait` it gives up at the first lock that another thread holds.
    bool Lock(bool no_wait) FLINT_TRY_ACQUIRE(true) FLINT_NO_THREAD_SAFETY_ANALYSIS;
    void lock() FLINT_ACQUIRE() { static_cast<void>(Lock(false)); }
    void unlock() FLINT_RELEASE() { Unlock(kShards); }

   private:
    void Unlock(size_t count) FLINT_NO_THREAD_SAFETY_ANALYSIS;

    std::array<Shard, kShards>& shards_;
  };

  // Places for keys that are new: taken before they are created, and given back if they are not.
  class Places {
   public:
    explicit Places(Keyspace* keyspace) : keyspace_(keyspace) {}
    ~Places() {
      if (held_ > 0) keyspace_->keys_.fetch_sub(held_, std::memory_order_relaxed);
    }
    Places(const Places&) = delete;
    Places& operator=(const Places&) = delete;

    // Whether it holds so many by now; what it has got it keeps.
    bool Take(size_t wanted);
    // A key has been created in it.
    void Use() {
      FLINT_ASSERT(held_ > 0);
      --held_;
    }
    // That of a key which is about to be erased.
    void TakeOver();
    size_t held() const { return held_; }
    // Whether what was wanted last can be had at all.
    bool possible() const { return keyspace_->max_keys_ == 0 || wanted_ <= keyspace_->max_keys_; }

   private:
    Keyspace* const keyspace_;
    size_t held_ = 0;
    size_t wanted_ = 0;
  };

  // The limits that decide about a key together: those of its own in order of name, then those of
  // templates, of the longest prefix first.
  struct Applying {
    struct One {
      std::string_view name;
      const LimitConfig* config = nullptr;
      Template* parent = nullptr;  // null for one of the key's own
      Counter* counter = nullptr;  // null if there is none yet
    };

    BoundedArray<One, kMaxLimitsOfKey> limits;
    bool too_many = false;  // more than there is room for
  };

  // Nothing can be hashed before DrawHashSecret.
  Keyspace();
  // Hashes as `other` does.
  explicit Keyspace(const Keyspace* other) : hash_secret_(other->hash_secret_) {}

  // Keeps clients from choosing keys that meet in one slot.
  Status DrawHashSecret(Env* env);
  uint64_t Hash(std::string_view key) const;
  const std::vector<unsigned char>& hash_secret() const { return hash_secret_; }
  Shard& ShardOf(uint64_t hash) { return shards_[hash >> 56]; }
  std::array<Shard, kShards>& shards() { return shards_; }
  AllShards& all_shards() FLINT_RETURN_CAPABILITY(all_shards_) { return all_shards_; }
  // For who has the only use of it, as replay does; tells it to clang.
  void AssumeAlone() const FLINT_ASSERT_CAPABILITY(all_shards_) {}
  // Returns when everybody who held a shard's lock at the call has left it.
  void AwaitHolders() FLINT_EXCLUDES(all_shards_);
  // The time of what happens in a shard: read, and recorded, under its lock. It never goes back,
  // although the clock may do so between threads by as much as it is inexact.
  FLINT_CHECK_PATH static int64_t NowIn(Shard& shard, EngineClock* clock)
      FLINT_REQUIRES(shard.mutex) {
    int64_t now_ns = clock->Now();
    if (now_ns <= shard.last_ns) [[unlikely]]
      now_ns = clock->NowFrom(shard.last_ns);
    shard.last_ns = now_ns;
    return now_ns;
  }
  int64_t NowInAll(EngineClock* clock) FLINT_REQUIRES(all_shards_);
  // Engine time begins here, or has been set anew.
  void StartTimeAt(int64_t now_ns) FLINT_REQUIRES(all_shards_);
  // A time that nothing decided or changed from now on is earlier than.
  int64_t TimeFloor(EngineClock* clock) FLINT_EXCLUDES(all_shards_);
  const TemplateSet& templates() const { return templates_; }

  // A counter of a key, up to date with the templates; null when there is none, or had been one
  // that has gone. Unless it is `plain` there may be others.
  FLINT_CHECK_PATH Counter* FindAny(Shard& shard, uint64_t hash, std::string_view key)
      FLINT_REQUIRES(shard.mutex) {
    Counter* const counter = shard.table.Find(hash, key);
    if (counter == nullptr) [[unlikely]]
      return nullptr;
    if (templates_.CatchUp(counter)) [[likely]]
      return counter;
    Erase(shard, counter);
    return nullptr;
  }
  // The one with a name.
  Counter* Find(Shard& shard, uint64_t hash, std::string_view key, std::string_view name = {})
      FLINT_REQUIRES(shard.mutex);
  // All of a key.
  std::vector<Counter*> FindAll(Shard& shard, uint64_t hash, std::string_view key)
      FLINT_REQUIRES(shard.mutex);
  // The limits that decide about a key together, those that have no counter yet included.
  void FindApplying(Shard& shard, uint64_t hash, std::string_view key, int64_t now_ns,
                    Applying* applying) FLINT_REQUIRES(shard.mutex);
  // A place for a key whatever the bound: of one that is there already.
  void CountKey() { keys_.fetch_add(1, std::memory_order_relaxed); }
  // Their places have been taken.
  Counter* CreateCounter(Shard& shard, uint64_t hash, std::string_view key, Template* parent)
      FLINT_REQUIRES(shard.mutex);
  Counter* CreateInline(Shard& shard, uint64_t hash, std::string_view key,
                        const LimitConfig& config) FLINT_REQUIRES(shard.mutex);
  void Erase(Shard& shard, Counter* counter) FLINT_REQUIRES(shard.mutex);
  // So many limits apply to the key of a counter, which is one of them.
  static void NotePlain(Counter* counter, size_t applying) {
    counter->plain = applying == 1 && counter->name_bytes == 0 &&
                     counter->kind != LimitKind::kInline && !counter->config->stack;
  }
  // Looks at a few slots for fresh counters to forget, more when counters have been added, so
  // that memory follows the live ones. Called as checks go by, with no counter in hand.
  void SweepAsUsed(Shard& shard, int64_t now_ns) FLINT_REQUIRES(shard.mutex) {
    if (--shard.uses_to_sweep < 0) [[unlikely]]
      Sweep(shard, now_ns);
  }

  // Bounds counters and inline limits together; 0: no bound. What is there already stays.
  void set_max_keys(uint64_t max_keys) { max_keys_ = max_keys; }
  // Whether the shard may have a fresh counter by now. Needs no lock.
  bool MayHaveFresh(size_t shard, int64_t now_ns) const {
    return lowest_fresh_ns_[shard].load(std::memory_order_relaxed) <= now_ns;
  }
  // Goes on with the search for a fresh counter and forgets the first. Looks at `*looks` that are
  // not fresh at most, and takes them off it.
  bool ForgetOne(Shard& shard, int64_t now_ns, size_t* looks) FLINT_REQUIRES(shard.mutex);
  // Of a few slots, others each time, the counter that would be fresh first, and how far off that
  // is; null when there is none. Adds to `*seen` how many there were.
  Counter* LeastUsed(Shard& shard, int64_t now_ns, uint64_t* left_ns, size_t* seen)
      FLINT_REQUIRES(shard.mutex);

  // The ticket of the last LIMIT_CONFIGURED; noted under the lock of what it changes, read under
  // that of what it may have changed.
  void NoteConfigured(uint64_t ticket);
  uint64_t configured_at() const { return configured_at_.load(std::memory_order_relaxed); }

  // The changes that records tell of.
  void Admitted(Counter* counter, int64_t at_ns, uint64_t cost) {
    if (counter->Forgettable(at_ns)) Forget(counter);
    AdmittedInUse(counter, at_ns, cost);
  }
  // The same for a counter that has been prepared: it is not to be forgotten.
  void AdmittedInUse(Counter* counter, int64_t at_ns, uint64_t cost) {
    VisitAlgorithm(counter->config->algorithm, [&](auto algorithm) {
      const auto view = algorithm.At(*counter->config, counter->state, at_ns);
      AdmittedAs<decltype(algorithm)>(counter, view, at_ns, cost);
    });
  }
  // And whose algorithm and standing are known; how it stands then.
  template <typename A>
  FLINT_CHECK_PATH typename A::View AdmittedAs(Counter* counter, typename A::View view,
                                               int64_t at_ns, uint64_t cost) {
    FLINT_ASSERT(cost >= 1 && cost <= counter->config->burst);
    const typename A::View behind = A::Admit(*counter->config, counter->state, view, at_ns, cost);
    Totals& totals = counter->totals;
    ++totals.allowed;
    totals.allowed_cost = SaturatingAdd(totals.allowed_cost, cost);
    totals.last_allowed_ns = at_ns;
    return behind;
  }
  void Denied(Counter* counter, const Denials& deny);
  // Behind these two, EndUncovered.
  void ConfigureExact(Shard& shard, uint64_t hash, std::string_view key, std::string_view name,
                      const LimitConfig& config, int64_t at_ns) FLINT_REQUIRES(shard.mutex);
  void RemoveExact(Shard& shard, Counter* counter) FLINT_REQUIRES(shard.mutex);
  // Other values for an inline limit; what has been used counts on.
  void ConfigureInline(Shard& shard, Counter* counter, std::unique_ptr<LimitConfig> config,
                       int64_t at_ns) FLINT_REQUIRES(shard.mutex);
  // Ends the counters of a key to which its exact limits leave nothing to decide; `ending` hears of
  // each while it is there.
  template <typename Ending>
  void EndUncovered(Shard& shard, uint64_t hash, std::string_view key, const Ending& ending)
      FLINT_REQUIRES(shard.mutex) {
    if (!any_names_.load(std::memory_order_relaxed)) return;
    for (Counter* const counter : Uncovered(shard, hash, key)) {
      ending(counter);
      RemoveExact(shard, counter);
    }
  }
  void ResetExact(Shard& shard, Counter* counter, int64_t at_ns) FLINT_REQUIRES(shard.mutex);
  void ConfigureTemplate(std::string_view prefix, std::string_view name, const LimitConfig& config,
                         int64_t at_ns) FLINT_REQUIRES(all_shards_);
  void RemoveTemplate(Template* removed, int64_t at_ns) FLINT_REQUIRES(all_shards_);
  void ResetTemplate(Template* reset, int64_t at_ns) FLINT_REQUIRES(all_shards_);

  // Restores a line of a snapshot; kCorruption if it contradicts an earlier one.
  Status Restore(const SavedLimit& limit, State state) FLINT_REQUIRES(all_shards_);
  // Writes every limit but fresh counters as of `now_ns`, whose totals go to their templates.
  Status Save(LimitSink* sink, int64_t now_ns) FLINT_REQUIRES(all_shards_);
  // Forgets all fresh counters at once; only where nobody waits.
  void SweepAll(int64_t now_ns) FLINT_REQUIRES(all_shards_);

  // Whether a key may have several limits, or one with a name.
  bool any_names() const { return any_names_.load(std::memory_order_relaxed); }
  uint64_t limits() const { return limits_.load(std::memory_order_relaxed); }
  // Under templates. With any shard locked. What a removed template leaves behind is not counted,
  // though each is erased only when somebody comes across it.
  uint64_t counters() const;

  // Exchanges everything with another keyspace that hashes alike and that nobody else uses.
  void Swap(Keyspace* other) FLINT_REQUIRES(all_shards_);

 private:
  static constexpr int32_t kUsesPerSlot = 16;

  Counter* Add(Shard& shard, uint64_t hash, CounterPointer counter) FLINT_REQUIRES(shard.mutex);
  void Sweep(Shard& shard, int64_t now_ns) FLINT_REQUIRES(shard.mutex);
  bool SweepSlot(Shard& shard, int64_t now_ns, int64_t linger_ns) FLINT_REQUIRES(shard.mutex);
  bool ForgetIfFresh(Shard& shard, Counter* counter, int64_t now_ns, int64_t linger_ns)
      FLINT_REQUIRES(shard.mutex);
  static int64_t FreshFromNs(const Shard& shard, Counter* counter, int64_t now_ns)
      FLINT_REQUIRES(shard.mutex);
  std::atomic<int64_t>& LowestFreshNs(const Shard& shard) {
    return lowest_fresh_ns_[static_cast<size_t>(&shard - shards_.data())];
  }
  static void RestartSearch(Shard& shard) FLINT_REQUIRES(shard.mutex) {
    shard.slots_searched = 0;
    shard.search_fresh_ns = INT64_MAX;
  }
  void SearchAnew(Shard& shard) FLINT_REQUIRES(shard.mutex);
  void SearchAllAnew() FLINT_REQUIRES(all_shards_);
  void BoundTemplateJournal() FLINT_REQUIRES(all_shards_);
  bool TakeKey();
  std::vector<Counter*> Uncovered(Shard& shard, uint64_t hash, std::string_view key)
      FLINT_REQUIRES(shard.mutex);
  void SeeName(std::string_view name, const LimitConfig& config);
  void NoteOthers(Shard& shard, uint64_t hash, std::string_view key) FLINT_REQUIRES(shard.mutex);
  void CountAdded(const Counter& counter);
  void CountGone(const Counter& counter);

  std::array<Shard, kShards> shards_;
  // No counter of the shard becomes fresh before this; 0 where that is not known.
  std::array<std::atomic<int64_t>, kShards> lowest_fresh_ns_{};
  // Read with any shard's lock, changed with all.
  TemplateSet templates_;
  std::atomic<uint64_t> limits_{0};  // exact, inline and templates
  std::atomic<uint64_t> keys_{0};    // what max_keys_ bounds
  uint64_t max_keys_ = 0;
  std::atomic<bool> any_names_{false};  // and stays so; or one that stacks
  std::atomic<uint64_t> configured_at_{0};
  std::vector<unsigned char> hash_secret_;
  AllShards all_shards_{&shards_};
};

}  // namespace flint
