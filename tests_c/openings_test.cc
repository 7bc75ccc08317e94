// A program that opens, checks and ends, again and again for ever: by closing, by _exit and by
// SIGKILL. On the real file system, with few descriptors allowed.
//
// FLINT_LONG=1 opens 10,000 times each way and prints what it has measured.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "base/clock.h"
#include "engine_testing.h"
#include "temporary_directory.h"

namespace flint {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kRingBytes = uint64_t{1} << 18;
constexpr rlim_t kMostDescriptors = 64;
constexpr uint64_t kSegmentBytes = uint64_t{1} << 20;
constexpr uint64_t kHistoryBytes = uint64_t{4} << 20;
// With more than that behind the snapshot an opening compacts before it answers.
constexpr uint64_t kOverdueBytes = uint64_t{1} << 20;

enum class End { kClose, kExit, kKill };

const char* NameOf(End end) {
  return end == End::kClose ? "closed" : end == End::kExit ? "_exit" : "SIGKILL";
}

bool IsLong() { return std::getenv("FLINT_LONG") != nullptr; }

int Openings() { return IsLong() ? 10'000 : 60; }

// Timed together: a hundredth part in the long form.
constexpr int kParts = 100;
int OpeningsOfAPart() { return std::max(Openings() / kParts, 1); }

// So long that the log of 10,000 openings would be beyond what is allowed.
std::string Key() { return std::string(2'000, 'k'); }

Status OpenAgain(const std::string& directory, std::unique_ptr<Engine>* engine) {
  Engine::Options options;
  options.log.always = false;
  options.log.segment_bytes = kSegmentBytes;
  options.log.ring_bytes = kRingBytes;
  options.history_max_bytes = kHistoryBytes;
  return Engine::Open(directory, std::move(options), engine);
}

uint64_t CountEntries(const fs::path& path) {
  return static_cast<uint64_t>(std::distance(fs::directory_iterator(path), {}));
}

uint64_t BytesIn(const fs::path& path) {
  uint64_t bytes = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) bytes += entry.file_size();
  return bytes;
}

// Of this process and those it waited for: other programs do not change it.
int64_t ProcessorUs() {
  int64_t sum_us = 0;
  for (const auto who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage used{};
    getrusage(who, &used);
    for (const timeval& time : {used.ru_utime, used.ru_stime}) {
      sum_us += int64_t{time.tv_sec} * 1'000'000 + time.tv_usec;
    }
  }
  return sum_us;
}

// What is the most at any opening, and what the openings of each part took of a processor's time.
struct Report {
  uint64_t opened = 0;
  uint64_t files = 0;
  uint64_t bytes = 0;
  uint64_t descriptors = 0;
  uint64_t descriptors_left = 0;  // by a limiter that was closed
  std::array<int64_t, kParts> took_us{};
};

// Whether it was opened, and all that went before is there with one more.
bool OpenAndCheck(const std::string& directory, int number, std::unique_ptr<Engine>* engine) {
  const Status status = OpenAgain(directory, engine);
  if (!status.ok()) {
    std::fprintf(stderr, "opening %d: %s\n", number, status.message().c_str());
    return false;
  }
  Engine::Decision decision;
  Engine::LimitStatus limit;
  return (*engine)->Check({Key(), 1}, {}, nullptr, &decision).ok() && decision.allowed &&
         (*engine)->StatusOf(LimitKind::kExact, Key(), {}, &limit).ok() &&
         limit.totals.allowed == static_cast<uint64_t>(number);
}

// Opens, checks, and ends in a child as it is told to.
bool EndInChild(const std::string& directory, int number, End end, Report* report) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  const pid_t child = fork();
  if (child == 0) {
    std::unique_ptr<Engine> engine;
    if (!OpenAndCheck(directory, number, &engine)) _exit(1);
    const uint64_t descriptors = CountEntries("/proc/self/fd");
    if (write(ends[1], &descriptors, sizeof(descriptors)) != sizeof(descriptors)) _exit(2);
    if (end == End::kKill) raise(SIGKILL);
    _exit(0);
  }
  close(ends[1]);
  uint64_t descriptors = 0;
  const bool told = read(ends[0], &descriptors, sizeof(descriptors)) == sizeof(descriptors);
  close(ends[0]);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return false;
  report->descriptors = std::max(report->descriptors, descriptors);
  const bool as_told = end == End::kKill ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                                         : WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return told && as_told;
}

bool OpenOnce(const std::string& directory, int number, End end, Report* report) {
  if (end != End::kClose) return EndInChild(directory, number, end, report);
  std::unique_ptr<Engine> engine;
  if (!OpenAndCheck(directory, number, &engine)) return false;
  report->descriptors = std::max(report->descriptors, CountEntries("/proc/self/fd"));
  return engine->Shutdown().ok();
}

bool OpenForEver(const std::string& directory, End end, int openings, Report* report) {
  const rlimit few{kMostDescriptors, kMostDescriptors};
  if (setrlimit(RLIMIT_NOFILE, &few) != 0) return false;
  const uint64_t descriptors = CountEntries("/proc/self/fd");
  for (int i = 0; i < openings; ++i) {
    const int64_t before_us = ProcessorUs();
    if (!OpenOnce(directory, i + 1, end, report)) return false;
    report->took_us[static_cast<size_t>(i / OpeningsOfAPart())] += ProcessorUs() - before_us;
    ++report->opened;
    report->files = std::max(report->files, CountEntries(directory));
    report->bytes = std::max(report->bytes, BytesIn(directory));
  }
  report->descriptors_left = CountEntries("/proc/self/fd") - descriptors;
  return true;
}

void Print(End end, const Report& report) {
  std::printf("%-8s %llu openings: %llu files, %llu bytes, %llu descriptors at most\n", NameOf(end),
              static_cast<unsigned long long>(report.opened),
              static_cast<unsigned long long>(report.files),
              static_cast<unsigned long long>(report.bytes),
              static_cast<unsigned long long>(report.descriptors));
  if (!IsLong()) return;
  std::printf("milliseconds of a processor for each hundred:");
  for (size_t i = 0; i < report.took_us.size(); ++i) {
    std::printf("%s%4lld", i % 20 == 0 ? "\n" : " ",
                static_cast<long long>(report.took_us[i] / 1000));
  }
  std::printf("\n");
}

// In a program of its own, since it limits itself.
void OpenInChild(End end) {
  const TemporaryDirectory directory;
  {
    std::unique_ptr<Engine> engine;
    ASSERT_TRUE(OpenAgain(directory.path(), &engine).ok());
    ASSERT_TRUE(Configure(engine.get(), Key(), Hourly(1'000'000)).ok());
  }
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Report report;
    const bool done = OpenForEver(directory.path(), end, Openings(), &report);
    const bool told = write(ends[1], &report, sizeof(report)) == sizeof(report);
    _exit(done && told ? 0 : 1);
  }
  close(ends[1]);
  Report report;
  EXPECT_EQ(read(ends[0], &report, sizeof(report)), static_cast<ssize_t>(sizeof(report)));
  close(ends[0]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "opened " << report.opened;
  EXPECT_EQ(report.opened, static_cast<uint64_t>(Openings()));
  EXPECT_LE(report.files, 40u);
  EXPECT_LE(report.bytes, kOverdueBytes + kHistoryBytes + 4 * kSegmentBytes);
  EXPECT_LE(report.descriptors, 32u);
  EXPECT_EQ(report.descriptors_left, 0u);
  Print(end, report);
}

TEST(Openings, ThatAreClosedLeaveABoundedDirectory) { OpenInChild(End::kClose); }

TEST(Openings, ThatEndByExitLeaveABoundedDirectory) { OpenInChild(End::kExit); }

TEST(Openings, ThatAreKilledLeaveABoundedDirectory) { OpenInChild(End::kKill); }

}  // namespace
}  // namespace flint
