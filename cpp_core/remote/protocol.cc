#include "remote/protocol.h"

#include <algorithm>
#include <array>
#include <utility>

namespace flint {
namespace {

constexpr std::array<std::string_view, 4> kKinds = {"exact", "template", "counter", "inline"};
constexpr std::array<std::string_view, 4> kTotals = {"denied", "allowed", "denied_cost",
                                                     "allowed_cost"};
constexpr std::array<std::pair<std::string_view, RecordType>, 6> kEvents = {{
    {"LIMIT_CONFIGURED", RecordType::kLimitConfigured},
    {"LIMIT_REMOVED", RecordType::kLimitRemoved},
    {"ALLOW", RecordType::kAllow},
    {"ALLOW_ALL", RecordType::kAllowAll},
    {"DENY", RecordType::kDeny},
    {"RESET", RecordType::kReset},
}};

Status Garbage(std::string_view what) {
  return Status(Code::kInternal,
                "the server's answer is not what this version of Flint asks for (" +
                    std::string(what) + "); perhaps it is older");
}

// As people write a template.
std::string Written(LimitKind kind, std::string_view key) {
  return kind == LimitKind::kTemplate ? std::string(key) + "*" : std::string(key);
}

// Two digits for each byte.
std::string Hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * bytes.size());
  for (const char c : bytes) {
    hex += kDigits[static_cast<uint8_t>(c) >> 4];
    hex += kDigits[static_cast<uint8_t>(c) & 15];
  }
  return hex;
}

// Reads the values of a map by their names. What it has not found, or is of another type, is in
// status().
class MapReader {
 public:
  explicit MapReader(const RespReply& map) : map_(map) {
    if (map.type != RespReply::Type::kMap) Fail("a map");
  }

  MapReader& Number(std::string_view name, uint64_t* to) {
    const RespReply* const value = Find(name, RespReply::Type::kNumber);
    if (value == nullptr) return *this;
    if (value->negative) {
      Fail(name);
    } else {
      *to = value->number;
    }
    return *this;
  }
  MapReader& Small(std::string_view name, uint32_t* to) {
    uint64_t number = 0;
    Number(name, &number);
    *to = static_cast<uint32_t>(std::min<uint64_t>(number, UINT32_MAX));
    return *this;
  }
  MapReader& Time(std::string_view name, int64_t* to) {
    const RespReply* const value = Find(name, RespReply::Type::kNumber);
    if (value == nullptr) return *this;
    // In two's complement.
    *to = static_cast<int64_t>(value->negative ? ~value->number + 1 : value->number);
    return *this;
  }
  MapReader& Truth(std::string_view name, bool* to) {
    const RespReply* const value = Find(name, RespReply::Type::kTruth);
    if (value != nullptr) *to = value->number == 1;
    return *this;
  }
  MapReader& Text(std::string_view name, std::string* to) {
    const RespReply* const value = Find(name, RespReply::Type::kText);
    if (value != nullptr) *to = value->text;
    return *this;
  }
  MapReader& Kind(LimitKind* to) {
    std::string text;
    Text("kind", &text);
    const auto* const found = std::find(kKinds.begin(), kKinds.end(), text);
    if (found == kKinds.end()) Fail("kind");
    *to = static_cast<LimitKind>(found - kKinds.begin());
    return *this;
  }
  MapReader& AlgorithmOf(Algorithm* to) {
    std::string text;
    Text("algorithm", &text);
    if (!ParseAlgorithm(text.data(), text.size(), to)) Fail("algorithm");
    return *this;
  }
  // An array; null where it is not there.
  const std::vector<RespReply>* Array(std::string_view name) {
    const RespReply* const value = Find(name, RespReply::Type::kArray);
    return value == nullptr ? nullptr : &value->items;
  }

  void Fail(std::string_view what) {
    if (status_.ok()) status_ = Garbage(what);
  }
  const Status& status() const { return status_; }

 private:
  // They mostly come in the order in which they are asked for.
  const RespReply* Find(std::string_view name, RespReply::Type type) {
    if (!status_.ok()) return nullptr;
    const std::vector<RespReply>& items = map_.items;
    for (size_t looked = 0; looked < items.size(); looked += 2) {
      const size_t at = next_;
      next_ = at + 2 < items.size() ? at + 2 : 0;
      if (items[at].type != RespReply::Type::kText || items[at].text != name) continue;
      if (items[at + 1].type == type) return &items[at + 1];
      break;
    }
    Fail(name);
    return nullptr;
  }

  const RespReply& map_;
  size_t next_ = 0;
  Status status_;
};

}  // namespace

// ---- Requests --------------------------------------------------------------------------------

RespRequest RequestOfCheck(const Place::Item& item, const Place::Flags& flags,
                           const LimitConfig* inline_config, bool peek, bool parts) {
  RespRequest request{peek ? "FLINT.PEEK" : "FLINT.CHECK", item.key};
  request.Option("COST", item.cost);
  if (inline_config != nullptr) {
    request.Option("RATE", inline_config->rate)
        .Option("PER", std::to_string(inline_config->per_ns) + "ns")
        .Option("BURST", inline_config->burst)
        .Option("ALGORITHM", AlgorithmName(inline_config->algorithm));
    if (!flags.update) request.Word("KEEP");
  }
  if (flags.refuse) request.Word("REFUSE");
  if (parts) request.Word("LIMITS");
  return request;
}

RespRequest RequestOfItems(std::string_view command, std::span<const Place::Item> items) {
  RespRequest request{command};
  for (const Place::Item& item : items) request.Option(item.key, item.cost);
  return request;
}

RespRequest RequestOfLimits(bool if_absent) { return {"FLINT.LIMITMANY", if_absent ? "NX" : "XX"}; }

void AddLimitWords(const Place::Limit& limit, RespRequest* request) {
  request->Word(kKinds[static_cast<size_t>(limit.kind)])
      .Word(limit.key)
      .Word(limit.name)
      .Number(limit.config.rate)
      .Number(limit.config.per_ns)
      .Number(limit.config.burst)
      .Word(AlgorithmName(limit.config.algorithm))
      .Word(limit.config.stack ? "STACK" : "ALONE");
}

RespRequest RequestOfChange(std::string_view command, LimitKind kind, std::string_view key,
                            const std::string_view* name) {
  RespRequest request{command, Written(kind, key)};
  if (name != nullptr && name->empty()) request.Word("UNNAMED");
  if (name != nullptr && !name->empty()) request.Option("NAME", *name);
  if (kind == LimitKind::kExact) request.Word("EXACT");
  return request;
}

RespRequest RequestOfStatus(LimitKind kind, std::string_view key, std::string_view name) {
  return RequestOfChange("FLINT.STATUS", kind, key, &name);
}

RespRequest RequestOfList(const Listing::Position* after, bool all_counters, size_t count) {
  RespRequest request{"FLINT.LIST"};
  request.Option("COUNT", count);
  if (after != nullptr) request.Option("CURSOR", Hex(CursorOf(*after)));
  if (all_counters) request.Word("COUNTERS");
  return request;
}

RespRequest RequestOfTop(TopBy by, bool all_counters, size_t count) {
  RespRequest request{"FLINT.TOP", "BY", kTotals[static_cast<size_t>(by)]};
  request.Option("COUNT", count);
  if (!all_counters) request.Word("NOCOUNTERS");
  return request;
}

RespRequest RequestOfHistory(const HistoryQuery& query, size_t count) {
  RespRequest request{"FLINT.HISTORY"};
  request.Option("BYTES", query.text_bytes).Option("CURSOR", query.cursor);
  // Without one it is as many as any event can need.
  if (count != 0) request.Option("COUNT", count);
  // Nothing that is recorded is earlier than 1970.
  request.Option("SINCE", static_cast<uint64_t>(std::max<int64_t>(query.since_ns, 0)));
  if (query.until_ns != INT64_MAX) {
    request.Option("UNTIL", static_cast<uint64_t>(std::max<int64_t>(query.until_ns, 1)));
  }
  if (query.newest_first) request.Word("NEWEST");
  if (query.has_key) {
    const LimitKind kind = query.key_is_template ? LimitKind::kTemplate : LimitKind::kExact;
    request.Option("KEY", Written(kind, query.key));
    if (!query.key_is_template) request.Word("EXACT");
  }
  return request;
}

// ---- Replies ---------------------------------------------------------------------------------

Status StatusOfReply(const RespReply& reply) {
  if (reply.type != RespReply::Type::kError) return Status();
  const std::string_view text = reply.text;
  const size_t space = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, space);
  std::string message(text.substr(std::min(space + 1, text.size())));
  if (word == "ERR") {
    const bool older = message.starts_with("unknown command");
    return Status(older ? Code::kUnsupported : Code::kInvalidArgument, std::move(message));
  }
  if (word == "NOAUTH" || word == "WRONGPASS" || word == "NOPERM") {
    return Status(Code::kPermission, "the server refuses: " + message);
  }
  if (word == "NOPROTO") return Status(Code::kUnsupported, "the server refuses: " + message);
#define FLINT_NAMED_CODE(name, c_name, value, sentence) \
  if (word == #c_name) return Status(Code::name, std::move(message));
  FLINT_STATUS_CODES(FLINT_NAMED_CODE)
#undef FLINT_NAMED_CODE
  return Status(Code::kInternal, "the server says: " + std::string(text));
}

namespace {

// What the whole decision and one limit's have in common.
void ReadNumbers(MapReader* map, Place::Decision* decision) {
  map->AlgorithmOf(&decision->algorithm)
      .Number("limit", &decision->limit)
      .Number("remaining", &decision->remaining)
      .Number("retry_after_ns", &decision->retry_after_ns)
      .Number("reset_after_ns", &decision->reset_after_ns)
      .Time("reset_at_ns", &decision->reset_at_ns);
}

// What each limit says is told when all of it could be read.
Status ReadParts(const std::vector<RespReply>& items, Place::EachLimit* each) {
  std::vector<std::pair<std::string, Place::Decision>> parts(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    auto& [name, decision] = parts[i];
    MapReader map(items[i]);
    map.Text("name", &name).Truth("allowed", &decision.allowed);
    ReadNumbers(&map, &decision);
    FLINT_RETURN_IF_ERROR(map.status());
    if (name.size() > kMaxNameBytes) return Garbage("name");
  }
  for (const auto& [name, decision] : parts) each->Add(name, decision);
  return Status();
}

}  // namespace

Status ReadDecision(const RespReply& reply, Place::Decision* decision) {
  FLINT_RETURN_IF_ERROR(StatusOfReply(reply));
  Place::Decision read;
  MapReader map(reply);
  map.Truth("allowed", &read.allowed).Number("cost", &read.cost);
  ReadNumbers(&map, &read);
  map.Truth("undecided", &read.undecided)
      .Small("limit_count", &read.limit_count)
      .Small("limit_index", &read.limit_index);
  FLINT_RETURN_IF_ERROR(map.status());
  if (read.limit_count > kMaxLimitsOfKey) return Garbage("limit_count");
  read.each = decision->each;
  if (read.each != nullptr && read.limit_count > 0) {
    const std::vector<RespReply>* const parts = map.Array("limits");
    FLINT_RETURN_IF_ERROR(map.status());
    if (parts->size() != read.limit_count) return Garbage("limits");
    FLINT_RETURN_IF_ERROR(ReadParts(*parts, read.each));
  }
  *decision = read;
  return Status();
}

Status ReadDecisions(const RespReply& reply, size_t count, Place::Decision* decisions,
                     size_t* denied) {
  FLINT_RETURN_IF_ERROR(StatusOfReply(reply));
  bool allowed = false;
  MapReader map(reply);
  map.Truth("allowed", &allowed);
  const std::vector<RespReply>* const results = map.Array("results");
  FLINT_RETURN_IF_ERROR(map.status());
  const size_t told = results->size();
  if (told == 0 || told > count || (allowed && told < count)) return Garbage("results");
  std::vector<Place::Decision> read(told);
  for (size_t i = 0; i < told; ++i) {
    FLINT_RETURN_IF_ERROR(ReadDecision((*results)[i], &read[i]));
    const bool is_last = i + 1 == told;
    if (read[i].allowed != (allowed || !is_last)) return Garbage("allowed");
  }
  std::copy(read.begin(), read.end(), decisions);
  *denied = allowed ? count : told - 1;
  return Status();
}

Status ReadAnswers(const RespReply& reply, std::span<Place::Answer> answers) {
  FLINT_RETURN_IF_ERROR(StatusOfReply(reply));
  const auto asked = static_cast<size_t>(
      std::count_if(answers.begin(), answers.end(),
                    [](const Place::Answer& answer) { return answer.code == Code::kOk; }));
  if (reply.type != RespReply::Type::kArray || reply.items.size() != asked) {
    return Garbage("a list of decisions");
  }
  size_t next = 0;
  for (Place::Answer& answer : answers) {
    if (answer.code != Code::kOk) continue;
    answer.code = ReadDecision(reply.items[next++], &answer.decision).code();
  }
  return Status();
}

Status ReadLimitStatus(const RespReply& reply, LimitStatus* status) {
  FLINT_RETURN_IF_ERROR(StatusOfReply(reply));
  LimitStatus read;
  MapReader map(reply);
  map.Text("key", &read.key)
      .Text("name", &read.name)
      .Kind(&read.kind)
      .AlgorithmOf(&read.config.algorithm)
      .Number("rate", &read.config.rate)
      .Number("per_ns", &read.config.per_ns)
      .Number("burst", &read.config.burst)
      .Truth("stack", &read.config.stack)
      .Number("remaining", &read.remaining)
      .Time("reset_at_ns", &read.reset_at_ns)
      .Number("total_allowed", &read.totals.allowed)
      .Number("total_denied", &read.totals.denied)
      .Number("total_allowed_cost", &read.totals.allowed_cost)
      .Number("total_denied_cost", &read.totals.denied_cost)
      .Time("last_allowed_at_ns", &read.totals.last_allowed_ns)
      .Time("last_denied_at_ns", &read.totals.last_denied_ns)
      .Time("last_reset_at_ns", &read.totals.last_reset_ns)
      .Number("counters", &read.counters);
  FLINT_RETURN_IF_ERROR(map.status());
  if (read.name.size() > kMaxNameBytes) return Garbage("name");
  if (read.kind == LimitKind::kTemplate) {
    if (!read.key.ends_with('*')) return Garbage("key");
    read.key.pop_back();
  }
  *status = std::move(read);
  return Status();
}

Status ReadLimitStatuses(const RespReply& reply, std::vector<LimitStatus>* statuses) {
  FLINT_RETURN_IF_ERROR(StatusOfReply(reply));
  if (reply.type != RespReply::Type::kArray) return Garbage("a list of limits");
  std::vector<LimitStatus> read(reply.items.size());
  for (size_t i = 0; i < read.size(); ++i) {
    FLINT_RETURN_IF_ERROR(ReadLimitStatus(reply.items[i], &read[i]));
  }
  *statuses = std::move(read);
  return Status();
}

Status ReadInfo(const RespReply& reply, Place::Info* info) {
  FLINT_RETURN_IF_ERROR(StatusOfReply(reply));
  Place::Info read;
  uint64_t batch = 0;
  uint64_t read_only = 0;
  uint64_t poisoned = 0;
  uint64_t failure = 0;
  uint64_t directory_mode = 0;
  MapReader map(reply);
  map.Number("sync", &batch)
      .Number("recovered_records", &read.recovered_records)
      .Number("recovered_ring_records", &read.recovered_ring_records)
      .Number("torn_bytes", &read.torn_bytes)
      .Number("snapshot_limits", &read.snapshot_limits)
      .Number("directory_mode", &directory_mode)
      .Time("engine_time_ns", &read.engine_time_ns)
      .Number("converted_events", &read.legacy.events)
      .Number("limits", &read.limits)
      .Number("counters", &read.counters)
      .Number("sequence", &read.log.sequence)
      .Number("appended", &read.log.appended)
      .Number("durable", &read.log.durable)
      .Number("unsynced_events", &read.log.unsynced_events)
      .Number("syncs", &read.log.syncs)
      .Number("sync_time_ns", &read.log.times.sync_time_ns)
      .Number("since_sync_ns", &read.log.times.since_sync_ns)
      .Number("segments", &read.segments)
      .Number("log_bytes", &read.log_bytes)
      .Number("history_bytes", &read.history_bytes)
      .Number("snapshot_bytes", &read.snapshot_bytes)
      .Number("compactions", &read.compactions)
      .Number("compaction_failures", &read.compaction_failures)
      .Number("compaction_done_bytes", &read.compaction_done_bytes)
      .Number("compaction_total_bytes", &read.compaction_total_bytes)
      .Number("compaction_failure", &failure)
      .Time("compaction_retry_at_ns", &read.compaction_retry_at_ns)
      .Number("damaged_history", &read.damaged_history)
      .Number("history_failures", &read.history_failures)
      .Number("read_only", &read_only)
      .Number("undecided", &read.undecided)
      .Number("evicted", &read.evicted)
      .Number("poisoned", &poisoned)
      .Number("warnings", &read.told_warnings);
  FLINT_RETURN_IF_ERROR(map.status());
  read.always = batch == 0;
  read.directory_mode = static_cast<uint32_t>(directory_mode);
  read.read_only = read_only != 0;
  read.of_server = true;
  read.log.poisoned = poisoned != 0;
  if (failure != 0) read.compaction_failure = Status(static_cast<Code>(failure), "");
  *info = std::move(read);
  return Status();
}

namespace {

// One item, with what it shares with the others of its event.
Status ReadItem(const RespReply& reply, HistoryEvent* event, HistoryItem* item, uint32_t* index,
                uint32_t* count) {
  std::string type;
  std::string algorithm;
  uint64_t prefix_bytes = 0;
  MapReader map(reply);
  map.Text("type", &type)
      .Number("sequence", &event->sequence)
      .Time("at_ns", &event->at_ns)
      .Time("first_at_ns", &event->first_ns)
      .Number("count", &event->count)
      .Number("cost", &item->cost)
      .Text("key", &item->key)
      .Text("name", &item->name)
      .Text("algorithm", &algorithm)
      .Number("rate", &item->config.rate)
      .Number("per_ns", &item->config.per_ns)
      .Number("burst", &item->config.burst)
      .Kind(&item->kind)
      .Small("item_index", index)
      .Small("item_count", count)
      .Time("engine_ns", &event->engine_ns)
      .Time("first_engine_ns", &event->first_engine_ns)
      .Number("prefix_bytes", &prefix_bytes)
      .Truth("stack", &item->config.stack);
  const auto* const found = std::find_if(kEvents.begin(), kEvents.end(),
                                         [&](const auto& known) { return known.first == type; });
  if (found == kEvents.end()) {
    map.Fail("type");
  } else {
    event->type = found->second;
  }
  if (!algorithm.empty() &&
      !ParseAlgorithm(algorithm.data(), algorithm.size(), &item->config.algorithm)) {
    map.Fail("algorithm");
  }
  FLINT_RETURN_IF_ERROR(map.status());
  if (item->kind == LimitKind::kTemplate) {
    if (!item->key.ends_with('*')) return Garbage("key");
    item->key.pop_back();
  }
  if (prefix_bytes > item->key.size()) return Garbage("prefix_bytes");
  item->prefix_bytes = static_cast<uint32_t>(prefix_bytes);
  return Status();
}

}  // namespace

Status ReadHistoryPage(const RespReply& reply, HistoryPage* page) {
  FLINT_RETURN_IF_ERROR(StatusOfReply(reply));
  const std::vector<RespReply>& parts = reply.items;
  if (reply.type != RespReply::Type::kArray || parts.size() != 2 ||
      parts[0].type != RespReply::Type::kNumber || parts[1].type != RespReply::Type::kArray) {
    return Garbage("a page of events");
  }
  HistoryPage read;
  read.next_cursor = parts[0].number;
  for (size_t i = 0; i < parts[1].items.size();) {
    HistoryEvent& event = read.events.emplace_back();
    uint32_t count = 1;
    for (uint32_t wanted = 0; wanted < count; ++wanted, ++i) {
      uint32_t index = 0;
      if (i == parts[1].items.size()) return Garbage("item_count");
      FLINT_RETURN_IF_ERROR(
          ReadItem(parts[1].items[i], &event, &event.items.emplace_back(), &index, &count));
      if (index != wanted) return Garbage("item_index");
    }
  }
  *page = std::move(read);
  return Status();
}

Status ReadHello(const RespReply& reply) {
  FLINT_RETURN_IF_ERROR(StatusOfReply(reply));
  std::string server;
  MapReader map(reply);
  map.Text("server", &server);
  if (map.status().ok() && server == "flint") return Status();
  return Status(Code::kUnsupported,
                "what answers there speaks the Redis protocol and is no Flint "
                "server; flint server start --redis-bind starts one");
}

}  // namespace flint
