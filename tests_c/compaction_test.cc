// Compaction and kept history: what a snapshot covers, what goes and when, and that the answers
// stay the same. Crashes in the middle of it are crash_test's.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine_testing.h"
#include "storage/file_names.h"

namespace flint {
namespace {

size_t RotatedSegments(const Machine& machine) {
  size_t count = 0;
  for (const std::string& path : machine.env->Files()) {
    count += path.find("flint.aof.0") != std::string::npos ? 1 : 0;
  }
  return count;
}

// Enough admissions under one key for several segments of 256 KiB.
void FillSegments(Engine* engine, const std::string& key, int checks = 20'000) {
  for (int i = 0; i < checks; ++i) Allowed(engine, key);
}

TEST(Compaction, LeavesEveryAnswerAsItWas) {
  Machine machine(false);
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "exact", Hourly(1000)).ok());
  ASSERT_TRUE(Configure(machine.engine.get(), "ip:", Hourly(3), LimitKind::kTemplate).ok());
  for (int i = 0; i < 50; ++i) {
    Allowed(machine.engine.get(), "exact", 3);
    Allowed(machine.engine.get(), "ip:" + std::to_string(i % 11));
  }
  const std::string before = DescribeAll(machine.engine.get(), true);
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  EXPECT_EQ(DescribeAll(machine.engine.get(), true), before);
  machine.Close();
  machine.Open();
  EXPECT_EQ(DescribeAll(machine.engine.get(), true), before);
  EXPECT_EQ(InfoOf(machine.engine.get()).snapshot_limits, 13u);  // 11 counters, 2 limits
  machine.Close();
}

TEST(Compaction, OfTheCompactedChangesNothing) {
  Machine machine;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(10)).ok());
  Allowed(machine.engine.get(), "k");
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  EXPECT_EQ(InfoOf(machine.engine.get()).compactions, 2u);
  machine.Close();
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, 1u);
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").remaining, 9u);
  machine.Close();
}

TEST(Compaction, InMemoryIsNothing) {
  FakeClock clock;
  Engine::Options options;
  options.clock = &clock;
  std::unique_ptr<Engine> engine;
  ASSERT_TRUE(Engine::Open("", std::move(options), &engine).ok());
  EXPECT_TRUE(engine->Compact({}).ok());
}

TEST(Compaction, StartsByItselfWhenTheLogHasOutgrownTheSnapshot) {
  Machine machine(false);
  machine.segment_bytes = uint64_t{1} << 22;
  machine.ring_bytes = uint64_t{1} << 20;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(100'000'000)).ok());
  for (int round = 0; round < 100 && InfoOf(machine.engine.get()).compactions == 0; ++round) {
    FillSegments(machine.engine.get(), "k", 30'000);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GE(InfoOf(machine.engine.get()).compactions, 1u);
  EXPECT_EQ(InfoOf(machine.engine.get()).compaction_failures, 0u);
  const uint64_t allowed = StatusOf(machine.engine.get(), "k").totals.allowed;
  machine.Close();
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, allowed);
  machine.Close();
}

// Files are as large as what is in them only once they are finished, which may be later.
TEST(Compaction, HistoryCountsWhatItsSegmentsHold) {
  Machine machine;
  machine.segment_bytes = 1 << 20;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(100'000'000)).ok());
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(Allowed(machine.engine.get(), "k"));
    ASSERT_TRUE(machine.engine->Compact({}).ok());
  }
  const uint64_t counted = InfoOf(machine.engine.get()).history_bytes;
  machine.Close();
  uint64_t held = 0;
  for (const std::string& path : machine.env->Files()) {
    if (path.find(std::string(kLogName) + ".") == std::string::npos) continue;
    held += machine.env->Contents(path).size();
  }
  EXPECT_EQ(counted, held);
}

TEST(Compaction, ChecksGoOnMeanwhile) {
  Machine machine(false);
  machine.ring_bytes = uint64_t{1} << 20;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(100'000'000)).ok());
  std::atomic<bool> stop{false};
  uint64_t admitted = 0;
  std::thread checker([&] {
    while (!stop.load()) admitted += Allowed(machine.engine.get(), "k") ? 1 : 0;
  });
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(machine.engine->Compact({}).ok());
  stop.store(true);
  checker.join();
  machine.Close();
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, admitted);
  machine.Close();
}

TEST(Compaction, EndsWhenTheLimiterIsShutDown) {
  Machine machine(false);
  machine.ring_bytes = uint64_t{1} << 20;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(100'000'000)).ok());
  FillSegments(machine.engine.get(), "k");
  Engine::Flags no_wait;
  no_wait.no_wait = true;
  ASSERT_TRUE(machine.engine->Compact(no_wait).ok());
  machine.Close();
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, 20'000u);
  machine.Close();
}

TEST(History, IsKeptUpToItsBytesOldestDroppedFirst) {
  for (const uint64_t kept_bytes : {uint64_t{0}, uint64_t{600'000}, UINT64_MAX}) {
    Machine machine(false);
    machine.ring_bytes = uint64_t{1} << 20;
    Engine::Options options = machine.Options();
    options.history_max_bytes = kept_bytes;
    ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &machine.engine).ok());
    ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(100'000'000)).ok());
    FillSegments(machine.engine.get(), "k");
    const size_t rotated = RotatedSegments(machine);
    ASSERT_GE(rotated, 2u);
    ASSERT_TRUE(machine.engine->Compact({}).ok());
    const uint64_t bytes = InfoOf(machine.engine.get()).history_bytes;
    if (kept_bytes == 0) {
      EXPECT_EQ(RotatedSegments(machine), 0u);
    }
    if (kept_bytes == 600'000) {
      EXPECT_LE(bytes, kept_bytes);
      EXPECT_GT(bytes, 0u);
      EXPECT_EQ(machine.env->Contents(machine.Path("flint.aof.00000000000000000001")), "");
    }
    if (kept_bytes == UINT64_MAX) {
      EXPECT_GT(RotatedSegments(machine), rotated);
    }
    machine.Close();
    machine.Open();
    EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, 20'000u);
    machine.Close();
  }
}

TEST(History, IsKeptUpToItsAge) {
  Machine machine(false);
  machine.ring_bytes = uint64_t{1} << 20;
  Engine::Options options = machine.Options();
  options.history_max_age_ns = 60 * kSecondNs;
  ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &machine.engine).ok());
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(100'000'000)).ok());
  FillSegments(machine.engine.get(), "k");
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  EXPECT_GT(RotatedSegments(machine), 0u);
  machine.clock->AdvanceNs(61 * kSecondNs);
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  EXPECT_LE(RotatedSegments(machine), 1u);  // what this compaction itself has just covered
  machine.Close();
}

TEST(History, MakesRoomWhenTheDiskIsFull) {
  Machine machine(false);
  machine.ring_bytes = uint64_t{1} << 20;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(100'000'000)).ok());
  FillSegments(machine.engine.get(), "k");
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  const uint64_t history = InfoOf(machine.engine.get()).history_bytes;
  ASSERT_GT(history, 500'000u);
  uint64_t used = 0;
  for (const std::string& path : machine.env->Files()) used += machine.env->Contents(path).size();
  machine.env->SetCapacity(used);
  FillSegments(machine.engine.get(), "k");
  EXPECT_LT(InfoOf(machine.engine.get()).history_bytes, history);
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, 40'000u);
  machine.Close();
}

TEST(History, DamageInItIsReportedAndOpeningGoesOn) {
  Machine machine(false);
  machine.ring_bytes = uint64_t{1} << 20;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(100'000'000)).ok());
  FillSegments(machine.engine.get(), "k");
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  machine.Close();
  const std::string oldest = machine.Path("flint.aof.00000000000000000001");
  std::string bytes = machine.env->Contents(oldest);
  ASSERT_GT(bytes.size(), 100u);
  bytes[90] = static_cast<char>(bytes[90] ^ 1);
  machine.env->SetContents(oldest, bytes);
  machine.Open();
  EXPECT_EQ(InfoOf(machine.engine.get()).damaged_history, 1u);
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, 20'000u);
  machine.Close();
}

}  // namespace
}  // namespace flint
