#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "algorithms/limit.h"
#include "base/env.h"
#include "model/limit_kind.h"
#include "storage/file_names.h"
#include "storage/record.h"

namespace flint {

// Reads what Flint 0.1 and 0.2 wrote: JSON lines in flint.aof, a JSON document in flint.snapshot;
// and dumps, whose lines also have what those versions did not know.

inline constexpr int64_t kUnknownTime = -1;

// A key that an event names, and its limit. Those versions knew exact ones alone.
struct LegacyItem {
  std::string key;  // a template's prefix; those versions took any, also an empty one
  uint64_t cost = 1;
  LimitKind kind = LimitKind::kExact;
  uint32_t prefix_bytes = 0;  // of a counter's template
  LimitConfig config;         // of LIMIT_CONFIGURED, and of an inline limit
  std::string name{};         // empty for the limit without one
};

// Something that was recorded. All but ALLOW_ALL have one item.
struct LegacyEvent {
  RecordType type{};
  int64_t at_ns = kUnknownTime;  // wall clock; a snapshot has none for LIMIT_CONFIGURED
  int64_t first_ns = kUnknownTime;
  uint64_t count = 1;  // of merged denials: from first_ns to at_ns
  std::vector<LegacyItem> items;
  // Where it stands.
  const char* file = kLogName;
  uint64_t offset = 0;
};

// Takes the events in order. Its errors end the reading.
using LegacyEventSink = std::function<Status(LegacyEvent event)>;

struct LegacyFindings {
  uint64_t torn_bytes = 0;  // an unfinished last line
  bool clamped = false;     // a limit or cost was beyond today's bounds
  uint64_t left_out = 0;    // items of keys that cannot be today
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
