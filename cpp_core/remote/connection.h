#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/posix_file.h"
#include "base/status.h"
#include "remote/address.h"
#include "remote/resp.h"
#include "remote/tls.h"

namespace flint {

using Deadline = std::chrono::steady_clock::time_point;

// One connection to a server, used by one thread at a time.
class Connection {
 public:
  // Connects, and says who asks. `token` empty: none is said. `tls` null: the address has none.
  static Status Open(const Address& address, const TlsContext& tls, const std::string& token,
                     Deadline deadline, std::unique_ptr<Connection>* connection);
  // Asks, and waits for the whole reply. An error of the server is a reply. After anything but OK
  // the connection is of no use any more: kIo, kTimeout, or kInternal for what is no reply.
  Status Exchange(const RespRequest& request, const RespReader::Bounds& bounds, Deadline deadline,
                  RespReply* reply);
  // Whether the server may have got the last request.
  bool was_sent() const { return was_sent_; }
  // Whether the server has ended it, or has said something unasked.
  bool IsStale() const;

  // From another thread: what waits for the server ends.
  void Interrupt();
  // In a forked child: leaves it to the parent.
  void Forget() { fd_.Close(); }

 private:
  Connection(Descriptor fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}

  Status Send(std::string_view bytes, Deadline deadline);
  Status Receive(const RespReader::Bounds& bounds, Deadline deadline);
  // After a call that has moved nothing: waits until one can.
  Status AwaitMore(short events, Deadline deadline) const;
  Status Failure(int system_errno) const;

  Descriptor fd_;
  std::unique_ptr<TlsStream> tls_;
  const std::string name_;  // of the server, for messages
  bool was_sent_ = false;
  RespReader reader_;
};

}  // namespace flint
