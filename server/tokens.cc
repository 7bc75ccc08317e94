#include "tokens.h"

#include <cstdint>

namespace flint::server {

bool EqualInConstantTime(std::string_view given, std::string_view expected) {
  if (expected.empty()) return false;
  volatile uint8_t differing = given.size() == expected.size() ? 0 : 1;
  size_t at = 0;
  for (const char c : given) {
    differing = differing | static_cast<uint8_t>(c ^ expected[at]);
    at = at + 1 == expected.size() ? 0 : at + 1;
  }
  return differing == 0;
}

std::optional<Rights> Tokens::Find(std::string_view text) const {
  std::optional<Rights> found;
  for (const Token& token : tokens_) {
    if (EqualInConstantTime(text, token.text)) found = token.rights;
  }
  return found;
}

}  // namespace flint::server
