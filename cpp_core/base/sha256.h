#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

struct evp_md_ctx_st;

namespace flint {

using Sha256Digest = std::array<uint8_t, 32>;

// SHA-256 of bytes that arrive in pieces, by OpenSSL. One thread at a time. Throws
// std::bad_alloc without memory, std::runtime_error when OpenSSL refuses to work.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept = default;  // a moved-from object may only be assigned or destroyed
  Sha256& operator=(Sha256&&) noexcept = default;

  void Update(const void* data, size_t size);
  // The digest of everything since construction or Reset. Call Reset before the next Update.
  Sha256Digest Final();
  void Reset();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

Sha256Digest Sha256Of(const void* data, size_t size);

// Lower-case hexadecimal, 64 characters.
std::string ToHex(const Sha256Digest& digest);

}  // namespace flint
