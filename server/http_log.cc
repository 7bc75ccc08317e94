#include <memory>
#include <string>
#include <string_view>

#include "flint_limiter.h"
#include "http_exchange.h"
#include "http_handlers.h"
#include "server.h"
#include "text.h"

namespace flint::server {

void AnswerFlush(const Exchange& exchange) {
  exchange->RunAside(
      [limiter = exchange->limiter()](uint32_t) {
        flint_limiter_error error = NoError();
        return OutcomeOf(flint_limiter_flush(limiter, &error), error);
      },
      exchange->Ok());
}

void AnswerCompact(const Exchange& exchange) {
  exchange->RunAside(
      [limiter = exchange->limiter()](uint32_t) {
        flint_limiter_error error = NoError();
        return OutcomeOf(flint_limiter_compact(limiter, 0, &error), error);
      },
      exchange->Ok());
}

namespace {

// In the order of the alphabet, as all answers are.
#define FLINT_INFO_FIELDS(X) \
  X(appended)                \
  X(compaction_done_bytes)   \
  X(compaction_failure)      \
  X(compaction_failures)     \
  X(compaction_retry_at_ns)  \
  X(compaction_total_bytes)  \
  X(compactions)             \
  X(converted_events)        \
  X(counters)                \
  X(damaged_history)         \
  X(directory_mode)          \
  X(durable)                 \
  X(engine_time_ns)          \
  X(evicted)                 \
  X(history_bytes)           \
  X(history_failures)        \
  X(limits)                  \
  X(log_bytes)               \
  X(poisoned)                \
  X(read_only)               \
  X(recovered_records)       \
  X(recovered_ring_records)  \
  X(segments)                \
  X(sequence)                \
  X(since_sync_ns)           \
  X(snapshot_bytes)          \
  X(snapshot_limits)

#define FLINT_INFO_FIELDS_BEHIND_SYNC(X) \
  X(sync_time_ns)                        \
  X(syncs)                               \
  X(torn_bytes)                          \
  X(undecided)                           \
  X(unsynced_events)                     \
  X(warnings)

std::string InfoText(const flint_limiter_info& info) {
  std::string text;
  const auto add = [&text](std::string_view name, auto value) {
    text.append(text.empty() ? "{\"" : ",\"").append(name).append("\":");
    text.append(std::to_string(value));
  };
#define FLINT_ADD(name) add(#name, info.name);
  FLINT_INFO_FIELDS(FLINT_ADD)
  text.append(",\"sync\":");
  text.append(info.sync == FLINT_LIMITER_SYNC_BATCH ? "\"batch\"" : "\"always\"");
  FLINT_INFO_FIELDS_BEHIND_SYNC(FLINT_ADD)
#undef FLINT_ADD
  return text + "}";
}

struct Doctor {
  flint_limiter_doctor_report report{};
  std::string damage = "null";

  Outcome Examine(const std::string& path) {
    report.struct_size = sizeof report;
    flint_limiter_error error = NoError();
    const int32_t code = flint_limiter_doctor(path.data(), path.size(), &report, &error);
    if (code != FLINT_LIMITER_CORRUPTION) return OutcomeOf(code, error);
    damage = "{\"message\":" + Quoted(error.message) +
             ",\"offset\":" + std::to_string(error.offset) +
             ",\"segment\":" + Quoted(error.segment) +
             ",\"sequence\":" + std::to_string(error.sequence) + "}";
    return OutcomeOf(code, error);
  }
  std::string Text(bool details) const {
    std::string text = "{\"aof_bytes\":" + std::to_string(report.log_bytes);
    const auto add = [&](bool wanted, std::string_view name, uint64_t value) {
      if (wanted) text.append(",\"").append(name).append("\":").append(std::to_string(value));
    };
    add(details, "counters", report.counters);
    if (details) text.append(",\"damage\":").append(damage);
    add(details, "directory_mode", report.directory_mode);
    add(true, "history_events", report.history_events);
    add(details, "history_segments", report.history_segments);
    add(true, "limits", report.limits);
    text.append(damage == "null" ? ",\"ok\":true" : ",\"ok\":false");
    add(details, "records", report.records);
    add(details, "ring_records", report.ring_records);
    add(details, "seals", report.seals);
    add(details, "segments", report.segments);
    add(details, "snapshot_bytes", report.snapshot_bytes);
    text.append(",\"snapshot_exists\":").append(report.snapshot_exists != 0 ? "true" : "false");
    add(details, "torn_bytes", report.torn_bytes);
    return text + "}";
  }
};

}  // namespace

void AnswerDoctor(const Exchange& exchange) {
  const auto doctor = std::make_shared<Doctor>();
  exchange->RunAside([doctor, path = exchange->server()->options().data_dir](
                         uint32_t) { return doctor->Examine(path); },
                     [doctor, exchange](const Outcome& outcome) {
                       // Flint 0.2 had no other answer for damage than an error.
                       const bool details = exchange->Asks("details");
                       if (outcome.ok() || (details && outcome.code == FLINT_LIMITER_CORRUPTION)) {
                         exchange->Json(doctor->Text(details));
                       } else {
                         exchange->Fail(outcome);
                       }
                     });
}

void AnswerInfo(const Exchange& exchange) {
  const auto info = std::make_shared<flint_limiter_info>();
  info->struct_size = sizeof *info;
  exchange->RunAside(
      [info, limiter = exchange->limiter()](uint32_t) {
        flint_limiter_error error = NoError();
        return OutcomeOf(flint_limiter_get_info(limiter, info.get(), &error), error);
      },
      [info, exchange](const Outcome& outcome) {
        if (outcome.ok()) {
          exchange->Json(InfoText(*info));
        } else {
          exchange->Fail(outcome);
        }
      });
}

void AnswerOpenApi(const Exchange& exchange) { exchange->Json(kOpenApi); }

void AnswerHealth(const Exchange& exchange) { exchange->Json(HttpExchange::kOk); }

void AnswerReady(const Exchange& exchange) {
  Server* const server = exchange->server();
  if (server->draining()) {
    exchange->Error(503, "the server is shutting down");
  } else if (server->calls()->health() != FLINT_LIMITER_OK) {
    exchange->Error(503, "the log has failed; restart the server when the disk is well");
  } else {
    exchange->Json(HttpExchange::kOk);
  }
}

}  // namespace flint::server
