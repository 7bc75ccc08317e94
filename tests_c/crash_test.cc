// What a crash at any moment leaves must open as the state after some first part of what was asked,
// with everything in it that had been answered. Random operations run on a limiter whose disk takes
// images of itself, as a killed process or a power loss would leave it, in the middle of any
// operation. Each image is opened, and its state compared with what a limiter in memory was in.
//
// FLINT_LONG=1 runs many more seeds, FLINT_SKIP=<n> leaves out the first n of each test's;
// FLINT_SEED=<n> runs that one alone.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine_testing.h"
#include "storage/file_names.h"

namespace flint {
namespace {

// ---- Operations --------------------------------------------------------------------------------

struct Operation {
  enum class Kind {
    kCheck,
    kInline,
    kChangeInline,  // what a check that updates its limit records before it decides
    kCheckAll,
    kConfigure,
    kMany,
    kRemove,
    kReset,
    kFlush,
    kCompact
  };
  Kind kind = Kind::kCheck;
  LimitKind limit_kind = LimitKind::kExact;
  std::vector<Engine::Item> items;
  LimitConfig config;
  std::string_view name;  // of the limit that is changed
  bool update = false;    // the limit that the check carries
  bool cut = false;       // a crash came between the change and its check
  int64_t at_ns = 0;      // wall clock
};

// The answer: an error, or what was decided.
std::string Perform(Engine* engine, const Operation& operation) {
  using Kind = Operation::Kind;
  uint64_t ticket = 0;
  const std::string_view key = operation.items.front().key;
  std::vector<Engine::Decision> decisions(operation.items.size());
  size_t denied = 0;
  Engine::Flags inline_flags;
  inline_flags.update = operation.update;
  Status status;
  switch (operation.kind) {
    case Kind::kCheck:
      status = engine->Check(operation.items.front(), {}, nullptr, decisions.data());
      break;
    case Kind::kChangeInline:
      inline_flags.refuse = true;  // only the change
      [[fallthrough]];
    case Kind::kInline:
      status =
          engine->Check(operation.items.front(), inline_flags, &operation.config, decisions.data());
      break;
    case Kind::kCheckAll:
      status = engine->CheckAll(operation.items, {}, decisions.data(), &denied);
      break;
    case Kind::kConfigure:
      status = engine->Configure(
          Engine::Limit{operation.limit_kind, key, operation.config, operation.name}, {}, &ticket);
      break;
    case Kind::kMany: {
      std::vector<Engine::Limit> limits;
      for (const Engine::Item& item : operation.items) {
        limits.push_back({LimitKind::kExact, item.key, operation.config});
      }
      status = engine->ConfigureMany(limits, {}, &ticket);
      break;
    }
    case Kind::kRemove:
      status = engine->Remove(operation.limit_kind, key, &operation.name, {}, &ticket);
      break;
    case Kind::kReset:
      status = engine->Reset(operation.limit_kind, key, &operation.name, {}, &ticket);
      break;
    case Kind::kFlush:
      status = engine->Flush();
      break;
    case Kind::kCompact:
      status = engine->Compact({});
      break;
  }
  if (!status.ok()) return "error " + std::to_string(static_cast<int>(status.code()));
  std::string answer = "denied " + std::to_string(denied);
  for (const Engine::Decision& decision : decisions) {
    answer += decision.allowed ? " yes " : " no ";
    if (decision.limit_count > 0) {
      answer += std::to_string(decision.limit_index) + " of " +
                std::to_string(decision.limit_count) + " limits ";
    }
    answer += std::to_string(decision.remaining) + " " + std::to_string(decision.reset_after_ns) +
              " " + std::to_string(decision.retry_after_ns);
  }
  return answer;
}

// What it consists of, each of which is a record: a crash may keep the first of them only.
std::vector<Operation> PartsOf(const Operation& operation) {
  std::vector<Operation> parts(1, operation);
  if (operation.kind == Operation::Kind::kInline && operation.update) {
    parts.insert(parts.begin(), operation);
    parts.front().kind = Operation::Kind::kChangeInline;
  }
  if (operation.kind != Operation::Kind::kMany) return parts;
  parts.assign(operation.items.size(), operation);
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].kind = Operation::Kind::kConfigure;
    parts[i].items = {operation.items[i]};
  }
  return parts;
}

class OperationSource {
 public:
  OperationSource(uint64_t seed, bool named) : random_(seed), named_(named) {}

  Operation Next() {
    using Kind = Operation::Kind;
    Operation operation;
    const uint64_t dice = Below(100);
    operation.kind = dice < 55   ? Kind::kCheck
                     : dice < 65 ? Kind::kInline
                     : dice < 75 ? Kind::kCheckAll
                     : dice < 87 ? Kind::kConfigure
                     : dice < 89 ? Kind::kMany
                     : dice < 92 ? Kind::kRemove
                     : dice < 95 ? Kind::kReset
                     : dice < 98 ? Kind::kFlush
                                 : Kind::kCompact;
    const bool is_change = operation.kind == Kind::kConfigure || operation.kind == Kind::kRemove ||
                           operation.kind == Kind::kReset;
    if (is_change && Below(2) == 0) operation.limit_kind = LimitKind::kTemplate;
    operation.config = RandomConfig();
    operation.update = operation.kind == Kind::kInline && Below(2) == 0;
    if (named_ && is_change && Below(2) == 0) operation.name = Below(2) == 0 ? "m" : "n";
    if (named_ && is_change) operation.config.stack = Below(3) == 0;
    const bool several = operation.kind == Kind::kCheckAll || operation.kind == Kind::kMany;
    const size_t count = several ? 1 + Below(5) : 1;
    while (operation.items.size() < count) {
      const std::string_view key = RandomKey(operation);
      const auto same = [&](const Engine::Item& item) { return item.key == key; };
      if (std::none_of(operation.items.begin(), operation.items.end(), same)) {
        operation.items.push_back({key, 1 + (Below(4) == 0 ? Below(6) : 0)});
      }
    }
    return operation;
  }

  uint64_t Below(uint64_t bound) { return random_() % bound; }

  // How much later the next operation comes.
  int64_t Pause() {
    static constexpr int64_t kPausesNs[] = {1, 999, 1'000'000, 700'000'000, 2'500'000'000};
    return kPausesNs[Below(std::size(kPausesNs))];
  }

 private:
  std::string_view RandomKey(const Operation& operation) {
    static constexpr std::string_view kExact[] = {"e0", "e1", "e2", "t:exact", "t:a-exact"};
    static constexpr std::string_view kCovered[] = {"t:0", "t:1", "t:a0", "t:a1", "t:*", "t:b"};
    static constexpr std::string_view kInline[] = {"i0", "i1", "i2", "in the line of a longer key"};
    static constexpr std::string_view kPrefixes[] = {"t:", "t:a", "i"};
    if (operation.limit_kind == LimitKind::kTemplate)
      return kPrefixes[Below(9) == 0 ? 2 : Below(2)];
    if (operation.kind == Operation::Kind::kInline) return kInline[Below(std::size(kInline))];
    const bool is_check =
        operation.kind == Operation::Kind::kCheck || operation.kind == Operation::Kind::kCheckAll;
    if (Below(10) < (is_check ? 6 : 1)) return kCovered[Below(std::size(kCovered))];
    return kExact[Below(std::size(kExact))];
  }

  LimitConfig RandomConfig() {
    static constexpr uint64_t kPersNs[] = {1, 1'000, 1'000'000'000, 10'000'000'007, kHourNs};
    LimitConfig config;
    const auto algorithm = static_cast<Algorithm>(1 + Below(6));
    const uint64_t burst = IsBucket(algorithm) ? Below(9) : 0;
    EXPECT_EQ(
        MakeConfig(algorithm, 1 + Below(8), kPersNs[Below(std::size(kPersNs))], burst, &config),
        ConfigError::kNone);
    return config;
  }

  std::mt19937_64 random_;
  const bool named_;
};

// ---- The model ---------------------------------------------------------------------------------

// A limiter in memory that does the same.
class Model {
 public:
  Model() {
    Engine::Options options;
    options.clock = &clock_;
    const Status status = Engine::Open("", std::move(options), &engine_);
    EXPECT_TRUE(status.ok()) << status.message();
  }
  std::string Perform(const Operation& operation) {
    SetTime(operation.at_ns);
    return flint::Perform(engine_.get(), operation);
  }
  // All that was done before.
  void Repeat(const std::vector<Operation>& history) {
    for (const Operation& operation : history) {
      // The check that follows makes the change as well.
      if (operation.kind == Operation::Kind::kChangeInline && !operation.cut) continue;
      Perform(operation);
    }
  }
  bool HasInline(std::string_view key) {
    const std::vector<Engine::LimitStatus> limits = ListAll(engine_.get());
    return std::any_of(limits.begin(), limits.end(), [&](const Engine::LimitStatus& limit) {
      return limit.key == key && limit.kind == LimitKind::kInline;
    });
  }
  void SetTime(int64_t at_ns) { clock_.AdvanceNs(at_ns - clock_.WallNs()); }
  std::string State() { return DescribeAll(engine_.get(), false); }
  std::map<std::string, uint64_t> Denials() { return DenialsOf(engine_.get()); }

  static std::map<std::string, uint64_t> DenialsOf(Engine* engine) {
    std::map<std::string, uint64_t> denials;
    for (const Engine::LimitStatus& limit : ListAll(engine)) {
      denials[limit.key + std::to_string(static_cast<int>(limit.kind))] = limit.totals.denied;
    }
    return denials;
  }

 private:
  FakeClock clock_;
  std::unique_ptr<Engine> engine_;
};

// The lines of `text` that are not in `other`.
std::string LinesNotIn(const std::string& other, const std::string& text) {
  std::string lines;
  std::istringstream all(text);
  for (std::string line; std::getline(all, line);) {
    if (other.find(line + "\n") == std::string::npos) lines += line + "\n";
  }
  return lines;
}

// ---- Images ------------------------------------------------------------------------------------

struct Image {
  std::unique_ptr<FakeEnv> env;
  uint64_t period = 0;    // a time in which the clock stands still
  uint64_t answered = 0;  // operations of the period that had been answered
  uint64_t durable = 0;   // those of them that a power loss must not take
  uint64_t begun = 0;
  int reboots = 0;
  bool lost_power = false;
  std::string what;
};

#if defined(__SANITIZE_THREAD__)
constexpr uint64_t kOneIn = 500;  // opening takes fifty times as long
#elif defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kOneIn = 60;
#else
constexpr uint64_t kOneIn = 24;
#endif

// How one crash looks: which images are taken and when.
struct CrashPlan {
  bool always = true;
  uint64_t one_in = std::getenv("FLINT_LONG") != nullptr ? 4 : kOneIn;  // calls leaves an image
  uint64_t segment_bytes = 10'000;
  uint64_t ring_bytes = 1 << 12;
  uint64_t operations = 250;
  bool sync_denials = false;
  uint64_t max_unsynced_events = UINT64_MAX;
  bool named = false;  // several limits of a key
};

class CrashRun {
 public:
  CrashRun(uint64_t seed, const CrashPlan& plan)
      : plan_(plan),
        source_(seed, plan.named),
        random_(seed + 1),
        hook_random_(seed + 2),
        name_("seed " + std::to_string(seed)) {
    name_ += plan.always ? ", always" : ", batch";
    name_ += ", segments of " + std::to_string(plan.segment_bytes);
  }

  void Run() {
    env_ = std::make_unique<FakeEnv>(random_());
    if (!Start()) return;
    BeginPeriod();
    while (done_ < plan_.operations && !::testing::Test::HasFailure()) {
      Step();
      if (source_.Below(60) == 0) GoOnFromAnImage();
    }
    Stop();
  }

  uint64_t images() const { return images_checked_; }
  uint64_t changes() const { return changes_; }
  uint64_t together() const { return together_; }

 private:
  Engine::Options OptionsOn(FakeEnv* env, const Clock* clock) const {
    Engine::Options options = OptionsFor(env, clock, plan_.always);
    options.log.segment_bytes = plan_.segment_bytes;
    options.log.ring_bytes = plan_.ring_bytes;
    options.log.max_unsynced_events = plan_.max_unsynced_events;
    options.sync_denials = plan_.sync_denials;
    return options;
  }

  bool Start() {
    clock_ = MakeClock(reboots_);
    env_->SetHook([this](Op op, const std::string& path) { MaybeTakeImage(op, path); });
    const Status status = Engine::Open(kDirectory, OptionsOn(env_.get(), clock_.get()), &engine_);
    EXPECT_TRUE(status.ok()) << name_ << ": " << status.message();
    return status.ok();
  }

  void Stop() {
    recording_ = false;
    engine_.reset();
    CheckImages();
  }

  // The same wall clock; a boot clock that began with the last boot.
  std::unique_ptr<FakeClock> MakeClock(int reboots) const {
    auto clock = std::make_unique<FakeClock>();
    for (int i = 0; i < reboots; ++i) clock->Reboot();
    clock->SetWallNs(now_ns_);
    clock->SetBootNs(now_ns_ - FakeClock::kStartWallNs + 1000 - reboots);
    return clock;
  }

  // A time in which the clock stands still, so that states of different moments can be compared.
  void BeginPeriod() {
    CheckImages();
    recording_ = false;
    ++period_;
    now_ns_ += source_.Pause();
    clock_->AdvanceNs(now_ns_ - clock_->WallNs());
    model_->SetTime(now_ns_);
    states_.assign(1, model_->State());
    denials_.assign(1, model_->Denials());
    answered_ = durable_ = begun_ = 0;
    recording_ = true;
  }

  void Step() {
    Operation operation = source_.Next();
    operation.at_ns = now_ns_;
    std::string expected;
    for (const Operation& part : PartsOf(operation)) {
      if (part.kind == Operation::Kind::kChangeInline) {
        ExpectChangeAlone(part);
      } else {
        expected = model_->Perform(part);
        ExpectState(part, model_->State());
      }
    }
    const std::string answer = flint::Perform(engine_.get(), operation);
    answered_ = begun_.load();
    ++done_;
    if (operation.kind != Operation::Kind::kMany) {
      EXPECT_EQ(answer, expected) << name_ << ", operation " << done_;
    }
    if (answer.find(" limits ") != std::string::npos) ++together_;
    const bool flushed =
        operation.kind == Operation::Kind::kFlush || operation.kind == Operation::Kind::kCompact;
    if (plan_.always || flushed) {
      durable_ = answered_.load();
      if (source_.Below(plan_.always ? 3 : 1) == 0) return BeginPeriod();
    }
    CheckImages();
  }

  void ExpectState(const Operation& part, const std::string& state) {
    states_.push_back(state);
    denials_.push_back(model_->Denials());
    history_.push_back(part);
    ++begun_;
  }

  // In another model, as this one is about to make the change and the check in one.
  void ExpectChangeAlone(const Operation& part) {
    if (!model_->HasInline(part.items.front().key)) return;
    Model other;
    other.Repeat(history_);
    other.Perform(part);
    ExpectState(part, other.State());
    if (states_.back() != states_[states_.size() - 2]) ++changes_;
  }

  // In whatever thread calls the disk.
  void MaybeTakeImage(Op op, const std::string& path) {
    const std::lock_guard<std::mutex> lock(hook_mutex_);
    if (!recording_ || hook_random_() % plan_.one_in != 0) return;
    Image image;
    image.period = period_;
    image.answered = answered_;
    image.durable = durable_;
    image.reboots = reboots_;
    TakeImage(*env_, &hook_random_, &image);
    image.begun = begun_;
    if (!recording_ || image.period != period_) return;
    image.what += " before call " + std::to_string(static_cast<int>(op)) + " of " + path;
    images_.push_back(std::move(image));
  }

  static void TakeImage(const FakeEnv& env, std::mt19937_64* random, Image* image) {
    const uint64_t dice = (*random)() % 8;
    image->what += dice == 0   ? ", nothing unsynced kept"
                   : dice == 1 ? ", everything kept"
                   : dice == 2 ? ", something kept"
                   : dice == 3 ? ", something kept, garbage for the rest"
                   : dice < 6  ? ", something kept in no order"
                               : ", killed";
    if (dice >= 6) {
      image->env = env.ProcessDeath();
      return;
    }
    image->env = env.PowerLoss(dice == 0   ? Loss::kDropAll
                               : dice == 1 ? Loss::kKeepAll
                               : dice == 2 ? Loss::kRandom
                               : dice == 3 ? Loss::kGarbage
                                           : Loss::kUnordered,
                               (*random)());
    image->lost_power = true;
    ++image->reboots;
  }

  void CheckImages() {
    std::vector<Image> images;
    {
      const std::lock_guard<std::mutex> lock(hook_mutex_);
      images.swap(images_);
    }
    for (Image& image : images) {
      if (::testing::Test::HasFailure()) return;
      // One that another thread took when its period was just over has nothing to be compared with.
      if (image.period == period_) CheckImage(&image, 2);
    }
  }

  // Opens an image; while it opens, takes images of that, `depth` times.
  void CheckImage(Image* image, int depth) {
    ++images_checked_;
    std::vector<Image> inner;
    if (depth > 0 && random_() % 8 == 0) {
      const std::unique_ptr<FakeEnv> copy = image->env->ProcessDeath();
      const std::unique_ptr<FakeClock> clock = MakeClock(image->reboots);
      copy->SetHook([&](Op op, const std::string& path) {
        if (random_() % 4 != 0) return;
        Image crash;
        crash.period = image->period;
        crash.answered = image->answered;
        crash.durable = image->durable;
        crash.begun = image->begun;
        crash.reboots = image->reboots;
        crash.lost_power = image->lost_power;
        crash.what = image->what + ", then while opening";
        TakeImage(*copy, &random_, &crash);
        crash.what += " before call " + std::to_string(static_cast<int>(op)) + " of " + path;
        inner.push_back(std::move(crash));
      });
      // In the other thread nothing is due: so the hook runs in this one.
      std::unique_ptr<Engine> engine;
      const Status status = Engine::Open(kDirectory, OptionsOn(copy.get(), clock.get()), &engine);
      EXPECT_TRUE(status.ok()) << name_ << image->what << ": " << status.message();
      copy->SetHook(nullptr);
    }
    for (Image& crash : inner) {
      if (::testing::Test::HasFailure()) return;
      CheckImage(&crash, depth - 1);
    }
    const std::unique_ptr<FakeClock> clock = MakeClock(image->reboots);
    std::unique_ptr<Engine> engine;
    FindState(*image, clock.get(), &engine);
  }

  // The earliest state that a power loss may leave: so many changes may be lost and no more.
  size_t FirstToSurvive(const Image& image) const {
    size_t first = image.answered;
    uint64_t lost = 0;
    while (first > image.durable) {
      if (states_[first] != states_[first - 1] && ++lost > plan_.max_unsynced_events) break;
      --first;
    }
    return first;
  }

  // Opens an image and returns after how many operations of the period its state was this one; the
  // last if several have it.
  size_t FindState(const Image& image, const Clock* clock, std::unique_ptr<Engine>* engine) {
    const Status status = Engine::Open(kDirectory, OptionsOn(image.env.get(), clock), engine);
    EXPECT_TRUE(status.ok()) << name_ << ", operation " << done_ << image.what << ": "
                             << status.message();
    if (!status.ok()) return 0;
    const std::string state = DescribeAll(engine->get(), false);
    const size_t first = image.lost_power ? FirstToSurvive(image) : image.answered;
    const size_t last = std::min<size_t>(image.begun, states_.size() - 1);
    size_t found = last + 1;
    while (found > first && states_[found - 1] != state) --found;
    if (found == first) {
      ADD_FAILURE() << name_ << ", operation " << done_ << image.what << "\nopened as\n"
                    << LinesNotIn(states_[first], state) << "instead of\n"
                    << LinesNotIn(state, states_[first]) << "or later\n"
                    << LinesNotIn(state, states_[last]);
      return last;
    }
    for (const auto& [limit, count] : Model::DenialsOf(engine->get())) {
      EXPECT_LE(count, denials_[found - 1][limit])
          << name_ << image.what << ": denials of " << limit;
      // Later operations, of which a part may be there, may have forgotten some.
      if (!plan_.sync_denials || found - 1 != image.answered) continue;
      EXPECT_EQ(count, denials_[found - 1][limit])
          << name_ << image.what << ": denials of " << limit << " that were answered";
    }
    return found - 1;
  }

  // The crash is real: what is left of the disk is all there is.
  void GoOnFromAnImage() {
    CheckImages();
    recording_ = false;
    Image image;
    image.period = period_;
    image.answered = answered_;
    image.durable = durable_;
    image.begun = begun_;
    image.reboots = reboots_;
    TakeImage(*env_, &random_, &image);
    engine_.reset();
    reboots_ = image.reboots;
    std::unique_ptr<FakeClock> clock = MakeClock(reboots_);
    const size_t found = FindState(image, clock.get(), &engine_);
    if (::testing::Test::HasFailure()) return;
    env_ = std::move(image.env);
    clock_ = std::move(clock);
    history_.resize(history_.size() - (answered_ - found));
    const bool cut = !history_.empty() && history_.back().kind == Operation::Kind::kChangeInline;
    if (cut && !history_.back().cut) {
      history_.back().cut = true;
      flint::Perform(engine_.get(), history_.back());  // the model denies a check there too
    }
    model_ = std::make_unique<Model>();
    model_->Repeat(history_);
    env_->SetHook([this](Op op, const std::string& path) { MaybeTakeImage(op, path); });
    BeginPeriod();
  }

  const CrashPlan plan_;
  OperationSource source_;
  std::mt19937_64 random_;
  std::mt19937_64 hook_random_;  // under hook_mutex_
  std::string name_;

  std::unique_ptr<FakeEnv> env_;
  std::unique_ptr<FakeClock> clock_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Model> model_ = std::make_unique<Model>();
  std::vector<Operation> history_;
  int64_t now_ns_ = FakeClock::kStartWallNs;
  int reboots_ = 0;
  uint64_t done_ = 0;
  uint64_t images_checked_ = 0;
  uint64_t changes_ = 0;   // that checks have made of their limits
  uint64_t together_ = 0;  // answers of several limits of a key

  // After each operation of this period, beginning with none.
  std::vector<std::string> states_;
  std::vector<std::map<std::string, uint64_t>> denials_;

  std::atomic<bool> recording_ = false;
  std::atomic<uint64_t> period_ = 0;
  std::atomic<uint64_t> answered_ = 0;
  std::atomic<uint64_t> durable_ = 0;
  std::atomic<uint64_t> begun_ = 0;
  std::mutex hook_mutex_;
  std::vector<Image> images_;
};

uint64_t NumberIn(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

uint64_t RunSeeds(const CrashPlan& plan, uint64_t first, uint64_t count) {
  const bool whole = std::getenv("FLINT_LONG") != nullptr;
  const uint64_t only = NumberIn("FLINT_SEED", 0);
  const uint64_t last = only != 0 ? only : first + (whole ? 50 * count : count) - 1;
  first = only != 0 ? only : first + NumberIn("FLINT_SKIP", 0);
  uint64_t images = 0;
  uint64_t changes = 0;
  uint64_t together = 0;
  for (uint64_t seed = first; seed <= last && !::testing::Test::HasFailure(); ++seed) {
    CrashRun run(seed, plan);
    run.Run();
    images += run.images();
    changes += run.changes();
    together += run.together();
  }
  EXPECT_GT(changes, 0u) << "no check has changed its limit";
  EXPECT_EQ(together > 0, plan.named) << "several limits of a key";
  if (whole) {
    std::printf("seeds %" PRIu64 " to %" PRIu64 ": %" PRIu64 " images, %" PRIu64
                " limits changed by checks, %" PRIu64 " decisions of several limits\n",
                first, last, images, changes, together);
  }
  return images;
}

TEST(Crash, AlwaysMode) { EXPECT_GT(RunSeeds({.always = true}, 1, 8), 20u); }

TEST(Crash, BatchMode) { EXPECT_GT(RunSeeds({.always = false}, 1001, 8), 20u); }

// What power losses leave of a disk before its calls, with garbage for what had never been written.
class GarbageImages {
 public:
  GarbageImages(FakeEnv* env, std::string part_of_path)
      : env_(env), part_(std::move(part_of_path)) {
    env_->SetHook([this](Op, const std::string& path) { Take(path); });
  }
  ~GarbageImages() { env_->SetHook(nullptr); }

  void Stop() { stopped_ = true; }

  // Each opens, and holds so many admissions.
  void ExpectToOpen(StoreMode mode, uint64_t segment_bytes, uint64_t admitted) {
    for (size_t i = 0; i < images_.size(); ++i) {
      FakeClock later;
      later.Reboot();
      Engine::Options options = OptionsFor(images_[i].get(), &later, true);
      options.log.store_mode = mode;
      options.log.segment_bytes = segment_bytes;
      std::unique_ptr<Engine> engine;
      const Status status = Engine::Open(kDirectory, std::move(options), &engine);
      ASSERT_TRUE(status.ok()) << "image " << i << ": " << status.message();
      if (admitted == 0) {
        EXPECT_TRUE(Configure(engine.get(), "key", Hourly(5)).ok());
      } else {
        EXPECT_GE(StatusOf(engine.get(), "key").totals.allowed, admitted) << "image " << i;
      }
      EXPECT_TRUE(Allowed(engine.get(), "key"));
    }
  }
  size_t count() const { return images_.size(); }

 private:
  // In whatever thread calls the disk.
  void Take(const std::string& path) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopped_ || path.find(part_) == std::string::npos) return;
    for (int i = 0; i < kOfACall; ++i)
      images_.push_back(env_->PowerLoss(Loss::kGarbage, random_()));
  }

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  static constexpr int kOfACall = 1;  // opening takes many times as long
#else
  static constexpr int kOfACall = 4;
#endif

  FakeEnv* const env_;
  const std::string part_;
  std::atomic<bool> stopped_ = false;
  std::mutex mutex_;
  std::mt19937_64 random_{1};                     // with mutex_, as what follows
  std::vector<std::unique_ptr<FakeEnv>> images_;  // while the engine runs
};

// An opening that was never finished leaves a directory that opens as one that was never used.
TEST(Crash, TheFirstOpeningMayLeaveGarbage) {
  for (const StoreMode mode : {StoreMode::kMapped, StoreMode::kWritten}) {
    FakeEnv env;
    FakeClock clock;
    GarbageImages images(&env, "");
    Engine::Options options = OptionsFor(&env, &clock, true);
    options.log.store_mode = mode;
    const uint64_t segment_bytes = options.log.segment_bytes;
    std::unique_ptr<Engine> engine;
    ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &engine).ok());
    images.Stop();
    engine.reset();
    EXPECT_GT(images.count(), 10u);
    images.ExpectToOpen(mode, segment_bytes, 0);
  }
}

// A segment that was being prepared is not taken for one that holds records.
TEST(Crash, ThePreparationOfASegmentMayLeaveGarbage) {
  constexpr uint64_t kSegmentBytes = 10'000;
  constexpr uint64_t kBefore = 20;
  for (const bool always : {true, false}) {
    FakeEnv env;
    FakeClock clock;
    Engine::Options options = OptionsFor(&env, &clock, always);
    options.log.segment_bytes = kSegmentBytes;
    std::unique_ptr<Engine> engine;
    ASSERT_TRUE(Engine::Open(kDirectory, std::move(options), &engine).ok());
    ASSERT_TRUE(Configure(engine.get(), "key", Hourly(1'000'000)).ok());
    for (uint64_t i = 0; i < kBefore; ++i) ASSERT_TRUE(Allowed(engine.get(), "key"));
    ASSERT_TRUE(engine->Flush().ok());
    GarbageImages images(&env, kNextName);
    while (InfoOf(engine.get()).segments < 3) ASSERT_TRUE(Allowed(engine.get(), "key"));
    images.Stop();
    engine.reset();
    EXPECT_GT(images.count(), 5u);
    images.ExpectToOpen(StoreMode::kMapped, kSegmentBytes, kBefore);
  }
}

TEST(Crash, SeveralLimitsOfAKey) {
  EXPECT_GT(RunSeeds({.always = true, .named = true}, 6001, 6), 20u);
  EXPECT_GT(RunSeeds({.always = false, .named = true}, 7001, 6), 20u);
}

// A ring larger than the segments: several of them wait for the disk together.
TEST(Crash, BatchModeWithALargeRing) {
  CrashPlan plan{.always = false};
  plan.ring_bytes = 1 << 16;
  EXPECT_GT(RunSeeds(plan, 2001, 5), 20u);
}

TEST(Crash, AlwaysModeWithDenialsOnDisk) {
  EXPECT_GT(RunSeeds({.always = true, .sync_denials = true}, 4001, 8), 20u);
}

TEST(Crash, BatchModeWithABoundOnWhatMayBeLost) {
  EXPECT_GT(RunSeeds({.always = false, .max_unsynced_events = 3}, 5001, 8), 20u);
}

TEST(Crash, AlwaysModeWithOneSegment) {
  CrashPlan plan{.always = true};
  plan.segment_bytes = 1 << 18;
  EXPECT_GT(RunSeeds(plan, 3001, 3), 20u);
}

}  // namespace
}  // namespace flint
