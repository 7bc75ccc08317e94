#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "remote/connection.h"

namespace flint {

// Connections to one server, of which each call has one to itself. Those that are idle are kept. A
// forked child makes its own: it leaves the parent's alone. Any thread, at any time.
class Connections {
 public:
  // `tls` is null where the address has none.
  Connections(Address address, TlsContext tls, std::string token, std::chrono::nanoseconds timeout);
  ~Connections();
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  // Asks and waits, at most for the timeout. What is `repeatable`, or was not sent, is asked once
  // more if a kept connection turns out to have ended. Otherwise the error says so where it is not
  // known whether the server has done it.
  Status Ask(const RespRequest& request, const RespReader::Bounds& bounds, bool repeatable,
             RespReply* reply);
  // Makes sure that the server is there.
  Status Reach();
  Status CheckOpen();

  // Every later call returns kClosed, those that wait end with it; waits until none is left.
  void Close();

  // What a fork needs: none of these is held by another thread in the child.
  void BeforeFork() FLINT_NO_THREAD_SAFETY_ANALYSIS { mutex_.lock(); }
  void InParent() FLINT_NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock(); }
  void InChild();

 private:
  Status Take(Deadline deadline, std::unique_ptr<Connection>* connection, bool* is_kept);
  // False when Close has been called meanwhile.
  bool GiveBack(std::unique_ptr<Connection> connection, bool is_usable);
  Status AskRunning(const RespRequest& request, const RespReader::Bounds& bounds, bool repeatable,
                    RespReply* reply);
  // A call that runs, for Close to wait for.
  Status Begin();
  void End();
  // Ends it, however it ends.
  struct Ending {
    Connections* connections;
    ~Ending() { connections->End(); }
  };

  const Address address_;
  const TlsContext tls_;
  const std::string token_;
  const std::chrono::nanoseconds timeout_;

  SystemMutex mutex_;
  Condition<SystemMutex>* changed_;  // owned; a child gets another
  std::vector<std::unique_ptr<Connection>> idle_ FLINT_GUARDED_BY(mutex_);
  std::set<Connection*> busy_ FLINT_GUARDED_BY(mutex_);
  uint64_t running_ FLINT_GUARDED_BY(mutex_) = 0;
  bool closed_ FLINT_GUARDED_BY(mutex_) = false;
};

}  // namespace flint
