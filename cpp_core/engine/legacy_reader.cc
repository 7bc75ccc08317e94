#include "engine/legacy_reader.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "base/sha256.h"
#include "storage/file_names.h"

namespace flint {
namespace {

using Json = nlohmann::json;

constexpr char kChecksum[] = "checksum";
// What a dump adds to a line, and the checksum of all that stands before it.
constexpr char kExact[] = "exact";
constexpr char kExactChecksum[] = "exact_checksum";
constexpr uint64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr size_t kChunkBytes = size_t{1} << 20;

// What is wrong with a line; caught where its place is known, as nlohmann's exceptions are.
[[noreturn]] void Refuse(const std::string& what) { throw std::invalid_argument(what); }

// ---- Times: RFC 3339 ---------------------------------------------------------------------------

class TimeParser {
 public:
  explicit TimeParser(std::string_view text) : text_(text) {}

  int64_t Parse() {
    const int64_t year = Digits(4);
    Expect("-");
    const int64_t month = Digits(2);
    Expect("-");
    const int64_t day = Digits(2);
    Expect("Tt ");
    const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(year)),
                                           std::chrono::month(static_cast<unsigned>(month)),
                                           std::chrono::day(static_cast<unsigned>(day))};
    // Engine time ends in 2116.
    if (year < 1970 || year > 2115 || !date.ok()) Fail();
    const int64_t seconds_of_day = ClockSeconds();
    const int64_t fraction_ns = Fraction();
    const int64_t zone_s = Zone();
    if (!text_.empty()) Fail();
    const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
    const int64_t at_s = days * 86'400 + seconds_of_day - zone_s;
    if (at_s < 0) Fail();
    return at_s * kNsPerSecond + fraction_ns;
  }

 private:
  [[noreturn]] static void Fail() { Refuse("a time that cannot be read"); }

  char Take() {
    if (text_.empty()) Fail();
    const char first = text_.front();
    text_.remove_prefix(1);
    return first;
  }

  void Expect(std::string_view any_of) {
    if (any_of.find(Take()) == std::string_view::npos) Fail();
  }

  int64_t Digits(int count) {
    int64_t number = 0;
    for (int i = 0; i < count; ++i) {
      const char digit = Take();
      if (digit < '0' || digit > '9') Fail();
      number = number * 10 + (digit - '0');
    }
    return number;
  }

  int64_t ClockSeconds() {
    const int64_t hour = Digits(2);
    Expect(":");
    const int64_t minute = Digits(2);
    Expect(":");
    const int64_t second = Digits(2);
    if (hour > 23 || minute > 59 || second > 60) Fail();
    return hour * 3600 + minute * 60 + second;
  }

  int64_t Fraction() {
    int64_t fraction_ns = 0;
    if (text_.empty() || text_.front() != '.') return fraction_ns;
    text_.remove_prefix(1);
    int64_t scale_ns = kNsPerSecond / 10;
    for (; !text_.empty() && text_.front() >= '0' && text_.front() <= '9'; scale_ns /= 10) {
      fraction_ns += (Take() - '0') * scale_ns;
    }
    return fraction_ns;
  }

  int64_t Zone() {
    const char sign = Take();
    if (sign == 'Z' || sign == 'z') return 0;
    if (sign != '+' && sign != '-') Fail();
    const int64_t hours = Digits(2);
    Expect(":");
    const int64_t zone_s = hours * 3600 + Digits(2) * 60;
    return sign == '-' ? -zone_s : zone_s;
  }

  std::string_view text_;
};

// ---- Events ------------------------------------------------------------------------------------

uint64_t ReadNumber(const Json& json) {
  if (!json.is_number_unsigned()) Refuse("a number that is not whole or below 0");
  return json.get<uint64_t>();
}

uint64_t ReadCost(const Json& json) {
  return json.contains("cost") ? ReadNumber(json.at("cost")) : 1;
}

uint64_t Clamp(uint64_t value, LegacyFindings* findings) {
  const uint64_t clamped = std::clamp<uint64_t>(value, 1, kMaxQuantity);
  if (clamped != value) findings->clamped = true;
  return clamped;
}

uint64_t Times(uint64_t value, uint64_t factor) {
  uint64_t product = 0;
  return __builtin_mul_overflow(value, factor, &product) ? UINT64_MAX : product;
}

Algorithm ReadAlgorithm(const Json& json) {
  const std::string name = json.value("algorithm", "token_bucket");
  Algorithm algorithm{};
  if (!ParseAlgorithm(name.data(), name.size(), &algorithm)) Refuse("unknown algorithm " + name);
  return algorithm;
}

LimitConfig Make(Algorithm algorithm, uint64_t rate, uint64_t per_ns, uint64_t burst) {
  LimitConfig config;
  if (MakeConfig(algorithm, rate, per_ns, burst, &config) != ConfigError::kNone) {
    Refuse("a limit out of bounds");
  }
  return config;
}

LimitConfig ReadConfig(const Json& json, LegacyFindings* findings) {
  const uint64_t per_ms = json.contains("per_millis")
                              ? ReadNumber(json.at("per_millis"))
                              : Times(ReadNumber(json.at("per_seconds")), 1000);
  const uint64_t per_ns = Clamp(Times(per_ms, kNsPerMs), findings);
  const uint64_t rate = Clamp(ReadNumber(json.at("rate")), findings);
  return Make(ReadAlgorithm(json), rate, per_ns, 0);
}

RecordType ReadType(const std::string& name) {
  if (name == "LIMIT_CONFIGURED") return RecordType::kLimitConfigured;
  if (name == "ALLOW") return RecordType::kAllow;
  if (name == "ALLOW_ALL") return RecordType::kAllowAll;
  if (name == "DENY") return RecordType::kDeny;
  if (name == "RESET") return RecordType::kReset;
  Refuse("unknown event " + name);
}

std::string ReadKey(const Json& json) { return json.at("key").get<std::string>(); }

// An item that is named twice becomes one, with both costs.
void AddItem(const std::string& key, uint64_t cost, LegacyEvent* event) {
  for (LegacyItem& item : event->items) {
    if (item.key != key) continue;
    item.cost = item.cost > UINT64_MAX - cost ? UINT64_MAX : item.cost + cost;
    return;
  }
  event->items.emplace_back();
  event->items.back().key = key;
  event->items.back().cost = cost;
}

// `recorded_at` is the time of the line, for events that have none of their own.
LegacyEvent ReadEvent(const Json& json, const std::string& recorded_at, LegacyFindings* findings) {
  LegacyEvent event;
  event.type = ReadType(json.at("type").get<std::string>());
  const std::string at = json.value("at", recorded_at);
  if (!at.empty()) event.at_ns = TimeParser(at).Parse();
  event.first_ns = event.at_ns;
  switch (event.type) {
    case RecordType::kLimitConfigured:
      AddItem(ReadKey(json.at("config")), 0, &event);
      event.items[0].config = ReadConfig(json.at("config"), findings);
      break;
    case RecordType::kAllowAll:
      for (const Json& item : json.at("items")) AddItem(ReadKey(item), ReadCost(item), &event);
      break;
    default:
      AddItem(ReadKey(json), ReadCost(json), &event);
  }
  return event;
}

// ---- What a dump adds --------------------------------------------------------------------------

uint64_t ReadIfThere(const Json& json, const char* name, uint64_t otherwise) {
  return json.contains(name) ? ReadNumber(json.at(name)) : otherwise;
}

LimitConfig ReadExactConfig(const Json& exact, const LimitConfig& otherwise) {
  LimitConfig config =
      Make(exact.contains("algorithm") ? ReadAlgorithm(exact) : otherwise.algorithm,
           ReadIfThere(exact, "rate", otherwise.rate),
           ReadIfThere(exact, "per_ns", otherwise.per_ns), ReadIfThere(exact, "burst", 0));
  config.stack = exact.value("stack", false);
  return config;
}

// A limit with a name has it behind its key, as a limit of its own for those versions.
void ReadName(const Json& exact, LegacyItem* item) {
  if (!exact.contains("name")) return;
  item->name = exact.at("name").get<std::string>();
  const std::string ending = "#" + item->name;
  if (item->name.empty() || item->name.size() > kMaxNameBytes || !item->key.ends_with(ending)) {
    Refuse("a limit's name out of bounds");
  }
  item->key.resize(item->key.size() - ending.size());
}

void ReadExactItem(const Json& exact, bool configured, LegacyItem* item) {
  ReadName(exact, item);
  const std::string kind = exact.value("kind", "exact");
  if (kind == "template") {
    item->kind = LimitKind::kTemplate;
    if (!item->key.ends_with('*')) Refuse("a template without its asterisk");
    item->key.pop_back();
  } else if (kind == "counter") {
    if (configured) Refuse("a limit of a counter under a template");
    item->kind = LimitKind::kCounter;
    const uint64_t bytes = ReadNumber(exact.at("prefix"));
    if (bytes > item->key.size()) Refuse("a template's prefix longer than the key");
    item->prefix_bytes = static_cast<uint32_t>(bytes);
  } else if (kind == "inline") {
    item->kind = LimitKind::kInline;
  } else if (kind != "exact") {
    Refuse("unknown kind of limit " + kind);
  }
  if (configured || item->kind == LimitKind::kInline) {
    item->config = ReadExactConfig(exact, item->config);
    if (item->kind == LimitKind::kInline && item->config.stack)
      Refuse("an inline limit that stacks");
  }
}

// Those of an ALLOW_ALL: none is named twice, also where their keys look alike.
void ReadExactItems(const Json& shown, const Json& exact, LegacyEvent* event) {
  if (exact.size() != shown.size()) Refuse("another number of items");
  event->items.clear();
  std::set<std::pair<std::string_view, std::string_view>> seen;
  event->items.reserve(exact.size());
  for (size_t i = 0; i < exact.size(); ++i) {
    LegacyItem& item = event->items.emplace_back();
    item.key = ReadKey(shown[i]);
    item.cost = ReadCost(shown[i]);
    ReadExactItem(exact[i], false, &item);
    if (!seen.emplace(item.key, item.name).second) Refuse("a limit that is named twice");
  }
}

void ReadExact(const Json& exact, const Json& shown, LegacyEvent* event) {
  if (exact.value("type", "") == "LIMIT_REMOVED") event->type = RecordType::kLimitRemoved;
  event->count = ReadIfThere(exact, "count", 1);
  if (exact.contains("first_at")) {
    event->first_ns = TimeParser(exact.at("first_at").get<std::string>()).Parse();
  }
  if (event->count < 1 || event->first_ns > event->at_ns) Refuse("denials out of bounds");
  if (event->type != RecordType::kAllowAll) {
    ReadExactItem(exact, event->type == RecordType::kLimitConfigured, &event->items[0]);
    return;
  }
  ReadExactItems(shown.at("items"), exact.at("items"), event);
}

// A checksum is of the line's bytes before it, closed by a brace.
void CheckLine(std::string_view line, const Json& json, const char* name) {
  if (!json.contains(name)) return;
  const std::string field = std::string(",\"") + name + "\":";
  const std::string body = std::string(line.substr(0, line.rfind(field))) + "}";
  if (json.at(name).get<std::string>() != ToHex(Sha256Of(body.data(), body.size()))) {
    Refuse("the checksum does not match");
  }
}

LegacyEvent ReadLine(std::string_view line, LegacyFindings* findings) {
  const Json json = Json::parse(line);
  CheckLine(line, json, kChecksum);
  CheckLine(line, json, kExactChecksum);
  LegacyEvent event = ReadEvent(json.at("event"), json.value("ts", ""), findings);
  if (json.contains(kExact)) ReadExact(json.at(kExact), json.at("event"), &event);
  return event;
}

// ---- Lines -------------------------------------------------------------------------------------

// A file line by line, one in memory at a time.
class LineReader {
 public:
  LineReader(File* file, uint64_t offset) : file_(file), offset_(offset) {}

  // The next line without its end; `*ended` is false for what stands behind the last line end.
  Status Next(std::string_view* line, bool* ended) {
    begin_ += taken_;
    size_t searched = begin_;
    size_t end = std::string::npos;
    while ((end = buffer_.find('\n', searched)) == std::string::npos) {
      offset_ += begin_;
      buffer_.erase(0, begin_);
      begin_ = 0;
      searched = buffer_.size();
      buffer_.resize(searched + kChunkBytes);
      size_t got = 0;
      FLINT_RETURN_IF_ERROR(
          file_->Read(offset_ + searched, buffer_.data() + searched, kChunkBytes, &got));
      buffer_.resize(searched + got);
      if (got == 0) break;
    }
    *ended = end != std::string::npos;
    *line = std::string_view(buffer_).substr(begin_, *ended ? end - begin_ : end);
    taken_ = line->size() + (*ended ? 1 : 0);
    return Status();
  }

  uint64_t offset() const { return offset_ + begin_; }  // of the last line

 private:
  File* const file_;
  uint64_t offset_;  // of the buffer
  std::string buffer_;
  size_t begin_ = 0;  // in the buffer: the last line
  size_t taken_ = 0;  // its bytes
};

bool IsZeros(std::string_view line) {
  return line.find_first_not_of('\0') == std::string_view::npos;
}

Status ReadWhole(File* file, std::string* text) {
  uint64_t size = 0;
  FLINT_RETURN_IF_ERROR(file->Size(&size));
  text->resize(size);
  size_t got = 0;
  FLINT_RETURN_IF_ERROR(file->Read(0, text->data(), size, &got));
  text->resize(got);
  return Status();
}

}  // namespace

Status LegacyDamage(const std::string& file, uint64_t offset, const std::string& what) {
  return Status(Code::kCorruption, "the log of Flint 0.1 or 0.2 is damaged: " + file +
                                       " at offset " + std::to_string(offset) + ": " + what)
      .At(file, offset, 0);
}

Status ReadLegacyLog(File* file, uint64_t from, const LegacyEventSink& sink,
                     LegacyFindings* findings) {
  uint64_t size = 0;
  FLINT_RETURN_IF_ERROR(file->Size(&size));
  LineReader lines(file, from);
  while (true) {
    std::string_view line;
    bool ended = false;
    FLINT_RETURN_IF_ERROR(lines.Next(&line, &ended));
    const bool last = !ended || lines.offset() + line.size() + 1 == size;
    if (!ended || (last && !line.empty() && IsZeros(line))) {
      findings->torn_bytes = size - lines.offset();
      return Status();
    }
    if (line.empty()) continue;
    LegacyEvent event;
    try {
      event = ReadLine(line, findings);
    } catch (const std::exception& error) {
      return LegacyDamage(kLogName, lines.offset(), error.what());
    }
    event.offset = lines.offset();
    FLINT_RETURN_IF_ERROR(sink(std::move(event)));
  }
}

// The envelope holds the state as a JSON string with its checksum; a bare state is valid too.
Status ReadLegacySnapshot(File* file, const LegacyEventSink& sink, uint64_t* log_offset,
                          LegacyFindings* findings) {
  std::string text;
  FLINT_RETURN_IF_ERROR(ReadWhole(file, &text));
  std::vector<LegacyEvent> events;
  try {
    Json json = Json::parse(text);
    if (json.contains("snapshot")) {
      const std::string inner = json.at("snapshot").get<std::string>();
      if (json.contains("checksum") &&
          json.at("checksum").get<std::string>() != ToHex(Sha256Of(inner.data(), inner.size()))) {
        Refuse("the checksum does not match");
      }
      json = Json::parse(inner);
    }
    *log_offset = json.contains("aof_offset") ? ReadNumber(json.at("aof_offset")) : 0;
    for (const Json& event : json.at("state").at("history")) {
      events.push_back(ReadEvent(event, "", findings));
    }
  } catch (const std::exception& error) {
    return LegacyDamage(kSnapshotName, 0, error.what());
  }
  // What comes before anything with a time happened then at the latest.
  const auto timed = std::find_if(events.begin(), events.end(), [](const LegacyEvent& event) {
    return event.at_ns != kUnknownTime;
  });
  for (auto event = events.begin(); timed != events.end() && event != timed; ++event) {
    event->at_ns = timed->at_ns;
  }
  for (LegacyEvent& event : events) {
    event.file = kSnapshotName;
    FLINT_RETURN_IF_ERROR(sink(std::move(event)));
  }
  return Status();
}

}  // namespace flint
