#include "json_bodies.h"

#include <algorithm>
#include <utility>

#include "json_fields.h"
#include "text.h"

namespace flint::server {
namespace {

// Rates in words, or the name of some. `field` is how a refusal calls them.
bool ReadWords(const std::string& field, const std::string& text, const Rate& otherwise,
               const RateNames& names, std::vector<Rate>* rates, HttpRefusal* refusal) {
  RateError error;
  if (ReadRatesOrName(text, otherwise, names, rates, &error)) return true;
  return RefuseValue(field + ": " + error.In(text), refusal);
}

// Rate, per, burst and algorithm. The rate may say the others too, in words; then there can be
// several.
void ReadQuantities(const Json& object, const RateNames& names, Fields* fields,
                    HttpRefusal* refusal, std::vector<Rate>* rates) {
  Rate one;
  std::string per;
  std::string algorithm = "token_bucket";
  fields->Text("algorithm", false, &algorithm);
  fields->Whole("burst", false, &one.burst);
  const bool in_words = fields->has("rate") && object["rate"].is_string();
  if (!in_words) fields->Whole("rate", true, &one.rate);
  fields->Whole("per_ns", false, &one.per_ns);
  fields->Text("per", !in_words && !fields->has("per_ns"), &per);
  if (!fields->ok()) return;
  const bool has_per = fields->has("per");
  if (in_words && (has_per || fields->has("per_ns"))) {
    fields->WrongValue("a rate in words says its period; leave per out beside it");
  } else if (has_per && !ReadPeriod(per, &one.per_ns)) {
    fields->WrongValue("invalid duration: per must be digits with ms, s, m, h or d, not " +
                       Quoted(per));
  }
  if (!ReadAlgorithm(algorithm, &one.algorithm)) {
    fields->WrongValue("unsupported algorithm: " + algorithm);
  }
  if (!fields->ok()) return;
  if (!in_words) {
    rates->push_back(one);
  } else if (!ReadWords("rate", object["rate"].get<std::string>(), one, names, rates, refusal)) {
    fields->Refused();
  } else if (rates->size() > 1 && one.burst != 0) {
    fields->WrongValue("burst goes with one rate; of several, each says it in words");
  }
}

// What `limit` says: words, a table, or a list of these.
bool ReadRatesOf(const Json& value, const RateNames& names, std::vector<Rate>* rates,
                 HttpRefusal* refusal, bool inside) {
  std::vector<Rate> found;
  if (value.is_string()) {
    if (!ReadWords("limit", value.get<std::string>(), {}, names, &found, refusal)) return false;
  } else if (value.is_object()) {
    Fields fields(value, refusal);
    ReadQuantities(value, names, &fields, refusal, &found);
    if (!fields.ok()) return false;
  } else if (value.is_array() && !inside && !value.empty()) {
    for (const Json& one : value) {
      if (!ReadRatesOf(one, names, &found, refusal, true)) return false;
    }
  } else {
    return RefuseType(
        "`limit` must be a text such as \"100/minute\", a table with rate and per, "
        "or a list of these",
        refusal);
  }
  return AddRates(found, rates) || RefuseValue("a key has at most 16 limits", refusal);
}

// The limits that come with a check: `limit`, or rate and per beside the key.
bool ReadCarried(const Json& object, const RateNames& names, Fields* fields,
                 std::vector<Rate>* rates, HttpRefusal* refusal) {
  if (!fields->ok()) return false;
  if (!fields->has("limit")) {
    if (fields->has("rate")) ReadQuantities(object, names, fields, refusal, rates);
    return fields->ok();
  }
  if (fields->has("rate") || fields->has("per") || fields->has("per_ns")) {
    return RefuseValue("limit says the rate and the period; leave rate and per out beside it",
                       refusal);
  }
  return ReadRatesOf(object["limit"], names, rates, refusal, false);
}

bool ReadLimit(const Json& object, const RateNames& names, LimitBody* body, HttpRefusal* refusal) {
  Fields fields(object, refusal);
  std::string key;
  std::optional<bool> is_template;
  std::vector<Rate> rates;
  fields.Text("key", true, &key);
  ReadQuantities(object, names, &fields, refusal, &rates);
  fields.Text("name", false, &body->name);
  fields.Truth("stack", &body->stack);
  fields.Truth("if_absent", &body->if_absent);
  fields.Truth("template", &is_template);
  if (!fields.ok()) return false;
  if (rates.size() > 1) {
    return RefuseValue("rate: one is asked for; several limits of a key need a name each", refusal);
  }
  body->rate = rates.front();
  Target target = ReadTarget(key, is_template);
  body->key = std::move(target.key);
  body->is_template = target.is_template;
  return true;
}

// Reads {"key":"...","cost":N} without building a tree of it, which most of a check's time went to.
// What is written in any other way, right or wrong, it leaves to the parser of all JSON.
class PlainCheck {
 public:
  explicit PlainCheck(std::string_view text) : rest_(text) {}

  bool Read(CheckBody* body) {
    std::string_view key;
    if (!Take('{') || !TakeText("\"key\"") || !Take(':') || !String(&key)) return false;
    uint64_t cost = 1;
    if (Take(',') && (!TakeText("\"cost\"") || !Take(':') || !Digits(&cost))) return false;
    if (!Take('}') || !rest_.empty()) return false;
    body->key = key;
    body->cost = cost;
    return true;
  }

 private:
  bool TakeText(std::string_view text) {
    const size_t begin = rest_.find_first_not_of(' ');
    if (begin == std::string_view::npos || !rest_.substr(begin).starts_with(text)) return false;
    rest_.remove_prefix(begin + text.size());
    return true;
  }
  bool Take(char c) { return TakeText({&c, 1}); }

  // Of ASCII, and nothing that is escaped.
  bool String(std::string_view* to) {
    if (!Take('"')) return false;
    const auto* const end = std::find_if(rest_.begin(), rest_.end(), [](char c) {
      return c < ' ' || c > '~' || c == '"' || c == '\\';
    });
    *to = rest_.substr(0, static_cast<size_t>(end - rest_.begin()));
    rest_.remove_prefix(to->size());
    return rest_.starts_with('"') && Take('"');
  }
  // Up to 18 digits, which fit.
  bool Digits(uint64_t* to) {
    if (rest_.starts_with(' ')) rest_.remove_prefix(1);
    const size_t count = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
    const std::string_view digits = rest_.substr(0, count);
    if (count == 0 || count > 18 || digits[0] == '0') return false;
    rest_.remove_prefix(count);
    return ReadWhole(digits, to);
  }

  std::string_view rest_;
};

}  // namespace

Target ReadTarget(std::string_view key, std::optional<bool> is_template) {
  Target target;
  const bool star = key.ends_with('*');
  target.is_template = is_template.value_or(star);
  target.or_literal = !is_template.has_value() && star;
  target.key = key.substr(0, key.size() - (target.is_template && star ? 1 : 0));
  return target;
}

bool ReadLimitsBody(const std::string& text, const RateNames& names, std::vector<LimitBody>* limits,
                    HttpRefusal* refusal) {
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  Fields fields(object, refusal);
  bool if_absent = false;
  fields.Truth("if_absent", &if_absent);
  if (!fields.ok()) return false;
  const Json* list = nullptr;
  if (!FindList(object, "limits", &list, refusal)) return false;
  for (const Json& one : *list) {
    if (!one.is_object()) return RefuseType("a limit must be an object", refusal);
    if (!ReadLimit(one, names, &limits->emplace_back(), refusal)) return false;
    limits->back().if_absent = if_absent;
  }
  return true;
}

bool ReadLimitBody(const std::string& text, const RateNames& names, LimitBody* body,
                   HttpRefusal* refusal) {
  Json object;
  return Parse(text, &object, refusal) && ReadLimit(object, names, body, refusal);
}

bool ReadCheckBody(const std::string& text, const RateNames& names, CheckBody* body,
                   HttpRefusal* refusal) {
  if (PlainCheck(text).Read(body)) return true;
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  Fields fields(object, refusal);
  fields.Text("key", true, &body->key);
  fields.Whole("cost", false, &body->cost);
  fields.Truth("details", &body->details);
  return ReadCarried(object, names, &fields, &body->rates, refusal);
}

bool ReadChecksBody(const std::string& text, const RateNames& names, std::vector<CheckBody>* checks,
                    HttpRefusal* refusal) {
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  Fields fields(object, refusal);
  bool details = false;
  fields.Truth("details", &details);
  if (!fields.ok()) return false;
  const Json* list = nullptr;
  if (!FindList(object, "checks", &list, refusal)) return false;
  for (const Json& one : *list) {
    if (!one.is_object()) return RefuseType("a check must be an object", refusal);
    Fields check(one, refusal);
    CheckBody& read = checks->emplace_back();
    check.Text("key", true, &read.key);
    check.Whole("cost", false, &read.cost);
    read.details = details;
    if (!ReadCarried(one, names, &check, &read.rates, refusal)) return false;
  }
  return true;
}

bool ReadItemsBody(const std::string& text, const RateNames& names,
                   std::vector<Together::Item>* items, HttpRefusal* refusal) {
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  const Json* list = nullptr;
  if (!FindList(object, "items", &list, refusal)) return false;
  for (const Json& one : *list) {
    if (!one.is_object()) return RefuseType("an item must be an object", refusal);
    Fields item(one, refusal);
    Together::Item& read = items->emplace_back();
    item.Text("key", true, &read.key);
    item.Whole("cost", true, &read.cost);
    if (!ReadCarried(one, names, &item, &read.rates, refusal)) return false;
  }
  return true;
}

bool ReadTargetBody(const std::string& text, Target* body, HttpRefusal* refusal) {
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  Fields fields(object, refusal);
  std::string key;
  std::optional<bool> is_template;
  std::string name;
  fields.Text("key", true, &key);
  fields.Truth("template", &is_template);
  fields.Text("name", false, &name);
  if (!fields.ok()) return false;
  *body = ReadTarget(key, is_template);
  body->all_names = !fields.has("name");
  body->name = std::move(name);
  return true;
}

}  // namespace flint::server
