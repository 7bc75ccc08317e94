#pragma once

#include <cstdio>
#include <cstdlib>

// FLINT_ASSERT(condition): what must be true here unless the code itself is wrong. It is looked at
// in Debug and in sanitizer builds, under which every test runs; CMake defines FLINT_ASSERTIONS
// there. The library that is shipped and measured is a Release build and has none of them. The
// condition must not change anything.
#if defined(FLINT_ASSERTIONS)

namespace flint {

[[noreturn]] inline void AssertionFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: flint: assertion failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace flint

#define FLINT_ASSERT(condition)                                 \
  do {                                                          \
    if (!(condition)) [[unlikely]]                              \
      ::flint::AssertionFailed(#condition, __FILE__, __LINE__); \
  } while (0)

#else

#define FLINT_ASSERT(condition) static_cast<void>(sizeof((condition) ? 1 : 0))

#endif
