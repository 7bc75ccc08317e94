// Names on a file system that keeps the changes of a directory in any order. A program is killed
// between such changes and their sync; the next one sees them, and the power fails while it opens.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine_testing.h"

namespace flint {
namespace {

struct Image {
  std::unique_ptr<FakeEnv> env;
  uint64_t answered = 0;
  std::string what;
};

class Naming : public ::testing::Test {
 protected:
  // Takes what a killed program leaves before each sync of the directory.
  void SetUp() override {
    machine_.segment_bytes = 10'000;
    machine_.env->SetHook([this](Op op, const std::string&) {
      if (op != Op::kSyncDirectory || !taking_) return;
      const std::lock_guard<std::mutex> lock(killed_mutex_);
      const uint64_t answered = answered_;
      killed_.push_back(
          {machine_.env->ProcessDeath(), answered, "killed " + std::to_string(killed_.size())});
    });
    machine_.Open();
    ASSERT_TRUE(Configure(machine_.engine.get(), "key", Hourly(1'000'000)).ok());
  }

  void UseFor(int checks) {
    for (int i = 0; i < checks; ++i) {
      ASSERT_TRUE(Allowed(machine_.engine.get(), "key"));
      ++answered_;
    }
  }

  Status Open(FakeEnv* env, const Clock* clock, std::unique_ptr<Engine>* engine) const {
    Engine::Options options = OptionsFor(env, clock, true);
    options.log.segment_bytes = machine_.segment_bytes;
    return Engine::Open(kDirectory, std::move(options), engine);
  }

  // Opens what a killed program left, and loses power before each sync of the directory.
  std::vector<Image> LosePowerWhileOpening(const Image& killed) const {
    std::vector<Image> images;
    const std::unique_ptr<FakeEnv> disk = killed.env->ProcessDeath();
    uint64_t syncs = 0;
    std::mutex mutex;
    disk->SetHook([&](Op op, const std::string&) {
      if (op != Op::kSyncDirectory) return;
      const std::lock_guard<std::mutex> lock(mutex);
      ++syncs;
      for (uint64_t seed = 0; seed < kOutcomes; ++seed) {
        images.push_back({disk->PowerLoss(Loss::kUnordered, syncs * kOutcomes + seed),
                          killed.answered,
                          killed.what + ", power lost before sync " + std::to_string(syncs)});
      }
    });
    FakeClock clock;
    std::unique_ptr<Engine> engine;
    const Status status = Open(disk.get(), &clock, &engine);
    EXPECT_TRUE(status.ok()) << killed.what << ": " << status.message();
    engine.reset();
    disk->SetHook(nullptr);
    return images;
  }

  void ExpectAllThere(const Image& image) const {
    FakeClock clock;
    clock.Reboot();
    std::unique_ptr<Engine> engine;
    const Status status = Open(image.env.get(), &clock, &engine);
    ASSERT_TRUE(status.ok()) << image.what << ": " << status.message();
    if (image.answered == 0) return;
    EXPECT_GE(StatusOf(engine.get(), "key").totals.allowed, image.answered) << image.what;
  }

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  static constexpr uint64_t kOutcomes = 1;  // opening takes many times as long
#else
  static constexpr uint64_t kOutcomes = 4;
#endif

  Machine machine_;
  std::atomic<uint64_t> answered_ = 0;
  std::atomic<bool> taking_ = true;
  std::mutex killed_mutex_;
  std::vector<Image> killed_;  // with killed_mutex_, while the engine runs
};

TEST_F(Naming, WhatAKilledProgramNamedIsOnDiskBeforeAnOpeningGoesOn) {
  UseFor(300);
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  UseFor(300);
  ASSERT_TRUE(machine_.engine->Compact({}).ok());
  taking_ = false;
  machine_.engine.reset();
  ASSERT_GT(killed_.size(), 15u);
  uint64_t checked = 0;
  for (const Image& killed : killed_) {
    for (const Image& image : LosePowerWhileOpening(killed)) {
      ExpectAllThere(image);
      if (HasFatalFailure()) return;
      ++checked;
    }
  }
  EXPECT_GT(checked, 75 * kOutcomes);
}

}  // namespace
}  // namespace flint
