#include "storage/log_appender.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/check_path.h"
#include "storage/file_names.h"

namespace flint {
namespace {

// Kept free in the ring and the segment for the log's own records: seals, clocks, the footer.
constexpr uint64_t kRingReserveBytes = 2048;
constexpr uint64_t kSegmentReserveBytes = 1024;
constexpr size_t kMaxPendingSeals = 4;
constexpr int64_t kWallStepNs = 1'000'000'000;

}  // namespace

LogAppender::LogAppender(const LogOptions& options, EngineClock* clock, Wakeup* background,
                         ResumePoint resume)
    : options_(options),
      clock_(clock),
      background_(background),
      ring_(std::move(resume.ring)),
      next_id_(resume.next_id),
      head_(resume.position),
      sequence_(resume.sequence),
      crc_(resume.crc),
      active_(std::move(resume.segment)),
      synced_(resume.position),
      scratch_(kMaxRecordBytes),
      written_(resume.position) {
  if (options_.always) {
    active_->file->ExpectAppends(kSegmentHeaderBytes + head_ - active_->start);
  }
  unsynced_.reserve(2);
  rotated_.reserve(2);
  pending_seals_.reserve(kMaxPendingSeals);
  unsynced_.push_back(active_);
  const ClockPair pair = clock_->Pair();
  wall_minus_boot_ns_ = pair.wall_ns - pair.boot_ns;
  GoOnIn(active_->header);
}

// ---- Room --------------------------------------------------------------------------------------

uint64_t LogAppender::SegmentEnd() const {
  const uint64_t data_bytes = active_->header.capacity - kSegmentHeaderBytes;
  return active_->start + data_bytes - kSegmentReserveBytes;
}

uint64_t LogAppender::RingEnd() const {
  return written_.load(std::memory_order_acquire) + ring_->size() - kRingReserveBytes;
}

void LogAppender::LookAhead() {
  uint64_t until = std::min(SegmentEnd(), RingEnd());
  if (prepared_ == nullptr && !prepare_wanted_) until = std::min(until, QuarterEnd());
  // Of events that need no more than to be counted; no record of one is shorter than an ALLOW.
  const uint64_t unsynced = events_ - events_synced_;
  uint64_t events = options_.max_unsynced_events - std::min(options_.max_unsynced_events, unsynced);
  if (!options_.always) {
    const uint64_t since_wake = events_ - events_at_wake_ + 1;
    events = std::min(
        events, options_.flush_every_events - std::min(options_.flush_every_events, since_wake));
  }
  until = std::min(until, head_ + kAllowBytes * std::min(events, ring_->size()));
  plain_until_.store(closed_ || background_idle_ ? 0 : until);
  // Who has just found that it failed may have set the 0 before.
  if (failed_.load()) plain_until_.store(0);
}

AppendOutcome LogAppender::Reserve(uint32_t length) {
  if (closed_) [[unlikely]]
    return AppendOutcome::kClosed;
  if (failed_.load(std::memory_order_relaxed)) [[unlikely]]
    return AppendOutcome::kPoisoned;
  if (head_ + length > RingEnd()) [[unlikely]]
    return AppendOutcome::kRingFull;
  if (head_ + length <= SegmentEnd()) [[likely]]
    return AppendOutcome::kOk;
  if (prepared_ == nullptr) {
    prepare_wanted_ = true;
    return supply_failed_ ? AppendOutcome::kDiskFull : AppendOutcome::kSegmentFull;
  }
  if (head_ - covered_ >= options_.max_replay_bytes) return AppendOutcome::kReplayFull;
  SwitchNow();
  return AppendOutcome::kOk;
}

// For what a caller waits with until it may be lost with the power. A denial has used nothing and
// is no safer in memory, so it is recorded in any case.
AppendOutcome LogAppender::ReserveBounded(uint32_t length) {
  if (events_ - events_synced_ >= options_.max_unsynced_events && head_ > synced_) [[unlikely]]
    return AppendOutcome::kUnsynced;
  return Reserve(length);
}

// Touches memory only: the next segment's header and directory entry are on disk already.
void LogAppender::SwitchNow() {
  const std::shared_ptr<LogSegment> next = std::move(prepared_);
  prepared_ = nullptr;
  FLINT_ASSERT(next->header.number == active_->header.number + 1 && next->header.generation != 0);
  FLINT_ASSERT(active_->end == UINT64_MAX && unsynced_.back() == active_);
  FLINT_ASSERT(unsynced_.size() < unsynced_.capacity());
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
  GoOnIn(active_->header);
  prepare_wanted_ = true;  // and the background thread has the old segment to finish
  Emit(RecordType::kStart, 0, 0, Encode(start));
  EmitClock();
}

// ---- Records -----------------------------------------------------------------------------------

void LogAppender::GoOnIn(const SegmentHeader& header) {
  FLINT_ASSERT(header.number > segment_.load() || segment_.load() == 0);
  segment_.store(static_cast<uint32_t>(header.number), std::memory_order_relaxed);
  generation_ = static_cast<uint32_t>(header.generation);
  plain_until_.store(0);
}

void LogAppender::Emit(RecordType type, uint8_t flags, uint32_t id, std::string_view payload) {
  if (!payload.empty())
    std::memcpy(scratch_.data() + kRecordHeaderBytes, payload.data(), payload.size());
  EmitScratch(type, flags, id, payload.size());
}

void LogAppender::EmitScratch(RecordType type, uint8_t flags, uint32_t id, size_t payload_bytes) {
  const uint32_t crc = FinishRecord(scratch_.data(), crc_, generation_, sequence_ + 1, type, flags,
                                    id, payload_bytes);
  const uint32_t length = RecordBytes(payload_bytes);
  ring_->Put(head_, scratch_.data(), length);
  Advance(length, crc);
}

// For the log's own records, which may use the reserve but must leave room to switch segments.
bool LogAppender::HasReserve(uint32_t length) const {
  const uint64_t data_bytes = active_->header.capacity - kSegmentHeaderBytes;
  const uint64_t waiting = head_ - written_.load(std::memory_order_acquire);
  return head_ + length + kFooterBytes <= active_->start + data_bytes &&
         waiting + length + kFooterBytes + kStartBytes + kClockBytes <= ring_->size();
}

// Seals that do not fit stay pending: they go into the next segment, or with the next write.
void LogAppender::EmitPendingSeals(uint8_t flags) {
  while (!pending_seals_.empty() && HasReserve(kSealBytes)) {
    SealPayload seal = pending_seals_.front();
    FLINT_ASSERT(seal.begin <= seal.end && seal.end <= synced_);
    pending_seals_.erase(pending_seals_.begin());
    seal.clock = clock_->Pair();
    wall_minus_boot_ns_ = seal.clock.wall_ns - seal.clock.boot_ns;
    Emit(RecordType::kSeal, pending_seals_.empty() ? flags : uint8_t{0}, 0, Encode(seal));
  }
}

void LogAppender::EmitClockIfStepped() {
  if (ClockStepped() && HasReserve(kClockBytes)) EmitClock();
}

bool LogAppender::ClockStepped() const {
  const ClockPair pair = clock_->Pair();
  return std::abs(pair.wall_ns - pair.boot_ns - wall_minus_boot_ns_) > kWallStepNs;
}

void LogAppender::EmitClock() {
  const ClockPair pair = clock_->Pair();
  wall_minus_boot_ns_ = pair.wall_ns - pair.boot_ns;
  Emit(RecordType::kClock, 0, 0, Encode(ClockPayload{pair, clock_->Boot(), active_->floor_ns}));
}

void LogAppender::CountEvent(bool* wake) {
  FLINT_ASSERT(!closed_);
  ++events_;
  if (background_idle_) {
    background_idle_ = false;
    *wake = true;
  } else if (!options_.always && events_ - events_at_wake_ >= options_.flush_every_events) {
    events_at_wake_ = events_;
    *wake = true;
  }
  if (prepared_ == nullptr && !prepare_wanted_ && head_ > QuarterEnd()) {
    prepare_wanted_ = true;
    *wake = true;
  }
  LookAhead();
}

AppendOutcome LogAppender::Appended(bool wake) {
  if (wake) background_->Wake();
  return ring_->failed() ? NoteRingFailed() : AppendOutcome::kOk;
}

// A record that is not in the ring's file does not outlive the process, so it does not count.
AppendOutcome LogAppender::NoteRingFailed() {
  Fail();
  background_->Wake();  // to tell all who wait
  return AppendOutcome::kPoisoned;
}

AppendOutcome LogAppender::AppendOne(RecordType type, const KeyBinding& binding, int64_t time_ns,
                                     uint64_t cost, bool no_wait, uint64_t* ticket) {
  bool wake = false;
  {
    if (binding.segment != active_segment()) return AppendOutcome::kNeedKey;  // and no lock for it
    if (!Lock(no_wait)) return AppendOutcome::kBusy;
    const MutexLock lock(mutex_, std::adopt_lock);
    const AppendOutcome result =
        type == RecordType::kAllow ? ReserveBounded(kAllowBytes) : Reserve(kAllowBytes);
    if (result != AppendOutcome::kOk) [[unlikely]]
      return result;
    if (binding.segment != active_segment()) return AppendOutcome::kNeedKey;
    *ticket = PutEvent(type, binding.id, time_ns, cost);
    CountEvent(&wake);
  }
  return Appended(wake);
}

AppendOutcome LogAppender::AppendDeny(const KeyBinding& binding, const Denials& deny, bool no_wait,
                                      uint64_t* ticket) {
  if (deny.count == 1) {
    return AppendOne(RecordType::kDeny, binding, deny.time_ns, deny.cost, no_wait, ticket);
  }
  const std::string payload = Encode(deny);
  bool wake = false;
  {
    if (!Lock(no_wait)) return AppendOutcome::kBusy;
    const MutexLock lock(mutex_, std::adopt_lock);
    const AppendOutcome result = Reserve(RecordBytes(payload.size()));
    if (result != AppendOutcome::kOk) return result;
    if (binding.segment != active_segment()) return AppendOutcome::kNeedKey;
    Emit(RecordType::kDeny, 0, binding.id, payload);
    *ticket = head_;
    CountEvent(&wake);
  }
  return Appended(wake);
}

AppendOutcome LogAppender::AppendAllowAll(std::span<const KeyShare> shares, int64_t time_ns,
                                          bool one_key, bool no_wait, uint64_t* ticket) {
  const auto count = static_cast<uint32_t>(shares.size());
  const size_t payload_bytes = AllowAllBytes(count);
  const uint32_t length = RecordBytes(payload_bytes);
  bool wake = false;
  {
    if (!Lock(no_wait)) return AppendOutcome::kBusy;
    const MutexLock lock(mutex_, std::adopt_lock);
    const AppendOutcome result = ReserveBounded(length);
    if (result != AppendOutcome::kOk) return result;
    char* const payload = scratch_.data() + kRecordHeaderBytes;
    EncodeAllowAll(payload, time_ns, count);
    for (uint32_t i = 0; i < count; ++i) {
      const KeyBinding& binding = *shares[i].binding;
      if (binding.segment != active_segment()) return AppendOutcome::kNeedKey;
      EncodeAllowAllItem(payload, i, {binding.id, shares[i].cost});
    }
    EmitScratch(RecordType::kAllowAll, one_key ? kFlagOneKey : uint8_t{0}, 0, payload_bytes);
    *ticket = head_;
    CountEvent(&wake);
  }
  return Appended(wake);
}

AppendOutcome LogAppender::AppendKey(const KeyPayload& key, uint32_t* keyed_in, bool no_wait,
                                     KeyBinding* binding) {
  if (!Lock(no_wait)) return AppendOutcome::kBusy;
  const MutexLock lock(mutex_, std::adopt_lock);
  const AppendOutcome result = Reserve(RecordBytes(EncodedBytes(key)));
  if (result == AppendOutcome::kOk) EmitKey(key, keyed_in, binding);
  return result;
}

void LogAppender::EmitKey(const KeyPayload& key, uint32_t* keyed_in, KeyBinding* binding) {
  FLINT_ASSERT(next_id_ < UINT32_MAX && binding->segment != active_segment());
  EncodeTo(scratch_.data() + kRecordHeaderBytes, key);
  EmitScratch(RecordType::kKey, 0, next_id_, EncodedBytes(key));
  *binding = {active_segment(), next_id_++};
  if (keyed_in != nullptr) *keyed_in = active_segment();
}

AppendOutcome LogAppender::AppendFirstAllow(const KeyPayload& key, uint32_t* keyed_in,
                                            int64_t time_ns, uint64_t cost, bool no_wait,
                                            KeyBinding* binding, uint64_t* ticket) {
  bool wake = false;
  {
    if (!Lock(no_wait)) return AppendOutcome::kBusy;
    const MutexLock lock(mutex_, std::adopt_lock);
    const uint32_t length = RecordBytes(EncodedBytes(key)) + kAllowBytes;
    AppendOutcome result = ReserveBounded(length);
    // Again, as going on in the next segment takes room for the log's own records.
    if (result == AppendOutcome::kOk) result = ReserveBounded(length);
    if (result != AppendOutcome::kOk) return result;
    if (keyed_in != nullptr && *keyed_in == active_segment()) {
      FLINT_ASSERT(next_id_ < UINT32_MAX && binding->segment != active_segment());
      const KeyAllowPayload first{time_ns, cost, key.prefix_bytes, key.key};
      EncodeTo(scratch_.data() + kRecordHeaderBytes, first);
      EmitScratch(RecordType::kKeyAllow, 0, next_id_, EncodedBytes(first));
      *binding = {active_segment(), next_id_++};
      *ticket = head_;
    } else {
      EmitKey(key, keyed_in, binding);
      *ticket = PutEvent(RecordType::kAllow, binding->id, time_ns, cost);
    }
    CountEvent(&wake);
  }
  return Appended(wake);
}

AppendOutcome LogAppender::Append(RecordType type, std::string_view payload, bool no_wait,
                                  uint64_t* ticket) {
  bool wake = false;
  {
    if (!Lock(no_wait)) return AppendOutcome::kBusy;
    const MutexLock lock(mutex_, std::adopt_lock);
    const AppendOutcome result = ReserveBounded(RecordBytes(payload.size()));
    if (result != AppendOutcome::kOk) return result;
    Emit(type, 0, 0, payload);
    *ticket = head_;
    CountEvent(&wake);
  }
  return Appended(wake);
}

void LogAppender::ExpectEvent() {
  if (!event_expected_.exchange(true)) background_->Wake();
}

void LogAppender::SyncSoon() {
  if (!sync_soon_.exchange(true)) background_->Wake();
}

void LogAppender::Close() {
  {
    const MutexLock lock(mutex_);
    closed_ = true;
    plain_until_.store(0);
  }
  segment_changed_.NotifyAll();
}

void LogAppender::Fail() {
  RefuseAppends();
  // Whoever waits has looked at it before, or will look again.
  { const MutexLock lock(mutex_); }
  segment_changed_.NotifyAll();
}

uint64_t LogAppender::head() {
  const MutexLock lock(mutex_);
  return head_;
}

void LogAppender::Count(uint64_t* sequence, uint64_t* head, uint64_t* unsynced_events) {
  const MutexLock lock(mutex_);
  *sequence = sequence_;
  *head = head_;
  *unsynced_events = events_ - events_synced_;
}

// ---- Draining and syncing ----------------------------------------------------------------------

void LogAppender::FinishFront() {
  FLINT_ASSERT(unsynced_.size() > 1 && unsynced_.front()->end == synced_);
  FLINT_ASSERT(rotated_.size() < rotated_.capacity());
  rotated_.push_back(std::move(unsynced_.front()));
  unsynced_.erase(unsynced_.begin());
}

// Ranges never cross a segment's end: a segment is synced to its end before the next one is
// written, so that a later segment on disk proves the earlier one.
DrainRange LogAppender::NextRange() {
  const MutexLock lock(mutex_);
  EmitPendingSeals(0);
  EmitClockIfStepped();
  DrainRange range;
  // A segment may have ended exactly where the last sync did.
  if (unsynced_.front()->end <= synced_) FinishFront();
  range.segment = unsynced_.front();
  range.begin = written_.load(std::memory_order_relaxed);
  range.end = std::min(head_, range.segment->end);
  range.events = range.end == head_ ? events_ : events_synced_;
  range.ends_segment = range.end == range.segment->end;
  FLINT_ASSERT(range.begin >= range.segment->start && range.begin <= range.end);
  AssertInOrder();
  return range;
}

bool LogAppender::Synced(const DrainRange& range, const SealPayload* seal) {
  const MutexLock lock(mutex_);
  FLINT_ASSERT(range.end > synced_ && range.end <= written_.load());
  FLINT_ASSERT(range.events >= events_synced_ && range.segment == unsynced_.front());
  synced_ = range.end;
  events_synced_ = range.events;
  AssertInOrder();
  // What an idle seal's own sync made durable is that seal alone: sealing it would never end.
  if (seal != nullptr && events_ != events_at_idle_seal_) {
    if (pending_seals_.size() == kMaxPendingSeals) pending_seals_.erase(pending_seals_.begin());
    pending_seals_.push_back(*seal);
  }
  if (range.segment != unsynced_.front() || range.segment->end != range.end) return false;
  FinishFront();
  return true;
}

// ---- Segments ----------------------------------------------------------------------------------

bool LogAppender::WantsSegment(SegmentHeader* last) {
  const MutexLock lock(mutex_);
  if (!prepare_wanted_ || prepared_ != nullptr || closed_) return false;
  if (active_->name == kNextName) return false;  // just switched to: it must be named first
  *last = active_->header;
  return true;
}

void LogAppender::TakePrepared(std::shared_ptr<LogSegment> next) {
  {
    const MutexLock lock(mutex_);
    FLINT_ASSERT(prepared_ == nullptr && prepare_wanted_);
    FLINT_ASSERT(next->header.number == active_->header.number + 1 && next->name == kNextName);
    unsynced_.reserve(unsynced_.size() + 1);
    rotated_.reserve(rotated_.size() + unsynced_.size() + 1);
    supply_failed_ = false;
    prepared_ = std::move(next);
    prepare_wanted_ = false;
  }
  segment_changed_.NotifyAll();
}

void LogAppender::SupplyFailed(const Status& status) {
  FLINT_ASSERT(!status.ok());
  {
    // Before any append learns of it.
    const MutexLock lock(supply_mutex_);
    supply_status_ = status;
  }
  {
    const MutexLock lock(mutex_);
    supply_failed_ = true;
  }
  segment_changed_.NotifyAll();
}

Status LogAppender::no_segment() {
  const MutexLock lock(supply_mutex_);
  return supply_status_;
}

std::shared_ptr<LogSegment> LogAppender::DropPrepared() {
  const MutexLock lock(mutex_);
  FLINT_ASSERT(closed_ && active_->name == kLogName);
  plain_until_.store(0);
  return std::exchange(prepared_, nullptr);
}

void LogAppender::TakeRotated(std::vector<std::shared_ptr<LogSegment>>* rotated) {
  const MutexLock lock(mutex_);
  rotated->insert(rotated->end(), rotated_.begin(), rotated_.end());
  rotated_.clear();
}

bool LogAppender::MustName(std::shared_ptr<LogSegment>* active,
                           std::shared_ptr<LogSegment>* previous) {
  const MutexLock lock(mutex_);
  if (active_->name != kNextName) return false;
  *active = active_;
  *previous = previous_;
  return true;
}

void LogAppender::Named(LogSegment* active, LogSegment* previous, std::string previous_name) {
  {
    const MutexLock lock(mutex_);
    FLINT_ASSERT(active->name == kNextName && previous->name == kLogName);
    FLINT_ASSERT(previous->end == active->start && !previous_name.empty());
    previous->name = std::move(previous_name);
    active->name = kLogName;
  }
  segment_changed_.NotifyAll();
}

void LogAppender::AwaitSegment() {
  const MutexLock lock(mutex_);
  const std::shared_ptr<LogSegment> full = active_;
  while (active_ == full && prepared_ == nullptr && !supply_failed_ && !closed_ && !failed()) {
    prepare_wanted_ = true;
    background_->Wake();
    segment_changed_.Wait(mutex_);
  }
}

Status LogAppender::AwaitPrepared() {
  const MutexLock lock(mutex_);
  supply_failed_ = false;
  while (prepared_ == nullptr && !failed()) {
    if (closed_) return Status::Closed();
    if (supply_failed_) return no_segment();
    prepare_wanted_ = true;
    background_->Wake();
    segment_changed_.Wait(mutex_);
  }
  return Status();
}

AppendOutcome LogAppender::Switch(std::shared_ptr<LogSegment>* old) {
  const MutexLock lock(mutex_);
  if (closed_) return AppendOutcome::kClosed;
  if (failed()) return AppendOutcome::kPoisoned;
  // Without a prepared one, an append has switched meanwhile.
  if (prepared_ != nullptr) {
    const uint64_t waiting = head_ - written_.load(std::memory_order_acquire);
    if (waiting + kRingReserveBytes > ring_->size()) return AppendOutcome::kRingFull;
    SwitchNow();
  }
  *old = previous_;
  return AppendOutcome::kOk;
}

void LogAppender::set_covered(uint64_t position) {
  const MutexLock lock(mutex_);
  FLINT_ASSERT(position >= covered_ && position <= head_);
  covered_ = position;
}

EndedSegments LogAppender::ended() {
  const MutexLock lock(mutex_);
  const LogSegment& next = *(active_->name == kNextName ? previous_ : active_);
  return {next.header.number - 1, next.start, next.floor_ns};
}

Status LogAppender::AwaitNamed(const LogSegment& old) {
  const MutexLock lock(mutex_);
  const auto named = [&] { return old.name != kLogName && old.name != kNextName; };
  while (!named() && !supply_failed_ && !closed_ && !failed()) segment_changed_.Wait(mutex_);
  if (closed_) return Status::Closed();
  return named() || failed() ? Status() : no_segment();
}

// ---- The background thread ---------------------------------------------------------------------

LogAppender::Backlog LogAppender::TakeBacklog() {
  const MutexLock lock(mutex_);
  if (event_expected_.exchange(false)) {
    ++events_;
    plain_until_.store(0);
  }
  AssertInOrder();
  Backlog backlog;
  backlog.events = events_;
  backlog.unsynced_events = events_ - events_synced_;
  backlog.sync_soon = sync_soon_.exchange(false);
  backlog.wants_seal = !pending_seals_.empty() || ClockStepped();
  backlog.wants_segment = prepare_wanted_;
  if (backlog.unsynced_events == 0) {
    background_idle_ = true;
    plain_until_.store(0);
  }
  return backlog;
}

void LogAppender::ForgetExpected() {
  const MutexLock lock(mutex_);
  if (head_ <= synced_) events_synced_ = events_;
  AssertInOrder();
}

void LogAppender::EmitIdleSeal() {
  const MutexLock lock(mutex_);
  EmitPendingSeals(0);
  EmitClockIfStepped();
  events_at_idle_seal_ = events_;
}

void LogAppender::EmitCleanClose() {
  const MutexLock lock(mutex_);
  FLINT_ASSERT(closed_ && head_ == synced_);
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

std::shared_ptr<LogSegment> LogAppender::LastSegment(uint64_t* used) {
  const MutexLock lock(mutex_);
  FLINT_ASSERT(closed_ && head_ == synced_ && active_->end == UINT64_MAX);
  *used = kSegmentHeaderBytes + head_ - active_->start;
  return active_;
}

}  // namespace flint
