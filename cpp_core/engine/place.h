#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "engine/legacy.h"
#include "engine/listing.h"
#include "storage/history.h"
#include "storage/log.h"

namespace flint {

// Where a limiter's decisions are made: in this process, which is the engine, or by one that is
// asked over a connection. What a caller says has been read from the public header's structures
// before and is what that header allows, but keys, names and costs are looked at here.
//
// Everything but Shutdown and the destructor may be called from any thread at any time; Shutdown
// from any thread, once; the destructor last.
class Place {
 public:
  // How long a call may wait and what it fills; the public header's flags.
  struct Flags {
    bool no_wait = false;
    bool no_sync = false;
    bool decision_only = false;
    bool if_absent = false;
    bool all_counters = false;
    bool refuse = false;
    bool update = false;  // an inline limit takes the values of the call
  };

  struct Limit {
    LimitKind kind = LimitKind::kExact;
    std::string_view key;
    LimitConfig config;
    std::string_view name{};
  };

  struct Item {
    std::string_view key;
    uint64_t cost = 1;
  };
  // Up to so many items or limits are decided together without memory from the heap.
  static constexpr size_t kFewItems = 64;

  struct Decision;
  // Hears what each limit of a key says, under its shard's lock.
  class EachLimit {
   public:
    virtual void Add(std::string_view name, const Decision& decision) = 0;

   protected:
    ~EachLimit() = default;
  };

  // Of several limits of one key the numbers are those of one: of the denying ones that which will
  // deny longest, otherwise the one with the least left.
  struct Decision {
    bool allowed = false;
    bool undecided = false;      // on_error has answered
    bool limit_changed = false;  // to an inline limit of other values; where the check fails too
    Algorithm algorithm{};
    uint64_t cost = 0;
    uint64_t limit = 0;
    uint64_t remaining = 0;
    int64_t reset_at_ns = 0;
    uint64_t reset_after_ns = 0;
    uint64_t retry_after_ns = 0;
    uint64_t ticket = 0;
    uint32_t limit_count = 0;   // 0: the key has one limit, and that has no name
    uint32_t limit_index = 0;   // whose the numbers are
    EachLimit* each = nullptr;  // set by the caller; hears nothing when limit_count is 0
  };

  // What one of many checks has come to; the decision counts with kOk.
  struct Answer {
    Code code = Code::kOk;
    Decision decision;
  };

  using LimitStatus = flint::LimitStatus;
  using TopBy = flint::TopBy;

  struct Info {
    bool always = false;
    uint64_t recovered_records = 0;
    uint64_t recovered_ring_records = 0;
    uint64_t torn_bytes = 0;
    uint64_t snapshot_limits = 0;
    uint64_t limits = 0;
    uint64_t counters = 0;
    uint64_t log_bytes = 0;
    uint64_t segments = 0;
    uint64_t snapshot_bytes = 0;
    Log::Counts log;
    uint64_t compactions = 0;
    uint64_t compaction_failures = 0;
    uint64_t compaction_done_bytes = 0;   // of the one that is running
    uint64_t compaction_total_bytes = 0;  // 0: none is
    Status compaction_failure;            // since the last that succeeded
    int64_t compaction_retry_at_ns = 0;   // wall clock; 0: there was no failure
    uint64_t history_bytes = 0;
    uint64_t history_failures = 0;  // to remove a segment that may go
    uint64_t damaged_history = 0;   // segments that are history and cannot be read
    uint64_t undecided = 0;         // checks that on_error answered
    uint64_t evicted = 0;           // keys in use that made room for others
    bool read_only = false;
    bool of_server = false;           // and not of this process
    bool bus_guard_replaced = false;  // somebody else handles SIGBUS now
    uint32_t directory_mode = 0;
    int64_t engine_time_ns = 0;
    LegacyReport legacy;         // of opening
    uint64_t told_warnings = 0;  // by a server, numbered as in the public header
  };

  virtual ~Place() = default;
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  virtual Status ConfigureMany(const std::vector<Limit>& limits, const Flags& flags,
                               uint64_t* ticket) = 0;
  // `name` null: all limits of the key, or all templates of the prefix.
  virtual Status Remove(LimitKind kind, std::string_view key, const std::string_view* name,
                        const Flags& flags, uint64_t* ticket) = 0;
  virtual Status Reset(LimitKind kind, std::string_view key, const std::string_view* name,
                       const Flags& flags, uint64_t* ticket) = 0;

  // `inline_config` may be null. On an error `decision` is left alone.
  virtual Status Check(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                       Decision* decision) {
    return CheckInFull(item, flags, inline_config, decision);
  }
  // The same for a check that the engine's CheckPlain has left undecided.
  virtual Status CheckInFull(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                             Decision* decision) = 0;
  virtual Status Peek(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                      Decision* decision) = 0;
  // `decisions` has room for all; those up to and including `*denied` are filled.
  virtual Status CheckAll(std::span<const Item> items, const Flags& flags, Decision* decisions,
                          size_t* denied) = 0;
  // Each item by itself and in order, with one wait for the disk. What has a code other than kOk
  // already is left out. Fails only for what concerns all of them.
  virtual Status CheckMany(std::span<const Item> items, const Flags& flags,
                           std::span<Answer> answers) = 0;

  // What these cost is said in listing.h.
  virtual Status StatusOf(LimitKind kind, std::string_view key, std::string_view name,
                          LimitStatus* status) = 0;
  // The next limits in order of key, kind and name behind `after` (null: from the start).
  virtual Status ListBehind(const Listing::Position* after, const Listing::Wanted& wanted,
                            std::vector<LimitStatus>* page) = 0;
  // Those that have no name; at most `capacity` with keys of at most `key_bytes` together.
  Status List(const std::string_view* after, LimitKind after_kind, const Flags& flags,
              size_t capacity, size_t key_bytes, std::vector<LimitStatus>* page) {
    Listing::Position position;
    if (after != nullptr) position = {*after, after_kind};
    return ListBehind(after == nullptr ? nullptr : &position,
                      {flags.all_counters, capacity, key_bytes, true}, page);
  }
  virtual Status Top(TopBy by, const Flags& flags, size_t capacity,
                     std::vector<LimitStatus>* top) = 0;
  virtual Status GetInfo(Info* info) = 0;
  virtual Status History(const HistoryQuery& query, HistoryPage* page) = 0;

  virtual Status Flush() = 0;
  virtual Status Wait(uint64_t ticket, uint64_t timeout_ns) = 0;
  virtual Status Durable(uint64_t* ticket) = 0;
  virtual Status Watch(int* fd) = 0;
  virtual Status Unwatch(int fd) = 0;
  // no_wait: only starts it.
  virtual Status Compact(const Flags& flags) = 0;
  // Of one that is read only: takes over what has been written since.
  virtual Status Refresh() = 0;

  // Makes other calls return kClosed, waits until none is running and syncs.
  virtual Status Shutdown() = 0;

 protected:
  Place() = default;
};

}  // namespace flint
