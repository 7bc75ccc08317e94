#include <algorithm>
#include <new>

#include "engine/engine.h"

// What a check answers that cannot be decided, because the disk, the table or memory fails it.
namespace flint {
namespace {

constexpr uint64_t kUndecidedRetryNs = 1'000'000'000;  // or callers would ask again at once

}  // namespace

// Makes a decision; sets `*undecided`, and returns success, when that fails for a reason that lies
// with the limiter and not with the caller.
template <typename Call>
Status Engine::Deciding(const Call& call, bool* undecided) {
  Status status;
  try {
    status = call();
  } catch (const std::bad_alloc&) {
    status = Status(Code::kNoMemory, CodeSentence(Code::kNoMemory));
  }
  switch (status.code()) {
    case Code::kDiskFull:
    case Code::kPoisoned:
    case Code::kIo:
    case Code::kNoMemory:
    case Code::kTableFull:
      *undecided = true;
      return Status();
    default:
      return status;
  }
}

// The figures are as they stand, or 0 if there is no memory for them; what is allowed has not been
// counted. What is wrong with the call itself is still told.
Status Engine::AnswerUndecided(const Item& item, const Flags& flags,
                               const LimitConfig* inline_config, Decision* decision) {
  EachLimit* const each = decision->each;
  *decision = Decision();
  decision->cost = item.cost;
  decision->each = each;
  try {
    const Status status = Peek(item, flags, inline_config, decision);
    const bool wrong =
        status.code() == Code::kInvalidArgument || status.code() == Code::kNotConfigured;
    if (wrong) return status;
  } catch (const std::bad_alloc&) {
    *decision = Decision();
    decision->cost = item.cost;
  }
  decision->undecided = true;
  decision->allowed = options_.on_error == OnError::kAllow;
  decision->retry_after_ns =
      decision->allowed ? 0 : std::max(decision->retry_after_ns, kUndecidedRetryNs);
  return Status();
}

Status Engine::CheckOrAnswer(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                             Decision* decision) {
  bool undecided = false;
  Status status =
      Deciding([&] { return Decide(item, flags, inline_config, decision); }, &undecided);
  if (!undecided) return status;
  FLINT_RETURN_IF_ERROR(AnswerUndecided(item, flags, inline_config, decision));
  undecided_.fetch_add(1, std::memory_order_relaxed);
  return Status();
}

Status Engine::CheckAllOrAnswer(std::span<const Item> items, const Flags& flags,
                                Decision* decisions, size_t* denied) {
  bool undecided = false;
  Status status = Deciding([&] { return DecideAll(items, flags, decisions, denied); }, &undecided);
  if (!undecided) return status;
  *denied = options_.on_error == OnError::kAllow ? items.size() : 0;
  for (size_t i = 0; i < items.size() && i <= *denied; ++i) {
    FLINT_RETURN_IF_ERROR(AnswerUndecided(items[i], flags, nullptr, &decisions[i]));
  }
  undecided_.fetch_add(1, std::memory_order_relaxed);
  return Status();
}

}  // namespace flint
