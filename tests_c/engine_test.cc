// What the limiter promises to its callers: limits, templates, inline limits, decisions, reading,
// time, and that the files tell the same as memory.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine_testing.h"
#include "gate.h"
#include "holding_clock.h"
#include "storage/log_path.h"

namespace flint {
namespace {

constexpr LimitKind kTemplate = LimitKind::kTemplate;

class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override { machine_.Open(); }
  Engine* engine() { return machine_.engine.get(); }
  FakeClock& clock() { return *machine_.clock; }

  Status Limit(std::string_view key, const LimitConfig& config,
               LimitKind kind = LimitKind::kExact) {
    return Configure(engine(), key, config, kind);
  }
  Status Remove(std::string_view key, LimitKind kind = LimitKind::kExact) {
    uint64_t ticket = 0;
    return engine()->Remove(kind, key, {}, &ticket);
  }
  Status Reset(std::string_view key, LimitKind kind = LimitKind::kExact) {
    uint64_t ticket = 0;
    return engine()->Reset(kind, key, {}, &ticket);
  }
  bool Allow(std::string_view key, uint64_t cost = 1) { return Allowed(engine(), key, cost); }
  bool AllowInline(std::string_view key, const LimitConfig& config, uint64_t cost = 1) {
    Engine::Decision decision;
    const Status status = engine()->Check({key, cost}, {}, &config, &decision);
    EXPECT_TRUE(status.ok()) << status.message();
    return decision.allowed;
  }
  uint64_t Remaining(std::string_view key) { return StatusOf(engine(), key).remaining; }
  Code CheckCode(std::string_view key, uint64_t cost = 1) {
    bool allowed = false;
    return Check(engine(), key, cost, &allowed).code();
  }
  // How much has been recorded; not seals, which come when they come.
  uint64_t Events() {
    HistoryQuery query;
    query.since_ns = INT64_MIN;
    query.capacity = 10'000;
    query.text_bytes = size_t{1} << 20;
    HistoryPage page;
    EXPECT_TRUE(engine()->History(query, &page).ok());
    return page.events.size();
  }
  void Reopen() {
    machine_.Close();
    machine_.Open();
  }

  Machine machine_;
};

// ---- Limits ------------------------------------------------------------------------------------

TEST_F(EngineTest, AKeyNeedsALimit) {
  EXPECT_EQ(CheckCode("key"), Code::kNotConfigured);
  Engine::LimitStatus status;
  EXPECT_EQ(engine()->StatusOf(LimitKind::kExact, "key", &status).code(), Code::kNotConfigured);
  EXPECT_EQ(engine()->StatusOf(kTemplate, "key", &status).code(), Code::kNotConfigured);
  EXPECT_EQ(Remove("key").code(), Code::kNotConfigured);
  EXPECT_EQ(Reset("key").code(), Code::kNotConfigured);
  EXPECT_EQ(Reset("key", kTemplate).code(), Code::kNotConfigured);
  EXPECT_EQ(Remove("key", kTemplate).code(), Code::kNotConfigured);
}

TEST_F(EngineTest, BadKeysAndCostsAreRefusedBeforeAnythingIsWritten) {
  ASSERT_TRUE(Limit("key", Hourly(5)).ok());
  ASSERT_TRUE(Limit("", Hourly(5), kTemplate).ok());
  const uint64_t events = Events();
  EXPECT_EQ(Limit("", Hourly(5)).code(), Code::kInvalidArgument);
  EXPECT_EQ(Limit(" \t", Hourly(5)).code(), Code::kInvalidArgument);
  EXPECT_EQ(Limit("\xFF", Hourly(5)).code(), Code::kInvalidArgument);
  EXPECT_EQ(Limit(std::string(65536, 'x'), Hourly(5)).code(), Code::kInvalidArgument);
  EXPECT_EQ(CheckCode(""), Code::kInvalidArgument);
  EXPECT_EQ(CheckCode("\xC0\x80"), Code::kInvalidArgument);
  EXPECT_EQ(CheckCode("key", 0), Code::kInvalidArgument);
  EXPECT_EQ(CheckCode("key", 6), Code::kInvalidArgument);
  EXPECT_EQ(CheckCode("covered", 6), Code::kInvalidArgument);
  EXPECT_EQ(Events(), events);
  const std::string with_zero("a\0b", 3);
  EXPECT_TRUE(Allow(with_zero));
  EXPECT_EQ(Remaining(with_zero), 4u);
  EXPECT_EQ(Remaining("a"), 5u);
}

TEST_F(EngineTest, ConfiguringTheSameWritesNothing) {
  ASSERT_TRUE(Limit("key", Hourly(5)).ok());
  ASSERT_TRUE(Limit("t:", Hourly(5), kTemplate).ok());
  EXPECT_TRUE(Allow("key", 3));
  const uint64_t events = Events();
  uint64_t ticket = 1;
  ASSERT_TRUE(engine()->Configure({LimitKind::kExact, "key", Hourly(5)}, {}, &ticket).ok());
  EXPECT_EQ(ticket, 0u);
  ASSERT_TRUE(Limit("t:", Hourly(5), kTemplate).ok());
  Engine::Flags if_absent;
  if_absent.if_absent = true;
  ASSERT_TRUE(Configure(engine(), "key", Hourly(9), LimitKind::kExact, if_absent).ok());
  ASSERT_TRUE(Configure(engine(), "t:", Hourly(9), kTemplate, if_absent).ok());
  EXPECT_EQ(Events(), events);
  EXPECT_EQ(Remaining("key"), 2u);
  ASSERT_TRUE(Configure(engine(), "new", Hourly(9), LimitKind::kExact, if_absent).ok());
  EXPECT_EQ(Remaining("new"), 9u);
}

TEST_F(EngineTest, ReconfiguringKeepsWhatWasUsed) {
  ASSERT_TRUE(Limit("key", Hourly(10)).ok());
  EXPECT_TRUE(Allow("key", 4));
  ASSERT_TRUE(Limit("key", Hourly(6)).ok());
  EXPECT_EQ(Remaining("key"), 2u);
  ASSERT_TRUE(Limit("key", Hourly(3)).ok());
  EXPECT_EQ(Remaining("key"), 0u);
  ASSERT_TRUE(Limit("key", Config(Algorithm::kTokenBucket, 1, kHourNs, 10)).ok());
  EXPECT_EQ(Remaining("key"), 7u);
  EXPECT_EQ(StatusOf(engine(), "key").totals.allowed_cost, 4u);
}

TEST_F(EngineTest, RemovingAndResetting) {
  ASSERT_TRUE(Limit("key", Hourly(3)).ok());
  EXPECT_TRUE(Allow("key", 3));
  EXPECT_FALSE(Allow("key"));
  ASSERT_TRUE(Reset("key").ok());
  const Engine::LimitStatus status = StatusOf(engine(), "key");
  EXPECT_EQ(status.remaining, 3u);
  EXPECT_EQ(status.totals.allowed_cost, 3u);
  EXPECT_EQ(status.totals.denied, 1u);
  EXPECT_EQ(status.totals.last_reset_ns, clock().WallNs());
  ASSERT_TRUE(Remove("key").ok());
  EXPECT_EQ(CheckCode("key"), Code::kNotConfigured);
  ASSERT_TRUE(Limit("key", Hourly(3)).ok());
  EXPECT_EQ(StatusOf(engine(), "key").totals.allowed, 0u);
}

TEST_F(EngineTest, SeveralLimitsWithOneWait) {
  const uint64_t syncs = InfoOf(engine()).log.syncs;
  std::vector<std::string> keys;
  for (int i = 0; i < 50; ++i) keys.push_back("key" + std::to_string(i));
  std::vector<Engine::Limit> limits;
  for (const std::string& key : keys) limits.push_back({LimitKind::kExact, key, Hourly(5)});
  uint64_t ticket = 0;
  ASSERT_TRUE(engine()->ConfigureMany(limits, {}, &ticket).ok());
  const Engine::Info info = InfoOf(engine());
  EXPECT_EQ(info.limits, 50u);
  EXPECT_GE(info.log.durable, ticket);
  EXPECT_LE(info.log.syncs, syncs + 2);
  limits.push_back({LimitKind::kExact, "", Hourly(5)});
  limits[0].config = Hourly(7);
  EXPECT_EQ(engine()->ConfigureMany(limits, {}, &ticket).code(), Code::kInvalidArgument);
  EXPECT_EQ(StatusOf(engine(), "key0").config.rate, 5u);
}

// ---- Templates ---------------------------------------------------------------------------------

TEST_F(EngineTest, TheLongestTemplateWinsAndAnExactLimitOverBoth) {
  ASSERT_TRUE(Limit("", Hourly(1), kTemplate).ok());
  ASSERT_TRUE(Limit("ip:", Hourly(2), kTemplate).ok());
  ASSERT_TRUE(Limit("ip:10.", Hourly(3), kTemplate).ok());
  ASSERT_TRUE(Limit("ip:10.0.0.1", Hourly(4)).ok());
  EXPECT_EQ(Remaining("other"), 1u);
  EXPECT_EQ(Remaining("ip:1"), 2u);
  EXPECT_EQ(Remaining("ip:10.9"), 3u);
  EXPECT_EQ(Remaining("ip:10."), 3u);
  EXPECT_EQ(Remaining("ip:10.0.0.1"), 4u);
  EXPECT_TRUE(Allow("ip:10.9"));
  EXPECT_EQ(Remaining("ip:10.9"), 2u);
  EXPECT_EQ(Remaining("ip:10.8"), 3u);
}

TEST_F(EngineTest, AStarInAKeyIsAStar) {
  ASSERT_TRUE(Limit("ip:*", Hourly(2)).ok());
  EXPECT_TRUE(Allow("ip:*"));
  EXPECT_EQ(CheckCode("ip:1"), Code::kNotConfigured);
  EXPECT_TRUE(AllowInline("user:*", Hourly(2)));
  EXPECT_EQ(CheckCode("user:1"), Code::kNotConfigured);
}

TEST_F(EngineTest, AnExactLimitTakesOverATemplatesCounter) {
  ASSERT_TRUE(Limit("ip:", Hourly(5), kTemplate).ok());
  EXPECT_TRUE(Allow("ip:1", 3));
  ASSERT_TRUE(Limit("ip:1", Hourly(10)).ok());
  EXPECT_EQ(Remaining("ip:1"), 7u);
  EXPECT_EQ(StatusOf(engine(), "ip:", kTemplate).counters, 0u);
  ASSERT_TRUE(Remove("ip:1").ok());
  EXPECT_EQ(Remaining("ip:1"), 5u);
}

TEST_F(EngineTest, ALongerTemplateTakesOverCounters) {
  ASSERT_TRUE(Limit("ip:", Hourly(5), kTemplate).ok());
  EXPECT_TRUE(Allow("ip:10", 3));
  EXPECT_TRUE(Allow("ip:20", 1));
  ASSERT_TRUE(Limit("ip:1", Hourly(10), kTemplate).ok());
  EXPECT_EQ(Remaining("ip:10"), 7u);
  EXPECT_EQ(StatusOf(engine(), "ip:1", kTemplate).counters, 1u);
  EXPECT_EQ(StatusOf(engine(), "ip:1", kTemplate).totals.allowed_cost, 3u);
  EXPECT_EQ(StatusOf(engine(), "ip:", kTemplate).counters, 1u);
  ASSERT_TRUE(Remove("ip:1", kTemplate).ok());
  EXPECT_EQ(Remaining("ip:10"), 5u);  // its counter went with the template
}

TEST_F(EngineTest, RemovingATemplateRemovesItsCounters) {
  ASSERT_TRUE(Limit("ip:", Hourly(5), kTemplate).ok());
  EXPECT_TRUE(Allow("ip:1", 3));
  ASSERT_TRUE(Remove("ip:", kTemplate).ok());
  EXPECT_EQ(CheckCode("ip:1"), Code::kNotConfigured);
  EXPECT_TRUE(ListAll(engine()).empty());
  ASSERT_TRUE(Limit("ip:", Hourly(5), kTemplate).ok());
  EXPECT_EQ(Remaining("ip:1"), 5u);
  EXPECT_EQ(StatusOf(engine(), "ip:", kTemplate).totals.allowed, 0u);
}

TEST_F(EngineTest, ResettingATemplateResetsItsCountersButNotTheTotals) {
  ASSERT_TRUE(Limit("ip:", Hourly(5), kTemplate).ok());
  EXPECT_TRUE(Allow("ip:1", 3));
  EXPECT_TRUE(Allow("ip:2", 2));
  ASSERT_TRUE(Reset("ip:", kTemplate).ok());
  const Engine::LimitStatus status = StatusOf(engine(), "ip:", kTemplate);
  EXPECT_EQ(status.totals.allowed, 2u);
  EXPECT_EQ(status.totals.allowed_cost, 5u);
  EXPECT_EQ(status.totals.last_reset_ns, clock().WallNs());
  EXPECT_EQ(status.counters, 0u);
  EXPECT_EQ(Remaining("ip:1"), 5u);
  EXPECT_TRUE(Allow("ip:2", 5));
  ASSERT_TRUE(Reset("ip:2").ok());
  EXPECT_EQ(Remaining("ip:2"), 5u);
  ASSERT_TRUE(Reset("ip:never seen").ok());
  EXPECT_EQ(StatusOf(engine(), "ip:", kTemplate).totals.allowed_cost, 10u);
}

// A counter that is touched after each change comes to the same as one that is touched at the end.
TEST_F(EngineTest, ChangesOfTemplatesTakeEffectAtTheirOwnTime) {
  std::mt19937_64 random(5);
  const std::vector<std::string> prefixes = {"p", "pq", "pqr"};
  ASSERT_TRUE(Limit("p", Hourly(100), kTemplate).ok());
  ASSERT_TRUE(Allow("pqr-eager", 50));
  ASSERT_TRUE(Allow("pqr-lazy", 50));
  for (int i = 0; i < 2500; ++i) {  // more than the journal keeps
    clock().AdvanceNs(static_cast<int64_t>(random() % 1000));
    const std::string& prefix = prefixes[random() % 3];
    const auto algorithm = static_cast<Algorithm>(1 + random() % 6);
    ASSERT_TRUE(Limit(prefix, Config(algorithm, 1 + random() % 99, 1'000'000), kTemplate).ok());
    if (random() % 50 == 0) {
      ASSERT_TRUE(Reset(prefix, kTemplate).ok());
    }
    Remaining("pqr-eager");
    if (random() % 100 != 0) continue;
    EXPECT_EQ(Remaining("pqr-eager"), Remaining("pqr-lazy")) << i;
    const uint64_t cost = 1 + random() % 3;
    if (StatusOf(engine(), "pqr-eager").config.burst < cost) continue;
    EXPECT_EQ(Allow("pqr-eager", cost), Allow("pqr-lazy", cost)) << i;
    EXPECT_EQ(StatusOf(engine(), "pqr-eager").reset_at_ns,
              StatusOf(engine(), "pqr-lazy").reset_at_ns);
  }
}

// ---- Forgetting --------------------------------------------------------------------------------

TEST_F(EngineTest, MemoryFollowsTheLiveClients) {
  ASSERT_TRUE(Limit("ip:", Config(Algorithm::kTokenBucket, 5, kSecondNs), kTemplate).ok());
  Engine::Flags flags;
  flags.no_sync = true;
  Engine::Decision decision;
  uint64_t most = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string key = "ip:" + std::to_string(i);
    ASSERT_TRUE(engine()->Check({key, 1}, flags, nullptr, &decision).ok());
    clock().AdvanceNs(1'000'000);  // so about 200 are live at any time
    if (i % 500 == 0) {
      most = std::max(most, InfoOf(engine()).counters);
      const Engine::LimitStatus status = StatusOf(engine(), "ip:", kTemplate);
      ASSERT_EQ(status.totals.allowed, static_cast<uint64_t>(i) + 1);
      ASSERT_LE(status.counters, 200u);
    }
  }
  EXPECT_LT(most, 2000u);
  EXPECT_GE(most, 200u);
  EXPECT_EQ(StatusOf(engine(), "ip:", kTemplate).totals.allowed, 20'000u);
}

TEST_F(EngineTest, TotalsThatAreFullStayFull) {
  const uint64_t most = kMaxQuantity;
  ASSERT_TRUE(Limit("t:", Config(Algorithm::kFixedWindowCounter, most, 1), kTemplate).ok());
  for (int i = 0; i < 6; ++i) {
    EXPECT_TRUE(Allow("t:1", most));
    EXPECT_FALSE(Allow("t:1", most));
    clock().AdvanceNs(10);
  }
  for (const bool reopen : {false, true}) {
    if (reopen) Reopen();
    const Engine::LimitStatus status = StatusOf(engine(), "t:", kTemplate);
    EXPECT_EQ(status.totals.allowed_cost, UINT64_MAX);
    EXPECT_EQ(status.totals.denied_cost, UINT64_MAX);
    EXPECT_EQ(status.totals.allowed, 6u);
  }
}

// A peek tells what a check would: the template's limit, which has come since.
TEST_F(EngineTest, AnInlineLimitThatIsLeftOverIsNotPeekedAt) {
  const LimitConfig carried = Config(Algorithm::kTokenBucket, 2, kSecondNs);
  Engine::Flags flags;
  flags.update = true;
  Engine::Decision decision;
  ASSERT_TRUE(engine()->Check({"k:1", 1}, flags, &carried, &decision).ok());
  machine_.clock->AdvanceNs(10 * kSecondNs);
  ASSERT_TRUE(Configure(engine(), "k:", Hourly(50), LimitKind::kTemplate).ok());
  ASSERT_TRUE(engine()->Peek({"k:1", 1}, flags, &carried, &decision).ok());
  EXPECT_EQ(decision.limit, 50U);
  ASSERT_TRUE(engine()->Check({"k:1", 1}, flags, &carried, &decision).ok());
  EXPECT_EQ(decision.limit, 50U);
}

// A denial takes nothing and waits for nothing, but the change that it came with is an answer too.
TEST_F(EngineTest, AnInlineLimitThatWasChangedByADenialStaysSo) {
  Engine::Flags update;
  update.update = true;
  Engine::Decision decision;
  const LimitConfig first = Hourly(5);
  const LimitConfig smaller = Hourly(4);
  ASSERT_TRUE(engine()->Check({"login:1", 4}, {}, &first, &decision).ok());
  ASSERT_TRUE(engine()->Check({"login:1", 1}, update, &smaller, &decision).ok());
  EXPECT_FALSE(decision.allowed);
  EXPECT_NE(decision.ticket, 0u);
  machine_.LosePower(Loss::kDropAll);
  machine_.Open();
  EXPECT_EQ(StatusOf(engine(), "login:1").config.rate, 4u);
  ASSERT_TRUE(engine()->Check({"login:1", 1}, update, &smaller, &decision).ok());
  EXPECT_FALSE(decision.allowed);
  EXPECT_EQ(decision.ticket, 0u) << "nothing has changed";
}

// The change may be another call's, or that of an attempt of this one that found no room.
TEST_F(EngineTest, ADenialWaitsForTheChangeThatItFinds) {
  Engine::Flags update;
  update.update = true;
  const LimitConfig first = Hourly(5);
  const LimitConfig smaller = Hourly(4);
  Engine::Decision decision;
  ASSERT_TRUE(engine()->Check({"login:1", 4}, {}, &first, &decision).ok());
  Engine::Flags unsynced = update;
  unsynced.no_sync = true;
  ASSERT_TRUE(engine()->Check({"login:1", 1}, unsynced, &smaller, &decision).ok());
  EXPECT_FALSE(decision.allowed);
  const uint64_t change = decision.ticket;
  Engine::Flags at_once = update;
  at_once.no_wait = true;
  const Status waits = engine()->Check({"login:1", 1}, at_once, &smaller, &decision);
  EXPECT_EQ(waits.code(), Code::kWouldBlock);
  ASSERT_TRUE(engine()->Check({"login:1", 1}, update, &smaller, &decision).ok());
  EXPECT_FALSE(decision.allowed);
  EXPECT_EQ(decision.ticket, change);
  ASSERT_TRUE(engine()->Check({"login:1", 1}, at_once, &smaller, &decision).ok());
  machine_.LosePower(Loss::kDropAll);
  machine_.Open();
  EXPECT_EQ(StatusOf(engine(), "login:1").config.rate, 4u);
}

TEST_F(EngineTest, AnInlineLimitTakesOtherValuesAndKeepsItsUse) {
  Engine::Flags update;
  update.update = true;
  const auto check = [&](const LimitConfig& config, uint64_t cost, Engine::Decision* decision) {
    return engine()->Check({"login:1", cost}, update, &config, decision);
  };
  Engine::Decision decision;
  ASSERT_TRUE(check(Hourly(5), 4, &decision).ok());
  const uint64_t before = Events();
  ASSERT_TRUE(check(Hourly(5), 1, &decision).ok());
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(Events(), before + 1);  // the values are the same: nothing to record
  const LimitConfig larger = Hourly(20);
  ASSERT_TRUE(engine()->Peek({"login:1", 1}, update, &larger, &decision).ok());
  EXPECT_EQ(decision.remaining, 15u);
  EXPECT_EQ(Remaining("login:1"), 0u);  // a peek changes nothing
  ASSERT_TRUE(check(larger, 3, &decision).ok());
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(decision.remaining, 12u);
  // What is wrong with the call is said before anything is changed.
  EXPECT_EQ(check(Hourly(2), 3, &decision).code(), Code::kInvalidArgument);
  EXPECT_EQ(Remaining("login:1"), 12u);
  for (const bool compacted : {false, true}) {
    const Status status = compacted ? engine()->Compact({}) : Status();
    ASSERT_TRUE(status.ok()) << status.message();
    Reopen();
    const Engine::LimitStatus limit = StatusOf(engine(), "login:1");
    EXPECT_EQ(limit.kind, LimitKind::kInline);
    EXPECT_EQ(limit.config.rate, 20u);
    EXPECT_EQ(limit.remaining, 12u);
    EXPECT_EQ(limit.totals.allowed_cost, 8u);
  }
  ASSERT_TRUE(check(Hourly(10), 1, &decision).ok());
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(decision.remaining, 1u);
  EXPECT_FALSE(Allow("login:1", 2));
  clock().AdvanceNs(static_cast<int64_t>(kHourNs));  // fresh, and so forgotten
  EXPECT_EQ(CheckCode("login:1"), Code::kNotConfigured);
  Reopen();
  EXPECT_EQ(CheckCode("login:1"), Code::kNotConfigured);
}

TEST_F(EngineTest, InlineLimitsLastUntilTheyAreFresh) {
  const LimitConfig config = Config(Algorithm::kTokenBucket, 2, kSecondNs);
  EXPECT_TRUE(AllowInline("login:1", config, 2));
  EXPECT_FALSE(AllowInline("login:1", config));
  // The limit that stands counts, not the one that comes with the check.
  EXPECT_FALSE(AllowInline("login:1", Hourly(100)));
  EXPECT_EQ(StatusOf(engine(), "login:1").kind, LimitKind::kInline);
  EXPECT_FALSE(Allow("login:1"));
  clock().AdvanceNs(kSecondNs);
  EXPECT_EQ(CheckCode("login:1"), Code::kNotConfigured);
  EXPECT_TRUE(AllowInline("login:1", Hourly(100)));
  EXPECT_EQ(Remaining("login:1"), 99u);
  ASSERT_TRUE(Limit("login:1", Hourly(50)).ok());
  EXPECT_EQ(StatusOf(engine(), "login:1").kind, LimitKind::kExact);
  EXPECT_EQ(Remaining("login:1"), 49u);
  ASSERT_TRUE(Limit("t:", Hourly(7), kTemplate).ok());
  EXPECT_TRUE(AllowInline("t:1", Hourly(100)));
  EXPECT_EQ(Remaining("t:1"), 6u);
}

// ---- Several keys ------------------------------------------------------------------------------

TEST_F(EngineTest, CheckAllIsAllOrNothing) {
  ASSERT_TRUE(Limit("a", Hourly(10)).ok());
  ASSERT_TRUE(Limit("b", Hourly(2)).ok());
  ASSERT_TRUE(Limit("c", Hourly(10)).ok());
  std::vector<Engine::Decision> decisions(3);
  size_t denied = 0;
  ASSERT_TRUE(
      engine()->CheckAll({{"a", 3}, {"b", 2}, {"c", 1}}, {}, decisions.data(), &denied).ok());
  EXPECT_EQ(denied, 3u);
  EXPECT_EQ(decisions[0].remaining, 7u);
  EXPECT_EQ(decisions[1].remaining, 0u);
  const uint64_t events = Events();
  ASSERT_TRUE(
      engine()->CheckAll({{"a", 3}, {"b", 1}, {"c", 1}}, {}, decisions.data(), &denied).ok());
  EXPECT_EQ(denied, 1u);
  EXPECT_TRUE(decisions[0].allowed);
  EXPECT_FALSE(decisions[1].allowed);
  EXPECT_EQ(decisions[1].retry_after_ns, kHourNs);
  EXPECT_EQ(Remaining("a"), 7u);
  EXPECT_EQ(Remaining("c"), 9u);
  EXPECT_EQ(StatusOf(engine(), "a").totals.denied, 0u);
  EXPECT_EQ(StatusOf(engine(), "b").totals.denied, 1u);
  EXPECT_EQ(Events(), events + 1);  // the denial
  const auto code = [&](const std::vector<Engine::Item>& items) {
    std::vector<Engine::Decision> unused(items.size());
    return engine()->CheckAll(items, {}, unused.data(), &denied).code();
  };
  EXPECT_EQ(code({}), Code::kInvalidArgument);
  EXPECT_EQ(code({{"a", 1}, {"a", 1}}), Code::kInvalidArgument);
  EXPECT_EQ(code({{"a", 1}, {"missing", 1}}), Code::kNotConfigured);
  EXPECT_EQ(code({{"a", 1}, {"b", 3}}), Code::kInvalidArgument);
  EXPECT_EQ(Remaining("a"), 7u);
}

// As many as are put in order one by one, and as many as are sorted.
TEST_F(EngineTest, CheckAllFindsTheFirstKeyThatIsThereTwiceAmongFewAndAmongMany) {
  ASSERT_TRUE(Limit("t:", Hourly(10), kTemplate).ok());
  for (const size_t count : {size_t{2}, size_t{3}, size_t{64}, size_t{65}, size_t{200}}) {
    std::vector<std::string> keys;
    for (size_t i = 0; i < count; ++i) keys.push_back("t:" + std::to_string(i));
    std::vector<Engine::Item> items;
    for (const std::string& key : keys) items.push_back({key, 1});
    std::vector<Engine::Decision> decisions(count);
    size_t denied = 0;
    ASSERT_TRUE(engine()->CheckAll(items, {}, decisions.data(), &denied).ok());
    EXPECT_EQ(denied, count);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_TRUE(decisions[i].allowed);
      EXPECT_EQ(decisions[i].remaining, Remaining(keys[i]));
    }
    const uint64_t events = Events();
    for (const auto& [first, second] : {std::pair<size_t, size_t>{0, count - 1}, {0, 1}}) {
      std::vector<Engine::Item> twice = items;
      twice[second].key = twice[first].key;
      const Status status = engine()->CheckAll(twice, {}, decisions.data(), &denied);
      EXPECT_EQ(status.code(), Code::kInvalidArgument);
      EXPECT_EQ(status.message(), "items has key \"t:0\" twice; each key may appear once");
    }
    EXPECT_EQ(Events(), events);
  }
}

TEST_F(EngineTest, CheckAllWithTheMostKeysIsOneRecord) {
  machine_.ring_bytes = uint64_t{1} << 18;
  Reopen();
  ASSERT_TRUE(Limit("t:", Hourly(10), kTemplate).ok());
  std::vector<std::string> keys;
  for (int i = 0; i < 1024; ++i) keys.push_back("t:" + std::to_string(i));
  std::vector<Engine::Item> items;
  for (const std::string& key : keys) items.push_back({key, 1});
  std::vector<Engine::Decision> decisions(1025);
  size_t denied = 0;
  ASSERT_TRUE(engine()->CheckAll(items, {}, decisions.data(), &denied).ok());
  EXPECT_EQ(denied, 1024u);
  EXPECT_EQ(StatusOf(engine(), "t:", kTemplate).counters, 1024u);
  items.push_back({"t:one more", 1});
  EXPECT_EQ(engine()->CheckAll(items, {}, decisions.data(), &denied).code(),
            Code::kInvalidArgument);
  Reopen();
  EXPECT_EQ(StatusOf(engine(), "t:", kTemplate).counters, 1024u);
  EXPECT_EQ(Remaining("t:1023"), 9u);
}

TEST_F(EngineTest, PeekChangesNothing) {
  ASSERT_TRUE(Limit("key", Hourly(3)).ok());
  ASSERT_TRUE(Limit("t:", Hourly(3), kTemplate).ok());
  EXPECT_TRUE(Allow("key", 2));
  const uint64_t events = Events();
  Engine::Decision decision;
  ASSERT_TRUE(engine()->Peek({"key", 1}, {}, nullptr, &decision).ok());
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(decision.remaining, 1u);
  ASSERT_TRUE(engine()->Peek({"key", 2}, {}, nullptr, &decision).ok());
  EXPECT_FALSE(decision.allowed);
  ASSERT_TRUE(engine()->Peek({"t:1", 1}, {}, nullptr, &decision).ok());
  EXPECT_EQ(decision.remaining, 3u);
  EXPECT_EQ(engine()->Peek({"other", 1}, {}, nullptr, &decision).code(), Code::kNotConfigured);
  const LimitConfig config = Hourly(9);
  ASSERT_TRUE(engine()->Peek({"other", 1}, {}, &config, &decision).ok());
  EXPECT_EQ(decision.remaining, 9u);
  EXPECT_EQ(Events(), events);
  EXPECT_EQ(InfoOf(engine()).counters, 0u);
  EXPECT_EQ(StatusOf(engine(), "key").totals.denied, 0u);
}

// ---- Not waiting -------------------------------------------------------------------------------

TEST_F(EngineTest, NoWaitInAlwaysModeChangesNothing) {
  ASSERT_TRUE(Limit("key", Hourly(3)).ok());
  ASSERT_TRUE(Limit("t:", Hourly(3), kTemplate).ok());
  EXPECT_TRUE(Allow("key", 2));
  ASSERT_TRUE(engine()->Flush().ok());
  const std::string before = DescribeAll(engine(), true);
  const uint64_t events = Events();
  Engine::Flags flags;
  flags.no_wait = true;
  Engine::Decision decision;
  uint64_t ticket = 0;
  size_t denied = 0;
  EXPECT_EQ(engine()->Check({"key", 1}, flags, nullptr, &decision).code(), Code::kWouldBlock);
  EXPECT_EQ(engine()->CheckAll({{"key", 1}}, flags, &decision, &denied).code(), Code::kWouldBlock);
  EXPECT_EQ(Configure(engine(), "key", Hourly(9), LimitKind::kExact, flags).code(),
            Code::kWouldBlock);
  EXPECT_EQ(Configure(engine(), "t:", Hourly(9), kTemplate, flags).code(), Code::kWouldBlock);
  for (const auto& [kind, key] :
       {std::pair(LimitKind::kExact, "key"), std::pair(kTemplate, "t:")}) {
    EXPECT_EQ(engine()->Remove(kind, key, flags, &ticket).code(), Code::kWouldBlock);
    EXPECT_EQ(engine()->Reset(kind, key, flags, &ticket).code(), Code::kWouldBlock);
  }
  EXPECT_EQ(DescribeAll(engine(), true), before);
  EXPECT_EQ(Events(), events);
  // What needs no disk is answered.
  EXPECT_TRUE(Configure(engine(), "key", Hourly(3), LimitKind::kExact, flags).ok());
  EXPECT_TRUE(engine()->Check({"key", 3}, flags, nullptr, &decision).ok());
  EXPECT_FALSE(decision.allowed);
  flags.no_sync = true;
  EXPECT_TRUE(engine()->Check({"key", 1}, flags, nullptr, &decision).ok());
  EXPECT_TRUE(decision.allowed);
  EXPECT_GT(decision.ticket, 0u);
  EXPECT_TRUE(engine()->Wait(decision.ticket, UINT64_MAX).ok());
  EXPECT_EQ(engine()->Wait(decision.ticket + 1'000'000, 0).code(), Code::kInvalidArgument);
}

TEST_F(EngineTest, ATicketIsWaitedFor) {
  machine_.Close();
  machine_.options_always = false;
  machine_.Open();
  ASSERT_TRUE(Limit("key", Hourly(3)).ok());
  Gate disk;
  disk.Close();
  machine_.env->SetHook([&disk](Op op, const std::string&) {
    if (op == Op::kSyncData) disk.Pass();
  });
  Engine::Decision decision;
  ASSERT_TRUE(engine()->Check({"key", 1}, {}, nullptr, &decision).ok());
  EXPECT_EQ(engine()->Wait(decision.ticket, 0).code(), Code::kTimeout);
  disk.AwaitSomebody();  // it has been asked for, if not waited for
  uint64_t durable = 0;
  ASSERT_TRUE(engine()->Durable(&durable).ok());
  EXPECT_LT(durable, decision.ticket);
  disk.Open();
  ASSERT_TRUE(engine()->Wait(decision.ticket, kHourNs).ok());
  ASSERT_TRUE(engine()->Durable(&durable).ok());
  EXPECT_GE(durable, decision.ticket);
  machine_.env->SetHook(nullptr);
}

// ---- Not waiting -------------------------------------------------------------------------------

// Where the ring's page has to come from the disk, or is not mapped, an append may last.
TEST_F(EngineTest, WhoMustNotWaitIsAnsweredWhileAnotherThreadIsHeldUpInTheRing) {
  machine_.Close();
  machine_.options_always = false;
  machine_.Open();
  constexpr int kKeys = 8;  // so that not all are in the shard that is held up as well
  const auto used_up = [](int i) { return "used-up-" + std::to_string(i); };
  ASSERT_TRUE(Limit("held", Hourly(5)).ok());
  ASSERT_TRUE(Limit("free", Hourly(5)).ok());
  ASSERT_TRUE(Limit("used-up-", Hourly(1), kTemplate).ok());
  for (int i = 0; i < kKeys; ++i) ASSERT_TRUE(Allow(used_up(i)));
  static thread_local bool hold_me = false;
  Gate ring;
  ring.Close();
  machine_.env->SetHook([&ring](Op op, const std::string&) {
    if (op == Op::kStoreWord && hold_me) ring.Pass();
  });
  std::thread held([this] {
    hold_me = true;
    EXPECT_TRUE(Allow("held"));
  });
  ring.AwaitSomebody();
  Engine::Flags no_wait;
  no_wait.no_wait = true;
  Engine::Decision decision;
  EXPECT_EQ(engine()->Check({"free", 1}, no_wait, nullptr, &decision).code(), Code::kBusy);
  size_t denied_at = 0;
  EXPECT_EQ(engine()->CheckAll({{"free", 1}}, no_wait, &decision, &denied_at).code(), Code::kBusy);
  EXPECT_EQ(Configure(engine(), "new", Hourly(1), LimitKind::kExact, no_wait).code(), Code::kBusy);
  // Denials are answered, and recorded when there is a way.
  uint64_t denied = 0;
  for (int i = 0; i < kKeys; ++i) {
    if (!engine()->Check({used_up(i), 1}, no_wait, nullptr, &decision).ok()) continue;
    EXPECT_FALSE(decision.allowed);
    ++denied;
  }
  EXPECT_GT(denied, 0u);
  ring.Open();
  held.join();
  machine_.env->SetHook(nullptr);
  EXPECT_TRUE(engine()->Check({"free", 1}, no_wait, nullptr, &decision).ok());
  Reopen();
  EXPECT_EQ(StatusOf(engine(), "used-up-", kTemplate).totals.denied, denied);
  EXPECT_EQ(StatusOf(engine(), "free").totals.allowed, 1u);
  EXPECT_EQ(StatusOf(engine(), "held").totals.allowed, 1u);
}

// It holds no lock when it looks for a place for its key.
TEST(Shutdown, WaitsForACheckThatLooksForAPlace) {
  const FakeClock time;
  HoldingClock clock(&time);
  Engine::Options options;
  options.clock = &clock;
  options.max_keys = 1;
  std::unique_ptr<Engine> engine;
  ASSERT_TRUE(Engine::Open("", std::move(options), &engine).ok());
  ASSERT_TRUE(Configure(engine.get(), "t:", Hourly(kMaxQuantity), LimitKind::kTemplate).ok());
  ASSERT_TRUE(Allowed(engine.get(), "t:a"));
  clock.Hold(
      [&engine] {
        bool allowed = false;
        EXPECT_EQ(Check(engine.get(), "t:b", 1, &allowed).code(), Code::kTableFull);
      },
      3);
  Engine::Flags at_once;
  at_once.no_wait = true;
  Engine::Decision decision;
  ASSERT_EQ(engine->Check({"t:b", 1}, at_once, nullptr, &decision).code(), Code::kTableFull)
      << "it is held where it has the lock of its key";
  std::atomic<bool> closed = false;
  std::thread closing([&] {
    EXPECT_TRUE(engine->Shutdown().ok());
    EXPECT_FALSE(clock.holding()) << "a check was still running";
    closed = true;
  });
  bool allowed = false;
  while (Check(engine.get(), "t:a", 1, &allowed).ok()) std::this_thread::yield();
  // Time for one that does not wait to be caught; one that waits does so for as long as it takes.
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(closed);
  clock.Release();
  closing.join();
}

// ---- Denials -----------------------------------------------------------------------------------

TEST_F(EngineTest, ManyDenialsBetweenTwoSyncsAreMerged) {
  ASSERT_TRUE(Limit("key", Hourly(5)).ok());
  EXPECT_TRUE(Allow("key", 5));
  const uint64_t events = Events();
  for (int i = 0; i < 500; ++i) {
    EXPECT_FALSE(Allow("key", 2));
    clock().AdvanceNs(1);
  }
  EXPECT_LE(Events(), events + 20);
  const std::string before = DescribeDenials(StatusOf(engine(), "key"));
  EXPECT_EQ(StatusOf(engine(), "key").totals.denied, 500u);
  ASSERT_TRUE(engine()->Flush().ok());
  EXPECT_LE(Events(), events + 24);
  machine_.LosePower(Loss::kDropAll);
  machine_.Open();
  const Engine::LimitStatus status = StatusOf(engine(), "key");
  EXPECT_EQ(status.totals.denied, 500u);
  EXPECT_EQ(status.totals.denied_cost, 1000u);
  EXPECT_EQ(DescribeDenials(status), before);
}

TEST_F(EngineTest, DenialsSurviveAKillAndAClose) {
  ASSERT_TRUE(Limit("key", Hourly(1)).ok());
  EXPECT_TRUE(Allow("key"));
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(Allow("key"));
  machine_.Kill();
  machine_.Open();
  EXPECT_EQ(StatusOf(engine(), "key").totals.denied, 10u);
  for (int i = 0; i < 90; ++i) EXPECT_FALSE(Allow("key"));
  Reopen();
  EXPECT_EQ(StatusOf(engine(), "key").totals.denied, 100u);
}

// ---- Reading -----------------------------------------------------------------------------------

TEST_F(EngineTest, PagesAreInOrderAndComplete) {
  std::vector<std::string> expected;
  for (int i = 0; i < 100; ++i) {
    const std::string key = "key" + std::to_string(i * 37 % 100);
    ASSERT_TRUE(Limit(key, Hourly(5)).ok());
    expected.push_back(key + " 0");
    if (i % 10 == 0) {
      ASSERT_TRUE(Limit(key, Hourly(5), kTemplate).ok());
      expected.push_back(key + " 1");
    }
  }
  ASSERT_TRUE(Limit("t:", Hourly(5), kTemplate).ok());
  EXPECT_TRUE(Allow("t:counter"));
  EXPECT_TRUE(AllowInline("inline", Hourly(5)));
  expected.insert(expected.end(), {"t: 1", "t:counter 2", "inline 3"});
  std::sort(expected.begin(), expected.end());
  for (const size_t capacity : {1u, 2u, 7u, 1000u}) {
    for (const size_t key_bytes : {9u, 30u, 100'000u}) {
      Engine::Flags flags;
      flags.all_counters = true;
      std::vector<std::string> listed;
      std::vector<Engine::LimitStatus> page;
      std::string after;
      LimitKind after_kind{};
      for (bool first = true;; first = false) {
        const std::string_view cursor = after;
        ASSERT_TRUE(
            engine()
                ->List(first ? nullptr : &cursor, after_kind, flags, capacity, key_bytes, &page)
                .ok());
        if (page.empty()) break;
        ASSERT_LE(page.size(), capacity);
        for (const Engine::LimitStatus& status : page) {
          listed.push_back(status.key + " " + std::to_string(static_cast<int>(status.kind)));
        }
        after = page.back().key;
        after_kind = page.back().kind;
      }
      EXPECT_EQ(listed, expected) << capacity << " " << key_bytes;
    }
  }
  std::vector<Engine::LimitStatus> page;
  ASSERT_TRUE(engine()->List(nullptr, LimitKind::kExact, {}, 1000, 100'000, &page).ok());
  EXPECT_EQ(page.size(), expected.size() - 1);  // without the counter
}

TEST_F(EngineTest, TopHasTheLargestFirst) {
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Limit("k" + std::to_string(i), Hourly(100)).ok());
  ASSERT_TRUE(Limit("t:", Hourly(100), kTemplate).ok());
  for (uint64_t i = 1; i < 20; ++i) EXPECT_TRUE(Allow("k" + std::to_string(i), 20 - i));
  EXPECT_TRUE(Allow("k5"));
  EXPECT_TRUE(Allow("t:1", 50));
  EXPECT_FALSE(Allow("k3", 100));
  std::vector<Engine::LimitStatus> top;
  ASSERT_TRUE(engine()->Top(Engine::TopBy::kAllowedCost, {}, 3, &top).ok());
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].key, "k1");
  EXPECT_EQ(top[2].key, "k3");
  ASSERT_TRUE(engine()->Top(Engine::TopBy::kAllowed, {}, 1, &top).ok());
  EXPECT_EQ(top.at(0).key, "k5");
  ASSERT_TRUE(engine()->Top(Engine::TopBy::kDenied, {}, 10, &top).ok());
  ASSERT_EQ(top.size(), 1u);
  EXPECT_EQ(top[0].key, "k3");
  Engine::Flags all;
  all.all_counters = true;
  ASSERT_TRUE(engine()->Top(Engine::TopBy::kAllowedCost, all, 1, &top).ok());
  EXPECT_EQ(top.at(0).key, "t:1");
  ASSERT_TRUE(engine()->Top(Engine::TopBy::kAllowedCost, all, 0, &top).ok());
  EXPECT_TRUE(top.empty());
}

TEST_F(EngineTest, AfterShutdownEverythingIsClosed) {
  ASSERT_TRUE(Limit("key", Hourly(3)).ok());
  ASSERT_TRUE(engine()->Shutdown().ok());
  EXPECT_TRUE(engine()->Shutdown().ok());
  uint64_t ticket = 0;
  Engine::Info info;
  Engine::LimitStatus status;
  std::vector<Engine::LimitStatus> page;
  EXPECT_EQ(CheckCode("key"), Code::kClosed);
  EXPECT_EQ(Limit("key", Hourly(4)).code(), Code::kClosed);
  EXPECT_EQ(engine()->Flush().code(), Code::kClosed);
  EXPECT_EQ(engine()->Compact({}).code(), Code::kClosed);
  EXPECT_EQ(engine()->GetInfo(&info).code(), Code::kClosed);
  EXPECT_EQ(engine()->Durable(&ticket).code(), Code::kClosed);
  EXPECT_EQ(engine()->Wait(0, 0).code(), Code::kClosed);
  EXPECT_EQ(engine()->StatusOf(LimitKind::kExact, "key", &status).code(), Code::kClosed);
  EXPECT_EQ(engine()->List(nullptr, LimitKind::kExact, {}, 1, 100, &page).code(), Code::kClosed);
  EXPECT_EQ(engine()->Top(Engine::TopBy::kAllowed, {}, 1, &page).code(), Code::kClosed);
}

TEST_F(EngineTest, TwoLimitersCannotHaveOneDirectory) {
  std::unique_ptr<Engine> other;
  EXPECT_EQ(Engine::Open(kDirectory, machine_.Options(), &other).code(), Code::kLocked);
  ASSERT_TRUE(engine()->Shutdown().ok());
  EXPECT_TRUE(Engine::Open(kDirectory, machine_.Options(), &other).ok());
}

TEST(InMemory, WorksWithoutFiles) {
  FakeClock clock;
  Engine::Options options;
  options.clock = &clock;
  std::unique_ptr<Engine> engine;
  ASSERT_TRUE(Engine::Open("", std::move(options), &engine).ok());
  ASSERT_TRUE(Configure(engine.get(), "key", Hourly(2)).ok());
  EXPECT_TRUE(Allowed(engine.get(), "key", 2));
  EXPECT_FALSE(Allowed(engine.get(), "key"));
  EXPECT_TRUE(engine->Flush().ok());
  EXPECT_TRUE(engine->Compact({}).ok());
  EXPECT_EQ(InfoOf(engine.get()).log.sequence, 0u);
  EXPECT_TRUE(engine->Shutdown().ok());
}

// ---- Time --------------------------------------------------------------------------------------

class Time : public EngineTest {
 protected:
  int64_t EngineTime() { return InfoOf(engine()).engine_time_ns; }
};

TEST_F(Time, StartsAtTheWallClockAndFollowsTheBootClock) {
  EXPECT_EQ(EngineTime(), FakeClock::kStartWallNs);
  clock().AdvanceNs(5);
  EXPECT_EQ(EngineTime(), FakeClock::kStartWallNs + 5);
  clock().SetWallNs(FakeClock::kStartWallNs - 3600 * kSecondNs);
  EXPECT_EQ(EngineTime(), FakeClock::kStartWallNs + 5);
}

TEST_F(Time, OfTheSameBootIgnoresTheWallClock) {
  machine_.Close();
  clock().AdvanceNs(7 * kSecondNs);
  clock().SetWallNs(FakeClock::kStartWallNs + 900 * kSecondNs);
  machine_.Open();
  EXPECT_EQ(EngineTime(), FakeClock::kStartWallNs + 7 * kSecondNs);
}

TEST_F(Time, OfAnotherBootTakesTheWallClock) {
  machine_.Close();
  clock().Reboot();
  clock().SetWallNs(FakeClock::kStartWallNs + 900 * kSecondNs);
  machine_.Open();
  EXPECT_EQ(EngineTime(), FakeClock::kStartWallNs + 900 * kSecondNs);
}

TEST_F(Time, NeverGoesBack) {
  ASSERT_TRUE(Limit("key", Config(Algorithm::kFixedWindowCounter, 5, 100 * kSecondNs)).ok());
  clock().AdvanceNs(10 * kSecondNs);
  EXPECT_TRUE(Allow("key", 2));
  for (const bool compacted : {false, true}) {
    const int64_t before = EngineTime();
    if (compacted) {
      ASSERT_TRUE(engine()->Compact({}).ok());
    }
    machine_.LosePower(Loss::kDropAll);
    clock().SetWallNs(1000);
    machine_.Open();
    EXPECT_EQ(EngineTime(), before);
    EXPECT_EQ(Remaining("key"), 3u);
    clock().SetBootNs(0);
    EXPECT_EQ(Remaining("key"), 3u);
  }
}

// What a counter did after the last clock pair is later than it: a snapshot must know.
TEST_F(Time, OfASnapshotIsNotBeforeItsRecords) {
  machine_.Close();
  machine_.options_always = false;
  machine_.Open();
  ASSERT_TRUE(Limit("window", Hourly(5)).ok());
  ASSERT_TRUE(Limit("log", Config(Algorithm::kSlidingWindowLog, 5, kHourNs)).ok());
  ASSERT_TRUE(Limit("t:", Hourly(5), kTemplate).ok());
  ASSERT_TRUE(engine()->Flush().ok());
  clock().AdvanceNs(kSecondNs / 2);
  for (const char* key : {"window", "log", "t:1"}) EXPECT_TRUE(Allow(key, 4));
  const std::string before = DescribeAll(engine(), true);
  ASSERT_TRUE(engine()->Compact({}).ok());
  EXPECT_EQ(DescribeAll(engine(), true), before);
  Reopen();
  EXPECT_EQ(DescribeAll(engine(), true), before);
  ASSERT_TRUE(engine()->Compact({}).ok());
  Reopen();
  EXPECT_EQ(DescribeAll(engine(), true), before);
}

TEST_F(Time, ASteppedClockIsRecordedWithTheNextSync) {
  ASSERT_TRUE(Limit("key", Hourly(100)).ok());
  const auto clocks = [&] {
    LogPath path;
    EXPECT_TRUE(FindLogPath(machine_.env.get(), kDirectory, Covered{}, UINT64_MAX, &path).ok());
    LogStream stream(&path, nullptr, Covered{});
    Record record;
    std::vector<int64_t> wall_ns;
    for (bool end = false; stream.Next(&record, &end).ok() && !end;) {
      ClockPayload clock;
      if (record.type != RecordType::kClock) continue;
      EXPECT_TRUE(Decode(record.payload, &clock));
      wall_ns.push_back(clock.clock.wall_ns);
    }
    return wall_ns;
  };
  const size_t at_first = clocks().size();
  clock().SetWallNs(clock().WallNs() + kSecondNs / 2);
  EXPECT_TRUE(Allow("key"));
  EXPECT_TRUE(Allow("key"));
  EXPECT_EQ(clocks().size(), at_first);
  ASSERT_TRUE(engine()->Flush().ok());
  // A seal has told the small step; a large one gets a record of its own.
  clock().SetWallNs(clock().WallNs() - 500 * kSecondNs);
  EXPECT_TRUE(Allow("key"));
  EXPECT_TRUE(Allow("key"));
  const int64_t stepped_to = clock().WallNs();
  machine_.LosePower(Loss::kDropAll);
  clock().SetWallNs(stepped_to + 3 * kSecondNs);
  const int64_t before = FakeClock::kStartWallNs;
  machine_.Open();
  EXPECT_EQ(EngineTime(), before + 3 * kSecondNs);
}

TEST_F(Time, OfAnswersIsTheWallClocks) {
  ASSERT_TRUE(Limit("key", Hourly(2)).ok());
  clock().SetWallNs(FakeClock::kStartWallNs - 100 * kSecondNs);
  Engine::Decision decision;
  ASSERT_TRUE(engine()->Check({"key", 2}, {}, nullptr, &decision).ok());
  EXPECT_EQ(decision.reset_at_ns, clock().WallNs() + static_cast<int64_t>(kHourNs));
  clock().AdvanceNs(kSecondNs);
  const Engine::LimitStatus status = StatusOf(engine(), "key");
  EXPECT_EQ(status.totals.last_allowed_ns, clock().WallNs() - kSecondNs);
  EXPECT_EQ(status.reset_at_ns, decision.reset_at_ns);
}

// ---- Files and memory --------------------------------------------------------------------------

class SameState : public ::testing::TestWithParam<int> {};

// Random operations; then the state from the log, and from a snapshot, is the state in memory.
TEST_P(SameState, InFilesAndInMemory) {
  std::mt19937_64 random(static_cast<uint64_t>(GetParam()));
  Machine machine(GetParam() % 2 == 0);
  machine.segment_bytes = 12'000;
  machine.Open();
  const auto below = [&](uint64_t bound) { return random() % bound; };
  const std::vector<std::string> keys = {"a", "b", "t:1", "t:2", "t:u1", "t:u2", "i1", "i2", "t:*"};
  const std::vector<std::string> prefixes = {"t:", "t:u", "i"};
  for (int i = 0; i < 1500; ++i) {
    Engine* engine = machine.engine.get();
    machine.clock->AdvanceNs(static_cast<int64_t>(below(4) == 0 ? below(3 * kSecondNs) : below(9)));
    const auto algorithm = static_cast<Algorithm>(1 + below(6));
    const LimitConfig config = Config(algorithm, 1 + below(9), below(2) == 0 ? kSecondNs : kHourNs,
                                      IsBucket(algorithm) ? below(12) : 0);
    const std::string& key = keys[below(keys.size())];
    const std::string& prefix = prefixes[below(prefixes.size())];
    Engine::Decision decision;
    uint64_t ticket = 0;
    switch (below(24)) {
      case 0:
        static_cast<void>(Configure(engine, key, config).ok());
        break;
      case 1:
        static_cast<void>(Configure(engine, prefix, config, kTemplate).ok());
        break;
      case 2:
        static_cast<void>(engine->Reset(LimitKind::kExact, key, {}, &ticket).ok());
        break;
      case 3:
        static_cast<void>(engine->Reset(kTemplate, prefix, {}, &ticket).ok());
        break;
      case 4:
        if (below(3) != 0) break;
        static_cast<void>(engine->Remove(LimitKind::kExact, key, {}, &ticket).ok());
        static_cast<void>(engine->Remove(kTemplate, prefix, {}, &ticket).ok());
        break;
      default:
        static_cast<void>(engine->Check({key, 1 + below(4)}, {}, &config, &decision).ok());
    }
    if (below(150) != 0) continue;
    if (below(2) == 0) {
      ASSERT_TRUE(engine->Compact({}).ok());
    }
    const std::string before = DescribeAll(engine, true);
    machine.Close();
    machine.Open();
    ASSERT_EQ(DescribeAll(machine.engine.get(), true), before) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SameState, ::testing::Range(0, 12));

}  // namespace
}  // namespace flint
