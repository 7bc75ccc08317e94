#include "remote/resp.h"

#include <algorithm>

namespace flint {
namespace {

constexpr size_t kMostLineBytes = 4096;  // an error's message is a line
constexpr size_t kMostReserved = 64;
constexpr std::string_view kLineEnd = "\r\n";

// Digits alone, without a zero in front.
bool ReadDigits(std::string_view text, uint64_t* number) {
  if (text.empty() || text.size() > 20 || (text.size() > 1 && text[0] == '0')) return false;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    const auto digit = static_cast<uint64_t>(c - '0');
    if (value > (UINT64_MAX - digit) / 10) return false;
    value = 10 * value + digit;
  }
  *number = value;
  return true;
}

bool ReadNumber(std::string_view text, bool big, RespReply* value) {
  value->type = RespReply::Type::kNumber;
  value->negative = text.starts_with('-');
  if (!ReadDigits(text.substr(value->negative ? 1 : 0), &value->number)) return false;
  // Of negative ones there are times before 1970 only, and none is -0.
  if (value->negative && (value->number == 0 || big)) return false;
  return big || value->number <= uint64_t{INT64_MAX} + (value->negative ? 1 : 0);
}

}  // namespace

RespRequest& RespRequest::Word(std::string_view word) {
  body_ += '$';
  body_ += std::to_string(word.size());
  body_ += kLineEnd;
  body_ += word;
  body_ += kLineEnd;
  ++words_;
  return *this;
}

RespReader::Event RespReader::Read(std::string_view bytes, const Bounds& bounds, size_t* used) {
  *used = 0;
  if (!refusal_.empty()) return Event::kRefused;
  if (open_.empty() && text_of_ == nullptr && line_.empty()) {
    reply_ = RespReply();
    bytes_ = 0;
    values_ = 0;
  }
  while (*used < bytes.size()) {
    const std::string_view rest = bytes.substr(*used);
    const size_t used_before = *used;
    const bool is_text = text_of_ != nullptr;
    const bool whole = is_text ? ReadText(rest, used) : ReadLine(rest, used);
    bytes_ += *used - used_before;
    if (bytes_ > bounds.bytes) Refuse("it is too long");
    if (!refusal_.empty()) return Event::kRefused;
    if (!whole) continue;
    const bool is_reply = is_text ? OnWhole() : OnLine(bounds);
    if (!refusal_.empty()) return Event::kRefused;
    if (is_reply) return Event::kReply;
  }
  return Event::kMore;
}

// Adds to the line that has begun; true when its end has come, which is not part of it.
bool RespReader::ReadLine(std::string_view bytes, size_t* used) {
  const size_t end = bytes.find('\n');
  const size_t taken = end == std::string_view::npos ? bytes.size() : end + 1;
  line_.append(bytes.substr(0, std::min(taken, kMostLineBytes + 1)));
  if (line_.size() > kMostLineBytes) return Refuse("a line is too long");
  *used += taken;
  if (end == std::string_view::npos) return false;
  if (!line_.ends_with(kLineEnd)) return Refuse("a line does not end by CR LF");
  line_.resize(line_.size() - kLineEnd.size());
  return true;
}

// A text, and behind it the end of a line, which is taken off again.
bool RespReader::ReadText(std::string_view bytes, size_t* used) {
  std::string& text = text_of_->text;
  const size_t taken = std::min(bytes.size(), text_bytes_ - text.size());
  text.append(bytes.substr(0, taken));
  *used += taken;
  if (text.size() < text_bytes_) return false;
  if (!text.ends_with(kLineEnd)) return Refuse("a text is longer than it says");
  text.resize(text.size() - kLineEnd.size());
  text_of_ = nullptr;
  return true;
}

bool RespReader::OnLine(const Bounds& bounds) {
  if (++values_ > bounds.values) return Refuse("it has too many values");
  RespReply* value = &reply_;
  if (!open_.empty()) {
    value = &open_.back().reply->items.emplace_back();
    --open_.back().left;
  }
  const std::string line = std::move(line_);
  line_.clear();
  if (line.empty()) return Refuse("a value has no type");
  return OnValue(value, line, bounds);
}

bool RespReader::OnValue(RespReply* value, std::string_view rest, const Bounds& bounds) {
  const char mark = rest[0];
  rest.remove_prefix(1);
  uint64_t size = 0;
  switch (mark) {
    case '_':
      return rest.empty() ? OnWhole() : Refuse("a null has a value");
    case '#':
      value->type = RespReply::Type::kTruth;
      value->number = rest == "t" ? 1 : 0;
      return rest == "t" || rest == "f" ? OnWhole() : Refuse("a truth is neither t nor f");
    case ':':
    case '(':
      return ReadNumber(rest, mark == '(', value) ? OnWhole() : Refuse("a number is none");
    case '+':
    case '-':
      value->type = mark == '+' ? RespReply::Type::kText : RespReply::Type::kError;
      value->text = rest;
      return OnWhole();
    case '$':
      value->type = RespReply::Type::kText;
      if (!ReadDigits(rest, &size) || size > bounds.bytes) return Refuse("a text is too long");
      text_of_ = value;
      text_bytes_ = size + kLineEnd.size();
      return false;
    case '*':
      value->type = RespReply::Type::kArray;
      return OnAggregate(value, rest, 1, bounds);
    case '%':
      value->type = RespReply::Type::kMap;
      return OnAggregate(value, rest, 2, bounds);
    default:
      return Refuse("a value has a type that is not known");
  }
}

bool RespReader::OnAggregate(RespReply* value, std::string_view digits, size_t times,
                             const Bounds& bounds) {
  uint64_t count = 0;
  if (!ReadDigits(digits, &count) || count > bounds.values) {
    return Refuse("a list has too many values");
  }
  if (count == 0) return OnWhole();
  if (open_.size() == bounds.depth) return Refuse("its lists stand in each other too deep");
  value->items.reserve(std::min<size_t>(times * count, kMostReserved));
  open_.push_back({value, times * count});
  return false;
}

bool RespReader::OnWhole() {
  while (!open_.empty() && open_.back().left == 0) open_.pop_back();
  return open_.empty();
}

bool RespReader::Refuse(std::string_view why) {
  refusal_ = why;
  return false;
}

}  // namespace flint
