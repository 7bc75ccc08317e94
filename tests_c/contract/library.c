/* library.c - what the library says about itself. */

#include <string.h>

#include "support.h"

static void Version(void) {
  CHECK(strcmp(flint_limiter_version(), "1.0.0") == 0);
  CHECK(flint_limiter_version() == flint_limiter_version());
}

static void CodeText(void) {
  for (int32_t code = FLINT_LIMITER_OK; code <= FLINT_LIMITER_READ_ONLY; ++code) {
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
    TEST(CodeText),
    {NULL, NULL},
};
