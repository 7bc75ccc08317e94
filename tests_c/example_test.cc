// golden/v1/example is the small directory that docs/format.md walks through byte by byte; 1.0.0
// has written it. golden/v1.1/example is the same written by this version.
//
// FLINT_GOLDEN_WRITE=1 writes that one anew.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>

#include "engine_testing.h"
#include "storage/file_names.h"

namespace flint {
namespace {

namespace fs = std::filesystem;

using Files = std::map<std::string, std::string>;

constexpr int kAttempts = 5;
constexpr char kThisVersion[] = "v1.1";

fs::path Directory(const char* version) {
  return fs::path(__FILE__).parent_path() / "golden" / version / "example";
}

Files FilesOf(const FakeEnv& env) {
  Files files;
  for (const std::string& path : env.Files()) {
    if (!path.ends_with(kLockName)) files[fs::path(path).filename()] = env.Contents(path);
  }
  return files;
}

Files Write() {
  Machine machine(false);
  machine.segment_bytes = 12'000;
  machine.ring_bytes = 1 << 12;
  // The first is the keys' secret, which stands in no file.
  std::atomic<int> draws = 0;
  machine.env->SetHook([&, env = machine.env.get()](Op op, const std::string&) {
    if (op == Op::kRandom && ++draws == 2) env->SeedRandom(1);
  });
  machine.Open();
  Engine* engine = machine.engine.get();
  const LimitConfig config = Config(Algorithm::kTokenBucket, 2, 60 * kSecondNs);
  EXPECT_TRUE(Configure(engine, "alice", config).ok());
  machine.clock->AdvanceNs(kSecondNs);
  EXPECT_TRUE(Allowed(engine, "alice", 2));
  machine.clock->AdvanceNs(kSecondNs);
  EXPECT_FALSE(Allowed(engine, "alice"));
  EXPECT_TRUE(engine->Flush().ok());
  EXPECT_TRUE(engine->Compact({}).ok());
  machine.clock->AdvanceNs(30 * kSecondNs);
  EXPECT_TRUE(Allowed(engine, "alice"));
  machine.Close();
  return FilesOf(*machine.env);
}

Files Read(const char* version) {
  Files files;
  for (const auto& entry : fs::directory_iterator(Directory(version))) {
    std::ifstream file(entry.path(), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    files[entry.path().filename()] = text.str();
  }
  return files;
}

// Clock and random numbers are fixed, so the bytes are. Only a thread that is kept from running for
// a second may write a seal early, so there are several attempts.
TEST(ExampleOfToday, IsWhatThisVersionWrites) {
  if (std::getenv("FLINT_GOLDEN_WRITE") != nullptr) {
    fs::remove_all(Directory(kThisVersion));
    fs::create_directories(Directory(kThisVersion));
    for (const auto& [name, bytes] : Write()) {
      std::ofstream(Directory(kThisVersion) / name, std::ios::binary) << bytes;
    }
  }
  const Files expected = Read(kThisVersion);
  Files written;
  for (int i = 0; i < kAttempts && written != expected; ++i) written = Write();
  ASSERT_EQ(written.size(), expected.size());
  for (const auto& [name, bytes] : expected) EXPECT_TRUE(written[name] == bytes) << name;
}

class Example : public ::testing::TestWithParam<const char*> {};

TEST_P(Example, OpensAsItWas) {
  Machine machine(false);
  for (const auto& [name, bytes] : Read(GetParam()))
    machine.env->SetContents(machine.Path(name), bytes);
  machine.clock->AdvanceNs(62 * kSecondNs);
  machine.Open();
  const Engine::LimitStatus limit = StatusOf(machine.engine.get(), "alice");
  EXPECT_EQ(limit.totals.allowed, 2U);
  EXPECT_EQ(limit.totals.allowed_cost, 3U);
  EXPECT_EQ(limit.totals.denied, 1U);
  EXPECT_EQ(limit.remaining, 1U);
  machine.Close();
}

INSTANTIATE_TEST_SUITE_P(Versions, Example, ::testing::Values("v1", kThisVersion));

}  // namespace
}  // namespace flint
