#include "base/sha256.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <new>
#include <stdexcept>

namespace flint {
namespace {

// Fetched once and never freed: a lookup by name costs more than hashing a small batch. A context
// of its own reads no openssl.cnf, so what a machine configures there cannot keep a log from
// opening.
const EVP_MD* Algorithm() {
  static OSSL_LIB_CTX* const context = OSSL_LIB_CTX_new();
  if (context == nullptr) throw std::bad_alloc();
  static const EVP_MD* const algorithm = EVP_MD_fetch(context, "SHA256", nullptr);
  if (algorithm == nullptr) throw std::runtime_error("OpenSSL offers no SHA-256");
  return algorithm;
}

void Check(int result) {
  if (result != 1) throw std::runtime_error("OpenSSL failed to compute a SHA-256");
}

}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr) throw std::bad_alloc();
  Reset();
}

void Sha256::Update(const void* data, size_t size) {
  Check(EVP_DigestUpdate(context_.get(), data, size));
}

Sha256Digest Sha256::Final() {
  Sha256Digest digest;
  Check(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr));
  return digest;
}

void Sha256::Reset() { Check(EVP_DigestInit_ex2(context_.get(), Algorithm(), nullptr)); }

Sha256Digest Sha256Of(const void* data, size_t size) {
  Sha256 sha;
  sha.Update(data, size);
  return sha.Final();
}

std::string ToHex(const Sha256Digest& digest) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * digest.size());
  for (const uint8_t byte : digest) {
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

}  // namespace flint
