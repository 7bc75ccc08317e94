#pragma once

#include <cstddef>
#include <cstdint>

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
};

inline constexpr uint8_t kFlagCleanClose = 1;
inline constexpr uint8_t kFlagOneKey = 2;  // of an ALLOW_ALL: several limits of one key
inline constexpr uint8_t kFlagSkippable = 128;

inline constexpr char kLockName[] = "flint.lock";
inline constexpr char kLogName[] = "flint.aof";
inline constexpr char kNextName[] = "flint.aof.next";
// Written by opening a directory, until it takes over the name flint.aof.
inline constexpr char kNewName[] = "flint.aof.new";
inline constexpr char kRingName[] = "flint.ring";
inline constexpr char kRingTemporaryName[] = "flint.ring.tmp";
inline constexpr char kSnapshotName[] = "flint.snapshot";
inline constexpr char kSnapshotTemporaryName[] = "flint.snapshot.tmp";
inline constexpr char kTornPrefix[] = "flint.torn.";
// Of a directory of Flint 0.1 or 0.2: what it is converted to until that is committed, and what the
// originals are called then.
inline constexpr char kImportName[] = "flint.import.tmp";
inline constexpr char kOldLogName[] = "flint.aof.v0";
inline constexpr char kOldSnapshotName[] = "flint.snapshot.v0";

}  // namespace flint
