#include "storage/file_names.h"

#include <cstdio>

namespace flint {

std::string RotatedSegmentName(uint64_t first_sequence) {
  char text[64];
  std::snprintf(text, sizeof(text), "%s.%020llu", kLogName,
                static_cast<unsigned long long>(first_sequence));
  return text;
}

bool IsRotatedName(const std::string& name) {
  const std::string prefix = std::string(kLogName) + ".";
  return name.size() > prefix.size() && name.starts_with(prefix) &&
         name.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
}

bool IsSegmentName(const std::string& name) {
  return name == kLogName || name == kNextName || name == kNewName || IsRotatedName(name);
}

}  // namespace flint
