// The log under way: threads that share syncs, a ring, a segment and a disk that are full, calls
// that fail, and a limiter that is used by many threads while it is closed.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <iterator>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "engine_testing.h"
#include "gate.h"
#include "storage/file_names.h"
#include "temporary_directory.h"

namespace flint {
namespace {

constexpr LimitKind kTemplate = LimitKind::kTemplate;

void RunThreads(int count, const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
}

// Until `done`, for some seconds.
bool Eventually(const std::function<bool()>& done) {
  for (int i = 0; i < 5000; ++i) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

uint64_t UsedBytes(const FakeEnv& env) {
  uint64_t bytes = 0;
  for (const std::string& path : env.Files()) bytes += env.Contents(path).size();
  return bytes;
}

// ---- Sharing -----------------------------------------------------------------------------------

TEST(GroupCommit, ThreadsShareSyncs) {
  Machine machine;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(1'000'000)).ok());
  const uint64_t before = InfoOf(machine.engine.get()).log.syncs;
  machine.env->SetHook([](Op op, const std::string&) {
    if (op == Op::kSyncData) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  });
  constexpr int kThreads = 8;
  constexpr int kChecks = 25;
  RunThreads(kThreads, [&](int) {
    for (int i = 0; i < kChecks; ++i) EXPECT_TRUE(Allowed(machine.engine.get(), "key"));
  });
  const Engine::Info info = InfoOf(machine.engine.get());
  EXPECT_LT(info.log.syncs - before, uint64_t{kThreads} * kChecks / 2);
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, uint64_t{kThreads} * kChecks);
  machine.LosePower(Loss::kDropAll);
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, uint64_t{kThreads} * kChecks);
}

// Who syncs the log, in order.
class Syncers {
 public:
  explicit Syncers(FakeEnv* env, Gate* gate = nullptr) : env_(env) {
    env_->SetHook([this, gate](Op op, const std::string&) {
      if (op != Op::kSyncData) return;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        all_.push_back(std::this_thread::get_id());
      }
      if (gate != nullptr) gate->Pass();
    });
  }
  ~Syncers() { env_->SetHook(nullptr); }

  std::vector<std::thread::id> all() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return all_;
  }

 private:
  FakeEnv* const env_;
  std::mutex mutex_;
  std::vector<std::thread::id> all_;
};

TEST(GroupCommit, WhoWaitsAloneSyncsByItself) {
  Machine machine;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(100)).ok());
  Syncers syncers(machine.env.get());
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Allowed(machine.engine.get(), "key"));
  EXPECT_EQ(syncers.all(), std::vector<std::thread::id>(10, std::this_thread::get_id()));
}

TEST(GroupCommit, WhoMustBeBackInTimeHasAnotherThreadSync) {
  Machine machine;
  machine.Open();
  Engine* const engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(100)).ok());
  Gate disk;
  Syncers syncers(machine.env.get(), &disk);
  disk.Close();
  Engine::Flags no_sync;
  no_sync.no_sync = true;
  Engine::Decision decision;
  ASSERT_TRUE(engine->Check({"key", 1}, no_sync, nullptr, &decision).ok());
  EXPECT_EQ(engine->Wait(decision.ticket, 1'000'000).code(), Code::kTimeout);
  disk.AwaitSomebody();
  disk.Open();
  EXPECT_TRUE(engine->Wait(decision.ticket, 60'000'000'000).ok());
  const std::vector<std::thread::id> all = syncers.all();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_NE(all[0], std::this_thread::get_id());
}

TEST(GroupCommit, WhoComesDuringASyncSharesTheNext) {
  Machine machine;
  machine.Open();
  Engine* const engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(100)).ok());
  Gate disk;
  Syncers syncers(machine.env.get(), &disk);
  disk.Close();
  std::thread leader([engine] { EXPECT_TRUE(Allowed(engine, "key")); });
  const std::thread::id leads = leader.get_id();
  disk.AwaitSomebody();
  std::vector<std::thread> followers;
  for (int i = 0; i < 8; ++i) {
    followers.emplace_back([engine] { EXPECT_TRUE(Allowed(engine, "key")); });
  }
  EXPECT_TRUE(Eventually([&] { return StatusOf(engine, "key").totals.allowed == 9; }));
  disk.Open();
  leader.join();
  for (std::thread& follower : followers) follower.join();
  const std::vector<std::thread::id> all = syncers.all();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0], leads);
  EXPECT_NE(all[1], leads);
}

TEST(GroupCommit, ACloseWaitsForTheSyncThatACallLeads) {
  Machine machine;
  machine.Open();
  Engine* const engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(100)).ok());
  {
    Gate disk;
    Syncers syncers(machine.env.get(), &disk);
    disk.Close();
    std::thread leader([engine] { EXPECT_TRUE(Allowed(engine, "key")); });
    disk.AwaitSomebody();
    std::atomic<bool> closed = false;
    std::thread closer([engine, &closed] {
      EXPECT_TRUE(engine->Shutdown().ok());
      closed = true;
    });
    Engine::Flags no_wait;
    no_wait.no_wait = true;
    Engine::Decision decision;
    EXPECT_TRUE(Eventually([&] {
      return engine->Check({"key", 1}, no_wait, nullptr, &decision).code() == Code::kClosed;
    }));
    EXPECT_FALSE(closed);
    disk.Open();
    leader.join();
    closer.join();
  }
  machine.LosePower(Loss::kDropAll);
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, 1u);
}

TEST(GroupCommit, BatchModeSyncsByCountAndByTime) {
  for (const bool by_count : {false, true}) {
    Machine machine(false);
    Engine::Options options = machine.Options();
    if (by_count) {
      options.log.flush_every_events = 10;
    } else {
      options.log.flush_every_ns = 20'000'000;
    }
    ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &machine.engine).ok());
    ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(1'000'000)).ok());
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(Allowed(machine.engine.get(), "key"));
    EXPECT_TRUE(Eventually([&] {
      const std::unique_ptr<FakeEnv> image = machine.env->PowerLoss(Loss::kDropAll);
      FakeClock clock;
      clock.Reboot();
      std::unique_ptr<Engine> engine;
      EXPECT_TRUE(Engine::Open(kDirectory, OptionsFor(image.get(), &clock, false), &engine).ok());
      Engine::LimitStatus status;
      return engine->StatusOf(LimitKind::kExact, "key", &status).ok() &&
             status.totals.allowed >= (by_count ? 10u : 20u);
    }));
  }
}

// After a second without events the last sync's seal is synced itself.
TEST(GroupCommit, AnIdleLogIsSealed) {
  Machine machine;
  Engine::Options options = machine.Options();
  options.log.flush_every_ns = 10'000'000;
  ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &machine.engine).ok());
  const uint64_t before = InfoOf(machine.engine.get()).log.syncs;
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(5)).ok());
  // The change's own, and the seal's.
  EXPECT_TRUE(Eventually([&] { return InfoOf(machine.engine.get()).log.syncs >= before + 2; }));
  // And then it rests.
  const Engine::Info info = InfoOf(machine.engine.get());
  std::this_thread::sleep_for(std::chrono::milliseconds(1300));
  EXPECT_EQ(InfoOf(machine.engine.get()).log.syncs, info.log.syncs);
  EXPECT_EQ(InfoOf(machine.engine.get()).log.appended, info.log.durable);
}

// Who watches a limiter is answered while its disk hangs, and sees that it does.
TEST(GroupCommit, AHangingSyncIsSeen) {
  Machine machine(false);
  machine.Open();
  Engine* engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(5)).ok());
  ASSERT_TRUE(engine->Flush().ok());
  EXPECT_EQ(InfoOf(engine).log.unsynced_events, 0u);
  Gate disk;
  machine.env->SetHook([&disk](Op op, const std::string&) {
    if (op == Op::kSyncData) disk.Pass();
  });
  disk.Close();
  EXPECT_TRUE(Allowed(engine, "key"));
  std::thread syncing([engine] { EXPECT_TRUE(engine->Flush().ok()); });
  disk.AwaitSomebody();
  const Log::Counts during = InfoOf(engine).log;
  const Log::Counts later = InfoOf(engine).log;
  disk.Open();
  syncing.join();
  machine.env->SetHook(nullptr);
  EXPECT_EQ(during.unsynced_events, 1u);
  EXPECT_EQ(later.syncs, during.syncs);
  EXPECT_EQ(later.times.sync_time_ns, during.times.sync_time_ns);
  EXPECT_GT(later.times.since_sync_ns, during.times.since_sync_ns);
  const Log::Counts after = InfoOf(engine).log;
  EXPECT_EQ(after.unsynced_events, 0u);
  EXPECT_GT(after.syncs, during.syncs);
  EXPECT_GT(after.times.sync_time_ns, during.times.sync_time_ns);
}

// ---- Full --------------------------------------------------------------------------------------

TEST(Full, ARingMakesCallersWriteAndDenialsMerge) {
  Machine machine(false);
  machine.ring_bytes = 1 << 12;
  machine.Open();
  Engine* engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(1'000'000)).ok());
  ASSERT_TRUE(Configure(engine, "small", Hourly(1)).ok());
  EXPECT_TRUE(Allowed(engine, "small"));
  Engine::Flags no_wait;
  no_wait.no_wait = true;
  Engine::Decision decision;
  uint64_t allowed = 0;
  Code code = Code::kOk;
  while (code == Code::kOk) {
    code = engine->Check({"key", 1}, no_wait, nullptr, &decision).code();
    if (code == Code::kOk) ++allowed;
    ASSERT_LT(allowed, 1000u);
  }
  EXPECT_EQ(code, Code::kWouldBlock);
  EXPECT_EQ(StatusOf(engine, "key").totals.allowed, allowed);
  for (int i = 0; i < 50; ++i) EXPECT_FALSE(Allowed(engine, "small"));
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(Allowed(engine, "key"));
  machine.Kill();
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, allowed + 1000);
  EXPECT_LE(StatusOf(machine.engine.get(), "small").totals.denied, 50u);
}

TEST(Full, DenialsThatFoundNoRoomAreThereAfterAClose) {
  Machine machine(false);
  machine.ring_bytes = 1 << 12;
  machine.Open();
  Engine* engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(1'000'000)).ok());
  ASSERT_TRUE(Configure(engine, "t:", Hourly(1), kTemplate).ok());
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(Allowed(engine, "t:" + std::to_string(i)));
  Engine::Flags no_wait;
  no_wait.no_wait = true;
  Engine::Decision decision;
  while (engine->Check({"key", 1}, no_wait, nullptr, &decision).ok()) {
  }
  for (int i = 0; i < 300; ++i) EXPECT_FALSE(Allowed(engine, "t:" + std::to_string(i % 100)));
  machine.Close();
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "t:", kTemplate).totals.denied, 300u);
}

TEST(Full, DenialsThatFindNoRoomTogetherAreFlushed) {
  Machine machine(false);
  machine.ring_bytes = 1 << 12;
  machine.Open();
  Engine* engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "t:", Hourly(1), kTemplate).ok());
  for (int i = 0; i < 4000; ++i) Allowed(engine, "t:" + std::to_string(i % 100));
  const uint64_t denied = StatusOf(engine, "t:", kTemplate).totals.denied;
  EXPECT_EQ(denied, 3900u);
  ASSERT_TRUE(engine->Flush().ok());
  machine.LosePower(Loss::kDropAll);
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "t:", kTemplate).totals.denied, denied);
}

// Whoever makes room finds no memory for it, while the disk holds up the background thread's sync.
TEST(Full, RoomCanBeMadeAfterMemoryWasShort) {
  Machine machine(false);
  machine.ring_bytes = 1 << 12;
  machine.Open();
  Engine* engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(100'000'000)).ok());
  Gate disk;
  disk.Close();
  bool thrown = false;
  machine.env->SetHook([&, self = std::this_thread::get_id()](Op op, const std::string&) {
    if (std::this_thread::get_id() != self) {
      if (op == Op::kSyncData) disk.Pass();
    } else if (op == Op::kWrite && !thrown) {
      thrown = true;
      throw std::bad_alloc();
    }
  });
  uint64_t allowed = 0;
  for (int i = 0; i < 1000 || !thrown; ++i) {
    try {
      if (Allowed(engine, "key")) ++allowed;
    } catch (const std::bad_alloc&) {
      EXPECT_TRUE(thrown);
    }
  }
  disk.Open();
  ASSERT_TRUE(engine->Flush().ok());
  machine.env->SetHook(nullptr);
  machine.LosePower(Loss::kDropAll);
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, allowed);
}

TEST(Full, ASegmentMakesCallersWaitForTheNext) {
  Machine machine(false);
  machine.segment_bytes = 10'000;
  machine.Open();
  Engine* engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(1'000'000)).ok());
  ASSERT_TRUE(Configure(engine, "small", Hourly(1)).ok());
  EXPECT_TRUE(Allowed(engine, "small"));
  Gate gate;
  gate.Close();
  const std::thread::id self = std::this_thread::get_id();
  machine.env->SetHook([&](Op op, const std::string& path) {
    const bool next = path.ends_with(kNextName) && std::this_thread::get_id() != self;
    if (next && op == Op::kCreate) gate.Pass();
  });
  Engine::Flags no_wait;
  no_wait.no_wait = true;
  Engine::Decision decision;
  uint64_t allowed = 0;
  while (engine->Check({"key", 1}, no_wait, nullptr, &decision).ok()) ++allowed;
  ASSERT_TRUE(engine->Check({"small", 1}, no_wait, nullptr, &decision).ok());
  EXPECT_FALSE(decision.allowed);
  std::atomic<bool> answered = false;
  std::thread waiting([&] {
    EXPECT_TRUE(Allowed(engine, "key"));
    answered = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(answered);
  gate.Open();
  waiting.join();
  machine.Close();
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, allowed + 1);
  EXPECT_EQ(StatusOf(machine.engine.get(), "small").totals.denied, 1u);
}

TEST(Full, ManySmallSegmentsLoseNothing) {
  for (const bool always : {false, true}) {
    Machine machine(always);
    machine.segment_bytes = 9'000;
    machine.Open();
    ASSERT_TRUE(Configure(machine.engine.get(), "t:", Hourly(1'000'000), kTemplate).ok());
    RunThreads(4, [&](int thread) {
      const std::string key = "t:" + std::to_string(thread);
      for (int i = 0; i < 1000; ++i) EXPECT_TRUE(Allowed(machine.engine.get(), key));
    });
    EXPECT_GT(InfoOf(machine.engine.get()).segments, 10u);
    machine.Kill();
    machine.Open();
    EXPECT_EQ(StatusOf(machine.engine.get(), "t:", kTemplate).totals.allowed, 4000u);
  }
}

TEST(Full, ADiskFailsAdmissionsBeforeTheyChangeAnything) {
  for (const bool always : {false, true}) {
    Machine machine(always);
    machine.segment_bytes = 10'000;
    machine.Open();
    Engine* engine = machine.engine.get();
    ASSERT_TRUE(Configure(engine, "key", Hourly(1'000'000)).ok());
    ASSERT_TRUE(Configure(engine, "small", Hourly(1)).ok());
    EXPECT_TRUE(Allowed(engine, "small"));
    machine.env->SetCapacity(UsedBytes(*machine.env));
    uint64_t allowed = 0;
    bool yes = false;
    Status status;
    while ((status = Check(engine, "key", 1, &yes)).ok()) {
      ASSERT_TRUE(yes);
      ASSERT_LT(++allowed, 10'000u);
    }
    EXPECT_EQ(status.code(), Code::kDiskFull) << status.message();
    EXPECT_EQ(StatusOf(engine, "key").totals.allowed, allowed);
    EXPECT_EQ(Configure(engine, "key", Hourly(3)).code(), Code::kDiskFull);
    EXPECT_EQ(Configure(engine, "t:", Hourly(3), kTemplate).code(), Code::kDiskFull);
    EXPECT_EQ(StatusOf(engine, "key").config.rate, 1'000'000u);
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(Allowed(engine, "small"));
    machine.env->SetCapacity(UINT64_MAX);
    EXPECT_TRUE(Eventually([&] { return Check(engine, "key", 1, &yes).ok(); }));
    machine.Close();
    machine.Open();
    EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, allowed + 1);
    EXPECT_EQ(StatusOf(machine.engine.get(), "small").totals.denied, 100u);
  }
}

// A check may have recorded the new values of its inline limit before it finds no room for itself,
// which keys of some lengths lead to. What it says is true then as well.
TEST(Full, ADiskDoesNotTakeBackWhatHasBeenRecorded) {
  int changed = 0;
  for (size_t key_bytes = 1000; key_bytes <= 2000; key_bytes += 100) {
    Machine machine(false);
    machine.segment_bytes = 10'000;
    machine.Open();
    Engine* engine = machine.engine.get();
    machine.env->SetCapacity(UsedBytes(*machine.env));
    const std::string key(key_bytes, 'k');
    Engine::Flags update;
    update.update = true;
    uint64_t allowed = 0;
    Status status;
    while (true) {
      const LimitConfig config = Hourly(1000 + allowed);
      Engine::Decision decision;
      status = engine->Check({key, 1}, update, &config, &decision);
      if (!status.ok()) break;
      ASSERT_LT(++allowed, 100u);
    }
    const std::string said(status.message());
    EXPECT_EQ(status.code(), Code::kDiskFull) << said;
    EXPECT_NE(said.find("; what could not be recorded has not happened, and"), std::string::npos);
    const Engine::LimitStatus limit = StatusOf(engine, key);
    EXPECT_EQ(limit.totals.allowed, allowed);
    if (limit.config.rate == 1000 + allowed) ++changed;
  }
  EXPECT_GT(changed, 0);
}

TEST(Full, ADiskWithoutRoomToOpenLeavesTheDirectoryAsItWas) {
  Machine machine;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(5)).ok());
  EXPECT_TRUE(Allowed(machine.engine.get(), "key"));
  machine.Close();
  machine.env->SetCapacity(UsedBytes(*machine.env) + 1000);
  EXPECT_EQ(machine.TryOpen().code(), Code::kDiskFull);
  machine.env->SetCapacity(UINT64_MAX);
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").remaining, 4u);
}

// ---- Failing -----------------------------------------------------------------------------------

TEST(Failure, OfASyncPoisons) {
  for (const bool always : {false, true}) {
    Machine machine(always);
    machine.Open();
    Engine* engine = machine.engine.get();
    ASSERT_TRUE(Configure(engine, "key", Hourly(5)).ok());
    ASSERT_TRUE(Configure(engine, "small", Hourly(1)).ok());
    EXPECT_TRUE(Allowed(engine, "small"));
    ASSERT_TRUE(engine->Flush().ok());
    EXPECT_FALSE(InfoOf(engine).log.poisoned);
    machine.env->InjectFault({.matches = OnlyOps({Op::kSyncData})});
    bool allowed = false;
    if (always) {
      EXPECT_EQ(Check(engine, "key", 1, &allowed).code(), Code::kPoisoned);
    } else {
      EXPECT_TRUE(Allowed(engine, "key"));
      EXPECT_EQ(engine->Flush().code(), Code::kPoisoned);
    }
    EXPECT_EQ(machine.env->faults_hit(), 1u);
    uint64_t ticket = 0;
    EXPECT_EQ(Check(engine, "key", 1, &allowed).code(), Code::kPoisoned);
    EXPECT_EQ(Configure(engine, "new", Hourly(3)).code(), Code::kPoisoned);
    EXPECT_EQ(Configure(engine, "t:", Hourly(3), kTemplate).code(), Code::kPoisoned);
    EXPECT_EQ(engine->Remove(LimitKind::kExact, "key", {}, &ticket).code(), Code::kPoisoned);
    EXPECT_EQ(engine->Reset(LimitKind::kExact, "key", {}, &ticket).code(), Code::kPoisoned);
    EXPECT_EQ(engine->Flush().code(), Code::kPoisoned);
    EXPECT_EQ(engine->Compact({}).code(), Code::kPoisoned);
    EXPECT_TRUE(InfoOf(engine).log.poisoned);
    Engine::Decision decision;
    EXPECT_TRUE(engine->Peek({"key", 1}, {}, nullptr, &decision).ok());
    EXPECT_EQ(StatusOf(engine, "key").config.rate, 5u);
    EXPECT_EQ(ListAll(engine).size(), 2u);
    EXPECT_FALSE(Allowed(engine, "small"));
    EXPECT_EQ(engine->Shutdown().code(), Code::kPoisoned);
    machine.LosePower(Loss::kDropAll);
    machine.Open();
    EXPECT_EQ(StatusOf(machine.engine.get(), "key").remaining, 5u);
    EXPECT_EQ(StatusOf(machine.engine.get(), "small").remaining, 0u);
  }
}

TEST(Failure, OfASyncReachesEveryWaiter) {
  Machine machine;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(1000)).ok());
  Gate gate;
  gate.Close();
  machine.env->SetHook([&](Op op, const std::string&) {
    if (op == Op::kSyncData) gate.Pass();
  });
  machine.env->InjectFault({.matches = OnlyOps({Op::kSyncData})});
  std::atomic<int> poisoned = 0;
  std::thread opener([&] {
    Eventually([&] { return StatusOf(machine.engine.get(), "key").totals.allowed == 8; });
    gate.Open();
  });
  RunThreads(8, [&](int) {
    bool allowed = false;
    if (Check(machine.engine.get(), "key", 1, &allowed).code() == Code::kPoisoned) ++poisoned;
  });
  opener.join();
  EXPECT_EQ(poisoned, 8);
  EXPECT_EQ(machine.env->faults_hit(), 1u);
}

TEST(Failure, OfAWriteThatWroteAPartLosesNothing) {
  for (const size_t written : {0u, 10u, 41u}) {
    Machine machine;
    machine.Open();
    ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(5)).ok());
    EXPECT_TRUE(Allowed(machine.engine.get(), "key"));
    machine.env->InjectFault({.written_bytes = written, .matches = OnlyOps({Op::kWrite})});
    bool allowed = false;
    EXPECT_EQ(Check(machine.engine.get(), "key", 1, &allowed).code(), Code::kPoisoned);
    machine.Kill();
    machine.Open();
    const uint64_t remaining = StatusOf(machine.engine.get(), "key").remaining;
    EXPECT_EQ(remaining, 3u);  // the ring had it
  }
}

// ---- What passes -------------------------------------------------------------------------------

// Something is short while segments are made and named. What needs the next segment fails and
// changes nothing; when it is over, everything works again and nothing has been lost.
void PassesAndWorksAgain(Fault fault, int error, Code code) {
  Machine machine(false);
  machine.segment_bytes = 10'000;
  machine.Open();
  Engine* engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(1'000'000)).ok());
  fault.error = error;
  fault.forever = true;
  machine.env->InjectFault(fault);
  uint64_t allowed = 0;
  bool yes = false;
  Status status;
  while ((status = Check(engine, "key", 1, &yes)).ok()) ASSERT_LT(++allowed, 10'000u);
  EXPECT_EQ(status.code(), code) << status.message();
  ASSERT_NE(status.detail(), nullptr);
  EXPECT_EQ(status.detail()->system_errno, error);
  EXPECT_EQ(StatusOf(engine, "key").totals.allowed, allowed);
  EXPECT_EQ(engine->Compact({}).code(), code);
  EXPECT_GT(machine.env->faults_hit(), 1u);
  machine.env->ClearFault();
  EXPECT_TRUE(Eventually([&] { return Check(engine, "key", 1, &yes).ok(); }));
  EXPECT_TRUE(engine->Compact({}).ok());
  machine.Close();
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, allowed + 1);
}

TEST(Passing, NoDescriptorForTheDirectoryWhileASegmentIsNamed) {
  std::atomic<bool> naming = false;
  Fault fault;
  fault.matches = [&](Op op, const std::string&) {
    if (op == Op::kLink) naming = true;
    return naming && op == Op::kSyncDirectory;
  };
  for (const int error : {EMFILE, ENFILE}) {
    naming = false;
    PassesAndWorksAgain(fault, error, Code::kIo);
  }
}

TEST(Passing, NoSpaceForANameWhileASegmentIsNamed) {
  for (const Op op : {Op::kLink, Op::kRename}) {
    Fault fault;
    fault.matches = OnlyOps({op});
    PassesAndWorksAgain(fault, ENOSPC, Code::kDiskFull);
    PassesAndWorksAgain(fault, EDQUOT, Code::kDiskFull);
  }
}

TEST(Passing, NoMemoryInTheBackground) {
  std::atomic<size_t> thrown = 0;
  Machine machine(false);
  machine.segment_bytes = 10'000;
  machine.Open();
  Engine* engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(1'000'000)).ok());
  machine.env->SetHook([&](Op op, const std::string&) {
    // In turn, while segments are made, named and cut.
    const Op turns[] = {Op::kCreate, Op::kLink, Op::kRename, Op::kSyncDirectory, Op::kTruncate};
    const size_t turn = thrown;
    if (turn == std::size(turns) || op != turns[turn]) return;
    ++thrown;
    throw std::bad_alloc();
  });
  uint64_t allowed = 0;
  bool yes = false;
  EXPECT_TRUE(Eventually([&] {
    const Status status = Check(engine, "key", 1, &yes);
    if (status.ok()) ++allowed;
    EXPECT_TRUE(status.ok() || status.code() == Code::kNoMemory) << status.message();
    return thrown == 5u;
  }));
  EXPECT_TRUE(Eventually([&] { return Check(engine, "key", 1, &yes).ok(); }));
  machine.Close();
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, allowed + 1);
}

TEST(Failure, OfASyncForWantOfMemoryNamesIt) {
  Machine machine;
  machine.Open();
  Engine* engine = machine.engine.get();
  ASSERT_TRUE(Configure(engine, "key", Hourly(5)).ok());
  machine.env->SetHook([&](Op op, const std::string&) {
    if (op == Op::kSyncData) throw std::bad_alloc();
  });
  bool allowed = false;
  const Status status = Check(engine, "key", 1, &allowed);
  EXPECT_EQ(status.code(), Code::kPoisoned);
  ASSERT_NE(status.detail(), nullptr);
  EXPECT_EQ(status.detail()->system_errno, ENOMEM);
}

// A file system may keep the changes of a directory in any order: between two that need each other
// there is a sync.
TEST(Naming, SyncsTheLinkBeforeItTakesTheNameAway) {
  std::mutex mutex;
  std::vector<Op> steps;
  Machine machine(false);
  machine.Open();
  machine.env->SetHook([&](Op op, const std::string&) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (op == Op::kLink || (!steps.empty() && (op == Op::kSyncDirectory || op == Op::kRename))) {
      steps.push_back(op);
    }
  });
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  machine.Close();
  ASSERT_GE(steps.size(), 4u);
  const std::vector<Op> expected = {Op::kLink, Op::kSyncDirectory, Op::kRename, Op::kSyncDirectory};
  EXPECT_EQ(std::vector<Op>(steps.begin(), steps.begin() + 4), expected);
}

// Everything that a limiter does with a disk, one failing call at a time.
class EveryCall : public ::testing::TestWithParam<Fault> {
 protected:
  static constexpr int kKeys = 4;

  // What was tried and what was answered with success, in units of cost.
  struct Counts {
    uint64_t tried = 0;
    uint64_t done = 0;
  };

  static void Use(Machine* machine, Counts* counts, bool* configured) {
    if (!machine->TryOpen().ok()) return;
    Engine* engine = machine->engine.get();
    *configured = Configure(engine, "t:", Hourly(1'000'000), kTemplate).ok() || *configured;
    for (int i = 0; i < 120; ++i) {
      const std::string key = "t:" + std::to_string(i % kKeys);
      bool allowed = false;
      if (!*configured) break;
      ++counts->tried;
      const Status status = Check(engine, key, 1, &allowed);
      if (status.ok()) {
        EXPECT_TRUE(allowed);
        ++counts->done;
      } else {
        EXPECT_TRUE(status.code() == Code::kPoisoned || status.code() == Code::kDiskFull)
            << status.message();
      }
      if (i == 60) static_cast<void>(engine->Compact({}).ok());
    }
    static_cast<void>(engine->Shutdown().ok());
    machine->engine.reset();
  }

  static void CheckWhatIsThere(Machine* machine, const Counts& counts, bool configured) {
    const Status status = machine->TryOpen();
    ASSERT_TRUE(status.ok()) << status.message();
    Engine::LimitStatus found;
    const Status has = machine->engine->StatusOf(kTemplate, "t:", &found);
    if (!configured && has.code() == Code::kNotConfigured) return;
    ASSERT_TRUE(has.ok()) << has.message();
    EXPECT_GE(found.totals.allowed, counts.done);
    EXPECT_LE(found.totals.allowed, counts.tried);
  }
};

TEST_P(EveryCall, EitherWorksOrFailsCleanly) {
  uint64_t hits = 1;
  uint64_t nth = 1;
  for (; hits > 0 && !HasFailure(); ++nth) {
    SCOPED_TRACE("call " + std::to_string(nth));
    Machine machine;
    machine.segment_bytes = 9'000;
    machine.ring_bytes = 1 << 12;
    Counts counts;
    bool configured = false;
    Fault fault = GetParam();
    fault.nth = nth;
    machine.env->InjectFault(fault);
    Use(&machine, &counts, &configured);
    hits = machine.env->faults_hit();
    machine.engine.reset();
    machine.env->ClearFault();
    // Three ways for it to end.
    if (nth % 3 == 0) machine.Kill();
    if (nth % 3 == 1) machine.LosePower(Loss::kDropAll);
    CheckWhatIsThere(&machine, counts, configured);
    machine.Close();
    CheckWhatIsThere(&machine, counts, configured);
  }
  EXPECT_GT(nth, 50u);
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryCall,
                         ::testing::Values(Fault{}, Fault{.forever = true},
                                           Fault{.forever = true, .error = ENOSPC},
                                           Fault{.error = ENOSPC}, Fault{.written_bytes = 20}));

// ---- Many threads ------------------------------------------------------------------------------

// On the real disk: the one in memory has a lock around everything, which would hide races.
class Threads : public ::testing::TestWithParam<bool> {
 protected:
  Engine::Options Options() const {
    Engine::Options options;
    options.log.always = GetParam();
    options.log.flush_every_ns = 1'000'000;
    options.log.segment_bytes = 32'000;
    options.log.ring_bytes = 1 << 14;
    return options;
  }
  TemporaryDirectory directory_;
};

TEST_P(Threads, DoEverythingAtOnceWhileOneCloses) {
  for (int round = 0; round < 3; ++round) {
    const std::string path = directory_ / std::to_string(round);
    std::unique_ptr<Engine> engine;
    ASSERT_TRUE(Engine::Open(path, Options(), &engine).ok());
    ASSERT_TRUE(Configure(engine.get(), "shared", Hourly(1'000'000)).ok());
    ASSERT_TRUE(Configure(engine.get(), "t:", Hourly(1'000'000), kTemplate).ok());
    ASSERT_TRUE(Configure(engine.get(), "small", Hourly(1)).ok());
    std::atomic<uint64_t> tried = 0;
    std::atomic<uint64_t> done = 0;
    std::atomic<bool> stop = false;
    const auto ok_or_closed = [&](const Status& status) {
      EXPECT_TRUE(status.ok() || status.code() == Code::kClosed) << status.message();
      if (!status.ok()) stop = true;
    };
    const auto check = [&](std::string_view key) {
      bool allowed = false;
      ++tried;
      const Status status = Check(engine.get(), key, 1, &allowed);
      ok_or_closed(status);
      if (status.ok() && allowed) ++done;
    };
    const std::vector<std::function<void(int)>> works = {
        [&](int) { check("shared"); },
        [&](int) { check("shared"); },
        [&](int i) { check("t:" + std::to_string(i)); },
        [&](int i) {
          std::vector<Engine::Decision> decisions(2);
          size_t denied = 0;
          const std::string key = "t:all" + std::to_string(i % 5);
          ++tried;
          const Status status =
              engine->CheckAll({{key, 1}, {"small", 1}}, {}, decisions.data(), &denied);
          ok_or_closed(status);
          if (status.ok() && denied == 2) ++done;
        },
        [&](int i) {
          uint64_t ticket = 0;
          const LimitKind kind = i % 2 == 0 ? LimitKind::kExact : kTemplate;
          ok_or_closed(Configure(engine.get(), "x" + std::to_string(i % 7), Hourly(5), kind));
          const Status status = engine->Remove(kind, "x" + std::to_string(i % 7), {}, &ticket);
          ok_or_closed(status);
        },
        [&](int i) {
          std::vector<Engine::LimitStatus> page;
          Engine::LimitStatus limit;
          ok_or_closed(engine->List(nullptr, LimitKind::kExact, {}, 100, 10'000, &page));
          ok_or_closed(engine->Top(Engine::TopBy::kAllowed, {}, 10, &page));
          ok_or_closed(engine->StatusOf(kTemplate, "t:", &limit));
          Engine::Info info;
          ok_or_closed(engine->GetInfo(&info));
          ok_or_closed(i % 2 == 0 ? engine->Flush() : engine->Compact({}));
        },
    };
    std::thread closer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(150));
      EXPECT_TRUE(engine->Shutdown().ok());
    });
    RunThreads(static_cast<int>(works.size()), [&](int worker) {
      for (int i = 0; !stop; ++i) works[static_cast<size_t>(worker)](i);
    });
    closer.join();
    engine.reset();
    ASSERT_TRUE(Engine::Open(path, Options(), &engine).ok());
    const uint64_t there = StatusOf(engine.get(), "shared").totals.allowed +
                           StatusOf(engine.get(), "t:", kTemplate).totals.allowed;
    EXPECT_GE(there, done.load());
    EXPECT_LE(there, tried.load() + 5);
    EXPECT_GT(done.load(), 0u);
  }
}

// A segment switch in every phase of the background thread's work on the one before.
TEST_P(Threads, SwitchSegmentsAllTheTime) {
  Engine::Options options = Options();
  options.log.segment_bytes = 9'000;
  std::unique_ptr<Engine> engine;
  ASSERT_TRUE(Engine::Open(directory_.path(), std::move(options), &engine).ok());
  ASSERT_TRUE(Configure(engine.get(), "t:", Hourly(1'000'000), kTemplate).ok());
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(700);
  std::atomic<uint64_t> done = 0;
  RunThreads(4, [&](int thread) {
    while (std::chrono::steady_clock::now() < until) {
      if (thread == 0 && !GetParam()) {
        EXPECT_TRUE(engine->Compact({}).ok());
      } else if (Allowed(engine.get(), "t:" + std::to_string(thread))) {
        ++done;
      }
    }
  });
  EXPECT_TRUE(engine->Shutdown().ok());
  engine.reset();
  ASSERT_TRUE(Engine::Open(directory_.path(), Options(), &engine).ok());
  EXPECT_EQ(StatusOf(engine.get(), "t:", kTemplate).totals.allowed, done.load());
}

INSTANTIATE_TEST_SUITE_P(Modes, Threads, ::testing::Bool());

}  // namespace
}  // namespace flint
