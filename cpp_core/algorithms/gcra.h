#pragma once

#include "algorithms/bucket_level.h"

namespace flint {

// Units are expected an emission interval T = per/rate apart. A unit may come earlier than its
// theoretical arrival time TAT, by a tolerance of (burst - 1) * T at most; TAT then moves to
// max(now, TAT) + T. A cost of n is n units that come at once, admitted only together. Remaining:
// the units that could come now. Reset: when none is ahead of its time, which is at TAT.
//
// "Not earlier than TAT - (burst - 1) * T" says the same as d + T <= burst * T in bucket_level.h.
// Source: the generic cell rate algorithm, virtual scheduling form, of ITU-T I.371, annex A.
using Gcra = BucketLevel;

}  // namespace flint
