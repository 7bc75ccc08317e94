// Several limits of one key, each with a name of its own: they decide together, all or nothing, and
// one check is one record.

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine_testing.h"

namespace flint {
namespace {

constexpr LimitKind kExact = LimitKind::kExact;
constexpr LimitKind kTemplate = LimitKind::kTemplate;

LimitConfig Stacking(LimitConfig config) {
  config.stack = true;
  return config;
}

// What each limit of a key says.
class Heard final : public Engine::EachLimit {
 public:
  void Add(std::string_view name, const Engine::Decision& decision) override {
    names.emplace_back(name);
    decisions.push_back(decision);
  }
  std::vector<std::string> names;
  std::vector<Engine::Decision> decisions;
};

class NamedLimits : public ::testing::Test {
 protected:
  void SetUp() override { machine_.Open(); }
  Engine* engine() { return machine_.engine.get(); }

  Code TryConfigure(std::string_view key, std::string_view name, const LimitConfig& config,
                    LimitKind kind = kExact) {
    uint64_t ticket = 0;
    return engine()->Configure(Engine::Limit{kind, key, config, name}, {}, &ticket).code();
  }
  void Limit(std::string_view key, std::string_view name, const LimitConfig& config,
             LimitKind kind = kExact) {
    ASSERT_EQ(TryConfigure(key, name, config, kind), Code::kOk);
  }
  Engine::Decision Decide(std::string_view key, uint64_t cost = 1, Heard* heard = nullptr) {
    Engine::Decision decision;
    decision.each = heard;
    const Status status = engine()->Check({key, cost}, {}, nullptr, &decision);
    EXPECT_TRUE(status.ok()) << status.message();
    return decision;
  }
  std::vector<std::string> NamesOf(std::string_view key) {
    Heard heard;
    Engine::Decision decision;
    decision.each = &heard;
    const Status status = engine()->Peek({key, 1}, {}, nullptr, &decision);
    EXPECT_TRUE(status.ok()) << status.message();
    return heard.names;
  }
  uint64_t Remaining(std::string_view key, std::string_view name) {
    Engine::LimitStatus limit;
    const Status status = engine()->StatusOf(kExact, key, name, &limit);
    EXPECT_TRUE(status.ok()) << status.message();
    return limit.remaining;
  }
  Code StatusCode(std::string_view key, std::string_view name) {
    Engine::LimitStatus limit;
    return engine()->StatusOf(kExact, key, name, &limit).code();
  }
  Code Remove(std::string_view key, const char* name, LimitKind kind = kExact) {
    uint64_t ticket = 0;
    const std::string_view view = name == nullptr ? "" : name;
    return engine()->Remove(kind, key, name == nullptr ? nullptr : &view, {}, &ticket).code();
  }
  Code Reset(std::string_view key, const char* name, LimitKind kind = kExact) {
    uint64_t ticket = 0;
    const std::string_view view = name == nullptr ? "" : name;
    return engine()->Reset(kind, key, name == nullptr ? nullptr : &view, {}, &ticket).code();
  }
  HistoryPage Newest(size_t count) {
    HistoryQuery query;
    query.newest_first = true;
    query.capacity = count;
    query.text_bytes = 1 << 16;
    HistoryPage page;
    const Status status = engine()->History(query, &page);
    EXPECT_TRUE(status.ok()) << status.message();
    return page;
  }
  // What the limiter says must be what the directory tells, read in every way.
  void ExpectTheSameAfterReopening() {
    const std::string before = DescribeAll(engine(), true);
    machine_.Close();
    machine_.Open();
    EXPECT_EQ(DescribeAll(engine(), true), before) << "reopened";
    ASSERT_TRUE(engine()->Compact({}).ok());
    EXPECT_EQ(InfoOf(engine()).compaction_failures, 0u);
    machine_.Kill();
    machine_.Open();
    EXPECT_EQ(DescribeAll(engine(), true), before) << "from a snapshot";
  }

  Machine machine_;
};

TEST_F(NamedLimits, DenyTogetherAndCountTogether) {
  Limit("k", "hour", Hourly(2));
  Limit("k", "day", Hourly(5));
  Heard heard;
  Engine::Decision decision = Decide("k", 2, &heard);
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(decision.limit_count, 2u);
  EXPECT_EQ(heard.names, (std::vector<std::string>{"day", "hour"}));
  EXPECT_EQ(heard.decisions[0].remaining, 3u);
  EXPECT_EQ(heard.decisions[1].remaining, 0u);
  EXPECT_EQ(decision.limit_index, 1u) << "the one that is closest to denying";
  EXPECT_EQ(decision.remaining, 0u);
  heard = Heard();
  decision = Decide("k", 1, &heard);
  EXPECT_FALSE(decision.allowed);
  EXPECT_EQ(decision.limit_index, 1u);
  EXPECT_GT(decision.retry_after_ns, 0u);
  EXPECT_TRUE(heard.decisions[0].allowed);
  EXPECT_FALSE(heard.decisions[1].allowed);
  EXPECT_EQ(Remaining("k", "day"), 3u) << "a denial by one uses nothing of the other";
  EXPECT_EQ(StatusCode("k", ""), Code::kNotConfigured);
}

TEST_F(NamedLimits, OfThoseThatDenyTheLongestTells) {
  Limit("k", "a", Config(Algorithm::kFixedWindowCounter, 1, kHourNs));
  Limit("k", "b", Config(Algorithm::kFixedWindowCounter, 1, 3 * kHourNs));
  Limit("k", "c", Config(Algorithm::kFixedWindowCounter, 1, 2 * kHourNs));
  EXPECT_TRUE(Decide("k").allowed);
  const Engine::Decision denied = Decide("k");
  EXPECT_FALSE(denied.allowed);
  EXPECT_EQ(denied.limit_index, 1u);
  EXPECT_GT(denied.retry_after_ns, 2 * kHourNs);
  const HistoryPage page = Newest(1);
  ASSERT_EQ(page.events.size(), 1u);
  EXPECT_EQ(page.events[0].type, RecordType::kDeny);
  EXPECT_EQ(page.events[0].items[0].name, "b");
}

TEST_F(NamedLimits, OneCheckIsOneRecord) {
  Limit("k", "", Hourly(5));
  Limit("k", "day", Hourly(9));
  Decide("k");
  const uint64_t before = InfoOf(engine()).log.appended;
  Decide("k");
  const uint64_t record_bytes = kRecordHeaderBytes + AllowAllBytes(2);
  const uint64_t appended = InfoOf(engine()).log.appended - before;
  EXPECT_GE(appended, record_bytes);
  EXPECT_LE(appended, record_bytes + kSealBytes) << "a seal may go out with it";
  const HistoryPage page = Newest(2);
  ASSERT_EQ(page.events.size(), 1u);
  EXPECT_EQ(page.events[0].type, RecordType::kAllowAll);
  ASSERT_EQ(page.events[0].items.size(), 2u);
  EXPECT_EQ(page.events[0].items[0].name, "");
  EXPECT_EQ(page.events[0].items[1].name, "day");
}

// Against limits that know nothing of each other, one key each, decided by check_all.
TEST_F(NamedLimits, AreAsExactAsCountersOfTheirOwn) {
  const LimitConfig configs[] = {Config(Algorithm::kTokenBucket, 7, 10 * kSecondNs, 3),
                                 Config(Algorithm::kSlidingWindowLog, 5, 20 * kSecondNs),
                                 Config(Algorithm::kSlidingWindowCounter, 6, 15 * kSecondNs),
                                 Config(Algorithm::kFixedWindowCounter, 9, 40 * kSecondNs)};
  const std::string names[] = {"", "log", "sliding", "window"};
  Machine apart;
  apart.Open();
  std::vector<Engine::Item> items;
  for (size_t i = 0; i < std::size(configs); ++i) {
    Limit("k", names[i], configs[i]);
    ASSERT_TRUE(Configure(apart.engine.get(), "k" + names[i], configs[i]).ok());
  }
  const std::string keys[] = {"k", "klog", "ksliding", "kwindow"};
  std::mt19937_64 random(7);
  size_t denials = 0;
  for (int step = 0; step < 2000; ++step) {
    const auto pass_ns = static_cast<int64_t>(random() % (3 * kSecondNs));
    machine_.clock->AdvanceNs(pass_ns);
    apart.clock->AdvanceNs(pass_ns);
    const uint64_t cost = 1 + random() % 3;
    items.clear();
    for (const std::string& key : keys) items.push_back({key, cost});
    Engine::Decision wanted[4];
    size_t denied = 0;
    ASSERT_TRUE(apart.engine->CheckAll(items, {}, wanted, &denied).ok());
    Heard heard;
    const Engine::Decision decision = Decide("k", cost, &heard);
    ASSERT_EQ(decision.allowed, denied == items.size()) << step;
    if (!decision.allowed) ++denials;
    ASSERT_EQ(heard.names.size(), std::size(names));
    for (size_t i = 0; i < std::size(names); ++i) {
      EXPECT_EQ(heard.names[i], names[i]);
      EXPECT_EQ(heard.decisions[i].remaining, StatusOf(apart.engine.get(), keys[i]).remaining);
    }
  }
  EXPECT_GT(denials, 100u);
  EXPECT_LT(denials, 1900u);
  ExpectTheSameAfterReopening();
}

TEST_F(NamedLimits, AreChangedRemovedAndResetByName) {
  Limit("k", "a", Hourly(5));
  Limit("k", "b", Hourly(9));
  Limit("k", "", Hourly(7));
  Decide("k", 4);
  Limit("k", "b", Hourly(6));
  EXPECT_EQ(Remaining("k", "b"), 2u) << "what was used counts on";
  EXPECT_EQ(Remaining("k", "a"), 1u);
  EXPECT_EQ(Reset("k", "a"), Code::kOk);
  EXPECT_EQ(Remaining("k", "a"), 5u);
  EXPECT_EQ(Remaining("k", "b"), 2u);
  EXPECT_EQ(Remaining("k", ""), 3u);
  EXPECT_EQ(Remove("k", "b"), Code::kOk);
  EXPECT_EQ(Remove("k", "b"), Code::kNotConfigured);
  EXPECT_EQ(NamesOf("k"), (std::vector<std::string>{"", "a"}));
  EXPECT_EQ(Reset("k", nullptr), Code::kOk);
  EXPECT_EQ(Remaining("k", ""), 7u);
  ExpectTheSameAfterReopening();
  EXPECT_EQ(Remove("k", "a"), Code::kOk);
  EXPECT_EQ(Decide("k").limit_count, 0u) << "what is left has no name";
  Limit("k", "a", Hourly(5));
  EXPECT_EQ(Decide("k").limit_count, 2u);
  EXPECT_EQ(Remove("k", nullptr), Code::kOk);
  EXPECT_EQ(Remove("k", nullptr), Code::kNotConfigured);
  EXPECT_EQ(InfoOf(engine()).limits, 0u);
  ExpectTheSameAfterReopening();
}

TEST_F(NamedLimits, OfATemplateAllApply) {
  Limit("u:", "", Hourly(3), kTemplate);
  EXPECT_EQ(Decide("u:1").limit_count, 0u);
  Limit("u:", "day", Hourly(2), kTemplate);
  Heard heard;
  EXPECT_TRUE(Decide("u:1", 1, &heard).allowed);
  EXPECT_EQ(heard.names, (std::vector<std::string>{"", "day"}));
  EXPECT_EQ(heard.decisions[0].remaining, 1u) << "used since before there was another";
  EXPECT_EQ(heard.decisions[1].remaining, 1u);
  EXPECT_TRUE(Decide("u:1").allowed);
  EXPECT_FALSE(Decide("u:1").allowed);
  EXPECT_TRUE(Decide("u:2").allowed);
  EXPECT_EQ(InfoOf(engine()).counters, 4u);
  ExpectTheSameAfterReopening();
  EXPECT_EQ(Reset("u:", "day", kTemplate), Code::kOk);
  EXPECT_EQ(Remaining("u:1", "day"), 2u);
  EXPECT_EQ(Remaining("u:1", ""), 0u);
  EXPECT_EQ(Remove("u:", "", kTemplate), Code::kOk);
  EXPECT_EQ(NamesOf("u:1"), (std::vector<std::string>{"day"}));
  ExpectTheSameAfterReopening();
  EXPECT_EQ(Remove("u:", nullptr, kTemplate), Code::kOk);
  EXPECT_EQ(StatusCode("u:1", "day"), Code::kNotConfigured);
}

TEST_F(NamedLimits, TheLongestPrefixWinsWithAllItsLimits) {
  Limit("u:", "short", Hourly(3), kTemplate);
  EXPECT_TRUE(Decide("u:1").allowed);
  Limit("u:1", "long", Hourly(9), kTemplate);
  EXPECT_EQ(NamesOf("u:1"), (std::vector<std::string>{"long"}));
  EXPECT_EQ(StatusCode("u:1", "short"), Code::kNotConfigured) << "it does not apply any more";
  EXPECT_TRUE(Decide("u:1").allowed);
  ExpectTheSameAfterReopening();
  // The same name goes on from what was used.
  EXPECT_TRUE(Decide("u:2").allowed);
  Limit("u:2", "short", Hourly(9), kTemplate);
  EXPECT_EQ(Remaining("u:2", "short"), 8u);
  ExpectTheSameAfterReopening();
  // A limit of the key's own ends what templates had counted.
  Limit("u:2", "own", Hourly(4));
  EXPECT_EQ(NamesOf("u:2"), (std::vector<std::string>{"own"}));
  ExpectTheSameAfterReopening();
}

TEST_F(NamedLimits, StackingLeavesShorterOnesInForce) {
  Limit("", "all", Hourly(9), kTemplate);
  Limit("u:", "user", Stacking(Hourly(5)), kTemplate);
  Limit("u:1", "one", Stacking(Hourly(3)));
  EXPECT_EQ(NamesOf("u:1"), (std::vector<std::string>{"one", "user", "all"}));
  EXPECT_TRUE(Decide("u:1", 2).allowed);
  EXPECT_EQ(Remaining("u:1", "one"), 1u);
  EXPECT_EQ(Remaining("u:1", "user"), 3u);
  EXPECT_EQ(Remaining("u:1", "all"), 7u);
  EXPECT_EQ(NamesOf("u:2"), (std::vector<std::string>{"user", "all"}));
  ExpectTheSameAfterReopening();
  // A name that a longer one has is not taken from a shorter one.
  Limit("u:", "all", Hourly(4), kTemplate);
  EXPECT_EQ(NamesOf("u:2"), (std::vector<std::string>{"all", "user"}));
  EXPECT_EQ(Remaining("u:1", "all"), 2u) << "of 9, 2 were used";
  ExpectTheSameAfterReopening();
  // When it stacks no longer, what it left in force ends.
  Limit("u:1", "one", Hourly(3));
  EXPECT_EQ(NamesOf("u:1"), (std::vector<std::string>{"one"}));
  EXPECT_EQ(StatusCode("u:1", "user"), Code::kNotConfigured);
  ExpectTheSameAfterReopening();
  EXPECT_EQ(Remove("u:1", nullptr), Code::kOk);
  EXPECT_EQ(NamesOf("u:1"), (std::vector<std::string>{"all", "user"}));
  EXPECT_EQ(Remaining("u:1", "user"), 5u) << "begun anew";
}

TEST_F(NamedLimits, ATemplateThatStacksNoLongerEndsShorterOnes) {
  Limit("", "all", Hourly(9), kTemplate);
  Limit("u:", "user", Stacking(Hourly(5)), kTemplate);
  EXPECT_TRUE(Decide("u:1").allowed);
  Limit("u:", "user", Hourly(5), kTemplate);
  Limit("u:", "user", Stacking(Hourly(5)), kTemplate);
  EXPECT_EQ(Remaining("u:1", "all"), 9u) << "ended in between, whoever looked";
  EXPECT_EQ(Remaining("u:1", "user"), 4u);
  ExpectTheSameAfterReopening();
}

TEST_F(NamedLimits, InlineLimitsStayAlone) {
  const LimitConfig config = Hourly(2);
  Engine::Decision decision;
  ASSERT_TRUE(engine()->Check({"x", 1}, {}, &config, &decision).ok());
  EXPECT_EQ(decision.limit_count, 0u);
  Limit("", "all", Hourly(9), kTemplate);
  ASSERT_TRUE(engine()->Check({"x", 1}, {}, &config, &decision).ok());
  EXPECT_TRUE(decision.allowed);
  ASSERT_TRUE(engine()->Check({"x", 1}, {}, &config, &decision).ok());
  EXPECT_FALSE(decision.allowed);
  ExpectTheSameAfterReopening();
  machine_.clock->AdvanceNs(static_cast<int64_t>(kHourNs));
  ASSERT_TRUE(engine()->Check({"x", 1}, {}, &config, &decision).ok());
  EXPECT_EQ(decision.limit_count, 1u) << "fresh, so the template has taken over";
}

TEST_F(NamedLimits, AreDecidedWithOtherKeysToo) {
  Limit("a", "x", Hourly(5));
  Limit("a", "y", Hourly(3));
  Limit("b", "", Hourly(2));
  Engine::Decision decisions[2];
  size_t denied = 0;
  ASSERT_TRUE(engine()->CheckAll({{"a", 2}, {"b", 1}}, {}, decisions, &denied).ok());
  EXPECT_EQ(denied, 2u);
  EXPECT_EQ(decisions[0].limit_count, 2u);
  EXPECT_EQ(decisions[0].limit_index, 1u);
  EXPECT_EQ(decisions[1].limit_count, 0u);
  ASSERT_TRUE(engine()->CheckAll({{"b", 1}, {"a", 2}}, {}, decisions, &denied).ok());
  EXPECT_EQ(denied, 1u);
  EXPECT_EQ(decisions[1].limit_index, 1u);
  EXPECT_EQ(Remaining("b", ""), 1u);
  EXPECT_EQ(Remaining("a", "x"), 3u);
  ExpectTheSameAfterReopening();
}

TEST_F(NamedLimits, RefusesWhatIsTooMuch) {
  for (int i = 0; i < 16; ++i) Limit("k", "n" + std::to_string(i), Hourly(5));
  EXPECT_EQ(TryConfigure("k", "n16", Hourly(5)), Code::kInvalidArgument);
  EXPECT_EQ(TryConfigure("k", "n3", Hourly(6)), Code::kOk);
  EXPECT_EQ(Decide("k").limit_count, 16u);
  EXPECT_EQ(TryConfigure("k", std::string(256, 'n'), Hourly(5)), Code::kInvalidArgument);
  EXPECT_EQ(TryConfigure("q", std::string(255, 'n'), Hourly(5)), Code::kOk);
  EXPECT_EQ(TryConfigure("q", "\xff", Hourly(5)), Code::kInvalidArgument);
  for (int i = 0; i < 16; ++i) Limit("t:", "n" + std::to_string(i), Hourly(5), kTemplate);
  EXPECT_EQ(TryConfigure("t:", "n16", Hourly(5), kTemplate), Code::kInvalidArgument);
  Limit("", "more", Hourly(5), kTemplate);
  EXPECT_EQ(Decide("t:1").limit_count, 16u);
  Limit("t:", "n3", Stacking(Hourly(5)), kTemplate);
  Engine::Decision decision;
  EXPECT_EQ(engine()->Check({"t:2", 1}, {}, nullptr, &decision).code(), Code::kInvalidArgument);
  const std::string long_key = "t:" + std::string(60'000, 'x');
  Limit("t:", "n3", Hourly(5), kTemplate);
  EXPECT_EQ(engine()->Check({long_key, 1}, {}, nullptr, &decision).code(), Code::kInvalidArgument);
  EXPECT_EQ(engine()->Check({"k", 6}, {}, nullptr, &decision).code(), Code::kInvalidArgument);
}

TEST_F(NamedLimits, CountSinglyForMaxKeys) {
  for (const auto when_full : {Engine::WhenFull::kRefuse, Engine::WhenFull::kEvict}) {
    Machine machine;
    Engine::Options options = machine.Options();
    options.max_keys = 4;
    options.when_full = when_full;
    ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &machine.engine).ok());
    machine_.engine = std::move(machine.engine);
    machine_.env = std::move(machine.env);
    machine_.clock = std::move(machine.clock);
    Limit("u:", "a", Hourly(5), kTemplate);
    Limit("u:", "b", Hourly(5), kTemplate);
    Decide("u:1");
    Decide("u:2");
    Engine::Decision decision;
    const Code code = engine()->Check({"u:3", 1}, {}, nullptr, &decision).code();
    if (when_full == Engine::WhenFull::kRefuse) {
      EXPECT_EQ(code, Code::kTableFull);
      EXPECT_EQ(Decide("u:1").limit_count, 2u);
    } else {
      EXPECT_EQ(code, Code::kOk);
      EXPECT_EQ(InfoOf(engine()).evicted, 2u);
    }
    EXPECT_EQ(InfoOf(engine()).counters, 4u);
    ExpectTheSameAfterReopening();
  }
}

// Limits of one key become fresh at different times; what is left and what is new decide together.
TEST_F(NamedLimits, SomeMayBeFreshWhileOthersAreInUse) {
  Limit("u:", "second", Config(Algorithm::kFixedWindowCounter, 1, kSecondNs), kTemplate);
  Limit("u:", "hour", Hourly(3), kTemplate);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(Decide("u:1").allowed);
    EXPECT_FALSE(Decide("u:1").allowed);
    machine_.clock->AdvanceNs(2 * kSecondNs);
    ExpectTheSameAfterReopening();
  }
  const Engine::Decision denied = Decide("u:1");
  EXPECT_FALSE(denied.allowed);
  EXPECT_EQ(denied.limit_index, 0u) << "the hour's";
}

}  // namespace
}  // namespace flint
