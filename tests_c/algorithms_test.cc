#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "algorithms/algorithm.h"

namespace flint {
namespace {

constexpr Algorithm kAll[] = {
    Algorithm::kTokenBucket,      Algorithm::kGcra,
    Algorithm::kLeakyBucket,      Algorithm::kFixedWindowCounter,
    Algorithm::kSlidingWindowLog, Algorithm::kSlidingWindowCounter,
};
constexpr int64_t kMaxTimeNs = int64_t{1} << 62;
constexpr int64_t kYearNs = int64_t{365} * 86'400 * 1'000'000'000;

LimitConfig Config(Algorithm algorithm, uint64_t rate, uint64_t per_ns, uint64_t burst = 0) {
  LimitConfig config;
  EXPECT_EQ(MakeConfig(algorithm, rate, per_ns, burst, &config), ConfigError::kNone);
  return config;
}

bool Check(const LimitConfig& config, State& state, int64_t now_ns, uint64_t cost) {
  if (!Allows(config, state, now_ns, cost)) return false;
  PrepareAdmit(config, state, now_ns);
  Admit(config, state, now_ns, cost);
  return true;
}

State Copy(const State& state) {
  State copy;
  copy.sliding = state.sliding;  // the largest of the union
  if (state.log) {
    copy.log = std::make_unique<SlidingLog>();
    for (uint32_t i = 0; i < state.log->size(); ++i) {
      copy.log->Append(state.log->entry(i).at_ns, state.log->entry(i).cost);
    }
  }
  return copy;
}

// Denied until just before retry_after, admitted at it.
void ExpectRetryIsFirstMoment(const LimitConfig& config, const State& state, int64_t now_ns,
                              uint64_t cost) {
  State later = Copy(state);
  const uint64_t retry_after_ns = RetryAfterNs(config, later, now_ns, cost);
  ASSERT_EQ(Allows(config, later, now_ns, cost), retry_after_ns == 0);
  if (retry_after_ns == 0) return;
  const int64_t then_ns = now_ns + static_cast<int64_t>(retry_after_ns);
  EXPECT_FALSE(Allows(config, later, then_ns - 1, cost)) << retry_after_ns;
  EXPECT_EQ(RetryAfterNs(config, later, then_ns - 1, cost), 1u);
  EXPECT_TRUE(Allows(config, later, then_ns, cost)) << retry_after_ns;
}

// The definition of each algorithm by brute force: a counter that lives through every single
// nanosecond and remembers every admission. For small numbers only.
class Brute {
 public:
  Brute(const LimitConfig& config, int64_t now_ns) : config_(config), now_ns_(now_ns) {}

  void Tick() {
    ++now_ns_;
    level_ = level_ > config_.rate ? level_ - config_.rate : 0;
    if (window_ns_ > 0) --window_ns_;
  }

  bool Admits(uint64_t cost) const { return Load() + cost * config_.per_ns <= Capacity(); }

  void Admit(uint64_t cost) {
    level_ += cost * config_.per_ns;
    if (window_ns_ == 0) {
      window_ns_ = config_.per_ns;
      window_used_ = 0;
    }
    window_used_ += cost;
    admissions_.push_back({now_ns_, cost});
  }

  uint64_t Remaining() const { return (Capacity() - Load()) / config_.per_ns; }

  uint64_t RetryAfterNs(uint64_t cost) const {
    Brute later = *this;
    while (!later.Admits(cost)) later.Tick();
    return static_cast<uint64_t>(later.now_ns_ - now_ns_);
  }

  uint64_t ResetAfterNs() const {
    if (config_.algorithm == Algorithm::kFixedWindowCounter) return window_ns_;
    Brute later = *this;
    if (config_.algorithm == Algorithm::kSlidingWindowCounter) {
      while (later.Index(later.now_ns_) == Index(now_ns_)) later.Tick();
    } else if (config_.algorithm == Algorithm::kSlidingWindowLog) {
      const size_t entries = Recent().size();
      while (entries > 0 && later.Recent().size() == entries) later.Tick();
    } else {
      while (later.level_ > 0) later.Tick();
    }
    return static_cast<uint64_t>(later.now_ns_ - now_ns_);
  }

  bool IsFresh() const { return Load() == 0 && (Recent().empty() || !Slides()); }

 private:
  using Admission = std::pair<int64_t, uint64_t>;

  bool Slides() const { return config_.algorithm == Algorithm::kSlidingWindowCounter; }
  int64_t Index(int64_t ns) const { return ns / static_cast<int64_t>(config_.per_ns); }
  uint64_t Capacity() const { return config_.burst * config_.per_ns; }

  std::vector<Admission> Recent() const {
    std::vector<Admission> recent;
    for (const Admission& admission : admissions_) {
      if (admission.first > now_ns_ - static_cast<int64_t>(config_.per_ns)) {
        recent.push_back(admission);
      }
    }
    return recent;
  }

  // What is used now, times per.
  uint64_t Load() const {
    const uint64_t per = config_.per_ns;
    if (IsBucket(config_.algorithm)) return level_;
    if (config_.algorithm == Algorithm::kFixedWindowCounter) {
      return window_ns_ > 0 ? window_used_ * per : 0;
    }
    uint64_t load = 0;
    if (!Slides()) {
      for (const Admission& admission : Recent()) load += admission.second * per;
      return load;
    }
    const uint64_t elapsed_ns = static_cast<uint64_t>(now_ns_) % per;
    for (const auto& [at_ns, cost] : admissions_) {
      if (Index(at_ns) == Index(now_ns_)) load += cost * per;
      if (Index(at_ns) == Index(now_ns_) - 1) load += cost * (per - elapsed_ns);
    }
    return load;
  }

  LimitConfig config_;
  int64_t now_ns_;
  uint64_t level_ = 0;  // times per
  uint64_t window_ns_ = 0;
  uint64_t window_used_ = 0;
  std::vector<Admission> admissions_;
};

class EachAlgorithm : public testing::TestWithParam<Algorithm> {};
INSTANTIATE_TEST_SUITE_P(Algorithms, EachAlgorithm, testing::ValuesIn(kAll),
                         [](const auto& info) { return std::string(AlgorithmName(info.param)); });

TEST(AlgorithmNames, RoundTrip) {
  for (const Algorithm algorithm : kAll) {
    const char* name = AlgorithmName(algorithm);
    Algorithm parsed{};
    ASSERT_TRUE(ParseAlgorithm(name, std::strlen(name), &parsed)) << name;
    EXPECT_EQ(parsed, algorithm);
  }
}

TEST(AlgorithmNames, OnlyExactSpellings) {
  for (const std::string& name :
       {std::string(), std::string("Gcra"), std::string("gcr"), std::string("gcra "),
        std::string("gcra\0", 5), std::string("unknown"), std::string("token-bucket")}) {
    Algorithm parsed = Algorithm::kLeakyBucket;
    EXPECT_FALSE(ParseAlgorithm(name.data(), name.size(), &parsed)) << name;
    EXPECT_EQ(parsed, Algorithm::kLeakyBucket);
  }
}

TEST_P(EachAlgorithm, ConfigBounds) {
  const uint64_t max = kMaxQuantity;
  LimitConfig config = Config(GetParam(), 5, 7);
  const LimitConfig before = config;
  EXPECT_EQ(MakeConfig(GetParam(), 0, 1, 1, &config), ConfigError::kRate);
  EXPECT_EQ(MakeConfig(GetParam(), max + 1, 1, 1, &config), ConfigError::kRate);
  EXPECT_EQ(MakeConfig(GetParam(), 1, 0, 1, &config), ConfigError::kPer);
  EXPECT_EQ(MakeConfig(GetParam(), 1, max + 1, 1, &config), ConfigError::kPer);
  EXPECT_EQ(MakeConfig(GetParam(), 1, 1, max + 1, &config), ConfigError::kBurst);
  EXPECT_TRUE(config.SameAs(before));

  EXPECT_EQ(MakeConfig(GetParam(), max, max, 0, &config), ConfigError::kNone);
  EXPECT_EQ(config.burst, max);
  EXPECT_EQ(MakeConfig(GetParam(), max, max, max, &config), ConfigError::kNone);
  EXPECT_EQ(MakeConfig(GetParam(), 1, max, 1, &config), ConfigError::kNone);
  EXPECT_EQ(MakeConfig(GetParam(), max, 1, 0, &config), ConfigError::kNone);
}

TEST(Config, BurstOfBucketsAndWindows) {
  LimitConfig config;
  for (const Algorithm algorithm : kAll) {
    EXPECT_EQ(MakeConfig(algorithm, 10, 100, 11, &config),
              IsBucket(algorithm) ? ConfigError::kNone : ConfigError::kBurst);
    EXPECT_EQ(MakeConfig(algorithm, 10, 100, 9, &config),
              IsBucket(algorithm) ? ConfigError::kNone : ConfigError::kBurst);
  }
  EXPECT_EQ(MakeConfig(static_cast<Algorithm>(0), 1, 1, 1, &config), ConfigError::kAlgorithm);
  EXPECT_EQ(MakeConfig(static_cast<Algorithm>(7), 1, 1, 1, &config), ConfigError::kAlgorithm);
}

TEST(Config, BurstSpanIsAtMost2To62RoundedUp) {
  const uint64_t max = kMaxQuantity;
  LimitConfig config;
  EXPECT_EQ(MakeConfig(Algorithm::kGcra, 1, max, 2, &config), ConfigError::kBurstSpan);
  EXPECT_EQ(MakeConfig(Algorithm::kGcra, 1, 2, max / 2, &config), ConfigError::kNone);
  EXPECT_EQ(config.span_ns, max);
  EXPECT_EQ(MakeConfig(Algorithm::kGcra, 1, 2, max / 2 + 1, &config), ConfigError::kBurstSpan);
  // 2^62 and a fraction is over; 2^62 - 2 and two thirds is not.
  EXPECT_EQ(MakeConfig(Algorithm::kGcra, max / 2 + 5, max - 1, max / 2 + 6, &config),
            ConfigError::kBurstSpan);
  EXPECT_EQ(MakeConfig(Algorithm::kGcra, 3, 3 * (max / 4) - 1, 4, &config), ConfigError::kNone);
  EXPECT_EQ(config.span_ns, max - 2);
  EXPECT_EQ(config.span_fraction, 2u);
}

TEST_P(EachAlgorithm, AgreesWithBruteForce) {
  std::mt19937_64 random(20150517);
  const auto pick = [&](uint64_t from, uint64_t to) { return from + random() % (to - from + 1); };
  for (int round = 0; round < 600; ++round) {
    const uint64_t rate = pick(1, 7);
    const uint64_t burst = IsBucket(GetParam()) ? pick(1, 15) : rate;
    const LimitConfig config = Config(GetParam(), rate, pick(1, 20), burst);
    int64_t now_ns = static_cast<int64_t>(pick(0, 50));
    State state;
    Brute brute(config, now_ns);
    for (int step = 0; step < 40; ++step) {
      SCOPED_TRACE(testing::Message() << "round " << round << " step " << step);
      const uint64_t cost = pick(1, burst);
      ASSERT_EQ(RetryAfterNs(config, state, now_ns, cost), brute.RetryAfterNs(cost));
      ASSERT_EQ(Check(config, state, now_ns, cost), brute.Admits(cost));
      if (brute.Admits(cost)) brute.Admit(cost);
      ASSERT_EQ(Remaining(config, state, now_ns), brute.Remaining());
      ASSERT_EQ(Used(config, state, now_ns), burst - brute.Remaining());
      ASSERT_EQ(ResetAfterNs(config, state, now_ns), brute.ResetAfterNs());
      ASSERT_EQ(IsFresh(config, state, now_ns), brute.IsFresh());
      ASSERT_TRUE(!IsBucket(GetParam()) || state.bucket.fraction < rate);
      for (uint64_t wait = pick(0, pick(0, 2 * config.per_ns)); wait > 0; --wait) {
        brute.Tick();
        ++now_ns;
      }
    }
  }
}

TEST_P(EachAlgorithm, FreshIsFullAtAnyTime) {
  const LimitConfig config = Config(GetParam(), 10, 1000);
  for (const int64_t now_ns : {int64_t{0}, int64_t{1}, int64_t{999}, kYearNs, kMaxTimeNs}) {
    State state;
    EXPECT_TRUE(IsFresh(config, state, now_ns));
    EXPECT_EQ(Remaining(config, state, now_ns), 10u);
    EXPECT_EQ(Used(config, state, now_ns), 0u);
    EXPECT_EQ(RetryAfterNs(config, state, now_ns, 10), 0u);
    EXPECT_TRUE(Check(config, state, now_ns, 10));
    EXPECT_FALSE(IsFresh(config, state, now_ns));
    EXPECT_EQ(Remaining(config, state, now_ns), 0u);
    EXPECT_FALSE(Allows(config, state, now_ns, 1));
  }
}

TEST_P(EachAlgorithm, LargestQuantities) {
  const uint64_t max = kMaxQuantity;
  for (const auto& [rate, per_ns] : std::vector<std::pair<uint64_t, uint64_t>>{
           {max, max}, {max, 1}, {1, max}, {max, max - 1}, {max - 1, max}, {1, 1}}) {
    const LimitConfig config = Config(GetParam(), rate, per_ns);
    for (const int64_t now_ns : {int64_t{0}, int64_t{1}, kMaxTimeNs - 1, kMaxTimeNs}) {
      State state;
      ASSERT_TRUE(Check(config, state, now_ns, config.burst));
      EXPECT_EQ(Remaining(config, state, now_ns), 0u);
      EXPECT_EQ(Used(config, state, now_ns), config.burst);
      EXPECT_FALSE(Allows(config, state, now_ns, 1));
      EXPECT_FALSE(Allows(config, state, now_ns, config.burst));
      EXPECT_GE(RetryAfterNs(config, state, now_ns, 1), 1u);
      EXPECT_LE(RetryAfterNs(config, state, now_ns, config.burst), 2 * max);
      EXPECT_GE(ResetAfterNs(config, state, now_ns), 1u);
      EXPECT_LE(ResetAfterNs(config, state, now_ns), per_ns);
    }
  }
}

TEST_P(EachAlgorithm, RetryAfterIsFirstMomentOfLargeNumbers) {
  std::mt19937_64 random(7);
  const auto pick = [&](uint64_t to) {
    return (random() >> (4 + random() % 60)) % to + 1;  // every magnitude up to 2^60
  };
  const uint64_t large = uint64_t{1} << 60;
  int denials = 0;
  for (int round = 0; round < 2000; ++round) {
    const LimitConfig config = Config(GetParam(), pick(large), pick(large));
    int64_t now_ns = static_cast<int64_t>(pick(large));
    State state;
    for (int step = 0; step < 8 && now_ns < kMaxTimeNs; ++step) {
      const uint64_t cost = pick(config.burst);
      ExpectRetryIsFirstMoment(config, state, now_ns, cost);
      denials += !Check(config, state, now_ns, cost);
      now_ns += static_cast<int64_t>(pick(config.per_ns) - 1);
    }
  }
  EXPECT_GT(denials, 1000);
}

TEST_P(EachAlgorithm, DenialsAndReadsMoveNothing) {
  std::mt19937_64 random(11);
  const LimitConfig config = Config(GetParam(), 13, 997);
  State polled;
  State quiet;
  int64_t now_ns = 5;
  for (int step = 0; step < 3000; ++step) {
    const uint64_t cost = 1 + random() % 13;
    for (uint64_t poll = random() % 4; poll > 0; --poll) {
      (void)Allows(config, polled, now_ns, 1 + random() % 13);
      (void)Remaining(config, polled, now_ns);
      (void)RetryAfterNs(config, polled, now_ns, 1 + random() % 13);
    }
    const bool allowed = random() % 3 == 0 && Allows(config, quiet, now_ns, cost);
    if (allowed) {
      ASSERT_TRUE(Check(config, quiet, now_ns, cost));
      ASSERT_TRUE(Check(config, polled, now_ns, cost));
    }
    ASSERT_EQ(Remaining(config, polled, now_ns), Remaining(config, quiet, now_ns));
    ASSERT_EQ(RetryAfterNs(config, polled, now_ns, 13), RetryAfterNs(config, quiet, now_ns, 13));
    now_ns += static_cast<int64_t>(random() % 200);
  }
}

// Who reads a clock and then waits for a lock asks as of a time before the state's own.
TEST_P(EachAlgorithm, IsNotFreshAsOfATimeBeforeItsOwn) {
  const LimitConfig config = Config(GetParam(), 10, 1'000);
  State state;
  ASSERT_TRUE(Check(config, state, 50'500, 3));
  for (const int64_t now_ns : {int64_t{0}, int64_t{40'000}, int64_t{49'499}, int64_t{50'499}}) {
    EXPECT_FALSE(IsFresh(config, state, now_ns)) << now_ns;
  }
}

TEST_P(EachAlgorithm, IdleForYearsIsFreshAndOneNanosecondPeriodsTurnOver) {
  const LimitConfig config = Config(GetParam(), 3, 1);
  State state;
  for (int64_t now_ns = 0; now_ns < 100; ++now_ns) {
    ASSERT_TRUE(Check(config, state, now_ns, 3));
    ASSERT_FALSE(Check(config, state, now_ns, 1));
    // Of the estimate, the window before still counts in full at a window's first instant.
    if (GetParam() == Algorithm::kSlidingWindowCounter) ++now_ns;
  }
  EXPECT_TRUE(IsFresh(config, state, 100 * kYearNs));
  EXPECT_EQ(Remaining(config, state, 100 * kYearNs), 3u);
}

TEST_P(EachAlgorithm, PeriodsOfManyYears) {
  const LimitConfig config = Config(GetParam(), 2, 100 * static_cast<uint64_t>(kYearNs));
  State state;
  EXPECT_TRUE(Check(config, state, 0, 2));
  ExpectRetryIsFirstMoment(config, state, 10 * kYearNs, 1);
  ExpectRetryIsFirstMoment(config, state, 10 * kYearNs, 2);
}

TEST_P(EachAlgorithm, FromUsedIsOneAdmission) {
  const LimitConfig config = Config(GetParam(), 10, 999);
  State state = FromUsed(config, 7, 12'345);
  EXPECT_EQ(Used(config, state, 12'345), 7u);
  EXPECT_FALSE(Allows(config, state, 12'345, 4));
  EXPECT_TRUE(Allows(config, state, 12'345, 3));
  EXPECT_TRUE(IsFresh(config, FromUsed(config, 0, 12'345), 0));
}

TEST_P(EachAlgorithm, MigrateKeepsWhatWasUsedUpToTheNewBurst) {
  const LimitConfig from = Config(GetParam(), 10, 1000);
  for (const Algorithm algorithm : kAll) {
    State state;
    ASSERT_TRUE(Check(from, state, 5'000, 6));
    const LimitConfig large = Config(algorithm, 100, 77);
    const State kept = Migrate(from, state, large, 5'000);
    EXPECT_EQ(Used(large, kept, 5'000), 6u);
    const LimitConfig small = Config(algorithm, 4, 77);
    State capped = Migrate(from, state, small, 5'000);
    EXPECT_EQ(Remaining(small, capped, 5'000), 0u);
    EXPECT_EQ(Used(small, capped, 5'000), 4u);
    EXPECT_FALSE(Allows(small, capped, 5'000, 1));
    EXPECT_TRUE(IsFresh(small, Migrate(from, state, small, 5'000 + 2'000), 5'000 + 2'000));
  }
}

TEST(Migrate, RoundsUpToWholeUnits) {
  const LimitConfig bucket = Config(Algorithm::kTokenBucket, 10, 1000);
  State state;
  ASSERT_TRUE(Check(bucket, state, 0, 3));
  const LimitConfig log = Config(Algorithm::kSlidingWindowLog, 50, 1000);
  EXPECT_EQ(Used(log, Migrate(bucket, state, log, 99), 99), 3u);  // 2.01
  EXPECT_EQ(Used(log, Migrate(bucket, state, log, 100), 100), 2u);
  EXPECT_EQ(Used(log, Migrate(bucket, state, log, 101), 101), 2u);  // 1.99
}

TEST(Buckets, ThreeFacesAgree) {
  std::mt19937_64 random(3);
  const LimitConfig faces[] = {Config(Algorithm::kTokenBucket, 7, 1009, 20),
                               Config(Algorithm::kGcra, 7, 1009, 20),
                               Config(Algorithm::kLeakyBucket, 7, 1009, 20)};
  State states[3];
  int64_t now_ns = 0;
  for (int step = 0; step < 5000; ++step) {
    const uint64_t cost = 1 + random() % (random() % 20 + 1);
    const bool allowed = Check(faces[0], states[0], now_ns, cost);
    for (int i = 1; i < 3; ++i) {
      ASSERT_EQ(Check(faces[i], states[i], now_ns, cost), allowed);
      ASSERT_EQ(states[i].bucket.tat_ns, states[0].bucket.tat_ns);
      ASSERT_EQ(states[i].bucket.fraction, states[0].bucket.fraction);
    }
    now_ns += static_cast<int64_t>(random() % 600);
  }
}

// A unit of 1000/7 ns is not whole. Rounding it either way would show after a few admissions.
TEST(Buckets, NothingDriftsOverManyAdmissions) {
  const uint64_t rate = 7;
  const uint64_t per_ns = 1000;
  const uint64_t burst = 3;
  const LimitConfig config = Config(Algorithm::kGcra, rate, per_ns, burst);
  State state;
  int64_t now_ns = 0;
  for (uint64_t admitted = 1; admitted <= 100'000; ++admitted) {
    ASSERT_TRUE(Check(config, state, now_ns, 1));
    const uint64_t wait_ns = RetryAfterNs(config, state, now_ns, 1);
    now_ns += static_cast<int64_t>(wait_ns);
    const uint64_t earned = static_cast<uint64_t>(now_ns) * rate / per_ns;
    ASSERT_EQ(wait_ns > 0, admitted >= burst);
    ASSERT_EQ(std::max(admitted + 1, burst), burst + earned);
  }
}

TEST(Buckets, TheArrivalTimeMayReach2To63) {
  const LimitConfig config = Config(Algorithm::kGcra, 1, kMaxQuantity);
  State state;
  ASSERT_TRUE(Check(config, state, kMaxTimeNs, 1));
  EXPECT_EQ(static_cast<uint64_t>(state.bucket.tat_ns), 2 * kMaxQuantity);
  EXPECT_EQ(ResetAfterNs(config, state, kMaxTimeNs), kMaxQuantity);
  EXPECT_EQ(RetryAfterNs(config, state, kMaxTimeNs, 1), kMaxQuantity);
  EXPECT_FALSE(IsFresh(config, state, kMaxTimeNs));
}

TEST(FixedWindow, BeginsAtTheFirstAdmissionAfterTheOneBefore) {
  const LimitConfig config = Config(Algorithm::kFixedWindowCounter, 2, 100);
  State state;
  EXPECT_TRUE(Check(config, state, 30, 1));
  EXPECT_EQ(ResetAfterNs(config, state, 129), 1u);
  EXPECT_TRUE(Check(config, state, 129, 1));
  EXPECT_FALSE(Check(config, state, 129, 1));
  EXPECT_EQ(ResetAfterNs(config, state, 130), 0u);  // [30, 130) is over, none has begun
  EXPECT_TRUE(Check(config, state, 175, 2));
  EXPECT_EQ(ResetAfterNs(config, state, 175), 100u);
  EXPECT_EQ(RetryAfterNs(config, state, 274, 2), 1u);
  EXPECT_TRUE(Check(config, state, 275, 2));
}

TEST(SlidingCounter, RetryFallsIntoThisWindowTheNextOrTheOneAfter) {
  const LimitConfig config = Config(Algorithm::kSlidingWindowCounter, 10, 100);
  State state;
  ASSERT_TRUE(Check(config, state, 50, 10));
  EXPECT_EQ(RetryAfterNs(config, state, 50, 10), 150u);  // at 200: none of it counts any more
  EXPECT_EQ(RetryAfterNs(config, state, 50, 1), 60u);    // at 110: 10 * 90% + 1
  EXPECT_EQ(RetryAfterNs(config, state, 100, 4), 40u);   // at 140: 10 * 60% + 4
  EXPECT_EQ(RetryAfterNs(config, state, 199, 10), 1u);
  ASSERT_TRUE(Check(config, state, 150, 4));
  EXPECT_EQ(RetryAfterNs(config, state, 150, 2), 10u);  // at 160: 10 * 40% + 4 + 2
  EXPECT_EQ(RetryAfterNs(config, state, 150, 6), 50u);  // at 200: 4 * 100% + 6
  EXPECT_EQ(RetryAfterNs(config, state, 150, 7), 75u);  // at 225: 4 * 75% + 7
}

TEST(SlidingLog, WindowIsOpenAtItsOldEnd) {
  const LimitConfig config = Config(Algorithm::kSlidingWindowLog, 3, 100);
  State state;
  ASSERT_TRUE(Check(config, state, 10, 1));
  ASSERT_TRUE(Check(config, state, 20, 2));
  EXPECT_FALSE(Allows(config, state, 109, 1));
  EXPECT_EQ(ResetAfterNs(config, state, 60), 50u);
  EXPECT_EQ(RetryAfterNs(config, state, 60, 1), 50u);
  EXPECT_EQ(RetryAfterNs(config, state, 60, 2), 60u);
  EXPECT_TRUE(Check(config, state, 110, 1));
  EXPECT_EQ(ResetAfterNs(config, state, 110), 10u);
}

TEST(SlidingLog, AdmissionsOfOneNanosecondAreOneEntry) {
  const LimitConfig config = Config(Algorithm::kSlidingWindowLog, 100, 1000);
  State state;
  for (int64_t now_ns = 0; now_ns < 30; ++now_ns) {
    ASSERT_TRUE(Check(config, state, now_ns / 10, 2));
  }
  ASSERT_EQ(state.log->size(), 3u);
  EXPECT_EQ(state.log->sum(), 60u);
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(state.log->entry(i).at_ns, i);
    EXPECT_EQ(state.log->entry(i).cost, 20u);
  }
}

TEST(SlidingLog, CopiedEntryByEntryItAnswersTheSame) {
  const LimitConfig config = Config(Algorithm::kSlidingWindowLog, 50, 1000);
  State state;
  for (int64_t now_ns = 0; now_ns < 5000; now_ns += 37) Check(config, state, now_ns, 3);
  const State copy = Copy(state);
  for (int64_t now_ns = 5000; now_ns < 6100; ++now_ns) {
    ASSERT_EQ(Remaining(config, copy, now_ns), Remaining(config, state, now_ns));
    ASSERT_EQ(RetryAfterNs(config, copy, now_ns, 50), RetryAfterNs(config, state, now_ns, 50));
  }
}

TEST(SlidingLog, AdmitAfterPrepareAdmitMovesNoMemory) {
  const LimitConfig config = Config(Algorithm::kSlidingWindowLog, 1000, 100'000);
  State state;
  ASSERT_TRUE(Check(config, state, 0, 1));
  for (int64_t now_ns = 1; now_ns < 500; ++now_ns) {
    PrepareAdmit(config, state, now_ns);
    const void* const before = state.log->memory();
    Admit(config, state, now_ns, 1);
    ASSERT_EQ(state.log->memory(), before);
  }
}

TEST(SlidingLog, EmptyOneGivesItsMemoryBack) {
  const LimitConfig config = Config(Algorithm::kSlidingWindowLog, 1000, 100);
  State state;
  for (int64_t now_ns = 0; now_ns < 90; ++now_ns) ASSERT_TRUE(Check(config, state, now_ns, 1));
  EXPECT_TRUE(Allows(config, state, 188, 1));
  EXPECT_NE(state.log, nullptr);
  EXPECT_TRUE(Allows(config, state, 189, 1));
  EXPECT_EQ(state.log, nullptr);
}

TEST(SlidingLog, HoldsAtMost2To20Entries) {
  const uint64_t rate = uint64_t{1} << 40;
  const int64_t per_ns = 10'000'000;
  const LimitConfig config =
      Config(Algorithm::kSlidingWindowLog, rate, static_cast<uint64_t>(per_ns));
  State state;
  const int64_t last_ns = 2 * int64_t{kMaxSlidingLogEntries - 1};
  for (int64_t now_ns = 0; now_ns <= last_ns; now_ns += 2) {
    ASSERT_TRUE(Check(config, state, now_ns, 1));
  }
  ASSERT_EQ(state.log->size(), kMaxSlidingLogEntries);
  EXPECT_TRUE(Check(config, state, last_ns, 5));  // joins the newest entry
  EXPECT_EQ(Remaining(config, state, last_ns), rate - kMaxSlidingLogEntries - 5);
  EXPECT_FALSE(Check(config, state, last_ns + 1, 1));
  EXPECT_EQ(Remaining(config, state, last_ns + 1), 0u);
  EXPECT_EQ(Used(config, state, last_ns + 1), kMaxSlidingLogEntries + 5u);
  ExpectRetryIsFirstMoment(config, state, last_ns + 1, 1);
  EXPECT_EQ(RetryAfterNs(config, state, per_ns - 1, rate / 2), 1u);
  EXPECT_TRUE(Check(config, state, per_ns, 1));
  EXPECT_FALSE(Check(config, state, per_ns + 1, 1));
  EXPECT_TRUE(Check(config, state, per_ns + 2, 1));
  EXPECT_EQ(state.log->size(), kMaxSlidingLogEntries);
  EXPECT_TRUE(IsFresh(config, state, 2 * per_ns + 2));
}

// Whatever has been looked for in it.
TEST(SlidingLog, AFullOneIsSearchedByHalving) {
  SlidingLog log;
  for (uint32_t i = 0; i < kMaxSlidingLogEntries; ++i) log.Append(i, 1);
  for (const uint32_t wanted :
       {0u, 1u, 77'777u, kMaxSlidingLogEntries - 1, kMaxSlidingLogEntries}) {
    int looks = 0;
    const uint32_t found = log.FirstWhere([&](uint32_t i) {
      ++looks;
      return i >= wanted;
    });
    EXPECT_EQ(found, wanted);
    EXPECT_LE(looks, 21);
  }
}

// The sums that are kept go round at 2^64.
TEST(SlidingLog, AnswersAsOneThatAddsUpEntryByEntry) {
  std::mt19937_64 random(20'260'725);
  for (const uint64_t rate : {uint64_t{1'000}, kMaxQuantity}) {
    const LimitConfig config = Config(Algorithm::kSlidingWindowLog, rate, 1'000);
    const int64_t per_ns = 1'000;
    State state;
    std::vector<SlidingLog::Entry> model;
    for (int64_t now_ns = 0; now_ns < 50'000; now_ns += static_cast<int64_t>(random() % 5)) {
      std::erase_if(model, [&](const auto& entry) { return entry.at_ns <= now_ns - per_ns; });
      uint64_t sum = 0;
      for (const SlidingLog::Entry& entry : model) sum += entry.cost;
      const uint64_t cost = 1 + random() % (rate / 100);
      uint64_t retry_after_ns = 0;
      uint64_t left = sum;
      for (size_t i = 0; i < model.size() && left + rate / 2 > rate; ++i) {
        left -= model[i].cost;
        retry_after_ns = static_cast<uint64_t>(per_ns - (now_ns - model[i].at_ns));
      }
      ASSERT_EQ(RetryAfterNs(config, state, now_ns, rate / 2), retry_after_ns) << now_ns;
      ASSERT_EQ(Remaining(config, state, now_ns), rate - sum);
      ASSERT_EQ(Check(config, state, now_ns, cost), sum + cost <= rate);
      if (sum + cost <= rate) model.push_back({now_ns, cost});
    }
  }
}

TEST(States, MovingLeavesNothingBehind) {
  const LimitConfig config = Config(Algorithm::kSlidingWindowLog, 10, 100);
  State state = FromUsed(config, 4, 7);
  State moved = std::move(state);
  EXPECT_EQ(Used(config, moved, 7), 4u);
  moved = State();
  EXPECT_TRUE(IsFresh(config, moved, 7));
  const LimitConfig bucket = Config(Algorithm::kGcra, 10, 100);
  moved = FromUsed(bucket, 4, 7);
  EXPECT_EQ(Used(bucket, moved, 7), 4u);
}

}  // namespace
}  // namespace flint
