#include "log_lines.h"

#include <unistd.h>

#include <ctime>

#include "text.h"

namespace flint::server {

void Log::Info(std::string_view message, std::initializer_list<Field> fields) const {
  Write("info", message, fields);
}

void Log::Warn(std::string_view message, std::initializer_list<Field> fields) const {
  Write("warning", message, fields);
}

void Log::Write(std::string_view level, std::string_view message,
                std::initializer_list<Field> fields) const {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const int64_t at_ms = now.tv_sec * 1'000 + now.tv_nsec / 1'000'000;
  const std::string at = TimeText(at_ms * 1'000'000);
  std::string line;
  if (json_) {
    line =
        "{\"at\":" + Quoted(at) + ",\"level\":" + Quoted(level) + ",\"message\":" + Quoted(message);
    for (const Field& field : fields) line += "," + Quoted(field.name) + ":" + Quoted(field.value);
    line += "}\n";
  } else {
    line = at + " " + std::string(level) + ": " + std::string(message);
    for (const Field& field : fields) {
      line += " " + std::string(field.name) + "=" + Quoted(field.value);
    }
    line += "\n";
  }
  // Nobody could be told that a line is lost.
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

}  // namespace flint::server
