#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
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
#include "engine/place.h"
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
class Engine final : public Place, private LogObserver {
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

  // An empty `directory` keeps everything in memory.
  static Status Open(const std::string& directory, Options options,
                     std::unique_ptr<Engine>* engine);
  // Reads a directory that another process may be writing, and only that: of the options the
  // environment and the clock count. What would change something returns kReadOnly.
  static Status OpenReadOnly(const std::string& directory, Options options,
                             std::unique_ptr<Engine>* engine);
  ~Engine() override;

  Status Configure(const Limit& limit, const Flags& flags, uint64_t* ticket);
  Status ConfigureMany(const std::vector<Limit>& limits, const Flags& flags,
                       uint64_t* ticket) override;
  Status Remove(LimitKind kind, std::string_view key, const std::string_view* name,
                const Flags& flags, uint64_t* ticket) override;
  Status Reset(LimitKind kind, std::string_view key, const std::string_view* name,
               const Flags& flags, uint64_t* ticket) override;
  Status Remove(LimitKind kind, std::string_view key, const Flags& flags, uint64_t* ticket) {
    return Remove(kind, key, nullptr, flags, ticket);
  }
  Status Reset(LimitKind kind, std::string_view key, const Flags& flags, uint64_t* ticket) {
    return Reset(kind, key, nullptr, flags, ticket);
  }

  Status Check(const Item& item, const Flags& flags, const LimitConfig* inline_config,
               Decision* decision) override;
  // What most checks are: the key has one limit, without a name, nobody is in the way, there is
  // room for what has to be recorded, and nobody waits for the disk. False if anything is
  // otherwise, or throws std::bad_alloc; then nothing has been decided, and CheckInFull does it
  // all. In plain_check.h.
  // `fill` is called with the decision, under the shard's lock: so that none has to be put together
  // in memory.
  template <typename Fill>
  bool CheckPlain(const Item& item, const Flags& flags, const Fill& fill);
  Status CheckInFull(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                     Decision* decision) override;
  Status Peek(const Item& item, const Flags& flags, const LimitConfig* inline_config,
              Decision* decision) override;
  Status CheckAll(std::span<const Item> items, const Flags& flags, Decision* decisions,
                  size_t* denied) override;
  Status CheckAll(std::initializer_list<Item> items, const Flags& flags, Decision* decisions,
                  size_t* denied) {
    return CheckAll(std::span<const Item>(items.begin(), items.size()), flags, decisions, denied);
  }
  Status CheckMany(std::span<const Item> items, const Flags& flags,
                   std::span<Answer> answers) override;

  Status StatusOf(LimitKind kind, std::string_view key, std::string_view name,
                  LimitStatus* status) override;
  Status StatusOf(LimitKind kind, std::string_view key, LimitStatus* status) {
    return StatusOf(kind, key, {}, status);
  }
  Status ListBehind(const Listing::Position* after, const Listing::Wanted& wanted,
                    std::vector<LimitStatus>* page) override;
  Status Top(TopBy by, const Flags& flags, size_t capacity, std::vector<LimitStatus>* top) override;
  Status GetInfo(Info* info) override;

  Status Flush() override;
  Status Wait(uint64_t ticket, uint64_t timeout_ns) override;
  Status Durable(uint64_t* ticket) override;
  Status Watch(int* fd) override;
  Status Unwatch(int fd) override;
  Status Compact(const Flags& flags) override;
  Status History(const HistoryQuery& query, HistoryPage* page) override;
  Status Refresh() override;
  Status Shutdown() override;
  // Runs in a forked child: every later call fails.
  void AbandonInChild();

 private:
  using Shard = Keyspace::Shard;
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
    return cost - 1 < config.burst;  // 0 becomes the largest there is
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
  int64_t UseAll(const ItemKeys& keys);
  Status CheckAllLocked(std::span<const Item> items, const ItemKeys& keys, const Flags& flags,
                        Keyspace::Places* places, Decision* decisions, size_t* denied,
                        AppendOutcome* result);
  Status TakePlacesForAll(std::span<const Item> items, const ItemKeys& keys, int64_t now_ns,
                          Keyspace::Places* places);
  Status ResolveAll(std::span<const Item> items, const ItemKeys& keys, const Flags& flags,
                    int64_t now_ns, Keyspace::Places* places, ItemClaims* claims);
  void DescribeItem(std::span<const Claim> claims, int64_t now_ns, Decision* decision);

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
  HistoryReader history_;
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
