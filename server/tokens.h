#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "options.h"

namespace flint::server {

// Who may do what. The loop's.
class Tokens {
 public:
  Tokens() = default;
  explicit Tokens(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  void Replace(std::vector<Token> tokens) { tokens_ = std::move(tokens); }

  bool required() const { return !tokens_.empty(); }
  // What the one who says `text` may do; none when it is no token. Takes as long for a wrong one as
  // for a right one, whatever they have in common.
  std::optional<Rights> Find(std::string_view text) const;

 private:
  std::vector<Token> tokens_;
};

// Takes time in proportion to `given` alone.
bool EqualInConstantTime(std::string_view given, std::string_view expected);

}  // namespace flint::server
