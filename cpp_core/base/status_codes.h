#pragma once

#include <cstdint>

// Every status code once: name, value, sentence. The public header repeats the values as plain
// constants for foreign language tools; a test compares the two. A released value never changes.
#define FLINT_STATUS_CODES(X)                                                              \
  X(kOk, OK, 0, "success")                                                                 \
  X(kInvalidArgument, INVALID_ARGUMENT, 1, "an argument is outside its bounds")            \
  X(kNotConfigured, NOT_CONFIGURED, 2, "limit is not configured")                          \
  X(kLocked, LOCKED, 3, "the data directory is already locked by another limiter")         \
  X(kPermission, PERMISSION, 4, "permission denied")                                       \
  X(kUnsupported, UNSUPPORTED, 5, "the file system or the file's format is not supported") \
  X(kIo, IO, 6, "input/output error")                                                      \
  X(kDiskFull, DISK_FULL, 7, "no space left for the log")                                  \
  X(kCorruption, CORRUPTION, 8, "the data directory is damaged")                           \
  X(kClosed, CLOSED, 9, "the limiter is closed")                                           \
  X(kForked, FORKED, 10, "the limiter belongs to the parent process; open another one")    \
  X(kWouldBlock, WOULD_BLOCK, 11, "the call would have to wait")                           \
  X(kTimeout, TIMEOUT, 12, "the time given to wait is over")                               \
  X(kPoisoned, POISONED, 13, "an earlier write to the log failed; reopen the limiter")     \
  X(kNoMemory, NO_MEMORY, 14, "out of memory")                                             \
  X(kInternal, INTERNAL, 15, "internal error")                                             \
  X(kHistoryGone, HISTORY_GONE, 16, "the history asked for is not kept any more")          \
  X(kTableFull, TABLE_FULL, 17, "as many keys as max_keys allows are in use")              \
  X(kReadOnly, READ_ONLY, 18, "the limiter was opened for reading only")                   \
  X(kBusy, BUSY, 19, "another thread is in the way for a moment; call again")

namespace flint {

enum class Code : int32_t {
#define FLINT_DEFINE_CODE(name, c_name, value, sentence) name = value,
  FLINT_STATUS_CODES(FLINT_DEFINE_CODE)
#undef FLINT_DEFINE_CODE
};

const char* CodeSentence(Code code);  // "unknown status" for others
const char* CodeName(Code code);      // "LOCKED"; "UNKNOWN" for others

}  // namespace flint
