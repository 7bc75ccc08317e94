#include "sharing/channel.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "sharing/message.h"

namespace flint::sharing {
namespace {

Channel::Result Failed(int32_t code, std::string_view why, flint_limiter_error* error) {
  Fail(code, why, error);
  return Channel::Result::kFailed;
}

Channel::Result CannotConnect(int failed, const std::string& directory,
                              flint_limiter_error* error) {
  if (failed == ENOENT || failed == ECONNREFUSED) return Channel::Result::kLost;
  if (failed == EAGAIN) return Channel::Result::kLate;  // too many wait to be accepted
  const bool denied = failed == EACCES || failed == EPERM;
  return Failed(denied ? FLINT_LIMITER_PERMISSION : FLINT_LIMITER_IO,
                "cannot connect to " + directory + "/" + kSocketName + ": " +
                    std::strerror(failed) +
                    (denied ? "; processes that share a directory must be of one user" : ""),
                error);
}

}  // namespace

Channel::Result Channel::Open(const Settings& settings, flint_limiter_error* error) {
  answer_timeout_ns_ = settings.answer_timeout_ns;
  const int failed = Connect(settings.directory, settings.answer_timeout_ns, &socket_);
  if (failed != 0) return CannotConnect(failed, settings.directory, error);
  Peer owner;
  if (const int unknown = PeerOf(socket_.get(), &owner)) {
    return CannotConnect(unknown, settings.directory, error);
  }
  if (owner.uid != geteuid()) {
    return Failed(FLINT_LIMITER_PERMISSION,
                  settings.directory + " is owned by a process of user " +
                      std::to_string(owner.uid) + ", and this one is of user " +
                      std::to_string(geteuid()) +
                      "; processes that share a directory must be of one user",
                  error);
  }
  std::string body;
  const Result result = Exchange(GreetingMessage(settings.sync), &body);
  if (result != Result::kAnswered) return result;
  Reader reader(body);
  int32_t code = 0;
  if (reader.Get(&code) && code == FLINT_LIMITER_OK) return Result::kAnswered;
  flint_limiter_error said = NoError();
  ReadError(&reader, code, &said);
  return Failed(code, said.message, error);
}

Channel::Result Channel::Exchange(std::string_view request, std::string* body) {
  heard_at_ns_ = SteadyNs();
  while (!request.empty()) {
    const ssize_t sent = send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR && !IsLate()) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return Result::kLate;
    if (sent < 0) break;  // an owner that refuses to read may have said why
    request.remove_prefix(static_cast<size_t>(sent));
    if (!request.empty()) heard_at_ns_ = SteadyNs();
  }
  return Receive(body);
}

Channel::Result Channel::Receive(std::string* body) {
  for (;;) {
    uint32_t length = 0;
    if (input_.size() >= sizeof(length)) {
      std::memcpy(&length, input_.data(), sizeof(length));
      if (length > kMaxReplyBytes || length < sizeof(int32_t)) return Result::kLost;
      if (input_.size() - sizeof(length) >= length) {
        int32_t code = 0;
        std::memcpy(&code, input_.data() + sizeof(length), sizeof(code));
        if (code != kStillAtIt) {
          body->assign(input_, sizeof(length), length);
          input_.clear();
          return Result::kAnswered;
        }
        input_.erase(0, sizeof(length) + length);
        continue;
      }
    }
    const Result result = ReceiveMore();
    if (result != Result::kAnswered) return result;
  }
}

Channel::Result Channel::ReceiveMore() {
  char buffer[16384];
  const ssize_t got = recv(socket_.get(), buffer, sizeof(buffer), 0);
  if (got > 0) {
    heard_at_ns_ = SteadyNs();
    input_.append(buffer, static_cast<size_t>(got));
    return Result::kAnswered;
  }
  if (got < 0 && errno == EINTR && !IsLate()) return Result::kAnswered;
  return got < 0 && (errno == EAGAIN || errno == EINTR) ? Result::kLate : Result::kLost;
}

// Signals that come again and again do not make an owner that is stopped one that answers.
bool Channel::IsLate() const { return SteadyNs() - heard_at_ns_ >= answer_timeout_ns_; }

void Channel::Interrupt() { shutdown(socket_.get(), SHUT_RDWR); }

}  // namespace flint::sharing
