#include "text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <ctime>

#include "flint_limiter.h"

namespace flint::server {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kMaxNs = uint64_t{1} << 62;

struct Unit {
  std::string_view name;
  uint64_t ns;
};
constexpr std::array kUnits = {
    Unit{"ms", 1'000'000},           Unit{"s", kNsPerSecond},          Unit{"m", 60 * kNsPerSecond},
    Unit{"h", 3'600 * kNsPerSecond}, Unit{"d", 86'400 * kNsPerSecond}, Unit{"", kNsPerSecond},
};

struct Algorithm {
  std::string_view name;
  uint32_t value;
};
constexpr std::array kAlgorithms = {
    Algorithm{"token_bucket", FLINT_LIMITER_TOKEN_BUCKET},
    Algorithm{"gcra", FLINT_LIMITER_GCRA},
    Algorithm{"leaky_bucket", FLINT_LIMITER_LEAKY_BUCKET},
    Algorithm{"fixed_window_counter", FLINT_LIMITER_FIXED_WINDOW_COUNTER},
    Algorithm{"sliding_window_log", FLINT_LIMITER_SLIDING_WINDOW_LOG},
    Algorithm{"sliding_window_counter", FLINT_LIMITER_SLIDING_WINDOW_COUNTER},
};

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = Lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// So many digits, with zeros in front, and `behind` them. Returns where they end.
char* WriteDigits(uint32_t number, size_t digits, char behind, char* to) {
  to[digits] = behind;
  for (char* at = to + digits; at > to; number /= 10) {
    *--at = static_cast<char>('0' + number % 10);
  }
  return to + digits + 1;
}

// How many bytes the character at the front of `text` has; 0 when it is none.
size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(text[at]); };
  if (byte(0) < 0x80) return 1;
  const size_t bytes = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : 2;
  if (byte(0) < 0xC2 || byte(0) > 0xF4 || text.size() < bytes) return 0;
  for (size_t i = 1; i < bytes; i++) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Too long a form, surrogates, and what lies behind U+10FFFF.
  if (byte(0) == 0xE0 && byte(1) < 0xA0) return 0;
  if (byte(0) == 0xED && byte(1) > 0x9F) return 0;
  if (byte(0) == 0xF0 && byte(1) < 0x90) return 0;
  if (byte(0) == 0xF4 && byte(1) > 0x8F) return 0;
  return bytes;
}

}  // namespace

bool ReadWhole(std::string_view text, uint64_t* number) {
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, *number);
  return read.ec == std::errc() && read.ptr == end && text.front() != '-';
}

void AppendWhole(uint64_t number, std::string* to) {
  std::array<char, 20> digits;
  const char* const end = std::to_chars(digits.begin(), digits.end(), number).ptr;
  to->append(digits.data(), static_cast<size_t>(end - digits.data()));
}

uint64_t SecondsUp(uint64_t ns) { return ns / kNsPerSecond + (ns % kNsPerSecond != 0 ? 1 : 0); }

bool ReadPeriod(std::string_view text, uint64_t* ns) {
  text = Trim(text);
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  uint64_t number = 0;
  if (!ReadWhole(text.substr(0, digits), &number)) return false;
  for (const Unit& unit : kUnits) {
    if (text.substr(digits) != unit.name) continue;
    if (number == 0 || number > kMaxNs / unit.ns) return false;
    *ns = number * unit.ns;
    return true;
  }
  return false;
}

// By hand, since strftime and printf take as long as the rest of an answer.
void AppendTime(int64_t at_ns, std::string* to) {
  const bool borrows = at_ns % kNsPerSecond < 0;
  const auto fraction = static_cast<uint32_t>(at_ns % kNsPerSecond + (borrows ? kNsPerSecond : 0));
  const std::chrono::sys_seconds at{std::chrono::seconds(at_ns / kNsPerSecond - (borrows ? 1 : 0))};
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(at - day);
  std::array<char, sizeof "1970-01-01T00:00:00.000000000Z"> shown;
  char* end = shown.data();
  end = WriteDigits(static_cast<uint32_t>(static_cast<int>(date.year())), 4, '-', end);
  end = WriteDigits(static_cast<unsigned>(date.month()), 2, '-', end);
  end = WriteDigits(static_cast<unsigned>(date.day()), 2, 'T', end);
  end = WriteDigits(static_cast<uint32_t>(time.hours().count()), 2, ':', end);
  end = WriteDigits(static_cast<uint32_t>(time.minutes().count()), 2, ':', end);
  const auto second = static_cast<uint32_t>(time.seconds().count());
  end = WriteDigits(second, 2, fraction == 0 ? 'Z' : '.', end);
  const bool milli = fraction % 1'000'000 == 0;
  const bool micro = fraction % 1'000 == 0;
  const uint32_t divisor = milli ? 1'000'000 : micro ? 1'000 : 1;
  if (fraction != 0) end = WriteDigits(fraction / divisor, milli ? 3 : micro ? 6 : 9, 'Z', end);
  to->append(shown.data(), static_cast<size_t>(end - shown.data()));
}

std::string TimeText(int64_t at_ns) {
  std::string text;
  AppendTime(at_ns, &text);
  return text;
}

std::string HttpDate(int64_t at_s) {
  const time_t clock = at_s;
  tm date{};
  gmtime_r(&clock, &date);
  std::array<char, 64> text{};
  const size_t size = strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &date);
  return {text.data(), size};
}

std::string_view AlgorithmName(uint32_t algorithm) {
  for (const Algorithm& one : kAlgorithms) {
    if (one.value == algorithm) return one.name;
  }
  return "unknown";
}

std::string_view EventTypeName(uint32_t type) {
  switch (type) {
    case FLINT_LIMITER_EVENT_LIMIT_CONFIGURED:
      return "LIMIT_CONFIGURED";
    case FLINT_LIMITER_EVENT_LIMIT_REMOVED:
      return "LIMIT_REMOVED";
    case FLINT_LIMITER_EVENT_ALLOW:
      return "ALLOW";
    case FLINT_LIMITER_EVENT_ALLOW_ALL:
      return "ALLOW_ALL";
    case FLINT_LIMITER_EVENT_DENY:
      return "DENY";
    default:
      return "RESET";
  }
}

bool ReadAlgorithm(std::string_view name, uint32_t* algorithm) {
  for (const Algorithm& one : kAlgorithms) {
    if (one.name != name) continue;
    *algorithm = one.value;
    return true;
  }
  return false;
}

void AppendQuoted(std::string_view text, std::string* to) {
  constexpr std::string_view kHex = "0123456789abcdef";
  constexpr std::string_view kShort = "btn_fr";  // for 8 to 13
  to->push_back('"');
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (c == '"' || c == '\\') {
      to->push_back('\\');
      to->push_back(c);
    } else if (byte >= 0x20) {
      to->push_back(c);
    } else if (byte >= 8 && byte <= 13 && byte != 11) {
      to->push_back('\\');
      to->push_back(kShort[byte - 8U]);
    } else {
      to->append("\\u00");
      to->push_back(kHex[byte >> 4U]);
      to->push_back(kHex[byte & 15U]);
    }
  }
  to->push_back('"');
}

std::string Quoted(std::string_view text) {
  std::string valid;
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    valid.append(bytes == 0 ? "\xEF\xBF\xBD" : text.substr(0, bytes));
    text.remove_prefix(std::max<size_t>(bytes, 1));
  }
  std::string quoted;
  AppendQuoted(valid, &quoted);
  return quoted;
}

bool PercentDecode(std::string_view text, std::string* decoded) {
  decoded->clear();
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] != '%') {
      decoded->push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return false;
    const int high = HexDigit(text[i + 1]);
    const int low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0) return false;
    decoded->push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return IsUtf8(*decoded);
}

std::optional<std::string> QueryValue(std::string_view query, std::string_view name, bool* wrong) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const size_t equals = std::min(pair.find('='), pair.size());
    if (pair.substr(0, equals) != name) continue;
    std::string value;
    if (PercentDecode(pair.substr(std::min(equals + 1, pair.size())), &value)) return value;
    *wrong = true;
  }
  return std::nullopt;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

std::string Hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (const char byte : bytes) {
    const auto value = static_cast<uint8_t>(byte);
    text.push_back(kDigits[value >> 4U]);
    text.push_back(kDigits[value & 15U]);
  }
  return text;
}

bool ReadHex(std::string_view text, std::string* bytes) {
  bytes->clear();
  for (size_t at = 0; at + 1 < text.size(); at += 2) {
    const int high = HexDigit(text[at]);
    const int low = HexDigit(text[at + 1]);
    if (high < 0 || low < 0) return false;
    bytes->push_back(static_cast<char>(16 * high + low));
  }
  return text.size() % 2 == 0;
}

bool EqualFoldBytes(const char* a, const char* b, size_t size) {
  return std::equal(a, a + size, b, [](char x, char y) { return Lower(x) == Lower(y); });
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

}  // namespace flint::server
