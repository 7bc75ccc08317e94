#include "storage/log.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <utility>

#include "base/check_path.h"
#include "base/posix_file.h"
#include "storage/file_names.h"

namespace flint {
namespace {

// Kept free in the ring and the segment for the log's own records: seals, clocks, the footer.
constexpr uint64_t kRingReserveBytes = 2048;
constexpr uint64_t kSegmentReserveBytes = 1024;
constexpr size_t kMaxPendingSeals = 4;
constexpr int64_t kWallStepNs = 1'000'000'000;
constexpr int64_t kIdleSealAfterNs = 1'000'000'000;
constexpr int64_t kIdleSleepNs = 10'000'000'000;
constexpr int64_t kPrepareRetryNs = 100'000'000;

// Durations only; what is recorded comes from the engine's clock.
int64_t SteadyNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// What keeps a file from being made without telling anything of the disk's health.
bool IsPassing(const Status& status) {
  if (status.code() == Code::kDiskFull) return true;
  const int error = status.detail() == nullptr ? 0 : status.detail()->system_errno;
  return error == EMFILE || error == ENFILE || error == ENOMEM;
}

}  // namespace

Log::Log(Env* env, std::string directory, const Options& options, EngineClock* clock, Start start)
    : env_(env),
      directory_(std::move(directory)),
      options_(options),
      clock_(clock),
      ring_(std::move(start.ring)),
      next_id_(start.next_id),
      head_(start.position),
      sequence_(start.sequence),
      crc_(start.crc),
      active_(std::move(start.segment)),
      scratch_(kMaxRecordBytes),
      written_(start.position),
      durable_(start.position),
      digest_begin_(start.position) {
  if (options_.always) {
    active_->file->ExpectAppends(kSegmentHeaderBytes + head_ - active_->start);
  }
  unsynced_.push_back(active_);
  const ClockPair pair = clock_->Pair();
  wall_minus_boot_ns_ = pair.wall_ns - pair.boot_ns;
  sem_init(&wake_, 0, 0);
}

Log::~Log() {
  StopBackground();
  sem_destroy(&wake_);
  for (const int fd : watchers_) close(fd);
}

Status Log::Run() {
  return background_.Start(
      "flint-log", [this] { Background(); }, [this](const Status& status) { Poison(status); });
}

// ---- Appending ---------------------------------------------------------------------------------

FLINT_CHECK_PATH bool Log::FitsSegment(uint32_t length) const {
  const uint64_t data_bytes = active_->header.capacity - kSegmentHeaderBytes;
  return head_ + length + kSegmentReserveBytes <= active_->start + data_bytes;
}

FLINT_CHECK_PATH Log::Result Log::Reserve(uint32_t length) {
  if (closed_) [[unlikely]]
    return Result::kClosed;
  if (poisoned_.load(std::memory_order_relaxed)) [[unlikely]]
    return Result::kPoisoned;
  const uint64_t waiting = head_ - written_.load(std::memory_order_acquire);
  if (waiting + length + kRingReserveBytes > ring_->size()) [[unlikely]]
    return Result::kRingFull;
  if (FitsSegment(length)) [[likely]]
    return Result::kOk;
  if (prepared_ == nullptr) {
    prepare_wanted_ = true;
    return prepare_failed_ ? Result::kDiskFull : Result::kSegmentFull;
  }
  Switch();
  return Result::kOk;
}

// For what a caller waits with until it may be lost with the power. A denial has used nothing and
// is no safer in memory, so it is recorded in any case.
FLINT_CHECK_PATH Log::Result Log::ReserveBounded(uint32_t length) {
  if (events_ - events_synced_ >= options_.max_unsynced_events && head_ > durable()) [[unlikely]]
    return Result::kUnsynced;
  return Reserve(length);
}

// Touches memory only: the next segment's header and directory entry are on disk already.
void Log::Switch() {
  const std::shared_ptr<Segment> next = std::move(prepared_);
  prepared_ = nullptr;
  Emit(RecordType::kFooter, 0, 0,
       Encode(FooterPayload{next->header.generation, next->header.number}));
  StartPayload start;
  start.position = head_;
  start.previous_segment = active_->header.number;
  start.previous_generation = active_->header.generation;
  start.previous_crc = crc_;
  active_->end = head_;
  previous_ = active_;
  active_ = next;
  active_->start = head_;
  active_->first_sequence = sequence_ + 1;
  unsynced_.push_back(active_);
  crc_ = ChainStart(active_->header.generation);
  next_id_ = 1;
  prepare_wanted_ = true;  // and the background thread has the old segment to finish
  Emit(RecordType::kStart, 0, 0, Encode(start));
  EmitClock();
}

FLINT_CHECK_PATH void Log::Advance(uint32_t length, uint32_t crc) {
  head_ += length;
  ++sequence_;
  crc_ = crc;
}

void Log::Emit(RecordType type, uint8_t flags, uint32_t id, std::string_view payload) {
  const uint32_t crc = BuildRecord(scratch_.data(), crc_, active_->header.generation, sequence_ + 1,
                                   type, flags, id, payload);
  const uint32_t length = RecordBytes(payload.size());
  ring_->Put(head_, scratch_.data(), length);
  Advance(length, crc);
}

// For the log's own records, which may use the reserve but must leave room to switch segments.
bool Log::HasReserve(uint32_t length) const {
  const uint64_t data_bytes = active_->header.capacity - kSegmentHeaderBytes;
  const uint64_t waiting = head_ - written_.load(std::memory_order_acquire);
  return head_ + length + kFooterBytes <= active_->start + data_bytes &&
         waiting + length + kFooterBytes + kStartBytes + kClockBytes <= ring_->size();
}

// Seals that do not fit stay pending: they go into the next segment, or with the next write.
void Log::EmitPendingSeals(uint8_t flags) {
  while (!pending_seals_.empty() && HasReserve(kSealBytes)) {
    SealPayload seal = pending_seals_.front();
    pending_seals_.erase(pending_seals_.begin());
    seal.clock = clock_->Pair();
    wall_minus_boot_ns_ = seal.clock.wall_ns - seal.clock.boot_ns;
    Emit(RecordType::kSeal, pending_seals_.empty() ? flags : uint8_t{0}, 0, Encode(seal));
  }
}

void Log::EmitClockIfStepped() {
  if (ClockStepped() && HasReserve(kClockBytes)) EmitClock();
}

bool Log::ClockStepped() const {
  const ClockPair pair = clock_->Pair();
  return std::abs(pair.wall_ns - pair.boot_ns - wall_minus_boot_ns_) > kWallStepNs;
}

void Log::EmitClock() {
  const ClockPair pair = clock_->Pair();
  wall_minus_boot_ns_ = pair.wall_ns - pair.boot_ns;
  Emit(RecordType::kClock, 0, 0, Encode(ClockPayload{pair, clock_->Boot(), active_->floor_ns}));
}

FLINT_CHECK_PATH void Log::CountEvent(bool* wake) {
  ++events_;
  const uint64_t used = head_ - active_->start;
  if (background_idle_) {
    background_idle_ = false;
    *wake = true;
  } else if (!options_.always && events_ - events_at_wake_ >= options_.flush_every_events) {
    events_at_wake_ = events_;
    *wake = true;
  }
  if (prepared_ == nullptr && !prepare_wanted_ && used > active_->header.capacity / 4) {
    prepare_wanted_ = true;
    *wake = true;
  }
}

void Log::Wake() { sem_post(&wake_); }

// A record that is not in the ring's file does not outlive the process, so it does not count.
FLINT_CHECK_PATH Log::Result Log::Appended(bool wake) {
  if (wake) Wake();
  if (!ring_->failed()) [[likely]]
    return Result::kOk;
  Poison(RingFailed());
  return Result::kPoisoned;
}

Status Log::RingFailed() const {
  return Status(Code::kIo, directory_ + "/" + kRingName +
                               " was cut short or its disk failed while it was in use");
}

Log::Result Log::AppendAllow(const Binding& binding, int64_t time_ns, uint64_t cost,
                             uint64_t* ticket) {
  return AppendOne(RecordType::kAllow, binding, time_ns, cost, ticket);
}

// The check path: the record is built on the stack, and nothing is allocated.
Log::Result Log::AppendOne(RecordType type, const Binding& binding, int64_t time_ns, uint64_t cost,
                           uint64_t* ticket) {
  bool wake = false;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    const Result result =
        type == RecordType::kAllow ? ReserveBounded(kAllowBytes) : Reserve(kAllowBytes);
    if (result != Result::kOk) [[unlikely]]
      return result;
    const SegmentHeader& header = active_->header;
    if (binding.segment != static_cast<uint32_t>(header.number)) return Result::kNeedKey;
    const EventRecord record =
        BuildEvent(crc_, header.generation, sequence_ + 1, type, binding.id, time_ns, cost);
    ring_->Put(head_, record);
    Advance(kAllowBytes, record.crc);
    *ticket = head_;
    CountEvent(&wake);
  }
  return Appended(wake);
}

Log::Result Log::AppendDeny(const Binding& binding, const DenyPayload& deny, uint64_t* ticket) {
  if (deny.count == 1) {
    return AppendOne(RecordType::kDeny, binding, deny.time_ns, deny.cost, ticket);
  }
  const std::string payload = Encode(deny);
  bool wake = false;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    const Result result = Reserve(RecordBytes(payload.size()));
    if (result != Result::kOk) return result;
    if (binding.segment != static_cast<uint32_t>(active_->header.number)) return Result::kNeedKey;
    Emit(RecordType::kDeny, 0, binding.id, payload);
    *ticket = head_;
    CountEvent(&wake);
  }
  return Appended(wake);
}

Log::Result Log::AppendAllowAll(std::span<const Share> shares, int64_t time_ns, bool one_key,
                                uint64_t* ticket) {
  const auto count = static_cast<uint32_t>(shares.size());
  const size_t payload_bytes = AllowAllBytes(count);
  const uint32_t length = RecordBytes(payload_bytes);
  bool wake = false;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    const Result result = ReserveBounded(length);
    if (result != Result::kOk) return result;
    const SegmentHeader& header = active_->header;
    char* const record = scratch_.data();
    char* const payload = record + kRecordHeaderBytes;
    EncodeAllowAll(payload, time_ns, count);
    for (uint32_t i = 0; i < count; ++i) {
      const Binding& binding = *shares[i].binding;
      if (binding.segment != static_cast<uint32_t>(header.number)) return Result::kNeedKey;
      EncodeAllowAllItem(payload, i, {binding.id, shares[i].cost});
    }
    const uint32_t crc =
        FinishRecord(record, crc_, header.generation, sequence_ + 1, RecordType::kAllowAll,
                     one_key ? kFlagOneKey : 0, 0, payload_bytes);
    ring_->Put(head_, record, length);
    Advance(length, crc);
    *ticket = head_;
    CountEvent(&wake);
  }
  return Appended(wake);
}

Log::Result Log::AppendKey(const KeyPayload& key, Binding* binding) {
  const std::string payload = Encode(key);
  const std::lock_guard<Mutex> lock(mutex_);
  const Result result = Reserve(RecordBytes(payload.size()));
  if (result != Result::kOk) return result;
  Emit(RecordType::kKey, 0, next_id_, payload);
  binding->segment = static_cast<uint32_t>(active_->header.number);
  binding->id = next_id_++;
  return Result::kOk;
}

Log::Result Log::Append(RecordType type, std::string_view payload, uint64_t* ticket) {
  bool wake = false;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    const Result result = ReserveBounded(RecordBytes(payload.size()));
    if (result != Result::kOk) return result;
    Emit(type, 0, 0, payload);
    *ticket = head_;
    CountEvent(&wake);
  }
  return Appended(wake);
}

void Log::ExpectEvent() {
  bool wake = false;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    CountEvent(&wake);
  }
  if (wake) Wake();
}

// Somebody waits for what has been appended, but not here: the background thread syncs it now.
void Log::SyncSoon() {
  {
    const std::lock_guard<Mutex> lock(mutex_);
    if (sync_soon_) return;
    sync_soon_ = true;
  }
  Wake();
}

// ---- Draining ----------------------------------------------------------------------------------

// Leaves the role, which has been taken, also when there is no memory for what is done in it.
class Log::DrainRole {
 public:
  explicit DrainRole(Log* log) : log_(log) {}
  ~DrainRole() { log_->LeaveDrainRole(); }
  DrainRole(const DrainRole&) = delete;
  DrainRole& operator=(const DrainRole&) = delete;

 private:
  Log* const log_;
};

void Log::TakeDrainRole() {
  std::unique_lock<std::mutex> lock(wait_mutex_);
  drain_changed_.wait(lock, [this] { return !draining_; });
  draining_ = true;
}

void Log::LeaveDrainRole() {
  {
    const std::lock_guard<std::mutex> lock(wait_mutex_);
    draining_ = false;
  }
  drain_changed_.notify_all();
}

void Log::FinishFront() {
  rotated_.push_back(unsynced_.front());
  unsynced_.pop_front();
}

// Parts never cross a segment's end: a segment is synced to its end before the next one is
// written, so that a later segment on disk proves the earlier one.
Log::Part Log::NextPart() {
  const std::lock_guard<Mutex> lock(mutex_);
  EmitPendingSeals(0);
  EmitClockIfStepped();
  Part part;
  // A segment may have ended exactly where the last sync did.
  if (unsynced_.front()->end <= durable()) FinishFront();
  part.segment = unsynced_.front();
  part.begin = written_.load(std::memory_order_relaxed);
  part.end = std::min(head_, part.segment->end);
  part.events = part.end == head_ ? events_ : events_synced_;
  part.ends_segment = part.end == part.segment->end;
  return part;
}

Status Log::WritePart(const Part& part) {
  // What is read is what was appended, but what has been answered already may have been lost.
  if (ring_->failed()) return RingFailed();
  uint64_t at = part.begin;
  while (at < part.end) {
    const std::string_view bytes = ring_->Bytes(at, part.end - at);
    const uint64_t offset = kSegmentHeaderBytes + at - part.segment->start;
    FLINT_RETURN_IF_ERROR(part.segment->file->Write(offset, bytes.data(), bytes.size()));
    digest_.Update(bytes.data(), bytes.size());
    at += bytes.size();
    written_.store(at, std::memory_order_release);  // what the digest covers, whatever comes next
  }
  return Status();
}

bool Log::TakeSeal(const Part& part, SealPayload* seal) {
  if (part.end == digest_begin_) return false;
  seal->generation = part.segment->header.generation;
  seal->begin = digest_begin_;
  seal->end = part.end;
  seal->digest = digest_.Final();
  digest_.Reset();
  digest_begin_ = part.end;
  return true;
}

Status Log::WaitForRoom(Result why) {
  if (why == Result::kUnsynced) return SyncThrough(counts().appended);
  return why == Result::kSegmentFull ? WaitForSegment() : WaitForRing();
}

Status Log::WaitForRing() {
  {
    std::unique_lock<std::mutex> lock(wait_mutex_);
    if (!poison_.ok()) return poison_;
    if (draining_) {
      drain_changed_.wait(lock, [this] { return !draining_; });
      return poison_;
    }
    draining_ = true;
  }
  Part part;
  Status status;
  {
    const DrainRole role(this);
    part = NextPart();
    status = WritePart(part);
  }
  if (!status.ok()) {
    Poison(status);
    return status;
  }
  // Nothing to write but a segment that has ended: it must be synced before the next is written.
  return part.begin == part.end && part.ends_segment ? SyncThrough(part.end) : Status();
}

Status Log::WaitForSegment() {
  std::unique_lock<Mutex> lock(mutex_);
  const std::shared_ptr<Segment> full = active_;
  while (active_ == full && prepared_ == nullptr && !prepare_failed_ && !closed_ &&
         !poisoned_.load(std::memory_order_relaxed)) {
    prepare_wanted_ = true;
    Wake();
    segment_changed_.wait(lock);
  }
  lock.unlock();
  return poison();
}

// ---- Syncing -----------------------------------------------------------------------------------

Status Log::WaitDurable(uint64_t ticket, uint64_t timeout_ns) {
  if (durable() >= ticket) return Status();
  const bool endless = timeout_ns > uint64_t{1} << 62;
  const auto deadline = std::chrono::steady_clock::now() +
                        std::chrono::nanoseconds(endless ? 0 : static_cast<int64_t>(timeout_ns));
  std::unique_lock<std::mutex> lock(wait_mutex_);
  while (durable_.load(std::memory_order_relaxed) < ticket) {
    if (!poison_.ok()) return poison_;
    if (timeout_ns == 0) break;
    if (!syncing_) {
      syncing_ = true;
      lock.unlock();
      SyncOnce();
      lock.lock();
      syncing_ = false;
      durable_changed_.notify_all();
    } else if (endless) {
      durable_changed_.wait(lock);
    } else if (durable_changed_.wait_until(lock, deadline) == std::cv_status::timeout) {
      timeout_ns = 0;
    }
  }
  if (durable_.load(std::memory_order_relaxed) >= ticket) return Status();
  lock.unlock();
  SyncSoon();
  return Status(Code::kTimeout, CodeSentence(Code::kTimeout));
}

Status Log::Flush() {
  if (before_sync_) before_sync_();
  return SyncThrough(counts().appended);
}

void Log::SyncOnce() {
  try {
    if (before_sync_) before_sync_();
    const Status status = SyncPart();
    if (!status.ok()) Poison(status);
  } catch (const std::exception& error) {
    Poison(Status(Code::kInternal, std::string("the log could not be synced: ") + error.what()));
  }
}

Status Log::SyncPart() {
  TakeDrainRole();
  Part part;
  SealPayload seal;
  bool sealed = false;
  {
    const DrainRole role(this);
    part = NextPart();
    FLINT_RETURN_IF_ERROR(WritePart(part));
    sealed = TakeSeal(part, &seal);
  }
  if (part.end > durable()) {
    FLINT_RETURN_IF_ERROR(part.segment->file->SyncData());
    FinishSync(part, sealed, seal);
  }
  return Status();
}

void Log::FinishSync(const Part& part, bool sealed, const SealPayload& seal) {
  bool wake = false;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    events_synced_ = part.events;
    // What an idle seal's own sync made durable is that seal alone: sealing it would never end.
    if (sealed && events_ != events_at_idle_seal_) {
      if (pending_seals_.size() == kMaxPendingSeals) pending_seals_.erase(pending_seals_.begin());
      pending_seals_.push_back(seal);
    }
    if (part.segment == unsynced_.front() && part.segment->end == part.end) {
      FinishFront();
      wake = true;
    }
  }
  {
    const std::lock_guard<std::mutex> lock(wait_mutex_);
    durable_.store(part.end, std::memory_order_release);
    sync_count_.fetch_add(1, std::memory_order_relaxed);
    SignalWatchers();
  }
  durable_changed_.notify_all();
  if (wake) Wake();
}

void Log::Poison(const Status& status) {
  {
    const std::lock_guard<std::mutex> lock(wait_mutex_);
    if (poison_.ok()) {
      poison_ = Status(Code::kPoisoned,
                       "the log could not be written and the limiter stopped: " + status.message());
      poison_.WithErrnoOf(status);
    }
    poisoned_.store(true, std::memory_order_relaxed);
    SignalWatchers();
  }
  durable_changed_.notify_all();
  drain_changed_.notify_all();
  { const std::lock_guard<Mutex> lock(mutex_); }
  segment_changed_.notify_all();
}

// ---- Watching ----------------------------------------------------------------------------------

Status Log::Watch(int* fd) {
  *fd = AboveStandard(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (*fd < 0) return Status::FromErrno(errno, "cannot make an eventfd");
  const std::lock_guard<std::mutex> lock(wait_mutex_);
  watchers_.push_back(*fd);
  return Status();
}

Status Log::Unwatch(int fd) {
  const std::lock_guard<std::mutex> lock(wait_mutex_);
  if (std::erase(watchers_, fd) == 0) {
    return Status(Code::kInvalidArgument, "fd " + std::to_string(fd) + " is not being watched");
  }
  close(fd);
  return Status();
}

void Log::SignalWatchers() {
  for (const int fd : watchers_) {
    // Fails only when the counter is at its end, and then the descriptor is readable anyway.
    static_cast<void>(eventfd_write(fd, 1));
  }
}

Status Log::no_segment() {
  const std::lock_guard<Mutex> lock(mutex_);
  return prepare_status_;
}

Status Log::poison() {
  const std::lock_guard<std::mutex> lock(wait_mutex_);
  return poison_;
}

uint32_t Log::active_segment() {
  const std::lock_guard<Mutex> lock(mutex_);
  return static_cast<uint32_t>(active_->header.number);
}

Log::Counts Log::counts() {
  Counts counts;
  const std::lock_guard<Mutex> lock(mutex_);
  counts.sequence = sequence_;
  counts.appended = head_;
  counts.durable = durable();
  counts.syncs = sync_count();
  return counts;
}

// ---- The background thread ---------------------------------------------------------------------

void Log::Background() {
  while (!stop_.load(std::memory_order_relaxed)) {
    const Status status = Housekeep();
    if (!status.ok()) Poison(status);
    int64_t sleep_ns = 0;
    switch (NextDue(&sleep_ns)) {
      case Due::kIdleSeal:
        EmitIdleSeal();
        [[fallthrough]];
      case Due::kSync:
        // A failure is kept in poison_, where every caller finds it.
        if (Flush().ok()) {
          ForgetExpected();
          if (on_synced_) on_synced_();
          break;
        }
        [[fallthrough]];
      case Due::kNothing:
        Sleep(sleep_ns);
        break;
    }
  }
}

// Events that were expected and for which there was no room are not waited for any longer.
void Log::ForgetExpected() {
  const std::lock_guard<Mutex> lock(mutex_);
  if (head_ <= durable()) events_synced_ = events_;
}

Log::Due Log::NextDue(int64_t* sleep_ns) {
  *sleep_ns = kIdleSleepNs;
  if (poisoned_.load(std::memory_order_relaxed)) return Due::kNothing;
  const int64_t now_ns = SteadyNs();
  const std::lock_guard<Mutex> lock(mutex_);
  if (events_ != events_seen_) {
    events_seen_ = events_;
    events_seen_at_ns_ = now_ns;
  }
  const uint64_t unsynced_events = events_ - events_synced_;
  if (std::exchange(sync_soon_, false) && unsynced_events > 0) return Due::kSync;
  if (unsynced_events == 0) {
    sync_due_at_ns_ = 0;
    if (!pending_seals_.empty() || ClockStepped()) {
      const int64_t left_ns = events_seen_at_ns_ + kIdleSealAfterNs - now_ns;
      if (left_ns <= 0) {
        events_seen_at_ns_ = now_ns;  // if there is no room for it, not at once again
        return Due::kIdleSeal;
      }
      *sleep_ns = left_ns;
    }
    background_idle_ = true;
  } else {
    if (!options_.always && unsynced_events >= options_.flush_every_events) return Due::kSync;
    if (sync_due_at_ns_ == 0) {
      sync_due_at_ns_ = now_ns + static_cast<int64_t>(options_.flush_every_ns);
    }
    *sleep_ns = sync_due_at_ns_ - now_ns;
    if (*sleep_ns <= 0) {
      sync_due_at_ns_ = 0;
      return Due::kSync;
    }
  }
  if (prepare_wanted_) *sleep_ns = std::min(*sleep_ns, kPrepareRetryNs);
  return Due::kNothing;
}

void Log::Sleep(int64_t sleep_ns) {
  const int64_t until_ns = SteadyNs() + sleep_ns;
  timespec until;
  until.tv_sec = static_cast<time_t>(until_ns / 1'000'000'000);
  until.tv_nsec = static_cast<decltype(until.tv_nsec)>(until_ns % 1'000'000'000);
  if (sem_clockwait(&wake_, CLOCK_MONOTONIC, &until) != 0) return;
  while (sem_trywait(&wake_) == 0) {  // wakes that came together are one
  }
}

// A seal is normally written along with the next events; when none come it gets a sync of its own.
void Log::EmitIdleSeal() {
  const std::lock_guard<Mutex> lock(mutex_);
  EmitPendingSeals(0);
  EmitClockIfStepped();
  events_at_idle_seal_ = events_;
}

Status Log::Housekeep() {
  FLINT_RETURN_IF_ERROR(FinishRotated());
  FLINT_RETURN_IF_ERROR(NameActive());
  return PrepareNext();
}

Status Log::FinishRotated() {
  std::vector<std::shared_ptr<Segment>> rotated;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    rotated.swap(rotated_);
  }
  for (const std::shared_ptr<Segment>& segment : rotated) {
    const uint64_t used = kSegmentHeaderBytes + segment->end - segment->start;
    FLINT_RETURN_IF_ERROR(segment->file->Truncate(used));
    FLINT_RETURN_IF_ERROR(segment->file->Sync());
  }
  return Status();
}

// Linking before renaming leaves no moment without a flint.aof, which an older Flint would take
// for an empty directory.
Status Log::NameActive() {
  std::shared_ptr<Segment> active;
  std::shared_ptr<Segment> previous;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    if (active_->name != kNextName) return Status();
    active = active_;
    previous = previous_;
  }
  const std::string log_path = directory_ + "/" + kLogName;
  const std::string rotated_name = RotatedSegmentName(previous->first_sequence);
  FLINT_RETURN_IF_ERROR(env_->Link(log_path, directory_ + "/" + rotated_name));
  FLINT_RETURN_IF_ERROR(env_->Rename(directory_ + "/" + kNextName, log_path));
  FLINT_RETURN_IF_ERROR(env_->SyncDirectory(directory_));
  {
    const std::lock_guard<Mutex> lock(mutex_);
    previous->name = rotated_name;
    active->name = kLogName;
  }
  segment_changed_.notify_all();
  if (on_rotated_) on_rotated_();
  return Status();
}

Status Log::PrepareNext() {
  SegmentHeader header;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    if (!prepare_wanted_ || prepared_ != nullptr || closed_) return Status();
    if (active_->name == kNextName) return Status();  // just switched to: it must be named first
    if (prepare_failed_ && SteadyNs() < prepare_retry_at_ns_) return Status();
    header = active_->header;
  }
  ++header.number;
  header.capacity = std::min(header.capacity * 2, options_.segment_bytes);
  FLINT_RETURN_IF_ERROR(env_->Random(&header.generation, sizeof(header.generation)));
  header.generation |= 1;
  auto next = std::make_shared<Segment>();
  next->name = kNextName;
  next->header = header;
  if (time_floor_) next->floor_ns = time_floor_();
  Status status;
  do {
    status = CreateSegment(env_, directory_, kNextName, header, options_.always, &next->file);
  } while (status.code() == Code::kDiskFull && make_room_ && make_room_());
  if (!status.ok() && !IsPassing(status)) return status;
  if (status.ok() && options_.always) next->file->ExpectAppends(kSegmentHeaderBytes);
  {
    const std::lock_guard<Mutex> lock(mutex_);
    prepare_failed_ = !status.ok();
    prepare_status_ = status;
    prepare_retry_at_ns_ = SteadyNs() + kPrepareRetryNs;
    if (status.ok()) {
      prepared_ = std::move(next);
      prepare_wanted_ = false;
    }
  }
  segment_changed_.notify_all();
  return Status();
}

void Log::StopBackground() {
  stop_.store(true, std::memory_order_relaxed);
  Wake();
  background_.Join();
}

// ---- Rotating and closing ----------------------------------------------------------------------

Status Log::Rotate(uint64_t* ended_segment) {
  std::unique_lock<Mutex> lock(mutex_);
  prepare_failed_ = false;
  while (prepared_ == nullptr) {
    if (closed_) return Status::Closed();
    if (prepare_failed_) return prepare_status_;
    if (poisoned_.load(std::memory_order_relaxed)) break;
    prepare_wanted_ = true;
    Wake();
    segment_changed_.wait(lock);
  }
  if (poisoned_.load(std::memory_order_relaxed)) {
    lock.unlock();
    return poison();
  }
  while (head_ - written_.load(std::memory_order_acquire) + kRingReserveBytes > ring_->size()) {
    lock.unlock();
    FLINT_RETURN_IF_ERROR(WaitForRing());
    lock.lock();
    if (prepared_ == nullptr) break;  // an append switched meanwhile
  }
  if (closed_) return Status::Closed();
  if (prepared_ != nullptr) Switch();
  const std::shared_ptr<Segment> old = previous_;
  lock.unlock();
  Wake();
  // With the next segment's START: without it, what comes before may not be removed.
  FLINT_RETURN_IF_ERROR(SyncThrough(old->end + kStartBytes));
  lock.lock();
  segment_changed_.wait(lock, [&] {
    return (old->name != kLogName && old->name != kNextName) || closed_ ||
           poisoned_.load(std::memory_order_relaxed);
  });
  if (closed_) return Status::Closed();
  *ended_segment = old->header.number;
  lock.unlock();
  return poison();
}

void Log::StopAppending() {
  {
    const std::lock_guard<Mutex> lock(mutex_);
    closed_ = true;
  }
  segment_changed_.notify_all();
}

Status Log::Close() {
  StopAppending();
  StopBackground();
  {
    const std::lock_guard<std::mutex> lock(wait_mutex_);
    SignalWatchers();
  }
  FLINT_RETURN_IF_ERROR(SyncThrough(counts().appended));
  FLINT_RETURN_IF_ERROR(FinishRotated());
  FLINT_RETURN_IF_ERROR(NameActive());
  std::shared_ptr<Segment> spare;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    spare.swap(prepared_);
  }
  if (spare != nullptr) FLINT_RETURN_IF_ERROR(env_->Remove(directory_ + "/" + kNextName));
  return SealCleanClose();
}

// The background thread has ended and appends fail: from here on this thread is alone.
Status Log::SealCleanClose() {
  {
    const std::lock_guard<Mutex> lock(mutex_);
    if (pending_seals_.empty()) {
      SealPayload nothing;
      nothing.generation = active_->header.generation;
      nothing.begin = nothing.end = head_;
      nothing.digest = Sha256Of(nullptr, 0);
      pending_seals_.push_back(nothing);
    }
    EmitPendingSeals(kFlagCleanClose);
    events_at_idle_seal_ = events_;
  }
  FLINT_RETURN_IF_ERROR(SyncThrough(counts().appended));
  const uint64_t used = kSegmentHeaderBytes + head_ - active_->start;
  FLINT_RETURN_IF_ERROR(active_->file->Truncate(used));
  return active_->file->Sync();
}

}  // namespace flint
