#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <utility>

namespace flint::server {

// What the server counts of itself, for /metrics. The loop's.
class Counts {
 public:
  // `route` is the path of a route, which stays; "other" for what has none.
  void Answered(std::string_view route, int status) { requests_[{route, status}]++; }
  void Decided(bool allowed) { (allowed ? allowed_ : denied_)++; }
  void Accepted() { connections_++; }

  const std::map<std::pair<std::string_view, int>, uint64_t>& requests() const { return requests_; }
  uint64_t allowed() const { return allowed_; }
  uint64_t denied() const { return denied_; }
  uint64_t connections() const { return connections_; }

 private:
  std::map<std::pair<std::string_view, int>, uint64_t> requests_;
  uint64_t allowed_ = 0;
  uint64_t denied_ = 0;
  uint64_t connections_ = 0;
};

}  // namespace flint::server
