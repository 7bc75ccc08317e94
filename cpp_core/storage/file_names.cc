#include "storage/file_names.h"

#include <cstdio>

namespace flint {
namespace {

constexpr char kTornName[] = "flint.torn";

std::string Numbered(const char* name, uint64_t number) {
  char text[64];
  std::snprintf(text, sizeof(text), "%s.%020llu", name, static_cast<unsigned long long>(number));
  return text;
}

bool IsNumbered(const std::string& text, const char* name) {
  const std::string prefix = std::string(name) + ".";
  return text.size() > prefix.size() && text.starts_with(prefix) &&
         text.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
}

}  // namespace

std::string RotatedSegmentName(uint64_t first_sequence) {
  return Numbered(kLogName, first_sequence);
}

bool IsRotatedName(const std::string& name) { return IsNumbered(name, kLogName); }

std::string TornName(uint64_t position) { return Numbered(kTornName, position); }

bool IsTornName(const std::string& name) { return IsNumbered(name, kTornName); }

bool IsSegmentName(const std::string& name) {
  return name == kLogName || name == kNextName || name == kNewName || IsRotatedName(name);
}

}  // namespace flint
