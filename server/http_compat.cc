// Endpoints that callers of other servers know: throttlecrab's POST /throttle, and POST /json of
// envoy's rate limit service.
#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>

#include "decision.h"
#include "flint_limiter.h"
#include "http_exchange.h"
#include "http_handlers.h"
#include "json_bodies.h"
#include "server.h"
#include "text.h"

namespace flint::server {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;

// ---- throttlecrab ----------------------------------------------------------------------------

std::string ThrottleText(const Decision& decision) {
  const flint_limiter_result& result = decision.result;
  std::string text = result.allowed != 0 ? R"({"allowed":true)" : R"({"allowed":false)";
  const auto add = [&text](std::string_view name, uint64_t value) {
    text.append(",\"").append(name).append("\":").append(std::to_string(value));
  };
  add("limit", result.limit);
  add("remaining", result.remaining);
  add("reset_after", SecondsUp(result.reset_after_ns));
  add("retry_after", SecondsUp(result.retry_after_ns));
  return text + "}";
}

// ---- envoy -----------------------------------------------------------------------------------

struct EnvoyUnit {
  std::string_view name;
  uint64_t ns;
};
constexpr std::array kEnvoyUnits = {
    EnvoyUnit{"SECOND", kSecondNs},
    EnvoyUnit{"MINUTE", 60 * kSecondNs},
    EnvoyUnit{"HOUR", 3'600 * kSecondNs},
    EnvoyUnit{"DAY", 86'400 * kSecondNs},
    EnvoyUnit{"WEEK", 604'800 * kSecondNs},
    EnvoyUnit{"MONTH", 2'592'000 * kSecondNs},
    EnvoyUnit{"YEAR", 31'104'000 * kSecondNs},
};

// The limit that has decided, as its unit is written, if it has one.
void AppendCurrentLimit(const Rate& limit, std::string* to) {
  const uint64_t shown = std::min<uint64_t>(limit.rate, UINT32_MAX);
  to->append(R"(,"currentLimit":{"requestsPerUnit":)").append(std::to_string(shown));
  for (const EnvoyUnit& unit : kEnvoyUnits) {
    if (unit.ns == limit.per_ns) to->append(R"(,"unit":")").append(unit.name).append("\"");
  }
  to->push_back('}');
}

struct Descriptors {
  Decisions decisions;
  std::vector<Rate> limits;  // of each that has one

  Outcome Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets) {
    Outcome outcome = decisions.Decide(limiter, flags, sets);
    if (!outcome.ok()) return outcome;
    limits.assign(decisions.asked.size(), Rate());
    for (size_t i = 0; i < decisions.asked.size(); i++) {
      const Outcome& one = decisions.outcomes[i];
      if (one.ok()) limits[i] = LimitOf(limiter, decisions.asked[i]);
      // What has no limit is not limited; other errors are those of all.
      if (!one.ok() && one.code != FLINT_LIMITER_NOT_CONFIGURED) return one;
    }
    return outcome;
  }
  bool IsAllowed(size_t i) const {
    return !decisions.outcomes[i].ok() || decisions.asked[i].result.allowed != 0;
  }
  bool allowed() const {
    for (size_t i = 0; i < decisions.asked.size(); i++) {
      if (!IsAllowed(i)) return false;
    }
    return true;
  }
  std::string Text() const;

 private:
  static Rate LimitOf(flint_limiter* limiter, const Decision& decision);
};

Rate Descriptors::LimitOf(flint_limiter* limiter, const Decision& decision) {
  std::string_view name;
  const size_t index = decision.result.limit_index;
  if (index < decision.limits.size()) {
    name = {decision.limits[index].name, decision.limits[index].name_bytes};
  }
  flint_limiter_status_info status{};
  status.struct_size = sizeof status;
  const int32_t code =
      flint_limiter_status_named(limiter, decision.key.data(), decision.key.size(), name.data(),
                                 name.size(), FLINT_LIMITER_KIND_EXACT, &status, nullptr);
  if (code == FLINT_LIMITER_OK) return {status.rate, status.per_ns, 0, status.algorithm};
  return decision.rates.empty() ? Rate() : decision.rates.front();  // forgotten again
}

std::string Descriptors::Text() const {
  std::string text = allowed() ? R"({"overallCode":"OK","statuses":[)"
                               : R"({"overallCode":"OVER_LIMIT","statuses":[)";
  for (size_t i = 0; i < decisions.asked.size(); i++) {
    const Decision& one = decisions.asked[i];
    if (i > 0) text.push_back(',');
    text.append(IsAllowed(i) ? R"({"code":"OK")" : R"({"code":"OVER_LIMIT")");
    if (decisions.outcomes[i].ok()) {
      if (limits[i].rate != 0) AppendCurrentLimit(limits[i], &text);
      const uint64_t remaining = std::min<uint64_t>(one.result.remaining, UINT32_MAX);
      if (remaining > 0) text.append(",\"limitRemaining\":").append(std::to_string(remaining));
      const uint64_t reset_s = SecondsUp(one.result.reset_after_ns);
      text.append(",\"durationUntilReset\":\"").append(std::to_string(reset_s)).append("s\"");
    }
    text.push_back('}');
  }
  return text + "]}";
}

}  // namespace

uint64_t EnvoyUnitNs(std::string_view name) {
  for (const EnvoyUnit& unit : kEnvoyUnits) {
    if (unit.name == name) return unit.ns;
  }
  return 0;
}

void AnswerThrottle(const Exchange& exchange) {
  const auto decision = std::make_shared<Decision>();
  HttpRefusal refusal;
  if (!ReadThrottleBody(exchange->request().body, decision.get(), &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  CarriedSets* const sets = exchange->server()->carried_sets();
  const auto call = [decision, sets, limiter = exchange->limiter()](uint32_t flags) {
    return decision->Decide(limiter, flags, sets);
  };
  exchange->Run(call, [decision, exchange](const Outcome& outcome) {
    if (!outcome.ok()) {
      exchange->Fail(outcome);
      return;
    }
    if (!decision->peek) exchange->server()->counts()->Decided(decision->result.allowed != 0);
    exchange->Json(ThrottleText(*decision));
  });
}

void AnswerEnvoy(const Exchange& exchange) {
  const auto work = std::make_shared<Descriptors>();
  HttpRefusal refusal;
  if (!ReadEnvoyBody(exchange->request().body, &work->decisions.asked, &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  CarriedSets* const sets = exchange->server()->carried_sets();
  const auto call = [work, sets, limiter = exchange->limiter()](uint32_t flags) {
    return work->Decide(limiter, flags, sets);
  };
  exchange->Run(call, [work, exchange](const Outcome& outcome) {
    if (!outcome.ok()) {
      exchange->Fail(outcome);
      return;
    }
    for (size_t i = 0; i < work->decisions.asked.size(); i++) {
      const bool counts = work->decisions.outcomes[i].ok() && !work->decisions.asked[i].peek;
      if (counts) exchange->server()->counts()->Decided(work->IsAllowed(i));
    }
    exchange->Send(work->allowed() ? 200 : 429, HttpExchange::kJson, work->Text());
  });
}

}  // namespace flint::server
