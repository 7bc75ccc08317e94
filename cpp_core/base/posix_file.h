#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <string>

#include "base/env.h"
#include "base/status.h"

namespace flint {

// What the parts of the POSIX environment share: descriptors, calls that a signal may interrupt,
// and the opening of regular files.

// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.Release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { Close(); }

  int get() const { return fd_; }
  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void Close();  // safe in a signal handler and after fork

 private:
  int fd_;
};

// Calls until the result is not "interrupted by a signal".
template <typename Call>
auto RetryInterrupted(Call call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

// open(2) with O_CLOEXEC; -1 and errno on failure.
int OpenDescriptor(const std::string& path, int flags);

// Opens what must be a regular file; anything else there (a pipe would block, a device would
// swallow) is an error. `*info` is its fstat.
Status OpenRegular(const std::string& path, int flags, Descriptor* descriptor, struct stat* info);

std::unique_ptr<File> MakePosixFile(Descriptor descriptor, std::string path);

}  // namespace flint
