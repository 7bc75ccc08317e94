#pragma once

#include <cstdint>
#include <string>

#include "base/env.h"

namespace flint {

// Directories written by Flint 0.1 and 0.2. They are converted once, before anything else reads
// them, into one segment of today's format that tells the same events; one rename commits, and the
// originals stay under other names.

struct LegacyReport {
  bool converted = false;
  uint64_t events = 0;
  uint64_t torn_bytes = 0;
  bool clamped = false;         // a limit or cost was beyond today's bounds
  uint64_t left_out = 0;        // uses of keys that are empty or longer than 65,535 bytes
  bool snapshot_ahead = false;  // the log is shorter than the snapshot says
};

// Does nothing in a directory that is not one of those, and finishes what an interrupted
// conversion has left. Call it with the directory locked. kCorruption, with file and byte offset,
// for a bad line before the end.
Status ConvertLegacy(Env* env, const std::string& directory, LegacyReport* report);

}  // namespace flint
