// Directories of Flint 0.1 and 0.2: golden ones as their real versions wrote them, and every way in
// which one can be odd, damaged, or left by a conversion that was interrupted.

#include <gtest/gtest.h>

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
  const auto path = std::filesystem::path(__FILE__).parent_path() / "golden" / "v0.2" / name;
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

}  // namespace
}  // namespace flint
