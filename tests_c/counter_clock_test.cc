#include "base/counter_clock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "engine/keyspace.h"
#include "fake_clock.h"
#include "model/engine_clock.h"

// The boot clock by the processor's counter. docs/time.md has a table of what a counter may do;
// the tests with a machine of their own are its rows.
namespace flint {
namespace {

constexpr int64_t kUs = 1'000;
constexpr int64_t kMs = 1'000'000;
constexpr int64_t kHour = 3'600'000 * kMs;

// A machine whose counter and clock do what a test says. The clock tells its time and goes on.
struct Machine {
  static inline int64_t boot_ns = 0;
  static inline uint64_t ticks = 0;
  static inline uint64_t mhz = 0;
  static inline int64_t reading_ns = 0;         // what one reading of the clock takes
  static inline std::function<void()> between;  // the readings of an anchor

  static void Pass(int64_t ns) {
    boot_ns += ns;
    ticks += static_cast<uint64_t>(ns) * mhz / 1000;
  }

  static uint64_t Ticks() { return ticks; }
  static uint64_t TicksInOrder() {
    if (between) between();
    return ticks;
  }
  static int64_t BootNs() {
    const int64_t now_ns = boot_ns;
    Pass(reading_ns);
    return now_ns;
  }
};

class CounterClockTest : public ::testing::Test {
 protected:
  CounterClockTest() {
    Machine::boot_ns = 5 * kHour;
    Machine::ticks = 12'345'678'901'234;
    Machine::mhz = 3000;
    Machine::reading_ns = 40;
    Machine::between = nullptr;
    clock_.Start();
  }
  ~CounterClockTest() override { Machine::between = nullptr; }

  int64_t Read() {
    int64_t now_ns = 0;
    return clock_.Read(&now_ns) ? now_ns : clock_.ReadAnew();
  }
  int64_t Behind() {
    const int64_t read_ns = Read();
    return Machine::boot_ns - read_ns;
  }

  // Reads all the time, and finds it never ahead, never back and never far behind.
  void Run(int64_t ns, int64_t step_ns = 7 * kUs) {
    int64_t last_ns = 0;
    for (const int64_t until_ns = Machine::boot_ns + ns; Machine::boot_ns < until_ns;) {
      Machine::Pass(step_ns);
      const int64_t read_ns = Read();
      ASSERT_LE(read_ns, Machine::boot_ns);
      ASSERT_GE(read_ns, Machine::boot_ns - 20 * kUs);
      ASSERT_GE(read_ns, last_ns);
      last_ns = read_ns;
    }
  }
  void RunUntilItCounts() {
    ASSERT_NO_FATAL_FAILURE(Run(100 * kMs));
    ASSERT_TRUE(clock_.counting());
  }

  CounterClock<Machine> clock_;
};

TEST_F(CounterClockTest, FollowsTheBootClockWithoutAskingForIt) {
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
  ASSERT_NO_FATAL_FAILURE(Run(2 * kMs));
  Machine::reading_ns = 0;  // so that asking shows
  int64_t asked = 0;
  for (int i = 0; i < 10'000; ++i) {
    Machine::Pass(kUs);
    int64_t now_ns = 0;
    if (clock_.Read(&now_ns)) continue;
    ++asked;
    clock_.ReadAnew();
  }
  EXPECT_GE(asked, 9);
  EXPECT_LE(asked, 11) << "once in a millisecond";
}

TEST_F(CounterClockTest, AsksUntilTheRateHasBeenMeasuredTwice) {
  Run(19 * kMs);
  EXPECT_FALSE(clock_.counting());
  Run(25 * kMs);
  EXPECT_TRUE(clock_.counting());
}

TEST_F(CounterClockTest, AsksForGoodUnlessItIsStarted) {
  const CounterClock<Machine> never;
  int64_t now_ns = 0;
  Machine::Pass(100 * kMs);
  EXPECT_FALSE(never.Read(&now_ns));
  EXPECT_TRUE(never.given_up());
}

TEST_F(CounterClockTest, CountsAtAnyRate) {
  for (const uint64_t mhz : {100U, 999U, 5000U}) {
    SCOPED_TRACE(mhz);
    Machine::mhz = mhz;
    CounterClock<Machine> other;
    other.Start();
    for (int64_t i = 0; i < 100'000; ++i) {
      Machine::Pass(kUs);
      int64_t now_ns = 0;
      if (!other.Read(&now_ns)) now_ns = other.ReadAnew();
      ASSERT_LE(now_ns, Machine::boot_ns);
      ASSERT_GE(now_ns, Machine::boot_ns - 20 * kUs);
    }
    EXPECT_TRUE(other.counting());
  }
}

TEST_F(CounterClockTest, IsNeverAheadOfAClockThatIsPutRightSlowly) {
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
  // The clock runs by 1/2000 slower or faster than it should.
  for (const int64_t skew_ns : {-1, 0, 1, 0, -1}) {
    for (int i = 0; i < 20'000; ++i) {
      Machine::Pass(2 * kUs);
      Machine::boot_ns += skew_ns;
      ASSERT_GE(Behind(), 0);
    }
    EXPECT_TRUE(clock_.counting());
  }
}

TEST_F(CounterClockTest, AnIdleTimeDoesNotMatter) {
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
  for (const int64_t idle_ns : {2 * kMs, 5'000 * kMs, 3 * kHour}) {
    Machine::Pass(idle_ns);
    EXPECT_LE(Behind(), 20 * kUs);
    EXPECT_TRUE(clock_.counting());
    ASSERT_NO_FATAL_FAILURE(Run(3 * kMs));
  }
}

TEST_F(CounterClockTest, WhatInterruptsAnAnchorLeavesNone) {
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
  Machine::Pass(2 * kMs);
  Machine::between = [] { Machine::Pass(100 * kUs); };
  EXPECT_LE(Behind(), 20 * kUs) << "the system has been asked";
  Machine::between = nullptr;
  ASSERT_NO_FATAL_FAILURE(Run(3 * kMs));
  EXPECT_TRUE(clock_.counting());
}

// ---- A counter that is not steady --------------------------------------------------------------

// The machine is suspended, a virtual machine stopped: the clock has gone on, the counter has not.
TEST_F(CounterClockTest, AfterASleepItIsBehindForAMillisecond) {
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
  Machine::boot_ns += 8 * kHour;
  EXPECT_GT(Behind(), 7 * kHour);
  Machine::Pass(kMs + 10 * kUs);
  EXPECT_LE(Behind(), 20 * kUs);
  Run(50 * kMs);
  EXPECT_TRUE(clock_.counting());
}

TEST_F(CounterClockTest, ASleepIsNotMeasured) {
  Run(15 * kMs);
  Machine::boot_ns += 10 * kMs;
  Run(15 * kMs);
  EXPECT_FALSE(clock_.counting()) << "at what it was measured with the sleep";
  RunUntilItCounts();
}

TEST_F(CounterClockTest, OneThatBeginsAnewIsSeenAtOnce) {
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
  Machine::boot_ns += kHour;
  Machine::ticks = 1000;
  EXPECT_LE(Behind(), 20 * kUs);
  EXPECT_FALSE(clock_.counting());
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
}

TEST_F(CounterClockTest, AJumpForwardIsSeenWithinAMillisecondAndEndsItsUse) {
  for (const uint64_t jump_us : {100U, 900U, 1'100U, 1'000'000U}) {
    SCOPED_TRACE(jump_us);
    Machine::ticks += 1;
    CounterClock<Machine> other;
    other.Start();
    const auto behind = [&other] {
      int64_t now_ns = 0;
      if (!other.Read(&now_ns)) now_ns = other.ReadAnew();
      return Machine::boot_ns - now_ns;
    };
    for (int i = 0; i < 10'000; ++i) {
      Machine::Pass(10 * kUs);
      behind();
    }
    ASSERT_TRUE(other.counting());
    Machine::ticks += jump_us * Machine::mhz;
    EXPECT_GE(behind(), -kMs);
    Machine::Pass(kMs + kUs);
    EXPECT_LE(behind(), 20 * kUs);
    const bool ahead = jump_us > 100;  // of what the line is behind after a millisecond
    for (int i = 0; i < 10'000; ++i) {
      Machine::Pass(10 * kUs);
      ASSERT_GE(behind(), 0);
    }
    EXPECT_TRUE(other.given_up() || !ahead);
  }
}

TEST_F(CounterClockTest, OneThatStopsIsSeenByWhoReadsTheSameTimeTwice) {
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
  Machine::mhz = 0;
  const int64_t read_ns = Read();
  Machine::Pass(kHour);
  EXPECT_EQ(Read(), read_ns);
  EXPECT_GE(clock_.ReadAnew(), Machine::boot_ns - 20 * kUs);
  EXPECT_FALSE(clock_.counting());
  ASSERT_NO_FATAL_FAILURE(Run(100 * kMs));
  EXPECT_FALSE(clock_.counting());
  Machine::mhz = 3000;
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
}

TEST_F(CounterClockTest, ASlowerRateIsSeenWithinAMillisecondOfItAndMeasured) {
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
  ASSERT_NO_FATAL_FAILURE(Run(5 * kMs));  // long before it is measured again
  Machine::mhz = 1500;
  for (int i = 0; i < 2'100; ++i) {
    Machine::Pass(kUs);
    const int64_t behind_ns = Behind();
    ASSERT_GE(behind_ns, 0);
    ASSERT_LE(behind_ns, kMs + 20 * kUs);
  }
  EXPECT_FALSE(clock_.counting());
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
}

TEST_F(CounterClockTest, AFasterRateEndsItsUse) {
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
  Machine::mhz = 6000;
  for (int i = 0; i < 1'100; ++i) {
    Machine::Pass(kUs);
    ASSERT_GE(Behind(), -kMs);
  }
  EXPECT_TRUE(clock_.given_up());
  Run(100 * kMs);
  EXPECT_FALSE(clock_.counting());
}

// ---- Threads and processes ---------------------------------------------------------------------

TEST_F(CounterClockTest, AForkWhileAnAnchorIsMadeLeavesTheChildTheSystemsClock) {
  ASSERT_NO_FATAL_FAILURE(RunUntilItCounts());
  pid_t child = -1;
  Machine::between = [&] {
    Machine::between = nullptr;
    child = fork();
    if (child != 0) return;
    // Whoever was about it in the parent is not here.
    bool right = true;
    for (int i = 0; i < 10'000; ++i) {
      Machine::Pass(10 * kUs);
      int64_t now_ns = 0;
      right = right && !clock_.Read(&now_ns) && Behind() == Machine::reading_ns;
    }
    _exit(right ? 0 : 1);
  };
  clock_.ReadAnew();  // before the line is at its end
  ASSERT_GT(child, 0);
  int ended = 0;
  ASSERT_EQ(waitpid(child, &ended, 0), child);
  EXPECT_EQ(ended, 0);
}

// By the processor's own counter if it has one that is steady.
TEST(ProcessorTest, NoThreadIsAheadOfTheSystem) {
  CounterClock<Processor> clock;
  if (Processor::HasSteadyCounter()) clock.Start();
  std::atomic<bool> counted = !Processor::HasSteadyCounter();
  const auto read = [&] {
    int64_t last_ns = 0;
    // Until it has counted for a while.
    for (int left = 100'000; left > 0 && !clock.given_up();) {
      int64_t now_ns = 0;
      const int64_t before_ns = Processor::BootNs();
      const bool by_counter = clock.Read(&now_ns);
      if (!by_counter) now_ns = clock.ReadAnew();
      ASSERT_LE(now_ns, Processor::BootNs());
      // A machine that was stopped meanwhile would not be wrong.
      ASSERT_GE(now_ns, before_ns - 1'000 * kMs);
      ASSERT_GE(now_ns, last_ns - 20 * kUs);
      last_ns = now_ns;
      if (by_counter) --left;
    }
    counted = true;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(read);
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(counted);
}

TEST(ProcessorTest, IsLeftAloneWhereTheSystemIsToBeAsked) {
  const Clock* const clock = Clock::SystemWithoutCounter();
  EXPECT_EQ(clock->Boot(), Clock::System()->Boot());
  EngineClock engine_clock(clock);
  engine_clock.StartAt(clock->WallNs());
  const ClockPair start = engine_clock.Pair();
  const int64_t offset_ns = start.engine_ns - start.boot_ns;
  // For longer than it takes to measure the counter.
  for (int64_t now_ns = 0; now_ns < start.boot_ns + 100 * kMs;) {
    const int64_t before_ns = clock->BootNs();
    now_ns = engine_clock.Now() - offset_ns;
    ASSERT_GE(now_ns, before_ns);
    ASSERT_LE(now_ns, clock->BootNs());
  }
}

// ---- Time in a shard ---------------------------------------------------------------------------

class ShardTime : public ::testing::Test {
 protected:
  ShardTime() { engine_clock_.StartAt(clock_.WallNs()); }
  void Back(int64_t ns) { clock_.SetBootNs(clock_.BootNs() - ns); }
  int64_t Now(size_t shard) { return Keyspace::NowIn(keyspace_.shards()[shard], &engine_clock_); }

  FakeClock clock_;
  EngineClock engine_clock_{&clock_};
  Keyspace keyspace_;
};

TEST_F(ShardTime, NeverGoesBack) {
  const int64_t now_ns = Now(7);
  Back(kUs);
  EXPECT_EQ(Now(7), now_ns);
  EXPECT_EQ(Now(8), now_ns - kUs);
  clock_.AdvanceNs(3 * kUs);
  EXPECT_EQ(Now(7), now_ns + 2 * kUs);
}

TEST_F(ShardTime, IsNeverBeforeAFloor) {
  const int64_t floor_ns = keyspace_.TimeFloor(&engine_clock_);
  Back(kUs);
  for (size_t i = 0; i < Keyspace::kShards; ++i) EXPECT_EQ(Now(i), floor_ns);
}

TEST_F(ShardTime, OfAllIsNoneOfTheirPasts) {
  const int64_t latest_ns = Now(200);
  Back(kUs);
  EXPECT_EQ(keyspace_.NowInAll(&engine_clock_), latest_ns);
  for (size_t i = 0; i < Keyspace::kShards; ++i) EXPECT_EQ(Now(i), latest_ns);
}

TEST_F(ShardTime, BeginsAnewWhenItIsSetAnew) {
  Now(7);
  keyspace_.StartTimeAt(5);
  engine_clock_.StartAt(5);
  EXPECT_EQ(Now(7), 5);
}

}  // namespace
}  // namespace flint
