#include "options.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>
#include <utility>

#include "text.h"

namespace flint::server {

const char* const kUsage =
    R"(usage: flint-server [--data-dir DIR] [--bind ADDRESS:PORT] [OPTION...]

Serves the limits of a data directory over HTTP and the Redis protocol.

  --data-dir DIR             the data directory (default: .flint); ":memory:" keeps nothing
  --bind ADDRESS:PORT        an IP and a port, or unix:PATH; may be repeated (default:
                             127.0.0.1:7878). Port 0 takes a free one. What is no loopback address
                             needs a token
  --redis-bind ADDRESS:PORT  the same, for the Redis protocol
  --token TOKEN              what clients must send; better FLINT_SERVER_TOKEN or --token-file
  --token-file FILE          one token to a line, behind it perhaps read, check or admin
  --limits FILE              configure the limits of this flint.toml
  --tls-cert FILE            speak TLS: the certificate, and those between it and its authority; not
                             on unix sockets
  --tls-key FILE             its key. Both are PEM
  --tls-client-ca FILE       clients need a certificate of these authorities
  --sync always|batch        when an admission is answered: on disk (default), or soon after
  --flush-every-ms N         batch: a sync starts after so long (default: 100)
  --flush-every-events N     batch: and after so many events (default: 100)
  --max-blocking N           calls that may wait for the disk or take long, at once (default: 128)
  --max-connections N        (default: 64 less than the limit of open files)
  --open-timeout TIME        how long to wait for a directory that is in use (default: not at all)
  --header-timeout TIME      for a request's head, and for TLS to be agreed on (default: 10s)
  --body-timeout TIME        for its body (default: 10s)
  --idle-timeout TIME        between requests (default: 75s)
  --write-timeout TIME       for a client to read some of its answer (default: 10s)
  --log text|json            how lines on standard error are written (default: text)
  --version, --help

TIME is digits with ms, s, m, h or d. SIGHUP has the files of tokens, limits and TLS read again, all
of them or none. SIGTERM ends it when what was asked is answered.
)";

namespace {

constexpr uint64_t kMaxTokenBytes = 4096;
constexpr size_t kMaxTokens = 1024;

using Setter = std::function<std::string(std::string_view)>;  // returns what is wrong

struct Flag {
  std::string_view name;
  Setter set;
};

Setter Number(uint64_t* to, uint64_t most) {
  return [to, most](std::string_view text) -> std::string {
    if (ReadWhole(text, to) && *to <= most) return "";
    return "must be a whole number, at most " + std::to_string(most);
  };
}

Setter Time(uint64_t* to, uint64_t divisor) {
  return [to, divisor](std::string_view text) -> std::string {
    uint64_t ns = 0;
    if (!ReadPeriod(text, &ns) || ns < divisor) return "must be digits with ms, s, m, h or d";
    *to = ns / divisor;
    return "";
  };
}

Setter OneOf(bool* to, std::string_view no, std::string_view yes) {
  return [=](std::string_view text) -> std::string {
    *to = text == yes;
    if (text == no || text == yes) return "";
    return "must be " + std::string(no) + " or " + std::string(yes);
  };
}

Setter Text(std::string* to) {
  return [to](std::string_view text) -> std::string {
    *to = text;
    return "";
  };
}

Setter AddEndpoint(std::vector<Endpoint>* to, Protocol protocol) {
  return [to, protocol](std::string_view text) -> std::string {
    Endpoint endpoint;
    if (!ReadEndpoint(text, protocol, &endpoint)) return "must be ADDRESS:PORT or unix:PATH";
    to->push_back(std::move(endpoint));
    return "";
  };
}

std::vector<Flag> Flags(Options* options, std::string* sync) {
  constexpr uint64_t kMs = 1'000'000;
  constexpr uint64_t kMaxEvents = uint64_t{1} << 32U;
  return {
      {"--data-dir", Text(&options->data_dir)},
      {"--bind", AddEndpoint(&options->endpoints, Protocol::kHttp)},
      {"--redis-bind", AddEndpoint(&options->endpoints, Protocol::kRedis)},
      {"--token", Text(&options->token)},
      {"--token-file", Text(&options->token_file)},
      {"--limits", Text(&options->limits_file)},
      {"--tls-cert", Text(&options->tls.certificate)},
      {"--tls-key", Text(&options->tls.key)},
      {"--tls-client-ca", Text(&options->tls.client_authority)},
      {"--sync", Text(sync)},
      {"--flush-every-ms", Number(&options->flush_every_ms, 3'600'000)},
      {"--flush-every-events", Number(&options->flush_every_events, kMaxEvents)},
      {"--max-blocking", Number(&options->max_blocking, 1'000'000)},
      {"--max-connections", Number(&options->max_connections, 1'000'000)},
      {"--open-timeout", Time(&options->open_timeout_ns, 1)},
      {"--header-timeout", Time(&options->head_timeout_ms, kMs)},
      {"--body-timeout", Time(&options->body_timeout_ms, kMs)},
      {"--idle-timeout", Time(&options->idle_timeout_ms, kMs)},
      {"--write-timeout", Time(&options->write_timeout_ms, kMs)},
      {"--log", OneOf(&options->json_log, "text", "json")},
  };
}

// Sets what one word, and perhaps the next, say. Returns what is wrong with them.
std::string ReadFlag(const std::vector<Flag>& flags, const std::vector<std::string_view>& words,
                     size_t* at) {
  std::string_view name = words[*at];
  const size_t equals = name.find('=');
  name = name.substr(0, equals);
  for (const Flag& flag : flags) {
    if (flag.name != name) continue;
    std::string_view value;
    if (equals != std::string_view::npos) {
      value = words[*at].substr(equals + 1);
    } else if (*at + 1 < words.size()) {
      value = words[++*at];
    } else {
      return std::string(name) + " needs a value";
    }
    const std::string wrong = flag.set(value);
    return wrong.empty() ? "" : std::string(name) + " " + wrong + ", not " + Quoted(value);
  }
  return "unknown option " + Quoted(name) + "; --help lists them";
}

bool ReadTokenFile(const std::string& path, std::vector<Token>* tokens, std::string* error) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) {
    *error = "cannot read the token file " + Quoted(path);
    return false;
  }
  std::vector<Token> read;
  if (!ReadTokens(text.str(), &read, error)) {
    *error = Quoted(path) + ": " + *error;
    return false;
  }
  tokens->insert(tokens->end(), read.begin(), read.end());
  return true;
}

std::string Faults(const Options& options, const std::string& sync) {
  if (options.max_blocking == 0) return "--max-blocking must be greater than zero";
  if (sync != "always" && sync != "batch") {
    return "unsupported sync mode " + Quoted(sync) + "; expected always or batch";
  }
  if (options.batch && (options.flush_every_ms == 0 || options.flush_every_events == 0)) {
    return "--flush-every-ms and --flush-every-events must be greater than zero";
  }
  if (options.tls.certificate.empty() != options.tls.key.empty() ||
      (!options.tls.client_authority.empty() && !options.tls.wanted())) {
    return "TLS needs both --tls-cert and --tls-key";
  }
  const bool open = std::any_of(options.endpoints.begin(), options.endpoints.end(),
                                [](const Endpoint& endpoint) { return !endpoint.loopback(); });
  if (open && options.token.empty() && options.token_file.empty()) {
    return "refusing to bind shared server to a non-loopback address without --token";
  }
  return "";
}

}  // namespace

bool Endpoint::loopback() const {
  if (unix_socket()) return true;
  in6_addr six{};
  if (inet_pton(AF_INET6, address.c_str(), &six) == 1) return IN6_IS_ADDR_LOOPBACK(&six);
  return address.starts_with("127.");
}

bool ReadEndpoint(std::string_view text, Protocol protocol, Endpoint* endpoint) {
  endpoint->protocol = protocol;
  if (text.starts_with("unix:")) {
    endpoint->path = text.substr(5);
    return !endpoint->path.empty() && endpoint->path.size() < sizeof(sockaddr_un::sun_path);
  }
  const size_t colon = text.rfind(':');
  uint64_t port = 0;
  if (colon == std::string_view::npos || !ReadWhole(text.substr(colon + 1), &port)) return false;
  if (port > UINT16_MAX) return false;
  std::string_view address = text.substr(0, colon);
  const bool brackets = address.starts_with('[') && address.ends_with(']');
  if (brackets) address = address.substr(1, address.size() - 2);
  endpoint->address = address;
  endpoint->port = static_cast<uint16_t>(port);
  std::array<char, sizeof(in6_addr)> binary{};
  return inet_pton(brackets ? AF_INET6 : AF_INET, endpoint->address.c_str(), binary.data()) == 1;
}

bool ReadTokens(std::string_view text, std::vector<Token>* tokens, std::string* error) {
  size_t number = 0;
  while (!text.empty()) {
    number++;
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = Trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.starts_with('#')) continue;
    const size_t space = std::min(line.find_first_of(" \t"), line.size());
    const std::string_view rights = Trim(line.substr(space));
    Token token{std::string(line.substr(0, space)), Rights::kAdmin};
    const std::string where = "line " + std::to_string(number) + ": ";
    if (rights == "read") {
      token.rights = Rights::kRead;
    } else if (rights == "check") {
      token.rights = Rights::kCheck;
    } else if (!rights.empty() && rights != "admin") {
      *error = where + "a token may read, check or admin, not " + Quoted(rights);
      return false;
    }
    if (token.text.size() > kMaxTokenBytes || tokens->size() == kMaxTokens) {
      *error = where + "a token has at most 4096 bytes, and there are at most 1024";
      return false;
    }
    tokens->push_back(std::move(token));
  }
  if (!tokens->empty()) return true;
  *error = "there is no token in it";
  return false;
}

bool ReadAllTokens(const Options& options, std::vector<Token>* tokens, std::string* error) {
  if (!options.token.empty()) tokens->push_back({options.token, Rights::kAdmin});
  return options.token_file.empty() || ReadTokenFile(options.token_file, tokens, error);
}

bool ReadOptions(const std::vector<std::string_view>& words, const char* environment_token,
                 Options* options, OptionsError* error) {
  std::string sync = "always";
  const std::vector<Flag> flags = Flags(options, &sync);
  for (size_t at = 0; at < words.size(); at++) {
    options->help |= words[at] == "--help";
    options->version |= words[at] == "--version";
    if (options->help || options->version) return true;
    error->message = ReadFlag(flags, words, &at);
    error->usage = !error->message.empty();
    if (error->usage) return false;
  }
  options->batch = sync == "batch";
  if (options->endpoints.empty()) {
    options->endpoints.push_back({Protocol::kHttp, "127.0.0.1", 7878, ""});
  }
  if (options->token.empty() && environment_token != nullptr) options->token = environment_token;
  error->message = Faults(*options, sync);
  return error->message.empty();
}

}  // namespace flint::server
