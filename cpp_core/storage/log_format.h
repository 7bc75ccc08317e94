#pragma once

#include <cstddef>
#include <cstdint>

#include "storage/file_names.h"

// The constants of FORMAT.md and nothing else.
namespace flint {

inline constexpr uint32_t kFormatVersion = 1;

inline constexpr char kSegmentMagic[] = "flint log 1, not Flint 0.2 JSON\n";
inline constexpr size_t kMagicBytes = 32;
inline constexpr uint32_t kSegmentHeaderBytes = 4096;
inline constexpr char kRingMagic[] = "flint ring 1\n";
inline constexpr uint32_t kRingHeaderBytes = 4096;

inline constexpr uint32_t kRecordHeaderBytes = 24;
inline constexpr uint32_t kRecordAlignment = 8;
inline constexpr uint32_t kMaxRecordBytes = 131072;

enum class RecordType : uint8_t {
  kStart = 1,
  kFooter = 2,
  kSeal = 3,
  kClock = 4,
  kLimitConfigured = 5,
  kLimitRemoved = 6,
  kKey = 7,
  kAllow = 8,
  kAllowAll = 9,
  kDeny = 10,
  kReset = 11,
  kKeyAllow = 16,
};

inline constexpr uint8_t kFlagCleanClose = 1;
inline constexpr uint8_t kFlagOneKey = 2;  // of an ALLOW_ALL: several limits of one key
inline constexpr uint8_t kFlagSkippable = 128;

}  // namespace flint
