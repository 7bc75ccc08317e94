/* read_only.c - reading only, and the doctor. */

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

static int32_t OpenReadOnly(const Path* path, flint_limiter** limiter) {
  return flint_limiter_open_readonly(path->text, strlen(path->text), NULL, limiter, NewError());
}

static flint_limiter_doctor_report NewReport(void) {
  flint_limiter_doctor_report report;
  memset(&report, FILLER, sizeof(report));
  report.struct_size = sizeof(report);
  return report;
}

static int32_t Examine(const Path* path, flint_limiter_doctor_report* report) {
  *report = NewReport();
  return flint_limiter_doctor(path->text, strlen(path->text), report, NewError());
}

static void ReadOnly(void) {
  const Path path = NewPath();
  const Path ring = In(&path, "flint.ring");
  struct stat before;
  struct stat after;
  flint_limiter* reader = NULL;
  CHECK_FAILS(IO, path.text,
              OpenReadOnly(&path, &reader)); /* there is no directory, and stays none */
  CHECK(reader == NULL && access(path.text, F_OK) != 0);
  flint_limiter* writer = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(Configure(writer, Config("key", 5, YEAR)));
  CHECK(Decide(writer, "key", 2).remaining == 3);
  CHECK_OK(OpenReadOnly(&path, &reader));
  CHECK(Peek(reader, "key", 1).remaining == 3 && Info(reader).read_only == 1);
  CHECK(Info(writer).read_only == 0);
  CHECK(stat(ring.text, &before) == 0);
  static const char* const reading[] = {"peek", "status",  "status_named", "list_page", "list",
                                        "top",  "history", "get_info",     "refresh"};
  for (size_t i = 0; i < function_count; ++i) {
    int32_t expected = FLINT_LIMITER_READ_ONLY;
    for (size_t j = 0; j < sizeof(reading) / sizeof(*reading); ++j) {
      if (strcmp(every_function[i].name, reading[j]) == 0) expected = FLINT_LIMITER_OK;
    }
    CheckCode(expected, every_function[i].call(reader, NewError()), every_function[i].name, WHERE);
  }
  CHECK_FAILS(READ_ONLY, "read", TryCheck(reader, "key", 1, FLINT_LIMITER_NO_WAIT));
  CHECK(stat(ring.text, &after) == 0 && before.st_mtime == after.st_mtime);
  CHECK(Decide(writer, "key", 1).remaining == 2);
  CHECK(Peek(reader, "key", 1).remaining == 3); /* until it is refreshed */
  CHECK_OK(flint_limiter_refresh(reader, NewError()));
  CHECK(Peek(reader, "key", 1).remaining == 2);
  CHECK_INVALID("opened for reading", flint_limiter_refresh(writer, NewError()));
  Close(writer);
  CHECK_OK(flint_limiter_refresh(reader, NewError()));
  CHECK_OK(flint_limiter_shutdown(reader, NewError()));
  CHECK_CODE(CLOSED, flint_limiter_refresh(reader, NewError()));
  Close(reader);
}

static void ReadOnlyArguments(void) {
  const Path path = NewPath();
  const Path file = NewPath();
  flint_limiter* limiter = NULL;
  flint_limiter_options options = Options(2);
  WriteFile(&file, "no directory");
  CHECK_INVALID("limiter is NULL",
                flint_limiter_open_readonly(path.text, 3, NULL, NULL, NewError()));
  CHECK_INVALID("path is NULL", flint_limiter_open_readonly(NULL, 3, NULL, &limiter, NewError()));
  CHECK_INVALID("path is empty", flint_limiter_open_readonly("", 0, NULL, &limiter, NewError()));
  CHECK_INVALID("zero byte", flint_limiter_open_readonly("a\0b", 3, NULL, &limiter, NewError()));
  CHECK_INVALID("options.sync is 2", flint_limiter_open_readonly(path.text, strlen(path.text),
                                                                 &options, &limiter, NewError()));
  CHECK_FAILS(UNSUPPORTED, "in memory", OpenReadOnly(&in_memory, &limiter));
  CHECK(OpenReadOnly(&file, &limiter) != FLINT_LIMITER_OK && limiter == NULL);
  CHECK(mkdir(path.text, 0700) == 0);
  CHECK_OK(OpenReadOnly(&path, &limiter)); /* empty: a writer may come */
  flint_limiter* writer = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK_OK(Configure(writer, Config("key", 5, YEAR)));
  CHECK_OK(flint_limiter_refresh(limiter, NewError()));
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).rate == 5);
  Close(limiter);
  Close(writer);
}

static void DoctorReports(void) {
  const Path path = NewPath();
  flint_limiter_doctor_report report = NewReport();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
  for (int i = 0; i < 2; ++i) CHECK(Decide(limiter, "key", 1).allowed);
  CHECK_OK(Examine(&path, &report)); /* while it is in use */
  CHECK(report.limits == 1 && report.snapshot_exists == 0);
  CHECK_OK(flint_limiter_compact(limiter, 0, NewError()));
  CHECK(Decide(limiter, "key", 1).allowed);
  Close(limiter);
  CHECK_OK(Examine(&path, &report));
  CHECK(report.snapshot_exists == 1 && report.snapshot_bytes > 0);
  CHECK(report.limits == 1 && report.counters == 0 && report.history_events == 4);
  CHECK(report.segments == 1 && report.history_segments >= 1 && report.seals > 0);
  CHECK(report.torn_bytes == 0 && report.ring_records == 0 && report.directory_mode == 0700);
  CHECK(report.struct_size == sizeof(report));
  const Path log = In(&path, "flint.aof");
  FILE* file = fopen(log.text, "r+");
  CHECK(file != NULL && fseek(file, 4200, SEEK_SET) == 0);
  if (file == NULL) return;
  CHECK(fputs("damage", file) >= 0 && fclose(file) == 0);
  CHECK_FAILS(CORRUPTION, "the log is damaged", Examine(&path, &report));
  CHECK(strcmp(last_error.segment, "flint.aof") == 0 && last_error.offset > 0);
  CHECK(report.limits == 1 && report.snapshot_exists == 1); /* as far as it came */
}

static void DoctorArguments(void) {
  const Path path = NewPath();
  flint_limiter_doctor_report report = NewReport();
  CHECK_INVALID("report is NULL", flint_limiter_doctor("a", 1, NULL, NewError()));
  CHECK_INVALID("path is NULL", flint_limiter_doctor(NULL, 1, &report, NewError()));
  CHECK_INVALID("path is empty", flint_limiter_doctor("", 0, &report, NewError()));
  CHECK_INVALID("zero byte", flint_limiter_doctor("a\0b", 3, &report, NewError()));
  CHECK_FAILS(UNSUPPORTED, "in memory", flint_limiter_doctor(":memory:", 8, &report, NewError()));
  CHECK(IsFilled(&report.snapshot_exists, sizeof(report) - 4));
  CHECK_FAILS(IO, path.text, Examine(&path, &report));
  CHECK(access(path.text, F_OK) != 0);
  report.struct_size = sizeof(report) - 8;
  CHECK_INVALID("report", flint_limiter_doctor("a", 1, &report, NewError()));
  report.struct_size = 0;
  CHECK_INVALID("report", flint_limiter_doctor("a", 1, &report, NewError()));
}

const Test read_only_tests[] = {
    TEST(ReadOnly), TEST(ReadOnlyArguments), TEST(DoctorReports), TEST(DoctorArguments),
    {NULL, NULL},
};
