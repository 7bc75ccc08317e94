#include "engine/id_table.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace flint {
namespace {

class IdTableTest : public testing::Test {
 protected:
  Counter* Make() {
    counters_.emplace_back(Counter::Create("key", 0));
    counters_.back()->config = new LimitConfig();
    return counters_.back().get();
  }

  std::vector<CounterPointer> counters_;
  IdTable table_;
};

TEST_F(IdTableTest, FindsWhatIsBoundWhateverTheNumbers) {
  const uint32_t strides[] = {1, 2, 4096, 65537, uint32_t{1} << 20};
  for (const uint32_t stride : strides) {
    table_.Clear();
    const size_t first = counters_.size();
    for (uint32_t i = 0; i < 1000; ++i) table_.Bind(i * stride, Make());
    for (uint32_t i = 0; i < 1000; ++i) {
      EXPECT_EQ(table_.Find(i * stride), counters_[first + i].get());
    }
    EXPECT_EQ(table_.Find(1000 * stride), nullptr);
  }
  table_.Bind(UINT32_MAX, counters_[0].get());
  EXPECT_EQ(table_.Find(UINT32_MAX), counters_[0].get());
}

TEST_F(IdTableTest, ACounterTakesAllItsIdsAlong) {
  Counter* const one = Make();
  Counter* const other = Make();
  for (const uint32_t id : {1u, 3u, 5u}) table_.Bind(id, one);
  for (const uint32_t id : {2u, 4u}) table_.Bind(id, other);
  table_.Bind(5, other);
  table_.Unbind(one);
  for (const uint32_t id : {1u, 3u}) EXPECT_EQ(table_.Find(id), nullptr);
  for (const uint32_t id : {2u, 4u, 5u}) EXPECT_EQ(table_.Find(id), other);
  // From now on the other way is known as well.
  table_.Bind(1, one);
  table_.Bind(1, one);
  table_.Bind(2, one);
  table_.Unbind(other);
  for (const uint32_t id : {1u, 2u}) EXPECT_EQ(table_.Find(id), one);
  for (const uint32_t id : {3u, 4u, 5u}) EXPECT_EQ(table_.Find(id), nullptr);
  table_.Unbind(one);
  for (uint32_t id = 0; id < 8; ++id) EXPECT_EQ(table_.Find(id), nullptr);
}

TEST_F(IdTableTest, UnbindsThoseThatAreGone) {
  for (const bool known : {false, true}) {
    table_.Clear();
    if (known) table_.Unbind(Make());
    std::set<Counter*> gone;
    for (uint32_t id = 0; id < 100; ++id) {
      Counter* const counter = Make();
      table_.Bind(id, counter);
      if (id % 3 == 0) gone.insert(counter);
    }
    table_.UnbindIf([&](Counter* counter) { return gone.count(counter) != 0; });
    for (uint32_t id = 0; id < 100; ++id) EXPECT_EQ(table_.Find(id) == nullptr, id % 3 == 0);
    table_.Unbind(table_.Find(1));
    EXPECT_EQ(table_.Find(1), nullptr);
    EXPECT_NE(table_.Find(2), nullptr);
  }
}

}  // namespace
}  // namespace flint
