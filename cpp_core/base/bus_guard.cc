#include "base/bus_guard.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/mutex.h"

namespace flint {
namespace {

constexpr size_t kMostMappings = 64;

// Read by the handler without a lock: `base` is set last and cleared first.
struct Mapping {
  std::atomic<uintptr_t> base{0};
  std::atomic<size_t> size{0};
  std::atomic<std::atomic<bool>*> failed{nullptr};
};

std::array<Mapping, kMostMappings> mappings;
SystemMutex table_mutex;  // of those who change the table
bool installed FLINT_GUARDED_BY(table_mutex) = false;
struct sigaction previous;
uintptr_t page_bytes = 4096;

// Only what may be called in a signal handler; mmap is a plain system call on Linux.
bool Replace(void* faulty) {
  const auto address = reinterpret_cast<uintptr_t>(faulty);
  for (Mapping& mapping : mappings) {
    const uintptr_t base = mapping.base.load(std::memory_order_acquire);
    if (base == 0 || address < base || address - base >= mapping.size.load()) continue;
    std::atomic<bool>* const failed = mapping.failed.load();
    if (mapping.base.load() != base) continue;  // its place was taken meanwhile: not the address's
    failed->store(true);
    void* const page = static_cast<char*>(faulty) - address % page_bytes;
    return mmap(page, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                -1, 0) != MAP_FAILED;
  }
  return false;
}

void PassOn(int number, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(number, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(number);
  } else if (previous.sa_handler == SIG_DFL || info->si_code > 0) {
    // A fault that nobody handles comes again, and then ends the process as it would have.
    signal(number, SIG_DFL);
    if (info->si_code <= 0) raise(number);
  }
}

void OnBusError(int number, siginfo_t* info, void* context) {
  const bool is_fault = info->si_code > 0;  // and not sent by a process
  if (is_fault && Replace(info->si_addr)) return;
  PassOn(number, info, context);
}

void BeforeFork() FLINT_ACQUIRE(table_mutex) { table_mutex.lock(); }

void InParent() FLINT_RELEASE(table_mutex) { table_mutex.unlock(); }

// Mappings are not inherited: what a child maps at their addresses is its own.
void InChild() FLINT_RELEASE(table_mutex) {
  for (Mapping& mapping : mappings) mapping.base.store(0);
  table_mutex.unlock();
}

// The handler that stands there is known before ours can be called.
bool Install() FLINT_REQUIRES(table_mutex) {
  if (installed) return true;
  page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  if (sigaction(SIGBUS, nullptr, &previous) != 0) return false;
  static const int at_fork = pthread_atfork(BeforeFork, InParent, InChild);
  if (at_fork != 0) return false;
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&action.sa_mask);
  installed = sigaction(SIGBUS, &action, nullptr) == 0;
  return installed;
}

}  // namespace

bool BusGuard::Watch(char* base, size_t size, std::atomic<bool>* failed) {
  const MutexLock lock(table_mutex);
  if (!Install()) return false;
  for (Mapping& mapping : mappings) {
    if (mapping.base.load() != 0) continue;
    mapping.size.store(size);
    mapping.failed.store(failed);
    mapping.base.store(reinterpret_cast<uintptr_t>(base), std::memory_order_release);
    return true;
  }
  return false;
}

bool BusGuard::Replaced() {
  const MutexLock lock(table_mutex);
  const bool watching = std::any_of(mappings.begin(), mappings.end(), [](const Mapping& mapping) {
    return mapping.base.load() != 0;
  });
  struct sigaction current;
  if (!watching || sigaction(SIGBUS, nullptr, &current) != 0) return false;
  return (current.sa_flags & SA_SIGINFO) == 0 || current.sa_sigaction != OnBusError;
}

void BusGuard::Unwatch(const char* base) {
  const MutexLock lock(table_mutex);
  for (Mapping& mapping : mappings) {
    if (mapping.base.load() == reinterpret_cast<uintptr_t>(base)) mapping.base.store(0);
  }
}

}  // namespace flint
