#pragma once

#include <cstdint>

namespace flint {

inline constexpr int64_t kNever = -1;

// What has happened to a limit.
struct Totals {
  uint64_t allowed = 0;
  uint64_t denied = 0;
  uint64_t allowed_cost = 0;
  uint64_t denied_cost = 0;
  int64_t last_allowed_ns = kNever;  // engine time, as are the others
  int64_t last_denied_ns = kNever;
  int64_t last_reset_ns = kNever;
};

// Adds, stopping at the largest value.
inline uint64_t SaturatingAdd(uint64_t a, uint64_t b) { return a + b < a ? UINT64_MAX : a + b; }

void Merge(Totals* into, const Totals& totals);

}  // namespace flint
