#pragma once

#include <memory>
#include <string_view>

#include "connection.h"
#include "http_reader.h"
#include "http_routes.h"

namespace flint::server {

// HTTP on one connection: finds who may answer a request, and refuses those that may not be asked.
// What can be refused is refused before a body is read.
class HttpSession : public Session, private HttpReader::HeadCheck {
 public:
  HttpSession(Server* server, Connection* connection);

  size_t Read(std::string_view bytes) override;

 private:
  void CheckHead(const HttpRequest& request, HttpRefusal* refusal) override;
  // What keeps the request from being answered, in the order in which it is looked at.
  void Check(const HttpRequest& request, HttpRefusal* refusal);
  void CheckCaller(const HttpRequest& request, const HttpRoute& route, HttpRefusal* refusal);
  void CheckWebPage(const HttpRequest& request, HttpRefusal* refusal);
  void OnRequest();
  void OnRefused();
  void OnHeadRead();

  Server* const server_;
  Connection* const connection_;
  HttpReader reader_;
  const HttpRoute* route_ = nullptr;  // of the request that is read, once its head is
  bool told_to_continue_ = false;
  bool reading_head_ = false;
  bool reading_body_ = false;
};

}  // namespace flint::server
