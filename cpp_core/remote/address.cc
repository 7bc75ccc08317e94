#include "remote/address.h"

#include <algorithm>

#include "engine/key.h"

namespace flint {
namespace {

constexpr std::string_view kUsable =
    "flint://host:port, flints://host:port, unix:path or flint+unix://path";

Status Wrong(std::string_view url, const std::string& why) {
  return Status(Code::kInvalidArgument, "url is " + flint::Shown(url) + ", " + why +
                                            "; it must be " + std::string(kUsable));
}

bool Take(std::string_view* text, std::string_view start) {
  if (!text->starts_with(start)) return false;
  text->remove_prefix(start.size());
  return true;
}

bool ReadPort(std::string_view text, uint16_t* port) {
  if (text.empty() || text.size() > 5) return false;
  uint32_t number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    number = 10 * number + static_cast<uint32_t>(c - '0');
  }
  *port = static_cast<uint16_t>(number);
  return number >= 1 && number <= UINT16_MAX;
}

Status ReadHost(std::string_view url, std::string_view rest, Address* address) {
  if (rest.ends_with('/')) rest.remove_suffix(1);
  std::string_view host = rest;
  const bool bracketed = rest.starts_with('[');
  const size_t end = bracketed ? rest.find(']') : std::min(rest.find(':'), rest.size());
  if (end == std::string_view::npos) return Wrong(url, "whose address has no ]");
  host = rest.substr(bracketed ? 1 : 0, end - (bracketed ? 1 : 0));
  rest.remove_prefix(end + (bracketed ? 1 : 0));
  const bool has_more = host.find_first_of("/?#") != std::string_view::npos;
  if (host.empty() || has_more) return Wrong(url, "which has more than a host and a port, or less");
  if (!rest.empty() && (!Take(&rest, ":") || !ReadPort(rest, &address->port))) {
    return Wrong(url, "whose port is not between 1 and 65535");
  }
  address->host = host;
  return Status();
}

}  // namespace

std::string Address::Shown() const {
  if (!path.empty()) return "unix:" + path;
  const std::string shown = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return (tls ? "flints://" : "flint://") + shown + ":" + std::to_string(port);
}

Status ReadAddress(std::string_view url, Address* address) {
  Address read;
  std::string_view rest = url;
  if (url.find('\0') != std::string_view::npos) {
    return Wrong(url.substr(0, url.find('\0')), "and has a zero byte behind that");
  }
  if (Take(&rest, "unix:") || Take(&rest, "flint+unix://")) {
    if (rest.empty()) return Wrong(url, "which names no socket");
    read.path = rest;
    *address = std::move(read);
    return Status();
  }
  read.tls = Take(&rest, "flints://");
  if (!read.tls && !Take(&rest, "flint://")) return Wrong(url, "which has another scheme");
  const size_t at = rest.rfind('@');
  if (at != std::string_view::npos) {
    return Status(Code::kInvalidArgument,
                  "url has a name or a password before " + flint::Shown(rest.substr(at)) +
                      ", which would be seen in logs; the token is an option");
  }
  FLINT_RETURN_IF_ERROR(ReadHost(url, rest, &read));
  *address = std::move(read);
  return Status();
}

}  // namespace flint
