#include "remote/connection.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "remote/protocol.h"

namespace flint {
namespace {

constexpr size_t kReadBytes = size_t{64} << 10;

Status Late(const std::string& name) {
  return Status(Code::kTimeout, name + " has not answered in time");
}

// Waits until one can go on, or the time is over: then ETIMEDOUT. 0 or an errno.
int AwaitReady(int fd, short events, Deadline deadline) {
  while (true) {
    const auto left = deadline - std::chrono::steady_clock::now();
    const auto left_ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    if (left_ms <= 0) return ETIMEDOUT;
    pollfd wanted{fd, events, 0};
    const int ready = poll(&wanted, 1, static_cast<int>(std::min<int64_t>(left_ms, 1'000'000)));
    if (ready > 0) return 0;
    if (ready < 0 && errno != EINTR) return errno;
  }
}

// Connects a socket that never blocks. 0 or an errno; the descriptor is closed then.
int ConnectTo(const sockaddr* address, socklen_t size, int family, Deadline deadline, int* fd) {
  const int made = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0) return errno;
  int error = connect(made, address, size) == 0 ? 0 : errno;
  if (error == EINPROGRESS || error == EINTR) {
    error = AwaitReady(made, POLLOUT, deadline);
    socklen_t bytes = sizeof error;
    if (error == 0 && getsockopt(made, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) error = errno;
  }
  if (error != 0) {
    close(made);
    return error;
  }
  const int on = 1;
  if (family != AF_UNIX) setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  *fd = made;
  return 0;
}

Status CannotConnect(const Address& address, int error) {
  if (error == ETIMEDOUT) return Late(address.Shown());
  return Status::FromErrno(Code::kIo, error, "cannot connect to " + address.Shown());
}

Status ConnectUnix(const Address& address, Deadline deadline, int* fd) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (address.path.size() >= sizeof name.sun_path) {
    return Status(Code::kInvalidArgument, "the path of a unix socket has at most " +
                                              std::to_string(sizeof name.sun_path - 1) +
                                              " bytes; this has " +
                                              std::to_string(address.path.size()));
  }
  std::memcpy(name.sun_path, address.path.data(), address.path.size());
  const int error =
      ConnectTo(reinterpret_cast<const sockaddr*>(&name), sizeof name, AF_UNIX, deadline, fd);
  return error == 0 ? Status() : CannotConnect(address, error);
}

Status ConnectTcp(const Address& address, Deadline deadline, int* fd) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  const int looked = getaddrinfo(address.host.c_str(), port.c_str(), &wanted, &found);
  if (looked != 0) {
    return Status(Code::kIo, "cannot find " + address.Shown() + ": " + gai_strerror(looked));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, freeaddrinfo);
  int error = ENOENT;
  for (const addrinfo* one = found; one != nullptr && error != 0; one = one->ai_next) {
    error = ConnectTo(one->ai_addr, one->ai_addrlen, one->ai_family, deadline, fd);
  }
  return error == 0 ? Status() : CannotConnect(address, error);
}

}  // namespace

Status Connection::Open(const Address& address, const TlsContext& tls, const std::string& token,
                        Deadline deadline, std::unique_ptr<Connection>* connection) {
  int fd = -1;
  FLINT_RETURN_IF_ERROR(address.path.empty() ? ConnectTcp(address, deadline, &fd)
                                             : ConnectUnix(address, deadline, &fd));
  Descriptor connected(fd);
  std::unique_ptr<Connection> made(new Connection(std::move(connected), address.Shown()));
  if (tls != nullptr) made->tls_ = std::make_unique<TlsStream>(tls, fd, address.host);
  RespRequest hello{"HELLO", "3"};
  if (!token.empty()) hello.Word("AUTH").Word("default").Word(token);
  RespReply reply;
  const Status greeted = made->Exchange(hello, {}, deadline, &reply);
  if (greeted.code() == Code::kIo && tls == nullptr && address.path.empty()) {
    // What speaks TLS says nothing to who does not.
    return Status(Code::kIo, greeted.message() + "; if it speaks TLS, ask it by flints://")
        .WithErrnoOf(greeted);
  }
  FLINT_RETURN_IF_ERROR(greeted);
  FLINT_RETURN_IF_ERROR(ReadHello(reply));
  *connection = std::move(made);
  return Status();
}

Status Connection::Failure(int system_errno) const {
  if (system_errno == ETIMEDOUT) return Late(name_);
  if (system_errno == 0) return Status(Code::kIo, name_ + " has ended the connection");
  return Status::FromErrno(Code::kIo, system_errno, "the connection to " + name_ + " broke");
}

Status Connection::Exchange(const RespRequest& request, const RespReader::Bounds& bounds,
                            Deadline deadline, RespReply* reply) {
  was_sent_ = false;
  FLINT_RETURN_IF_ERROR(Send(request.bytes(), deadline));
  FLINT_RETURN_IF_ERROR(Receive(bounds, deadline));
  *reply = std::move(reader_.reply());
  return Status();
}

Status Connection::Send(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = tls_ != nullptr
                             ? tls_->Send(bytes)
                             : send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      FLINT_RETURN_IF_ERROR(AwaitMore(POLLOUT, deadline));
      continue;
    }
    was_sent_ = true;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return Status();
}

Status Connection::AwaitMore(short events, Deadline deadline) const {
  if (errno == EINTR) return Status();
  if (errno == EPROTO && tls_ != nullptr) return Status(Code::kIo, name_ + " " + tls_->reason());
  if (errno != EAGAIN) return Failure(errno);
  const int error = AwaitReady(fd_.get(), tls_ != nullptr ? tls_->wanted() : events, deadline);
  return error == 0 ? Status() : Failure(error);
}

Status Connection::Receive(const RespReader::Bounds& bounds, Deadline deadline) {
  char bytes[kReadBytes];
  while (true) {
    const ssize_t got = tls_ != nullptr ? tls_->Receive(bytes, sizeof bytes)
                                        : recv(fd_.get(), bytes, sizeof bytes, 0);
    if (got == 0) return Failure(0);
    if (got < 0) {
      FLINT_RETURN_IF_ERROR(AwaitMore(POLLIN, deadline));
      continue;
    }
    const auto size = static_cast<size_t>(got);
    size_t used = 0;
    const RespReader::Event event = reader_.Read({bytes, size}, bounds, &used);
    const bool more_than_asked = event == RespReader::Event::kReply && used < size;
    if (event == RespReader::Event::kRefused || more_than_asked) {
      const std::string why = more_than_asked ? "more came than was asked" : reader_.refusal();
      return Status(Code::kInternal,
                    "what " + name_ + " answers is not the Redis protocol: " + why);
    }
    if (event == RespReader::Event::kReply) return Status();
  }
}

bool Connection::IsStale() const {
  pollfd wanted{fd_.get(), POLLIN, 0};
  return poll(&wanted, 1, 0) != 0 || (tls_ != nullptr && tls_->HasMore());
}

void Connection::Interrupt() { shutdown(fd_.get(), SHUT_RDWR); }

}  // namespace flint
