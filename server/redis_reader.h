#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flint::server {

// Reads requests of the Redis protocol, which are the same in its versions 2 and 3: arrays of bulk
// strings. Stricter than Redis: lengths are digits alone, lines end by CR LF, and of what is typed
// on a line only PING and QUIT are requests, so that no HTTP is taken for one. Pure: no I/O.
class RedisReader {
 public:
  static constexpr uint64_t kMaxArguments = 2 * 1024 + 1;      // of FLINT.CHECKALL
  static constexpr uint64_t kMaxBytes = uint64_t{160} * 1024;  // of all words together

  enum class Event : uint8_t {
    kMore,     // all was used, and the request is not whole
    kRequest,  // it is in arguments()
    kRefused,  // refusal() says why; nothing more can be read
  };

  // Of one request.
  struct Bounds {
    uint64_t arguments = kMaxArguments;
    uint64_t bytes = kMaxBytes;
  };

  // Reads up to the end of a request; `used` is how many bytes those are.
  Event Read(std::string_view bytes, size_t* used, const Bounds& bounds);

  // The request's words, of which there is at least one. They may be moved from.
  std::vector<std::string>& arguments() { return arguments_; }
  // Whether some of a request has come, and not all.
  bool begun() const { return state_ != State::kStart || !line_.empty(); }
  const std::string& refusal() const { return refusal_; }

 private:
  enum class State : uint8_t { kStart, kLength, kText, kTextEnd };

  // Goes on with the line that has begun; true when its end has come, which is not part of it.
  bool ReadLine(std::string_view bytes, size_t* used, std::string_view* line);
  bool ReadText(std::string_view bytes, size_t* used);
  bool OnLine(std::string_view line, const Bounds& bounds);
  bool OnInline(std::string_view line);
  bool OnTextEnd(std::string_view line);
  bool Refuse(std::string_view why);

  std::vector<std::string> arguments_;
  std::string line_;  // what came of it before the last read
  std::string refusal_;
  uint64_t count_ = 0;
  uint64_t text_bytes_ = 0;
  uint64_t bytes_ = 0;
  State state_ = State::kStart;
};

}  // namespace flint::server
