#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flint::server {

// An answer in the Redis protocol. What its second version does not have becomes what it has: a map
// an array of names and values, a truth 1 or 0.
class RedisReply {
 public:
  explicit RedisReply(bool version_3) : version_3_(version_3) { bytes_.reserve(kUsualBytes); }

  RedisReply& Simple(std::string_view text);
  // `code` is the first word, in capitals; of `text` a line is shown.
  RedisReply& Error(std::string_view code, std::string_view text);
  RedisReply& Integer(int64_t value);
  // Beyond 2^63 - 1 a big number, or digits as text.
  RedisReply& Whole(uint64_t value);
  RedisReply& Truth(bool value);
  RedisReply& Text(std::string_view text);
  RedisReply& Null();
  RedisReply& Array(size_t count);
  RedisReply& Map(size_t count);

  // The entries of a map.
  RedisReply& Field(std::string_view name, uint64_t value) { return Text(name).Whole(value); }
  RedisReply& Time(std::string_view name, int64_t value) { return Text(name).Integer(value); }
  RedisReply& Flag(std::string_view name, bool value) { return Text(name).Truth(value); }
  RedisReply& Word(std::string_view name, std::string_view value) { return Text(name).Text(value); }

  const std::string& bytes() const { return bytes_; }

 private:
  static constexpr size_t kUsualBytes = 128;

  RedisReply& Line(char mark, std::string_view text);
  RedisReply& NumberLine(char mark, uint64_t value);

  const bool version_3_;
  std::string bytes_;
};

}  // namespace flint::server
