// Bodies that callers of other servers send.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json_bodies.h"
#include "json_fields.h"
#include "text.h"

namespace flint::server {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kMostSeconds = (uint64_t{1} << 62) / kSecondNs;

// A field by its name in JSON or the one in the protocol's own text, which are both read; null
// where it is not there.
const Json* Find(const Json& object, const char* name, const char* other) {
  for (const char* const one : {name, other}) {
    if (object.contains(one) && !object[one].is_null()) return &object[one];
  }
  return nullptr;
}

// A whole number up to 2^32 - 1, which may be a string. `to` keeps its value where there is none.
bool ReadCount(const Json* value, const char* name, uint64_t* to, HttpRefusal* refusal) {
  if (value == nullptr) return true;
  bool ok = value->is_number_unsigned();
  if (ok) *to = value->get<uint64_t>();
  if (value->is_string()) ok = ReadWhole(value->get<std::string>(), to);
  if (ok && *to <= UINT32_MAX) return true;
  return RefuseValue(std::string(name) + " must be a whole number from 0 to 2^32 - 1", refusal);
}

// What stands between parts of a key is escaped in them, so that two never become one.
void AppendEscaped(std::string_view text, std::string* to) {
  for (const char c : text) {
    if (c == '%') {
      to->append("%25");
    } else if (c == '|') {
      to->append("%7C");
    } else if (c == '=') {
      to->append("%3D");
    } else {
      to->push_back(c);
    }
  }
}

bool ReadEntries(const Json& descriptor, std::string* key, HttpRefusal* refusal) {
  const Json* entries = nullptr;
  if (!FindList(descriptor, "entries", &entries, refusal)) return false;
  for (const Json& one : *entries) {
    if (!one.is_object()) return RefuseType("an entry must be an object", refusal);
    Fields fields(one, refusal);
    std::string name;
    std::string value;
    fields.Text("key", true, &name);
    fields.Text("value", false, &value);
    if (!fields.ok()) return false;
    key->push_back('|');
    AppendEscaped(name, key);
    if (value.empty()) continue;
    key->push_back('=');
    AppendEscaped(value, key);
  }
  return true;
}

// The limit that a descriptor brings along. Envoy counts in fixed windows.
bool ReadOverride(const Json* limit, std::vector<Rate>* rates, HttpRefusal* refusal) {
  if (limit == nullptr) return true;
  if (!limit->is_object()) return RefuseType("`limit` must be an object", refusal);
  Rate rate;
  rate.algorithm = FLINT_LIMITER_FIXED_WINDOW_COUNTER;
  const Json* const count = Find(*limit, "requestsPerUnit", "requests_per_unit");
  if (!ReadCount(count, "requestsPerUnit", &rate.rate, refusal)) return false;
  const Json* const unit = Find(*limit, "unit", "unit");
  const std::string name = unit != nullptr && unit->is_string() ? unit->get<std::string>() : "";
  rate.per_ns = EnvoyUnitNs(name);
  if (rate.per_ns == 0) {
    return RefuseValue("unit must be SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR", refusal);
  }
  rates->push_back(rate);
  return true;
}

bool ReadDescriptor(const Json& one, const std::string& domain, uint64_t hits, Decision* decision,
                    HttpRefusal* refusal) {
  if (!one.is_object()) return RefuseType("a descriptor must be an object", refusal);
  AppendEscaped(domain, &decision->key);
  if (!ReadEntries(one, &decision->key, refusal)) return false;
  decision->parts = true;
  decision->cost = hits;
  const Json* const own = Find(one, "hitsAddend", "hits_addend");
  if (!ReadCount(own, "hitsAddend", &decision->cost, refusal)) return false;
  // To add nothing is to look whether there is room for one.
  decision->peek = decision->cost == 0;
  if (decision->peek) decision->cost = 1;
  return ReadOverride(Find(one, "limit", "limit"), &decision->rates, refusal);
}

}  // namespace

bool ReadThrottleBody(const std::string& text, Decision* decision, HttpRefusal* refusal) {
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  Fields fields(object, refusal);
  Rate rate;
  rate.algorithm = FLINT_LIMITER_GCRA;
  uint64_t period_s = 0;
  fields.Text("key", true, &decision->key);
  fields.Whole("max_burst", true, &rate.burst);
  fields.Whole("count_per_period", true, &rate.rate);
  fields.Whole("period", true, &period_s);
  fields.Whole("quantity", false, &decision->cost);
  if (!fields.ok()) return false;
  if (rate.burst == 0 || rate.rate == 0 || period_s == 0 || period_s > kMostSeconds) {
    return RefuseValue(
        "max_burst, count_per_period and period must be at least 1, and the period "
        "at most 146 years",
        refusal);
  }
  decision->peek = decision->cost == 0;
  if (decision->peek) decision->cost = 1;
  rate.per_ns = period_s * kSecondNs;
  if (rate.burst == rate.rate) rate.burst = 0;
  decision->rates.push_back(rate);
  return true;
}

bool ReadEnvoyBody(const std::string& text, std::vector<Decision>* decisions,
                   HttpRefusal* refusal) {
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  Fields fields(object, refusal);
  std::string domain;
  fields.Text("domain", true, &domain);
  if (!fields.ok()) return false;
  if (domain.empty()) return RefuseValue("rate limit domain must not be empty", refusal);
  uint64_t hits = 0;
  const Json* const said = Find(object, "hitsAddend", "hits_addend");
  if (!ReadCount(said, "hitsAddend", &hits, refusal)) return false;
  const Json* descriptors = nullptr;
  if (!FindList(object, "descriptors", &descriptors, refusal)) return false;
  for (const Json& one : *descriptors) {
    Decision* const decision = &decisions->emplace_back();
    if (!ReadDescriptor(one, domain, std::max<uint64_t>(hits, 1), decision, refusal)) return false;
  }
  return true;
}

}  // namespace flint::server
