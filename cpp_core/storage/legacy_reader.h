#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/env.h"
#include "storage/record.h"

namespace flint {

// Reads what Flint 0.1 and 0.2 wrote: JSON lines in flint.aof, a JSON document in flint.snapshot.

inline constexpr int64_t kUnknownTime = -1;

// Something that one of those versions recorded; DENY, ALLOW and RESET have a key, ALLOW_ALL items.
struct LegacyEvent {
  RecordType type{};
  int64_t at_ns = kUnknownTime;  // wall clock; a snapshot has none for LIMIT_CONFIGURED
  std::string key;
  uint64_t cost = 1;
  LimitConfig config;
  std::vector<std::pair<std::string, uint64_t>> items;
  // Where it stands.
  const char* file = kLogName;
  uint64_t offset = 0;
};

// Takes the events in order. Its errors end the reading.
using LegacyEventSink = std::function<Status(LegacyEvent event)>;

struct LegacyFindings {
  uint64_t torn_bytes = 0;  // an unfinished last line
  bool clamped = false;     // a limit or cost was beyond today's bounds
};

// kCorruption at a place of a file.
Status LegacyDamage(const std::string& file, uint64_t offset, const std::string& what);

// The lines of a log from byte `from` on, which must not lie behind its end.
Status ReadLegacyLog(File* file, uint64_t from, const LegacyEventSink& sink,
                     LegacyFindings* findings);

// The events that a snapshot holds, and how much of the log it stands for.
Status ReadLegacySnapshot(File* file, const LegacyEventSink& sink, uint64_t* log_offset,
                          LegacyFindings* findings);

}  // namespace flint
