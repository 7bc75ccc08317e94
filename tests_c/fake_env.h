#pragma once

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"

namespace flint {

enum class Op : uint8_t {
  kOpen,
  kCreate,
  kRead,
  kWrite,
  kReserve,
  kTruncate,
  kSize,
  kSyncData,
  kSync,
  kOpenStore,
  kStore,
  kStoreWord,
  kExists,
  kList,
  kCreateDirectories,
  kSyncDirectory,
  kRename,
  kLink,
  kRemove,
  kLockDirectory,
  kMode,
  kRandom,
};

using OpFilter = std::function<bool(Op op, const std::string& path)>;

// A filter that takes some operations on any path.
OpFilter OnlyOps(std::initializer_list<Op> ops);

// Makes a call fail without doing anything, but: a Write first writes `written_bytes`, and what a
// SyncData or Sync should have written is never written by a later one either (as on Linux, which
// marks the pages clean all the same).
struct Fault {
  uint64_t nth = 1;            // which call from InjectFault on, among those that `matches` takes
  bool forever = false;        // all later matching calls fail as well
  int error = EIO;             // an errno
  size_t written_bytes = 0;    // of a Write that fails
  OpFilter matches = nullptr;  // null takes every call
};

// Which of the changes that nobody synced a power loss leaves on the disk.
enum class Loss : uint8_t {
  kDropAll,
  kKeepAll,  // but for what a failed sync gave up
  kRandom,   // each sector, each file size, and a first part of the directory changes, by seed
  // The same, but any of the directory changes, each by itself: a file system that keeps no order.
  kUnordered,
  // As kRandom, but what did not reach the platter is garbage behind the length a file had there:
  // blocks that had been given to it and never written.
  kGarbage,
};

// A disk in memory that knows what is on the platter and what is only in the page cache, counts
// calls, makes them fail, and yields images of itself as a crash would leave it. Thread-safe, as
// Env is. It must outlive the files, stores and locks it has given out.
//
// File content reaches the platter by SyncData and Sync in sectors of 512 bytes; names by
// SyncDirectory of the directory they are in. CreateDirectories syncs what it creates, as the real
// one does. Stores are never synced. Directories cannot be renamed.
class FakeEnv final : public Env {
 public:
  explicit FakeEnv(uint64_t random_seed = 1);
  ~FakeEnv() override;

  // ---- What a crash leaves: new disks; this one goes on undisturbed ----

  // The process is killed: the page cache survives, locks are gone.
  std::unique_ptr<FakeEnv> ProcessDeath() const;
  std::unique_ptr<FakeEnv> PowerLoss(Loss loss, uint64_t seed = 0) const;

  // ---- What happens while the process runs ----

  // The kernel writes a random half of the unsynced sectors of its own accord.
  void Writeback(uint64_t seed);
  // Growing files beyond this many bytes together fails with ENOSPC. A file that is removed while
  // open no longer counts.
  void SetCapacity(uint64_t bytes);
  using Hook = std::function<void(Op op, const std::string& path)>;
  // Called before every operation, without locks held, so it may take images. Stores are announced
  // too. Another thread may still be in the hook that was there before.
  void SetHook(Hook hook);

  // Random numbers begin anew.
  void SeedRandom(uint64_t seed);

  // Stores do not reach their file from now on.
  void FailStores() { stores_fail_.store(true); }

  void InjectFault(Fault fault);
  void ClearFault();
  uint64_t faults_hit() const;  // since InjectFault
  uint64_t calls() const;       // of everything that can fail

  // ---- Files as bytes, past faults, hooks and counts ----

  std::string Contents(const std::string& path) const;  // "" for a missing file
  // An empty one; a limiter removes none.
  void RemoveDirectory(const std::string& path);
  // Creates the file and its directories as needed. The bytes and names are on the platter.
  void SetContents(const std::string& path, std::string_view bytes);
  void SetMode(const std::string& path, uint32_t mode);
  std::vector<std::string> Files() const;  // paths, sorted; no directories

  // ---- Env ----

  Status OpenFile(const std::string& path, OpenMode mode, std::unique_ptr<File>* file) override;
  Status OpenStore(const std::string& path, size_t size, StoreMode mode,
                   std::unique_ptr<StoreFile>* store) override;
  Status Exists(const std::string& path, bool* exists) override;
  Status List(const std::string& directory, std::vector<std::string>* names) override;
  Status CreateDirectories(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Link(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override;
  Status LockDirectory(const std::string& path, std::unique_ptr<DirectoryLock>* lock) override;
  Status Mode(const std::string& path, uint32_t* mode) override;
  Status FileSize(const std::string& path, uint64_t* bytes) override;
  Status Random(void* buffer, size_t size) override;
  std::unique_ptr<Env> WithAccess(const Access&) override { return nullptr; }  // one user alone

 private:
  class FakeFile;
  class FakeStore;
  class FakeLock;
  struct Inode;
  using InodePtr = std::shared_ptr<Inode>;
  using Names = std::map<std::string, InodePtr>;  // by path
  using Copies = std::map<const Inode*, InodePtr>;

  // A change of names: `erased` goes, then `set` becomes `inode`; either may be empty.
  struct NameChange {
    std::string directory;  // whose sync makes it durable
    std::string erased;
    std::string set;
    InodePtr inode;
  };

  // An operation under way: the disk is locked, `error` is the injected errno or 0.
  struct Call {
    std::unique_lock<std::mutex> lock;
    int error = 0;
    size_t written_bytes = 0;
  };
  Call Enter(Op op, const std::string& path);
  void Announce(Op op, const std::string& path);
  // Of operations that cannot fail.
  std::unique_lock<std::mutex> EnterStore(Op op, const std::string& path);

  // The rest expects the lock to be held.
  Inode* Find(const std::string& path) const;
  int Create(const std::string& path, InodePtr inode);  // an errno or 0
  void MakeDirectory(const std::string& path);
  void Change(NameChange change);
  void SyncNames(const std::string& directory);
  static void Apply(const NameChange& change, Names* names);
  bool HasRoom(uint64_t old_size, uint64_t new_size) const;
  uint64_t UsedBytes() const;

  mutable std::mutex mutex_;
  std::atomic<bool> stores_fail_{false};
  Names names_;
  Names durable_names_;
  std::vector<NameChange> pending_;  // made in names_, not yet in durable_names_
  std::set<std::string> locked_;
  uint64_t capacity_bytes_ = UINT64_MAX;
  std::mt19937_64 random_;
  std::shared_ptr<const Hook> hook_;
  Fault fault_;
  bool fault_armed_ = false;
  uint64_t fault_candidates_ = 0;
  uint64_t faults_hit_ = 0;
  uint64_t calls_ = 0;
};

}  // namespace flint
