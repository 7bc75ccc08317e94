#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bounded_array.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/mutex.h"
#include "engine/compactor.h"
#include "engine/kept_segments.h"
#include "engine/keyspace.h"
#include "engine/legacy.h"
#include "engine/listing.h"
#include "engine/recorder.h"
#include "engine/room_maker.h"
#include "model/engine_clock.h"
#include "storage/history.h"
#include "storage/log.h"
#include "storage/log_observer.h"

namespace flint {

class Reading;

// A limiter: decides, records, remembers. Everything but Open, Shutdown and the destructor may be
// called from any thread at any time; Shutdown from any thread, once; the destructor last.
//
// Locks, in the order in which they may be taken: shards (several in order of index), the log's.
// No lock is held across a system call that waits.
class Engine final : private LogObserver {
 public:
  // What a check answers that cannot be decided, because the disk is full or failing, the table
  // full or memory short.
  enum class OnError { kRaise, kAllow, kDeny };
  // What a key that is new answers when the table is full of keys in use.
  enum class WhenFull { kRefuse, kEvict };

  struct Options {
    LogOptions log;
    Env* env = Env::Posix();
    const Clock* clock = Clock::System();
    std::unique_ptr<Clock> owned_clock;
    uint64_t history_max_bytes = uint64_t{256} << 20;
    uint64_t history_max_age_ns = 0;  // 0: however old
    uint64_t max_downtime_ns = 0;     // 0: however long
    uint64_t lock_timeout_ns = 0;     // how long to wait for a directory that another has open
    Access access;                    // of every file and directory that is made
    bool sync_denials = false;        // in always mode
    bool merge_denials = true;        // many of one key between two syncs are one record
    bool tell_busy = false;           // the public header's; kBusy is always told here
    OnError on_error = OnError::kRaise;
    uint64_t max_keys = 0;  // counters and inline limits; 0: no bound
    WhenFull when_full = WhenFull::kRefuse;
  };

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
    bool undecided = false;  // on_error has answered
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
    bool bus_guard_replaced = false;  // somebody else handles SIGBUS now
    uint32_t directory_mode = 0;
    int64_t engine_time_ns = 0;
    LegacyReport legacy;  // of opening
  };

  // An empty `directory` keeps everything in memory.
  static Status Open(const std::string& directory, Options options,
                     std::unique_ptr<Engine>* engine);
  // Reads a directory that another process may be writing, and only that: of the options the
  // environment and the clock count. What would change something returns kReadOnly.
  static Status OpenReadOnly(const std::string& directory, Options options,
                             std::unique_ptr<Engine>* engine);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  Status Configure(const Limit& limit, const Flags& flags, uint64_t* ticket);
  Status ConfigureMany(const std::vector<Limit>& limits, const Flags& flags, uint64_t* ticket);
  // `name` null: all limits of the key, or all templates of the prefix.
  Status Remove(LimitKind kind, std::string_view key, const std::string_view* name,
                const Flags& flags, uint64_t* ticket);
  Status Reset(LimitKind kind, std::string_view key, const std::string_view* name,
               const Flags& flags, uint64_t* ticket);
  Status Remove(LimitKind kind, std::string_view key, const Flags& flags, uint64_t* ticket) {
    return Remove(kind, key, nullptr, flags, ticket);
  }
  Status Reset(LimitKind kind, std::string_view key, const Flags& flags, uint64_t* ticket) {
    return Reset(kind, key, nullptr, flags, ticket);
  }

  // `inline_config` may be null. On an error `decision` is left alone.
  Status Check(const Item& item, const Flags& flags, const LimitConfig* inline_config,
               Decision* decision);
  // What most checks are: the key has one limit, without a name, nobody is in the way, there is
  // room for what has to be recorded, and nobody waits for the disk. False if anything is
  // otherwise, or throws std::bad_alloc; then nothing has been decided, and CheckInFull does it
  // all. In plain_check.h.
  bool CheckPlain(const Item& item, const Flags& flags, Decision* decision);
  Status CheckInFull(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                     Decision* decision);
  Status Peek(const Item& item, const Flags& flags, const LimitConfig* inline_config,
              Decision* decision);
  // `decisions` has room for all; those up to and including `*denied` are filled.
  Status CheckAll(std::span<const Item> items, const Flags& flags, Decision* decisions,
                  size_t* denied);
  Status CheckAll(std::initializer_list<Item> items, const Flags& flags, Decision* decisions,
                  size_t* denied) {
    return CheckAll(std::span<const Item>(items.begin(), items.size()), flags, decisions, denied);
  }

  // Each item by itself and in order, with one wait for the disk. What has a code other than kOk
  // already is left out. Fails only for what concerns all of them.
  Status CheckMany(std::span<const Item> items, const Flags& flags, std::span<Answer> answers);

  // What these cost is said in listing.h.
  Status StatusOf(LimitKind kind, std::string_view key, std::string_view name, LimitStatus* status);
  Status StatusOf(LimitKind kind, std::string_view key, LimitStatus* status) {
    return StatusOf(kind, key, {}, status);
  }
  // The next limits in order of key, kind and name behind `after` (null: from the start).
  Status ListBehind(const Listing::Position* after, const Listing::Wanted& wanted,
                    std::vector<LimitStatus>* page);
  // Those that have no name; at most `capacity` with keys of at most `key_bytes` together.
  Status List(const std::string_view* after, LimitKind after_kind, const Flags& flags,
              size_t capacity, size_t key_bytes, std::vector<LimitStatus>* page);
  Status Top(TopBy by, const Flags& flags, size_t capacity, std::vector<LimitStatus>* top);
  Status GetInfo(Info* info);

  Status Flush();
  Status Wait(uint64_t ticket, uint64_t timeout_ns);
  Status Durable(uint64_t* ticket);
  Status Watch(int* fd);
  Status Unwatch(int fd);
  // no_wait: only starts it.
  Status Compact(const Flags& flags);
  Status History(const HistoryQuery& query, HistoryPage* page);

  // Of one that is read only: takes over what has been written since.
  Status Refresh();

  // Makes other calls return kClosed, waits until none is running and syncs.
  Status Shutdown();
  // Runs in a forked child: every later call fails.
  void AbandonInChild();

 private:
  using Shard = Keyspace::Shard;
  // Memory of one call, on its stack as long as that is enough.
  using Arena = std::pmr::monotonic_buffer_resource;
  // Keeps Shutdown waiting while a call runs outside of the shard locks.
  class Running;

  Engine(std::string directory, Options options);

  Status LockDirectory();
  Status OpenDirectory();
  Status StartLog(ResumePoint resume, const Covered& covered, uint64_t snapshot_bytes,
                  uint64_t segments);
  void BeforeSync() override;
  void OnSynced() override;
  void OnRotated() override;
  bool FreeDiskSpace() override;
  int64_t TimeFloor() override;
  int64_t EngineTimeAtOpen(const ClockPayload& last, int64_t last_record_ns) const;
  // For changes; the check path looks at one flag.
  Status CheckUsable() const {
    return unusable_.load(std::memory_order_relaxed) ? WhyUnusable() : Status();
  }
  Status WhyUnusable() const;
  Status CheckReadable() const;  // for reading
  Status LoadAnew() FLINT_REQUIRES(refresh_mutex_);
  void FollowClock() FLINT_REQUIRES(refresh_mutex_, keyspace_.all_shards());

  // Under the shard's lock.
  using ClaimsOfKey = BoundedArray<Claim, kMaxLimitsOfKey>;
  // How one of several limits of a key stands.
  struct Standing {
    std::string_view name;
    const LimitConfig* config = nullptr;
    State* state = nullptr;
    bool allows = false;
  };
  Status ResolveOther(Shard& shard, uint64_t hash, const Item& item, const Flags& flags,
                      const LimitConfig* inline_config, int64_t now_ns, Keyspace::Places* places,
                      ClaimsOfKey* claims) FLINT_REQUIRES(shard.mutex);
  Status FindApplying(Shard& shard, uint64_t hash, const Item& item, const Flags& flags,
                      const LimitConfig* inline_config, int64_t now_ns,
                      Keyspace::Applying* applying) FLINT_REQUIRES(shard.mutex);
  Status ChangeInline(Shard& shard, Counter* counter, const LimitConfig& config, const Flags& flags,
                      int64_t now_ns, uint64_t* ticket, AppendOutcome* result)
      FLINT_REQUIRES(shard.mutex);
  bool GoesOn(const Status& status, AppendOutcome result, uint64_t ticket,
              const Flags& flags) const;
  void NoteRunning(std::optional<Running>* running);
  Status Decide(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                Decision* decision);
  Status DecideAll(std::span<const Item> items, const Flags& flags, Decision* decisions,
                   size_t* denied);
  template <typename Call>
  Status Deciding(const Call& call, bool* undecided);
  Status CheckOrAnswer(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                       Decision* decision);
  Status CheckAllOrAnswer(std::span<const Item> items, const Flags& flags, Decision* decisions,
                          size_t* denied);
  Status AnswerUndecided(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                         Decision* decision);
  Status MakeRoom(const Flags& flags, Keyspace::Places* places);
  static bool CostFits(const LimitConfig& config, uint64_t cost) {
    return cost >= 1 && cost <= config.burst;
  }
  static Status WrongCost(const LimitConfig& config, std::string_view name, const Item& item);
  Status CheckLocked(Shard& shard, uint64_t hash, const Item& item, const Flags& flags,
                     const LimitConfig* inline_config, Keyspace::Places* places, Decision* decision,
                     AppendOutcome* result) FLINT_REQUIRES(shard.mutex);
  Status CheckCounter(Shard& shard, Counter* counter, uint64_t cost, const Flags& flags,
                      int64_t now_ns, Decision* decision, AppendOutcome* result)
      FLINT_REQUIRES(shard.mutex);
  template <typename A>
  AppendOutcome CheckAs(Shard& shard, Counter* counter, uint64_t cost, const Flags& flags,
                        int64_t now_ns, Decision* decision) FLINT_REQUIRES(shard.mutex);
  AppendOutcome CheckAnyAlgorithm(Shard& shard, Counter* counter, uint64_t cost, const Flags& flags,
                                  int64_t now_ns, Decision* decision) FLINT_REQUIRES(shard.mutex);
  Status CheckOther(Shard& shard, uint64_t hash, const Item& item, const Flags& flags,
                    const LimitConfig* inline_config, int64_t now_ns, Keyspace::Places* places,
                    Decision* decision, AppendOutcome* result) FLINT_REQUIRES(shard.mutex);
  static Status CheckFits(std::span<const Claim> claims);
  static size_t DecisiveOf(std::span<const Standing> limits, int64_t now_ns, uint64_t cost);
  void DescribeTogether(std::span<const Standing> limits, size_t decisive, const Flags& flags,
                        int64_t now_ns, uint64_t cost, Decision* decision);
  Status CheckTogether(std::span<const Claim> claims, const Flags& flags, int64_t now_ns,
                       Decision* decision, AppendOutcome* result);
  Status FlushWithMerged();
  void Describe(const LimitConfig& config, const State& state, int64_t now_ns, uint64_t cost,
                bool allowed, Decision* decision);
  template <typename A>
  void DescribeAs(const LimitConfig& config, typename A::View view, int64_t now_ns, uint64_t cost,
                  bool allowed, Decision* decision);

  struct ItemKeys;
  struct ItemClaims;
  class ItemLocks;
  static Status CheckDifferent(std::span<const Item> items, const ItemKeys& keys);
  Status ReadItems(std::span<const Item> items, ItemKeys* keys);
  int64_t NowInAll(const ItemKeys& keys);
  Status CheckAllLocked(std::span<const Item> items, const ItemKeys& keys, const Flags& flags,
                        Arena* arena, Keyspace::Places* places, Decision* decisions, size_t* denied,
                        AppendOutcome* result);
  Status TakePlacesForAll(std::span<const Item> items, const ItemKeys& keys, int64_t now_ns,
                          Keyspace::Places* places);
  Status ResolveAll(std::span<const Item> items, const ItemKeys& keys, const Flags& flags,
                    int64_t now_ns, Keyspace::Places* places, ItemClaims* claims);
  void DescribeItem(std::span<const Claim> claims, const Flags& flags, int64_t now_ns,
                    Decision* decision);

  // A change of a limit: `attempt` is made again for as long as the log has no room.
  template <typename Attempt>
  Status Change(const Flags& flags, uint64_t* ticket, const Attempt& attempt);
  Status ConfigureExact(const Limit& limit, const Flags& flags, uint64_t* ticket,
                        AppendOutcome* result);
  Status ConfigureTemplate(const Limit& limit, const Flags& flags, uint64_t* ticket,
                           AppendOutcome* result);
  // LIMIT_REMOVED or RESET.
  Status End(RecordType type, LimitKind kind, std::string_view key, const std::string_view* name,
             const Flags& flags, uint64_t* ticket);
  Status EndExact(RecordType type, std::string_view key, const std::string_view* name,
                  const Flags& flags, uint64_t* ticket, AppendOutcome* result);
  Status EndTemplate(RecordType type, std::string_view prefix, const std::string_view* name,
                     const Flags& flags, uint64_t* ticket, AppendOutcome* result);
  std::vector<Counter*> LimitsToEnd(Shard& shard, uint64_t hash, std::string_view key,
                                    const std::string_view* name, int64_t now_ns)
      FLINT_REQUIRES(shard.mutex);
  static Status TooMany(const Limit& limit);
  // In a running call: this waits, unless it must not.
  Status AfterAppend(AppendOutcome result, const Flags& flags);
  bool MustAwait(uint64_t ticket, const Flags& flags) const {
    return ticket != 0 && log_ != nullptr && options_.log.always && !flags.no_sync &&
           !flags.no_wait;
  }
  Status AwaitTicket(uint64_t ticket, const Flags& flags) {
    return MustAwait(ticket, flags) ? log_->WaitDurable(ticket, UINT64_MAX) : Status();
  }
  // A change is asked for without waiting, and can only be answered after a sync.
  bool WouldWaitForDisk(const Flags& flags) const;

  Status GetReadOnlyInfo(Info* info);
  Status CountFiles(Info* info) const;

  const std::string directory_;
  Options options_;
  EngineClock clock_;
  std::shared_ptr<Env> open_directory_;
  std::unique_ptr<DirectoryLock> lock_;
  Keyspace keyspace_;
  Listing listing_{&keyspace_, &clock_};
  Recorder recorder_;
  RoomMaker room_maker_;
  // Null in memory.
  std::unique_ptr<KeptSegments> kept_;
  std::unique_ptr<Compactor> compactor_;  // outlives the log's thread, which calls it
  std::unique_ptr<Log> log_;
  Info opened_;  // what opening found
  bool read_only_ = false;
  SystemMutex refresh_mutex_;
  std::unique_ptr<Reading> reading_ FLINT_GUARDED_BY(refresh_mutex_);

  std::atomic<bool> closed_{false};
  std::atomic<bool> forked_{false};
  std::atomic<bool> unusable_{false};  // closed, forked or read only
  // Usable, and a check that has been recorded is answered: nobody waits for the disk.
  std::atomic<bool> answers_at_once_{false};
  std::atomic<uint64_t> undecided_{0};

  SystemMutex running_mutex_;
  Condition<SystemMutex> running_changed_;
  uint64_t running_ FLINT_GUARDED_BY(running_mutex_) = 0;
};

}  // namespace flint
