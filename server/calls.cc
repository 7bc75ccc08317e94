#include "calls.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

namespace flint::server {

struct Calls::Job {
  uv_work_t work{};
  Calls* calls = nullptr;
  Call call;
  uint32_t flags = 0;
  Done done;
  Outcome outcome;
};

flint_limiter_error NoError() {
  flint_limiter_error error{};
  error.struct_size = sizeof error;
  return error;
}

Outcome OutcomeOf(int32_t code, const flint_limiter_error& error, uint64_t ticket) {
  if (code == FLINT_LIMITER_OK) return {code, {}, ticket};
  const bool said = error.code == code && error.message[0] != 0;
  return {code, said ? error.message : flint_limiter_code_text(code), 0};
}

Calls::Calls(uv_loop_t* loop, flint_limiter* limiter, bool always, uint64_t max_blocking)
    : loop_(loop), limiter_(limiter), max_blocking_(max_blocking) {
  if (!always) return;
  // What is kept in memory alone has nothing to wait for.
  if (flint_limiter_watch(limiter, &fd_, nullptr) != FLINT_LIMITER_OK) fd_ = -1;
  if (fd_ < 0) return;
  uv_poll_init(loop, &poll_, fd_);
  poll_.data = this;
  uv_poll_start(&poll_, UV_READABLE, [](uv_poll_t* handle, int, int) {
    static_cast<Calls*>(handle->data)->OnDurable();
  });
  uv_unref(reinterpret_cast<uv_handle_t*>(&poll_));
}

Calls::~Calls() {
  for (Job* job : queue_) delete job;
}

void Calls::Stop() {
  if (fd_ >= 0) uv_close(reinterpret_cast<uv_handle_t*>(&poll_), nullptr);
}

void Calls::RunAside(Call call, Done done) { Enqueue(std::move(call), 0, std::move(done)); }

void Calls::Enqueue(Call call, uint32_t flags, Done done) {
  auto job = std::make_unique<Job>();
  job->calls = this;
  job->work.data = job.get();
  job->call = std::move(call);
  job->flags = flags;
  job->done = std::move(done);
  queue_.push_back(job.release());
  StartJobs();
}

void Calls::StartJobs() {
  while (running_ < max_blocking_ && !queue_.empty()) {
    Job* const job = queue_.front();
    queue_.pop_front();
    running_++;
    uv_queue_work(loop_, &job->work, Work, AfterWork);
  }
}

void Calls::Work(uv_work_t* work) {
  auto* const job = static_cast<Job*>(work->data);
  try {
    job->outcome = job->call(job->flags);
  } catch (const std::bad_alloc&) {
    job->outcome.code = FLINT_LIMITER_NO_MEMORY;
    job->outcome.message = "out of memory";
  }
}

void Calls::AfterWork(uv_work_t* work, int /*status*/) {
  const std::unique_ptr<Job> job(static_cast<Job*>(work->data));
  Calls* const calls = job->calls;
  calls->running_--;
  calls->StartJobs();
  calls->Finish(job->outcome, std::move(job->done));
}

void Calls::Await(uint64_t ticket, Done done) {
  const auto behind =
      std::upper_bound(waiting_.begin(), waiting_.end(), ticket,
                       [](uint64_t wanted, const Waiting& one) { return wanted < one.ticket; });
  waiting_.insert(behind, {ticket, std::move(done)});
}

void Calls::AskForSync() {
  if (waiting_.empty() || waiting_.back().ticket <= asked_) return;
  asked_ = waiting_.back().ticket;
  // When it is on disk already nobody may tell.
  if (flint_limiter_wait(limiter_, asked_, 0, nullptr) != FLINT_LIMITER_TIMEOUT) OnDurable();
}

void Calls::OnDurable() {
  uint64_t advances = 0;
  if (read(fd_, &advances, sizeof advances) < 0) advances = 0;  // nothing new: look all the same
  flint_limiter_durable(limiter_, &durable_, nullptr);
  Outcome failed;
  if (!waiting_.empty() && waiting_.back().ticket > durable_) {
    flint_limiter_error error = NoError();
    const uint64_t newest = waiting_.back().ticket;
    const int32_t code = flint_limiter_wait(limiter_, newest, 0, &error);
    if (code == FLINT_LIMITER_OK) durable_ = newest;
    if (code != FLINT_LIMITER_OK && code != FLINT_LIMITER_TIMEOUT) {
      failed = OutcomeOf(code, error);
      health_ = code;
    }
  }
  // An answer may bring the next request, and that the next ticket.
  while (!waiting_.empty() && (waiting_.front().ticket <= durable_ || !failed.ok())) {
    Waiting one = std::move(waiting_.front());
    waiting_.pop_front();
    Outcome outcome;
    if (one.ticket > durable_) outcome = failed;
    one.done(outcome);
  }
}

}  // namespace flint::server
