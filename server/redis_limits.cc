#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "flint_limiter.h"
#include "redis_commands.h"
#include "redis_listings.h"
#include "text.h"

namespace flint::server {
namespace {

// The key at word 1, with the options that name a limit.
bool ReadRedisTarget(const Asked& asked, Target* target) {
  bool exact = false;
  std::string name;
  if (!ReadRedisOptions(asked, 2, {{"NAME", &name}, {"EXACT", nullptr, &exact}})) return false;
  *target = ReadTarget(asked->words()[1], exact ? std::optional<bool>(false) : std::nullopt);
  target->or_literal = false;
  target->all_names = name.empty();
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
    asked->Run(call, std::move(finish));
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

}  // namespace

void RedisLimit(const Asked& asked) {
  const auto limit = std::make_shared<LimitBody>();
  RedisQuantities said;
  bool exact = false;
  if (!ReadRedisOptions(asked, 2,
                        {{"RATE", &said.rate},
                         {"PER", &said.per},
                         {"BURST", &said.burst},
                         {"ALGORITHM", &said.algorithm},
                         {"NAME", &limit->name},
                         {"STACK", nullptr, &limit->stack},
                         {"NX", nullptr, &limit->if_absent},
                         {"EXACT", nullptr, &exact}}) ||
      !said.Read(asked, &limit->rate)) {
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
  asked->RunAside(
      [limiter = asked->limiter()](uint32_t) {
        flint_limiter_error error = NoError();
        return OutcomeOf(flint_limiter_compact(limiter, 0, &error), error);
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

}  // namespace flint::server
