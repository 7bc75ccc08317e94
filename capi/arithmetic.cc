#include "arithmetic.h"

#include <algorithm>
#include <string>

#include "algorithms/algorithm.h"
#include "convert.h"

namespace flint {
namespace {

constexpr uint64_t kNsOfSecond = 1'000'000'000;
constexpr uint32_t kLowBits = 31;

Status Wrong(const char* field, const char* allowed) {
  return Status(Code::kInvalidArgument, std::string("state.") + field + " must be " + allowed);
}

bool IsTime(int64_t at_ns) { return at_ns >= 0 && static_cast<uint64_t>(at_ns) <= kMaxQuantity; }

// A counter of any algorithm but the log, whose entries are not here.
State Counted(const LimitConfig& config, const flint_limiter_state& from) {
  State state;
  if (IsBucket(config.algorithm)) {
    state.bucket = {from.at_ns, from.fraction};
  } else if (config.algorithm == Algorithm::kFixedWindowCounter) {
    state.fixed = {from.at_ns, from.used};
  } else {
    state.sliding = {from.index, from.previous, from.used};
  }
  return state;
}

void Keep(const LimitConfig& config, const State& from, flint_limiter_state* to) {
  if (IsBucket(config.algorithm)) {
    to->at_ns = from.bucket.tat_ns;
    to->fraction = from.bucket.fraction;
  } else if (config.algorithm == Algorithm::kFixedWindowCounter) {
    to->at_ns = from.fixed.start_ns;
    to->used = from.fixed.used;
  } else {
    to->index = from.sliding.index;
    to->previous = from.sliding.previous;
    to->used = from.sliding.current;
  }
}

Status CheckBucket(const LimitConfig& config, const flint_limiter_state& state, int64_t now_ns) {
  if (state.fraction >= config.rate) return Wrong("fraction", "below the rate");
  const auto tat_ns = static_cast<uint64_t>(state.at_ns);
  const auto now = static_cast<uint64_t>(now_ns);
  if (tat_ns > now && tat_ns - now > kMaxQuantity) {
    return Wrong("at_ns", "at most 2^62 ns later than now_ns");
  }
  return Status();
}

Status CheckLog(const flint_limiter_state& state, int64_t now_ns) {
  if (state.entries > kMaxSlidingLogEntries) return Wrong("entries", "at most 2^20");
  if ((state.entries == 0) != (state.used == 0)) return Wrong("entries", "0 where used is 0");
  if (state.entries > 0 &&
      !(IsTime(state.oldest_ns) && state.oldest_ns <= state.at_ns && state.at_ns <= now_ns)) {
    return Wrong("oldest_ns", "at least 0 and at most at_ns, and that at most now_ns");
  }
  return Status();
}

Status CheckState(const LimitConfig& config, const flint_limiter_state& state, int64_t now_ns) {
  if (IsBucket(config.algorithm)) return CheckBucket(config, state, now_ns);
  if (state.used > config.rate) return Wrong("used", "at most the rate");
  if (config.algorithm == Algorithm::kSlidingWindowLog) return CheckLog(state, now_ns);
  if (config.algorithm == Algorithm::kFixedWindowCounter) {
    if (IsTime(state.at_ns) && state.at_ns <= now_ns) return Status();
    return Wrong("at_ns", "at least 0 and at most now_ns");
  }
  if (state.previous > config.rate) return Wrong("previous", "at most the rate");
  const int64_t index = now_ns / static_cast<int64_t>(config.per_ns);
  if (state.index < 0 || state.index > index) {
    return Wrong("index", "at least 0 and at most now_ns / per_ns");
  }
  return Status();
}

// The limit, the time and the cost of a call, and the counter.
struct Asked {
  LimitConfig config;
  flint_limiter_state state{};
  int64_t now_ns = 0;
  uint64_t cost = 0;

  Status Read(const flint_limiter_config* its_config, const flint_limiter_state* its_state) {
    flint_limiter_config given;
    FLINT_RETURN_IF_ERROR(ReadStruct(its_config, "config", &given));
    FLINT_RETURN_IF_ERROR(ReadConfig(given, &config));
    FLINT_RETURN_IF_ERROR(ReadStruct(its_state, "state", &state));
    if (!IsTime(now_ns)) return Status(Code::kInvalidArgument, "now_ns must be 0 to 2^62");
    if (cost < 1 || cost > config.burst) {
      return OutOfBounds("cost", cost,
                         "between 1 and " + std::to_string(config.burst) + ", the limit's burst");
    }
    return CheckState(config, state, now_ns);
  }
  bool IsLog() const { return config.algorithm == Algorithm::kSlidingWindowLog; }
  bool HasNoEntryFree() const {
    return state.entries >= kMaxSlidingLogEntries && state.at_ns != now_ns;
  }
};

bool LogAllows(const Asked& asked) {
  return asked.state.used + asked.cost <= asked.config.rate && !asked.HasNoEntryFree();
}

void LogAdmit(Asked* asked) {
  flint_limiter_state* const state = &asked->state;
  if (state->entries == 0) state->oldest_ns = asked->now_ns;
  if (state->entries == 0 || state->at_ns != asked->now_ns) ++state->entries;
  state->at_ns = asked->now_ns;
  state->used += asked->cost;
}

Status DescribeLog(const Asked& asked, bool allowed, Place::Decision* to) {
  const flint_limiter_state& state = asked.state;
  const auto left_ns = [&asked](int64_t at_ns) {
    const auto age_ns = static_cast<uint64_t>(asked.now_ns - at_ns);
    return asked.config.per_ns - std::min(age_ns, asked.config.per_ns);
  };
  to->remaining = asked.HasNoEntryFree() ? 0 : asked.config.rate - state.used;
  to->reset_after_ns = state.entries == 0 ? 0 : left_ns(state.oldest_ns);
  if (allowed || state.entries == 0) return Status();
  if (state.leaves_ns < state.oldest_ns || state.leaves_ns > state.at_ns) {
    return Wrong("leaves_ns", "between oldest_ns and at_ns");
  }
  to->retry_after_ns = left_ns(state.leaves_ns);
  return Status();
}

Status Describe(const Asked& asked, bool allowed, Place::Decision* to) {
  to->allowed = allowed;
  to->algorithm = asked.config.algorithm;
  to->cost = asked.cost;
  to->limit = asked.config.burst;
  if (asked.IsLog()) {
    FLINT_RETURN_IF_ERROR(DescribeLog(asked, allowed, to));
  } else {
    const State state = Counted(asked.config, asked.state);
    to->remaining = Remaining(asked.config, state, asked.now_ns);
    to->reset_after_ns = ResetAfterNs(asked.config, state, asked.now_ns);
    to->retry_after_ns = allowed ? 0 : RetryAfterNs(asked.config, state, asked.now_ns, asked.cost);
  }
  const uint64_t reset_at_ns = static_cast<uint64_t>(asked.now_ns) + to->reset_after_ns;
  to->reset_at_ns = static_cast<int64_t>(std::min(reset_at_ns, static_cast<uint64_t>(INT64_MAX)));
  return Status();
}

}  // namespace

Status GetSpan(const flint_limiter_config* config, uint64_t units, flint_limiter_span* span) {
  flint_limiter_config given;
  LimitConfig limit;
  FLINT_RETURN_IF_ERROR(CheckStruct(span, "span"));
  FLINT_RETURN_IF_ERROR(ReadStruct(config, "config", &given));
  FLINT_RETURN_IF_ERROR(ReadConfig(given, &limit));
  if (units < 1 || units > kMaxQuantity) return OutOfBounds("units", units, "between 1 and 2^62");
  const Quotient exact = Divide(Uint128{units} * limit.per_ns, limit.rate);
  if (exact.quotient > kMaxQuantity) {
    return OutOfBounds("units", units, "so few that they come back within 2^62 ns (146 years)");
  }
  flint_limiter_span found{};
  found.ns = exact.quotient;
  found.fraction = exact.remainder;
  found.seconds = exact.quotient / kNsOfSecond;
  found.nanoseconds = static_cast<uint32_t>(exact.quotient % kNsOfSecond);
  found.fraction_high = static_cast<uint32_t>(exact.remainder >> kLowBits);
  found.fraction_low = static_cast<uint32_t>(exact.remainder & ((uint64_t{1} << kLowBits) - 1));
  WriteStruct(found, span);
  return Status();
}

Status DecideState(const flint_limiter_config* config, flint_limiter_state* state, int64_t now_ns,
                   uint64_t cost, flint_limiter_result* result) {
  Asked asked;
  asked.now_ns = now_ns;
  asked.cost = cost;
  FLINT_RETURN_IF_ERROR(CheckStruct(result, "result"));
  FLINT_RETURN_IF_ERROR(asked.Read(config, state));
  State counted = Counted(asked.config, asked.state);
  const bool allowed =
      asked.IsLog() ? LogAllows(asked) : Allows(asked.config, counted, now_ns, cost);
  if (allowed && asked.IsLog()) LogAdmit(&asked);
  if (allowed && !asked.IsLog()) {
    Admit(asked.config, counted, now_ns, cost);
    Keep(asked.config, counted, &asked.state);
  }
  Place::Decision decision;
  FLINT_RETURN_IF_ERROR(Describe(asked, allowed, &decision));
  WriteStruct(asked.state, state);
  WriteDecision(decision, false, result);
  return Status();
}

Status DescribeState(const flint_limiter_config* config, const flint_limiter_state* state,
                     int64_t now_ns, uint64_t cost, uint32_t allowed,
                     flint_limiter_result* result) {
  Asked asked;
  asked.now_ns = now_ns;
  asked.cost = cost;
  FLINT_RETURN_IF_ERROR(CheckStruct(result, "result"));
  FLINT_RETURN_IF_ERROR(asked.Read(config, state));
  if (allowed > 1) return OutOfBounds("allowed", allowed, "0 or 1");
  Place::Decision decision;
  FLINT_RETURN_IF_ERROR(Describe(asked, allowed == 1, &decision));
  WriteDecision(decision, false, result);
  return Status();
}

}  // namespace flint
