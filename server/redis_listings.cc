#include "redis_listings.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flint_limiter.h"
#include "redis_commands.h"
#include "text.h"

namespace flint::server {
namespace {

constexpr uint64_t kMaxCount = 1'000;
constexpr uint64_t kMaxHistoryBytes = uint64_t{4} * FLINT_LIMITER_MIN_TEXT_BYTES;

template <typename Entry>
std::vector<Entry> Entries(size_t count) {
  Entry none{};
  none.struct_size = sizeof none;
  return std::vector<Entry>(count, none);
}

std::string ShownKey(const char* key, uint64_t key_bytes, uint32_t kind) {
  std::string shown(key, key_bytes);
  if (kind == FLINT_LIMITER_KIND_TEMPLATE) shown.push_back('*');
  return shown;
}

std::string_view KindName(uint32_t kind) {
  constexpr std::array<std::string_view, 4> kNames = {"exact", "template", "counter", "inline"};
  return kind < kNames.size() ? kNames[kind] : "unknown";
}

bool ReadCount(const Asked& asked, const std::string& text, uint64_t* count) {
  if (!ReadRedisOptional(asked, "COUNT", text, count)) return false;
  if (*count >= 1 && *count <= kMaxCount) return true;
  asked->Error("COUNT must be 1 to 1000, not " + text);
  return false;
}

// Limits, each as a map.
struct Statuses {
  std::vector<flint_limiter_status_info> entries;
  std::string text;
  uint64_t count = 0;

  // In the thread that fills it: what waits for one takes no memory.
  void MakeRoom(uint64_t most, size_t text_bytes) {
    entries = Entries<flint_limiter_status_info>(most);
    text.assign(text_bytes, '\0');
  }

  void Tell(RedisReply* reply) const {
    reply->Array(count);
    for (uint64_t i = 0; i < count; i++) {
      const flint_limiter_status_info& one = entries[i];
      AppendRedisStatus(ShownKey(one.key, one.key_bytes, one.kind), {one.name, one.name_bytes}, one,
                        reply);
    }
  }
};

}  // namespace

void AppendRedisStatus(std::string_view key, std::string_view name,
                       const flint_limiter_status_info& status, RedisReply* reply) {
  reply->Map(18)
      .Word("key", key)
      .Word("name", name)
      .Word("kind", KindName(status.kind))
      .Word("algorithm", AlgorithmName(status.algorithm))
      .Field("rate", status.rate)
      .Field("per_ns", status.per_ns)
      .Field("burst", status.burst)
      .Flag("stack", (status.flags & FLINT_LIMITER_STACK) != 0)
      .Field("remaining", status.remaining)
      .Time("reset_at_ns", status.reset_at_ns)
      .Field("total_allowed", status.total_allowed)
      .Field("total_denied", status.total_denied)
      .Field("total_allowed_cost", status.total_allowed_cost)
      .Field("total_denied_cost", status.total_denied_cost)
      .Time("last_allowed_at_ns", status.last_allowed_at_ns)
      .Time("last_denied_at_ns", status.last_denied_at_ns)
      .Time("last_reset_at_ns", status.last_reset_at_ns)
      .Field("counters", status.counters);
}

namespace {

struct ListWork : Statuses {
  std::string cursor;
  uint64_t cursor_bytes = 0;
  uint64_t most = 100;
  uint32_t flags = 0;
  std::string key;  // only its limits, as people write it; empty: those of all

  Outcome ReadPage(flint_limiter* limiter) {
    flint_limiter_error error = NoError();
    const int32_t code = flint_limiter_list_page(
        limiter, cursor.data(), cursor_bytes, flags, entries.data(), entries.size(),
        sizeof entries[0], text.data(), text.size(), &count, cursor.data(), &cursor_bytes, &error);
    return OutcomeOf(code, error);
  }

  // Reads on until there is something to tell.
  Outcome Read(flint_limiter* limiter) {
    cursor.resize(FLINT_LIMITER_MAX_CURSOR_BYTES);
    MakeRoom(most, FLINT_LIMITER_MIN_TEXT_BYTES + FLINT_LIMITER_MAX_NAME_BYTES);
    Outcome read = ReadPage(limiter);
    while (read.ok() && count > 0 && !key.empty() && !KeepThoseOfKey()) read = ReadPage(limiter);
    return read;
  }

  bool KeepThoseOfKey() {
    const auto is_other = [this](const flint_limiter_status_info& one) {
      return ShownKey(one.key, one.key_bytes, one.kind) != key;
    };
    const auto end = entries.begin() + static_cast<ptrdiff_t>(count);
    count = static_cast<uint64_t>(std::remove_if(entries.begin(), end, is_other) - entries.begin());
    return count > 0;
  }
};

}  // namespace

// Two elements: the cursor for the next page, which is empty behind the last, and limits.
void RedisList(const Asked& asked) {
  std::string cursor;
  std::string said;
  bool counters = false;
  const auto work = std::make_shared<ListWork>();
  if (!ReadRedisOptions(asked, 1,
                        {{"CURSOR", &cursor},
                         {"COUNT", &said},
                         {"COUNTERS", nullptr, &counters},
                         {"KEY", &work->key}}) ||
      !ReadCount(asked, said, &work->most)) {
    return;
  }
  // Its bytes are no text, which clients may want.
  if (!ReadHex(cursor, &work->cursor)) {
    asked->Error("CURSOR is not what a page has answered");
    return;
  }
  work->cursor_bytes = work->cursor.size();
  work->flags = counters ? FLINT_LIMITER_ALL_COUNTERS : 0;
  const auto call = [work, limiter = asked->limiter()](uint32_t) { return work->Read(limiter); };
  asked->RunAside(call, [asked, work] {
    RedisReply reply = asked->Reply();
    const uint64_t cursor_bytes = work->count == 0 ? 0 : work->cursor_bytes;
    reply.Array(2).Text(Hex(std::string_view(work->cursor).substr(0, cursor_bytes)));
    work->Tell(&reply);
    asked->Send(reply);
  });
}

void RedisTop(const Asked& asked) {
  constexpr std::array<std::string_view, 4> kTotals = {"denied", "allowed", "denied_cost",
                                                       "allowed_cost"};
  std::string by = "denied";
  std::string said;
  uint64_t most = 20;
  bool without_counters = false;
  if (!ReadRedisOptions(
          asked, 1, {{"BY", &by}, {"COUNT", &said}, {"NOCOUNTERS", nullptr, &without_counters}}) ||
      !ReadCount(asked, said, &most)) {
    return;
  }
  const auto* const found = std::find_if(
      kTotals.begin(), kTotals.end(), [&](std::string_view total) { return EqualFold(total, by); });
  if (found == kTotals.end()) {
    asked->Error("BY must be denied, allowed, denied_cost or allowed_cost");
    return;
  }
  const auto total = static_cast<uint32_t>(found - kTotals.begin());
  const auto work = std::make_shared<Statuses>();
  const uint32_t counters = without_counters ? 0 : FLINT_LIMITER_ALL_COUNTERS;
  const auto call = [work, most, total, counters, limiter = asked->limiter()](uint32_t) {
    // Room for each key, however long.
    work->MakeRoom(most, FLINT_LIMITER_MIN_TEXT_BYTES * (most + 1));
    flint_limiter_error error = NoError();
    const int32_t code = flint_limiter_top(
        limiter, total, counters, work->entries.data(), work->entries.size(),
        sizeof work->entries[0], work->text.data(), work->text.size(), &work->count, &error);
    return OutcomeOf(code, error);
  };
  asked->RunAside(call, [asked, work] {
    RedisReply reply = asked->Reply();
    work->Tell(&reply);
    asked->Send(reply);
  });
}

// ---- History ---------------------------------------------------------------------------------

namespace {

struct HistoryWork {
  std::optional<Target> target;
  flint_limiter_history_query query{};
  std::vector<flint_limiter_event> events;
  std::string text;
  uint64_t most = FLINT_LIMITER_MAX_ITEMS;
  uint64_t text_bytes = kMaxHistoryBytes;
  uint64_t count = 0;

  // An event of several keys is as many entries, which stand on one page: COUNT is less than one
  // event may be, and then the page is that event.
  Outcome Read(flint_limiter* limiter) {
    const uint64_t cursor = query.cursor;
    Outcome read = ReadPage(limiter, most);
    if (read.code != FLINT_LIMITER_INVALID_ARGUMENT) return read;
    query.cursor = cursor;
    read = ReadPage(limiter, FLINT_LIMITER_MAX_ITEMS);
    if (!read.ok() || count == 0) return read;
    const uint64_t sequence = events[0].sequence;
    uint64_t whole = 1;
    while (whole < count && events[whole].sequence == sequence) whole++;
    query.cursor = cursor;
    return ReadPage(limiter, whole);
  }

  Outcome ReadPage(flint_limiter* limiter, uint64_t capacity) {
    events = Entries<flint_limiter_event>(capacity);
    text.resize(text_bytes);
    flint_limiter_error error = NoError();
    const bool is_template = target && target->is_template;
    query.kind = is_template ? FLINT_LIMITER_KIND_TEMPLATE : FLINT_LIMITER_KIND_EXACT;
    const int32_t code = flint_limiter_history(
        limiter, target ? target->key.data() : nullptr, target ? target->key.size() : 0, &query,
        events.data(), events.size(), sizeof events[0], text.data(), text.size(), &count,
        &query.cursor, &error);
    return OutcomeOf(code, error);
  }

  // Two elements: the cursor for the next page, and events; none means that there are no more now.
  void Tell(RedisReply* reply) const {
    reply->Array(2).Whole(query.cursor).Array(count);
    for (uint64_t i = 0; i < count; i++) {
      const flint_limiter_event& one = events[i];
      reply->Map(19)
          .Word("type", EventTypeName(one.type))
          .Field("sequence", one.sequence)
          .Time("at_ns", one.at_ns)
          .Time("first_at_ns", one.first_at_ns)
          .Field("count", one.count)
          .Field("cost", one.cost)
          .Word("key", ShownKey(one.key, one.key_bytes, one.kind))
          .Word("name", {one.name, one.name_bytes})
          .Word("algorithm", one.algorithm == 0 ? "" : AlgorithmName(one.algorithm))
          .Field("rate", one.rate)
          .Field("per_ns", one.per_ns)
          .Field("burst", one.burst)
          .Word("kind", KindName(one.kind))
          .Field("item_index", one.item_index)
          .Field("item_count", one.item_count)
          .Time("engine_ns", one.engine_ns)
          .Time("first_engine_ns", one.first_engine_ns)
          .Field("prefix_bytes", one.prefix_bytes)
          .Flag("stack", (one.flags & FLINT_LIMITER_STACK) != 0);
    }
  }
};

}  // namespace

void RedisHistory(const Asked& asked) {
  std::string key;
  std::string since;
  std::string until;
  std::string said;
  std::string cursor;
  std::string bytes;
  bool newest = false;
  bool exact = false;
  uint64_t since_ns = 0;
  uint64_t until_ns = 0;
  const auto work = std::make_shared<HistoryWork>();
  if (!ReadRedisOptions(asked, 1,
                        {{"KEY", &key},
                         {"SINCE", &since},
                         {"UNTIL", &until},
                         {"COUNT", &said},
                         {"CURSOR", &cursor},
                         {"BYTES", &bytes},
                         {"NEWEST", nullptr, &newest},
                         {"EXACT", nullptr, &exact}}) ||
      !ReadRedisOptional(asked, "SINCE", since, &since_ns) ||
      !ReadRedisOptional(asked, "UNTIL", until, &until_ns) ||
      !ReadRedisOptional(asked, "CURSOR", cursor, &work->query.cursor) ||
      !ReadRedisOptional(asked, "BYTES", bytes, &work->text_bytes)) {
    return;
  }
  if (work->text_bytes < FLINT_LIMITER_MIN_TEXT_BYTES || work->text_bytes > kMaxHistoryBytes) {
    asked->Error("BYTES, of all keys and names, must be 65536 to 262144, not " + bytes);
    return;
  }
  if (!said.empty() && !ReadCount(asked, said, &work->most)) return;
  work->query.struct_size = sizeof work->query;
  work->query.flags = newest ? FLINT_LIMITER_NEWEST_FIRST : 0;
  work->query.since_ns = static_cast<int64_t>(std::min<uint64_t>(since_ns, INT64_MAX));
  work->query.until_ns = static_cast<int64_t>(std::min<uint64_t>(until_ns, INT64_MAX));
  if (!key.empty()) {
    work->target = ReadTarget(key, exact ? std::optional<bool>(false) : std::nullopt);
  }
  const auto call = [work, limiter = asked->limiter()](uint32_t) { return work->Read(limiter); };
  asked->RunAside(call, [asked, work] {
    RedisReply reply = asked->Reply();
    work->Tell(&reply);
    asked->Send(reply);
  });
}

}  // namespace flint::server
