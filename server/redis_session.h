#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calls.h"
#include "connection.h"
#include "options.h"
#include "redis_reader.h"
#include "redis_reply.h"

namespace flint::server {

class Server;

// The Redis protocol on one connection: reads requests, finds their commands, refuses those that
// may not be given, and remembers what clients have said of themselves.
class RedisSession : public Session {
 public:
  RedisSession(Server* server, Connection* connection);

  size_t Read(std::string_view bytes) override;

  Server* server() { return server_; }
  // What the client may do; none until it has said a token, where one is needed.
  std::optional<Rights> rights() const;
  // Takes a token over; false when it is none.
  bool Authenticate(std::string_view user, std::string_view token);

  bool version_3 = false;
  std::string client_name;
  const uint64_t id;

 private:
  void OnRequest();
  void OnRefused();

  Server* const server_;
  Connection* const connection_;
  RedisReader reader_;
  std::optional<std::string> token_;  // said, and right when it was said
};

// The first word of an error of the limiter.
std::string_view RedisCodeOf(int32_t code);

// A request and its answer. Handlers keep it by shared pointer until they have answered.
class RedisExchange : public std::enable_shared_from_this<RedisExchange> {
 public:
  RedisExchange(Server* server, Connection* connection, RedisSession* session,
                std::vector<std::string> words);

  // The words of the request; the first is the command's name.
  const std::vector<std::string>& words() const { return words_; }
  // Only before anything is waited for: the connection may be gone later, and its session with it.
  RedisSession* session() { return session_; }
  Server* server() { return server_; }
  flint_limiter* limiter();
  RedisReply Reply() const { return RedisReply(version_3_); }
  void SpeakVersion3(bool wanted) { version_3_ = wanted; }

  // As which command it is counted.
  void NameCommand(std::string_view name) { command_ = name; }

  void Send(const RedisReply& reply);
  void Ok() { Send(Reply().Simple("OK")); }
  void Error(std::string_view text, std::string_view code = "ERR") {
    Send(Reply().Error(code, text));
  }
  void Fail(const Outcome& outcome);
  void SendAndClose(const RedisReply& reply);

  // As HttpExchange's; `finish` is not called with an error, which is answered.
  template <typename OneCall, typename OneFinish>
  void Run(const OneCall& call, const OneFinish& finish) {
    const auto done = [self = shared_from_this(), finish](const Outcome& outcome) {
      if (std::exchange(self->holds_, false)) self->connection_->Release();
      self->Finish(outcome, finish);
    };
    if (calls()->Run(call, done)) return;
    holds_ = true;
    connection_->Hold();
  }
  void RunAside(Calls::Call call, std::function<void()> finish);

 private:
  Calls* calls();
  template <typename OneFinish>
  void Finish(const Outcome& outcome, const OneFinish& finish) {
    if (outcome.ok()) {
      finish();
    } else {
      Fail(outcome);
    }
  }

  Server* const server_;
  const std::shared_ptr<Connection> connection_;
  RedisSession* const session_;
  const std::vector<std::string> words_;
  const uint64_t place_;
  std::string_view command_ = "other";
  bool version_3_;
  bool holds_ = false;  // the connection, for a call
};

}  // namespace flint::server
