// Files under wrong names. A data directory with everything in it has its files exchanged, copied,
// moved, deleted, and strangers put among them, at random. Then it opens with all that it held, or
// it is refused with the name of a file: never with less. Nothing that is intact is removed, the
// second and the third opening do as the first, and the doctor finds nothing amiss only where an
// opening does not either.
//
// FLINT_LONG=1 runs 5,000 of them, FLINT_SKIP=<n> those behind the first n; FLINT_SEED=<n> runs
// that one alone.

#include <gtest/gtest.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/coding.h"
#include "engine/doctor.h"
#include "engine_testing.h"
#include "storage/file_names.h"
#include "storage/record.h"
#include "storage/segment.h"

namespace flint {
namespace {

std::string PathOf(const std::string& name) { return std::string(kDirectory) + "/" + name; }

// ---- Directories -------------------------------------------------------------------------------

void Use(Machine* machine, int rounds) {
  Engine* engine = machine->engine.get();
  ASSERT_TRUE(Configure(engine, "exact", Hourly(10'000)).ok());
  ASSERT_TRUE(Configure(engine, "ip:", Hourly(50), LimitKind::kTemplate).ok());
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < 8; ++i) Allowed(engine, "exact");
    Allowed(engine, "ip:" + std::to_string(round), 2);
    const std::string passing = "passing:" + std::to_string(round);
    ASSERT_TRUE(Configure(engine, passing, Hourly(7)).ok());
    machine->clock->AdvanceNs(kSecondNs);
  }
}

struct Original {
  std::unique_ptr<FakeEnv> env;
  std::string state;
  bool closed = false;
  bool may_reboot = false;  // all that was answered is in the segments
  int64_t boot_ns = 0;
  int64_t wall_ns = 0;
};

// With history, a snapshot, segments behind it and a ring.
Original Make(bool always, bool closed, bool whole_history, uint64_t seed) {
  Machine machine(always);
  machine.env = std::make_unique<FakeEnv>(seed);
  machine.segment_bytes = 10'000;
  if (!whole_history) machine.history_max_bytes = 25'000;
  machine.Open();
  Use(&machine, 40);
  EXPECT_TRUE(machine.engine->Compact({}).ok());
  Use(&machine, 40);
  EXPECT_TRUE(machine.engine->Flush().ok());
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(Allowed(machine.engine.get(), "exact"));
  Original original;
  original.state = DescribeAll(machine.engine.get(), false);
  original.closed = closed;
  original.may_reboot = always || closed;
  original.boot_ns = machine.clock->BootNs();
  original.wall_ns = machine.clock->WallNs();
  if (!closed) original.env = machine.env->ProcessDeath();
  machine.Close();
  if (closed) original.env = machine.env->ProcessDeath();
  return original;
}

std::vector<std::string> NamesIn(const FakeEnv& env) {
  std::vector<std::string> names;
  const std::string prefix = PathOf("");
  for (const std::string& path : env.Files()) {
    if (path.starts_with(prefix)) names.push_back(path.substr(prefix.size()));
  }
  return names;
}

// How far the records go of each segment that can be read, whatever its name, by its generation.
std::map<uint64_t, size_t> SegmentsIn(const FakeEnv& env) {
  std::map<uint64_t, size_t> ends;
  for (const std::string& name : NamesIn(env)) {
    const std::string contents = env.Contents(PathOf(name));
    SegmentHeader header;
    if (!IsSegmentName(name) || !DecodeSegmentHeader(contents, name, &header).ok()) continue;
    size_t at = kSegmentHeaderBytes;
    uint32_t crc = ChainStart(header.generation);
    Record record;
    while (at + kRecordHeaderBytes <= contents.size() &&
           ParseRecord(std::string_view(contents).substr(at), crc, header.generation,
                       Decode64(contents.data() + at + 8), 0, &record)) {
      at += record.length;
      crc = record.crc;
    }
    ends[header.generation] = std::max(ends[header.generation], at);
  }
  return ends;
}

// ---- Mutations ---------------------------------------------------------------------------------

class Mutator {
 public:
  Mutator(FakeEnv* env, const FakeEnv* other, uint64_t seed)
      : env_(env), other_(other), random_(seed) {}

  // Says what it has done.
  std::string Mutate() {
    switch (Below(7)) {
      case 0:
        return Swap(OneThatIsThere(), OneThatIsThere());
      case 1:
        return Copy(OneThatIsThere(), OneThatIsThere());
      case 2:
        return Copy(OneThatIsThere(), NewName());
      case 3:
        return Link(OneThatIsThere(), NewName());
      case 4:
        return Move(OneThatIsThere(), Below(2) == 0 ? OneThatIsThere() : NewName());
      case 5:
        return Delete(OneThatIsThere());
      default:
        return PutStranger(Below(2) == 0 ? OneThatIsThere() : NewName());
    }
  }

  uint64_t Below(uint64_t bound) { return random_() % bound; }

 private:
  std::string OneThatIsThere() {
    std::vector<std::string> names = NamesIn(*env_);
    std::erase(names, kLockName);
    return names[Below(names.size())];
  }

  std::string NewName() {
    static const std::vector<std::string> kOthers = {
        kNextName,   kNewName,    kSnapshotTemporaryName, kRingTemporaryName,
        TornName(2), kOldLogName, kOldSnapshotName,       kImportName};
    if (Below(2) == 0) return kOthers[Below(kOthers.size())];
    static constexpr uint64_t kSequences[] = {0, 1, 2, 77, 300, 999'999};
    return RotatedSegmentName(kSequences[Below(std::size(kSequences))]);
  }

  void Put(const std::string& name, const std::string& contents) {
    Remove(name);  // what has two names keeps the other
    env_->SetContents(PathOf(name), contents);
  }
  void Remove(const std::string& name) {
    bool exists = false;
    EXPECT_TRUE(env_->Exists(PathOf(name), &exists).ok());
    if (exists && !env_->Remove(PathOf(name)).ok()) env_->RemoveDirectory(PathOf(name));
    EXPECT_TRUE(env_->SyncDirectory(kDirectory).ok());
  }

  std::string Swap(const std::string& a, const std::string& b) {
    const std::string contents = env_->Contents(PathOf(a));
    Put(a, env_->Contents(PathOf(b)));
    Put(b, contents);
    return "swap " + a + " and " + b;
  }
  std::string Copy(const std::string& from, const std::string& to) {
    Put(to, env_->Contents(PathOf(from)));
    return "copy " + from + " to " + to;
  }
  std::string Link(const std::string& from, const std::string& to) {
    if (from == to) return "";
    Remove(to);
    EXPECT_TRUE(env_->Link(PathOf(from), PathOf(to)).ok());
    EXPECT_TRUE(env_->SyncDirectory(kDirectory).ok());
    return "link " + from + " as " + to;
  }
  std::string Move(const std::string& from, const std::string& to) {
    EXPECT_TRUE(env_->Rename(PathOf(from), PathOf(to)).ok());
    EXPECT_TRUE(env_->SyncDirectory(kDirectory).ok());
    return "move " + from + " to " + to;
  }
  std::string Delete(const std::string& name) {
    Remove(name);
    return "delete " + name;
  }

  std::string PutStranger(const std::string& name) {
    std::vector<std::string> theirs = NamesIn(*other_);
    switch (Below(5)) {
      case 0: {
        const std::string from = theirs[Below(theirs.size())];
        Put(name, other_->Contents(PathOf(from)));
        return "put another directory's " + from + " as " + name;
      }
      case 1:
        Put(name, "");
        return "put an empty file as " + name;
      case 2:
        Put(name, std::string(8192, '\0'));
        return "put zeros as " + name;
      case 3: {
        std::string garbage(5000, '\0');
        for (char& c : garbage) c = static_cast<char>(random_());
        Put(name, garbage);
        return "put garbage as " + name;
      }
      default:
        Remove(name);
        EXPECT_TRUE(env_->CreateDirectories(PathOf(name)).ok());
        return "put a directory as " + name;
    }
  }

  FakeEnv* const env_;
  const FakeEnv* const other_;
  std::mt19937_64 random_;
};

// ---- What is promised --------------------------------------------------------------------------

class Campaign {
 public:
  Campaign(const Original& original, const FakeEnv& other, uint64_t seed)
      : original_(original), env_(original.env->ProcessDeath()), name_("seed ") {
    name_ += std::to_string(seed) + (original.closed ? ", closed" : ", killed");
    Mutator mutator(env_.get(), &other, seed);
    for (uint64_t i = 1 + mutator.Below(3); i > 0; --i) name_ += ", " + mutator.Mutate();
    reboot_ = original.may_reboot && mutator.Below(2) == 0;
    clock_.SetBootNs(original.boot_ns);
    clock_.SetWallNs(original.wall_ns);
    if (reboot_) clock_.Reboot();
    if (reboot_) name_ += ", reboot";
  }

  // Whether it was opened.
  bool Run() {
    const Status examined = Doctor();
    const std::map<uint64_t, size_t> before = SegmentsIn(*env_);
    const bool opened = Open();
    if (!opened) ExpectRefusal(examined, before);
    if (opened) ExpectAllThere(examined, before);
    return opened;
  }

 private:
  Status Doctor() {
    DoctorReport report;
    return Examine(env_.get(), &clock_, kDirectory, &report);
  }

  bool Open() {
    Engine::Options options = OptionsFor(env_.get(), &clock_, true);
    options.log.segment_bytes = 10'000;
    engine_.reset();
    status_ = Engine::Open(kDirectory, std::move(options), &engine_);
    return status_.ok();
  }

  // Loud, the same each time, and nothing is lost by it.
  void ExpectRefusal(const Status& examined, const std::map<uint64_t, size_t>& before) {
    const std::string message = status_.message();
    const bool names_a_file = message.find("flint.") != std::string::npos ||
                              (status_.detail() != nullptr && !status_.detail()->segment.empty());
    EXPECT_TRUE(names_a_file) << name_ << ": " << message;
    EXPECT_FALSE(examined.ok()) << name_ << ": the doctor found nothing, opening: " << message;
    for (int i = 0; i < 2; ++i) {
      EXPECT_FALSE(Open()) << name_ << ": opened after " << message;
      EXPECT_EQ(status_.message(), message) << name_;
    }
    EXPECT_EQ(SegmentsIn(*env_), before) << name_ << ": " << message;
  }

  void ExpectAllThere(const Status& examined, const std::map<uint64_t, size_t>& before) {
    const uint64_t damaged = InfoOf(engine_.get()).damaged_history;
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(DescribeAll(engine_.get(), false), original_.state) << name_;
      EXPECT_EQ(InfoOf(engine_.get()).damaged_history, damaged) << name_;
      EXPECT_TRUE(engine_->Shutdown().ok()) << name_;
      ExpectKept(before);
      const Status now = Doctor();
      EXPECT_EQ(now.ok(), damaged == 0) << name_ << ": " << now.message();
      const bool opened = Open();
      EXPECT_TRUE(opened) << name_ << ": " << status_.message();
      if (!opened) return;
    }
    if (damaged != 0) {
      EXPECT_FALSE(examined.ok()) << name_;
    }
  }

  // Of those that were prepared there is nothing to keep.
  void ExpectKept(const std::map<uint64_t, size_t>& before) {
    const std::map<uint64_t, size_t> after = SegmentsIn(*env_);
    for (const auto& [generation, end] : before) {
      if (end == kSegmentHeaderBytes) continue;
      const auto found = after.find(generation);
      EXPECT_TRUE(found != after.end() && found->second >= end) << name_ << ": a segment is gone";
    }
  }

  const Original& original_;
  std::unique_ptr<FakeEnv> env_;
  FakeClock clock_;
  std::string name_;
  bool reboot_ = false;
  std::unique_ptr<Engine> engine_;
  Status status_;
};

// A prepared segment that has another's name keeps it, and nobody takes offence.
TEST(Names, ThatAPreparedSegmentHasAreLeftToIt) {
  const Original original = Make(true, false, true, 1);
  const std::unique_ptr<FakeEnv> env = original.env->ProcessDeath();
  std::string prepared = env->Contents(PathOf(kNextName));
  ASSERT_FALSE(prepared.empty());
  std::vector<std::string> rotated = NamesIn(*env);
  std::erase_if(rotated, [](const std::string& name) { return !IsRotatedName(name); });
  ASSERT_FALSE(rotated.empty());
  env->SetContents(PathOf(kNextName), env->Contents(PathOf(rotated.back())));
  env->SetContents(PathOf(rotated.back()), prepared);
  FakeClock clock;
  clock.SetBootNs(original.boot_ns);
  clock.SetWallNs(original.wall_ns);
  for (int i = 0; i < 2; ++i) {
    Engine::Options options = OptionsFor(env.get(), &clock, true);
    std::unique_ptr<Engine> engine;
    const Status status = Engine::Open(kDirectory, std::move(options), &engine);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(DescribeAll(engine.get(), false), original.state);
    EXPECT_TRUE(engine->Shutdown().ok());
    DoctorReport report;
    const Status examined = Examine(env.get(), &clock, kDirectory, &report);
    EXPECT_TRUE(examined.ok()) << examined.message();
  }
}

TEST(Names, LeadToAllThatWasHeldOrToARefusal) {
  std::vector<Original> originals;
  for (const bool always : {true, false}) {
    for (const bool closed : {true, false}) {
      for (const bool whole_history : {true, false}) {
        originals.push_back(Make(always, closed, whole_history, 1));
      }
    }
  }
  const Original other = Make(true, true, true, 77);
  const char* const only = std::getenv("FLINT_SEED");
  const bool whole = std::getenv("FLINT_LONG") != nullptr;
  const char* const skip = std::getenv("FLINT_SKIP");
  uint64_t seed = skip == nullptr ? 1 : 1 + std::strtoull(skip, nullptr, 10);
  uint64_t last = seed - 1 + (whole ? 5000 : 240);
  if (only != nullptr) seed = last = std::strtoull(only, nullptr, 10);
  uint64_t opened = 0;
  uint64_t refused = 0;
  for (; seed <= last && !HasFailure(); ++seed) {
    const bool ok = Campaign(originals[seed % originals.size()], *other.env, seed).Run();
    ++(ok ? opened : refused);
  }
  if (whole) {
    std::printf("%" PRIu64 " directories: %" PRIu64 " opened with all they held, %" PRIu64
                " refused\n",
                opened + refused, opened, refused);
  }
  if (only != nullptr) return;
  EXPECT_GT(opened, 20u);
  EXPECT_GT(refused, 20u);
}

}  // namespace
}  // namespace flint
