#pragma once

#include <uv.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace flint::server {

class Server;
class Connection;
class TlsStream;

// How a protocol reads what comes in on a connection.
class Session {
 public:
  virtual ~Session() = default;
  // Reads as much of `bytes` as is wanted now, and returns how many those are: all, unless
  // Connection::may_read says no in between.
  virtual size_t Read(std::string_view bytes) = 0;
};

// What a connection waits for; each has its own deadline.
enum class Phase : uint8_t {
  kHandshake,  // for TLS to be agreed on
  kIdle,       // for a request
  kHead,       // for the rest of its head
  kBody,       // for the rest of its body
  kAnswer,     // for the limiter: no deadline
  kLinger,     // for the other side to close: answered all, and what still comes is thrown away
};

// A stream, TCP or unix, and the answers that it owes. Requests may come before earlier ones are
// answered, up to kMaxPipelined of them; answers leave in their order. Where too much is owed or
// queued, nothing is read. Lives until the last answer has come, even when its stream is closed.
//
// All methods are the loop's.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  static constexpr size_t kMaxPipelined = 16;
  static constexpr size_t kMaxQueuedBytes = size_t{256} * 1024;

  Connection(Server* server, bool unix_socket);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  uv_stream_t* stream() { return &handle_.stream; }
  // After accepting. Without TLS that is null.
  void Start(std::unique_ptr<Session> session, std::unique_ptr<TlsStream> tls);

  // A place in the line of answers. Each must be answered.
  uint64_t Reserve();
  void Answer(uint64_t place, std::string_view bytes);
  // Some of an answer: more will come.
  void AnswerPart(uint64_t place, std::string_view bytes);
  // Calls back once when little is queued, or never, if the stream is closed before.
  void WhenWritten(std::function<void()> callback);
  // Nothing more is read; the stream ends behind the last answer.
  void CloseBehindAnswers();

  // Until Release nothing more is read, since what comes must find the effect of what came before.
  void Hold() { holds_++; }
  void Release();

  bool may_read() const;
  bool closed() const { return closed_; }
  bool unix_socket() const { return handle_.handle.type == UV_NAMED_PIPE; }
  void SetPhase(Phase phase);

  // The server is leaving: what waits for a request is closed.
  void Drain();
  void CheckDeadlines(uint64_t now_ms);
  // Writes what is ready and reads on; once in each turn of the loop, after something has changed.
  void Proceed();
  void Close();

 private:
  struct Place {
    std::string bytes;
    bool complete = false;
  };
  union Handle {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  };

  void Touch();
  void OnRead(std::string_view bytes);
  void OnEncrypted(std::string_view bytes);
  void OnPlain(std::string_view bytes);
  void OnEnd();
  void TakeReady();
  void FinishTls();
  void Write();
  void OnWritten(int status);
  void Feed();
  void SetReading(bool wanted);
  void StartWriteDeadline();
  void CheckWriteDeadline(uint64_t now_ms);
  uint64_t taken_bytes();
  void Linger();
  // Ready or not.
  size_t queued_bytes() const;
  uint64_t TimeoutOf(Phase phase) const;

  Server* const server_;
  Handle handle_{};
  std::unique_ptr<Session> session_;
  std::unique_ptr<TlsStream> tls_;
  std::string input_;  // read, and not yet wanted
  std::deque<Place> places_;
  uint64_t first_place_ = 0;
  std::string output_;   // ready
  std::string writing_;  // given to the system
  uv_write_t write_{};
  uv_shutdown_t shutdown_{};
  std::function<void()> when_written_;
  uint64_t holds_ = 0;
  size_t thrown_away_ = 0;
  uint64_t given_ = 0;  // to the system, in all
  uint64_t taken_ = 0;  // by the other side, at the last look
  uint64_t write_deadline_ms_ = 0;
  uint64_t deadline_ms_ = 0;
  Phase phase_ = Phase::kIdle;
  bool reading_ = false;
  bool touched_ = false;
  bool closing_ = false;  // behind the answers
  bool ended_ = false;    // the other side sends no more
  bool closed_ = false;
  bool shut_ = false;
};

}  // namespace flint::server
