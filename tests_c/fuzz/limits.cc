// A flint.toml: it is read, or what is wrong has a line.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "limits_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  flint::server::LimitsFile file;
  std::string error;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const bool read = flint::server::ReadLimitsText(text, "f", &file, &error);
  if (read != error.empty()) std::abort();
  if (!read && (!error.starts_with("f:") || error[2] < '0' || error[2] > '9')) std::abort();
  return 0;
}
