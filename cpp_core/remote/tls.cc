#include "remote/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

#include "base/posix_file.h"
#include "engine/key.h"

namespace flint {
namespace {

// ---- Forks -----------------------------------------------------------------------------------

std::atomic<uint64_t> inside = 0;
std::atomic<bool> is_forking = false;

void Nap() { std::this_thread::sleep_for(std::chrono::microseconds(50)); }

// As long as it lives this thread is inside OpenSSL, for no longer than it takes to compute.
class Inside {
 public:
  Inside() {
    for (inside++; is_forking; inside++) {
      inside--;
      while (is_forking) Nap();
    }
  }
  ~Inside() { inside--; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
};

// ---- The socket ------------------------------------------------------------------------------

// OpenSSL's own way to a socket would end the process by SIGPIPE when the server is gone.
template <typename Move>
int MoveBytes(BIO* bio, int retry, Move move) {
  auto* const socket = static_cast<TlsStream::Socket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const ssize_t moved = RetryInterrupted([&] { return move(socket->fd); });
  socket->system_errno = moved < 0 ? errno : 0;
  if (moved < 0 && errno == EAGAIN) BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
  return static_cast<int>(moved);
}

int WriteSocket(BIO* bio, const char* bytes, int count) {
  return MoveBytes(bio, BIO_FLAGS_WRITE, [&](int fd) {
    return send(fd, bytes, static_cast<size_t>(count), MSG_NOSIGNAL);
  });
}

int ReadSocket(BIO* bio, char* bytes, int count) {
  return MoveBytes(bio, BIO_FLAGS_READ,
                   [&](int fd) { return recv(fd, bytes, static_cast<size_t>(count), 0); });
}

long ControlSocket(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO* BioOf(TlsStream::Socket* socket) {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    if (made == nullptr) throw std::bad_alloc();
    BIO_meth_set_write(made, WriteSocket);
    BIO_meth_set_read(made, ReadSocket);
    BIO_meth_set_ctrl(made, ControlSocket);
    return made;
  }();
  BIO* const bio = BIO_new(method);
  if (bio == nullptr) throw std::bad_alloc();
  BIO_set_data(bio, socket);
  BIO_set_init(bio, 1);
  return bio;
}

// ---- Whom to trust ---------------------------------------------------------------------------

// The first error is the one that says most.
std::string TakeReason() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "it cannot be read";
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(ERR_GET_REASON(code));
  const char* const reason = ERR_reason_error_string(code);
  return reason == nullptr ? "error " + std::to_string(code) : reason;
}

Status CannotUse(const char* option, const std::string& path) {
  return Status(Code::kInvalidArgument, std::string("options.") + option + " is " + Shown(path) +
                                            ", which cannot be used: " + TakeReason());
}

// OpenSSL looks where the system that it was built on keeps them, and a wheel runs on others.
void TrustTheSystem(SSL_CTX* context) {
  SSL_CTX_set_default_verify_paths(context);
  const bool is_told = getenv(X509_get_default_cert_file_env()) != nullptr ||
                       getenv(X509_get_default_cert_dir_env()) != nullptr;
  if (is_told || access(X509_get_default_cert_dir(), F_OK) == 0) return;
  for (const char* const path : {"/etc/ssl/certs/ca-certificates.crt",
                                 "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"}) {
    if (SSL_CTX_load_verify_file(context, path) == 1) return;
  }
}

Status UseFiles(SSL_CTX* context, const TlsFiles& files) {
  const std::string& authorities = files.authorities;
  if (authorities.empty()) {
    TrustTheSystem(context);
    ERR_clear_error();
  } else if (SSL_CTX_load_verify_file(context, authorities.c_str()) != 1) {
    return CannotUse("tls_ca_file", authorities);
  }
  const std::string& certificate = files.certificate;
  if (certificate.empty()) return Status();
  if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1) {
    return CannotUse("tls_cert_file", certificate);
  }
  const std::string& key = files.key.empty() ? certificate : files.key;
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return CannotUse(files.key.empty() ? "tls_cert_file" : "tls_key_file", key);
  }
  return Status();
}

TlsContext NewContext() {
  SSL_CTX* made = nullptr;
  {
    const Inside here;
    made = SSL_CTX_new(TLS_client_method());
  }
  if (made == nullptr) throw std::bad_alloc();
  return {made, [](SSL_CTX* context) {
            const Inside here;
            SSL_CTX_free(context);
          }};
}

}  // namespace

void BeforeForkOfTls() {
  is_forking = true;
  while (inside > 0) Nap();
}

void BehindForkOfTls() { is_forking = false; }

Status LoadTls(const TlsFiles& files, TlsContext* context) {
  if (files.certificate.empty() && !files.key.empty()) {
    return Status(Code::kInvalidArgument,
                  "options.tls_key_file is of no use without options.tls_cert_file");
  }
  const TlsContext made = NewContext();
  const Inside here;
  ERR_clear_error();
  SSL_CTX_set_min_proto_version(made.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(made.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(made.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(made.get(), 1);
  // Nobody is there to be asked for the password of a key.
  SSL_CTX_set_default_passwd_cb(made.get(), [](char*, int, int, void*) { return 0; });
  FLINT_RETURN_IF_ERROR(UseFiles(made.get(), files));
  *context = made;
  return Status();
}

// ---- A stream --------------------------------------------------------------------------------

TlsStream::TlsStream(const TlsContext& context, int fd, const std::string& host) : socket_{fd} {
  const Inside here;
  BIO* const bio = BioOf(&socket_);
  ssl_ = SSL_new(context.get());
  if (ssl_ == nullptr) {
    BIO_free(bio);
    throw std::bad_alloc();
  }
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_connect_state(ssl_);
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), host.c_str()) == 1) return;
  ERR_clear_error();
  SSL_set_hostflags(ssl_,
                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  const bool is_named =
      SSL_set1_host(ssl_, host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl_, host.c_str()) == 1;
  if (is_named) return;
  SSL_free(ssl_);
  throw std::bad_alloc();
}

TlsStream::~TlsStream() {
  const Inside here;
  SSL_free(ssl_);
}

ssize_t TlsStream::Send(std::string_view bytes) {
  const Inside here;
  ERR_clear_error();
  const auto most = static_cast<int>(std::min<size_t>(bytes.size(), INT32_MAX));
  return Judge(SSL_write(ssl_, bytes.data(), most));
}

ssize_t TlsStream::Receive(char* bytes, size_t size) {
  const Inside here;
  ERR_clear_error();
  return Judge(SSL_read(ssl_, bytes, static_cast<int>(std::min<size_t>(size, INT32_MAX))));
}

bool TlsStream::HasMore() const {
  const Inside here;
  return SSL_has_pending(ssl_) == 1;
}

ssize_t TlsStream::Judge(int returned) {
  if (returned > 0) return returned;
  const int error = SSL_get_error(ssl_, returned);
  errno = EAGAIN;
  wanted_ = error == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN;
  if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) return -1;
  errno = socket_.system_errno;
  if (error == SSL_ERROR_SYSCALL && errno != 0) return -1;
  const bool has_ended = error == SSL_ERROR_ZERO_RETURN || error == SSL_ERROR_SYSCALL;
  if (has_ended && SSL_is_init_finished(ssl_) == 1) return 0;
  const long verified = SSL_get_verify_result(ssl_);
  if (has_ended) {
    reason_ = "has ended the connection before TLS was agreed on";
  } else if (verified != X509_V_OK) {
    reason_ = std::string("has a certificate that is not trusted: ") +
              X509_verify_cert_error_string(verified);
  } else if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_WRONG_VERSION_NUMBER) {
    reason_ = "does not speak TLS";
  } else {
    reason_ = "has failed to speak TLS: " + TakeReason();
  }
  errno = EPROTO;
  return -1;
}

}  // namespace flint
