#pragma once

#include <cstdint>
#include <string>

// The names of a directory's files, and how they are told apart.
namespace flint {

// All of them begin so.
inline constexpr char kFilePrefix[] = "flint.";
inline constexpr char kLockName[] = "flint.lock";
// The segment that is being written.
inline constexpr char kLogName[] = "flint.aof";
// The one after it, prepared; it keeps this name for a moment after it has been switched to.
inline constexpr char kNextName[] = "flint.aof.next";
// What an opening of Flint 1.0.0 wrote until it took over the name flint.aof.
inline constexpr char kNewName[] = "flint.aof.new";
inline constexpr char kRingName[] = "flint.ring";
inline constexpr char kRingTemporaryName[] = "flint.ring.tmp";
inline constexpr char kSnapshotName[] = "flint.snapshot";
inline constexpr char kSnapshotTemporaryName[] = "flint.snapshot.tmp";
// Of a directory of Flint 0.1 or 0.2: what it is converted to until that is committed, and what the
// originals are called then.
inline constexpr char kImportName[] = "flint.import.tmp";
inline constexpr char kOldLogName[] = "flint.aof.v0";
inline constexpr char kOldSnapshotName[] = "flint.snapshot.v0";

// The name that a segment has for good once it has been rotated: "flint.aof.<sequence>", with
// zeros in front so that names sort.
std::string RotatedSegmentName(uint64_t first_sequence);
// Of what was cut off behind a position: "flint.torn.<position>", with zeros in front.
std::string TornName(uint64_t position);
// Whether `name` is one of these.
bool IsTornName(const std::string& name);
// Whether `name` is a rotated segment's.
bool IsRotatedName(const std::string& name);
// Whether `name` can be a segment's: a rotated one's, or one of the three above.
bool IsSegmentName(const std::string& name);

}  // namespace flint
