#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

struct ssl_ctx_st;
struct ssl_st;

namespace flint {

// Files in PEM.
struct TlsFiles {
  std::string authorities;  // who may sign a server's certificate; empty: whom the system trusts
  std::string certificate;  // for a server that asks for one; empty: none
  std::string key;          // of that certificate; empty: it is in the same file

  bool operator==(const TlsFiles&) const = default;
};

// What the connections of one limiter have in common.
using TlsContext = std::shared_ptr<ssl_ctx_st>;

// kInvalidArgument, naming the option, for a file that is of no use.
Status LoadTls(const TlsFiles& files, TlsContext* context);

// The client's side of TLS 1.2 or 1.3, on a connected socket that never blocks and that outlives
// it. The first call agrees on keys and verifies the server's certificate and name; nothing is sent
// to a server that is not trusted. One thread at a time.
class TlsStream {
 public:
  TlsStream(const TlsContext& context, int fd, const std::string& host);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  // As send and recv, with these numbers of errors: EAGAIN, when `wanted` has happened call again;
  // EPROTO, `reason` says what is wrong.
  ssize_t Send(std::string_view bytes);
  ssize_t Receive(char* bytes, size_t size);
  short wanted() const { return wanted_; }  // events of poll
  const std::string& reason() const { return reason_; }
  // Whether something has come that was not received yet.
  bool HasMore() const;

  struct Socket {
    int fd;
    int system_errno = 0;  // of the last call
  };

 private:
  ssize_t Judge(int returned);

  Socket socket_;
  ssl_st* ssl_;
  short wanted_ = 0;
  std::string reason_;
};

// A fork waits until no thread is inside OpenSSL: what that has locked would stay so in the child.
void BeforeForkOfTls();
void BehindForkOfTls();  // in both processes

}  // namespace flint
