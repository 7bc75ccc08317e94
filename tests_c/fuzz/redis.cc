// The reader of the Redis protocol: what it makes of bytes does not depend on how they were cut,
// and keeps to its bounds.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "redis_reader.h"

using flint::server::RedisReader;

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

// What one reader makes of bytes that come in parts of this size.
std::string Told(std::string_view bytes, size_t part_bytes) {
  RedisReader reader;
  std::string told;
  while (!bytes.empty()) {
    size_t used = 0;
    const std::string_view part = bytes.substr(0, part_bytes);
    const RedisReader::Event event = reader.Read(part, &used, {});
    Require(used <= part.size());
    if (event == RedisReader::Event::kRefused) return told + "! " + reader.refusal();
    if (event == RedisReader::Event::kMore) Require(used == part.size());
    bytes.remove_prefix(used);
    if (event == RedisReader::Event::kMore) continue;
    Require(!reader.arguments().empty() && !reader.begun());
    Require(reader.arguments().size() <= RedisReader::kMaxArguments);
    size_t all = 0;
    for (const std::string& one : reader.arguments()) {
      told += one + ' ';
      all += one.size();
    }
    Require(all <= RedisReader::kMaxBytes);
    told += '\n';
  }
  return told;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string whole = Told(bytes, SIZE_MAX);
  Require(whole == Told(bytes, 1));
  Require(whole == Told(bytes, 1 + size / 3));
  return 0;
}
