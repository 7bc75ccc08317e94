#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "flint_limiter.h"
#include "sharing/socket.h"

namespace flint::sharing {

// A connection to the owner of a directory. One thread at a time, but for Interrupt.
class Channel {
 public:
  struct Settings {
    std::string directory;
    uint32_t sync = FLINT_LIMITER_SYNC_ALWAYS;
    uint64_t answer_timeout_ns = 0;
  };

  enum class Result : uint8_t {
    kAnswered,
    kLost,    // the owner is gone, or there was none
    kLate,    // it has said nothing for answer_timeout_ns
    kFailed,  // it cannot be asked; the error says why
  };

  // Connects and greets.
  Result Open(const Settings& settings, flint_limiter_error* error);
  // Sends a request and receives its reply's body. For as long as the owner says that it is still
  // at it, this waits.
  Result Exchange(std::string_view request, std::string* body);
  // Has Exchange return kLost, from another thread.
  void Interrupt();

 private:
  Result Receive(std::string* body);
  Result ReceiveMore();
  bool IsLate() const;

  Socket socket_;
  std::string input_;
  uint64_t answer_timeout_ns_ = 0;
  uint64_t heard_at_ns_ = 0;  // or asked, or has read a part of what is sent
};

}  // namespace flint::sharing
