#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "decision.h"
#include "flint_limiter.h"
#include "http_reader.h"
#include "rates.h"

// What bodies say, and the JSON of answers: keys in alphabetical order, nothing between them. Pure.
namespace flint::server {

// A key, and what it is the key of: with a `*` at its end a template, if there is one. `literal`
// says that it may also be meant as it is.
struct Target {
  std::string key;
  std::string name;
  bool all_names = true;
  bool is_template = false;
  bool or_literal = false;
};

// How a key that a client wrote is meant. `is_template` is what the client says of it.
Target ReadTarget(std::string_view key, std::optional<bool> is_template);

struct LimitBody : NamedRate {
  bool if_absent = false;
};

struct CheckBody {
  std::string key;
  uint64_t cost = 1;
  bool details = false;     // whether the answer tells more than Flint 0.2's did
  std::vector<Rate> rates;  // of a key that has none: they decide together
};

// Each reads a body, or says why it cannot. `names` are those that a rate may have.
bool ReadLimitBody(const std::string& text, const RateNames& names, LimitBody* body,
                   HttpRefusal* refusal);
bool ReadCheckBody(const std::string& text, const RateNames& names, CheckBody* body,
                   HttpRefusal* refusal);
bool ReadItemsBody(const std::string& text, const RateNames& names,
                   std::vector<Together::Item>* items, HttpRefusal* refusal);
// Independent checks; `details` is said of all.
bool ReadChecksBody(const std::string& text, const RateNames& names, std::vector<CheckBody>* checks,
                    HttpRefusal* refusal);
// Of throttlecrab's and envoy's endpoints.
bool ReadThrottleBody(const std::string& text, Decision* decision, HttpRefusal* refusal);
bool ReadEnvoyBody(const std::string& text, std::vector<Decision>* decisions, HttpRefusal* refusal);
// The length of envoy's SECOND, MINUTE and so on; 0 for what is none of them.
uint64_t EnvoyUnitNs(std::string_view name);
bool ReadLimitsBody(const std::string& text, const RateNames& names, std::vector<LimitBody>* limits,
                    HttpRefusal* refusal);
bool ReadTargetBody(const std::string& text, Target* body, HttpRefusal* refusal);

// Appends a decision as Flint 0.2 told it.
void AppendResult(std::string_view key, const flint_limiter_result& result, std::string* to);
// Appends all that is known of it: also what each limit of the key says, if they have names.
void AppendDetails(std::string_view key, const flint_limiter_result& result,
                   const std::vector<flint_limiter_limit_result>& limits, std::string* to);
// Appends a limit. `key` as people write it, a template with its `*`.
void AppendStatus(std::string_view key, std::string_view name,
                  const flint_limiter_status_info& status, bool details, std::string* to);

// Appends an event, which has all its items behind it.
void AppendEvent(const flint_limiter_event* items, std::string* to);

}  // namespace flint::server
