#include "sharing/requests.h"

#include <algorithm>
#include <new>
#include <vector>

namespace flint::sharing {
namespace {

template <typename T>
T Sized() {
  T made{};
  made.struct_size = sizeof(T);
  return made;
}

Answer Malformed() {
  return {FLINT_LIMITER_INVALID_ARGUMENT, 0,
          ErrorReply(FLINT_LIMITER_INVALID_ARGUMENT, "a request that cannot be read")};
}

// A reply without the answer, where the call has failed; otherwise one that begins well.
bool Failed(int32_t code, const flint_limiter_error& error, Answer* answer) {
  answer->code = code;
  if (code != FLINT_LIMITER_OK) answer->reply = ErrorReply(code, error);
  return code != FLINT_LIMITER_OK;
}

Writer Reply() {
  Writer reply;
  reply.Put(int32_t{FLINT_LIMITER_OK});
  return reply;
}

// ---- Decisions -------------------------------------------------------------------------------

struct Check {
  std::string_view key;
  uint64_t cost = 0;
  uint32_t flags = 0;
  uint32_t peek = 0;
  uint32_t has_config = 0;
  uint32_t wants_limits = 0;
  flint_limiter_config config{};

  bool Read(Reader* reader) {
    reader->Text(&key);
    reader->Get(&cost);
    reader->Get(&flags);
    reader->Get(&peek);
    reader->Get(&has_config);
    reader->Get(&wants_limits);
    if (has_config != 0) reader->Get(&config);
    // What the sender's pointers lead to is not here, and nothing to an inline limit.
    config.key = config.name = nullptr;
    config.key_bytes = config.name_bytes = 0;
    return reader->AtEnd();
  }
};

Answer PerformCheck(flint_limiter* limiter, Reader* reader, uint32_t flags) {
  Check check;
  if (!check.Read(reader)) return Malformed();
  // A peek changes nothing and has nothing to sync.
  flags |= check.flags & ~uint32_t{FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC};
  if (check.peek != 0) flags &= ~uint32_t{FLINT_LIMITER_NO_SYNC};
  auto result = Sized<flint_limiter_result>();
  flint_limiter_limit_result limits[FLINT_LIMITER_MAX_LIMITS_OF_KEY];
  limits[0].struct_size = sizeof(limits[0]);
  uint64_t count = 0;
  flint_limiter_error error = NoError();
  const flint_limiter_config* const config = check.has_config != 0 ? &check.config : nullptr;
  int32_t code = 0;
  if (check.wants_limits != 0 || check.peek != 0) {
    code = flint_limiter_check_limits(
        limiter, check.key.data(), check.key.size(), check.cost, flags, config, check.peek, &result,
        limits, FLINT_LIMITER_MAX_LIMITS_OF_KEY, sizeof(limits[0]), &count, &error);
  } else {
    code = flint_limiter_check(limiter, check.key.data(), check.key.size(), check.cost, flags,
                               config, &result, &error);
  }
  Answer answer;
  if (Failed(code, error, &answer)) return answer;
  answer.ticket = result.ticket;
  Writer reply = Reply();
  reply.Put(result).Put(count);
  const bool filled = (flags & FLINT_LIMITER_DECISION_ONLY) == 0;
  for (uint64_t i = 0; filled && i < count; i++) reply.Put(limits[i]);
  answer.reply = reply.Finish();
  return answer;
}

// Of check_all and check_many.
struct Items {
  std::vector<flint_limiter_item> items;
  std::vector<flint_limiter_result> results;
  uint32_t flags = 0;

  bool Read(Reader* reader) {
    uint32_t count = 0;
    if (!reader->Get(&flags) || !reader->Get(&count)) return false;
    if (count > FLINT_LIMITER_MAX_ITEMS) return false;
    for (uint32_t i = 0; i < count && reader->ok(); i++) {
      std::string_view key;
      auto item = Sized<flint_limiter_item>();
      reader->Text(&key);
      reader->Get(&item.cost);
      item.key = key.data();
      item.key_bytes = key.size();
      items.push_back(item);
    }
    results.assign(items.size(), Sized<flint_limiter_result>());
    return reader->AtEnd();
  }
  uint32_t FlagsWith(uint32_t more) const {
    return (flags & ~uint32_t{FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC}) | more;
  }
};

Answer PerformCheckAll(flint_limiter* limiter, Reader* reader, uint32_t flags) {
  Items asked;
  if (!asked.Read(reader)) return Malformed();
  uint64_t denied = 0;
  flint_limiter_error error = NoError();
  Answer answer;
  const size_t count = asked.items.size();
  if (Failed(flint_limiter_check_all(limiter, asked.items.data(), count, sizeof(asked.items[0]),
                                     asked.FlagsWith(flags), asked.results.data(),
                                     sizeof(asked.results[0]), &denied, &error),
             error, &answer)) {
    return answer;
  }
  if (count > 0) answer.ticket = asked.results[0].ticket;
  Writer reply = Reply();
  reply.Put(denied);
  for (size_t i = 0; i < count && i <= denied; i++) reply.Put(asked.results[i]);
  answer.reply = reply.Finish();
  return answer;
}

Answer PerformCheckMany(flint_limiter* limiter, Reader* reader, uint32_t flags) {
  Items asked;
  if (!asked.Read(reader)) return Malformed();
  // What waits for a lock in the middle could not be made again: it waits there.
  flags &= ~uint32_t{FLINT_LIMITER_NO_WAIT};
  const size_t count = asked.items.size();
  std::vector<int32_t> codes(count);
  flint_limiter_error error = NoError();
  Answer answer;
  if (Failed(flint_limiter_check_many(limiter, asked.items.data(), count, sizeof(asked.items[0]),
                                      asked.FlagsWith(flags), asked.results.data(),
                                      sizeof(asked.results[0]), codes.data(), &error),
             error, &answer)) {
    return answer;
  }
  Writer reply = Reply();
  for (size_t i = 0; i < count; i++) {
    reply.Put(codes[i]).Put(asked.results[i]);
    if (codes[i] == FLINT_LIMITER_OK)
      answer.ticket = std::max(answer.ticket, asked.results[i].ticket);
  }
  answer.reply = reply.Finish();
  return answer;
}

// ---- Limits ----------------------------------------------------------------------------------

Answer PerformLimitMany(flint_limiter* limiter, Reader* reader, uint32_t flags) {
  uint32_t asked_flags = 0;
  uint32_t count = 0;
  reader->Get(&asked_flags);
  reader->Get(&count);
  std::vector<flint_limiter_config> configs;
  for (uint32_t i = 0; i < count && reader->ok(); i++) {
    flint_limiter_config config;
    std::string_view key;
    std::string_view name;
    if (!reader->Get(&config) || !reader->Text(&key) || !reader->Text(&name)) break;
    config.key = key.data();
    config.key_bytes = key.size();
    config.name = name.data();
    config.name_bytes = name.size();
    configs.push_back(config);
  }
  if (!reader->AtEnd()) return Malformed();
  flags |= asked_flags & FLINT_LIMITER_IF_ABSENT;
  flint_limiter_error error = NoError();
  Answer answer;
  uint64_t ticket = 0;
  if (Failed(flint_limiter_limit_many(limiter, configs.data(), configs.size(),
                                      sizeof(flint_limiter_config), flags, &ticket, &error),
             error, &answer)) {
    return answer;
  }
  answer.ticket = ticket;
  answer.reply = Reply().Finish();
  return answer;
}

struct Target {
  std::string_view key;
  std::string_view name;
  uint32_t kind = 0;
  uint32_t all_names = 0;

  bool Read(Reader* reader) {
    reader->Text(&key);
    reader->Text(&name);
    reader->Get(&kind);
    reader->Get(&all_names);
    return reader->AtEnd();
  }
  const char* name_or_null() const { return all_names != 0 ? nullptr : name.data(); }
};

Answer PerformEnd(flint_limiter* limiter, Reader* reader, uint32_t flags,
                  decltype(&flint_limiter_reset_named) end) {
  Target target;
  if (!target.Read(reader)) return Malformed();
  flint_limiter_error error = NoError();
  Answer answer;
  uint64_t ticket = 0;
  if (Failed(end(limiter, target.key.data(), target.key.size(), target.name_or_null(),
                 target.name.size(), target.kind, flags, &ticket, &error),
             error, &answer)) {
    return answer;
  }
  answer.ticket = ticket;
  answer.reply = Reply().Finish();
  return answer;
}

// ---- Reading ---------------------------------------------------------------------------------

Answer PerformStatus(flint_limiter* limiter, Reader* reader) {
  Target target;
  if (!target.Read(reader)) return Malformed();
  auto status = Sized<flint_limiter_status_info>();
  flint_limiter_error error = NoError();
  Answer answer;
  if (Failed(flint_limiter_status_named(limiter, target.key.data(), target.key.size(),
                                        target.name.data(), target.name.size(), target.kind,
                                        &status, &error),
             error, &answer)) {
    return answer;
  }
  answer.reply = Reply().Put(status).Finish();
  return answer;
}

// How much a reply may hold: what the caller has room for, and never more than fits.
struct Room {
  uint64_t capacity = 0;
  uint64_t text_bytes = 0;

  void Read(Reader* reader) {
    reader->Get(&capacity);
    reader->Get(&text_bytes);
    capacity = std::min(capacity, kMaxEntries);
    text_bytes = std::min(text_bytes, kMaxTextBytes);
  }
};

template <typename Entry>
struct Page {
  explicit Page(const Room& room)
      : entries(room.capacity, Sized<Entry>()), text(room.text_bytes, '\0') {}

  std::vector<Entry> entries;
  std::string text;
  uint64_t count = 0;

  void Write(Writer* reply) const {
    reply->Put(count);
    for (uint64_t i = 0; i < count; i++) {
      const Entry& one = entries[i];
      reply->Put(one).Text({one.key, one.key_bytes}).Text({one.name, one.name_bytes});
    }
  }
};

Answer PerformList(flint_limiter* limiter, Reader* reader) {
  std::string_view after;
  uint32_t from_start = 0;
  uint32_t after_kind = 0;
  uint32_t flags = 0;
  Room room;
  reader->Text(&after);
  reader->Get(&from_start);
  reader->Get(&after_kind);
  reader->Get(&flags);
  room.Read(reader);
  if (!reader->AtEnd()) return Malformed();
  Page<flint_limiter_status_info> page(room);
  flint_limiter_error error = NoError();
  Answer answer;
  if (Failed(flint_limiter_list(limiter, from_start != 0 ? nullptr : after.data(), after.size(),
                                after_kind, flags, page.entries.data(), page.entries.size(),
                                sizeof(page.entries[0]), page.text.data(), page.text.size(),
                                &page.count, &error),
             error, &answer)) {
    return answer;
  }
  Writer reply = Reply();
  page.Write(&reply);
  answer.reply = reply.Finish();
  return answer;
}

Answer PerformListPage(flint_limiter* limiter, Reader* reader) {
  std::string_view cursor;
  uint32_t flags = 0;
  Room room;
  reader->Text(&cursor);
  reader->Get(&flags);
  room.Read(reader);
  if (!reader->AtEnd()) return Malformed();
  Page<flint_limiter_status_info> page(room);
  std::string next(FLINT_LIMITER_MAX_CURSOR_BYTES, '\0');
  uint64_t next_bytes = 0;
  flint_limiter_error error = NoError();
  Answer answer;
  if (Failed(
          flint_limiter_list_page(limiter, cursor.data(), cursor.size(), flags, page.entries.data(),
                                  page.entries.size(), sizeof(page.entries[0]), page.text.data(),
                                  page.text.size(), &page.count, next.data(), &next_bytes, &error),
          error, &answer)) {
    return answer;
  }
  Writer reply = Reply();
  page.Write(&reply);
  answer.reply = reply.Text(std::string_view(next).substr(0, next_bytes)).Finish();
  return answer;
}

Answer PerformTop(flint_limiter* limiter, Reader* reader) {
  uint32_t by = 0;
  uint32_t flags = 0;
  Room room;
  reader->Get(&by);
  reader->Get(&flags);
  room.Read(reader);
  if (!reader->AtEnd()) return Malformed();
  Page<flint_limiter_status_info> page(room);
  flint_limiter_error error = NoError();
  Answer answer;
  if (Failed(flint_limiter_top(limiter, by, flags, page.entries.data(), page.entries.size(),
                               sizeof(page.entries[0]), page.text.data(), page.text.size(),
                               &page.count, &error),
             error, &answer)) {
    return answer;
  }
  Writer reply = Reply();
  page.Write(&reply);
  answer.reply = reply.Finish();
  return answer;
}

Answer PerformHistory(flint_limiter* limiter, Reader* reader) {
  std::string_view key;
  uint32_t has_key = 0;
  flint_limiter_history_query query;
  Room room;
  reader->Text(&key);
  reader->Get(&has_key);
  reader->Get(&query);
  room.Read(reader);
  if (!reader->AtEnd()) return Malformed();
  Page<flint_limiter_event> page(room);
  uint64_t next = 0;
  flint_limiter_error error = NoError();
  Answer answer;
  if (Failed(
          flint_limiter_history(limiter, has_key != 0 ? key.data() : nullptr, key.size(), &query,
                                page.entries.data(), page.entries.size(), sizeof(page.entries[0]),
                                page.text.data(), page.text.size(), &page.count, &next, &error),
          error, &answer)) {
    return answer;
  }
  Writer reply = Reply();
  page.Write(&reply);
  answer.reply = reply.Put(next).Finish();
  return answer;
}

Answer PerformInfo(flint_limiter* limiter) {
  auto info = Sized<flint_limiter_info>();
  flint_limiter_error error = NoError();
  Answer answer;
  if (Failed(flint_limiter_get_info(limiter, &info, &error), error, &answer)) return answer;
  answer.reply = Reply().Put(info).Finish();
  return answer;
}

Answer PerformFlush(flint_limiter* limiter) {
  flint_limiter_error error = NoError();
  Answer answer;
  if (Failed(flint_limiter_flush(limiter, &error), error, &answer)) return answer;
  answer.reply = Reply().Finish();
  return answer;
}

Answer PerformCompact(flint_limiter* limiter, Reader* reader) {
  uint32_t flags = 0;
  if (!reader->Get(&flags)) return Malformed();
  flint_limiter_error error = NoError();
  Answer answer;
  if (Failed(flint_limiter_compact(limiter, flags, &error), error, &answer)) return answer;
  answer.reply = Reply().Finish();
  return answer;
}

Answer PerformRead(flint_limiter* limiter, std::string_view body, uint32_t flags) {
  Reader reader(body);
  Function function{};
  if (!reader.Get(&function)) return Malformed();
  switch (function) {
    case Function::kCheck:
      return PerformCheck(limiter, &reader, flags);
    case Function::kCheckAll:
      return PerformCheckAll(limiter, &reader, flags);
    case Function::kCheckMany:
      return PerformCheckMany(limiter, &reader, flags);
    case Function::kLimitMany:
      return PerformLimitMany(limiter, &reader, flags);
    case Function::kRemove:
      return PerformEnd(limiter, &reader, flags, flint_limiter_remove_named);
    case Function::kReset:
      return PerformEnd(limiter, &reader, flags, flint_limiter_reset_named);
    case Function::kStatus:
      return PerformStatus(limiter, &reader);
    case Function::kList:
      return PerformList(limiter, &reader);
    case Function::kListPage:
      return PerformListPage(limiter, &reader);
    case Function::kTop:
      return PerformTop(limiter, &reader);
    case Function::kInfo:
      return PerformInfo(limiter);
    case Function::kHistory:
      return PerformHistory(limiter, &reader);
    case Function::kFlush:
      return PerformFlush(limiter);
    case Function::kCompact:
      return PerformCompact(limiter, &reader);
    default:
      return Malformed();
  }
}

}  // namespace

Answer Perform(flint_limiter* limiter, std::string_view body, uint32_t flags) {
  try {
    return PerformRead(limiter, body, flags);
  } catch (const std::bad_alloc&) {
    return {FLINT_LIMITER_NO_MEMORY, 0, ErrorReply(FLINT_LIMITER_NO_MEMORY, NoError())};
  }
}

Length LengthOf(std::string_view body) {
  Reader reader(body);
  Function function{};
  reader.Get(&function);
  switch (function) {
    case Function::kCheck:
    case Function::kCheckAll:
      return Length::kMoment;
    case Function::kCheckMany:
    case Function::kLimitMany:
      return Length::kWait;
    case Function::kRemove:
    case Function::kReset:
    case Function::kStatus: {
      Target target;
      const bool of_many = target.Read(&reader) && target.kind == FLINT_LIMITER_KIND_TEMPLATE;
      return of_many ? Length::kLong : Length::kMoment;
    }
    default:
      return Length::kLong;
  }
}

}  // namespace flint::sharing
