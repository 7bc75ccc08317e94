#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check_path.h"

namespace flint {

// CRC-32C (Castagnoli), as iSCSI, ext4 and LevelDB use it. `crc` is the checksum of what came
// before, 0 at the start: Extend(Extend(0, a), b) is the checksum of a followed by b. Uses the
// processor's instruction where there is one.
uint32_t ExtendCrc32c(uint32_t crc, const void* data, size_t size);

// The same function from tables alone, whatever the processor.
uint32_t ExtendCrc32cPortable(uint32_t crc, const void* data, size_t size);

// The same for 36 bytes that are in registers rather than in memory: the shortest records.
FLINT_CHECK_PATH uint32_t ExtendCrc32c(uint32_t crc, uint32_t first, uint64_t second,
                                       uint64_t third, uint64_t fourth, uint64_t fifth) {
#if defined(__x86_64__)
  // One load and one test: the compiler's runtime has looked at the processor at start.
  if (__builtin_cpu_supports("sse4.2")) [[likely]] {
    uint64_t wide = ~crc;
    // The compiler has this instruction only in functions that are built for newer processors
    // alone, which it cannot inline here.
    __asm__("crc32l %1, %k0" : "+r"(wide) : "r"(first));
    __asm__("crc32q %1, %0" : "+r"(wide) : "r"(second));
    __asm__("crc32q %1, %0" : "+r"(wide) : "r"(third));
    __asm__("crc32q %1, %0" : "+r"(wide) : "r"(fourth));
    __asm__("crc32q %1, %0" : "+r"(wide) : "r"(fifth));
    return ~static_cast<uint32_t>(wide);
  }
#endif
  const uint64_t rest[] = {second, third, fourth, fifth};
  return ExtendCrc32c(ExtendCrc32c(crc, &first, sizeof(first)), rest, sizeof(rest));
}

}  // namespace flint
