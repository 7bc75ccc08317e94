#include "base/thread.h"

#include <signal.h>

#include <cerrno>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "base/assert.h"

namespace flint {
namespace {

struct Task {
  const char* name;
  std::function<void()> run;
  std::function<void(const Status& status)> on_escape;
};

Status Escaped(const char* what) noexcept {
  try {
    return Status(Code::kInternal, what);
  } catch (const std::bad_alloc&) {
    return Status::NoMemory();
  }
}

void Run(const Task& task) noexcept {
  try {
    task.run();
  } catch (const std::bad_alloc&) {
    task.on_escape(Status::NoMemory());
  } catch (const std::exception& error) {
    task.on_escape(Escaped(error.what()));
  } catch (...) {
    task.on_escape(Escaped("an exception of an unknown kind"));
  }
}

extern "C" void* RunTask(void* argument) {
  const std::unique_ptr<Task> task(static_cast<Task*>(argument));
  // Fails only for a name that is too long.
  static_cast<void>(pthread_setname_np(pthread_self(), task->name));
  Run(*task);
  return nullptr;
}

// A new thread inherits what is blocked, so it has never been without.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t asynchronous;
    sigfillset(&asynchronous);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) {
      sigdelset(&asynchronous, own);
    }
    pthread_sigmask(SIG_BLOCK, &asynchronous, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

Status CannotStart(const char* name, int error) {
  std::string what = std::string("cannot start the thread ") + name;
  if (error == EAGAIN) {
    what +=
        "; no more threads can be made (a limit of the user, `ulimit -u`, of the container, "
        "pids.max, or of memory)";
  }
  return Status::FromErrno(error, what);
}

}  // namespace

Thread::~Thread() { FLINT_ASSERT(!started_); }

Status Thread::Start(const char* name, std::function<void()> run,
                     std::function<void(const Status& status)> on_escape) {
  FLINT_ASSERT(!started_);
  std::unique_ptr<Task> task(new (std::nothrow) Task{name, std::move(run), std::move(on_escape)});
  if (task == nullptr) return Status::NoMemory();
  int error = 0;
  {
    const SignalsBlocked blocked;
    error = pthread_create(&thread_, nullptr, RunTask, task.get());
  }
  if (error != 0) return CannotStart(name, error);
  // NOLINTNEXTLINE(bugprone-unused-return-value): it is the thread's own now
  static_cast<void>(task.release());
  started_ = true;
  return Status();
}

void Thread::Join() {
  if (!started_) return;
  pthread_join(thread_, nullptr);
  started_ = false;
}

}  // namespace flint
