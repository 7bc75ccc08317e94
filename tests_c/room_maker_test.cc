// Refusing keys when the table is full: how many keys are looked at for that, and that what is
// remembered of them never hides a fresh one.

#include "engine/room_maker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>

#include "engine_testing.h"

namespace flint {
namespace {

constexpr uint64_t kLooksAtOnce = 64;

class RoomMakerTest : public ::testing::Test {
 protected:
  RoomMakerTest() {
    EXPECT_TRUE(keyspace_.DrawHashSecret(Env::Posix()).ok());
    engine_clock_.StartAt(clock_.WallNs());
    keyspace_.ConfigureTemplate("k", {}, Hourly(10), Now());
  }

  int64_t Now() { return engine_clock_.Now(); }
  static std::string Key(int i) { return "k" + std::to_string(i); }
  Counter* Find(const std::string& key) {
    const uint64_t hash = keyspace_.Hash(key);
    return keyspace_.Find(keyspace_.ShardOf(hash), hash, key);
  }
  void Use(const std::string& key) {
    Counter* counter = Find(key);
    if (counter == nullptr) {
      const uint64_t hash = keyspace_.Hash(key);
      keyspace_.CountKey();
      counter = keyspace_.CreateCounter(keyspace_.ShardOf(hash), hash, key,
                                        keyspace_.templates().Find("k", {}));
    }
    keyspace_.Admitted(counter, Now(), 1);
  }
  void Reset(const std::string& key) {
    keyspace_.ResetExact(keyspace_.ShardOf(keyspace_.Hash(key)), Find(key), Now());
  }
  // As many keys as there may be.
  void Fill(int keys) {
    keyspace_.set_max_keys(static_cast<uint64_t>(keys));
    for (int i = 0; i < keys; ++i) Use(Key(i));
  }
  // Whether a new key finds a place, which it gives back.
  bool FindsPlace() {
    Keyspace::Places places(&keyspace_);
    if (places.Take(1)) return true;
    AppendOutcome result = AppendOutcome::kOk;
    return room_maker_.MakeRoom(false, false, &places, &result).ok();
  }
  uint64_t LooksFor(int refused) {
    const uint64_t before = room_maker_.keys_looked_at();
    for (int i = 0; i < refused; ++i) EXPECT_FALSE(FindsPlace());
    return room_maker_.keys_looked_at() - before;
  }
  bool SomethingIsFresh() {
    for (Keyspace::Shard& shard : keyspace_.shards()) {
      for (size_t slot = 0; slot < shard.table.slots(); ++slot) {
        Counter* const counter = shard.table.at(slot);
        if (counter == nullptr) continue;
        if (!keyspace_.templates().CatchUp(counter) || counter->Forgettable(Now())) return true;
      }
    }
    return false;
  }

  FakeClock clock_;
  EngineClock engine_clock_{&clock_};
  Keyspace keyspace_;
  std::atomic<bool> unusable_{false};
  RoomMaker room_maker_{{1, false}, &keyspace_, nullptr, &engine_clock_, &unusable_};
};

TEST_F(RoomMakerTest, AFloodOfRefusedKeysLooksAtEachKeyOnce) {
  for (const int keys : {20, 1'000, 20'000}) {
    Fill(keys);
    EXPECT_LE(LooksFor(1), kLooksAtOnce);
    LooksFor(keys / 32);
    EXPECT_EQ(LooksFor(1'000), 0u) << keys;
    keyspace_.set_max_keys(1'000'000);
  }
}

TEST_F(RoomMakerTest, WhatBecomesFreshIsFoundWhenItDoes) {
  Fill(1'000);
  LooksFor(100);
  clock_.AdvanceNs(static_cast<int64_t>(kHourNs) - 1);
  EXPECT_EQ(LooksFor(10), 0u);
  clock_.AdvanceNs(1);
  for (int i = 0; i < 1'000; ++i) ASSERT_TRUE(FindsPlace()) << i;
}

TEST_F(RoomMakerTest, AFewKeysAreAllLookedAtAtOnce) {
  Fill(50);
  for (int i = 0; i < 50; ++i) {
    EXPECT_FALSE(FindsPlace());
    Reset(Key(i));
    EXPECT_TRUE(FindsPlace()) << i;
    Use(Key(i));
  }
}

TEST_F(RoomMakerTest, WhatIsResetIsFoundAtOnceInALargeTableToo) {
  Fill(5'000);
  LooksFor(1'000);
  for (int i = 0; i < 5'000; i += 100) {
    Reset(Key(i));
    EXPECT_TRUE(FindsPlace()) << i;
    Use(Key(i));
    LooksFor(3);
  }
}

TEST_F(RoomMakerTest, AChangedTemplateIsNoticed) {
  Fill(500);
  LooksFor(100);
  keyspace_.ResetTemplate(keyspace_.templates().Find("k", {}), Now());
  EXPECT_TRUE(FindsPlace());
  for (int i = 0; i < 500; ++i) Use(Key(i));
  keyspace_.set_max_keys(500);
  LooksFor(100);
  keyspace_.ConfigureTemplate("k", {}, Config(Algorithm::kTokenBucket, 1'000'000, 1'000), Now());
  clock_.AdvanceNs(1'000);
  EXPECT_TRUE(FindsPlace());
  for (int i = 0; i < 500; ++i) Use(Key(i));
  keyspace_.RemoveTemplate(keyspace_.templates().Find("k", {}), Now());
  EXPECT_TRUE(FindsPlace());
}

// Whatever happens meanwhile: once nobody finds a place any more, there is none to be found.
TEST_F(RoomMakerTest, NothingFreshStaysHidden) {
  for (const Algorithm algorithm :
       {Algorithm::kTokenBucket, Algorithm::kFixedWindowCounter, Algorithm::kSlidingWindowLog,
        Algorithm::kSlidingWindowCounter}) {
    std::mt19937_64 random(static_cast<uint64_t>(algorithm));
    keyspace_.ConfigureTemplate("k", {}, Config(algorithm, 1'000'000, 100'000), Now());
    constexpr int kKeys = 300;
    Fill(kKeys);
    for (int round = 0; round < 2'000; ++round) {
      const std::string key = Key(static_cast<int>(random() % (size_t{2} * kKeys)));
      switch (random() % 4) {
        case 0:
          if (Find(key) != nullptr) Reset(key);
          break;
        case 1:
          clock_.AdvanceNs(static_cast<int64_t>(random() % 20'000));
          break;
        default:
          if (Find(key) != nullptr || FindsPlace()) Use(key);
      }
      if (round % 50 != 0) continue;
      keyspace_.set_max_keys(1);  // so that what is found leaves no place
      for (int refused = 0; refused < 20 && !FindsPlace(); ++refused) continue;
      ASSERT_FALSE(SomethingIsFresh()) << round;
      keyspace_.set_max_keys(kKeys);
    }
  }
}

}  // namespace
}  // namespace flint
