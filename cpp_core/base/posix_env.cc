#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/env.h"
#include "base/posix_file.h"
#include "base/posix_lock.h"
#include "base/posix_store.h"

namespace flint {
namespace {

// A path with a zero byte would silently mean another one.
Status CheckPath(const std::string& path) {
  if (path.empty()) return Status(Code::kInvalidArgument, "a path is empty");
  const size_t zero = path.find('\0');
  if (zero == std::string::npos) return Status();
  return Status(Code::kInvalidArgument,
                "a path contains a zero byte after \"" + path.substr(0, zero) + "\"");
}

// "/a/b//" -> "/a", "a" -> ".", "/" -> "/".
std::string Parent(const std::string& path) {
  const size_t name_end = path.find_last_not_of('/');
  if (name_end == std::string::npos) return "/";
  const size_t slash = path.find_last_of('/', name_end);
  if (slash == std::string::npos) return ".";
  const size_t parent_end = path.find_last_not_of('/', slash);
  return parent_end == std::string::npos ? "/" : path.substr(0, parent_end + 1);
}

Status Failure(const std::string& what, const std::string& path) {
  return Status::FromErrno(errno, what + path);
}

class PosixEnv : public Env {
 public:
  explicit PosixEnv(const Access& access) : access_(access) {}

  Status OpenFile(const std::string& path, OpenMode mode, std::unique_ptr<File>* file) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    int flags = O_RDONLY;
    if (mode == OpenMode::kReadWrite) flags = O_RDWR;
    if (mode == OpenMode::kCreate) flags = O_RDWR | O_CREAT | O_EXCL;
    Descriptor descriptor;
    struct stat info;
    FLINT_RETURN_IF_ERROR(OpenRegular(PlaceOf(path), flags, access_, &descriptor, &info));
    *file = MakePosixFile(std::move(descriptor), path);
    return Status();
  }

  Status OpenStore(const std::string& path, size_t size, StoreMode mode,
                   std::unique_ptr<StoreFile>* store) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    return OpenPosixStore(PlaceOf(path), size, mode, access_, store);
  }

  Status Exists(const std::string& path, bool* exists) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    struct stat info;
    *exists = Examine(path, &info) == 0;
    if (!*exists && errno != ENOENT && errno != ENOTDIR) return Failure("cannot examine ", path);
    return Status();
  }

  Status List(const std::string& directory, std::vector<std::string>* names) override {
    FLINT_RETURN_IF_ERROR(CheckPath(directory));
    Descriptor descriptor(OpenDescriptor(PlaceOf(directory), O_RDONLY | O_DIRECTORY));
    if (descriptor.get() < 0) return Failure("cannot open ", directory);
    // One that is held open can be listed after its end, and would be taken for an empty one.
    struct stat info;
    if (fstat(descriptor.get(), &info) == 0 && info.st_nlink == 0) {
      return Status::FromErrno(ENOENT, "cannot open " + directory);
    }
    std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(descriptor.get()), closedir);
    if (stream == nullptr) return Failure("cannot open ", directory);
    static_cast<void>(descriptor.Release());  // the stream closes it
    names->clear();
    for (;;) {
      errno = 0;
      const dirent* entry = readdir(stream.get());
      if (entry == nullptr) break;
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names->push_back(name);
    }
    if (errno != 0) return Failure("cannot list ", directory);
    std::sort(names->begin(), names->end());
    return Status();
  }

  Status CreateDirectories(const std::string& path) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    std::vector<std::string> missing;
    std::string existing = path;
    for (struct stat info; Examine(existing, &info) != 0; existing = Parent(existing)) {
      // ENOTDIR: a parent is a file, which the loop is about to find. A directory that is its own
      // parent is missing only when the working directory has been removed.
      const bool climb = errno == ENOENT || errno == ENOTDIR;
      if (!climb || Parent(existing) == existing) return Failure("cannot examine ", existing);
      missing.push_back(existing);
    }
    FLINT_RETURN_IF_ERROR(CheckDirectory(existing));
    for (; !missing.empty(); missing.pop_back()) {
      FLINT_RETURN_IF_ERROR(CreateDirectory(missing.back()));
    }
    return Status();
  }

  Status SyncDirectory(const std::string& path) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    const Descriptor directory(OpenDescriptor(PlaceOf(path), O_RDONLY | O_DIRECTORY));
    if (directory.get() < 0) return Failure("cannot open ", path);
    return SyncOpen(directory.get(), path);
  }

  Status Rename(const std::string& from, const std::string& to) override {
    FLINT_RETURN_IF_ERROR(CheckPath(from));
    FLINT_RETURN_IF_ERROR(CheckPath(to));
    const FilePlace source = PlaceOf(from);
    const FilePlace target = PlaceOf(to);
    if (renameat(source.directory, source.name.c_str(), target.directory, target.name.c_str()) !=
        0) {
      return Failure("cannot rename ", from + " to " + to);
    }
    return Status();
  }

  Status Link(const std::string& from, const std::string& to) override {
    FLINT_RETURN_IF_ERROR(CheckPath(from));
    FLINT_RETURN_IF_ERROR(CheckPath(to));
    const FilePlace source = PlaceOf(from);
    const FilePlace target = PlaceOf(to);
    if (linkat(source.directory, source.name.c_str(), target.directory, target.name.c_str(), 0) !=
        0) {
      return Failure("cannot link ", from + " to " + to);
    }
    return Status();
  }

  Status Remove(const std::string& path) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    const FilePlace place = PlaceOf(path);
    if (unlinkat(place.directory, place.name.c_str(), 0) != 0) {
      return Failure("cannot remove ", path);
    }
    return Status();
  }

  Status LockDirectory(const std::string& path, std::unique_ptr<DirectoryLock>* lock) override;

  Status Mode(const std::string& path, uint32_t* mode) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    struct stat info;
    if (Examine(path, &info) != 0) return Failure("cannot examine ", path);
    *mode = info.st_mode & 07777;
    return Status();
  }

  Status FileSize(const std::string& path, uint64_t* bytes) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    struct stat info;
    if (Examine(path, &info) != 0) return Failure("cannot examine ", path);
    if (!S_ISREG(info.st_mode)) return Status(Code::kIo, path + " is not a regular file");
    *bytes = static_cast<uint64_t>(info.st_size);
    return Status();
  }

  // Where a sandbox does not know the newer call, the device does.
  Status Random(void* buffer, size_t size) override {
    char* at = static_cast<char*>(buffer);
    while (size > 0) {
      const ssize_t n = RetryInterrupted([&] { return getrandom(at, size, 0); });
      if (n < 0) return ReadRandomDevice(at, size, errno);
      at += n;
      size -= static_cast<size_t>(n);
    }
    return Status();
  }

  std::unique_ptr<Env> WithAccess(const Access& access) override {
    return std::make_unique<PosixEnv>(access);
  }

 protected:
  virtual FilePlace PlaceOf(const std::string& path) const { return {AT_FDCWD, path, path}; }

  static Status SyncOpen(int fd, const std::string& path) {
    if (RetryInterrupted([&] { return fsync(fd); }) != 0) return Failure("cannot sync ", path);
    return Status();
  }

 private:
  int Examine(const std::string& path, struct stat* info) const {
    const FilePlace place = PlaceOf(path);
    return fstatat(place.directory, place.name.c_str(), info, 0);
  }

  Status CheckDirectory(const std::string& path) const {
    struct stat info;
    if (Examine(path, &info) != 0) return Failure("cannot examine ", path);
    if (S_ISDIR(info.st_mode)) return Status();
    return Status::FromErrno(Code::kInvalidArgument, ENOTDIR, "cannot open " + path);
  }

  // The parent is synced, so that what is later synced inside is not lost with the directory.
  Status CreateDirectory(const std::string& path) {
    const FilePlace place = PlaceOf(path);
    const uint32_t mode = access_.directory_mode();
    if (mkdirat(place.directory, place.name.c_str(), mode) != 0) {
      if (errno != EEXIST) return Failure("cannot create ", path);
      return CheckDirectory(path);  // someone else was faster
    }
    struct stat info;
    if (Examine(path, &info) != 0) return Failure("cannot examine ", path);
    // By name: a umask may have left not even its owner the right to open it.
    if (access_.group != Access::kOwnGroup && info.st_gid != static_cast<gid_t>(access_.group) &&
        fchownat(place.directory, place.name.c_str(), static_cast<uid_t>(-1),
                 static_cast<gid_t>(access_.group), AT_SYMLINK_NOFOLLOW) != 0) {
      return Failure("cannot give to group " + std::to_string(access_.group) + ": ", path);
    }
    if ((info.st_mode & 0777) != mode &&
        fchmodat(place.directory, place.name.c_str(), mode, 0) != 0) {
      return Failure("cannot set the mode of ", path);
    }
    return SyncDirectory(Parent(path));
  }

  static Status ReadRandomDevice(char* at, size_t size, int error) {
    constexpr char kDevice[] = "/dev/urandom";
    const Descriptor device(OpenDescriptor({AT_FDCWD, kDevice, kDevice}, O_RDONLY));
    while (size > 0) {
      const ssize_t n = RetryInterrupted([&] { return read(device.get(), at, size); });
      if (n <= 0) {
        return Status::FromErrno(Code::kUnsupported, error,
                                 "cannot get random bytes: neither the system call getrandom nor "
                                 "/dev/urandom works; a sandbox around this process has to allow "
                                 "one of them");
      }
      at += n;
      size -= static_cast<size_t>(n);
    }
    return Status();
  }

  const Access access_;
};

// What begins with the directory's path is reached through its descriptor.
class OpenDirectoryEnv final : public PosixEnv {
 public:
  OpenDirectoryEnv(const Access& access, Descriptor directory, std::string path)
      : PosixEnv(access), directory_(std::move(directory)), path_(std::move(path)) {}

  Status SyncDirectory(const std::string& path) override {
    if (path != path_) return PosixEnv::SyncDirectory(path);
    FLINT_RETURN_IF_ERROR(directory_.CheckOwn(path));
    return SyncOpen(directory_.get(), path);
  }

 protected:
  FilePlace PlaceOf(const std::string& path) const override {
    if (path == path_) return {Own(), ".", path};
    if (path.size() <= path_.size() || path[path_.size()] != '/' || !path.starts_with(path_)) {
      return PosixEnv::PlaceOf(path);
    }
    const size_t name = path.find_first_not_of('/', path_.size());
    return {Own(), name == std::string::npos ? "." : path.substr(name), path};
  }

 private:
  // A number that no descriptor has, where the directory's leads elsewhere by now.
  int Own() const { return directory_.IsOwn() ? directory_.get() : -1; }

  const Descriptor directory_;
  const std::string path_;
};

Status PosixEnv::LockDirectory(const std::string& path, std::unique_ptr<DirectoryLock>* lock) {
  FLINT_RETURN_IF_ERROR(CheckPath(path));
  const auto make_directory = [&](Descriptor directory) {
    return std::make_shared<OpenDirectoryEnv>(access_, std::move(directory), path);
  };
  return LockPosixDirectory(PlaceOf(path), access_, make_directory, lock);
}

}  // namespace

Env* Env::Posix() {
  // Never destroyed: threads may still write while the process exits.
  static PosixEnv* const env = new PosixEnv(Access());
  return env;
}

}  // namespace flint
