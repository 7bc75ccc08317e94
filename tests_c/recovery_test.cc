// Every way in which the files of a data directory can be damaged, and what opening it must then
// do: fail with the place, or cut a tail that nothing proves to have been on disk. It must never
// open with sealed data missing.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/coding.h"
#include "base/crc32c.h"
#include "engine_testing.h"
#include "storage/file_names.h"
#include "storage/record.h"
#include "storage/segment.h"

namespace flint {
namespace {

// ---- Looking at files --------------------------------------------------------------------------

struct Found {
  uint64_t offset = 0;
  uint32_t length = 0;
  uint64_t sequence = 0;
  RecordType type{};
  uint8_t flags = 0;
};

std::vector<Found> RecordsOf(const std::string& contents) {
  SegmentHeader header;
  EXPECT_TRUE(DecodeSegmentHeader(contents, "segment", &header).ok());
  std::vector<Found> records;
  uint32_t crc = ChainStart(header.generation);
  uint64_t offset = kSegmentHeaderBytes;
  Record record;
  while (offset + kRecordHeaderBytes <= contents.size() &&
         ParseRecord(std::string_view(contents).substr(offset), crc, header.generation,
                     Decode64(contents.data() + offset + 8), 0, &record)) {
    records.push_back({offset, record.length, record.sequence, record.type, record.flags});
    offset += record.length;
    crc = record.crc;
  }
  return records;
}

std::vector<std::string> SegmentNames(const FakeEnv& env) {
  const std::string prefix = std::string(kDirectory) + "/" + kLogName;
  std::vector<std::string> paths;
  for (const std::string& path : env.Files()) {
    if (path.starts_with(prefix)) paths.push_back(path);
  }
  // flint.aof sorts first but is the newest.
  std::rotate(paths.begin(), paths.begin() + 1, paths.end());
  return paths;
}

std::string LogPath() { return std::string(kDirectory) + "/" + kLogName; }
std::string RingPath() { return std::string(kDirectory) + "/" + kRingName; }
std::string SnapshotPath() { return std::string(kDirectory) + "/" + kSnapshotName; }

// ---- A directory with everything in it ---------------------------------------------------------

void Use(Machine* machine, int rounds) {
  Engine* engine = machine->engine.get();
  ASSERT_TRUE(Configure(engine, "exact", Hourly(1000)).ok());
  ASSERT_TRUE(Configure(engine, "small", Hourly(1)).ok());
  ASSERT_TRUE(Configure(engine, "ip:", Hourly(5), LimitKind::kTemplate).ok());
  for (int round = 0; round < rounds; ++round) {
    const std::string address = "ip:" + std::to_string(round);
    Allowed(engine, "exact");
    Allowed(engine, address, 2);
    for (int i = 0; i < 20; ++i) Allowed(engine, "small");
    std::vector<Engine::Decision> decisions(2);
    size_t denied = 0;
    ASSERT_TRUE(engine->CheckAll({{"exact", 1}, {address, 1}}, {}, decisions.data(), &denied).ok());
    Engine::Decision decision;
    const LimitConfig config = Hourly(3);
    ASSERT_TRUE(engine->Check({"inline", 1}, {}, &config, &decision).ok());
    uint64_t ticket = 0;
    const std::string passing = "passing:" + std::to_string(round);
    ASSERT_TRUE(Configure(engine, passing, Hourly(7)).ok());
    if (round % 2 == 0) {
      ASSERT_TRUE(engine->Remove(LimitKind::kExact, passing, {}, &ticket).ok());
    }
    if (round % 3 == 0) {
      ASSERT_TRUE(engine->Reset(LimitKind::kExact, "inline", {}, &ticket).ok());
    }
    machine->clock->AdvanceNs(kSecondNs);
    if (round % 4 == 0) machine->clock->SetWallNs(machine->clock->WallNs() + 5 * kSecondNs);
  }
}

class Damage : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_.segment_bytes = segment_bytes_;
    machine_.Open();
    Use(&machine_, 60);
  }

  void CloseCleanly() {
    state_ = DescribeAll(machine_.engine.get(), true);
    machine_.Close();
    segments_ = SegmentNames(*machine_.env);
    ASSERT_GE(segments_.size(), 3u);
  }

  uint64_t segment_bytes_ = 10'000;

  struct Outcome {
    Status status;
    std::string state;
    Engine::Info info;
    std::unique_ptr<FakeEnv> env;
  };

  // Opens a copy that `change` has been at.
  template <typename Change>
  Outcome OpenCopy(int reboots, const Change& change) {
    Outcome outcome;
    outcome.env = machine_.env->ProcessDeath();
    change(outcome.env.get());
    FakeClock clock;
    clock.SetBootNs(machine_.clock->BootNs());
    clock.SetWallNs(machine_.clock->WallNs());
    for (int i = 0; i < reboots; ++i) clock.Reboot();
    Engine::Options options = OptionsFor(outcome.env.get(), &clock, true);
    options.log.segment_bytes = machine_.segment_bytes;
    std::unique_ptr<Engine> engine;
    outcome.status = Engine::Open(kDirectory, std::move(options), &engine);
    if (!outcome.status.ok()) return outcome;
    outcome.state = DescribeAll(engine.get(), true);
    outcome.info = InfoOf(engine.get());
    return outcome;
  }

  static void Change(FakeEnv* env, const std::string& path, uint64_t offset, std::string_view to) {
    std::string contents = env->Contents(path);
    contents.replace(offset, to.size(), to);
    env->SetContents(path, contents);
  }
  static void Flip(FakeEnv* env, const std::string& path, uint64_t offset, int bit) {
    std::string contents = env->Contents(path);
    contents[offset] = static_cast<char>(contents[offset] ^ (1 << bit));
    env->SetContents(path, contents);
  }
  static void Delete(FakeEnv* env, const std::string& path) {
    ASSERT_TRUE(env->Remove(path).ok()) << path;
    ASSERT_TRUE(env->SyncDirectory(kDirectory).ok());
  }

  static void ExpectDamageAt(const Outcome& outcome, const std::string& path, const Found& record) {
    ASSERT_EQ(outcome.status.code(), Code::kCorruption) << path << " offset " << record.offset;
    const Status::Detail& detail = *outcome.status.detail();
    EXPECT_EQ(std::string(kDirectory) + "/" + detail.segment, path) << detail.message;
    EXPECT_EQ(detail.offset, record.offset) << detail.message;
    EXPECT_EQ(detail.sequence, record.sequence) << detail.message;
  }

  Machine machine_;
  std::string state_;
  std::vector<std::string> segments_;
};

bool IsCleanClose(const Found& record) {
  return record.type == RecordType::kSeal && (record.flags & kFlagCleanClose) != 0;
}

// ---- Bits --------------------------------------------------------------------------------------

TEST_F(Damage, OpensAsItWasWithoutAny) {
  CloseCleanly();
  for (const int reboots : {0, 1}) {
    const Outcome outcome = OpenCopy(reboots, [](FakeEnv*) {});
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
    EXPECT_EQ(outcome.state, state_);
    EXPECT_EQ(outcome.info.torn_bytes, 0u);
    EXPECT_EQ(outcome.info.recovered_ring_records, 0u);
  }
}

TEST_F(Damage, ABitInAnyRecordIsFound) {
  CloseCleanly();
  std::vector<bool> seen(16);
  uint64_t number = 0;
  for (const std::string& path : segments_) {
    for (const Found& record : RecordsOf(machine_.env->Contents(path))) {
      ++number;
      const uint64_t at = record.offset + (number * 7919) % record.length;
      const Outcome outcome = OpenCopy(1, [&](FakeEnv* env) {
        Delete(env, RingPath());
        Flip(env, path, at, static_cast<int>(number % 8));
      });
      seen[static_cast<size_t>(record.type)] = true;
      if (IsCleanClose(record)) {
        // Only itself is lost, and nothing behind it proves that.
        ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
        EXPECT_EQ(outcome.state, state_);
        EXPECT_EQ(outcome.info.torn_bytes, record.length);
      } else if (record.type == RecordType::kStart) {
        EXPECT_EQ(outcome.status.code(), Code::kCorruption) << path;
      } else {
        ExpectDamageAt(outcome, path, record);
      }
    }
  }
  for (size_t type = 1; type <= 11; ++type) EXPECT_TRUE(seen[type]) << type;
}

TEST_F(Damage, ABitInAnyByteOfARecordIsFound) {
  CloseCleanly();
  std::vector<bool> done(16);
  for (const std::string& path : segments_) {
    for (const Found& record : RecordsOf(machine_.env->Contents(path))) {
      if (IsCleanClose(record) || record.type == RecordType::kStart) continue;
      if (done[static_cast<size_t>(record.type)]) continue;
      done[static_cast<size_t>(record.type)] = true;
      for (uint32_t i = 0; i < record.length; ++i) {
        const Outcome outcome = OpenCopy(0, [&](FakeEnv* env) {
          Delete(env, RingPath());
          Flip(env, path, record.offset + i, static_cast<int>(i % 8));
        });
        ExpectDamageAt(outcome, path, record);
      }
    }
  }
}

// What is damaged in the newest segment may still be in the ring.
TEST_F(Damage, TheRingMendsTheNewestSegment) {
  CloseCleanly();
  uint64_t mended = 0;
  for (const Found& record : RecordsOf(machine_.env->Contents(LogPath()))) {
    const Outcome outcome =
        OpenCopy(0, [&](FakeEnv* env) { Flip(env, LogPath(), record.offset + 9, 3); });
    if (!outcome.status.ok()) {
      EXPECT_EQ(outcome.status.code(), Code::kCorruption);
      continue;
    }
    ++mended;
    EXPECT_EQ(outcome.state, state_);
  }
  EXPECT_GT(mended, 0u);
}

TEST_F(Damage, ABitInAnyFieldOfAHeaderIsFound) {
  CloseCleanly();
  for (const std::string& path : segments_) {
    for (uint64_t offset = 0; offset < 116; offset += 3) {
      const Outcome outcome = OpenCopy(1, [&](FakeEnv* env) { Flip(env, path, offset, 5); });
      EXPECT_EQ(outcome.status.code(), Code::kCorruption) << path << " offset " << offset;
    }
  }
}

// The header's CRC is right, but this version does not know what it says.
TEST_F(Damage, ANewerFormatIsRefused) {
  CloseCleanly();
  for (const uint64_t offset : {uint64_t{32}, uint64_t{48}, uint64_t{56}}) {
    const Outcome outcome = OpenCopy(1, [&](FakeEnv* env) {
      std::string contents = env->Contents(LogPath());
      contents[offset] = 2;
      Encode32(contents.data() + 112, ExtendCrc32c(0, contents.data(), 112));
      env->SetContents(LogPath(), contents);
    });
    EXPECT_EQ(outcome.status.code(), Code::kUnsupported) << offset;
  }
  const Outcome ignored = OpenCopy(1, [&](FakeEnv* env) {
    std::string contents = env->Contents(LogPath());
    contents[40] = 2;  // a compatible feature
    Encode32(contents.data() + 112, ExtendCrc32c(0, contents.data(), 112));
    env->SetContents(LogPath(), contents);
  });
  EXPECT_TRUE(ignored.status.ok()) << ignored.status.message();
}

// ---- Cuts --------------------------------------------------------------------------------------

TEST_F(Damage, AnOlderSegmentThatIsCutIsFound) {
  CloseCleanly();
  const std::string& path = segments_[1];
  for (const Found& record : RecordsOf(machine_.env->Contents(path))) {
    for (const uint64_t size : {record.offset, record.offset + record.length / 2}) {
      const Outcome outcome = OpenCopy(
          1, [&](FakeEnv* env) { env->SetContents(path, env->Contents(path).substr(0, size)); });
      ASSERT_EQ(outcome.status.code(), Code::kCorruption) << size;
    }
  }
}

TEST_F(Damage, TheNewestSegmentThatIsCutLosesNothingSilently) {
  CloseCleanly();
  uint64_t mended = 0;
  for (const Found& record : RecordsOf(machine_.env->Contents(LogPath()))) {
    for (const uint64_t size : {record.offset, record.offset + record.length / 2}) {
      const auto cut = [&](FakeEnv* env) {
        env->SetContents(LogPath(), env->Contents(LogPath()).substr(0, size));
      };
      for (const int reboots : {0, 1}) {
        const Outcome outcome = OpenCopy(reboots, cut);
        if (outcome.status.ok()) {
          ++mended;
          EXPECT_EQ(outcome.state, state_) << size;
        } else {
          EXPECT_EQ(outcome.status.code(), Code::kCorruption) << outcome.status.message();
        }
      }
      const Outcome without_ring = OpenCopy(0, [&](FakeEnv* env) {
        Delete(env, RingPath());
        cut(env);
      });
      EXPECT_EQ(without_ring.status.code(), Code::kCorruption) << size;
    }
  }
  EXPECT_GT(mended, 0u);
}

// ---- Records in other places -------------------------------------------------------------------

TEST_F(Damage, RecordsThatAreElsewhereAreFound) {
  CloseCleanly();
  const std::string& path = segments_[1];
  const std::string contents = machine_.env->Contents(path);
  const std::vector<Found> records = RecordsOf(contents);
  const auto open_with = [&](const std::string& changed) {
    return OpenCopy(1, [&](FakeEnv* env) {
      Delete(env, RingPath());
      env->SetContents(path, changed);
    });
  };
  for (size_t i = 3; i + 2 < records.size(); i += 5) {
    const Found& first = records[i];
    const Found& second = records[i + 1];
    const std::string one = contents.substr(first.offset, first.length);
    const std::string two = contents.substr(second.offset, second.length);
    std::string swapped = contents;
    swapped.replace(first.offset, one.size() + two.size(), two + one);
    ExpectDamageAt(open_with(swapped), path, first);
    std::string deleted = contents;
    deleted.erase(first.offset, first.length);
    ExpectDamageAt(open_with(deleted), path, first);
    std::string twice = contents;
    twice.insert(second.offset, one);
    EXPECT_EQ(open_with(twice).status.code(), Code::kCorruption);
    std::string from_elsewhere = contents;
    from_elsewhere.replace(first.offset, first.length,
                           records[2].length == first.length
                               ? contents.substr(records[2].offset, first.length)
                               : std::string(first.length, '\0'));
    ExpectDamageAt(open_with(from_elsewhere), path, first);
  }
}

// What a segment says of itself was true of another.
TEST_F(Damage, AnotherSegmentUnderTheNameIsFound) {
  CloseCleanly();
  const Outcome twice = OpenCopy(
      1, [&](FakeEnv* env) { env->SetContents(segments_[1], env->Contents(segments_[0])); });
  EXPECT_EQ(twice.status.code(), Code::kCorruption);
  // Names do not matter.
  const Outcome exchanged = OpenCopy(1, [&](FakeEnv* env) {
    const std::string first = env->Contents(segments_[0]);
    env->SetContents(segments_[0], env->Contents(segments_[1]));
    env->SetContents(segments_[1], first);
  });
  ASSERT_TRUE(exchanged.status.ok()) << exchanged.status.message();
  EXPECT_EQ(exchanged.state, state_);
}

// ---- Files that are missing or another directory's ---------------------------------------------

TEST_F(Damage, AMissingSegmentIsFound) {
  CloseCleanly();
  for (const std::string& path : segments_) {
    for (const int reboots : {0, 1}) {
      const Outcome outcome = OpenCopy(reboots, [&](FakeEnv* env) { Delete(env, path); });
      EXPECT_EQ(outcome.status.code(), Code::kCorruption) << path;
    }
  }
}

TEST_F(Damage, AMissingRingMattersOnlyToALogThatWasNotClosed) {
  const std::unique_ptr<FakeEnv> killed = machine_.env->ProcessDeath();
  CloseCleanly();
  for (const int reboots : {0, 1}) {
    const Outcome closed = OpenCopy(reboots, [](FakeEnv* env) { Delete(env, RingPath()); });
    ASSERT_TRUE(closed.status.ok()) << closed.status.message();
    EXPECT_EQ(closed.state, state_);
  }
  machine_.env = killed->ProcessDeath();
  EXPECT_EQ(OpenCopy(0, [](FakeEnv* env) { Delete(env, RingPath()); }).status.code(),
            Code::kCorruption);
  EXPECT_EQ(OpenCopy(0, [](FakeEnv* env) { Flip(env, RingPath(), 20, 1); }).status.code(),
            Code::kCorruption);
  EXPECT_TRUE(OpenCopy(1, [](FakeEnv* env) { Delete(env, RingPath()); }).status.ok());
}

// Kept history tells all that the snapshot does.
TEST_F(Damage, AMissingSnapshotIsMadeUpForByTheWholeHistory) {
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  Use(&machine_, 60);
  CloseCleanly();
  const Outcome outcome = OpenCopy(1, [](FakeEnv* env) { Delete(env, SnapshotPath()); });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
  EXPECT_EQ(outcome.state, state_);
}

TEST_F(Damage, AMissingSnapshotIsFound) {
  machine_.Close();
  machine_.history_max_bytes = 0;
  machine_.Open();
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  Use(&machine_, 60);
  CloseCleanly();
  EXPECT_TRUE(OpenCopy(1, [](FakeEnv*) {}).status.ok());
  for (const int reboots : {0, 1}) {
    const Outcome outcome = OpenCopy(reboots, [](FakeEnv* env) { Delete(env, SnapshotPath()); });
    EXPECT_EQ(outcome.status.code(), Code::kCorruption);
  }
  for (const std::string& path : segments_) {
    const Outcome outcome = OpenCopy(1, [&](FakeEnv* env) { Delete(env, path); });
    EXPECT_EQ(outcome.status.code(), Code::kCorruption) << path;
  }
}

// Without its only segment the directory is not new: what it held must not be forgotten.
TEST(Missing, TheOnlySegment) {
  Machine machine;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(3)).ok());
  EXPECT_TRUE(Allowed(machine.engine.get(), "key"));
  machine.Close();
  ASSERT_TRUE(machine.env->Remove(LogPath()).ok());
  EXPECT_EQ(machine.TryOpen().code(), Code::kCorruption);
}

TEST_F(Damage, FilesOfAnotherDirectoryAreRefused) {
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  Use(&machine_, 60);
  CloseCleanly();
  Machine other;
  other.env = std::make_unique<FakeEnv>(77);
  other.segment_bytes = machine_.segment_bytes;
  other.Open();
  Use(&other, 60);
  ASSERT_TRUE(other.engine->Compact({}).ok());
  Use(&other, 60);
  other.Close();
  const std::vector<std::string> foreign = SegmentNames(*other.env);
  ASSERT_GE(foreign.size(), 2u);
  const auto open_with = [&](const std::string& path, const std::string& from) {
    return OpenCopy(1, [&](FakeEnv* env) { env->SetContents(path, other.env->Contents(from)); });
  };
  EXPECT_EQ(open_with(LogPath(), LogPath()).status.code(), Code::kCorruption);
  EXPECT_EQ(open_with(segments_[0], foreign[0]).status.code(), Code::kCorruption);
  EXPECT_EQ(open_with(LogPath() + ".00000000000000999999", foreign[0]).status.code(),
            Code::kCorruption);
  EXPECT_EQ(open_with(SnapshotPath(), SnapshotPath()).status.code(), Code::kCorruption);
  // A ring of another directory counts as missing.
  EXPECT_EQ(open_with(RingPath(), RingPath()).state, state_);
}

// ---- Torn tails --------------------------------------------------------------------------------

// A log whose last events no seal covers yet: an admission, and behind it the seal of what was
// synced before.
class Tail : public Damage {
 protected:
  void SetUp() override {
    segment_bytes_ = uint64_t{1} << 20;
    Damage::SetUp();
    EXPECT_TRUE(Allowed(machine_.engine.get(), "exact"));  // whose seal goes with the next one
    before_ = DescribeAll(machine_.engine.get(), false);
    EXPECT_TRUE(Allowed(machine_.engine.get(), "exact"));
    after_ = DescribeAll(machine_.engine.get(), false);
    std::unique_ptr<FakeEnv> killed = machine_.env->ProcessDeath();
    machine_.engine.reset();
    machine_.env = std::move(killed);
    const std::vector<Found> records = RecordsOf(machine_.env->Contents(LogPath()));
    ASSERT_EQ(records.back().type, RecordType::kSeal);
    last_ = records[records.size() - 2];
    ASSERT_EQ(last_.type, RecordType::kAllow);
    end_ = records.back().offset + records.back().length;
    ASSERT_TRUE(DecodeSegmentHeader(machine_.env->Contents(LogPath()), kLogName, &header_).ok());
  }

  static std::string WithoutDenials(const std::string& state) {
    std::string lines;
    for (size_t at = 0; at < state.size(); at = state.find('\n', at) + 1) {
      if (state[at] != ' ') lines += state.substr(at, state.find('\n', at) + 1 - at);
    }
    return lines;
  }
  // Oldest first.
  static std::vector<std::string> TornFiles(const FakeEnv& env) {
    std::vector<std::string> torn;
    for (const std::string& path : env.Files()) {
      if (path.find("/flint.torn.") != std::string::npos) torn.push_back(path);
    }
    return torn;
  }
  static void ClearRing(FakeEnv* env) {
    const size_t bytes = env->Contents(RingPath()).size() - kRingHeaderBytes;
    Change(env, RingPath(), kRingHeaderBytes, std::string(bytes, '\0'));
  }

  std::string before_;
  std::string after_;
  SegmentHeader header_;
  Found last_;
  uint64_t end_ = 0;
};

TEST_F(Tail, IsCutAndKeptAsideAfterAPowerLoss) {
  for (uint32_t i = 0; i < last_.length; ++i) {
    const Outcome outcome = OpenCopy(1, [&](FakeEnv* env) {
      Delete(env, RingPath());
      Flip(env, LogPath(), last_.offset + i, 2);
    });
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
    EXPECT_EQ(WithoutDenials(outcome.state), before_);
    EXPECT_EQ(outcome.info.torn_bytes, end_ - last_.offset);
    const std::vector<std::string> torn = TornFiles(*outcome.env);
    ASSERT_EQ(torn.size(), 1u);
    const std::string kept = outcome.env->Contents(torn[0]);
    EXPECT_EQ(kept.size(), end_ - last_.offset);
    EXPECT_EQ(kept.substr(last_.length),
              machine_.env->Contents(LogPath()).substr(last_.offset + last_.length,
                                                       kept.size() - last_.length));
  }
}

// Ten power losses tear the same segment.
TEST_F(Tail, IsKeptAsideOfTheLastEightPowerLosses) {
  std::vector<std::string> sizes;
  for (int loss = 1; loss <= 10; ++loss) {
    Outcome outcome = OpenCopy(loss, [&](FakeEnv* env) {
      Delete(env, RingPath());
      const std::vector<Found> records = RecordsOf(env->Contents(LogPath()));
      const std::string bytes(static_cast<size_t>(8 * loss), 'x');
      Change(env, LogPath(), records.back().offset + records.back().length, bytes);
      sizes.push_back(bytes);
    });
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
    EXPECT_EQ(outcome.info.torn_bytes, static_cast<uint64_t>(8 * loss));
    machine_.env = std::move(outcome.env);
  }
  const std::vector<std::string> torn = TornFiles(*machine_.env);
  ASSERT_EQ(torn.size(), 8u);
  for (size_t i = 0; i < torn.size(); ++i) {
    EXPECT_EQ(machine_.env->Contents(torn[i]), sizes[i + 2]) << torn[i];
  }
}

TEST_F(Tail, IsDamageWhenNoPowerWasLost) {
  const Outcome without_ring = OpenCopy(0, [&](FakeEnv* env) {
    ClearRing(env);
    Flip(env, LogPath(), last_.offset + 30, 2);
  });
  ExpectDamageAt(without_ring, LogPath(), last_);
  const Outcome with_ring =
      OpenCopy(0, [&](FakeEnv* env) { Flip(env, LogPath(), last_.offset + 30, 2); });
  ASSERT_TRUE(with_ring.status.ok()) << with_ring.status.message();
  EXPECT_EQ(WithoutDenials(with_ring.state), after_);
  EXPECT_EQ(with_ring.info.recovered_ring_records, 1u);
}

// The same bytes, but a seal farther on proves that they had been on disk.
TEST_F(Tail, IsDamageWhenASealIsBehindIt) {
  const std::string contents = machine_.env->Contents(LogPath());
  StartPayload start;
  ASSERT_TRUE(
      Decode(std::string_view(contents).substr(kSegmentHeaderBytes + kRecordHeaderBytes), &start));
  const auto seal_to = [&](uint64_t offset) {
    SealPayload payload;
    payload.generation = header_.generation;
    payload.end = start.position + offset - kSegmentHeaderBytes;
    payload.begin = payload.end - last_.length;
    std::string seal(kSealBytes, '\0');
    BuildRecord(seal.data(), 1, header_.generation, 99, RecordType::kSeal, 0, 0, Encode(payload));
    return seal;
  };
  const auto damage = [&](FakeEnv* env) {
    ClearRing(env);
    Flip(env, LogPath(), last_.offset + 30, 2);
  };
  const std::string seal = seal_to(last_.offset + last_.length);
  const Outcome in_segment = OpenCopy(1, [&](FakeEnv* env) {
    damage(env);
    Change(env, LogPath(), end_ + 512, seal);
  });
  ExpectDamageAt(in_segment, LogPath(), last_);
  const Outcome in_ring = OpenCopy(1, [&](FakeEnv* env) {
    damage(env);
    Change(env, RingPath(), env->Contents(RingPath()).size() - 40, seal.substr(0, 40));
    Change(env, RingPath(), kRingHeaderBytes, seal.substr(40));
  });
  ExpectDamageAt(in_ring, LogPath(), last_);
  const Outcome proves_nothing = OpenCopy(1, [&](FakeEnv* env) {
    damage(env);
    Change(env, LogPath(), end_ + 512, seal_to(last_.offset));
  });
  ASSERT_TRUE(proves_nothing.status.ok()) << proves_nothing.status.message();
  EXPECT_EQ(WithoutDenials(proves_nothing.state), before_);
}

// Bytes of the segment that was superseded do not continue the one that took over.
TEST_F(Tail, OfAnOlderGenerationIsNotRead) {
  const std::string old = machine_.env->Contents(LogPath());
  std::unique_ptr<FakeEnv> reopened;
  {
    Outcome outcome = OpenCopy(1, [](FakeEnv*) {});
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
    reopened = std::move(outcome.env);
  }
  machine_.env = std::move(reopened);
  const std::vector<Found> now = RecordsOf(machine_.env->Contents(LogPath()));
  const uint64_t end = now.back().offset + now.back().length;
  const Outcome outcome = OpenCopy(2, [&](FakeEnv* env) {
    Delete(env, RingPath());
    std::string contents = env->Contents(LogPath());
    contents.resize(std::max<size_t>(contents.size(), end + last_.length));
    env->SetContents(LogPath(), contents);
    Change(env, LogPath(), end, std::string_view(old).substr(last_.offset, last_.length));
  });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
  EXPECT_EQ(WithoutDenials(outcome.state), after_);
  EXPECT_EQ(outcome.info.torn_bytes, last_.length);
}

// ---- Names -------------------------------------------------------------------------------------

TEST_F(Damage, ADirectoryInTheWayOfTheRingIsMetBeforeAnythingIsWritten) {
  CloseCleanly();
  std::map<std::string, std::string> before;
  const Outcome outcome = OpenCopy(0, [&](FakeEnv* env) {
    ASSERT_TRUE(env->CreateDirectories(RingPath() + ".tmp").ok());
    for (const std::string& path : env->Files()) before[path] = env->Contents(path);
  });
  EXPECT_EQ(outcome.status.code(), Code::kIo);
  EXPECT_NE(outcome.status.message().find("flint.ring.tmp is not a regular file"),
            std::string::npos)
      << outcome.status.message();
  for (const auto& [path, contents] : before) {
    EXPECT_EQ(outcome.env->Contents(path), contents) << path;
  }
  EXPECT_EQ(outcome.env->Files().size(), before.size());
}

// Where the last segment had no room, opening has begun one.
void ExpectRightNames(const FakeEnv& env) {
  std::set<uint64_t> first_sequences;
  for (const std::string& path : SegmentNames(env)) {
    const std::string contents = env.Contents(path);
    const uint64_t first_sequence = Decode64(contents.data() + kSegmentHeaderBytes + 8);
    EXPECT_TRUE(first_sequences.insert(first_sequence).second) << path;
    if (path == LogPath()) continue;
    EXPECT_EQ(path, std::string(kDirectory) + "/" + RotatedSegmentName(first_sequence));
  }
}

// An older segment in the place of the newest opened with what had been admitted since forgotten.
TEST_F(Damage, AnOlderSegmentInThePlaceOfTheNewestIsFound) {
  CloseCleanly();
  for (const int reboots : {0, 1}) {
    for (const bool with_ring : {true, false}) {
      for (size_t i = 0; i + 1 < segments_.size(); ++i) {
        const Outcome outcome = OpenCopy(reboots, [&](FakeEnv* env) {
          env->SetContents(LogPath(), env->Contents(segments_[i]));
          if (!with_ring) Delete(env, RingPath());
        });
        EXPECT_EQ(outcome.status.code(), Code::kCorruption) << segments_[i];
      }
    }
  }
}

// The same of a log that was closed and opened again in between.
TEST(Names, AnOlderSegmentInThePlaceOfTheNewestIsFoundAfterRestarts) {
  Machine machine;
  machine.segment_bytes = 10'000;
  for (int run = 0; run < 12; ++run) {
    machine.Open();
    ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(1000)).ok());
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(Allowed(machine.engine.get(), "key"));
    machine.Close();
  }
  const std::vector<std::string> segments = SegmentNames(*machine.env);
  ASSERT_GE(segments.size(), 3u);
  machine.env->SetContents(LogPath(), machine.env->Contents(segments[segments.size() - 2]));
  EXPECT_EQ(machine.TryOpen().code(), Code::kCorruption);
}

TEST_F(Damage, NamesThatAreExchangedArePutRight) {
  CloseCleanly();
  for (size_t i = 0; i < segments_.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      Outcome outcome = OpenCopy(1, [&](FakeEnv* env) {
        const std::string first = env->Contents(segments_[i]);
        env->SetContents(segments_[i], env->Contents(segments_[j]));
        env->SetContents(segments_[j], first);
      });
      ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
      EXPECT_EQ(outcome.state, state_);
      ExpectRightNames(*outcome.env);
      for (const std::string& path : segments_) {
        if (path == LogPath()) continue;
        EXPECT_EQ(outcome.env->Contents(path), machine_.env->Contents(path)) << path;
      }
    }
  }
}

TEST_F(Damage, ACopyUnderAnotherNameIsDropped) {
  CloseCleanly();
  const std::string other = LogPath() + ".00000000000000999999";
  for (const std::string& path : segments_) {
    const Outcome outcome =
        OpenCopy(1, [&](FakeEnv* env) { env->SetContents(other, env->Contents(path)); });
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
    EXPECT_EQ(outcome.state, state_);
    ExpectRightNames(*outcome.env);
  }
}

// It tells less than flint.aof does, so it is not what is read.
TEST_F(Damage, AnOlderCopyOfTheNewestIsNotTakenForIt) {
  CloseCleanly();
  const std::string newest = machine_.env->Contents(LogPath());
  const std::vector<Found> records = RecordsOf(newest);
  const Outcome outcome = OpenCopy(1, [&](FakeEnv* env) {
    env->SetContents(LogPath() + ".00000000000000999999",
                     newest.substr(0, records[records.size() / 2].offset));
  });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
  EXPECT_EQ(outcome.state, state_);
  ExpectRightNames(*outcome.env);
}

// A file system without hard links: rotation and the repair of names rename instead.
TEST(Names, NeedNoHardLinks) {
  Machine machine;
  machine.segment_bytes = 10'000;
  machine.env->InjectFault({.forever = true, .error = EPERM, .matches = OnlyOps({Op::kLink})});
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(1000)).ok());
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(Allowed(machine.engine.get(), "key"));
  machine.Close();
  EXPECT_GE(SegmentNames(*machine.env).size(), 3u);
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, 300u);
  machine.Close();
}

// ---- History -----------------------------------------------------------------------------------

TEST_F(Damage, HistoryBehindAGapStaysAndIsCounted) {
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  CloseCleanly();
  for (const bool missing : {true, false}) {
    const std::string& path = segments_[1];
    const Outcome outcome = OpenCopy(1, [&](FakeEnv* env) {
      if (missing) Delete(env, path);
      if (!missing) Flip(env, path, 90, 1);
    });
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
    EXPECT_EQ(outcome.state, state_);
    EXPECT_GT(outcome.info.damaged_history, 0u);
    EXPECT_EQ(outcome.env->Contents(segments_[0]), machine_.env->Contents(segments_[0]));
    EXPECT_EQ(outcome.env->Contents(path).empty(), missing);
  }
}

// The newest segment takes its name back, but not from one that is only history and cannot be
// reached.
TEST_F(Damage, HistoryBehindAGapStaysAlsoInThePlaceOfTheNewest) {
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  CloseCleanly();
  const std::string oldest = machine_.env->Contents(segments_[0]);
  const Outcome outcome = OpenCopy(1, [&](FakeEnv* env) {
    Delete(env, segments_[1]);
    env->SetContents(segments_[0], env->Contents(LogPath()));
    env->SetContents(LogPath(), oldest);
  });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
  EXPECT_EQ(outcome.state, state_);
  EXPECT_GT(outcome.info.damaged_history, 0u);
  EXPECT_EQ(outcome.env->Contents(segments_[0]), oldest);
}

TEST_F(Damage, HistoryGivesWayToOpeningOnAFullDisk) {
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  CloseCleanly();
  const Outcome outcome = OpenCopy(1, [](FakeEnv* env) {
    uint64_t used = 0;
    for (const std::string& path : env->Files()) used += env->Contents(path).size();
    env->SetCapacity(used);
  });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.message();
  EXPECT_EQ(outcome.state, state_);
  EXPECT_LT(SegmentNames(*outcome.env).size(), segments_.size());
}

// ---- Openings ----------------------------------------------------------------------------------

// Neither closing nor being killed leaves a file more.
TEST(Openings, LeaveABoundedNumberOfFiles) {
  const int openings = std::getenv("FLINT_LONG") != nullptr ? 10'000 : 300;
  for (const bool killed : {false, true}) {
    Machine machine(false);
    machine.ring_bytes = 1 << 12;
    machine.Open();
    ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(1'000'000)).ok());
    machine.Close();
    size_t most = 0;
    for (int i = 0; i < openings; ++i) {
      machine.Open();
      ASSERT_TRUE(Allowed(machine.engine.get(), "key"));
      if (killed) {
        machine.Kill();
      } else {
        machine.Close();
      }
      most = std::max(most, machine.env->Files().size());
    }
    machine.Open();
    EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed,
              static_cast<uint64_t>(openings));
    machine.Close();
    EXPECT_LE(most, 40u);
  }
}

// ---- When no power was lost --------------------------------------------------------------------

// What only the ring has, a record with one bit wrong and those behind it, must not go silently.
TEST(Ring, ABitInARecordThatOnlyItHasIsFound) {
  Machine machine(false);
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(1000)).ok());
  ASSERT_TRUE(machine.engine->Flush().ok());
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(Allowed(machine.engine.get(), "key"));
  machine.Kill();
  const std::string ring = machine.env->Contents(RingPath());
  const size_t end = ring.find_last_not_of('\0') / 8 * 8 + 8;
  for (size_t back = 8; back <= size_t{5} * kAllowBytes; back += 8) {
    std::string damaged = ring;
    damaged[end - back] = static_cast<char>(damaged[end - back] ^ 1);
    machine.env->SetContents(RingPath(), damaged);
    EXPECT_EQ(machine.TryOpen().code(), Code::kCorruption) << back;
  }
  machine.env->SetContents(RingPath(), ring);
  machine.Open();
  EXPECT_EQ(StatusOf(machine.engine.get(), "key").totals.allowed, 5u);
}

// Its first record gone, a segment with others must not be taken for a prepared one.
TEST_F(Damage, AByteOfTheNewestSegmentsStartIsFound) {
  const std::unique_ptr<FakeEnv> killed = machine_.env->ProcessDeath();
  machine_.engine.reset();
  machine_.env = killed->ProcessDeath();
  for (const int reboots : {0, 1}) {
    for (uint64_t at = 0; at < kStartBytes; at += 5) {
      const Outcome outcome = OpenCopy(reboots, [&](FakeEnv* env) {
        const size_t bytes = env->Contents(RingPath()).size() - kRingHeaderBytes;
        Change(env, RingPath(), kRingHeaderBytes, std::string(bytes, '\0'));
        Flip(env, LogPath(), kSegmentHeaderBytes + at, 3);
      });
      EXPECT_EQ(outcome.status.code(), Code::kCorruption) << at;
    }
  }
}

}  // namespace
}  // namespace flint
