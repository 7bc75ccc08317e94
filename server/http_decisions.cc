#include <memory>
#include <string>
#include <vector>

#include "flint_limiter.h"
#include "http_exchange.h"
#include "http_handlers.h"
#include "json_bodies.h"
#include "text.h"

namespace flint::server {
namespace {

flint_limiter_result NoResult() {
  flint_limiter_result result{};
  result.struct_size = sizeof result;
  return result;
}

struct Check {
  CheckBody body;
  bool peek = false;
  flint_limiter_config config{};
  flint_limiter_result result = NoResult();
  std::vector<flint_limiter_limit_result> limits;

  Outcome Decide(flint_limiter* limiter, uint32_t flags) {
    flint_limiter_error error = NoError();
    if (peek) flags &= ~uint32_t{FLINT_LIMITER_NO_SYNC};  // it changes nothing
    const flint_limiter_config* const carried = body.limit ? &config : nullptr;
    if (carried != nullptr) flags |= FLINT_LIMITER_UPDATE;
    int32_t code = FLINT_LIMITER_OK;
    if (body.details || peek) {
      limits.resize(FLINT_LIMITER_MAX_LIMITS_OF_KEY);
      for (auto& one : limits) one.struct_size = sizeof one;
      uint64_t count = 0;
      code = flint_limiter_check_limits(limiter, body.key.data(), body.key.size(), body.cost, flags,
                                        carried, peek ? 1 : 0, &result, limits.data(),
                                        limits.size(), sizeof limits[0], &count, &error);
      limits.resize(count);
    } else {
      code = flint_limiter_check(limiter, body.key.data(), body.key.size(), body.cost, flags,
                                 carried, &result, &error);
    }
    return OutcomeOf(code, error, result.ticket);
  }
  std::string Text() const {
    std::string text;
    if (body.details) {
      AppendDetails(body.key, result, limits, &text);
    } else {
      AppendResult(body.key, result, &text);
    }
    return text;
  }
};

struct CheckAll {
  ItemsBody body;
  std::vector<flint_limiter_item> items;
  std::vector<flint_limiter_result> results;
  uint64_t denied = 0;

  Outcome Decide(flint_limiter* limiter, uint32_t flags) {
    flint_limiter_error error = NoError();
    const int32_t code =
        flint_limiter_check_all(limiter, items.data(), items.size(), sizeof items[0], flags,
                                results.data(), sizeof results[0], &denied, &error);
    return OutcomeOf(code, error, results[0].ticket);
  }
  std::string Text() const {
    const bool allowed = denied >= items.size();
    std::string text = allowed ? R"({"allowed":true,"denied_key":null,"results":[)"
                               : R"({"allowed":false,"denied_key":)";
    if (!allowed) {
      AppendQuoted(body.items[denied].key, &text);
      text += ",\"results\":[";
    }
    for (size_t i = 0; i < items.size() && i <= denied; i++) {
      if (i > 0) text.push_back(',');
      AppendResult(body.items[i].key, results[i], &text);
    }
    return text + "]}";
  }
};

// Has `work` decide, and answers with its text.
template <typename Work>
void Decide(const Exchange& exchange, const std::shared_ptr<Work>& work) {
  const auto call = [work, limiter = exchange->limiter()](uint32_t flags) {
    return work->Decide(limiter, flags);
  };
  exchange->Run(call, [work, exchange](const Outcome& outcome) {
    if (outcome.ok()) {
      exchange->Json(work->Text());
    } else {
      exchange->Fail(outcome);
    }
  });
}

void DecideOne(const Exchange& exchange, bool peek) {
  const auto work = std::make_shared<Check>();
  HttpRefusal refusal;
  if (!ReadCheckBody(exchange->request().body, &work->body, &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  work->peek = peek;
  if (work->body.limit) work->config = work->body.limit->config();
  Decide(exchange, work);
}

}  // namespace

void AnswerCheck(const Exchange& exchange) { DecideOne(exchange, false); }

void AnswerPeek(const Exchange& exchange) { DecideOne(exchange, true); }

void AnswerCheckAll(const Exchange& exchange) {
  const auto work = std::make_shared<CheckAll>();
  HttpRefusal refusal;
  if (!ReadItemsBody(exchange->request().body, &work->body, &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  for (const ItemsBody::Item& one : work->body.items) {
    flint_limiter_item item{};
    item.struct_size = sizeof item;
    item.key = one.key.data();
    item.key_bytes = one.key.size();
    item.cost = one.cost;
    work->items.push_back(item);
  }
  work->results.assign(work->items.size(), NoResult());
  Decide(exchange, work);
}

}  // namespace flint::server
