#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "algorithms/algorithm.h"
#include "model/key_binding.h"
#include "model/limit_kind.h"
#include "model/totals.h"

namespace flint {

struct Template;

// A template's configuration, which leads those that have it to the template.
struct TemplateConfig : LimitConfig {
  explicit TemplateConfig(const LimitConfig& config) : LimitConfig(config) {}
  Template* owner = nullptr;
};

// A limit for every key under a prefix. What its forgotten counters had counted moves here, from
// any shard, hence the atomics.
struct Template {
  Template(std::string_view its_prefix, std::string_view its_name)
      : prefix(its_prefix), name(its_name) {}

  void Absorb(const Totals& totals);
  Totals Absorbed() const;

  const std::string prefix;
  const std::string name;
  const TemplateConfig* config = nullptr;  // the newest; owned by TemplateSet
  // The segment of the log with a KEY that has this configuration; 0: none, as behind each change.
  // Only used with the lock of some shard and that of the log, or with those of all shards.
  uint32_t keyed_in = 0;
  std::atomic<uint64_t> counters{0};
  std::atomic<uint64_t> allowed{0};
  std::atomic<uint64_t> denied{0};
  std::atomic<uint64_t> allowed_cost{0};
  std::atomic<uint64_t> denied_cost{0};
  std::atomic<int64_t> last_allowed_ns{kNever};
  std::atomic<int64_t> last_denied_ns{kNever};
  std::atomic<int64_t> last_reset_ns{kNever};
};

// What the engine knows of one limit of a key: an exact limit, an inline one, or a counter under a
// template. The bytes of the key and of the limit's name follow the object. Guarded by its shard's
// lock.
struct Counter {
  State state;
  const LimitConfig* config;  // of a kCounter its template's, otherwise owned
  Totals totals;
  KeyBinding binding;
  uint32_t hash;            // low half of the key's hash
  uint32_t template_epoch;  // the template changes it has been through
  uint16_t key_bytes;
  uint16_t deny_interval;  // low half of the sync count at its last recorded denial
  uint8_t deny_count;      // denials recorded one by one in that interval
  LimitKind kind;
  uint8_t name_bytes;  // 0: the limit without a name
  // A check of its key needs nothing but this counter: no other limit applies, it has no name and
  // is not inline. Where it is false a check looks for what there is.
  bool plain;

  std::string_view key() const { return {reinterpret_cast<const char*>(this + 1), key_bytes}; }
  std::string_view name() const {
    return {reinterpret_cast<const char*>(this + 1) + key_bytes, name_bytes};
  }
  // Null unless it is a kCounter.
  Template* parent() const {
    return kind == LimitKind::kCounter ? static_cast<const TemplateConfig*>(config)->owner
                                       : nullptr;
  }
  // Forgotten when fresh, unlike an exact limit.
  bool ephemeral() const { return kind != LimitKind::kExact; }
  bool Forgettable(int64_t now_ns) const { return ephemeral() && IsFresh(*config, state, now_ns); }

  static Counter* Create(std::string_view key, uint32_t hash, std::string_view name = {});
  static void Destroy(Counter* counter);
};

struct DestroyCounter {
  void operator()(Counter* counter) const { Counter::Destroy(counter); }
};
using CounterPointer = std::unique_ptr<Counter, DestroyCounter>;

}  // namespace flint
