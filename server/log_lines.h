#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace flint::server {

// Lines on standard error: text for people, or one JSON object each. Any thread.
class Log {
 public:
  explicit Log(bool json) : json_(json) {}

  struct Field {
    std::string_view name;
    std::string value;
  };
  void Info(std::string_view message, std::initializer_list<Field> fields = {}) const;
  void Warn(std::string_view message, std::initializer_list<Field> fields = {}) const;

 private:
  void Write(std::string_view level, std::string_view message,
             std::initializer_list<Field> fields) const;

  const bool json_;
};

}  // namespace flint::server
