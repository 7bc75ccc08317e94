#include "engine/counter.h"

#include <cstring>
#include <new>

namespace flint {
namespace {

// Adds, stopping at the largest value.
void AddTo(std::atomic<uint64_t>* total, uint64_t value) {
  uint64_t current = total->load(std::memory_order_relaxed);
  while (!total->compare_exchange_weak(current, SaturatingAdd(current, value),
                                       std::memory_order_relaxed)) {
  }
}

void RaiseTo(std::atomic<int64_t>* stamp, int64_t value_ns) {
  int64_t current_ns = stamp->load(std::memory_order_relaxed);
  while (current_ns < value_ns &&
         !stamp->compare_exchange_weak(current_ns, value_ns, std::memory_order_relaxed)) {
  }
}

}  // namespace

void Template::Absorb(const Totals& totals) {
  allowed.fetch_add(totals.allowed, std::memory_order_relaxed);
  denied.fetch_add(totals.denied, std::memory_order_relaxed);
  AddTo(&allowed_cost, totals.allowed_cost);
  AddTo(&denied_cost, totals.denied_cost);
  RaiseTo(&last_allowed_ns, totals.last_allowed_ns);
  RaiseTo(&last_denied_ns, totals.last_denied_ns);
  RaiseTo(&last_reset_ns, totals.last_reset_ns);
}

Totals Template::Absorbed() const {
  Totals totals;
  totals.allowed = allowed.load(std::memory_order_relaxed);
  totals.denied = denied.load(std::memory_order_relaxed);
  totals.allowed_cost = allowed_cost.load(std::memory_order_relaxed);
  totals.denied_cost = denied_cost.load(std::memory_order_relaxed);
  totals.last_allowed_ns = last_allowed_ns.load(std::memory_order_relaxed);
  totals.last_denied_ns = last_denied_ns.load(std::memory_order_relaxed);
  totals.last_reset_ns = last_reset_ns.load(std::memory_order_relaxed);
  return totals;
}

Counter* Counter::Create(std::string_view key, uint32_t hash, std::string_view name) {
  void* memory = ::operator new(sizeof(Counter) + key.size() + name.size());
  auto* counter = new (memory) Counter();
  counter->hash = hash;
  counter->key_bytes = static_cast<uint16_t>(key.size());
  counter->name_bytes = static_cast<uint8_t>(name.size());
  char* const text = reinterpret_cast<char*>(counter + 1);
  std::memcpy(text, key.data(), key.size());
  if (!name.empty()) std::memcpy(text + key.size(), name.data(), name.size());
  return counter;
}

void Counter::Destroy(Counter* counter) {
  if (counter->kind != LimitKind::kCounter) delete counter->config;
  counter->~Counter();
  ::operator delete(counter);
}

}  // namespace flint
