#include "http_session.h"

#include <string>
#include <utility>

#include "http_exchange.h"
#include "server.h"
#include "text.h"

namespace flint::server {

HttpSession::HttpSession(Server* server, Connection* connection)
    : server_(server), connection_(connection), reader_(this) {}

size_t HttpSession::Read(std::string_view bytes) {
  size_t read = 0;
  while (read < bytes.size() && connection_->may_read()) {
    size_t used = 0;
    switch (reader_.Read(bytes.substr(read), &used)) {
      case HttpReader::Event::kMore:
        OnHeadRead();
        break;
      case HttpReader::Event::kRequest:
        OnRequest();
        break;
      case HttpReader::Event::kRefused:
        OnRefused();
        return bytes.size();
    }
    read += used;
  }
  return read;
}

// Some of a request is there, and not all.
void HttpSession::OnHeadRead() {
  if (!reader_.in_body()) {
    // A head that comes byte by byte has no more time for it.
    if (!reading_head_) connection_->SetPhase(Phase::kHead);
    reading_head_ = true;
    return;
  }
  if (!reading_body_) connection_->SetPhase(Phase::kBody);
  reading_body_ = true;
  const HttpRequest& request = reader_.request();
  if (request.expects_continue && !request.version_1_0 && request.body.empty() &&
      !std::exchange(told_to_continue_, true)) {
    connection_->Answer(connection_->Reserve(), "HTTP/1.1 100 Continue\r\n\r\n");
  }
}

void HttpSession::OnRequest() {
  told_to_continue_ = false;
  reading_head_ = false;
  reading_body_ = false;
  connection_->SetPhase(Phase::kIdle);
  HttpRefusal refusal;
  if (!reader_.request().has_body()) Check(reader_.request(), &refusal);
  HttpExchange::Start(server_, connection_, std::move(reader_.request()),
                      std::exchange(route_, nullptr), refusal);
}

void HttpSession::OnRefused() {
  reader_.request().keep_alive = false;
  if (route_ == nullptr) route_ = FindRoute(reader_.request());
  HttpExchange::Start(server_, connection_, std::move(reader_.request()), route_,
                      reader_.refusal());
}

// ---- What is refused -------------------------------------------------------------------------

void HttpSession::CheckHead(const HttpRequest& request, HttpRefusal* refusal) {
  Check(request, refusal);
}

void HttpSession::Check(const HttpRequest& request, HttpRefusal* refusal) {
  route_ = FindRoute(request);
  if (route_ == nullptr) {
    const std::string methods = MethodsOf(request.path);
    refusal->status = methods.empty() ? 404 : 405;
    if (!methods.empty()) refusal->field = "Allow: " + methods + "\r\n";
    return;
  }
  CheckCaller(request, *route_, refusal);
  if (refusal->status != 0) return;
  if (!Accepts(request.accept, route_->type)) {
    refusal->status = 406;
    refusal->json = true;
    refusal->body = "{\"error\":\"the answer is " + std::string(route_->type) +
                    ", which Accept does not take\"}";
    return;
  }
  const bool needs_json = route_->body == HttpRoute::Body::kJson;
  if (needs_json && !request.has_length && !request.chunked) {
    refusal->status = 411;
    refusal->json = true;
    refusal->body = R"({"error":"a body with a Content-Length is needed"})";
    return;
  }
  const bool declared = IsJson(request.content_type);
  // A page on the web can have a browser send anything but that without asking first.
  const bool untold = request.has_body() && !server_->tokens().required();
  if (!declared && (needs_json || untold)) {
    refusal->status = 415;
    refusal->body = "Expected request with `Content-Type: application/json`";
  }
}

void HttpSession::CheckCaller(const HttpRequest& request, const HttpRoute& route,
                              HttpRefusal* refusal) {
  if (route.open) return;
  if (!server_->tokens().required()) {
    CheckWebPage(request, refusal);
    return;
  }
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view given = request.authorization;
  const auto rights = given.starts_with(kBearer)
                          ? server_->tokens().Find(given.substr(kBearer.size()))
                          : std::nullopt;
  refusal->json = true;
  if (!rights) {
    refusal->status = 401;
    refusal->body = R"({"error":"unauthorized"})";
    refusal->field = "WWW-Authenticate: Bearer\r\n";
  } else if (*rights < route.rights) {
    refusal->status = 403;
    refusal->body = R"({"error":"this token does not give the right to do that"})";
  }
}

// Without a token whoever reaches the address may ask: the programs of this machine, and not the
// pages that its browsers show, whether by a name of theirs that leads here or from afar.
void HttpSession::CheckWebPage(const HttpRequest& request, HttpRefusal* refusal) {
  const std::string_view site = request.fetch_site;
  const bool foreign = !site.empty() && site != "none" && site != "same-origin";
  std::string_view origin = request.origin;
  const size_t scheme = origin.find("://");
  if (scheme != std::string_view::npos) origin.remove_prefix(scheme + 3);
  const bool foreign_origin = !request.origin.empty() && !IsLoopbackHost(origin);
  const bool foreign_host = !connection_->unix_socket() && !IsLoopbackHost(request.host);
  if (!foreign && !foreign_origin && !foreign_host) return;
  refusal->status = 403;
  refusal->json = true;
  refusal->body = foreign_host
                      ? R"({"error":"without a token, Host must be localhost or a loopback IP"})"
                      : R"({"error":"without a token, web pages are not answered"})";
}

}  // namespace flint::server
