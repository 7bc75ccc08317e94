#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace flint {

// Fixed-width little-endian integers in byte ranges: the one way numbers get into and out of
// files. Nothing here requires alignment.

static_assert(std::endian::native == std::endian::little,
              "files are little-endian and are mapped as they stand");

inline void Encode16(void* to, uint16_t value) { std::memcpy(to, &value, sizeof(value)); }
inline void Encode32(void* to, uint32_t value) { std::memcpy(to, &value, sizeof(value)); }
inline void Encode64(void* to, uint64_t value) { std::memcpy(to, &value, sizeof(value)); }

inline uint16_t Decode16(const void* from) {
  uint16_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
inline uint32_t Decode32(const void* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
inline uint64_t Decode64(const void* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

inline void Put8(std::string* to, uint8_t value) { to->push_back(static_cast<char>(value)); }
inline void Put16(std::string* to, uint16_t value) {
  char bytes[sizeof(value)];
  Encode16(bytes, value);
  to->append(bytes, sizeof(bytes));
}
inline void Put32(std::string* to, uint32_t value) {
  char bytes[sizeof(value)];
  Encode32(bytes, value);
  to->append(bytes, sizeof(bytes));
}
inline void Put64(std::string* to, uint64_t value) {
  char bytes[sizeof(value)];
  Encode64(bytes, value);
  to->append(bytes, sizeof(bytes));
}
inline void PutBytes(std::string* to, const void* data, size_t size) {
  to->append(static_cast<const char*>(data), size);
}
inline void PutBytes(std::string* to, std::string_view bytes) { to->append(bytes); }

// Takes values off the front of a byte range, which must outlive it. A Get that finds too few
// bytes left returns false and changes nothing.
class ByteReader {
 public:
  ByteReader(const void* data, size_t size) : rest_(static_cast<const char*>(data), size) {}
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  bool GetU8(uint8_t* value) { return Get(value); }
  bool GetU16(uint16_t* value) { return Get(value); }
  bool GetU32(uint32_t* value) { return Get(value); }
  bool GetU64(uint64_t* value) { return Get(value); }
  bool GetI64(int64_t* value) { return Get(value); }
  // `*bytes` points into the range.
  bool GetBytes(size_t size, std::string_view* bytes) {
    if (size > rest_.size()) return false;
    *bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }
  bool CopyBytes(size_t size, void* to) {
    std::string_view bytes;
    if (!GetBytes(size, &bytes)) return false;
    if (size > 0) std::memcpy(to, bytes.data(), size);
    return true;
  }
  bool Skip(size_t size) {
    std::string_view skipped;
    return GetBytes(size, &skipped);
  }

  size_t remaining() const { return rest_.size(); }
  bool empty() const { return rest_.empty(); }

 private:
  template <typename T>
  bool Get(T* value) {
    if (sizeof(T) > rest_.size()) return false;
    std::memcpy(value, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return true;
  }

  std::string_view rest_;
};

}  // namespace flint
