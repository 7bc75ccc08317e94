/* arguments.c - NULL, sizes, strides, flags, kinds. */

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

static void SuccessLeavesErrorAlone(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  int works = 0;
  CHECK_OK(Configure(limiter, Config("key", 5, SECOND)));
  for (size_t i = 0; i < function_count; ++i) {
    if (every_function[i].call(limiter, NewError()) != FLINT_LIMITER_OK) continue;
    CHECK(IsFilled(&last_error.code, sizeof(last_error) - sizeof(last_error.struct_size)));
    ++works;
  }
  CHECK(works >= 16); /* what needs a directory fails in memory */
  Close(limiter);
}

static void NullLimiter(void) {
  CallEveryFunction(NULL, FLINT_LIMITER_INVALID_ARGUMENT, "limiter is NULL", WHERE);
  CHECK_INVALID("limiter is NULL", flint_limiter_shutdown(NULL, NewError()));
  CHECK_INVALID("limiter is NULL", flint_limiter_open(":memory:", 8, NULL, NULL, NewError()));
  CHECK_CODE(INVALID_ARGUMENT, flint_limiter_open(":memory:", 8, NULL, NULL, NULL));
}

static void NullArguments(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_status_info entry = NewStatus();
  flint_limiter_result result = NewResult();
  const flint_limiter_item item = Item("key", 1);
  const uint64_t text_bytes = sizeof(page_text);
  uint64_t n = 7;
  CHECK_OK(Configure(limiter, Config("key", 5, SECOND)));
  CHECK_INVALID("config is NULL", flint_limiter_limit(limiter, NULL, 0, NULL, NewError()));
  CHECK_INVALID("config is NULL",
                flint_limiter_limit_many(limiter, NULL, 1, sizeof(flint_limiter_config), 0, NULL,
                                         NewError()));
  CHECK_INVALID("result is NULL",
                flint_limiter_check(limiter, "key", 3, 1, 0, NULL, NULL, NewError()));
  CHECK_INVALID("result is NULL",
                flint_limiter_peek(limiter, "key", 3, 1, 0, NULL, NULL, NewError()));
  CHECK_INVALID("items is NULL", flint_limiter_check_all(limiter, NULL, 1, sizeof(item), 0, &result,
                                                         sizeof(result), &n, NewError()));
  CHECK_INVALID("results is NULL", flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, NULL,
                                                           sizeof(result), &n, NewError()));
  CHECK_INVALID("denied_index is NULL",
                flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, &result, sizeof(result),
                                        NULL, NewError()));
  CHECK_INVALID("status is NULL", flint_limiter_status(limiter, "key", 3, 0, NULL, NewError()));
  CHECK_INVALID("entries is NULL",
                flint_limiter_list(limiter, NULL, 0, 0, 0, NULL, 1, sizeof(entry), page_text,
                                   text_bytes, &n, NewError()));
  CHECK_INVALID("text is NULL", flint_limiter_list(limiter, NULL, 0, 0, 0, &entry, 1, sizeof(entry),
                                                   NULL, text_bytes, &n, NewError()));
  CHECK_INVALID("count is NULL",
                flint_limiter_list(limiter, NULL, 0, 0, 0, &entry, 1, sizeof(entry), page_text,
                                   text_bytes, NULL, NewError()));
  CHECK_INVALID("after is NULL",
                flint_limiter_list(limiter, NULL, 1, 0, 0, &entry, 1, sizeof(entry), page_text,
                                   text_bytes, &n, NewError()));
  CHECK_INVALID("entries is NULL", flint_limiter_top(limiter, 0, 0, NULL, 1, sizeof(entry),
                                                     page_text, text_bytes, &n, NewError()));
  CHECK_INVALID("text is NULL", flint_limiter_top(limiter, 0, 0, &entry, 1, sizeof(entry), NULL,
                                                  text_bytes, &n, NewError()));
  CHECK_INVALID("count is NULL", flint_limiter_top(limiter, 0, 0, &entry, 1, sizeof(entry),
                                                   page_text, text_bytes, NULL, NewError()));
  CHECK_INVALID("info is NULL", flint_limiter_get_info(limiter, NULL, NewError()));
  CHECK_INVALID("ticket is NULL", flint_limiter_durable(limiter, NULL, NewError()));
  CHECK(n == 7);
  flint_limiter* none = limiter;
  CHECK_INVALID("path is NULL", flint_limiter_open(NULL, 4, NULL, &none, NewError()));
  CHECK(none == NULL);
  CHECK_INVALID("key is NULL",
                flint_limiter_peek(limiter, NULL, 1, 1, 0, NULL, &result, NewError()));
  CHECK_INVALID("key \"\" is empty",
                flint_limiter_peek(limiter, NULL, 0, 1, 0, NULL, &result, NewError()));
  Close(limiter);
}

static void SmallStructs(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_config config = Config("key", 5, SECOND);
  flint_limiter_options options = Options(0);
  flint_limiter_result result = NewResult();
  flint_limiter_status_info status = NewStatus();
  flint_limiter_item item = Item("key", 1);
  flint_limiter_info info;
  flint_limiter* none = limiter;
  uint64_t n = 7;
  CHECK_OK(Configure(limiter, config));
  config.struct_size = FIRST_SIZE(flint_limiter_config, reserved) - 1;
  options.struct_size = FIRST_SIZE(flint_limiter_options, sync_denials) - 1;
  CHECK_INVALID("config.struct_size is ", Configure(limiter, config));
  CHECK_INVALID("inline_config.struct_size is ",
                flint_limiter_check(limiter, "key", 3, 1, 0, &config, &result, NewError()));
  CHECK_INVALID("options.struct_size is ", TryOpen(":memory:", &options, &none));
  CHECK(none == NULL);
  result.struct_size = 0;
  CHECK_INVALID("result.struct_size is 0",
                flint_limiter_check(limiter, "key", 3, 1, 0, NULL, &result, NewError()));
  CHECK_INVALID("results.struct_size is 0",
                flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, &result, sizeof(result),
                                        &n, NewError()));
  result = NewResult();
  item.struct_size = 4;
  CHECK_INVALID("items.struct_size is 4",
                flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0, &result, sizeof(result),
                                        &n, NewError()));
  CHECK(IsFilled(&result.allowed, sizeof(result) - 4));
  status.struct_size = FIRST_SIZE(flint_limiter_status_info, counters) - 8;
  CHECK_INVALID("status.struct_size is ",
                flint_limiter_status(limiter, "key", 3, 0, &status, NewError()));
  CHECK_INVALID("entries.struct_size is ",
                flint_limiter_list(limiter, NULL, 0, 0, 0, &status, 1, sizeof(status), page_text,
                                   sizeof(page_text), &n, NewError()));
  CHECK(IsFilled(&status.kind, sizeof(status) - 4) && n == 7);
  info.struct_size = 8;
  CHECK_INVALID("info.struct_size is 8", flint_limiter_get_info(limiter, &info, NewError()));
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 0);
  Close(limiter);
}

/* What was compiled with the first version of the header. */
static void FirstSizes(void) {
  const Path path = NewPath();
  flint_limiter_options options;
  flint_limiter* limiter = NULL;
  memset(&options, FILLER, sizeof(options));
  memset(&options, 0, FIRST_SIZE(flint_limiter_options, sync_denials));
  options.struct_size = FIRST_SIZE(flint_limiter_options, sync_denials);
  CHECK_OK(TryOpen(path.text, &options, &limiter));
  CHECK_OK(Configure(limiter, Config("key", 5, SECOND)));
  CHECK(Decide(limiter, "key", 1).allowed);

  /* Entries lie as far from each other as they did then, and nothing between them is touched. */
  enum { SIZE = FIRST_SIZE(flint_limiter_event, item_count), EVENTS = 2 };
  union {
    flint_limiter_event first;
    char bytes[EVENTS * SIZE];
  } page;
  flint_limiter_event event;
  const flint_limiter_history_query query = {.struct_size = sizeof(query)};
  uint64_t count = 0;
  uint64_t cursor = 0;
  memset(&page, FILLER, sizeof(page));
  for (int i = 0; i < EVENTS; ++i) memcpy(page.bytes + (size_t)i * SIZE, &(uint32_t){SIZE}, 4);
  CHECK_OK(flint_limiter_history(limiter, NULL, 0, &query, &page.first, EVENTS, SIZE, page_text,
                                 sizeof(page_text), &count, &cursor, NewError()));
  CHECK(count == EVENTS);
  for (int i = 0; i < EVENTS; ++i) {
    memcpy(&event, page.bytes + (size_t)i * SIZE, SIZE);
    CHECK(event.struct_size == SIZE && event.item_count == 1);
    CHECK(event.type ==
          (i == 0 ? FLINT_LIMITER_EVENT_LIMIT_CONFIGURED : FLINT_LIMITER_EVENT_ALLOW));
  }
  /* A stride bounds what is written as well. */
  memset(&page, FILLER, sizeof(page));
  page.first.struct_size = sizeof(page);
  CHECK_OK(flint_limiter_history(limiter, NULL, 0, &query, &page.first, 1, SIZE, page_text,
                                 sizeof(page_text), &count, &cursor, NewError()));
  CHECK(count == 1 && page.first.struct_size == sizeof(page));
  CHECK(IsFilled(page.bytes + SIZE, sizeof(page) - SIZE));
  Close(limiter);
}

/* Structures as a later version of the header may have them. */
typedef struct GrownResult {
  flint_limiter_result known;
  unsigned char more[MORE];
} GrownResult;
typedef struct GrownStatus {
  flint_limiter_status_info known;
  unsigned char more[MORE];
} GrownStatus;
typedef struct GrownConfig {
  flint_limiter_config known;
  unsigned char more[MORE];
} GrownConfig;
typedef struct GrownItem {
  flint_limiter_item known;
  unsigned char more[MORE];
} GrownItem;

static void GrownInputs(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  GrownConfig configs[2];
  GrownItem items[2];
  flint_limiter_result results[2] = {NewResult(), NewResult()};
  uint64_t denied = 0;
  memset(configs, FILLER, sizeof(configs));
  memset(items, FILLER, sizeof(items));
  for (int i = 0; i < 2; ++i) {
    const char* key = i == 0 ? "a" : "b";
    configs[i].known = Config(key, 5, SECOND);
    configs[i].known.struct_size = sizeof(GrownConfig);
    items[i].known = Item(key, 2);
    items[i].known.struct_size = sizeof(GrownItem);
  }
  CHECK_OK(flint_limiter_limit_many(limiter, &configs[0].known, 2, sizeof(GrownConfig), 0, NULL,
                                    NewError()));
  CHECK_OK(flint_limiter_check_all(limiter, &items[0].known, 2, sizeof(GrownItem), 0, results,
                                   sizeof(*results), &denied, NewError()));
  CHECK(denied == 2 && results[1].remaining == 3);

  struct {
    flint_limiter_options known;
    unsigned char more[MORE];
  } options;
  flint_limiter* other = NULL;
  memset(&options, FILLER, sizeof(options));
  options.known = Options(FLINT_LIMITER_SYNC_BATCH);
  options.known.struct_size = sizeof(options);
  CHECK_OK(TryOpen(":memory:", &options.known, &other));
  Close(other);
  Close(limiter);
}

static void GrownOutputs(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  GrownResult results[2];
  GrownStatus entries[2];
  uint64_t n = 0;
  const flint_limiter_item items[2] = {Item("a", 1), Item("b", 1)};
  struct {
    flint_limiter_info known;
    unsigned char more[MORE];
  } info;
  memset(results, FILLER, sizeof(results));
  memset(entries, FILLER, sizeof(entries));
  memset(&info, FILLER, sizeof(info));
  info.known.struct_size = sizeof(info);
  for (int i = 0; i < 2; ++i) {
    CHECK_OK(Configure(limiter, Config(items[i].key, 5, SECOND)));
    results[i].known.struct_size = sizeof(GrownResult);
    entries[i].known.struct_size = sizeof(GrownStatus);
  }
  CHECK_OK(flint_limiter_check_all(limiter, items, 2, sizeof(*items), 0, &results[0].known,
                                   sizeof(GrownResult), &n, NewError()));
  CHECK_OK(flint_limiter_list(limiter, NULL, 0, 0, 0, &entries[0].known, 2, sizeof(GrownStatus),
                              page_text, sizeof(page_text), &n, NewError()));
  CHECK(n == 2);
  CHECK_OK(flint_limiter_get_info(limiter, &info.known, NewError()));
  CHECK(info.known.struct_size == sizeof(info) && IsFilled(info.more, MORE));
  CHECK(info.known.limits == 2);
  for (int i = 0; i < 2; ++i) {
    CHECK(results[i].known.struct_size == sizeof(GrownResult) && IsFilled(results[i].more, MORE));
    CHECK(results[i].known.allowed == 1 && results[i].known.remaining == 4);
    CHECK(entries[i].known.struct_size == sizeof(GrownStatus) && IsFilled(entries[i].more, MORE));
    CHECK(HasKey(&entries[i].known, items[i].key) && entries[i].known.total_allowed == 1);
  }
  CHECK_OK(flint_limiter_check(limiter, "a", 1, 1, 0, NULL, &results[0].known, NewError()));
  CHECK_OK(flint_limiter_peek(limiter, "a", 1, 1, 0, NULL, &results[1].known, NewError()));
  CHECK_OK(flint_limiter_status(limiter, "a", 1, 0, &entries[0].known, NewError()));
  CHECK(IsFilled(results[0].more, MORE) && IsFilled(results[1].more, MORE));
  CHECK(IsFilled(entries[0].more, MORE) && entries[0].known.struct_size == sizeof(GrownStatus));
  Close(limiter);
}

static void ErrorSizes(void) {
  struct {
    flint_limiter_error known;
    unsigned char more[MORE];
  } grown;
  flint_limiter_error small;
  memset(&grown, FILLER, sizeof(grown));
  grown.known.struct_size = sizeof(grown);
  CHECK_CODE(INVALID_ARGUMENT, flint_limiter_flush(NULL, &grown.known));
  CHECK(grown.known.struct_size == sizeof(grown) && IsFilled(grown.more, MORE));
  CHECK(strcmp(grown.known.message, "limiter is NULL") == 0);
  const uint32_t sizes[] = {0, 4, 8, offsetof(flint_limiter_error, message)};
  for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); ++i) {
    ClearError(&small);
    small.struct_size = sizes[i];
    CHECK_CODE(INVALID_ARGUMENT, flint_limiter_flush(NULL, &small));
    CHECK(small.struct_size == sizes[i]);
    if (sizes[i] >= 8) CHECK(small.code == FLINT_LIMITER_INVALID_ARGUMENT);
    const size_t from = sizes[i] < 4 ? 4 : sizes[i];
    CHECK(IsFilled((const char*)&small + from, sizeof(small) - from));
  }
}

static void ErrorText(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  char key[1500];
  for (size_t i = 0; i < sizeof(key); i += 3) memcpy(key + i, "\xE2\x82\xAC", 3);
  flint_limiter_result result = NewResult();
  CHECK_FAILS(NOT_CONFIGURED, "limit is not configured: \xE2\x82\xAC",
              flint_limiter_check(limiter, key, sizeof(key), 1, 0, NULL, &result, NewError()));
  /* The key is shown in part, and ends with a whole character. */
  CHECK(strstr(last_error.message, "\xE2\x82\xAC...") != NULL);
  CHECK(last_error.system_errno == 0 && last_error.segment[0] == '\0');
  CHECK(last_error.offset == 0 && last_error.sequence == 0);
  CHECK(IsFilled(&result.allowed, sizeof(result) - 4));
  /* A message that is too long ends with the last character that fits. */
  char path[2998] = "/";
  for (size_t i = 1; i + 3 <= sizeof(path); i += 3) memcpy(path + i, "\xE2\x82\xAC", 3);
  flint_limiter* none = NULL;
  CHECK(flint_limiter_open_readonly(path, sizeof(path), NULL, &none, NewError()) ==
        FLINT_LIMITER_IO);
  const size_t length = strlen(last_error.message);
  CHECK(length > 1020 && length < 1024);
  CHECK(memcmp(last_error.message + length - 3, "\xE2\x82\xAC", 3) == 0);
  Close(limiter);
}

static void Strides(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  const flint_limiter_config config = Config("key", 5, SECOND);
  const flint_limiter_item item = Item("key", 1);
  flint_limiter_result result = NewResult();
  flint_limiter_status_info entry = NewStatus();
  const uint64_t text_bytes = sizeof(page_text);
  uint64_t n = 7;
  const uint64_t wrong[] = {0, 8, offsetof(flint_limiter_config, name) - 8, sizeof(entry) + 4,
                            UINT64_MAX};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); ++i) {
    const uint64_t stride = wrong[i];
    const int small = stride < sizeof(result);
    if (small || stride % 8 != 0) {
      CHECK_INVALID("stride is ",
                    flint_limiter_limit_many(limiter, &config, 1, stride, 0, NULL, NewError()));
      CHECK_INVALID("result_stride is ", flint_limiter_check_all(limiter, &item, 1, sizeof(item), 0,
                                                                 &result, stride, &n, NewError()));
    }
    if (stride < sizeof(item) || stride % 8 != 0) {
      CHECK_INVALID("item_stride is ",
                    flint_limiter_check_all(limiter, &item, 1, stride, 0, &result, sizeof(result),
                                            &n, NewError()));
    }
    CHECK_INVALID("stride is ", flint_limiter_list(limiter, NULL, 0, 0, 0, &entry, 1, stride,
                                                   page_text, text_bytes, &n, NewError()));
    CHECK_INVALID("stride is ", flint_limiter_top(limiter, 0, 0, &entry, 1, stride, page_text,
                                                  text_bytes, &n, NewError()));
  }
  CHECK(n == 7);
  CHECK_FAILS(NOT_CONFIGURED, "key", TryStatus(limiter, "key", FLINT_LIMITER_KIND_EXACT));
  Close(limiter);
}

static void Flags(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  const flint_limiter_config config = Config("key", 5, SECOND);
  const flint_limiter_item item = Item("key", 1);
  flint_limiter_result result = NewResult();
  flint_limiter_status_info entry = NewStatus();
  const uint64_t text_bytes = sizeof(page_text);
  uint64_t n = 7;
  CHECK_OK(Configure(limiter, config));
  for (uint32_t bit = 0; bit < 32; ++bit) {
    const uint32_t flag = UINT32_C(1) << bit;
    const uint32_t both = FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC;
    char part[32];
    snprintf(part, sizeof(part), "flags is %u;", flag);
    if ((flag & (both | FLINT_LIMITER_IF_ABSENT)) == 0) {
      CHECK_INVALID(part, flint_limiter_limit(limiter, &config, flag, NULL, NewError()));
      CHECK_INVALID(part, flint_limiter_limit_many(limiter, &config, 1, sizeof(config), flag, NULL,
                                                   NewError()));
    }
    if ((flag & both) == 0) {
      CHECK_INVALID(part, Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, flag));
      CHECK_INVALID(part, Reset(limiter, "key", FLINT_LIMITER_KIND_EXACT, flag));
    }
    if ((flag & (both | FLINT_LIMITER_DECISION_ONLY)) == 0) {
      if (flag != FLINT_LIMITER_REFUSE) CHECK_INVALID(part, TryCheck(limiter, "key", 1, flag));
      CHECK_INVALID(part,
                    flint_limiter_peek(limiter, "key", 3, 1, flag, NULL, &result, NewError()));
      CHECK_INVALID(part, flint_limiter_check_all(limiter, &item, 1, sizeof(item), flag, &result,
                                                  sizeof(result), &n, NewError()));
    }
    if ((flag & FLINT_LIMITER_ALL_COUNTERS) == 0) {
      CHECK_INVALID(part, flint_limiter_list(limiter, NULL, 0, 0, flag, &entry, 1, sizeof(entry),
                                             page_text, text_bytes, &n, NewError()));
      CHECK_INVALID(part, flint_limiter_top(limiter, 0, flag, &entry, 1, sizeof(entry), page_text,
                                            text_bytes, &n, NewError()));
    }
  }
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 0 && n == 7);
  Close(limiter);
}

static void Kinds(void) {
  flint_limiter* limiter = OpenMemory(NULL);
  flint_limiter_status_info entry = NewStatus();
  flint_limiter_config config = Config("key", 5, SECOND);
  uint64_t n = 7;
  CHECK_OK(Configure(limiter, config));
  const uint32_t wrong[] = {FLINT_LIMITER_KIND_COUNTER, FLINT_LIMITER_KIND_INLINE, 4, UINT32_MAX};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); ++i) {
    char part[32];
    snprintf(part, sizeof(part), "kind is %u;", wrong[i]);
    config.kind = wrong[i];
    CHECK_INVALID(part, Configure(limiter, config));
    CHECK_INVALID(part, Remove(limiter, "key", wrong[i], 0));
    CHECK_INVALID(part, Reset(limiter, "key", wrong[i], 0));
    CHECK_INVALID(part, TryStatus(limiter, "key", wrong[i]));
  }
  CHECK_INVALID("after_kind is 4",
                flint_limiter_list(limiter, "a", 1, 4, 0, &entry, 1, sizeof(entry), page_text,
                                   sizeof(page_text), &n, NewError()));
  CHECK_INVALID("by is 4", flint_limiter_top(limiter, 4, 0, &entry, 1, sizeof(entry), page_text,
                                             sizeof(page_text), &n, NewError()));
  /* Neither the kind nor the key of an inline limit matters. */
  flint_limiter_result result = NewResult();
  config.key = NULL;
  CHECK_OK(flint_limiter_check(limiter, "inline", 6, 1, 0, &config, &result, NewError()));
  Close(limiter);
}

const Test arguments_tests[] = {
    TEST(SuccessLeavesErrorAlone),
    TEST(NullLimiter),
    TEST(NullArguments),
    TEST(SmallStructs),
    TEST(FirstSizes),
    TEST(GrownInputs),
    TEST(GrownOutputs),
    TEST(ErrorSizes),
    TEST(ErrorText),
    TEST(Strides),
    TEST(Flags),
    TEST(Kinds),
    {NULL, NULL},
};
