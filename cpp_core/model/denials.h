#pragma once

#include <cstdint>

namespace flint {

// One denial of a limit, or several that are told as one.
struct Denials {
  int64_t time_ns = 0;  // engine time, of the last
  uint64_t cost = 0;    // of all together
  uint64_t count = 1;
  int64_t first_ns = 0;
};

}  // namespace flint
