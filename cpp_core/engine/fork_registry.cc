#include "engine/fork_registry.h"

#include <pthread.h>

#include <set>

#include "base/mutex.h"
#include "engine/engine.h"

namespace flint {
namespace {

struct Registry {
  SystemMutex mutex;
  std::set<Engine*> engines FLINT_GUARDED_BY(mutex);
};

// Never destroyed: a fork may come while the process is exiting.
Registry& TheRegistry() {
  static Registry* const registry = new Registry;
  return *registry;
}

void BeforeFork() FLINT_ACQUIRE(TheRegistry().mutex) { TheRegistry().mutex.lock(); }

void InParent() FLINT_RELEASE(TheRegistry().mutex) { TheRegistry().mutex.unlock(); }

void InChild() FLINT_RELEASE(TheRegistry().mutex) {
  for (Engine* engine : TheRegistry().engines) engine->AbandonInChild();
  TheRegistry().engines.clear();
  TheRegistry().mutex.unlock();
}

}  // namespace

void RegisterForFork(Engine* engine) {
  static const int installed = pthread_atfork(BeforeFork, InParent, InChild);
  static_cast<void>(installed);
  const MutexLock lock(TheRegistry().mutex);
  TheRegistry().engines.insert(engine);
}

void UnregisterForFork(Engine* engine) {
  const MutexLock lock(TheRegistry().mutex);
  TheRegistry().engines.erase(engine);
}

}  // namespace flint
