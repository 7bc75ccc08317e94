#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "http_reader.h"
#include "options.h"

namespace flint::server {

class HttpExchange;

// One method of one path. The table of them is in http_routes.cc.
struct HttpRoute {
  enum class Body : uint8_t { kNone, kIgnored, kJson };
  using Handler = void (*)(const std::shared_ptr<HttpExchange>& exchange);

  std::string_view method;
  std::string_view path;  // with a `/` at its end: and one more segment
  Rights rights;
  Body body;
  Handler handler;
  bool open = false;                           // answered without a token
  std::string_view type = "application/json";  // of a 200; empty: of none
};

// The route of a request; null where there is none.
const HttpRoute* FindRoute(const HttpRequest& request);
// The methods of a path; empty where that has none.
std::string MethodsOf(std::string_view path);

}  // namespace flint::server
