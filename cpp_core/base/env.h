#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace flint {

// The only door to files. Everything the engine does to a disk passes through these classes, so a
// test can record it, fake it, and make any single call fail. Paths are bytes, as the system
// takes them. Every error names its path. Methods may be called from several threads unless a
// class says otherwise.

// An open file, read and written at explicit offsets.
class File {
 public:
  virtual ~File() = default;
  // Reads up to `size` bytes; `*got` is less than `size` only at the end of the file.
  virtual Status Read(uint64_t offset, void* buffer, size_t size, size_t* got) = 0;
  // Writes all `size` bytes or fails; a failed call may have written some of them.
  virtual Status Write(uint64_t offset, const void* data, size_t size) = 0;
  // Makes the file at least `size` bytes long with its blocks reserved and reading as zero. With
  // `write_zeros` they are written as well, so that a later data sync has no metadata to write.
  // Never shrinks; a failed call leaves the size as it was.
  virtual Status Reserve(uint64_t size, bool write_zeros) = 0;
  virtual Status Truncate(uint64_t size) = 0;
  virtual Status Size(uint64_t* size) = 0;
  // From now on the file is only appended to, by one thread at a time, and nothing is read from it:
  // each Write begins where the one before ended, the first at `end`, and what follows is zeros.
  // Lets a file go past the page cache, which makes a sync after each short write faster; what
  // was written before and what follows in the same block is then written again as it is.
  virtual void ExpectAppends(uint64_t /*end*/) {}
  virtual Status SyncData() = 0;  // fdatasync
  virtual Status Sync() = 0;      // fsync
};

// A small file of fixed size written in place by this process alone and never synced: what is
// stored in it outlives the process, not the machine. Stores must not overlap in time.
class StoreFile {
 public:
  virtual ~StoreFile() = default;
  virtual void Store(uint64_t offset, const void* data, size_t size) = 0;
  // Stores eight bytes at an aligned offset in one step, after everything stored before it.
  virtual void StoreWord(uint64_t offset, uint64_t word) = 0;
  virtual const char* data() const = 0;
  virtual size_t size() const = 0;
  // Where a store is nothing but copies, the bytes to copy to: the file's, and those that data()
  // reads. Otherwise null.
  struct Memory {
    char* file = nullptr;
    char* read = nullptr;
  };
  virtual Memory memory() = 0;
  // Whether a store did not reach the file, now or earlier: it was cut short, or its disk failed.
  bool failed() const { return failed_->load(std::memory_order_relaxed); }

 protected:
  // Where that is noted.
  explicit StoreFile(const std::atomic<bool>* failed) : failed_(failed) {}

 private:
  const std::atomic<bool>* const failed_;
};

enum class StoreMode {
  kMapped,   // shared memory where that is safe
  kWritten,  // system calls: slower, and nothing is mapped and no signal handled
};

class Env;

// An exclusive lock on a data directory, held until destroyed. A forked child does not share it: in
// a child its destructor does nothing.
class DirectoryLock {
 public:
  virtual ~DirectoryLock() = default;
  // The locked directory, kept open: paths that begin with its own lead into it whatever stands at
  // that path by now. It outlives the lock, and syncing the directory needs no new descriptor.
  virtual std::shared_ptr<Env> directory() = 0;
};

// Who may read and write what is made.
struct Access {
  static constexpr int64_t kOwnGroup = -1;
  uint32_t file_mode = 0600;
  int64_t group = kOwnGroup;  // its id

  // Whoever may read a file may also enter its directory.
  uint32_t directory_mode() const { return file_mode | (file_mode & 0444) >> 2; }
};

enum class OpenMode {
  kRead,       // must exist
  kReadWrite,  // must exist
  kCreate,     // must not exist
};

class Env {
 public:
  virtual ~Env() = default;
  // Opens regular files only: a pipe, a device or a directory is an error.
  virtual Status OpenFile(const std::string& path, OpenMode mode, std::unique_ptr<File>* file) = 0;
  // Opens (creating or resizing) a store file of exactly `size` bytes. What it held is still
  // there; what was added reads as zero. All of its blocks are allocated.
  virtual Status OpenStore(const std::string& path, size_t size, StoreMode mode,
                           std::unique_ptr<StoreFile>* store) = 0;
  virtual Status Exists(const std::string& path, bool* exists) = 0;
  // Names (not paths) in a directory, sorted, without "." and "..".
  virtual Status List(const std::string& directory, std::vector<std::string>* names) = 0;
  // Creates a directory and its parents; it is fine if it exists. What it creates is synced into
  // its parent. Fails with kInvalidArgument and ENOTDIR when something on the way is not a
  // directory.
  virtual Status CreateDirectories(const std::string& path) = 0;
  virtual Status SyncDirectory(const std::string& path) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  virtual Status Link(const std::string& from, const std::string& to) = 0;
  virtual Status Remove(const std::string& path) = 0;
  // flock on the directory and on `<path>/flint.lock`, both then checked to be still the ones on
  // disk. The file then tells who holds the lock and since when. kLocked, with what the file tells,
  // when held elsewhere; kPermission when the directory is not to be used; kUnsupported when the
  // file system, or a sandbox around the process, does not let it lock: three different errors.
  virtual Status LockDirectory(const std::string& path, std::unique_ptr<DirectoryLock>* lock) = 0;
  // Permission bits of a path, as stat's st_mode & 07777.
  virtual Status Mode(const std::string& path, uint32_t* mode) = 0;
  // Of a regular file, without opening it.
  virtual Status FileSize(const std::string& path, uint64_t* bytes) = 0;
  virtual Status Random(void* buffer, size_t size) = 0;
  // The same, but what it makes is made for others too; Posix() alone makes it for its user (0600,
  // and 0700 for directories). Whatever the umask.
  virtual std::unique_ptr<Env> WithAccess(const Access& access) = 0;

  static Env* Posix();
};

// LockDirectory, tried again for as long as another holds the lock and `timeout_ns` is not over;
// 0: once.
Status AwaitLock(Env* env, const std::string& path, uint64_t timeout_ns,
                 std::unique_ptr<DirectoryLock>* lock);

}  // namespace flint
