#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/counter.h"

namespace flint {

// Which counters the ids of a segment stand for. Its size follows how many ids there are, whatever
// numbers they have.
class IdTable {
 public:
  IdTable() : slots_(kFirstSlots) {}

  // Null when the id stands for nothing.
  Counter* Find(uint32_t id) const { return slots_[SlotOf(id)].counter; }
  void Bind(uint32_t id, Counter* counter);
  // All ids of a counter, which is about to go.
  void Unbind(Counter* counter);
  // Those of each counter of which `gone` says that it is gone.
  template <typename Gone>
  void UnbindIf(Gone gone) {
    std::erase_if(ids_, [&](const auto& entry) { return gone(entry.first); });
    for (Slot& slot : slots_) {
      if (slot.counter != nullptr && gone(slot.counter)) slot.counter = nullptr;
    }
  }
  void Clear();

 private:
  struct Slot {
    Counter* counter = nullptr;
    uint32_t id = 0;
    bool used = false;  // stays when the counter goes
  };
  static constexpr size_t kFirstSlots = 16;

  // Where the id is, or would be. The multiplication keeps runs of ids apart from each other.
  size_t SlotOf(uint32_t id) const {
    const size_t mask = slots_.size() - 1;
    size_t i = (uint64_t{id} * 0x9e3779b97f4a7c15) >> 32 & mask;
    while (slots_[i].used && slots_[i].id != id) i = (i + 1) & mask;
    return i;
  }
  void Grow();

  std::vector<Slot> slots_;  // a power of two of them, at most half of them used
  size_t used_ = 0;
  // The other way, from when it is first needed: most segments only bind.
  std::unordered_map<Counter*, std::vector<uint32_t>> ids_;
  bool has_ids_ = false;
};

}  // namespace flint
