#include "base/clock.h"

#include <fcntl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/posix_file.h"

namespace flint {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

int64_t ReadWallNs() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  // It may be set to before 1970.
  const int64_t seconds = std::clamp<int64_t>(now.tv_sec, 0, Clock::kMaxNs / kNsPerSecond - 1);
  return seconds * kNsPerSecond + now.tv_nsec;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The kernel's boot id is a UUID in text: 32 hexadecimal digits with hyphens between groups.
bool ParseBootId(const char* text, size_t size, BootId* id) {
  size_t digits = 0;
  for (size_t i = 0; i < size && digits < 2 * id->size(); ++i) {
    if (text[i] == '-') continue;
    const int digit = HexDigit(text[i]);
    if (digit < 0) return false;
    uint8_t& byte = (*id)[digits / 2];
    byte = static_cast<uint8_t>(byte << 4 | digit);
    ++digits;
  }
  return digits == 2 * id->size();
}

BootId ReadBootId() {
  BootId id{};
  constexpr char kPath[] = "/proc/sys/kernel/random/boot_id";
  const Descriptor file(OpenDescriptor({AT_FDCWD, kPath, kPath}, O_RDONLY));
  if (file.get() >= 0) {
    char text[64];
    const ssize_t got = read(file.get(), text, sizeof(text));
    if (got > 0 && ParseBootId(text, static_cast<size_t>(got), &id)) return id;
  }
  // Sixteen bytes come in one piece once the system has any; before that, zeros must do.
  id = BootId{};
  (void)!getrandom(id.data(), id.size(), GRND_NONBLOCK);
  return id;
}

class SystemClock final : public Clock {
 public:
  int64_t BootNs() const override { return SystemBootNs(); }
  int64_t WallNs() const override { return ReadWallNs(); }
  BootId Boot() const override { return boot_id_; }
  bool monotonic() const override { return true; }

  Status Check() const override {
    timespec now{};
    if (clock_gettime(CLOCK_BOOTTIME, &now) != 0) {
      return Status::FromErrno(Code::kUnsupported, errno,
                               "cannot read CLOCK_BOOTTIME, the clock that Flint counts by; a "
                               "sandbox around this process has to allow clock_gettime");
    }
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
      return Status::FromErrno(Code::kUnsupported, errno,
                               "cannot read CLOCK_REALTIME, the wall clock; a sandbox around this "
                               "process has to allow clock_gettime");
    }
    return Clock::Check();
  }

 private:
  const BootId boot_id_ = ReadBootId();
};

}  // namespace

Status Clock::Check() const {
  const int64_t wall_ns = WallNs();
  if (wall_ns < 0) return Status(Code::kInvalidArgument, "the clock shows a time before 1970");
  if (wall_ns < kEndNs) return Status();
  return Status(Code::kInvalidArgument,
                "the wall clock shows a time after 2115, from which Flint cannot count on; set it "
                "right and open again");
}

const Clock* Clock::System() {
  // Never destroyed: threads may ask for the time while the process exits.
  static const SystemClock* const clock = new SystemClock;
  return clock;
}

const Clock* Clock::SystemWithoutCounter() {
  static const SystemClock* const clock = new SystemClock;
  return clock;
}

BootId CallbackClock::Boot() const {
  BootId id = Clock::System()->Boot();
  id[0] ^= 0xFF;
  return id;
}

int64_t CallbackClock::BootNs() const {
  return std::clamp<int64_t>(function_(argument_), 0, kMaxNs);
}

}  // namespace flint
