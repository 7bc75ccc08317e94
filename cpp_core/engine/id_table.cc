#include "engine/id_table.h"

#include <algorithm>

namespace flint {

void IdTable::Bind(uint32_t id, Counter* counter) {
  if ((used_ + 1) * 2 > slots_.size()) Grow();
  Slot& slot = slots_[SlotOf(id)];
  if (slot.used && slot.counter == counter) return;
  if (has_ids_) {
    if (slot.counter != nullptr) std::erase(ids_[slot.counter], id);
    ids_[counter].push_back(id);
  }
  if (!slot.used) ++used_;
  slot = Slot{counter, id, true};
}

void IdTable::Unbind(Counter* counter) {
  if (!has_ids_) {
    for (const Slot& slot : slots_) {
      if (slot.counter != nullptr) ids_[slot.counter].push_back(slot.id);
    }
    has_ids_ = true;
  }
  const auto found = ids_.find(counter);
  if (found == ids_.end()) return;
  for (const uint32_t id : found->second) slots_[SlotOf(id)].counter = nullptr;
  ids_.erase(found);
}

void IdTable::Clear() {
  slots_.assign(kFirstSlots, Slot());
  used_ = 0;
  ids_.clear();
  has_ids_ = false;
}

void IdTable::Grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.used) slots_[SlotOf(slot.id)] = slot;
  }
}

}  // namespace flint
