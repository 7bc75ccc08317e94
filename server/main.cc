// flint-server: the limits of a data directory, over the network. The files of this directory:
//
//   main           reads the command line, opens the limiter, runs the server, closes the limiter
//   options        flags, environment and token files
//   server         the loop, its signals, its connections, and how it leaves
//   listener       an address or a unix socket, and accepting
//   connection     a stream: reading, the line of answers, deadlines, the end
//   files          all that is read from files, at the start and on SIGHUP
//   limits_file    the limits of a flint.toml
//   notifier       tells the service manager how the server is
//   tls            certificates, and TLS between a stream and what is said on it
//   calls          calls of the limiter for a loop that must not wait, and what waits for the disk
//   counts         what the server counts of itself
//   decision       checks and peeks, with the limits that come with them
//   rates          limits in words
//   tokens         who may do what
//   log_lines      lines on standard error, by a thread that nobody waits for
//   text           numbers, times and words
//   http_reader    requests out of bytes, by llhttp, with bounds
//   http_session   HTTP on a connection: what is refused, and who answers the rest
//   http_exchange  a request and its answer
//   http_routes    the table of endpoints
//   http_compat    endpoints of other servers
//   http_metrics   the page for Prometheus
//   http_decisions, http_limits, http_listing, http_history, http_log   their handlers
//   openapi        the description of all endpoints
//   http_pages     a list of any length, page by page
//   json_bodies    what bodies say; json_answers has the JSON of answers, json_compat what others'
//                  callers say, json_fields what is common
//
// Nothing here knows of the engine but flint_limiter.h.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "calls.h"
#include "files.h"
#include "flint_limiter.h"
#include "log_lines.h"
#include "options.h"
#include "server.h"

namespace flint::server {
namespace {

constexpr uint64_t kMostThreads = 8;

int Complain(const std::string& message, int code) {
  fprintf(stderr, "flint: %s\n", message.c_str());
  return code;
}

// What follows --token, for nobody to see in a list of processes.
void HideTokens(int count, char** words) {
  for (int i = 1; i < count; i++) {
    const bool next = std::strcmp(words[i], "--token") == 0 && i + 1 < count;
    char* const token = next ? words[++i] : words[i];
    const size_t known = next ? 0 : std::strlen("--token=");
    if (!next && std::strncmp(words[i], "--token=", known) != 0) continue;
    const size_t size = std::strlen(token);
    std::memset(token + known, 'x', size - known);
  }
}

int32_t Open(const Options& options, flint_limiter** limiter, flint_limiter_error* error) {
  flint_limiter_options how{};
  how.struct_size = sizeof how;
  how.sync = options.batch ? FLINT_LIMITER_SYNC_BATCH : FLINT_LIMITER_SYNC_ALWAYS;
  how.flush_every_ms = options.flush_every_ms;
  how.flush_every_events = options.flush_every_events;
  how.lock_timeout_ns = options.open_timeout_ns;
  return flint_limiter_open(options.data_dir.data(), options.data_dir.size(), &how, limiter, error);
}

// Serves until it is told to leave; then what was answered is on disk, or the time is over.
int Serve(const Options& options, Files* files, flint_limiter** limiter) {
  Log log(options.json_log);
  std::string error;
  {
    Server server(options, *limiter, &log);
    if (!server.Listen(files, &error)) return Complain(error, 1);
    server.Run();
  }
  flint_limiter_error failed = NoError();
  const int32_t code = flint_limiter_close(limiter, &failed);
  if (code != FLINT_LIMITER_OK) return Complain(OutcomeOf(code, failed).message, 1);
  log.Info("left: everything is on disk");
  return 0;
}

int Main(int count, char** words) {
  Options options;
  OptionsError wrong;
  const std::vector<std::string_view> given(words + 1, words + std::max(count, 1));
  if (!ReadOptions(given, std::getenv("FLINT_SERVER_TOKEN"), &options, &wrong)) {
    return Complain(wrong.message, wrong.usage ? 2 : 1);
  }
  HideTokens(count, words);
  if (options.help || options.version) {
    printf("%s\n", options.help ? kUsage : flint_limiter_version());
    return 0;
  }
  Files files;
  if (!ReadFiles(options, &files, &wrong.message)) return Complain(wrong.message, 1);
  signal(SIGPIPE, SIG_IGN);
  // The pool of libuv reads it at its first use.
  const uint64_t threads = std::min(options.max_blocking, kMostThreads);
  setenv("UV_THREADPOOL_SIZE", std::to_string(threads).c_str(), 1);
  flint_limiter* limiter = nullptr;
  flint_limiter_error error = NoError();
  const int32_t code = Open(options, &limiter, &error);
  if (code != FLINT_LIMITER_OK) return Complain(OutcomeOf(code, error).message, 1);
  const int exit_code = Serve(options, &files, &limiter);
  flint_limiter_close(&limiter, nullptr);
  return exit_code;
}

}  // namespace
}  // namespace flint::server

int main(int count, char** words) { return flint::server::Main(count, words); }
