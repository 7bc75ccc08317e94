#include "decision.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace flint::server {
namespace {

bool IsBlocked(const Outcome& outcome, uint32_t flags) {
  const bool blocked =
      outcome.code == FLINT_LIMITER_WOULD_BLOCK || outcome.code == FLINT_LIMITER_BUSY;
  return blocked && (flags & FLINT_LIMITER_NO_WAIT) != 0;
}

Outcome Configure(flint_limiter* limiter, const SeveralRates& several, uint32_t flags) {
  std::vector<flint_limiter_config> configs;
  for (size_t i = 0; i < several.rates.size(); i++) {
    flint_limiter_config& config = configs.emplace_back(several.rates[i].config());
    config.kind = FLINT_LIMITER_KIND_TEMPLATE;
    config.key = several.prefix.data();
    config.key_bytes = several.prefix.size();
    if (several.rates.size() == 1) continue;
    config.name = several.names[i].data();
    config.name_bytes = several.names[i].size();
  }
  flint_limiter_error error = NoError();
  uint64_t ticket = 0;
  const int32_t code =
      flint_limiter_limit_many(limiter, configs.data(), configs.size(), sizeof configs[0],
                               flags | FLINT_LIMITER_IF_ABSENT, &ticket, &error);
  return OutcomeOf(code, error, ticket);
}

// A template that somebody was kept from configuring whole, by a wait or a crash, has fewer.
bool IsWhole(const SeveralRates& several, const flint_limiter_result& found) {
  return several.rates.size() == 1 || found.limit_count >= several.rates.size();
}

// Configures those of a set that are not there.
Outcome MakeWhole(flint_limiter* limiter, const SeveralRates& several, uint32_t flags,
                  CarriedSets* sets) {
  Outcome configured = Configure(limiter, several, flags);
  if (configured.ok()) sets->Add();
  return configured;
}

Outcome ConfigureSet(flint_limiter* limiter, const SeveralRates& several, uint32_t flags,
                     CarriedSets* sets) {
  if (sets->full()) {
    return {FLINT_LIMITER_TABLE_FULL,
            "more than 1024 different sets of limits came with checks; configure them instead", 0};
  }
  return MakeWhole(limiter, several, flags, sets);
}

}  // namespace

flint_limiter_result NoResult() {
  flint_limiter_result result{};
  result.struct_size = sizeof result;
  return result;
}

// ---- One -------------------------------------------------------------------------------------

Outcome Decision::Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets) {
  if (peek) flags &= ~uint32_t{FLINT_LIMITER_NO_SYNC};  // it changes nothing
  if (rates.size() > 1) return DecideSeveral(limiter, flags, sets);
  return Ask(limiter, key, rates.empty() ? nullptr : rates.data(), flags);
}

Outcome Decision::Ask(flint_limiter* limiter, const std::string& asked, const Rate* carried,
                      uint32_t flags) {
  flint_limiter_error error = NoError();
  flint_limiter_config config{};
  if (carried != nullptr) {
    config = carried->config();
    if (!keep) flags |= FLINT_LIMITER_UPDATE;
  }
  const flint_limiter_config* const inline_config = carried == nullptr ? nullptr : &config;
  if (refuse) flags |= FLINT_LIMITER_REFUSE;
  result = NoResult();
  if (!parts && !peek) {
    const int32_t code = flint_limiter_check(limiter, asked.data(), asked.size(), cost, flags,
                                             inline_config, &result, &error);
    return OutcomeOf(code, error, result.ticket);
  }
  limits.resize(FLINT_LIMITER_MAX_LIMITS_OF_KEY);
  for (auto& one : limits) one.struct_size = sizeof one;
  uint64_t count = 0;
  const int32_t code = flint_limiter_check_limits(
      limiter, asked.data(), asked.size(), cost, flags, inline_config, peek ? 1 : 0, &result,
      limits.data(), limits.size(), sizeof limits[0], &count, &error);
  limits.resize(count);
  return OutcomeOf(code, error, result.ticket);
}

Outcome Decision::DecideSeveral(flint_limiter* limiter, uint32_t flags, CarriedSets* sets) {
  Outcome with_its_own = Ask(limiter, key, nullptr, flags);
  if (with_its_own.code != FLINT_LIMITER_NOT_CONFIGURED) return with_its_own;
  const SeveralRates several(rates);
  const std::string counter = several.prefix + key;
  Outcome known = Ask(limiter, counter, nullptr, flags);
  const bool whole = IsWhole(several, result);
  if (known.code != FLINT_LIMITER_NOT_CONFIGURED && (peek || whole || !known.ok())) return known;
  if (known.ok()) {
    MakeWhole(limiter, several, flags, sets);
    return known;
  }
  if (peek) return PeekFresh(limiter, several, flags);
  Outcome configured = ConfigureSet(limiter, several, flags, sets);
  return configured.ok() ? Ask(limiter, counter, nullptr, flags) : configured;
}

Outcome Decision::PeekFresh(flint_limiter* limiter, const SeveralRates& several, uint32_t flags) {
  std::vector<size_t> order(several.names.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return several.names[a] < several.names[b]; });
  const std::string counter = several.prefix + key;
  std::vector<flint_limiter_limit_result> found;
  flint_limiter_result least = NoResult();
  for (const size_t i : order) {
    Outcome outcome = Ask(limiter, counter, &several.rates[i], flags);
    if (!outcome.ok()) return outcome;
    flint_limiter_limit_result& one = found.emplace_back();
    one.struct_size = sizeof one;
    one.allowed = result.allowed;
    one.algorithm = result.algorithm;
    one.limit = result.limit;
    one.remaining = result.remaining;
    one.reset_at_ns = result.reset_at_ns;
    one.reset_after_ns = result.reset_after_ns;
    one.retry_after_ns = result.retry_after_ns;
    const std::string& name = several.names[i];
    one.name_bytes = static_cast<uint32_t>(name.copy(one.name, sizeof one.name - 1));
    if (found.size() == 1 || result.remaining < least.remaining) {
      least = result;
      least.limit_index = static_cast<uint32_t>(found.size() - 1);
    }
  }
  result = least;
  result.limit_count = static_cast<uint32_t>(found.size());
  limits = std::move(found);
  return {};
}

// ---- Many ------------------------------------------------------------------------------------

bool Decisions::IsPlain() const {
  return std::all_of(asked.begin(), asked.end(), [](const Decision& one) {
    return one.rates.empty() && !one.peek && !one.parts && !one.refuse;
  });
}

Outcome Decisions::Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets) {
  if (!std::exchange(begun_, true)) {
    outcomes.resize(asked.size());
    left_.resize(asked.size());
    std::iota(left_.begin(), left_.end(), size_t{0});
  }
  if (IsPlain()) return DecideMany(limiter, flags);
  while (!left_.empty()) {
    const size_t i = left_.front();
    Outcome outcome = asked[i].Decide(limiter, flags, sets);
    if (IsBlocked(outcome, flags) || outcome.code == FLINT_LIMITER_POISONED) return outcome;
    ticket_ = std::max(ticket_, outcome.ticket);
    outcomes[i] = std::move(outcome);
    left_.erase(left_.begin());
  }
  return {FLINT_LIMITER_OK, {}, ticket_};
}

// One call for many tells codes alone; to look tells why.
void Decisions::Explain(flint_limiter* limiter, uint32_t flags, size_t index, Outcome* outcome) {
  Decision look = asked[index];
  look.peek = true;
  const Outcome why = look.Decide(limiter, flags & FLINT_LIMITER_NO_WAIT, nullptr);
  if (why.code == outcome->code) outcome->message = why.message;
}

Outcome Decisions::DecideMany(flint_limiter* limiter, uint32_t flags) {
  std::vector<flint_limiter_item> items;
  for (const size_t i : left_) {
    flint_limiter_item& item = items.emplace_back();
    item.struct_size = sizeof item;
    item.key = asked[i].key.data();
    item.key_bytes = asked[i].key.size();
    item.cost = asked[i].cost;
  }
  std::vector<flint_limiter_result> results(items.size(), NoResult());
  std::vector<int32_t> codes(items.size());
  flint_limiter_error error = NoError();
  const int32_t code =
      flint_limiter_check_many(limiter, items.data(), items.size(), sizeof items[0], flags,
                               results.data(), sizeof results[0], codes.data(), &error);
  if (code != FLINT_LIMITER_OK) return OutcomeOf(code, error);
  std::vector<size_t> blocked;
  Outcome unfinished;
  for (size_t at = 0; at < items.size(); at++) {
    const size_t i = left_[at];
    Outcome outcome = OutcomeOf(codes[at], NoError(), results[at].ticket);
    if (outcome.code == FLINT_LIMITER_POISONED) return outcome;
    if (IsBlocked(outcome, flags)) {
      blocked.push_back(i);
      unfinished = outcome;
      continue;
    }
    if (!outcome.ok()) Explain(limiter, flags, i, &outcome);
    ticket_ = std::max(ticket_, outcome.ok() ? results[at].ticket : 0);
    asked[i].result = results[at];
    outcomes[i] = std::move(outcome);
  }
  left_ = std::move(blocked);
  if (!left_.empty()) return unfinished;
  return {FLINT_LIMITER_OK, {}, ticket_};
}

// ---- Together --------------------------------------------------------------------------------

namespace {

// What the limits of an item are counted under: its key, if that has limits of its own; else their
// text and the key, for which they are configured then.
Outcome FindCounter(const Together::Item& item, flint_limiter* limiter, uint32_t flags,
                    CarriedSets* sets, std::string* counter) {
  *counter = item.key;
  if (item.rates.empty()) return {};
  Decision look;
  look.key = item.key;
  look.cost = item.cost;
  look.peek = true;
  Outcome own = look.Decide(limiter, flags, sets);
  if (IsBlocked(own, flags)) return own;
  if (own.code != FLINT_LIMITER_NOT_CONFIGURED) return {};
  const SeveralRates several(item.rates);
  *counter = several.prefix + item.key;
  look.key = *counter;
  Outcome known = look.Decide(limiter, flags, sets);
  if (IsBlocked(known, flags)) return known;
  if (known.code == FLINT_LIMITER_NOT_CONFIGURED) {
    return ConfigureSet(limiter, several, flags, sets);
  }
  if (known.ok() && !IsWhole(several, look.result)) {
    return MakeWhole(limiter, several, flags, sets);
  }
  return {};
}

}  // namespace

Outcome Together::Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets) {
  std::vector<std::string> counters(items.size());
  std::vector<flint_limiter_item> asked(items.size());
  for (size_t i = 0; i < items.size(); i++) {
    Outcome found = FindCounter(items[i], limiter, flags, sets, &counters[i]);
    if (!found.ok()) return found;
    asked[i].struct_size = sizeof asked[i];
    asked[i].key = counters[i].data();
    asked[i].key_bytes = counters[i].size();
    asked[i].cost = items[i].cost;
  }
  results.assign(items.size(), NoResult());
  flint_limiter_error error = NoError();
  const int32_t code =
      flint_limiter_check_all(limiter, asked.data(), asked.size(), sizeof asked[0], flags,
                              results.data(), sizeof results[0], &denied, &error);
  return OutcomeOf(code, error, results[0].ticket);
}

}  // namespace flint::server
