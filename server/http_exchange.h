#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "calls.h"
#include "connection.h"
#include "http_reader.h"

namespace flint::server {

class Server;
struct HttpRoute;

// A request and its answer. Handlers keep it by shared pointer until they have answered. On the
// loop; only what a Call does with it may run elsewhere.
class HttpExchange : public std::enable_shared_from_this<HttpExchange> {
 public:
  // Has the request answered: by its route, or as the refusal says if that has a status.
  static void Start(Server* server, Connection* connection, HttpRequest&& request,
                    const HttpRoute* route, const HttpRefusal& refusal);

  HttpExchange(Server* server, Connection* connection, HttpRequest&& request,
               const HttpRoute* route);

  const HttpRequest& request() const { return request_; }
  Server* server() { return server_; }
  flint_limiter* limiter() { return server_calls()->limiter(); }

  // Whether the query has a name with this value.
  bool Asks(std::string_view name, std::string_view value = "true") const;

  void Json(std::string_view body) { Send(200, kJson, body); }
  void Send(int status, std::string_view type, std::string_view body, std::string_view field = {});
  // {"error": ...}, and the name of the code as a field.
  void Error(int status, std::string_view message, std::string_view code_name = {});
  void Refuse(const HttpRefusal& refusal);
  // An answer for a call that has failed.
  void Fail(const Outcome& outcome);

  // Answers a call that has nothing to tell: `{"ok":true}`, or the error.
  Calls::Done Ok();

  // An answer in parts. Each waits until the one before has left.
  void Begin(std::string_view type);
  void Part(std::string_view text, std::function<void()> next);
  void End();
  // Where it cannot go on: the client sees that the answer is not whole.
  void Break();

  // Makes a call (see Calls) and gives its outcome to `finish`, while later requests of this
  // connection wait where they must.
  template <typename OneCall, typename OneFinish>
  void Run(const OneCall& call, const OneFinish& finish) {
    const auto done = [self = shared_from_this(), finish](const Outcome& outcome) {
      if (std::exchange(self->holds_, false)) self->connection_->Release();
      finish(outcome);
    };
    if (server_calls()->Run(call, done)) return;
    holds_ = true;
    connection_->Hold();
  }
  void RunAside(Calls::Call call, Calls::Done finish);

  static constexpr std::string_view kOk = R"({"ok":true})";
  static constexpr std::string_view kJson = "application/json";
  static constexpr std::string_view kMetrics = "text/plain; version=0.0.4; charset=utf-8";
  static constexpr std::string_view kText = "text/plain; charset=utf-8";

 private:
  Calls* server_calls();
  // The head of an answer: `framing` says how it ends. `more` is how many bytes will follow.
  std::string Head(int status, std::string_view type, std::string_view framing,
                   std::string_view field, size_t more = 0);

  Server* const server_;
  const std::shared_ptr<Connection> connection_;
  const HttpRequest request_;
  const HttpRoute* const route_;  // null for what has none
  const uint64_t place_;
  const bool keep_alive_;
  bool holds_ = false;  // the connection, for a call
};

// 200 and so on for a code of the limiter.
int HttpStatusOf(int32_t code);

}  // namespace flint::server
