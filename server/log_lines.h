#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

namespace flint::server {

// Lines on standard error: text for people, or one JSON object each. Any thread.
//
// A thread of its own writes them, so that who logs never waits for one who does not read. Up to
// kMaxLines wait to be written; what comes when there are so many is dropped, and a line says how
// many were when there is room again.
class Log {
 public:
  static constexpr size_t kMaxLines = 1024;
  static constexpr size_t kMaxValueBytes = 1024;  // of a field; what is longer is cut

  // Writes to `fd`, which stays the caller's.
  explicit Log(bool json, int fd = 2);
  // Waits until all is written, or for a second.
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  struct Field {
    std::string_view name;
    std::string value;
  };
  void Info(std::string_view message, std::initializer_list<Field> fields = {}) const;
  void Warn(std::string_view message, std::initializer_list<Field> fields = {}) const;

  // How many lines have been dropped in all.
  uint64_t dropped() const;

 private:
  struct Queue;

  void Add(std::string_view level, std::string_view message,
           std::initializer_list<Field> fields) const;
  static void WriteAll(const std::shared_ptr<Queue>& queue);

  // The thread's too: one that still waits for a reader when the process ends outlives the Log.
  const std::shared_ptr<Queue> queue_;
  std::thread thread_;
};

}  // namespace flint::server
