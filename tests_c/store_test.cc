// The file behind the ring: mapped and guarded against SIGBUS, or written; and a limiter whose ring
// is cut short, or whose disk fails under it, while it is in use.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/bus_guard.h"
#include "engine_testing.h"
#include "storage/file_names.h"
#include "temporary_directory.h"

namespace flint {
namespace {

constexpr size_t kStoreBytes = 64 << 10;

std::unique_ptr<StoreFile> OpenStore(const std::string& path, StoreMode mode) {
  std::unique_ptr<StoreFile> store;
  const Status status = Env::Posix()->OpenStore(path, kStoreBytes, mode, &store);
  EXPECT_TRUE(status.ok()) << status.message();
  return store;
}

void Cut(const std::string& path, size_t bytes) {
  if (truncate(path.c_str(), static_cast<off_t>(bytes)) != 0) std::abort();
}

// How many mappings of files with this in their path the process has.
int MappingsOf(const std::string& path) {
  std::ifstream maps("/proc/self/maps");
  int found = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(path) != std::string::npos) ++found;
  }
  return found;
}

void* WhereMapped(const std::string& path) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(path) == std::string::npos) continue;
    return reinterpret_cast<void*>(std::strtoull(line.c_str(), nullptr, 16));
  }
  std::abort();
}

// A mapping that is nobody's store, of a file that is too short for it. Maps it at `where`.
volatile char* MapBeyondTheEnd(const std::string& path, void* where = nullptr) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  void* const base = mmap(where, kStoreBytes, PROT_READ | PROT_WRITE,
                          MAP_SHARED | (where == nullptr ? 0 : MAP_FIXED), fd, 0);
  if (fd < 0 || base == MAP_FAILED) std::abort();
  close(fd);
  return static_cast<volatile char*>(base);
}

// ---- The store ---------------------------------------------------------------------------------

TEST(Store, OneThatIsCutShortFailsAndGoesOn) {
  const TemporaryDirectory directory;
  const std::unique_ptr<StoreFile> store = OpenStore(directory / "store", StoreMode::kMapped);
  store->StoreWord(0, 1);
  EXPECT_FALSE(store->failed());
  Cut(directory / "store", 0);
  const std::string bytes(kStoreBytes, 'x');
  store->Store(0, bytes.data(), bytes.size());
  EXPECT_TRUE(store->failed());
  store->StoreWord(8, 7);
  EXPECT_EQ(store->data()[kStoreBytes - 1], 'x');
}

// In the page that is left, what is behind the file's end vanishes without a fault.
TEST(Store, ReadsAsItWasStoredHoweverItIsCutShort) {
  for (const size_t left : {size_t{0}, size_t{4096}, size_t{9000}}) {
    const TemporaryDirectory directory;
    const std::unique_ptr<StoreFile> store = OpenStore(directory / "store", StoreMode::kMapped);
    const std::string bytes(kStoreBytes, 'x');
    store->Store(0, bytes.data(), bytes.size());
    Cut(directory / "store", left);
    EXPECT_EQ(std::string(store->data(), store->size()), bytes) << left;
    EXPECT_FALSE(store->failed()) << "nothing has been stored since";
  }
}

// Each has a flag of its own.
TEST(Store, OneThatFailsLeavesTheOthersAlone) {
  const TemporaryDirectory directory;
  const std::unique_ptr<StoreFile> cut = OpenStore(directory / "cut", StoreMode::kMapped);
  const std::unique_ptr<StoreFile> whole = OpenStore(directory / "whole", StoreMode::kMapped);
  Cut(directory / "cut", 0);
  cut->StoreWord(0, 1);
  whole->StoreWord(0, 1);
  EXPECT_TRUE(cut->failed());
  EXPECT_FALSE(whole->failed());
}

TEST(Store, MoreThanTheGuardHasRoomForAreWritten) {
  const TemporaryDirectory directory;
  constexpr int kStores = 70;
  constexpr int kGuarded = 64;
  std::vector<std::unique_ptr<StoreFile>> stores;
  for (int i = 0; i < kStores; ++i) {
    stores.push_back(OpenStore(directory / std::to_string(i), StoreMode::kMapped));
    stores.back()->StoreWord(0, static_cast<uint64_t>(i));
  }
  EXPECT_EQ(MappingsOf(directory.path()), kGuarded);
  for (int i = 0; i < kStores; ++i) {
    Cut(directory / std::to_string(i), 0);
    stores[static_cast<size_t>(i)]->StoreWord(8, 1);
    EXPECT_EQ(stores[static_cast<size_t>(i)]->failed(), i < kGuarded) << i;
  }
  stores.erase(stores.begin(), stores.begin() + 10);
  stores.push_back(OpenStore(directory / "later", StoreMode::kMapped));
  EXPECT_EQ(MappingsOf(directory / "later"), 1) << "room was given back";
}

TEST(Store, AWrittenOneMapsNothing) {
  const TemporaryDirectory directory;
  std::unique_ptr<StoreFile> store = OpenStore(directory / "store", StoreMode::kWritten);
  EXPECT_EQ(MappingsOf(directory.path()), 0);
  store->Store(100, "hello", 5);
  store->StoreWord(8, 42);
  store = OpenStore(directory / "store", StoreMode::kMapped);
  EXPECT_EQ(std::string(store->data() + 100, 5), "hello");
  EXPECT_EQ(store->data()[8], 42);
  store->StoreWord(16, 43);
  store = OpenStore(directory / "store", StoreMode::kWritten);
  EXPECT_EQ(store->data()[16], 43);
}

TEST(Store, AWrittenOneSaysWhatCannotBeWritten) {
  const TemporaryDirectory directory;
  const std::unique_ptr<StoreFile> store = OpenStore(directory / "store", StoreMode::kWritten);
  signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{4096, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  store->StoreWord(0, 1);
  const bool below = store->failed();
  store->StoreWord(8192, 1);
  const bool beyond = store->failed();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_DFL);
  EXPECT_FALSE(below);
  EXPECT_TRUE(beyond);
}

// ---- Signals that are not the guard's ----------------------------------------------------------

// Each in a process of its own, in which nothing has been guarded yet.
class ForeignSignal : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

// Leaves a guarded store open for the rest of the process.
void GuardSomething(const TemporaryDirectory& directory) {
  EXPECT_NE(OpenStore(directory / "store", StoreMode::kMapped).release(), nullptr);
}

TEST_F(ForeignSignal, AFaultEndsTheProcessAsBefore) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        GuardSomething(directory);
        *MapBeyondTheEnd(directory / "foreign") = 1;
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

TEST_F(ForeignSignal, AFaultThatIsIgnoredEndsTheProcessAllTheSame) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_IGN);
        GuardSomething(directory);
        *MapBeyondTheEnd(directory / "foreign") = 1;
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

TEST_F(ForeignSignal, OneThatIsSentEndsTheProcessAsBefore) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        GuardSomething(directory);
        kill(getpid(), SIGBUS);
        pause();
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

TEST_F(ForeignSignal, OneThatIsSentIsIgnoredAsBefore) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_IGN);
        GuardSomething(directory);
        raise(SIGBUS);
        _exit(5);
      },
      ::testing::ExitedWithCode(5), "");
}

std::atomic<volatile char*> foreign{nullptr};

void ExitWithItsAddress(int, siginfo_t* info, void*) {
  _exit(info->si_addr == const_cast<char*>(foreign.load()) ? 6 : 1);
}

void ExitWithItsNumber(int number) { _exit(number == SIGBUS ? 7 : 1); }

TEST_F(ForeignSignal, AnOlderHandlerGetsTheFaultWithItsAddress) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        struct sigaction action = {};
        action.sa_sigaction = ExitWithItsAddress;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGBUS, &action, nullptr);
        GuardSomething(directory);
        foreign = MapBeyondTheEnd(directory / "foreign");
        *foreign.load() = 1;
      },
      ::testing::ExitedWithCode(6), "");
}

TEST_F(ForeignSignal, AnOlderPlainHandlerGetsTheFault) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        signal(SIGBUS, ExitWithItsNumber);
        GuardSomething(directory);
        *MapBeyondTheEnd(directory / "foreign") = 1;
      },
      ::testing::ExitedWithCode(7), "");
}

// A child does not inherit the mapping, so what it maps may come to stand in its place.
TEST_F(ForeignSignal, AFaultInAForkedChildIsItsOwn) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        const auto store = OpenStore(directory / "store", StoreMode::kMapped);
        void* const base = WhereMapped(directory / "store");
        const pid_t child = fork();
        if (child == 0) {
          *MapBeyondTheEnd(directory / "foreign", base) = 1;
          _exit(0);
        }
        int how = 0;
        waitpid(child, &how, 0);
        _exit(WIFSIGNALED(how) && WTERMSIG(how) == SIGBUS ? 8 : 1);
      },
      ::testing::ExitedWithCode(8), "");
}

TEST_F(ForeignSignal, AForkedChildGuardsWhatItOpens) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        GuardSomething(directory);
        const pid_t child = fork();
        if (child == 0) {
          const auto store = OpenStore(directory / "own", StoreMode::kMapped);
          Cut(directory / "own", 0);
          store->StoreWord(0, 1);
          _exit(store->failed() ? 0 : 1);
        }
        int how = 0;
        waitpid(child, &how, 0);
        _exit(WIFEXITED(how) && WEXITSTATUS(how) == 0 ? 9 : 1);
      },
      ::testing::ExitedWithCode(9), "");
}

// A ring that is cut short then ends the program, so whoever looks is told before.
TEST_F(ForeignSignal, AHandlerThatTakesTheGuardsPlaceIsNoticed) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        bool as_expected = !BusGuard::Replaced();
        GuardSomething(directory);
        as_expected = as_expected && !BusGuard::Replaced();
        signal(SIGBUS, ExitWithItsNumber);
        _exit(as_expected && BusGuard::Replaced() ? 10 : 1);
      },
      ::testing::ExitedWithCode(10), "");
}

TEST_F(ForeignSignal, WithoutMappingsNoHandlerIsInstalled) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        FakeClock clock;
        Engine::Options options = OptionsFor(Env::Posix(), &clock, true);
        options.log.store_mode = StoreMode::kWritten;
        std::unique_ptr<Engine> engine;
        if (!Engine::Open(directory.path(), std::move(options), &engine).ok()) _exit(1);
        struct sigaction now = {};
        sigaction(SIGBUS, nullptr, &now);
        const bool mapped = MappingsOf(kRingName) > 0;
        _exit(now.sa_handler == SIG_DFL && !mapped ? 10 : 2);
      },
      ::testing::ExitedWithCode(10), "");
}

// ---- A limiter on it ---------------------------------------------------------------------------

// A limiter on the real disk.
class CutRing : public ::testing::Test {
 protected:
  Status Open(bool always, StoreMode mode) {
    engine_.reset();
    Engine::Options options = OptionsFor(Env::Posix(), &clock_, always);
    options.log.store_mode = mode;
    return Engine::Open(directory_.path(), std::move(options), &engine_);
  }
  std::string RingPath() const { return directory_ / kRingName; }
  Code TryCheck() {
    bool allowed = false;
    return Check(engine_.get(), "key", 1, &allowed).code();
  }

  const TemporaryDirectory directory_;
  FakeClock clock_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(CutRing, StopsAMappedLimiterAndLosesNothing) {
  ASSERT_TRUE(Open(true, StoreMode::kMapped).ok());
  ASSERT_TRUE(Configure(engine_.get(), "key", Hourly(1000)).ok());
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(Allowed(engine_.get(), "key"));
  Cut(RingPath(), 0);
  EXPECT_EQ(TryCheck(), Code::kPoisoned);
  EXPECT_EQ(TryCheck(), Code::kPoisoned);
  EXPECT_EQ(Configure(engine_.get(), "other", Hourly(1)).code(), Code::kPoisoned);
  EXPECT_EQ(engine_->Flush().code(), Code::kPoisoned);
  EXPECT_EQ(StatusOf(engine_.get(), "key").totals.allowed, 50u) << "what was not recorded";
  EXPECT_EQ(engine_->Shutdown().code(), Code::kPoisoned);
  // While the machine runs the ring is needed, and it is gone; after a restart it is not.
  EXPECT_EQ(Open(true, StoreMode::kMapped).code(), Code::kCorruption);
  clock_.Reboot();
  ASSERT_TRUE(Open(true, StoreMode::kMapped).ok());
  EXPECT_EQ(StatusOf(engine_.get(), "key").totals.allowed, 50u);
}

TEST_F(CutRing, StopsAMappedLimiterInBatchMode) {
  ASSERT_TRUE(Open(false, StoreMode::kMapped).ok());
  ASSERT_TRUE(Configure(engine_.get(), "key", Hourly(1000)).ok());
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(Allowed(engine_.get(), "key"));
  ASSERT_TRUE(engine_->Flush().ok());
  for (int i = 0; i < 7; ++i) EXPECT_TRUE(Allowed(engine_.get(), "key"));
  Cut(RingPath(), 0);
  EXPECT_EQ(engine_->Flush().code(), Code::kPoisoned) << "there is nothing that could be synced";
  EXPECT_EQ(TryCheck(), Code::kPoisoned);
  EXPECT_EQ(engine_->Shutdown().code(), Code::kPoisoned);
  clock_.Reboot();
  ASSERT_TRUE(Open(false, StoreMode::kMapped).ok());
  EXPECT_EQ(StatusOf(engine_.get(), "key").totals.allowed, 50u);
}

TEST_F(CutRing, NothingAnsweredIsLostOrCountedTwiceUnderManyThreads) {
  for (const size_t left : {size_t{0}, size_t{4096}, size_t{9000}}) {
    const std::string key = "key" + std::to_string(left);
    ASSERT_TRUE(Open(true, StoreMode::kMapped).ok());
    ASSERT_TRUE(Configure(engine_.get(), key, Hourly(1'000'000)).ok());
    std::atomic<uint64_t> answered{0};
    std::atomic<uint64_t> asked{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        bool allowed = true;
        while (true) {
          ++asked;
          const Status status = Check(engine_.get(), key, 1, &allowed);
          if (!status.ok()) {
            EXPECT_EQ(status.code(), Code::kPoisoned) << status.message();
            return;
          }
          ++answered;
        }
      });
    }
    while (answered < 100) std::this_thread::yield();
    Cut(RingPath(), left);
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(engine_->Shutdown().code(), Code::kPoisoned);
    clock_.Reboot();
    ASSERT_TRUE(Open(true, StoreMode::kMapped).ok());
    const uint64_t counted = StatusOf(engine_.get(), key).totals.allowed;
    EXPECT_GE(counted, answered);
    EXPECT_LE(counted, asked);
    ASSERT_TRUE(engine_->Shutdown().ok());
  }
}

// Its records are in memory as well, so a sync still takes them to the disk.
TEST_F(CutRing, DoesNotStopAWrittenLimiter) {
  ASSERT_TRUE(Open(true, StoreMode::kWritten).ok());
  ASSERT_TRUE(Configure(engine_.get(), "key", Hourly(1000)).ok());
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(Allowed(engine_.get(), "key"));
  Cut(RingPath(), 0);
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(Allowed(engine_.get(), "key"));
  ASSERT_TRUE(engine_->Shutdown().ok());
  for (const StoreMode mode : {StoreMode::kMapped, StoreMode::kWritten}) {
    ASSERT_TRUE(Open(true, mode).ok());
    EXPECT_EQ(StatusOf(engine_.get(), "key").totals.allowed, 100u);
    ASSERT_TRUE(engine_->Shutdown().ok());
  }
}

// ---- A directory that is exchanged under a limiter
// -----------------------------------------------

// As deployments do it: the directory is renamed and made anew, or its link is switched.
TEST(ExchangedDirectory, EachLimiterGoesOnInItsOwn) {
  for (const bool by_link : {false, true}) {
    SCOPED_TRACE(by_link);
    const TemporaryDirectory place;
    const std::string data = place / "data";
    std::filesystem::create_directory(place / "one");
    std::filesystem::create_directory(place / "two");
    if (by_link) std::filesystem::create_directory_symlink("one", data);
    FakeClock clock;
    const auto open = [&](const std::string& path, std::unique_ptr<Engine>* engine) {
      Engine::Options options = OptionsFor(Env::Posix(), &clock, true);
      const Status status = Engine::Open(path, std::move(options), engine);
      EXPECT_TRUE(status.ok()) << status.message();
      return status.ok();
    };
    // So many that the log rotates.
    const auto use = [](Engine* engine, int times) {
      Engine::Flags no_sync;
      no_sync.no_sync = true;
      for (int i = 0; i < times; ++i) {
        Engine::Decision decision;
        const Status status = engine->Check({"key", 1}, no_sync, nullptr, &decision);
        ASSERT_TRUE(status.ok()) << status.message();
      }
      const Status status = engine->Flush();
      ASSERT_TRUE(status.ok()) << status.message();
    };
    std::unique_ptr<Engine> first;
    std::unique_ptr<Engine> second;
    ASSERT_TRUE(open(data, &first));
    ASSERT_TRUE(Configure(first.get(), "key", Hourly(1'000'000)).ok());
    if (by_link) {
      std::filesystem::remove(data);
      std::filesystem::create_directory_symlink("two", data);
    } else {
      std::filesystem::rename(data, place / "moved");
    }
    ASSERT_TRUE(open(data, &second));
    ASSERT_TRUE(Configure(second.get(), "key", Hourly(1'000'000)).ok());
    for (int round = 0; round < 4; ++round) {
      use(first.get(), 6'000);
      use(second.get(), 5'000);
    }
    ASSERT_TRUE(first->Compact({}).ok());
    EXPECT_GE(InfoOf(first.get()).compactions, 1u);
    ASSERT_TRUE(first->Shutdown().ok());
    ASSERT_TRUE(second->Shutdown().ok());
    ASSERT_TRUE(open(place / (by_link ? "one" : "moved"), &first));
    ASSERT_TRUE(open(data, &second));
    EXPECT_EQ(StatusOf(first.get(), "key").totals.allowed, 24'000u);
    EXPECT_EQ(StatusOf(second.get(), "key").totals.allowed, 20'000u);
  }
}

// ---- A store that fails on a disk in memory ----------------------------------------------------

TEST(FailedStore, IsNotAnswered) {
  for (const bool always : {true, false}) {
    Machine machine(always);
    machine.Open();
    ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(100)).ok());
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(Allowed(machine.engine.get(), "key"));
    ASSERT_TRUE(machine.engine->Flush().ok());
    machine.env->FailStores();
    bool allowed = false;
    EXPECT_EQ(Check(machine.engine.get(), "key", 1, &allowed).code(), Code::kPoisoned);
    EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, 5u);
    EXPECT_NE(machine.engine->Shutdown().code(), Code::kOk);
    machine.LosePower(Loss::kDropAll);
    machine.Open();
    EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, 5u);
  }
}

}  // namespace
}  // namespace flint
