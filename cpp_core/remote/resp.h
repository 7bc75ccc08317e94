#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace flint {

// The Redis protocol's third version, as one who asks needs it: requests to write, replies to read.
// Pure: no I/O.

// A request is an array of words.
class RespRequest {
 public:
  RespRequest(std::initializer_list<std::string_view> words) {
    for (const std::string_view word : words) Word(word);
  }

  RespRequest& Word(std::string_view word);
  RespRequest& Number(uint64_t number) { return Word(std::to_string(number)); }
  RespRequest& Option(std::string_view name, std::string_view value) {
    return Word(name).Word(value);
  }
  RespRequest& Option(std::string_view name, uint64_t value) { return Word(name).Number(value); }

  size_t words() const { return words_; }
  size_t size() const { return body_.size(); }
  std::string bytes() const { return "*" + std::to_string(words_) + "\r\n" + body_; }

 private:
  size_t words_ = 0;
  std::string body_;
};

// One value, with all that is in it.
struct RespReply {
  enum class Type : uint8_t { kNull, kTruth, kNumber, kText, kError, kArray, kMap };

  Type type = Type::kNull;
  bool negative = false;         // of a number
  uint64_t number = 0;           // its distance from 0; of a truth 0 or 1
  std::string text;              // also of an error, with its code
  std::vector<RespReply> items;  // of a map, names and values in turn
};

// Reads replies. Strict: numbers have no sign but `-` and no zeros in front, lines end by CR LF,
// and what the server of Flint does not send is refused. What has been read takes memory in
// proportion to what has come, whatever lengths it names.
class RespReader {
 public:
  struct Bounds {
    size_t bytes = size_t{2} << 20;     // of one reply
    size_t values = size_t{128} << 10;  // in all its depth
    size_t depth = 8;
  };
  enum class Event : uint8_t {
    kMore,     // all was used, and the reply is not whole
    kReply,    // it is in reply()
    kRefused,  // refusal() says why; nothing more can be read
  };

  // Reads up to the end of a reply; `used` is how many bytes those are.
  Event Read(std::string_view bytes, const Bounds& bounds, size_t* used);

  // The reply that has come whole. It may be moved from.
  RespReply& reply() { return reply_; }
  const std::string& refusal() const { return refusal_; }

 private:
  struct Open {
    RespReply* reply;
    size_t left;  // values that are to come
  };

  bool ReadLine(std::string_view bytes, size_t* used);
  bool ReadText(std::string_view bytes, size_t* used);
  bool OnLine(const Bounds& bounds);
  bool OnValue(RespReply* value, std::string_view rest, const Bounds& bounds);
  bool OnAggregate(RespReply* value, std::string_view digits, size_t times, const Bounds& bounds);
  // A value is whole, and with it perhaps what it is the last of. True when that is all.
  bool OnWhole();
  bool Refuse(std::string_view why);

  RespReply reply_;
  std::vector<Open> open_;
  std::string line_;  // up to its end
  std::string refusal_;
  RespReply* text_of_ = nullptr;  // whose text is coming
  size_t text_bytes_ = 0;         // of it, with the end of the line
  size_t bytes_ = 0;
  size_t values_ = 0;
};

}  // namespace flint
