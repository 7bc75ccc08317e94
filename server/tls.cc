#include "tls.h"

#include <openssl/err.h>

#include <array>
#include <cstring>

#include "text.h"

namespace flint::server {
namespace {

constexpr std::string_view kHttpProtocol = "http/1.1";
// Of TLS 1.2 only what keeps a key that is stolen later from opening what was said.
constexpr const char* kCiphersOfTls12 = "ECDHE+AESGCM:ECDHE+CHACHA20";

// The first error is the one that says most.
std::string TakeReason() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "the connection ended";
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(ERR_GET_REASON(code));
  const char* const reason = ERR_reason_error_string(code);
  return reason == nullptr ? "error " + std::to_string(code) : reason;
}

// What a client says it will speak, each name behind its length. A name that is not spoken here
// means that it took this port for another.
int ChooseProtocol(SSL* ssl, const unsigned char** chosen, unsigned char* bytes,
                   const unsigned char* offered, unsigned int count, void* /*unused*/) {
  const auto* const spoken = static_cast<const std::string_view*>(SSL_get_app_data(ssl));
  for (unsigned at = 0; at < count; at += 1U + offered[at]) {
    const std::string_view name(reinterpret_cast<const char*>(offered + at + 1), offered[at]);
    if (spoken == nullptr || name != *spoken) continue;
    *chosen = offered + at + 1;
    *bytes = offered[at];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

void Configure(SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(context, kCiphersOfTls12);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  // Sessions are resumed by tickets, which this side need not remember.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_alpn_select_cb(context, ChooseProtocol, nullptr);
  // Nobody is there to be asked for the password of a key.
  SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) { return 0; });
}

bool UseClientAuthority(SSL_CTX* context, const std::string& path) {
  STACK_OF(X509_NAME)* const names = SSL_load_client_CA_file(path.c_str());
  if (names == nullptr) return false;
  SSL_CTX_set_client_CA_list(context, names);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  constexpr std::string_view kId = "flint";
  SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(kId.data()),
                                 kId.size());
  return SSL_CTX_load_verify_file(context, path.c_str()) == 1;
}

}  // namespace

TlsContext LoadTls(const TlsFiles& files, std::string* error) {
  ERR_clear_error();
  TlsContext context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  const auto fail = [&](std::string_view what, const std::string& path) -> TlsContext {
    *error = "cannot use the " + std::string(what) + " " + Quoted(path) + ": " + TakeReason();
    return nullptr;
  };
  if (context == nullptr) return fail("library of TLS for", files.certificate);
  Configure(context.get());
  if (SSL_CTX_use_certificate_chain_file(context.get(), files.certificate.c_str()) != 1) {
    return fail("certificate", files.certificate);
  }
  const char* const key = files.key.c_str();
  if (SSL_CTX_use_PrivateKey_file(context.get(), key, SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context.get()) != 1) {
    return fail("private key", files.key);
  }
  if (!files.client_authority.empty() &&
      !UseClientAuthority(context.get(), files.client_authority)) {
    return fail("certificates of", files.client_authority);
  }
  return context;
}

TlsStream::TlsStream(const TlsContext& context, Protocol protocol)
    : ssl_(SSL_new(context.get())),
      incoming_(BIO_new(BIO_s_mem())),
      outgoing_(BIO_new(BIO_s_mem())) {
  SSL_set_bio(ssl_, incoming_, outgoing_);
  SSL_set_accept_state(ssl_);
  if (protocol == Protocol::kHttp) {
    SSL_set_app_data(ssl_, const_cast<std::string_view*>(&kHttpProtocol));
  }
}

TlsStream::~TlsStream() { SSL_free(ssl_); }

TlsStream::State TlsStream::Read(std::string_view bytes, std::string* plain, std::string* output) {
  if (state_ != State::kHandshake && state_ != State::kOpen) return state_;
  ERR_clear_error();
  BIO_write(incoming_, bytes.data(), static_cast<int>(bytes.size()));
  Advance(plain);
  TakeOutput(output);
  return state_;
}

void TlsStream::Advance(std::string* plain) {
  if (state_ == State::kHandshake) {
    const int done = SSL_do_handshake(ssl_);
    if (done != 1) {
      Judge(done);
      return;
    }
    state_ = State::kOpen;
  }
  std::array<char, SSL3_RT_MAX_PLAIN_LENGTH> part{};
  for (;;) {
    const int count = SSL_read(ssl_, part.data(), static_cast<int>(part.size()));
    if (count <= 0) {
      Judge(count);
      return;
    }
    plain->append(part.data(), static_cast<size_t>(count));
  }
}

void TlsStream::Judge(int returned) {
  const int error = SSL_get_error(ssl_, returned);
  if (error == SSL_ERROR_WANT_READ) return;
  if (error == SSL_ERROR_ZERO_RETURN) {
    state_ = State::kEnded;
    return;
  }
  state_ = State::kFailed;
  reason_ = TakeReason();
}

void TlsStream::Write(std::string_view plain, std::string* output) {
  if (plain.empty() || finished_ || state_ == State::kHandshake || state_ == State::kFailed) return;
  ERR_clear_error();
  // Memory takes it all.
  if (SSL_write(ssl_, plain.data(), static_cast<int>(plain.size())) <= 0) {
    state_ = State::kFailed;
    reason_ = TakeReason();
  }
  TakeOutput(output);
}

void TlsStream::Finish(std::string* output) {
  if (finished_ || state_ == State::kHandshake || state_ == State::kFailed) return;
  finished_ = true;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  TakeOutput(output);
}

void TlsStream::TakeOutput(std::string* output) {
  const size_t size = output->size();
  const size_t more = BIO_ctrl_pending(outgoing_);
  output->resize(size + more);
  if (more > 0) BIO_read(outgoing_, output->data() + size, static_cast<int>(more));
}

}  // namespace flint::server
