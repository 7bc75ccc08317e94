/* main.c - runs the contract tests: every promise of flint_limiter.h, from the outside.
 *
 * `contract_test` runs everything, `contract_test Fork ListPages` the tests so named. */

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static const Test* const sections[] = {
    arithmetic_tests, library_tests,       arguments_tests, bounds_tests,
    limits_tests,     decisions_tests,     reading_tests,   durability_tests,
    opening_tests,    read_only_tests,     sharing_tests,
#ifdef FLINT_SERVER
    connected_tests,  connected_tls_tests,
#endif
};

static int Delete(const char* path, const struct stat* info, int type, struct FTW* place) {
  (void)info;
  (void)type;
  (void)place;
  return remove(path);
}

static int IsWanted(const char* name, int count, char** wanted) {
  for (int i = 0; i < count; ++i) {
    if (strcmp(name, wanted[i]) == 0) return 1;
  }
  return count == 0;
}

/* Returns how many tests were run. */
static int RunSection(const Test* test, int count, char** wanted) {
  int run = 0;
  for (; test->name != NULL; ++test) {
    if (!IsWanted(test->name, count, wanted)) continue;
    const int before = Failures();
    printf("%-32s", test->name);
    fflush(stdout);
    test->run();
    ++run;
    puts(Failures() == before ? "ok" : "FAILED");
  }
  return run;
}

int main(int argc, char** argv) {
  const char* parent = getenv("TMPDIR");
  snprintf(root, sizeof(root), "%.200s/flint-contract-XXXXXX", parent == NULL ? "/tmp" : parent);
  if (mkdtemp(root) == NULL) {
    perror(root);
    return 1;
  }
  int run = 0;
  for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); ++i) {
    run += RunSection(sections[i], argc - 1, argv + 1);
  }
  nftw(root, Delete, 16, FTW_DEPTH | FTW_PHYS);
  printf("%d tests, %d failures\n", run, Failures());
  return Failures() == 0 && run > 0 ? 0 : 1;
}
