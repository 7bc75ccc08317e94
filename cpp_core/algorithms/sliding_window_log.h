#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "algorithms/limit.h"

namespace flint {

// The admissions of one counter, oldest first: a ring that grows by doubling. With each is kept the
// sum of all costs up to it, so that the sum over any run of entries is one subtraction, and what
// is looked for is found by halving. Not thread-safe. The caller keeps its bounds: times never go
// back, and the sum of the costs that are here is at most 2^62.
class SlidingLog {
 public:
  struct Entry {
    int64_t at_ns;
    uint64_t cost;
  };

  uint32_t size() const { return size_; }
  // Of all costs, and of the first `count`.
  uint64_t sum() const { return SumOf(size_); }
  uint64_t SumOf(uint32_t count) const { return count == 0 ? 0 : At(count - 1).up_to - dropped_; }
  int64_t at_ns(uint32_t i) const { return At(i).at_ns; }
  Entry entry(uint32_t i) const { return {At(i).at_ns, SumOf(i + 1) - SumOf(i)}; }
  // Changes when the entries move in memory.
  const void* memory() const { return ring_.get(); }

  // The first i for which `is(i)`, or size(). Where it is true for one it is for all behind it.
  template <typename Is>
  uint32_t FirstWhere(const Is& is) const {
    uint32_t first = 0;
    uint32_t end = size_;
    while (first < end) {
      const uint32_t middle = first + (end - first) / 2;
      if (is(middle)) {
        end = middle;
      } else {
        first = middle + 1;
      }
    }
    return first;
  }

  // Whether an admission at this time joins the newest entry instead of needing one of its own.
  bool Joins(int64_t at_ns) const { return size_ > 0 && At(size_ - 1).at_ns == at_ns; }
  // Makes the next Append at this time allocate nothing.
  void MakeRoom(int64_t at_ns) {
    if (size_ == capacity_ && !Joins(at_ns)) Grow();
  }
  void Append(int64_t at_ns, uint64_t cost) {
    MakeRoom(at_ns);
    const uint64_t up_to = dropped_ + sum() + cost;
    if (!Joins(at_ns)) ++size_;
    ring_[(first_ + size_ - 1) & (capacity_ - 1)] = {at_ns, up_to};
  }
  // At most size().
  void DropOldest(uint32_t count) {
    dropped_ += SumOf(count);
    first_ = (first_ + count) & (capacity_ - 1);
    size_ -= count;
  }

 private:
  struct Stored {
    int64_t at_ns;
    uint64_t up_to;  // the sum of all costs ever up to this one, modulo 2^64
  };

  const Stored& At(uint32_t i) const { return ring_[(first_ + i) & (capacity_ - 1)]; }
  void Grow() {
    const uint32_t capacity = capacity_ == 0 ? kFirstCapacity : 2 * capacity_;
    auto ring = std::make_unique_for_overwrite<Stored[]>(capacity);
    for (uint32_t i = 0; i < size_; ++i) ring[i] = At(i);
    ring_ = std::move(ring);
    capacity_ = capacity;
    first_ = 0;
  }

  static constexpr uint32_t kFirstCapacity = 4;

  std::unique_ptr<Stored[]> ring_;
  uint32_t capacity_ = 0;  // 0 or a power of two
  uint32_t first_ = 0;
  uint32_t size_ = 0;
  uint64_t dropped_ = 0;  // the sum of all costs that are not here any more, modulo 2^64
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
  // As of one time: the entries that are in the window.
  struct View {
    const SlidingLog* log;  // may be null when there are none
    int64_t now_ns;
    uint32_t first;
    uint32_t count;
    uint64_t sum;
  };

  static View At(const LimitConfig& config, const State& state, int64_t now_ns) {
    if (!state.log) return {nullptr, now_ns, 0, 0, 0};
    const SlidingLog& log = *state.log;
    const uint32_t expired = CountExpired(config, log, now_ns);
    return {&log, now_ns, expired, log.size() - expired, log.sum() - log.SumOf(expired)};
  }

  static bool Allows(const LimitConfig& config, View view, uint64_t cost) {
    if (view.sum + cost > config.rate) return false;
    return view.count < kMaxSlidingLogEntries || view.log->Joins(view.now_ns);
  }

  // Drops what has left the window.
  static void Tidy(const LimitConfig& config, State& state, int64_t now_ns) {
    DropExpired(config, state, now_ns);
    if (state.log && state.log->size() == 0) state.log.reset();
  }

  static void PrepareAdmit(const LimitConfig& config, State& state, int64_t now_ns) {
    DropExpired(config, state, now_ns);
    if (!state.log) state.log = std::make_unique<SlidingLog>();
    state.log->MakeRoom(now_ns);
  }

  static View Admit(const LimitConfig& config, State& state, View /*view*/, int64_t now_ns,
                    uint64_t cost) {
    PrepareAdmit(config, state, now_ns);
    state.log->Append(now_ns, cost);
    return At(config, state, now_ns);
  }

  static uint64_t Used(const LimitConfig& /*config*/, View view) { return view.sum; }

  static uint64_t Remaining(const LimitConfig& config, View view) {
    if (view.count >= kMaxSlidingLogEntries && !view.log->Joins(view.now_ns)) return 0;
    return config.rate - view.sum;
  }

  static uint64_t ResetAfterNs(const LimitConfig& config, View view) {
    return view.count == 0 ? 0 : LeavesAfterNs(config, view, view.first);
  }

  // When enough of the oldest entries have left: until the sum fits, and there is room for one
  // more.
  static uint64_t RetryAfterNs(const LimitConfig& config, View view, uint64_t cost) {
    if (view.count == 0 || Allows(config, view, cost)) return 0;
    const SlidingLog& log = *view.log;
    uint32_t last = view.first;  // of those that have to leave
    if (view.sum + cost > config.rate) {
      const uint64_t too_much = view.sum + cost - config.rate;
      const uint64_t gone = log.sum() - view.sum;
      last = log.FirstWhere([&](uint32_t i) { return log.SumOf(i + 1) >= gone + too_much; });
    }
    if (view.count >= kMaxSlidingLogEntries && !log.Joins(view.now_ns)) {
      last = std::max(last, view.first + view.count - kMaxSlidingLogEntries);
    }
    return LeavesAfterNs(config, view, last);
  }

  static bool IsFresh(const LimitConfig& /*config*/, View view) { return view.count == 0; }

 private:
  static void DropExpired(const LimitConfig& config, State& state, int64_t now_ns) {
    if (!state.log) return;
    const uint32_t expired = CountExpired(config, *state.log, now_ns);
    if (expired > 0) state.log->DropOldest(expired);
  }

  static bool Expired(const LimitConfig& config, int64_t at_ns, int64_t now_ns) {
    return at_ns <= now_ns - static_cast<int64_t>(config.per_ns);
  }

  static uint64_t LeavesAfterNs(const LimitConfig& config, View view, uint32_t entry) {
    return config.per_ns - static_cast<uint64_t>(view.now_ns - view.log->at_ns(entry));
  }

  // How many have left the window. Mostly none.
  static uint32_t CountExpired(const LimitConfig& config, const SlidingLog& log, int64_t now_ns) {
    if (log.size() == 0 || !Expired(config, log.at_ns(0), now_ns)) return 0;
    return log.FirstWhere([&](uint32_t i) { return !Expired(config, log.at_ns(i), now_ns); });
  }
};

}  // namespace flint
