#include "engine/counter_table.h"

#include <algorithm>
#include <utility>

namespace flint {
namespace {

constexpr size_t kFirstSlots = 8;

// At most 7 of 8 slots are used; under 1 of 8 the table shrinks. It grows by half, since doubling
// would leave more than half of the slots empty at times.
bool TooFull(size_t size, size_t slots) { return size * 8 > slots * 7; }
size_t Larger(size_t slots) { return slots + slots / 2; }
bool TooEmpty(size_t size, size_t slots) { return slots > kFirstSlots && size * 8 < slots; }

}  // namespace

CounterTable::~CounterTable() {
  for (const uint64_t slot : slots_) {
    if (slot != 0) Counter::Destroy(Address(slot));
  }
}

bool CounterTable::AreEqual(const char* a, const char* b, size_t size) {
  constexpr size_t kMostWords = 8;
  if (size < kWordBytes || size > kMostWords * kWordBytes) return std::memcmp(a, b, size) == 0;
  const size_t last = size - kWordBytes;
  for (size_t at = 0; at < last; at += kWordBytes) {
    if (Decode64(a + at) != Decode64(b + at)) return false;
  }
  return Decode64(a + last) == Decode64(b + last);
}

Counter* CounterTable::Insert(uint64_t hash, CounterPointer counter) {
  if (slots_.empty()) Layout(kFirstSlots);
  if (TooFull(size_ + 1, slots_.size())) Layout(Larger(slots_.size()));
  Counter* inserted = counter.release();
  Place(Tag(hash) | reinterpret_cast<uint64_t>(inserted));
  ++size_;
  return inserted;
}

void CounterTable::Place(uint64_t slot) {
  size_t i = Home(Address(slot)->hash);
  while (slots_[i] != 0) i = Next(i);
  slots_[i] = slot;
}

void CounterTable::Layout(size_t slots) {
  std::vector<uint64_t> old(slots, 0);
  old.swap(slots_);
  for (const uint64_t slot : old) {
    if (slot != 0) Place(slot);
  }
  ++layouts_;
}

// Closes the gap by moving back what had to probe past it, so there are no tombstones.
void CounterTable::Erase(Counter* counter) {
  size_t gap = Home(counter->hash);
  while (Address(slots_[gap]) != counter) gap = Next(gap);
  slots_[gap] = 0;
  for (size_t i = Next(gap); slots_[i] != 0; i = Next(i)) {
    if (Distance(Home(Address(slots_[i])->hash), i) < Distance(gap, i)) continue;
    slots_[gap] = slots_[i];
    slots_[i] = 0;
    gap = i;
  }
  Counter::Destroy(counter);
  --size_;
  if (TooEmpty(size_, slots_.size())) Layout(std::max(kFirstSlots, slots_.size() / 2));
}

void CounterTable::Swap(CounterTable* other) {
  slots_.swap(other->slots_);
  std::swap(size_, other->size_);
  ++layouts_;
  ++other->layouts_;
}

}  // namespace flint
