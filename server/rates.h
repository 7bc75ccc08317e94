#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
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
  bool whole = false;   // not a part of the text is wrong, but all of it

  // What is wrong, and where in the text.
  std::string In(std::string_view text) const;
};

// Rates that have a name: [rates] of a flint.toml.
using RateNames = std::map<std::string, std::vector<Rate>, std::less<>>;

// Whether a text is a name: a letter, then letters, digits, _, - and .
bool IsRateName(std::string_view text);

constexpr size_t kMaxRates = FLINT_LIMITER_MAX_LIMITS_OF_KEY;

// The rates of a text, in its order; what is there twice comes once. `otherwise` is the burst and
// the algorithm of those that do not say theirs. False with the error where it cannot be read.
bool ReadRates(std::string_view text, const Rate& otherwise, std::vector<Rate>* rates,
               RateError* error);

// The same of a text or a name. A named rate says its own algorithm and burst.
bool ReadRatesOrName(std::string_view text, const Rate& otherwise, const RateNames& names,
                     std::vector<Rate>* rates, RateError* error);

// Adds those that are not among `rates`; false if they are too many then.
bool AddRates(const std::vector<Rate>& more, std::vector<Rate>* rates);

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
