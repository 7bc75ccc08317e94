#pragma once

#include <cstddef>
#include <cstdint>

namespace flint {

// CRC-32C (Castagnoli), as iSCSI, ext4 and LevelDB use it. `crc` is the checksum of what came
// before, 0 at the start: Extend(Extend(0, a), b) is the checksum of a followed by b. Uses the
// processor's instruction where there is one.
uint32_t ExtendCrc32c(uint32_t crc, const void* data, size_t size);

// The same for 36 bytes that are in registers rather than in memory: the shortest records.
uint32_t ExtendCrc32c(uint32_t crc, uint32_t first, uint64_t second, uint64_t third,
                      uint64_t fourth, uint64_t fifth);

// The same function from tables alone, whatever the processor.
uint32_t ExtendCrc32cPortable(uint32_t crc, const void* data, size_t size);

}  // namespace flint
