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

bool ReadLimit(const Json& object, LimitBody* body, HttpRefusal* refusal) {
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

bool ReadLimitsBody(const std::string& text, std::vector<LimitBody>* limits, HttpRefusal* refusal) {
  Json object;
  if (!Parse(text, &object, refusal)) return false;
  Fields fields(object, refusal);
  bool if_absent = false;
  fields.Truth("if_absent", &if_absent);
  if (!fields.ok()) return false;
  if (!fields.has("limits")) return RefuseType("missing field `limits`", refusal);
  const Json& list = object["limits"];
  if (!list.is_array()) return RefuseType("`limits` must be a list", refusal);
  if (list.empty() || list.size() > kMaxItems) {
    return RefuseValue("limits must be 1 to 64, not " + std::to_string(list.size()), refusal);
  }
  for (const Json& one : list) {
    if (!one.is_object()) return RefuseType("a limit must be an object", refusal);
    if (!ReadLimit(one, &limits->emplace_back(), refusal)) return false;
    limits->back().if_absent = if_absent;
  }
  return true;
}

bool ReadLimitBody(const std::string& text, LimitBody* body, HttpRefusal* refusal) {
  Json object;
  return Parse(text, &object, refusal) && ReadLimit(object, body, refusal);
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

}  // namespace flint::server
