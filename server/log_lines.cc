#include "log_lines.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <deque>
#include <mutex>
#include <utility>

#include "text.h"

namespace flint::server {
namespace {

constexpr std::chrono::seconds kFlushWithin{1};

std::string Shown(const std::string& value) {
  const bool fits = value.size() <= Log::kMaxValueBytes;
  return Quoted(fits ? value : value.substr(0, Log::kMaxValueBytes) + "...");
}

std::string Line(bool json, std::string_view level, std::string_view message,
                 std::initializer_list<Log::Field> fields) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const int64_t at_ms = now.tv_sec * 1'000 + now.tv_nsec / 1'000'000;
  const std::string at = TimeText(at_ms * 1'000'000);
  std::string line;
  if (json) {
    line =
        "{\"at\":" + Quoted(at) + ",\"level\":" + Quoted(level) + ",\"message\":" + Quoted(message);
    for (const Log::Field& field : fields) {
      line += "," + Quoted(field.name) + ":" + Shown(field.value);
    }
    return line + "}\n";
  }
  line = at + " " + std::string(level) + ": " + std::string(message);
  for (const Log::Field& field : fields) {
    line += " " + std::string(field.name) + "=" + Shown(field.value);
  }
  return line + "\n";
}

// Nobody could be told that a line is lost.
void WriteWhole(int fd, std::string_view line) {
  while (!line.empty()) {
    const ssize_t written = write(fd, line.data(), line.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    line.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

struct Log::Queue {
  Queue(bool is_json, int to) : json(is_json), fd(to) {}

  const bool json;
  const int fd;
  std::mutex mutex;
  std::condition_variable changed;
  // The rest under the mutex.
  std::deque<std::string> lines;
  uint64_t dropped = 0;
  uint64_t dropped_said = 0;
  bool writing = false;
  bool leaving = false;
};

Log::Log(bool json, int fd)
    : queue_(std::make_shared<Queue>(json, fd)), thread_([queue = queue_] { WriteAll(queue); }) {}

Log::~Log() {
  bool written = false;
  {
    std::unique_lock lock(queue_->mutex);
    queue_->leaving = true;
    queue_->changed.notify_all();
    written = queue_->changed.wait_for(
        lock, kFlushWithin, [this] { return queue_->lines.empty() && !queue_->writing; });
  }
  if (written) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

void Log::WriteAll(const std::shared_ptr<Queue>& queue) {
  std::unique_lock lock(queue->mutex);
  for (;;) {
    queue->changed.wait(lock, [&] { return queue->leaving || !queue->lines.empty(); });
    if (queue->lines.empty()) return;
    std::string line = std::move(queue->lines.front());
    queue->lines.pop_front();
    const uint64_t lost = queue->dropped - std::exchange(queue->dropped_said, queue->dropped);
    queue->writing = true;
    lock.unlock();
    WriteWhole(queue->fd, line);
    if (lost > 0) {
      const std::string count = std::to_string(lost);
      WriteWhole(queue->fd,
                 Line(queue->json, "warning", "lines were dropped, since nobody read them in time",
                      {{"lines", count}}));
    }
    lock.lock();
    queue->writing = false;
    queue->changed.notify_all();
  }
}

void Log::Info(std::string_view message, std::initializer_list<Field> fields) const {
  Add("info", message, fields);
}

void Log::Warn(std::string_view message, std::initializer_list<Field> fields) const {
  Add("warning", message, fields);
}

uint64_t Log::dropped() const {
  const std::lock_guard lock(queue_->mutex);
  return queue_->dropped;
}

void Log::Add(std::string_view level, std::string_view message,
              std::initializer_list<Field> fields) const {
  std::string line = Line(queue_->json, level, message, fields);
  const std::lock_guard lock(queue_->mutex);
  if (queue_->lines.size() == kMaxLines) {
    queue_->dropped++;
    return;
  }
  queue_->lines.push_back(std::move(line));
  queue_->changed.notify_all();
}

}  // namespace flint::server
