#pragma once

#include <string>
#include <string_view>

#include "flint_limiter.h"
#include "sharing/message.h"

namespace flint::sharing {

// What came of a request: a reply, and in always mode the ticket that must be on disk before it
// is sent (0: none).
struct Answer {
  int32_t code = FLINT_LIMITER_OK;
  uint64_t ticket = 0;
  std::string reply;
};

// Makes the call of flint_limiter.h that a request's body asks for. `flags` are added to those of
// decisions and changes: NO_WAIT, NO_SYNC. A request that would have to wait has changed nothing,
// and can be made again. Any thread.
Answer Perform(flint_limiter* limiter, std::string_view body, uint32_t flags);

// How long a request may take, and so which thread of an owner makes it.
enum class Length : uint8_t {
  kMoment,  // the one that serves all, unless the call would have to wait
  kWait,    // one for what waits for locks and room
  kLong,    // another, so that nobody else waits for a compaction
};
Length LengthOf(std::string_view body);

}  // namespace flint::sharing
