#pragma once

#include "engine/engine.h"

namespace flint {

// What may be decided together, in one record.
inline constexpr size_t kMaxItems = 1024;
inline constexpr size_t kMaxKeyBytesTogether = 65535;

// How many items there are, and how long their keys are.
Status CheckTogetherBounds(std::span<const Place::Item> items);

// Keeps Shutdown waiting while a call runs outside of the shard locks, and tells it if it may. Made
// before the call looks whether the limiter may be used, or under a shard's lock under which it has
// looked: Shutdown first says that it may not, takes each of these locks, and then waits. So either
// this call sees it or Shutdown sees this call.
class Engine::Running {
 public:
  explicit Running(Engine* engine) : engine_(engine) {
    // In a child the lock may be held for ever, and nobody waits.
    if (engine_->forked_.load(std::memory_order_relaxed)) return;
    const MutexLock lock(engine_->running_mutex_);
    ++engine_->running_;
    counted_ = true;
  }
  ~Running() {
    if (!counted_) return;
    const MutexLock lock(engine_->running_mutex_);
    FLINT_ASSERT(engine_->running_ > 0);
    if (--engine_->running_ == 0) engine_->running_changed_.NotifyAll();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  Engine* const engine_;
  bool counted_ = false;
};

// Under a shard's lock, of a call that goes on behind it. Shutdown comes by each of these locks
// before it looks who is running.
inline void Engine::NoteRunning(std::optional<Running>* running) {
  if (!running->has_value()) running->emplace(this);
}

}  // namespace flint
