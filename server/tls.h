#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "options.h"

namespace flint::server {

// A certificate, its key, and whose clients are let in. Connections that have one keep it.
using TlsContext = std::shared_ptr<SSL_CTX>;

// Reads all files, in PEM; null, with what is wrong, when one of them is of no use.
TlsContext LoadTls(const TlsFiles& files, std::string* error);

// The server's side of TLS 1.2 or 1.3, between bytes of a stream and what they say. Knows no
// connection. The loop's.
class TlsStream {
 public:
  enum class State : uint8_t { kHandshake, kOpen, kEnded, kFailed };

  TlsStream(const TlsContext& context, Protocol protocol);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  // Takes all that came: appends what it says to `plain`, and what must be sent to `output`.
  State Read(std::string_view bytes, std::string* plain, std::string* output);
  // Appends `plain`, encrypted. Only while it is open, or has been ended by the other side.
  void Write(std::string_view plain, std::string* output);
  // Appends, once, that nothing follows.
  void Finish(std::string* output);

  State state() const { return state_; }
  // Why it has failed.
  const std::string& reason() const { return reason_; }

 private:
  void Advance(std::string* plain);
  void Judge(int returned);
  void TakeOutput(std::string* output);

  SSL* const ssl_;
  BIO* incoming_;  // both are ssl_'s
  BIO* outgoing_;
  State state_ = State::kHandshake;
  bool finished_ = false;
  std::string reason_;
};

}  // namespace flint::server
