// Compaction and kept history: what a snapshot covers, what goes and when, and that the answers
// stay the same. Crashes in the middle of it are crash_test's.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/kept_segments.h"
#include "engine_testing.h"
#include "gate.h"
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

bool HasFile(const Machine& machine, const std::string& name) {
  const std::vector<std::string> files = machine.env->Files();
  return std::find(files.begin(), files.end(), machine.Path(name)) != files.end();
}

// Small segments, so that there are soon too many of them.
void OpenSmall(Machine* machine) {
  machine->segment_bytes = 12'000;
  machine->Open();
  ASSERT_TRUE(Configure(machine->engine.get(), "k", Hourly(100'000'000)).ok());
}

// Writes until so many segments more have their names.
void Rotate(Machine* machine, size_t count) {
  const size_t wanted = RotatedSegments(*machine) + count;
  while (RotatedSegments(*machine) < wanted) {
    FillSegments(machine->engine.get(), "k", 50);
    EXPECT_TRUE(machine->engine->Flush().ok());
    std::this_thread::yield();
  }
}

void AwaitFailures(Machine* machine, uint64_t failures) {
  while (InfoOf(machine->engine.get()).compaction_failures < failures) std::this_thread::yield();
}

Fault NoSnapshot() {
  Fault fault;
  fault.forever = true;
  fault.matches = [](Op op, const std::string& path) {
    return op == Op::kCreate && path.ends_with("flint.snapshot.tmp");
  };
  return fault;
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

TEST(Compaction, WhatItLeavesIsCountedWithoutOpeningAFile) {
  Machine machine;
  machine.segment_bytes = 10'000;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(1000)).ok());
  for (int i = 0; i < 700; ++i) Allowed(machine.engine.get(), "k");
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  uint64_t segments = 0;
  uint64_t log_bytes = 0;
  for (const std::string& path : machine.env->Files()) {
    if (path.find("flint.aof") == std::string::npos) continue;
    ++segments;
    log_bytes += machine.env->Contents(path).size();
  }
  std::atomic<int> opened = 0;
  machine.env->SetHook([&](Op op, const std::string&) { opened += op == Op::kOpen ? 1 : 0; });
  const Engine::Info info = InfoOf(machine.engine.get());
  machine.env->SetHook(nullptr);
  EXPECT_EQ(opened, 0);
  EXPECT_GE(segments, 3u);
  EXPECT_EQ(info.segments, segments);
  EXPECT_EQ(info.log_bytes, log_bytes);
  EXPECT_EQ(info.snapshot_bytes, machine.env->Contents(machine.Path("flint.snapshot")).size());
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
    FillSegments(machine.engine.get(), "k", 40'000);
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

// ---- Failures ----------------------------------------------------------------------------------

TEST(Compaction, FindsThatNoSnapshotCanBeWrittenBeforeItEndsASegment) {
  Machine machine(false);
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(10)).ok());
  machine.env->InjectFault(NoSnapshot());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(machine.engine->Compact({}).code(), Code::kIo);
  EXPECT_EQ(RotatedSegments(machine), 0u);
  machine.env->ClearFault();
  EXPECT_TRUE(machine.engine->Compact({}).ok());
  EXPECT_EQ(RotatedSegments(machine), 1u);
  machine.Close();
}

TEST(Compaction, ThatFailedIsTriedLaterAndLaterAndLeavesNothingBehind) {
  Machine machine(false);
  OpenSmall(&machine);
  machine.env->InjectFault(NoSnapshot());
  Rotate(&machine, 70);
  AwaitFailures(&machine, 1);
  Engine::Info info = InfoOf(machine.engine.get());
  EXPECT_EQ(info.compaction_failure.code(), Code::kIo);
  EXPECT_NE(info.compaction_failure.message().find("flint.snapshot.tmp"), std::string::npos);
  EXPECT_EQ(info.compaction_retry_at_ns, machine.clock->WallNs() + kSecondNs);
  Rotate(&machine, 10);
  machine.clock->AdvanceNs(kSecondNs);
  Rotate(&machine, 1);
  AwaitFailures(&machine, 2);
  EXPECT_EQ(InfoOf(machine.engine.get()).compaction_retry_at_ns,
            machine.clock->WallNs() + 2 * kSecondNs);
  machine.clock->AdvanceNs(kSecondNs);
  Rotate(&machine, 10);
  machine.clock->AdvanceNs(kSecondNs);
  Rotate(&machine, 1);
  AwaitFailures(&machine, 3);
  machine.env->ClearFault();
  EXPECT_TRUE(machine.engine->Compact({}).ok());
  info = InfoOf(machine.engine.get());
  EXPECT_EQ(info.compaction_failures, 3u);
  EXPECT_TRUE(info.compaction_failure.ok());
  EXPECT_EQ(info.compaction_retry_at_ns, 0);
  machine.Close();
}

TEST(Compaction, ThatCannotBeWrittenLeavesNoHalfSnapshot) {
  Machine machine;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(10)).ok());
  Fault fault;
  fault.forever = true;
  fault.error = ENOSPC;
  fault.matches = [](Op op, const std::string& path) {
    return op == Op::kWrite && path.ends_with("flint.snapshot.tmp");
  };
  machine.env->InjectFault(fault);
  EXPECT_EQ(machine.engine->Compact({}).code(), Code::kDiskFull);
  EXPECT_FALSE(HasFile(machine, "flint.snapshot.tmp"));
  machine.env->ClearFault();
  machine.Close();
}

// The change and the change back come when the segment has ended, before the states are compared.
TEST(Compaction, SeesNoDamageWhereALimitWasChangedAndChangedBack) {
  for (const LimitKind kind : {LimitKind::kExact, LimitKind::kTemplate}) {
    Machine machine(false);
    const LimitConfig config = Config(Algorithm::kTokenBucket, 10, kHourNs);
    Gate gate;
    std::atomic<bool> armed{false};
    machine.env->SetHook([&](Op op, const std::string&) {
      if (op == Op::kRename && armed.exchange(false)) gate.Pass();
    });
    machine.Open();
    Engine* const engine = machine.engine.get();
    ASSERT_TRUE(Configure(engine, "k", config, kind).ok());
    const std::string key = kind == LimitKind::kExact ? "k" : "k1";
    EXPECT_TRUE(Allowed(engine, key));
    machine.clock->AdvanceNs(60 * kSecondNs);
    gate.Close();
    armed = true;
    std::thread compacting([&] {
      const Status status = engine->Compact({});
      EXPECT_TRUE(status.ok()) << status.message();
    });
    gate.AwaitSomebody();
    EXPECT_TRUE(Configure(engine, "k", Config(Algorithm::kTokenBucket, 20, kHourNs), kind).ok());
    EXPECT_EQ(StatusOf(engine, key).remaining, 19u);
    EXPECT_TRUE(Configure(engine, "k", config, kind).ok());
    gate.Open();
    compacting.join();
    machine.Close();
  }
}

// A program that may be killed at any time would never have its log compacted.
TEST(Compaction, ThatIsOverdueIsPartOfTheOpening) {
  Machine machine(false);
  OpenSmall(&machine);
  machine.env->InjectFault(NoSnapshot());
  Rotate(&machine, 130);
  machine.Kill();
  machine.Open();
  EXPECT_EQ(InfoOf(machine.engine.get()).compactions, 1u);
  machine.Close();
}

// It is overdue from a megabyte on: less than a running program would compact for.
TEST(Compaction, OfAMegabyteIsPartOfTheOpening) {
  for (const int checks : {10'000, 40'000}) {
    Machine machine(false);
    machine.Open();
    ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(1'000'000)).ok());
    FillSegments(machine.engine.get(), "k", checks);
    EXPECT_EQ(InfoOf(machine.engine.get()).compactions, 0u);
    machine.Kill();
    machine.Open();
    EXPECT_EQ(InfoOf(machine.engine.get()).compactions, checks == 40'000 ? 1u : 0u);
    EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, static_cast<uint64_t>(checks));
    machine.Close();
  }
}

// What a program that lived long has left: the opening answers while it is compacted.
TEST(Compaction, OfALongLogRunsBesideTheOpening) {
  Machine machine(false);
  OpenSmall(&machine);
  machine.env->InjectFault(NoSnapshot());
  Rotate(&machine, 300);
  machine.Kill();
  machine.env->ClearFault();
  Gate gate;
  gate.Close();
  machine.env->SetHook([&](Op op, const std::string& path) {
    if (op == Op::kCreate && path.ends_with("flint.snapshot.tmp")) gate.Pass();
  });
  machine.Open();
  EXPECT_EQ(InfoOf(machine.engine.get()).compactions, 0u);
  EXPECT_TRUE(Allowed(machine.engine.get(), "k"));
  gate.Open();
  machine.Close();
  machine.env->SetHook(nullptr);
  machine.Open();
  EXPECT_EQ(InfoOf(machine.engine.get()).snapshot_limits, 1u);
  machine.Close();
}

// A program that is always over soon.
TEST(Compaction, ThatWasDueAtOpeningIsFinishedBeforeItCloses) {
  Machine machine(false);
  OpenSmall(&machine);
  machine.env->InjectFault(NoSnapshot());
  Rotate(&machine, 70);
  machine.Close();
  machine.env->ClearFault();
  Gate gate;
  gate.Close();
  machine.env->SetHook([&](Op op, const std::string& path) {
    if (op == Op::kCreate && path.ends_with("flint.snapshot.tmp")) gate.Pass();
  });
  machine.Open();
  std::thread closing([&] { EXPECT_TRUE(machine.engine->Shutdown().ok()); });
  bool allowed = false;
  while (Check(machine.engine.get(), "k", 1, &allowed).ok()) std::this_thread::yield();
  gate.Open();
  closing.join();
  EXPECT_TRUE(HasFile(machine, "flint.snapshot"));
  machine.env->SetHook(nullptr);
  machine.Open();
  EXPECT_EQ(InfoOf(machine.engine.get()).snapshot_limits, 1u);
  machine.Close();
}

// ---- How much an opening has to replay ---------------------------------------------------------

class MaxReplay : public ::testing::Test {
 protected:
  MaxReplay() : machine_(false) {
    machine_.segment_bytes = 12'000;
    Engine::Options options = machine_.Options();
    options.log.max_replay_bytes = 60'000;
    EXPECT_TRUE(Engine::Open(kDirectory, std::move(options), &machine_.engine).ok());
    EXPECT_TRUE(Configure(engine(), "k", Hourly(100'000'000)).ok());
    EXPECT_TRUE(Configure(engine(), "none", Hourly(1)).ok());
    EXPECT_TRUE(Allowed(engine(), "none"));
  }
  Engine* engine() { return machine_.engine.get(); }
  // The first failure of an admission.
  Status FillUp(const Engine::Flags& flags) {
    Engine::Decision decision;
    Status status;
    while (status.ok()) {
      status = engine()->Check({"k", 1}, flags, nullptr, &decision);
      admitted_ += status.ok() ? 1 : 0;
    }
    return status;
  }

  Machine machine_;
  uint64_t admitted_ = 0;
};

TEST_F(MaxReplay, IsKeptToByWaitingForCompactions) {
  for (int i = 0; i < 20'000; ++i) EXPECT_TRUE(Allowed(engine(), "k"));
  EXPECT_GE(InfoOf(engine()).compactions, 10u);
  machine_.Kill();
  machine_.Open();
  EXPECT_LE(InfoOf(engine()).recovered_records, 72'000u / 40u);
  EXPECT_EQ(StatusOf(engine(), "k").totals.allowed, 20'000u);
  machine_.Close();
}

TEST_F(MaxReplay, WithoutACompactionOnlyDenialsGoOn) {
  machine_.env->InjectFault(NoSnapshot());
  const Status status = FillUp({});
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_NE(status.message().find("max_replay_bytes"), std::string::npos) << status.message();
  EXPECT_FALSE(Allowed(engine(), "none"));
  EXPECT_EQ(StatusOf(engine(), "k").totals.allowed, admitted_);
  machine_.env->ClearFault();
  EXPECT_TRUE(engine()->Compact({}).ok());
  EXPECT_TRUE(Allowed(engine(), "k"));
  machine_.Close();
  machine_.Open();
  EXPECT_EQ(StatusOf(engine(), "k").totals.allowed, admitted_ + 1);
  EXPECT_EQ(StatusOf(engine(), "none").totals.denied, 1u);
  machine_.Close();
}

TEST_F(MaxReplay, IsNotWaitedForWithNoWait) {
  Gate gate;
  gate.Close();
  machine_.env->SetHook([&](Op op, const std::string& path) {
    if (op == Op::kCreate && path.ends_with("flint.snapshot.tmp")) gate.Pass();
  });
  Engine::Flags no_wait;
  no_wait.no_wait = true;
  Engine::Decision decision;
  Status status;
  // With the next segment at hand, what is waited for is the compaction.
  while (status.code() != Code::kWouldBlock || !HasFile(machine_, "flint.aof.next")) {
    status = engine()->Check({"k", 1}, no_wait, nullptr, &decision);
    const bool passes = status.code() == Code::kWouldBlock || status.code() == Code::kBusy;
    EXPECT_TRUE(status.ok() || passes) << status.message();
  }
  gate.Open();
  EXPECT_TRUE(Allowed(engine(), "k"));
  machine_.Close();
}

// Opening goes on in a segment that holds what is older than the opening: a compaction that does
// not cover it must keep what its records go on from.
TEST(Compaction, BehindAnOpeningForgetsNothingThatIsInUse) {
  Machine machine(false);
  OpenSmall(&machine);
  const LimitConfig config = Config(Algorithm::kTokenBucket, 10, 10 * kSecondNs);
  ASSERT_TRUE(Configure(machine.engine.get(), "t:", config, LimitKind::kTemplate).ok());
  EXPECT_TRUE(Allowed(machine.engine.get(), "t:x", 10));
  machine.env->InjectFault(NoSnapshot());
  Rotate(&machine, 70);
  machine.clock->AdvanceNs(9 * kSecondNs);
  EXPECT_TRUE(Allowed(machine.engine.get(), "t:x"));
  machine.Close();
  machine.env->ClearFault();
  machine.clock->AdvanceNs(kSecondNs + kSecondNs / 2);
  machine.Open();
  const std::string state = DescribeAll(machine.engine.get(), true);
  EXPECT_EQ(StatusOf(machine.engine.get(), "t:x").remaining, 9u);
  machine.Close();
  EXPECT_TRUE(HasFile(machine, "flint.snapshot"));
  machine.Open();
  EXPECT_EQ(DescribeAll(machine.engine.get(), true), state);
  EXPECT_EQ(StatusOf(machine.engine.get(), "t:x").remaining, 9u);
  machine.Close();
}

TEST(History, ThatCannotBeRemovedIsKeptAndTriedAgain) {
  Machine machine(false);
  machine.history_max_bytes = 0;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(10)).ok());
  Fault fault;
  fault.forever = true;
  fault.matches = [](Op op, const std::string& path) {
    return op == Op::kRemove && path.find("flint.aof.0") != std::string::npos;
  };
  machine.env->InjectFault(fault);
  EXPECT_TRUE(machine.engine->Compact({}).ok());
  EXPECT_EQ(InfoOf(machine.engine.get()).history_failures, 1u);
  EXPECT_GT(InfoOf(machine.engine.get()).history_bytes, 0u);
  EXPECT_EQ(RotatedSegments(machine), 1u);
  machine.env->ClearFault();
  EXPECT_TRUE(machine.engine->Compact({}).ok());
  EXPECT_EQ(InfoOf(machine.engine.get()).history_bytes, 0u);
  EXPECT_EQ(RotatedSegments(machine), 0u);
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

// However small they are.
TEST(History, IsKeptUpToANumberOfFiles) {
  Machine machine(false);
  machine.history_max_bytes = 10 * machine.segment_bytes;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(100'000'000)).ok());
  for (int i = 0; i < 300; ++i) {
    EXPECT_TRUE(Allowed(machine.engine.get(), "k"));
    ASSERT_TRUE(machine.engine->Compact({}).ok());
  }
  EXPECT_EQ(RotatedSegments(machine), 266u);
  machine.Close();
  machine.history_max_bytes = 5 * machine.segment_bytes;
  machine.Open();
  EXPECT_EQ(RotatedSegments(machine), 261u);
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, 300u);
  machine.Close();
}

// A file system that keeps the changes of a directory in no order must leave no gap in it.
TEST(History, IsDroppedWithoutAGapWhateverAPowerLossTakes) {
  Machine machine(false);
  OpenSmall(&machine);
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(Allowed(machine.engine.get(), "k"));
    ASSERT_TRUE(machine.engine->Compact({}).ok());
  }
  machine.Close();
  std::vector<std::unique_ptr<FakeEnv>> images;
  machine.env->SetHook([&](Op op, const std::string& path) {
    if (op != Op::kRemove || path.find("flint.aof.0") == std::string::npos) return;
    for (uint64_t seed = 0; seed < 8; ++seed) {
      images.push_back(machine.env->PowerLoss(Loss::kUnordered, seed));
    }
  });
  machine.history_max_bytes = 0;
  machine.Open();
  machine.env->SetHook(nullptr);
  machine.Close();
  EXPECT_GE(images.size(), 8 * 8u);
  machine.history_max_bytes = uint64_t{1} << 28;
  for (std::unique_ptr<FakeEnv>& image : images) {
    machine.env = std::move(image);
    machine.clock->Reboot();
    machine.Open();
    EXPECT_EQ(InfoOf(machine.engine.get()).damaged_history, 0u);
    EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, 8u);
    machine.Close();
  }
}

// That the directory is not found does not say that a segment is gone.
TEST(History, KeepsASegmentWhereTheRemovalBeforeCannotBeSynced) {
  FakeEnv env;
  FakeClock clock;
  EngineClock engine_clock(&clock);
  KeptSegments kept(&env, kDirectory, &engine_clock, {});
  kept.Add({{"first", 100, 0}, {"second", 100, 0}});
  const std::string second = std::string(kDirectory) + "/second";
  env.SetContents(second, "history");
  EXPECT_TRUE(kept.DropOldest()) << "somebody else has removed it";
  Fault fault;
  fault.error = ENOENT;
  fault.matches = OnlyOps({Op::kSyncDirectory});
  env.InjectFault(fault);
  EXPECT_FALSE(kept.DropOldest());
  EXPECT_EQ(kept.failures(), 1u);
  EXPECT_EQ(kept.bytes(), 100u);
  EXPECT_EQ(env.Contents(second), "history");
  EXPECT_TRUE(kept.DropOldest());
  EXPECT_EQ(env.Files(), std::vector<std::string>());
  EXPECT_EQ(kept.bytes(), 0u);
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
