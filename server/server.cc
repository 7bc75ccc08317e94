#include "server.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <utility>

#include "http_session.h"
#include "redis_session.h"
#include "text.h"

namespace flint::server {
namespace {

constexpr uint64_t kTickMs = 100;
constexpr uint64_t kSayAgainMs = 60'000;
constexpr uint64_t kDescriptorsOfOthers = 64;  // the log's files, the loop's own, this and that

// As many as there can be descriptors, but for those that the server itself needs.
uint64_t MostConnections(uint64_t wanted) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const uint64_t others = std::min<uint64_t>(kDescriptorsOfOthers, limit.rlim_cur / 2);
  const uint64_t most = std::max<uint64_t>(limit.rlim_cur - others, 1);
  return wanted == 0 ? most : std::min(wanted, most);
}

}  // namespace

Server::Server(const Options& options, flint_limiter* limiter, Log* log)
    : options_(options),
      log_(log),
      calls_((uv_loop_init(&loop_), &loop_), limiter, !options.batch, options.max_blocking),
      started_ms_(uv_now(&loop_)),
      max_connections_(MostConnections(options.max_connections)) {
  uv_prepare_init(&loop_, &prepare_);
  prepare_.data = this;
  uv_prepare_start(&prepare_,
                   [](uv_prepare_t* handle) { static_cast<Server*>(handle->data)->ProceedAll(); });
  for (uv_timer_t* timer : {&tick_, &alive_}) {
    uv_timer_init(&loop_, timer);
    timer->data = this;
  }
  constexpr std::array kSignals = {SIGTERM, SIGINT, SIGHUP};
  for (size_t i = 0; i < kSignals.size(); i++) {
    uv_signal_init(&loop_, &signals_[i]);
    signals_[i].data = this;
    uv_signal_start(
        &signals_[i],
        [](uv_signal_t* handle, int signal) {
          static_cast<Server*>(handle->data)->OnSignal(signal);
        },
        kSignals[i]);
  }
}

Server::~Server() {
  StopHandles();
  uv_run(&loop_, UV_RUN_DEFAULT);
  uv_loop_close(&loop_);
}

void Server::StopHandles() {
  if (std::exchange(stopped_, true)) return;
  for (const auto& listener : listeners_) listener->Close();
  calls_.Stop();
  uv_close(reinterpret_cast<uv_handle_t*>(&prepare_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&tick_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&alive_), nullptr);
  for (uv_signal_t& signal : signals_) {
    uv_close(reinterpret_cast<uv_handle_t*>(&signal), nullptr);
  }
}

bool Server::Listen(Files* files, std::string* error) {
  const Outcome applied = ApplyLimits(calls_.limiter(), files->limits_file.limits);
  if (!applied.ok()) {
    *error = options_.limits_file + ": " + applied.message;
    return false;
  }
  TakeOver(files);
  for (const Endpoint& endpoint : options_.endpoints) {
    listeners_.push_back(std::make_unique<Listener>(this, endpoint));
    if (!listeners_.back()->Open(error)) return false;
  }
  for (const auto& listener : listeners_) {
    const std::string line = "flint server listening on " + listener->url() + "\n";
    // Whoever started it may not care.
    if (write(STDOUT_FILENO, line.data(), line.size()) < 0) break;
  }
  notifier_.Ready();
  const uint64_t alive_every_ms = notifier_.alive_every_ms();
  if (alive_every_ms != 0) {
    uv_timer_start(
        &alive_, [](uv_timer_t* timer) { static_cast<Server*>(timer->data)->notifier_.Alive(); }, 0,
        alive_every_ms);
  }
  return true;
}

void Server::Run() { uv_run(&loop_, UV_RUN_DEFAULT); }

uv_buf_t Server::read_buffer() {
  return uv_buf_init(read_buffer_.data(), static_cast<unsigned>(read_buffer_.size()));
}

const std::string& Server::date() {
  const auto now_s = static_cast<uint64_t>(time(nullptr));
  if (now_s != date_s_) {
    date_s_ = now_s;
    date_ = HttpDate(static_cast<int64_t>(now_s));
  }
  return date_;
}

// ---- Connections -----------------------------------------------------------------------------

bool Server::HasRoom() {
  const bool room = connections_.size() < max_connections_;
  const bool said = full_said_ms_ != 0 && now_ms() < full_said_ms_ + kSayAgainMs;
  if (!room && !said) {
    full_said_ms_ = now_ms();
    log_->Warn("no more connections are accepted until some are closed",
               {{"connections", std::to_string(connections_.size())}});
  }
  return room && !draining_;
}

void Server::Adopt(const std::shared_ptr<Connection>& connection) {
  connections_.emplace(connection.get(), connection);
  counts_.Accepted();
  if (connections_.size() == 1) {
    uv_timer_start(
        &tick_, [](uv_timer_t* timer) { static_cast<Server*>(timer->data)->OnTick(); }, kTickMs,
        kTickMs);
  }
}

std::unique_ptr<Session> Server::MakeSession(Connection* connection, Protocol protocol) {
  if (protocol == Protocol::kRedis) return std::make_unique<RedisSession>(this, connection);
  return std::make_unique<HttpSession>(this, connection);
}

std::unique_ptr<TlsStream> Server::MakeTls(const Endpoint& endpoint) {
  if (tls_ == nullptr || endpoint.unix_socket()) return nullptr;
  return std::make_unique<TlsStream>(tls_, endpoint.protocol);
}

// Anybody can have it said, so it is not said often.
void Server::SayTlsFailed(const std::string& reason) {
  if (tls_said_ms_ != 0 && now_ms() < tls_said_ms_ + kSayAgainMs) return;
  tls_said_ms_ = now_ms();
  log_->Warn("TLS has failed with a client; more of that is not told for a minute",
             {{"reason", reason}});
}

void Server::ProceedSoon(std::shared_ptr<Connection> connection) {
  soon_.push_back(std::move(connection));
}

void Server::ProceedAll() {
  // What the calls have been waiting for may have come meanwhile, and their answers bring more.
  for (calls_.AskForSync(); !soon_.empty(); calls_.AskForSync()) {
    const std::vector<std::shared_ptr<Connection>> now = std::move(soon_);
    soon_.clear();
    for (const auto& connection : now) connection->Proceed();
  }
}

void Server::Forget(Connection* connection) {
  connections_.erase(connection);
  if (draining_) {
    LeaveIfDone();
    return;
  }
  if (connections_.empty()) uv_timer_stop(&tick_);
  for (const auto& listener : listeners_) {
    if (connections_.size() < max_connections_) listener->AcceptWaiting();
  }
}

void Server::OnTick() {
  std::vector<Connection*> all;
  all.reserve(connections_.size());
  for (const auto& [connection, owned] : connections_) all.push_back(connection);
  for (Connection* connection : all) {
    if (draining_) connection->Drain();
    connection->CheckDeadlines(now_ms());
    if (draining_ && now_ms() >= drain_until_ms_) connection->Close();
  }
}

// ---- Leaving ---------------------------------------------------------------------------------

void Server::OnSignal(int signal) {
  if (signal == SIGHUP) {
    Reload();
    return;
  }
  if (draining_) {
    // What was answered survives that.
    log_->Warn("a second signal: leaving at once");
    _exit(128 + signal);
  }
  Drain();
}

void Server::TakeOver(Files* files) {
  tls_ = std::move(files->tls);
  tokens_.Replace(std::move(files->tokens));
  rate_names_ = std::move(files->limits_file.rates);
}

// All files or none: what is wrong with one leaves everything as it was. They are read, and their
// limits configured, by another thread.
void Server::Reload() {
  read_files_again_ = reading_files_;
  if (std::exchange(reading_files_, true)) return;
  notifier_.Reloading();
  const auto files = std::make_shared<Files>();
  const auto read = [this, files](uint32_t /*flags*/) {
    Outcome outcome;
    if (ReadFiles(options_, files.get(), &outcome.message)) {
      return ApplyLimits(calls_.limiter(), files->limits_file.limits);
    }
    outcome.code = FLINT_LIMITER_INVALID_ARGUMENT;
    return outcome;
  };
  calls_.RunAside(read, [this, files](const Outcome& outcome) {
    reading_files_ = false;
    if (outcome.ok()) {
      TakeOver(files.get());
      log_->Info("has read its files again",
                 {{"limits", std::to_string(files->limits_file.limits.size())}});
    } else {
      log_->Warn("nothing of the files was taken over", {{"reason", outcome.message}});
    }
    if (draining_) return;
    notifier_.Ready();
    if (std::exchange(read_files_again_, false)) Reload();
  });
}

void Server::Drain() {
  draining_ = true;
  notifier_.Stopping();
  drain_until_ms_ = now_ms() + options_.drain_timeout_ms;
  log_->Info("leaving: answering what has been asked",
             {{"connections", std::to_string(connections_.size())}});
  for (const auto& listener : listeners_) listener->Close();
  std::vector<std::shared_ptr<Connection>> all;
  all.reserve(connections_.size());
  for (const auto& [connection, owned] : connections_) all.push_back(owned);
  for (const auto& connection : all) connection->Drain();
  LeaveIfDone();
}

void Server::LeaveIfDone() {
  if (connections_.empty()) StopHandles();
}

}  // namespace flint::server
