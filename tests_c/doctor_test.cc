// The doctor: finds whatever is damaged in a directory and where, takes what a crash may leave for
// sound, and changes nothing.

#include "engine/doctor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/coding.h"
#include "engine_testing.h"
#include "storage/file_names.h"
#include "storage/record.h"
#include "storage/segment.h"

namespace flint {
namespace {

constexpr size_t kCheckedHeaderBytes = 116;

std::string PathOf(const std::string& name) { return std::string(kDirectory) + "/" + name; }

void FlipBit(FakeEnv* env, const std::string& path, size_t offset) {
  std::string contents = env->Contents(path);
  contents[offset] = static_cast<char>(contents[offset] ^ 4);
  env->SetContents(path, contents);
}

void RemoveFile(FakeEnv* env, const std::string& path) {
  ASSERT_TRUE(env->Remove(path).ok()) << path;
}

// The segments of a directory, oldest first; flint.aof sorts first but is the newest.
std::vector<std::string> Segments(const FakeEnv& env) {
  std::vector<std::string> paths;
  for (const std::string& path : env.Files()) {
    if (path.starts_with(PathOf(kLogName))) paths.push_back(path);
  }
  std::rotate(paths.begin(), paths.begin() + 1, paths.end());
  return paths;
}

uint64_t NumberOf(const std::string& contents) {
  SegmentHeader header;
  EXPECT_TRUE(DecodeSegmentHeader(contents, "segment", &header).ok());
  return header.number;
}

// Changes a payload of a segment and makes the chain whole again, as no accident would.
template <typename Change>
std::string Rechained(const std::string& contents, const Change& change) {
  SegmentHeader header;
  EXPECT_TRUE(DecodeSegmentHeader(contents, "segment", &header).ok());
  std::string made = contents.substr(0, kSegmentHeaderBytes);
  uint32_t old_crc = ChainStart(header.generation);
  uint32_t crc = old_crc;
  size_t offset = kSegmentHeaderBytes;
  Record record;
  while (offset + kRecordHeaderBytes <= contents.size() &&
         ParseRecord(std::string_view(contents).substr(offset), old_crc, header.generation,
                     Decode64(contents.data() + offset + 8), 0, &record)) {
    std::string payload(record.payload);
    change(record.type, &payload);
    const size_t at = made.size();
    made.resize(at + record.length);
    crc = BuildRecord(made.data() + at, crc, header.generation, record.sequence, record.type,
                      record.flags, record.id, payload);
    offset += record.length;
    old_crc = record.crc;
  }
  return made;
}

// A directory with history, a snapshot, several segments behind it and everything in them.
class Doctor : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_.segment_bytes = 10'000;
    machine_.ring_bytes = 1 << 12;
    machine_.Open();
    Use(0);
    ASSERT_TRUE(machine_.engine->Compact({}).ok());
    Use(1);
    state_ = DescribeAll(machine_.engine.get(), true);
  }

  void Use(int turn) {
    Engine* const engine = machine_.engine.get();
    ASSERT_TRUE(Configure(engine, "exact", Hourly(1000)).ok());
    ASSERT_TRUE(Configure(engine, "small", Hourly(1)).ok());
    ASSERT_TRUE(Configure(engine, "ip:", Hourly(5), LimitKind::kTemplate).ok());
    for (int round = 0; round < 60; ++round) {
      const std::string address = "ip:" + std::to_string(turn * 1000 + round);
      Allowed(engine, address);
      for (int i = 0; i < 20; ++i) Allowed(engine, "small");
      std::vector<Engine::Decision> decisions(2);
      size_t denied = 0;
      ASSERT_TRUE(
          engine->CheckAll({{"exact", 1}, {address, 1}}, {}, decisions.data(), &denied).ok());
      uint64_t ticket = 0;
      if (round % 7 == 0) {
        ASSERT_TRUE(engine->Reset(LimitKind::kExact, "exact", {}, &ticket).ok());
      }
      if (round % 9 == 0) {
        ASSERT_TRUE(engine->Remove(LimitKind::kExact, address, {}, &ticket).ok());
      }
      machine_.clock->AdvanceNs(kSecondNs);
    }
  }

  Status Run(FakeEnv* env) { return Examine(env, machine_.clock.get(), kDirectory, &report_); }

  // After a change to a copy.
  template <typename Change>
  Status AfterChange(const Change& change) {
    const std::unique_ptr<FakeEnv> copy = machine_.env->ProcessDeath();
    change(copy.get());
    return Run(copy.get());
  }

  Machine machine_;
  std::string state_;
  DoctorReport report_;
};

TEST_F(Doctor, FindsAClosedDirectorySound) {
  const uint64_t sequence = InfoOf(machine_.engine.get()).log.sequence;
  const uint64_t limits = InfoOf(machine_.engine.get()).limits;
  machine_.Close();
  const Status status = Run(machine_.env.get());
  EXPECT_TRUE(status.ok()) << status.message();
  const std::vector<std::string> segments = Segments(*machine_.env);
  EXPECT_TRUE(report_.snapshot_exists);
  EXPECT_EQ(report_.snapshot_bytes, machine_.env->Contents(PathOf(kSnapshotName)).size());
  EXPECT_EQ(report_.limits, limits);
  EXPECT_GT(report_.counters, 0u);
  EXPECT_GT(report_.log.history_segments, 1u);
  EXPECT_GT(report_.log.segments, 1u);
  EXPECT_EQ(report_.log.segments + report_.log.history_segments, segments.size());
  EXPECT_GT(report_.log.seals, 100u);
  EXPECT_GT(report_.log.events, 500u);
  EXPECT_LT(report_.records, sequence) << "only what is behind the snapshot";
  EXPECT_EQ(report_.ring_records, 0u);
  EXPECT_EQ(report_.torn_bytes, 0u);
  uint64_t bytes = 0;
  for (const std::string& path : segments) bytes += machine_.env->Contents(path).size();
  EXPECT_EQ(report_.log.log_bytes, bytes);
}

TEST_F(Doctor, FindsADirectoryInUseSoundAndADeadOne) {
  for (const bool live : {true, false}) {
    if (!live) machine_.Kill();
    const Status status = Run(machine_.env.get());
    EXPECT_TRUE(status.ok()) << status.message();
  }
  machine_.LosePower(Loss::kDropAll);
  EXPECT_TRUE(Run(machine_.env.get()).ok());
}

TEST_F(Doctor, CountsWhatOnlyTheRingHas) {
  machine_.Close();
  machine_.options_always = false;
  machine_.Open();
  for (int i = 0; i < 5; ++i) Allowed(machine_.engine.get(), "exact");
  const Status status = Run(machine_.env.get());
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_GE(report_.ring_records, 5u);
}

TEST_F(Doctor, ChangesNothing) {
  for (const bool live : {true, false}) {
    if (!live) machine_.Kill();
    const std::vector<std::string> files = machine_.env->Files();
    std::vector<std::string> contents;
    for (const std::string& path : files) contents.push_back(machine_.env->Contents(path));
    std::vector<std::string> wrong;
    const OpFilter reads =
        OnlyOps({Op::kOpen, Op::kRead, Op::kSize, Op::kExists, Op::kList, Op::kMode, Op::kRandom});
    machine_.env->SetHook([&, me = std::this_thread::get_id()](Op op, const std::string& path) {
      if (std::this_thread::get_id() != me) return;  // the writer's
      if (!reads(op, path)) wrong.push_back(std::to_string(static_cast<int>(op)) + " " + path);
    });
    EXPECT_TRUE(Run(machine_.env.get()).ok());
    std::unique_ptr<Engine> follower;
    EXPECT_TRUE(Engine::OpenReadOnly(kDirectory,
                                     OptionsFor(machine_.env.get(), machine_.clock.get(), true),
                                     &follower)
                    .ok());
    EXPECT_TRUE(follower->Refresh().ok());
    HistoryQuery query;
    query.capacity = 100;
    query.text_bytes = 100'000;
    HistoryPage page;
    EXPECT_TRUE(follower->History(query, &page).ok());
    EXPECT_GT(page.events.size(), 50u);
    follower.reset();
    machine_.env->SetHook(nullptr);
    EXPECT_EQ(wrong, std::vector<std::string>());
    if (live) continue;
    EXPECT_EQ(machine_.env->Files(), files);
    for (size_t i = 0; i < files.size(); ++i) {
      EXPECT_TRUE(machine_.env->Contents(files[i]) == contents[i]) << files[i];
    }
  }
}

// History, the log, the snapshot: any byte of them.
TEST_F(Doctor, FindsABitThatIsWrong) {
  machine_.Close();
  std::vector<std::string> paths = Segments(*machine_.env);
  paths.push_back(PathOf(kSnapshotName));
  for (const std::string& path : paths) {
    const size_t bytes = machine_.env->Contents(path).size();
    const size_t step = bytes / 8 + 13;
    const bool is_segment = path != paths.back();
    for (size_t offset = 3; offset < bytes; offset += step) {
      const bool padding =
          is_segment && offset >= kCheckedHeaderBytes && offset < kSegmentHeaderBytes;
      const Status status = AfterChange([&](FakeEnv* env) { FlipBit(env, path, offset); });
      EXPECT_EQ(status.ok(), padding) << path << " at " << offset;
      if (status.ok() || status.code() == Code::kUnsupported) continue;
      EXPECT_EQ(status.code(), Code::kCorruption) << path << " at " << offset;
      ASSERT_NE(status.detail(), nullptr);
      EXPECT_NE(status.detail()->segment, "")
          << path << " at " << offset << ": " << status.message();
    }
  }
}

// The ring has it still: that does not undo the damage, however often one looks.
TEST_F(Doctor, FindsABitThatIsWrongInTheLastRecords) {
  // Then a segment of its own holds all that is changed.
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  for (int i = 0; i < 15; ++i) EXPECT_TRUE(Allowed(machine_.engine.get(), "exact"));
  machine_.Close();
  const std::string path = PathOf(kLogName);
  const size_t bytes = machine_.env->Contents(path).size();
  ASSERT_GE(bytes, kSegmentHeaderBytes + 1500);
  for (size_t back = 200; back < 1500; back += 100) {
    const Status status = AfterChange([&](FakeEnv* env) { FlipBit(env, path, bytes - back); });
    EXPECT_EQ(status.code(), Code::kCorruption) << back;
  }
}

// Unless the ring has it still.
TEST_F(Doctor, FindsTheLastRecordCutOff) {
  machine_.Close();
  const std::string path = PathOf(kLogName);
  for (const bool with_ring : {true, false}) {
    const Status status = AfterChange([&](FakeEnv* env) {
      const std::string contents = env->Contents(path);
      env->SetContents(path, std::string_view(contents).substr(0, contents.size() - 8));
      if (!with_ring) RemoveFile(env, PathOf(kRingName));
    });
    EXPECT_EQ(status.code(), with_ring ? Code::kOk : Code::kCorruption);
  }
}

// The chain does not tell it, the digest does.
TEST_F(Doctor, FindsASealWhoseDigestIsWrong) {
  machine_.Close();
  const std::string path = PathOf(kLogName);
  int seals = 0;
  const std::string changed =
      Rechained(machine_.env->Contents(path), [&](RecordType type, std::string* payload) {
        SealPayload seal;
        if (type != RecordType::kSeal || !Decode(*payload, &seal) || seal.begin == seal.end) return;
        if (++seals != 2) return;
        seal.digest[0] = static_cast<uint8_t>(seal.digest[0] ^ 1);
        *payload = Encode(seal);
      });
  ASSERT_GE(seals, 2);
  ASSERT_EQ(changed.size(), machine_.env->Contents(path).size());
  const Status status = AfterChange([&](FakeEnv* env) { env->SetContents(path, changed); });
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_NE(status.message().find("SHA-256"), std::string::npos) << status.message();
  ASSERT_NE(status.detail(), nullptr);
  EXPECT_NE(status.detail()->sequence, 0u);
  EXPECT_GT(report_.log.seals, 0u) << "the report tells how far it came";
  EXPECT_EQ(report_.log.segments + report_.log.history_segments, Segments(*machine_.env).size());
}

TEST_F(Doctor, FindsAMissingFile) {
  machine_.Close();
  const std::vector<std::string> segments = Segments(*machine_.env);
  ASSERT_GE(segments.size(), 5u);
  for (size_t i = 0; i < segments.size(); ++i) {
    const Status status = AfterChange([&](FakeEnv* env) { RemoveFile(env, segments[i]); });
    // The oldest history may have been dropped for want of room.
    EXPECT_EQ(status.ok(), i == 0) << segments[i] << ": " << status.message();
    EXPECT_TRUE(status.ok() || status.code() == Code::kCorruption) << segments[i];
  }
  // With all of its history a log needs no snapshot.
  EXPECT_TRUE(AfterChange([&](FakeEnv* env) { RemoveFile(env, PathOf(kSnapshotName)); }).ok());
  const Status status = AfterChange([&](FakeEnv* env) {
    RemoveFile(env, PathOf(kSnapshotName));
    RemoveFile(env, segments[0]);
  });
  EXPECT_EQ(status.code(), Code::kCorruption);
}

TEST_F(Doctor, FindsFilesOfAnotherDirectory) {
  machine_.Close();
  Machine other;
  other.segment_bytes = 10'000;
  other.env = std::make_unique<FakeEnv>(2);
  other.Open();
  std::swap(other.engine, machine_.engine);
  std::swap(other.env, machine_.env);
  SCOPED_TRACE("the other directory is made in the same way");
  Use(0);
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  Use(1);
  machine_.Close();
  std::swap(other.env, machine_.env);
  const std::vector<std::string> own = Segments(*machine_.env);
  const std::vector<std::string> foreign = Segments(*other.env);
  for (const size_t i : {size_t{1}, own.size() - 1}) {
    const Status status = AfterChange([&](FakeEnv* env) {
      env->SetContents(own[i], other.env->Contents(foreign[std::min(i, foreign.size() - 1)]));
    });
    EXPECT_EQ(status.code(), Code::kCorruption) << own[i];
  }
  const Status status = AfterChange([&](FakeEnv* env) {
    env->SetContents(PathOf(kSnapshotName), other.env->Contents(PathOf(kSnapshotName)));
  });
  EXPECT_EQ(status.code(), Code::kCorruption);
}

TEST_F(Doctor, FindsAnOlderCopyOfASegment) {
  machine_.Close();
  const std::vector<std::string> segments = Segments(*machine_.env);
  const std::string& middle = segments[segments.size() - 2];
  const std::string& before = segments[segments.size() - 3];
  const Status status =
      AfterChange([&](FakeEnv* env) { env->SetContents(middle, env->Contents(before)); });
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_GT(NumberOf(machine_.env->Contents(middle)), NumberOf(machine_.env->Contents(before)));
}

TEST_F(Doctor, FindsTheRingMissingThatADeadProcessNeeds) {
  machine_.Kill();
  for (const bool header_only : {true, false}) {
    const Status status = AfterChange([&](FakeEnv* env) {
      if (header_only) return FlipBit(env, PathOf(kRingName), 9);
      RemoveFile(env, PathOf(kRingName));
    });
    EXPECT_EQ(status.code(), Code::kCorruption);
  }
  machine_.clock->Reboot();
  EXPECT_TRUE(AfterChange([&](FakeEnv* env) { RemoveFile(env, PathOf(kRingName)); }).ok());
}

TEST_F(Doctor, TellsATornEndFromDamage) {
  // Whatever segment the log has come to by now, its end is in flint.aof after this.
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  for (int i = 0; i < 3; ++i) Allowed(machine_.engine.get(), "exact");
  ASSERT_TRUE(machine_.engine->Flush().ok());
  machine_.Kill();
  const std::string path = PathOf(kLogName);
  const auto tear = [&](FakeEnv* env) {
    std::string contents = env->Contents(path);
    const size_t end = contents.find_last_not_of('\0') + 1;
    contents.replace((end + 15) / 8 * 8, 24, 24, 'x');
    env->SetContents(path, contents);
  };
  EXPECT_EQ(AfterChange(tear).code(), Code::kCorruption) << "the machine has been running since";
  machine_.clock->Reboot();
  const Status status = AfterChange(tear);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_GE(report_.torn_bytes, 24u);
}

TEST_F(Doctor, RefusesADirectoryWithoutALog) {
  FakeEnv env;
  EXPECT_EQ(Run(&env).code(), Code::kIo) << "there is no directory";
  ASSERT_TRUE(env.CreateDirectories(kDirectory).ok());
  EXPECT_EQ(Run(&env).code(), Code::kIo) << "it is empty";
  EXPECT_EQ(report_.log.segments, 0u);
  EXPECT_FALSE(report_.snapshot_exists);
  env.SetContents(std::string(kDirectory) + "/passwd", "root");
  const Status status = Run(&env);
  EXPECT_EQ(status.code(), Code::kIo) << "it is another program's";
  EXPECT_EQ(status.detail()->system_errno, ENOENT);
  EXPECT_NE(status.message().find("no log of Flint"), std::string::npos) << status.message();
}

TEST_F(Doctor, GoesOnWhenADirectoryHasBeenTakenOverAfterACrash) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    machine_.LosePower(Loss::kRandom, seed);
    machine_.Open();
    Use(static_cast<int>(seed) + 1);
    const Status status = Run(machine_.env.get());
    EXPECT_TRUE(status.ok()) << seed << ": " << status.message();
    if (seed % 3 == 0) {
      ASSERT_TRUE(machine_.engine->Compact({}).ok());
    }
  }
  machine_.Close();
  EXPECT_TRUE(Run(machine_.env.get()).ok());
}

}  // namespace
}  // namespace flint
