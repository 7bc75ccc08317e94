#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "base/check_path.h"
#include "base/coding.h"
#include "base/env.h"
#include "storage/log_format.h"
#include "storage/segment.h"

namespace flint {

// The newest segment when a ring was made, and where the log ended. Number 0: there was none, or an
// earlier Flint, which did not note it, made the ring.
struct RingOwner {
  uint64_t segment = 0;
  uint64_t generation = 0;
  uint64_t position = 0;
};

// The ring file: where a record is first stored, at its position modulo the ring's size. It is
// never synced; it holds what a killed process had not yet written to its segment.
class Ring {
 public:
  struct Options {
    uint64_t data_bytes = 0;
    StoreMode mode = StoreMode::kMapped;
    RingOwner owner;
    // Whether the empty ring has to be on the disk. What is stored later is never synced.
    bool sync = false;
  };

  // Puts an empty ring in place of a directory's ring, in one step.
  static Status Create(Env* env, const std::string& directory, const DirectoryId& id,
                       const Options& options, std::unique_ptr<Ring>* ring);

  uint64_t size() const { return data_bytes_; }
  // Stores a record so that its first eight bytes come last. Records must not overlap ones that
  // are still needed; the log sees to that.
  void Put(uint64_t position, const char* record, uint32_t length);
  FLINT_CHECK_PATH void Put(uint64_t position, const EventRecord& record) {
    const uint64_t at = position & (data_bytes_ - 1);
    if (memory_.file == nullptr || kAllowBytes > data_bytes_ - at) [[unlikely]] {
      PutInPieces(position, record);
      return;
    }
    char* const to = memory_.file + kRingHeaderBytes + at;
    char* const copy = memory_.read + kRingHeaderBytes + at;
    // Word by word, since what has just been stored in pieces is slow to load as a whole; and not
    // in a loop, which the compiler would take for a copy from memory.
    static_assert(kAllowBytes == 5 * sizeof(uint64_t));
    Encode64(copy, record.words[0]);
    Encode64(copy + 8, record.words[1]);
    Encode64(copy + 16, record.words[2]);
    Encode64(copy + 24, record.words[3]);
    Encode64(copy + 32, record.words[4]);
    Encode64(to + 8, record.words[1]);
    Encode64(to + 16, record.words[2]);
    Encode64(to + 24, record.words[3]);
    Encode64(to + 32, record.words[4]);
    __atomic_store_n(reinterpret_cast<uint64_t*>(to), record.words[0], __ATOMIC_RELEASE);
    // Whoever drains has had it last, and the next lock's barrier would have to wait for it.
    FetchToWrite(copy + kFetchedAhead);
    FetchToWrite(to + kFetchedAhead);
  }
  // Whether a record did not reach the file, now or earlier.
  bool failed() const { return store_->failed(); }
  // The stored bytes from `position`: up to `size` of them, fewer where the ring wraps.
  std::string_view Bytes(uint64_t position, uint64_t size) const;

 private:
  // By value, so that a record stays in registers where it is not needed in memory.
  void PutInPieces(uint64_t position, EventRecord record);
  Ring(std::unique_ptr<StoreFile> store, uint64_t data_bytes)
      : store_(std::move(store)), memory_(store_->memory()), data_bytes_(data_bytes) {}
  void Store(uint64_t position, const char* data, uint64_t size);

  static constexpr size_t kFetchedAhead = 256;
  static void FetchToWrite(const char* at) {
#if defined(__x86_64__)
    // The compiler would fetch to read unless told to build for newer processors only; older ones
    // take this for an instruction that does nothing.
    __asm__ volatile("prefetchw %0" : : "m"(*at));
#else
    __builtin_prefetch(at, 1);
#endif
  }

  std::unique_ptr<StoreFile> store_;
  const StoreFile::Memory memory_;
  uint64_t data_bytes_;
};

// What an earlier process left in its ring, read once.
class RingImage {
 public:
  // A ring that is missing, damaged or another directory's reads as not present.
  static Status Read(Env* env, const std::string& directory, const DirectoryId& id,
                     RingImage* image);

  // Whether anything was ever stored in a directory's ring, whosever it is.
  static Status Used(Env* env, const std::string& directory, bool* used);

  bool present() const { return !data_.empty(); }
  const RingOwner& owner() const { return owner_; }
  // The bytes of positions [position, position + size), unwrapped into one piece.
  std::string Bytes(uint64_t position, uint64_t size) const;
  uint64_t size() const { return data_.size(); }

 private:
  static Status ReadFile(Env* env, const std::string& directory, std::string* bytes);

  RingOwner owner_;
  std::string data_;
};

}  // namespace flint
