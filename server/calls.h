#pragma once

#include <uv.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>

#include "flint_limiter.h"

namespace flint::server {

// What came of a call of the limiter.
struct Outcome {
  int32_t code = FLINT_LIMITER_OK;
  std::string message;
  uint64_t ticket = 0;  // in always mode the answer waits until this is on disk

  bool ok() const { return code == FLINT_LIMITER_OK; }
};

// An error that a call of the limiter can fill.
flint_limiter_error NoError();
Outcome OutcomeOf(int32_t code, const flint_limiter_error& error, uint64_t ticket = 0);

// Makes calls of the limiter for the loop, which must never wait: neither for a lock, nor for room
// in the log, nor for the disk.
//
// A call is first tried with NO_WAIT, which takes a microsecond; where it would have to wait, a
// thread of libuv's pool makes it. Its change is made with NO_SYNC, and what must be on disk before
// it is answered waits for its ticket. Once in each turn of the loop the newest ticket is asked
// for, so all that came in with the turn share a sync, which a thread of the limiter makes.
//
// All methods are the loop's.
class Calls {
 public:
  // Makes the call with these flags added. May run on another thread, and more than once.
  using Call = std::function<Outcome(uint32_t flags)>;
  using Done = std::function<void(const Outcome&)>;

  // `always`: what is answered must be on disk.
  Calls(uv_loop_t* loop, flint_limiter* limiter, bool always, uint64_t max_blocking);
  ~Calls();
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  flint_limiter* limiter() const { return limiter_; }

  // Returns whether the call has been made; `done` may come later even so. Where not, it is made by
  // another thread, and its effect comes later than those of calls that are started now. Takes
  // whatever can be a Call and a Done, which it is made into only where it has to wait.
  template <typename OneCall, typename OneDone>
  bool Run(const OneCall& call, OneDone done) {
    const Outcome outcome = call(FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC);
    if (outcome.code == FLINT_LIMITER_WOULD_BLOCK || outcome.code == FLINT_LIMITER_BUSY) {
      Enqueue(call, FLINT_LIMITER_NO_SYNC, std::move(done));
      return false;
    }
    Finish(outcome, std::move(done));
    return true;
  }
  // For what takes long: another thread makes it in any case. It gets no flags.
  void RunAside(Call call, Done done);

  // In each turn of the loop, when its calls have been made: has the newest ticket synced.
  void AskForSync();
  // An error of the loop's own, or OK; the log has failed if this says POISONED.
  int32_t health() const { return health_; }
  // Answers that wait for the disk, and calls that wait for a thread or have one.
  uint64_t undurable() const { return waiting_.size(); }
  uint64_t queued() const { return queue_.size(); }
  uint64_t running() const { return running_; }
  void Stop();

 private:
  struct Job;
  struct Waiting {
    uint64_t ticket;
    Done done;
  };

  void Enqueue(Call call, uint32_t flags, Done done);
  void StartJobs();
  template <typename OneDone>
  void Finish(const Outcome& outcome, OneDone done) {
    if (outcome.code == FLINT_LIMITER_POISONED) health_ = outcome.code;
    if (outcome.ok() && fd_ >= 0 && outcome.ticket > durable_) {
      Await(outcome.ticket, std::move(done));
    } else {
      done(outcome);
    }
  }
  void Await(uint64_t ticket, Done done);
  void OnDurable();
  static void Work(uv_work_t* work);
  static void AfterWork(uv_work_t* work, int status);

  uv_loop_t* const loop_;
  flint_limiter* const limiter_;
  const uint64_t max_blocking_;
  uv_poll_t poll_{};
  int32_t fd_ = -1;  // says that more is on disk; none where nobody waits for that
  int32_t health_ = FLINT_LIMITER_OK;

  std::deque<Job*> queue_;
  uint64_t running_ = 0;
  std::deque<Waiting> waiting_;  // by ticket
  uint64_t asked_ = 0;
  uint64_t durable_ = 0;
};

}  // namespace flint::server
