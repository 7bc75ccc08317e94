#pragma once

#include "algorithms/bucket_level.h"

namespace flint {

// A bucket holds up to `burst` tokens and starts full; rate/per tokens flow in all the time, and
// those that find it full are lost. `cost` is admitted when the bucket holds at least `cost`
// tokens, and takes them out. Remaining: the whole tokens in it. Reset: when it is full again.
//
// The tokens that are missing are exactly the level of bucket_level.h. Source: the token bucket of
// RFC 3290, appendix A, in its strict form (a cost never borrows from tokens yet to come).
using TokenBucket = BucketLevel;

}  // namespace flint
