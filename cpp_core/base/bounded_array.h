#pragma once

#include <cstddef>
#include <new>
#include <span>
#include <type_traits>

#include "base/assert.h"

namespace flint {

// Up to N elements in place, without touching the memory of those that are not there.
template <typename T, size_t N>
class BoundedArray {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  BoundedArray() = default;
  BoundedArray(const BoundedArray&) = delete;
  BoundedArray& operator=(const BoundedArray&) = delete;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == N; }
  // Not when it is full.
  void push_back(const T& value) {
    FLINT_ASSERT(size_ < N);
    new (data() + size_) T(value);
    ++size_;
  }
  void clear() { size_ = 0; }

  T* data() { return reinterpret_cast<T*>(memory_); }
  const T* data() const { return reinterpret_cast<const T*>(memory_); }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  T& back() { return data()[size_ - 1]; }

 private:
  alignas(T) std::byte memory_[N * sizeof(T)];
  size_t size_ = 0;
};

}  // namespace flint
