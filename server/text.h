#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// Numbers, times and words as they stand in flags, bodies and answers. Pure functions.
namespace flint::server {

// Digits alone, without a sign, up to 2^64 - 1.
bool ReadWhole(std::string_view text, uint64_t* number);

void AppendWhole(uint64_t number, std::string* to);

// Whole seconds, rounded up.
uint64_t SecondsUp(uint64_t ns);

// Digits, then ms, s, m, h, d or nothing, which means seconds; white space around is left out.
// From 1 ns to 2^62 ns.
bool ReadPeriod(std::string_view text, uint64_t* ns);

// RFC 3339 in UTC with `Z`; no fraction, or one of 3, 6 or 9 digits.
void AppendTime(int64_t at_ns, std::string* to);
std::string TimeText(int64_t at_ns);

// Of a Date field.
std::string HttpDate(int64_t at_s);

std::string_view AlgorithmName(uint32_t algorithm);
bool ReadAlgorithm(std::string_view name, uint32_t* algorithm);
// Of an event in the history: "ALLOW" and so on.
std::string_view EventTypeName(uint32_t type);

// `text` in quotes, as JSON has it. It is UTF-8.
void AppendQuoted(std::string_view text, std::string* to);
// The same, and what is no UTF-8 becomes U+FFFD.
std::string Quoted(std::string_view text);

// Replaces %XX by its byte; false where two digits do not follow, or the result is no UTF-8.
bool PercentDecode(std::string_view text, std::string* decoded);

// The value of a name in a query, decoded; none where it is not there. `wrong` is set where it
// cannot be decoded.
std::optional<std::string> QueryValue(std::string_view query, std::string_view name, bool* wrong);

bool IsUtf8(std::string_view text);

// Two digits for each byte, and back; false where it is not that.
std::string Hex(std::string_view bytes);
bool ReadHex(std::string_view text, std::string* bytes);

// Without regard to ASCII's capitals.
bool EqualFoldBytes(const char* a, const char* b, size_t size);
inline bool EqualFold(std::string_view a, std::string_view b) {
  return a.size() == b.size() && EqualFoldBytes(a.data(), b.data(), a.size());
}

std::string_view Trim(std::string_view text);

}  // namespace flint::server
