/* limiter.c - Flint from C: five requests a minute for every user, remembered in a directory.
 *
 *   cc limiter.c $(flint-config --cflags --libs) -o limiter
 *   ./limiter /tmp/limits && ./limiter /tmp/limits
 *
 * Beside it is the same program for ctypes, cffi, Rust, Go and Node. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flint_limiter.h"

#define MS_NS UINT64_C(1000000)
#define MINUTE_NS (UINT64_C(60000) * MS_NS)
enum { CHECKS = 7, MOST_LISTED = 16 };

static flint_limiter_error error;

/* Ends the program when a call has failed. */
static void Require(const char* what, int32_t code) {
  if (code == FLINT_LIMITER_OK) return;
  fprintf(stderr, "%s: %s\n", what, error.message);
  exit(1);
}

static void ConfigureUsers(flint_limiter* limiter) {
  flint_limiter_config config;
  memset(&config, 0, sizeof(config));
  config.struct_size = sizeof(config);
  config.kind = FLINT_LIMITER_KIND_TEMPLATE; /* a counter for every key that starts with it */
  config.key = "user:";
  config.key_bytes = strlen(config.key);
  config.rate = 5;
  config.per_ns = MINUTE_NS;
  config.algorithm = FLINT_LIMITER_TOKEN_BUCKET;
  Require("limit", flint_limiter_limit(limiter, &config, 0, NULL, &error));
}

/* Returns at once; what it has written is on disk when its ticket is. */
static uint64_t CheckUser(flint_limiter* limiter, const char* key) {
  flint_limiter_result result;
  memset(&result, 0, sizeof(result));
  result.struct_size = sizeof(result);
  Require("check", flint_limiter_check(limiter, key, strlen(key), 1, FLINT_LIMITER_NO_SYNC, NULL,
                                       &result, &error));
  printf("%s: %s, %" PRIu64 " remaining, retry after %" PRIu64 " ms\n", key,
         result.allowed ? "allowed" : "denied", result.remaining,
         (result.retry_after_ns + MS_NS - 1) / MS_NS);
  return result.ticket;
}

static void List(flint_limiter* limiter) {
  static char text[FLINT_LIMITER_MIN_TEXT_BYTES]; /* for the keys */
  flint_limiter_status_info page[MOST_LISTED];
  uint64_t count = 0;
  memset(page, 0, sizeof(page));
  for (int i = 0; i < MOST_LISTED; ++i) page[i].struct_size = sizeof(*page);
  Require("list",
          flint_limiter_list(limiter, NULL, 0, 0, FLINT_LIMITER_ALL_COUNTERS, page, MOST_LISTED,
                             sizeof(*page), text, sizeof(text), &count, &error));
  for (uint64_t i = 0; i < count; ++i) {
    const int is_template = page[i].kind == FLINT_LIMITER_KIND_TEMPLATE;
    printf("%.*s%s: %" PRIu64 " every %" PRIu64 " ms, %" PRIu64 " allowed, %" PRIu64 " denied\n",
           (int)page[i].key_bytes, page[i].key, is_template ? "*" : "", page[i].rate,
           page[i].per_ns / MS_NS, page[i].total_allowed, page[i].total_denied);
  }
}

int main(int argc, char** argv) {
  flint_limiter* limiter = NULL;
  uint64_t last_ticket = 0;
  if (argc != 2) {
    fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  error.struct_size = sizeof(error);
  Require("open", flint_limiter_open(argv[1], strlen(argv[1]), NULL, &limiter, &error));
  ConfigureUsers(limiter);
  for (int i = 0; i < CHECKS; ++i) {
    const uint64_t ticket = CheckUser(limiter, "user:42");
    if (ticket != 0) last_ticket = ticket; /* a denial has none: it used up nothing */
  }
  Require("wait", flint_limiter_wait(limiter, last_ticket, UINT64_MAX, &error));
  puts("everything is on disk");
  List(limiter);
  Require("close", flint_limiter_close(&limiter, &error));
  return 0;
}
