#include <memory>
#include <string>

#include "flint_limiter.h"
#include "http_exchange.h"
#include "http_handlers.h"
#include "server.h"

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

void AnswerDoctor(const Exchange& exchange) {
  const auto report = std::make_shared<flint_limiter_doctor_report>();
  report->struct_size = sizeof *report;
  exchange->RunAside(
      [report, path = exchange->server()->options().data_dir](uint32_t) {
        flint_limiter_error error = NoError();
        const int32_t code = flint_limiter_doctor(path.data(), path.size(), report.get(), &error);
        return OutcomeOf(code, error);
      },
      [report, exchange](const Outcome& outcome) {
        if (!outcome.ok()) {
          exchange->Fail(outcome);
          return;
        }
        exchange->Json("{\"aof_bytes\":" + std::to_string(report->log_bytes) +
                       ",\"history_events\":" + std::to_string(report->history_events) +
                       ",\"limits\":" + std::to_string(report->limits) +
                       ",\"ok\":true,\"snapshot_exists\":" +
                       (report->snapshot_exists != 0 ? "true}" : "false}"));
      });
}

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
