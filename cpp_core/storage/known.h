#pragma once

#include <cstdint>
#include <string>

#include "base/coding.h"
#include "base/status.h"
#include "storage/record.h"

namespace flint {

// What a later version of Flint may have written that this one does not know, and what is then
// done: kUnsupported with what was met, never kCorruption. FORMAT.md has the rules.

// Bits for what a directory's files may hold that the first version did not have.
struct Features {
  uint64_t compatible = 0;            // whoever does not know a bit ignores it and keeps it
  uint64_t read_only_compatible = 0;  // reads, and does not write
  uint64_t incompatible = 0;          // does neither

  friend bool operator==(const Features&, const Features&) = default;
  friend Features operator|(const Features& a, const Features& b) {
    return {a.compatible | b.compatible, a.read_only_compatible | b.read_only_compatible,
            a.incompatible | b.incompatible};
  }
};

// None so far.
inline constexpr Features kKnownFeatures;

// `where` is the file, and the place in it if that is known; empty if the caller adds it.
Status Newer(const std::string& where, const std::string& what);
// Whether a file with these features may be read, and whether its directory may be written.
Status CheckReadable(const Features& features, const std::string& name);
Status CheckWritable(const Features& features, const std::string& name);

// Whether this version knows everything that a record says: its type, unless that may be skipped,
// its flags, kinds and algorithms, and that what is reserved is zero. The message is what was met.
Status CheckUnusualRecord(const Record& record);
inline Status CheckKnown(const Record& record) {
  // Type, flags and what is reserved in one.
  const uint32_t type = Decode32(record.bytes.data() + 16);
  const bool usual = type == static_cast<uint32_t>(RecordType::kAllow) ||
                     type == static_cast<uint32_t>(RecordType::kDeny);
  return usual ? Status() : CheckUnusualRecord(record);
}

}  // namespace flint
