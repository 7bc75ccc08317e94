#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "flint_limiter.h"

// What the processes that share a data directory say to each other, over a unix socket beside it.
//
// A message is its length (4 bytes, of what follows) and its body. A request's body begins with
// its function; a reply's with a status code, behind which there is the error or the answer. Both
// sides are on one machine and, which the greeting makes sure of, of one version: numbers and
// structures of flint_limiter.h stand as they are in memory, pointers in them mean nothing, and a
// text is its length (4 bytes) and its bytes. A client sends one request and waits for its reply;
// whoever stands in line does so on a connection of its own, and is told what is new.
namespace flint::sharing {

enum class Function : uint32_t {
  kGreet = 1,  // the first; it and those without a greeting are the same in every version
  kDescribe,   // who owns the directory, as text; without a greeting
  kCheck,      // flint_limiter_check, _peek and _check_limits
  kCheckAll,
  kCheckMany,
  kLimitMany,
  kRemove,
  kReset,
  kStatus,
  kList,
  kListPage,
  kTop,
  kInfo,
  kHistory,
  kFlush,
  kCompact,
  // Of whoever waits in line, without a greeting. `number` is one of the connection's, from 1 on.
  kJoin,   // number, cost, key
  kLeave,  // number
  kPlace,  // number: where does it stand?
  kHere,   // the answer to a place of number 0
};

// What those are told, unasked too: when they come first, and when they shall look at the limit
// again. A code that is not OK: there is no room in the lines. Number 0: is somebody there?
struct PlaceInLine {
  int32_t code = FLINT_LIMITER_OK;
  uint32_t first = 0;
  uint64_t number = 0;
  uint64_t units_ahead = 0;
};

// Stands for a status code while a request waits for a lock, the disk or a thread.
constexpr int32_t kStillAtIt = -1;

constexpr uint32_t kGreeting = 0x544e4c46;  // "FLNT"
constexpr uint32_t kMaxRequestBytes = uint32_t{4} << 20;
constexpr uint32_t kMaxReplyBytes = uint32_t{32} << 20;
// Of one reply.
constexpr uint64_t kMaxEntries = 16384;
constexpr uint64_t kMaxTextBytes = uint64_t{8} << 20;

// Builds a message.
class Writer {
 public:
  Writer() { bytes_.assign(sizeof(uint32_t), '\0'); }
  explicit Writer(Function function) : Writer() { Put(function); }

  template <typename T>
  Writer& Put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Writer& Text(std::string_view text) {
    Put(static_cast<uint32_t>(text.size()));
    bytes_.append(text);
    return *this;
  }
  // How many bytes follow the length.
  size_t size() const { return bytes_.size() - sizeof(uint32_t); }
  std::string Finish() {
    const auto length = static_cast<uint32_t>(size());
    std::memcpy(bytes_.data(), &length, sizeof(length));
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
};

// Reads a message's body. Behind what is missing everything is.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  bool Get(T* value) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (!ok_ || bytes_.size() < sizeof(*value)) return ok_ = false;
    std::memcpy(value, bytes_.data(), sizeof(*value));
    bytes_.remove_prefix(sizeof(*value));
    return true;
  }
  // Points into the message.
  bool Text(std::string_view* text) {
    uint32_t size = 0;
    if (!Get(&size) || bytes_.size() < size) return ok_ = false;
    *text = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return true;
  }
  bool ok() const { return ok_; }
  // Whether all was there, and nothing else.
  bool AtEnd() const { return ok_ && bytes_.empty(); }

 private:
  std::string_view bytes_;
  bool ok_ = true;
};

// An error as a reply, and back.
std::string ErrorReply(int32_t code, const flint_limiter_error& error);
std::string ErrorReply(int32_t code, std::string_view message);
void ReadError(Reader* reply, int32_t code, flint_limiter_error* error);

flint_limiter_error NoError();
// Fills what a caller gets to see; `error` may be null. Returns the code.
int32_t Fail(int32_t code, std::string_view message, flint_limiter_error* error);

// What must be equal for two processes to understand each other.
struct Greeting {
  uint32_t magic = kGreeting;
  uint32_t sync = 0;    // FLINT_LIMITER_SYNC_...: nobody gets less than what he asked for
  uint64_t layout = 0;  // of the structures
};
uint64_t Layout();
std::string GreetingMessage(uint32_t sync);
// Whether a client that greets so can be served; otherwise `why` says why not, with a status code.
int32_t CheckGreeting(std::string_view body, uint32_t sync, std::string* why);

}  // namespace flint::sharing
