#include "base/env.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/coding.h"
#include "fake_env.h"
#include "temporary_directory.h"

namespace flint {
namespace {

// What this program's own versions of some system calls do first: an errno makes the call fail,
// 0 lets the system answer.
using SystemCallHook = std::function<int(int fd)>;
SystemCallHook flock_hook;
SystemCallHook fallocate_hook;
SystemCallHook pwrite_hook;
SystemCallHook sync_hook;  // fsync and fdatasync
SystemCallHook mmap_hook;
SystemCallHook random_hook;

int64_t CallSystem(const SystemCallHook& hook, int fd, const std::function<int64_t()>& call) {
  const int error = hook ? hook(fd) : 0;
  if (error == 0) return call();
  errno = error;
  return -1;
}

}  // namespace
}  // namespace flint

extern "C" {

int flock(int fd, int operation) noexcept {
  return static_cast<int>(
      flint::CallSystem(flint::flock_hook, fd, [&] { return syscall(SYS_flock, fd, operation); }));
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
  return static_cast<int>(flint::CallSystem(
      flint::fallocate_hook, fd, [&] { return syscall(SYS_fallocate, fd, mode, offset, size); }));
}
void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  const flint::SystemCallHook& hook = fd < 0 ? nullptr : flint::mmap_hook;
  return reinterpret_cast<void*>(flint::CallSystem(
      hook, fd, [&] { return syscall(SYS_mmap, at, size, protection, flags, fd, offset); }));
}
ssize_t getrandom(void* buffer, size_t size, unsigned flags) {
  return flint::CallSystem(flint::random_hook, -1,
                           [&] { return syscall(SYS_getrandom, buffer, size, flags); });
}
ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  return flint::CallSystem(flint::pwrite_hook, fd,
                           [&] { return syscall(SYS_pwrite64, fd, data, size, offset); });
}
int fsync(int fd) {
  return static_cast<int>(
      flint::CallSystem(flint::sync_hook, fd, [&] { return syscall(SYS_fsync, fd); }));
}
int fdatasync(int fd) {
  return static_cast<int>(
      flint::CallSystem(flint::sync_hook, fd, [&] { return syscall(SYS_fdatasync, fd); }));
}

}  // extern "C"

namespace flint {
namespace {

using Names = std::vector<std::string>;

// ---- What every environment does: the real one and the fake must not be told apart --------------

class EnvTest : public testing::TestWithParam<bool> {
 protected:
  EnvTest() : env_(GetParam() ? &fake_env_ : Env::Posix()) {
    EXPECT_TRUE(env_->CreateDirectories(directory_.path()).ok());
  }

  std::string Path(const std::string& name) const { return directory_ / name; }

  std::unique_ptr<File> Create(const std::string& name, const std::string& content = "") {
    std::unique_ptr<File> file;
    const Status status = env_->OpenFile(Path(name), OpenMode::kCreate, &file);
    EXPECT_TRUE(status.ok()) << status.message();
    if (status.ok()) {
      EXPECT_TRUE(file->Write(0, content.data(), content.size()).ok());
    }
    return file;
  }

  std::string ReadAll(const std::string& name) {
    std::unique_ptr<File> file;
    const Status status = env_->OpenFile(Path(name), OpenMode::kRead, &file);
    if (!status.ok()) return status.message();
    uint64_t size = 0;
    EXPECT_TRUE(file->Size(&size).ok());
    std::string content(size + 1, '?');
    size_t got = 0;
    EXPECT_TRUE(file->Read(0, content.data(), content.size(), &got).ok());
    EXPECT_EQ(got, size);
    content.resize(got);
    return content;
  }

  bool Exists(const std::string& name) {
    bool exists = false;
    EXPECT_TRUE(env_->Exists(Path(name), &exists).ok());
    return exists;
  }

  Names List(const std::string& name = ".") {
    Names names;
    const Status status = env_->List(name == "." ? directory_.path() : Path(name), &names);
    EXPECT_TRUE(status.ok()) << status.message();
    return names;
  }

  // Expects the code and "<what><path>: <reason>".
  void ExpectError(const Status& status, Code code, const std::string& what,
                   const std::string& name, const std::string& reason) {
    EXPECT_EQ(status.code(), code);
    EXPECT_EQ(status.message(), what + Path(name) + ": " + reason);
  }

  const TemporaryDirectory directory_;
  FakeEnv fake_env_;
  Env* const env_;
};

INSTANTIATE_TEST_SUITE_P(Every, EnvTest, testing::Values(false, true),
                         [](const auto& parameter) { return parameter.param ? "Fake" : "Posix"; });

constexpr char kMissing[] = "No such file or directory";

TEST_P(EnvTest, ReadsBackWhatWasWrittenAnywhere) {
  const auto file = Create("file", "hello");
  ASSERT_TRUE(file->Write(8, "world", 5).ok());
  ASSERT_TRUE(file->Write(1, "E", 1).ok());
  ASSERT_TRUE(file->Write(100, "", 0).ok());
  const std::string expected("hEllo\0\0\0world", 13);
  EXPECT_EQ(ReadAll("file"), expected);
  char bytes[4];
  size_t got = 99;
  ASSERT_TRUE(file->Read(11, bytes, sizeof(bytes), &got).ok());
  EXPECT_EQ(std::string(bytes, got), "ld");
  ASSERT_TRUE(file->Read(13, bytes, sizeof(bytes), &got).ok());
  EXPECT_EQ(got, 0u);
  ASSERT_TRUE(file->Read(1'000'000, bytes, sizeof(bytes), &got).ok());
  EXPECT_EQ(got, 0u);
  EXPECT_TRUE(file->SyncData().ok());
  EXPECT_TRUE(file->Sync().ok());
}

TEST_P(EnvTest, OpenModes) {
  std::unique_ptr<File> file;
  for (const OpenMode mode : {OpenMode::kRead, OpenMode::kReadWrite}) {
    ExpectError(env_->OpenFile(Path("file"), mode, &file), Code::kIo, "cannot open ", "file",
                kMissing);
  }
  Create("file", "abc");
  ExpectError(env_->OpenFile(Path("file"), OpenMode::kCreate, &file), Code::kIo, "cannot open ",
              "file", "File exists");
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kReadWrite, &file).ok());
  ASSERT_TRUE(file->Write(3, "d", 1).ok());
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kRead, &file).ok());
  ExpectError(file->Write(0, "x", 1), Code::kIo, "cannot write ", "file", "Bad file descriptor");
  ExpectError(file->Reserve(100, false), Code::kIo, "cannot reserve space for ", "file",
              "Bad file descriptor");
  ExpectError(file->Truncate(1), Code::kIo, "cannot truncate ", "file", "Invalid argument");
  EXPECT_EQ(ReadAll("file"), "abcd");
}

TEST_P(EnvTest, OpensNothingButRegularFiles) {
  ASSERT_TRUE(env_->CreateDirectories(Path("sub")).ok());
  std::unique_ptr<File> file;
  std::unique_ptr<StoreFile> store;
  const Status status = env_->OpenFile(Path("sub"), OpenMode::kRead, &file);
  EXPECT_EQ(status.message(), Path("sub") + " is not a regular file");
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_EQ(env_->OpenStore(Path("sub"), 4096, StoreMode::kMapped, &store).code(), Code::kIo);
  Create("file");
  ExpectError(env_->OpenFile(Path("file/below"), OpenMode::kCreate, &file), Code::kIo,
              "cannot open ", "file/below", "Not a directory");
  ExpectError(env_->OpenFile(Path("missing/below"), OpenMode::kCreate, &file), Code::kIo,
              "cannot open ", "missing/below", kMissing);
}

TEST_P(EnvTest, ReserveGrowsWithZerosAndNeverShrinks) {
  for (const bool write_zeros : {false, true}) {
    const std::string name = write_zeros ? "written" : "reserved";
    const auto file = Create(name, "abc");
    constexpr uint64_t kSize = (2 << 20) + 5;
    ASSERT_TRUE(file->Reserve(kSize, write_zeros).ok());
    EXPECT_TRUE(ReadAll(name) == "abc" + std::string(kSize - 3, '\0'));
    ASSERT_TRUE(file->Write(kSize - 1, "z", 1).ok());
    ASSERT_TRUE(file->Reserve(10, write_zeros).ok());
    EXPECT_TRUE(ReadAll(name) == "abc" + std::string(kSize - 4, '\0') + "z");
  }
}

// Short and long ones, within a block, over the end of one and to the end of the file, each of them
// read back at once through the cache.
TEST_P(EnvTest, ExpectedAppendsAreReadAsTheyWereWritten) {
  constexpr size_t kSize = 200'000;
  constexpr size_t kFirst = 5'000;
  std::string expected(kSize, '\0');
  expected.replace(0, kFirst, kFirst, 'h');
  const auto file = Create("file", expected);
  ASSERT_TRUE(file->Sync().ok());
  file->ExpectAppends(kFirst);
  size_t at = kFirst;
  char letter = 'a';
  for (const size_t size : {size_t{1}, size_t{3'190}, size_t{1}, size_t{40}, size_t{4'056},
                            size_t{4'096}, size_t{12'000}, size_t{16'384}, size_t{70'000},
                            size_t{184}, size_t{8'192}, size_t{72'000}, kSize}) {
    const std::string data(std::min(size, kSize - at), letter++);
    ASSERT_TRUE(file->Write(at, data.data(), data.size()).ok());
    expected.replace(at, data.size(), data);
    at += data.size();
    ASSERT_TRUE(ReadAll("file") == expected) << at;
    ASSERT_TRUE(file->SyncData().ok());
  }
  ASSERT_EQ(at, kSize);
  ASSERT_TRUE(file->Truncate(100'001).ok());
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_TRUE(ReadAll("file") == expected.substr(0, 100'001));
}

TEST_P(EnvTest, TruncateCutsAndExtends) {
  const auto file = Create("file", "abcdef");
  ASSERT_TRUE(file->Truncate(2).ok());
  EXPECT_EQ(ReadAll("file"), "ab");
  ASSERT_TRUE(file->Truncate(4).ok());
  EXPECT_EQ(ReadAll("file"), std::string("ab\0\0", 4));
}

TEST_P(EnvTest, NamesComeAndGo) {
  Create("b", "b");
  Create("a", "a");
  ASSERT_TRUE(env_->Link(Path("a"), Path("c")).ok());
  EXPECT_EQ(List(), (Names{"a", "b", "c"}));
  ASSERT_TRUE(env_->Rename(Path("a"), Path("b")).ok());
  EXPECT_EQ(List(), (Names{"b", "c"}));
  EXPECT_EQ(ReadAll("b"), "a");
  ASSERT_TRUE(env_->Remove(Path("b")).ok());
  EXPECT_EQ(List(), Names{"c"});
  EXPECT_EQ(ReadAll("c"), "a");
  EXPECT_TRUE(Exists("c"));
  EXPECT_FALSE(Exists("b"));
  EXPECT_FALSE(Exists("c/below"));
  EXPECT_TRUE(env_->SyncDirectory(directory_.path()).ok());
}

TEST_P(EnvTest, AnOpenFileSurvivesItsName) {
  const auto file = Create("file", "abc");
  ASSERT_TRUE(env_->Remove(Path("file")).ok());
  ASSERT_TRUE(file->Write(3, "d", 1).ok());
  char bytes[4];
  size_t got = 0;
  ASSERT_TRUE(file->Read(0, bytes, 4, &got).ok());
  EXPECT_EQ(std::string(bytes, got), "abcd");
}

TEST_P(EnvTest, NameErrorsTellThePath) {
  Names names;
  uint32_t mode = 0;
  Create("there");
  ExpectError(env_->Remove(Path("x")), Code::kIo, "cannot remove ", "x", kMissing);
  ExpectError(env_->List(Path("x"), &names), Code::kIo, "cannot open ", "x", kMissing);
  ExpectError(env_->List(Path("there"), &names), Code::kIo, "cannot open ", "there",
              "Not a directory");
  ExpectError(env_->SyncDirectory(Path("x")), Code::kIo, "cannot open ", "x", kMissing);
  ExpectError(env_->SyncDirectory(Path("there")), Code::kIo, "cannot open ", "there",
              "Not a directory");
  ExpectError(env_->Mode(Path("x"), &mode), Code::kIo, "cannot examine ", "x", kMissing);
  uint64_t bytes = 0;
  ExpectError(env_->FileSize(Path("x"), &bytes), Code::kIo, "cannot examine ", "x", kMissing);
  const Status renamed = env_->Rename(Path("x"), Path("y"));
  EXPECT_EQ(renamed.message(), "cannot rename " + Path("x") + " to " + Path("y") + ": " + kMissing);
  EXPECT_EQ(renamed.detail()->system_errno, ENOENT);
  const Status linked = env_->Link(Path("there"), Path("there"));
  EXPECT_EQ(linked.message(),
            "cannot link " + Path("there") + " to " + Path("there") + ": File exists");
  EXPECT_EQ(linked.detail()->system_errno, EEXIST);
}

TEST_P(EnvTest, CreatesDirectoriesWithParentsAndPrivately) {
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(env_->CreateDirectories(Path("one//two/three/")).ok());
  }
  EXPECT_EQ(List("one"), Names{"two"});
  EXPECT_EQ(List("one/two"), Names{"three"});
  Create("one/two/three/file");
  uint32_t mode = 0;
  for (const char* name : {"one", "one/two", "one/two/three"}) {
    ASSERT_TRUE(env_->Mode(Path(name), &mode).ok());
    EXPECT_EQ(mode, 0700u);
  }
  ASSERT_TRUE(env_->Mode(Path("one/two/three/file"), &mode).ok());
  EXPECT_EQ(mode, 0600u);
  EXPECT_TRUE(env_->CreateDirectories("/").ok());
  EXPECT_TRUE(env_->CreateDirectories(".").ok());
}

TEST_P(EnvTest, AFileOnTheWayIsNotADirectory) {
  Create("file");
  for (const char* name : {"file", "file/below", "file/far/below"}) {
    const Status status = env_->CreateDirectories(Path(name));
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_EQ(status.message(), "cannot open " + Path("file") + ": Not a directory");
  }
}

TEST_P(EnvTest, StoreKeepsItsBytesBetweenOpens) {
  std::unique_ptr<StoreFile> store;
  ASSERT_TRUE(env_->OpenStore(Path("store"), 8192, StoreMode::kMapped, &store).ok());
  EXPECT_EQ(store->size(), 8192u);
  EXPECT_TRUE(std::string(store->data(), store->size()) == std::string(8192, '\0'));
  store->Store(3, "abc", 3);
  store->StoreWord(4096, 0x0102030405060708);
  EXPECT_EQ(Decode64(store->data() + 4096), 0x0102030405060708u);
  const std::string content(store->data(), store->size());
  EXPECT_TRUE(ReadAll("store") == content);
  store.reset();
  ASSERT_TRUE(env_->OpenStore(Path("store"), 8192, StoreMode::kMapped, &store).ok());
  EXPECT_TRUE(std::string(store->data(), store->size()) == content);
}

TEST_P(EnvTest, StoreTakesTheSizeItIsGiven) {
  Create("store", std::string(100, 'x'));
  std::unique_ptr<StoreFile> store;
  ASSERT_TRUE(env_->OpenStore(Path("store"), 8192, StoreMode::kMapped, &store).ok());
  EXPECT_TRUE(ReadAll("store") == std::string(100, 'x') + std::string(8092, '\0'));
  store.reset();
  ASSERT_TRUE(env_->OpenStore(Path("store"), 4096, StoreMode::kMapped, &store).ok());
  EXPECT_TRUE(ReadAll("store") == std::string(100, 'x') + std::string(3996, '\0'));
  EXPECT_EQ(store->size(), 4096u);
}

TEST_P(EnvTest, ADirectoryIsLockedOnce) {
  std::unique_ptr<DirectoryLock> lock;
  std::unique_ptr<DirectoryLock> second;
  ASSERT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  EXPECT_EQ(List(), Names{"flint.lock"});
  const Status status = env_->LockDirectory(directory_.path(), &second);
  EXPECT_EQ(status.code(), Code::kLocked);
  const std::string message =
      "data directory is already locked by another limiter: " + directory_.path();
  EXPECT_EQ(status.message().substr(0, message.size()), message);
  EXPECT_EQ(second, nullptr);
  lock.reset();
  EXPECT_TRUE(env_->LockDirectory(directory_.path(), &second).ok());
}

TEST_P(EnvTest, LockErrors) {
  std::unique_ptr<DirectoryLock> lock;
  ExpectError(env_->LockDirectory(Path("x"), &lock), Code::kIo, "cannot open ", "x", kMissing);
  Create("file");
  ExpectError(env_->LockDirectory(Path("file"), &lock), Code::kIo, "cannot open ", "file",
              "Not a directory");
}

TEST_P(EnvTest, RandomBytesDiffer) {
  std::string first(1000, '\0');
  std::string second(1000, '\0');
  ASSERT_TRUE(env_->Random(first.data(), first.size()).ok());
  ASSERT_TRUE(env_->Random(second.data(), second.size()).ok());
  EXPECT_NE(first, second);
  EXPECT_NE(first.substr(900), std::string(100, '\0'));
}

// ---- What only the real one does ---------------------------------------------------------------

class PosixEnvTest : public testing::Test {
 protected:
  ~PosixEnvTest() override {
    for (SystemCallHook* hook :
         {&flock_hook, &fallocate_hook, &pwrite_hook, &sync_hook, &mmap_hook, &random_hook}) {
      *hook = nullptr;
    }
  }

  std::string Path(const std::string& name) const { return directory_ / name; }

  bool PassesTheCache() const {
    const int fd = open(Path("probe").c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
  }

  // Runs in a forked child; true when the child finds that it holds.
  static bool HoldsInChild(const std::function<bool()>& check) {
    const pid_t child = fork();
    if (child == 0) _exit(check() ? 0 : 1);
    int state = 0;
    return waitpid(child, &state, 0) == child && WIFEXITED(state) && WEXITSTATUS(state) == 0;
  }

  const TemporaryDirectory directory_;
  Env* const env_ = Env::Posix();
};

// For a while this process has no more rights than anyone.
class Unprivileged {
 public:
  Unprivileged() {
    if (user_ == 0 && seteuid(65534) != 0) throw std::runtime_error("cannot give up rights");
  }
  ~Unprivileged() {
    if (seteuid(user_) != 0) std::abort();
  }

 private:
  const uid_t user_ = geteuid();
};

TEST_F(PosixEnvTest, PathsThatNoSystemTakesAreRefused) {
  const std::string with_zero("/tmp/a\0b", 8);
  std::unique_ptr<File> file;
  std::unique_ptr<StoreFile> store;
  std::unique_ptr<DirectoryLock> lock;
  bool exists = false;
  uint32_t mode = 0;
  Names names;
  const std::string there = directory_.path();
  uint64_t bytes = 0;
  const Status refusals[] = {
      env_->OpenFile(with_zero, OpenMode::kCreate, &file),
      env_->OpenStore(with_zero, 4096, StoreMode::kMapped, &store),
      env_->Exists(with_zero, &exists),
      env_->List(with_zero, &names),
      env_->CreateDirectories(with_zero),
      env_->SyncDirectory(with_zero),
      env_->Rename(with_zero, there),
      env_->Rename(there, with_zero),
      env_->Link(with_zero, there),
      env_->Link(there, with_zero),
      env_->Remove(with_zero),
      env_->LockDirectory(with_zero, &lock),
      env_->Mode(with_zero, &mode),
      env_->FileSize(with_zero, &bytes),
  };
  for (const Status& status : refusals) {
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_EQ(status.message(), "a path contains a zero byte after \"/tmp/a\"");
  }
  EXPECT_EQ(env_->CreateDirectories("").message(), "a path is empty");
}

TEST_F(PosixEnvTest, MissingPermissionIsAnErrorOfItsOwn) {
  const Unprivileged unprivileged;
  const TemporaryDirectory own;
  std::unique_ptr<File> file;
  ASSERT_TRUE(env_->OpenFile(own / "file", OpenMode::kCreate, &file).ok());
  ASSERT_EQ(chmod((own / "file").c_str(), 0), 0);
  ASSERT_EQ(chmod(own.path().c_str(), 0500), 0);
  std::unique_ptr<StoreFile> store;
  std::unique_ptr<DirectoryLock> lock;
  const Status refusals[] = {
      env_->OpenFile(own / "file", OpenMode::kRead, &file),
      env_->OpenFile(own / "new", OpenMode::kCreate, &file),
      env_->OpenStore(own / "store", 4096, StoreMode::kMapped, &store),
      env_->CreateDirectories(own / "sub"),
      env_->Rename(own / "file", own / "other"),
      env_->Link(own / "file", own / "other"),
      env_->Remove(own / "file"),
      env_->LockDirectory(own.path(), &lock),
  };
  for (const Status& status : refusals) {
    EXPECT_EQ(status.code(), Code::kPermission) << status.message();
    EXPECT_EQ(status.detail()->system_errno == EACCES || status.detail()->system_errno == EPERM,
              true);
  }
  ASSERT_EQ(chmod(own.path().c_str(), 0), 0);
  bool exists = false;
  EXPECT_EQ(env_->Exists(own / "file", &exists).code(), Code::kPermission);
  EXPECT_EQ(env_->CreateDirectories(own / "sub").code(), Code::kPermission);
  EXPECT_EQ(env_->LockDirectory(own.path(), &lock).code(), Code::kPermission);
  ASSERT_EQ(chmod(own.path().c_str(), 0700), 0);
  EXPECT_TRUE(env_->LockDirectory(own.path(), &lock).ok());
}

// A limit on file sizes makes the kernel write a part and then refuse, as a full disk does.
TEST_F(PosixEnvTest, AShortWriteIsContinuedUntilTheErrorShows) {
  std::unique_ptr<File> file;
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok());
  const bool as_expected = HoldsInChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = 10'000, .rlim_max = 10'000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    const Status status = file->Write(4'000, std::string(8'000, 'x').data(), 8'000);
    if (status.code() != Code::kIo || status.detail()->system_errno != EFBIG) return false;
    uint64_t size = 0;
    if (!file->Size(&size).ok() || size != 10'000) return false;
    for (const bool write_zeros : {false, true}) {
      if (file->Truncate(4'000).ok() && file->Reserve(20'000, write_zeros).ok()) return false;
      if (!file->Size(&size).ok() || size != 4'000) return false;
    }
    return true;
  });
  EXPECT_TRUE(as_expected);
}

TEST_F(PosixEnvTest, ReservedSpaceIsAllocated) {
  std::unique_ptr<File> file;
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok());
  ASSERT_TRUE(file->Reserve(1 << 20, true).ok());
  ASSERT_TRUE(file->Sync().ok());
  std::unique_ptr<StoreFile> store;
  ASSERT_TRUE(env_->OpenStore(Path("store"), 1 << 20, StoreMode::kMapped, &store).ok());
  for (const char* name : {"file", "store"}) {
    struct stat info;
    ASSERT_EQ(stat(Path(name).c_str(), &info), 0);
    EXPECT_GE(info.st_blocks * 512, 1 << 20) << name;
  }
}

TEST_F(PosixEnvTest, PipesAndLinksAreNotOpened) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  std::unique_ptr<File> file;
  std::unique_ptr<StoreFile> store;
  std::unique_ptr<DirectoryLock> lock;
  for (const OpenMode mode : {OpenMode::kRead, OpenMode::kReadWrite}) {
    EXPECT_EQ(env_->OpenFile(Path("pipe"), mode, &file).message(),
              Path("pipe") + " is not a regular file");
  }
  EXPECT_FALSE(env_->OpenStore(Path("pipe"), 4096, StoreMode::kMapped, &store).ok());
  ASSERT_TRUE(env_->OpenFile(Path("target"), OpenMode::kCreate, &file).ok());
  ASSERT_EQ(symlink("target", Path("link").c_str()), 0);
  EXPECT_FALSE(env_->OpenStore(Path("link"), 4096, StoreMode::kMapped, &store).ok());
  EXPECT_FALSE(env_->OpenFile(Path("link"), OpenMode::kCreate, &file).ok());
  ASSERT_EQ(symlink("target", Path("flint.lock").c_str()), 0);
  EXPECT_EQ(env_->LockDirectory(directory_.path(), &lock).code(), Code::kIo);
}

TEST_F(PosixEnvTest, RelativePathsAndRacingCreators) {
  const std::string before = std::filesystem::current_path().string();
  ASSERT_EQ(chdir(directory_.path().c_str()), 0);
  EXPECT_TRUE(env_->CreateDirectories("a/b").ok());
  EXPECT_TRUE(env_->CreateDirectories("new/../c").ok());
  ASSERT_EQ(symlink("nowhere", "dangling"), 0);
  EXPECT_EQ(env_->CreateDirectories("dangling").code(), Code::kIo);
  ASSERT_EQ(symlink("a", "good"), 0);
  EXPECT_TRUE(env_->CreateDirectories("good/d").ok());
  ASSERT_EQ(chdir(before.c_str()), 0);
  for (const char* name : {"a/b", "c", "a/d"}) {
    EXPECT_TRUE(std::filesystem::is_directory(Path(name))) << name;
  }
}

TEST_F(PosixEnvTest, ARemovedWorkingDirectoryIsAnError) {
  EXPECT_TRUE(HoldsInChild([&] {
    const TemporaryDirectory gone;
    if (chdir(gone.path().c_str()) != 0 || rmdir(gone.path().c_str()) != 0) return false;
    return env_->CreateDirectories("a/b").code() == Code::kIo;
  }));
}

TEST_F(PosixEnvTest, NothingStaysOpenAcrossExec) {
  const auto open_descriptors = [] {
    std::vector<int> descriptors;
    for (int fd = 3; fd < 256; ++fd) {
      if (fcntl(fd, F_GETFD) >= 0) descriptors.push_back(fd);
    }
    return descriptors;
  };
  const std::vector<int> before = open_descriptors();
  std::unique_ptr<File> file;
  std::unique_ptr<StoreFile> store;
  std::unique_ptr<DirectoryLock> lock;
  Names names;
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok());
  ASSERT_TRUE(env_->OpenStore(Path("store"), 4096, StoreMode::kMapped, &store).ok());
  ASSERT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  ASSERT_TRUE(env_->List(directory_.path(), &names).ok());
  ASSERT_TRUE(env_->SyncDirectory(directory_.path()).ok());
  int opened = 0;
  for (const int fd : open_descriptors()) {
    if (std::find(before.begin(), before.end(), fd) != before.end()) continue;
    EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    ++opened;
  }
  // The file, the directory, and two for the lock; a store needs none once mapped.
  EXPECT_EQ(opened, 4);
  file.reset();
  lock.reset();
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(PosixEnvTest, AStoreOutlivesAKilledProcess) {
  const pid_t child = fork();
  if (child == 0) {
    std::unique_ptr<StoreFile> store;
    if (!env_->OpenStore(Path("store"), 4096, StoreMode::kMapped, &store).ok()) _exit(1);
    store->Store(8, "last words", 10);
    store->StoreWord(0, 10);
    kill(getpid(), SIGKILL);
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  ASSERT_TRUE(WIFSIGNALED(state) && WTERMSIG(state) == SIGKILL);
  std::unique_ptr<StoreFile> store;
  ASSERT_TRUE(env_->OpenStore(Path("store"), 4096, StoreMode::kMapped, &store).ok());
  EXPECT_EQ(Decode64(store->data()), 10u);
  EXPECT_EQ(std::string(store->data() + 8, 10), "last words");
}

TEST_F(PosixEnvTest, AChildDoesNotInheritTheMapping) {
  std::unique_ptr<StoreFile> store;
  ASSERT_TRUE(env_->OpenStore(Path("store"), 4096, StoreMode::kMapped, &store).ok());
  const auto is_mapped = [this] {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.find(Path("store")) != std::string::npos) return true;
    }
    return false;
  };
  EXPECT_TRUE(is_mapped());
  EXPECT_TRUE(HoldsInChild([&] { return !is_mapped(); }));
}

TEST_F(PosixEnvTest, EndingALockInAChildLeavesTheParents) {
  std::unique_ptr<DirectoryLock> lock;
  ASSERT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  EXPECT_TRUE(HoldsInChild([&] {
    lock.reset();
    return true;
  }));
  std::unique_ptr<DirectoryLock> second;
  EXPECT_EQ(env_->LockDirectory(directory_.path(), &second).code(), Code::kLocked);
}

TEST_F(PosixEnvTest, UnlockingWorksWhileAChildStillHasTheDescriptors) {
  std::unique_ptr<DirectoryLock> lock;
  ASSERT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(pipe_ends[1]);
    char byte;
    _exit(read(pipe_ends[0], &byte, 1) == 0 ? 0 : 1);
  }
  lock.reset();
  EXPECT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  close(pipe_ends[1]);
  close(pipe_ends[0]);
  int state = 1;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  EXPECT_EQ(state, 0);
}

// Someone who tidies up a held directory must not let a second writer in.
TEST_F(PosixEnvTest, ReplacingTheLockFileDoesNotUnlock) {
  std::unique_ptr<DirectoryLock> lock;
  std::unique_ptr<DirectoryLock> second;
  ASSERT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  ASSERT_TRUE(env_->Remove(Path("flint.lock")).ok());
  EXPECT_EQ(env_->LockDirectory(directory_.path(), &second).code(), Code::kLocked);
}

TEST_F(PosixEnvTest, MovingTheDirectoryDoesNotUnlock) {
  std::unique_ptr<DirectoryLock> lock;
  std::unique_ptr<DirectoryLock> second;
  ASSERT_TRUE(env_->CreateDirectories(Path("data")).ok());
  ASSERT_TRUE(env_->LockDirectory(Path("data"), &lock).ok());
  ASSERT_TRUE(env_->Rename(Path("data"), Path("moved")).ok());
  EXPECT_EQ(env_->LockDirectory(Path("moved"), &second).code(), Code::kLocked);
  ASSERT_TRUE(env_->CreateDirectories(Path("data")).ok());
  EXPECT_TRUE(env_->LockDirectory(Path("data"), &second).ok());
}

TEST_F(PosixEnvTest, ALockOnAReplacedDirectoryIsTakenAgain) {
  ASSERT_TRUE(env_->CreateDirectories(Path("data")).ok());
  int calls = 0;
  flock_hook = [&](int) {
    if (++calls == 1) {
      EXPECT_TRUE(env_->Rename(Path("data"), Path("old")).ok());
      EXPECT_TRUE(env_->CreateDirectories(Path("data")).ok());
    }
    return 0;
  };
  std::unique_ptr<DirectoryLock> lock;
  std::unique_ptr<DirectoryLock> second;
  ASSERT_TRUE(env_->LockDirectory(Path("data"), &lock).ok());
  EXPECT_EQ(env_->LockDirectory(Path("data"), &second).code(), Code::kLocked);
  EXPECT_TRUE(env_->LockDirectory(Path("old"), &second).ok());
}

TEST_F(PosixEnvTest, ALockOnAReplacedFileIsTakenAgain) {
  int calls = 0;
  flock_hook = [&](int) {
    // The directory's turn comes first.
    if (++calls == 2) {
      EXPECT_TRUE(env_->Rename(Path("flint.lock"), Path("old")).ok());
      std::unique_ptr<File> file;
      EXPECT_TRUE(env_->OpenFile(Path("flint.lock"), OpenMode::kCreate, &file).ok());
    }
    if (calls == 4) {
      EXPECT_TRUE(env_->Remove(Path("flint.lock")).ok());
    }
    return 0;
  };
  std::unique_ptr<DirectoryLock> lock;
  ASSERT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  flock_hook = nullptr;
  EXPECT_GE(calls, 6);
  const int fd = open(Path("flint.lock").c_str(), O_RDWR);
  EXPECT_EQ(flock(fd, LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EWOULDBLOCK);
  close(fd);
}

TEST_F(PosixEnvTest, EndlessReplacementIsAnError) {
  int calls = 0;
  flock_hook = [&](int) {
    EXPECT_TRUE(env_->Rename(Path("data"), Path("old" + std::to_string(++calls))).ok());
    EXPECT_TRUE(env_->CreateDirectories(Path("data")).ok());
    return 0;
  };
  ASSERT_TRUE(env_->CreateDirectories(Path("data")).ok());
  std::unique_ptr<DirectoryLock> lock;
  const Status status = env_->LockDirectory(Path("data"), &lock);
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_EQ(status.message(), "data directory is replaced again and again: " + Path("data"));
  EXPECT_EQ(lock, nullptr);
}

TEST_F(PosixEnvTest, AFileSystemThatCannotLockIsAnErrorOfItsOwn) {
  std::unique_ptr<DirectoryLock> lock;
  for (const int error : {ENOLCK, EOPNOTSUPP, EINVAL, ENOSYS, EBADF}) {
    for (const int failing_call : {1, 2}) {
      int calls = 0;
      flock_hook = [&](int) { return ++calls == failing_call ? error : 0; };
      const Status status = env_->LockDirectory(directory_.path(), &lock);
      EXPECT_EQ(status.code(), Code::kUnsupported);
      EXPECT_EQ(status.detail()->system_errno, error);
      EXPECT_EQ(status.message().find("the file system cannot lock " + directory_.path()), 0u);
    }
  }
  flock_hook = [](int) { return EIO; };
  EXPECT_EQ(env_->LockDirectory(directory_.path(), &lock).code(), Code::kIo);
}

TEST_F(PosixEnvTest, InterruptedCallsAreRepeated) {
  int interruptions = 0;
  const SystemCallHook interrupt = [&](int) { return ++interruptions % 2 == 1 ? EINTR : 0; };
  std::unique_ptr<File> file;
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok());
  std::unique_ptr<DirectoryLock> lock;
  for (SystemCallHook* hook : {&flock_hook, &fallocate_hook, &pwrite_hook, &sync_hook}) {
    *hook = interrupt;
  }
  EXPECT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  EXPECT_EQ(interruptions, 4);
  EXPECT_TRUE(file->Reserve(4096, false).ok());
  EXPECT_EQ(interruptions, 6);
  EXPECT_TRUE(file->Write(0, "abc", 3).ok());
  EXPECT_EQ(interruptions, 8);
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_TRUE(file->SyncData().ok());
  EXPECT_TRUE(env_->SyncDirectory(directory_.path()).ok());
  EXPECT_EQ(interruptions, 14);
}

TEST_F(PosixEnvTest, ReserveWritesZerosWhereTheFileSystemCannot) {
  fallocate_hook = [](int) { return EOPNOTSUPP; };
  std::unique_ptr<File> file;
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok());
  ASSERT_TRUE(file->Write(0, "abc", 3).ok());
  constexpr uint64_t kSize = (3 << 20) + 1;
  ASSERT_TRUE(file->Reserve(kSize, false).ok());
  std::string content(kSize + 1, '?');
  size_t got = 0;
  ASSERT_TRUE(file->Read(0, content.data(), content.size(), &got).ok());
  content.resize(got);
  EXPECT_TRUE(content == "abc" + std::string(kSize - 3, '\0'));
}

// The fake disk does not put up with it.
TEST_F(PosixEnvTest, AnUnexpectedWriteGoesWhereItShould) {
  std::string expected(50'000, '\0');
  std::unique_ptr<File> file;
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok());
  ASSERT_TRUE(file->Write(0, expected.data(), expected.size()).ok());
  file->ExpectAppends(0);
  const auto write = [&](size_t at, const std::string& data) {
    ASSERT_TRUE(file->Write(at, data.data(), data.size()).ok());
    expected.replace(at, data.size(), data);
    std::unique_ptr<File> reader;
    ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kRead, &reader).ok());
    std::string content(expected.size(), '?');
    size_t got = 0;
    ASSERT_TRUE(reader->Read(0, content.data(), content.size(), &got).ok());
    EXPECT_TRUE(content.substr(0, got) == expected);
  };
  write(0, std::string(5'000, 'a'));
  write(3, "before");
  write(5'000, "after");
  write(49'999, "z");
}

// Some file systems find out only then that they cannot.
TEST_F(PosixEnvTest, AppendsUseTheCacheWhereItCannotBePassed) {
  if (!PassesTheCache()) GTEST_SKIP() << "the file system of the tests always uses the cache";
  std::unique_ptr<File> file;
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok());
  ASSERT_TRUE(file->Reserve(8'192, true).ok());
  file->ExpectAppends(0);
  std::vector<int> errors = {0, EINVAL, 0, 0};
  pwrite_hook = [&, call = size_t{0}](int) mutable { return errors.at(call++); };
  for (const size_t at : {0u, 3u, 6u}) ASSERT_TRUE(file->Write(at, "abc", 3).ok());
  pwrite_hook = [](int) { return EIO; };
  EXPECT_EQ(file->Write(9, "d", 1).message(),
            "cannot write " + Path("file") + ": Input/output error");
  char bytes[10];
  size_t got = 0;
  ASSERT_TRUE(file->Read(0, bytes, sizeof(bytes), &got).ok());
  EXPECT_EQ(std::string(bytes, got), std::string("abcabcabc\0", 10));
}

TEST_F(PosixEnvTest, AnErrorOfAnAppendIsNotTriedAgain) {
  std::unique_ptr<File> file;
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok());
  ASSERT_TRUE(file->Reserve(8'192, true).ok());
  file->ExpectAppends(0);
  int writes = 0;
  pwrite_hook = [&](int) { return ++writes == 1 ? EIO : 0; };
  EXPECT_EQ(file->Write(0, "abc", 3).message(),
            "cannot write " + Path("file") + ": Input/output error");
  EXPECT_EQ(writes, 1);
  // Nothing of it is left in what is written next.
  ASSERT_TRUE(file->Write(0, "d", 1).ok());
  char bytes[4];
  size_t got = 0;
  ASSERT_TRUE(file->Read(0, bytes, sizeof(bytes), &got).ok());
  EXPECT_EQ(std::string(bytes, got), std::string("d\0\0\0", 4));
}

TEST_F(PosixEnvTest, AFullDiskLeavesTheSizeAsItWas) {
  std::unique_ptr<File> file;
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok());
  int writes = 0;
  pwrite_hook = [&](int) { return ++writes == 3 ? ENOSPC : 0; };
  const Status status = file->Reserve(4 << 20, true);
  EXPECT_EQ(status.code(), Code::kDiskFull);
  EXPECT_EQ(status.message(), "cannot write " + Path("file") + ": No space left on device");
  uint64_t size = 1;
  ASSERT_TRUE(file->Size(&size).ok());
  EXPECT_EQ(size, 0u);
}

TEST_F(PosixEnvTest, AFailedSyncIsReported) {
  std::unique_ptr<File> file;
  ASSERT_TRUE(env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok());
  sync_hook = [](int) { return EIO; };
  for (const Status& status : {file->Sync(), file->SyncData()}) {
    EXPECT_EQ(status.code(), Code::kIo);
    EXPECT_EQ(status.message(), "cannot sync " + Path("file") + ": Input/output error");
  }
  EXPECT_EQ(env_->SyncDirectory(directory_.path()).message(),
            "cannot sync " + directory_.path() + ": Input/output error");
  EXPECT_EQ(env_->CreateDirectories(Path("sub")).code(), Code::kIo);
}

TEST_F(PosixEnvTest, CreatedDirectoriesAreSyncedIntoTheirParents) {
  std::vector<std::string> synced;
  sync_hook = [&](int fd) {
    synced.push_back(std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd)).string());
    return 0;
  };
  ASSERT_TRUE(env_->CreateDirectories(Path("one/two/three")).ok());
  EXPECT_EQ(synced, (Names{directory_.path(), Path("one"), Path("one/two")}));
}

// ---- A directory that is held open
// ---------------------------------------------------------------

// A deployment renames the directory, or switches a link, and makes another in its place.
TEST_F(PosixEnvTest, ALockedDirectoryIsReachedWhateverStandsAtItsPath) {
  const std::string data = Path("data");
  ASSERT_TRUE(env_->CreateDirectories(data).ok());
  std::unique_ptr<DirectoryLock> lock;
  ASSERT_TRUE(env_->LockDirectory(data, &lock).ok());
  const std::shared_ptr<Env> inside = lock->directory();
  ASSERT_TRUE(env_->Rename(data, Path("moved")).ok());
  ASSERT_TRUE(env_->CreateDirectories(data).ok());

  std::unique_ptr<File> file;
  std::unique_ptr<StoreFile> store;
  bool exists = false;
  Names names;
  ASSERT_TRUE(inside->OpenFile(data + "/one", OpenMode::kCreate, &file).ok());
  ASSERT_TRUE(inside->OpenStore(data + "//store", 4096, StoreMode::kMapped, &store).ok());
  ASSERT_TRUE(inside->Link(data + "/one", data + "/two").ok());
  ASSERT_TRUE(inside->Rename(data + "/one", data + "/three").ok());
  ASSERT_TRUE(inside->SyncDirectory(data).ok());
  ASSERT_TRUE(inside->Exists(data + "/three", &exists).ok());
  EXPECT_TRUE(exists);
  ASSERT_TRUE(inside->List(data, &names).ok());
  EXPECT_EQ(names, (Names{"flint.lock", "store", "three", "two"}));
  ASSERT_TRUE(inside->Remove(data + "/two").ok());
  const Status missing = inside->OpenFile(data + "/two", OpenMode::kRead, &file);
  EXPECT_EQ(missing.message(), "cannot open " + data + "/two: No such file or directory");

  ASSERT_TRUE(env_->List(data, &names).ok());
  EXPECT_EQ(names, Names{});
  ASSERT_TRUE(env_->List(Path("moved"), &names).ok());
  EXPECT_EQ(names, (Names{"flint.lock", "store", "three"}));
  // Another directory whose name begins alike is not inside.
  ASSERT_TRUE(inside->OpenFile(data + "2", OpenMode::kCreate, &file).ok());
  EXPECT_TRUE(std::filesystem::exists(data + "2"));
}

TEST_F(PosixEnvTest, AHeldDirectoryThatIsRemovedIsNotAnEmptyOne) {
  std::unique_ptr<DirectoryLock> lock;
  ASSERT_TRUE(env_->CreateDirectories(Path("data")).ok());
  ASSERT_TRUE(env_->LockDirectory(Path("data"), &lock).ok());
  std::filesystem::remove_all(Path("data"));
  Names names;
  const Status status = lock->directory()->List(Path("data"), &names);
  EXPECT_EQ(status.message(), "cannot open " + Path("data") + ": No such file or directory");
}

TEST_F(PosixEnvTest, SyncingAHeldDirectoryNeedsNoDescriptor) {
  std::unique_ptr<DirectoryLock> lock;
  ASSERT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  EXPECT_TRUE(HoldsInChild([&] {
    const rlimit none{.rlim_cur = 0, .rlim_max = 0};
    return setrlimit(RLIMIT_NOFILE, &none) == 0 && !env_->SyncDirectory(directory_.path()).ok() &&
           lock->directory()->SyncDirectory(directory_.path()).ok();
  }));
}

// What a program prints would go into a file that has become one of these.
TEST_F(PosixEnvTest, NothingOpensAsAStandardDescriptor) {
  EXPECT_TRUE(HoldsInChild([&] {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) close(fd);
    std::unique_ptr<File> file;
    std::unique_ptr<StoreFile> store;
    std::unique_ptr<DirectoryLock> lock;
    bool all = env_->OpenFile(Path("file"), OpenMode::kCreate, &file).ok() &&
               env_->OpenStore(Path("store"), 4096, StoreMode::kWritten, &store).ok() &&
               env_->LockDirectory(directory_.path(), &lock).ok();
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
      all = all && fcntl(fd, F_GETFD) < 0;
    }
    return all;
  }));
}

// ---- Locks and forks
// -----------------------------------------------------------------------------

// A process forks while another of its threads is about to lock, and ends without unlocking; the
// child lives on.
TEST_F(PosixEnvTest, AForkDuringLockingDoesNotKeepTheLock) {
  int to_child[2];
  int from_child[2];
  ASSERT_EQ(pipe(to_child), 0);
  ASSERT_EQ(pipe(from_child), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    flock_hook = [&, forked = false](int) mutable {
      if (!std::exchange(forked, true) && fork() == 0) {
        close(to_child[1]);
        char byte = 0;
        if (write(from_child[1], "c", 1) != 1) _exit(1);
        _exit(read(to_child[0], &byte, 1) == 0 ? 0 : 1);
      }
      return 0;
    };
    std::unique_ptr<DirectoryLock> lock;
    _exit(env_->LockDirectory(directory_.path(), &lock).ok() ? 0 : 1);
  }
  int state = 1;
  ASSERT_EQ(waitpid(parent, &state, 0), parent);
  EXPECT_EQ(state, 0);
  char byte = 0;
  ASSERT_EQ(read(from_child[0], &byte, 1), 1);
  std::unique_ptr<DirectoryLock> lock;
  const Status status = env_->LockDirectory(directory_.path(), &lock);
  EXPECT_TRUE(status.ok()) << status.message();
  for (const int fd : {to_child[0], to_child[1], from_child[0], from_child[1]}) close(fd);
}

TEST_F(PosixEnvTest, AForkedChildOfAHolderDoesNotKeepTheLock) {
  int to_child[2];
  int from_child[2];
  ASSERT_EQ(pipe(to_child), 0);
  ASSERT_EQ(pipe(from_child), 0);
  std::unique_ptr<DirectoryLock> lock;
  char byte = 0;
  const pid_t parent = fork();
  if (parent == 0) {
    if (!env_->LockDirectory(directory_.path(), &lock).ok()) _exit(1);
    if (fork() != 0) _exit(0);
    close(to_child[1]);
    if (write(from_child[1], "c", 1) != 1) _exit(1);
    _exit(read(to_child[0], &byte, 1) == 0 ? 0 : 1);
  }
  int state = 1;
  ASSERT_EQ(waitpid(parent, &state, 0), parent);
  EXPECT_EQ(state, 0);
  ASSERT_EQ(read(from_child[0], &byte, 1), 1);
  EXPECT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  for (const int fd : {to_child[0], to_child[1], from_child[0], from_child[1]}) close(fd);
}

// ---- Who holds a lock, and waiting for it
// ---------------------------------------------------------

TEST_F(PosixEnvTest, TheLockFileSaysWhoHoldsIt) {
  std::unique_ptr<DirectoryLock> lock;
  std::unique_ptr<DirectoryLock> second;
  ASSERT_TRUE(env_->LockDirectory(directory_.path(), &lock).ok());
  std::ifstream file(Path("flint.lock"));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::string pid = std::to_string(getpid());
  EXPECT_EQ(text.find("pid " + pid + "\nsince "), 0u) << text;
  EXPECT_NE(text.find(" UTC\nsocket \n"), std::string::npos) << text;
  const Status status = env_->LockDirectory(directory_.path(), &second);
  EXPECT_EQ(status.code(), Code::kLocked);
  EXPECT_NE(status.message().find(" (by process " + pid + " since 20"), std::string::npos)
      << status.message();
  // It is text that anyone may have written.
  std::ofstream(Path("flint.lock")) << "pid \x1b[2J\nsince now\n";
  EXPECT_EQ(env_->LockDirectory(directory_.path(), &second).message(),
            "data directory is already locked by another limiter: " + directory_.path());
}

TEST_F(PosixEnvTest, WaitingForALockTakesItWhenItIsFree) {
  std::unique_ptr<DirectoryLock> first;
  std::unique_ptr<DirectoryLock> second;
  ASSERT_TRUE(env_->LockDirectory(directory_.path(), &first).ok());
  const std::string held = env_->LockDirectory(directory_.path(), &second).message();
  EXPECT_EQ(AwaitLock(env_, directory_.path(), 0, &second).message(), held);
  const Status late = AwaitLock(env_, directory_.path(), 1'000'000, &second);
  EXPECT_EQ(late.code(), Code::kLocked);
  EXPECT_EQ(late.message(), held + "; waited 0.001 s for it");
  int calls = 0;
  flock_hook = [&](int) {
    if (++calls == 3) first.reset();
    return 0;
  };
  EXPECT_TRUE(AwaitLock(env_, directory_.path(), UINT64_MAX, &second).ok());
  EXPECT_GE(calls, 3);
}

TEST_F(PosixEnvTest, ASandboxThatForbidsLockingIsNamed) {
  flock_hook = [](int) { return EPERM; };
  std::unique_ptr<DirectoryLock> lock;
  const Status status = env_->LockDirectory(directory_.path(), &lock);
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_EQ(status.detail()->system_errno, EPERM);
  EXPECT_EQ(status.message().find("the system call flock is not allowed, so " + directory_.path() +
                                  " cannot be locked; a sandbox"),
            0u)
      << status.message();
}

// ---- What a file system or a sandbox does without
// -------------------------------------------------

TEST_F(PosixEnvTest, WhereNothingCanBeMappedAStoreIsWritten) {
  for (const int error : {EINVAL, ENODEV, EOPNOTSUPP, ENOSYS, EPERM}) {
    mmap_hook = [error](int) { return error; };
    std::unique_ptr<StoreFile> store;
    const Status status = env_->OpenStore(Path("store"), 4096, StoreMode::kMapped, &store);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(store->memory().file, nullptr);
    store->StoreWord(8, 0x0102030405060708);
    EXPECT_FALSE(store->failed());
    EXPECT_EQ(Decode64(store->data() + 8), 0x0102030405060708u);
  }
  mmap_hook = [](int) { return ENOMEM; };
  std::unique_ptr<StoreFile> store;
  const Status status = env_->OpenStore(Path("store"), 4096, StoreMode::kMapped, &store);
  EXPECT_EQ(status.code(), Code::kNoMemory);
  EXPECT_EQ(status.message(), "cannot map " + Path("store") +
                                  " (mapped=\"never\" does without): Cannot allocate memory");
}

TEST_F(PosixEnvTest, RandomBytesComeFromTheDeviceWhereTheCallIsForbidden) {
  for (const int error : {ENOSYS, EPERM}) {
    random_hook = [error](int) { return error; };
    std::string bytes(1000, '\0');
    const Status status = env_->Random(bytes.data(), bytes.size());
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_NE(bytes.substr(900), std::string(100, '\0'));
  }
}

// ---- For whom things are made
// ---------------------------------------------------------------------

TEST_F(PosixEnvTest, WhatIsMadeIsForWhomItShallBeWhateverTheUmask) {
  const int64_t group = geteuid() == 0 ? 12345 : int64_t{getegid()};
  const std::unique_ptr<Env> shared = env_->WithAccess({.file_mode = 0640, .group = group});
  const mode_t before = umask(0777);
  std::unique_ptr<File> file;
  std::unique_ptr<StoreFile> store;
  std::unique_ptr<DirectoryLock> lock;
  const std::string data = Path("parent/data");
  EXPECT_TRUE(shared->CreateDirectories(data).ok());
  EXPECT_TRUE(shared->LockDirectory(data, &lock).ok());
  const std::shared_ptr<Env> inside = lock->directory();
  EXPECT_TRUE(inside->OpenFile(data + "/file", OpenMode::kCreate, &file).ok());
  EXPECT_TRUE(inside->OpenStore(data + "/store", 4096, StoreMode::kMapped, &store).ok());
  EXPECT_TRUE(env_->CreateDirectories(Path("own")).ok());
  EXPECT_TRUE(env_->OpenFile(Path("own/file"), OpenMode::kCreate, &file).ok());
  umask(before);
  const auto expect = [&](const std::string& path, uint32_t mode, int64_t owned_by) {
    struct stat info;
    ASSERT_EQ(stat(path.c_str(), &info), 0) << path;
    EXPECT_EQ(info.st_mode & 0777, mode) << path;
    EXPECT_EQ(int64_t{info.st_gid}, owned_by) << path;
  };
  expect(Path("parent"), 0750, group);
  expect(data, 0750, group);
  for (const char* name : {"/file", "/store", "/flint.lock"}) expect(data + name, 0640, group);
  expect(Path("own"), 0700, getegid());
  expect(Path("own/file"), 0600, getegid());
}

TEST_F(PosixEnvTest, ModeShowsWhatWasSet) {
  ASSERT_EQ(chmod(directory_.path().c_str(), 01777), 0);
  uint32_t mode = 0;
  ASSERT_TRUE(env_->Mode(directory_.path(), &mode).ok());
  EXPECT_EQ(mode, 01777u);
}

}  // namespace
}  // namespace flint
