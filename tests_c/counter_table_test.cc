#include "engine/counter_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <utility>

namespace flint {
namespace {

class CounterTableTest : public testing::Test {
 protected:
  Counter* Insert(uint64_t hash, const std::string& key) {
    CounterPointer counter(Counter::Create(key, static_cast<uint32_t>(hash)));
    return table_.Insert(hash, std::move(counter));
  }

  CounterTable table_;
};

// The mask leaves so few hashes that many keys have the same, at the end of the slots too.
TEST_F(CounterTableTest, HoldsWhatAMapHolds) {
  for (const uint64_t mask : {uint64_t{0}, uint64_t{0xf000000f}, UINT64_MAX}) {
    std::mt19937_64 random(mask + 1);
    std::map<std::string, std::pair<uint64_t, Counter*>> wanted;
    const size_t most = mask == UINT64_MAX ? 5000 : 100;
    for (size_t step = 0; step < 20 * most; ++step) {
      const std::string key = std::to_string(random() % most);
      const auto found = wanted.find(key);
      // It fills up, empties and fills up again.
      const bool filling = step / (4 * most) % 2 == 0;
      if (found == wanted.end() && random() % 4 < (filling ? 4 : 1)) {
        const uint64_t hash = random() & mask;
        wanted[key] = {hash, Insert(hash, key)};
      } else if (found != wanted.end() && random() % 4 < (filling ? 1 : 4)) {
        table_.Erase(found->second.second);
        wanted.erase(found);
      }
      ASSERT_EQ(table_.size(), wanted.size());
      if (step % most != 0) continue;
      for (const auto& [name, entry] : wanted) {
        ASSERT_EQ(table_.Find(entry.first, name), entry.second);
      }
    }
    for (const auto& [name, entry] : wanted) table_.Erase(entry.second);
    EXPECT_EQ(table_.Find(0, "1"), nullptr);
  }
}

// All with one hash. Keys are compared in words, so each byte is looked at in keys of any size.
TEST_F(CounterTableTest, TellsKeysApartByEachByte) {
  for (size_t size = 1; size <= 80; ++size) {
    const std::string key(size, 'a');
    Counter* const counter = Insert(0, key);
    EXPECT_EQ(table_.Find(0, key), counter);
    for (size_t at = 0; at < size; ++at) {
      std::string other = key;
      other[at] = 'b';
      EXPECT_EQ(table_.Find(0, other), nullptr) << size << " bytes, at " << at;
    }
    // What has the same beginning and another size.
    EXPECT_EQ(table_.Find(0, key + "a"), nullptr);
  }
}

TEST_F(CounterTableTest, HasNotManyMoreSlotsThanCounters) {
  std::mt19937_64 random(1);
  for (size_t size = 1; size <= 20000; ++size) {
    Insert(random(), std::to_string(size));
    if (size < 100) continue;
    EXPECT_LE(size * 8, table_.slots() * 7);
    EXPECT_LE(table_.slots(), size * 7 / 4);
  }
}

}  // namespace
}  // namespace flint
