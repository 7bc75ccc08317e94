#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "fake_clock.h"
#include "fake_env.h"

namespace flint {

// What the tests of the engine and of its files share.

inline constexpr char kDirectory[] = "/data";
inline constexpr int64_t kSecondNs = 1'000'000'000;
inline constexpr uint64_t kHourNs = 3'600'000'000'000;

inline LimitConfig Config(Algorithm algorithm, uint64_t rate, uint64_t per_ns, uint64_t burst = 0) {
  LimitConfig config;
  EXPECT_EQ(MakeConfig(algorithm, rate, per_ns, burst, &config), ConfigError::kNone);
  return config;
}

// `rate` an hour, in one window: what is used stays used for as long as a test lasts.
inline LimitConfig Hourly(uint64_t rate) {
  return Config(Algorithm::kFixedWindowCounter, rate, kHourNs);
}

// Timed syncs are far away, so that only the test decides when the disk is written.
inline Engine::Options OptionsFor(Env* env, const Clock* clock, bool always) {
  Engine::Options options;
  options.env = env;
  options.clock = clock;
  options.log.always = always;
  options.log.flush_every_events = uint64_t{1} << 32;
  options.log.flush_every_ns = kHourNs;
  options.log.segment_bytes = uint64_t{1} << 18;
  options.log.ring_bytes = uint64_t{1} << 14;
  return options;
}

// A disk, a clock and the limiter on them.
struct Machine {
  explicit Machine(bool always = true)
      : env(std::make_unique<FakeEnv>()), clock(std::make_unique<FakeClock>()) {
    options_always = always;
  }

  Engine::Options Options() const {
    Engine::Options options = OptionsFor(env.get(), clock.get(), options_always);
    options.log.segment_bytes = segment_bytes;
    options.log.ring_bytes = ring_bytes;
    options.history_max_bytes = history_max_bytes;
    return options;
  }
  Status TryOpen() {
    engine.reset();
    return Engine::Open(kDirectory, Options(), &engine);
  }
  void Open() {
    const Status status = TryOpen();
    ASSERT_TRUE(status.ok()) << status.message();
  }
  void Close() {
    const Status status = engine->Shutdown();
    EXPECT_TRUE(status.ok()) << status.message();
    engine.reset();
  }
  // Takes the disk as a killed process or a power loss leaves it, without the limiter.
  void Kill() { Replace(env->ProcessDeath()); }
  void LosePower(Loss loss, uint64_t seed = 0) {
    Replace(env->PowerLoss(loss, seed));
    clock->Reboot();
  }
  std::string Path(const std::string& name) const { return std::string(kDirectory) + "/" + name; }

  std::unique_ptr<FakeEnv> env;
  std::unique_ptr<FakeClock> clock;
  std::unique_ptr<Engine> engine;
  bool options_always;
  uint64_t segment_bytes = uint64_t{1} << 18;
  uint64_t ring_bytes = uint64_t{1} << 14;
  uint64_t history_max_bytes = uint64_t{1} << 28;

 private:
  void Replace(std::unique_ptr<FakeEnv> image) {
    engine.reset();
    env = std::move(image);
  }
};

inline Status Configure(Engine* engine, std::string_view key, const LimitConfig& config,
                        LimitKind kind = LimitKind::kExact, const Engine::Flags& flags = {}) {
  uint64_t ticket = 0;
  return engine->Configure(Engine::Limit{kind, key, config}, flags, &ticket);
}

inline Status Check(Engine* engine, std::string_view key, uint64_t cost, bool* allowed) {
  Engine::Decision decision;
  const Status status = engine->Check({key, cost}, {}, nullptr, &decision);
  *allowed = decision.allowed;
  return status;
}

// Whether a check that must not fail was admitted.
inline bool Allowed(Engine* engine, std::string_view key, uint64_t cost = 1) {
  bool allowed = false;
  const Status status = Check(engine, key, cost, &allowed);
  EXPECT_TRUE(status.ok()) << status.message();
  return allowed;
}

inline Engine::LimitStatus StatusOf(Engine* engine, std::string_view key,
                                    LimitKind kind = LimitKind::kExact) {
  Engine::LimitStatus limit;
  const Status status = engine->StatusOf(kind, key, &limit);
  EXPECT_TRUE(status.ok()) << status.message();
  return limit;
}

inline Engine::Info InfoOf(Engine* engine) {
  Engine::Info info;
  const Status status = engine->GetInfo(&info);
  EXPECT_TRUE(status.ok()) << status.message();
  return info;
}

// One line of text for everything that a status tells, but for denials.
inline std::string Describe(const Engine::LimitStatus& limit) {
  const LimitConfig& config = limit.config;
  std::string text = limit.key + (limit.name.empty() ? "" : "/" + limit.name) + " kind " +
                     std::to_string(static_cast<int>(limit.kind)) + " " +
                     AlgorithmName(config.algorithm);
  const auto add = [&text](const char* name, auto value) {
    text += std::string(" ") + name + " " + std::to_string(value);
  };
  add("rate", config.rate);
  add("per", config.per_ns);
  add("burst", config.burst);
  add("remaining", limit.remaining);
  add("reset", limit.reset_at_ns);
  add("allowed", limit.totals.allowed);
  add("cost", limit.totals.allowed_cost);
  add("last", limit.totals.last_allowed_ns);
  add("last_reset", limit.totals.last_reset_ns);
  add("counters", limit.counters);
  return config.stack ? text + " stack" : text;
}

inline std::string DescribeDenials(const Engine::LimitStatus& limit) {
  return limit.key + (limit.name.empty() ? "" : "/" + limit.name) + " denied " +
         std::to_string(limit.totals.denied) + " cost " + std::to_string(limit.totals.denied_cost) +
         " last " + std::to_string(limit.totals.last_denied_ns);
}

inline std::vector<Engine::LimitStatus> ListAll(Engine* engine) {
  std::vector<Engine::LimitStatus> page;
  const Status status = engine->ListBehind(nullptr, {true, 1'000'000, SIZE_MAX / 2, false}, &page);
  EXPECT_TRUE(status.ok()) << status.message();
  return page;
}

// All limits and live counters, one a line.
inline std::string DescribeAll(Engine* engine, bool with_denials) {
  std::string text;
  for (const Engine::LimitStatus& limit : ListAll(engine)) {
    text += Describe(limit) + "\n";
    if (with_denials) text += "  " + DescribeDenials(limit) + "\n";
  }
  return text;
}

}  // namespace flint
