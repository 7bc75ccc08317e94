#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "algorithms/limit.h"

namespace flint {

// The admissions of one counter, oldest first, with the sum of their costs: a ring that grows by
// doubling. Not thread-safe. The caller keeps its bounds: times never go back, and the sum of
// costs is at most 2^62.
class SlidingLog {
 public:
  struct Entry {
    int64_t at_ns;
    uint64_t cost;
  };

  uint32_t size() const { return size_; }
  uint64_t sum() const { return sum_; }
  const Entry& entry(uint32_t i) const { return ring_[(first_ + i) & (capacity_ - 1)]; }

  // Whether an admission at this time joins the newest entry instead of needing one of its own.
  bool Joins(int64_t at_ns) const { return size_ > 0 && entry(size_ - 1).at_ns == at_ns; }
  // Makes the next Append at this time allocate nothing.
  void MakeRoom(int64_t at_ns) {
    if (size_ == capacity_ && !Joins(at_ns)) Grow();
  }
  void Append(int64_t at_ns, uint64_t cost) {
    MakeRoom(at_ns);
    if (!Joins(at_ns)) ring_[(first_ + size_++) & (capacity_ - 1)] = {at_ns, 0};
    ring_[(first_ + size_ - 1) & (capacity_ - 1)].cost += cost;
    sum_ += cost;
  }
  void DropOldest() {
    sum_ -= entry(0).cost;
    first_ = (first_ + 1) & (capacity_ - 1);
    --size_;
  }

 private:
  void Grow() {
    const uint32_t capacity = capacity_ == 0 ? kFirstCapacity : 2 * capacity_;
    auto ring = std::make_unique_for_overwrite<Entry[]>(capacity);
    for (uint32_t i = 0; i < size_; ++i) ring[i] = entry(i);
    ring_ = std::move(ring);
    capacity_ = capacity;
    first_ = 0;
  }

  static constexpr uint32_t kFirstCapacity = 4;

  std::unique_ptr<Entry[]> ring_;
  uint32_t capacity_ = 0;  // 0 or a power of two
  uint32_t first_ = 0;
  uint32_t size_ = 0;
  uint64_t sum_ = 0;
};

// The exact sum of what was admitted in (now - per, now], plus `cost`, is at most `rate`: over any
// span of `per` no more than `rate` units are ever admitted. Every admission is remembered until it
// is `per` old; those of one nanosecond are one entry.
//
// A counter remembers at most 2^20 entries (16 MiB). An admission that would need one more is
// denied, whatever the sum, until the oldest has left; meanwhile nothing remains.
//
// Remaining: rate - sum. Reset: when the oldest entry leaves; at once when there is none.
//
// Source: the definition itself; as a log of time stamps it is common in rate limiters that
// keep a sorted set for each client.
struct SlidingWindowLog {
  // Drops what has left the window.
  static bool Allows(const LimitConfig& config, State& state, int64_t now_ns, uint64_t cost) {
    DropExpired(config, state, now_ns);
    if (state.log && state.log->size() == 0) state.log.reset();
    return !state.log || Fits(config, *state.log, LiveAt(config, state, now_ns), now_ns, cost);
  }

  static void PrepareAdmit(const LimitConfig& config, State& state, int64_t now_ns) {
    DropExpired(config, state, now_ns);
    if (!state.log) state.log = std::make_unique<SlidingLog>();
    state.log->MakeRoom(now_ns);
  }

  static void Admit(const LimitConfig& config, State& state, int64_t now_ns, uint64_t cost) {
    PrepareAdmit(config, state, now_ns);
    state.log->Append(now_ns, cost);
  }

  static uint64_t Used(const LimitConfig& config, const State& state, int64_t now_ns) {
    return LiveAt(config, state, now_ns).sum;
  }

  static uint64_t Remaining(const LimitConfig& config, const State& state, int64_t now_ns) {
    const Live live = LiveAt(config, state, now_ns);
    if (live.count >= kMaxSlidingLogEntries && !state.log->Joins(now_ns)) return 0;
    return config.rate - live.sum;
  }

  static uint64_t ResetAfterNs(const LimitConfig& config, const State& state, int64_t now_ns) {
    const Live live = LiveAt(config, state, now_ns);
    return live.count == 0 ? 0 : LeavesAfterNs(config, state.log->entry(live.first), now_ns);
  }

  // When enough of the oldest entries have left.
  static uint64_t RetryAfterNs(const LimitConfig& config, const State& state, int64_t now_ns,
                               uint64_t cost) {
    Live live = LiveAt(config, state, now_ns);
    uint64_t retry_after_ns = 0;
    while (live.count > 0 && !Fits(config, *state.log, live, now_ns, cost)) {
      const SlidingLog::Entry& oldest = state.log->entry(live.first);
      retry_after_ns = LeavesAfterNs(config, oldest, now_ns);
      live = {live.first + 1, live.count - 1, live.sum - oldest.cost};
    }
    return retry_after_ns;
  }

  static bool IsFresh(const LimitConfig& config, const State& state, int64_t now_ns) {
    return LiveAt(config, state, now_ns).count == 0;
  }

 private:
  // The entries that are in the window.
  struct Live {
    uint32_t first;
    uint32_t count;
    uint64_t sum;
  };

  static bool Expired(const LimitConfig& config, const SlidingLog::Entry& entry, int64_t now_ns) {
    return static_cast<uint64_t>(now_ns - entry.at_ns) >= config.per_ns;
  }

  static uint64_t LeavesAfterNs(const LimitConfig& config, const SlidingLog::Entry& entry,
                                int64_t now_ns) {
    return config.per_ns - static_cast<uint64_t>(now_ns - entry.at_ns);
  }

  static void DropExpired(const LimitConfig& config, State& state, int64_t now_ns) {
    SlidingLog* log = state.log.get();
    while (log && log->size() > 0 && Expired(config, log->entry(0), now_ns)) log->DropOldest();
  }

  static Live LiveAt(const LimitConfig& config, const State& state, int64_t now_ns) {
    if (!state.log) return {0, 0, 0};
    Live live = {0, state.log->size(), state.log->sum()};
    while (live.count > 0 && Expired(config, state.log->entry(live.first), now_ns)) {
      live.sum -= state.log->entry(live.first).cost;
      ++live.first;
      --live.count;
    }
    return live;
  }

  static bool Fits(const LimitConfig& config, const SlidingLog& log, const Live& live,
                   int64_t now_ns, uint64_t cost) {
    if (live.sum + cost > config.rate) return false;
    return live.count < kMaxSlidingLogEntries || log.Joins(now_ns);
  }
};

}  // namespace flint
