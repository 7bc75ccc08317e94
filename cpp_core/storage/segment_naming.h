#pragma once

#include <cstdint>
#include <string>

#include "base/env.h"
#include "storage/log_path.h"

namespace flint {

// Giving segments their names. Each step is on disk before the next, since a file system may keep
// the changes of a directory in any order.

// Whether a file system has no hard links, says what Env::Link has returned.
bool CannotLink(const Status& status);

// A name that no file has, for the segment that begins with record `first_sequence`.
Status ChooseRotatedName(Env* env, const std::string& directory, uint64_t first_sequence,
                         std::string* name);

// Gives the segment in flint.aof the name `to`, without a sync. A link leaves no moment without a
// flint.aof, which Flint 0.2 would take for an empty directory. Where there are no links, a crash
// may leave such a moment, and the next opening ends it.
Status LeaveLogName(Env* env, const std::string& directory, const std::string& to);

// The segment in flint.aof.next becomes flint.aof. The one that had that name, and begins with
// record `first_sequence`, gets `*rotated_name`.
Status TakeLogName(Env* env, const std::string& directory, uint64_t first_sequence,
                   std::string* rotated_name);

// Gives the segments of a path, and its history, the names that their headers ask for. Nothing is
// named over a file that is not explained: a segment whose name is taken by one keeps its own.
Status NameSegments(Env* env, const std::string& directory, LogPath* path);

// Removes what the path explains and does not need: copies, what was told again, what was prepared.
Status RemoveExplained(Env* env, const std::string& directory, const LogPath& path);

}  // namespace flint
