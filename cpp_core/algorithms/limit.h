#pragma once

#include <cstdint>
#include <memory>

#include "base/check_path.h"

namespace flint {

// What a limit is and what one counter of it remembers: the types that all algorithms share.

enum class Algorithm : uint8_t {
  kTokenBucket = 1,
  kGcra = 2,
  kLeakyBucket = 3,
  kFixedWindowCounter = 4,
  kSlidingWindowLog = 5,
  kSlidingWindowCounter = 6,
};

// A product of two quantities below, exactly.
__extension__ using Uint128 = unsigned __int128;

struct Quotient {
  uint64_t quotient;  // UINT64_MAX if it does not fit
  uint64_t remainder;
};
FLINT_CHECK_PATH Quotient Divide(Uint128 dividend, uint64_t divisor) {
  const auto high = static_cast<uint64_t>(dividend >> 64);
  if (high >= divisor) return {UINT64_MAX, 0};
#if defined(__x86_64__)
  // One instruction, where the compiler would call a function: it does not know that the quotient
  // fits into a word.
  auto quotient = static_cast<uint64_t>(dividend);
  uint64_t remainder = high;
  __asm__("divq %2" : "+a"(quotient), "+d"(remainder) : "r"(divisor) : "cc");
  return {quotient, remainder};
#else
  return {static_cast<uint64_t>(dividend / divisor), static_cast<uint64_t>(dividend % divisor)};
#endif
}

inline constexpr uint64_t kMaxQuantity = uint64_t{1} << 62;
inline constexpr uint32_t kMaxSlidingLogEntries = uint32_t{1} << 20;

const char* AlgorithmName(Algorithm algorithm);                        // "token_bucket"
bool ParseAlgorithm(const char* name, uint64_t size, Algorithm* out);  // exact spelling
inline bool IsBucket(Algorithm a) { return a <= Algorithm::kLeakyBucket; }

// A limit's numbers. Build with MakeConfig, which fills the derived fields.
struct LimitConfig {
  uint64_t rate = 0;
  uint64_t per_ns = 0;
  uint64_t burst = 0;
  Algorithm algorithm = Algorithm::kTokenBucket;
  // Whether the limits of shorter templates apply to the same keys too. No number, and of no
  // concern to the algorithms, but it changes with them.
  bool stack = false;
  // Derived, for buckets: how far one unit moves the arrival time, and the whole burst's span,
  // each as whole nanoseconds and a remainder in units of 1/rate nanosecond.
  uint64_t unit_ns = 0;
  uint64_t unit_fraction = 0;
  uint64_t span_ns = 0;
  uint64_t span_fraction = 0;

  bool SameAs(const LimitConfig& other) const {
    return rate == other.rate && per_ns == other.per_ns && burst == other.burst &&
           algorithm == other.algorithm && stack == other.stack;
  }
};

enum class ConfigError : uint8_t { kNone, kRate, kPer, kBurst, kBurstSpan, kAlgorithm };

// `burst` 0 means `rate`. For window algorithms any other burst than rate is an error (kBurst).
// kBurstSpan: ceil(burst * per_ns / rate) is over 2^62. An error leaves `*config` alone.
ConfigError MakeConfig(Algorithm algorithm, uint64_t rate, uint64_t per_ns, uint64_t burst,
                       LimitConfig* config);

// Buckets: the theoretical arrival time tat_ns + fraction/rate, when the bucket is full again.
struct BucketState {
  int64_t tat_ns;     // its bits are unsigned: at now = 2^62 it may reach 2^63
  uint64_t fraction;  // in [0, rate)
};
// The window that began at its first admission.
struct FixedWindowState {
  int64_t start_ns;
  uint64_t used;  // 0: no window has begun
};
// Window `index` is [index * per_ns, (index + 1) * per_ns).
struct SlidingCounterState {
  int64_t index;
  uint64_t previous;
  uint64_t current;
};
class SlidingLog;  // sliding_window_log.h: (time, cost) pairs, at most 2^20 of them

// What one counter remembers. A default one is fresh: nothing used.
struct State {
  State();
  ~State();
  State(State&&) noexcept;
  State& operator=(State&&) noexcept;
  union {
    BucketState bucket;
    FixedWindowState fixed;
    SlidingCounterState sliding;
  };
  std::unique_ptr<SlidingLog> log;  // sliding_window_log only; may be null when empty
};

}  // namespace flint
