#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "storage/segment.h"

namespace flint {

// Up to where a snapshot stands for the log. All zero: there is no snapshot.
struct Covered {
  uint64_t position = 0;
  uint64_t sequence = 0;
  uint32_t crc = 0;
  DirectoryId directory_id{};
  bool present = false;
};

// The segments of a directory: those that make up the log from the snapshot on, oldest first, and
// the rest. What a file is follows from its header, not from its name.
struct LogPath {
  // A second file, or a second name, of a segment that another name stands for.
  struct Copy {
    std::string name;
    uint64_t generation = 0;
    bool whole = false;  // it holds all that the other does
  };

  std::vector<std::unique_ptr<SegmentReader>> segments;
  // What the snapshot covers, oldest first, as far back as it goes without a gap.
  std::vector<std::unique_ptr<SegmentReader>> history;
  // Before a gap in the history, oldest first: nothing leads to them any more.
  std::vector<std::unique_ptr<SegmentReader>> unreachable;
  // Started, and told again by a segment that came later.
  std::vector<std::unique_ptr<SegmentReader>> superseded;
  // Without a valid START: prepared, or damaged.
  std::vector<std::unique_ptr<SegmentReader>> unstarted;
  std::vector<Copy> copies;
  // Rotated segments whose header cannot be read. They are history, or the path has a gap.
  std::vector<std::string> damaged;
  // Files that a crash left before they became segments.
  std::vector<std::string> unusable;
  DirectoryId directory_id{};
  uint64_t last_number = 0;
  uint64_t last_epoch = 0;
  bool bounded = false;  // the log may go on behind the last segment
};

// An empty path means that the directory holds no log. With a `last_segment` other than UINT64_MAX
// only segments up to that number count, which have their final names: then a log that is being
// written can be read as well.
Status FindLogPath(Env* env, const std::string& directory, const Covered& covered,
                   uint64_t last_segment, LogPath* path);

}  // namespace flint
