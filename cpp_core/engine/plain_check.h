#pragma once

#include <algorithm>

#include "base/check_path.h"
#include "engine/engine.h"
#include "engine/key_hash.h"

// The way of most checks, without a call that could be left out: whoever includes this has all of
// it in its own function, and a decision that it only reads needs no memory. What is rare is
// elsewhere, in decide.cc.
namespace flint {

template <typename A>
FLINT_CHECK_PATH void Engine::DescribeAs(const LimitConfig& config, typename A::View view,
                                         int64_t now_ns, uint64_t cost, bool allowed,
                                         Decision* decision) {
  decision->algorithm = config.algorithm;
  decision->cost = cost;
  decision->limit = config.burst;
  decision->remaining = A::Remaining(config, view);
  decision->reset_after_ns = A::ResetAfterNs(config, view);
  const uint64_t reset_at_ns =
      static_cast<uint64_t>(clock_.WallAt(now_ns)) + decision->reset_after_ns;
  decision->reset_at_ns =
      static_cast<int64_t>(std::min(reset_at_ns, static_cast<uint64_t>(INT64_MAX)));
  decision->retry_after_ns = allowed ? 0 : A::RetryAfterNs(config, view, cost);
}

// Decides, has it recorded, and tells how the counter stands then.
template <typename A>
FLINT_CHECK_PATH AppendOutcome Engine::CheckAs(Shard& shard, Counter* counter, uint64_t cost,
                                               const Flags& flags, int64_t now_ns,
                                               Decision* decision) {
  const LimitConfig& config = *counter->config;
  A::Tidy(config, counter->state, now_ns);
  typename A::View view = A::At(config, counter->state, now_ns);
  const bool allowed = !flags.refuse && A::Allows(config, view, cost);
  uint64_t ticket = 0;
  AppendOutcome result;
  if (allowed) [[likely]] {
    result =
        recorder_.RecordAllowAs<A>(shard, counter, now_ns, cost, &view, flags.no_wait, &ticket);
  } else {
    result = recorder_.RecordDeny(shard, counter, now_ns, cost, flags.no_wait, &ticket);
  }
  if (result != AppendOutcome::kOk) [[unlikely]]
    return result;
  decision->allowed = allowed;
  decision->ticket = ticket;
  if (!flags.decision_only) DescribeAs<A>(config, view, now_ns, cost, allowed, decision);
  return AppendOutcome::kOk;
}

template <typename Fill>
FLINT_CHECK_PATH bool Engine::CheckPlain(const Item& item, const Flags& flags, const Fill& fill) {
  // Before anything is worked out, since in always mode it never does; and in a forked child the
  // lock may be held for ever.
  if (!answers_at_once_.load(std::memory_order_relaxed)) [[unlikely]]
    return false;
  const uint64_t hash = HashOf(item.key, keyspace_.hash_secret());
  Shard* shard_of_hash = &keyspace_.ShardOf(hash);
  // Otherwise the compiler works it out anew each time rather than keep it.
  __asm__("" : "+r"(shard_of_hash));
  Shard& shard = *shard_of_hash;
  if (!shard.mutex.try_lock()) [[unlikely]] {
    if (!shard.Lock(flags.no_wait)) return false;
  }
  const MutexLock lock(shard.mutex, std::adopt_lock);
  if (!answers_at_once_.load(std::memory_order_relaxed)) [[unlikely]]
    return false;
  // Read under the lock: what is decided later is not decided as of earlier.
  const int64_t now_ns = Keyspace::NowIn(shard, &clock_);
  keyspace_.SweepAsUsed(shard, now_ns);
  Counter* const counter = keyspace_.FindAny(shard, hash, item.key);
  if (counter == nullptr) [[unlikely]]
    return false;
  if (!counter->plain || !CostFits(*counter->config, item.cost)) [[unlikely]]
    return false;
  if (!IsBucket(counter->config->algorithm)) [[unlikely]] {
    // Copies: what is handed on to a function that is called has to be in memory.
    const Flags of_call = flags;
    Decision of_window;
    if (CheckAnyAlgorithm(shard, counter, item.cost, of_call, now_ns, &of_window) !=
        AppendOutcome::kOk) {
      return false;
    }
    fill(of_window);
    return true;
  }
  Decision decision;
  if (CheckAs<BucketLevel>(shard, counter, item.cost, flags, now_ns, &decision) !=
      AppendOutcome::kOk) [[unlikely]] {
    return false;
  }
  fill(decision);
  return true;
}

}  // namespace flint
