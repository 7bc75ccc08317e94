#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <functional>
#include <new>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "base/assert.h"
#include "base/clock.h"
#include "base/coding.h"
#include "base/crc32c.h"
#include "base/mutex.h"
#include "base/sha256.h"
#include "base/small_vector.h"
#include "base/status.h"
#include "base/thread.h"
#include "fake_clock.h"

namespace flint {
namespace {

// ---- Small vectors -----------------------------------------------------------------------------

TEST(SmallVectorTest, HoldsWhatIsAddedWithinItselfAndBeyond) {
  SmallVector<uint32_t, 4> numbers;
  for (uint32_t i = 0; i < 100; ++i) {
    numbers.push_back(i * i);
    ASSERT_EQ(numbers.size(), i + 1);
    const void* const begin = numbers.data();
    const bool within = begin >= &numbers && begin < &numbers + 1;
    EXPECT_EQ(within, numbers.size() <= 4);
  }
  uint32_t expected = 0;
  for (const uint32_t number : numbers) {
    EXPECT_EQ(number, expected * expected);
    ++expected;
  }
  EXPECT_EQ(expected, 100u);
}

TEST(SmallVectorTest, IsAsLargeAsItIsMadeAndGrowsFromThere) {
  for (const size_t size : {size_t{0}, size_t{3}, size_t{4}, size_t{5}, size_t{1000}}) {
    SmallVector<uint64_t, 4> numbers(size);
    ASSERT_EQ(numbers.size(), size);
    for (size_t i = 0; i < size; ++i) numbers[i] = i;
    numbers.push_back(size);
    for (size_t i = 0; i <= size; ++i) EXPECT_EQ(numbers[i], i);
  }
}

// ---- Coding ------------------------------------------------------------------------------------

TEST(CodingTest, IntegersAreLittleEndian) {
  std::string bytes;
  Put8(&bytes, 0x01);
  Put16(&bytes, 0x0302);
  Put32(&bytes, 0x07060504);
  Put64(&bytes, 0x0f0e0d0c0b0a0908);
  PutBytes(&bytes, "\x10\x11");
  PutBytes(&bytes, "\x12\x13\x14", 2);
  ASSERT_EQ(bytes.size(), 19u);
  for (size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], static_cast<char>(i + 1));
  EXPECT_EQ(Decode16(bytes.data() + 1), 0x0302);
  EXPECT_EQ(Decode32(bytes.data() + 3), 0x07060504u);
  EXPECT_EQ(Decode64(bytes.data() + 7), 0x0f0e0d0c0b0a0908u);
}

TEST(CodingTest, ReaderTakesWhatWasPut) {
  std::string bytes;
  Put8(&bytes, 200);
  Put16(&bytes, 60'000);
  Put32(&bytes, 4'000'000'000);
  Put64(&bytes, UINT64_MAX);
  Put64(&bytes, static_cast<uint64_t>(int64_t{-5}));
  PutBytes(&bytes, "key");
  PutBytes(&bytes, "copy");

  ByteReader reader(bytes);
  uint8_t u8 = 0;
  uint16_t u16 = 0;
  uint32_t u32 = 0;
  uint64_t u64 = 0;
  int64_t i64 = 0;
  std::string_view key;
  char copy[4];
  ASSERT_TRUE(reader.GetU8(&u8) && reader.GetU16(&u16) && reader.GetU32(&u32));
  ASSERT_TRUE(reader.GetU64(&u64) && reader.GetI64(&i64));
  ASSERT_TRUE(reader.GetBytes(3, &key));
  ASSERT_TRUE(reader.CopyBytes(4, copy));
  EXPECT_EQ(u8, 200);
  EXPECT_EQ(u16, 60'000);
  EXPECT_EQ(u32, 4'000'000'000);
  EXPECT_EQ(u64, UINT64_MAX);
  EXPECT_EQ(i64, -5);
  EXPECT_EQ(key, "key");
  EXPECT_EQ(key.data(), bytes.data() + 23);
  EXPECT_EQ(std::string_view(copy, 4), "copy");
  EXPECT_TRUE(reader.empty());
}

TEST(CodingTest, ReaderNeverPassesTheEnd) {
  for (size_t size = 0; size < 8; ++size) {
    const std::string bytes(size, 'x');
    ByteReader reader(bytes.data(), bytes.size());
    uint64_t u64 = 7;
    std::string_view taken = "untouched";
    EXPECT_FALSE(reader.GetU64(&u64));
    EXPECT_EQ(u64, 7u);
    EXPECT_FALSE(reader.GetBytes(size + 1, &taken));
    EXPECT_EQ(taken, "untouched");
    EXPECT_FALSE(reader.GetBytes(SIZE_MAX, &taken));
    EXPECT_FALSE(reader.Skip(size + 1));
    EXPECT_EQ(reader.remaining(), size);
    EXPECT_TRUE(reader.Skip(size));
    EXPECT_TRUE(reader.empty());
  }
}

// ---- CRC-32C -----------------------------------------------------------------------------------

// The vectors of RFC 3720, appendix B.4, and the customary check value.
TEST(Crc32cTest, KnownValues) {
  std::string increasing;
  std::string decreasing;
  for (int i = 0; i < 32; ++i) {
    increasing.push_back(static_cast<char>(i));
    decreasing.push_back(static_cast<char>(31 - i));
  }
  std::string read_command(48, '\0');
  for (const auto& [at, byte] : {std::pair<size_t, uint8_t>{0, 0x01},
                                 {1, 0xc0},
                                 {16, 0x14},
                                 {22, 0x04},
                                 {27, 0x14},
                                 {31, 0x18},
                                 {32, 0x28},
                                 {40, 0x02}}) {
    read_command[at] = static_cast<char>(byte);
  }
  const std::pair<std::string, uint32_t> vectors[] = {
      {"", 0},
      {std::string(32, '\0'), 0x8a9136aa},
      {std::string(32, '\xff'), 0x62a8ab43},
      {increasing, 0x46dd794e},
      {decreasing, 0x113fdb5c},
      {read_command, 0xd9963a56},
      {"123456789", 0xe3069283},
  };
  for (const auto& [bytes, crc] : vectors) {
    EXPECT_EQ(ExtendCrc32c(0, bytes.data(), bytes.size()), crc);
    EXPECT_EQ(ExtendCrc32cPortable(0, bytes.data(), bytes.size()), crc);
  }
}

TEST(Crc32cTest, InstructionAndTablesAgreeOnAnyBytesInAnyPieces) {
  std::mt19937_64 random(1);
  std::string bytes(1000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (int round = 0; round < 5000; ++round) {
    const size_t from = random() % bytes.size();
    const size_t size = random() % (bytes.size() - from);
    const size_t first = random() % (size + 1);
    const uint32_t before = static_cast<uint32_t>(random());
    const char* at = bytes.data() + from;
    const uint32_t crc = ExtendCrc32cPortable(before, at, size);
    ASSERT_EQ(ExtendCrc32c(before, at, size), crc);
    ASSERT_EQ(ExtendCrc32c(ExtendCrc32c(before, at, first), at + first, size - first), crc);
  }
}

TEST(Crc32cTest, BytesInRegistersCountAsThoseInMemory) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 1000; ++round) {
    const auto first = static_cast<uint32_t>(random());
    const uint64_t rest[] = {random(), random(), random(), random()};
    std::string bytes(reinterpret_cast<const char*>(&first), sizeof(first));
    bytes.append(reinterpret_cast<const char*>(rest), sizeof(rest));
    const auto before = static_cast<uint32_t>(random());
    ASSERT_EQ(ExtendCrc32c(before, first, rest[0], rest[1], rest[2], rest[3]),
              ExtendCrc32cPortable(before, bytes.data(), bytes.size()));
  }
}

// ---- SHA-256 -----------------------------------------------------------------------------------

// The vectors of FIPS 180-2 and the empty message.
TEST(Sha256Test, KnownValues) {
  const std::pair<std::string, std::string> vectors[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(1'000'000, 'a'),
       "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  for (const auto& [bytes, hex] : vectors) {
    EXPECT_EQ(ToHex(Sha256Of(bytes.data(), bytes.size())), hex);
  }
}

TEST(Sha256Test, PiecesResetAndMove) {
  const Sha256Digest abc = Sha256Of("abc", 3);
  Sha256 sha;
  sha.Update("ab", 2);
  Sha256 moved(std::move(sha));
  moved.Update("c", 1);
  EXPECT_EQ(moved.Final(), abc);
  moved.Reset();
  moved.Update("forgotten", 9);
  moved.Reset();
  moved.Update("abc", 3);
  EXPECT_EQ(moved.Final(), abc);
  sha = Sha256();
  sha.Update("abc", 3);
  EXPECT_EQ(sha.Final(), abc);
}

// ---- Status ------------------------------------------------------------------------------------

TEST(StatusTest, ErrnoPicksTheCode) {
  const std::pair<int, Code> pairs[] = {
      {ENOSPC, Code::kDiskFull},  {EDQUOT, Code::kDiskFull},  {EACCES, Code::kPermission},
      {EPERM, Code::kPermission}, {EROFS, Code::kPermission}, {ENOMEM, Code::kNoMemory},
      {EIO, Code::kIo},           {ENOENT, Code::kIo},        {EFBIG, Code::kIo},
  };
  for (const auto& [system_errno, code] : pairs) {
    const Status status = Status::FromErrno(system_errno, "cannot do it");
    EXPECT_EQ(status.code(), code);
    EXPECT_EQ(status.detail()->system_errno, system_errno);
  }
  EXPECT_EQ(Status::FromErrno(ENOENT, "cannot open /x").message(),
            "cannot open /x: No such file or directory");
  const Status chosen = Status::FromErrno(Code::kUnsupported, ENOLCK, "cannot lock /x");
  EXPECT_EQ(chosen.code(), Code::kUnsupported);
  EXPECT_EQ(chosen.detail()->system_errno, ENOLCK);
}

TEST(StatusTest, MessageIsTheDetailsOrTheCodes) {
  EXPECT_EQ(Status().message(), "success");
  EXPECT_EQ(Status::Closed().message(), "the limiter is closed");
  EXPECT_EQ(Status::WouldBlock().detail(), nullptr);
  EXPECT_EQ(Status(Code::kInternal, "because").message(), "because");
}

TEST(StatusTest, CopiesShareWhereTheErrorIs) {
  Status status(Code::kCorruption, "bad record");
  status.At("flint.aof", 4096, 17);
  const Status copy = status;
  EXPECT_EQ(copy.detail(), status.detail());
  EXPECT_EQ(copy.detail()->segment, "flint.aof");
  EXPECT_EQ(copy.detail()->offset, 4096u);
  EXPECT_EQ(copy.detail()->sequence, 17u);
  Status success;
  success.At("flint.aof", 1, 1);
  EXPECT_EQ(success.detail(), nullptr);
}

TEST(StatusTest, EveryCodeHasItsOwnSentence) {
  std::set<std::string> sentences;
  for (int32_t code = 0; code <= static_cast<int32_t>(Code::kInternal); ++code) {
    sentences.insert(CodeSentence(static_cast<Code>(code)));
  }
  EXPECT_EQ(sentences.size(), static_cast<size_t>(Code::kInternal) + 1);
  EXPECT_FALSE(sentences.contains("unknown status"));
  EXPECT_STREQ(CodeSentence(static_cast<Code>(99)), "unknown status");
}

Status FailsHalfWay(bool fail, bool* reached_end) {
  FLINT_RETURN_IF_ERROR(fail ? Status(Code::kIo, "stop") : Status());
  *reached_end = true;
  return Status();
}

TEST(StatusTest, ReturnIfErrorReturnsOnlyErrors) {
  bool reached_end = false;
  EXPECT_EQ(FailsHalfWay(true, &reached_end).message(), "stop");
  EXPECT_FALSE(reached_end);
  EXPECT_TRUE(FailsHalfWay(false, &reached_end).ok());
  EXPECT_TRUE(reached_end);
}

// ---- Clock -------------------------------------------------------------------------------------

TEST(ClockTest, SystemClockFollowsTheSystem) {
  const Clock* clock = Clock::System();
  EXPECT_EQ(clock, Clock::System());
  EXPECT_TRUE(clock->monotonic());
  const time_t before_s = time(nullptr);
  const int64_t wall_ns = clock->WallNs();
  const time_t after_s = time(nullptr);
  // time() may lag behind by a clock tick.
  EXPECT_GE(wall_ns / 1'000'000'000, before_s);
  EXPECT_LE(wall_ns / 1'000'000'000, after_s + 1);
  const int64_t boot_ns = clock->BootNs();
  EXPECT_GT(boot_ns, 0);
  usleep(1000);
  EXPECT_GE(clock->BootNs() - boot_ns, 1'000'000);
}

TEST(ClockTest, BootIdStaysTheSame) {
  EXPECT_EQ(Clock::System()->Boot(), Clock::System()->Boot());
  EXPECT_NE(Clock::System()->Boot(), BootId{});
}

TEST(ClockTest, CallbackClockStaysInItsBounds) {
  int64_t now_ns = 0;
  const CallbackClock clock([](void* argument) { return *static_cast<const int64_t*>(argument); },
                            &now_ns);
  const std::pair<int64_t, int64_t> pairs[] = {
      {INT64_MIN, 0},
      {-1, 0},
      {0, 0},
      {12345, 12345},
      {int64_t{1} << 62, int64_t{1} << 62},
      {(int64_t{1} << 62) + 1, int64_t{1} << 62},
      {INT64_MAX, int64_t{1} << 62},
  };
  for (const auto& [given_ns, shown_ns] : pairs) {
    now_ns = given_ns;
    EXPECT_EQ(clock.BootNs(), shown_ns);
    EXPECT_EQ(clock.WallNs(), shown_ns);
  }
  EXPECT_FALSE(clock.monotonic());
  EXPECT_NE(clock.Boot(), Clock::System()->Boot());
}

TEST(ClockTest, FakeClockShowsWhatItIsTold) {
  FakeClock clock;
  const BootId boot = clock.Boot();
  const int64_t wall_ns = clock.WallNs();
  clock.AdvanceNs(5);
  EXPECT_EQ(clock.BootNs(), FakeClock::kStartBootNs + 5);
  EXPECT_EQ(clock.WallNs(), wall_ns + 5);
  clock.SetWallNs(7);
  EXPECT_EQ(clock.WallNs(), 7);
  clock.Reboot();
  EXPECT_NE(clock.Boot(), boot);
  EXPECT_EQ(clock.BootNs(), 0);
  clock.SetMonotonic(false);
  EXPECT_FALSE(clock.monotonic());
}

// ---- Locks and assertions ----------------------------------------------------------------------

template <typename M>
class MutexTest : public testing::Test {};
using BothMutexes = testing::Types<Mutex, SystemMutex>;
TYPED_TEST_SUITE(MutexTest, BothMutexes);

TYPED_TEST(MutexTest, WhoWaitsHoldsItAgainWhenWoken) {
  TypeParam mutex;
  Condition<TypeParam> changed;
  int turn = 0;
  const auto is_turn = [&turn](int number) { return turn == number; };
  std::thread other([&] {
    const MutexLock lock(mutex);
    while (!is_turn(1)) changed.Wait(mutex);
    turn = 2;
    changed.NotifyAll();
  });
  {
    const MutexLock lock(mutex);
    turn = 1;
    changed.NotifyAll();
    while (!is_turn(2)) changed.Wait(mutex);
    EXPECT_EQ(turn, 2);
  }
  other.join();
}

TYPED_TEST(MutexTest, IsLeftForAsLongAsAnUnlockLives) {
  TypeParam mutex;
  int seen = 0;
  const auto look = [&] {
    const MutexLock lock(mutex);
    ++seen;
  };
  {
    const MutexLock lock(mutex);
    try {
      const MutexUnlock unlock(mutex);
      std::thread(look).join();
      throw std::runtime_error("on the way");
    } catch (const std::runtime_error&) {
      EXPECT_EQ(seen, 1);
    }
    mutex.AssertHeld();
  }
  look();
  EXPECT_EQ(seen, 2);
}

TYPED_TEST(MutexTest, OneThatIsHeldAlreadyIsLeftAtTheEnd) {
  TypeParam mutex;
  mutex.lock();
  { const MutexLock lock(mutex, std::adopt_lock); }
  mutex.lock();
  mutex.unlock();
}

TEST(ConditionTest, WaitingEndsWhenTheTimeIsOver) {
  SystemMutex mutex;
  Condition<SystemMutex> changed;
  const MutexLock lock(mutex);
  EXPECT_FALSE(changed.WaitUntil(mutex, std::chrono::steady_clock::now()));
}

// Every test runs under the sanitizers too, and there nothing may be left out.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#if !defined(FLINT_ASSERTIONS)
#error "assertions are off under a sanitizer"
#endif
#endif

TEST(AssertTest, EndsTheProgramWhereItIsOnAndCostsNothingElsewhere) {
  int looks = 0;
  const auto look = [&looks](bool answer) {
    ++looks;
    return answer;
  };
  FLINT_ASSERT(look(true));
#if defined(FLINT_ASSERTIONS)
  EXPECT_EQ(looks, 1);
  EXPECT_DEATH(FLINT_ASSERT(look(false)), "assertion failed: look\\(false\\)");
  Mutex mutex;
  EXPECT_DEATH(mutex.AssertHeld(), "assertion failed");
  EXPECT_DEATH(mutex.unlock(), "assertion failed");
#else
  EXPECT_EQ(looks, 0);
#endif
}

// ---- Threads -----------------------------------------------------------------------------------

void NothingEscapes(const Status& status) { ADD_FAILURE() << status.message(); }

TEST(ThreadTest, HasItsNameAndNoneOfTheProgramsSignals) {
  char name[16] = "";
  sigset_t blocked;
  sigemptyset(&blocked);
  Thread thread;
  EXPECT_FALSE(thread.started());
  ASSERT_TRUE(thread
                  .Start(
                      "flint-test",
                      [&] {
                        pthread_getname_np(pthread_self(), name, sizeof(name));
                        pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
                      },
                      NothingEscapes)
                  .ok());
  EXPECT_TRUE(thread.started());
  thread.Join();
  EXPECT_FALSE(thread.started());
  EXPECT_STREQ(name, "flint-test");
  for (const int taken : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) {
    EXPECT_FALSE(sigismember(&blocked, taken)) << taken;
  }
  for (const int program : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGALRM, SIGUSR1, SIGPIPE, SIGPROF}) {
    EXPECT_TRUE(sigismember(&blocked, program)) << program;
  }
}

TEST(ThreadTest, StartingOneLeavesTheCallersSignalsAlone) {
  sigset_t before;
  sigset_t after;
  pthread_sigmask(SIG_BLOCK, nullptr, &before);
  Thread thread;
  ASSERT_TRUE(thread
                  .Start(
                      "flint-test", [] {}, NothingEscapes)
                  .ok());
  pthread_sigmask(SIG_BLOCK, nullptr, &after);
  thread.Join();
  thread.Join();
  for (int number = 1; number < 32; ++number) {
    EXPECT_EQ(sigismember(&after, number), sigismember(&before, number)) << number;
  }
}

TEST(ThreadTest, WhatEscapesItIsHandedOver) {
  const auto escaping = [](const std::function<void()>& run) {
    Status escaped;
    Thread thread;
    EXPECT_TRUE(
        thread.Start("flint-test", run, [&](const Status& status) { escaped = status; }).ok());
    thread.Join();
    return escaped;
  };
  EXPECT_TRUE(escaping([] {}).ok());
  EXPECT_EQ(escaping([] { throw std::bad_alloc(); }).code(), Code::kNoMemory);
  const Status error = escaping([] { throw std::runtime_error("as it happened"); });
  EXPECT_EQ(error.code(), Code::kInternal);
  EXPECT_EQ(error.message(), "as it happened");
  EXPECT_EQ(escaping([] { throw 5; }).code(), Code::kInternal);  // NOLINT
}

// Without memory for its stack the system refuses a thread as it does one too many.
TEST(ThreadTest, OneThatCannotBeMadeIsAnErrorThatSaysWhatRanOut) {
  pthread_attr_t before;
  pthread_attr_t too_large;
  ASSERT_EQ(pthread_getattr_default_np(&before), 0);
  ASSERT_EQ(pthread_attr_init(&too_large), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&too_large, size_t{1} << 60), 0);
  ASSERT_EQ(pthread_setattr_default_np(&too_large), 0);
  Thread thread;
  const Status status = thread.Start(
      "flint-test", [] {}, NothingEscapes);
  ASSERT_EQ(pthread_setattr_default_np(&before), 0);
  pthread_attr_destroy(&too_large);
  pthread_attr_destroy(&before);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.detail()->system_errno, EAGAIN);
  EXPECT_EQ(status.message(),
            "cannot start the thread flint-test; no more threads can be made (a limit of the user, "
            "`ulimit -u`, of the container, pids.max, or of memory): Resource temporarily "
            "unavailable");
  EXPECT_FALSE(thread.started());
  ASSERT_TRUE(thread
                  .Start(
                      "flint-test", [] {}, NothingEscapes)
                  .ok());
  thread.Join();
}

}  // namespace
}  // namespace flint
