#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "http_reader.h"

// What is common to all bodies: how they are parsed, bounded and refused. Pure.
namespace flint::server {

using Json = nlohmann::json;

// Each returns false.
bool Refuse(int status, std::string body, HttpRefusal* refusal);
bool RefuseType(const std::string& why, HttpRefusal* refusal);   // 422
bool RefuseValue(const std::string& why, HttpRefusal* refusal);  // 400

// Parses an object of at most 16 levels.
bool Parse(const std::string& text, Json* body, HttpRefusal* refusal);

// The list of that name, which must have 1 to 64 entries.
bool FindList(const Json& object, const std::string& name, const Json** list, HttpRefusal* refusal);

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
  void Refused() { ok_ = false; }
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

}  // namespace flint::server
