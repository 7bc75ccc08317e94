#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"
#include "base/mutex.h"
#include "storage/record.h"

namespace flint {

// What happened, read from the segments of a log, which may be written meanwhile.

struct HistoryItem {
  std::string key;  // a template's prefix
  LimitKind kind = LimitKind::kExact;
  uint64_t cost = 0;
  LimitConfig config;         // but for LIMIT_REMOVED and RESET
  std::string name{};         // of the limit; empty if it has none
  uint32_t prefix_bytes = 0;  // of the template, of a counter under one
};

// A LIMIT_CONFIGURED, LIMIT_REMOVED, ALLOW, ALLOW_ALL, DENY or RESET. All but ALLOW_ALL have one
// item.
struct HistoryEvent {
  uint64_t sequence = 0;
  RecordType type{};
  int64_t at_ns = 0;  // wall clock
  int64_t first_ns = 0;
  int64_t engine_ns = 0;  // the same two in engine time
  int64_t first_engine_ns = 0;
  uint64_t count = 1;  // of merged denials: from first_ns to at_ns
  std::vector<HistoryItem> items;
};

struct HistoryQuery {
  bool newest_first = false;
  // Only events that name this key: exactly, or as a template's prefix.
  bool has_key = false;
  bool key_is_template = false;
  std::string_view key;
  // Wall clock, [since, until).
  int64_t since_ns = 0;
  int64_t until_ns = INT64_MAX;
  // Where the page before ended; 0 for the first.
  uint64_t cursor = 0;
  // The most that the page may hold: items, and bytes of their keys.
  size_t capacity = 0;
  size_t text_bytes = 0;
};

struct HistoryPage {
  std::vector<HistoryEvent> events;  // empty: there is nothing more
  uint64_t next_cursor = 0;
};

struct HistoryBookmark;

// Reads the pages of one directory. Where the last page with oldest events first ended is kept: the
// page that follows it need not read its segment from the start again. Not kept is what takes much
// memory, which is a segment of very many keys. Any thread.
class HistoryReader {
 public:
  HistoryReader();
  ~HistoryReader();

  // kHistoryGone when the cursor lies before what is kept, kInvalidArgument when the next event
  // alone does not fit the page, kCorruption where the chain breaks.
  Status Read(Env* env, const std::string& directory, const HistoryQuery& query, HistoryPage* page)
      FLINT_EXCLUDES(mutex_);

 private:
  SystemMutex mutex_;
  std::unique_ptr<HistoryBookmark> bookmark_ FLINT_GUARDED_BY(mutex_);  // null, or where to go on
};

}  // namespace flint
