#pragma once

#include <atomic>
#include <cstddef>

namespace flint {

// What happens to a mapped file that is cut short, or whose disk fails, while it is in use: the
// system sends SIGBUS for the page that is not there any more. The guard puts an empty page of
// memory in its place and says so in a flag, so that the limiter stops instead of the program.
//
// One handler is installed, once, when the first mapping is watched. It acts on addresses in its
// own fixed table alone and passes every other signal on to the handler that stood there before. A
// handler that somebody installs later takes its place, and protects only if it does the same.
class BusGuard {
 public:
  // False when the table is full or the handler cannot be installed. `*failed` must live until
  // Unwatch. Any thread.
  static bool Watch(char* base, size_t size, std::atomic<bool>* failed);
  static void Unwatch(const char* base);
  // Whether a mapping is watched and another handler has taken the guard's place since. It is not
  // put back: whoever installed that one relies on it.
  static bool Replaced();
};

}  // namespace flint
