#pragma once

#include "algorithms/bucket_level.h"

namespace flint {

// A bucket of size `burst` starts empty and leaks rate/per all the time while there is something in
// it. `cost` is admitted when level + cost is at most `burst`, and is poured in. It is a meter: it
// decides at once and holds nothing back in a queue. Remaining: the whole units that still fit.
// Reset: when the bucket is empty.
//
// Source: the continuous-state leaky bucket of ITU-T I.371, annex A, which shows it to be equal to
// the virtual scheduling form in gcra.h.
using LeakyBucket = BucketLevel;

}  // namespace flint
