#include "engine/fork_registry.h"

#include <pthread.h>

#include <mutex>
#include <set>

#include "engine/engine.h"

namespace flint {
namespace {

struct Registry {
  std::mutex mutex;
  std::set<Engine*> engines;
};

// Never destroyed: a fork may come while the process is exiting.
Registry& TheRegistry() {
  static Registry* const registry = new Registry;
  return *registry;
}

void BeforeFork() { TheRegistry().mutex.lock(); }

void InParent() { TheRegistry().mutex.unlock(); }

void InChild() {
  for (Engine* engine : TheRegistry().engines) engine->AbandonInChild();
  TheRegistry().engines.clear();
  TheRegistry().mutex.unlock();
}

}  // namespace

void RegisterForFork(Engine* engine) {
  static const int installed = pthread_atfork(BeforeFork, InParent, InChild);
  static_cast<void>(installed);
  const std::lock_guard<std::mutex> lock(TheRegistry().mutex);
  TheRegistry().engines.insert(engine);
}

void UnregisterForFork(Engine* engine) {
  const std::lock_guard<std::mutex> lock(TheRegistry().mutex);
  TheRegistry().engines.erase(engine);
}

}  // namespace flint
