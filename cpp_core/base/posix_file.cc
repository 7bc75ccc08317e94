#include "base/posix_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace flint {
namespace {

constexpr uint64_t kZeroBytes = 1 << 20;
// Never written. It costs no space in the library's file because it is not constant.
alignas(4096) char zeros[kZeroBytes];

// What is written past the page cache comes in whole blocks, in memory and in the file, and in no
// more of them than this: the cache is better at a lot.
constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kMaxBlocks = 4;

struct alignas(kBlockBytes) Blocks {
  char bytes[kMaxBlocks * kBlockBytes];
};

class PosixFile final : public File {
 public:
  PosixFile(Descriptor descriptor, std::string path)
      : descriptor_(std::move(descriptor)), path_(std::move(path)) {}

  Status Read(uint64_t offset, void* buffer, size_t size, size_t* got) override {
    *got = 0;
    while (*got < size) {
      const ssize_t n = RetryInterrupted([&] {
        return pread(fd(), static_cast<char*>(buffer) + *got, size - *got,
                     static_cast<off_t>(offset + *got));
      });
      if (n < 0) return Failure("cannot read ");
      if (n == 0) break;
      *got += static_cast<size_t>(n);
    }
    return Status();
  }

  Status Write(uint64_t offset, const void* data, size_t size) override {
    FLINT_RETURN_IF_ERROR(descriptor_.CheckOwn(path_));
    if (blocks_ == nullptr) return WriteCached(offset, data, size);
    if (offset != appended_) {
      StopDirect();
      return WriteCached(offset, data, size);
    }
    bool written = false;
    FLINT_RETURN_IF_ERROR(AppendDirect(data, size, &written));
    if (written) return Status();
    const bool is_long = size > sizeof(Blocks) - kBlockBytes;
    StopDirect();
    FLINT_RETURN_IF_ERROR(WriteCached(offset, data, size));
    if (is_long) ExpectAppends(offset + size);
    return Status();
  }

  void ExpectAppends(uint64_t end) override {
    if (!descriptor_.IsOwn()) return;
    std::unique_ptr<Blocks> blocks(new (std::nothrow) Blocks());
    const uint64_t used = end % kBlockBytes;
    uint64_t size = 0;
    size_t got = 0;
    if (blocks == nullptr || !Size(&size).ok() ||
        !Read(end - used, blocks->bytes, used, &got).ok() || got != used) {
      return;
    }
    if (!SetDirect(true)) return;
    blocks_ = std::move(blocks);
    appended_ = end;
    whole_blocks_end_ = size - size % kBlockBytes;
  }

  Status Reserve(uint64_t size, bool write_zeros) override {
    uint64_t old_size = 0;
    FLINT_RETURN_IF_ERROR(descriptor_.CheckOwn(path_));
    FLINT_RETURN_IF_ERROR(Size(&old_size));
    if (size <= old_size) return Status();
    Status status = Grow(old_size, size, write_zeros);
    // Give back what was reserved, so that a full disk is left as full as it was.
    if (!status.ok()) (void)Truncate(old_size);
    return status;
  }

  Status Truncate(uint64_t size) override {
    FLINT_RETURN_IF_ERROR(descriptor_.CheckOwn(path_));
    if (RetryInterrupted([&] { return ftruncate(fd(), static_cast<off_t>(size)); }) != 0) {
      return Failure("cannot truncate ");
    }
    return Status();
  }

  Status Size(uint64_t* size) override {
    struct stat info;
    if (fstat(fd(), &info) != 0) return Failure("cannot examine ");
    *size = static_cast<uint64_t>(info.st_size);
    return Status();
  }

  Status SyncData() override {
    FLINT_RETURN_IF_ERROR(descriptor_.CheckOwn(path_));
    if (RetryInterrupted([&] { return fdatasync(fd()); }) != 0) return Failure("cannot sync ");
    return Status();
  }

  Status Sync() override {
    FLINT_RETURN_IF_ERROR(descriptor_.CheckOwn(path_));
    if (RetryInterrupted([&] { return fsync(fd()); }) != 0) return Failure("cannot sync ");
    return Status();
  }

 private:
  int fd() const { return descriptor_.get(); }

  Status WriteCached(uint64_t offset, const void* data, size_t size) {
    const char* at = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t n =
          RetryInterrupted([&] { return pwrite(fd(), at, size, static_cast<off_t>(offset)); });
      if (n <= 0) {
        if (n == 0) errno = EIO;  // no file system does this, but nothing promises it
        return Failure("cannot write ");
      }
      at += n;
      offset += static_cast<uint64_t>(n);
      size -= static_cast<size_t>(n);
    }
    return Status();
  }

  // Writes whole blocks: what the first held before, the data, and the zeros that are there.
  // `*written` stays false where the cache has to be used.
  Status AppendDirect(const void* data, size_t size, bool* written) {
    const uint64_t from = appended_ - appended_ % kBlockBytes;
    const uint64_t used = appended_ - from + size;
    const uint64_t bytes = (used + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    if (bytes > sizeof(Blocks) || from + bytes > whole_blocks_end_) return Status();
    std::memcpy(blocks_->bytes + (appended_ - from), data, size);
    const ssize_t n = RetryInterrupted(
        [&] { return pwrite(fd(), blocks_->bytes, bytes, static_cast<off_t>(from)); });
    if (n < 0 && errno != EINVAL) {
      const Status failure = Failure("cannot write ");
      StopDirect();  // the block in memory is no longer the one in the file
      return failure;
    }
    if (n != static_cast<ssize_t>(bytes)) return Status();
    const uint64_t done = used - used % kBlockBytes;
    if (done > 0) {
      std::memcpy(blocks_->bytes, blocks_->bytes + done, used - done);
      std::memset(blocks_->bytes + (used - done), 0, done);
    }
    appended_ += size;
    *written = true;
    return Status();
  }

  bool SetDirect(bool direct) {
    const int flags = fcntl(fd(), F_GETFL);
    return flags >= 0 && fcntl(fd(), F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
  }

  void StopDirect() {
    blocks_.reset();
    SetDirect(false);
  }

  Status Failure(const char* what) const { return Status::FromErrno(errno, what + path_); }

  // fallocate, not posix_fallocate: where the file system cannot, the C library would touch every
  // block, which writing zeros does better.
  Status Grow(uint64_t from, uint64_t to, bool write_zeros) {
    const int result = RetryInterrupted([&] {
      return fallocate(fd(), 0, static_cast<off_t>(from), static_cast<off_t>(to - from));
    });
    if (result != 0) {
      if (errno != EOPNOTSUPP && errno != ENOSYS) return Failure("cannot reserve space for ");
      write_zeros = true;
    }
    if (!write_zeros) return Status();
    while (from < to) {
      const uint64_t chunk = std::min(to - from, kZeroBytes - from % kZeroBytes);
      FLINT_RETURN_IF_ERROR(Write(from, zeros, chunk));
      from += chunk;
    }
    return Status();
  }

  const Descriptor descriptor_;
  const std::string path_;

  // While it writes past the cache: the last block as far as it is used, and zeros.
  std::unique_ptr<Blocks> blocks_;
  uint64_t appended_ = 0;
  uint64_t whole_blocks_end_ = 0;
};

}  // namespace

Descriptor::Descriptor(int fd) : fd_(fd) {
  const int error = errno;  // the caller's, if it has got no descriptor
  struct stat info;
  if (fd >= 0 && fstat(fd, &info) == 0) {
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
  errno = error;
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    Close();
    device_ = other.device_;
    inode_ = other.inode_;
    fd_ = other.Release();
  }
  return *this;
}

void Descriptor::Close() {
  // Not repeated when interrupted: the descriptor is gone by then.
  if (fd_ >= 0 && IsOwn()) close(fd_);
  Release();
}

bool Descriptor::IsOwn() const {
  struct stat info;
  return fstat(fd_, &info) == 0 && info.st_dev == device_ && info.st_ino == inode_;
}

Status Descriptor::CheckOwn(const std::string& path) const {
  if (IsOwn()) return Status();
  return Status::FromErrno(EBADF, "the descriptor of " + path +
                                      " has been closed by this program, as daemons do at their "
                                      "start; open the limiter after that");
}

int AboveStandard(int fd) {
  if (fd < 0 || fd > STDERR_FILENO) return fd;
  const int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  const int error = errno;
  close(fd);
  errno = error;
  return above;
}

int OpenDescriptor(const FilePlace& place, int flags, uint32_t mode) {
  return AboveStandard(RetryInterrupted(
      [&] { return openat(place.directory, place.name.c_str(), flags | O_CLOEXEC, mode); }));
}

Status GiveAccess(int fd, const FilePlace& place, const Access& access) {
  struct stat info;
  if (fstat(fd, &info) != 0) return Status::FromErrno(errno, "cannot examine " + place.path);
  if (access.group != Access::kOwnGroup && info.st_gid != static_cast<gid_t>(access.group) &&
      fchown(fd, static_cast<uid_t>(-1), static_cast<gid_t>(access.group)) != 0) {
    return Status::FromErrno(
        errno, "cannot give " + place.path + " to group " + std::to_string(access.group));
  }
  if ((info.st_mode & 0777) != access.file_mode && fchmod(fd, access.file_mode) != 0) {
    return Status::FromErrno(errno, "cannot set the mode of " + place.path);
  }
  return Status();
}

Status OpenRegular(const FilePlace& place, int flags, const Access& access, Descriptor* descriptor,
                   struct stat* info) {
  // Without O_NONBLOCK, opening a pipe would wait for its other end. Regular files ignore it.
  flags |= O_NONBLOCK;
  Descriptor opened;
  bool made = false;
  if ((flags & O_CREAT) == 0 || (flags & O_EXCL) == 0) {
    opened = Descriptor(OpenDescriptor(place, flags & ~O_CREAT));
  }
  if (opened.get() < 0 && (flags & O_CREAT) != 0 && ((flags & O_EXCL) != 0 || errno == ENOENT)) {
    opened = Descriptor(OpenDescriptor(place, flags | O_EXCL, access.file_mode));
    made = opened.get() >= 0;
    // Somebody else was faster.
    if (!made && (flags & O_EXCL) == 0 && errno == EEXIST) {
      opened = Descriptor(OpenDescriptor(place, flags & ~O_CREAT));
    }
  }
  if (opened.get() < 0) return Status::FromErrno(errno, "cannot open " + place.path);
  if (made) FLINT_RETURN_IF_ERROR(GiveAccess(opened.get(), place, access));
  if (fstat(opened.get(), info) != 0) {
    return Status::FromErrno(errno, "cannot examine " + place.path);
  }
  if (!S_ISREG(info->st_mode)) return Status(Code::kIo, place.path + " is not a regular file");
  *descriptor = std::move(opened);
  return Status();
}

std::unique_ptr<File> MakePosixFile(Descriptor descriptor, std::string path) {
  return std::make_unique<PosixFile>(std::move(descriptor), std::move(path));
}

}  // namespace flint
