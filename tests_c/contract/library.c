/* library.c - what the library says about itself. */

#include <string.h>

#include "support.h"

static void Version(void) {
  CHECK(strcmp(flint_limiter_version(), "1.1.0") == 0);
  CHECK(flint_limiter_version() == flint_limiter_version());
}

static void CodeName(void) {
  CHECK(strcmp(flint_limiter_code_name(FLINT_LIMITER_OK), "OK") == 0);
  CHECK(strcmp(flint_limiter_code_name(FLINT_LIMITER_LOCKED), "LOCKED") == 0);
  CHECK(strcmp(flint_limiter_code_name(FLINT_LIMITER_WOULD_BLOCK), "WOULD_BLOCK") == 0);
  CHECK(flint_limiter_code_name(7) == flint_limiter_code_name(7));
  CHECK(strcmp(flint_limiter_code_name(-1), "UNKNOWN") == 0);
  CHECK(strcmp(flint_limiter_code_name(INT32_MAX), "UNKNOWN") == 0);
}

static void CodeText(void) {
  for (int32_t code = FLINT_LIMITER_OK; code <= FLINT_LIMITER_BUSY; ++code) {
    CHECK(strlen(flint_limiter_code_text(code)) > 0);
    CHECK(strcmp(flint_limiter_code_text(code), "unknown status") != 0);
    CHECK(flint_limiter_code_text(code) == flint_limiter_code_text(code));
  }
  const int32_t unknown[] = {-1, 1000, INT32_MIN, INT32_MAX};
  for (size_t i = 0; i < sizeof(unknown) / sizeof(*unknown); ++i) {
    CHECK(strcmp(flint_limiter_code_text(unknown[i]), "unknown status") == 0);
  }
}

const Test library_tests[] = {
    TEST(Version),
    TEST(CodeName),
    TEST(CodeText),
    {NULL, NULL},
};
