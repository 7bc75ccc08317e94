#include <algorithm>
#include <span>

#include "engine/engine.h"
#include "engine/engine_internal.h"

// Checks that have nothing to do with each other but the wait for the disk.
namespace flint {

Status Engine::CheckMany(std::span<const Item> items, const Flags& flags,
                         std::span<Answer> answers) {
  const Running running(this);
  FLINT_RETURN_IF_ERROR(CheckUsable());
  // Each is decided without waiting for the disk; who must not wait at all says so to each.
  Flags each = flags;
  each.no_sync = flags.no_sync || !flags.no_wait;
  uint64_t last = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    Answer& answer = answers[i];
    if (answer.code != Code::kOk) continue;
    answer.code = Check(items[i], each, nullptr, &answer.decision).code();
    if (answer.code == Code::kOk) last = std::max(last, answer.decision.ticket);
  }
  const Status durable = AwaitTicket(last, flags);
  for (size_t i = 0; i < items.size() && !durable.ok(); ++i) {
    Answer& answer = answers[i];
    if (answer.code != Code::kOk || answer.decision.ticket == 0) continue;
    answer.code = durable.code();
    if (durable.code() != Code::kPoisoned || options_.on_error == OnError::kRaise) continue;
    answer.code = AnswerUndecided(items[i], flags, nullptr, &answer.decision).code();
    undecided_.fetch_add(1, std::memory_order_relaxed);
  }
  return Status();
}

}  // namespace flint
