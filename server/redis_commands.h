#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "json_bodies.h"
#include "rates.h"
#include "redis_session.h"

namespace flint::server {

using Asked = std::shared_ptr<RedisExchange>;

// A command: what is checked before its handler is called, and what COMMAND tells.
struct RedisCommand {
  std::string_view name;       // in capitals
  std::string_view arguments;  // as they are written, for people
  size_t least;                // words, with the name
  size_t most;
  Rights rights;
  bool open;  // without a token too
  bool writes;
  void (*handler)(const Asked& asked);

  bool TakesWords(size_t count) const { return count >= least && count <= most; }
};

// Of any case; null where there is none.
const RedisCommand* FindRedisCommand(std::string_view name);

// Decisions: redis_decisions.cc.
void RedisClThrottle(const Asked& asked);
void RedisThrottle(const Asked& asked);
void RedisCheck(const Asked& asked);
void RedisPeek(const Asked& asked);
void RedisCheckAll(const Asked& asked);
void RedisCheckMany(const Asked& asked);

// Limits: redis_limits.cc.
void RedisLimit(const Asked& asked);
void RedisLimitMany(const Asked& asked);
void RedisReset(const Asked& asked);
void RedisRemove(const Asked& asked);
void RedisStatus(const Asked& asked);
void RedisFlush(const Asked& asked);
void RedisCompact(const Asked& asked);
void RedisFlintInfo(const Asked& asked);
void RedisDoctor(const Asked& asked);

// Listings: redis_listings.cc.
void RedisList(const Asked& asked);
void RedisTop(const Asked& asked);
void RedisHistory(const Asked& asked);

// ---- Words behind a command ------------------------------------------------------------------

// NAME VALUE, or with `flag` NAME alone.
struct RedisOption {
  std::string_view name;
  std::string* value = nullptr;
  bool* flag = nullptr;
};

// Reads the options from the word at `first` on; answers with what is wrong, and returns false.
bool ReadRedisOptions(const Asked& asked, size_t first, std::initializer_list<RedisOption> options);

bool ReadRedisNumber(const Asked& asked, std::string_view name, const std::string& text,
                     uint64_t* to);
// The same of an option; one that was not given leaves `to` alone.
inline bool ReadRedisOptional(const Asked& asked, std::string_view name, const std::string& text,
                              uint64_t* to) {
  return text.empty() || ReadRedisNumber(asked, name, text, to);
}

// `text` as people write limits, "5/minute; 100/hour", or the name of a rate.
bool ReadRedisWords(const Asked& asked, const std::string& text, std::vector<Rate>* rates);

// RATE, PER, BURST and ALGORITHM as they were said.
struct RedisQuantities {
  std::string rate;
  std::string per;
  std::string burst;
  std::string algorithm;  // none: a token bucket

  bool said() const {
    return !rate.empty() || !per.empty() || !burst.empty() || !algorithm.empty();
  }
  bool Read(const Asked& asked, Rate* limit) const;
};

}  // namespace flint::server
