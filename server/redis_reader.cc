#include "redis_reader.h"

#include <algorithm>
#include <string>

#include "text.h"

namespace flint::server {
namespace {

constexpr size_t kMaxLineBytes = 64;
constexpr size_t kUsualArguments = 8;

// Digits behind `mark`, without a zero in front.
bool ReadLength(std::string_view line, char mark, uint64_t* length) {
  if (line.size() < 2 || line.size() > 8 || line[0] != mark) return false;
  const std::string_view digits = line.substr(1);
  return (digits.size() == 1 || digits[0] != '0') && digits[0] != '+' && ReadWhole(digits, length);
}

}  // namespace

RedisReader::Event RedisReader::Read(std::string_view bytes, size_t* used, const Bounds& bounds) {
  *used = 0;
  if (!refusal_.empty()) return Event::kRefused;
  while (*used < bytes.size()) {
    const std::string_view rest = bytes.substr(*used);
    if (state_ == State::kText) {
      if (!ReadText(rest, used)) return Event::kMore;
      state_ = State::kTextEnd;
      continue;
    }
    std::string_view line;
    if (!ReadLine(rest, used, &line)) {
      if (refusal_.empty()) continue;
      return Event::kRefused;
    }
    const bool whole = OnLine(line, bounds);
    line_.clear();
    if (!refusal_.empty()) return Event::kRefused;
    if (whole) return Event::kRequest;
  }
  return Event::kMore;
}

bool RedisReader::ReadLine(std::string_view bytes, size_t* used, std::string_view* line) {
  const size_t end = bytes.find('\n');
  const size_t taken = end == std::string_view::npos ? bytes.size() : end + 1;
  *line = bytes.substr(0, taken);
  if (!line_.empty() || end == std::string_view::npos) {
    line_.append(line->substr(0, kMaxLineBytes + 1));
    *line = line_;
  }
  if (line->size() > kMaxLineBytes) return Refuse("too long a line");
  *used += taken;
  if (end == std::string_view::npos) return false;
  if (!line->ends_with("\r\n")) return Refuse("a line must end by CR LF");
  line->remove_suffix(2);
  return true;
}

bool RedisReader::ReadText(std::string_view bytes, size_t* used) {
  std::string& text = arguments_.back();
  const size_t taken = std::min<size_t>(bytes.size(), text_bytes_ - text.size());
  text.append(bytes.substr(0, taken));
  *used += taken;
  return text.size() == text_bytes_;
}

// Returns whether a request is whole.
bool RedisReader::OnLine(std::string_view line, const Bounds& bounds) {
  switch (state_) {
    case State::kStart:
      arguments_.clear();
      bytes_ = 0;
      if (!line.starts_with('*')) return OnInline(line);
      if (!ReadLength(line, '*', &count_) || count_ == 0 || count_ > bounds.arguments) {
        return Refuse("an array must have 1 to " + std::to_string(bounds.arguments) + " elements");
      }
      arguments_.reserve(std::min<size_t>(count_, kUsualArguments));
      state_ = State::kLength;
      return false;
    case State::kLength:
      if (!ReadLength(line, '$', &text_bytes_)) return Refuse("expected the length of a string");
      bytes_ += text_bytes_;
      if (bytes_ > bounds.bytes) {
        return Refuse("a request must have at most " + std::to_string(bounds.bytes) + " bytes");
      }
      arguments_.emplace_back();
      state_ = State::kText;
      // An empty one has no bytes that could end it.
      if (text_bytes_ == 0) state_ = State::kTextEnd;
      return false;
    case State::kText:
    case State::kTextEnd:
      break;
  }
  return OnTextEnd(line);
}

bool RedisReader::OnTextEnd(std::string_view line) {
  if (!line.empty()) return Refuse("a string is longer than was said");
  const bool whole = arguments_.size() == count_;
  state_ = whole ? State::kStart : State::kLength;
  return whole;
}

bool RedisReader::OnInline(std::string_view line) {
  if (EqualFold(line, "PING") || EqualFold(line, "QUIT")) {
    arguments_.emplace_back(line);
    return true;
  }
  return Refuse("expected an array of bulk strings");
}

bool RedisReader::Refuse(std::string_view why) {
  refusal_ = why;
  return false;
}

}  // namespace flint::server
