#include "notifier.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <ctime>

#include "text.h"

namespace flint::server {
namespace {

// Half of the time after which the manager loses patience, if it is with this process.
uint64_t AliveEveryMs() {
  const char* const patience = std::getenv("WATCHDOG_USEC");
  const char* const whose = std::getenv("WATCHDOG_PID");
  uint64_t patience_us = 0;
  uint64_t pid = 0;
  if (patience == nullptr || !ReadWhole(patience, &patience_us)) return 0;
  if (whose != nullptr && (!ReadWhole(whose, &pid) || pid != static_cast<uint64_t>(getpid()))) {
    return 0;
  }
  constexpr uint64_t kUsOfMs = 1'000;
  return patience_us == 0 ? 0 : patience_us / 2 / kUsOfMs + 1;
}

}  // namespace

Notifier::Notifier() {
  const char* const address = std::getenv("NOTIFY_SOCKET");
  if (address == nullptr) return;
  address_ = address;
  const bool known = address_.starts_with('/') || address_.starts_with('@');
  if (!known || address_.size() >= sizeof(sockaddr_un::sun_path)) return;
  if (address_[0] == '@') address_[0] = '\0';  // a name that is no file's
  fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd_ >= 0) alive_every_ms_ = AliveEveryMs();
}

Notifier::~Notifier() {
  if (fd_ >= 0) close(fd_);
}

void Notifier::Reloading() const {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t now_us = now.tv_sec * 1'000'000 + now.tv_nsec / 1'000;
  Tell("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(now_us));
}

void Notifier::Tell(std::string_view state) const {
  if (fd_ < 0) return;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  address_.copy(to.sun_path, sizeof to.sun_path - 1);
  const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  // A manager that has gone is no trouble of the server's.
  sendto(fd_, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to),
         bytes);
}

}  // namespace flint::server
