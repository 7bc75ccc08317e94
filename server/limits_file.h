#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "calls.h"
#include "flint_limiter.h"
#include "rates.h"

// The limits of a flint.toml: its tables [limits] and [rates], which mean what flint.config says
// they do. [storage] and [server] may be there, and mean nothing to the server.
namespace flint::server {

struct FileLimit : NamedRate {
  bool in_words = false;  // so other limits of this key that came from words are replaced
  std::string where;      // file, line and key, for errors
};

struct LimitsFile {
  std::vector<FileLimit> limits;
  RateNames rates;
};

// Reads and judges a file: every limit is tried on a limiter in memory. False with the file, the
// line, the key and what is wrong.
bool ReadLimitsFile(const std::string& path, LimitsFile* file, std::string* error);

// The same of a text that stands in `path`, but for trying.
bool ReadLimitsText(std::string_view text, const std::string& path, LimitsFile* file,
                    std::string* error);

// Configures them, and removes what earlier words said of the same keys. Only an error of the disk
// can leave some of it undone. Waits for the disk.
Outcome ApplyLimits(flint_limiter* limiter, const std::vector<FileLimit>& limits);

}  // namespace flint::server
