#include "storage/snapshot.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "algorithms/sliding_window_log.h"
#include "storage/file_names.h"

namespace flint {
namespace {

using Json = nlohmann::json;

constexpr size_t kBufferBytes = size_t{1} << 18;
constexpr char kDigestField[] = ",\"sha256\":\"";
constexpr size_t kDigestLength = 64;
// A field whose name begins so may be left out by whoever does not know it.
constexpr char kMayBeIgnored = '_';
const char* const kHeadFields[] = {"format",  "directory_id", "position", "sequence",
                                   "crc",     "engine_ns",    "boot_ns",  "wall_ns",
                                   "boot_id", "last_ns",      "limits",   "features"};
const char* const kLimitFields[] = {"key",    "kind",   "rate",   "per_ns", "burst", "algorithm",
                                    "prefix", "totals", "stamps", "state",  "name",  "stack"};
const char* const kKindNames[] = {"exact", "template", "counter", "inline"};

template <size_t N>
std::string Hex(const std::array<uint8_t, N>& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

template <size_t N>
bool ParseHex(const std::string& text, std::array<uint8_t, N>* bytes) {
  if (text.size() != 2 * N) return false;
  for (size_t i = 0; i < N; ++i) {
    const char* begin = text.data() + 2 * i;
    const auto [end, error] = std::from_chars(begin, begin + 2, (*bytes)[i], 16);
    if (error != std::errc() || end != begin + 2) return false;
  }
  return true;
}

// ---- Writing a line --------------------------------------------------------------------------

// A line is what the library makes of an object, fields in order of their names. With a million
// limits a tree for each would be nearly all that a compaction takes.

template <typename Number>
void PutNumber(Number number, std::string* to) {
  char digits[std::numeric_limits<Number>::digits10 + 3];
  to->append(digits, std::to_chars(std::begin(digits), std::end(digits), number).ptr);
}

template <typename First, typename... Others>
void PutNumbers(std::string* to, First first, Others... others) {
  to->push_back('[');
  PutNumber(first, to);
  ((to->push_back(','), PutNumber(others, to)), ...);
  to->push_back(']');
}

// Of characters that stand for themselves, whatever reads or writes them.
bool IsPlain(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; });
}

// What is not plain the library escapes, and refuses what is not UTF-8.
void PutText(std::string_view text, std::string* to) {
  if (!IsPlain(text)) {
    to->append(Json(std::string(text)).dump());
    return;
  }
  to->push_back('"');
  to->append(text);
  to->push_back('"');
}

void PutState(const LimitConfig& config, const State& state, std::string* to) {
  switch (config.algorithm) {
    case Algorithm::kTokenBucket:
    case Algorithm::kGcra:
    case Algorithm::kLeakyBucket:
      return PutNumbers(to, state.bucket.tat_ns, state.bucket.fraction);
    case Algorithm::kFixedWindowCounter:
      return PutNumbers(to, state.fixed.start_ns, state.fixed.used);
    case Algorithm::kSlidingWindowCounter:
      return PutNumbers(to, state.sliding.index, state.sliding.previous, state.sliding.current);
    case Algorithm::kSlidingWindowLog:
      break;
  }
  to->push_back('[');
  const uint32_t count = state.log == nullptr ? 0 : state.log->size();
  for (uint32_t i = 0; i < count; ++i) {
    if (i > 0) to->push_back(',');
    PutNumbers(to, state.log->entry(i).at_ns, state.log->entry(i).cost);
  }
  to->push_back(']');
}

void PutLine(const SavedLimit& limit, std::string* to) {
  const Totals& totals = limit.totals;
  to->append("{\"algorithm\":");
  PutText(AlgorithmName(limit.config.algorithm), to);
  to->append(",\"burst\":");
  PutNumber(limit.config.burst, to);
  to->append(",\"key\":");
  PutText(limit.key, to);
  to->append(",\"kind\":");
  PutText(kKindNames[static_cast<size_t>(limit.kind)], to);
  if (!limit.name.empty()) {
    to->append(",\"name\":");
    PutText(limit.name, to);
  }
  to->append(",\"per_ns\":");
  PutNumber(limit.config.per_ns, to);
  if (limit.kind == LimitKind::kCounter) {
    to->append(",\"prefix\":");
    PutNumber(limit.prefix_bytes, to);
  }
  to->append(",\"rate\":");
  PutNumber(limit.config.rate, to);
  if (limit.config.stack) to->append(",\"stack\":true");
  to->append(",\"stamps\":");
  PutNumbers(to, totals.last_allowed_ns, totals.last_denied_ns, totals.last_reset_ns);
  if (limit.state != nullptr) {
    to->append(",\"state\":");
    PutState(limit.config, *limit.state, to);
  }
  to->append(",\"totals\":");
  PutNumbers(to, totals.allowed, totals.denied, totals.allowed_cost, totals.denied_cost);
  to->push_back('}');
}

// ---- Reading a line --------------------------------------------------------------------------

// A line as PutLine writes it, taken apart from the front. What is written otherwise, or escaped,
// is not read here.
class PlainLine {
 public:
  explicit PlainLine(std::string_view line) : rest_(line) {}

  bool Take(std::string_view literal) {
    if (!rest_.starts_with(literal)) return false;
    rest_.remove_prefix(literal.size());
    return true;
  }
  template <typename Number>
  bool TakeNumber(Number* number) {
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), *number);
    if (error != std::errc()) return false;
    const auto size = static_cast<size_t>(end - rest_.data());
    // JSON has no zeros in front.
    const size_t sign = rest_.front() == '-' ? 1 : 0;
    if (rest_[sign] == '0' && size > sign + 1) return false;
    rest_.remove_prefix(size);
    return true;
  }
  template <typename First, typename... Others>
  bool TakeNumbers(First* first, Others*... others) {
    return Take("[") && TakeNumber(first) && ((Take(",") && TakeNumber(others)) && ...) &&
           Take("]");
  }
  bool TakeText(std::string_view* text) {
    if (!Take("\"")) return false;
    const size_t size = rest_.find('"');
    if (size == std::string_view::npos || !IsPlain(rest_.substr(0, size))) return false;
    *text = rest_.substr(0, size);
    rest_.remove_prefix(size + 1);
    return true;
  }
  bool at_end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

bool ReadPlainState(Algorithm algorithm, PlainLine* line, State* state) {
  if (IsBucket(algorithm)) return line->TakeNumbers(&state->bucket.tat_ns, &state->bucket.fraction);
  if (algorithm == Algorithm::kFixedWindowCounter) {
    return line->TakeNumbers(&state->fixed.start_ns, &state->fixed.used);
  }
  return algorithm == Algorithm::kSlidingWindowCounter &&
         line->TakeNumbers(&state->sliding.index, &state->sliding.previous,
                           &state->sliding.current);
}

bool ParseKind(std::string_view text, LimitKind* kind) {
  for (size_t i = 0; i < std::size(kKindNames); ++i) {
    if (text != kKindNames[i]) continue;
    *kind = static_cast<LimitKind>(i);
    return true;
  }
  return false;
}

// False where the line is to be read as any JSON is, which also finds what is wrong with it.
bool ReadPlainLine(std::string_view text, SavedLimit* limit, State* state) {
  PlainLine line(text);
  std::string_view algorithm_name;
  std::string_view kind;
  Algorithm algorithm{};
  uint64_t burst = 0;
  uint64_t per_ns = 0;
  uint64_t rate = 0;
  if (!line.Take("{\"algorithm\":") || !line.TakeText(&algorithm_name) ||
      !ParseAlgorithm(algorithm_name.data(), algorithm_name.size(), &algorithm) ||
      !line.Take(",\"burst\":") || !line.TakeNumber(&burst) || !line.Take(",\"key\":") ||
      !line.TakeText(&limit->key) || !line.Take(",\"kind\":") || !line.TakeText(&kind) ||
      !ParseKind(kind, &limit->kind)) {
    return false;
  }
  if (line.Take(",\"name\":") && !line.TakeText(&limit->name)) return false;
  if (!line.Take(",\"per_ns\":") || !line.TakeNumber(&per_ns)) return false;
  if (limit->kind == LimitKind::kCounter &&
      !(line.Take(",\"prefix\":") && line.TakeNumber(&limit->prefix_bytes))) {
    return false;
  }
  if (!line.Take(",\"rate\":") || !line.TakeNumber(&rate) ||
      MakeConfig(algorithm, rate, per_ns, burst, &limit->config) != ConfigError::kNone ||
      limit->name.size() > kMaxNameBytes) {
    return false;
  }
  limit->config.stack = line.Take(",\"stack\":true");
  Totals& totals = limit->totals;
  if (!line.Take(",\"stamps\":") ||
      !line.TakeNumbers(&totals.last_allowed_ns, &totals.last_denied_ns, &totals.last_reset_ns)) {
    return false;
  }
  if (limit->kind != LimitKind::kTemplate &&
      !(line.Take(",\"state\":") && ReadPlainState(algorithm, &line, state))) {
    return false;
  }
  return line.Take(",\"totals\":") &&
         line.TakeNumbers(&totals.allowed, &totals.denied, &totals.allowed_cost,
                          &totals.denied_cost) &&
         line.Take("}") && line.at_end();
}

State StateFromJson(const LimitConfig& config, const Json& json) {
  State state;
  switch (config.algorithm) {
    case Algorithm::kTokenBucket:
    case Algorithm::kGcra:
    case Algorithm::kLeakyBucket:
      state.bucket.tat_ns = json.at(0).get<int64_t>();
      state.bucket.fraction = json.at(1).get<uint64_t>();
      return state;
    case Algorithm::kFixedWindowCounter:
      state.fixed.start_ns = json.at(0).get<int64_t>();
      state.fixed.used = json.at(1).get<uint64_t>();
      return state;
    case Algorithm::kSlidingWindowCounter:
      state.sliding.index = json.at(0).get<int64_t>();
      state.sliding.previous = json.at(1).get<uint64_t>();
      state.sliding.current = json.at(2).get<uint64_t>();
      return state;
    case Algorithm::kSlidingWindowLog:
      break;
  }
  if (json.empty()) return state;
  state.log = std::make_unique<SlidingLog>();
  for (const Json& entry : json) {
    state.log->Append(entry.at(0).get<int64_t>(), entry.at(1).get<uint64_t>());
  }
  return state;
}

Status Met(const std::string& what) { return Newer("", what); }

template <size_t N>
Status CheckFields(const Json& json, const char* const (&known)[N], const char* where) {
  for (const auto& item : json.items()) {
    const std::string& name = item.key();
    const bool is_known = std::any_of(std::begin(known), std::end(known),
                                      [&name](const char* field) { return name == field; });
    if (is_known || name.starts_with(kMayBeIgnored)) continue;
    return Met("the field \"" + name + "\" of " + where);
  }
  return Status();
}

Status AddAnyLine(const Json& json, const AddLimit& add) {
  FLINT_RETURN_IF_ERROR(CheckFields(json, kLimitFields, "a limit"));
  const std::string key = json.at("key").get<std::string>();
  const std::string kind = json.at("kind").get<std::string>();
  const std::string algorithm_name = json.at("algorithm").get<std::string>();
  const std::string name = json.value("name", std::string());
  SavedLimit limit;
  limit.key = key;
  limit.name = name;
  if (!ParseKind(kind, &limit.kind)) return Met("the limit kind \"" + kind + "\"");
  Algorithm algorithm{};
  if (!ParseAlgorithm(algorithm_name.data(), algorithm_name.size(), &algorithm)) {
    return Met("the algorithm \"" + algorithm_name + "\"");
  }
  if (MakeConfig(algorithm, json.at("rate").get<uint64_t>(), json.at("per_ns").get<uint64_t>(),
                 json.at("burst").get<uint64_t>(), &limit.config) != ConfigError::kNone) {
    return Status(Code::kCorruption, "a limit that makes no sense");
  }
  if (name.size() > kMaxNameBytes) return Status(Code::kCorruption, "a name that is too long");
  limit.config.stack = json.value("stack", false);
  const Json& totals = json.at("totals");
  const Json& stamps = json.at("stamps");
  limit.totals = Totals{totals.at(0).get<uint64_t>(), totals.at(1).get<uint64_t>(),
                        totals.at(2).get<uint64_t>(), totals.at(3).get<uint64_t>(),
                        stamps.at(0).get<int64_t>(),  stamps.at(1).get<int64_t>(),
                        stamps.at(2).get<int64_t>()};
  if (limit.kind == LimitKind::kCounter) limit.prefix_bytes = json.at("prefix").get<uint32_t>();
  if (limit.kind == LimitKind::kTemplate) return add(limit, State());
  return add(limit, StateFromJson(limit.config, json.at("state")));
}

Status AddLine(std::string_view line, const AddLimit& add) {
  SavedLimit limit;
  State state;
  if (!ReadPlainLine(line, &limit, &state)) return AddAnyLine(Json::parse(line), add);
  return add(limit, std::move(state));
}

Status HeadFromJson(const Json& json, SnapshotHead* head) {
  const auto format = json.at("format").get<uint64_t>();
  if (format != kFormatVersion) return Met("format " + std::to_string(format));
  FLINT_RETURN_IF_ERROR(CheckFields(json, kHeadFields, "the head"));
  if (json.contains("features")) {
    const Json& features = json.at("features");
    head->features = Features{features.at(0).get<uint64_t>(), features.at(1).get<uint64_t>(),
                              features.at(2).get<uint64_t>()};
  }
  FLINT_RETURN_IF_ERROR(CheckReadable(head->features, ""));
  head->covered.present = true;
  head->covered.position = json.at("position").get<uint64_t>();
  head->covered.sequence = json.at("sequence").get<uint64_t>();
  head->covered.crc = json.at("crc").get<uint32_t>();
  head->clock.clock =
      ClockPair{json.at("engine_ns").get<int64_t>(), json.at("boot_ns").get<int64_t>(),
                json.at("wall_ns").get<int64_t>()};
  head->last_ns = json.at("last_ns").get<int64_t>();
  if (!ParseHex(json.at("directory_id").get<std::string>(), &head->covered.directory_id) ||
      !ParseHex(json.at("boot_id").get<std::string>(), &head->clock.boot)) {
    return Status(Code::kCorruption, "an id that is not hexadecimal");
  }
  return Status();
}

Status CheckDigest(const std::string& text) {
  const size_t field = text.rfind(kDigestField);
  const size_t begin = field + sizeof(kDigestField) - 1;
  if (field == std::string::npos || begin + kDigestLength > text.size() ||
      text.compare(begin, kDigestLength, ToHex(Sha256Of(text.data(), field))) != 0) {
    return Status(Code::kCorruption, "its SHA-256 does not match");
  }
  return Status();
}

// One line per limit lets the document be read without holding all of it as a tree. `*line` is
// where the one that is being read begins.
Status ParseLines(const std::string& text, SnapshotHead* head, const AddLimit& add,
                  uint64_t* line) {
  FLINT_RETURN_IF_ERROR(CheckDigest(text));
  size_t at = text.find('\n');
  uint64_t count = 0;
  FLINT_RETURN_IF_ERROR(HeadFromJson(Json::parse(text.substr(0, at) + "]}"), head));
  while (at + 1 < text.size() && text[at + 1] == '{') {
    const size_t begin = at + 1;
    *line = begin;
    ++count;
    at = text.find('\n', begin);
    const size_t end = text[at - 1] == ',' ? at - 1 : at;
    FLINT_RETURN_IF_ERROR(AddLine(std::string_view(text).substr(begin, end - begin), add));
  }
  *line = at + 1;
  const std::string end = "],\"count\":" + std::to_string(count) + kDigestField;
  return text.compare(*line, end.size(), end) == 0 ? Status()
                                                   : Met("what stands behind the limits");
}

}  // namespace

SnapshotWriter::~SnapshotWriter() {
  if (file_ == nullptr) return;
  file_.reset();
  // What stays is replaced by the next snapshot.
  static_cast<void>(env_->Remove(directory_ + "/" + kSnapshotTemporaryName).ok());
}

Status SnapshotWriter::Create() {
  const std::string path = directory_ + "/" + kSnapshotTemporaryName;
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env_->Exists(path, &exists));
  if (exists) FLINT_RETURN_IF_ERROR(env_->Remove(path));
  return env_->OpenFile(path, OpenMode::kCreate, &file_);
}

Status SnapshotWriter::Begin(const SnapshotHead& head) {
  Json json = {{"format", kFormatVersion},
               {"directory_id", Hex(head.covered.directory_id)},
               {"position", head.covered.position},
               {"sequence", head.covered.sequence},
               {"crc", head.covered.crc},
               {"engine_ns", head.clock.clock.engine_ns},
               {"boot_ns", head.clock.clock.boot_ns},
               {"wall_ns", head.clock.clock.wall_ns},
               {"boot_id", Hex(head.clock.boot)},
               {"last_ns", head.last_ns}};
  if (!(head.features == Features())) {
    json["features"] = {head.features.compatible, head.features.read_only_compatible,
                        head.features.incompatible};
  }
  std::string line = json.dump();
  line.pop_back();
  return Put(line + ",\"limits\":[");
}

Status SnapshotWriter::Add(const SavedLimit& limit) {
  buffer_.append(count_ == 0 ? "\n" : ",\n");
  ++count_;
  PutLine(limit, &buffer_);
  return WriteIfFull();
}

Status SnapshotWriter::Finish() {
  FLINT_RETURN_IF_ERROR(Put("\n],\"count\":" + std::to_string(count_)));
  digest_.Update(buffer_.data(), buffer_.size());
  buffer_ += kDigestField + ToHex(digest_.Final()) + "\"}\n";
  FLINT_RETURN_IF_ERROR(WriteOut());
  FLINT_RETURN_IF_ERROR(file_->Sync());
  FLINT_RETURN_IF_ERROR(
      env_->Rename(directory_ + "/" + kSnapshotTemporaryName, directory_ + "/" + kSnapshotName));
  file_.reset();
  return env_->SyncDirectory(directory_);
}

Status SnapshotWriter::Put(std::string_view bytes) {
  buffer_.append(bytes);
  return WriteIfFull();
}

Status SnapshotWriter::WriteIfFull() {
  if (buffer_.size() < kBufferBytes) return Status();
  digest_.Update(buffer_.data(), buffer_.size());
  return WriteOut();
}

Status SnapshotWriter::WriteOut() {
  FLINT_RETURN_IF_ERROR(file_->Write(offset_, buffer_.data(), buffer_.size()));
  offset_ += buffer_.size();
  buffer_.clear();
  return Status();
}

Status ReadSnapshot(Env* env, const std::string& directory, bool* exists, SnapshotHead* head,
                    const AddLimit& add, uint64_t* bytes) {
  *bytes = 0;
  const std::string path = directory + "/" + kSnapshotName;
  FLINT_RETURN_IF_ERROR(env->Exists(path, exists));
  if (!*exists) return Status();
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(env->OpenFile(path, OpenMode::kRead, &file));
  uint64_t size = 0;
  FLINT_RETURN_IF_ERROR(file->Size(&size));
  std::string text(size, '\0');
  size_t got = 0;
  FLINT_RETURN_IF_ERROR(file->Read(0, text.data(), text.size(), &got));
  text.resize(got);
  *bytes = got;
  Status status;
  uint64_t line = 0;
  try {
    status = ParseLines(text, head, add, &line);
  } catch (const Json::exception& error) {
    status = Status(Code::kCorruption, error.what());
  }
  if (status.ok()) return status;
  return Status(status.code(),
                path + " at offset " + std::to_string(line) + ": " + status.message())
      .At(kSnapshotName, line, 0);
}

}  // namespace flint
