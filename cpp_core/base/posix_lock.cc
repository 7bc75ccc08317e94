#include "base/posix_lock.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "base/posix_file.h"

namespace flint {
namespace {

constexpr char kLockName[] = "flint.lock";
// Advisory text: what a person may want to know, and no more than that.
constexpr size_t kMostHolderBytes = 4096;

// ---- Descriptors of locks ----------------------------------------------------------------------

// A lock is held for as long as any process has a descriptor of it, so a forked child would keep
// its parent's. Every such descriptor is known here before its lock is taken, and a child closes
// them all at once. Opening and closing exclude a fork: none is ever open and not known.
class LockDescriptors {
 public:
  // Never destroyed: a fork may come while the process is exiting.
  static LockDescriptors& All() {
    static LockDescriptors* const all = new LockDescriptors;
    return *all;
  }

  int Open(const FilePlace& place, int flags, const Access& access, Status* status) {
    const MutexLock lock(mutex_);
    Descriptor descriptor;
    if ((flags & O_DIRECTORY) != 0) {
      descriptor = Descriptor(OpenDescriptor(place, flags));
      if (descriptor.get() < 0) *status = Status::FromErrno(errno, "cannot open " + place.path);
    } else {
      struct stat info;
      *status = OpenRegular(place, flags, access, &descriptor, &info);
    }
    const int fd = descriptor.get();
    if (fd < 0) return fd;
    // One that had this number has been closed by somebody else.
    Descriptor& known = open_[fd];
    known.Release();
    known = std::move(descriptor);
    return fd;
  }

  // In a child nothing is known, and nothing happens.
  void Unlock(int fd) {
    const MutexLock lock(mutex_);
    const auto found = open_.find(fd);
    if (found != open_.end() && found->second.IsOwn()) flock(fd, LOCK_UN);
  }
  void Close(int fd) {
    const MutexLock lock(mutex_);
    open_.erase(fd);
  }

 private:
  LockDescriptors() { pthread_atfork(BeforeFork, InParent, InChild); }

  static void BeforeFork() FLINT_ACQUIRE(All().mutex_) { All().mutex_.lock(); }
  static void InParent() FLINT_RELEASE(All().mutex_) { All().mutex_.unlock(); }
  static void InChild() FLINT_RELEASE(All().mutex_) {
    All().open_.clear();
    All().mutex_.unlock();
  }

  SystemMutex mutex_;
  std::map<int, Descriptor> open_ FLINT_GUARDED_BY(mutex_);
};

class LockDescriptor {
 public:
  LockDescriptor() = default;
  LockDescriptor(LockDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  LockDescriptor& operator=(LockDescriptor&&) = delete;
  ~LockDescriptor() {
    if (fd_ >= 0) LockDescriptors::All().Close(fd_);
  }

  Status Open(const FilePlace& place, int flags, const Access& access) {
    Status status;
    fd_ = LockDescriptors::All().Open(place, flags, access, &status);
    return status;
  }
  void Unlock() const { LockDescriptors::All().Unlock(fd_); }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// ---- Who holds it ------------------------------------------------------------------------------

// Lines of a name and a value. `socket` is empty: whoever shares a directory listens at flint.sock.
void TellWhoHolds(int fd) {
  const time_t now = time(nullptr);
  struct tm utc = {};
  char since[32] = "";
  if (gmtime_r(&now, &utc) != nullptr) {
    std::strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S UTC", &utc);
  }
  const std::string text = "pid " + std::to_string(getpid()) + "\nsince " + since + "\nsocket \n";
  // Nobody needs it to go on, so a full disk may keep it out.
  if (ftruncate(fd, 0) == 0) static_cast<void>(!write(fd, text.data(), text.size()));
}

std::string ValueOf(const std::string& name, const std::string& text) {
  const std::string begin = name + " ";
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (text.compare(at, begin.size(), begin) == 0) {
      return text.substr(at + begin.size(), end - at - begin.size());
    }
    at = end + 1;
  }
  return "";
}

bool IsPlain(const std::string& text) {
  return !text.empty() && text.size() < 64 &&
         text.find_first_not_of("0123456789-: UTC") == std::string::npos;
}

// " (by process 12 since ...)"; nothing where the file does not tell.
std::string WhoHolds(const FilePlace& file) {
  const Descriptor descriptor(OpenDescriptor(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  if (descriptor.get() < 0) return "";
  std::string text(kMostHolderBytes, '\0');
  const ssize_t got =
      RetryInterrupted([&] { return pread(descriptor.get(), text.data(), text.size(), 0); });
  text.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  const std::string pid = ValueOf("pid", text);
  const std::string since = ValueOf("since", text);
  if (!IsPlain(pid) || !IsPlain(since)) return "";
  return " (by process " + pid + " since " + since + ")";
}

// ---- Locking -----------------------------------------------------------------------------------

class PosixLock final : public DirectoryLock {
 public:
  PosixLock(LockDescriptor directory, LockDescriptor file, std::shared_ptr<Env> env)
      : directory_(std::move(directory)), file_(std::move(file)), env_(std::move(env)) {}
  // Closing alone would leave the lock with whoever got the descriptors otherwise than by a fork.
  ~PosixLock() override {
    file_.Unlock();
    directory_.Unlock();
  }

  std::shared_ptr<Env> directory() override { return env_; }

 private:
  const LockDescriptor directory_;
  const LockDescriptor file_;
  const std::shared_ptr<Env> env_;
};

// `directory` is the path people know the lock by, `file` that of who holds it.
Status TryLock(int fd, const std::string& directory, const FilePlace& file) {
  if (RetryInterrupted([&] { return flock(fd, LOCK_EX | LOCK_NB); }) == 0) return Status();
  const int error = errno;
  switch (error) {
    case EWOULDBLOCK:
      return Status(Code::kLocked, "data directory is already locked by another limiter: " +
                                       directory + WhoHolds(file));
    case EBADF:  // network file systems lock only what is open for writing
    case EINVAL:
    case ENOLCK:
    case ENOSYS:
    case EOPNOTSUPP:
      return Status::FromErrno(Code::kUnsupported, error,
                               "the file system cannot lock " + directory);
    case EACCES:
    case EPERM:
      return Status::FromErrno(
          Code::kUnsupported, error,
          "the system call flock is not allowed, so " + directory +
              " cannot be locked; a sandbox (seccomp, AppArmor, SELinux) around this process has "
              "to allow it");
    default:
      return Status::FromErrno(error, "cannot lock " + directory);
  }
}

// Whether a place still leads to what `fd` has open.
Status IsSame(int fd, const FilePlace& place, bool* same) {
  struct stat opened;
  struct stat found;
  if (fstat(fd, &opened) != 0) return Status::FromErrno(errno, "cannot examine " + place.path);
  if (fstatat(place.directory, place.name.c_str(), &found, 0) != 0) {
    if (errno != ENOENT) return Status::FromErrno(errno, "cannot examine " + place.path);
    *same = false;
    return Status();
  }
  *same = opened.st_dev == found.st_dev && opened.st_ino == found.st_ino;
  return Status();
}

// `*lock` stays null when the directory or the file was replaced in the meantime.
Status LockOnce(const FilePlace& place, const Access& access,
                const MakeDirectoryEnv& make_directory, std::unique_ptr<DirectoryLock>* lock) {
  Descriptor opened(OpenDescriptor(place, O_RDONLY | O_DIRECTORY));
  if (opened.get() < 0) return Status::FromErrno(errno, "cannot open " + place.path);
  const FilePlace inside{opened.get(), ".", place.path};
  const FilePlace file_place{opened.get(), kLockName, place.path + "/" + kLockName};

  LockDescriptor directory;
  FLINT_RETURN_IF_ERROR(directory.Open(inside, O_RDONLY | O_DIRECTORY, access));
  FLINT_RETURN_IF_ERROR(TryLock(directory.get(), place.path, file_place));
  LockDescriptor file;
  FLINT_RETURN_IF_ERROR(file.Open(file_place, O_RDWR | O_CREAT | O_NOFOLLOW, access));
  FLINT_RETURN_IF_ERROR(TryLock(file.get(), place.path, file_place));

  bool same_directory = false;
  bool same_file = false;
  FLINT_RETURN_IF_ERROR(IsSame(directory.get(), place, &same_directory));
  FLINT_RETURN_IF_ERROR(IsSame(file.get(), file_place, &same_file));
  if (same_directory && same_file) {
    TellWhoHolds(file.get());
    *lock = std::make_unique<PosixLock>(std::move(directory), std::move(file),
                                        make_directory(std::move(opened)));
  }
  return Status();
}

}  // namespace

Status LockPosixDirectory(const FilePlace& place, const Access& access,
                          const MakeDirectoryEnv& make_directory,
                          std::unique_ptr<DirectoryLock>* lock) {
  constexpr int kMaxAttempts = 16;
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    FLINT_RETURN_IF_ERROR(LockOnce(place, access, make_directory, lock));
    if (*lock != nullptr) return Status();
  }
  return Status(Code::kIo, "data directory is replaced again and again: " + place.path);
}

Status AwaitLock(Env* env, const std::string& path, uint64_t timeout_ns,
                 std::unique_ptr<DirectoryLock>* lock) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kLongestNap = std::chrono::nanoseconds(std::chrono::milliseconds(50));
  constexpr uint64_t kLongest = uint64_t{1} << 60;  // a deadline that the clock can hold
  const auto deadline =
      Clock::now() + std::chrono::nanoseconds(static_cast<int64_t>(std::min(timeout_ns, kLongest)));
  for (auto nap = std::chrono::nanoseconds(std::chrono::milliseconds(1));;
       nap = std::min(2 * nap, kLongestNap)) {
    Status status = env->LockDirectory(path, lock);
    if (status.code() != Code::kLocked || timeout_ns == 0) return status;
    const std::chrono::nanoseconds left = deadline - Clock::now();
    if (left <= std::chrono::nanoseconds(0)) {
      char seconds[32];
      std::snprintf(seconds, sizeof(seconds), "%.3g", static_cast<double>(timeout_ns) / 1e9);
      return Status(Code::kLocked, status.message() + "; waited " + seconds + " s for it");
    }
    std::this_thread::sleep_for(std::min(nap, left));
  }
}

}  // namespace flint
