#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <string>

#include "base/env.h"
#include "base/status.h"

namespace flint {

// What the parts of the POSIX environment share: descriptors, calls that a signal may interrupt,
// and the opening of regular files.

// Owns a file descriptor, for as long as it leads to the same file: a program that closes all of
// its descriptors, as daemons do, closes this one too, and what is opened next gets its number.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1);
  Descriptor(Descriptor&& other) noexcept
      : fd_(other.fd_), device_(other.device_), inode_(other.inode_) {
    other.Release();
  }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { Close(); }

  int get() const { return fd_; }
  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  // One that is somebody else's by now is only forgotten. Safe in a signal handler and after fork.
  void Close();
  // kIo if it does not lead to the same file any more.
  Status CheckOwn(const std::string& path) const;
  bool IsOwn() const;

 private:
  int fd_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// Where something is: a name, from an open directory on; and the path that people know it by.
struct FilePlace {
  int directory = AT_FDCWD;
  std::string name;
  std::string path;
};

// Calls until the result is not "interrupted by a signal".
template <typename Call>
auto RetryInterrupted(Call call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

// A new descriptor as one that is none of the three standard ones: where a program has closed
// those, what it prints would go into our file. -1 and errno, and nothing open, on failure.
int AboveStandard(int fd);

// open(2) with O_CLOEXEC, above the standard descriptors; -1 and errno on failure.
int OpenDescriptor(const FilePlace& place, int flags, uint32_t mode = 0);

// Opens what must be a regular file; anything else there (a pipe would block, a device would
// swallow) is an error. What O_CREAT makes is accessible as `access` says. `*info` is its fstat.
Status OpenRegular(const FilePlace& place, int flags, const Access& access, Descriptor* descriptor,
                   struct stat* info);

// Gives a file that has just been made to whom it is for, whatever the umask.
Status GiveAccess(int fd, const FilePlace& place, const Access& access);

std::unique_ptr<File> MakePosixFile(Descriptor descriptor, std::string path);

}  // namespace flint
