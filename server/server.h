#pragma once

#include <uv.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "calls.h"
#include "connection.h"
#include "counts.h"
#include "decision.h"
#include "files.h"
#include "listener.h"
#include "log_lines.h"
#include "notifier.h"
#include "options.h"
#include "tls.h"
#include "tokens.h"

namespace flint::server {

// The server: a loop, what it listens on, its connections, and how it leaves. SIGTERM and SIGINT
// drain it: it accepts nobody, answers what has been asked, and leaves the loop when all is
// answered or the time is over; a second signal ends the process at once. SIGHUP has it read its
// files again.
//
// All methods are the loop's, which is one thread's. For one loop per core each would have a Server
// of its own: listeners bound with SO_REUSEPORT (a unix socket's shared), a Calls with its own
// watch descriptor, and a Log that locks. The limiter is made for many threads.
class Server {
 public:
  Server(const Options& options, flint_limiter* limiter, Log* log);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Takes over what was read from files, configures its limits, binds every endpoint and says so;
  // false, with what is wrong, when that cannot be.
  bool Listen(Files* files, std::string* error);
  void Run();

  uv_loop_t* loop() { return &loop_; }
  Calls* calls() { return &calls_; }
  Log* log() { return log_; }
  Counts* counts() { return &counts_; }
  CarriedSets* carried_sets() { return &carried_sets_; }
  const RateNames& rate_names() const { return rate_names_; }
  size_t open_connections() const { return connections_.size(); }
  uint64_t uptime_ms() const { return now_ms() - started_ms_; }
  const Options& options() const { return options_; }
  const Tokens& tokens() const { return tokens_; }
  bool draining() const { return draining_; }
  uint64_t now_ms() const { return uv_now(&loop_); }
  uv_buf_t read_buffer();
  // The time as HTTP's Date has it.
  const std::string& date();

  // Of listeners: whether another connection may be accepted, and one that was.
  bool HasRoom();
  // Keeps the connection until its stream is closed.
  void Adopt(const std::shared_ptr<Connection>& connection);
  std::unique_ptr<Session> MakeSession(Connection* connection, Protocol protocol);
  // Null where the endpoint has no TLS.
  std::unique_ptr<TlsStream> MakeTls(const Endpoint& endpoint);
  // Of connections.
  uint64_t NextClientId() { return ++last_client_id_; }
  void SayTlsFailed(const std::string& reason);
  void ProceedSoon(std::shared_ptr<Connection> connection);
  void Forget(Connection* connection);

 private:
  void Reload();
  void TakeOver(Files* files);
  void Drain();
  void OnSignal(int signal);
  void OnTick();
  void ProceedAll();
  void LeaveIfDone();
  void StopHandles();

  const Options options_;
  Log* const log_;
  const Notifier notifier_;
  uv_loop_t loop_{};  // before what has handles in it
  Calls calls_;
  Tokens tokens_;
  TlsContext tls_;
  Counts counts_;
  CarriedSets carried_sets_;
  RateNames rate_names_;
  const uint64_t started_ms_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;
  std::vector<std::shared_ptr<Connection>> soon_;
  uv_prepare_t prepare_{};
  uv_timer_t tick_{};
  uv_timer_t alive_{};
  std::array<uv_signal_t, 3> signals_{};
  uint64_t max_connections_;
  uint64_t last_client_id_ = 0;
  uint64_t drain_until_ms_ = 0;
  uint64_t full_said_ms_ = 0;
  uint64_t tls_said_ms_ = 0;
  uint64_t date_s_ = 0;
  std::string date_;
  std::array<char, size_t{64} * 1024> read_buffer_{};
  bool reading_files_ = false;
  bool read_files_again_ = false;
  bool draining_ = false;
  bool stopped_ = false;
};

}  // namespace flint::server
