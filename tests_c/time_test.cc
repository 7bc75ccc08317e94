// docs/time.md has a table of what each fault of a clock does. This performs its rows and compares.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "engine_testing.h"

namespace flint {
namespace {

constexpr int64_t kMinuteNs = 60 * kSecondNs;
constexpr uint64_t kRate = 60;  // an hour: one comes back each minute
constexpr char kHeader[] = "| | what happens | steps | passed | reset_at | first use | last use |";

// ---- Text --------------------------------------------------------------------------------------

std::string Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" `");
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" `") + 1 - first));
}

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(Trim(text.substr(0, end)));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

// "3h10m"; 0 for what is none.
int64_t ParseDuration(std::string_view text) {
  int64_t total_ns = 0;
  int64_t number = 0;
  for (const char c : text) {
    if (c >= '0' && c <= '9') {
      number = number * 10 + (c - '0');
    } else if (c == 'h' || c == 'm') {
      total_ns += number * (c == 'h' ? 60 : 1) * kMinuteNs;
      number = 0;
    } else {
      return 0;
    }
  }
  return total_ns;
}

std::string FormatDuration(int64_t ns) {
  const int64_t minutes = ns / kMinuteNs;
  std::string text = minutes >= 60 ? std::to_string(minutes / 60) + "h" : "";
  if (minutes % 60 != 0 || text.empty()) text += std::to_string(minutes % 60) + "m";
  return text;
}

std::chrono::sys_days Today() {
  return std::chrono::year_month_day{std::chrono::year(2024), std::chrono::month(1),
                                     std::chrono::day(1)};
}

// "12:10" is today's; other days are named.
int64_t ParseTime(const std::string& text) {
  int year = 2024;
  unsigned month = 1;
  unsigned day = 1;
  int hour = 0;
  int minute = 0;
  if (text.size() == 5) {
    EXPECT_EQ(std::sscanf(text.c_str(), "%d:%d", &hour, &minute), 2) << text;
  } else {
    const char* form = "%d-%u-%u %d:%d";
    EXPECT_EQ(std::sscanf(text.c_str(), form, &year, &month, &day, &hour, &minute), 5) << text;
  }
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                         std::chrono::day(day)};
  const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  return ((days * 24 + hour) * 60 + minute) * kMinuteNs;
}

std::string FormatTime(int64_t at_ns) {
  EXPECT_EQ(at_ns % kMinuteNs, 0) << at_ns;
  const std::chrono::sys_time<std::chrono::minutes> at{std::chrono::minutes(at_ns / kMinuteNs)};
  const auto midnight = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date{midnight};
  const auto minutes = static_cast<int>((at - midnight).count());
  char text[64];
  if (midnight == Today()) {
    std::snprintf(text, sizeof(text), "%02d:%02d", minutes / 60, minutes % 60);
  } else {
    std::snprintf(text, sizeof(text), "%04d-%02u-%02u %02d:%02d", static_cast<int>(date.year()),
                  static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                  minutes / 60, minutes % 60);
  }
  return text;
}

// ---- The table ---------------------------------------------------------------------------------

struct Row {
  std::string what;
  std::vector<std::string> steps;
  std::vector<std::string> outcome;  // passed, reset_at, first use, last use
};

std::vector<Row> ReadTable() {
  const auto path = std::filesystem::path(__FILE__).parent_path().parent_path() / "docs/time.md";
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::vector<Row> rows;
  std::string line;
  while (std::getline(file, line) && line != kHeader) {
  }
  std::getline(file, line);
  while (std::getline(file, line) && line.starts_with("|")) {
    const std::vector<std::string> cells = Split(line, '|');
    EXPECT_EQ(cells.size(), 9U) << line;
    if (cells.size() != 9 || cells[1].empty()) continue;  // a heading between rows
    EXPECT_EQ(cells[1], std::to_string(rows.size() + 1));
    rows.push_back({line, Split(cells[3], ','), {cells[4], cells[5], cells[6], cells[7]}});
  }
  return rows;
}

// One row's machine, clocks and program.
class Performance {
 public:
  Performance() { SetWall(ParseTime("12:00")); }

  // The program goes on using other limits, so that the log sees each step of the clock.
  void Step(const std::string& step) {
    Perform(step);
    EXPECT_TRUE(engine() == nullptr || Allowed(engine(), "other"));
  }

  std::vector<std::string> Outcome() {
    const int64_t passed_ns = InfoOf(engine()).engine_time_ns - created_ns_;
    const Engine::LimitStatus limit = StatusOf(engine(), "k");
    const auto back = std::min(kRate, static_cast<uint64_t>(passed_ns / kMinuteNs));
    EXPECT_EQ(limit.remaining, back);
    EXPECT_EQ(Allowed(engine(), "k"), back > 0);
    const std::vector<HistoryEvent> uses = Uses();
    return {FormatDuration(passed_ns), FormatTime(limit.reset_at_ns),
            FormatTime(uses.front().at_ns), FormatTime(uses.back().at_ns)};
  }

 private:
  Engine* engine() { return machine_.engine.get(); }

  void Perform(const std::string& step) {
    const size_t space = step.find(' ');
    const std::string verb = step.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : step.substr(space + 1);
    if (ParseDuration(verb) != 0) {
      machine_.clock->AdvanceNs(ParseDuration(verb));
      SetWall(wall_ns_ + ParseDuration(verb));
    } else if (verb == "wall") {
      StepWall(rest);
    } else if (verb == "boot") {
      machine_.clock->SetBootNs(machine_.clock->BootNs() + ParseSigned(rest));
    } else if (verb == "reboot") {
      machine_.clock->Reboot();
    } else if (verb == "move") {
      machine_.clock->Reboot();
      machine_.clock->SetBootNs(60'000 * kMinuteNs);
    } else if (verb == "close") {
      machine_.Close();
    } else if (verb == "kill") {
      machine_.Kill();
    } else if (verb == "new") {
      Open(0);
      UseUp();
    } else if (verb == "open") {
      const std::string option = "max_downtime=";
      EXPECT_TRUE(rest.empty() || rest.starts_with(option)) << step;
      Open(rest.empty() ? 0 : ParseDuration(rest.substr(option.size())));
    } else {
      ADD_FAILURE() << "what is this step? " << step;
    }
  }

  static int64_t ParseSigned(const std::string& text) {
    const int64_t ns = ParseDuration(std::string_view(text).substr(1));
    return text[0] == '-' ? -ns : ns;
  }

  // The system's clock shows no time before 1970 (base/clock.cc).
  void SetWall(int64_t wall_ns) {
    wall_ns_ = wall_ns;
    machine_.clock->SetWallNs(std::max<int64_t>(wall_ns, 0));
  }

  void StepWall(const std::string& to) {
    const bool relative = to[0] == '+' || to[0] == '-';
    SetWall(relative ? wall_ns_ + ParseSigned(to) : ParseTime(to));
  }

  void Open(int64_t max_downtime_ns) {
    Engine::Options options = machine_.Options();
    options.max_downtime_ns = static_cast<uint64_t>(max_downtime_ns);
    const Status status = Engine::Open(kDirectory, std::move(options), &machine_.engine);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  void UseUp() {
    ASSERT_NE(engine(), nullptr);
    created_ns_ = InfoOf(engine()).engine_time_ns;
    const LimitConfig config = Config(Algorithm::kTokenBucket, kRate, kHourNs);
    EXPECT_TRUE(Configure(engine(), "k", config).ok());
    EXPECT_TRUE(Configure(engine(), "other", Hourly(1000)).ok());
    EXPECT_TRUE(Allowed(engine(), "k", kRate));
  }

  // Those of the limit, oldest first; the limit's configuration is left out.
  std::vector<HistoryEvent> Uses() {
    HistoryQuery query;
    query.has_key = true;
    query.key = "k";
    query.since_ns = INT64_MIN;
    query.capacity = 1000;
    query.text_bytes = 100'000;
    HistoryPage page;
    const Status status = engine()->History(query, &page);
    EXPECT_TRUE(status.ok()) << status.message();
    std::erase_if(page.events, [](const HistoryEvent& event) {
      return event.type == RecordType::kLimitConfigured;
    });
    EXPECT_EQ(page.events.size(), 2U);
    return page.events;
  }

  Machine machine_;
  int64_t wall_ns_ = 0;
  int64_t created_ns_ = 0;
};

TEST(Time, TableSaysWhatHappens) {
  const std::vector<Row> rows = ReadTable();
  EXPECT_GE(rows.size(), 30U);
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    Performance performance;
    for (const std::string& step : row.steps) {
      performance.Step(step);
      if (HasFatalFailure()) return;
    }
    EXPECT_EQ(performance.Outcome(), row.outcome);
  }
}

// Nothing would ever be given back: there is no time left that could pass.
TEST(Time, AClockBeyondItsEndIsRefused) {
  for (const bool in_memory : {false, true}) {
    SCOPED_TRACE(in_memory);
    Machine machine;
    const auto open = [&] {
      machine.engine.reset();
      return Engine::Open(in_memory ? "" : kDirectory, machine.Options(), &machine.engine);
    };
    for (const int64_t wall_ns : {ParseTime("2116-01-01 00:00"), int64_t{1} << 62, INT64_MAX}) {
      machine.clock->SetWallNs(wall_ns);
      const Status status = open();
      EXPECT_EQ(status.code(), Code::kInvalidArgument);
      EXPECT_EQ(status.message(),
                "the wall clock shows a time after 2115, from which Flint cannot count on; set it "
                "right and open again");
    }
    machine.clock->SetWallNs(ParseTime("2115-12-31 23:59"));
    ASSERT_TRUE(open().ok());
    EXPECT_TRUE(Configure(machine.engine.get(), "k", Hourly(1)).ok());
    EXPECT_TRUE(Allowed(machine.engine.get(), "k"));
    machine.clock->AdvanceNs(static_cast<int64_t>(kHourNs));
    EXPECT_TRUE(Allowed(machine.engine.get(), "k"));
  }
}

TEST(Time, ADirectoryWhoseTimeHasEndedIsRefused) {
  Machine machine;
  machine.clock->SetWallNs(ParseTime("2115-12-31 23:00"));
  machine.Open();
  machine.clock->AdvanceNs(2 * static_cast<int64_t>(kHourNs));
  EXPECT_TRUE(Configure(machine.engine.get(), "k", Hourly(1)).ok());
  machine.Close();
  machine.clock->SetWallNs(FakeClock::kStartWallNs);
  const Status status = machine.TryOpen();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(status.message().find("/data: the time of its limits has come to its end"), 0U)
      << status.message();
}

TEST(Time, EngineTimeStaysWithinItsBounds) {
  FakeClock clock;
  EngineClock engine_clock(&clock);
  engine_clock.StartAt(INT64_MAX);
  EXPECT_EQ(engine_clock.Now(), Clock::kMaxNs);
  clock.SetMonotonic(false);
  EngineClock injected(&clock);
  injected.StartAt(Clock::kMaxNs + 1);
  EXPECT_EQ(injected.Now(), Clock::kMaxNs);
}

}  // namespace
}  // namespace flint
