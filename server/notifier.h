#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flint::server {

// Tells the service manager how the server is, where there is one that asks: by a datagram to the
// unix socket that NOTIFY_SOCKET names, as systemd's sd_notify(3) describes it. Never waits.
class Notifier {
 public:
  Notifier();
  ~Notifier();
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  void Ready() const { Tell("READY=1"); }
  void Reloading() const;
  void Stopping() const { Tell("STOPPING=1"); }
  void Alive() const { Tell("WATCHDOG=1"); }

  // How often Alive is to be said; 0 where nobody waits for it.
  uint64_t alive_every_ms() const { return alive_every_ms_; }

 private:
  void Tell(std::string_view state) const;

  int fd_ = -1;
  std::string address_;
  uint64_t alive_every_ms_ = 0;
};

}  // namespace flint::server
