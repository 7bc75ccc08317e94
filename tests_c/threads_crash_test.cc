// Crashes under several threads. A thread may be held up between reading the clock and appending
// its record, and the clocks of the threads differ, so that records of other threads with later
// times come before it; the disk may keep what was not synced in any order. What was answered must
// be there when the directory opens again, nothing that was not asked for may be, and the doctor
// must find it sound. Each run goes on from one of its images: there the crash may come while the
// directory is being opened, others wait for it, and threads begin as soon as it is open.
//
// Which images of the disk are taken depends on how the threads run: a seed does not repeat a run.
// What an image was that failed is kept, and its path printed.
// FLINT_LONG=1 checks 10,000 images, FLINT_SKIP=<n> begins behind the first n seeds.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/doctor.h"
#include "engine_testing.h"
#include "temporary_directory.h"

namespace flint {
namespace {

constexpr size_t kThreads = 3;
// The last of the keys has two limits; those before it are reset now and then.
constexpr size_t kKeys = 8;
constexpr size_t kNamed = 7;
constexpr size_t kFirstReset = 5;
constexpr size_t kResets = 2;
constexpr std::string_view kNames[] = {"day", "hour"};
// Some keys are used up before a run is over.
constexpr uint64_t LimitOf(size_t key) { return key % 2 == 0 ? 100'000 : 100; }
// A window that stays open, so that what was used is what was admitted.
constexpr uint64_t kPerNs = 1000 * kHourNs;

std::string KeyOf(size_t index) { return "key" + std::to_string(index); }

// Where a life begins or an image is opened.
struct Moment {
  uint8_t boot = 1;
  int64_t boot_ns = FakeClock::kStartBootNs;
  int64_t wall_ns = FakeClock::kStartWallNs;
};

// Time passes with each reading. A thread that has read it goes on at once, or a while later. Some
// threads are behind others.
class LateClock final : public Clock {
 public:
  LateClock(uint64_t seed, const Moment& start) : seed_(seed), start_(start) {}

  int64_t BootNs() const override {
    thread_local std::mt19937_64 random(seed_ + readings_);
    thread_local const auto behind_ns = static_cast<int64_t>(random() % kMostBehindNs);
    const int64_t now_ns = passed_ns_ += static_cast<int64_t>(random() % 2'000'000);
    ++readings_;
    if (random() % 8 == 0) {
      for (uint64_t i = random() % 50; i > 0; --i) std::this_thread::yield();
    }
    return start_.boot_ns + now_ns - behind_ns;
  }
  int64_t WallNs() const override { return start_.wall_ns + passed_ns_; }
  BootId Boot() const override { return BootId{start_.boot}; }
  bool monotonic() const override { return true; }

  // When no thread is later.
  Moment Now(bool rebooted) const {
    const int64_t passed_ns = passed_ns_;
    Moment now = start_;
    now.boot = static_cast<uint8_t>(start_.boot + (rebooted ? 1 : 0));
    now.boot_ns = rebooted ? kMostBehindNs : start_.boot_ns + passed_ns;
    now.wall_ns += passed_ns;
    return now;
  }

 private:
  static constexpr int64_t kMostBehindNs = 10'000'000;

  const uint64_t seed_;
  const Moment start_;
  mutable std::atomic<int64_t> passed_ns_ = 0;
  mutable std::atomic<uint64_t> readings_ = 0;
};

// ---- What was asked and answered ---------------------------------------------------------------

using Counts = std::array<uint64_t, kKeys>;  // units of each key

// A reset that was answered.
struct ResetMark {
  uint64_t number = 0;
  uint64_t answered_before = 0;  // units of the key before it began
  uint64_t begun_after = 0;      // units that had been asked for when it was answered
};

struct Answered {
  Counts units{};
  std::array<ResetMark, kResets> resets;  // the last of each key
};

struct Begun {
  Counts units{};
  std::array<uint64_t, kResets> resets{};
};

class Ledger {
 public:
  Ledger() = default;
  Ledger(const Answered& answered, const Answered& durable, const Begun& begun)
      : answered_(answered), durable_(durable), begun_(begun) {}

  void Begin(size_t key, uint64_t units) {
    const std::lock_guard<std::mutex> lock(mutex_);
    begun_.units[key] += units;
  }
  void Answer(size_t key, uint64_t units) {
    const std::lock_guard<std::mutex> lock(mutex_);
    answered_.units[key] += units;
  }
  // One at a time of each key.
  uint64_t BeginReset(size_t reset) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++begun_.resets[reset];
    return answered_.units[kFirstReset + reset];
  }
  void AnswerReset(size_t reset, uint64_t answered_before) {
    const std::lock_guard<std::mutex> lock(mutex_);
    answered_.resets[reset] = {begun_.resets[reset], answered_before,
                               begun_.units[kFirstReset + reset]};
  }
  void Keep(const Answered& durable) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < kKeys; ++i) {
      durable_.units[i] = std::max(durable_.units[i], durable.units[i]);
    }
    for (size_t i = 0; i < kResets; ++i) {
      if (durable.resets[i].number > durable_.resets[i].number) {
        durable_.resets[i] = durable.resets[i];
      }
    }
  }

  Answered answered() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return answered_;
  }
  Answered durable() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return durable_;
  }
  Begun begun() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return begun_;
  }

 private:
  mutable std::mutex mutex_;
  Answered answered_;
  Answered durable_;
  Begun begun_;
};

// ---- Images ------------------------------------------------------------------------------------

struct Image {
  std::unique_ptr<FakeEnv> env;
  Answered least;    // what must be there
  Answered durable;  // what a power loss after this crash must leave
  Begun most;        // what was asked for
  Moment moment;
  std::string what;
};

// On the real disk, to be looked at.
std::string Keep(const FakeEnv& env) {
  std::string path = (std::filesystem::temp_directory_path() / "flint-image-XXXXXX").string();
  EXPECT_NE(mkdtemp(path.data()), nullptr) << path;
  for (const std::string& file : env.Files()) {
    const std::string bytes = env.Contents(file);
    std::ofstream copy(path + file.substr(file.rfind('/')), std::ios::binary);
    copy.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    EXPECT_TRUE(copy.good()) << file;
  }
  return path;
}

struct Plan {
  bool always = true;
  bool evict = true;
  uint64_t images = 0;
};

Engine::Options OptionsOn(const Plan& plan, Env* env, const Clock* clock) {
  Engine::Options options = OptionsFor(env, clock, plan.always);
  options.log.segment_bytes = 10'000;
  options.log.ring_bytes = 1 << 12;
  options.log.flush_every_events = 40;
  options.max_keys = 30;
  options.when_full = plan.evict ? Engine::WhenFull::kEvict : Engine::WhenFull::kRefuse;
  return options;
}

Engine::LimitStatus StatusOf(Engine* engine, size_t key, std::string_view name) {
  Engine::LimitStatus limit;
  const Status status = engine->StatusOf(LimitKind::kExact, KeyOf(key), name, &limit);
  EXPECT_TRUE(status.ok()) << status.message();
  return limit;
}

// What an image must open as.
class ImageCheck {
 public:
  ImageCheck(const Plan& plan, std::string name) : plan_(plan), name_(std::move(name)) {}

  void Run(const Image& image) {
    const std::unique_ptr<FakeEnv> env = image.env->ProcessDeath();
    OpenAndCompare(image, env.get());
    if (!::testing::Test::HasFailure()) return;
    ADD_FAILURE() << name_ << ": the image is in " << Keep(*image.env);
  }

 private:
  void OpenAndCompare(const Image& image, FakeEnv* env) {
    FakeClock clock;
    for (uint8_t boot = 1; boot < image.moment.boot; ++boot) clock.Reboot();
    clock.SetBootNs(image.moment.boot_ns);
    clock.SetWallNs(image.moment.wall_ns);
    DoctorReport report;
    const Status before = Examine(env, &clock, kDirectory, &report);
    EXPECT_TRUE(before.ok()) << name_ << ": the doctor, before: " << before.message();
    std::unique_ptr<Engine> engine;
    const Status status = Engine::Open(kDirectory, OptionsOn(plan_, env, &clock), &engine);
    ASSERT_TRUE(status.ok()) << name_ << ": " << status.message();
    Compare(image, engine.get());
    EXPECT_EQ(InfoOf(engine.get()).damaged_history, 0u) << name_;
    EXPECT_TRUE(engine->Shutdown().ok()) << name_;
    engine.reset();
    const Status after = Examine(env, &clock, kDirectory, &report);
    EXPECT_TRUE(after.ok()) << name_ << ": the doctor, after: " << after.message();
  }

  void Compare(const Image& image, Engine* engine) {
    for (size_t i = 0; i < kKeys; ++i) {
      const Engine::LimitStatus limit = StatusOf(engine, i, i == kNamed ? kNames[1] : "");
      const uint64_t units = limit.totals.allowed_cost;
      const std::string key = name_ + ": " + KeyOf(i);
      EXPECT_GE(units, image.least.units[i]) << key << ": an answer is lost";
      EXPECT_LE(units, image.most.units[i]) << key << ": more than asked for";
      EXPECT_LE(limit.remaining, LimitOf(i)) << key;
      const uint64_t used = LimitOf(i) - limit.remaining;
      if (i >= kFirstReset && i < kFirstReset + kResets) {
        CompareReset(image, i - kFirstReset, units, used);
      } else {
        EXPECT_EQ(used, units) << key;
      }
    }
    // They decide together, in one record.
    const Engine::LimitStatus other = StatusOf(engine, kNamed, kNames[0]);
    EXPECT_EQ(other.totals.allowed_cost, StatusOf(engine, kNamed, kNames[1]).totals.allowed_cost)
        << name_;
    EXPECT_EQ(other.remaining, LimitOf(0) - other.totals.allowed_cost) << name_;
  }

  // What was admitted before the last reset no longer counts, what came after it does.
  void CompareReset(const Image& image, size_t reset, uint64_t units, uint64_t used) {
    const size_t key = kFirstReset + reset;
    const ResetMark& mark = image.least.resets[reset];
    EXPECT_LE(used, units) << name_ << ": " << KeyOf(key);
    EXPECT_LE(used, image.most.units[key] - mark.answered_before)
        << name_ << ": a reset of " << KeyOf(key) << " is lost";
    if (image.most.resets[reset] != mark.number) return;  // there may be one more
    EXPECT_GE(used + mark.begun_after, image.least.units[key])
        << name_ << ": what " << KeyOf(key) << " has used since its reset is lost";
  }

  const Plan plan_;
  const std::string name_;
};

// ---- A life ------------------------------------------------------------------------------------

// Of one process: its directory is opened, its threads work on it, its disk is looked at.
class Life {
 public:
  Life(uint64_t seed, const Plan& plan)
      : seed_(seed),
        plan_(plan),
        name_("seed " + std::to_string(seed) + (plan.always ? ", always" : ", batch")),
        env_(std::make_unique<FakeEnv>(seed)),
        clock_(seed, Moment()),
        hook_random_(seed + 1) {}
  Life(uint64_t seed, const Plan& plan, const Image& from)
      : seed_(seed),
        plan_(plan),
        name_("seed " + std::to_string(seed) + (plan.always ? ", always" : ", batch") + from.what +
              ", then"),
        env_(from.env->ProcessDeath()),
        clock_(seed, from.moment),
        ledger_(from.least, from.durable, from.most),
        hook_random_(seed + 2) {}

  // In a new directory.
  void Begin() {
    ASSERT_TRUE(Open().ok());
    for (size_t i = 0; i < kNamed; ++i) {
      ASSERT_TRUE(Configure(engine_.get(), KeyOf(i), Tracked(LimitOf(i))).ok());
    }
    ConfigureNamed(LimitKind::kExact, KeyOf(kNamed), kNames[0], Tracked(LimitOf(0)));
    ConfigureNamed(LimitKind::kExact, KeyOf(kNamed), kNames[1], Tracked(LimitOf(kNamed)));
    ASSERT_TRUE(Configure(engine_.get(), "ip:", Passing(3), LimitKind::kTemplate).ok());
    ASSERT_TRUE(engine_->Flush().ok());
    ledger_.Keep(ledger_.answered());
    env_->SetHook([this](Op, const std::string&) { MaybeTakeImage(false); });
    Go({});
  }

  // Where another was ended: threads wait until the directory is open, and so does a process that
  // would have it next.
  void GoOn() {
    std::atomic<bool> open = false;
    std::vector<std::thread> others;
    std::once_flag begun;
    env_->SetHook([&](Op op, const std::string&) {
      // Whoever reads holds the lock.
      if (op == Op::kRead) {
        std::call_once(begun, [&] { others.emplace_back([this] { OpenNext(); }); });
      }
      MaybeTakeImage(!open);
    });
    std::vector<std::thread> threads = Threads(&open);
    const Status status = Open();
    EXPECT_TRUE(status.ok()) << name_ << ": " << status.message();
    ledger_.Keep(ledger_.answered());
    if (!status.ok()) enough_ = true;
    open = true;
    open.notify_all();
    Go(std::move(threads));
    for (std::thread& other : others) other.join();
    env_->SetHook(nullptr);
  }

  void Check() {
    for (size_t i = 0; i < images_.size() && !::testing::Test::HasFailure(); ++i) {
      ImageCheck(plan_, name_ + ", image " + std::to_string(i) + images_[i].what).Run(images_[i]);
    }
  }
  const std::vector<Image>& images() const { return images_; }
  uint64_t of_opening() const { return of_opening_; }
  uint64_t times_back() const { return times_back_; }

 private:
  static LimitConfig Tracked(uint64_t limit) {
    return Config(Algorithm::kFixedWindowCounter, limit, kPerNs);
  }
  static LimitConfig Passing(uint64_t rate) {
    return Config(Algorithm::kTokenBucket, rate, 50'000'000);
  }

  Status Open() {
    return Engine::Open(kDirectory, OptionsOn(plan_, env_.get(), &clock_), &engine_);
  }

  // Those that begin together with this life have been waiting for it.
  void Go(std::vector<std::thread> threads) {
    std::atomic<bool> open = true;
    if (threads.empty()) threads = Threads(&open);
    for (std::thread& thread : threads) thread.join();
    if (engine_ == nullptr) return;
    LookAtTimes();
    engine_.reset();
  }

  std::vector<std::thread> Threads(const std::atomic<bool>* open) {
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([this, open, i] {
        open->wait(false);
        Work(i);
      });
    }
    return threads;
  }

  // In another process: it has the directory when this one has closed it.
  void OpenNext() {
    Engine::Options options = OptionsOn(plan_, env_.get(), &clock_);
    options.lock_timeout_ns = kHourNs;
    std::unique_ptr<Engine> next;
    const Status status = Engine::Open(kDirectory, std::move(options), &next);
    EXPECT_TRUE(status.ok()) << name_ << ", the next: " << status.message();
  }

  // Records whose times are before those of records that come before them.
  void LookAtTimes() {
    HistoryQuery query;
    query.newest_first = true;
    query.capacity = 2'000;
    query.text_bytes = 1 << 16;
    HistoryPage page;
    const Status status = engine_->History(query, &page);
    EXPECT_TRUE(status.ok()) << name_ << ": " << status.message();
    int64_t next_ns = INT64_MAX;
    for (const HistoryEvent& event : page.events) {
      if (event.engine_ns > next_ns) ++times_back_;
      next_ns = event.engine_ns;
    }
  }

  // ---- What the threads do ----

  void Work(size_t thread) {
    std::mt19937_64 random(seed_ * 100 + thread);
    while (!enough_ && !::testing::Test::HasFailure()) Step(&random);
  }

  void Step(std::mt19937_64* random) {
    const uint64_t dice = (*random)() % 100;
    const size_t key = (*random)() % kKeys;
    const std::string address = "ip:" + std::to_string((*random)() % 60);
    uint64_t ticket = 0;
    if (dice < 40) {
      Take({{KeyOf(key), 1 + dice % 3}}, {key});
    } else if (dice < 55) {
      const size_t other = (key + 1 + dice % (kKeys - 1)) % kKeys;
      Take({{KeyOf(key), 2}, {KeyOf(other), 1}}, {key, other});
    } else if (dice < 80) {
      Use(address, nullptr);
    } else if (dice < 87) {
      const LimitConfig carried = Passing(2 + dice % 3);
      Use("login:" + std::to_string(key), &carried);
    } else if (dice < 90) {
      IsOkOrAbsent(engine_->Reset(LimitKind::kExact, address, {}, &ticket));
    } else if (dice < 92) {
      Reset(key % kResets);
    } else if (dice < 94) {
      IsOkOrAbsent(Configure(engine_.get(), "ip:", Passing(2 + key), LimitKind::kTemplate));
    } else if (dice < 95) {
      ChangeNamed(key);
    } else if (dice < 98) {
      Flush();
    } else {
      IsOkOrAbsent(engine_->Compact({}));
    }
  }

  // All of them, in one decision.
  void Take(const std::vector<Engine::Item>& items, const std::vector<size_t>& keys) {
    for (size_t i = 0; i < keys.size(); ++i) ledger_.Begin(keys[i], items[i].cost);
    std::vector<Engine::Decision> decisions(items.size());
    size_t denied = 0;
    const Status status = items.size() == 1
                              ? engine_->Check(items[0], {}, nullptr, decisions.data())
                              : engine_->CheckAll(items, {}, decisions.data(), &denied);
    EXPECT_TRUE(status.ok()) << name_ << ": " << status.message();
    const auto allowed = [](const Engine::Decision& decision) { return decision.allowed; };
    if (!std::all_of(decisions.begin(), decisions.end(), allowed)) return;
    for (size_t i = 0; i < keys.size(); ++i) ledger_.Answer(keys[i], items[i].cost);
  }

  void Use(const std::string& key, const LimitConfig* carried) {
    Engine::Flags flags;
    flags.update = carried != nullptr;
    Engine::Decision decision;
    const Status status = engine_->Check({key, 1}, flags, carried, &decision);
    EXPECT_TRUE(status.ok() || status.code() == Code::kTableFull)
        << name_ << ": " << status.message();
  }

  void Reset(size_t reset) {
    const std::lock_guard<std::mutex> lock(reset_mutexes_[reset]);
    const uint64_t before = ledger_.BeginReset(reset);
    uint64_t ticket = 0;
    const Status status =
        engine_->Reset(LimitKind::kExact, KeyOf(kFirstReset + reset), {}, &ticket);
    EXPECT_TRUE(status.ok()) << name_ << ": " << status.message();
    ledger_.AnswerReset(reset, before);
  }

  void ConfigureNamed(LimitKind kind, const std::string& key, std::string_view name,
                      const LimitConfig& config) {
    uint64_t ticket = 0;
    IsOkOrAbsent(engine_->Configure(Engine::Limit{kind, key, config, name}, {}, &ticket));
  }

  // A template with a name of its own that applies beside a shorter one, or to the same keys.
  void ChangeNamed(size_t key) {
    const std::string_view name = kNames[key % 2];
    const std::string prefix = key % 4 < 2 ? "ip:" : "ip:1";
    LimitConfig config = Passing(3 + key);
    config.stack = true;
    if (key < kKeys / 2) return ConfigureNamed(LimitKind::kTemplate, prefix, name, config);
    uint64_t ticket = 0;
    IsOkOrAbsent(engine_->Remove(LimitKind::kTemplate, prefix, &name, {}, &ticket));
  }

  void Flush() {
    const Answered before = ledger_.answered();
    const Status status = engine_->Flush();
    EXPECT_TRUE(status.ok()) << name_ << ": " << status.message();
    ledger_.Keep(before);
  }

  void IsOkOrAbsent(const Status& status) {
    EXPECT_TRUE(status.ok() || status.code() == Code::kNotConfigured)
        << name_ << ": " << status.message();
  }

  // ---- Images ----

  // In whatever thread calls the disk.
  void MaybeTakeImage(bool opening) {
    const std::lock_guard<std::mutex> lock(hook_mutex_);
    if (enough_ || hook_random_() % (opening ? kOneInOfOpening : kOneIn) != 0) return;
    if (opening && images_.size() >= plan_.images / 2) return;  // the rest is for the threads
    if (opening) ++of_opening_;
    Image image;
    const uint64_t dice = hook_random_() % 4;
    const bool lost_power = dice != 0;
    image.durable = plan_.always ? ledger_.answered() : ledger_.durable();
    image.least = lost_power ? image.durable : ledger_.answered();
    image.what = dice == 0 ? ", killed" : dice == 1 ? ", some of it kept" : ", kept in no order";
    if (opening) image.what += " while it was being opened";
    image.env = dice == 0
                    ? env_->ProcessDeath()
                    : env_->PowerLoss(dice == 1 ? Loss::kRandom : Loss::kUnordered, hook_random_());
    image.most = ledger_.begun();
    image.moment = clock_.Now(lost_power);
    images_.push_back(std::move(image));
    enough_ = images_.size() >= plan_.images;
  }

  static constexpr uint64_t kOneIn = 1000;  // calls of the disk leaves an image
  static constexpr uint64_t kOneInOfOpening = 30;

  const uint64_t seed_;
  const Plan plan_;
  const std::string name_;
  std::unique_ptr<FakeEnv> env_;
  LateClock clock_;
  std::unique_ptr<Engine> engine_;
  Ledger ledger_;
  std::array<std::mutex, kResets> reset_mutexes_;
  std::atomic<bool> enough_ = false;
  std::mutex hook_mutex_;
  std::mt19937_64 hook_random_;  // with hook_mutex_
  std::vector<Image> images_;    // with hook_mutex_
  uint64_t of_opening_ = 0;      // of the images
  uint64_t times_back_ = 0;
};

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kImages = 4;  // opening takes many times as long
#else
constexpr uint64_t kImages = 30;
#endif

TEST(ThreadsCrash, KeepsWhatWasAnsweredAndNoMore) {
  const bool whole = std::getenv("FLINT_LONG") != nullptr;
  const char* const skip = std::getenv("FLINT_SKIP");
  const uint64_t wanted = whole ? 10'000 : 8 * kImages;
  uint64_t images = 0;
  uint64_t of_opening = 0;
  uint64_t times_back = 0;
  uint64_t seed = skip == nullptr ? 0 : std::strtoull(skip, nullptr, 10);
  while (images < wanted && !HasFailure()) {
    ++seed;
    const Plan plan{seed % 2 == 0, seed % 4 < 2, whole ? 25 : kImages};
    Life first(seed, plan);
    first.Begin();
    if (HasFailure()) break;
    Life second(seed, plan, first.images()[seed % plan.images]);
    second.GoOn();
    first.Check();
    second.Check();
    images += first.images().size() + second.images().size();
    of_opening += second.of_opening();
    times_back += first.times_back() + second.times_back();
  }
  std::printf("%" PRIu64 " images of the disk under %zu threads, %" PRIu64
              " of them while it was being opened, the last seed %" PRIu64 "; %" PRIu64
              " times were before those of records before them\n",
              images, kThreads, of_opening, seed, times_back);
  EXPECT_GT(of_opening, 0u);
  EXPECT_GT(times_back, 0u);
}

TEST(ThreadsCrash, AnImageIsKeptWholeToBeLookedAt) {
  Machine machine;
  machine.Open();
  ASSERT_TRUE(Configure(machine.engine.get(), "key", Hourly(5)).ok());
  EXPECT_TRUE(Allowed(machine.engine.get(), "key"));
  const std::string state = DescribeAll(machine.engine.get(), false);
  machine.Kill();
  const std::string path = Keep(*machine.env);
  std::unique_ptr<Engine> engine;
  Engine::Options options = OptionsFor(Env::Posix(), machine.clock.get(), true);
  const Status status = Engine::Open(path, std::move(options), &engine);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(DescribeAll(engine.get(), false), state);
  engine.reset();
  std::filesystem::remove_all(path);
}

}  // namespace
}  // namespace flint
