#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "engine/doctor.h"
#include "engine/engine.h"
#include "flint_limiter.h"
#include "remote/client.h"

// Between the public header's structures and the engine's types: sizes, bounds and names.
namespace flint {

// The size that a structure had in its first version: that of every version's callers at least.
template <typename T>
inline constexpr size_t kFirstSize = 0;

#define FLINT_FIRST_SIZE(type, last_field, size_with_64_bits)                       \
  template <>                                                                       \
  inline constexpr size_t kFirstSize<type> =                                        \
      offsetof(type, last_field) + sizeof(static_cast<type*>(nullptr)->last_field); \
  static_assert(sizeof(void*) != 8 || kFirstSize<type> == (size_with_64_bits))

FLINT_FIRST_SIZE(flint_limiter_options, sync_denials, 112);
FLINT_FIRST_SIZE(flint_limiter_connect_options, token_bytes, 32);
FLINT_FIRST_SIZE(flint_limiter_config, reserved, 56);
FLINT_FIRST_SIZE(flint_limiter_result, ticket, 72);
FLINT_FIRST_SIZE(flint_limiter_limit_result, name, 312);
FLINT_FIRST_SIZE(flint_limiter_item, cost, 32);
FLINT_FIRST_SIZE(flint_limiter_status_info, counters, 136);
FLINT_FIRST_SIZE(flint_limiter_info, read_only, 216);
FLINT_FIRST_SIZE(flint_limiter_doctor_report, directory_mode, 104);
FLINT_FIRST_SIZE(flint_limiter_history_query, cursor, 40);
FLINT_FIRST_SIZE(flint_limiter_event, item_count, 104);
FLINT_FIRST_SIZE(flint_limiter_state, leaves_ns, 72);
FLINT_FIRST_SIZE(flint_limiter_span, fraction_low, 40);
#undef FLINT_FIRST_SIZE

// Whether a structure is there and at least as large as in its first version.
template <typename T>
bool IsThere(const T* structure) {
  static_assert(kFirstSize<T> != 0);
  return structure != nullptr && structure->struct_size >= kFirstSize<T>;
}
template <typename T>
Status CheckStruct(const T* structure, const char* name) {
  if (IsThere(structure)) [[likely]]
    return Status();
  if (structure == nullptr) return Status(Code::kInvalidArgument, std::string(name) + " is NULL");
  return Status(Code::kInvalidArgument, std::string(name) + ".struct_size is " +
                                            std::to_string(structure->struct_size) +
                                            "; set it to sizeof the structure");
}

// How much of the caller's structure both sides know. `stride` is how far the next one is from it.
template <typename T>
size_t CommonBytes(const T& structure, uint64_t stride) {
  return std::min<uint64_t>({structure.struct_size, stride, sizeof(T)});
}

inline constexpr uint64_t kAlone = UINT64_MAX;  // the stride of what is no array

// Takes what the caller has set; fields that it does not know are zero.
template <typename T>
Status ReadStruct(const T* from, const char* name, T* to, uint64_t stride = kAlone) {
  FLINT_RETURN_IF_ERROR(CheckStruct(from, name));
  const size_t common = CommonBytes(*from, stride);
  if (common == sizeof(T)) [[likely]] {
    *to = *from;
    return Status();
  }
  *to = T{};
  std::memcpy(static_cast<void*>(to), from, common);
  return Status();
}

// Fills as much of the caller's structure as it knows of.
template <typename T>
void WriteStruct(const T& from, T* to, uint64_t stride = kAlone) {
  const uint32_t struct_size = to->struct_size;
  std::memcpy(static_cast<void*>(to), &from, CommonBytes(*to, stride));
  to->struct_size = struct_size;
}

template <typename T>
T* At(T* array, uint64_t stride, uint64_t index) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(array) + stride * index);
}

// A pointer and a length; NULL goes with 0 only.
Status ReadText(const char* text, uint64_t bytes, const char* name, std::string_view* view);
// The same for the path of a file, which may be empty.
Status ReadFileName(const char* path, uint64_t bytes, const std::string& name, std::string* to);
// The same for a key, which also has at most FLINT_LIMITER_MAX_KEY_BYTES.
Status ReadUnusualKey(const char* key, uint64_t bytes, std::string_view* view);
inline Status ReadKey(const char* key, uint64_t bytes, std::string_view* view) {
  if (key == nullptr || bytes > FLINT_LIMITER_MAX_KEY_BYTES) [[unlikely]] {
    return ReadUnusualKey(key, bytes, view);
  }
  *view = std::string_view(key, bytes);
  return Status();
}

Status OutOfBounds(const std::string& name, uint64_t value, const std::string& allowed);
Status ReadOptions(const flint_limiter_options* from, Engine::Options* to);
Status ReadConnectOptions(const flint_limiter_connect_options* from, Client::Options* to);
// Rate, per, burst and algorithm.
Status ReadConfig(const flint_limiter_config& from, LimitConfig* to);
// And kind and key.
Status ReadLimit(const flint_limiter_config* from, uint64_t stride, Place::Limit* to);
Status ReadKind(uint32_t kind, LimitKind* to);
Status ReadSomeFlags(uint32_t flags, uint32_t allowed, Place::Flags* to);
// `*to` is as it was made.
inline Status ReadFlags(uint32_t flags, uint32_t allowed, Place::Flags* to) {
  return flags == 0 ? Status() : ReadSomeFlags(flags, allowed, to);
}
// An array's stride is at least the size that its structure had in its first version.
template <typename T>
Status CheckStride(uint64_t stride, const char* name) {
  if (stride >= kFirstSize<T> && stride % 8 == 0) [[likely]]
    return Status();
  return OutOfBounds(name, stride, "sizeof the structure");
}

// What there is of a decision with DECISION_ONLY.
inline void FillDecisionOnly(const Place::Decision& from, flint_limiter_result* to) {
  to->allowed = from.allowed ? 1 : 0;
  to->undecided = from.undecided ? 1 : 0;
  to->ticket = from.ticket;
}

// All but struct_size.
inline void FillResult(const Place::Decision& from, flint_limiter_result* to) {
  to->allowed = from.allowed ? 1 : 0;
  to->undecided = from.undecided ? 1 : 0;
  to->algorithm = static_cast<uint32_t>(from.algorithm);
  to->cost = from.cost;
  to->limit = from.limit;
  to->remaining = from.remaining;
  to->reset_at_ns = from.reset_at_ns;
  to->reset_after_ns = from.reset_after_ns;
  to->retry_after_ns = from.retry_after_ns;
  to->ticket = from.ticket;
  to->limit_count = from.limit_count;
  to->limit_index = from.limit_index;
}
// To one of an earlier version.
void WriteSmallerResult(const Place::Decision& from, flint_limiter_result* to, uint64_t stride);
inline void WriteDecision(const Place::Decision& from, bool decision_only, flint_limiter_result* to,
                          uint64_t stride = kAlone) {
  if (decision_only) {
    FillDecisionOnly(from, to);
  } else if (CommonBytes(*to, stride) == sizeof(*to)) [[likely]] {
    FillResult(from, to);
  } else {
    WriteSmallerResult(from, to, stride);
  }
}
void WriteStatus(const Place::LimitStatus& from, const char* key, flint_limiter_status_info* to,
                 uint64_t stride = kAlone);
void WriteInfo(const Place::Info& from, bool shared, flint_limiter_info* to);
void WriteReport(const DoctorReport& from, flint_limiter_doctor_report* to);
Status ReadHistoryQuery(const flint_limiter_history_query* from, HistoryQuery* to);
void WriteLimitResult(std::string_view name, const Place::Decision& from,
                      flint_limiter_limit_result* to, uint64_t stride);
// Writes an event, one entry for each item, and the items' keys and names to `text`.
void WriteEvent(const HistoryEvent& from, char* text, flint_limiter_event* to, uint64_t stride);
// `detail` may be null.
void WriteError(Code code, const Status::Detail* detail, std::string_view message,
                flint_limiter_error* to);

}  // namespace flint
