#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "storage/log_path.h"
#include "storage/log_stream.h"
#include "storage/ring.h"

namespace flint {

// Behind the last record that continues the chain: has a power loss torn off what was never known
// to be on disk, or is something gone that had been written?
class LogEnd {
 public:
  LogEnd(LogPath* path, LogStream* stream, const RingImage* ring)
      : path_(path), stream_(stream), ring_(ring) {}

  // What is known of the log besides its files.
  struct Known {
    bool same_boot = false;   // the machine has been running since it was written
    bool closed = false;      // its last record is a clean close
    uint64_t on_disk_to = 0;  // a seal, or the snapshot, covers everything before this position
  };

  // kCorruption, with the place, if something is gone.
  Status Check(const Known& known);
  // Behind the last byte that is not zero.
  uint64_t torn_end() const { return torn_end_; }
  // Up to there nothing must be missing, says the damage that was found; UINT64_MAX: it cannot be
  // told.
  uint64_t damage_end() const { return damage_end_; }

 private:
  Status CheckRingOwner() const;
  Status CheckRingRecords(uint64_t on_disk_to) const;
  Status LookForSeals();
  Status ScanRing();
  Status ScanFile(SegmentReader* reader, uint64_t position, uint64_t* used_end);
  Status CheckSeal(std::string_view bytes, const std::string& where);
  Status CheckNothingWasWritten(const Known& known);
  Status CheckRingEnd();
  bool RingGoesOnHere() const;
  Status WordOneLapBefore(uint64_t* word, bool* known) const;
  bool IsKnown(uint64_t generation) const;

  LogPath* const path_;
  LogStream* const stream_;
  const RingImage* const ring_;
  uint64_t torn_end_ = 0;
  uint64_t damage_end_ = UINT64_MAX;
};

}  // namespace flint
