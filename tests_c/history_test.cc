// History: what was recorded comes back, in both orders, across pages, segments and restarts.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "engine_testing.h"

namespace flint {
namespace {

HistoryQuery Query() {
  HistoryQuery query;
  query.capacity = 1024;
  query.text_bytes = 1 << 16;
  return query;
}

HistoryPage Read(Engine* engine, const HistoryQuery& query) {
  HistoryPage page;
  const Status status = engine->History(query, &page);
  EXPECT_TRUE(status.ok()) << status.message();
  return page;
}

std::string Line(const HistoryEvent& event) {
  std::string line = std::to_string(static_cast<int>(event.type)) + "@" +
                     std::to_string((event.at_ns - FakeClock::kStartWallNs) / kSecondNs);
  if (event.count != 1) line += " x" + std::to_string(event.count);
  for (const HistoryItem& item : event.items) {
    line += " " + item.key + ":" + std::to_string(item.cost);
  }
  return line;
}

// All pages of a query, as lines.
std::vector<std::string> ReadAll(Engine* engine, HistoryQuery query) {
  std::vector<std::string> lines;
  while (true) {
    const HistoryPage page = Read(engine, query);
    if (page.events.empty()) return lines;
    for (const HistoryEvent& event : page.events) lines.push_back(Line(event));
    query.cursor = page.next_cursor;
  }
}

// One of every kind, a second apart.
void MakeHistory(Machine* machine) {
  Engine* engine = machine->engine.get();
  uint64_t ticket = 0;
  size_t denied = 0;
  Engine::Decision decisions[2];
  const auto pass = [machine] { machine->clock->AdvanceNs(kSecondNs); };
  ASSERT_TRUE(Configure(engine, "a", Hourly(3)).ok());
  pass();
  ASSERT_TRUE(Configure(engine, "b:", Hourly(5), LimitKind::kTemplate).ok());
  pass();
  EXPECT_TRUE(Allowed(engine, "a", 2));
  pass();
  EXPECT_FALSE(Allowed(engine, "a", 2));
  pass();
  ASSERT_TRUE(engine->CheckAll({{"a", 1}, {"b:1", 4}}, {}, decisions, &denied).ok());
  pass();
  ASSERT_TRUE(engine->Reset(LimitKind::kExact, "a", {}, &ticket).ok());
  pass();
  ASSERT_TRUE(engine->Remove(LimitKind::kExact, "a", {}, &ticket).ok());
}

const std::vector<std::string> kMade = {"5@0 a:0",       "5@1 b::0", "8@2 a:2", "10@3 a:2",
                                        "9@4 a:1 b:1:4", "11@5 a:0", "6@6 a:0"};

TEST(History, TellsEverythingInBothOrders) {
  for (const bool always : {true, false}) {
    Machine machine(always);
    machine.Open();
    MakeHistory(&machine);
    EXPECT_EQ(ReadAll(machine.engine.get(), Query()), kMade);
    HistoryQuery newest = Query();
    newest.newest_first = true;
    EXPECT_EQ(ReadAll(machine.engine.get(), newest),
              std::vector<std::string>(kMade.rbegin(), kMade.rend()));
    machine.Close();
    machine.clock->AdvanceNs(1000 * kSecondNs);
    machine.Open();
    EXPECT_EQ(ReadAll(machine.engine.get(), Query()), kMade);
    machine.Close();
  }
}

TEST(History, FiltersByKeyAndTime) {
  Machine machine;
  machine.Open();
  MakeHistory(&machine);
  HistoryQuery query = Query();
  query.has_key = true;
  query.key = "b:1";
  EXPECT_EQ(ReadAll(machine.engine.get(), query), std::vector<std::string>{kMade[4]});
  query.key = "b:";
  EXPECT_TRUE(ReadAll(machine.engine.get(), query).empty());
  query.key_is_template = true;
  EXPECT_EQ(ReadAll(machine.engine.get(), query), std::vector<std::string>{kMade[1]});
  query = Query();
  query.since_ns = FakeClock::kStartWallNs + 2 * kSecondNs;
  query.until_ns = FakeClock::kStartWallNs + 4 * kSecondNs;
  EXPECT_EQ(ReadAll(machine.engine.get(), query), (std::vector<std::string>{kMade[2], kMade[3]}));
  machine.Close();
}

// Pages of every size tell the same, and never split the items of an ALLOW_ALL.
TEST(History, PagesOfAnySizeJoinWithoutGapOrOverlap) {
  Machine machine;
  machine.Open();
  MakeHistory(&machine);
  for (const bool newest_first : {false, true}) {
    std::vector<std::string> expected = kMade;
    if (newest_first) std::reverse(expected.begin(), expected.end());
    for (size_t capacity = 2; capacity <= 9; ++capacity) {
      HistoryQuery query = Query();
      query.newest_first = newest_first;
      query.capacity = capacity;
      EXPECT_EQ(ReadAll(machine.engine.get(), query), expected) << capacity;
      query.capacity = 100;
      query.text_bytes = capacity + 2;
      EXPECT_EQ(ReadAll(machine.engine.get(), query), expected) << capacity;
    }
  }
  machine.Close();
}

// The place at which a page ended is any other's to go on from, or not, as its cursor says.
TEST(History, PagesOfSeveralReadersDoNotDisturbEachOther) {
  Machine machine(false);
  machine.segment_bytes = 10'000;
  machine.Open();
  Engine* const engine = machine.engine.get();
  for (const char* key : {"a", "b", "c"})
    ASSERT_TRUE(Configure(engine, key, Hourly(1'000'000)).ok());
  for (uint64_t i = 0; i < 500; ++i) {
    ASSERT_TRUE(Allowed(engine, std::string(1, "abc"[i % 3]), 1 + i));
  }
  EXPECT_GT(InfoOf(engine).segments, 2U);
  HistoryQuery queries[4] = {Query(), Query(), Query(), Query()};
  queries[1].has_key = queries[2].has_key = true;
  queries[1].key = "a";
  queries[2].key = "c";
  queries[3].newest_first = true;
  std::vector<std::string> expected[4];
  for (size_t i = 0; i < 4; ++i) {
    expected[i] = ReadAll(engine, queries[i]);
    queries[i].capacity = 7 + 4 * i;
  }
  std::vector<std::string> got[4];
  for (bool more = true; more;) {
    more = false;
    for (size_t i = 0; i < 4; ++i) {
      const HistoryPage page = Read(engine, queries[i]);
      queries[i].cursor = page.next_cursor;
      for (const HistoryEvent& event : page.events) got[i].push_back(Line(event));
      more = more || !page.events.empty();
    }
  }
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(got[i], expected[i]) << i;
  // What comes later is found from the end on.
  ASSERT_TRUE(Allowed(engine, "b", 999));
  EXPECT_EQ(Read(engine, queries[0]).events.size(), 1U);
  machine.Close();
}

// A page reads one piece of a file or, where it ends in the next, two. From the start on it would
// be up to four.
TEST(History, APageThatGoesOnDoesNotReadFromTheStart) {
  Machine machine(false);
  machine.segment_bytes = uint64_t{1} << 23;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(1'000'000)).ok());
  for (int i = 0; i < 100'000; ++i) ASSERT_TRUE(Allowed(machine.engine.get(), "k"));
  ASSERT_TRUE(machine.engine->Flush().ok());
  std::atomic<uint64_t> reads = 0;
  machine.env->SetHook([&](Op op, const std::string&) { reads += op == Op::kRead ? 1 : 0; });
  HistoryQuery query = Query();
  uint64_t least = UINT64_MAX;
  uint64_t pages = 0;
  while (true) {
    const uint64_t before = reads;
    const HistoryPage page = Read(machine.engine.get(), query);
    if (page.events.empty()) break;
    least = std::min<uint64_t>(least, reads - before);
    query.cursor = page.next_cursor;
    ++pages;
  }
  EXPECT_GT(pages, 90U);
  // A page's records may begin in one block of the file and end in the next. From the start there
  // would be some thirty blocks more on average.
  EXPECT_LE(reads, (pages + 1) * (least + 2));
  machine.env->SetHook(nullptr);
  machine.Close();
}

TEST(History, EventLargerThanThePageIsAnError) {
  Machine machine;
  machine.Open();
  MakeHistory(&machine);
  HistoryQuery query = Query();
  query.capacity = 1;
  query.has_key = true;
  query.key = "b:1";
  HistoryPage page;
  for (const bool newest_first : {false, true}) {
    query.newest_first = newest_first;
    EXPECT_EQ(machine.engine->History(query, &page).code(), Code::kInvalidArgument);
  }
  machine.Close();
}

// The rotation's segments, several restarts and a compaction in between.
TEST(History, GoesOnOverSegmentsAndRestarts) {
  Machine machine(false);
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(1'000'000)).ok());
  uint64_t allowed = 0;
  for (int run = 0; run < 3; ++run) {
    for (int i = 0; i < 10'000; ++i, ++allowed) {
      ASSERT_TRUE(Allowed(machine.engine.get(), "k"));
      if (i == 5'000) machine.clock->AdvanceNs(kSecondNs);
    }
    machine.Close();
    machine.Open();
  }
  EXPECT_GT(InfoOf(machine.engine.get()).segments, 2U);
  for (const bool newest_first : {false, true}) {
    HistoryQuery query = Query();
    query.newest_first = newest_first;
    EXPECT_EQ(ReadAll(machine.engine.get(), query).size(), allowed + 1);
  }
  machine.Close();
}

TEST(History, FloodOfDenialsShowsItsCount) {
  Machine machine(false);
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(1)).ok());
  EXPECT_TRUE(Allowed(machine.engine.get(), "k"));
  for (int i = 0; i < 500; ++i) {
    EXPECT_FALSE(Allowed(machine.engine.get(), "k"));
    machine.clock->AdvanceNs(1000);
  }
  uint64_t denied = 0;
  uint64_t cost = 0;
  size_t merged = 0;
  for (const HistoryEvent& event : Read(machine.engine.get(), Query()).events) {
    if (event.type != RecordType::kDeny) continue;
    denied += event.count;
    cost += event.items.front().cost;
    if (event.count == 1) continue;
    ++merged;
    EXPECT_EQ(event.at_ns - event.first_ns, static_cast<int64_t>(event.count - 1) * 1000);
  }
  EXPECT_EQ(denied, 500U);
  EXPECT_EQ(cost, 500U);
  EXPECT_GT(merged, 0U);
  machine.Close();
}

TEST(History, CursorBeforeWhatIsKeptIsGone) {
  Machine machine;
  machine.Open();
  MakeHistory(&machine);
  HistoryQuery query = Query();
  query.capacity = 2;
  query.cursor = Read(machine.engine.get(), query).next_cursor;
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  for (const std::string& path : machine.env->Files()) {
    if (path.find("flint.aof.0") == std::string::npos) continue;
    ASSERT_TRUE(machine.env->Remove(path).ok());
  }
  HistoryPage page;
  for (const bool newest_first : {false, true}) {
    query.newest_first = newest_first;
    EXPECT_EQ(machine.engine->History(query, &page).code(), Code::kHistoryGone);
  }
  query.cursor = 0;
  EXPECT_TRUE(ReadAll(machine.engine.get(), query).empty());
  machine.Close();
}

TEST(History, InMemoryThereIsNone) {
  Machine machine;
  ASSERT_TRUE(Engine::Open("", machine.Options(), &machine.engine).ok());
  HistoryPage page;
  EXPECT_EQ(machine.engine->History(Query(), &page).code(), Code::kUnsupported);
}

}  // namespace
}  // namespace flint
