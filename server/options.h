#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// What the command line and the environment say. Pure but for ReadAllTokens.
namespace flint::server {

enum class Rights : uint8_t { kRead = 1, kCheck = 2, kAdmin = 3 };  // each includes those before

struct Token {
  std::string text;
  Rights rights = Rights::kAdmin;
};

enum class Protocol : uint8_t { kHttp, kRedis };

struct Endpoint {
  Protocol protocol = Protocol::kHttp;
  std::string address;  // of an IP
  uint16_t port = 0;
  std::string path;  // of a unix socket, which has no address

  bool unix_socket() const { return address.empty(); }
  bool loopback() const;
};

// Of all endpoints that are no unix sockets.
struct TlsFiles {
  std::string certificate;
  std::string key;
  std::string client_authority;  // empty: clients need no certificate

  bool wanted() const { return !certificate.empty(); }
};

struct Options {
  std::string data_dir = ".flint";
  std::vector<Endpoint> endpoints;
  TlsFiles tls;
  std::string token;       // may do everything; empty for none
  std::string token_file;  // of other tokens
  std::string limits_file;
  bool batch = false;
  uint64_t flush_every_ms = 100;
  uint64_t flush_every_events = 100;
  uint64_t max_blocking = 128;   // calls at once that may wait or take long
  uint64_t max_connections = 0;  // 0: as the limit of descriptors allows
  uint64_t open_timeout_ns = 0;  // how long to wait for a directory that is in use
  uint64_t head_timeout_ms = 10'000;
  uint64_t body_timeout_ms = 10'000;
  uint64_t idle_timeout_ms = 75'000;
  uint64_t write_timeout_ms = 10'000;
  uint64_t drain_timeout_ms = 9'000;
  bool json_log = false;
  bool help = false;
  bool version = false;
};

// Why a command line is refused: `usage` when it cannot be meant so.
struct OptionsError {
  std::string message;
  bool usage = false;
};

// Reads the words behind the program's name; `environment_token` may be null.
bool ReadOptions(const std::vector<std::string_view>& words, const char* environment_token,
                 Options* options, OptionsError* error);

// "127.0.0.1:7878", "[::1]:7878" or "unix:/path".
bool ReadEndpoint(std::string_view text, Protocol protocol, Endpoint* endpoint);

// One token to a line, behind it perhaps read, check or admin; `#` begins a comment.
bool ReadTokens(std::string_view text, std::vector<Token>* tokens, std::string* error);

// Of the options and of their file. None: everybody may do everything.
bool ReadAllTokens(const Options& options, std::vector<Token>* tokens, std::string* error);

extern const char* const kUsage;

}  // namespace flint::server
