#include "base/posix_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "base/posix_file.h"

namespace flint {
namespace {

class PosixLock final : public DirectoryLock {
 public:
  PosixLock(Descriptor directory, Descriptor file)
      : directory_(std::move(directory)), file_(std::move(file)) {}
  // Closing alone would leave the lock with a forked child that still has the descriptors.
  ~PosixLock() override {
    if (file_.get() >= 0) flock(file_.get(), LOCK_UN);
    if (directory_.get() >= 0) flock(directory_.get(), LOCK_UN);
  }

  void AbandonInChild() override {
    file_.Close();
    directory_.Close();
  }

 private:
  Descriptor directory_;
  Descriptor file_;
};

// `directory` is the path people know the lock by.
Status TryLock(int fd, const std::string& directory) {
  if (RetryInterrupted([&] { return flock(fd, LOCK_EX | LOCK_NB); }) == 0) return Status();
  switch (errno) {
    case EWOULDBLOCK:
      return Status(Code::kLocked,
                    "data directory is already locked by another limiter: " + directory);
    case EBADF:  // network file systems lock only what is open for writing
    case EINVAL:
    case ENOLCK:
    case ENOSYS:
    case EOPNOTSUPP:
      return Status::FromErrno(Code::kUnsupported, errno,
                               "the file system cannot lock " + directory);
    default:
      return Status::FromErrno(errno, "cannot lock " + directory);
  }
}

// Whether `path` still leads to what `fd` has open.
Status IsSame(int fd, const std::string& path, bool* same) {
  struct stat opened;
  struct stat found;
  if (fstat(fd, &opened) != 0) return Status::FromErrno(errno, "cannot examine " + path);
  if (stat(path.c_str(), &found) != 0) {
    if (errno != ENOENT) return Status::FromErrno(errno, "cannot examine " + path);
    *same = false;
    return Status();
  }
  *same = opened.st_dev == found.st_dev && opened.st_ino == found.st_ino;
  return Status();
}

// `*lock` stays null when the directory or the file was replaced in the meantime.
Status LockOnce(const std::string& path, std::unique_ptr<DirectoryLock>* lock) {
  Descriptor directory(OpenDescriptor(path, O_RDONLY | O_DIRECTORY));
  if (directory.get() < 0) return Status::FromErrno(errno, "cannot open " + path);
  FLINT_RETURN_IF_ERROR(TryLock(directory.get(), path));

  const std::string file_path = path + "/flint.lock";
  Descriptor file;
  struct stat info;
  FLINT_RETURN_IF_ERROR(OpenRegular(file_path, O_RDWR | O_CREAT | O_NOFOLLOW, &file, &info));
  FLINT_RETURN_IF_ERROR(TryLock(file.get(), path));

  bool same_directory = false;
  bool same_file = false;
  FLINT_RETURN_IF_ERROR(IsSame(directory.get(), path, &same_directory));
  FLINT_RETURN_IF_ERROR(IsSame(file.get(), file_path, &same_file));
  if (same_directory && same_file) {
    *lock = std::make_unique<PosixLock>(std::move(directory), std::move(file));
  }
  return Status();
}

}  // namespace

Status LockPosixDirectory(const std::string& path, std::unique_ptr<DirectoryLock>* lock) {
  constexpr int kMaxAttempts = 16;
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    FLINT_RETURN_IF_ERROR(LockOnce(path, lock));
    if (*lock != nullptr) return Status();
  }
  return Status(Code::kIo, "data directory is replaced again and again: " + path);
}

}  // namespace flint
