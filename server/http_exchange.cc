#include "http_exchange.h"

#include <array>
#include <cstdio>
#include <utility>

#include "http_routes.h"
#include "server.h"
#include "text.h"

namespace flint::server {
namespace {

std::string_view Reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 413:
      return "Payload Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Entity";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Internal Server Error";
  }
}

}  // namespace

int HttpStatusOf(int32_t code) {
  switch (code) {
    case FLINT_LIMITER_OK:
      return 200;
    case FLINT_LIMITER_INVALID_ARGUMENT:
    case FLINT_LIMITER_NOT_CONFIGURED:
      return 400;
    case FLINT_LIMITER_LOCKED:
      return 409;
    case FLINT_LIMITER_HISTORY_GONE:
      return 410;
    case FLINT_LIMITER_UNSUPPORTED:
      return 501;
    case FLINT_LIMITER_CLOSED:
    case FLINT_LIMITER_TABLE_FULL:
      return 503;
    default:
      return 500;
  }
}

HttpExchange::HttpExchange(Server* server, Connection* connection, HttpRequest&& request,
                           const HttpRoute* route)
    : server_(server),
      connection_(connection->shared_from_this()),
      request_(std::move(request)),
      route_(route),
      place_(connection->Reserve()),
      keep_alive_(request_.keep_alive && !server->draining()) {}

void HttpExchange::Start(Server* server, Connection* connection, HttpRequest&& request,
                         const HttpRoute* route, const HttpRefusal& refusal) {
  const auto exchange =
      std::make_shared<HttpExchange>(server, connection, std::move(request), route);
  if (refusal.status != 0) {
    exchange->Refuse(refusal);
  } else {
    exchange->route_->handler(exchange);
  }
  if (!exchange->keep_alive_) connection->CloseBehindAnswers();
}

bool HttpExchange::Asks(std::string_view name, std::string_view value) const {
  bool wrong = false;
  return QueryValue(request_.query, name, &wrong) == value;
}

std::string HttpExchange::Head(int status, std::string_view type, std::string_view framing,
                               std::string_view field, size_t more) {
  constexpr size_t kUsualBytes = 256;
  server_->counts()->Answered(route_ == nullptr ? "other" : route_->path, status);
  std::string head;
  head.reserve(kUsualBytes + field.size() + more);
  head.append("HTTP/1.1 ");
  AppendWhole(static_cast<unsigned>(status), &head);
  head.append(" ").append(Reason(status)).append("\r\n");
  if (!type.empty()) head.append("Content-Type: ").append(type).append("\r\n");
  head.append(framing).append("Date: ").append(server_->date()).append("\r\n").append(field);
  if (!keep_alive_) {
    head.append("Connection: close\r\n");
  } else if (request_.version_1_0) {
    head.append("Connection: keep-alive\r\n");
  }
  head.append("\r\n");
  return head;
}

void HttpExchange::Send(int status, std::string_view type, std::string_view body,
                        std::string_view field) {
  const bool none = status == 204;  // which has no body, and says so by itself
  std::string framing;
  if (!none) {
    framing.append("Content-Length: ");
    AppendWhole(body.size(), &framing);
    framing.append("\r\n");
  }
  std::string answer = Head(status, type, framing, field, body.size());
  if (request_.method != "HEAD") answer.append(body);
  connection_->Answer(place_, answer);
}

void HttpExchange::Error(int status, std::string_view message, std::string_view code_name) {
  std::string field;
  if (!code_name.empty()) field.append("Flint-Error: ").append(code_name).append("\r\n");
  Send(status, kJson, "{\"error\":" + Quoted(message) + "}", field);
}

void HttpExchange::Refuse(const HttpRefusal& refusal) {
  const std::string_view type = refusal.body.empty() ? "" : refusal.json ? kJson : kText;
  Send(refusal.status, type, refusal.body, refusal.field);
}

Calls::Done HttpExchange::Ok() {
  return [self = shared_from_this()](const Outcome& outcome) {
    if (outcome.ok()) {
      self->Json(kOk);
    } else {
      self->Fail(outcome);
    }
  };
}

void HttpExchange::Fail(const Outcome& outcome) {
  const int status = HttpStatusOf(outcome.code);
  if (status >= 500) {
    server_->log()->Warn("a request failed", {{"path", request_.path}, {"why", outcome.message}});
  }
  Error(status, outcome.message, flint_limiter_code_name(outcome.code));
}

// ---- Answers in parts ------------------------------------------------------------------------

void HttpExchange::Begin(std::string_view type) {
  // HTTP/1.0 knows no chunks: there the end of the stream is that of the answer.
  const bool chunks = !request_.version_1_0;
  connection_->Hold();
  if (!chunks) connection_->CloseBehindAnswers();
  connection_->AnswerPart(place_,
                          Head(200, type, chunks ? "Transfer-Encoding: chunked\r\n" : "", ""));
}

void HttpExchange::Part(std::string_view text, std::function<void()> next) {
  if (request_.method == "HEAD" || text.empty()) {
    connection_->WhenWritten(std::move(next));
    return;
  }
  std::string part;
  if (!request_.version_1_0) {
    std::array<char, 24> size{};
    snprintf(size.data(), size.size(), "%zx\r\n", text.size());
    part = size.data();
  }
  part.append(text);
  if (!request_.version_1_0) part.append("\r\n");
  connection_->AnswerPart(place_, part);
  connection_->WhenWritten(std::move(next));
}

void HttpExchange::End() {
  const bool last_chunk = !request_.version_1_0 && request_.method != "HEAD";
  connection_->Answer(place_, last_chunk ? "0\r\n\r\n" : "");
  connection_->Release();
}

void HttpExchange::Break() { connection_->Close(); }

// ---- Calls -----------------------------------------------------------------------------------

Calls* HttpExchange::server_calls() { return server_->calls(); }

void HttpExchange::RunAside(Calls::Call call, Calls::Done finish) {
  connection_->Hold();
  const auto self = shared_from_this();
  server_calls()->RunAside(std::move(call),
                           [self, finish = std::move(finish)](const Outcome& outcome) {
                             self->connection_->Release();
                             finish(outcome);
                           });
}

}  // namespace flint::server
