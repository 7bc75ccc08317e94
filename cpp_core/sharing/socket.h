#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

// The socket beside a data directory's files, and descriptors that a forked child does not keep.
// Errors are a number of errno; 0 is none.
namespace flint::sharing {

inline constexpr char kSocketName[] = "flint.sock";

// Owns a descriptor above the standard ones which a forked child closes before anything else: as
// long as any process has it open, a connection does not end and a dead owner seems to be alive.
class Socket {
 public:
  Socket() = default;
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket() { Close(); }

  // Of a stream, what accept has taken from a listener, an epoll instance, an eventfd.
  int OpenStream();
  int OpenAccepted(int listener);
  int OpenEpoll();
  int OpenEvent();

  int get() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void Close();

 private:
  template <typename Make>
  int Open(const Make& make);

  int fd_ = -1;
  uint64_t forks_ = 0;  // of this process and those before it, when it was opened
};

// Calls `in_child` with its argument in every child that is forked from now on, after its copies of
// all Sockets are closed; until Forget.
void CallInChild(void (*in_child)(void*), void* argument);
void ForgetInChild(void* argument);

// Binds the socket of a directory, which the caller has locked, and listens: under another name
// first, so that whoever connects finds somebody who listens or nothing.
int Listen(const std::string& directory, Socket* listener);
// ENOENT or ECONNREFUSED where nobody listens, EAGAIN where too many wait to be accepted for that
// long.
int Connect(const std::string& directory, uint64_t timeout_ns, Socket* stream);
void RemoveSocket(const std::string& directory);

// Who is at the other end.
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
};
int PeerOf(int fd, Peer* peer);

// How long a call of this descriptor may wait for the other side.
void SetTimeout(int fd, uint64_t timeout_ns);

// Nanoseconds that only run on, for deadlines.
uint64_t SteadyNs();

}  // namespace flint::sharing
