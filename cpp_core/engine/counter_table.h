#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/check_path.h"
#include "base/coding.h"
#include "engine/counter.h"

namespace flint {

// An open-addressing table of counters with linear probing. A slot is one word: the counter's
// address and, above it, 16 bits of the key's hash, so that a probe seldom touches a counter
// that is not the one. Guarded by its shard's lock.
class CounterTable {
 public:
  CounterTable() = default;
  ~CounterTable();
  CounterTable(const CounterTable&) = delete;
  CounterTable& operator=(const CounterTable&) = delete;

  // Some limit of a key.
  FLINT_CHECK_PATH Counter* Find(uint64_t hash, std::string_view key) const {
    if (slots_.empty()) [[unlikely]]
      return nullptr;
    const uint64_t tag = Tag(hash);
    for (size_t i = Home(static_cast<uint32_t>(hash));; i = Next(i)) {
      // An address, if the slot has the tag and is not empty.
      const uint64_t address = slots_[i] ^ tag;
      if (address - 1 < kAddressMask) [[likely]] {
        Counter* const counter = Address(address);
        if (HasKey(*counter, key)) [[likely]]
          return counter;
      } else if (slots_[i] == 0) {
        return nullptr;
      }
    }
  }
  // Calls `visit` for each limit of a key; it must not change the table. All have the key's hash,
  // so they stand in one run of slots.
  template <typename Visit>
  void ForEach(uint64_t hash, std::string_view key, const Visit& visit) const {
    if (slots_.empty()) return;
    const uint64_t tag = Tag(hash);
    for (size_t i = Home(static_cast<uint32_t>(hash)); slots_[i] != 0; i = Next(i)) {
      if ((slots_[i] & ~kAddressMask) != tag) continue;
      Counter* counter = Address(slots_[i]);
      if (HasKey(*counter, key)) visit(counter);
    }
  }
  // The limit of a key that has this name.
  Counter* Find(uint64_t hash, std::string_view key, std::string_view name) const {
    Counter* found = nullptr;
    ForEach(hash, key, [&](Counter* counter) {
      if (counter->name() == name) found = counter;
    });
    return found;
  }
  // The key must not be in the table with the same name. Throws std::bad_alloc and then changes
  // nothing.
  Counter* Insert(uint64_t hash, CounterPointer counter);
  // Removes and destroys.
  void Erase(Counter* counter);
  void Swap(CounterTable* other);

  size_t size() const { return size_; }
  size_t slots() const { return slots_.size(); }
  Counter* at(size_t slot) const { return Address(slots_[slot]); }
  // How often the slots have been laid out anew: an iteration that spans calls starts over.
  uint32_t layouts() const { return layouts_; }

 private:
  // Most keys are one word or two, and comparing these takes less than calling a function.
  FLINT_CHECK_PATH static bool HasKey(const Counter& counter, std::string_view key) {
    const size_t size = key.size();
    if (counter.key_bytes != size) [[unlikely]]
      return false;
    const char* const a = counter.key().data();
    const char* const b = key.data();
    if (size - kWordBytes > kWordBytes) [[unlikely]]
      return AreEqual(a, b, size);
    const size_t last = size - kWordBytes;
    return Decode64(a) == Decode64(b) && Decode64(a + last) == Decode64(b + last);
  }
  // Of any size.
  static bool AreEqual(const char* a, const char* b, size_t size);

  static constexpr size_t kWordBytes = 8;
  static constexpr int kTagShift = 48;
  static constexpr uint64_t kAddressMask = (uint64_t{1} << kTagShift) - 1;
  static Counter* Address(uint64_t slot) { return reinterpret_cast<Counter*>(slot & kAddressMask); }
  static uint64_t Tag(uint64_t hash) { return (hash >> 32) << kTagShift; }
  size_t Home(uint32_t hash) const { return uint64_t{hash} * slots_.size() >> 32; }
  size_t Next(size_t slot) const { return slot + 1 == slots_.size() ? 0 : slot + 1; }
  // How many slots further on, around the end.
  size_t Distance(size_t from, size_t to) const {
    return to >= from ? to - from : to + slots_.size() - from;
  }
  void Layout(size_t slots);
  void Place(uint64_t slot);

  std::vector<uint64_t> slots_;  // 0: empty
  size_t size_ = 0;
  uint32_t layouts_ = 0;
};

}  // namespace flint
