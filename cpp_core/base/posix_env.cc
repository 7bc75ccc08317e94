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

Status Failure(const char* what, const std::string& path) {
  return Status::FromErrno(errno, what + path);
}

class PosixEnv final : public Env {
 public:
  Status OpenFile(const std::string& path, OpenMode mode, std::unique_ptr<File>* file) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    int flags = O_RDONLY;
    if (mode == OpenMode::kReadWrite) flags = O_RDWR;
    if (mode == OpenMode::kCreate) flags = O_RDWR | O_CREAT | O_EXCL;
    Descriptor descriptor;
    struct stat info;
    FLINT_RETURN_IF_ERROR(OpenRegular(path, flags, &descriptor, &info));
    *file = MakePosixFile(std::move(descriptor), path);
    return Status();
  }

  Status OpenStore(const std::string& path, size_t size, StoreMode mode,
                   std::unique_ptr<StoreFile>* store) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    return OpenPosixStore(path, size, mode, store);
  }

  Status Exists(const std::string& path, bool* exists) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    struct stat info;
    *exists = stat(path.c_str(), &info) == 0;
    if (!*exists && errno != ENOENT && errno != ENOTDIR) return Failure("cannot examine ", path);
    return Status();
  }

  Status List(const std::string& directory, std::vector<std::string>* names) override {
    FLINT_RETURN_IF_ERROR(CheckPath(directory));
    std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(directory.c_str()), closedir);
    if (stream == nullptr) return Failure("cannot open ", directory);
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
    for (struct stat info; stat(existing.c_str(), &info) != 0; existing = Parent(existing)) {
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
    const Descriptor directory(OpenDescriptor(path, O_RDONLY | O_DIRECTORY));
    if (directory.get() < 0) return Failure("cannot open ", path);
    if (RetryInterrupted([&] { return fsync(directory.get()); }) != 0) {
      return Failure("cannot sync ", path);
    }
    return Status();
  }

  Status Rename(const std::string& from, const std::string& to) override {
    FLINT_RETURN_IF_ERROR(CheckPath(from));
    FLINT_RETURN_IF_ERROR(CheckPath(to));
    if (rename(from.c_str(), to.c_str()) != 0) return Failure("cannot rename ", from + " to " + to);
    return Status();
  }

  Status Link(const std::string& from, const std::string& to) override {
    FLINT_RETURN_IF_ERROR(CheckPath(from));
    FLINT_RETURN_IF_ERROR(CheckPath(to));
    if (link(from.c_str(), to.c_str()) != 0) return Failure("cannot link ", from + " to " + to);
    return Status();
  }

  Status Remove(const std::string& path) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    if (unlink(path.c_str()) != 0) return Failure("cannot remove ", path);
    return Status();
  }

  Status LockDirectory(const std::string& path, std::unique_ptr<DirectoryLock>* lock) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    return LockPosixDirectory(path, lock);
  }

  Status Mode(const std::string& path, uint32_t* mode) override {
    FLINT_RETURN_IF_ERROR(CheckPath(path));
    struct stat info;
    if (stat(path.c_str(), &info) != 0) return Failure("cannot examine ", path);
    *mode = info.st_mode & 07777;
    return Status();
  }

  Status Random(void* buffer, size_t size) override {
    char* at = static_cast<char*>(buffer);
    while (size > 0) {
      const ssize_t n = RetryInterrupted([&] { return getrandom(at, size, 0); });
      if (n < 0) return Status::FromErrno(errno, "cannot get random bytes");
      at += n;
      size -= static_cast<size_t>(n);
    }
    return Status();
  }

 private:
  static Status CheckDirectory(const std::string& path) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0) return Failure("cannot examine ", path);
    if (S_ISDIR(info.st_mode)) return Status();
    return Status(Code::kInvalidArgument, path + " is not a directory");
  }

  // The parent is synced, so that what is later synced inside is not lost with the directory.
  Status CreateDirectory(const std::string& path) {
    if (mkdir(path.c_str(), 0700) != 0) {
      if (errno != EEXIST) return Failure("cannot create ", path);
      return CheckDirectory(path);  // someone else was faster
    }
    return SyncDirectory(Parent(path));
  }
};

}  // namespace

Env* Env::Posix() {
  // Never destroyed: threads may still write while the process exits.
  static PosixEnv* const env = new PosixEnv;
  return env;
}

}  // namespace flint
