#pragma once

#include <vector>

#include "engine/engine.h"

namespace flint {

// Keeps Shutdown waiting while a call runs outside of the shard locks, and tells it if it may.
class Engine::Running {
 public:
  explicit Running(Engine* engine) : engine_(engine) {
    const std::lock_guard<std::mutex> lock(engine_->running_mutex_);
    ++engine_->running_;
  }
  ~Running() {
    const std::lock_guard<std::mutex> lock(engine_->running_mutex_);
    if (--engine_->running_ == 0) engine_->running_changed_.notify_all();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  Engine* const engine_;
};

class Engine::AllShards {
 public:
  explicit AllShards(Keyspace* keyspace) : keyspace_(keyspace) {
    for (Shard& shard : keyspace_->shards()) shard.mutex.lock();
  }
  ~AllShards() {
    for (Shard& shard : keyspace_->shards()) shard.mutex.unlock();
  }
  AllShards(const AllShards&) = delete;
  AllShards& operator=(const AllShards&) = delete;

 private:
  Keyspace* const keyspace_;
};

}  // namespace flint
