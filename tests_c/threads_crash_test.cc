// Crashes under several threads. A thread may be held up between reading the clock and appending
// its record, so that records of other threads with later times come before it; the disk may keep
// what was not synced in any order. What was answered must be there when the directory opens again,
// nothing that was not asked for may be, and the doctor must find it sound.
//
// Which images of the disk are taken depends on how the threads run: a seed does not repeat a run.
// FLINT_LONG=1 checks 10,000 images.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/doctor.h"
#include "engine_testing.h"

namespace flint {
namespace {

constexpr size_t kThreads = 3;
constexpr size_t kKeys = 5;
// Some keys are used up before a run is over.
constexpr uint64_t LimitOf(size_t key) { return key % 2 == 0 ? 100'000 : 100; }
// A window that stays open, so that what was used is what was admitted.
constexpr uint64_t kPerNs = 1000 * kHourNs;

std::string KeyOf(size_t index) { return "key" + std::to_string(index); }

// Time passes with each reading. A thread that has read it goes on at once, or a while later.
class LateClock final : public Clock {
 public:
  explicit LateClock(uint64_t seed) : seed_(seed) {}

  int64_t BootNs() const override {
    thread_local std::mt19937_64 random(seed_ + readings_);
    const int64_t now_ns = passed_ns_ += static_cast<int64_t>(random() % 2'000'000);
    ++readings_;
    if (random() % 8 == 0) {
      for (uint64_t i = random() % 50; i > 0; --i) std::this_thread::yield();
    }
    return FakeClock::kStartBootNs + now_ns;
  }
  int64_t WallNs() const override { return FakeClock::kStartWallNs + passed_ns_; }
  BootId Boot() const override { return BootId{1}; }
  bool monotonic() const override { return true; }
  int64_t passed_ns() const { return passed_ns_; }

 private:
  const uint64_t seed_;
  mutable std::atomic<int64_t> passed_ns_ = 0;
  mutable std::atomic<uint64_t> readings_ = 0;
};

using Counts = std::array<uint64_t, kKeys>;

// Units of each key.
class Ledger {
 public:
  void Add(size_t key, uint64_t units) { units_[key] += units; }
  Counts Read() const {
    Counts counts{};
    for (size_t i = 0; i < kKeys; ++i) counts[i] = units_[i];
    return counts;
  }
  void RaiseTo(const Counts& counts) {
    for (size_t i = 0; i < kKeys; ++i) {
      uint64_t seen = units_[i];
      while (seen < counts[i] && !units_[i].compare_exchange_weak(seen, counts[i])) {
      }
    }
  }

 private:
  std::array<std::atomic<uint64_t>, kKeys> units_{};
};

struct Image {
  std::unique_ptr<FakeEnv> env;
  Counts least{};  // what must be there
  Counts most{};   // what was asked for
  int64_t passed_ns = 0;
  bool lost_power = false;
  std::string what;
};

struct Plan {
  bool always = true;
  bool evict = true;
  uint64_t images = 0;
};

class Crashes {
 public:
  Crashes(uint64_t seed, const Plan& plan)
      : seed_(seed), plan_(plan), env_(std::make_unique<FakeEnv>(seed)), clock_(seed) {
    hook_random_.seed(seed + 1);
    name_ = "seed " + std::to_string(seed) + (plan.always ? ", always" : ", batch");
  }

  void Go() {
    const Status status = Engine::Open(kDirectory, OptionsOn(env_.get(), &clock_), &engine_);
    ASSERT_TRUE(status.ok()) << status.message();
    for (size_t i = 0; i < kKeys; ++i) {
      const LimitConfig tracked = Config(Algorithm::kFixedWindowCounter, LimitOf(i), kPerNs);
      ASSERT_TRUE(Configure(engine_.get(), KeyOf(i), tracked).ok());
    }
    ASSERT_TRUE(Configure(engine_.get(), "ip:", Passing(3), LimitKind::kTemplate).ok());
    ASSERT_TRUE(engine_->Flush().ok());
    env_->SetHook([this](Op, const std::string&) { MaybeTakeImage(); });
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (size_t i = 0; i < kThreads; ++i) threads.emplace_back([this, i] { Work(i); });
    for (std::thread& thread : threads) thread.join();
    engine_.reset();
    env_->SetHook(nullptr);
    for (Image& image : images_) {
      if (!::testing::Test::HasFailure()) Check(&image);
    }
  }
  size_t images() const { return images_.size(); }

 private:
  static LimitConfig Passing(uint64_t rate) {
    return Config(Algorithm::kTokenBucket, rate, 50'000'000);
  }

  Engine::Options OptionsOn(Env* env, const Clock* clock) const {
    Engine::Options options = OptionsFor(env, clock, plan_.always);
    options.log.segment_bytes = 10'000;
    options.log.ring_bytes = 1 << 12;
    options.log.flush_every_events = 40;
    options.max_keys = 30;
    options.when_full = plan_.evict ? Engine::WhenFull::kEvict : Engine::WhenFull::kRefuse;
    return options;
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
    if (dice < 40) {
      Take({{KeyOf(key), 1 + dice % 3}}, {key});
    } else if (dice < 55) {
      const size_t other = (key + 1 + dice % (kKeys - 1)) % kKeys;
      Take({{KeyOf(key), 2}, {KeyOf(other), 1}}, {key, other});
    } else if (dice < 88) {
      Use(address);
    } else if (dice < 92) {
      uint64_t ticket = 0;
      IsOkOrAbsent(engine_->Reset(LimitKind::kExact, address, {}, &ticket));
    } else if (dice < 94) {
      IsOkOrAbsent(Configure(engine_.get(), "ip:", Passing(2 + key), LimitKind::kTemplate));
    } else if (dice < 98) {
      Flush();
    } else {
      IsOkOrAbsent(engine_->Compact({}));
    }
  }

  // All of them, in one decision.
  void Take(const std::vector<Engine::Item>& items, const std::vector<size_t>& keys) {
    for (size_t i = 0; i < keys.size(); ++i) begun_.Add(keys[i], items[i].cost);
    std::vector<Engine::Decision> decisions(items.size());
    size_t denied = 0;
    const Status status = items.size() == 1
                              ? engine_->Check(items[0], {}, nullptr, decisions.data())
                              : engine_->CheckAll(items, {}, decisions.data(), &denied);
    EXPECT_TRUE(status.ok()) << name_ << ": " << status.message();
    const auto allowed = [](const Engine::Decision& decision) { return decision.allowed; };
    if (!std::all_of(decisions.begin(), decisions.end(), allowed)) return;
    for (size_t i = 0; i < keys.size(); ++i) answered_.Add(keys[i], items[i].cost);
  }

  void Use(const std::string& address) {
    Engine::Decision decision;
    const Status status = engine_->Check({address, 1}, {}, nullptr, &decision);
    EXPECT_TRUE(status.ok() || status.code() == Code::kTableFull)
        << name_ << ": " << status.message();
  }

  void Flush() {
    const Counts before = answered_.Read();
    const Status status = engine_->Flush();
    EXPECT_TRUE(status.ok()) << name_ << ": " << status.message();
    durable_.RaiseTo(before);
  }

  void IsOkOrAbsent(const Status& status) {
    EXPECT_TRUE(status.ok() || status.code() == Code::kNotConfigured)
        << name_ << ": " << status.message();
  }

  // ---- Images ----

  // In whatever thread calls the disk.
  void MaybeTakeImage() {
    const std::lock_guard<std::mutex> lock(hook_mutex_);
    if (enough_ || hook_random_() % kOneIn != 0) return;
    Image image;
    const uint64_t dice = hook_random_() % 4;
    image.lost_power = dice != 0;
    image.least = image.lost_power && !plan_.always ? durable_.Read() : answered_.Read();
    image.what = dice == 0 ? ", killed" : dice == 1 ? ", some of it kept" : ", kept in no order";
    image.env = dice == 0
                    ? env_->ProcessDeath()
                    : env_->PowerLoss(dice == 1 ? Loss::kRandom : Loss::kUnordered, hook_random_());
    image.most = begun_.Read();
    image.passed_ns = clock_.passed_ns();
    images_.push_back(std::move(image));
    enough_ = images_.size() >= plan_.images;
  }

  void Check(Image* image) {
    const std::string name = name_ + ", image " + std::to_string(checked_++) + image->what;
    FakeClock clock;
    clock.AdvanceNs(image->passed_ns);
    if (image->lost_power) clock.Reboot();
    DoctorReport report;
    const Status before = Examine(image->env.get(), &clock, kDirectory, &report);
    EXPECT_TRUE(before.ok()) << name << ": the doctor, before: " << before.message();
    std::unique_ptr<Engine> engine;
    const Status status = Engine::Open(kDirectory, OptionsOn(image->env.get(), &clock), &engine);
    ASSERT_TRUE(status.ok()) << name << ": " << status.message();
    for (size_t i = 0; i < kKeys; ++i) {
      const Engine::LimitStatus limit = StatusOf(engine.get(), KeyOf(i));
      const uint64_t units = limit.totals.allowed_cost;
      EXPECT_GE(units, image->least[i]) << name << ": an answer of " << KeyOf(i) << " is lost";
      EXPECT_LE(units, image->most[i]) << name << ": more of " << KeyOf(i) << " than asked for";
      EXPECT_LE(units, LimitOf(i)) << name << ": more of " << KeyOf(i) << " than its limit";
      EXPECT_EQ(limit.remaining, LimitOf(i) - units) << name << ": " << KeyOf(i);
    }
    EXPECT_EQ(InfoOf(engine.get()).damaged_history, 0u) << name;
    EXPECT_TRUE(engine->Shutdown().ok()) << name;
    engine.reset();
    const Status after = Examine(image->env.get(), &clock, kDirectory, &report);
    EXPECT_TRUE(after.ok()) << name << ": the doctor, after: " << after.message();
  }

  static constexpr uint64_t kOneIn = 1000;  // calls of the disk leaves an image

  const uint64_t seed_;
  const Plan plan_;
  std::string name_;
  std::unique_ptr<FakeEnv> env_;
  LateClock clock_;
  std::unique_ptr<Engine> engine_;
  Ledger begun_;
  Ledger answered_;
  Ledger durable_;
  std::atomic<bool> enough_ = false;
  std::mutex hook_mutex_;
  std::mt19937_64 hook_random_;  // with hook_mutex_
  std::vector<Image> images_;    // with hook_mutex_
  size_t checked_ = 0;
};

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kImages = 5;  // opening takes many times as long
#else
constexpr uint64_t kImages = 60;
#endif

TEST(ThreadsCrash, KeepsWhatWasAnsweredAndNoMore) {
  const bool whole = std::getenv("FLINT_LONG") != nullptr;
  const uint64_t wanted = whole ? 10'000 : 4 * kImages;
  const uint64_t in_one = whole ? 50 : kImages;
  uint64_t images = 0;
  for (uint64_t seed = 1; images < wanted && !HasFailure(); ++seed) {
    Crashes run(seed, {seed % 2 == 0, seed % 4 < 2, in_one});
    run.Go();
    images += run.images();
  }
  std::printf("%llu images of the disk under %zu threads\n",
              static_cast<unsigned long long>(images), kThreads);
}

}  // namespace
}  // namespace flint
