#include "rates.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <tuple>
#include <utility>

#include "text.h"

namespace flint::server {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr uint64_t kMost = uint64_t{1} << 62;
constexpr size_t kMaxCharacters = 1024;
constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kDayNs = 86'400 * kSecondNs;

// The first name is the one that is printed, the second stands for one of them.
struct Unit {
  uint64_t ns;
  std::array<std::string_view, 5> names;
};
constexpr std::array kPrinted = {
    Unit{kDayNs, {"d", "day", "days"}},
    Unit{3'600 * kSecondNs, {"h", "hour", "hours", "hr", "hrs"}},
    Unit{60 * kSecondNs, {"m", "minute", "minutes", "min", "mins"}},
    Unit{kSecondNs, {"s", "second", "seconds", "sec", "secs"}},
    Unit{1'000'000, {"ms", "millisecond", "milliseconds"}},
    Unit{1'000, {"us", "microsecond", "microseconds"}},
    Unit{1, {"ns", "nanosecond", "nanoseconds"}},
};
// Printed as days.
constexpr std::array kLong = {
    Unit{7 * kDayNs, {"w", "week", "weeks"}},
    Unit{30 * kDayNs, {"month", "months"}},
    Unit{360 * kDayNs, {"year", "years"}},
};

uint64_t UnitNs(std::string_view word) {
  const auto find = [word](const auto& units) -> uint64_t {
    for (const Unit& unit : units) {
      for (const std::string_view name : unit.names) {
        if (!name.empty() && EqualFold(word, name)) return unit.ns;
      }
    }
    return 0;
  };
  const uint64_t ns = find(kPrinted);
  return ns != 0 ? ns : find(kLong);
}

std::string PeriodText(uint64_t ns) {
  std::string text;
  for (const Unit& unit : kPrinted) {
    const uint64_t number = ns / unit.ns;
    ns %= unit.ns;
    if (number == 0) continue;
    if (text.empty() && number == 1 && ns == 0) return std::string(unit.names[1]);
    text.append(std::to_string(number)).append(unit.names[0]);
  }
  return text;
}

bool IsWindow(uint32_t algorithm) {
  return algorithm != FLINT_LIMITER_TOKEN_BUCKET && algorithm != FLINT_LIMITER_GCRA &&
         algorithm != FLINT_LIMITER_LEAKY_BUCKET;
}

size_t Characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0U) != 0x80; }));
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

enum class Kind : uint8_t { kNumber, kWord, kSign, kEnd };

struct Token {
  Kind kind = Kind::kEnd;
  std::string_view text;
  size_t start = 0;  // in bytes

  size_t end() const { return start + text.size(); }
  bool is(std::string_view word) const { return kind != Kind::kEnd && EqualFold(text, word); }
};

// One text, read from left to right. Each part says false where something is wrong, and then why.
class Reader {
 public:
  Reader(std::string_view text, const Rate& otherwise, RateError* error)
      : text_(text), otherwise_(otherwise), error_(error), next_(ReadToken()) {}

  bool ReadAll(std::vector<Rate>* rates) {
    do {
      if (rates->size() == kMaxRates) return Refuse(next_, "a key has at most 16 limits");
      Rate rate;
      if (!ReadRate(&rate)) return false;
      if (std::find(rates->begin(), rates->end(), rate) == rates->end()) rates->push_back(rate);
    } while (TakeSeparator());
    return next_.kind == Kind::kEnd ||
           Refuse(next_,
                  R"(";" and another rate, "burst" or "using" may stand here, nothing else)");
  }

 private:
  bool TakeSeparator() {
    const bool found = next_.is(";") || next_.is(",") || next_.is("|");
    if (found) Take();
    return found;
  }

  bool ReadRate(Rate* rate) {
    *rate = otherwise_;
    const Token first = next_;
    if (!ReadNumber(&rate->rate)) return false;
    const Token between = Take();
    if (!between.is("/") && !between.is("per")) {
      return Refuse(between, R"("/" or "per" must stand between the number and the period)");
    }
    const Token start = next_;
    Wide per_ns = 0;
    if (!ReadPeriod(&per_ns)) return false;
    if (per_ns == 0 || per_ns > kMost) {
      return Refuse(start, "a period is 1 ns to 2**62 ns (146 years)");
    }
    rate->per_ns = static_cast<uint64_t>(per_ns);
    return ReadOptions(rate) && CheckBurst(first, rate);
  }

  bool CheckBurst(const Token& first, Rate* rate) {
    const Wide burst = rate->burst == 0 ? rate->rate : rate->burst;
    if (burst == rate->rate) rate->burst = 0;
    if (rate->burst != 0 && IsWindow(rate->algorithm)) {
      const std::string name(AlgorithmName(rate->algorithm));
      return Refuse(first, "burst must be left out with " + name);
    }
    if ((burst * rate->per_ns + rate->rate - 1) / rate->rate <= kMost) return true;
    return Refuse(first, "burst must be so small that it comes back within 2**62 ns (146 years)");
  }

  bool ReadNumber(uint64_t* number) {
    const Token token = Take();
    if (token.kind != Kind::kNumber) {
      return Refuse(token, "a whole number must stand here");
    }
    Wide value = 0;
    for (const char digit : token.text) {
      value = std::min<Wide>(value * 10 + static_cast<Wide>(digit - '0'), Wide{kMost} + 1);
    }
    if (value == 0 || value > kMost) return Refuse(token, "a number is 1 to 2**62");
    *number = static_cast<uint64_t>(value);
    if (next_.is(".") && next_.start == token.end()) {
      return Refuse(next_, "numbers are whole; a part of a unit is written in a smaller");
    }
    return true;
  }

  // The sum of what stands here: a unit alone, or numbers that have each a unit behind them; a
  // number alone is seconds. A text is too short for sums that are too large.
  bool ReadPeriod(Wide* per_ns) {
    if (next_.kind != Kind::kNumber) return ReadUnit(1, per_ns);
    while (next_.kind == Kind::kNumber) {
      const Token token = next_;
      uint64_t number = 0;
      if (!ReadNumber(&number)) return false;
      const bool option = next_.is("per") || next_.is("burst") || next_.is("using");
      const bool bare = next_.kind != Kind::kWord || option;
      if (bare && *per_ns != 0) {
        return Refuse(token, "a unit of time is missing behind this number");
      }
      if (bare) *per_ns += Wide{number} * kSecondNs;
      if (!bare && !ReadUnit(number, per_ns)) return false;
    }
    return true;
  }

  bool ReadUnit(uint64_t number, Wide* per_ns) {
    const Token token = Take();
    const uint64_t ns = UnitNs(token.text);
    if (ns == 0) {
      return Refuse(token, "a unit of time must stand here: ms, s, m, h, d, w, month");
    }
    *per_ns += Wide{number} * ns;
    return true;
  }

  bool ReadOptions(Rate* rate) {
    bool burst = false;
    bool algorithm = false;
    while (next_.kind == Kind::kWord) {
      const Token token = Take();
      const bool is_burst = token.is("burst");
      if (!is_burst && !token.is("using")) {
        return Refuse(token, R"("burst" and "using" may stand behind a period)");
      }
      if (std::exchange(is_burst ? burst : algorithm, true)) {
        return Refuse(token, '"' + std::string(is_burst ? "burst" : "using") + "\" is there twice");
      }
      const bool ok = is_burst ? ReadNumber(&rate->burst) : ReadAlgorithmOf(rate);
      if (!ok) return false;
    }
    return true;
  }

  bool ReadAlgorithmOf(Rate* rate) {
    const Token token = Take();
    std::string name(token.text);
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return ReadAlgorithm(name, &rate->algorithm) ||
           Refuse(token, "the name of an algorithm must stand here");
  }

  Token Take() {
    const Token token = next_;
    if (token.kind != Kind::kEnd) next_ = ReadToken();
    return token;
  }

  Token ReadToken() {
    constexpr std::string_view kSpace = " \t\n\r\f\v";
    const size_t start = text_.find_first_not_of(kSpace, position_);
    if (start == std::string_view::npos) {
      return {Kind::kEnd, {}, text_.find_last_not_of(kSpace) + 1};
    }
    size_t end = start;
    const auto take = [&](auto belongs) {
      while (end < text_.size() && belongs(text_[end])) end++;
    };
    Kind kind = Kind::kSign;
    if (IsDigit(text_[start])) {
      kind = Kind::kNumber;
      take(IsDigit);
    } else if (IsLetter(text_[start])) {
      kind = Kind::kWord;
      take(IsLetter);
    } else {
      end++;
      take([](char c) { return (static_cast<uint8_t>(c) & 0xC0U) == 0x80; });
    }
    position_ = end;
    return {kind, text_.substr(start, end - start), start};
  }

  bool Refuse(const Token& token, std::string why) {
    error_->why = std::move(why);
    error_->position = Characters(text_.substr(0, token.start));
    return false;
  }

  const std::string_view text_;
  const Rate otherwise_;
  RateError* const error_;
  size_t position_ = 0;
  Token next_;
};

}  // namespace

flint_limiter_config Rate::config() const {
  flint_limiter_config config{};
  config.struct_size = sizeof config;
  config.rate = rate;
  config.per_ns = per_ns;
  config.burst = burst;
  config.algorithm = algorithm;
  return config;
}

flint_limiter_config NamedRate::config() const {
  flint_limiter_config config = rate.config();
  config.kind = is_template ? FLINT_LIMITER_KIND_TEMPLATE : FLINT_LIMITER_KIND_EXACT;
  config.key = key.data();
  config.key_bytes = key.size();
  config.name = name.data();
  config.name_bytes = name.size();
  config.flags = stack ? FLINT_LIMITER_STACK : 0;
  return config;
}

bool ReadRates(std::string_view text, const Rate& otherwise, std::vector<Rate>* rates,
               RateError* error) {
  if (Characters(text) > kMaxCharacters) {
    *error = {"a rate string has at most 1024 characters", 0, false};
    return false;
  }
  return Reader(text, otherwise, error).ReadAll(rates);
}

std::string RateError::In(std::string_view text) const {
  if (whole) return why;
  return why + ", at character " + std::to_string(position + 1) + " of " + Quoted(text);
}

bool IsRateName(std::string_view text) {
  return !text.empty() && IsLetter(text[0]) && std::all_of(text.begin(), text.end(), [](char c) {
    return IsLetter(c) || IsDigit(c) || c == '.' || c == '-';
  });
}

bool ReadRatesOrName(std::string_view text, const Rate& otherwise, const RateNames& names,
                     std::vector<Rate>* rates, RateError* error) {
  const auto known = names.find(text);
  if (known == names.end() && !IsRateName(text)) return ReadRates(text, otherwise, rates, error);
  if (known == names.end()) {
    *error = {"no rate is named " + Quoted(text), 0, true};
  } else if (otherwise.burst != 0 || otherwise.algorithm != Rate().algorithm) {
    *error = {"the rate " + Quoted(text) + " says its own algorithm and burst", 0, true};
  } else {
    *rates = known->second;
    return true;
  }
  return false;
}

bool AddRates(const std::vector<Rate>& more, std::vector<Rate>* rates) {
  for (const Rate& rate : more) {
    if (std::find(rates->begin(), rates->end(), rate) == rates->end()) rates->push_back(rate);
  }
  return rates->size() <= kMaxRates;
}

std::string RateText(const Rate& rate) {
  std::string text = std::to_string(rate.rate) + "/" + PeriodText(rate.per_ns);
  if (rate.burst != 0) text += " burst " + std::to_string(rate.burst);
  if (rate.algorithm != FLINT_LIMITER_TOKEN_BUCKET) {
    text.append(" using ").append(AlgorithmName(rate.algorithm));
  }
  return text;
}

SeveralRates::SeveralRates(std::vector<Rate> unordered) : rates(std::move(unordered)) {
  std::sort(rates.begin(), rates.end(), [](const Rate& a, const Rate& b) {
    return std::make_tuple(a.per_ns, a.rate, RateText(a)) <
           std::make_tuple(b.per_ns, b.rate, RateText(b));
  });
  size_t same = 0;
  for (size_t i = 0; i < rates.size(); i++) {
    same = i > 0 && rates[i].per_ns == rates[i - 1].per_ns ? same + 1 : 1;
    names.push_back("per " + PeriodText(rates[i].per_ns));
    if (same > 1) names.back() += " " + std::to_string(same);
    prefix += (i > 0 ? "; " : "") + RateText(rates[i]);
  }
  prefix += " @ ";
}

}  // namespace flint::server
