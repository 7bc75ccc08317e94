#include "sharing/member.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "sharing/message.h"

namespace flint::sharing {
namespace {

// Those that are kept between two calls.
constexpr size_t kMostIdle = 16;

std::string SecondsText(uint64_t ns) {
  std::string text = std::to_string(ns / 1'000'000'000);
  const uint64_t ms = ns / 1'000'000 % 1'000;
  if (ms != 0) text += "." + std::to_string(1'000 + ms).substr(1);
  return text + " s";
}

int32_t Closed(flint_limiter_error* error) {
  return Fail(FLINT_LIMITER_CLOSED, flint_limiter_code_text(FLINT_LIMITER_CLOSED), error);
}

}  // namespace

// A call that Shutdown waits for.
class Member::Running {
 public:
  explicit Running(State* state) FLINT_REQUIRES(state->mutex) : state_(state) { state->running++; }
  ~Running() {
    const MutexLock lock(state_->mutex);
    state_->running--;
    if (state_->closed) state_->changed.NotifyAll();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  State* const state_;
};

// A connection that Shutdown interrupts.
class Member::Busy {
 public:
  Busy(State* state, Channel* channel) : state_(state), channel_(channel) {}
  ~Busy() {
    const MutexLock lock(state_->mutex);
    state_->busy.erase(channel_);
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  State* const state_;
  Channel* const channel_;
};

// The one thread that tries to own the directory. Made and unmade with the mutex held.
class Member::Electing {
 public:
  explicit Electing(State* state) : state_(state) {
    state_->mutex.AssertHeld();
    state_->electing = true;
  }
  ~Electing() {
    state_->mutex.AssertHeld();
    state_->electing = false;
    state_->changed.NotifyAll();
  }
  Electing(const Electing&) = delete;
  Electing& operator=(const Electing&) = delete;

 private:
  State* const state_;
};

Member::Member(flint_limiter* limiter, Home* home, Settings settings)
    : limiter_(limiter), home_(home), settings_(std::move(settings)), state_(new State) {
  CallInChild(InChild, this);
}

Member::~Member() {
  ForgetInChild(this);
  delete state_.load();
}

// The parent's state stays as it is: its locks may be held by threads that are not here.
void Member::InChild(void* member) {
  auto* const self = static_cast<Member*>(member);
  self->home_->LeaveInChild();
  auto* const begun = new State;
  {
    const MutexLock lock(begun->mutex);
    begun->closed = self->shut_down_;
  }
  self->state_ = begun;
}

int32_t Member::Open(flint_limiter_error* error) {
  State* const state = state_;
  Found found = Elect(state, SteadyNs(), error);
  if (found.channel != nullptr) {
    const MutexLock lock(state->mutex);
    state->busy.erase(found.channel.get());
    state->idle.push_back(std::move(found.channel));
  }
  opened_ = found.code == FLINT_LIMITER_OK;
  return found.code;
}

void Member::Shutdown() {
  State* const state = state_;
  shut_down_ = true;
  std::unique_ptr<Owner> owner;
  {
    const MutexLock lock(state->mutex);
    state->closed = true;
    for (Channel* const channel : state->busy) channel->Interrupt();
    state->changed.NotifyAll();
    while (state->running > 0) state->changed.Wait(state->mutex);
    state->idle.clear();
    owner = std::move(state->owner);
  }
  if (owner != nullptr) owner->Stop();
}

void Member::LimitsHaveChanged() {
  State* const state = state_;
  const MutexLock lock(state->mutex);
  if (state->owner != nullptr) state->owner->LookAgain();
}

int32_t Member::CheckOpen(flint_limiter_error* error) const {
  State* const state = state_;
  const MutexLock lock(state->mutex);
  return state->closed ? Closed(error) : FLINT_LIMITER_OK;
}

// ---- Asking ----------------------------------------------------------------------------------

int32_t Member::Ask(const std::string& request, std::string* body, bool* here,
                    flint_limiter_error* error) {
  flint_limiter_error met = NoError();
  const int32_t code = AskRunning(request, body, here, &met);
  if (code != FLINT_LIMITER_OK && error != nullptr) {
    met.struct_size = error->struct_size;
    std::memcpy(error, &met, std::min<size_t>(met.struct_size, sizeof(met)));
  }
  return code;
}

int32_t Member::AskRunning(const std::string& request, std::string* body, bool* here,
                           flint_limiter_error* error) {
  if (request.size() > kMaxRequestBytes) {
    return Fail(FLINT_LIMITER_INVALID_ARGUMENT,
                "more than 4 MiB for one call of a limiter that is shared; make several of it",
                error);
  }
  State* const state = state_;
  std::optional<Running> running;
  {
    const MutexLock lock(state->mutex);
    if (state->closed) return Closed(error);
    running.emplace(state);
  }
  int32_t code = AskOwner(state, request, body, here, error);
  running.reset();
  if (code != FLINT_LIMITER_OK || *here) return code;
  Reader reader(*body);
  reader.Get(&code);
  if (code != FLINT_LIMITER_OK) {
    ReadError(&reader, code, error);
  } else {
    body->erase(0, sizeof(code));
  }
  return code;
}

int32_t Member::AskOwner(State* state, std::string_view request, std::string* body, bool* here,
                         flint_limiter_error* error) {
  uint64_t lost_at_ns = 0;
  for (;;) {
    Found found = FindOwner(state, lost_at_ns, error);
    *here = found.here;
    if (found.code != FLINT_LIMITER_OK || found.here) return found.code;
    Channel::Result result = Channel::Result::kLost;
    {
      const Busy busy(state, found.channel.get());
      result = found.channel->Exchange(request, body);
    }
    const MutexLock lock(state->mutex);
    if (state->closed) return Closed(error);
    if (result == Channel::Result::kLate) return Late(error);
    if (result == Channel::Result::kAnswered) {
      if (state->idle.size() < kMostIdle) state->idle.push_back(std::move(found.channel));
      return FLINT_LIMITER_OK;
    }
    state->idle.clear();  // they were the same owner's
    const uint64_t now_ns = SteadyNs();
    if (lost_at_ns != 0 && now_ns - lost_at_ns >= settings_.open_timeout_ns) return Lost(error);
    if (lost_at_ns == 0) lost_at_ns = now_ns;
  }
}

int32_t Member::Lost(flint_limiter_error* error) const {
  return Fail(FLINT_LIMITER_TIMEOUT,
              "whoever owns " + settings_.channel.directory +
                  " has closed every connection without an answer for " +
                  SecondsText(settings_.open_timeout_ns) + ". A check may have been counted",
              error);
}

int32_t Member::Late(flint_limiter_error* error) const {
  return Fail(FLINT_LIMITER_TIMEOUT,
              "the process that owns " + settings_.channel.directory + " has not answered for " +
                  SecondsText(settings_.channel.answer_timeout_ns) +
                  "; it may be stopped. A check may have been counted",
              error);
}

Member::Found Member::FindOwner(State* state, uint64_t lost_at_ns, flint_limiter_error* error) {
  {
    const MutexLock lock(state->mutex);
    if (state->closed) return {Closed(error), false, nullptr};
    if (state->here) return {FLINT_LIMITER_OK, true, nullptr};
    if (!state->idle.empty()) {
      std::unique_ptr<Channel> channel = std::move(state->idle.back());
      state->idle.pop_back();
      state->busy.insert(channel.get());
      return {FLINT_LIMITER_OK, false, std::move(channel)};
    }
  }
  return Elect(state, lost_at_ns == 0 ? SteadyNs() : lost_at_ns, error);
}

// ---- Who owns the directory ------------------------------------------------------------------

// One thread of a process at a time tries to own the directory; to connect, all may.
Member::Found Member::Elect(State* state, uint64_t lost_at_ns, flint_limiter_error* error) {
  for (bool first = true;; first = false) {
    auto channel = std::make_unique<Channel>();
    Channel::Result result = Channel::Result::kLost;
    // Whoever opens tries to own it before.
    if (opened_ || !first) result = channel->Open(settings_.channel, error);
    if (result == Channel::Result::kLate) return {Late(error), false, nullptr};
    if (result == Channel::Result::kFailed) return {error->code, false, nullptr};
    const MutexLock lock(state->mutex);
    if (state->closed) return {Closed(error), false, nullptr};
    if (state->here) return {FLINT_LIMITER_OK, true, nullptr};
    if (result == Channel::Result::kAnswered) {
      state->busy.insert(channel.get());
      return {FLINT_LIMITER_OK, false, std::move(channel)};
    }
    if (state->electing) {
      state->changed.Wait(state->mutex);
      continue;
    }
    const Electing electing(state);
    Found found;
    {
      const MutexUnlock unlocked(state->mutex);
      found = ElectAlone(state, lost_at_ns, error);
    }
    if (found.channel != nullptr) state->busy.insert(found.channel.get());
    return found;
  }
}

Member::Found Member::ElectAlone(State* state, uint64_t lost_at_ns, flint_limiter_error* error) {
  for (uint64_t nap_ns = kShortestNapNs;; nap_ns = std::min(2 * nap_ns, kLongestNapNs)) {
    const int32_t code = home_->Open(error);
    if (code == FLINT_LIMITER_OK) {
      const int32_t taken = TakeOver(state, lost_at_ns, error);
      return {taken, taken == FLINT_LIMITER_OK, nullptr};
    }
    if (code != FLINT_LIMITER_LOCKED) return {code, false, nullptr};
    auto channel = std::make_unique<Channel>();
    switch (channel->Open(settings_.channel, error)) {
      case Channel::Result::kAnswered:
        return {FLINT_LIMITER_OK, false, std::move(channel)};
      case Channel::Result::kLate:
        return {Late(error), false, nullptr};
      case Channel::Result::kFailed:
        return {error->code, false, nullptr};
      case Channel::Result::kLost:
        break;
    }
    if (SteadyNs() - lost_at_ns >= settings_.open_timeout_ns) {
      return {Fail(FLINT_LIMITER_LOCKED,
                   std::string(error->message) +
                       "; it does not share the directory, or has not "
                       "begun to within " +
                       SecondsText(settings_.open_timeout_ns),
                   error),
              false, nullptr};
    }
    {
      const MutexLock lock(state->mutex);
      if (state->closed) return {Closed(error), false, nullptr};
    }
    std::this_thread::sleep_for(std::chrono::nanoseconds(nap_ns));
  }
}

int32_t Member::TakeOver(State* state, uint64_t lost_at_ns, flint_limiter_error* error) {
  Owner::Settings settings;
  settings.directory = settings_.channel.directory;
  settings.sync = settings_.channel.sync;
  if (opened_) settings.takeover_ns = std::max<uint64_t>(SteadyNs() - lost_at_ns, 1);
  auto owner = std::make_unique<Owner>(limiter_, settings);
  const int32_t code = owner->Prepare(error);
  if (code != FLINT_LIMITER_OK) {
    home_->Discard();
    return code;
  }
  {
    const MutexLock lock(state->mutex);
    if (!state->closed) {
      home_->MoveIn();
      owner->Begin();
      state->owner = std::move(owner);
      state->here = true;
      state->idle.clear();
      return FLINT_LIMITER_OK;
    }
  }
  owner->Stop();
  home_->Discard();
  return Closed(error);
}

}  // namespace flint::sharing
