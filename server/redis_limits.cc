#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flint_limiter.h"
#include "redis_commands.h"
#include "redis_listings.h"
#include "server.h"
#include "text.h"

namespace flint::server {
namespace {

// The key at word 1, with the options that name a limit.
bool ReadRedisTarget(const Asked& asked, Target* target) {
  bool exact = false;
  bool unnamed = false;
  std::string name;
  if (!ReadRedisOptions(
          asked, 2,
          {{"NAME", &name}, {"UNNAMED", nullptr, &unnamed}, {"EXACT", nullptr, &exact}})) {
    return false;
  }
  if (unnamed && !name.empty()) {
    asked->Error("UNNAMED is the limit without a name: NAME cannot stand beside it");
    return false;
  }
  *target = ReadTarget(asked->words()[1], exact ? std::optional<bool>(false) : std::nullopt);
  target->or_literal = false;
  target->all_names = name.empty() && !unnamed;
  target->name = std::move(name);
  return true;
}

uint32_t KindOf(const Target& target) {
  return target.is_template ? FLINT_LIMITER_KIND_TEMPLATE : FLINT_LIMITER_KIND_EXACT;
}

// A template has as many counters as it has, so another thread looks at them.
void RunFor(const Target& target, const Asked& asked, const Calls::Call& call,
            std::function<void()> finish) {
  if (target.is_template) {
    asked->RunAside(call, std::move(finish));
  } else {
    asked->Run(call, finish);
  }
}

void Change(const Asked& asked, decltype(&flint_limiter_reset_named) change) {
  const auto target = std::make_shared<Target>();
  if (!ReadRedisTarget(asked, target.get())) return;
  const auto call = [target, change, limiter = asked->limiter()](uint32_t flags) {
    flint_limiter_error error = NoError();
    uint64_t ticket = 0;
    const char* const name = target->all_names ? nullptr : target->name.data();
    const int32_t code = change(limiter, target->key.data(), target->key.size(), name,
                                target->name.size(), KindOf(*target), flags, &ticket, &error);
    return OutcomeOf(code, error, ticket);
  };
  RunFor(*target, asked, call, [asked] { asked->Ok(); });
}

// What FLINT.LIMIT configures, in words or in numbers.
bool ReadOneRate(const Asked& asked, const std::string& words, const RedisQuantities& said,
                 Rate* rate) {
  if (words.empty()) return said.Read(asked, rate);
  std::vector<Rate> rates;
  if (said.said()) {
    asked->Error("LIMIT says everything: RATE, PER, BURST and ALGORITHM cannot stand beside it");
    return false;
  }
  if (!ReadRedisWords(asked, words, &rates)) return false;
  if (rates.size() > 1) {
    asked->Error("one limit is asked for; several of a key need a name each");
    return false;
  }
  *rate = rates.front();
  return true;
}

}  // namespace

void RedisLimit(const Asked& asked) {
  const auto limit = std::make_shared<LimitBody>();
  RedisQuantities said;
  std::string words;
  bool exact = false;
  if (!ReadRedisOptions(asked, 2,
                        {{"LIMIT", &words},
                         {"RATE", &said.rate},
                         {"PER", &said.per},
                         {"BURST", &said.burst},
                         {"ALGORITHM", &said.algorithm},
                         {"NAME", &limit->name},
                         {"STACK", nullptr, &limit->stack},
                         {"NX", nullptr, &limit->if_absent},
                         {"EXACT", nullptr, &exact}}) ||
      !ReadOneRate(asked, words, said, &limit->rate)) {
    return;
  }
  Target target = ReadTarget(asked->words()[1], exact ? std::optional<bool>(false) : std::nullopt);
  limit->key = std::move(target.key);
  limit->is_template = target.is_template;
  asked->Run(
      [limit, limiter = asked->limiter()](uint32_t flags) {
        flint_limiter_error error = NoError();
        uint64_t ticket = 0;
        const flint_limiter_config config = limit->config();
        if (limit->if_absent) flags |= FLINT_LIMITER_IF_ABSENT;
        const int32_t code = flint_limiter_limit(limiter, &config, flags, &ticket, &error);
        return OutcomeOf(code, error, ticket);
      },
      [asked] { asked->Ok(); });
}

namespace {

constexpr size_t kWordsOfLimit = 8;

// A limit in words that all must be there, in numbers alone: for programs.
bool ReadLimitWords(const Asked& asked, size_t at, NamedRate* limit) {
  const auto& words = asked->words();
  const std::string& kind = words[at];
  const std::string& stack = words[at + 7];
  limit->is_template = EqualFold(kind, "template");
  limit->stack = EqualFold(stack, "STACK");
  limit->key = words[at + 1];
  limit->name = words[at + 2];
  if ((!limit->is_template && !EqualFold(kind, "exact")) ||
      (!limit->stack && !EqualFold(stack, "ALONE")) ||
      !ReadAlgorithm(words[at + 6], &limit->rate.algorithm)) {
    asked->Error("a limit is exact|template key name rate per_ns burst algorithm STACK|ALONE");
    return false;
  }
  return ReadRedisNumber(asked, "rate", words[at + 3], &limit->rate.rate) &&
         ReadRedisNumber(asked, "per_ns", words[at + 4], &limit->rate.per_ns) &&
         ReadRedisNumber(asked, "burst", words[at + 5], &limit->rate.burst);
}

}  // namespace

// Several limits: with an error none is configured. XX changes those that are there, NX does not.
void RedisLimitMany(const Asked& asked) {
  const auto& words = asked->words();
  const bool if_absent = EqualFold(words[1], "NX");
  if ((!if_absent && !EqualFold(words[1], "XX")) || (words.size() - 2) % kWordsOfLimit != 0) {
    asked->Error("FLINT.LIMITMANY takes NX or XX, and 8 words for each limit");
    return;
  }
  const auto limits = std::make_shared<std::vector<NamedRate>>();
  for (size_t at = 2; at < words.size(); at += kWordsOfLimit) {
    if (!ReadLimitWords(asked, at, &limits->emplace_back())) return;
  }
  asked->Run(
      [limits, if_absent, limiter = asked->limiter()](uint32_t flags) {
        std::vector<flint_limiter_config> configs;
        for (const NamedRate& limit : *limits) configs.push_back(limit.config());
        flint_limiter_error error = NoError();
        uint64_t ticket = 0;
        if (if_absent) flags |= FLINT_LIMITER_IF_ABSENT;
        const int32_t code = flint_limiter_limit_many(limiter, configs.data(), configs.size(),
                                                      sizeof configs[0], flags, &ticket, &error);
        return OutcomeOf(code, error, ticket);
      },
      [asked] { asked->Ok(); });
}

void RedisReset(const Asked& asked) { Change(asked, flint_limiter_reset_named); }

void RedisRemove(const Asked& asked) { Change(asked, flint_limiter_remove_named); }

void RedisStatus(const Asked& asked) {
  struct Work {
    Target target;
    flint_limiter_status_info status{};
    bool found = true;
  };
  const auto work = std::make_shared<Work>();
  if (!ReadRedisTarget(asked, &work->target)) return;
  const auto call = [work, limiter = asked->limiter()](uint32_t) {
    flint_limiter_error error = NoError();
    const Target& target = work->target;
    work->status.struct_size = sizeof work->status;
    const int32_t code = flint_limiter_status_named(limiter, target.key.data(), target.key.size(),
                                                    target.name.data(), target.name.size(),
                                                    KindOf(target), &work->status, &error);
    work->found = code != FLINT_LIMITER_NOT_CONFIGURED;
    return work->found ? OutcomeOf(code, error) : Outcome{};
  };
  RunFor(work->target, asked, call, [asked, work] {
    RedisReply reply = asked->Reply();
    if (work->found) {
      AppendRedisStatus(asked->words()[1], work->target.name, work->status, &reply);
    } else {
      reply.Null();
    }
    asked->Send(reply);
  });
}

void RedisFlush(const Asked& asked) {
  asked->RunAside(
      [limiter = asked->limiter()](uint32_t) {
        flint_limiter_error error = NoError();
        return OutcomeOf(flint_limiter_flush(limiter, &error), error);
      },
      [asked] { asked->Ok(); });
}

void RedisCompact(const Asked& asked) {
  bool no_wait = false;
  if (!ReadRedisOptions(asked, 1, {{"NOWAIT", nullptr, &no_wait}})) return;
  const uint32_t only_start = no_wait ? FLINT_LIMITER_NO_WAIT : 0;
  asked->RunAside(
      [only_start, limiter = asked->limiter()](uint32_t) {
        flint_limiter_error error = NoError();
        return OutcomeOf(flint_limiter_compact(limiter, only_start, &error), error);
      },
      [asked] { asked->Ok(); });
}

void RedisFlintInfo(const Asked& asked) {
  const auto info = std::make_shared<flint_limiter_info>();
  info->struct_size = sizeof *info;
  const auto call = [info, limiter = asked->limiter()](uint32_t) {
    flint_limiter_error error = NoError();
    return OutcomeOf(flint_limiter_get_info(limiter, info.get(), &error), error);
  };
  asked->RunAside(call, [asked, info] {  // it looks at files
    const std::pair<const char*, uint64_t> fields[] = {
        {"sync", info->sync},
        {"recovered_records", info->recovered_records},
        {"recovered_ring_records", info->recovered_ring_records},
        {"torn_bytes", info->torn_bytes},
        {"snapshot_limits", info->snapshot_limits},
        {"directory_mode", info->directory_mode},
        {"engine_time_ns", static_cast<uint64_t>(info->engine_time_ns)},
        {"converted_events", info->converted_events},
        {"limits", info->limits},
        {"counters", info->counters},
        {"sequence", info->sequence},
        {"appended", info->appended},
        {"durable", info->durable},
        {"unsynced_events", info->unsynced_events},
        {"syncs", info->syncs},
        {"sync_time_ns", info->sync_time_ns},
        {"since_sync_ns", info->since_sync_ns},
        {"segments", info->segments},
        {"log_bytes", info->log_bytes},
        {"history_bytes", info->history_bytes},
        {"snapshot_bytes", info->snapshot_bytes},
        {"compactions", info->compactions},
        {"compaction_failures", info->compaction_failures},
        {"compaction_done_bytes", info->compaction_done_bytes},
        {"compaction_total_bytes", info->compaction_total_bytes},
        {"compaction_failure", info->compaction_failure},
        {"compaction_retry_at_ns", static_cast<uint64_t>(info->compaction_retry_at_ns)},
        {"damaged_history", info->damaged_history},
        {"history_failures", info->history_failures},
        {"read_only", info->read_only},
        {"undecided", info->undecided},
        {"evicted", info->evicted},
        {"poisoned", info->poisoned},
        {"warnings", info->warnings},
    };
    RedisReply reply = asked->Reply();
    reply.Map(std::size(fields));
    for (const auto& [name, value] : fields) reply.Field(name, value);
    asked->Send(reply);
  });
}

// Verifies the files. Damage is an answer, not an error.
void RedisDoctor(const Asked& asked) {
  struct Work {
    flint_limiter_doctor_report report{};
    flint_limiter_error damage = NoError();
    bool ok = true;
  };
  const auto work = std::make_shared<Work>();
  const auto call = [work, path = asked->server()->options().data_dir](uint32_t) {
    work->report.struct_size = sizeof work->report;
    const int32_t code =
        flint_limiter_doctor(path.data(), path.size(), &work->report, &work->damage);
    work->ok = code != FLINT_LIMITER_CORRUPTION;
    return work->ok ? OutcomeOf(code, work->damage) : Outcome{};
  };
  asked->RunAside(call, [asked, work] {
    const flint_limiter_doctor_report& report = work->report;
    RedisReply reply = asked->Reply();
    reply.Map(15)
        .Flag("ok", work->ok)
        .Field("limits", report.limits)
        .Field("counters", report.counters)
        .Field("history_events", report.history_events)
        .Field("records", report.records)
        .Field("ring_records", report.ring_records)
        .Field("segments", report.segments)
        .Field("history_segments", report.history_segments)
        .Field("aof_bytes", report.log_bytes)
        .Flag("snapshot_exists", report.snapshot_exists != 0)
        .Field("snapshot_bytes", report.snapshot_bytes)
        .Field("seals", report.seals)
        .Field("torn_bytes", report.torn_bytes)
        .Field("directory_mode", report.directory_mode)
        .Text("damage");
    if (work->ok) {
      reply.Null();
    } else {
      reply.Map(4)
          .Word("message", work->damage.message)
          .Word("segment", work->damage.segment)
          .Field("offset", work->damage.offset)
          .Field("sequence", work->damage.sequence);
    }
    asked->Send(reply);
  });
}

}  // namespace flint::server
