// Times in the log that are not in order: a time is read under a shard's lock, and before its
// record is appended others may append later ones. What is replayed must be what was live.
//
// FLINT_LONG=1 evicts for ten minutes with small segments and with those of the default size.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/doctor.h"
#include "engine_testing.h"
#include "holding_clock.h"
#include "temporary_directory.h"

namespace flint {
namespace {

constexpr uint64_t kPerNs = 10 * kSecondNs;

// A limiter one of whose calls can be held up, while the records of others begin a new segment.
class Skew : public ::testing::Test {
 protected:
  Skew() : machine_(false), clock_(machine_.clock.get()) {
    machine_.ring_bytes = uint64_t{1} << 20;
    Open();
    EXPECT_TRUE(Configure(engine(), "ip:", Template(), LimitKind::kTemplate).ok());
    EXPECT_TRUE(Configure(engine(), "other", Hourly(100'000'000)).ok());
  }
  void TearDown() override { machine_.engine.reset(); }  // it uses the clock
  static LimitConfig Template() { return Config(Algorithm::kFixedWindowCounter, 10, kPerNs); }

  void Open() {
    Engine::Options options = machine_.Options();
    options.clock = &clock_;
    const Status status = Engine::Open(kDirectory, std::move(options), &machine_.engine);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  void OpenAgain() {
    machine_.Close();
    Open();
  }
  Engine* engine() { return machine_.engine.get(); }
  void Advance(int64_t ns) { machine_.clock->AdvanceNs(ns); }

  // A key under the template that does not share its shard with "other".
  std::string KeyElsewhere() {
    for (int i = 0;; ++i) {
      const std::string key = "ip:" + std::to_string(i);
      bool elsewhere = false;
      clock_.Hold([this] { Allowed(engine(), "other"); });
      Engine::Flags no_wait;
      no_wait.no_wait = true;
      Engine::Decision decision;
      elsewhere = engine()->Peek({key, 1}, no_wait, nullptr, &decision).ok();
      clock_.Release();
      if (elsewhere) return key;
    }
  }
  bool HasFile(const std::string& name) {
    for (const std::string& path : machine_.env->Files()) {
      if (path == machine_.Path(name)) return true;
    }
    return false;
  }
  size_t RotatedSegments() {
    size_t count = 0;
    for (const std::string& path : machine_.env->Files()) {
      count += path.find("flint.aof.0") != std::string::npos ? 1 : 0;
    }
    return count;
  }
  // Until the next segment is there and nothing but records is needed to begin it.
  void PrepareNextSegment() {
    while (!HasFile("flint.aof.next")) {
      Allowed(engine(), "other");
      std::this_thread::yield();
    }
  }
  // Not more than that: the thread that would prepare one more may have to wait for the call that
  // is held up.
  void BeginNextSegment() {
    const size_t before = RotatedSegments();
    while (RotatedSegments() == before) {
      const std::string next = machine_.env->Contents(machine_.Path("flint.aof.next"));
      const bool begun = next.size() > kSegmentHeaderBytes && next[kSegmentHeaderBytes] != 0;
      for (int i = 0; i < 50 && !begun; ++i) Allowed(engine(), "other");
      EXPECT_TRUE(engine()->Flush().ok());
      std::this_thread::yield();
    }
  }

  Machine machine_;
  HoldingClock clock_;
};

TEST_F(Skew, AResetThatComesLateFindsItsCounter) {
  const std::string key = KeyElsewhere();
  EXPECT_TRUE(Allowed(engine(), key));
  PrepareNextSegment();
  Advance(kPerNs - 1);
  clock_.Hold([&] {
    uint64_t ticket = 0;
    const Status status = engine()->Reset(LimitKind::kExact, key, {}, &ticket);
    EXPECT_TRUE(status.ok()) << status.message();
  });
  Advance(kSecondNs);
  BeginNextSegment();
  clock_.Release();
  const std::string live = DescribeAll(engine(), true);
  ASSERT_NO_FATAL_FAILURE(OpenAgain());
  EXPECT_EQ(DescribeAll(engine(), true), live);
}

TEST_F(Skew, AnAdmissionThatComesLateCountsInItsOwnWindow) {
  const std::string key = KeyElsewhere();
  EXPECT_TRUE(Allowed(engine(), key));
  PrepareNextSegment();
  Advance(kPerNs - 1);
  clock_.Hold([&] { EXPECT_TRUE(Allowed(engine(), key, 2)); });
  Advance(kSecondNs);
  BeginNextSegment();
  clock_.Release();
  const std::string live = DescribeAll(engine(), true);
  ASSERT_NO_FATAL_FAILURE(OpenAgain());
  EXPECT_EQ(DescribeAll(engine(), true), live);
  Advance(kPerNs / 2);
  EXPECT_EQ(StatusOf(engine(), key).remaining, 10u);
}

TEST_F(Skew, ASnapshotForgetsNothingThatIsNotOver) {
  const std::string key = KeyElsewhere();
  EXPECT_TRUE(Allowed(engine(), key));
  PrepareNextSegment();
  Advance(kPerNs - 1);
  clock_.Hold([&] { EXPECT_TRUE(Allowed(engine(), key, 2)); });
  Advance(kSecondNs);
  BeginNextSegment();
  Engine::Flags no_wait;
  no_wait.no_wait = true;
  EXPECT_TRUE(engine()->Compact(no_wait).ok());
  clock_.Release();
  EXPECT_TRUE(engine()->Compact({}).ok());
  const std::string live = DescribeAll(engine(), true);
  ASSERT_NO_FATAL_FAILURE(OpenAgain());
  EXPECT_EQ(DescribeAll(engine(), true), live);
}

// As an eviction is recorded too.
TEST_F(Skew, ARemovalThatComesLateFindsItsCounter) {
  const std::string key = KeyElsewhere();
  EXPECT_TRUE(Allowed(engine(), key));
  PrepareNextSegment();
  Advance(kPerNs - 1);
  clock_.Hold([&] {
    uint64_t ticket = 0;
    const Status status = engine()->Remove(LimitKind::kExact, key, {}, &ticket);
    EXPECT_TRUE(status.ok()) << status.message();
  });
  Advance(kSecondNs);
  BeginNextSegment();
  clock_.Release();
  const std::string live = DescribeAll(engine(), true);
  ASSERT_NO_FATAL_FAILURE(OpenAgain());
  EXPECT_EQ(DescribeAll(engine(), true), live);
}

// ---- Many threads ------------------------------------------------------------------------------

// Each reading is later than the one before, or may be earlier than another thread's, as those of
// the processor's counter are. Now and then a thread is stopped after its own.
class TickingClock final : public Clock {
 public:
  explicit TickingClock(int64_t most_back_ns = 0) : most_back_ns_(most_back_ns) {}

  int64_t BootNs() const override {
    const int64_t now_ns = stopped_ ? now_ns_.load() : now_ns_.fetch_add(kTickNs);
    static thread_local uint32_t readings = 0;
    static thread_local std::minstd_rand random(static_cast<uint32_t>(now_ns));
    if (++readings % 61 == 0) {
      for (int i = 0; i < 20; ++i) std::this_thread::yield();
    }
    if (most_back_ns_ == 0 || stopped_) return now_ns;
    return now_ns - static_cast<int64_t>(random()) % most_back_ns_;
  }
  int64_t WallNs() const override { return FakeClock::kStartWallNs + now_ns_; }
  BootId Boot() const override { return BootId{1}; }
  bool monotonic() const override { return true; }
  void Stop() { stopped_ = true; }

 private:
  static constexpr int64_t kTickNs = 1000;
  const int64_t most_back_ns_;
  mutable std::atomic<int64_t> now_ns_{FakeClock::kStartBootNs};
  std::atomic<bool> stopped_{false};
};

struct Load {
  uint64_t segment_bytes;
  uint64_t checks;       // of each thread
  uint64_t duration_ns;  // at least
  int64_t most_back_ns = 0;
};

void OpenToEvict(const std::string& directory, const Clock* clock, uint64_t segment_bytes,
                 std::unique_ptr<Engine>* engine) {
  Engine::Options options;
  options.clock = clock;
  options.log.always = false;
  options.log.segment_bytes = segment_bytes;
  options.max_keys = 1000;
  options.when_full = Engine::WhenFull::kEvict;
  options.history_max_bytes = uint64_t{64} << 20;
  const Status status = Engine::Open(directory, std::move(options), engine);
  ASSERT_TRUE(status.ok()) << status.message();
}

// Keys that come and go, and what is seldom of each.
void UseKeys(Engine* engine, uint64_t seed, const Load& load) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(load.duration_ns);
  std::minstd_rand random(static_cast<uint32_t>(seed) + 1);
  for (uint64_t i = 0; i < load.checks || std::chrono::steady_clock::now() < until; ++i) {
    const std::string key = "ip:" + std::to_string(random() % 1500);
    const std::string other = "hour" + std::to_string(random() % 10);
    Allowed(engine, other);
    Allowed(engine, key);
    uint64_t ticket = 0;
    if (i % 50 == 0) {
      ASSERT_TRUE(engine->Reset(LimitKind::kExact, key, {}, &ticket).ok());
    }
    if (i % 50 == 25) {
      const Status status = engine->Remove(LimitKind::kExact, key, {}, &ticket);
      ASSERT_TRUE(status.ok() || status.code() == Code::kNotConfigured) << status.message();
    }
    if (i % 1000 == 0) {
      const LimitConfig config = Config(Algorithm::kSlidingWindowLog, 5 + i / 1000 % 3, 4'000'000);
      ASSERT_TRUE(Configure(engine, "ip:1", config, LimitKind::kTemplate).ok());
    }
  }
}

// What is live then is what the log tells.
void EvictInManyThreads(const Load& load) {
  constexpr uint64_t kThreads = 8;
  const TemporaryDirectory directory;
  TickingClock clock(load.most_back_ns);
  std::unique_ptr<Engine> engine;
  ASSERT_NO_FATAL_FAILURE(OpenToEvict(directory.path(), &clock, load.segment_bytes, &engine));
  const LimitConfig config = Config(Algorithm::kFixedWindowCounter, 10, 3'000'000);
  ASSERT_TRUE(Configure(engine.get(), "ip:", config, LimitKind::kTemplate).ok());
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(Configure(engine.get(), "hour" + std::to_string(i), Hourly(100'000)).ok());
  }
  std::vector<std::thread> threads;
  for (uint64_t seed = 0; seed < kThreads; ++seed) {
    threads.emplace_back([&, seed] { UseKeys(engine.get(), seed, load); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(InfoOf(engine.get()).compaction_failures, 0u);
  clock.Stop();
  const std::string live = DescribeAll(engine.get(), true);
  Status status = engine->Shutdown();
  EXPECT_TRUE(status.ok()) << status.message();
  engine.reset();
  DoctorReport report;
  status = Examine(Env::Posix(), &clock, directory.path(), &report);
  EXPECT_TRUE(status.ok()) << status.message();
  ASSERT_NO_FATAL_FAILURE(OpenToEvict(directory.path(), &clock, load.segment_bytes, &engine));
  EXPECT_EQ(DescribeAll(engine.get(), true), live);
  status = engine->Compact({});
  EXPECT_TRUE(status.ok()) << status.message();
  engine.reset();
  ASSERT_NO_FATAL_FAILURE(OpenToEvict(directory.path(), &clock, load.segment_bytes, &engine));
  EXPECT_EQ(DescribeAll(engine.get(), true), live);
}

TEST(Skewed, EvictionsInManyThreadsLeaveALogThatOpens) {
  EvictInManyThreads({uint64_t{1} << 18, 6'000, 0});
}

// A counter becomes fresh again after 3 ms, so it matters what a floor says.
TEST(Skewed, ThreadsWhoseClocksDifferLeaveALogThatOpens) {
  EvictInManyThreads({uint64_t{1} << 18, 6'000, 0, 5'000'000});
}

TEST(Skewed, EvictionsForMinutesLeaveALogThatOpens) {
  if (std::getenv("FLINT_LONG") == nullptr) GTEST_SKIP() << "set FLINT_LONG=1";
  constexpr uint64_t kTenMinutesNs = uint64_t{600} * kSecondNs;
  EvictInManyThreads({uint64_t{1} << 18, 0, kTenMinutesNs});
  EvictInManyThreads({uint64_t{8} << 20, 0, kTenMinutesNs});
}

}  // namespace
}  // namespace flint
