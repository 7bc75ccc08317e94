/* calls.c - the calls of the interface in short form. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

flint_limiter_options Options(uint32_t sync) {
  flint_limiter_options options;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.sync = sync;
  return options;
}

flint_limiter_options Lazy(void) {
  flint_limiter_options options = Options(FLINT_LIMITER_SYNC_BATCH);
  options.flush_every_events = UINT64_C(1) << 32;
  options.flush_every_ms = 3600000;
  options.ring_bytes = 1 << 18;
  return options;
}

int32_t TryOpen(const char* path, const flint_limiter_options* options, flint_limiter** limiter) {
  return flint_limiter_open(path, strlen(path), options, limiter, NewError());
}

flint_limiter* OpenWith(const Path* path, const flint_limiter_options* options) {
  flint_limiter* limiter = NULL;
  const int32_t code = TryOpen(path->text, options, &limiter);
  if (code != FLINT_LIMITER_OK) {
    fprintf(stderr, "cannot open %s: %s\n", path->text, last_error.message);
    exit(1);
  }
  return limiter;
}

flint_limiter* Open(const Path* path, uint32_t sync) {
  const flint_limiter_options options = Options(sync);
  return OpenWith(path, &options);
}

const Path in_memory = {":memory:"};

flint_limiter* OpenMemory(Clock* clock) {
  flint_limiter_options options = Options(FLINT_LIMITER_SYNC_ALWAYS);
  if (clock != NULL) {
    InitClock(clock);
    options.clock = ReadClock;
    options.clock_argument = clock;
  }
  return OpenWith(&in_memory, &options);
}

void Close(flint_limiter* limiter) {
  CHECK_OK(flint_limiter_close(&limiter, NewError()));
  CHECK(limiter == NULL);
}

flint_limiter_config Config(const char* key, uint64_t rate, uint64_t per_ns) {
  flint_limiter_config config;
  memset(&config, 0, sizeof(config));
  config.struct_size = sizeof(config);
  config.key = key;
  config.key_bytes = key == NULL ? 0 : strlen(key);
  config.rate = rate;
  config.per_ns = per_ns;
  config.algorithm = FLINT_LIMITER_TOKEN_BUCKET;
  return config;
}

flint_limiter_config Template(const char* prefix, uint64_t rate, uint64_t per_ns) {
  flint_limiter_config config = Config(prefix, rate, per_ns);
  config.kind = FLINT_LIMITER_KIND_TEMPLATE;
  return config;
}

int32_t Configure(flint_limiter* limiter, flint_limiter_config config) {
  return flint_limiter_limit(limiter, &config, FLINT_LIMITER_NO_SYNC, NULL, NewError());
}

flint_limiter_result NewResult(void) {
  flint_limiter_result result;
  memset(&result, FILLER, sizeof(result));
  result.struct_size = sizeof(result);
  return result;
}

int32_t TryCheck(flint_limiter* limiter, const char* key, uint64_t cost, uint32_t flags) {
  flint_limiter_result result = NewResult();
  return flint_limiter_check(limiter, key, strlen(key), cost, flags, NULL, &result, NewError());
}

flint_limiter_result CheckWith(flint_limiter* limiter, const char* key, uint64_t cost,
                               uint32_t flags) {
  flint_limiter_result result = NewResult();
  CHECK_OK(flint_limiter_check(limiter, key, strlen(key), cost, flags, NULL, &result, NewError()));
  return result;
}

flint_limiter_result Decide(flint_limiter* limiter, const char* key, uint64_t cost) {
  return CheckWith(limiter, key, cost, 0);
}

flint_limiter_result Peek(flint_limiter* limiter, const char* key, uint64_t cost) {
  flint_limiter_result result = NewResult();
  CHECK_OK(flint_limiter_peek(limiter, key, strlen(key), cost, 0, NULL, &result, NewError()));
  return result;
}

flint_limiter_status_info NewStatus(void) {
  flint_limiter_status_info status;
  memset(&status, FILLER, sizeof(status));
  status.struct_size = sizeof(status);
  return status;
}

int32_t TryStatus(flint_limiter* limiter, const char* key, uint32_t kind) {
  flint_limiter_status_info status = NewStatus();
  return flint_limiter_status(limiter, key, strlen(key), kind, &status, NewError());
}

flint_limiter_status_info Status(flint_limiter* limiter, const char* key, uint32_t kind) {
  flint_limiter_status_info status = NewStatus();
  CHECK_OK(flint_limiter_status(limiter, key, strlen(key), kind, &status, NewError()));
  return status;
}

flint_limiter_info Info(flint_limiter* limiter) {
  flint_limiter_info info;
  memset(&info, FILLER, sizeof(info));
  info.struct_size = sizeof(info);
  CHECK_OK(flint_limiter_get_info(limiter, &info, NewError()));
  return info;
}

uint64_t Durable(flint_limiter* limiter) {
  uint64_t ticket = 0;
  CHECK_OK(flint_limiter_durable(limiter, &ticket, NewError()));
  return ticket;
}

int32_t Wait(flint_limiter* limiter, uint64_t ticket, uint64_t timeout_ns) {
  return flint_limiter_wait(limiter, ticket, timeout_ns, NewError());
}

int32_t Remove(flint_limiter* limiter, const char* key, uint32_t kind, uint32_t flags) {
  return flint_limiter_remove(limiter, key, strlen(key), kind, flags, NULL, NewError());
}

int32_t Reset(flint_limiter* limiter, const char* key, uint32_t kind, uint32_t flags) {
  return flint_limiter_reset(limiter, key, strlen(key), kind, flags, NULL, NewError());
}

char page_text[FLINT_LIMITER_MIN_TEXT_BYTES + FLINT_LIMITER_MAX_NAME_BYTES];

void PrepareEntries(flint_limiter_status_info* entries, size_t capacity) {
  for (size_t i = 0; i < capacity; ++i) entries[i] = NewStatus();
}

uint64_t List(flint_limiter* limiter, const flint_limiter_status_info* after, uint32_t flags,
              flint_limiter_status_info* page, size_t capacity) {
  char cursor[FLINT_LIMITER_MAX_KEY_BYTES];
  uint64_t count = UINT64_MAX;
  uint64_t bytes = 0;
  uint32_t kind = 0;
  if (after != NULL) {
    bytes = after->key_bytes;
    kind = after->kind;
    memcpy(cursor, after->key, bytes);
  }
  PrepareEntries(page, capacity);
  CHECK_OK(flint_limiter_list(limiter, after == NULL ? NULL : cursor, bytes, kind, flags, page,
                              capacity, sizeof(*page), page_text, sizeof(page_text), &count,
                              NewError()));
  CHECK(count <= capacity);
  return count;
}

uint64_t Top(flint_limiter* limiter, uint32_t by, uint32_t flags,
             flint_limiter_status_info* entries, size_t capacity) {
  uint64_t count = UINT64_MAX;
  PrepareEntries(entries, capacity);
  CHECK_OK(flint_limiter_top(limiter, by, flags, entries, capacity, sizeof(*entries), page_text,
                             sizeof(page_text), &count, NewError()));
  CHECK(count <= capacity);
  return count;
}

flint_limiter_history_query Query(uint32_t flags) {
  flint_limiter_history_query query;
  memset(&query, 0, sizeof(query));
  query.struct_size = sizeof(query);
  query.flags = flags;
  return query;
}

void PrepareEvents(flint_limiter_event* events, size_t capacity) {
  memset(events, FILLER, capacity * sizeof(*events));
  for (size_t i = 0; i < capacity; ++i) events[i].struct_size = sizeof(*events);
}

uint64_t NextEvents(flint_limiter* limiter, const char* key, flint_limiter_history_query* query,
                    flint_limiter_event* events, size_t capacity) {
  uint64_t count = UINT64_MAX;
  PrepareEvents(events, capacity);
  CHECK_OK(flint_limiter_history(limiter, key, key == NULL ? 0 : strlen(key), query, events,
                                 capacity, sizeof(*events), page_text, sizeof(page_text), &count,
                                 &query->cursor, NewError()));
  CHECK(count <= capacity);
  return count > capacity ? 0 : count;
}

uint64_t CountEvents(flint_limiter* limiter) {
  flint_limiter_event events[16];
  flint_limiter_history_query query = Query(0);
  const uint64_t count = NextEvents(limiter, NULL, &query, events, 16);
  CHECK(count < 16);
  return count;
}

int HasKey(const flint_limiter_status_info* entry, const char* key) {
  return entry->key_bytes == strlen(key) && memcmp(entry->key, key, entry->key_bytes) == 0;
}

flint_limiter_item Item(const char* key, uint64_t cost) {
  flint_limiter_item item;
  memset(&item, 0, sizeof(item));
  item.struct_size = sizeof(item);
  item.key = key;
  item.key_bytes = strlen(key);
  item.cost = cost;
  return item;
}

int32_t CheckAll(flint_limiter* limiter, const flint_limiter_item* items, uint64_t count,
                 flint_limiter_result* results, uint64_t* denied_index) {
  for (uint64_t i = 0; i < count; ++i) results[i] = NewResult();
  return flint_limiter_check_all(limiter, items, count, sizeof(*items), 0, results,
                                 sizeof(*results), denied_index, NewError());
}
