#include <algorithm>
#include <cstring>
#include <string>

#include "sharing/member.h"
#include "sharing/message.h"

// The calls of flint_limiter.h as requests. What the arguments say is looked at by the owner, but
// for what cannot be sent; a call that finds this process to be the owner is made again, here.
namespace flint::sharing {
namespace {

constexpr uint64_t kUndecidedRetryNs = 1'000'000'000;
constexpr uint32_t kNoWait = FLINT_LIMITER_NO_WAIT;

// A structure as far as its caller knows it; the rest is zero.
template <typename T>
bool Import(const T* from, T* to) {
  *to = T{};
  if (from == nullptr || from->struct_size < sizeof(uint64_t)) return false;
  std::memcpy(to, from, std::min<size_t>(from->struct_size, sizeof(T)));
  to->struct_size = sizeof(T);
  return true;
}

template <typename T>
void Export(const T& from, T* to, uint64_t room = sizeof(T)) {
  const uint32_t size = to->struct_size;
  std::memcpy(to, &from, std::min<size_t>({size, sizeof(T), room}));
  to->struct_size = size;
}

template <typename T>
T* At(T* first, uint64_t stride, uint64_t index) {
  using Bytes = std::conditional_t<std::is_const_v<T>, const char*, char*>;
  return reinterpret_cast<T*>(reinterpret_cast<Bytes>(first) + stride * index);
}

int32_t Wrong(std::string_view what, flint_limiter_error* error) {
  return Fail(FLINT_LIMITER_INVALID_ARGUMENT, what, error);
}

int32_t WouldWait(flint_limiter_error* error) {
  return Fail(FLINT_LIMITER_WOULD_BLOCK, flint_limiter_code_text(FLINT_LIMITER_WOULD_BLOCK), error);
}

int32_t Unreadable(flint_limiter_error* error) {
  return Fail(FLINT_LIMITER_INTERNAL, "the owner's answer cannot be read", error);
}

// Entries with their keys and names, which are copied to the caller's text.
template <typename Entry>
bool ReadPage(Reader* reader, Entry* entries, uint64_t capacity, uint64_t stride, char* text,
              uint64_t text_bytes, uint64_t* count) {
  uint64_t sent = 0;
  if (!reader->Get(&sent) || sent > capacity) return false;
  for (uint64_t i = 0; i < sent; i++) {
    Entry entry;
    std::string_view key;
    std::string_view name;
    reader->Get(&entry);
    reader->Text(&key);
    reader->Text(&name);
    if (!reader->ok() || key.size() + name.size() > text_bytes) return false;
    std::memcpy(text, key.data(), key.size());
    std::memcpy(text + key.size(), name.data(), name.size());
    entry.key = text;
    entry.key_bytes = key.size();
    entry.name = text + key.size();
    entry.name_bytes = name.size();
    text += key.size() + name.size();
    text_bytes -= key.size() + name.size();
    Export(entry, At(entries, stride, i), stride);
  }
  *count = sent;
  return true;
}

}  // namespace

// ---- Decisions -------------------------------------------------------------------------------

bool Member::AnswersUndecided(int32_t code, const flint_limiter_config* config, uint64_t cost,
                              flint_limiter_result* result) {
  switch (code) {
    case FLINT_LIMITER_OK:
    case FLINT_LIMITER_INVALID_ARGUMENT:
    case FLINT_LIMITER_NOT_CONFIGURED:
    case FLINT_LIMITER_CLOSED:
    case FLINT_LIMITER_WOULD_BLOCK:
      return false;
    default:
      break;
  }
  if (settings_.on_error == FLINT_LIMITER_ON_ERROR_RAISE) return false;
  flint_limiter_result answer{};
  answer.undecided = 1;
  answer.algorithm = config != nullptr ? config->algorithm : FLINT_LIMITER_TOKEN_BUCKET;
  answer.cost = cost;
  answer.allowed = settings_.on_error == FLINT_LIMITER_ON_ERROR_ALLOW ? 1 : 0;
  answer.retry_after_ns = answer.allowed != 0 ? 0 : kUndecidedRetryNs;
  Export(answer, result);
  return true;
}

int32_t Member::Check(std::string_view key, uint64_t cost, uint32_t flags,
                      const flint_limiter_config* inline_config, uint32_t peek,
                      flint_limiter_result* result, flint_limiter_limit_result* limits,
                      uint64_t capacity, uint64_t stride, uint64_t* count,
                      flint_limiter_error* error) {
  flint_limiter_config config;
  if (result == nullptr) return Wrong("result is NULL", error);
  if (inline_config != nullptr && !Import(inline_config, &config)) {
    return Wrong("inline_config has no struct_size", error);
  }
  if ((flags & kNoWait) != 0) return WouldWait(error);
  Writer request(Function::kCheck);
  request.Text(key).Put(cost).Put(flags).Put(peek);
  request.Put(uint32_t{inline_config != nullptr}).Put(uint32_t{limits != nullptr});
  if (inline_config != nullptr) request.Put(config);
  std::string body;
  bool here = false;
  const int32_t code = Ask(request.Finish(), &body, &here, error);
  if (here) {
    uint64_t ignored = 0;
    if (limits == nullptr && peek == 0) {
      return flint_limiter_check(limiter_, key.data(), key.size(), cost, flags, inline_config,
                                 result, error);
    }
    return flint_limiter_check_limits(limiter_, key.data(), key.size(), cost, flags, inline_config,
                                      peek, result, limits, capacity, stride,
                                      count != nullptr ? count : &ignored, error);
  }
  if (peek == 0 &&
      AnswersUndecided(code, inline_config != nullptr ? &config : nullptr, cost, result)) {
    undecided_++;
    if (count != nullptr) *count = 0;
    return FLINT_LIMITER_OK;
  }
  if (code != FLINT_LIMITER_OK) return code;
  Reader reader(body);
  flint_limiter_result read;
  uint64_t limit_count = 0;
  if (!reader.Get(&read) || !reader.Get(&limit_count)) return Unreadable(error);
  read.ticket = 0;  // the owner answers when it is on disk
  Export(read, result);
  const uint32_t limit_size = capacity > 0 && limits != nullptr ? limits->struct_size : 0;
  for (uint64_t i = 0; i < std::min(limit_count, capacity); i++) {
    flint_limiter_limit_result limit;
    if (!reader.Get(&limit)) break;
    At(limits, stride, i)->struct_size = limit_size;
    Export(limit, At(limits, stride, i), stride);
  }
  if (count != nullptr) *count = limit_count;
  return FLINT_LIMITER_OK;
}

namespace {

// Of check_all and check_many. False where the arguments cannot be sent.
bool WriteItems(const flint_limiter_item* items, uint64_t count, uint64_t stride, uint32_t flags,
                Writer* request) {
  if (items == nullptr || count > FLINT_LIMITER_MAX_ITEMS) return false;
  request->Put(flags).Put(static_cast<uint32_t>(count));
  for (uint64_t i = 0; i < count; i++) {
    flint_limiter_item item;
    if (!Import(At(items, stride, i), &item)) return false;
    request->Text({item.key, item.key_bytes}).Put(item.cost);
  }
  return true;
}

constexpr char kWrongItems[] = "items must be 0 to 1,024 structures of a size that is said";

}  // namespace

int32_t Member::CheckAll(const flint_limiter_item* items, uint64_t count, uint64_t item_stride,
                         uint32_t flags, flint_limiter_result* results, uint64_t result_stride,
                         uint64_t* denied_index, flint_limiter_error* error) {
  Writer request(Function::kCheckAll);
  if (denied_index == nullptr || results == nullptr) return Wrong("results is NULL", error);
  if (!WriteItems(items, count, item_stride, flags, &request)) return Wrong(kWrongItems, error);
  if ((flags & kNoWait) != 0) return WouldWait(error);
  std::string body;
  bool here = false;
  const int32_t code = Ask(request.Finish(), &body, &here, error);
  if (here) {
    return flint_limiter_check_all(limiter_, items, count, item_stride, flags, results,
                                   result_stride, denied_index, error);
  }
  const bool allows = settings_.on_error == FLINT_LIMITER_ON_ERROR_ALLOW;
  if (count > 0 && AnswersUndecided(code, nullptr, items->cost, results)) {
    *denied_index = allows ? count : 0;
    for (uint64_t i = 1; allows && i < count; i++) {
      AnswersUndecided(code, nullptr, At(items, item_stride, i)->cost,
                       At(results, result_stride, i));
    }
    undecided_++;
    return FLINT_LIMITER_OK;
  }
  if (code != FLINT_LIMITER_OK) return code;
  Reader reader(body);
  if (!reader.Get(denied_index)) return Unreadable(error);
  for (uint64_t i = 0; i < count && i <= *denied_index; i++) {
    flint_limiter_result result;
    if (!reader.Get(&result)) return Unreadable(error);
    result.ticket = 0;
    Export(result, At(results, result_stride, i), result_stride);
  }
  return FLINT_LIMITER_OK;
}

int32_t Member::CheckMany(const flint_limiter_item* items, uint64_t count, uint64_t item_stride,
                          uint32_t flags, flint_limiter_result* results, uint64_t result_stride,
                          int32_t* codes, flint_limiter_error* error) {
  Writer request(Function::kCheckMany);
  if (codes == nullptr || results == nullptr) return Wrong("codes or results is NULL", error);
  if (!WriteItems(items, count, item_stride, flags, &request)) return Wrong(kWrongItems, error);
  if ((flags & kNoWait) != 0) {
    std::fill_n(codes, count, int32_t{FLINT_LIMITER_WOULD_BLOCK});
    return FLINT_LIMITER_OK;
  }
  std::string body;
  bool here = false;
  const int32_t code = Ask(request.Finish(), &body, &here, error);
  if (here) {
    return flint_limiter_check_many(limiter_, items, count, item_stride, flags, results,
                                    result_stride, codes, error);
  }
  if (count > 0 && AnswersUndecided(code, nullptr, items->cost, results)) {
    for (uint64_t i = 0; i < count; i++) {
      AnswersUndecided(code, nullptr, At(items, item_stride, i)->cost,
                       At(results, result_stride, i));
      codes[i] = FLINT_LIMITER_OK;
    }
    undecided_ += count;
    return FLINT_LIMITER_OK;
  }
  if (code != FLINT_LIMITER_OK) return code;
  Reader reader(body);
  for (uint64_t i = 0; i < count; i++) {
    flint_limiter_result result;
    if (!reader.Get(&codes[i]) || !reader.Get(&result)) return Unreadable(error);
    result.ticket = 0;
    if (codes[i] == FLINT_LIMITER_OK) Export(result, At(results, result_stride, i), result_stride);
  }
  return FLINT_LIMITER_OK;
}

// ---- Limits ----------------------------------------------------------------------------------

int32_t Member::LimitMany(const flint_limiter_config* configs, uint64_t count, uint64_t stride,
                          uint32_t flags, uint64_t* ticket, flint_limiter_error* error) {
  if ((flags & kNoWait) != 0) return WouldWait(error);
  Writer request(Function::kLimitMany);
  request.Put(flags).Put(static_cast<uint32_t>(count));
  for (uint64_t i = 0; i < count; i++) {
    flint_limiter_config config;
    if (!Import(configs == nullptr ? nullptr : At(configs, stride, i), &config)) {
      return Wrong("a config has no struct_size", error);
    }
    request.Put(config).Text({config.key, config.key_bytes}).Text({config.name, config.name_bytes});
    if (request.size() > kMaxRequestBytes) break;  // Ask says so
  }
  std::string body;
  bool here = false;
  const int32_t code = Ask(request.Finish(), &body, &here, error);
  if (here) return flint_limiter_limit_many(limiter_, configs, count, stride, flags, ticket, error);
  if (code == FLINT_LIMITER_OK && ticket != nullptr) *ticket = 0;
  return code;
}

int32_t Member::End(bool remove, std::string_view key, const char* name, uint64_t name_bytes,
                    uint32_t kind, uint32_t flags, uint64_t* ticket, flint_limiter_error* error) {
  if ((flags & kNoWait) != 0) return WouldWait(error);
  const std::string_view its_name = name == nullptr ? "" : std::string_view(name, name_bytes);
  Writer request(remove ? Function::kRemove : Function::kReset);
  request.Text(key).Text(its_name).Put(kind).Put(uint32_t{name == nullptr});
  std::string body;
  bool here = false;
  const int32_t code = Ask(request.Finish(), &body, &here, error);
  if (here) {
    const auto end = remove ? flint_limiter_remove_named : flint_limiter_reset_named;
    return end(limiter_, key.data(), key.size(), name, name_bytes, kind, flags, ticket, error);
  }
  if (code == FLINT_LIMITER_OK && ticket != nullptr) *ticket = 0;
  return code;
}

// ---- Reading ---------------------------------------------------------------------------------

int32_t Member::Status(std::string_view key, std::string_view name, uint32_t kind,
                       flint_limiter_status_info* status, flint_limiter_error* error) {
  if (status == nullptr) return Wrong("status is NULL", error);
  Writer request(Function::kStatus);
  request.Text(key).Text(name).Put(kind).Put(uint32_t{0});
  std::string body;
  bool here = false;
  const int32_t code = Ask(request.Finish(), &body, &here, error);
  if (here) {
    return flint_limiter_status_named(limiter_, key.data(), key.size(), name.data(), name.size(),
                                      kind, status, error);
  }
  if (code != FLINT_LIMITER_OK) return code;
  flint_limiter_status_info read;
  if (!Reader(body).Get(&read)) return Unreadable(error);
  read.key = nullptr;
  read.name = nullptr;
  Export(read, status);
  return FLINT_LIMITER_OK;
}

int32_t Member::List(const char* after, uint64_t after_bytes, uint32_t after_kind, uint32_t flags,
                     flint_limiter_status_info* entries, uint64_t capacity, uint64_t stride,
                     char* text, uint64_t text_bytes, uint64_t* count, flint_limiter_error* error) {
  Writer request(Function::kList);
  request.Text({after, after == nullptr ? 0 : after_bytes}).Put(uint32_t{after == nullptr});
  request.Put(after_kind).Put(flags).Put(capacity).Put(text_bytes);
  std::string body;
  bool here = false;
  const int32_t code = Ask(request.Finish(), &body, &here, error);
  if (here) {
    return flint_limiter_list(limiter_, after, after_bytes, after_kind, flags, entries, capacity,
                              stride, text, text_bytes, count, error);
  }
  if (code != FLINT_LIMITER_OK) return code;
  Reader reader(body);
  const bool read = ReadPage(&reader, entries, capacity, stride, text, text_bytes, count);
  return read ? FLINT_LIMITER_OK : Unreadable(error);
}

int32_t Member::ListPage(std::string_view cursor, uint32_t flags,
                         flint_limiter_status_info* entries, uint64_t capacity, uint64_t stride,
                         char* text, uint64_t text_bytes, uint64_t* count, char* next_cursor,
                         uint64_t* next_cursor_bytes, flint_limiter_error* error) {
  Writer request(Function::kListPage);
  request.Text(cursor).Put(flags).Put(capacity).Put(text_bytes);
  std::string body;
  bool here = false;
  const int32_t code = Ask(request.Finish(), &body, &here, error);
  if (here) {
    return flint_limiter_list_page(limiter_, cursor.data(), cursor.size(), flags, entries, capacity,
                                   stride, text, text_bytes, count, next_cursor, next_cursor_bytes,
                                   error);
  }
  if (code != FLINT_LIMITER_OK) return code;
  Reader reader(body);
  std::string_view next;
  if (!ReadPage(&reader, entries, capacity, stride, text, text_bytes, count) ||
      !reader.Text(&next) || next.size() > FLINT_LIMITER_MAX_CURSOR_BYTES) {
    return Unreadable(error);
  }
  std::memcpy(next_cursor, next.data(), next.size());
  *next_cursor_bytes = next.size();
  return FLINT_LIMITER_OK;
}

int32_t Member::Top(uint32_t by, uint32_t flags, flint_limiter_status_info* entries,
                    uint64_t capacity, uint64_t stride, char* text, uint64_t text_bytes,
                    uint64_t* count, flint_limiter_error* error) {
  Writer request(Function::kTop);
  request.Put(by).Put(flags).Put(capacity).Put(text_bytes);
  std::string body;
  bool here = false;
  const int32_t code = Ask(request.Finish(), &body, &here, error);
  if (here) {
    return flint_limiter_top(limiter_, by, flags, entries, capacity, stride, text, text_bytes,
                             count, error);
  }
  if (code != FLINT_LIMITER_OK) return code;
  Reader reader(body);
  const bool read = ReadPage(&reader, entries, capacity, stride, text, text_bytes, count);
  return read ? FLINT_LIMITER_OK : Unreadable(error);
}

int32_t Member::Info(flint_limiter_info* info, flint_limiter_error* error) {
  if (info == nullptr) return Wrong("info is NULL", error);
  std::string body;
  bool here = false;
  const int32_t code = Ask(Writer(Function::kInfo).Finish(), &body, &here, error);
  if (here) return flint_limiter_get_info(limiter_, info, error);
  if (code != FLINT_LIMITER_OK) return code;
  flint_limiter_info read;
  if (!Reader(body).Get(&read)) return Unreadable(error);
  read.role = FLINT_LIMITER_ROLE_CLIENT;
  read.undecided += undecided_;
  Export(read, info);
  return FLINT_LIMITER_OK;
}

int32_t Member::History(const char* key, uint64_t key_bytes,
                        const flint_limiter_history_query* query, flint_limiter_event* events,
                        uint64_t capacity, uint64_t stride, char* text, uint64_t text_bytes,
                        uint64_t* count, uint64_t* next_cursor, flint_limiter_error* error) {
  flint_limiter_history_query sent;
  if (!Import(query, &sent)) return Wrong("query has no struct_size", error);
  Writer request(Function::kHistory);
  request.Text({key, key == nullptr ? 0 : key_bytes}).Put(uint32_t{key != nullptr}).Put(sent);
  request.Put(capacity).Put(text_bytes);
  std::string body;
  bool here = false;
  const int32_t code = Ask(request.Finish(), &body, &here, error);
  if (here) {
    return flint_limiter_history(limiter_, key, key_bytes, query, events, capacity, stride, text,
                                 text_bytes, count, next_cursor, error);
  }
  if (code != FLINT_LIMITER_OK) return code;
  Reader reader(body);
  if (!ReadPage(&reader, events, capacity, stride, text, text_bytes, count) ||
      !reader.Get(next_cursor)) {
    return Unreadable(error);
  }
  return FLINT_LIMITER_OK;
}

int32_t Member::Flush(flint_limiter_error* error) {
  std::string body;
  bool here = false;
  const int32_t code = Ask(Writer(Function::kFlush).Finish(), &body, &here, error);
  return here ? flint_limiter_flush(limiter_, error) : code;
}

int32_t Member::Compact(uint32_t flags, flint_limiter_error* error) {
  std::string body;
  bool here = false;
  const int32_t code = Ask(Writer(Function::kCompact).Put(flags).Finish(), &body, &here, error);
  return here ? flint_limiter_compact(limiter_, flags, error) : code;
}

}  // namespace flint::sharing
