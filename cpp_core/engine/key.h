#pragma once

#include <string_view>

#include "base/status.h"

namespace flint {

// Keys are 1 to 65,535 bytes of UTF-8 and not all white space. The error names the key.
Status CheckKey(std::string_view key);
// A template's prefix may also be empty or blank: "*" covers everything.
Status CheckPrefix(std::string_view prefix);

// A key as a message shows it: quoted, shortened, with bytes that are not UTF-8 escaped.
std::string Shown(std::string_view key);

}  // namespace flint
