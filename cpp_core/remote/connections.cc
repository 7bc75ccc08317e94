#include "remote/connections.h"

#include <pthread.h>

#include <utility>

namespace flint {
namespace {

constexpr size_t kMostIdle = 64;

// All that there are, which a fork has to know.
struct Registry {
  SystemMutex mutex;
  std::set<Connections*> all FLINT_GUARDED_BY(mutex);
};

// Never destroyed: a fork may come while the process is exiting.
Registry& TheRegistry() {
  static Registry* const registry = new Registry;
  return *registry;
}

void BeforeFork() FLINT_NO_THREAD_SAFETY_ANALYSIS {
  TheRegistry().mutex.lock();
  for (Connections* const one : TheRegistry().all) one->BeforeFork();
  BeforeForkOfTls();
}

void InParent() FLINT_NO_THREAD_SAFETY_ANALYSIS {
  BehindForkOfTls();
  for (Connections* const one : TheRegistry().all) one->InParent();
  TheRegistry().mutex.unlock();
}

void InChild() FLINT_NO_THREAD_SAFETY_ANALYSIS {
  BehindForkOfTls();
  for (Connections* const one : TheRegistry().all) one->InChild();
  TheRegistry().mutex.unlock();
}

// Whether the call may have taken effect although it failed.
Status Unknown(const Status& status) {
  const std::string message = status.message() + "; whether the call took effect is unknown";
  return Status(status.code(), message).WithErrnoOf(status);
}

}  // namespace

Connections::Connections(Address address, TlsContext tls, std::string token,
                         std::chrono::nanoseconds timeout)
    : address_(std::move(address)),
      tls_(std::move(tls)),
      token_(std::move(token)),
      timeout_(timeout),
      changed_(new Condition<SystemMutex>) {
  static const int installed = pthread_atfork(flint::BeforeFork, flint::InParent, flint::InChild);
  static_cast<void>(installed);
  const MutexLock lock(TheRegistry().mutex);
  TheRegistry().all.insert(this);
}

Connections::~Connections() {
  const MutexLock lock(TheRegistry().mutex);
  TheRegistry().all.erase(this);
  delete changed_;
}

// The threads that made calls are the parent's. What they use stays where it is, and closing it
// here tells the server nothing.
void Connections::InChild() FLINT_NO_THREAD_SAFETY_ANALYSIS {
  for (Connection* const one : busy_) one->Forget();
  for (const auto& one : idle_) one->Forget();
  busy_.clear();
  idle_.clear();
  running_ = 0;
  // Somebody may have waited for the old one, whose end would wait for them: it stays.
  changed_ = new Condition<SystemMutex>;
  mutex_.unlock();
}

Status Connections::Begin() {
  const MutexLock lock(mutex_);
  if (closed_) return Status::Closed();
  ++running_;
  return Status();
}

void Connections::End() {
  const MutexLock lock(mutex_);
  if (--running_ == 0) changed_->NotifyAll();
}

Status Connections::CheckOpen() {
  const MutexLock lock(mutex_);
  return closed_ ? Status::Closed() : Status();
}

void Connections::Close() {
  const MutexLock lock(mutex_);
  closed_ = true;
  for (Connection* const one : busy_) one->Interrupt();
  idle_.clear();
  while (running_ > 0) changed_->Wait(mutex_);
}

Status Connections::Take(Deadline deadline, std::unique_ptr<Connection>* connection,
                         bool* is_kept) {
  std::unique_ptr<Connection> taken;
  *is_kept = true;
  while (taken == nullptr) {
    const MutexLock lock(mutex_);
    if (idle_.empty()) break;
    taken = std::move(idle_.back());
    idle_.pop_back();
    if (taken->IsStale()) taken.reset();
  }
  if (taken == nullptr) {
    *is_kept = false;
    FLINT_RETURN_IF_ERROR(Connection::Open(address_, tls_, token_, deadline, &taken));
  }
  const MutexLock lock(mutex_);
  if (closed_) return Status::Closed();
  busy_.insert(taken.get());
  *connection = std::move(taken);
  return Status();
}

bool Connections::GiveBack(std::unique_ptr<Connection> connection, bool is_usable) {
  const MutexLock lock(mutex_);
  busy_.erase(connection.get());
  if (is_usable && !closed_ && idle_.size() < kMostIdle) idle_.push_back(std::move(connection));
  return !closed_;
}

Status Connections::AskRunning(const RespRequest& request, const RespReader::Bounds& bounds,
                               bool repeatable, RespReply* reply) {
  const Deadline deadline = std::chrono::steady_clock::now() + timeout_;
  while (true) {
    std::unique_ptr<Connection> connection;
    bool is_kept = false;
    FLINT_RETURN_IF_ERROR(Take(deadline, &connection, &is_kept));
    Status status;
    try {
      status = connection->Exchange(request, bounds, deadline, reply);
    } catch (...) {  // no memory for the answer, some of which may have come
      GiveBack(std::move(connection), false);
      throw;
    }
    const bool was_sent = connection->was_sent();
    const bool is_open = GiveBack(std::move(connection), status.ok());
    if (status.ok()) return status;
    if (!is_open) return Status::Closed();
    if (status.code() == Code::kIo && is_kept && (repeatable || !was_sent)) continue;
    return was_sent && !repeatable ? Unknown(status) : status;
  }
}

Status Connections::Ask(const RespRequest& request, const RespReader::Bounds& bounds,
                        bool repeatable, RespReply* reply) {
  FLINT_RETURN_IF_ERROR(Begin());
  const Ending ending{this};
  return AskRunning(request, bounds, repeatable, reply);
}

Status Connections::Reach() {
  FLINT_RETURN_IF_ERROR(Begin());
  const Ending ending{this};
  std::unique_ptr<Connection> connection;
  bool is_kept = false;
  FLINT_RETURN_IF_ERROR(Take(std::chrono::steady_clock::now() + timeout_, &connection, &is_kept));
  GiveBack(std::move(connection), true);
  return Status();
}

}  // namespace flint
