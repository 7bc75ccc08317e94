#pragma once

#include <cstdint>
#include <string>

#include "base/env.h"
#include "storage/log_path.h"

namespace flint {

// What verifying a directory's segments has gone through, also when it ends at damage.
struct SegmentsReport {
  uint64_t segments = 0;          // behind the snapshot
  uint64_t history_segments = 0;  // before it
  uint64_t log_bytes = 0;         // in all of them
  uint64_t events = 0;
  uint64_t seals = 0;  // whose digest was computed and compared
};

// Reads every segment of a log, which may be written meanwhile: each record against the chain, each
// seal against the SHA-256 of what it covers, each segment against the one before it. kCorruption,
// with the place, for the first damage.
Status VerifySegments(Env* env, const std::string& directory, const Covered& covered,
                      SegmentsReport* report);

}  // namespace flint
