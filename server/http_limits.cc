#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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

uint32_t KindOf(const Target& target) {
  return target.is_template ? FLINT_LIMITER_KIND_TEMPLATE : FLINT_LIMITER_KIND_EXACT;
}

bool HasOwnLimit(flint_limiter* limiter, const std::string& key, const std::string& name) {
  flint_limiter_status_info status{};
  status.struct_size = sizeof status;
  const int32_t code =
      flint_limiter_status_named(limiter, key.data(), key.size(), name.data(), name.size(),
                                 FLINT_LIMITER_KIND_EXACT, &status, nullptr);
  return code == FLINT_LIMITER_OK &&
         (status.kind == FLINT_LIMITER_KIND_EXACT || status.kind == FLINT_LIMITER_KIND_INLINE);
}

// Where there is no such template: whether the key with its `*` has a limit that no template has
// given it. Then that is meant.
bool TakeLiterally(flint_limiter* limiter, Target* target) {
  if (!target->or_literal) return false;
  Decision look;
  look.key = target->key + "*";
  look.peek = true;
  std::vector<std::string> names = {target->name};
  if (target->all_names && look.Decide(limiter, 0, nullptr).ok()) {
    for (const auto& one : look.limits) names.emplace_back(one.name, one.name_bytes);
  }
  const bool own = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return HasOwnLimit(limiter, look.key, name);
  });
  if (own) *target = {std::move(look.key), target->name, target->all_names, false, false};
  return own;
}

using Change = decltype(&flint_limiter_reset_named);

Outcome Make(Change change, flint_limiter* limiter, Target target, uint32_t flags) {
  flint_limiter_error error = NoError();
  uint64_t ticket = 0;
  int32_t code = 0;
  do {
    const char* const name = target.all_names ? nullptr : target.name.data();
    code = change(limiter, target.key.data(), target.key.size(), name, target.name.size(),
                  KindOf(target), flags, &ticket, &error);
  } while (code == FLINT_LIMITER_NOT_CONFIGURED && TakeLiterally(limiter, &target));
  return OutcomeOf(code, error, ticket);
}

void AnswerChange(const Exchange& exchange, Change change) {
  const auto target = std::make_shared<Target>();
  HttpRefusal refusal;
  if (!ReadTargetBody(exchange->request().body, target.get(), &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  const auto call = [target, change, limiter = exchange->limiter()](uint32_t flags) {
    return Make(change, limiter, *target, flags);
  };
  // A template has as many counters as it has.
  if (target->is_template) {
    exchange->RunAside(call, exchange->Ok());
  } else {
    exchange->Run(call, exchange->Ok());
  }
}

struct StatusWork {
  Target target;
  std::string key;  // as it is shown
  bool details = false;
  flint_limiter_status_info status{};

  Outcome Read(flint_limiter* limiter) {
    flint_limiter_error error = NoError();
    status.struct_size = sizeof status;
    int32_t code = 0;
    do {
      code = flint_limiter_status_named(limiter, target.key.data(), target.key.size(),
                                        target.name.data(), target.name.size(), KindOf(target),
                                        &status, &error);
    } while (code == FLINT_LIMITER_NOT_CONFIGURED && TakeLiterally(limiter, &target));
    return OutcomeOf(code, error);
  }
};

// The limit that a path and a query name.
bool ReadTargetOf(const HttpRequest& request, Target* target, std::string* key) {
  bool wrong = false;
  const std::string_view segment = std::string_view(request.path).substr(kOneLimitPath.size());
  const auto said = QueryValue(request.query, "template", &wrong);
  std::optional<bool> is_template;
  if (said) is_template = *said == "true";
  if (said && *said != "true" && *said != "false") return false;
  if (!PercentDecode(segment, key)) return false;
  *target = ReadTarget(*key, is_template);
  target->name = QueryValue(request.query, "name", &wrong).value_or("");
  if (target->is_template && !key->ends_with('*')) key->push_back('*');
  return !wrong;
}

void AnswerStatusOf(const Exchange& exchange, const std::shared_ptr<StatusWork>& work) {
  const auto call = [work, limiter = exchange->limiter()](uint32_t) { return work->Read(limiter); };
  const auto finish = [work, exchange](const Outcome& outcome) {
    std::string body;
    if (outcome.ok()) {
      AppendStatus(work->key, work->target.name, work->status, work->details, &body);
      exchange->Json(body);
    } else if (outcome.code == FLINT_LIMITER_NOT_CONFIGURED) {
      exchange->Json("null");
    } else {
      exchange->Fail(outcome);
    }
  };
  if (work->target.is_template) {
    exchange->RunAside(call, finish);
  } else {
    exchange->Run(call, finish);
  }
}

}  // namespace

void AnswerLimit(const Exchange& exchange) {
  const auto body = std::make_shared<LimitBody>();
  HttpRefusal refusal;
  if (!ReadLimitBody(exchange->request().body, exchange->server()->rate_names(), body.get(),
                     &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  exchange->Run(
      [body, limiter = exchange->limiter()](uint32_t flags) {
        flint_limiter_error error = NoError();
        uint64_t ticket = 0;
        const flint_limiter_config config = body->config();
        const uint32_t if_absent = body->if_absent ? FLINT_LIMITER_IF_ABSENT : 0;
        const int32_t code =
            flint_limiter_limit(limiter, &config, flags | if_absent, &ticket, &error);
        return OutcomeOf(code, error, ticket);
      },
      exchange->Ok());
}

void AnswerLimits(const Exchange& exchange) {
  const auto limits = std::make_shared<std::vector<LimitBody>>();
  HttpRefusal refusal;
  if (!ReadLimitsBody(exchange->request().body, exchange->server()->rate_names(), limits.get(),
                      &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  exchange->Run(
      [limits, limiter = exchange->limiter()](uint32_t flags) {
        std::vector<flint_limiter_config> configs;
        for (const LimitBody& one : *limits) configs.push_back(one.config());
        if (limits->front().if_absent) flags |= FLINT_LIMITER_IF_ABSENT;
        flint_limiter_error error = NoError();
        uint64_t ticket = 0;
        const int32_t code = flint_limiter_limit_many(limiter, configs.data(), configs.size(),
                                                      sizeof configs[0], flags, &ticket, &error);
        return OutcomeOf(code, error, ticket);
      },
      exchange->Ok());
}

void AnswerReset(const Exchange& exchange) { AnswerChange(exchange, flint_limiter_reset_named); }

void AnswerRemove(const Exchange& exchange) { AnswerChange(exchange, flint_limiter_remove_named); }

void AnswerStatus(const Exchange& exchange) {
  const auto work = std::make_shared<StatusWork>();
  if (!ReadTargetOf(exchange->request(), &work->target, &work->key)) {
    exchange->Error(400, "the key and the query must be percent-encoded UTF-8", "INVALID_ARGUMENT");
    return;
  }
  work->details = exchange->Asks("details");
  AnswerStatusOf(exchange, work);
}

void AnswerStatusByBody(const Exchange& exchange) {
  const auto work = std::make_shared<StatusWork>();
  HttpRefusal refusal;
  if (!ReadTargetBody(exchange->request().body, &work->target, &refusal)) {
    exchange->Refuse(refusal);
    return;
  }
  work->key = work->target.key + (work->target.is_template ? "*" : "");
  work->details = true;
  AnswerStatusOf(exchange, work);
}

}  // namespace flint::server
