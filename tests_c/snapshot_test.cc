#include "storage/snapshot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "algorithms/sliding_window_log.h"
#include "engine_testing.h"
#include "storage/file_names.h"

namespace flint {
namespace {

std::string SnapshotPath() { return std::string(kDirectory) + "/" + kSnapshotName; }

constexpr Algorithm kAlgorithms[] = {
    Algorithm::kTokenBucket,      Algorithm::kGcra,
    Algorithm::kLeakyBucket,      Algorithm::kFixedWindowCounter,
    Algorithm::kSlidingWindowLog, Algorithm::kSlidingWindowCounter,
};

SnapshotHead Head() {
  SnapshotHead head;
  head.covered = Covered{UINT64_MAX - 7, UINT64_MAX, UINT32_MAX, {}, true};
  head.covered.directory_id = {0x00, 0x01, 0xFE, 0xFF, 0x80};
  head.clock.clock = ClockPair{INT64_MAX, 0, 1'700'000'000'000'000'001};
  head.clock.boot = {0xAB, 0xCD};
  head.last_ns = INT64_MAX - 1;
  return head;
}

class SnapshotTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(env_.CreateDirectories(kDirectory).ok()); }

  // A line as it was read, with its key's bytes.
  struct Line {
    std::string key;
    SavedLimit limit;
    State state;
  };

  Status Write(const SnapshotHead& head, const std::vector<SavedLimit>& limits) {
    SnapshotWriter writer(&env_, kDirectory);
    FLINT_RETURN_IF_ERROR(writer.Create());
    FLINT_RETURN_IF_ERROR(writer.Begin(head));
    for (const SavedLimit& limit : limits) FLINT_RETURN_IF_ERROR(writer.Add(limit));
    return writer.Finish();
  }
  Status Read(SnapshotHead* head, std::vector<Line>* lines) {
    bool exists = false;
    uint64_t bytes = 0;
    const Status status = ReadSnapshot(
        &env_, kDirectory, &exists, head,
        [&](const SavedLimit& limit, State state) {
          lines->push_back({std::string(limit.key), limit, std::move(state)});
          return Status();
        },
        &bytes);
    exists_ = exists;
    EXPECT_EQ(bytes, env_.Contents(SnapshotPath()).size());
    return status;
  }
  Code ReadCode() {
    SnapshotHead head;
    std::vector<Line> lines;
    return Read(&head, &lines).code();
  }
  // Changes a part of the text and makes the digest right again.
  void Replace(const std::string& from, const std::string& to) {
    std::string text = env_.Contents(SnapshotPath());
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    const size_t field = text.rfind(",\"sha256\":");
    text = text.substr(0, field) + ",\"sha256\":\"" + ToHex(Sha256Of(text.data(), field)) + "\"}\n";
    env_.SetContents(SnapshotPath(), text);
  }

  FakeEnv env_;
  bool exists_ = false;
};

TEST_F(SnapshotTest, WithoutOneThereIsNothing) {
  SnapshotHead head;
  std::vector<Line> lines;
  EXPECT_TRUE(Read(&head, &lines).ok());
  EXPECT_FALSE(exists_);
  EXPECT_FALSE(head.covered.present);
  EXPECT_TRUE(lines.empty());
}

TEST_F(SnapshotTest, HoldsEveryNumberExactly) {
  const SnapshotHead head = Head();
  std::vector<SavedLimit> limits;
  std::vector<State> states(std::size(kAlgorithms));
  for (size_t i = 0; i < std::size(kAlgorithms); ++i) {
    SavedLimit limit;
    limit.key = "key";
    limit.kind = i % 2 == 0 ? LimitKind::kExact : LimitKind::kInline;
    limit.config = Config(kAlgorithms[i], kMaxQuantity, kMaxQuantity - 1);
    limit.totals = Totals{UINT64_MAX, 0, UINT64_MAX - 1, uint64_t{1} << 53, -1, INT64_MAX, 0};
    if (IsBucket(kAlgorithms[i])) {
      states[i].bucket = {INT64_MAX, kMaxQuantity - 1};
    } else if (kAlgorithms[i] == Algorithm::kFixedWindowCounter) {
      states[i].fixed = {(int64_t{1} << 62) - 1, kMaxQuantity};
    } else if (kAlgorithms[i] == Algorithm::kSlidingWindowCounter) {
      states[i].sliding = {(int64_t{1} << 62) - 1, kMaxQuantity, kMaxQuantity - 3};
    } else {
      states[i].log = std::make_unique<SlidingLog>();
      states[i].log->Append(5, 7);
      states[i].log->Append((int64_t{1} << 62) - 1, kMaxQuantity - 7);
    }
    limit.state = &states[i];
    limits.push_back(limit);
  }
  ASSERT_TRUE(Write(head, limits).ok());
  SnapshotHead read;
  std::vector<Line> lines;
  ASSERT_TRUE(Read(&read, &lines).ok());
  EXPECT_TRUE(exists_);
  EXPECT_EQ(read.covered.position, head.covered.position);
  EXPECT_EQ(read.covered.sequence, head.covered.sequence);
  EXPECT_EQ(read.covered.crc, head.covered.crc);
  EXPECT_EQ(read.covered.directory_id, head.covered.directory_id);
  EXPECT_EQ(read.clock.boot, head.clock.boot);
  EXPECT_EQ(read.clock.clock.engine_ns, head.clock.clock.engine_ns);
  EXPECT_EQ(read.clock.clock.boot_ns, head.clock.clock.boot_ns);
  EXPECT_EQ(read.clock.clock.wall_ns, head.clock.clock.wall_ns);
  EXPECT_EQ(read.last_ns, head.last_ns);
  ASSERT_EQ(lines.size(), limits.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].limit.kind, limits[i].kind);
    EXPECT_TRUE(lines[i].limit.config.SameAs(limits[i].config));
    EXPECT_EQ(std::memcmp(&lines[i].limit.totals, &limits[i].totals, sizeof(Totals)), 0);
    EXPECT_EQ(lines[i].state.sliding.index, states[i].sliding.index);
    EXPECT_EQ(lines[i].state.sliding.previous, states[i].sliding.previous);
    EXPECT_EQ(lines[i].state.sliding.current, states[i].sliding.current);
    ASSERT_EQ(lines[i].state.log == nullptr, states[i].log == nullptr);
    if (states[i].log == nullptr) continue;
    ASSERT_EQ(lines[i].state.log->size(), 2u);
    EXPECT_EQ(lines[i].state.log->entry(1).at_ns, (int64_t{1} << 62) - 1);
    EXPECT_EQ(lines[i].state.log->sum(), kMaxQuantity);
  }
}

TEST_F(SnapshotTest, HoldsEveryKey) {
  const std::string with_zero("a\0b", 3);
  const std::vector<std::string> keys = {"plain",
                                         "\"quoted\" \\ and { } [ ] , : \n\r\t\x01\x7F",
                                         with_zero,
                                         "\xF0\x9F\x94\xA5",
                                         "\xE2\x80\xA8",
                                         "],\"count\":0,\"sha256\":\"",
                                         std::string(65535, 'k')};
  const State state;
  std::vector<SavedLimit> limits;
  for (const std::string& key : keys) {
    SavedLimit limit;
    limit.key = key;
    limit.kind = LimitKind::kCounter;
    limit.prefix_bytes = static_cast<uint32_t>(key.size());
    limit.config = Hourly(5);
    limit.state = &state;
    limits.push_back(limit);
    limit.kind = LimitKind::kTemplate;
    limit.state = nullptr;
    limits.push_back(limit);
  }
  ASSERT_TRUE(Write(Head(), limits).ok());
  SnapshotHead head;
  std::vector<Line> lines;
  ASSERT_TRUE(Read(&head, &lines).ok());
  ASSERT_EQ(lines.size(), limits.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].key, keys[i / 2]);
    EXPECT_EQ(lines[i].limit.kind, limits[i].kind);
    EXPECT_EQ(lines[i].limit.prefix_bytes, i % 2 == 0 ? keys[i / 2].size() : 0u);
  }
  // One line per limit.
  const std::string text = env_.Contents(SnapshotPath());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), static_cast<ptrdiff_t>(limits.size() + 2));
}

// They are written, and most of them read, without the library.
TEST_F(SnapshotTest, LinesAreAsTheLibraryWritesThem) {
  State state;
  state.log = std::make_unique<SlidingLog>();
  state.log->Append(5, 3);
  state.log->Append(6, 4);
  std::vector<SavedLimit> limits;
  for (const Algorithm algorithm : kAlgorithms) {
    for (const std::string_view text : {"plain", "\"a\\/\n\x01\x7F", "\xC3\xA4", "\n", " ~"}) {
      SavedLimit limit;
      limit.key = text;
      limit.name = text;
      limit.kind = text == "plain" ? LimitKind::kCounter : LimitKind::kInline;
      limit.prefix_bytes = text == "plain" ? 3 : 0;
      limit.config = Config(algorithm, 70, kHourNs);
      limit.config.stack = text == " ~";
      limit.totals = Totals{UINT64_MAX, 1, 2, 3, -1, INT64_MAX, INT64_MIN};
      limit.state = &state;
      limits.push_back(limit);
    }
  }
  ASSERT_TRUE(Write(Head(), limits).ok());
  std::istringstream text(env_.Contents(SnapshotPath()));
  std::string line;
  size_t seen = 0;
  while (std::getline(text, line)) {
    if (!line.starts_with("{\"algorithm\"")) continue;
    if (line.back() == ',') line.pop_back();
    EXPECT_EQ(nlohmann::json::parse(line).dump(), line);
    ++seen;
  }
  EXPECT_EQ(seen, limits.size());
  SnapshotHead head;
  std::vector<Line> lines;
  ASSERT_TRUE(Read(&head, &lines).ok());
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].key, limits[i].key);
    EXPECT_TRUE(lines[i].limit.config.SameAs(limits[i].config));
    EXPECT_EQ(lines[i].limit.prefix_bytes, limits[i].prefix_bytes);
  }
}

// The same, spaced or ordered in another way, and what is not JSON although it nearly is.
TEST_F(SnapshotTest, ReadsALineThatIsWrittenInAnotherWay) {
  SavedLimit limit;
  State state;
  state.bucket = {12345, 2};
  limit.key = "key";
  limit.config = Config(Algorithm::kTokenBucket, 5, kHourNs);
  limit.state = &state;
  const std::vector<std::pair<std::string, std::string>> same = {
      {"\"rate\":5", "\"rate\": 5"},
      {"\"rate\":5", "\"rate\":5,\"_new\":[1]"},
      {"\"key\":\"key\"", "\"key\":\"\\u006bey\""},
      {"{\"algorithm\":\"token_bucket\",\"burst\":5",
       "{\"burst\":5,\"algorithm\":\"token_bucket\""},
      {"[12345,2]", "[12345, 2]"},
  };
  for (const auto& [from, to] : same) {
    ASSERT_TRUE(Write(Head(), {limit}).ok());
    Replace(from, to);
    SnapshotHead head;
    std::vector<Line> lines;
    ASSERT_TRUE(Read(&head, &lines).ok()) << to;
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_EQ(lines[0].key, "key");
    EXPECT_TRUE(lines[0].limit.config.SameAs(limit.config));
    EXPECT_EQ(lines[0].state.bucket.tat_ns, 12345);
    EXPECT_EQ(lines[0].state.bucket.fraction, 2u);
  }
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"\"rate\":5", "\"rate\":05"},      {"\"rate\":5", "\"rate\":0"},
      {"\"rate\":5", "\"rate\":"},        {"[12345,2]", "[012345,2]"},
      {"[12345,2]", "[12345]"},           {"[12345,2]", "[12345,2"},
      {"\"key\":\"key\"", "\"key\":key"}, {"\"key\":\"key\"", "\"key\":\"k\ty\""},
  };
  for (const auto& [from, to] : wrong) {
    ASSERT_TRUE(Write(Head(), {limit}).ok());
    Replace(from, to);
    EXPECT_EQ(ReadCode(), Code::kCorruption) << to;
  }
}

TEST_F(SnapshotTest, ABitInAnyByteIsFound) {
  SavedLimit limit;
  const State state;
  limit.key = "key";
  limit.config = Hourly(5);
  limit.state = &state;
  ASSERT_TRUE(Write(Head(), {limit}).ok());
  const std::string text = env_.Contents(SnapshotPath());
  const size_t digest_end = text.size() - 3;  // what follows holds no information
  for (size_t i = 0; i < digest_end; ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
    env_.SetContents(SnapshotPath(), damaged);
    ASSERT_EQ(ReadCode(), Code::kCorruption) << i;
  }
  for (size_t size = 0; size < digest_end; ++size) {
    env_.SetContents(SnapshotPath(), text.substr(0, size));
    ASSERT_EQ(ReadCode(), Code::kCorruption) << size;
  }
  env_.SetContents(SnapshotPath(), text);
  EXPECT_EQ(ReadCode(), Code::kOk);
}

// The digest is right, but what it says makes no sense.
TEST_F(SnapshotTest, NonsenseIsFound) {
  SavedLimit limit;
  State state;
  state.log = std::make_unique<SlidingLog>();
  state.log->Append(5, 3);
  limit.key = "key";
  limit.config = Config(Algorithm::kSlidingWindowLog, 5, kHourNs);
  limit.state = &state;
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"\"rate\":5", "\"rate\":0"},
      {"\"rate\":5", "\"rate\":-5"},
      {"\"rate\":5", "\"rate\":\"5\""},
      {"\"burst\":5", "\"burst\":6"},
      {"\"key\":", "\"_key\":"},
      {"\"state\":[[5,3]]", "\"state\":[[5]]"},
      {"\"state\":[[5,3]]", "\"state\":7"},
      {"\"directory_id\":\"00", "\"directory_id\":\"zz"},
      {"\"position\"", "\"_position\""},
  };
  for (const auto& [from, to] : changes) {
    ASSERT_TRUE(Write(Head(), {limit}).ok());
    Replace(from, to);
    EXPECT_EQ(ReadCode(), Code::kCorruption) << to;
  }
  const std::vector<std::pair<std::string, std::string>> newer = {
      {"\"format\":1", "\"format\":2"},        {"\"kind\":\"exact\"", "\"kind\":\"other\""},
      {"\"sliding_window_log\"", "\"other\""}, {"\"key\":", "\"yek\":"},
      {"\"position\"", "\"noitisop\""},        {"\"count\":1", "\"count\":2"},
  };
  for (const auto& [from, to] : newer) {
    ASSERT_TRUE(Write(Head(), {limit}).ok());
    Replace(from, to);
    EXPECT_EQ(ReadCode(), Code::kUnsupported) << to;
  }
}

// A crash in the middle of writing leaves the old one.
TEST_F(SnapshotTest, ReplacesTheOldOneInOneStep) {
  SnapshotHead head = Head();
  head.covered.sequence = 1;
  ASSERT_TRUE(Write(head, {}).ok());
  head.covered.sequence = 2;
  std::vector<uint64_t> seen;
  env_.SetHook([&](Op, const std::string&) {
    for (const Loss loss : {Loss::kDropAll, Loss::kKeepAll}) {
      const std::unique_ptr<FakeEnv> image = env_.PowerLoss(loss);
      SnapshotHead read;
      bool exists = false;
      uint64_t bytes = 0;
      const auto ignore = [](const SavedLimit&, const State&) { return Status(); };
      ASSERT_TRUE(ReadSnapshot(image.get(), kDirectory, &exists, &read, ignore, &bytes).ok());
      ASSERT_TRUE(exists);
      seen.push_back(read.covered.sequence);
    }
  });
  ASSERT_TRUE(Write(head, {}).ok());
  env_.SetHook(nullptr);
  EXPECT_EQ(seen.front(), 1u);
  EXPECT_EQ(seen.back(), 2u);  // renamed, if everything is kept
  std::unique_ptr<FakeEnv> after = env_.PowerLoss(Loss::kDropAll);
  EXPECT_EQ(after->Contents(SnapshotPath()), env_.Contents(SnapshotPath()));
  // What a crash left of an earlier attempt is in nobody's way.
  env_.SetContents(std::string(kDirectory) + "/" + kSnapshotTemporaryName, "{\"for");
  ASSERT_TRUE(Write(head, {}).ok());
  EXPECT_EQ(ReadCode(), Code::kOk);
}

TEST_F(SnapshotTest, OfAThousandLimitsIsReadBackByTheLimiter) {
  Machine machine(false);
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "t:", Hourly(9), LimitKind::kTemplate).ok());
  for (int i = 0; i < 1000; ++i) {
    const std::string number = std::to_string(i);
    ASSERT_TRUE(Configure(machine.engine.get(), "k" + number,
                          Config(kAlgorithms[i % 6], 1 + static_cast<uint64_t>(i), kHourNs))
                    .ok());
    EXPECT_TRUE(Allowed(machine.engine.get(), "k" + number));
    EXPECT_TRUE(Allowed(machine.engine.get(), "t:" + number));
  }
  const std::string before = DescribeAll(machine.engine.get(), true);
  ASSERT_TRUE(machine.engine->Compact({}).ok());
  machine.Close();
  machine.Open();
  EXPECT_EQ(InfoOf(machine.engine.get()).snapshot_limits, 2001u);
  EXPECT_EQ(DescribeAll(machine.engine.get(), true), before);
}

}  // namespace
}  // namespace flint
