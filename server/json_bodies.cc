#include "json_bodies.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "text.h"

namespace flint::server {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 16;
constexpr size_t kMaxItems = 64;

bool Refuse(int status, std::string body, HttpRefusal* refusal) {
  refusal->status = status;
  refusal->body = std::move(body);
  return false;
}

bool RefuseType(const std::string& why, HttpRefusal* refusal) {
  return Refuse(422, "Failed to deserialize the JSON body into the target type: " + why, refusal);
}

bool RefuseValue(const std::string& why, HttpRefusal* refusal) {
  refusal->json = true;
  return Refuse(400, "{\"error\":" + Quoted(why) + "}", refusal);
}

// Whether lists and objects stand in each other too often for a parser that calls itself.
bool TooDeep(std::string_view text) {
  size_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') i++;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      depth -= depth > 0 ? 1 : 0;
    }
  }
  return false;
}

bool Parse(const std::string& text, Json* body, HttpRefusal* refusal) {
  const std::string failed = "Failed to parse the request body as JSON: ";
  if (TooDeep(text)) return Refuse(400, failed + "more than 16 levels", refusal);
  try {
    *body = Json::parse(text);
  } catch (const Json::parse_error& error) {
    // What it says itself shows the body, which may be anything.
    return Refuse(400, failed + "at byte " + std::to_string(error.byte), refusal);
  } catch (const Json::exception&) {
    return Refuse(400, failed + "a number is too large", refusal);
  }
  return body->is_object() || RefuseType("expected an object", refusal);
}

// Reads the fields of an object one by one; after the first that is wrong, no more.
class Fields {
 public:
  Fields(const Json& object, HttpRefusal* refusal) : object_(object), refusal_(refusal) {}

  bool ok() const { return ok_; }
  bool has(const char* name) const { return object_.contains(name) && !object_[name].is_null(); }

  void Text(const char* name, bool required, std::string* to) {
    const Json* const value = Find(name, required);
    if (value == nullptr) return;
    if (value->is_string()) {
      *to = value->get<std::string>();
    } else {
      Wrong(name, "a string");
    }
  }
  void Whole(const char* name, bool required, uint64_t* to) {
    const Json* const value = Find(name, required);
    if (value == nullptr) return;
    if (value->is_number_unsigned()) {
      *to = value->get<uint64_t>();
    } else {
      Wrong(name, "a whole number from 0 to 2^64 - 1");
    }
  }
  void Truth(const char* name, bool* to) {
    const Json* const value = Find(name, false);
    if (value == nullptr) return;
    if (value->is_boolean()) {
      *to = value->get<bool>();
    } else {
      Wrong(name, "true or false");
    }
  }
  void Truth(const char* name, std::optional<bool>* to) {
    bool said = false;
    Truth(name, &said);
    if (ok_ && has(name)) *to = said;
  }
  void WrongValue(const std::string& why) { ok_ = ok_ && RefuseValue(why, refusal_); }
  void Wrong(const std::string& name, const std::string& expected) {
    ok_ = ok_ && RefuseType("`" + name + "` must be " + expected, refusal_);
  }

 private:
  const Json* Find(const char* name, bool required) {
    if (!ok_) return nullptr;
    if (has(name)) return &object_[name];
    if (required) ok_ = RefuseType(std::string("missing field `") + name + "`", refusal_);
    return nullptr;
  }

  const Json& object_;
  HttpRefusal* const refusal_;
  bool ok_ = true;
};

// Rate, per, burst and algorithm.
void ReadQuantities(Fields* fields, LimitBody* body) {
  std::string per;
  std::string algorithm = "token_bucket";
  fields->Whole("rate", true, &body->rate);
  fields->Whole("per_ns", false, &body->per_ns);
  fields->Text("per", !fields->has("per_ns"), &per);
  fields->Whole("burst", false, &body->burst);
  fields->Text("algorithm", false, &algorithm);
  if (!fields->ok()) return;
  if (fields->has("per") && !ReadPeriod(per, &body->per_ns)) {
    fields->WrongValue("invalid duration: per must be digits with ms, s, m, h or d, not " +
                       Quoted(per));
  }
  if (!ReadAlgorithm(algorithm, &body->algorithm)) {
    fields->WrongValue("unsupported algorithm: " + algorithm);
  }
}

void AppendField(std::string_view name, uint64_t value, std::string* to) {
  to->append(",\"").append(name).append("\":").append(std::to_string(value));
}

void AppendField(std::string_view name, bool value, std::string* to) {
  to->append(",\"").append(name).append(value ? "\":true" : "\":false");
}

void AppendText(std::string_view name, std::string_view value, std::string* to) {
  to->append(",\"").append(name).append("\":");
  AppendQuoted(value, to);
}

void AppendStamp(std::string_view name, int64_t at_ns, std::string* to) {
  to->append(",\"").append(name).append("\":");
  to->append(at_ns == 0 ? "null" : '"' + TimeText(at_ns) + '"');
}

// A name, or null for none.
void AppendName(std::string_view name, std::string* to) {
  if (name.empty()) {
    to->append(",\"name\":null");
  } else {
    AppendText("name", name, to);
  }
}

std::string_view NameOf(const flint_limiter_limit_result& limit) {
  return {limit.name, limit.name_bytes};
}

// What one limit says, without the brace at its end.
void AppendPart(std::string_view key, std::string_view name, const flint_limiter_result& result,
                const flint_limiter_limit_result& part, std::string* to) {
  to->append("{\"algorithm\":\"").append(AlgorithmName(part.algorithm)).append("\"");
  AppendField("allowed", part.allowed != 0, to);
  AppendField("cost", result.cost, to);
  AppendText("key", key, to);
  AppendField("limit", part.limit, to);
  AppendName(name, to);
  AppendField("remaining", part.remaining, to);
  AppendField("reset_after_ns", part.reset_after_ns, to);
  to->append(",\"reset_at\":\"").append(TimeText(part.reset_at_ns)).append("\"");
  AppendField("retry_after_ns", part.retry_after_ns, to);
}

}  // namespace

Target ReadTarget(std::string_view key, std::optional<bool> is_template) {
  Target target;
  const bool star = key.ends_with('*');
  target.is_template = is_template.value_or(star);
  target.or_literal = !is_template.has_value() && star;
  target.key = key.substr(0, key.size() - (target.is_template && star ? 1 : 0));
  return target;
}

flint_limiter_config LimitBody::config() const {
  flint_limiter_config config{};
  config.struct_size = sizeof config;
  config.kind = is_template ? FLINT_LIMITER_KIND_TEMPLATE : FLINT_LIMITER_KIND_EXACT;
  config.key = key.data();
  config.key_bytes = key.size();
  config.rate = rate;
  config.per_ns = per_ns;
  config.burst = burst;
  config.algorithm = algorithm;
  config.name = name.data();
  config.name_bytes = name.size();
  config.flags = stack ? FLINT_LIMITER_STACK : 0;
  return config;
}

bool ReadLimitBody(const std::string& text, LimitBody* body, HttpRefusal* refusal) {
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  Fields fields(object, refusal);
  std::string key;
  std::optional<bool> is_template;
  fields.Text("key", true, &key);
  ReadQuantities(&fields, body);
  fields.Text("name", false, &body->name);
  fields.Truth("stack", &body->stack);
  fields.Truth("if_absent", &body->if_absent);
  fields.Truth("template", &is_template);
  if (!fields.ok()) return false;
  Target target = ReadTarget(key, is_template);
  body->key = std::move(target.key);
  body->is_template = target.is_template;
  return true;
}

bool ReadCheckBody(const std::string& text, CheckBody* body, HttpRefusal* refusal) {
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  Fields fields(object, refusal);
  fields.Text("key", true, &body->key);
  fields.Whole("cost", false, &body->cost);
  fields.Truth("details", &body->details);
  if (fields.ok() && fields.has("rate")) {
    body->limit.emplace();
    ReadQuantities(&fields, &*body->limit);
  }
  return fields.ok();
}

bool ReadItemsBody(const std::string& text, ItemsBody* body, HttpRefusal* refusal) {
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  Fields fields(object, refusal);
  if (!fields.has("items")) return RefuseType("missing field `items`", refusal);
  const Json& items = object["items"];
  if (!items.is_array()) return RefuseType("`items` must be a list", refusal);
  if (items.empty() || items.size() > kMaxItems) {
    return RefuseValue("items must be 1 to 64, not " + std::to_string(items.size()), refusal);
  }
  for (const Json& one : items) {
    if (!one.is_object()) return RefuseType("an item must be an object", refusal);
    Fields item(one, refusal);
    ItemsBody::Item& read = body->items.emplace_back();
    item.Text("key", true, &read.key);
    item.Whole("cost", true, &read.cost);
    if (!item.ok()) return false;
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

void AppendResult(std::string_view key, const flint_limiter_result& result, std::string* to) {
  to->append("{\"algorithm\":\"").append(AlgorithmName(result.algorithm)).append("\"");
  AppendField("allowed", result.allowed != 0, to);
  AppendField("cost", result.cost, to);
  AppendText("key", key, to);
  AppendField("remaining", result.remaining, to);
  to->append(",\"reset_at\":\"").append(TimeText(result.reset_at_ns)).append("\"}");
}

void AppendDetails(std::string_view key, const flint_limiter_result& result,
                   const std::vector<flint_limiter_limit_result>& limits, std::string* to) {
  flint_limiter_limit_result whole{};
  whole.allowed = result.allowed;
  whole.algorithm = result.algorithm;
  whole.limit = result.limit;
  whole.remaining = result.remaining;
  whole.reset_at_ns = result.reset_at_ns;
  whole.reset_after_ns = result.reset_after_ns;
  whole.retry_after_ns = result.retry_after_ns;
  const std::string_view name =
      result.limit_index < limits.size() ? NameOf(limits[result.limit_index]) : "";
  AppendPart(key, name, result, whole, to);
  to->append(",\"results\":[");
  for (size_t i = 0; i < limits.size(); i++) {
    if (i > 0) to->push_back(',');
    AppendPart(key, NameOf(limits[i]), result, limits[i], to);
    to->push_back('}');
  }
  to->append("]}");
}

void AppendStatus(std::string_view key, std::string_view name,
                  const flint_limiter_status_info& status, bool details, std::string* to) {
  to->append("{\"algorithm\":\"").append(AlgorithmName(status.algorithm)).append("\"");
  if (details) AppendField("burst", status.burst, to);
  AppendText("key", key, to);
  AppendStamp("last_allowed_at", status.last_allowed_at_ns, to);
  AppendStamp("last_denied_at", status.last_denied_at_ns, to);
  AppendStamp("last_reset_at", status.last_reset_at_ns, to);
  if (details) AppendName(name, to);
  AppendField("per_millis", status.per_ns / 1'000'000, to);
  if (details) AppendField("per_ns", status.per_ns, to);
  AppendField("rate", status.rate, to);
  AppendField("remaining", status.remaining, to);
  to->append(",\"reset_at\":\"").append(TimeText(status.reset_at_ns)).append("\"");
  if (details) {
    AppendField("stack", (status.flags & FLINT_LIMITER_STACK) != 0, to);
    AppendField("template", status.kind == FLINT_LIMITER_KIND_TEMPLATE, to);
  }
  AppendField("total_allowed", status.total_allowed, to);
  AppendField("total_allowed_cost", status.total_allowed_cost, to);
  AppendField("total_denied", status.total_denied, to);
  AppendField("total_denied_cost", status.total_denied_cost, to);
  to->push_back('}');
}

}  // namespace flint::server
