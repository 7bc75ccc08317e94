#pragma once

#include <string_view>

#include "flint_limiter.h"
#include "redis_reply.h"

namespace flint::server {

// A limit and what has happened to it, as a map.
void AppendRedisStatus(std::string_view key, std::string_view name,
                       const flint_limiter_status_info& status, RedisReply* reply);

}  // namespace flint::server
