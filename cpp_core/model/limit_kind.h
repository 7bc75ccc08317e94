#pragma once

#include <cstddef>
#include <cstdint>

namespace flint {

// What a limit is, as records and snapshots number it.
enum class LimitKind : uint8_t { kExact = 0, kTemplate = 1, kCounter = 2, kInline = 3 };

// The bytes of a limit's name are counted by one byte.
inline constexpr size_t kMaxNameBytes = 255;
// At most so many limits of one key decide together.
inline constexpr size_t kMaxLimitsOfKey = 16;

}  // namespace flint
