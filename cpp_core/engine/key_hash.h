#pragma once

// All of it in whoever includes this: a hash of a short key takes less than a call.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string_view>
#include <vector>

#include "base/check_path.h"

namespace flint {

inline constexpr size_t kHashSecretBytes = XXH3_SECRET_SIZE_MIN;

// XXH3 of a key. The secret keeps clients from choosing keys that collide.
FLINT_CHECK_PATH uint64_t HashOf(std::string_view key, const std::vector<unsigned char>& secret) {
  constexpr size_t kShortBytes = 16;
  if (key.size() <= kShortBytes) [[likely]] {
    const void* const bytes = key.data();
    return XXH3_len_0to16_64b(static_cast<const xxh_u8*>(bytes), key.size(), secret.data(), 0);
  }
  return XXH3_64bits_withSecret(key.data(), key.size(), secret.data(), secret.size());
}

}  // namespace flint
