#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace flint {

// Keys are 1 to 65,535 bytes of UTF-8 and not all white space. The error names the key.
Status CheckKey(std::string_view key);
// A template's prefix may also be empty or blank: "*" covers everything.
Status CheckPrefix(std::string_view prefix);
// The name of a limit is at most 255 bytes of UTF-8; a limit without one has an empty name.
Status CheckName(std::string_view name);
// A key and, if the limit has one, its name, for a message that ends with them: as Shown, without
// quotes.
std::string Named(std::string_view key, std::string_view name);

// A key as a message shows it: quoted, shortened, with control characters, those that change how
// text is shown, and bytes that are not UTF-8 escaped.
std::string Shown(std::string_view key);

}  // namespace flint
