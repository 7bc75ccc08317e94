/* opening.c - opening and closing, also after a fork. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

/* ---- Opening --------------------------------------------------------------------------------- */

static void Memory(void) {
  Clock clock;
  flint_limiter* limiter = OpenMemory(&clock);
  flint_limiter* other = OpenMemory(&clock);
  uint64_t ticket = 7;
  const flint_limiter_config config = Config("key", 5, MINUTE);
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, &ticket, NewError()));
  CHECK(ticket == 0 && Decide(limiter, "key", 1).ticket == 0 && Durable(limiter) == 0);
  CHECK_FAILS(NOT_CONFIGURED, "key", TryCheck(other, "key", 1, 0));
  CHECK_OK(Wait(limiter, 0, FOREVER));
  CHECK_INVALID("ticket 1 was never given out", Wait(limiter, 1, 0));
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  CHECK_OK(Compact(limiter, NewError()));
  const flint_limiter_info info = Info(limiter);
  CHECK(info.limits == 1 && info.segments == 0 && info.log_bytes == 0 && info.appended == 0);
  CHECK(info.directory_mode == 0 && info.engine_time_ns == (int64_t)START_NS);
  Close(limiter);
  Close(other);
  CHECK(access(":memory:", F_OK) != 0);
}

static void OpenCreates(void) {
  const Path path = NewPath();
  const Path deep = In(&path, "a/b");
  struct stat info;
  flint_limiter* limiter = NULL;
  CHECK_OK(flint_limiter_open(deep.text, strlen(deep.text), NULL, &limiter, NewError()));
  CHECK(stat(path.text, &info) == 0 && (info.st_mode & 07777) == 0700);
  CHECK(stat(deep.text, &info) == 0 && (info.st_mode & 07777) == 0700);
  const Path log = In(&deep, "flint.aof");
  CHECK(stat(log.text, &info) == 0 && (info.st_mode & 07777) == 0600);
  Close(limiter);
  /* Not terminated, and longer than it says. */
  const Path exact = NewPath();
  char padded[sizeof(exact.text) + 8];
  snprintf(padded, sizeof(padded), "%sxyz", exact.text);
  CHECK_OK(flint_limiter_open(padded, strlen(exact.text), NULL, &limiter, NULL));
  CHECK(access(exact.text, F_OK) == 0 && access(padded, F_OK) != 0);
  Close(limiter);
}

static void OpenRemembers(void) {
  for (uint32_t sync = 0; sync <= FLINT_LIMITER_SYNC_BATCH; ++sync) {
    const Path path = NewPath();
    flint_limiter* limiter = Open(&path, sync);
    const flint_limiter_config inline_config = Config(NULL, 5, YEAR);
    flint_limiter_result result = NewResult();
    CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
    CHECK_OK(Configure(limiter, Template("t", 5, YEAR)));
    CHECK(Decide(limiter, "key", 2).allowed && Decide(limiter, "tx", 3).allowed);
    CHECK(!Decide(limiter, "key", 4).allowed);
    CHECK_OK(flint_limiter_check(limiter, "inline", 6, 4, 0, &inline_config, &result, NewError()));
    Close(limiter);
    limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH - sync);
    CHECK(Peek(limiter, "key", 1).remaining == 3 && Peek(limiter, "tx", 1).remaining == 2);
    CHECK(Peek(limiter, "inline", 1).remaining == 1);
    CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_denied_cost == 4);
    CHECK(Status(limiter, "t", FLINT_LIMITER_KIND_TEMPLATE).counters == 1);
    CHECK(Status(limiter, "inline", FLINT_LIMITER_KIND_EXACT).kind == FLINT_LIMITER_KIND_INLINE);
    Close(limiter);
  }
}

static void OpenRefuses(void) {
  flint_limiter* limiter = NULL;
  const Path directory = NewPath();
  CHECK_INVALID("path is empty", flint_limiter_open("", 0, NULL, &limiter, NewError()));
  CHECK_INVALID("path is empty", flint_limiter_open(NULL, 0, NULL, &limiter, NewError()));
  CHECK_INVALID("path has a zero byte", flint_limiter_open("a\0b", 3, NULL, &limiter, NewError()));
  CHECK(mkdir(directory.text, 0700) == 0);
  const Path file = In(&directory, "file");
  const Path below = In(&file, "below");
  WriteFile(&file, "");
  CHECK_INVALID(file.text, TryOpen(file.text, NULL, &limiter));
  CHECK_INVALID(file.text, TryOpen(below.text, NULL, &limiter));
  CHECK_FAILS(IO, "/proc/", TryOpen("/proc/flint-contract-test", NULL, &limiter));
  CHECK(limiter == NULL && last_error.system_errno == ENOENT);
  SetCannotLock(1);
  CHECK_FAILS(UNSUPPORTED, directory.text, TryOpen(directory.text, NULL, &limiter));
  CHECK(limiter == NULL && last_error.system_errno == ENOLCK);
  SetCannotLock(0);
  char longest[300];
  memset(longest, 'x', sizeof(longest));
  longest[0] = '/';
  CHECK_FAILS(IO, "File name too long",
              flint_limiter_open(longest, sizeof(longest), NULL, &limiter, NewError()));
  CHECK(limiter == NULL && last_error.system_errno == ENAMETOOLONG);
}

static void OpenLocked(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  flint_limiter* second = limiter;
  CHECK_FAILS(LOCKED, "already locked", TryOpen(path.text, NULL, &second));
  CHECK(second == NULL && strstr(last_error.message, path.text) != NULL);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  CHECK_OK(flint_limiter_shutdown(limiter, NewError()));
  second = Open(&path, FLINT_LIMITER_SYNC_BATCH); /* shutting down has unlocked it */
  CHECK(Decide(second, "key", 1).allowed);
  Close(limiter);
  CHECK(Decide(second, "key", 1).allowed);
  limiter = NULL;
  CHECK_FAILS(LOCKED, "already locked", TryOpen(path.text, NULL, &limiter));
  Close(second);
  limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  Close(limiter);
}

static void OpenForOthers(void) {
  const Path path = NewPath();
  const Path log = In(&path, "flint.aof");
  flint_limiter* limiter = NULL;
  flint_limiter_options options = Options(FLINT_LIMITER_SYNC_BATCH);
  const uint32_t wrong[] = {0060, 0700, 01600, 0667, UINT32_MAX};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); ++i) {
    options.file_mode = wrong[i];
    CHECK_INVALID("options.file_mode is ", TryOpen(path.text, &options, &limiter));
  }
  options.file_mode = 0640;
  options.group_plus_1 = 1 + (uint32_t)getegid();
  CHECK_OK(TryOpen(path.text, &options, &limiter));
  struct stat info;
  CHECK(stat(path.text, &info) == 0 && (info.st_mode & 0777) == 0750);
  CHECK(stat(log.text, &info) == 0 && (info.st_mode & 0777) == 0640 && info.st_gid == getegid());
  flint_limiter* second = NULL;
  options.lock_timeout_ns = 1000000;
  CHECK_FAILS(LOCKED, "waited 0.001 s for it", TryOpen(path.text, &options, &second));
  Close(limiter);
}

static void OpenWithoutPermission(void* argument) {
  const Path* directory = argument;
  const Path below = In(directory, "below");
  flint_limiter* limiter = NULL;
  if (geteuid() == 0) CHECK(seteuid(65534) == 0); /* to the superuser everything is permitted */
  CHECK_FAILS(PERMISSION, below.text, TryOpen(below.text, NULL, &limiter));
  CHECK(limiter == NULL && last_error.system_errno == EACCES);
  CHECK_FAILS(PERMISSION, directory->text, TryOpen(directory->text, NULL, &limiter));
  CHECK(limiter == NULL && last_error.system_errno == EACCES);
}

static void OpenNotPermitted(void) {
  Path directory = NewPath();
  CHECK(chmod(root, 0755) == 0);
  CHECK(mkdir(directory.text, 0700) == 0 && chmod(directory.text, 0555) == 0);
  RunInChild(OpenWithoutPermission, &directory);
  CHECK(chmod(directory.text, 0700) == 0 && chmod(root, 0700) == 0);
}

/* Changes one bit; a second time, back again. */
static void FlipBit(const Path* file, off_t offset) {
  char byte = 0;
  const int fd = open(file->text, O_RDWR);
  CHECK(fd >= 0 && pread(fd, &byte, 1, offset) == 1);
  byte = (char)(byte ^ 0x10);
  CHECK(pwrite(fd, &byte, 1, offset) == 1 && close(fd) == 0);
}

static void OpenDamaged(void) {
  const Path path = NewPath();
  const Path log = In(&path, "flint.aof");
  const uint64_t damaged = 4096 + 1000; /* behind the header, amid the records */
  const uint64_t checks = 10000;        /* so many that the ring has the first ones no more */
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  CHECK_OK(Configure(limiter, Config("key", MOST, 1)));
  for (uint64_t i = 0; i < checks; ++i) CHECK_OK(TryCheck(limiter, "key", 1, 0));
  Close(limiter);
  FlipBit(&log, (off_t)damaged);
  CHECK_FAILS(CORRUPTION, "damaged", TryOpen(path.text, NULL, &limiter));
  CHECK(limiter == NULL && strcmp(last_error.segment, "flint.aof") == 0);
  CHECK(last_error.offset > damaged - 100 && last_error.offset <= damaged);
  CHECK(last_error.sequence > 1 && last_error.sequence < 100);
  FlipBit(&log, (off_t)damaged); /* the failed attempt has changed nothing */
  limiter = Open(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == checks);
  Close(limiter);
}

/* ---- The end of a limiter -------------------------------------------------------------------- */

static void CloseTwice(void) {
  const Path path = NewPath();
  flint_limiter* limiter = NULL;
  ClearError(&last_error);
  CHECK_OK(flint_limiter_close(NULL, NULL));
  CHECK_OK(flint_limiter_close(NULL, &last_error));
  CHECK_OK(flint_limiter_close(&limiter, &last_error));
  limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(flint_limiter_close(&limiter, NULL));
  CHECK(limiter == NULL);
  CHECK_OK(flint_limiter_close(&limiter, NULL));
  limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(flint_limiter_shutdown(limiter, NULL));
  CHECK_OK(flint_limiter_shutdown(limiter, NULL));
  CHECK_OK(flint_limiter_close(&limiter, NULL));
  CHECK(limiter == NULL);
}

static void CallsAfterShutdown(void) {
  const Path path = NewPath();
  flint_limiter* limiters[2] = {Open(&path, FLINT_LIMITER_SYNC_ALWAYS), OpenMemory(NULL)};
  for (int i = 0; i < 2; ++i) {
    CHECK_OK(Configure(limiters[i], Config("key", 5, MINUTE)));
    CHECK_OK(flint_limiter_shutdown(limiters[i], NewError()));
    CallEveryFunction(limiters[i], FLINT_LIMITER_CLOSED, "closed", WHERE);
    Close(limiters[i]);
  }
}

static void ShutdownEndsWaiting(void) {
  const Path path = NewPath();
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  uint64_t ticket = 0;
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  SetSync(SYNC_HOLDS);
  Caller waiting[2] = {{.limiter = limiter, .ticket = Decide(limiter, "key", 1).ticket},
                       {.limiter = limiter}};
  waiting[1].ticket = Decide(limiter, "key", 1).ticket;
  Start(&waiting[0]);
  AwaitHeldSync();
  Start(&waiting[1]);
  Caller stopping = {.limiter = limiter, .call = flint_limiter_shutdown};
  Start(&stopping);
  int32_t code = FLINT_LIMITER_OK;
  for (int ms = 0; ms < PATIENCE_MS && code == FLINT_LIMITER_OK; ++ms) {
    SleepMs(1);
    code = flint_limiter_durable(limiter, &ticket, NewError());
  }
  CHECK_CODE(CLOSED, code);
  CHECK_FAILS(CLOSED, "closed", TryCheck(limiter, "key", 1, 0));
  SetSync(SYNC_WORKS);
  for (int i = 0; i < 2; ++i) {
    const int32_t ended = Join(&waiting[i]);
    CHECK(ended == FLINT_LIMITER_OK || ended == FLINT_LIMITER_CLOSED);
  }
  CHECK_OK(Join(&stopping));
  Close(limiter);
  limiter = OpenWith(&path, &options); /* what was answered is on disk */
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 2);
  Close(limiter);
}

static void ShutdownEndsWaitingForRoom(void) {
  const Path path = NewPath();
  flint_limiter_options options = Lazy();
  options.segment_bytes = 1 << 18;
  flint_limiter* limiter = OpenWith(&path, &options);
  int32_t code = FLINT_LIMITER_OK;
  CHECK_OK(Configure(limiter, Config("key", MOST, 1)));
  SetSync(SYNC_HOLDS);
  for (int i = 0; i < 100000 && code == FLINT_LIMITER_OK; ++i) {
    code = TryCheck(limiter, "key", 1, FLINT_LIMITER_NO_WAIT);
  }
  CHECK_CODE(WOULD_BLOCK, code);
  Caller waiting = {.limiter = limiter, .call = CallCheck};
  Start(&waiting);
  Caller stopping = {.limiter = limiter, .call = flint_limiter_shutdown};
  Start(&stopping);
  SleepMs(20);
  SetSync(SYNC_WORKS);
  code = Join(&waiting);
  CHECK(code == FLINT_LIMITER_OK || code == FLINT_LIMITER_CLOSED);
  CHECK_OK(Join(&stopping));
  Close(limiter);
}

static void* CheckUntilClosed(void* argument) {
  int32_t code = FLINT_LIMITER_OK;
  while (code == FLINT_LIMITER_OK) code = CallCheck(argument, NULL);
  CHECK_CODE(CLOSED, code);
  return NULL;
}

static void ShutdownWhileOthersCheck(void) {
  for (uint32_t sync = 0; sync <= FLINT_LIMITER_SYNC_BATCH; ++sync) {
    const Path path = NewPath();
    flint_limiter* limiter = Open(&path, sync);
    pthread_t threads[3];
    CHECK_OK(Configure(limiter, Config("key", MOST, 1)));
    for (int i = 0; i < 3; ++i)
      CHECK(pthread_create(&threads[i], NULL, CheckUntilClosed, limiter) == 0);
    SleepMs(20);
    CHECK_OK(flint_limiter_shutdown(limiter, NewError()));
    for (int i = 0; i < 3; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
    Close(limiter);
  }
}

/* ---- Fork ------------------------------------------------------------------------------------ */

typedef struct Family {
  Path path;
  flint_limiter* limiters[2]; /* of `path`, and in memory */
} Family;

static void UseInChild(void* argument) {
  Family* family = argument;
  flint_limiter* limiter = family->limiters[0];
  for (int i = 0; i < 2; ++i) {
    CallEveryFunction(family->limiters[i], FLINT_LIMITER_FORKED, "parent", WHERE);
    CHECK_FAILS(FORKED, "parent", flint_limiter_shutdown(family->limiters[i], NewError()));
    CHECK_FAILS(FORKED, "parent", flint_limiter_close(&family->limiters[i], NewError()));
    CHECK(family->limiters[i] == NULL);
    CHECK_OK(flint_limiter_close(&family->limiters[i], NewError()));
  }
  CHECK_FAILS(LOCKED, "already locked", TryOpen(family->path.text, NULL, &limiter));
  limiter = OpenMemory(NULL); /* one of its own works */
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  CHECK(Decide(limiter, "key", 1).allowed);
  Close(limiter);
}

static void OpenInChild(void* argument) {
  const Family* family = argument;
  flint_limiter* limiter = NULL;
  CHECK_FAILS(LOCKED, "already locked", TryOpen(family->path.text, NULL, &limiter));
}

static void Fork(void) {
  for (uint32_t sync = 0; sync <= FLINT_LIMITER_SYNC_BATCH; ++sync) {
    Family family = {NewPath(), {NULL, OpenMemory(NULL)}};
    flint_limiter* second = NULL;
    family.limiters[0] = Open(&family.path, sync);
    for (int i = 0; i < 2; ++i) {
      CHECK_OK(Configure(family.limiters[i], Config("key", 5, YEAR)));
      CHECK(Decide(family.limiters[i], "key", 1).remaining == 4);
    }
    RunInChild(UseInChild, &family);
    RunInChild(OpenInChild, &family);
    CHECK_FAILS(LOCKED, "already locked", TryOpen(family.path.text, NULL, &second));
    for (int i = 0; i < 2; ++i) {
      CHECK(Decide(family.limiters[i], "key", 1).remaining == 3);
      CHECK_OK(flint_limiter_flush(family.limiters[i], NewError()));
      Close(family.limiters[i]);
    }
    second = Open(&family.path, sync);
    CHECK(Peek(second, "key", 1).remaining == 3);
    Close(second);
  }
}

const Test opening_tests[] = {
    TEST(Memory),
    TEST(OpenCreates),
    TEST(OpenRemembers),
    TEST(OpenRefuses),
    TEST(OpenLocked),
    TEST(OpenForOthers),
    TEST(OpenNotPermitted),
    TEST(OpenDamaged),
    TEST(CloseTwice),
    TEST(CallsAfterShutdown),
    TEST(ShutdownEndsWaiting),
    TEST(ShutdownEndsWaitingForRoom),
    TEST(ShutdownWhileOthersCheck),
    TEST(Fork),
    {NULL, NULL},
};
