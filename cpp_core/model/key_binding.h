#pragma once

#include <cstdint>

namespace flint {

// What a counter remembers of the log: the segment in which its key has an id, and the id.
struct KeyBinding {
  uint32_t segment = 0;
  uint32_t id = 0;
};

}  // namespace flint
