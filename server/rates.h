#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "flint_limiter.h"

// Limits as people write them, "100/minute" or "5/minute; 100/hour": the grammar of flint.rates,
// with the same meanings, names and refusals. Pure.
namespace flint::server {

struct Rate {
  uint64_t rate = 0;
  uint64_t per_ns = 0;
  uint64_t burst = 0;  // 0: as the rate
  uint32_t algorithm = FLINT_LIMITER_TOKEN_BUCKET;

  bool operator==(const Rate&) const = default;
  // As a limit that comes with a check.
  flint_limiter_config config() const;
};

// A limit to configure.
struct NamedRate {
  std::string key;  // the prefix of a template, without its `*`
  std::string name;
  bool is_template = false;
  bool stack = false;
  Rate rate;

  flint_limiter_config config() const;
};

struct RateError {
  std::string why;
  size_t position = 0;  // of what is wrong, in characters
};

constexpr size_t kMaxRates = FLINT_LIMITER_MAX_LIMITS_OF_KEY;

// The rates of a text, in its order; what is there twice comes once. `otherwise` is the burst and
// the algorithm of those that do not say theirs. False with the error where it cannot be read.
bool ReadRates(std::string_view text, const Rate& otherwise, std::vector<Rate>* rates,
               RateError* error);

// The text that is read as the same.
std::string RateText(const Rate& rate);

// Several rates for one key: what their counters are called when they come with a check. Those are
// of a template, whose prefix is their text and " @ ".
struct SeveralRates {
  explicit SeveralRates(std::vector<Rate> unordered);

  std::vector<Rate> rates;  // of shorter periods first
  std::string prefix;
  std::vector<std::string> names;  // "per minute", for each rate
};

}  // namespace flint::server
