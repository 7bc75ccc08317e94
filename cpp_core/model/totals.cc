#include "model/totals.h"

#include <algorithm>

namespace flint {

void Merge(Totals* into, const Totals& totals) {
  into->allowed += totals.allowed;
  into->denied += totals.denied;
  into->allowed_cost = SaturatingAdd(into->allowed_cost, totals.allowed_cost);
  into->denied_cost = SaturatingAdd(into->denied_cost, totals.denied_cost);
  into->last_allowed_ns = std::max(into->last_allowed_ns, totals.last_allowed_ns);
  into->last_denied_ns = std::max(into->last_denied_ns, totals.last_denied_ns);
  into->last_reset_ns = std::max(into->last_reset_ns, totals.last_reset_ns);
}

}  // namespace flint
