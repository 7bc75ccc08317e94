#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace flint::server {

// What the server counts of itself, for /metrics. The loop's.
class Counts {
 public:
  // By command, and by code.
  using CommandCounts = std::map<std::string_view, std::map<std::string, uint64_t, std::less<>>>;

  // `route` is the path of a route, which stays; "other" for what has none.
  void Answered(std::string_view route, int status) { requests_[{route, status}]++; }
  // `command` is the name of a Redis command, which stays, or "other"; `code` the first word of an
  // error, or OK.
  void Commanded(std::string_view command, std::string_view code) {
    auto& codes = commands_[command];
    const auto found = codes.find(code);
    if (found != codes.end()) {
      found->second++;
    } else {
      codes.emplace(code, 1);
    }
  }
  void Decided(bool allowed) { (allowed ? allowed_ : denied_)++; }
  void Accepted() { connections_++; }

  const std::map<std::pair<std::string_view, int>, uint64_t>& requests() const { return requests_; }
  const CommandCounts& commands() const { return commands_; }
  uint64_t allowed() const { return allowed_; }
  uint64_t denied() const { return denied_; }
  uint64_t connections() const { return connections_; }

 private:
  std::map<std::pair<std::string_view, int>, uint64_t> requests_;
  CommandCounts commands_;
  uint64_t allowed_ = 0;
  uint64_t denied_ = 0;
  uint64_t connections_ = 0;
};

}  // namespace flint::server
