#include "engine/key.h"

#include <cstdint>
#include <cstdio>

#include "model/limit_kind.h"

namespace flint {
namespace {

constexpr size_t kMaxKeyBytes = 65535;
constexpr size_t kShownBytes = 64;
constexpr uint32_t kInvalid = 0xFFFFFFFF;

// Decodes one character as RFC 3629 defines it (no surrogates, no overlong forms, at most
// U+10FFFF) and moves past it; kInvalid where there is none.
uint32_t TakeCharacter(std::string_view* text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>((*text)[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) {
    text->remove_prefix(1);
    return lead;
  }
  const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text->size() < size) return kInvalid;
  uint32_t character = lead & (0x7Fu >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return kInvalid;
    character = character << 6 | (byte(i) & 0x3Fu);
  }
  static constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = character >= 0xD800 && character <= 0xDFFF;
  if (character < kSmallest[size] || surrogate || character > 0x10FFFF) return kInvalid;
  text->remove_prefix(size);
  return character;
}

// The characters with Unicode's White_Space property.
bool IsWhiteSpace(uint32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// Neither a control character nor one that changes how the text beside it is shown.
bool Prints(uint32_t character) {
  const bool control = character < 0x20 || (character >= 0x7F && character <= 0x9F);
  const bool formats = (character >= 0x200B && character <= 0x200F) ||
                       (character >= 0x2028 && character <= 0x202E) ||
                       (character >= 0x2060 && character <= 0x206F) || character == 0xFEFF;
  return character != kInvalid && !control && !formats;
}

// How many bytes of a key are shown: whole characters, if it has any.
size_t ShownBytesOf(std::string_view key) {
  if (key.size() <= kShownBytes) return key.size();
  size_t bytes = kShownBytes;
  while (bytes > kShownBytes - 3 && (static_cast<uint8_t>(key[bytes]) & 0xC0) == 0x80) --bytes;
  return bytes;
}

// The first bytes of a key, on one line of text.
std::string Escaped(std::string_view key) {
  std::string escaped;
  std::string_view rest = key.substr(0, ShownBytesOf(key));
  while (!rest.empty()) {
    const std::string_view before = rest;
    const bool prints = Prints(TakeCharacter(&rest));
    if (rest.size() == before.size()) rest.remove_prefix(1);  // not UTF-8
    const std::string_view bytes = before.substr(0, before.size() - rest.size());
    for (const char byte : bytes) {
      char code[8];
      std::snprintf(code, sizeof(code), "\\x%02x",
                    static_cast<unsigned>(static_cast<uint8_t>(byte)));
      escaped += prints ? std::string(1, byte) : code;
    }
  }
  return escaped;
}

Status Refuse(std::string_view key, const char* why) {
  return Status(Code::kInvalidArgument, "key " + Shown(key) + ' ' + why +
                                            "; a key is 1 to 65,535 bytes of UTF-8 that are not "
                                            "all white space");
}

Status Check(std::string_view key, bool may_be_blank) {
  if (key.size() > kMaxKeyBytes) {
    return Refuse(key, ("has " + std::to_string(key.size()) + " bytes").c_str());
  }
  bool blank = true;
  std::string_view rest = key;
  while (!rest.empty()) {
    const uint32_t character = TakeCharacter(&rest);
    if (character == kInvalid) return Refuse(key, "is not UTF-8");
    blank = blank && IsWhiteSpace(character);
  }
  if (blank && !may_be_blank) return Refuse(key, key.empty() ? "is empty" : "is all white space");
  return Status();
}

}  // namespace

Status CheckKey(std::string_view key) { return Check(key, false); }

Status CheckPrefix(std::string_view prefix) { return Check(prefix, true); }

Status CheckName(std::string_view name) {
  bool valid = name.size() <= kMaxNameBytes;
  std::string_view rest = name;
  while (valid && !rest.empty()) valid = TakeCharacter(&rest) != kInvalid;
  if (valid) return Status();
  return Status(Code::kInvalidArgument, "name " + Shown(name) + " has " +
                                            std::to_string(name.size()) +
                                            " bytes; a name is at most 255 bytes of UTF-8");
}

std::string Named(std::string_view key, std::string_view name) {
  std::string text = Escaped(key);
  if (key.size() > kShownBytes) text += "...";
  if (!name.empty()) text += " (name " + Shown(name) + ")";
  return text;
}

std::string Shown(std::string_view key) {
  return '"' + Escaped(key) + (key.size() > kShownBytes ? "\"..." : "\"");
}

}  // namespace flint
