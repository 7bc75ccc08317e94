#include "sharing/socket.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "base/mutex.h"
#include "base/posix_file.h"

namespace flint::sharing {
namespace {

constexpr char kNewSocketName[] = "flint.sock.new";
// Who comes while so many wait is told to come again.
constexpr int kBacklog = 128;

// ---- Forks -----------------------------------------------------------------------------------

// Opening and closing exclude a fork: no descriptor is ever open and not known.
class Forks {
 public:
  // Never destroyed: a fork may come while the process is exiting.
  static Forks& All() {
    static Forks* const all = new Forks;
    return *all;
  }

  template <typename Make>
  int Open(const Make& make, uint64_t* forks) {
    const MutexLock lock(mutex_);
    const int fd = AboveStandard(make());
    if (fd >= 0) open_.insert(fd);
    *forks = count_;
    return fd;
  }
  void Close(int fd, uint64_t forks) {
    const MutexLock lock(mutex_);
    // What was opened before a fork has been closed by it, and the number may be another's.
    if (forks == count_ && open_.erase(fd) != 0) close(fd);
  }
  void Call(void (*in_child)(void*), void* argument) {
    const MutexLock lock(mutex_);
    calls_[argument] = in_child;
  }
  void Forget(void* argument) {
    const MutexLock lock(mutex_);
    calls_.erase(argument);
  }

 private:
  Forks() { pthread_atfork(BeforeFork, InParent, InChild); }

  static void BeforeFork() FLINT_ACQUIRE(All().mutex_) { All().mutex_.lock(); }
  static void InParent() FLINT_RELEASE(All().mutex_) { All().mutex_.unlock(); }
  static void InChild() FLINT_RELEASE(All().mutex_) {
    for (const int fd : All().open_) close(fd);
    All().open_.clear();
    All().count_++;
    for (const auto& [argument, in_child] : All().calls_) in_child(argument);
    All().mutex_.unlock();
  }

  SystemMutex mutex_;
  std::set<int> open_ FLINT_GUARDED_BY(mutex_);
  std::map<void*, void (*)(void*)> calls_ FLINT_GUARDED_BY(mutex_);
  uint64_t count_ FLINT_GUARDED_BY(mutex_) = 0;
};

// ---- Addresses -------------------------------------------------------------------------------

// An address is at most 107 bytes; a longer path is gone to by way of a descriptor of its
// directory, which stays open as long as this lives.
class Address {
 public:
  Address(const std::string& directory, const char* name) {
    path_ = directory + "/" + name;
    if (path_.size() < sizeof(address_.sun_path)) return;
    directory_ = Descriptor(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    path_ = "/proc/self/fd/" + std::to_string(directory_.get()) + "/" + name;
  }

  const sockaddr* get() {
    address_ = {};
    address_.sun_family = AF_UNIX;
    path_.copy(address_.sun_path, sizeof(address_.sun_path) - 1);
    return reinterpret_cast<const sockaddr*>(&address_);
  }
  socklen_t size() const { return sizeof(address_); }
  const char* path() const { return path_.c_str(); }

 private:
  sockaddr_un address_{};
  Descriptor directory_;
  std::string path_;
};

}  // namespace

void CallInChild(void (*in_child)(void*), void* argument) { Forks::All().Call(in_child, argument); }

void ForgetInChild(void* argument) { Forks::All().Forget(argument); }

// ---- Sockets ---------------------------------------------------------------------------------

Socket::Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)), forks_(other.forks_) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(forks_, other.forks_);
  return *this;
}

template <typename Make>
int Socket::Open(const Make& make) {
  Close();
  fd_ = Forks::All().Open(make, &forks_);
  return fd_ >= 0 ? 0 : errno;
}

int Socket::OpenStream() {
  return Open([] { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); });
}

int Socket::OpenAccepted(int listener) {
  return Open(
      [listener] { return accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK); });
}

int Socket::OpenEpoll() {
  return Open([] { return epoll_create1(EPOLL_CLOEXEC); });
}

int Socket::OpenEvent() {
  return Open([] { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
}

void Socket::Close() {
  if (fd_ >= 0) Forks::All().Close(std::exchange(fd_, -1), forks_);
}

int Listen(const std::string& directory, Socket* listener) {
  Address unfinished(directory, kNewSocketName);
  Address finished(directory, kSocketName);
  Socket made;
  if (const int failed = made.OpenStream()) return failed;
  const int flags = fcntl(made.get(), F_GETFL);
  if (fcntl(made.get(), F_SETFL, flags | O_NONBLOCK) != 0) return errno;
  unlink(unfinished.path());
  // Whatever the umask says: of this user alone, before anybody can connect.
  if (bind(made.get(), unfinished.get(), unfinished.size()) != 0 ||
      chmod(unfinished.path(), 0600) != 0 || listen(made.get(), kBacklog) != 0 ||
      rename(unfinished.path(), finished.path()) != 0) {
    const int failed = errno;
    unlink(unfinished.path());
    return failed;
  }
  *listener = std::move(made);
  return 0;
}

int Connect(const std::string& directory, uint64_t timeout_ns, Socket* stream) {
  Address address(directory, kSocketName);
  Socket made;
  if (const int failed = made.OpenStream()) return failed;
  SetTimeout(made.get(), timeout_ns);
  const uint64_t begun_ns = SteadyNs();
  while (connect(made.get(), address.get(), address.size()) != 0) {
    if (errno != EINTR) return errno;
    if (SteadyNs() - begun_ns >= timeout_ns) return EAGAIN;
  }
  *stream = std::move(made);
  return 0;
}

uint64_t SteadyNs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::nanoseconds(now).count());
}

void RemoveSocket(const std::string& directory) {
  Address address(directory, kSocketName);
  unlink(address.path());
}

int PeerOf(int fd, Peer* peer) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return errno;
  peer->pid = credentials.pid;
  peer->uid = credentials.uid;
  return 0;
}

void SetTimeout(int fd, uint64_t timeout_ns) {
  timeval timeout{};
  timeout.tv_sec = static_cast<time_t>(timeout_ns / 1'000'000'000);
  timeout.tv_usec = static_cast<suseconds_t>(timeout_ns % 1'000'000'000 / 1'000);
  if (timeout_ns > 0 && timeout.tv_sec == 0 && timeout.tv_usec == 0) timeout.tv_usec = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

}  // namespace flint::sharing
