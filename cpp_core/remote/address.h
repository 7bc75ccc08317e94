#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace flint {

// Where a Flint server listens with the Redis protocol.
struct Address {
  static constexpr uint16_t kUsualPort = 7879;

  std::string path;  // of a unix socket; empty for TCP
  std::string host;
  uint16_t port = kUsualPort;
  bool tls = false;

  // As messages show it.
  std::string Shown() const;
};

// `flint://host:port`, `flints://host:port` (TLS), `unix:path` or `flint+unix://path`. A name or
// password in it is refused, and not shown: URLs come into logs.
Status ReadAddress(std::string_view url, Address* address);

}  // namespace flint
