#include "json_fields.h"

#include <utility>

#include "text.h"

namespace flint::server {
namespace {

constexpr size_t kMaxDepth = 16;
constexpr size_t kMaxItems = 64;

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

}  // namespace

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

bool FindList(const Json& object, const std::string& name, const Json** list,
              HttpRefusal* refusal) {
  if (!object.contains(name) || object[name].is_null()) {
    return RefuseType("missing field `" + name + "`", refusal);
  }
  *list = &object[name];
  if (!(*list)->is_array()) return RefuseType("`" + name + "` must be a list", refusal);
  const size_t size = (*list)->size();
  if (size > 0 && size <= kMaxItems) return true;
  return RefuseValue(name + " must be 1 to 64, not " + std::to_string(size), refusal);
}

}  // namespace flint::server
