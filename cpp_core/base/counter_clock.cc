#include "base/counter_clock.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <fcntl.h>
#include <unistd.h>

#include <string_view>

#include "base/posix_file.h"
#endif

namespace flint {

#if defined(__x86_64__)

namespace {

bool CountsAtOneRate() {
  constexpr unsigned kPowerManagement = 0x80000007;
  constexpr unsigned kInvariant = 1U << 8;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(kPowerManagement, &a, &b, &c, &d) != 0 && (d & kInvariant) != 0;
}

// The kernel has compared the counters of all cores before it does, and stops if they drift.
bool KernelCountsByIt() {
  constexpr char kPath[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
  const Descriptor file(OpenDescriptor({AT_FDCWD, kPath, kPath}, O_RDONLY));
  if (file.get() < 0) return false;
  char text[16];
  const ssize_t got = read(file.get(), text, sizeof(text));
  return got > 0 && std::string_view(text, static_cast<size_t>(got)) == "tsc\n";
}

}  // namespace

bool Processor::HasSteadyCounter() { return CountsAtOneRate() && KernelCountsByIt(); }

#else

bool Processor::HasSteadyCounter() { return false; }

#endif

}  // namespace flint
