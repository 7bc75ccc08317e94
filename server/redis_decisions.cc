#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "decision.h"
#include "flint_limiter.h"
#include "rates.h"
#include "redis_commands.h"
#include "server.h"
#include "text.h"

namespace flint::server {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

template <typename OneDecision, typename Tell>
void Decide(const Asked& asked, const std::shared_ptr<OneDecision>& decision, Tell tell,
            Outcome (OneDecision::*decide)(flint_limiter*, uint32_t,
                                           CarriedSets*) = &OneDecision::Decide) {
  CarriedSets* const sets = asked->server()->carried_sets();
  const auto call = [decision, decide, sets, limiter = asked->limiter()](uint32_t flags) {
    return (decision.get()->*decide)(limiter, flags, sets);
  };
  asked->Run(call, [asked, decision, tell] {
    if (!decision->peek) asked->server()->counts()->Decided(decision->result.allowed != 0);
    RedisReply reply = asked->Reply();
    tell(*decision, &reply);
    asked->Send(reply);
  });
}

// ---- redis-cell and throttlecrab -------------------------------------------------------------

// Rounded up: who comes so much later is let in.
int64_t Seconds(uint64_t ns) {
  return static_cast<int64_t>(ns / kNsPerSecond + (ns % kNsPerSecond == 0 ? 0 : 1));
}

int64_t Signed(uint64_t value) {
  return value > INT64_MAX ? INT64_MAX : static_cast<int64_t>(value);
}

struct Throttle : Decision {
  bool too_large = false;  // more than there can ever be: nothing is decided

  // Which limit decides, that of the key or the one that came with the command, the limiter knows.
  Outcome Judge(flint_limiter* limiter, uint32_t flags, CarriedSets* sets) {
    Outcome decided = Decide(limiter, flags, sets);
    if (peek || decided.code != FLINT_LIMITER_INVALID_ARGUMENT) return decided;
    Decision look = *this;
    look.peek = true;
    look.cost = 1;
    Outcome looked = look.Decide(limiter, flags, sets);
    if (!looked.ok()) return looked;
    // So nothing but the cost was wrong.
    too_large = true;
    peek = true;
    result = look.result;
    return looked;
  }
};

// A rate of `count` in so many seconds, with `more` beside the burst that is said. A quantity of 0
// asks how the key stands.
std::shared_ptr<Throttle> ReadThrottle(const Asked& asked, uint64_t more) {
  const auto& words = asked->words();
  uint64_t burst = 0;
  uint64_t count = 0;
  uint64_t period_s = 0;
  uint64_t quantity = 1;
  if (!ReadRedisNumber(asked, "max_burst", words[2], &burst) ||
      !ReadRedisNumber(asked, "count_per_period", words[3], &count) ||
      !ReadRedisNumber(asked, "period", words[4], &period_s) ||
      (words.size() > 5 && !ReadRedisNumber(asked, "quantity", words[5], &quantity))) {
    return nullptr;
  }
  if (burst > UINT64_MAX - more || burst + more == 0 || count == 0 || period_s == 0 ||
      period_s > UINT64_MAX / kNsPerSecond) {
    asked->Error("max_burst, count_per_period and period are too small or too large");
    return nullptr;
  }
  auto decision = std::make_shared<Throttle>();
  decision->key = words[1];
  decision->peek = quantity == 0;
  decision->cost = decision->peek ? 1 : quantity;
  decision->rates.push_back({count, period_s * kNsPerSecond, burst + more, FLINT_LIMITER_GCRA});
  return decision;
}

}  // namespace

// Five numbers: whether it is limited, the burst, what remains, in how many seconds to try again
// (-1: it was let in), and in how many all is there again.
void RedisClThrottle(const Asked& asked) {
  const auto decision = ReadThrottle(asked, 1);
  if (decision == nullptr) return;
  const auto tell = [](const Throttle& throttle, RedisReply* reply) {
    const flint_limiter_result& result = throttle.result;
    const bool limited = throttle.too_large || (result.allowed == 0 && !throttle.peek);
    reply->Array(5).Integer(limited ? 1 : 0).Integer(Signed(result.limit));
    reply->Integer(Signed(result.remaining));
    reply->Integer(limited && !throttle.too_large ? Seconds(result.retry_after_ns) : -1);
    reply->Integer(Seconds(result.reset_after_ns));
  };
  Decide(asked, decision, tell, &Throttle::Judge);
}

// Five numbers: whether it is allowed, the burst, what remains, in how many seconds all is there
// again, and in how many to try again (0: it was let in).
void RedisThrottle(const Asked& asked) {
  const auto decision = ReadThrottle(asked, 0);
  if (decision == nullptr) return;
  const auto tell = [](const Throttle& throttle, RedisReply* reply) {
    const flint_limiter_result& result = throttle.result;
    if (throttle.too_large) {
      reply->Error("ERR", "quantity is larger than the burst: it can never be let in");
      return;
    }
    const bool allowed = result.allowed != 0 || throttle.peek;
    reply->Array(5).Integer(allowed ? 1 : 0).Integer(Signed(result.limit));
    reply->Integer(Signed(result.remaining));
    reply->Integer(Seconds(result.reset_after_ns));
    reply->Integer(allowed ? 0 : Seconds(result.retry_after_ns));
  };
  Decide(asked, decision, tell, &Throttle::Judge);
}

// ---- Flint's own -----------------------------------------------------------------------------

namespace {

void AppendDecision(std::string_view key, const flint_limiter_result& result, RedisReply* reply,
                    size_t more = 0) {
  reply->Map(12 + more)
      .Flag("allowed", result.allowed != 0)
      .Word("key", key)
      .Field("cost", result.cost)
      .Word("algorithm", AlgorithmName(result.algorithm))
      .Field("limit", result.limit)
      .Field("remaining", result.remaining)
      .Field("retry_after_ns", result.retry_after_ns)
      .Field("reset_after_ns", result.reset_after_ns)
      .Time("reset_at_ns", result.reset_at_ns)
      .Flag("undecided", result.undecided != 0)
      .Field("limit_count", result.limit_count)
      .Field("limit_index", result.limit_index);
}

// With what each limit of the key says, in the order of which `limit_index` is one. There are none
// of a key that has one limit without a name.
void AppendParts(const Decision& decision, RedisReply* reply) {
  AppendDecision(decision.key, decision.result, reply, 1);
  reply->Text("limits").Array(decision.limits.size());
  for (const flint_limiter_limit_result& one : decision.limits) {
    reply->Map(8)
        .Word("name", {one.name, one.name_bytes})
        .Flag("allowed", one.allowed != 0)
        .Word("algorithm", AlgorithmName(one.algorithm))
        .Field("limit", one.limit)
        .Field("remaining", one.remaining)
        .Field("retry_after_ns", one.retry_after_ns)
        .Field("reset_after_ns", one.reset_after_ns)
        .Time("reset_at_ns", one.reset_at_ns);
  }
}

void DecideOne(const Asked& asked, bool peek) {
  const auto decision = std::make_shared<Decision>();
  std::string cost;
  std::string words;
  RedisQuantities said;
  if (!ReadRedisOptions(asked, 2,
                        {{"COST", &cost},
                         {"LIMIT", &words},
                         {"RATE", &said.rate},
                         {"PER", &said.per},
                         {"BURST", &said.burst},
                         {"ALGORITHM", &said.algorithm},
                         {"KEEP", nullptr, &decision->keep},
                         {"REFUSE", nullptr, &decision->refuse},
                         {"LIMITS", nullptr, &decision->parts}}) ||
      !ReadRedisOptional(asked, "COST", cost, &decision->cost)) {
    return;
  }
  if (peek && decision->refuse) {
    asked->Error("a peek changes nothing, so it cannot REFUSE");
    return;
  }
  if (!words.empty() && said.said()) {
    asked->Error("LIMIT says everything: RATE, PER, BURST and ALGORITHM cannot stand beside it");
    return;
  }
  decision->key = asked->words()[1];
  decision->peek = peek;
  if (!words.empty() && !ReadRedisWords(asked, words, &decision->rates)) return;
  if (said.said() && !said.Read(asked, &decision->rates.emplace_back())) return;
  Decide(asked, decision, [](const Decision& decided, RedisReply* reply) {
    if (decided.parts) {
      AppendParts(decided, reply);
    } else {
      AppendDecision(decided.key, decided.result, reply);
    }
  });
}

void AppendTogether(const Together& together, RedisReply* reply) {
  reply->Map(3).Flag("allowed", together.allowed()).Text("denied_key");
  if (together.allowed()) {
    reply->Null();
  } else {
    reply->Text(together.items[together.denied].key);
  }
  reply->Text("results").Array(together.told());
  for (size_t i = 0; i < together.told(); i++) {
    AppendDecision(together.items[i].key, together.results[i], reply);
  }
}

// Whether `LIMIT words` stands at word `at`, and not a key of that name with its cost: no limit is
// a number.
bool IsLimitAt(const std::vector<std::string>& words, size_t at) {
  uint64_t cost = 0;
  return at + 1 < words.size() && EqualFold(words[at], "LIMIT") && !ReadWhole(words[at + 1], &cost);
}

// `key cost [LIMIT words]` for each item.
bool ReadItems(const Asked& asked, std::vector<Together::Item>* items) {
  const auto& words = asked->words();
  for (size_t at = 1; at < words.size();) {
    if (at + 1 == words.size()) {
      asked->Error("there must be a cost behind each key");
      return false;
    }
    Together::Item& item = items->emplace_back();
    item.key = words[at];
    if (!ReadRedisNumber(asked, "cost", words[at + 1], &item.cost)) return false;
    at += 2;
    if (!IsLimitAt(words, at)) continue;
    if (!ReadRedisWords(asked, words[at + 1], &item.rates)) return false;
    at += 2;
  }
  return true;
}

}  // namespace

void RedisCheck(const Asked& asked) { DecideOne(asked, false); }

void RedisPeek(const Asked& asked) { DecideOne(asked, true); }

// Independent checks, one after the other: what stands in the place of one that fails is its error.
void RedisCheckMany(const Asked& asked) {
  std::vector<Together::Item> items;
  if (!ReadItems(asked, &items)) return;
  const auto many = std::make_shared<Decisions>();
  for (Together::Item& item : items) {
    Decision& one = many->asked.emplace_back();
    one.key = std::move(item.key);
    one.cost = item.cost;
    one.rates = std::move(item.rates);
  }
  CarriedSets* const sets = asked->server()->carried_sets();
  const auto call = [many, sets, limiter = asked->limiter()](uint32_t flags) {
    return many->Decide(limiter, flags, sets);
  };
  asked->Run(call, [asked, many] {
    RedisReply reply = asked->Reply();
    reply.Array(many->asked.size());
    for (size_t i = 0; i < many->asked.size(); i++) {
      const Decision& one = many->asked[i];
      if (many->outcomes[i].ok()) {
        asked->server()->counts()->Decided(one.result.allowed != 0);
        AppendDecision(one.key, one.result, &reply);
      } else {
        reply.Error(RedisCodeOf(many->outcomes[i].code), many->outcomes[i].message);
      }
    }
    asked->Send(reply);
  });
}

void RedisCheckAll(const Asked& asked) {
  const auto together = std::make_shared<Together>();
  if (!ReadItems(asked, &together->items)) return;
  CarriedSets* const sets = asked->server()->carried_sets();
  const auto call = [together, sets, limiter = asked->limiter()](uint32_t flags) {
    return together->Decide(limiter, flags, sets);
  };
  asked->Run(call, [asked, together] {
    asked->server()->counts()->Decided(together->allowed());
    RedisReply reply = asked->Reply();
    AppendTogether(*together, &reply);
    asked->Send(reply);
  });
}

}  // namespace flint::server
