#pragma once

#include <uv.h>

#include <string>

#include "options.h"

namespace flint::server {

class Server;

// One endpoint. While the server has no room, what knocks waits in the system's queue.
class Listener {
 public:
  Listener(Server* server, Endpoint endpoint);
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Binds and listens; false with what is wrong. A unix socket that nobody listens on is replaced.
  bool Open(std::string* error);
  // Where clients reach it, with the port that it has: "http://127.0.0.1:7878".
  std::string url() const;
  // Accepts what has waited for room, if anything has.
  void AcceptWaiting();
  // Stops listening; a unix socket is removed.
  void Close();

 private:
  bool Bind(std::string* error);
  bool BindPath(std::string* error);
  void Knock();

  union Handle {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  };

  Server* const server_;
  const Endpoint endpoint_;
  Handle handle_{};
  bool waiting_ = false;
  bool failing_ = false;
  bool closed_ = false;
};

}  // namespace flint::server
