#include "storage/legacy.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "algorithms/algorithm.h"
#include "base/sha256.h"
#include "storage/file_names.h"
#include "storage/legacy_reader.h"
#include "storage/log_stream.h"
#include "storage/segment.h"
#include "storage/segment_naming.h"

namespace flint {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr size_t kSnapshotStartBytes = 4096;
constexpr size_t kSweepAtLeast = 65536;
// A clock that seems to have gone back by no more than this has not.
constexpr int64_t kOvertakenNs = 1'000'000'000;

// ---- Writing -----------------------------------------------------------------------------------

// Tells the events in one segment of today's format.
//
// Those versions took their times from the wall clock, which may go back; engine time does not. So
// an event keeps its wall time, and a CLOCK record pairs it with engine time wherever the two part.
// They also counted in floating point: an admission that exact arithmetic would not have granted
// yet gets the engine time at which it would.
class Writer {
 public:
  Writer(const SegmentHeader& header, std::unique_ptr<File> file)
      : generation_(header.generation),
        file_(std::move(file)),
        crc_(ChainStart(header.generation)) {}

  Status Begin() { return Append(RecordType::kStart, 0, Encode(StartPayload{})); }
  Status Add(LegacyEvent event, LegacyFindings* findings);
  // The seal says that this segment was whole, so that the next opening keeps it as it is.
  Status Finish();

  uint64_t events() const { return events_; }

 private:
  struct Limit {
    LimitKind kind = LimitKind::kExact;
    uint32_t prefix_bytes = 0;  // of a counter's template
    LimitConfig config;
    State state;
    int64_t changed_ns = 0;
    uint32_t id = 0;  // 0: none yet in this segment

    bool Ephemeral() const { return kind != LimitKind::kExact; }
  };
  using Use = std::pair<Limit*, uint64_t>;  // with the cost

  Status Append(RecordType type, uint32_t id, std::string_view payload);
  Status AppendClock();
  Status CheckTime() const;
  Status WriteOut();
  Status SetTime(int64_t at_ns);
  Status Delay(int64_t at_ns, int64_t time_ns, uint64_t delay_ns);
  bool IsSlightlyBehind(const LegacyEvent& event, int64_t after_ns, int64_t* time_ns) const;
  Status TimeOf(const LegacyEvent& event, int64_t after_ns, int64_t* time_ns);
  Status Configure(const LegacyEvent& event);
  void ConfigureTemplate(const LegacyItem& item);
  Status Keyed(const LegacyEvent& event);
  void EndTemplate(RecordType type, const std::string& prefix);
  bool Stands(const LegacyItem& item) const;
  bool HasInline(const std::string& key) const;
  Status Find(const LegacyEvent& event, const LegacyItem& item, Limit** limit);
  Status Prepare(const LegacyEvent& event, LegacyFindings* findings, std::vector<Use>* uses);
  Status AddDeny(const LegacyEvent& event, LegacyFindings* findings);
  Status Admit(const LegacyEvent& event, LegacyFindings* findings);
  void Sweep();

  const uint64_t generation_;
  std::unique_ptr<File> file_;
  uint32_t crc_;
  uint64_t sequence_ = 0;
  uint32_t next_id_ = 1;
  bool has_clock_ = false;
  int64_t engine_ns_ = 0;  // of the latest event
  int64_t wall_ns_ = 0;
  std::string buffer_;
  uint64_t written_ = 0;  // bytes behind the header
  Sha256 digest_;
  uint64_t events_ = 0;
  std::unordered_map<std::string, Limit> limits_;  // and counters
  std::unordered_map<std::string, LimitConfig> templates_;
  size_t sweep_at_ = kSweepAtLeast;
};

Status Writer::Append(RecordType type, uint32_t id, std::string_view payload) {
  const uint32_t bytes = RecordBytes(payload.size());
  const size_t at = buffer_.size();
  buffer_.resize(at + bytes);
  crc_ = BuildRecord(buffer_.data() + at, crc_, generation_, ++sequence_, type, 0, id, payload);
  return buffer_.size() < kBufferBytes ? Status() : WriteOut();
}

Status Writer::WriteOut() {
  digest_.Update(buffer_.data(), buffer_.size());
  FLINT_RETURN_IF_ERROR(
      file_->Write(kSegmentHeaderBytes + written_, buffer_.data(), buffer_.size()));
  written_ += buffer_.size();
  buffer_.clear();
  return Status();
}

Status Writer::CheckTime() const {
  if (engine_ns_ <= static_cast<int64_t>(kMaxQuantity)) return Status();
  return Status(Code::kUnsupported, "the times of Flint 0.1 or 0.2 go beyond the year 2116");
}

// The boot is unknown: time since then is taken from the wall clock.
Status Writer::AppendClock() {
  FLINT_RETURN_IF_ERROR(CheckTime());
  has_clock_ = true;
  return Append(RecordType::kClock, 0, Encode(ClockPayload{{engine_ns_, 0, wall_ns_}, BootId{}}));
}

// Goes to an event's wall time.
Status Writer::SetTime(int64_t at_ns) {
  const int64_t elapsed_ns = has_clock_ ? at_ns - wall_ns_ : at_ns;
  engine_ns_ += std::max<int64_t>(elapsed_ns, 0);
  wall_ns_ = at_ns;
  if (elapsed_ns < 0 || !has_clock_) return AppendClock();
  return CheckTime();
}

// In engine time the event happened later than its wall time tells.
Status Writer::Delay(int64_t at_ns, int64_t time_ns, uint64_t delay_ns) {
  engine_ns_ = std::max(engine_ns_, time_ns + static_cast<int64_t>(delay_ns));
  wall_ns_ = at_ns;
  return AppendClock();
}

// Today's log, and so a dump, is not quite in order of time: threads overtake each other, and
// merged denials wait for a sync. That is no clock going back.
bool Writer::IsSlightlyBehind(const LegacyEvent& event, int64_t after_ns, int64_t* time_ns) const {
  const int64_t behind_ns = wall_ns_ - event.at_ns;
  *time_ns = engine_ns_ - behind_ns;
  return has_clock_ && behind_ns > 0 && (behind_ns <= kOvertakenNs || event.count > 1) &&
         *time_ns >= after_ns;
}

// The engine time of an event that may not come before `after_ns`.
Status Writer::TimeOf(const LegacyEvent& event, int64_t after_ns, int64_t* time_ns) {
  if (IsSlightlyBehind(event, after_ns, time_ns)) return Status();
  FLINT_RETURN_IF_ERROR(SetTime(event.at_ns));
  *time_ns = engine_ns_;
  return Status();
}

Status Writer::Add(LegacyEvent event, LegacyFindings* findings) {
  if (event.at_ns == kUnknownTime) event.at_ns = event.first_ns = wall_ns_;
  ++events_;
  Sweep();
  switch (event.type) {
    case RecordType::kLimitConfigured:
      return Configure(event);
    case RecordType::kLimitRemoved:
    case RecordType::kReset:
      return Keyed(event);
    case RecordType::kDeny:
      return AddDeny(event, findings);
    default:
      return Admit(event, findings);
  }
}

// Counters and inline limits that are back to their start need no longer be known. Their number
// doubles between two sweeps.
void Writer::Sweep() {
  if (limits_.size() < sweep_at_) return;
  std::erase_if(limits_, [this](const auto& entry) {
    const Limit& limit = entry.second;
    return limit.Ephemeral() && IsFresh(limit.config, limit.state, engine_ns_);
  });
  sweep_at_ = std::max(2 * limits_.size(), kSweepAtLeast);
}

// ---- Limits ------------------------------------------------------------------------------------

Status Writer::Configure(const LegacyEvent& event) {
  FLINT_RETURN_IF_ERROR(SetTime(event.at_ns));
  const LegacyItem& item = event.items[0];
  if (item.kind == LimitKind::kTemplate) {
    ConfigureTemplate(item);
  } else {
    // Other values for an inline limit whose uses are not known change nothing: the next use has
    // them too.
    if (item.kind == LimitKind::kInline && !HasInline(item.key)) return Status();
    const auto [found, added] = limits_.try_emplace(item.key);
    Limit& limit = found->second;
    if (!added) limit.state = Migrate(limit.config, limit.state, item.config, engine_ns_);
    limit.config = item.config;
    limit.kind = item.kind;
    limit.changed_ns = engine_ns_;
    limit.id = 0;
  }
  return Append(event.type, 0, EncodeConfigured({engine_ns_, item.config, item.kind, item.key}));
}

// As the engine does it: the counters under it, and those under a shorter one, are now its own.
void Writer::ConfigureTemplate(const LegacyItem& item) {
  templates_[item.key] = item.config;
  for (auto& [key, limit] : limits_) {
    if (limit.kind != LimitKind::kCounter || limit.prefix_bytes > item.key.size() ||
        !key.starts_with(item.key)) {
      continue;
    }
    if (IsFresh(limit.config, limit.state, engine_ns_)) limit.state = State();
    limit.state = Migrate(limit.config, limit.state, item.config, engine_ns_);
    limit.config = item.config;
    limit.prefix_bytes = static_cast<uint32_t>(item.key.size());
    limit.changed_ns = engine_ns_;
    limit.id = 0;
  }
}

bool Writer::Stands(const LegacyItem& item) const {
  return item.kind == LimitKind::kTemplate ? templates_.contains(item.key)
                                           : limits_.contains(item.key);
}

bool Writer::HasInline(const std::string& key) const {
  const auto found = limits_.find(key);
  return found != limits_.end() && found->second.kind == LimitKind::kInline;
}

// RESET and LIMIT_REMOVED. What has no limit has nothing to lose: its record is left out.
Status Writer::Keyed(const LegacyEvent& event) {
  const LegacyItem& item = event.items[0];
  if (!Stands(item)) return Status();
  FLINT_RETURN_IF_ERROR(SetTime(event.at_ns));
  LimitKind kind = LimitKind::kExact;
  if (item.kind == LimitKind::kTemplate) {
    kind = item.kind;
    EndTemplate(event.type, item.key);
  } else if (event.type == RecordType::kLimitRemoved) {
    limits_.erase(item.key);
  } else {
    limits_[item.key].state = State();
    limits_[item.key].changed_ns = engine_ns_;
  }
  return Append(event.type, 0, EncodeKeyed({engine_ns_, {}, kind, item.key}));
}

void Writer::EndTemplate(RecordType type, const std::string& prefix) {
  const auto is_under = [&](const std::string& key, const Limit& limit) {
    return limit.kind == LimitKind::kCounter && limit.prefix_bytes == prefix.size() &&
           key.starts_with(prefix);
  };
  if (type == RecordType::kLimitRemoved) {
    std::erase_if(limits_, [&](const auto& entry) { return is_under(entry.first, entry.second); });
    templates_.erase(prefix);
    return;
  }
  for (auto& [key, limit] : limits_) {
    if (!is_under(key, limit)) continue;
    limit.state = State();
    limit.changed_ns = engine_ns_;
  }
}

// ---- Uses --------------------------------------------------------------------------------------

// Finds an item's limit; a counter or an inline limit begins with its first use.
Status Writer::Find(const LegacyEvent& event, const LegacyItem& item, Limit** limit) {
  const auto none = [&] {
    return LegacyDamage(event.file, event.offset, "an event of a key that has no limit");
  };
  auto found = limits_.find(item.key);
  if (item.kind == LimitKind::kExact) {
    if (found == limits_.end() || found->second.Ephemeral()) return none();
    *limit = &found->second;
    return Status();
  }
  LimitConfig config = item.config;
  if (item.kind == LimitKind::kCounter) {
    const auto parent = templates_.find(item.key.substr(0, item.prefix_bytes));
    if (parent == templates_.end()) return none();
    config = parent->second;
  }
  if (found != limits_.end() && !found->second.Ephemeral()) return none();
  const bool same = found != limits_.end() && found->second.kind == item.kind &&
                    found->second.prefix_bytes == item.prefix_bytes &&
                    found->second.config.SameAs(config);
  if (!same) {
    if (found == limits_.end()) found = limits_.try_emplace(item.key).first;
    found->second = Limit();
    found->second.kind = item.kind;
    found->second.prefix_bytes = item.prefix_bytes;
    found->second.config = config;
  }
  *limit = &found->second;
  return Status();
}

// Finds the items' limits, gives them ids, and brings the costs into the limits' bounds.
Status Writer::Prepare(const LegacyEvent& event, LegacyFindings* findings, std::vector<Use>* uses) {
  for (const LegacyItem& item : event.items) {
    Limit* limit = nullptr;
    FLINT_RETURN_IF_ERROR(Find(event, item, &limit));
    const uint64_t most = event.count > 1 ? UINT64_MAX : limit->config.burst;
    const uint64_t cost = std::clamp<uint64_t>(item.cost, 1, most);
    if (cost != item.cost) findings->clamped = true;
    uses->emplace_back(limit, cost);
    if (limit->id != 0) continue;
    limit->id = next_id_++;
    KeyPayload payload;
    payload.config = limit->config;
    payload.kind = limit->kind;
    payload.prefix_bytes = limit->prefix_bytes;
    payload.key = item.key;
    FLINT_RETURN_IF_ERROR(Append(RecordType::kKey, limit->id, Encode(payload)));
  }
  return Status();
}

Status Writer::AddDeny(const LegacyEvent& event, LegacyFindings* findings) {
  std::vector<Use> uses;
  FLINT_RETURN_IF_ERROR(Prepare(event, findings, &uses));
  Denials deny;
  FLINT_RETURN_IF_ERROR(TimeOf(event, 0, &deny.time_ns));
  deny.cost = uses[0].second;
  deny.count = event.count;
  deny.first_ns = std::max<int64_t>(deny.time_ns - (event.at_ns - event.first_ns), 0);
  return Append(event.type, uses[0].first->id, Encode(deny));
}

// ALLOW and ALLOW_ALL.
Status Writer::Admit(const LegacyEvent& event, LegacyFindings* findings) {
  std::vector<Use> uses;
  FLINT_RETURN_IF_ERROR(Prepare(event, findings, &uses));
  int64_t after_ns = 0;
  for (const auto& [limit, cost] : uses) after_ns = std::max(after_ns, limit->changed_ns);
  int64_t time_ns = 0;
  FLINT_RETURN_IF_ERROR(TimeOf(event, after_ns, &time_ns));
  // What fits goes on fitting as time passes, so one item's delay after the other is enough.
  for (const auto& [limit, cost] : uses) {
    const uint64_t delay_ns = RetryAfterNs(limit->config, limit->state, time_ns, cost);
    if (delay_ns == 0) continue;
    FLINT_RETURN_IF_ERROR(Delay(event.at_ns, time_ns, delay_ns));
    time_ns = engine_ns_;
  }
  std::string payload(AllowAllBytes(uses.size()), '\0');
  EncodeAllowAll(payload.data(), time_ns, static_cast<uint32_t>(uses.size()));
  uint32_t index = 0;
  for (const auto& [limit, cost] : uses) {
    if (limit->Ephemeral() && IsFresh(limit->config, limit->state, time_ns)) {
      limit->state = State();
    }
    flint::Admit(limit->config, limit->state, time_ns, cost);
    limit->changed_ns = time_ns;
    EncodeAllowAllItem(payload.data(), index++, {limit->id, cost});
  }
  if (event.type == RecordType::kAllowAll) {
    if (RecordBytes(payload.size()) > kMaxRecordBytes) {
      return LegacyDamage(event.file, event.offset, "an ALLOW_ALL of too many items");
    }
    return Append(event.type, 0, payload);
  }
  Denials allow;  // an ALLOW has the same payload
  allow.time_ns = time_ns;
  allow.cost = uses[0].second;
  return Append(event.type, uses[0].first->id, Encode(allow));
}

Status Writer::Finish() {
  FLINT_RETURN_IF_ERROR(AppendClock());
  FLINT_RETURN_IF_ERROR(WriteOut());
  SealPayload seal;
  seal.generation = generation_;
  seal.end = written_;
  seal.digest = digest_.Final();
  seal.clock = ClockPair{engine_ns_, 0, wall_ns_};
  digest_.Reset();
  FLINT_RETURN_IF_ERROR(Append(RecordType::kSeal, 0, Encode(seal)));
  FLINT_RETURN_IF_ERROR(WriteOut());
  return file_->Sync();
}

// ---- Converting --------------------------------------------------------------------------------

// What a directory holds under the names that both formats use.
struct FoundFiles {
  std::unique_ptr<File> log;
  std::unique_ptr<File> snapshot;
  uint64_t log_bytes = 0;
  char first = 0;               // byte of the log
  bool snapshot_today = false;  // in today's format
  bool others = false;          // other files that only today's format has
};

Status OpenIfExists(Env* env, const std::string& path, std::unique_ptr<File>* file) {
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env->Exists(path, &exists));
  return exists ? env->OpenFile(path, OpenMode::kRead, file) : Status();
}

Status Look(Env* env, const std::string& directory, FoundFiles* found) {
  FLINT_RETURN_IF_ERROR(OpenIfExists(env, directory + "/" + kLogName, &found->log));
  FLINT_RETURN_IF_ERROR(OpenIfExists(env, directory + "/" + kSnapshotName, &found->snapshot));
  size_t got = 0;
  if (found->log != nullptr) {
    FLINT_RETURN_IF_ERROR(found->log->Size(&found->log_bytes));
    FLINT_RETURN_IF_ERROR(found->log->Read(0, &found->first, 1, &got));
  }
  if (found->snapshot != nullptr) {
    std::string start(kSnapshotStartBytes, '\0');
    FLINT_RETURN_IF_ERROR(found->snapshot->Read(0, start.data(), start.size(), &got));
    start.resize(got);
    found->snapshot_today = start.find("\"directory_id\":\"") != std::string::npos;
  }
  std::vector<std::string> names;
  FLINT_RETURN_IF_ERROR(env->List(directory, &names));
  for (const std::string& name : names) {
    if (name == kRingName || (IsSegmentName(name) && name != kLogName)) found->others = true;
  }
  return Status();
}

// A log that begins with a brace is one of those versions'. An empty or zeroed one may be (a crash
// leaves it), but also today's that was damaged, so nothing else of today's may be there.
bool IsLegacy(const FoundFiles& found) {
  if (found.log != nullptr && found.first == '{') return true;
  const bool no_log = found.log == nullptr || found.log_bytes == 0 || found.first == '\0';
  return no_log && !found.others && !found.snapshot_today &&
         (found.log != nullptr || found.snapshot != nullptr);
}

// A conversion that was interrupted behind its commit has left the old snapshot under both names.
Status RemoveKeptSnapshot(Env* env, const std::string& directory, const FoundFiles& found) {
  if (found.snapshot == nullptr || found.snapshot_today) return Status();
  std::unique_ptr<File> kept;
  FLINT_RETURN_IF_ERROR(OpenIfExists(env, directory + "/" + kOldSnapshotName, &kept));
  if (kept == nullptr) return Status();
  uint64_t bytes = 0;
  uint64_t kept_bytes = 0;
  FLINT_RETURN_IF_ERROR(found.snapshot->Size(&bytes));
  FLINT_RETURN_IF_ERROR(kept->Size(&kept_bytes));
  if (bytes != kept_bytes) return Status();
  std::string here(bytes, '\0');
  std::string there(bytes, '\0');
  size_t got = 0;
  FLINT_RETURN_IF_ERROR(found.snapshot->Read(0, here.data(), bytes, &got));
  FLINT_RETURN_IF_ERROR(kept->Read(0, there.data(), bytes, &got));
  if (here != there) return Status();
  FLINT_RETURN_IF_ERROR(env->Remove(directory + "/" + kSnapshotName));
  return env->SyncDirectory(directory);
}

bool CannotBeToday(const LegacyItem& item) {
  return item.key.size() > UINT16_MAX || (item.key.empty() && item.kind != LimitKind::kTemplate);
}

Status Write(Env* env, const std::string& directory, FoundFiles* found, LegacyReport* report) {
  SegmentHeader header;
  header.number = 1;
  header.epoch = 1;
  FLINT_RETURN_IF_ERROR(env->Random(&header.generation, sizeof(header.generation)));
  header.generation |= 1;
  FLINT_RETURN_IF_ERROR(env->Random(header.directory_id.data(), header.directory_id.size()));
  header.capacity = kSegmentHeaderBytes;  // it is never appended to
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(CreateSegment(env, directory, kImportName, header, false, &file));
  Writer writer(header, std::move(file));
  FLINT_RETURN_IF_ERROR(writer.Begin());
  LegacyFindings findings;
  const LegacyEventSink sink = [&](LegacyEvent event) {
    findings.left_out += std::erase_if(event.items, CannotBeToday);
    return event.items.empty() ? Status() : writer.Add(std::move(event), &findings);
  };
  uint64_t from = 0;
  if (found->snapshot != nullptr) {
    FLINT_RETURN_IF_ERROR(ReadLegacySnapshot(found->snapshot.get(), sink, &from, &findings));
  }
  if (from > found->log_bytes) {
    report->snapshot_ahead = true;
    from = 0;
  }
  if (found->log != nullptr) {
    FLINT_RETURN_IF_ERROR(ReadLegacyLog(found->log.get(), from, sink, &findings));
  }
  FLINT_RETURN_IF_ERROR(writer.Finish());
  report->converted = true;
  report->events = writer.events();
  report->torn_bytes = findings.torn_bytes;
  report->clamped = findings.clamped;
  report->left_out = findings.left_out;
  return Status();
}

Status Copy(Env* env, const std::string& from, const std::string& to) {
  constexpr size_t kPieceBytes = size_t{1} << 20;
  std::unique_ptr<File> source;
  std::unique_ptr<File> copy;
  FLINT_RETURN_IF_ERROR(env->OpenFile(from, OpenMode::kRead, &source));
  FLINT_RETURN_IF_ERROR(env->OpenFile(to, OpenMode::kCreate, &copy));
  std::string piece(kPieceBytes, '\0');
  for (uint64_t at = 0;;) {
    size_t got = 0;
    FLINT_RETURN_IF_ERROR(source->Read(at, piece.data(), piece.size(), &got));
    if (got == 0) return copy->Sync();
    FLINT_RETURN_IF_ERROR(copy->Write(at, piece.data(), got));
    at += got;
  }
}

// A second name for a file, which outlives the first; where there are no links, a copy.
Status KeepUnder(Env* env, const std::string& directory, const char* name, const char* kept) {
  const std::string from = directory + "/" + name;
  const std::string to = directory + "/" + kept;
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env->Exists(to, &exists));
  if (exists) FLINT_RETURN_IF_ERROR(env->Remove(to));
  const Status status = env->Link(from, to);
  return CannotLink(status) ? Copy(env, from, to) : status;
}

}  // namespace

Status ConvertLegacy(Env* env, const std::string& directory, LegacyReport* report) {
  FoundFiles found;
  FLINT_RETURN_IF_ERROR(Look(env, directory, &found));
  if (!IsLegacy(found)) return RemoveKeptSnapshot(env, directory, found);
  if (found.snapshot_today || found.others) {
    return LegacyDamage(kLogName, 0, "files of today's format lie beside it");
  }
  FLINT_RETURN_IF_ERROR(Write(env, directory, &found, report));
  if (found.log != nullptr) {
    FLINT_RETURN_IF_ERROR(KeepUnder(env, directory, kLogName, kOldLogName));
  }
  if (found.snapshot != nullptr) {
    FLINT_RETURN_IF_ERROR(KeepUnder(env, directory, kSnapshotName, kOldSnapshotName));
  }
  FLINT_RETURN_IF_ERROR(env->SyncDirectory(directory));
  FLINT_RETURN_IF_ERROR(env->Rename(directory + "/" + kImportName, directory + "/" + kLogName));
  FLINT_RETURN_IF_ERROR(env->SyncDirectory(directory));
  if (found.snapshot == nullptr) return Status();
  FLINT_RETURN_IF_ERROR(env->Remove(directory + "/" + kSnapshotName));
  return env->SyncDirectory(directory);
}

}  // namespace flint
