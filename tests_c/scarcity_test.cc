// What is scarce and how it is shared out: room for keys (max_keys), records that a power loss may
// take (max_unsynced_events), and answers when nothing can be decided (on_error); and denials that
// are answered when they are on disk (sync_denials).

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "engine_testing.h"

namespace flint {
namespace {

constexpr LimitKind kTemplate = LimitKind::kTemplate;
using OnError = Engine::OnError;
using WhenFull = Engine::WhenFull;

// Until `done`, for some seconds.
template <typename Done>
bool Eventually(const Done& done) {
  for (int i = 0; i < 5000; ++i) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

// ---- Room for keys -----------------------------------------------------------------------------

class MaxKeys : public ::testing::Test {
 protected:
  void Open(uint64_t max_keys, WhenFull when_full, bool always = true,
            OnError on_error = OnError::kRaise) {
    machine_.engine.reset();
    machine_.options_always = always;
    Engine::Options options = machine_.Options();
    options.max_keys = max_keys;
    options.when_full = when_full;
    options.on_error = on_error;
    const Status status = Engine::Open(kDirectory, std::move(options), &machine_.engine);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  void Template(uint64_t rate = 10) {
    ASSERT_TRUE(Configure(engine(), "ip:", Hourly(rate), kTemplate).ok());
  }
  Engine* engine() { return machine_.engine.get(); }
  Code TryCheck(const std::string& key, uint64_t cost = 1) {
    bool allowed = false;
    return Check(engine(), key, cost, &allowed).code();
  }
  Code TryInline(const std::string& key) {
    Engine::Decision decision;
    const LimitConfig config = Hourly(5);
    return engine()->Check({key, 1}, {}, &config, &decision).code();
  }
  Code TryAll(const std::vector<std::string>& keys, const Engine::Flags& flags = {}) {
    std::vector<Engine::Item> items;
    for (const std::string& key : keys) items.push_back({key, 1});
    std::vector<Engine::Decision> decisions(items.size());
    size_t denied = 0;
    return engine()->CheckAll(items, flags, decisions.data(), &denied).code();
  }
  // Keys that have used something.
  uint64_t InUse() {
    uint64_t keys = 0;
    for (const Engine::LimitStatus& limit : ListAll(engine())) {
      if (limit.kind == LimitKind::kCounter || limit.kind == LimitKind::kInline) ++keys;
    }
    return keys;
  }
  void Fill(uint64_t keys, const std::string& prefix = "ip:old") {
    for (uint64_t i = 0; i < keys; ++i) {
      ASSERT_EQ(TryCheck(prefix + std::to_string(i)), Code::kOk) << i;
    }
  }

  Machine machine_;
};

TEST_F(MaxKeys, RefusesWhatIsNew) {
  Open(10, WhenFull::kRefuse);
  Template();
  Fill(6);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(TryInline("inline" + std::to_string(i)), Code::kOk);
  EXPECT_EQ(TryCheck("ip:new"), Code::kTableFull);
  EXPECT_EQ(TryInline("new"), Code::kTableFull);
  EXPECT_EQ(TryAll({"ip:new", "ip:old0"}), Code::kTableFull);
  EXPECT_EQ(TryCheck("ip:old0"), Code::kOk) << "what is there goes on";
  ASSERT_TRUE(Configure(engine(), "exact", Hourly(1)).ok()) << "limits are not bounded";
  EXPECT_EQ(TryCheck("exact"), Code::kOk);
  Engine::Decision decision;
  EXPECT_TRUE(engine()->Peek({"ip:new", 1}, {}, nullptr, &decision).ok()) << "needs no room";
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(InUse(), 10u);
  EXPECT_EQ(InfoOf(engine()).evicted, 0u);
}

TEST_F(MaxKeys, RemovingAKeyMakesRoom) {
  Open(3, WhenFull::kRefuse);
  Template();
  Fill(3);
  uint64_t ticket = 0;
  ASSERT_TRUE(engine()->Remove(LimitKind::kExact, "ip:old1", {}, &ticket).ok());
  EXPECT_EQ(TryCheck("ip:new"), Code::kOk);
  ASSERT_TRUE(Configure(engine(), "ip:old2", Hourly(5)).ok()) << "is an exact limit now";
  EXPECT_EQ(TryCheck("ip:newer"), Code::kOk);
  EXPECT_EQ(TryCheck("ip:newest"), Code::kTableFull);
  ASSERT_TRUE(engine()->Remove(kTemplate, "ip:", {}, &ticket).ok());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(TryInline("inline" + std::to_string(i)), Code::kOk) << i;
}

// However few shards have any, and whatever stands beside them.
TEST_F(MaxKeys, FreshKeysGoFirst) {
  for (const WhenFull when_full : {WhenFull::kRefuse, WhenFull::kEvict}) {
    Open(20, when_full);
    Template();
    Fill(20, "ip:first");
    machine_.clock->AdvanceNs(static_cast<int64_t>(kHourNs) + 1);
    for (int i = 0; i < 19; ++i) {
      ASSERT_EQ(TryCheck("ip:second" + std::to_string(i)), Code::kOk) << i;
    }
    EXPECT_EQ(TryCheck("ip:second19"), Code::kOk);
    EXPECT_EQ(InUse(), 20u);
    EXPECT_EQ(InfoOf(engine()).evicted, 0u);
    uint64_t ticket = 0;
    ASSERT_TRUE(engine()->Remove(kTemplate, "ip:", {}, &ticket).ok());
  }
}

TEST_F(MaxKeys, EvictsAsManyAsAreNew) {
  Open(10, WhenFull::kEvict);
  Template();
  Fill(10);
  for (uint64_t i = 1; i <= 30; ++i) {
    ASSERT_EQ(TryCheck("ip:new" + std::to_string(i)), Code::kOk);
    EXPECT_EQ(InUse(), 10u);
    EXPECT_EQ(InfoOf(engine()).evicted, i);
  }
  EXPECT_EQ(StatusOf(engine(), "ip:", kTemplate).totals.allowed, 40u) << "totals stay";
}

// Few keys are spread over many shards: still the one that is nearly full again has to go.
TEST_F(MaxKeys, EvictsWhatIsNearlyFullAgain) {
  Open(16, WhenFull::kEvict);
  ASSERT_TRUE(
      Configure(engine(), "ip:", Config(Algorithm::kTokenBucket, 100, kHourNs), kTemplate).ok());
  for (int i = 0; i < 15; ++i) ASSERT_EQ(TryCheck("ip:busy" + std::to_string(i), 90), Code::kOk);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(TryCheck("ip:passing" + std::to_string(i), 1), Code::kOk);
  }
  for (int i = 0; i < 15; ++i) {
    EXPECT_EQ(StatusOf(engine(), "ip:busy" + std::to_string(i)).remaining, 10u) << i;
  }
}

// All of them need room at the same time, and what has been made for one must not go to another.
TEST_F(MaxKeys, EvictsForSeveralKeysTogether) {
  Open(10, WhenFull::kEvict);
  Template();
  Fill(10);
  EXPECT_EQ(TryAll({"ip:a", "ip:b", "ip:c", "ip:d", "ip:e"}), Code::kOk);
  EXPECT_EQ(InUse(), 10u);
  EXPECT_EQ(InfoOf(engine()).evicted, 5u);
}

TEST_F(MaxKeys, MoreKeysTogetherThanThereIsRoomForEvictNone) {
  Open(3, WhenFull::kEvict);
  Template();
  Fill(3);
  EXPECT_EQ(TryAll({"ip:a", "ip:b", "ip:c", "ip:d"}), Code::kTableFull);
  EXPECT_EQ(InUse(), 3u);
  EXPECT_EQ(InfoOf(engine()).evicted, 0u);
  EXPECT_EQ(TryAll({"ip:a", "ip:b", "ip:c"}), Code::kOk) << "no room was kept";
}

// What is found in a directory stays, and one more takes the place of one.
TEST_F(MaxKeys, AboveTheBoundOneEvictsOne) {
  Open(0, WhenFull::kRefuse);
  Template();
  Fill(200);
  Open(10, WhenFull::kEvict);
  EXPECT_EQ(InUse(), 200u);
  EXPECT_EQ(TryCheck("ip:new"), Code::kOk);
  EXPECT_EQ(InUse(), 200u);
  EXPECT_EQ(InfoOf(engine()).evicted, 1u);
  Open(10, WhenFull::kRefuse);
  EXPECT_EQ(TryCheck("ip:newer"), Code::kTableFull);
  EXPECT_EQ(InUse(), 200u);
}

TEST_F(MaxKeys, AWrongCostEvictsNothing) {
  Open(3, WhenFull::kEvict, true, OnError::kAllow);
  Template();
  Fill(3);
  EXPECT_EQ(TryCheck("ip:new", 0), Code::kInvalidArgument);
  EXPECT_EQ(TryCheck("ip:new", 11), Code::kInvalidArgument);
  EXPECT_EQ(InfoOf(engine()).evicted, 0u);
  EXPECT_EQ(InfoOf(engine()).undecided, 0u);
}

TEST_F(MaxKeys, WhoDoesNotWaitEvictsNothingForAnAnswerThatHasToWait) {
  Open(3, WhenFull::kEvict);
  Template();
  Fill(3);
  Engine::Flags flags;
  flags.no_wait = true;
  Engine::Decision decision;
  EXPECT_EQ(engine()->Check({"ip:new", 1}, flags, nullptr, &decision).code(), Code::kWouldBlock);
  EXPECT_EQ(TryAll({"ip:new", "ip:newer"}, flags), Code::kWouldBlock);
  EXPECT_EQ(InfoOf(engine()).evicted, 0u);
  flags.no_sync = true;
  EXPECT_TRUE(engine()->Check({"ip:new", 1}, flags, nullptr, &decision).ok());
  EXPECT_EQ(InfoOf(engine()).evicted, 1u);
}

TEST_F(MaxKeys, ReplayEvictsTheSame) {
  for (const bool always : {true, false}) {
    machine_.segment_bytes = 10'000;
    Open(20, WhenFull::kEvict, always);
    Template();
    for (int i = 0; i < 400; ++i) {
      const std::string key = std::to_string(i * 7 % 60);
      ASSERT_EQ(i % 3 == 0 ? TryInline("inline" + key) : TryCheck("ip:" + key), Code::kOk);
      if (i % 5 == 0) {
        ASSERT_EQ(TryAll({"ip:a" + key, "ip:b" + key}), Code::kOk);
      }
      machine_.clock->AdvanceNs(20 * kSecondNs);
      if (i == 200) {
        ASSERT_TRUE(engine()->Compact({}).ok());
      }
    }
    ASSERT_GT(InfoOf(engine()).evicted, 100u);
    const std::string state = DescribeAll(engine(), true);
    for (int i = 0; i < 2; ++i) {
      machine_.Kill();
      Open(20, WhenFull::kEvict, always);
      EXPECT_EQ(DescribeAll(engine(), true), state);
      ASSERT_TRUE(engine()->Compact({}).ok());
      EXPECT_EQ(InfoOf(engine()).compaction_failures, 0u);
    }
    uint64_t ticket = 0;
    ASSERT_TRUE(engine()->Remove(kTemplate, "ip:", {}, &ticket).ok());
  }
}

TEST_F(MaxKeys, ManyThreadsStayWithinTheBound) {
  for (const WhenFull when_full : {WhenFull::kRefuse, WhenFull::kEvict}) {
    Open(50, when_full, false);
    Template();
    std::atomic<uint64_t> refused{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 300; ++i) {
          const std::string key = "ip:" + std::to_string(t) + "-" + std::to_string(i % 100);
          const Code code = i % 4 == 0 ? TryAll({key, key + "b", key + "c"}) : TryCheck(key);
          EXPECT_TRUE(code == Code::kOk || code == Code::kTableFull);
          if (code == Code::kTableFull) ++refused;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_LE(InUse(), 50u);
    EXPECT_EQ(refused == 0, when_full == WhenFull::kEvict);
    const std::string state = DescribeAll(engine(), false);
    machine_.Kill();
    Open(50, when_full, false);
    EXPECT_EQ(DescribeAll(engine(), false), state);
    uint64_t ticket = 0;
    ASSERT_TRUE(engine()->Remove(kTemplate, "ip:", {}, &ticket).ok());
  }
}

TEST_F(MaxKeys, CountersOfARemovedTemplateAreNotCounted) {
  Open(0, WhenFull::kRefuse);
  Template();
  Fill(20);
  EXPECT_EQ(InfoOf(engine()).counters, 20u);
  uint64_t ticket = 0;
  ASSERT_TRUE(engine()->Remove(kTemplate, "ip:", {}, &ticket).ok());
  EXPECT_EQ(InfoOf(engine()).counters, 0u);
  Template();
  EXPECT_EQ(InfoOf(engine()).counters, 0u);
  Fill(5);
  EXPECT_EQ(InfoOf(engine()).counters, 5u);
  ASSERT_TRUE(Configure(engine(), "ip:old", Hourly(3), kTemplate).ok());
  Fill(5);
  EXPECT_EQ(InfoOf(engine()).counters, 5u);
  EXPECT_EQ(StatusOf(engine(), "ip:old", kTemplate).counters, 5u);
}

// ---- Records that are not on disk --------------------------------------------------------------

class MaxUnsynced : public ::testing::Test {
 protected:
  void Open(uint64_t max_unsynced_events) {
    machine_.engine.reset();
    Engine::Options options = machine_.Options();
    options.log.max_unsynced_events = max_unsynced_events;
    ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &machine_.engine).ok());
  }
  Engine* engine() { return machine_.engine.get(); }

  Machine machine_{false};
};

TEST_F(MaxUnsynced, NoMoreAreLostWithThePower) {
  Open(10);
  ASSERT_TRUE(Configure(engine(), "key", Hourly(1'000'000)).ok());
  for (uint64_t i = 1; i <= 100; ++i) {
    ASSERT_TRUE(Allowed(engine(), "key"));
    const std::unique_ptr<FakeEnv> image = machine_.env->PowerLoss(Loss::kDropAll);
    FakeClock clock;
    clock.Reboot();
    std::unique_ptr<Engine> engine;
    ASSERT_TRUE(Engine::Open(kDirectory, OptionsFor(image.get(), &clock, false), &engine).ok());
    Engine::LimitStatus status;
    const bool found = engine->StatusOf(LimitKind::kExact, "key", &status).ok();
    EXPECT_GE((found ? status.totals.allowed : 0) + 10, i);
  }
  EXPECT_LE(InfoOf(engine()).log.syncs, 12u);
}

TEST_F(MaxUnsynced, WhoDoesNotWaitIsToldAndASyncBegins) {
  Open(5);
  ASSERT_TRUE(Configure(engine(), "key", Hourly(1'000'000)).ok());
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Allowed(engine(), "key"));
  Engine::Flags flags;
  flags.no_wait = true;
  Engine::Decision decision;
  // Another thread may have the log's lock for longer than a moment, which says nothing of the
  // disk.
  Code told = Code::kBusy;
  while (told == Code::kBusy) told = engine()->Check({"key", 1}, flags, nullptr, &decision).code();
  EXPECT_EQ(told, Code::kWouldBlock);
  EXPECT_TRUE(Eventually([&] {
    return engine()->Check({"key", 1}, flags, nullptr, &decision).ok();
  }));
}

// They have used nothing, and wait for nothing: what is merged is no safer in memory.
TEST_F(MaxUnsynced, DenialsAreRecordedAllTheSame) {
  for (const uint64_t bound : {uint64_t{1}, uint64_t{3}}) {
    Open(bound);
    std::vector<std::string> keys;
    for (int i = 0; i < 5; ++i) keys.push_back(std::to_string(bound) + "key" + std::to_string(i));
    for (const std::string& key : keys) {
      ASSERT_TRUE(Configure(engine(), key, Hourly(1)).ok());
      EXPECT_TRUE(Allowed(engine(), key));
    }
    for (int i = 0; i < 30; ++i) {
      for (const std::string& key : keys) EXPECT_FALSE(Allowed(engine(), key));
    }
    ASSERT_TRUE(engine()->Flush().ok());
    machine_.LosePower(Loss::kDropAll);
    Open(bound);
    for (const std::string& key : keys) {
      EXPECT_EQ(StatusOf(engine(), key).totals.denied, 30u) << key;
    }
  }
}

TEST_F(MaxUnsynced, ManyThreadsGoOn) {
  Open(3);
  ASSERT_TRUE(Configure(engine(), "key", Hourly(1'000'000)).ok());
  ASSERT_TRUE(Configure(engine(), "ip:", Hourly(2), kTemplate).ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 100; ++i) {
        EXPECT_TRUE(Allowed(engine(), "key"));
        Allowed(engine(), "ip:" + std::to_string((t + i) % 7));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(StatusOf(engine(), "key").totals.allowed, 400u);
  const std::string state = DescribeAll(engine(), true);
  machine_.Close();
  Open(3);
  EXPECT_EQ(DescribeAll(engine(), true), state);
}

// ---- Waiting with no time ----------------------------------------------------------------------

TEST(Wait, WithNoTimeStartsASync) {
  Machine machine;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(100)).ok());
  Engine::Flags flags;
  flags.no_sync = true;
  Engine::Decision decision;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(machine.engine->Check({"key", 1}, flags, nullptr, &decision).ok());
    Code code = machine.engine->Wait(decision.ticket, 0).code();
    EXPECT_TRUE(code == Code::kTimeout || code == Code::kOk);
    // Nobody else asks for it: timed syncs are an hour away.
    uint64_t durable = 0;
    EXPECT_TRUE(Eventually([&] {
      return machine.engine->Durable(&durable).ok() && durable >= decision.ticket;
    })) << i;
  }
}

TEST(Wait, WithNoTimeReportsAFailure) {
  Machine machine;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(100)).ok());
  Engine::Flags flags;
  flags.no_sync = true;
  Engine::Decision decision;
  ASSERT_TRUE(machine.engine->Check({"key", 1}, flags, nullptr, &decision).ok());
  machine.env->InjectFault({.forever = true, .matches = OnlyOps({Op::kSyncData})});
  EXPECT_TRUE(Eventually([&] {
    const Code code = machine.engine->Wait(decision.ticket, 0).code();
    EXPECT_TRUE(code == Code::kTimeout || code == Code::kPoisoned);
    return code == Code::kPoisoned;
  }));
}

// ---- A configuration that is repeated ----------------------------------------------------------

TEST(RepeatedConfigure, WaitsForTheChangeItRepeats) {
  for (const LimitKind kind : {LimitKind::kExact, kTemplate}) {
    Machine machine;
    machine.Open();
    Engine* const engine = machine.engine.get();
    uint64_t ticket = 0;
    Engine::Flags no_sync;
    no_sync.no_sync = true;
    ASSERT_TRUE(engine->Configure({kind, "key", Hourly(5)}, no_sync, &ticket).ok());
    const uint64_t first = ticket;
    ASSERT_NE(first, 0u);
    ASSERT_TRUE(engine->Configure({kind, "key", Hourly(5)}, no_sync, &ticket).ok());
    EXPECT_GE(ticket, first);
    Engine::Flags no_wait;
    no_wait.no_wait = true;
    EXPECT_EQ(engine->Configure({kind, "key", Hourly(5)}, no_wait, &ticket).code(),
              Code::kWouldBlock);
    Engine::Flags if_absent;
    if_absent.if_absent = true;
    ASSERT_TRUE(engine->Configure({kind, "key", Hourly(9)}, if_absent, &ticket).ok());
    ASSERT_TRUE(engine->Configure({kind, "key", Hourly(5)}, no_wait, &ticket).ok());
    EXPECT_EQ(ticket, 0u) << "is on disk";
    machine.LosePower(Loss::kDropAll);
    machine.Open();
    EXPECT_EQ(StatusOf(machine.engine.get(), "key", kind).config.rate, 5u);
  }
}

// ---- Denials on disk ---------------------------------------------------------------------------

class SyncDenials : public ::testing::Test {
 protected:
  void Open() {
    machine_.engine.reset();
    Engine::Options options = machine_.Options();
    options.sync_denials = true;
    ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &machine_.engine).ok());
  }
  Engine* engine() { return machine_.engine.get(); }

  Machine machine_;
};

TEST_F(SyncDenials, SurviveAPowerLoss) {
  Open();
  ASSERT_TRUE(Configure(engine(), "key", Hourly(1)).ok());
  ASSERT_TRUE(Configure(engine(), "other", Hourly(100)).ok());
  EXPECT_TRUE(Allowed(engine(), "key"));
  for (int i = 0; i < 40; ++i) EXPECT_FALSE(Allowed(engine(), "key"));
  std::vector<Engine::Decision> decisions(2);
  size_t denied = 0;
  ASSERT_TRUE(engine()->CheckAll({{"other", 1}, {"key", 1}}, {}, decisions.data(), &denied).ok());
  EXPECT_EQ(denied, 1u);
  EXPECT_NE(decisions[0].ticket, 0u);
  machine_.LosePower(Loss::kDropAll);
  Open();
  EXPECT_EQ(StatusOf(engine(), "key").totals.denied, 41u);
  EXPECT_EQ(StatusOf(engine(), "other").totals.allowed, 0u);
}

TEST_F(SyncDenials, WhoDoesNotWaitIsToldThatItWould) {
  Open();
  ASSERT_TRUE(Configure(engine(), "key", Hourly(1)).ok());
  EXPECT_TRUE(Allowed(engine(), "key"));
  Engine::Flags flags;
  flags.no_wait = true;
  Engine::Decision decision;
  EXPECT_EQ(engine()->Check({"key", 1}, flags, nullptr, &decision).code(), Code::kWouldBlock);
  EXPECT_EQ(StatusOf(engine(), "key").totals.denied, 0u);
  flags.no_sync = true;
  ASSERT_TRUE(engine()->Check({"key", 1}, flags, nullptr, &decision).ok());
  EXPECT_FALSE(decision.allowed);
  ASSERT_NE(decision.ticket, 0u);
  ASSERT_TRUE(engine()->Wait(decision.ticket, UINT64_MAX).ok());
  machine_.LosePower(Loss::kDropAll);
  Open();
  EXPECT_EQ(StatusOf(engine(), "key").totals.denied, 1u);
}

TEST_F(SyncDenials, ThatCannotBeRecordedAreNotCounted) {
  Open();
  ASSERT_TRUE(Configure(engine(), "key", Hourly(1)).ok());
  EXPECT_TRUE(Allowed(engine(), "key"));
  machine_.env->FailStores();
  bool allowed = false;
  EXPECT_EQ(Check(engine(), "key", 1, &allowed).code(), Code::kPoisoned);
  EXPECT_EQ(StatusOf(engine(), "key").totals.denied, 0u);
}

// ---- When nothing can be decided ---------------------------------------------------------------

class Undecided : public ::testing::Test {
 protected:
  void Open(OnError on_error, const Clock* clock = nullptr) {
    machine_.engine.reset();
    Engine::Options options = machine_.Options();
    options.on_error = on_error;
    if (clock != nullptr) options.clock = clock;
    ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &machine_.engine).ok());
  }
  Engine* engine() { return machine_.engine.get(); }

  Machine machine_;
};

TEST_F(Undecided, IsAnsweredAsTheOptionSays) {
  for (const OnError on_error : {OnError::kAllow, OnError::kDeny}) {
    machine_.env = std::make_unique<FakeEnv>();
    Open(on_error);
    ASSERT_TRUE(Configure(engine(), "key", Hourly(10)).ok());
    ASSERT_TRUE(Configure(engine(), "other", Hourly(10)).ok());
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(Allowed(engine(), "key"));
    machine_.env->InjectFault({.forever = true, .matches = OnlyOps({Op::kSyncData})});
    const bool allow = on_error == OnError::kAllow;
    for (uint64_t i = 1; i <= 3; ++i) {
      Engine::Decision decision;
      ASSERT_TRUE(engine()->Check({"key", 2}, {}, nullptr, &decision).ok());
      EXPECT_TRUE(decision.undecided);
      EXPECT_EQ(decision.allowed, allow);
      EXPECT_EQ(decision.cost, 2u);
      EXPECT_EQ(decision.limit, 10u);
      EXPECT_EQ(decision.ticket, 0u);
      EXPECT_EQ(InfoOf(engine()).undecided, i);
    }
    std::vector<Engine::Decision> decisions(2);
    size_t denied = 7;
    ASSERT_TRUE(engine()->CheckAll({{"key", 1}, {"other", 1}}, {}, decisions.data(), &denied).ok());
    EXPECT_EQ(denied, allow ? 2u : 0u);
    EXPECT_EQ(decisions[0].allowed, allow);
    EXPECT_TRUE(decisions[0].undecided);
    EXPECT_EQ(decisions[1].undecided, allow);
    EXPECT_EQ(decisions[0].cost, 1u);
    // What is wrong with the call is not answered for.
    bool allowed = false;
    EXPECT_EQ(Check(engine(), "key", 11, &allowed).code(), Code::kInvalidArgument);
    EXPECT_EQ(Check(engine(), "nothing", 1, &allowed).code(), Code::kNotConfigured);
    EXPECT_EQ(Configure(engine(), "key", Hourly(3)).code(), Code::kPoisoned);
    machine_.engine.reset();
  }
}

TEST_F(Undecided, AFullDiskIsAnsweredAndThenDecidedAgain) {
  Open(OnError::kAllow);
  ASSERT_TRUE(Configure(engine(), "key", Hourly(1'000'000)).ok());
  uint64_t used = 0;
  for (const std::string& path : machine_.env->Files()) {
    used += machine_.env->Contents(path).size();
  }
  machine_.env->SetCapacity(used);
  Engine::Decision decision;
  uint64_t decided = 0;
  while (!decision.undecided && decided < 100'000) {
    ASSERT_TRUE(engine()->Check({"key", 1}, {}, nullptr, &decision).ok());
    ASSERT_TRUE(decision.allowed);
    if (!decision.undecided) ++decided;
  }
  EXPECT_EQ(StatusOf(engine(), "key").totals.allowed, decided) << "nothing else was counted";
  machine_.env->SetCapacity(UINT64_MAX);
  EXPECT_TRUE(Eventually([&] {
    Engine::Decision later;
    EXPECT_TRUE(engine()->Check({"key", 1}, {}, nullptr, &later).ok());
    return !later.undecided;
  }));
  EXPECT_EQ(StatusOf(engine(), "key").totals.allowed, decided + 1);
}

// A clock that finds no memory.
class ThrowingClock final : public Clock {
 public:
  explicit ThrowingClock(const Clock* clock) : clock_(clock) {}
  void Throw(bool on) { throws_ = on; }
  int64_t BootNs() const override {
    if (throws_) throw std::bad_alloc();
    return clock_->BootNs();
  }
  int64_t WallNs() const override { return clock_->WallNs(); }
  BootId Boot() const override { return clock_->Boot(); }
  bool monotonic() const override { return clock_->monotonic(); }

 private:
  const Clock* const clock_;
  std::atomic<bool> throws_{false};
};

TEST_F(Undecided, EvenWithoutMemoryForTheFigures) {
  ThrowingClock clock(machine_.clock.get());
  Open(OnError::kAllow, &clock);
  ASSERT_TRUE(Configure(engine(), "key", Hourly(10)).ok());
  Engine::Decision decision;
  std::vector<Engine::Decision> decisions(1);
  size_t denied = 0;
  clock.Throw(true);
  Status status;
  Status all;
  EXPECT_NO_THROW(status = engine()->Check({"key", 1}, {}, nullptr, &decision));
  EXPECT_NO_THROW(all = engine()->CheckAll({{"key", 1}}, {}, decisions.data(), &denied));
  clock.Throw(false);
  EXPECT_TRUE(status.ok() && all.ok());
  EXPECT_TRUE(decision.allowed && decision.undecided);
  EXPECT_TRUE(decisions[0].allowed && decisions[0].undecided);
  EXPECT_EQ(denied, 1u);
  EXPECT_EQ(InfoOf(engine()).undecided, 2u);
  EXPECT_TRUE(Allowed(engine(), "key"));
  machine_.engine.reset();
}

TEST_F(Undecided, AFullTableIsAnswered) {
  Engine::Options options = machine_.Options();
  options.on_error = OnError::kDeny;
  options.max_keys = 1;
  ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &machine_.engine).ok());
  ASSERT_TRUE(Configure(engine(), "ip:", Hourly(10), kTemplate).ok());
  EXPECT_TRUE(Allowed(engine(), "ip:1"));
  Engine::Decision decision;
  ASSERT_TRUE(engine()->Check({"ip:2", 3}, {}, nullptr, &decision).ok());
  EXPECT_TRUE(decision.undecided);
  EXPECT_FALSE(decision.allowed);
  EXPECT_EQ(decision.remaining, 10u);
}

}  // namespace
}  // namespace flint
