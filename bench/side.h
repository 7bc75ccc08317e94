/* side.h - what the sides that are written in C share: each line that comes in is a number of
 * calls, each line that goes out says in JSON how they went. */
#ifndef SIDE_H
#define SIDE_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flint_limiter.h"

/* Of one key, which is an exact limit: so large that everything is allowed. */
#define RATE UINT64_C(1000000000)
/* Of many keys under a template: a unit comes back in an hour, so that no counter is forgotten. */
#define TEMPLATE_RATE UINT64_C(1000000)
#define PER_NS (UINT64_C(36500) * 24 * 3600 * 1000000000)

static inline int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The next line's number of calls, or 0 at the end. */
static inline uint64_t next_round(void) {
  char line[64];
  if (fgets(line, sizeof line, stdin) == NULL) return 0;
  return strtoull(line, NULL, 10);
}

/* Ends the side with what went wrong, which becomes the reason why the row is not run. */
static inline void fail(const char* what) {
  printf("{\"error\": \"%s\"}\n", what);
  exit(1);
}

static inline void must(int32_t code, const char* what) {
  if (code == FLINT_LIMITER_OK) return;
  printf("{\"error\": \"%s: %s\"}\n", what, flint_limiter_code_text(code));
  exit(1);
}

static inline void ready(const char* name, const char* version) {
  printf("{\"versions\": {\"%s\": \"%s\"}}\n", name, version);
  fflush(stdout);
}

static inline flint_limiter* open_with(const char* directory, uint32_t sync, uint64_t segment_bytes,
                                       uint32_t shared) {
  flint_limiter_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.sync = sync;
  options.segment_bytes = segment_bytes;
  options.shared = shared;
  flint_limiter* limiter = NULL;
  must(flint_limiter_open(directory, strlen(directory), &options, &limiter, NULL), "open");
  return limiter;
}

static inline flint_limiter* open_limiter(const char* directory, uint32_t sync,
                                          uint64_t segment_bytes) {
  return open_with(directory, sync, segment_bytes, 0);
}

static inline void configure(flint_limiter* limiter, uint32_t kind, const char* key) {
  flint_limiter_config config;
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.kind = kind;
  config.key = key;
  config.key_bytes = strlen(key);
  config.rate = kind == FLINT_LIMITER_KIND_EXACT ? RATE : TEMPLATE_RATE;
  config.per_ns = PER_NS;
  config.algorithm = FLINT_LIMITER_TOKEN_BUCKET;
  must(flint_limiter_limit(limiter, &config, 0, NULL, NULL), "limit");
}

/* An exact limit that has a name, or none if `name_bytes` is 0. */
static inline void configure_named(flint_limiter* limiter, const char* key, const char* name,
                                   uint64_t name_bytes) {
  flint_limiter_config config;
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.key = key;
  config.key_bytes = strlen(key);
  config.name = name;
  config.name_bytes = name_bytes;
  config.rate = RATE;
  config.per_ns = PER_NS;
  config.algorithm = FLINT_LIMITER_TOKEN_BUCKET;
  must(flint_limiter_limit(limiter, &config, 0, NULL, NULL), "limit");
}

/* Bytes of log that are not on disk when the newest record has this ticket. */
static inline uint64_t unsynced_bytes(flint_limiter* limiter, uint64_t ticket) {
  uint64_t durable = 0;
  must(flint_limiter_durable(limiter, &durable, NULL), "durable");
  return ticket <= durable ? 0 : ticket - durable;
}

/* Checks one unit of a key, and returns the ticket. */
static inline uint64_t check_once(flint_limiter* limiter, const char* key) {
  flint_limiter_result result;
  memset(&result, 0, sizeof result);
  result.struct_size = sizeof result;
  must(flint_limiter_check(limiter, key, strlen(key), 1, 0, NULL, &result, NULL), "check");
  return result.ticket;
}

/* Bytes that one admission takes in the log, to tell events from bytes: the shortest of a few
 * steps, since a seal may come between two admissions. */
static inline uint64_t event_bytes(flint_limiter* limiter, const char* key) {
  uint64_t shortest = UINT64_MAX;
  uint64_t before = check_once(limiter, key);
  for (int i = 0; i < 8; ++i) {
    const uint64_t ticket = check_once(limiter, key);
    if (ticket - before < shortest) shortest = ticket - before;
    before = ticket;
  }
  return shortest;
}

#endif
