// What a later version of Flint may write: this version either goes on or says what it does not
// know, and never takes it for damage. The directories are kept under golden/future/.
//
// FLINT_GOLDEN_WRITE=1 writes them anew.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/coding.h"
#include "base/crc32c.h"
#include "base/sha256.h"
#include "engine/doctor.h"
#include "engine_testing.h"
#include "storage/log_format.h"
#include "storage/record.h"
#include "storage/segment.h"

namespace flint {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kAtNs = 1'700'000'000 * kSecondNs;
constexpr uint64_t kGeneration = 0x5eed5eed5eed5eed;
constexpr DirectoryId kId = {'t', 'h', 'e', ' ', 'f', 'u', 't', 'u', 'r', 'e'};

// A directory of one segment, and a snapshot if one is asked for, made of the same pieces as real
// ones. "key" has 10 units an hour, of which 4 are used.
class Future {
 public:
  Future() {
    header_.directory_id = kId;
    header_.number = 1;
    header_.epoch = 1;
    header_.generation = kGeneration;
    header_.capacity = 8192;
    clock_.clock = {kAtNs, 1000, kAtNs};
    clock_.boot = {9};
  }

  Features* features() { return &header_.features; }
  std::string* magic() { return &magic_; }
  uint32_t* format() { return &format_; }

  void Add(RecordType type, uint32_t id, std::string_view payload, uint8_t flags = 0,
           uint16_t reserved = 0) {
    std::string record(RecordBytes(payload.size()), '\0');
    BuildRecord(record.data(), crc_, kGeneration, sequence_, type, flags, id, payload);
    Encode16(record.data() + 18, reserved);
    crc_ = ChainCrc(crc_, kGeneration, record.data(), static_cast<uint32_t>(record.size()));
    Encode32(record.data(), crc_);
    ++sequence_;
    log_ += record;
  }
  void Add(uint8_t type, std::string_view payload, uint8_t flags = 0) {
    Add(static_cast<RecordType>(type), 0, payload, flags);
  }

  // Everything but what is new. `covered`: it is in the snapshot, else in the log.
  void Begin(bool covered) {
    if (covered) sequence_ = 7;
    crc_ = ChainStart(kGeneration);
    Add(RecordType::kStart, 0, Encode(StartPayload{covered ? 640u : 0u, 0, 0, covered ? 99u : 0u}));
    Add(RecordType::kClock, 0, Encode(clock_));
    if (!covered) Add(RecordType::kLimitConfigured, 0, Configured());
    Add(RecordType::kKey, 1, Key());
    if (!covered) Add(RecordType::kAllow, 1, Allow(4));
  }
  static std::string Configured() {
    return EncodeConfigured({kAtNs, Hourly(10), LimitKind::kExact, "key"});
  }
  static std::string Key() { return Encode(KeyPayload{Hourly(10), LimitKind::kExact, 0, "key"}); }
  static std::string Allow(uint64_t cost) {
    std::string payload;
    Put64(&payload, kAtNs);
    Put64(&payload, cost);
    return payload;
  }

  // The snapshot's text with `head` and `limit` added to those objects, and `end` behind them.
  void Snapshot(const std::string& head, const std::string& limit, const std::string& end = "],",
                const std::string& format = "1", const std::string& kind = "exact",
                const std::string& algorithm = "fixed_window_counter") {
    const std::string at = std::to_string(kAtNs);
    snapshot_ = "{\"format\":" + format + ",\"directory_id\":\"" +
                "74686520667574757265000000000000\",\"position\":640,\"sequence\":6,\"crc\":99," +
                "\"engine_ns\":" + at + ",\"boot_ns\":1000,\"wall_ns\":" + at +
                ",\"boot_id\":\"09000000000000000000000000000000\",\"last_ns\":" + at + head +
                ",\"limits\":[\n{\"key\":\"key\",\"kind\":\"" + kind +
                "\",\"rate\":10,\"per_ns\":3600000000000,\"burst\":10,\"algorithm\":\"" +
                algorithm + "\",\"totals\":[1,0,4,0],\"stamps\":[" + at + ",-1,-1],\"state\":[" +
                std::to_string(kAtNs - kAtNs % static_cast<int64_t>(kHourNs)) + ",4]" + limit +
                "}\n" + end + "\"count\":1";
    snapshot_ += ",\"sha256\":\"" + ToHex(Sha256Of(snapshot_.data(), snapshot_.size())) + "\"}\n";
  }

  std::vector<std::pair<std::string, std::string>> Files() {
    std::string log = EncodeSegmentHeader(header_);
    log.replace(0, magic_.size(), magic_);
    Encode32(log.data() + 32, format_);
    Encode32(log.data() + 112, ExtendCrc32c(0, log.data(), 112));
    std::vector<std::pair<std::string, std::string>> files = {{kLogName, log + log_}};
    if (!snapshot_.empty()) files.emplace_back(kSnapshotName, snapshot_);
    return files;
  }

 private:
  SegmentHeader header_;
  ClockPayload clock_;
  std::string magic_ = kSegmentMagic;
  uint32_t format_ = kFormatVersion;
  std::string log_;
  std::string snapshot_;
  uint64_t sequence_ = 1;
  uint32_t crc_ = 0;
};

// What a directory must give.
struct Case {
  const char* name;
  std::function<void(Future* future)> write;
  Code writer = Code::kUnsupported;  // opening
  Code reader = Code::kUnsupported;  // opening for reading only, the doctor
  const char* met = "";              // what the message names
};

std::function<void(Future*)> InLog(std::function<void(Future*)> add) {
  return [add = std::move(add)](Future* future) {
    future->Begin(false);
    add(future);
  };
}

std::function<void(Future*)> InSnapshot(std::function<void(Future*)> add) {
  return [add = std::move(add)](Future* future) {
    future->Begin(true);
    add(future);
  };
}

std::string Changed(std::string payload, size_t offset, char value) {
  payload[offset] = value;
  return payload;
}

std::string Numbers(std::initializer_list<uint64_t> numbers) {
  std::string payload;
  for (const uint64_t number : numbers) Put64(&payload, number);
  return payload;
}

constexpr Code kOk = Code::kOk;
constexpr Code kNo = Code::kUnsupported;

// NOLINTNEXTLINE(readability-function-size): a table, one directory a row
const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"record-type", InLog([](Future* f) { f->Add(77, "anything"); }), kNo, kNo,
       "flint.aof at offset 4408, record 6: written by a newer version of Flint (record type 77)"},
      {"record-skippable", InLog([](Future* f) { f->Add(77, "anything", kFlagSkippable); }), kOk,
       kOk},
      {"record-flags",
       InLog([](Future* f) { f->Add(RecordType::kAllow, 1, Future::Allow(1), 64); }), kNo, kNo,
       "record flags 64"},
      {"record-reserved",
       InLog([](Future* f) { f->Add(RecordType::kAllow, 1, Future::Allow(1), 0, 5); }), kNo, kNo,
       "reserved bytes of a record of type 8"},
      {"limit-algorithm", InLog([](Future* f) {
         f->Add(RecordType::kLimitConfigured, 0, Changed(Future::Configured(), 32, 9));
       }),
       kNo, kNo, "algorithm 9"},
      {"limit-kind", InLog([](Future* f) {
         f->Add(RecordType::kLimitConfigured, 0, Changed(Future::Configured(), 33, 4));
       }),
       kNo, kNo, "limit kind 4"},
      // Nothing is configured for a counter under a template.
      {"limit-kind-of-a-counter", InLog([](Future* f) {
         f->Add(RecordType::kLimitConfigured, 0, Changed(Future::Configured(), 33, 2));
       }),
       kNo, kNo, "limit kind 2"},
      {"key-algorithm",
       InLog([](Future* f) { f->Add(RecordType::kKey, 2, Changed(Future::Key(), 24, 7)); }), kNo,
       kNo, "algorithm 7"},
      {"key-kind",
       InLog([](Future* f) { f->Add(RecordType::kKey, 2, Changed(Future::Key(), 25, 9)); }), kNo,
       kNo, "limit kind 9"},
      {"key-reserved",
       InLog([](Future* f) { f->Add(RecordType::kKey, 2, Changed(Future::Key(), 36, 1)); }), kNo,
       kNo, "reserved byte 36"},
      {"reset-kind", InLog([](Future* f) {
         std::string payload = EncodeKeyed({kAtNs, {}, LimitKind::kExact, "key"});
         f->Add(RecordType::kReset, 0, Changed(payload, 9, 5));
       }),
       kNo, kNo, "limit kind 5"},
      {"log-format", InLog([](Future* f) {
         *f->format() = 2;
         *f->magic() = "flint log 2, anything";
       }),
       kNo, kNo, "flint.aof: written by a newer version of Flint (format 2)"},
      {"log-compatible", InLog([](Future* f) { f->features()->compatible = 0x10; }), kOk, kOk},
      {"log-read-only-compatible",
       InLog([](Future* f) { f->features()->read_only_compatible = 0x20; }), kNo, kOk,
       "flint.aof: written by a newer version of Flint (features 0x20, with which"},
      {"log-incompatible", InLog([](Future* f) { f->features()->incompatible = 0x40; }), kNo, kNo,
       "incompatible features 0x40"},
      {"snapshot-format", InSnapshot([](Future* f) { f->Snapshot("", "", "],", "2"); }), kNo, kNo,
       "format 2"},
      {"snapshot-compatible",
       InSnapshot([](Future* f) { f->Snapshot(",\"features\":[16,0,0]", ""); }), kOk, kOk},
      {"snapshot-read-only-compatible",
       InSnapshot([](Future* f) { f->Snapshot(",\"features\":[0,32,0]", ""); }), kNo, kOk,
       "flint.snapshot: written by a newer version of Flint (features 0x20, with which"},
      {"snapshot-incompatible",
       InSnapshot([](Future* f) { f->Snapshot(",\"features\":[0,0,64]", ""); }), kNo, kNo,
       "incompatible features 0x40"},
      {"snapshot-head", InSnapshot([](Future* f) { f->Snapshot(",\"more\":1", ""); }), kNo, kNo,
       "the field \"more\" of the head"},
      {"snapshot-field", InSnapshot([](Future* f) { f->Snapshot("", ",\"more\":1"); }), kNo, kNo,
       "the field \"more\" of a limit"},
      {"snapshot-ignored", InSnapshot([](Future* f) { f->Snapshot(",\"_a\":1", ",\"_b\":[2]"); }),
       kOk, kOk},
      {"snapshot-kind", InSnapshot([](Future* f) { f->Snapshot("", "", "],", "1", "pattern"); }),
       kNo, kNo, "the limit kind \"pattern\""},
      {"snapshot-algorithm",
       InSnapshot([](Future* f) { f->Snapshot("", "", "],", "1", "exact", "dice"); }), kNo, kNo,
       "the algorithm \"dice\""},
      {"snapshot-section",
       InSnapshot([](Future* f) { f->Snapshot("", "", "],\"more\":[\n{\"a\":1}\n],"); }), kNo, kNo,
       "what stands behind the limits"},
      // What FORMAT.md keeps room for.
      {"reservation-in-log", InLog([](Future* f) {
         f->Add(12, Numbers({kAtNs, 2, 1, kAtNs + kSecondNs}));
       }),
       kNo, kNo, "record type 12"},
      {"settlement-in-log", InLog([](Future* f) {
         f->Add(13, Numbers({kAtNs, 1, 1}));
       }),
       kNo, kNo, "record type 13"},
      {"reservation-feature", InLog([](Future* f) { f->features()->incompatible = 1; }), kNo, kNo,
       "incompatible features 0x1"},
      {"reservation-in-snapshot", InSnapshot([](Future* f) {
         f->Snapshot("", ",\"reservations\":[[1,2,1700000001000000000]]");
       }),
       kNo, kNo, "the field \"reservations\""},
      {"refund-in-log", InLog([](Future* f) {
         f->Add(14, Numbers({kAtNs, 1}));
       }),
       kNo, kNo, "record type 14"},
      {"refund-feature", InLog([](Future* f) { f->features()->incompatible = 2; }), kNo, kNo,
       "incompatible features 0x2"},
      {"shadow-in-log", InLog([](Future* f) {
         f->Add(15, Numbers({kAtNs, 1}) + "key", kFlagSkippable);
       }),
       kOk, kOk},
      {"shadow-in-snapshot", InSnapshot([](Future* f) {
         f->Snapshot(",\"features\":[1,0,0]", ",\"_shadow\":[1,2,3,4]");
       }),
       kOk, kOk},
      {"calendar-in-log", InLog([](Future* f) {
         f->Add(RecordType::kLimitConfigured, 0, Changed(Future::Configured(), 32, 7));
       }),
       kNo, kNo, "algorithm 7"},
      {"calendar-feature", InLog([](Future* f) { f->features()->incompatible = 4; }), kNo, kNo,
       "incompatible features 0x4"},
      {"calendar-in-snapshot", InSnapshot([](Future* f) {
         f->Snapshot("", ",\"calendar\":[\"month\",\"Europe/Paris\"]", "],", "1", "exact",
                     "calendar_window");
       }),
       kNo, kNo, "the field \"calendar\""},
  };
  return cases;
}

fs::path DirectoryOf(const Case& future) {
  return fs::path(__FILE__).parent_path() / "golden" / "future" / future.name;
}

class FromTheFuture : public ::testing::TestWithParam<Case> {
 protected:
  static std::unique_ptr<FakeEnv> Load() {
    auto env = std::make_unique<FakeEnv>();
    for (const auto& entry : fs::directory_iterator(DirectoryOf(GetParam()))) {
      std::ifstream file(entry.path(), std::ios::binary);
      std::ostringstream bytes;
      bytes << file.rdbuf();
      env->SetContents(std::string(kDirectory) + "/" + entry.path().filename().string(),
                       bytes.str());
    }
    return env;
  }

  static void Expect(Code code, const Status& status) {
    EXPECT_EQ(status.code(), code) << status.message();
    if (code == Code::kOk || status.ok()) return;
    EXPECT_NE(status.message().find(GetParam().met), std::string::npos) << status.message();
    ASSERT_NE(status.detail(), nullptr);
    const bool in_snapshot = std::string(GetParam().name).find("snapshot") != std::string::npos;
    EXPECT_EQ(status.detail()->segment, in_snapshot ? kSnapshotName : kLogName);
  }

  FakeClock clock_;
};

TEST_P(FromTheFuture, IsMadeOfThesePieces) {
  Future future;
  GetParam().write(&future);
  const bool write = std::getenv("FLINT_GOLDEN_WRITE") != nullptr;
  if (write) fs::create_directories(DirectoryOf(GetParam()));
  for (const auto& [name, bytes] : future.Files()) {
    const fs::path path = DirectoryOf(GetParam()) / name;
    if (write) std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    std::ostringstream kept;
    kept << std::ifstream(path, std::ios::binary).rdbuf();
    EXPECT_EQ(kept.str(), bytes) << path;
  }
}

TEST_P(FromTheFuture, AWriterGoesOnOrRefusesAndChangesNothing) {
  const std::unique_ptr<FakeEnv> env = Load();
  const std::unique_ptr<FakeEnv> before = Load();
  std::unique_ptr<Engine> engine;
  const Status status = Engine::Open(kDirectory, OptionsFor(env.get(), &clock_, true), &engine);
  Expect(GetParam().writer, status);
  if (status.ok()) {
    EXPECT_TRUE(Allowed(engine.get(), "key", 6));
    EXPECT_FALSE(Allowed(engine.get(), "key"));
    return;
  }
  for (const std::string& path : before->Files()) {
    EXPECT_EQ(env->Contents(path), before->Contents(path)) << path;
  }
}

TEST_P(FromTheFuture, AReaderGoesOnOrSaysWhatItMet) {
  const std::unique_ptr<FakeEnv> env = Load();
  std::unique_ptr<Engine> engine;
  const Status status =
      Engine::OpenReadOnly(kDirectory, OptionsFor(env.get(), &clock_, true), &engine);
  Expect(GetParam().reader, status);
  if (status.ok()) {
    EXPECT_EQ(StatusOf(engine.get(), "key").totals.allowed_cost, 4u);
    HistoryPage page;
    HistoryQuery query;
    query.capacity = 100;
    query.text_bytes = 65536;
    const Status history = engine->History(query, &page);
    EXPECT_TRUE(history.ok()) << history.message();
  }
  DoctorReport report;
  Expect(GetParam().reader, Examine(env.get(), &clock_, kDirectory, &report));
}

// What is told to whoever ignores a bit: nothing, now and later.
TEST_P(FromTheFuture, WhatIsIgnoredIsKept) {
  if (GetParam().writer != Code::kOk) return;
  const std::unique_ptr<FakeEnv> env = Load();
  const std::string path = std::string(kDirectory) + "/";
  const bool has_bit = std::string(GetParam().name).find("compatible") != std::string::npos;
  for (int round = 0; round < 2; ++round) {
    std::unique_ptr<Engine> engine;
    ASSERT_TRUE(Engine::Open(kDirectory, OptionsFor(env.get(), &clock_, true), &engine).ok());
    ASSERT_TRUE(engine->Compact({}).ok());
    const std::string kept = "\"features\":[16,0,0]";
    const std::string snapshot = env->Contents(path + kSnapshotName);
    EXPECT_EQ(snapshot.find(kept) != std::string::npos, has_bit);
    ASSERT_TRUE(engine->Shutdown().ok());
  }
}

INSTANTIATE_TEST_SUITE_P(Files, FromTheFuture, ::testing::ValuesIn(Cases()),
                         [](const ::testing::TestParamInfo<Case>& info) {
                           std::string name = info.param.name;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace flint
