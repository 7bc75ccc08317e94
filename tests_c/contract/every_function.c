/* every_function.c - one valid call of each function that needs a limiter, for what all of them
 * have in common. */

#include <string.h>

#include "support.h"

static int32_t CallLimit(flint_limiter* limiter, flint_limiter_error* error) {
  const flint_limiter_config config = Config("new", 1, SECOND);
  return flint_limiter_limit(limiter, &config, 0, NULL, error);
}

static int32_t CallLimitMany(flint_limiter* limiter, flint_limiter_error* error) {
  const flint_limiter_config configs[2] = {Config("new", 1, SECOND), Template("n", 1, SECOND)};
  uint64_t ticket = 0;
  return flint_limiter_limit_many(limiter, configs, 2, sizeof(*configs), 0, &ticket, error);
}

static int32_t CallLimitNone(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_limit_many(limiter, NULL, 0, sizeof(flint_limiter_config), 0, NULL, error);
}

static int32_t CallReset(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_reset(limiter, "key", 3, FLINT_LIMITER_KIND_EXACT, 0, NULL, error);
}

int32_t CallCheck(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_result result = NewResult();
  return flint_limiter_check(limiter, "key", 3, 1, 0, NULL, &result, error);
}

static int32_t CallPeek(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_result result = NewResult();
  return flint_limiter_peek(limiter, "key", 3, 1, 0, NULL, &result, error);
}

static int32_t CallCheckLimits(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_result result = NewResult();
  flint_limiter_limit_result limits[2];
  uint64_t count = 0;
  limits[0].struct_size = sizeof(*limits);
  return flint_limiter_check_limits(limiter, "key", 3, 1, 0, NULL, 0, &result, limits, 2,
                                    sizeof(*limits), &count, error);
}

static int32_t CallCheckAll(flint_limiter* limiter, flint_limiter_error* error) {
  const flint_limiter_item item = Item("key", 1);
  flint_limiter_result result = NewResult();
  uint64_t denied = 0;
  return flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, &result, sizeof(result),
                                 &denied, error);
}

static int32_t CallCheckMany(flint_limiter* limiter, flint_limiter_error* error) {
  const flint_limiter_item item = Item("key", 1);
  flint_limiter_result result = NewResult();
  int32_t code = 0;
  return flint_limiter_check_many(limiter, &item, 1, sizeof(item), 0, &result, sizeof(result),
                                  &code, error);
}

static int32_t CallStatus(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_status_info status = NewStatus();
  return flint_limiter_status(limiter, "key", 3, FLINT_LIMITER_KIND_EXACT, &status, error);
}

static int32_t CallStatusNamed(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_status_info status = NewStatus();
  return flint_limiter_status_named(limiter, "key", 3, "", 0, FLINT_LIMITER_KIND_EXACT, &status,
                                    error);
}

static int32_t CallListPage(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_status_info entry = NewStatus();
  char cursor[FLINT_LIMITER_MAX_CURSOR_BYTES];
  uint64_t cursor_bytes = 0;
  uint64_t count = 0;
  return flint_limiter_list_page(limiter, NULL, 0, 0, &entry, 1, sizeof(entry), page_text,
                                 sizeof(page_text), &count, cursor, &cursor_bytes, error);
}

static int32_t CallResetNamed(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_reset_named(limiter, "key", 3, "", 0, FLINT_LIMITER_KIND_EXACT, 0, NULL,
                                   error);
}

static int32_t CallRemoveNamed(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_remove_named(limiter, "new", 3, "", 0, FLINT_LIMITER_KIND_EXACT, 0, NULL,
                                    error);
}

static int32_t CallList(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_status_info entry = NewStatus();
  uint64_t count = 0;
  return flint_limiter_list(limiter, NULL, 0, 0, 0, &entry, 1, sizeof(entry), page_text,
                            sizeof(page_text), &count, error);
}

static int32_t CallTop(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_status_info entry = NewStatus();
  uint64_t count = 0;
  return flint_limiter_top(limiter, FLINT_LIMITER_BY_DENIED, 0, &entry, 1, sizeof(entry), page_text,
                           sizeof(page_text), &count, error);
}

int32_t CallHistory(flint_limiter* limiter, flint_limiter_error* error) {
  const flint_limiter_history_query query = Query(0);
  flint_limiter_event event;
  uint64_t count = 0;
  uint64_t cursor = 0;
  PrepareEvents(&event, 1);
  return flint_limiter_history(limiter, NULL, 0, &query, &event, 1, sizeof(event), page_text,
                               sizeof(page_text), &count, &cursor, error);
}

static int32_t CallGetInfo(flint_limiter* limiter, flint_limiter_error* error) {
  flint_limiter_info info;
  info.struct_size = sizeof(info);
  return flint_limiter_get_info(limiter, &info, error);
}

static int32_t CallWait(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_wait(limiter, 0, 0, error);
}

static int32_t CallDurable(flint_limiter* limiter, flint_limiter_error* error) {
  uint64_t ticket = 0;
  return flint_limiter_durable(limiter, &ticket, error);
}

static int32_t CallWatch(flint_limiter* limiter, flint_limiter_error* error) {
  int32_t fd = -1;
  return flint_limiter_watch(limiter, &fd, error);
}

static int32_t CallUnwatch(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_unwatch(limiter, -1, error);
}

int32_t Compact(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_compact(limiter, 0, error);
}

static int32_t CallRemove(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_remove(limiter, "key", 3, FLINT_LIMITER_KIND_EXACT, 0, NULL, error);
}

const Function every_function[] = {
    {"limit", CallLimit},
    {"limit_many", CallLimitMany},
    {"limit_many of none", CallLimitNone},
    {"reset", CallReset},
    {"reset_named", CallResetNamed},
    {"check", CallCheck},
    {"peek", CallPeek},
    {"check_limits", CallCheckLimits},
    {"check_all", CallCheckAll},
    {"check_many", CallCheckMany},
    {"status", CallStatus},
    {"status_named", CallStatusNamed},
    {"list", CallList},
    {"list_page", CallListPage},
    {"top", CallTop},
    {"history", CallHistory},
    {"get_info", CallGetInfo},
    {"flush", flint_limiter_flush},
    {"wait", CallWait},
    {"durable", CallDurable},
    {"compact", Compact},
    {"refresh", flint_limiter_refresh},
    {"remove", CallRemove},
    {"remove_named", CallRemoveNamed},
    {"watch", CallWatch},
    {"unwatch", CallUnwatch},
};

const size_t function_count = sizeof(every_function) / sizeof(*every_function);

void CallEveryFunction(flint_limiter* limiter, int32_t expected, const char* part,
                       const char* where) {
  for (size_t i = 0; i < function_count; ++i) {
    const char* name = every_function[i].name;
    CheckFailure(expected, part, every_function[i].call(limiter, NewError()), name, where);
    CheckCode(expected, every_function[i].call(limiter, NULL), name, where);
  }
}
