#pragma once

#include <cstdint>

#include "base/status.h"
#include "flint_limiter.h"

// The engine's algorithms for counters that the caller keeps. The header says what they do.
namespace flint {

Status GetSpan(const flint_limiter_config* config, uint64_t units, flint_limiter_span* span);
Status DecideState(const flint_limiter_config* config, flint_limiter_state* state, int64_t now_ns,
                   uint64_t cost, flint_limiter_result* result);
Status DescribeState(const flint_limiter_config* config, const flint_limiter_state* state,
                     int64_t now_ns, uint64_t cost, uint32_t allowed, flint_limiter_result* result);

}  // namespace flint
