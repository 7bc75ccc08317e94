#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/env.h"
#include "storage/verify.h"

namespace flint {

// What is known of a directory, also when the last step ended at damage.
struct DoctorReport {
  bool snapshot_exists = false;
  uint64_t snapshot_bytes = 0;
  uint64_t limits = 0;
  uint64_t counters = 0;
  uint64_t records = 0;
  uint64_t ring_records = 0;
  uint64_t torn_bytes = 0;
  uint32_t directory_mode = 0;
  SegmentsReport log;
};

// Verifies a directory without a lock and without writing. What another process is writing looks
// damaged for a moment, so only what stays damaged is.
Status Examine(Env* env, const Clock* clock, const std::string& directory, DoctorReport* report);

}  // namespace flint
