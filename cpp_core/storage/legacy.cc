#include "storage/legacy.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "algorithms/algorithm.h"
#include "base/sha256.h"
#include "storage/legacy_reader.h"
#include "storage/log_reader.h"
#include "storage/segment.h"

namespace flint {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr size_t kSnapshotStartBytes = 4096;

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
    LimitConfig config;
    State state;
    uint32_t id = 0;  // 0: none yet in this segment
  };

  Status Append(RecordType type, uint32_t id, std::string_view payload);
  Status AppendClock();
  Status WriteOut();
  Status SetTime(int64_t at_ns, uint64_t delay_ns);
  Status Configure(const LegacyEvent& event);
  Status Use(const LegacyEvent& event, const std::string& key, uint64_t* cost, Limit** limit,
             LegacyFindings* findings);
  Status AddDeny(LegacyEvent* event, LegacyFindings* findings);
  Status AddReset(const LegacyEvent& event);
  Status Admit(LegacyEvent* event, LegacyFindings* findings);

  const uint64_t generation_;
  std::unique_ptr<File> file_;
  uint32_t crc_;
  uint64_t sequence_ = 0;
  uint32_t next_id_ = 1;
  bool has_clock_ = false;
  int64_t engine_ns_ = 0;  // of the last event
  int64_t wall_ns_ = 0;
  std::string buffer_;
  uint64_t written_ = 0;  // bytes behind the header
  Sha256 digest_;
  uint64_t events_ = 0;
  std::unordered_map<std::string, Limit> limits_;
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

// The boot is unknown: time since then is taken from the wall clock.
Status Writer::AppendClock() {
  has_clock_ = true;
  return Append(RecordType::kClock, 0, Encode(ClockPayload{{engine_ns_, 0, wall_ns_}, BootId{}}));
}

// Goes to an event's wall time, and in engine time `delay_ns` further than that takes it.
Status Writer::SetTime(int64_t at_ns, uint64_t delay_ns) {
  const int64_t elapsed_ns = has_clock_ ? at_ns - wall_ns_ : at_ns;
  const bool parted = elapsed_ns < 0 || delay_ns > 0;
  engine_ns_ += std::max<int64_t>(elapsed_ns, 0) + static_cast<int64_t>(delay_ns);
  wall_ns_ = at_ns;
  if (engine_ns_ > static_cast<int64_t>(kMaxQuantity)) {
    return Status(Code::kUnsupported, "the times of Flint 0.1 or 0.2 go beyond the year 2116");
  }
  return parted || !has_clock_ ? AppendClock() : Status();
}

Status Writer::Add(LegacyEvent event, LegacyFindings* findings) {
  if (event.at_ns == kUnknownTime) event.at_ns = wall_ns_;
  ++events_;
  switch (event.type) {
    case RecordType::kLimitConfigured:
      return Configure(event);
    case RecordType::kReset:
      return AddReset(event);
    case RecordType::kDeny:
      return AddDeny(&event, findings);
    default:
      if (event.type == RecordType::kAllow) event.items.emplace_back(event.key, event.cost);
      return Admit(&event, findings);
  }
}

Status Writer::Configure(const LegacyEvent& event) {
  FLINT_RETURN_IF_ERROR(SetTime(event.at_ns, 0));
  const auto [found, added] = limits_.try_emplace(event.key);
  Limit& limit = found->second;
  if (!added) limit.state = Migrate(limit.config, limit.state, event.config, engine_ns_);
  limit.config = event.config;
  limit.id = 0;
  return Append(event.type, 0,
                EncodeConfigured({engine_ns_, event.config, LimitKind::kExact, event.key}));
}

Status Writer::AddReset(const LegacyEvent& event) {
  const auto found = limits_.find(event.key);
  if (found == limits_.end()) {
    return LegacyDamage(event.file, event.offset, "an event of a key that has no limit");
  }
  FLINT_RETURN_IF_ERROR(SetTime(event.at_ns, 0));
  found->second.state = State();
  return Append(event.type, 0, EncodeKeyed({engine_ns_, {}, LimitKind::kExact, event.key}));
}

// Finds a key's limit, gives it an id, and brings the cost into the limit's bounds.
Status Writer::Use(const LegacyEvent& event, const std::string& key, uint64_t* cost, Limit** limit,
                   LegacyFindings* findings) {
  const auto found = limits_.find(key);
  if (found == limits_.end()) {
    return LegacyDamage(event.file, event.offset, "an event of a key that has no limit");
  }
  *limit = &found->second;
  const LimitConfig& config = found->second.config;
  const uint64_t clamped = std::clamp<uint64_t>(*cost, 1, config.burst);
  if (clamped != *cost) findings->clamped = true;
  *cost = clamped;
  if (found->second.id != 0) return Status();
  found->second.id = next_id_++;
  KeyPayload payload;
  payload.config = config;
  payload.key = key;
  return Append(RecordType::kKey, found->second.id, Encode(payload));
}

Status Writer::AddDeny(LegacyEvent* event, LegacyFindings* findings) {
  Limit* limit = nullptr;
  FLINT_RETURN_IF_ERROR(Use(*event, event->key, &event->cost, &limit, findings));
  FLINT_RETURN_IF_ERROR(SetTime(event->at_ns, 0));
  DenyPayload deny;
  deny.time_ns = deny.first_ns = engine_ns_;
  deny.cost = event->cost;
  return Append(event->type, limit->id, Encode(deny));
}

// ALLOW and ALLOW_ALL.
Status Writer::Admit(LegacyEvent* event, LegacyFindings* findings) {
  std::vector<std::pair<Limit*, uint64_t>> uses;
  for (auto& [key, cost] : event->items) {
    Limit* limit = nullptr;
    FLINT_RETURN_IF_ERROR(Use(*event, key, &cost, &limit, findings));
    uses.emplace_back(limit, cost);
  }
  FLINT_RETURN_IF_ERROR(SetTime(event->at_ns, 0));
  // What fits goes on fitting as time passes, so one item's delay after the other is enough.
  for (const auto& [limit, cost] : uses) {
    const uint64_t delay_ns = RetryAfterNs(limit->config, limit->state, engine_ns_, cost);
    if (delay_ns > 0) FLINT_RETURN_IF_ERROR(SetTime(event->at_ns, delay_ns));
  }
  for (const auto& [limit, cost] : uses) {
    flint::Admit(limit->config, limit->state, engine_ns_, cost);
  }
  std::string payload;
  BeginAllowAll(&payload, engine_ns_, static_cast<uint32_t>(uses.size()));
  for (const auto& [limit, cost] : uses) AddAllowAllItem(&payload, {limit->id, cost});
  if (event->type == RecordType::kAllowAll) {
    if (RecordBytes(payload.size()) > kMaxRecordBytes) {
      return LegacyDamage(event->file, event->offset, "an ALLOW_ALL of too many items");
    }
    return Append(event->type, 0, payload);
  }
  DenyPayload allow;  // an ALLOW has the same payload
  allow.time_ns = engine_ns_;
  allow.cost = uses.front().second;
  return Append(event->type, uses.front().first->id, Encode(allow));
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
struct Found {
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

Status Look(Env* env, const std::string& directory, Found* found) {
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
bool IsLegacy(const Found& found) {
  if (found.log != nullptr && found.first == '{') return true;
  const bool no_log = found.log == nullptr || found.log_bytes == 0 || found.first == '\0';
  return no_log && !found.others && !found.snapshot_today &&
         (found.log != nullptr || found.snapshot != nullptr);
}

// A conversion that was interrupted behind its commit has left the old snapshot under both names.
Status RemoveKeptSnapshot(Env* env, const std::string& directory, const Found& found) {
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

Status Write(Env* env, const std::string& directory, Found* found, LegacyReport* report) {
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
    return writer.Add(std::move(event), &findings);
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
  return Status();
}

// A second name for a file, which outlives the first.
Status KeepUnder(Env* env, const std::string& directory, const char* name, const char* kept) {
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env->Exists(directory + "/" + kept, &exists));
  if (exists) FLINT_RETURN_IF_ERROR(env->Remove(directory + "/" + kept));
  return env->Link(directory + "/" + name, directory + "/" + kept);
}

}  // namespace

Status ConvertLegacy(Env* env, const std::string& directory, LegacyReport* report) {
  Found found;
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
