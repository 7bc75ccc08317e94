// Directories that earlier versions have written must open for ever, exactly as they were. They
// are kept under golden/v<format version>/, each with what it must open as in expected.txt; those
// of what later releases have added, under the release.
//
// FLINT_GOLDEN_WRITE=1 writes those of the current format version anew: once, when it is new.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine_testing.h"
#include "storage/file_names.h"
#include "storage/log_path.h"
#include "storage/log_stream.h"

namespace flint {
namespace {

namespace fs = std::filesystem;

// How a directory was written.
struct Case {
  const char* name;
  bool always;
  bool killed;  // else closed
};

constexpr Case kCases[] = {
    {"always-closed", true, false},
    {"always-killed", true, true},
    {"batch-closed", false, false},
    {"batch-killed", false, true},
};

fs::path GoldenRoot() { return FLINT_GOLDEN; }

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_TRUE(file.good()) << path;
  return text.str();
}

void WriteFile(const fs::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bytes;
  EXPECT_TRUE(file.good()) << path;
}

// One of everything.
void Use(Machine* machine, int rounds) {
  constexpr Algorithm kAlgorithms[] = {
      Algorithm::kTokenBucket,      Algorithm::kGcra,
      Algorithm::kLeakyBucket,      Algorithm::kFixedWindowCounter,
      Algorithm::kSlidingWindowLog, Algorithm::kSlidingWindowCounter,
  };
  Engine* engine = machine->engine.get();
  uint64_t ticket = 0;
  size_t denied = 0;
  Engine::Decision decision;
  for (int round = 0; round < rounds; ++round) {
    const std::string number = std::to_string(round % 7);
    for (const Algorithm algorithm : kAlgorithms) {
      const std::string key = std::string(AlgorithmName(algorithm)) + number;
      const auto rate = static_cast<uint64_t>(3 + round % 5);
      ASSERT_TRUE(Configure(engine, key, Config(algorithm, rate, 7 * kHourNs + 1)).ok());
      Allowed(engine, key, 2);
    }
    ASSERT_TRUE(Configure(engine, "ip:", Hourly(10), LimitKind::kTemplate).ok());
    ASSERT_TRUE(Configure(engine, "", Hourly(90), LimitKind::kTemplate).ok());
    for (int i = 0; i < 30; ++i) Allowed(engine, "ip:" + number);
    std::vector<Engine::Decision> decisions(3);
    ASSERT_TRUE(engine
                    ->CheckAll({{"gcra" + number, 1}, {"ip:all", 1}, {"other \xF0\x9F\x94\xA5", 2}},
                               {}, decisions.data(), &denied)
                    .ok());
    ASSERT_TRUE(Configure(engine, "passing", Hourly(5)).ok());
    Allowed(engine, "passing");
    ASSERT_TRUE(engine->Reset(LimitKind::kExact, "passing", {}, &ticket).ok());
    ASSERT_TRUE(engine->Remove(LimitKind::kExact, "passing", {}, &ticket).ok());
    ASSERT_TRUE(engine->Remove(LimitKind::kTemplate, "", {}, &ticket).ok());
    const LimitConfig config = Config(Algorithm::kGcra, 3, 50 * kHourNs, 9);
    ASSERT_TRUE(engine->Check({"inline" + number, 4}, {}, &config, &decision).ok());
    if (round % 5 == 3) {
      ASSERT_TRUE(engine->Reset(LimitKind::kTemplate, "ip:", {}, &ticket).ok());
    }
    machine->clock->AdvanceNs(61 * kSecondNs + 7);
    ASSERT_TRUE(engine->Flush().ok());
    if (round % 4 == 1) machine->clock->SetWallNs(machine->clock->WallNs() + 3 * kSecondNs);
  }
}

std::unique_ptr<FakeEnv> LoadDirectory(const fs::path& directory) {
  auto env = std::make_unique<FakeEnv>();
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name == "expected.txt") continue;
    env->SetContents(std::string(kDirectory) + "/" + name, ReadFile(entry.path()));
  }
  return env;
}

void Store(const FakeEnv& env, const fs::path& directory) {
  fs::remove_all(directory);
  fs::create_directories(directory);
  for (const std::string& path : env.Files()) {
    if (!path.ends_with(kLockName)) {
      WriteFile(directory / fs::path(path).filename(), env.Contents(path));
    }
  }
}

// Every record behind the snapshot.
void ReadAll(FakeEnv* env, const std::function<void(const Record&)>& visit) {
  bool exists = false;
  SnapshotHead head;
  uint64_t bytes = 0;
  const auto skip = [](const SavedLimit&, const State&) { return Status(); };
  ASSERT_TRUE(ReadSnapshot(env, kDirectory, &exists, &head, skip, &bytes).ok());
  LogPath path;
  ASSERT_TRUE(FindLogPath(env, kDirectory, head.covered, UINT64_MAX, &path).ok());
  RingImage ring;
  ASSERT_TRUE(RingImage::Read(env, kDirectory, path.directory_id, &ring).ok());
  LogStream stream(&path, &ring, head.covered);
  Record record;
  for (bool end = false;;) {
    ASSERT_TRUE(stream.Next(&record, &end).ok());
    if (end) return;
    visit(record);
  }
}

class Golden : public ::testing::TestWithParam<Case> {
 protected:
  static std::unique_ptr<FakeEnv> Write(const Case& golden) {
    Machine machine(golden.always);
    machine.segment_bytes = 12'000;
    machine.ring_bytes = 1 << 13;
    machine.Open();
    Use(&machine, 6);
    EXPECT_TRUE(machine.engine->Compact({}).ok());
    Use(&machine, 11);
    EXPECT_TRUE(Allowed(machine.engine.get(), "ip:last"));
    if (!golden.killed) machine.Close();
    return machine.env->ProcessDeath();
  }

  // Opens a directory some minutes later, on the machine that wrote it if it was killed there.
  static std::string Open(FakeEnv* env, const Case& golden) {
    FakeClock clock;
    if (!golden.killed) clock.Reboot();
    clock.AdvanceNs(2400 * kSecondNs);
    std::unique_ptr<Engine> engine;
    const Status status = Engine::Open(kDirectory, OptionsFor(env, &clock, golden.always), &engine);
    EXPECT_TRUE(status.ok()) << status.message();
    return status.ok() ? DescribeAll(engine.get(), true) : status.message();
  }
};

TEST_P(Golden, IsWhatThisVersionWrites) {
  const std::string version = "v" + std::to_string(kFormatVersion);
  const fs::path directory = GoldenRoot() / version / GetParam().name;
  const std::unique_ptr<FakeEnv> env = Write(GetParam());
  if (std::getenv("FLINT_GOLDEN_WRITE") != nullptr) {
    Store(*env, directory);
    WriteFile(directory / "expected.txt", Open(env.get(), GetParam()));
    return;
  }
  EXPECT_EQ(Open(env.get(), GetParam()), ReadFile(directory / "expected.txt"));
}

TEST_P(Golden, OpensAsItWas) {
  const fs::path directory = GoldenRoot() / "v1" / GetParam().name;
  const std::unique_ptr<FakeEnv> env = LoadDirectory(directory);
  const std::string expected = ReadFile(directory / "expected.txt");
  EXPECT_EQ(Open(env.get(), GetParam()), expected);
  EXPECT_EQ(Open(env.get(), GetParam()), expected);
}

// Calls had been held up between reading the clock and appending, while others began a new segment:
// a reset, a removal, that of an inline limit, and an admission. Their records come late, and say
// nothing of what kind of limit they are of.
TEST(GoldenSkewed, OpensAsItWas) {
  const fs::path directory = GoldenRoot() / "v1" / "skewed-times";
  const std::unique_ptr<FakeEnv> env = LoadDirectory(directory);
  FakeClock clock;
  clock.AdvanceNs(44 * kSecondNs - 4);
  std::unique_ptr<Engine> engine;
  const Status status = Engine::Open(kDirectory, OptionsFor(env.get(), &clock, false), &engine);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(DescribeAll(engine.get(), true), ReadFile(directory / "expected.txt"));
  const Status compacted = engine->Compact({});
  EXPECT_TRUE(compacted.ok()) << compacted.message();
}

// ---- What 1.1 has added ------------------------------------------------------------------------

// Limits with names, templates that stack, an inline limit that takes other values, and many
// denials between two syncs.
void UseNamed(Engine* engine, FakeClock* clock) {
  uint64_t ticket = 0;
  size_t denied = 0;
  Engine::Decision decision;
  const auto limit = [&](LimitKind kind, std::string_view key, std::string_view name, uint64_t rate,
                         bool stack) {
    LimitConfig config = Config(Algorithm::kTokenBucket, rate, 24 * kHourNs);
    config.stack = stack;
    ASSERT_TRUE(engine->Configure({kind, key, config, name}, {}, &ticket).ok());
  };
  Engine::Flags update;
  update.update = true;
  for (int round = 0; round < 4; ++round) {
    const auto more = static_cast<uint64_t>(round);
    limit(LimitKind::kTemplate, "u", "all", 500 + more, false);
    limit(LimitKind::kTemplate, "user:", "day", 90, true);
    limit(LimitKind::kTemplate, "user:", "hour", 40 - more, true);
    limit(LimitKind::kExact, "user:ada", "", 20 + more, true);
    limit(LimitKind::kExact, "login", "h\xC3\xA9", 5, false);
    limit(LimitKind::kExact, "login", "day", 50, false);
    for (const char* key : {"user:ada", "user:bob", "login"}) Allowed(engine, key, 2);
    for (int i = 0; i < 30; ++i) Allowed(engine, "login", 4);
    Engine::Decision decisions[2];
    ASSERT_TRUE(engine->CheckAll({{{"user:bob", 1}, {"unknown", 2}}}, {}, decisions, &denied).ok());
    const LimitConfig inline_config = Config(Algorithm::kGcra, 5 + more, 50 * kHourNs);
    ASSERT_TRUE(engine->Check({"inline", 2}, update, &inline_config, &decision).ok());
    const std::string_view gone = "passing";
    limit(LimitKind::kExact, "passing", gone, 3, false);
    Allowed(engine, "passing");
    ASSERT_TRUE(engine->Reset(LimitKind::kExact, "passing", &gone, {}, &ticket).ok());
    ASSERT_TRUE(engine->Remove(LimitKind::kExact, "passing", &gone, {}, &ticket).ok());
    clock->AdvanceNs(61 * kSecondNs + 7);
    ASSERT_TRUE(engine->Flush().ok());
  }
}

// Killed in batch mode, so that the ring has some of it. Denials are merged at first, and then
// recorded singly.
std::unique_ptr<FakeEnv> WriteNamed() {
  Machine machine(false);
  machine.segment_bytes = 12'000;
  machine.ring_bytes = 1 << 13;
  machine.Open();
  UseNamed(machine.engine.get(), machine.clock.get());
  EXPECT_TRUE(machine.engine->Compact({}).ok());
  UseNamed(machine.engine.get(), machine.clock.get());
  machine.Close();
  Engine::Options options = machine.Options();
  options.merge_denials = false;
  EXPECT_TRUE(Engine::Open(kDirectory, std::move(options), &machine.engine).ok());
  UseNamed(machine.engine.get(), machine.clock.get());
  Allowed(machine.engine.get(), "user:last");
  return machine.env->ProcessDeath();
}

std::string OpenNamed(FakeEnv* env) {
  FakeClock clock;
  clock.AdvanceNs(2400 * kSecondNs);
  std::unique_ptr<Engine> engine;
  const Status status = Engine::Open(kDirectory, OptionsFor(env, &clock, false), &engine);
  EXPECT_TRUE(status.ok()) << status.message();
  return status.ok() ? DescribeAll(engine.get(), true) : status.message();
}

fs::path NamedRoot() { return GoldenRoot() / "v1.1" / "named-limits"; }

TEST(GoldenNamed, IsWhatThisVersionWrites) {
  const std::unique_ptr<FakeEnv> env = WriteNamed();
  if (std::getenv("FLINT_GOLDEN_WRITE") != nullptr) {
    Store(*env, NamedRoot());
    WriteFile(NamedRoot() / "expected.txt", OpenNamed(env.get()));
    return;
  }
  EXPECT_EQ(OpenNamed(env.get()), ReadFile(NamedRoot() / "expected.txt"));
}

TEST(GoldenNamed, OpensAsItWas) {
  const std::unique_ptr<FakeEnv> env = LoadDirectory(NamedRoot());
  const std::string expected = ReadFile(NamedRoot() / "expected.txt");
  EXPECT_EQ(OpenNamed(env.get()), expected);
  EXPECT_EQ(OpenNamed(env.get()), expected);
}

// Otherwise the directory would prove less than it seems to.
TEST(GoldenNamed, HasWhatItIsFor) {
  const std::unique_ptr<FakeEnv> env = LoadDirectory(NamedRoot());
  std::set<std::string> seen;
  int denials = 0;
  ReadAll(env.get(), [&](const Record& record) {
    LimitPayload limit;
    KeyPayload key;
    Denials deny;
    if (record.type == RecordType::kLimitConfigured && DecodeConfigured(record.payload, &limit)) {
      if (limit.kind == LimitKind::kInline) seen.insert("inline");
      if (!limit.name.empty()) seen.insert("configured");
      if (limit.config.stack) seen.insert("stack");
    } else if (record.type == RecordType::kLimitRemoved && DecodeKeyed(record.payload, &limit)) {
      if (!limit.name.empty()) seen.insert("removed");
    } else if (record.type == RecordType::kKey && Decode(record.payload, &key)) {
      if (key.kind == LimitKind::kCounter && !key.name.empty()) seen.insert("counter");
    } else if (record.type == RecordType::kAllowAll && (record.flags & kFlagOneKey) != 0) {
      seen.insert("one key");
    } else if (record.type == RecordType::kDeny && Decode(record.payload, &deny)) {
      if (deny.count > 1) seen.insert("merged");
      denials = deny.count > 1 ? 0 : denials + 1;
      if (denials > 25) seen.insert("single");
    }
  });
  const std::set<std::string> all = {"configured", "counter", "inline", "merged",
                                     "one key",    "removed", "single", "stack"};
  EXPECT_EQ(seen, all);
}

// Keys under a template that are used once or twice, over several segments and an opening; killed.
std::unique_ptr<FakeEnv> WriteFirstUses() {
  Machine machine(false);
  machine.segment_bytes = 12'000;
  machine.ring_bytes = 1 << 13;
  machine.Open();
  const auto use = [&machine](int begin, int end) {
    for (int i = begin; i < end; ++i) {
      Allowed(machine.engine.get(), "user:" + std::to_string(i), 1 + static_cast<uint64_t>(i) % 3);
      machine.clock->AdvanceNs(kSecondNs);
    }
  };
  EXPECT_TRUE(Configure(machine.engine.get(), "user:", Hourly(3), LimitKind::kTemplate).ok());
  use(0, 200);
  EXPECT_TRUE(machine.engine->Compact({}).ok());
  use(100, 300);
  machine.Close();
  machine.Open();
  use(250, 320);
  EXPECT_TRUE(Configure(machine.engine.get(), "user:", Hourly(5), LimitKind::kTemplate).ok());
  use(310, 330);
  return machine.env->ProcessDeath();
}

TEST(GoldenFirstUses, OpenAsTheyWere) {
  const fs::path root = GoldenRoot() / "v1.1" / "first-uses";
  const std::unique_ptr<FakeEnv> written = WriteFirstUses();
  if (std::getenv("FLINT_GOLDEN_WRITE") != nullptr) {
    Store(*written, root);
    WriteFile(root / "expected.txt", OpenNamed(written.get()));
    return;
  }
  const std::string expected = ReadFile(root / "expected.txt");
  EXPECT_EQ(OpenNamed(written.get()), expected);
  const std::unique_ptr<FakeEnv> kept = LoadDirectory(root);
  int first_uses = 0;
  ReadAll(kept.get(), [&](const Record& record) {
    if (record.type == RecordType::kKeyAllow) ++first_uses;
  });
  EXPECT_GT(first_uses, 50);
  EXPECT_EQ(OpenNamed(kept.get()), expected);
  EXPECT_EQ(OpenNamed(kept.get()), expected);
}

// Otherwise the directories would prove less than they seem to.
TEST_P(Golden, HasOneOfEverything) {
  const std::unique_ptr<FakeEnv> env = LoadDirectory(GoldenRoot() / "v1" / GetParam().name);
  bool exists = false;
  SnapshotHead head;
  uint64_t bytes = 0;
  std::set<LimitKind> kinds;
  const auto note = [&](const SavedLimit& limit, const State&) {
    kinds.insert(limit.kind);
    return Status();
  };
  ASSERT_TRUE(ReadSnapshot(env.get(), kDirectory, &exists, &head, note, &bytes).ok());
  EXPECT_TRUE(exists);
  EXPECT_EQ(kinds.size(), 4u);
  LogPath path;
  ASSERT_TRUE(FindLogPath(env.get(), kDirectory, head.covered, UINT64_MAX, &path).ok());
  EXPECT_GE(path.segments.size(), 3u);
  RingImage ring;
  ASSERT_TRUE(RingImage::Read(env.get(), kDirectory, path.directory_id, &ring).ok());
  LogStream stream(&path, &ring, head.covered);
  std::set<RecordType> types;
  bool merged = false;
  Record record;
  for (bool end = false;;) {
    ASSERT_TRUE(stream.Next(&record, &end).ok());
    if (end) break;
    types.insert(record.type);
    Denials deny;
    if (record.type == RecordType::kDeny && Decode(record.payload, &deny)) {
      merged = merged || deny.count > 1;
    }
  }
  EXPECT_EQ(types.size(), 11u);
  EXPECT_EQ(stream.ring_records() > 0, GetParam().killed && !GetParam().always);
  EXPECT_TRUE(merged);
}

INSTANTIATE_TEST_SUITE_P(V1, Golden, ::testing::ValuesIn(kCases),
                         [](const ::testing::TestParamInfo<Case>& info) {
                           std::string name = info.param.name;
                           name[name.find('-')] = '_';
                           return name;
                         });

}  // namespace
}  // namespace flint
