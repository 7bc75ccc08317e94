#pragma once

#include <cstdint>
#include <string_view>

#include "algorithms/limit.h"
#include "base/status.h"
#include "model/limit_kind.h"
#include "model/totals.h"

namespace flint {

// All there is to know of one limit at one moment.
struct SavedLimit {
  std::string_view key;  // a template's prefix
  LimitKind kind = LimitKind::kExact;
  LimitConfig config;
  uint32_t prefix_bytes = 0;  // of a counter's template
  Totals totals;
  const State* state = nullptr;  // null for a template
  std::string_view name{};       // empty for the limit without one
};

// Takes limits one by one. An error ends the giving.
class LimitSink {
 public:
  virtual Status Add(const SavedLimit& limit) = 0;

 protected:
  ~LimitSink() = default;
};

}  // namespace flint
