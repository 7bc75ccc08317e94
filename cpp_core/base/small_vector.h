#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>

#include "base/assert.h"

namespace flint {

// A vector of which the first N elements need no memory but its own. That of elements which are not
// there is not touched. Throws std::bad_alloc where more than N are asked for.
template <typename T, size_t N>
class SmallVector {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);
  static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

 public:
  SmallVector() = default;
  // So many elements, each to be assigned before it is read. (Without the other constructor, which
  // would set all memory to zero for this one.)
  explicit SmallVector(size_t size) {
    if (size > N) [[unlikely]]
      Grow(size);
    size_ = size;
  }
  ~SmallVector() {
    if (capacity_ > N) [[unlikely]]
      ::operator delete(data_);
  }
  SmallVector(const SmallVector&) = delete;
  SmallVector& operator=(const SmallVector&) = delete;

  size_t size() const { return size_; }
  void push_back(const T& value) {
    if (size_ == capacity_) [[unlikely]]
      Grow(2 * capacity_);
    new (data_ + size_) T(value);
    ++size_;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  T& operator[](size_t i) {
    FLINT_ASSERT(i < size_);
    return data_[i];
  }
  const T& operator[](size_t i) const {
    FLINT_ASSERT(i < size_);
    return data_[i];
  }

 private:
  [[gnu::noinline]] void Grow(size_t capacity) {
    T* const larger = static_cast<T*>(::operator new(capacity * sizeof(T)));
    std::memcpy(static_cast<void*>(larger), data_, size_ * sizeof(T));
    if (capacity_ > N) ::operator delete(data_);
    data_ = larger;
    capacity_ = capacity;
  }

  alignas(T) std::byte own_[N * sizeof(T)];
  T* data_ = reinterpret_cast<T*>(own_);
  size_t size_ = 0;
  size_t capacity_ = N;
};

}  // namespace flint
