// Directories of Flint 0.1 and 0.2: golden ones as their real versions wrote them, and every way in
// which one can be odd, damaged, or left by a conversion that was interrupted.

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "engine_testing.h"

namespace flint {
namespace {

using Json = nlohmann::json;

constexpr char kLog[] = "flint.aof";
constexpr char kSnapshot[] = "flint.snapshot";
constexpr char kConfigure[] =
    R"({"ts":"2026-06-10T08:00:00Z","event":{"type":"LIMIT_CONFIGURED","config":)"
    R"({"key":"k","rate":7,"per_seconds":60,"algorithm":"fixed_window_counter"}}})"
    "\n";

std::string ReadGolden(const std::string& name) {
  const auto path = std::filesystem::path(FLINT_GOLDEN) / "v0.2" / name;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Json Expected() { return Json::parse(ReadGolden("expected.json")); }

std::string Event(const std::string& type, const std::string& at) {
  return R"({"ts":")" + at + R"(","event":{"type":")" + type + R"(","key":"k","at":")" + at +
         "\"}}\n";
}

// The files of a golden directory, and what they come to.
void Put(const std::string& name, Machine* machine) {
  machine->env->SetContents(machine->Path(kLog), ReadGolden(name + "/flint.aof"));
  const std::string snapshot = ReadGolden(name + "/flint.snapshot");
  if (!snapshot.empty()) machine->env->SetContents(machine->Path(kSnapshot), snapshot);
}

void ExpectTotals(Engine* engine, const Json& limits) {
  EXPECT_EQ(ListAll(engine).size(), limits.size());
  for (const auto& [key, expected] : limits.items()) {
    SCOPED_TRACE(key);
    const Engine::LimitStatus limit = StatusOf(engine, key);
    EXPECT_EQ(limit.kind, LimitKind::kExact);
    EXPECT_EQ(limit.config.rate, expected.at("rate").get<uint64_t>());
    EXPECT_EQ(limit.config.per_ns, expected.at("per_millis").get<uint64_t>() * 1'000'000);
    EXPECT_EQ(AlgorithmName(limit.config.algorithm), expected.at("algorithm").get<std::string>());
    EXPECT_EQ(limit.totals.allowed, expected.at("total_allowed").get<uint64_t>());
    EXPECT_EQ(limit.totals.denied, expected.at("total_denied").get<uint64_t>());
  }
}

bool Has(const Machine& machine, const std::string& name) {
  for (const std::string& path : machine.env->Files()) {
    if (path == machine.Path(name)) return true;
  }
  return false;
}

TEST(Legacy, GoldenDirectoriesComeBackAsExpected) {
  const Json expected = Expected();
  for (const auto& [name, limits] : expected.items()) {
    if (name == "_about") continue;
    SCOPED_TRACE(name);
    Machine machine;
    Put(name, &machine);
    const std::string log = ReadGolden(name + "/flint.aof");
    const std::string snapshot = ReadGolden(name + "/flint.snapshot");
    machine.Open();
    ExpectTotals(machine.engine.get(), limits);
    const LegacyReport report = InfoOf(machine.engine.get()).legacy;
    EXPECT_TRUE(report.converted);
    EXPECT_GT(report.events, 0U);
    EXPECT_EQ(report.torn_bytes > 0, name == "torn-tail");
    EXPECT_FALSE(report.clamped || report.snapshot_ahead);
    EXPECT_EQ(machine.env->Contents(machine.Path("flint.aof.v0")), log);
    EXPECT_EQ(machine.env->Contents(machine.Path("flint.snapshot.v0")), snapshot);
    EXPECT_FALSE(Has(machine, kSnapshot));
    machine.Close();
    machine.Open();
    ExpectTotals(machine.engine.get(), limits);
    EXPECT_FALSE(InfoOf(machine.engine.get()).legacy.converted);
    machine.Close();
  }
}

// That version reads flint.aof line by line, and takes a line that is not JSON for damage unless
// nothing follows it.
TEST(Legacy, ProcessOfTheOldVersionSeesDamageAndNotAnEmptyLog) {
  Machine machine;
  Put("log-only", &machine);
  machine.Open();
  machine.Close();
  const std::string log = machine.env->Contents(machine.Path(kLog));
  const size_t end = log.find('\n');
  ASSERT_NE(end, std::string::npos);
  EXPECT_FALSE(Json::accept(log.substr(0, end)));
  EXPECT_NE(log.find_first_not_of('\0', end + 1), std::string::npos);
}

// Whatever operation a crash comes before, the directory opens as expected, originals and all.
TEST(Legacy, InterruptedConversionIsRedone) {
  const Json limits = Expected().at("compacted-with-tail");
  const std::string log = ReadGolden("compacted-with-tail/flint.aof");
  const std::string snapshot = ReadGolden("compacted-with-tail/flint.snapshot");
  Machine machine;
  Put("compacted-with-tail", &machine);
  std::vector<std::unique_ptr<FakeEnv>> images;
  uint64_t seed = 0;
  machine.env->SetHook([&](Op, const std::string&) {
    images.push_back(machine.env->ProcessDeath());
    images.push_back(machine.env->PowerLoss(Loss::kDropAll));
    images.push_back(machine.env->PowerLoss(Loss::kKeepAll));
    images.push_back(machine.env->PowerLoss(Loss::kRandom, ++seed));
  });
  machine.Open();
  machine.env->SetHook(nullptr);
  machine.Close();
  EXPECT_GT(images.size(), 100U);
  size_t converted_again = 0;
  for (auto& image : images) {
    Machine after;
    after.env = std::move(image);
    after.clock->Reboot();
    after.Open();
    ASSERT_NE(after.engine, nullptr);
    ExpectTotals(after.engine.get(), limits);
    if (InfoOf(after.engine.get()).legacy.converted) ++converted_again;
    EXPECT_EQ(after.env->Contents(after.Path("flint.aof.v0")), log);
    EXPECT_EQ(after.env->Contents(after.Path("flint.snapshot.v0")), snapshot);
    after.Close();
  }
  EXPECT_GT(converted_again, 0U);
  EXPECT_LT(converted_again, images.size());
}

TEST(Legacy, FailedConversionLosesNothing) {
  const Json limits = Expected().at("compacted-with-tail");
  for (uint64_t nth = 1;; ++nth) {
    Machine machine;
    Put("compacted-with-tail", &machine);
    Fault fault;
    fault.nth = nth;
    machine.env->InjectFault(fault);
    const Status status = machine.TryOpen();
    machine.engine.reset();
    const bool hit = machine.env->faults_hit() > 0;
    machine.env->ClearFault();
    machine.Open();
    ExpectTotals(machine.engine.get(), limits);
    machine.Close();
    if (!hit) {
      EXPECT_TRUE(status.ok());
      break;
    }
  }
}

TEST(Legacy, BadLineBeforeTheEndIsCorruption) {
  std::string log = ReadGolden("log-only/flint.aof");
  const size_t line = log.find('\n') + 1;
  log[line + 60] ^= 1;
  Machine machine;
  machine.env->SetContents(machine.Path(kLog), log);
  const Status status = machine.TryOpen();
  ASSERT_EQ(status.code(), Code::kCorruption);
  EXPECT_EQ(status.detail()->segment, kLog);
  EXPECT_EQ(status.detail()->offset, line);
  EXPECT_EQ(machine.env->Contents(machine.Path(kLog)), log);
  EXPECT_FALSE(Has(machine, "flint.aof.v0"));
}

TEST(Legacy, UnfinishedLastLineIsTorn) {
  const std::string whole = kConfigure + Event("ALLOW", "2026-06-10T08:00:01Z");
  const std::string half = Event("ALLOW", "2026-06-10T08:00:02Z").substr(0, 30);
  const std::string zeros(700, '\0');
  for (const std::string& tail : {half, zeros, zeros + "\n", half + zeros}) {
    Machine machine;
    machine.env->SetContents(machine.Path(kLog), whole + tail);
    machine.Open();
    EXPECT_EQ(InfoOf(machine.engine.get()).legacy.torn_bytes, tail.size());
    EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, 1U);
    machine.Close();
  }
}

// What a crash inside that version's compaction leaves: the log is replayed from its start.
TEST(Legacy, SnapshotAheadOfTheLogIsReportedAndTheLogReplayed) {
  Machine machine;
  machine.env->SetContents(
      machine.Path(kSnapshot),
      R"({"aof_offset":100000,"state":{"history":[{"type":"LIMIT_CONFIGURED","config":)"
      R"({"key":"k","rate":7,"per_millis":60000,"algorithm":"token_bucket"}},)"
      R"({"type":"DENY","key":"k","at":"2026-06-10T08:00:00+02:00"}]}})");
  machine.env->SetContents(machine.Path(kLog), Event("ALLOW", "2026-06-10T08:00:01.5Z"));
  machine.Open();
  EXPECT_TRUE(InfoOf(machine.engine.get()).legacy.snapshot_ahead);
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.denied, 1U);
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed, 1U);
  machine.Close();
}

TEST(Legacy, DamagedSnapshotIsCorruption) {
  Machine machine;
  Put("compacted-with-tail", &machine);
  std::string snapshot = ReadGolden("compacted-with-tail/flint.snapshot");
  snapshot[snapshot.size() / 2] ^= 1;
  machine.env->SetContents(machine.Path(kSnapshot), snapshot);
  const Status status = machine.TryOpen();
  ASSERT_EQ(status.code(), Code::kCorruption);
  EXPECT_EQ(status.detail()->segment, kSnapshot);
}

TEST(Legacy, LimitBeyondTodaysBoundsIsClamped) {
  Machine machine;
  machine.env->SetContents(
      machine.Path(kLog),
      R"({"event":{"type":"LIMIT_CONFIGURED","config":{"key":"k","rate":18446744073709551615,)"
      R"("per_millis":9223372036854775807,"algorithm":"token_bucket"}}})"
      "\n");
  machine.Open();
  EXPECT_TRUE(InfoOf(machine.engine.get()).legacy.clamped);
  const LimitConfig config = StatusOf(machine.engine.get(), "k").config;
  EXPECT_EQ(config.rate, kMaxQuantity);
  EXPECT_EQ(config.per_ns, kMaxQuantity);
  machine.Close();
}

// Those versions took keys that cannot be today: they stay in the originals, and are told of.
TEST(Legacy, KeysThatCannotBeTodayAreLeftOut) {
  const std::string long_key(65'536, 'x');
  std::string log = kConfigure;
  for (const std::string& key : {std::string(), long_key}) {
    std::string configure = kConfigure;
    std::string allow = Event("ALLOW", "2026-06-10T08:00:01Z");
    log += configure.replace(configure.find("\"k\""), 3, "\"" + key + "\"");
    log += allow.replace(allow.find("\"k\""), 3, "\"" + key + "\"");
  }
  log += R"({"event":{"type":"ALLOW_ALL","at":"2026-06-10T08:00:02Z","items":[)"
         R"({"key":"","cost":1},{"key":"k","cost":2}]}})"
         "\n";
  Machine machine;
  machine.env->SetContents(machine.Path(kLog), log);
  machine.Open();
  EXPECT_EQ(InfoOf(machine.engine.get()).legacy.left_out, 5u);
  EXPECT_EQ(ListAll(machine.engine.get()).size(), 1u);
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.allowed_cost, 2u);
  EXPECT_EQ(machine.env->Contents(machine.Path("flint.aof.v0")), log);
  machine.Close();
  machine.Open();
  machine.Close();
}

// What is listed can be removed, though nobody could add it today.
TEST(Legacy, AKeyOfBlanksCanBeRemoved) {
  std::string log = kConfigure;
  std::string configure = kConfigure;
  log += configure.replace(configure.find("\"k\""), 3, "\"  \"");
  Machine machine;
  machine.env->SetContents(machine.Path(kLog), log);
  machine.Open();
  EXPECT_EQ(ListAll(machine.engine.get()).size(), 2u);
  EXPECT_EQ(StatusOf(machine.engine.get(), "  ").remaining, 7u);
  uint64_t ticket = 0;
  EXPECT_TRUE(machine.engine->Reset(LimitKind::kExact, "  ", {}, &ticket).ok());
  EXPECT_TRUE(machine.engine->Remove(LimitKind::kExact, "  ", {}, &ticket).ok());
  EXPECT_EQ(ListAll(machine.engine.get()).size(), 1u);
  EXPECT_EQ(machine.engine->Remove(LimitKind::kExact, "  ", {}, &ticket).code(),
            Code::kInvalidArgument);
  machine.Close();
}

// A file system without hard links: the originals are kept as copies, whenever a crash comes.
TEST(Legacy, NeedsNoHardLinks) {
  const Json limits = Expected().at("compacted-with-tail");
  Machine machine;
  Put("compacted-with-tail", &machine);
  machine.env->InjectFault({.forever = true, .error = EPERM, .matches = OnlyOps({Op::kLink})});
  std::vector<std::unique_ptr<FakeEnv>> images;
  uint64_t seed = 0;
  machine.env->SetHook([&](Op, const std::string&) {
    images.push_back(machine.env->ProcessDeath());
    images.push_back(machine.env->PowerLoss(Loss::kUnordered, ++seed));
  });
  machine.Open();
  machine.env->SetHook(nullptr);
  ASSERT_NE(machine.engine, nullptr);
  ExpectTotals(machine.engine.get(), limits);
  machine.Close();
  const std::string log = ReadGolden("compacted-with-tail/flint.aof");
  EXPECT_EQ(machine.env->Contents(machine.Path("flint.aof.v0")), log);
  for (auto& image : images) {
    Machine after;
    after.env = std::move(image);
    after.clock->Reboot();
    after.Open();
    ASSERT_NE(after.engine, nullptr);
    ExpectTotals(after.engine.get(), limits);
    EXPECT_EQ(after.env->Contents(after.Path("flint.aof.v0")), log);
    after.Close();
  }
}

// That version let its wall clock go back: more was admitted than a window of today holds.
TEST(Legacy, ClockThatWentBackLeavesAStateOfToday) {
  std::string log = kConfigure;
  for (int i = 0; i < 7; ++i) log += Event("ALLOW", "2026-06-10T09:00:00Z");
  for (int i = 0; i < 7; ++i) log += Event("ALLOW", "2026-06-10T08:00:01Z");
  Machine machine;
  machine.env->SetContents(machine.Path(kLog), log);
  machine.Open();
  const Engine::LimitStatus limit = StatusOf(machine.engine.get(), "k");
  EXPECT_EQ(limit.totals.allowed, 14U);
  EXPECT_LE(limit.remaining, 7U);
  machine.Close();
}

TEST(Legacy, EventOfAKeyWithoutLimitIsCorruption) {
  Machine machine;
  const std::string log = kConfigure;
  std::string other = Event("ALLOW", "2026-06-10T08:00:01Z");
  other.replace(other.find("\"k\""), 3, "\"other\"");
  machine.env->SetContents(machine.Path(kLog), log + other);
  const Status status = machine.TryOpen();
  ASSERT_EQ(status.code(), Code::kCorruption);
  EXPECT_EQ(status.detail()->offset, log.size());
}

std::string Exact(const std::string& event, const std::string& exact) {
  return R"({"event":)" + event + R"(,"exact":)" + exact + "}\n";
}

std::string ConfigureTemplate(const std::string& prefix, const std::string& name,
                              const std::string& at) {
  const std::string config = R"({"key":")" + prefix + "*#" + name +
                             R"(","rate":5,"per_seconds":3600,"algorithm":"fixed_window_counter"})";
  return R"({"ts":")" + at + R"(","event":{"type":"LIMIT_CONFIGURED","config":)" + config +
         R"(},"exact":{"kind":"template","name":")" + name + "\"}}\n";
}

// In a dump: a longer template that does not stack ends the counters under a shorter one, although
// its limit has another name. When it is removed, what is used of that one begins anew.
TEST(Legacy, TemplateEndsWhatItEndsInTheEngine) {
  const std::string use = R"({"type":"ALLOW","key":"ab1#x","cost":5,"at":"2026-06-10T08:00:0)";
  const std::string counter = R"({"kind":"counter","prefix":1,"name":"x"})";
  Machine machine;
  machine.env->SetContents(
      machine.Path(kLog), ConfigureTemplate("a", "x", "2026-06-10T08:00:00Z") +
                              Exact(use + "1Z\"}", counter) +
                              ConfigureTemplate("ab", "y", "2026-06-10T08:00:02Z") +
                              Exact(R"({"type":"RESET","key":"ab*#y","at":"2026-06-10T08:00:03Z"})",
                                    R"({"type":"LIMIT_REMOVED","kind":"template","name":"y"})") +
                              Exact(use + "4Z\"}", counter));
  machine.Open();
  ASSERT_NE(machine.engine, nullptr);
  HistoryQuery query;
  query.capacity = 100;
  query.text_bytes = 1000;
  HistoryPage page;
  ASSERT_TRUE(machine.engine->History(query, &page).ok());
  ASSERT_EQ(page.events.size(), 5U);
  EXPECT_EQ(page.events[4].items[0].name, "x");
  // What did not fit would be an hour later in engine time.
  EXPECT_EQ(page.events[4].engine_ns - page.events[1].engine_ns, 3'000'000'000);
  machine.Close();
}

// An empty log is what that version makes first, but also what may be left of a log of today.
TEST(Legacy, EmptyLogIsTheOldVersionsOnlyAlone) {
  Machine machine;
  machine.env->SetContents(machine.Path(kLog), "");
  machine.Open();
  EXPECT_TRUE(InfoOf(machine.engine.get()).legacy.converted);
  ASSERT_TRUE(Configure(machine.engine.get(), "k", Hourly(5)).ok());
  machine.Close();
  machine.env->SetContents(machine.Path(kLog), "");
  EXPECT_EQ(machine.TryOpen().code(), Code::kCorruption);
}

TEST(Legacy, FilesOfBothFormatsAreCorruption) {
  Machine machine;
  machine.Open();
  machine.Close();
  machine.env->SetContents(machine.Path(kLog), kConfigure);
  EXPECT_EQ(machine.TryOpen().code(), Code::kCorruption);
  EXPECT_EQ(machine.env->Contents(machine.Path(kLog)), kConfigure);
}

// ---- Dumps: lines that go on where those versions could not say what happened ------------------

constexpr char kConfigureTemplate[] =
    R"({"ts":"2026-06-10T08:00:00Z","event":{"type":"LIMIT_CONFIGURED","config":)"
    R"({"key":"ip:*","rate":7,"per_millis":60000,"algorithm":"token_bucket"}},)"
    R"("exact":{"kind":"template","algorithm":"gcra","per_ns":60000000001,"burst":9}})"
    "\n";

// An event at a second of the minute in which all limits here are configured.
std::string Line(const std::string& type, const std::string& key, int second,
                 const std::string& rest) {
  char at[32];
  std::snprintf(at, sizeof(at), "2026-06-10T08:00:%02dZ", second);
  return R"({"event":{"type":")" + type + R"(","key":")" + key + R"(","at":")" + at + "\"" + rest +
         "}\n";
}

std::string CounterLine(const std::string& type, const std::string& key, int second) {
  return Line(type, key, second, R"(},"exact":{"kind":"counter","prefix":3})");
}

// Opens at a second of that minute.
Status OpenLog(Machine* machine, const std::string& log, int second) {
  constexpr int64_t kMinuteNs = 1'781'078'400 * kSecondNs;  // 2026-06-10 08:00
  machine->env->SetContents(machine->Path(kLog), log);
  machine->clock->SetWallNs(kMinuteNs + second * kSecondNs);
  return machine->TryOpen();
}

TEST(Dump, SaysWhatThoseVersionsCouldNot) {
  const std::string inline_limit =
      R"(},"exact":{"kind":"inline","rate":3,"per_ns":5,"burst":4,"algorithm":"leaky_bucket"})";
  Machine machine;
  const Status status =
      OpenLog(&machine,
              std::string(kConfigure) + kConfigureTemplate + CounterLine("ALLOW", "ip:1", 8) +
                  Line("DENY", "ip:1", 9,
                       R"(,"cost":90},"exact":{"kind":"counter","prefix":3,"count":40,)"
                       R"("first_at":"2026-06-10T08:00:05Z"})") +
                  Line("ALLOW", "in", 10, inline_limit) + CounterLine("ALLOW", "ip:2", 11) +
                  Line("RESET", "ip:2", 11, R"(},"exact":{})") +
                  Line("RESET", "k", 12, R"(},"exact":{"type":"LIMIT_REMOVED"})"),
              12);
  ASSERT_TRUE(status.ok()) << status.message();
  Engine* engine = machine.engine.get();
  EXPECT_EQ(ListAll(engine).size(), 2U);  // the template and ip:1
  const Engine::LimitStatus counter = StatusOf(engine, "ip:1");
  EXPECT_EQ(counter.kind, LimitKind::kCounter);
  EXPECT_TRUE(counter.config.SameAs(Config(Algorithm::kGcra, 7, 60'000'000'001, 9)));
  EXPECT_EQ(counter.totals.denied, 40U);
  EXPECT_EQ(counter.totals.denied_cost, 90U);
  const Engine::LimitStatus subject = StatusOf(engine, "ip:", LimitKind::kTemplate);
  EXPECT_EQ(subject.totals.allowed, 2U);

  HistoryQuery query;
  query.capacity = 100;
  query.text_bytes = 10'000;
  HistoryPage page;
  ASSERT_TRUE(engine->History(query, &page).ok());
  ASSERT_EQ(page.events.size(), 8U);
  const HistoryEvent& denial = page.events[3];
  EXPECT_EQ(denial.count, 40U);
  EXPECT_EQ(denial.at_ns - denial.first_ns, 4 * kSecondNs);
  EXPECT_EQ(page.events[4].items[0].kind, LimitKind::kInline);
  EXPECT_TRUE(page.events[4].items[0].config.SameAs(Config(Algorithm::kLeakyBucket, 3, 5, 4)));
  EXPECT_EQ(page.events[7].type, RecordType::kLimitRemoved);
}

TEST(Dump, TemplateTakesItsCountersAlong) {
  const std::string other =
      R"({"ts":"2026-06-10T08:00:20Z","event":{"type":"LIMIT_CONFIGURED","config":)"
      R"({"key":"ip:1*","rate":20,"per_millis":60000,"algorithm":"token_bucket"}},)"
      R"("exact":{"kind":"template"}})"
      "\n";
  const std::string ended = R"(},"exact":{"kind":"template"})";
  const std::string removed = R"(},"exact":{"kind":"template","type":"LIMIT_REMOVED"})";
  std::string log = std::string(kConfigure) + kConfigureTemplate;
  for (const char* key : {"ip:1", "ip:2"}) log += CounterLine("ALLOW", key, 19);
  log += other + Line("ALLOW", "ip:1", 20, R"(},"exact":{"kind":"counter","prefix":4})");
  Machine machine;
  ASSERT_TRUE(OpenLog(&machine, log + Line("RESET", "ip:*", 21, ended), 21).ok());
  EXPECT_EQ(StatusOf(machine.engine.get(), "ip:1").config.rate, 20U);
  EXPECT_EQ(StatusOf(machine.engine.get(), "ip:1").totals.allowed, 2U);
  EXPECT_EQ(StatusOf(machine.engine.get(), "ip:2").totals.allowed, 0U);
  Machine without;
  ASSERT_TRUE(OpenLog(&without, log + Line("RESET", "ip:1*", 21, removed), 21).ok());
  EXPECT_EQ(StatusOf(without.engine.get(), "ip:1").config.rate, 7U);
  EXPECT_EQ(StatusOf(without.engine.get(), "ip:1").totals.allowed, 0U);
  EXPECT_EQ(StatusOf(without.engine.get(), "ip:2").totals.allowed, 1U);
}

TEST(Dump, BadAdditionIsCorruption) {
  const std::string log = std::string(kConfigure) + kConfigureTemplate;
  const std::string items = R"({"event":{"type":"ALLOW_ALL","at":"2026-06-10T08:00:01Z",)"
                            R"("items":[{"key":"k"}]},"exact":{"items":[]}})"
                            "\n";
  const std::string bad[] = {
      Line("ALLOW", "k", 1, R"(},"exact":{"kind":"other"})"),
      Line("ALLOW", "k", 1, R"(},"exact":{"kind":"counter"})"),
      Line("ALLOW", "k", 1, R"(},"exact":{"kind":"counter","prefix":2})"),
      Line("ALLOW", "ip:1", 1, R"(},"exact":{"kind":"counter","prefix":2})"),
      Line("ALLOW", "k", 1, R"(},"exact":{"kind":"counter","prefix":-1})"),
      Line("ALLOW", "in", 1, R"(},"exact":{"kind":"inline","rate":1,"algorithm":"gcra"})"),
      Line("ALLOW", "in", 1, R"(},"exact":{"kind":"inline","rate":1,"per_ns":9,"algorithm":""})"),
      Line("ALLOW", "k", 1, R"(},"exact":{"kind":"inline","rate":1,"per_ns":9})"),
      Line("RESET", "ip:", 1, R"(},"exact":{"kind":"template"})"),
      Line("DENY", "k", 1, R"(},"exact":{"count":0})"),
      Line("DENY", "k", 1, R"(},"exact":{"count":2,"first_at":"2026-06-10T09:00:00Z"})"),
      Line("DENY", "k", 1, R"(},"exact":{"count":1},"exact_checksum":"00")"),
      items,
  };
  for (const std::string& line : bad) {
    SCOPED_TRACE(line);
    Machine machine;
    const Status status = OpenLog(&machine, log + line, 59);
    ASSERT_EQ(status.code(), Code::kCorruption);
    EXPECT_EQ(status.detail()->offset, log.size());
  }
}

// Merged denials stand behind what happened after them. That is no clock that has gone back.
TEST(Dump, LateDenialMovesNoTime) {
  std::string log = kConfigure;
  for (int second = 10; second < 17; ++second) {
    log += Line("ALLOW_ALL", "k", second, R"(,"items":[{"key":"k"}]})");
    log += Line("DENY", "k", second - 9, R"(},"exact":{"count":2})");
  }
  Machine machine;
  ASSERT_TRUE(OpenLog(&machine, log, 59).ok());
  EXPECT_EQ(InfoOf(machine.engine.get()).engine_time_ns, machine.clock->WallNs());
  EXPECT_EQ(StatusOf(machine.engine.get(), "k").totals.denied, 14U);
}

// More counters than are remembered at once, all of them soon fresh.
TEST(Dump, FreshCountersAreForgotten) {
  constexpr int kCounters = 70'000;
  std::string log = R"({"ts":"2026-06-10T08:00:00Z","event":{"type":"LIMIT_CONFIGURED","config":)"
                    R"({"key":"ip:*","rate":1,"per_millis":1,"algorithm":"token_bucket"}},)"
                    R"("exact":{"kind":"template"}})"
                    "\n";
  for (int i = 0; i < kCounters; ++i) {
    log += CounterLine("ALLOW", "ip:" + std::to_string(i), i * 60 / kCounters);
  }
  log += CounterLine("ALLOW", "ip:1", 59);
  Machine machine;
  ASSERT_TRUE(OpenLog(&machine, log, 59).ok());
  const Engine::LimitStatus limit = StatusOf(machine.engine.get(), "ip:", LimitKind::kTemplate);
  EXPECT_EQ(limit.totals.allowed, kCounters + 1U);
}

}  // namespace
}  // namespace flint
