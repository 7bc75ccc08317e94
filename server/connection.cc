#include "connection.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <utility>

#include "server.h"
#include "tls.h"

namespace flint::server {
namespace {

constexpr uint64_t kLingerMs = 2'000;
constexpr uint64_t kLingerWhenLeavingMs = 100;
constexpr size_t kMaxThrownAway = size_t{1} << 20U;
constexpr size_t kLittleBytes = size_t{64} * 1024;
// A client may take so many write timeouts for all that can be queued.
constexpr uint64_t kTimeoutsForQueue = 3;

Connection* Of(uv_stream_t* stream) { return static_cast<Connection*>(stream->data); }

}  // namespace

Connection::Connection(Server* server, bool unix_socket) : server_(server) {
  if (unix_socket) {
    uv_pipe_init(server->loop(), &handle_.pipe, 0);
  } else {
    uv_tcp_init(server->loop(), &handle_.tcp);
  }
  handle_.handle.data = this;
}

Connection::~Connection() = default;

void Connection::Start(std::unique_ptr<Session> session, std::unique_ptr<TlsStream> tls) {
  session_ = std::move(session);
  tls_ = std::move(tls);
  if (handle_.handle.type == UV_TCP) uv_tcp_nodelay(&handle_.tcp, 1);
  SetPhase(tls_ == nullptr ? Phase::kIdle : Phase::kHandshake);
  SetReading(true);
}

// ---- Reading ---------------------------------------------------------------------------------

bool Connection::may_read() const {
  return !closing_ && !closed_ && holds_ == 0 && places_.size() < kMaxPipelined &&
         queued_bytes() < kMaxQueuedBytes;
}

void Connection::SetReading(bool wanted) {
  if (wanted == reading_ || closed_) return;
  reading_ = wanted;
  if (!wanted) {
    uv_read_stop(stream());
    return;
  }
  uv_read_start(
      stream(),
      [](uv_handle_t* handle, size_t /*wanted*/, uv_buf_t* buffer) {
        *buffer = static_cast<Connection*>(handle->data)->server_->read_buffer();
      },
      [](uv_stream_t* from, ssize_t bytes, const uv_buf_t* buffer) {
        if (bytes > 0) Of(from)->OnRead({buffer->base, static_cast<size_t>(bytes)});
        if (bytes < 0) Of(from)->OnEnd();
      });
}

void Connection::OnRead(std::string_view bytes) {
  if (closing_) {
    thrown_away_ += bytes.size();
    if (thrown_away_ > kMaxThrownAway) Close();
  } else if (tls_ != nullptr) {
    OnEncrypted(bytes);
  } else {
    OnPlain(bytes);
  }
}

void Connection::OnEncrypted(std::string_view bytes) {
  std::string plain;
  const TlsStream::State state = tls_->Read(bytes, &plain, &output_);
  if (phase_ == Phase::kHandshake && state == TlsStream::State::kOpen) SetPhase(Phase::kIdle);
  if (!plain.empty()) OnPlain(plain);
  if (state == TlsStream::State::kEnded) OnEnd();
  if (state == TlsStream::State::kFailed) {
    server_->SayTlsFailed(tls_->reason());
    // No answer can follow, only the alert.
    if (places_.empty()) {
      CloseBehindAnswers();
    } else {
      Close();
    }
  }
  Touch();
}

void Connection::OnPlain(std::string_view bytes) {
  size_t used = 0;
  if (input_.empty()) used = session_->Read(bytes);
  input_.append(bytes.substr(used));
  if (!input_.empty()) SetReading(false);
  Touch();
}

void Connection::OnEnd() {
  ended_ = true;
  SetReading(false);
  if (shut_) {
    Close();
  } else {
    Touch();
  }
}

void Connection::Feed() {
  if (!input_.empty() && may_read()) {
    const std::string bytes = std::move(input_);
    input_.clear();
    const size_t used = session_->Read(bytes);
    input_.assign(bytes, used);
  }
  if (closing_ || closed_) return;
  // What has ended in the middle of a request will never be whole.
  if (ended_ && input_.empty()) CloseBehindAnswers();
  SetReading(input_.empty() && may_read() && !ended_);
}

size_t Connection::queued_bytes() const {
  size_t bytes = output_.size() + writing_.size();
  for (const Place& place : places_) bytes += place.bytes.size();
  return bytes;
}

// ---- Answers ---------------------------------------------------------------------------------

uint64_t Connection::Reserve() {
  places_.emplace_back();
  return first_place_ + places_.size() - 1;
}

void Connection::AnswerPart(uint64_t place, std::string_view bytes) {
  if (closed_) return;
  // What is first in the line need not wait in it.
  const bool leaves = place == first_place_ && tls_ == nullptr;
  (leaves ? output_ : places_[place - first_place_].bytes).append(bytes);
  Touch();
}

void Connection::Answer(uint64_t place, std::string_view bytes) {
  if (closed_) return;
  AnswerPart(place, bytes);
  places_[place - first_place_].complete = true;
  TakeReady();
}

void Connection::Release() {
  holds_--;
  Touch();
}

void Connection::WhenWritten(std::function<void()> callback) {
  when_written_ = std::move(callback);
  Touch();
}

void Connection::CloseBehindAnswers() {
  closing_ = true;
  input_.clear();
  Touch();
}

void Connection::Touch() {
  if (touched_ || closed_) return;
  touched_ = true;
  server_->ProceedSoon(shared_from_this());
}

void Connection::Proceed() {
  touched_ = false;
  if (closed_) return;
  TakeReady();
  Write();
  if (closed_) return;
  Feed();
  if (closing_ && places_.empty() && queued_bytes() == 0 && !shut_) {
    FinishTls();
    if (!closed_ && queued_bytes() == 0) Linger();
  }
  if (!closed_ && when_written_ && queued_bytes() < kLittleBytes) {
    std::exchange(when_written_, nullptr)();
  }
}

void Connection::TakeReady() {
  while (!places_.empty()) {
    Place& first = places_.front();
    if (tls_ != nullptr) {
      tls_->Write(first.bytes, &output_);
    } else {
      output_.append(first.bytes);
    }
    first.bytes.clear();
    if (!first.complete) return;
    places_.pop_front();
    first_place_++;
  }
}

// With it the other side knows that it has got everything.
void Connection::FinishTls() {
  if (tls_ == nullptr) return;
  tls_->Finish(&output_);
  Write();
}

void Connection::Write() {
  if (output_.empty() || !writing_.empty()) return;
  uv_buf_t buffer = uv_buf_init(output_.data(), static_cast<unsigned>(output_.size()));
  const int written = uv_try_write(stream(), &buffer, 1);
  if (written < 0 && written != UV_EAGAIN) {
    Close();
    return;
  }
  given_ += output_.size();
  output_.erase(0, static_cast<size_t>(std::max(written, 0)));
  if (output_.empty()) {
    write_deadline_ms_ = 0;
    return;
  }
  writing_.swap(output_);
  buffer = uv_buf_init(writing_.data(), static_cast<unsigned>(writing_.size()));
  const int failed = uv_write(&write_, stream(), &buffer, 1, [](uv_write_t* write, int status) {
    Of(write->handle)->OnWritten(status);
  });
  if (failed != 0) {
    Close();
  } else {
    StartWriteDeadline();
  }
}

void Connection::OnWritten(int status) {
  writing_.clear();
  // What comes next has the time that is left.
  if (output_.empty()) write_deadline_ms_ = 0;
  if (status != 0) Close();
  Touch();
}

// ---- The end ---------------------------------------------------------------------------------

// What the other side still sends would have the system reset the connection when it is closed, and
// with that throw away answers that have not been read.
void Connection::Linger() {
  shut_ = true;
  if (ended_) {
    Close();
    return;
  }
  SetPhase(Phase::kLinger);
  SetReading(true);
  const int failed = uv_shutdown(&shutdown_, stream(), [](uv_shutdown_t* shutdown, int status) {
    if (status != 0) Of(shutdown->handle)->Close();
  });
  if (failed != 0) Close();
}

void Connection::Close() {
  if (closed_) return;
  closed_ = true;
  if (tls_ != nullptr && writing_.empty()) {
    // If there is room for it; nobody waits for it.
    tls_->Finish(&output_);
    uv_buf_t buffer = uv_buf_init(output_.data(), static_cast<unsigned>(output_.size()));
    if (!output_.empty()) uv_try_write(stream(), &buffer, 1);
  }
  places_.clear();
  when_written_ = nullptr;
  uv_close(&handle_.handle, [](uv_handle_t* handle) {
    auto* const connection = static_cast<Connection*>(handle->data);
    connection->server_->Forget(connection);
  });
}

void Connection::Drain() {
  const bool waits = phase_ == Phase::kIdle || phase_ == Phase::kHandshake;
  if (waits && places_.empty() && input_.empty() && queued_bytes() == 0) Close();
}

// ---- Deadlines -------------------------------------------------------------------------------

uint64_t Connection::TimeoutOf(Phase phase) const {
  switch (phase) {
    case Phase::kIdle:
      return server_->options().idle_timeout_ms;
    case Phase::kHandshake:
    case Phase::kHead:
      return server_->options().head_timeout_ms;
    case Phase::kBody:
      return server_->options().body_timeout_ms;
    case Phase::kLinger:
      return server_->draining() ? kLingerWhenLeavingMs : kLingerMs;
    case Phase::kAnswer:
      break;
  }
  return 0;
}

void Connection::SetPhase(Phase phase) {
  phase_ = phase;
  const uint64_t timeout_ms = TimeoutOf(phase);
  deadline_ms_ = timeout_ms == 0 ? 0 : server_->now_ms() + timeout_ms;
}

// What the other side has taken of all that was written. Of a unix socket the system counts more
// than the bytes as not taken yet.
uint64_t Connection::taken_bytes() {
  int held = 0;
  uv_os_fd_t fd = -1;
  if (uv_fileno(&handle_.handle, &fd) != 0 || ioctl(fd, SIOCOUTQ, &held) != 0) held = 0;
  const uint64_t left = uv_stream_get_write_queue_size(stream()) + static_cast<uint64_t>(held);
  return given_ - std::min(given_, left);
}

void Connection::StartWriteDeadline() {
  if (write_deadline_ms_ != 0) return;
  write_deadline_ms_ = server_->now_ms() + server_->options().write_timeout_ms;
  taken_ = taken_bytes();
}

// A client has a timeout in hand. What it takes gives it time back, but never more than that. The
// system is asked only when the time is over: there may be thousands of slow clients.
void Connection::CheckWriteDeadline(uint64_t now_ms) {
  if (now_ms < write_deadline_ms_) return;
  const uint64_t timeout_ms = server_->options().write_timeout_ms;
  const uint64_t taken = std::max(taken_bytes(), taken_);
  const uint64_t won_ms = (taken - taken_) * kTimeoutsForQueue * timeout_ms / kMaxQueuedBytes;
  write_deadline_ms_ = std::min(write_deadline_ms_ + won_ms, now_ms + timeout_ms);
  taken_ = taken;
  if (now_ms >= write_deadline_ms_) Close();
}

void Connection::CheckDeadlines(uint64_t now_ms) {
  if (closed_) return;
  if (write_deadline_ms_ != 0) {
    CheckWriteDeadline(now_ms);
    return;
  }
  // While answers are owed, the next request has time.
  if (phase_ != Phase::kLinger && !places_.empty()) {
    SetPhase(phase_);
    return;
  }
  if (deadline_ms_ != 0 && now_ms >= deadline_ms_) Close();
}

}  // namespace flint::server
