#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/assert.h"
#include "base/check_path.h"
#include "engine/keyspace.h"
#include "storage/log.h"

namespace flint {

// One of the limits that are decided together, and what is asked of it.
struct Claim {
  uint64_t hash = 0;
  Keyspace::Shard* shard = nullptr;
  Counter* counter = nullptr;
  uint64_t cost = 0;
};

// Brings what has been decided into the log and then into the keyspace, in this order: what cannot
// be recorded has not happened. Without a log it only changes the keyspace.
//
// Each function needs the locks of the shards it is given, in claims too; FlushAllMerged takes them
// itself. With `no_wait` the log is not waited for longer than a moment either: kBusy.
class Recorder {
 public:
  Recorder(Keyspace* keyspace, bool sync_denials, bool merge_denials)
      : keyspace_(keyspace), sync_denials_(sync_denials), merge_denials_(merge_denials) {}
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // Before the first call of anything else, if there is a log at all.
  void set_log(Log* log) { log_ = log; }

  AppendOutcome RecordAllow(Keyspace::Shard& shard, Counter* counter, int64_t now_ns, uint64_t cost,
                            bool no_wait, uint64_t* ticket) FLINT_REQUIRES(shard.mutex);
  // The same where the algorithm is known. `*view` is how the counter stands, and then how it
  // stands behind the admission.
  template <typename A>
  FLINT_CHECK_PATH AppendOutcome RecordAllowAs(Keyspace::Shard& shard, Counter* counter,
                                               int64_t now_ns, uint64_t cost,
                                               typename A::View* view, bool no_wait,
                                               uint64_t* ticket) FLINT_REQUIRES(shard.mutex) {
    const LimitConfig& config = *counter->config;
    if (counter->ephemeral() && A::IsFresh(config, *view)) [[unlikely]] {
      const AppendOutcome begun = BeginAnew(shard, counter, no_wait);
      if (begun != AppendOutcome::kOk) return begun;
      *view = A::At(config, counter->state, now_ns);
    }
    A::PrepareAdmit(config, counter->state, now_ns);
    *ticket = 0;
    if (log_ != nullptr) {
      AppendOutcome result = log_->AppendAllow(counter->binding, now_ns, cost, no_wait, ticket);
      if (result == AppendOutcome::kNeedKey) [[unlikely]] {
        result = log_->AppendFirstAllow(KeyOf(*counter), KeyedIn(*counter), now_ns, cost, no_wait,
                                        &counter->binding, ticket);
      }
      if (result != AppendOutcome::kOk) [[unlikely]]
        return result;
    }
    FLINT_ASSERT(log_ == nullptr || *ticket != 0);
    *view = keyspace_->AdmittedAs<A>(counter, *view, now_ns, cost);
    return AppendOutcome::kOk;
  }
  // All in one record; `one_key`: all of them are limits of one key.
  AppendOutcome RecordAllowAll(std::span<const Claim> claims, int64_t now_ns, bool one_key,
                               bool no_wait, uint64_t* ticket);
  // With sync_denials like an admission. Otherwise it never fails and never waits: a denial that
  // the log has no room for is merged as well.
  AppendOutcome RecordDeny(Keyspace::Shard& shard, Counter* counter, int64_t now_ns, uint64_t cost,
                           bool no_wait, uint64_t* ticket) FLINT_REQUIRES(shard.mutex);
  // That a counter in use makes room for another key; who calls removes it then.
  AppendOutcome RecordEviction(Keyspace::Shard& shard, Counter* counter, int64_t now_ns,
                               bool no_wait) FLINT_REQUIRES(shard.mutex);
  // LIMIT_CONFIGURED, LIMIT_REMOVED or RESET; who calls makes the change then. Under the locks of
  // what is changed, so that whoever finds it changed also finds the ticket.
  AppendOutcome RecordChange(RecordType type, std::string_view payload, bool no_wait,
                             uint64_t* ticket);
  // For who finds a limit as it should be: the ticket of the change that made it so, if it may not
  // be on disk yet, otherwise 0.
  uint64_t UnsyncedChange() const;

  // Appends what has been merged of a counter's denials, a shard's, or all there are.
  AppendOutcome FlushMerged(Keyspace::Shard& shard, Counter* counter, bool no_wait)
      FLINT_REQUIRES(shard.mutex);
  AppendOutcome FlushMerged(Keyspace::Shard& shard, bool no_wait) FLINT_REQUIRES(shard.mutex);
  AppendOutcome FlushAllMerged() FLINT_EXCLUDES(keyspace_->all_shards());

  // Keys in use that made room for others.
  uint64_t evicted() const { return evicted_.load(std::memory_order_relaxed); }

 private:
  AppendOutcome BeginAnew(Keyspace::Shard& shard, Counter* counter, bool no_wait)
      FLINT_REQUIRES(shard.mutex);
  AppendOutcome BindKey(Counter* counter, bool no_wait);
  static KeyPayload KeyOf(const Counter& counter);
  // Where it is noted that the log has a template's configuration; null where that does not count.
  static uint32_t* KeyedIn(const Counter& counter) {
    Template* const parent = counter.parent();
    return parent != nullptr && parent->name.empty() ? &parent->keyed_in : nullptr;
  }
  AppendOutcome BindStale(std::span<const Claim> claims, bool no_wait);
  AppendOutcome AppendDeny(Counter* counter, const Denials& deny, bool no_wait, uint64_t* ticket);
  void MergeDeny(Keyspace::Shard& shard, Counter* counter, const Denials& deny, bool no_wait)
      FLINT_REQUIRES(shard.mutex);

  Keyspace* const keyspace_;
  Log* log_ = nullptr;
  const bool sync_denials_;
  const bool merge_denials_;
  std::atomic<uint32_t> shards_with_merged_{0};
  std::atomic<uint64_t> last_change_ticket_{0};
  std::atomic<uint64_t> evicted_{0};
};

}  // namespace flint
