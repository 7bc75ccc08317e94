#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flint_limiter.h"
#include "http_exchange.h"
#include "http_handlers.h"
#include "server.h"
#include "text.h"

namespace flint::server {
namespace {

constexpr size_t kMaxSeries = 1'000;
constexpr size_t kEntries = 256;

// A page in Prometheus's text format, family by family.
class Page {
 public:
  void Family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    text_.append("# HELP ").append(name).append(" ").append(help).append("\n");
    text_.append("# TYPE ").append(name).append(" ").append(type).append("\n");
  }
  // `labels` with their braces.
  void Sample(std::string_view value, std::string_view labels = {}) {
    text_.append(name_).append(labels).append(" ").append(value).append("\n");
  }
  void Sample(uint64_t value, std::string_view labels = {}) {
    Sample(std::to_string(value), labels);
  }
  void One(std::string_view name, std::string_view type, std::string_view help, uint64_t value) {
    Family(name, type, help);
    Sample(value);
  }
  std::string& text() { return text_; }

 private:
  std::string text_;
  std::string name_;
};

std::string Label(std::string_view name, std::string_view value) {
  std::string text(name);
  text.append("=\"");
  for (const char c : value) {
    if (c == '\\' || c == '"') text.push_back('\\');
    if (c == '\n') {
      text.append("\\n");
    } else {
      text.push_back(c);
    }
  }
  return text + '"';
}

std::string SecondsText(uint64_t ns) {
  std::array<char, 40> text{};
  const int bytes = snprintf(text.data(), text.size(), "%llu.%09llu",
                             static_cast<unsigned long long>(ns / 1'000'000'000),
                             static_cast<unsigned long long>(ns % 1'000'000'000));
  return {text.data(), static_cast<size_t>(bytes)};
}

// ---- Limits ----------------------------------------------------------------------------------

// Limits that have the same labels: by algorithm and name, never by key.
struct Series {
  uint64_t rate = 0;
  uint64_t per_ms = 0;
  uint64_t remaining = 0;
  uint64_t reset_at_s = 0;
  uint64_t allowed = 0;
  uint64_t denied = 0;
  uint64_t allowed_cost = 0;
  uint64_t denied_cost = 0;

  void Add(const flint_limiter_status_info& one) {
    const auto add = [](uint64_t* to, uint64_t value) {
      *to = value > UINT64_MAX - *to ? UINT64_MAX : *to + value;
    };
    add(&rate, one.rate);
    per_ms = std::max(per_ms, one.per_ns / 1'000'000);
    add(&remaining, one.remaining);
    const int64_t reset_ns = std::max<int64_t>(one.reset_at_ns, 0);
    reset_at_s = std::max(reset_at_s, static_cast<uint64_t>(reset_ns) / 1'000'000'000);
    add(&allowed, one.total_allowed);
    add(&denied, one.total_denied);
    add(&allowed_cost, one.total_allowed_cost);
    add(&denied_cost, one.total_denied_cost);
  }
};
using AllSeries = std::map<std::string, Series>;  // by the labels

std::string LabelsOf(const flint_limiter_status_info& one) {
  std::string labels = "{" + Label("algorithm", AlgorithmName(one.algorithm));
  if (one.name_bytes > 0) labels += "," + Label("name", {one.name, one.name_bytes});
  return labels + "}";
}

Outcome ReadSeries(flint_limiter* limiter, AllSeries* all) {
  flint_limiter_status_info none{};
  none.struct_size = sizeof none;
  std::vector<flint_limiter_status_info> entries(kEntries, none);
  std::string text(FLINT_LIMITER_MIN_TEXT_BYTES + FLINT_LIMITER_MAX_NAME_BYTES, '\0');
  std::string cursor(FLINT_LIMITER_MAX_CURSOR_BYTES, '\0');
  uint64_t cursor_bytes = 0;
  for (;;) {
    flint_limiter_error error = NoError();
    uint64_t count = 0;
    const int32_t code = flint_limiter_list_page(
        limiter, cursor.data(), cursor_bytes, 0, entries.data(), entries.size(), sizeof entries[0],
        text.data(), text.size(), &count, cursor.data(), &cursor_bytes, &error);
    if (code != FLINT_LIMITER_OK || count == 0) return OutcomeOf(code, error);
    for (uint64_t i = 0; i < count; i++) {
      if (entries[i].kind == FLINT_LIMITER_KIND_INLINE) continue;
      std::string labels = LabelsOf(entries[i]);
      const bool fits = all->size() < kMaxSeries || all->contains(labels);
      (*all)[fits ? std::move(labels) : R"({algorithm="other"})"].Add(entries[i]);
    }
  }
}

void AppendSeries(const AllSeries& all, Page* page) {
  const auto family = [&](std::string_view name, std::string_view type, std::string_view help,
                          auto value) {
    page->Family(name, type, help);
    for (const auto& [labels, series] : all) page->Sample(value(series), labels);
  };
  const auto of = [](uint64_t Series::*field) {
    return [field](const Series& series) { return series.*field; };
  };
  family("flint_limit_info", "gauge", "Configured Flint limits.",
         [](const Series&) { return uint64_t{1}; });
  family("flint_limit_rate", "gauge", "Configured rate capacity.", of(&Series::rate));
  family("flint_limit_per_millis", "gauge", "Configured limit window in milliseconds.",
         of(&Series::per_ms));
  family("flint_limit_remaining", "gauge", "Remaining quota in the current window.",
         of(&Series::remaining));
  family("flint_limit_reset_at_seconds", "gauge", "Unix timestamp when the current window resets.",
         of(&Series::reset_at_s));
  family("flint_requests_allowed_total", "counter", "Total allowed checks.", of(&Series::allowed));
  family("flint_requests_denied_total", "counter", "Total denied checks.", of(&Series::denied));
  family("flint_request_cost_allowed_total", "counter", "Total allowed request cost.",
         of(&Series::allowed_cost));
  family("flint_request_cost_denied_total", "counter", "Total denied request cost.",
         of(&Series::denied_cost));
}

// ---- Storage ---------------------------------------------------------------------------------

void AppendStorage(const flint_limiter_info& info, Page* page) {
  page->One("flint_limits", "gauge", "Limits and templates.", info.limits);
  page->One("flint_counters", "gauge", "Keys that have a counter under a template.", info.counters);
  page->One("flint_log_bytes", "gauge", "Size of the log, history included.", info.log_bytes);
  page->One("flint_log_segments", "gauge", "Files of the log.", info.segments);
  page->One("flint_history_bytes", "gauge", "What of the log is kept for history alone.",
            info.history_bytes);
  page->One("flint_snapshot_bytes", "gauge", "Size of the snapshot.", info.snapshot_bytes);
  page->One("flint_unsynced_events", "gauge", "Records that are not on disk yet.",
            info.unsynced_events);
  page->Family("flint_last_sync_age_seconds", "gauge", "Time since the last sync of the log.");
  page->Sample(SecondsText(info.since_sync_ns));
  page->One("flint_syncs_total", "counter", "Syncs of the log.", info.syncs);
  page->Family("flint_sync_seconds_total", "counter", "Time that all syncs have taken.");
  page->Sample(SecondsText(info.sync_time_ns));
  page->One("flint_log_failed", "gauge",
            "1 when the log could not be written, which stops the limiter.", info.poisoned);
  page->One("flint_compactions_total", "counter", "Compactions that have succeeded.",
            info.compactions);
  page->One("flint_compaction_failures_total", "counter", "Compactions that have failed.",
            info.compaction_failures);
  page->One("flint_compaction_failing", "gauge", "1 when the last compaction has failed.",
            info.compaction_failure != 0 ? 1 : 0);
  page->One("flint_undecided_total", "counter", "Checks that on_error has answered.",
            info.undecided);
  page->One("flint_evicted_keys_total", "counter", "Keys in use that made room for others.",
            info.evicted);
}

void AppendDisk(const std::string& directory, Page* page) {
  struct statvfs disk {};
  if (statvfs(directory.c_str(), &disk) != 0) return;  // in memory
  page->One("flint_disk_free_bytes", "gauge", "What is free on the disk of the directory.",
            uint64_t{disk.f_bavail} * disk.f_frsize);
  page->One("flint_disk_size_bytes", "gauge", "Size of the disk of the directory.",
            uint64_t{disk.f_blocks} * disk.f_frsize);
}

// ---- The server ------------------------------------------------------------------------------

void AppendServer(Server* server, Page* page) {
  const Counts& counts = *server->counts();
  const Calls& calls = *server->calls();
  page->Family("flint_server_info", "gauge", "The version of the server.");
  page->Sample(1, "{" + Label("version", flint_limiter_version()) + "}");
  page->Family("flint_server_uptime_seconds", "gauge", "Time since the server was started.");
  page->Sample(SecondsText(server->uptime_ms() * 1'000'000));
  page->One("flint_server_open_connections", "gauge", "Connections that are open.",
            server->open_connections());
  page->One("flint_server_connections_total", "counter", "Connections that were accepted.",
            counts.connections());
  page->Family("flint_server_requests_total", "counter", "Requests that were answered.");
  for (const auto& [asked, number] : counts.requests()) {
    const std::string code = std::to_string(asked.second);
    page->Sample(number, "{" + Label("route", asked.first) + "," + Label("code", code) + "}");
  }
  page->Family("flint_server_commands_total", "counter", "Redis commands that were answered.");
  for (const auto& [command, codes] : counts.commands()) {
    for (const auto& [code, number] : codes) {
      page->Sample(number, "{" + Label("command", command) + "," + Label("code", code) + "}");
    }
  }
  page->Family("flint_server_decisions_total", "counter", "Decisions that were answered.");
  page->Sample(counts.allowed(), R"({result="allowed"})");
  page->Sample(counts.denied(), R"({result="denied"})");
  page->One("flint_server_undurable_answers", "gauge", "Answers that wait for the disk.",
            calls.undurable());
  page->One("flint_server_queued_calls", "gauge", "Calls that wait for a thread.", calls.queued());
  page->One("flint_server_running_calls", "gauge", "Calls that a thread makes.", calls.running());
  page->One("flint_server_log_lines_dropped_total", "counter",
            "Lines that nobody read from standard error in time.", server->log()->dropped());
}

struct Scrape {
  AllSeries series;
  flint_limiter_info info{};
  Page page;

  // On another thread: it takes time in proportion to the limits.
  Outcome Read(flint_limiter* limiter, const std::string& directory) {
    flint_limiter_error error = NoError();
    info.struct_size = sizeof info;
    const int32_t code = flint_limiter_get_info(limiter, &info, &error);
    if (code != FLINT_LIMITER_OK) return OutcomeOf(code, error);
    const Outcome outcome = ReadSeries(limiter, &series);
    page.One("flint_up", "gauge", "1 when the limiter could be asked.", 1);
    AppendSeries(series, &page);
    AppendStorage(info, &page);
    AppendDisk(directory, &page);
    return outcome;
  }
};

}  // namespace

void AnswerMetrics(const Exchange& exchange) {
  const auto scrape = std::make_shared<Scrape>();
  exchange->RunAside(
      [scrape, limiter = exchange->limiter(), directory = exchange->server()->options().data_dir](
          uint32_t) { return scrape->Read(limiter, directory); },
      [scrape, exchange](const Outcome& outcome) {
        if (!outcome.ok()) {
          exchange->Fail(outcome);
          return;
        }
        AppendServer(exchange->server(), &scrape->page);
        exchange->Send(200, HttpExchange::kMetrics, scrape->page.text());
      });
}

}  // namespace flint::server
