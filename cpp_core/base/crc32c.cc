#include "base/crc32c.h"

#include <array>

#include "base/coding.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

namespace flint {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // bit-reversed

using Tables = std::array<std::array<uint32_t, 256>, 8>;

// tables[k][b] is what byte b contributes when k more bytes follow it within a step of eight.
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t shorter = tables[k - 1][byte];
      tables[k][byte] = (shorter >> 8) ^ tables[0][shorter & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) uint32_t ExtendSse42(uint32_t crc, const char* at, size_t size) {
  uint64_t wide = ~crc;
  for (; size >= 8; size -= 8, at += 8) wide = _mm_crc32_u64(wide, Decode64(at));
  uint32_t state = static_cast<uint32_t>(wide);
  for (; size > 0; --size, ++at) state = _mm_crc32_u8(state, static_cast<uint8_t>(*at));
  return ~state;
}

#elif defined(__ARM_FEATURE_CRC32)

uint32_t ExtendArm(uint32_t crc, const char* at, size_t size) {
  uint32_t state = ~crc;
  for (; size >= 8; size -= 8, at += 8) state = __crc32cd(state, Decode64(at));
  for (; size > 0; --size, ++at) state = __crc32cb(state, static_cast<uint8_t>(*at));
  return ~state;
}

#endif

}  // namespace

uint32_t ExtendCrc32cPortable(uint32_t crc, const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  uint32_t state = ~crc;
  for (; size >= 8; size -= 8, at += 8) {
    const uint64_t word = Decode64(at) ^ state;
    state = 0;
    for (size_t i = 0; i < 8; ++i) state ^= kTables[7 - i][(word >> (8 * i)) & 0xff];
  }
  for (; size > 0; --size, ++at) {
    state = (state >> 8) ^ kTables[0][(state ^ static_cast<uint8_t>(*at)) & 0xff];
  }
  return ~state;
}

uint32_t ExtendCrc32c(uint32_t crc, const void* data, size_t size) {
#if defined(__x86_64__)
  // One load and one test: the compiler's runtime has looked at the processor at start.
  if (__builtin_cpu_supports("sse4.2")) [[likely]] {
    return ExtendSse42(crc, static_cast<const char*>(data), size);
  }
  return ExtendCrc32cPortable(crc, data, size);
#elif defined(__ARM_FEATURE_CRC32)
  return ExtendArm(crc, static_cast<const char*>(data), size);
#else
  return ExtendCrc32cPortable(crc, data, size);
#endif
}

}  // namespace flint
