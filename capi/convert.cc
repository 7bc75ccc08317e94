#include "convert.h"

#include "engine/key.h"

namespace flint {
namespace {

constexpr uint64_t kMaxFlushEvents = uint64_t{1} << 32;
constexpr uint64_t kMaxFlushMs = 3'600'000;
constexpr uint64_t kMaxQuantity = uint64_t{1} << 62;
constexpr uint64_t kHistoryBytes = uint64_t{256} << 20;
constexpr uint64_t kMinReplayBytes = uint64_t{1} << 20;
constexpr uint64_t kReplayBytes = uint64_t{1} << 30;
constexpr uint64_t kMinLogBytes = uint64_t{1} << 18;
constexpr uint64_t kMaxSegmentBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxRingBytes = uint64_t{1} << 26;
constexpr uint64_t kAlwaysSegmentBytes = uint64_t{1} << 23;
constexpr uint64_t kBatchSegmentBytes = uint64_t{1} << 26;
constexpr uint64_t kTimeoutNs = uint64_t{10} * 1'000'000'000;
constexpr uint64_t kMaxTimeoutNs = uint64_t{86'400} * 1'000'000'000;
constexpr size_t kMaxTokenBytes = 4096;
constexpr char kQuantity[] = "between 1 and 2^62 (4611686018427387904)";

// Takes the default for 0.
Status ReadBounded(const char* name, uint64_t value, uint64_t least, uint64_t most,
                   uint64_t default_value, uint64_t* to) {
  *to = value == 0 ? default_value : value;
  if (value == 0 || (value >= least && value <= most)) return Status();
  return OutOfBounds(name, value,
                     "between " + std::to_string(least) + " and " + std::to_string(most));
}

// Cuts at a character, so that what is shown stays UTF-8.
template <size_t N>
void CopyText(std::string_view from, char (&to)[N]) {
  size_t size = std::min(from.size(), N - 1);
  while (size < from.size() && size > 0 && (static_cast<uint8_t>(from[size]) & 0xC0) == 0x80) {
    --size;
  }
  std::memcpy(to, from.data(), size);
  to[size] = '\0';
}

}  // namespace

Status OutOfBounds(const std::string& name, uint64_t value, const std::string& allowed) {
  return Status(Code::kInvalidArgument,
                name + " is " + std::to_string(value) + "; it must be " + allowed);
}

Status ReadText(const char* text, uint64_t bytes, const char* name, std::string_view* view) {
  if (text == nullptr && bytes > 0) {
    return Status(Code::kInvalidArgument, std::string(name) + " is NULL");
  }
  *view = std::string_view(text == nullptr ? "" : text, bytes);
  return Status();
}

Status ReadFileName(const char* path, uint64_t bytes, const std::string& name, std::string* to) {
  std::string_view view;
  FLINT_RETURN_IF_ERROR(ReadText(path, bytes, name.c_str(), &view));
  const size_t zero = view.find('\0');
  if (zero != std::string_view::npos) {
    return Status(Code::kInvalidArgument, name + " has a zero byte, which none can have, after \"" +
                                              std::string(view.substr(0, zero)) + "\"");
  }
  *to = view;
  return Status();
}

Status ReadUnusualKey(const char* key, uint64_t bytes, std::string_view* view) {
  FLINT_RETURN_IF_ERROR(ReadText(key, bytes, "key", view));
  // Before anyone reads that far: an absurd length is a mistake, and not all of it may be there.
  return bytes > FLINT_LIMITER_MAX_KEY_BYTES ? CheckKey(*view) : Status();
}

namespace {

Status ReadChoice(const char* name, uint32_t value, uint32_t most, const char* allowed) {
  return value <= most ? Status() : OutOfBounds(name, value, allowed);
}

// What to do when something is scarce or fails.
Status ReadFailureOptions(const flint_limiter_options& options, Engine::Options* to) {
  FLINT_RETURN_IF_ERROR(
      ReadChoice("options.when_full", options.when_full, 1, "0 (refuse) or 1 (evict)"));
  FLINT_RETURN_IF_ERROR(
      ReadChoice("options.on_error", options.on_error, 2, "0 (raise), 1 (allow) or 2 (deny)"));
  FLINT_RETURN_IF_ERROR(ReadChoice("options.mapped", options.mapped, 1, "0 (auto) or 1 (never)"));
  FLINT_RETURN_IF_ERROR(ReadChoice("options.sync_denials", options.sync_denials, 1, "0 or 1"));
  FLINT_RETURN_IF_ERROR(ReadChoice("options.single_denials", options.single_denials, 1, "0 or 1"));
  FLINT_RETURN_IF_ERROR(ReadChoice("options.tell_busy", options.tell_busy, 1, "0 or 1"));
  FLINT_RETURN_IF_ERROR(ReadBounded("options.max_unsynced_events", options.max_unsynced_events, 1,
                                    kMaxFlushEvents, UINT64_MAX, &to->log.max_unsynced_events));
  if (to->log.always) to->log.max_unsynced_events = UINT64_MAX;
  FLINT_RETURN_IF_ERROR(ReadBounded("options.max_downtime_ns", options.max_downtime_ns, 0,
                                    kMaxQuantity, 0, &to->max_downtime_ns));
  FLINT_RETURN_IF_ERROR(ReadBounded("options.history_max_bytes", options.history_max_bytes, 0,
                                    kMaxQuantity, kHistoryBytes, &to->history_max_bytes));
  FLINT_RETURN_IF_ERROR(ReadBounded("options.history_max_age_ns", options.history_max_age_ns, 0,
                                    kMaxQuantity, 0, &to->history_max_age_ns));
  FLINT_RETURN_IF_ERROR(ReadBounded("options.max_replay_bytes", options.max_replay_bytes,
                                    kMinReplayBytes, kMaxQuantity, kReplayBytes,
                                    &to->log.max_replay_bytes));
  FLINT_RETURN_IF_ERROR(
      ReadBounded("options.max_keys", options.max_keys, 0, kMaxQuantity, 0, &to->max_keys));
  to->when_full = static_cast<Engine::WhenFull>(options.when_full);
  to->on_error = static_cast<Engine::OnError>(options.on_error);
  to->sync_denials = options.sync_denials == 1 && to->log.always;
  to->merge_denials = options.single_denials == 0;
  to->tell_busy = options.tell_busy == 1;
  to->log.store_mode =
      options.mapped == FLINT_LIMITER_MAPPED_NEVER ? StoreMode::kWritten : StoreMode::kMapped;
  return Status();
}

Status ReadFileOptions(const flint_limiter_options& options, Engine::Options* to) {
  FLINT_RETURN_IF_ERROR(ReadBounded("options.lock_timeout_ns", options.lock_timeout_ns, 0,
                                    kMaxQuantity, 0, &to->lock_timeout_ns));
  constexpr uint32_t kOwn = 0600;
  constexpr uint32_t kMost = 0666;
  if (options.file_mode != 0) {
    if ((options.file_mode & kOwn) != kOwn || (options.file_mode & ~kMost) != 0) {
      return OutOfBounds("options.file_mode", options.file_mode,
                         "0600 (octal), with any of the bits 0066 added");
    }
    to->access.file_mode = options.file_mode;
  }
  if (options.group_plus_1 != 0) to->access.group = int64_t{options.group_plus_1} - 1;
  return Status();
}

}  // namespace

Status ReadOptions(const flint_limiter_options* from, Engine::Options* to) {
  flint_limiter_options options{};
  if (from != nullptr) FLINT_RETURN_IF_ERROR(ReadStruct(from, "options", &options));
  if (options.sync > FLINT_LIMITER_SYNC_BATCH) {
    return OutOfBounds("options.sync", options.sync, "0 (always) or 1 (batch)");
  }
  LogOptions& log = to->log;
  log.always = options.sync == FLINT_LIMITER_SYNC_ALWAYS;
  uint64_t flush_every_ms = 0;
  FLINT_RETURN_IF_ERROR(ReadBounded("options.flush_every_events", options.flush_every_events, 1,
                                    kMaxFlushEvents, 100, &log.flush_every_events));
  FLINT_RETURN_IF_ERROR(ReadBounded("options.flush_every_ms", options.flush_every_ms, 1,
                                    kMaxFlushMs, 100, &flush_every_ms));
  log.flush_every_ns = flush_every_ms * 1'000'000;
  FLINT_RETURN_IF_ERROR(
      ReadBounded("options.segment_bytes", options.segment_bytes, kMinLogBytes, kMaxSegmentBytes,
                  log.always ? kAlwaysSegmentBytes : kBatchSegmentBytes, &log.segment_bytes));
  log.segment_bytes &= ~uint64_t{4095};
  FLINT_RETURN_IF_ERROR(ReadBounded("options.ring_bytes", options.ring_bytes, kMinLogBytes,
                                    kMaxRingBytes, uint64_t{1} << 20, &log.ring_bytes));
  if ((log.ring_bytes & (log.ring_bytes - 1)) != 0) {
    return OutOfBounds("options.ring_bytes", options.ring_bytes, "a power of two");
  }
  FLINT_RETURN_IF_ERROR(ReadFailureOptions(options, to));
  FLINT_RETURN_IF_ERROR(ReadFileOptions(options, to));
  FLINT_RETURN_IF_ERROR(
      ReadChoice("options.clock_source", options.clock_source, 1, "0 (counter) or 1 (system)"));
  FLINT_RETURN_IF_ERROR(ReadChoice("options.shared", options.shared, 1, "0 or 1"));
  if (options.answer_timeout_ns > uint64_t{1} << 62) {
    return OutOfBounds("options.answer_timeout_ns", options.answer_timeout_ns, "at most 2^62");
  }
  if (options.clock_source == FLINT_LIMITER_CLOCK_SYSTEM) to->clock = Clock::SystemWithoutCounter();
  if (options.clock != nullptr) {
    to->owned_clock = std::make_unique<CallbackClock>(options.clock, options.clock_argument);
    to->clock = to->owned_clock.get();
  }
  return Status();
}

Status ReadConnectOptions(const flint_limiter_connect_options* from, Client::Options* to) {
  flint_limiter_connect_options options{};
  if (from != nullptr) FLINT_RETURN_IF_ERROR(ReadStruct(from, "options", &options));
  FLINT_RETURN_IF_ERROR(ReadChoice("options.lazy", options.lazy, 1, "0 or 1"));
  uint64_t timeout_ns = 0;
  FLINT_RETURN_IF_ERROR(ReadBounded("options.timeout_ns", options.timeout_ns, 1, kMaxTimeoutNs,
                                    kTimeoutNs, &timeout_ns));
  std::string_view token;
  FLINT_RETURN_IF_ERROR(ReadText(options.token, options.token_bytes, "options.token", &token));
  const bool is_visible =
      std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (token.size() > kMaxTokenBytes || !is_visible) {
    // It is not shown.
    return Status(Code::kInvalidArgument,
                  "options.token must be up to 4,096 visible characters of ASCII");
  }
  FLINT_RETURN_IF_ERROR(ReadFileName(options.tls_ca_file, options.tls_ca_file_bytes,
                                     "options.tls_ca_file", &to->tls.authorities));
  FLINT_RETURN_IF_ERROR(ReadFileName(options.tls_cert_file, options.tls_cert_file_bytes,
                                     "options.tls_cert_file", &to->tls.certificate));
  FLINT_RETURN_IF_ERROR(ReadFileName(options.tls_key_file, options.tls_key_file_bytes,
                                     "options.tls_key_file", &to->tls.key));
  to->lazy = options.lazy == 1;
  to->timeout = std::chrono::nanoseconds(timeout_ns);
  to->token = token;
  return Status();
}

Status ReadConfig(const flint_limiter_config& from, LimitConfig* to) {
  // The engine's type for it is narrower: 0 stands for what does not fit, and is as wrong.
  const auto algorithm = static_cast<uint8_t>(from.algorithm > UINT8_MAX ? 0 : from.algorithm);
  switch (MakeConfig(Algorithm{algorithm}, from.rate, from.per_ns, from.burst, to)) {
    case ConfigError::kNone:
      return Status();
    case ConfigError::kRate:
      return OutOfBounds("rate", from.rate, kQuantity);
    case ConfigError::kPer:
      return OutOfBounds("per_ns", from.per_ns, kQuantity);
    case ConfigError::kBurst:
      return OutOfBounds("burst", from.burst,
                         std::string(kQuantity) + ", and for a window algorithm equal to rate");
    case ConfigError::kBurstSpan:
      return OutOfBounds("burst", from.burst,
                         "so small that burst * per_ns / rate, the time to fill it, is at most "
                         "2^62 ns (146 years)");
    case ConfigError::kAlgorithm:
      return OutOfBounds("algorithm", from.algorithm,
                         "between 1 (token bucket) and 6 (sliding window counter)");
  }
  return Status(Code::kInternal, "an unknown kind of configuration error");
}

Status ReadLimit(const flint_limiter_config* from, uint64_t stride, Place::Limit* to) {
  flint_limiter_config config;
  FLINT_RETURN_IF_ERROR(ReadStruct(from, "config", &config, stride));
  FLINT_RETURN_IF_ERROR(ReadKind(config.kind, &to->kind));
  FLINT_RETURN_IF_ERROR(ReadKey(config.key, config.key_bytes, &to->key));
  FLINT_RETURN_IF_ERROR(ReadText(config.name, config.name_bytes, "config.name", &to->name));
  if (config.flags > FLINT_LIMITER_STACK) {
    return OutOfBounds("config.flags", config.flags, "0 or 1 (stack)");
  }
  FLINT_RETURN_IF_ERROR(ReadConfig(config, &to->config));
  to->config.stack = config.flags == FLINT_LIMITER_STACK;
  return Status();
}

Status ReadKind(uint32_t kind, LimitKind* to) {
  if (kind > FLINT_LIMITER_KIND_TEMPLATE) {
    return OutOfBounds("kind", kind, "0 (exact) or 1 (template)");
  }
  *to = static_cast<LimitKind>(kind);
  return Status();
}

Status ReadSomeFlags(uint32_t flags, uint32_t allowed, Place::Flags* to) {
  if ((flags & ~allowed) != 0) [[unlikely]] {
    return OutOfBounds(
        "flags", flags,
        "a sum of flags that the function takes, which are those of " + std::to_string(allowed));
  }
  to->no_wait = (flags & FLINT_LIMITER_NO_WAIT) != 0;
  to->no_sync = (flags & FLINT_LIMITER_NO_SYNC) != 0;
  to->decision_only = (flags & FLINT_LIMITER_DECISION_ONLY) != 0;
  to->if_absent = (flags & FLINT_LIMITER_IF_ABSENT) != 0;
  to->all_counters = (flags & FLINT_LIMITER_ALL_COUNTERS) != 0;
  to->refuse = (flags & FLINT_LIMITER_REFUSE) != 0;
  to->update = (flags & FLINT_LIMITER_UPDATE) != 0;
  return Status();
}

void WriteSmallerResult(const Place::Decision& from, flint_limiter_result* to, uint64_t stride) {
  flint_limiter_result result{};
  FillResult(from, &result);
  WriteStruct(result, to, stride);
}

void WriteStatus(const Place::LimitStatus& from, const char* key, flint_limiter_status_info* to,
                 uint64_t stride) {
  flint_limiter_status_info status{};
  status.kind = static_cast<uint32_t>(from.kind);
  status.key = key;
  status.key_bytes = from.key.size();
  status.rate = from.config.rate;
  status.per_ns = from.config.per_ns;
  status.burst = from.config.burst;
  status.algorithm = static_cast<uint32_t>(from.config.algorithm);
  status.remaining = from.remaining;
  status.reset_at_ns = from.reset_at_ns;
  status.total_allowed = from.totals.allowed;
  status.total_denied = from.totals.denied;
  status.total_allowed_cost = from.totals.allowed_cost;
  status.total_denied_cost = from.totals.denied_cost;
  status.last_allowed_at_ns = from.totals.last_allowed_ns;
  status.last_denied_at_ns = from.totals.last_denied_ns;
  status.last_reset_at_ns = from.totals.last_reset_ns;
  status.counters = from.counters;
  status.name = key == nullptr ? nullptr : key + from.key.size();
  status.name_bytes = from.name.size();
  status.flags = from.config.stack ? FLINT_LIMITER_STACK : 0;
  WriteStruct(status, to, stride);
}

void WriteLimitResult(std::string_view name, const Place::Decision& from,
                      flint_limiter_limit_result* to, uint64_t stride) {
  flint_limiter_limit_result result{};
  result.allowed = from.allowed ? 1 : 0;
  result.algorithm = static_cast<uint32_t>(from.algorithm);
  result.name_bytes = static_cast<uint32_t>(name.size());
  result.limit = from.limit;
  result.remaining = from.remaining;
  result.reset_at_ns = from.reset_at_ns;
  result.reset_after_ns = from.reset_after_ns;
  result.retry_after_ns = from.retry_after_ns;
  if (!name.empty()) std::memcpy(result.name, name.data(), name.size());
  WriteStruct(result, to, stride);
}

void WriteInfo(const Place::Info& from, bool shared, flint_limiter_info* to) {
  flint_limiter_info info{};
  info.role = shared ? FLINT_LIMITER_ROLE_OWNER : FLINT_LIMITER_ROLE_ALONE;
  if (from.of_server) info.role = FLINT_LIMITER_ROLE_CLIENT;
  info.sync = from.always ? FLINT_LIMITER_SYNC_ALWAYS : FLINT_LIMITER_SYNC_BATCH;
  info.recovered_records = from.recovered_records;
  info.recovered_ring_records = from.recovered_ring_records;
  info.torn_bytes = from.torn_bytes;
  info.snapshot_limits = from.snapshot_limits;
  info.limits = from.limits;
  info.counters = from.counters;
  info.log_bytes = from.log_bytes;
  info.segments = from.segments;
  info.snapshot_bytes = from.snapshot_bytes;
  info.sequence = from.log.sequence;
  info.appended = from.log.appended;
  info.durable = from.log.durable;
  info.syncs = from.log.syncs;
  info.directory_mode = from.directory_mode;
  info.engine_time_ns = from.engine_time_ns;
  info.converted_events = from.legacy.events;
  if (from.legacy.clamped) info.warnings |= FLINT_LIMITER_WARNING_CLAMPED;
  if (from.legacy.snapshot_ahead) info.warnings |= FLINT_LIMITER_WARNING_SNAPSHOT_AHEAD;
  if (from.legacy.torn_bytes > 0) info.warnings |= FLINT_LIMITER_WARNING_TORN_LEGACY;
  if (from.legacy.left_out > 0) info.warnings |= FLINT_LIMITER_WARNING_LEFT_OUT;
  info.warnings |= from.told_warnings;
  if (from.bus_guard_replaced) info.warnings |= FLINT_LIMITER_WARNING_GUARD_REPLACED;
  info.undecided = from.undecided;
  info.evicted = from.evicted;
  info.compactions = from.compactions;
  info.compaction_failures = from.compaction_failures;
  info.compaction_done_bytes = from.compaction_done_bytes;
  info.compaction_total_bytes = from.compaction_total_bytes;
  info.history_bytes = from.history_bytes;
  info.damaged_history = from.damaged_history;
  info.read_only = from.read_only ? 1 : 0;
  info.compaction_failure = static_cast<uint64_t>(from.compaction_failure.code());
  info.compaction_retry_at_ns = from.compaction_retry_at_ns;
  info.history_failures = from.history_failures;
  info.unsynced_events = from.log.unsynced_events;
  info.since_sync_ns = from.log.times.since_sync_ns;
  info.sync_time_ns = from.log.times.sync_time_ns;
  info.poisoned = from.log.poisoned ? 1 : 0;
  WriteStruct(info, to);
}

void WriteReport(const DoctorReport& from, flint_limiter_doctor_report* to) {
  flint_limiter_doctor_report report{};
  report.snapshot_exists = from.snapshot_exists ? 1 : 0;
  report.limits = from.limits;
  report.counters = from.counters;
  report.records = from.records;
  report.ring_records = from.ring_records;
  report.history_events = from.log.events;
  report.segments = from.log.segments;
  report.history_segments = from.log.history_segments;
  report.log_bytes = from.log.log_bytes;
  report.snapshot_bytes = from.snapshot_bytes;
  report.seals = from.log.seals;
  report.torn_bytes = from.torn_bytes;
  report.directory_mode = from.directory_mode;
  WriteStruct(report, to);
}

Status ReadHistoryQuery(const flint_limiter_history_query* from, HistoryQuery* to) {
  flint_limiter_history_query query;
  FLINT_RETURN_IF_ERROR(ReadStruct(from, "query", &query));
  if (query.flags > FLINT_LIMITER_NEWEST_FIRST) {
    return OutOfBounds("query.flags", query.flags, "0 or 1 (newest first)");
  }
  LimitKind kind{};
  FLINT_RETURN_IF_ERROR(ReadKind(query.kind, &kind));
  to->newest_first = query.flags == FLINT_LIMITER_NEWEST_FIRST;
  to->key_is_template = kind == LimitKind::kTemplate;
  to->since_ns = query.since_ns;
  if (query.until_ns != 0) to->until_ns = query.until_ns;
  to->cursor = query.cursor;
  return Status();
}

void WriteEvent(const HistoryEvent& from, char* text, flint_limiter_event* to, uint64_t stride) {
  for (size_t i = 0; i < from.items.size(); ++i) {
    const HistoryItem& item = from.items[i];
    std::memcpy(text, item.key.data(), item.key.size());
    flint_limiter_event event{};
    event.type = static_cast<uint32_t>(from.type);
    event.sequence = from.sequence;
    event.at_ns = from.at_ns;
    event.first_at_ns = from.first_ns;
    event.count = from.count;
    event.cost = item.cost;
    event.key = text;
    event.key_bytes = item.key.size();
    event.kind = static_cast<uint32_t>(item.kind);
    std::memcpy(text + item.key.size(), item.name.data(), item.name.size());
    event.name = text + item.key.size();
    event.name_bytes = item.name.size();
    if (from.type != RecordType::kLimitRemoved && from.type != RecordType::kReset) {
      event.algorithm = static_cast<uint32_t>(item.config.algorithm);
      event.rate = item.config.rate;
      event.per_ns = item.config.per_ns;
      event.burst = item.config.burst;
      event.flags = item.config.stack ? FLINT_LIMITER_STACK : 0;
    }
    event.item_index = static_cast<uint32_t>(i);
    event.item_count = static_cast<uint32_t>(from.items.size());
    event.engine_ns = from.engine_ns;
    event.first_engine_ns = from.first_engine_ns;
    event.prefix_bytes = item.prefix_bytes;
    WriteStruct(event, At(to, stride, i), stride);
    text += item.key.size() + item.name.size();
  }
}

void WriteError(Code code, const Status::Detail* detail, std::string_view message,
                flint_limiter_error* to) {
  flint_limiter_error error{};
  error.code = static_cast<int32_t>(code);
  if (detail != nullptr) {
    error.system_errno = detail->system_errno;
    error.offset = detail->offset;
    error.sequence = detail->sequence;
    CopyText(detail->segment, error.segment);
  }
  CopyText(message, error.message);
  WriteStruct(error, to);
}

}  // namespace flint
