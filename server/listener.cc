#include "listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <utility>

#include "connection.h"
#include "server.h"

namespace flint::server {
namespace {

constexpr int kBacklog = 1024;

// Whether there is a unix socket at `path` that a process listens on.
bool SomebodyListens(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  const int code = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  close(fd);
  return code == 0;
}

}  // namespace

Listener::Listener(Server* server, Endpoint endpoint)
    : server_(server), endpoint_(std::move(endpoint)) {}

bool Listener::Open(std::string* error) {
  if (!Bind(error)) return false;
  handle_.handle.data = this;
  const int failed = uv_listen(&handle_.stream, kBacklog, [](uv_stream_t* stream, int status) {
    auto* const listener = static_cast<Listener*>(stream->data);
    if (status == 0) {
      listener->failing_ = false;
      listener->Knock();
    } else if (!std::exchange(listener->failing_, true)) {
      listener->server_->log()->Warn("cannot accept connections",
                                     {{"reason", uv_strerror(status)}});
    }
  });
  if (failed != 0) *error = "cannot listen on " + url() + ": " + uv_strerror(failed);
  return failed == 0;
}

bool Listener::Bind(std::string* error) {
  if (endpoint_.unix_socket()) return BindPath(error);
  sockaddr_storage address{};
  auto* const plain = reinterpret_cast<sockaddr*>(&address);
  const char* const text = endpoint_.address.c_str();
  int failed = uv_ip4_addr(text, endpoint_.port, reinterpret_cast<sockaddr_in*>(&address));
  if (failed != 0) {
    failed = uv_ip6_addr(text, endpoint_.port, reinterpret_cast<sockaddr_in6*>(&address));
  }
  uv_tcp_init(server_->loop(), &handle_.tcp);
  if (failed == 0) failed = uv_tcp_bind(&handle_.tcp, plain, 0);
  if (failed != 0) {
    *error = "cannot bind " + endpoint_.address + ":" + std::to_string(endpoint_.port) + ": " +
             uv_strerror(failed);
  }
  return failed == 0;
}

bool Listener::BindPath(std::string* error) {
  uv_pipe_init(server_->loop(), &handle_.pipe, 0);
  struct stat found {};
  if (lstat(endpoint_.path.c_str(), &found) == 0) {
    if (!S_ISSOCK(found.st_mode) || SomebodyListens(endpoint_.path)) {
      *error = "cannot bind unix:" + endpoint_.path + ": the file is in use";
      return false;
    }
    unlink(endpoint_.path.c_str());
  }
  // Private from its first moment on.
  const mode_t mask = umask(0177);
  const int failed = uv_pipe_bind(&handle_.pipe, endpoint_.path.c_str());
  umask(mask);
  if (failed != 0) *error = "cannot bind unix:" + endpoint_.path + ": " + uv_strerror(failed);
  return failed == 0;
}

std::string Listener::url() const {
  std::string scheme = endpoint_.protocol == Protocol::kHttp ? "http" : "redis";
  if (endpoint_.unix_socket()) return scheme + "+unix:" + endpoint_.path;
  if (server_->options().tls.wanted()) scheme += "s";
  sockaddr_storage address{};
  int bytes = sizeof address;
  uv_tcp_getsockname(&handle_.tcp, reinterpret_cast<sockaddr*>(&address), &bytes);
  // The port is at the same place in both families.
  const uint16_t port = ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
  const bool six = endpoint_.address.find(':') != std::string::npos;
  const std::string host = six ? "[" + endpoint_.address + "]" : endpoint_.address;
  return scheme + "://" + host + ":" + std::to_string(port);
}

void Listener::AcceptWaiting() {
  if (waiting_ && !closed_) Knock();
}

void Listener::Knock() {
  // What is not accepted here keeps libuv from accepting more.
  waiting_ = !server_->HasRoom();
  if (waiting_) return;
  const auto connection = std::make_shared<Connection>(server_, endpoint_.unix_socket());
  server_->Adopt(connection);
  if (uv_accept(&handle_.stream, connection->stream()) == 0) {
    connection->Start(server_->MakeSession(connection.get(), endpoint_.protocol),
                      server_->MakeTls(endpoint_));
  } else {
    connection->Close();
  }
}

void Listener::Close() {
  if (std::exchange(closed_, true)) return;
  uv_close(&handle_.handle, nullptr);
}

}  // namespace flint::server
