#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/check_path.h"
#include "base/clock.h"

namespace flint {

// The processor's counter, and the clock that it is held against.
struct Processor {
  // Whether it counts at one rate on all cores, whatever they do, and the kernel itself tells time
  // by it.
  static bool HasSteadyCounter();

#if defined(__x86_64__)
  // May be read a little before what stands in front of it is done: that is an earlier time.
  FLINT_CHECK_PATH static uint64_t Ticks() { return __builtin_ia32_rdtsc(); }
  // Neither before nor after its place.
  static uint64_t TicksInOrder() {
    __builtin_ia32_lfence();
    const uint64_t ticks = __builtin_ia32_rdtsc();
    __builtin_ia32_lfence();
    return ticks;
  }
#else
  static uint64_t Ticks() { return 0; }
  static uint64_t TicksInOrder() { return 0; }
#endif

  static int64_t BootNs() { return Clock::SystemBootNs(); }
};

// The boot clock, told by the processor's counter, which costs a third of asking the system: a line
// that begins at an anchor, where both were read, and rises a little more slowly than the clock
// does. A new anchor is made when the line is a millisecond long, and is never below the line
// before it. Any thread.
//
// It is never ahead of the boot clock while the counter is steady, and behind by at most
// 20 microseconds. Each anchor shows whether the counter was: when it ran too slowly, stood still
// or went back, its rate is measured anew, and when the line was ahead, the system is asked for
// good. The system is asked too until the rate has been measured twice alike.
template <typename Machine>
class CounterClock {
 public:
  static constexpr int64_t kLineNs = 1'000'000;
  static constexpr int64_t kMeasureNs = 20'000'000;
  // Between the two readings of the system's clock around one of the counter; what takes longer was
  // interrupted.
  static constexpr int64_t kMostGapNs = 10'000;

  // The first anchor is made by the first reading.
  void Start() { ask_until_ns_.store(0, std::memory_order_relaxed); }

  // False when the system has to be asked.
  FLINT_CHECK_PATH bool Read(int64_t* boot_ns) const {
    // Loads are not moved to before an acquiring load, so the second reading of the number is the
    // last.
    const uint32_t number = line_number_.load(std::memory_order_acquire);
    const uint64_t line_ticks = line_ticks_.load(std::memory_order_acquire);
    if (line_ticks == 0) [[unlikely]]
      return false;
    const uint64_t ticks = Machine::Ticks() - from_ticks_.load(std::memory_order_acquire);
    const uint64_t passed_ns = ticks * slope_.load(std::memory_order_acquire) >> kSlopeBits;
    *boot_ns = from_ns_.load(std::memory_order_acquire) + static_cast<int64_t>(passed_ns);
    // An odd number is one that is being changed.
    return ticks < line_ticks &&
           (number & ~uint32_t{1}) == line_number_.load(std::memory_order_relaxed);
  }

  // Asks the system, and makes a new anchor if it is time to.
  [[gnu::noinline]] int64_t ReadAnew() {
    const int64_t boot_ns = Machine::BootNs();
    if (boot_ns < ask_until_ns_.load(std::memory_order_relaxed)) return boot_ns;
    uint32_t number = line_number_.load(std::memory_order_relaxed);
    // Another thread is about it.
    if (number % 2 != 0 || !line_number_.compare_exchange_strong(number, number + 1)) {
      return boot_ns;
    }
    const int64_t read_ns = MakeAnchor(boot_ns);
    line_number_.store(number + 2, std::memory_order_release);
    return read_ns;
  }

  // Whether readings come from the counter by now.
  bool counting() const { return line_ticks_.load(std::memory_order_relaxed) != 0; }
  // Whether the system is asked for good.
  bool given_up() const { return ask_until_ns_.load(std::memory_order_relaxed) == INT64_MAX; }

 private:
  static constexpr uint32_t kSlopeBits = 32;
  static constexpr uint64_t kMostSlope = uint64_t{1} << 36;  // of a counter of 62.5 MHz
  __extension__ using Wide = unsigned __int128;

  // The counter, and a time before and one behind its reading.
  struct Reading {
    int64_t before_ns = 0;
    uint64_t ticks = 0;
    int64_t behind_ns = 0;
  };

  static int64_t PassedNs(uint64_t ticks, uint64_t slope) {
    const auto passed_ns = static_cast<Wide>(ticks) * slope >> kSlopeBits;
    return static_cast<int64_t>(std::min(passed_ns, static_cast<Wide>(Clock::kMaxNs)));
  }

  // The rest is done by one thread at a time: the one that has made the number odd. What is stored
  // behind that is released, so that who reads it sees the odd number too.
  int64_t MakeAnchor(int64_t boot_ns) {
    const uint64_t ticks = Machine::TicksInOrder();
    const Reading now{boot_ns, ticks, Machine::BootNs()};
    if (now.behind_ns - now.before_ns > kMostGapNs) return now.behind_ns;
    int64_t least_ns = now.before_ns;
    if (counting()) {
      const uint64_t since = now.ticks - from_ticks_.load(std::memory_order_relaxed);
      const int64_t from_ns = from_ns_.load(std::memory_order_relaxed);
      const bool forward = since != 0 && since <= INT64_MAX;
      const int64_t line_ns =
          from_ns + (forward ? PassedNs(since, slope_.load(std::memory_order_relaxed)) : 0);
      if (line_ns > now.behind_ns) return GiveUp(now);
      const int64_t lag_ns = now.before_ns - line_ns;
      if (!forward || lag_ns > (now.before_ns - from_ns) / kMostLag + 2 * kMostGapNs) {
        return MeasureFrom(now, 0);
      }
      least_ns = std::max(least_ns, line_ns);
    }
    if (now.before_ns - measured_from_.behind_ns >= kMeasureNs && !Measure(now)) {
      return now.behind_ns;
    }
    if (rate_ == 0) return now.behind_ns;
    Draw(now.ticks, least_ns);
    return least_ns;
  }

  // False if the rate is not the one that was measured before.
  bool Measure(const Reading& now) {
    const uint64_t ticks = now.ticks - measured_from_.ticks;
    // The least that can have passed.
    const auto passed_ns = static_cast<uint64_t>(now.before_ns - measured_from_.behind_ns);
    const Wide wide = ticks == 0 ? 0 : (static_cast<Wide>(passed_ns) << kSlopeBits) / ticks;
    const uint64_t rate = wide > kMostSlope ? 0 : static_cast<uint64_t>(wide);
    const uint64_t before = rate_ != 0 ? rate_ : rate_to_confirm_;
    const uint64_t difference = std::max(rate, before) - std::min(rate, before);
    if (rate == 0 || difference > before / kMostDifference) {
      MeasureFrom(now, rate);
      return false;
    }
    measured_from_ = now;
    rate_ = rate;
    return true;
  }

  int64_t MeasureFrom(const Reading& now, uint64_t rate_to_confirm) {
    measured_from_ = now;
    rate_ = 0;
    rate_to_confirm_ = rate_to_confirm;
    line_ticks_.store(0, std::memory_order_release);
    ask_until_ns_.store(now.behind_ns + kMeasureNs, std::memory_order_relaxed);
    return now.behind_ns;
  }

  void Draw(uint64_t from_ticks, int64_t from_ns) {
    from_ticks_.store(from_ticks, std::memory_order_release);
    from_ns_.store(from_ns, std::memory_order_release);
    slope_.store(rate_ - rate_ / kSlower, std::memory_order_release);
    line_ticks_.store((uint64_t{kLineNs} << kSlopeBits) / rate_, std::memory_order_release);
  }

  int64_t GiveUp(const Reading& now) {
    line_ticks_.store(0, std::memory_order_release);
    ask_until_ns_.store(INT64_MAX, std::memory_order_relaxed);
    return now.behind_ns;
  }

  // To put its clocks right the kernel makes them run faster or slower by up to 1/2000. A rate may
  // differ by that and by how exactly it is measured, and less than the line is slower: so what a
  // sleep adds to a rate unseen does not bring the line ahead.
  static constexpr uint64_t kMostDifference = 1280;
  static constexpr uint64_t kSlower = 1024;
  static constexpr int64_t kMostLag = 256;

  std::atomic<uint32_t> line_number_{0};
  std::atomic<uint64_t> line_ticks_{0};  // how long the line is; 0: there is none
  std::atomic<uint64_t> from_ticks_{0};
  std::atomic<int64_t> from_ns_{0};
  std::atomic<uint64_t> slope_{0};                // ns of a tick, times 2^32
  std::atomic<int64_t> ask_until_ns_{INT64_MAX};  // the system, without a look at the counter
  Reading measured_from_;
  uint64_t rate_ = 0;             // as a slope; 0: not known
  uint64_t rate_to_confirm_ = 0;  // measured once
};

}  // namespace flint
