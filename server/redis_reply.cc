#include "redis_reply.h"

#include "text.h"

namespace flint::server {

RedisReply& RedisReply::Line(char mark, std::string_view text) {
  bytes_.push_back(mark);
  bytes_.append(text).append("\r\n");
  return *this;
}

RedisReply& RedisReply::NumberLine(char mark, uint64_t value) {
  bytes_.push_back(mark);
  AppendWhole(value, &bytes_);
  bytes_.append("\r\n");
  return *this;
}

RedisReply& RedisReply::Simple(std::string_view text) { return Line('+', text); }

RedisReply& RedisReply::Error(std::string_view code, std::string_view text) {
  std::string line(code);
  line.push_back(' ');
  for (const char c : text) line.push_back(c == '\r' || c == '\n' ? ' ' : c);
  return Line('-', line);
}

RedisReply& RedisReply::Integer(int64_t value) {
  return value < 0 ? Line(':', std::to_string(value))
                   : NumberLine(':', static_cast<uint64_t>(value));
}

RedisReply& RedisReply::Whole(uint64_t value) {
  if (value <= INT64_MAX) return Integer(static_cast<int64_t>(value));
  return version_3_ ? NumberLine('(', value) : Text(std::to_string(value));
}

RedisReply& RedisReply::Truth(bool value) {
  return version_3_ ? Line('#', value ? "t" : "f") : Integer(value ? 1 : 0);
}

RedisReply& RedisReply::Text(std::string_view text) {
  NumberLine('$', text.size());
  bytes_.append(text).append("\r\n");
  return *this;
}

RedisReply& RedisReply::Null() { return version_3_ ? Line('_', "") : Line('$', "-1"); }

RedisReply& RedisReply::Array(size_t count) { return NumberLine('*', count); }

RedisReply& RedisReply::Map(size_t count) {
  return version_3_ ? NumberLine('%', count) : Array(2 * count);
}

}  // namespace flint::server
