// A limiter that reads a directory which another one is writing: it comes to the same state
// whatever the writer does, it changes nothing, and neither it nor the doctor takes motion for
// damage.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/doctor.h"
#include "engine_testing.h"
#include "gate.h"
#include "storage/file_names.h"
#include "storage/segment.h"
#include "temporary_directory.h"

namespace flint {
namespace {

constexpr LimitKind kTemplate = LimitKind::kTemplate;

class Following : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_.segment_bytes = 10'000;
    machine_.ring_bytes = 1 << 12;
    machine_.Open();
    ASSERT_TRUE(Configure(writer(), "exact", Hourly(100'000)).ok());
    ASSERT_TRUE(Configure(writer(), "small", Hourly(1)).ok());
    ASSERT_TRUE(Configure(writer(), "ip:", Hourly(5), kTemplate).ok());
    OpenFollower();
  }

  void OpenFollower() {
    const Status status = Engine::OpenReadOnly(kDirectory, machine_.Options(), &follower_);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  Engine* writer() { return machine_.engine.get(); }

  void Use(int checks) {
    for (int i = 0; i < checks; ++i, ++used_) {
      Allowed(writer(), "exact");
      Allowed(writer(), "small");
      Allowed(writer(), "ip:" + std::to_string(used_ % 50));
      machine_.clock->AdvanceNs(kSecondNs);
    }
  }

  void ExpectSame(const std::string& after) {
    ASSERT_TRUE(writer()->Flush().ok());
    const Status status = follower_->Refresh();
    ASSERT_TRUE(status.ok()) << after << ": " << status.message();
    const bool same = DescribeAll(follower_.get(), true) == DescribeAll(writer(), true);
    EXPECT_TRUE(same) << after;
    EXPECT_EQ(InfoOf(follower_.get()).limits, InfoOf(writer()).limits) << after;
  }

  Machine machine_;
  std::unique_ptr<Engine> follower_;
  int used_ = 0;
};

TEST_F(Following, ComesToTheSameState) {
  ExpectSame("opening");
  Use(3);
  ExpectSame("checks");
  ExpectSame("nothing");
  uint64_t ticket = 0;
  ASSERT_TRUE(writer()->Reset(LimitKind::kExact, "exact", {}, &ticket).ok());
  ASSERT_TRUE(writer()->Remove(LimitKind::kExact, "ip:1", {}, &ticket).ok());
  ExpectSame("a reset and a removal");
  ASSERT_TRUE(Configure(writer(), "ip:", Hourly(9), kTemplate).ok());
  ASSERT_TRUE(Configure(writer(), "ip:1", Hourly(9), kTemplate).ok());
  Use(20);
  ExpectSame("other templates");
  ASSERT_TRUE(writer()->Remove(kTemplate, "ip:1", {}, &ticket).ok());
  ExpectSame("a template that is gone");
  Use(20);
  machine_.clock->AdvanceNs(static_cast<int64_t>(kHourNs) + 1);
  ExpectSame("an hour");
  Use(5);
  ExpectSame("what is fresh again");
}

TEST_F(Following, GoesOnFromSegmentToSegment) {
  for (int i = 0; i < 12; ++i) {
    Use(15);
    ExpectSame("rotation " + std::to_string(i));
  }
  EXPECT_GT(InfoOf(writer()).segments, 4u);
}

TEST_F(Following, SkipsManySegmentsAtOnce) {
  Use(300);
  ExpectSame("many rotations");
}

TEST_F(Following, GoesOnAfterCompaction) {
  for (const uint64_t history_max_bytes : {uint64_t{1} << 28, uint64_t{1}}) {
    machine_.history_max_bytes = history_max_bytes;
    machine_.Close();
    machine_.Open();
    for (int i = 0; i < 5; ++i) {
      Use(40);
      ASSERT_TRUE(writer()->Compact({}).ok());
      ExpectSame("compaction");
      Use(2);
      ExpectSame("checks after it");
    }
  }
}

TEST_F(Following, GoesOnWhenTheWriterIsStartedAgain) {
  for (int i = 0; i < 5; ++i) {
    Use(10);
    machine_.Close();
    const Status status = follower_->Refresh();
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(StatusOf(follower_.get(), "exact").totals.allowed, static_cast<uint64_t>(used_));
    machine_.Open();
    Use(1);
    ExpectSame("a restart");
  }
}

// Its last sync fails, and with it what was not answered.
TEST_F(Following, GoesOnWhenTheWriterHasFailed) {
  for (int i = 0; i < 5; ++i) {
    Use(10);
    machine_.env->InjectFault({.forever = true, .matches = OnlyOps({Op::kSyncData})});
    bool allowed = false;
    EXPECT_EQ(Check(writer(), "exact", 1, &allowed).code(), Code::kPoisoned);
    machine_.engine.reset();
    machine_.env->ClearFault();
    const Status status = follower_->Refresh();
    EXPECT_TRUE(status.ok()) << status.message();
    machine_.Open();
    Use(1);
    ExpectSame("a failure");
  }
}

// Removed and begun anew under the same name, with fewer segments than there were.
TEST_F(Following, GoesOnInADirectoryThatWasMadeAnew) {
  Use(200);
  ExpectSame("checks");
  machine_.Close();
  for (const std::string& path : machine_.env->Files()) {
    ASSERT_TRUE(machine_.env->Remove(path).ok());
  }
  machine_.Open();
  ASSERT_TRUE(Configure(writer(), "other", Hourly(7)).ok());
  EXPECT_TRUE(Allowed(writer(), "other"));
  ExpectSame("a new beginning");
}

// The log goes on in a segment that has no name yet, and finding it fails once.
TEST_F(Following, DoesNotTakeAFailureForTheEnd) {
  Gate gate;
  gate.Close();
  machine_.env->SetHook([&gate](Op op, const std::string&) {
    if (op == Op::kLink) gate.Pass();
  });
  std::thread rotation([this] { EXPECT_TRUE(writer()->Compact({}).ok()); });
  gate.AwaitSomebody();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(Allowed(writer(), "exact"));
  machine_.env->InjectFault({.forever = true, .matches = OnlyOps({Op::kList})});
  EXPECT_EQ(follower_->Refresh().code(), Code::kIo);
  machine_.env->ClearFault();
  EXPECT_TRUE(follower_->Refresh().ok());
  EXPECT_EQ(StatusOf(follower_.get(), "exact").totals.allowed, 5u);
  gate.Open();
  rotation.join();
  ExpectSame("all that");
  machine_.Close();
  machine_.env->SetHook(nullptr);
}

TEST_F(Following, DamageIsToldAndItsEndToo) {
  Use(20);
  ExpectSame("checks");
  const std::string path = machine_.Path(kLogName);
  machine_.Close();
  const std::string contents = machine_.env->Contents(path);
  std::string damaged = contents;
  char* const bit = &damaged[kSegmentHeaderBytes + 20];
  *bit = static_cast<char>(*bit ^ 1);
  machine_.env->SetContents(path, damaged);
  std::unique_ptr<Engine> other;
  EXPECT_EQ(Engine::OpenReadOnly(kDirectory, machine_.Options(), &other).code(), Code::kCorruption);
  machine_.env->SetContents(path, contents);
  EXPECT_TRUE(Engine::OpenReadOnly(kDirectory, machine_.Options(), &other).ok());
  EXPECT_TRUE(follower_->Refresh().ok());
  EXPECT_EQ(DescribeAll(other.get(), true), DescribeAll(follower_.get(), true));
}

TEST_F(Following, IsForReadingOnly) {
  Engine* const follower = follower_.get();
  Use(5);
  ASSERT_TRUE(follower->Refresh().ok());
  bool allowed = false;
  uint64_t ticket = 0;
  std::vector<Engine::Decision> decisions(1);
  size_t denied = 0;
  EXPECT_EQ(Check(follower, "exact", 1, &allowed).code(), Code::kReadOnly);
  EXPECT_EQ(follower->CheckAll({{"exact", 1}}, {}, decisions.data(), &denied).code(),
            Code::kReadOnly);
  EXPECT_EQ(Configure(follower, "exact", Hourly(100'000)).code(), Code::kReadOnly);
  EXPECT_EQ(Configure(follower, "ip:", Hourly(5), kTemplate).code(), Code::kReadOnly);
  EXPECT_EQ(follower->Remove(LimitKind::kExact, "exact", {}, &ticket).code(), Code::kReadOnly);
  EXPECT_EQ(follower->Reset(kTemplate, "ip:", {}, &ticket).code(), Code::kReadOnly);
  EXPECT_EQ(follower->Compact({}).code(), Code::kReadOnly);
  EXPECT_EQ(follower->Flush().code(), Code::kReadOnly);
  EXPECT_EQ(writer()->Refresh().code(), Code::kInvalidArgument);
  Engine::Decision decision;
  ASSERT_TRUE(follower->Peek({"small", 1}, {}, nullptr, &decision).ok());
  EXPECT_FALSE(decision.allowed);
  EXPECT_TRUE(InfoOf(follower).read_only);
  EXPECT_EQ(StatusOf(follower, "exact").totals.allowed, 5u);
  EXPECT_TRUE(follower->Shutdown().ok());
  EXPECT_EQ(follower->Refresh().code(), Code::kClosed);
}

// ---- While it is written -----------------------------------------------------------------------

// On the real disk, with small segments, so that much happens.
class Busy {
 public:
  explicit Busy(bool always) {
    options_always_ = always;
    Open();
  }
  Engine* writer() { return writer_.get(); }
  const std::string& path() const { return directory_.path(); }
  const Clock* clock() const { return &clock_; }

  Engine::Options Options() const {
    Engine::Options options = OptionsFor(Env::Posix(), &clock_, options_always_);
    options.log.segment_bytes = 16'384;
    options.log.ring_bytes = 1 << 12;
    options.log.flush_every_events = 50;
    options.log.flush_every_ns = 5'000'000;
    options.history_max_bytes = 40'000;
    return options;
  }

  void Start() {
    for (int i = 0; i < 2; ++i) {
      threads_.emplace_back([this, i] {
        for (int round = 0; !stop_; ++round) {
          bool allowed = false;
          const std::string key = "ip:" + std::to_string((round + i) % 40);
          EXPECT_TRUE(Check(writer(), key, 1, &allowed).ok());
          EXPECT_TRUE(Check(writer(), "exact", 1, &allowed).ok());
          // A sanitizer may slow compaction more than checks: without rests it would fall behind.
          if (round % 4 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      });
    }
    threads_.emplace_back([this] {
      while (!stop_) {
        EXPECT_TRUE(writer()->Compact({}).ok());
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }
  void Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    EXPECT_TRUE(writer()->Flush().ok());
  }

 private:
  void Open() {
    EXPECT_TRUE(Engine::Open(directory_.path(), Options(), &writer_).ok());
    EXPECT_TRUE(Configure(writer(), "exact", Hourly(1'000'000'000)).ok());
    EXPECT_TRUE(Configure(writer(), "ip:", Hourly(50), kTemplate).ok());
  }

  bool options_always_ = true;
  const TemporaryDirectory directory_;
  FakeClock clock_;
  std::unique_ptr<Engine> writer_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

// Whoever reads is never done before the next record is there.
TEST(BesideAFastWriter, TheDoctorComesToAnEnd) {
  const TemporaryDirectory directory;
  FakeClock clock;
  Engine::Options options = OptionsFor(Env::Posix(), &clock, false);
  options.log.segment_bytes = uint64_t{8} << 20;
  options.log.ring_bytes = 1 << 20;
  options.log.flush_every_events = 100;
  std::unique_ptr<Engine> writer;
  ASSERT_TRUE(Engine::Open(directory.path(), std::move(options), &writer).ok());
  ASSERT_TRUE(Configure(writer.get(), "key", Hourly(1'000'000'000)).ok());
  std::atomic<bool> stop{false};
  std::thread checks([&] {
    while (!stop) Allowed(writer.get(), "key");
  });
  DoctorReport report;
  const Status status = Examine(Env::Posix(), &clock, directory.path(), &report);
  EXPECT_TRUE(status.ok()) << status.message();
  stop = true;
  checks.join();
}

class BesideAWriter : public ::testing::TestWithParam<bool> {};

TEST_P(BesideAWriter, TheDoctorFindsNoDamage) {
  Busy busy(GetParam());
  busy.Start();
  for (int i = 0; i < 20 || InfoOf(busy.writer()).compactions < 5; ++i) {
    DoctorReport report;
    const Status status = Examine(Env::Posix(), busy.clock(), busy.path(), &report);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_GT(report.log.segments, 0u);
    EXPECT_EQ(report.torn_bytes, 0u);
  }
  busy.Stop();
  DoctorReport report;
  const Status status = Examine(Env::Posix(), busy.clock(), busy.path(), &report);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(report.limits, 2u);
}

// Readers in other threads see a state, and never a total that goes back.
TEST_P(BesideAWriter, AFollowerStaysRight) {
  Busy busy(GetParam());
  std::unique_ptr<Engine> follower;
  ASSERT_TRUE(Engine::OpenReadOnly(busy.path(), busy.Options(), &follower).ok());
  busy.Start();
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      uint64_t last = 0;
      while (!stop) {
        const uint64_t allowed = StatusOf(follower.get(), "exact").totals.allowed;
        EXPECT_GE(allowed, last);
        last = allowed;
        EXPECT_GE(ListAll(follower.get()).size(), 2u);
        EXPECT_TRUE(InfoOf(follower.get()).read_only);
        Engine::Decision decision;
        EXPECT_TRUE(follower->Peek({"ip:1", 1}, {}, nullptr, &decision).ok());
      }
    });
  }
  for (int i = 0; i < 40 || InfoOf(busy.writer()).compactions < 5; ++i) {
    const Status status = follower->Refresh();
    EXPECT_TRUE(status.ok()) << status.message();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  busy.Stop();
  EXPECT_TRUE(follower->Refresh().ok());
  stop = true;
  for (std::thread& reader : readers) reader.join();
  const bool same = DescribeAll(follower.get(), true) == DescribeAll(busy.writer(), true);
  EXPECT_TRUE(same);
  HistoryQuery query;
  query.capacity = 10;
  query.text_bytes = 1000;
  query.newest_first = true;
  HistoryPage page;
  EXPECT_TRUE(follower->History(query, &page).ok());
  EXPECT_EQ(page.events.size(), 10u);
}

INSTANTIATE_TEST_SUITE_P(BothModes, BesideAWriter, ::testing::Bool());

// A process that is killed in the middle, again and again.
TEST(BesideADyingWriter, EverythingAnsweredIsSeen) {
  const TemporaryDirectory directory;
  std::unique_ptr<Engine> follower;
  uint64_t answered = 0;
  for (int round = 0; round < 5; ++round) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      std::unique_ptr<Engine> writer;
      Engine::Options options = OptionsFor(Env::Posix(), Clock::System(), round % 2 == 0);
      options.log.segment_bytes = 16'384;
      options.log.ring_bytes = 1 << 12;
      if (!Engine::Open(directory.path(), std::move(options), &writer).ok()) _exit(1);
      if (!Configure(writer.get(), "key", Hourly(1'000'000'000)).ok()) _exit(1);
      while (true) {
        if (!Allowed(writer.get(), "key") || write(ends[1], "a", 1) != 1) _exit(1);
      }
    }
    close(ends[1]);
    char byte = 0;
    for (int i = 0; i < 300; ++i, ++answered) ASSERT_EQ(read(ends[0], &byte, 1), 1);
    if (follower == nullptr) {
      Engine::Options options = OptionsFor(Env::Posix(), Clock::System(), true);
      ASSERT_TRUE(Engine::OpenReadOnly(directory.path(), std::move(options), &follower).ok());
    }
    Status status = follower->Refresh();
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_GE(StatusOf(follower.get(), "key").totals.allowed, answered);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    while (read(ends[0], &byte, 1) == 1) ++answered;
    close(ends[0]);
    status = follower->Refresh();
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_GE(StatusOf(follower.get(), "key").totals.allowed, answered);
    EXPECT_LE(StatusOf(follower.get(), "key").totals.allowed, answered + 1);
    answered = StatusOf(follower.get(), "key").totals.allowed;
    DoctorReport report;
    status = Examine(Env::Posix(), Clock::System(), directory.path(), &report);
    EXPECT_TRUE(status.ok()) << status.message();
  }
}

}  // namespace
}  // namespace flint
