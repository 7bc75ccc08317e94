// Listing by pages: what a page costs, counted in slots of the table, and what pages show of a
// table that changes between them.

#include "engine/listing.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine_testing.h"

namespace flint {
namespace {

constexpr size_t kPage = 16;
constexpr size_t kKeysInRun = 100;

// A table with a template and its counters, and a listing of it.
class ListingTest : public ::testing::Test {
 protected:
  // Where a listing is, as a caller keeps it.
  struct Cursor {
    std::string key;
    LimitKind kind{};
  };

  ListingTest() {
    EXPECT_TRUE(keyspace_.DrawHashSecret(Env::Posix()).ok());
    engine_clock_.StartAt(clock_.WallNs());
    keyspace_.ConfigureTemplate("k", {}, Hourly(100), engine_clock_.Now());
  }

  static std::string Key(int i) { return "k" + std::to_string(1'000'000 + i); }
  void Use(const std::string& key) {
    const uint64_t hash = keyspace_.Hash(key);
    Keyspace::Shard& shard = keyspace_.ShardOf(hash);
    Counter* counter = keyspace_.Find(shard, hash, key);
    if (counter == nullptr) {
      keyspace_.CountKey();
      counter = keyspace_.CreateCounter(shard, hash, key, keyspace_.templates().Find("k", {}));
    }
    keyspace_.Admitted(counter, engine_clock_.Now(), 1);
  }
  void UseMany(int first, int end) {
    for (int i = first; i < end; ++i) Use(Key(i));
  }
  void Remove(const std::string& key) {
    const uint64_t hash = keyspace_.Hash(key);
    Keyspace::Shard& shard = keyspace_.ShardOf(hash);
    keyspace_.RemoveExact(shard, keyspace_.Find(shard, hash, key));
  }
  void MakeExact(const std::string& key) {
    const uint64_t hash = keyspace_.Hash(key);
    keyspace_.ConfigureExact(keyspace_.ShardOf(hash), hash, key, {}, Hourly(7),
                             engine_clock_.Now());
  }

  // The next page, and whether there was one.
  bool Next(std::optional<Cursor>* cursor, size_t capacity, bool all_counters = true) {
    Listing::Position position;
    if (cursor->has_value()) position = {(*cursor)->key, (*cursor)->kind};
    listing_.Page(cursor->has_value() ? &position : nullptr, {all_counters, capacity, SIZE_MAX},
                  &page_);
    if (page_.empty()) return false;
    *cursor = Cursor{page_.back().key, page_.back().kind};
    return true;
  }
  // How many limits a listing has.
  size_t CountAll(size_t capacity) {
    size_t count = 0;
    std::optional<Cursor> cursor;
    while (Next(&cursor, capacity)) count += page_.size();
    return count;
  }
  size_t Slots() {
    size_t slots = 0;
    for (Keyspace::Shard& shard : keyspace_.shards()) slots += shard.table.slots();
    return slots;
  }

  FakeClock clock_;
  EngineClock engine_clock_{&clock_};
  Keyspace keyspace_;
  Listing listing_{&keyspace_, &engine_clock_, kKeysInRun};
  std::vector<LimitStatus> page_;
};

TEST_F(ListingTest, AListingWalksOverTheTableAFewTimesHoweverManyPagesItHas) {
  int keys = 0;
  for (const int more : {50, 1'000, 20'000}) {
    UseMany(keys, more);
    keys = more;
    const uint64_t before = listing_.slots_seen();
    EXPECT_EQ(CountAll(kPage), static_cast<size_t>(keys) + 1);
    const uint64_t walks = (listing_.slots_seen() - before) / Slots();
    EXPECT_LE(walks, keys == 50 ? 1u : 10u) << keys;
  }
}

TEST_F(ListingTest, OnlyTheFirstPageOfARunWalks) {
  UseMany(0, 90);
  std::optional<Cursor> cursor;
  ASSERT_TRUE(Next(&cursor, 1));
  EXPECT_EQ(page_[0].kind, LimitKind::kTemplate);
  EXPECT_EQ(page_[0].totals.allowed, 90u);
  EXPECT_EQ(page_[0].counters, 90u);
  const uint64_t before = listing_.slots_seen();
  EXPECT_EQ(before, Slots());
  while (Next(&cursor, kPage)) EXPECT_EQ(page_[0].totals.allowed, 1u);
  EXPECT_EQ(listing_.slots_seen(), before);
}

TEST_F(ListingTest, WhatStaysIsShownOnceWhateverComesAndGoes) {
  constexpr int kKeys = 6'000;
  UseMany(0, kKeys);
  std::map<std::string, int> shown;
  std::optional<Cursor> cursor;
  int changes = 0;
  while (Next(&cursor, 40)) {
    for (const LimitStatus& status : page_) ++shown[status.key];
    for (int i = 0; i < 10; ++i, ++changes) {
      if (changes < kKeys / 2) Remove(Key(changes * 37 % (kKeys / 2) * 2 + 1));
      Use(Key(changes * 41 % kKeys) + "x");
    }
    clock_.AdvanceNs(kSecondNs);  // so that runs grow old meanwhile
  }
  for (int i = 0; i < kKeys; i += 2) ASSERT_EQ(shown[Key(i)], 1) << i;
  for (const auto& [key, times] : shown) ASSERT_LE(times, 1) << key;
}

TEST_F(ListingTest, AListingThatBeginsShowsWhatIsNew) {
  UseMany(0, 90);
  std::optional<Cursor> old;
  ASSERT_TRUE(Next(&old, 10));
  Use(Key(2'000));
  EXPECT_EQ(CountAll(10), 92u);
  std::optional<Cursor> begun;
  ASSERT_TRUE(Next(&begun, 10));
  size_t rest = 10;
  while (Next(&old, 10)) rest += page_.size();
  EXPECT_EQ(rest, 92u) << "the older listing goes on";
  ASSERT_TRUE(Next(&begun, 1));
  EXPECT_EQ(page_[0].key, Key(9));
}

TEST_F(ListingTest, WithoutCountersOnlyLimitsAreHeld) {
  UseMany(0, 90);
  MakeExact(Key(50));
  std::optional<Cursor> cursor;
  ASSERT_TRUE(Next(&cursor, 1, false));
  EXPECT_EQ(page_[0].totals.allowed, 89u);
  EXPECT_EQ(listing_.keys_held(), 2u);
  ASSERT_TRUE(Next(&cursor, 1, false));
  EXPECT_EQ(page_[0].key, Key(50));
  EXPECT_FALSE(Next(&cursor, 1, false));
}

TEST_F(ListingTest, HoldsNothingOnceItHasEndedOrIsOld) {
  UseMany(0, 90);
  EXPECT_EQ(CountAll(kPage), 91u);
  EXPECT_EQ(listing_.keys_held(), 0u);
  std::optional<Cursor> cursor;
  ASSERT_TRUE(Next(&cursor, kPage));
  EXPECT_EQ(listing_.keys_held(), 91u);
  ASSERT_TRUE(Next(&cursor, kPage));
  clock_.AdvanceNs(11 * kSecondNs);
  listing_.GiveUpOldRuns();
  EXPECT_EQ(listing_.keys_held(), 0u);
  ASSERT_TRUE(Next(&cursor, kPage));
  EXPECT_EQ(page_[0].key, Key(2 * kPage - 1));
}

TEST_F(ListingTest, HoldsAPartOfALargeTable) {
  UseMany(0, 700);
  std::optional<Cursor> cursor;
  ASSERT_TRUE(Next(&cursor, kPage));
  EXPECT_EQ(listing_.keys_held(), 100u);
  // Listings that were left in the middle do not add up.
  for (int i = 0; i < 10; ++i) {
    cursor = Cursor{Key(i * 50), LimitKind::kCounter};
    ASSERT_TRUE(Next(&cursor, kPage));
    EXPECT_LE(listing_.keys_held(), 4 * 100u);
  }
}

TEST_F(ListingTest, LongKeysAreHeldInSmallerNumbers) {
  const std::string tail(1'000, 'x');
  for (int i = 0; i < 200; ++i) Use(Key(i) + tail);
  std::optional<Cursor> cursor;
  ASSERT_TRUE(Next(&cursor, kPage));
  EXPECT_LE(listing_.keys_held(), 4 * (100u * 64 / 1'000 + 1));
  EXPECT_EQ(CountAll(kPage), 201u);
}

// A counter stands behind the template of the same name, an exact limit before it.
TEST_F(ListingTest, AChangeOfKindShowsNothingTwice) {
  Use("k");
  std::optional<Cursor> cursor;
  ASSERT_TRUE(Next(&cursor, 1));
  EXPECT_EQ(page_[0].kind, LimitKind::kTemplate);
  MakeExact("k");
  EXPECT_FALSE(Next(&cursor, 1));
  EXPECT_EQ(CountAll(1), 2u);
}

}  // namespace
}  // namespace flint
