#include "limits_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "json_bodies.h"
#include "text.h"

// It asserts of a file what a file need not have, such as digits behind the T of a time, and then
// looks all the same.
#define TOML_ASSERT(condition) static_assert(true)
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/impl/forward_declarations.h>
// It also takes for unreachable what letters such as U+00E4 reach where they may not stand: there
// they are no white space.
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE return false
#include <toml++/impl/unicode.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE __builtin_unreachable()
#include <toml++/toml.h>

namespace flint::server {
namespace {

constexpr size_t kMaxBytes = size_t{16} * 1024 * 1024;
constexpr uint64_t kEntriesOfPage = 256;
constexpr double kNsOfSecond = 1e9;
constexpr double kMaxNs = 4.6e18;

constexpr std::array<std::string_view, 4> kSections = {"limits", "rates", "server", "storage"};
constexpr std::array<std::string_view, 8> kOfLimit = {"algorithm", "burst", "name",  "per",
                                                      "per_ns",    "rate",  "stack", "template"};
constexpr std::array<std::string_view, 5> kOfRate = {"algorithm", "burst", "per", "per_ns", "rate"};

// Reads one document. Each method returns false once something is wrong, and what that is.
class Reader {
 public:
  Reader(const std::string& path, LimitsFile* file, std::string* error)
      : path_(path), limits_(&file->limits), names_(&file->rates), error_(error) {}

  bool Read(std::string_view text) {
    const toml::parse_result parsed = toml::parse(text, path_);
    if (!parsed) {
      const toml::parse_error& error = parsed.error();
      where_ = path_ + ":" + std::to_string(error.source().begin.line);
      return Wrong("this is not TOML: " + std::string(error.description()));
    }
    const toml::table* root = &parsed.table();
    if (path_.substr(path_.rfind('/') + 1) == "pyproject.toml") {
      root = root->at_path("tool.flint").as_table();
      if (root == nullptr) return true;
    }
    if (!Known("", *root, kSections) || !Each("rates", *root, &Reader::NameRate)) return false;
    names_->swap(found_);  // rates are not made of each other
    return Each("limits", *root, &Reader::Limit);
  }

 private:
  bool Wrong(const std::string& why) {
    *error_ = where_ + ": " + why;
    return false;
  }

  void At(std::string_view section, const toml::key& key) {
    where_ = path_ + ":" + std::to_string(key.source().begin.line) + ": " + std::string(section) +
             std::string(key.str());
  }

  // Whether a table has no keys but these.
  template <size_t kCount>
  bool Known(std::string_view section, const toml::table& table,
             const std::array<std::string_view, kCount>& known) {
    for (const auto& [key, node] : table) {
      if (std::find(known.begin(), known.end(), key.str()) != known.end()) continue;
      std::string names;
      for (const std::string_view name : known) {
        names.append(names.empty() ? "" : ", ").append(name);
      }
      At(section, key);
      return Wrong("there is no such key; known are " + names);
    }
    return true;
  }

  bool Each(std::string_view section, const toml::table& root,
            bool (Reader::*read)(std::string_view, const toml::node&)) {
    const toml::node* const node = root.get(section);
    if (node == nullptr) return true;
    const toml::table* const table = node->as_table();
    where_ = path_ + ":" + std::to_string(node->source().begin.line);
    if (table == nullptr) return Wrong(std::string(section) + " must be a table");
    const std::string dotted = std::string(section) + ".";
    for (const auto& [key, value] : *table) {
      At(dotted, key);
      if (!(this->*read)(key.str(), value)) return false;
    }
    return true;
  }

  bool NameRate(std::string_view name, const toml::node& node) {
    if (!IsRateName(name)) {
      return Wrong("a name is a letter, then letters, digits, _, - and .");
    }
    std::vector<Rate> rates;
    if (const toml::table* const table = node.as_table(); table != nullptr) {
      if (!Known(where_of_keys(name, "rates."), *table, kOfRate)) return false;
      if (!Quantities(*table, &rates)) return false;
    } else if (!Words(node, {}, &rates)) {
      return false;
    }
    found_.emplace(name, std::move(rates));
    return true;
  }

  bool Limit(std::string_view key, const toml::node& node) {
    FileLimit limit;
    limit.where = where_;
    std::optional<bool> is_template;
    std::vector<Rate> rates;
    limit.in_words = true;
    if (const toml::table* const table = node.as_table(); table != nullptr) {
      if (!Known(where_of_keys(key, "limits."), *table, kOfLimit)) return false;
      const toml::node* const rate = table->get("rate");
      limit.in_words = rate != nullptr && !rate->is_number() && !table->contains("name");
      if (!Text(*table, "name", &limit.name) || !Truth(*table, "stack", &limit.stack) ||
          !Truth(*table, "template", &is_template) || !Quantities(*table, &rates)) {
        return false;
      }
    } else if (!Words(node, {}, &rates)) {
      return false;
    }
    const Target target = ReadTarget(key, is_template);
    limit.key = target.key;
    limit.is_template = target.is_template;
    return Add(limit, rates);
  }

  bool Add(const FileLimit& limit, const std::vector<Rate>& rates) {
    if (rates.size() == 1) {
      limits_->push_back(limit);
      limits_->back().rate = rates[0];
      return true;
    }
    if (!limit.name.empty()) {
      return Wrong("several limits are named by their periods; name goes with one");
    }
    const SeveralRates several(rates);
    for (size_t i = 0; i < rates.size(); i++) {
      limits_->push_back(limit);
      limits_->back().rate = several.rates[i];
      limits_->back().name = several.names[i];
    }
    return true;
  }

  // Rate, per, burst and algorithm of a table.
  bool Quantities(const toml::table& table, std::vector<Rate>* rates) {
    Rate rate;
    std::string algorithm = "token_bucket";
    const toml::node* const said = table.get("rate");
    if (said == nullptr) return Wrong(R"(rate is missing, as in { rate = 100, per = "1m" })");
    const bool has_per = table.contains("per");
    const bool has_per_ns = table.contains("per_ns");
    if (!Whole(table, "burst", &rate.burst) || !Text(table, "algorithm", &algorithm)) return false;
    if (!ReadAlgorithm(algorithm, &rate.algorithm)) {
      return Wrong("unsupported algorithm: " + algorithm);
    }
    if (!said->is_number()) {
      if (has_per || has_per_ns) {
        return Wrong("a rate in words says the period itself; leave per out");
      }
      return Words(*said, rate, rates);
    }
    if (has_per == has_per_ns) return Wrong("either per or per_ns must be given, and not both");
    if (!Whole(table, "rate", &rate.rate) || !Whole(table, "per_ns", &rate.per_ns)) return false;
    if (has_per && !Period(*table.get("per"), &rate.per_ns)) {
      return Wrong("per must be digits with ms, s, m, h or d, or a number of seconds");
    }
    rates->push_back(rate);
    return true;
  }

  // A text, the name of a rate, or a list of these.
  bool Words(const toml::node& node, const Rate& otherwise, std::vector<Rate>* rates) {
    if (const toml::array* const list = node.as_array(); list != nullptr && !list->empty()) {
      for (const toml::node& one : *list) {
        if (!one.is_string()) return Wrong("a list of rates has texts in it");
        if (!Words(one, otherwise, rates)) return false;
      }
      return true;
    }
    const std::optional<std::string> text = node.value_exact<std::string>();
    if (!text) return Wrong(R"(a rate is a text such as "100/minute" or a table)");
    std::vector<Rate> read;
    RateError wrong;
    if (!ReadRatesOrName(*text, otherwise, *names_, &read, &wrong)) return Wrong(wrong.In(*text));
    if (read.size() > 1 && otherwise.burst != 0) {
      return Wrong(R"(burst goes with one rate; of several, each says "burst" in the text)");
    }
    return AddRates(read, rates) || Wrong("a key has at most 16 limits");
  }

  static bool Period(const toml::node& node, uint64_t* ns) {
    if (const auto text = node.value_exact<std::string>(); text) return ReadPeriod(*text, ns);
    const double value_ns = node.value<double>().value_or(0) * kNsOfSecond;
    if (!node.is_number() || !(value_ns >= 1 && value_ns < kMaxNs)) return false;
    *ns = static_cast<uint64_t>(std::llround(value_ns));
    return true;
  }

  template <typename Value, typename To>
  bool Exact(const toml::table& table, std::string_view name, std::string_view what, To* to) {
    const toml::node* const node = table.get(name);
    if (node == nullptr) return true;
    const std::optional<Value> value = node->value_exact<Value>();
    if (!value) return Wrong(std::string(name) + " must be " + std::string(what));
    Value exact = *value;
    *to = std::move(exact);
    return true;
  }
  bool Text(const toml::table& table, std::string_view name, std::string* to) {
    return Exact<std::string>(table, name, "a text", to);
  }
  template <typename To>
  bool Truth(const toml::table& table, std::string_view name, To* to) {
    return Exact<bool>(table, name, "true or false", to);
  }
  bool Whole(const toml::table& table, std::string_view name, uint64_t* to) {
    int64_t value = 1;
    if (!Exact<int64_t>(table, name, "a whole number", &value)) return false;
    if (value < 1) return Wrong(std::string(name) + " must be greater than zero");
    if (table.contains(name)) *to = static_cast<uint64_t>(value);
    return true;
  }

  static std::string where_of_keys(std::string_view name, std::string_view section) {
    return std::string(section) + std::string(name) + ".";
  }

  const std::string path_;
  std::vector<FileLimit>* const limits_;
  RateNames* const names_;
  std::string* const error_;
  std::string where_;
  RateNames found_;
};

bool ReadText(const std::string& path, std::string* text, std::string* error) {
  std::ifstream file(path, std::ios::binary);
  text->resize(kMaxBytes + 1);
  file.read(text->data(), static_cast<std::streamsize>(text->size()));
  text->resize(static_cast<size_t>(file.gcount()));
  if (file.is_open() && !file.bad() && text->size() <= kMaxBytes) return true;
  *error = path + ": cannot read it; it must be a file of at most 16 MiB";
  return false;
}

// Tries each limit where nothing else is, so that what is wrong with one has its place told.
bool Judge(const std::vector<FileLimit>& limits, std::string* error) {
  constexpr std::string_view kMemory = ":memory:";
  flint_limiter* scratch = nullptr;
  flint_limiter_error failed = NoError();
  int32_t code = flint_limiter_open(kMemory.data(), kMemory.size(), nullptr, &scratch, &failed);
  if (code != FLINT_LIMITER_OK) *error = OutcomeOf(code, failed).message;
  for (const FileLimit& limit : limits) {
    if (code != FLINT_LIMITER_OK) break;
    const flint_limiter_config config = limit.config();
    code = flint_limiter_limit(scratch, &config, 0, nullptr, &failed);
    if (code != FLINT_LIMITER_OK) *error = limit.where + ": " + OutcomeOf(code, failed).message;
  }
  flint_limiter_close(&scratch, nullptr);
  return code == FLINT_LIMITER_OK;
}

using Place = std::pair<std::string, bool>;  // of a key or a template

// Whether a limit's name may come from words: it is none, or the name of a period.
bool MayComeFromWords(std::string_view name) { return name.empty() || name.starts_with("per "); }

struct Leftover {
  std::string key;
  std::string name;
  bool is_template;
};

// What the limiter has for these keys, from words, and `limits` have not.
Outcome FindLeftover(flint_limiter* limiter, const std::vector<FileLimit>& limits,
                     std::vector<Leftover>* found) {
  std::map<Place, std::set<std::string>> kept;
  for (const FileLimit& limit : limits) {
    if (limit.in_words) kept[{limit.key, limit.is_template}].insert(limit.name);
  }
  if (kept.empty()) return {};
  std::vector<flint_limiter_status_info> entries(kEntriesOfPage);
  std::string text(FLINT_LIMITER_MIN_TEXT_BYTES + FLINT_LIMITER_MAX_NAME_BYTES, '\0');
  std::string cursor(FLINT_LIMITER_MAX_CURSOR_BYTES, '\0');
  uint64_t cursor_bytes = 0;
  for (;;) {
    uint64_t count = 0;
    flint_limiter_error error = NoError();
    for (flint_limiter_status_info& entry : entries) entry.struct_size = sizeof entry;
    const int32_t code = flint_limiter_list_page(
        limiter, cursor.data(), cursor_bytes, 0, entries.data(), entries.size(), sizeof entries[0],
        text.data(), text.size(), &count, cursor.data(), &cursor_bytes, &error);
    if (code != FLINT_LIMITER_OK || count == 0) return OutcomeOf(code, error);
    for (uint64_t i = 0; i < count; i++) {
      const flint_limiter_status_info& entry = entries[i];
      const bool is_template = entry.kind == FLINT_LIMITER_KIND_TEMPLATE;
      std::string key(entry.key, entry.key_bytes);
      std::string name(entry.name, entry.name_bytes);
      const auto known = kept.find({key, is_template});
      if (known == kept.end() || known->second.contains(name) || !MayComeFromWords(name)) continue;
      found->push_back({std::move(key), std::move(name), is_template});
    }
  }
}

}  // namespace

bool ReadLimitsText(std::string_view text, const std::string& path, LimitsFile* file,
                    std::string* error) {
  return Reader(path, file, error).Read(text);
}

bool ReadLimitsFile(const std::string& path, LimitsFile* file, std::string* error) {
  std::string text;
  if (!ReadText(path, &text, error)) return false;
  return ReadLimitsText(text, path, file, error) && Judge(file->limits, error);
}

Outcome ApplyLimits(flint_limiter* limiter, const std::vector<FileLimit>& limits) {
  if (limits.empty()) return {};
  std::vector<flint_limiter_config> configs;
  configs.reserve(limits.size());
  for (const FileLimit& limit : limits) configs.push_back(limit.config());
  flint_limiter_error error = NoError();
  int32_t code = flint_limiter_limit_many(limiter, configs.data(), configs.size(),
                                          sizeof configs[0], 0, nullptr, &error);
  if (code != FLINT_LIMITER_OK) return OutcomeOf(code, error);
  std::vector<Leftover> leftover;
  Outcome listed = FindLeftover(limiter, limits, &leftover);
  if (!listed.ok()) return listed;
  for (const Leftover& one : leftover) {
    code = flint_limiter_remove_named(
        limiter, one.key.data(), one.key.size(), one.name.data(), one.name.size(),
        one.is_template ? FLINT_LIMITER_KIND_TEMPLATE : FLINT_LIMITER_KIND_EXACT, 0, nullptr,
        &error);
    if (code != FLINT_LIMITER_OK && code != FLINT_LIMITER_NOT_CONFIGURED) {
      return OutcomeOf(code, error);
    }
  }
  return {};
}

}  // namespace flint::server
