#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "decision.h"
#include "flint_limiter.h"
#include "http_exchange.h"
#include "http_handlers.h"
#include "json_bodies.h"
#include "server.h"
#include "text.h"

namespace flint::server {
namespace {

Decision DecisionOf(CheckBody body) {
  Decision decision;
  decision.key = std::move(body.key);
  decision.cost = body.cost;
  decision.rates = std::move(body.rates);
  decision.parts = body.details;
  return decision;
}

void AppendDecision(const Decision& decision, std::string* to) {
  if (decision.parts) {
    AppendDetails(decision.key, decision.result, decision.limits, to);
  } else {
    AppendResult(decision.key, decision.result, to);
  }
}

struct Check {
  Decision decision;

  Outcome Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets) {
    return decision.Decide(limiter, flags, sets);
  }
  void Answer(const Exchange& exchange) const {
    if (!decision.peek) exchange->server()->counts()->Decided(decision.result.allowed != 0);
    std::string text;
    AppendDecision(decision, &text);
    exchange->Json(text);
  }
};

struct Allow {
  Decision decision;

  Outcome Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets) {
    return decision.Decide(limiter, flags, sets);
  }
  void Answer(const Exchange& exchange) const {
    const bool allowed = decision.result.allowed != 0;
    exchange->server()->counts()->Decided(allowed);
    if (allowed) {
      exchange->Send(204, "", "");
    } else {
      const uint64_t wait_s = SecondsUp(decision.result.retry_after_ns);
      exchange->Send(429, "", "", "Retry-After: " + std::to_string(wait_s) + "\r\n");
    }
  }
};

struct Checks {
  Decisions decisions;

  Outcome Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets) {
    return decisions.Decide(limiter, flags, sets);
  }
  void Answer(const Exchange& exchange) const {
    std::string text = R"({"results":[)";
    for (size_t i = 0; i < decisions.asked.size(); i++) {
      const Decision& one = decisions.asked[i];
      const Outcome& outcome = decisions.outcomes[i];
      if (i > 0) text.push_back(',');
      if (outcome.ok()) {
        exchange->server()->counts()->Decided(one.result.allowed != 0);
        AppendDecision(one, &text);
      } else {
        text.append(R"({"code":")").append(flint_limiter_code_name(outcome.code));
        text.append(R"(","error":)").append(Quoted(outcome.message)).append(R"(,"key":)");
        AppendQuoted(one.key, &text);
        text.push_back('}');
      }
    }
    exchange->Json(text + "]}");
  }
};

struct CheckAll {
  Together together;

  Outcome Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets) {
    return together.Decide(limiter, flags, sets);
  }
  void Answer(const Exchange& exchange) const {
    const bool allowed = together.allowed();
    exchange->server()->counts()->Decided(allowed);
    std::string text = allowed ? R"({"allowed":true,"denied_key":null,"results":[)"
                               : R"({"allowed":false,"denied_key":)";
    if (!allowed) {
      AppendQuoted(together.items[together.denied].key, &text);
      text += ",\"results\":[";
    }
    for (size_t i = 0; i < together.told(); i++) {
      if (i > 0) text.push_back(',');
      AppendResult(together.items[i].key, together.results[i], &text);
    }
    exchange->Json(text + "]}");
  }
};

// Has `work` decide, and answer.
template <typename Work>
void Decide(const Exchange& exchange, const std::shared_ptr<Work>& work) {
  CarriedSets* const sets = exchange->server()->carried_sets();
  const auto call = [work, sets, limiter = exchange->limiter()](uint32_t flags) {
    return work->Decide(limiter, flags, sets);
  };
  exchange->Run(call, [work, exchange](const Outcome& outcome) {
    if (outcome.ok()) {
      work->Answer(exchange);
    } else {
      exchange->Fail(outcome);
    }
  });
}

template <typename Work>
void DecideOne(const Exchange& exchange, bool peek = false) {
  CheckBody body;
  HttpRefusal refusal;
  if (!ReadCheckBody(exchange->request().body, exchange->server()->rate_names(), &body, &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  const auto work = std::make_shared<Work>();
  work->decision = DecisionOf(std::move(body));
  work->decision.peek = peek;
  Decide(exchange, work);
}

}  // namespace

void AnswerCheck(const Exchange& exchange) { DecideOne<Check>(exchange); }

void AnswerPeek(const Exchange& exchange) { DecideOne<Check>(exchange, true); }

void AnswerAllow(const Exchange& exchange) { DecideOne<Allow>(exchange); }

void AnswerChecks(const Exchange& exchange) {
  std::vector<CheckBody> bodies;
  HttpRefusal refusal;
  if (!ReadChecksBody(exchange->request().body, exchange->server()->rate_names(), &bodies,
                      &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  const auto work = std::make_shared<Checks>();
  for (CheckBody& body : bodies) {
    work->decisions.asked.push_back(DecisionOf(std::move(body)));
  }
  Decide(exchange, work);
}

void AnswerCheckAll(const Exchange& exchange) {
  const auto work = std::make_shared<CheckAll>();
  HttpRefusal refusal;
  if (!ReadItemsBody(exchange->request().body, exchange->server()->rate_names(),
                     &work->together.items, &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  Decide(exchange, work);
}

}  // namespace flint::server
