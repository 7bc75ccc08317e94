#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"
#include "flint_limiter.h"
#include "sharing/lines.h"
#include "sharing/message.h"
#include "sharing/requests.h"
#include "sharing/socket.h"

namespace flint::sharing {

// Calls that may wait, made one after the other by a thread of their own.
class Worker {
 public:
  Status Start(const char* name);
  // `asker` is whose job it is.
  void Add(uint64_t asker, std::function<void()> job);
  // Forgets the jobs that have not begun; returns whose they are.
  std::vector<uint64_t> Forget();
  // The same of one asker's. Returns how many.
  size_t ForgetThoseOf(uint64_t asker);
  // Ends with the job that is being made.
  void Stop();

 private:
  struct Job {
    uint64_t asker;
    std::function<void()> run;
  };

  void Run();

  Thread thread_;
  SystemMutex mutex_;
  Condition<SystemMutex> changed_;
  std::deque<Job> jobs_ FLINT_GUARDED_BY(mutex_);
  bool stopping_ FLINT_GUARDED_BY(mutex_) = false;
};

// Serves the limiter of this process to the others that share its directory: a loop in a thread of
// its own, which never waits, and two that make what may wait. Whoever owns the limiter decides
// beside it, and shares nothing with it but the engine.
//
// A decision is tried with NO_WAIT, which takes a microsecond; where it would have to wait for a
// lock or for room, a thread makes it. In always mode the answer waits for its ticket to be on
// disk: once in each turn of the loop the newest is asked for, so what came together shares a sync.
//
// It also keeps the order of those who wait in line, whose process is asked now and then whether it
// is there: one that is stopped loses its places.
//
// Bounds: kMaxConnections; one request of kMaxRequestBytes at a time for each; nothing is read from
// a connection while its answer is not made, and no answer made while the one before is not sent.
class Owner {
 public:
  static constexpr size_t kMaxConnections = 1024;

  struct Settings {
    std::string directory;
    uint32_t sync = FLINT_LIMITER_SYNC_ALWAYS;
    uint64_t takeover_ns = 0;  // how long nobody had owned it; 0: it was opened
  };

  Owner(flint_limiter* limiter, Settings settings);
  ~Owner();
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  // Binds the socket and makes the threads: all that can fail. Who connects waits for Begin, before
  // which the limiter is not used.
  int32_t Prepare(flint_limiter_error* error);
  void Begin();
  // Has those who are first in line look at their limits again. Any thread.
  void LookAgain();
  // Answers what is being made and closes every connection: what has not begun whoever asked for it
  // asks of the next owner. Once; without Begin too.
  void Stop();

 private:
  struct Connection {
    Socket socket;
    Peer peer;
    int64_t since_ns = 0;
    uint64_t requests = 0;
    std::string input;
    std::string output;
    size_t sent = 0;
    uint32_t events = 0;   // that epoll looks for
    bool greeted = false;  // and may ask
    bool asked = false;    // a request is being made
    bool closing = false;  // behind what is to be sent
    bool in_line = false;  // it is one of those who wait
    bool here = true;      // and has been heard since it was asked
  };
  struct Waiting {
    uint64_t ticket;
    uint64_t connection;
    std::string reply;
  };
  struct Done {
    uint64_t connection;
    Answer answer;
  };

  int32_t PrepareAll(flint_limiter_error* error);
  int Register(int fd, uint64_t id) const;
  void Run();
  void Loop();
  void Turn();
  void OnEvent(uint64_t id, uint32_t events);
  void Accept();
  void RefuseForeigners(uint64_t id, Connection* connection);
  void Receive(uint64_t id, Connection* connection);
  void ReadRequests(uint64_t id, Connection* connection);
  void OnRequest(uint64_t id, Connection* connection, std::string_view body);
  void Greet(Connection* connection, std::string_view body);
  std::string Describe() const;
  void OnLine(uint64_t id, Connection* connection, Function function, Reader* reader);
  void OnJoin(uint64_t id, Reader* reader);
  void TellLater(const std::vector<Lines::Waiter>& waiters);
  void TellPlaces();
  void AskWhoIsThere();
  void Start(uint64_t id, Connection* connection, std::string_view body);
  void MakeAside(Worker* worker, uint64_t id, std::string body);
  void TakeDone();
  void GoOn(uint64_t id);
  void Leave();
  void Finish(uint64_t id, Answer answer);
  void Reply(uint64_t id, std::string_view reply);
  void Send(uint64_t id, Connection* connection);
  void Update(uint64_t id, Connection* connection);
  void Drop(uint64_t id);
  void AskForSync();
  void OnDurable();
  void SayStillAtIt();
  bool IsIdle() const;

  flint_limiter* const limiter_;
  const Settings settings_;
  const int64_t since_ns_;
  Socket listener_;
  Socket epoll_;
  Socket wake_;
  int32_t watch_ = -1;
  Thread thread_;
  Worker short_waits_;
  Worker long_calls_;

  SystemMutex mutex_;
  Condition<SystemMutex> begun_changed_;
  bool begun_ FLINT_GUARDED_BY(mutex_) = false;
  std::vector<Done> done_ FLINT_GUARDED_BY(mutex_);
  std::atomic<bool> stopping_{false};
  std::atomic<bool> looks_again_{false};

  // The loop's.
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::array<char, size_t{64} * 1024> buffer_{};
  uint64_t last_id_ = 0;
  uint64_t running_ = 0;         // requests in other threads
  std::deque<Waiting> waiting_;  // by ticket
  uint64_t asked_ticket_ = 0;
  uint64_t durable_ = 0;
  uint64_t said_at_ns_ = 0;
  Lines lines_;
  // Those who are to be told where they stand now; all of them stand in line.
  std::set<Lines::Waiter> to_tell_;
  Lines::Waiter told_last_;
  uint64_t roll_called_at_ns_ = 0;
  bool accepts_later_ = false;  // descriptors have run out
  uint64_t accepts_at_ns_ = 0;  // when it is tried again
};

}  // namespace flint::sharing
