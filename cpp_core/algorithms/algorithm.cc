#include "algorithms/algorithm.h"

#include <algorithm>
#include <string_view>

namespace flint {

namespace {

constexpr Algorithm kAlgorithms[] = {
    Algorithm::kTokenBucket,      Algorithm::kGcra,
    Algorithm::kLeakyBucket,      Algorithm::kFixedWindowCounter,
    Algorithm::kSlidingWindowLog, Algorithm::kSlidingWindowCounter,
};

bool IsQuantity(uint64_t value) { return value >= 1 && value <= kMaxQuantity; }

}  // namespace

const char* AlgorithmName(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kTokenBucket:
      return "token_bucket";
    case Algorithm::kGcra:
      return "gcra";
    case Algorithm::kLeakyBucket:
      return "leaky_bucket";
    case Algorithm::kFixedWindowCounter:
      return "fixed_window_counter";
    case Algorithm::kSlidingWindowLog:
      return "sliding_window_log";
    case Algorithm::kSlidingWindowCounter:
      return "sliding_window_counter";
  }
  return "unknown";
}

bool ParseAlgorithm(const char* name, uint64_t size, Algorithm* out) {
  const std::string_view wanted(name, size);
  for (const Algorithm algorithm : kAlgorithms) {
    if (wanted == AlgorithmName(algorithm)) {
      *out = algorithm;
      return true;
    }
  }
  return false;
}

ConfigError MakeConfig(Algorithm algorithm, uint64_t rate, uint64_t per_ns, uint64_t burst,
                       LimitConfig* config) {
  if (std::find(std::begin(kAlgorithms), std::end(kAlgorithms), algorithm) ==
      std::end(kAlgorithms)) {
    return ConfigError::kAlgorithm;
  }
  if (!IsQuantity(rate)) return ConfigError::kRate;
  if (!IsQuantity(per_ns)) return ConfigError::kPer;
  if (burst == 0) burst = rate;
  if (!IsQuantity(burst)) return ConfigError::kBurst;
  if (!IsBucket(algorithm) && burst != rate) return ConfigError::kBurst;
  const Uint128 span = Uint128{burst} * per_ns;
  if ((span + rate - 1) / rate > kMaxQuantity) return ConfigError::kBurstSpan;

  config->algorithm = algorithm;
  config->rate = rate;
  config->per_ns = per_ns;
  config->burst = burst;
  config->unit_ns = per_ns / rate;
  config->unit_fraction = per_ns % rate;
  config->span_ns = static_cast<uint64_t>(span / rate);
  config->span_fraction = static_cast<uint64_t>(span % rate);
  return ConfigError::kNone;
}

State::State() : sliding{0, 0, 0} {}
State::~State() = default;
State::State(State&&) noexcept = default;
State& State::operator=(State&&) noexcept = default;

uint64_t RetryAfterNs(const LimitConfig& config, const State& state, int64_t now_ns,
                      uint64_t cost) {
  return VisitAlgorithm(config.algorithm, [&](auto algorithm) {
    return algorithm.RetryAfterNs(config, algorithm.At(config, state, now_ns), cost);
  });
}

uint64_t Used(const LimitConfig& config, const State& state, int64_t now_ns) {
  return VisitAlgorithm(config.algorithm, [&](auto algorithm) {
    return algorithm.Used(config, algorithm.At(config, state, now_ns));
  });
}

State FromUsed(const LimitConfig& config, uint64_t used, int64_t now_ns) {
  State state;
  if (used > 0) Admit(config, state, now_ns, used);
  return state;
}

State Migrate(const LimitConfig& from, const State& state, const LimitConfig& to, int64_t at_ns) {
  return FromUsed(to, std::min(Used(from, state, at_ns), to.burst), at_ns);
}

}  // namespace flint
