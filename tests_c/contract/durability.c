/* durability.c - tickets, waiting and what fails. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

static void Tickets(void) {
  const Path path = NewPath();
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  flint_limiter_config config = Config("key", 2, MINUTE);
  uint64_t configured = 0;
  uint64_t reset = 0;
  uint64_t removed = 0;
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, &configured, NewError()));
  const uint64_t first = Decide(limiter, "key", 1).ticket;
  const uint64_t second = Decide(limiter, "key", 1).ticket;
  CHECK(!Decide(limiter, "key", 1).ticket);
  CHECK(0 < configured && configured < first && first < second);
  CHECK(Durable(limiter) < configured);
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, configured, 0));
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, second, 0));
  CHECK_OK(Wait(limiter, 0, 0));
  CHECK_OK(Wait(limiter, first, FOREVER));
  CHECK(Durable(limiter) >= first);
  CHECK_OK(Wait(limiter, first, 0));
  CHECK_OK(flint_limiter_reset(limiter, "key", 3, 0, 0, &reset, NewError()));
  CHECK(reset > second && Durable(limiter) < reset);
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  CHECK(Durable(limiter) >= reset);
  CHECK_OK(flint_limiter_remove(limiter, "key", 3, 0, 0, &removed, NewError()));
  CHECK(removed > reset && Durable(limiter) < removed);
  CHECK_OK(Wait(limiter, removed, 10 * SECOND));
  CHECK_INVALID("was never given out", Wait(limiter, MOST, 0));
  CHECK_INVALID("ticket 18446744073709551615 was never", Wait(limiter, UINT64_MAX, FOREVER));
  Close(limiter);
}

static void SyncedBeforeAnswered(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  flint_limiter_config config = Config("key", 3, MINUTE);
  uint64_t ticket = 0;
  CHECK_OK(flint_limiter_limit(limiter, &config, 0, &ticket, NewError()));
  CHECK(ticket > 0 && Durable(limiter) >= ticket);
  for (int i = 0; i < 3; ++i) {
    ticket = Decide(limiter, "key", 1).ticket;
    CHECK(ticket > 0 && Durable(limiter) >= ticket);
  }
  CHECK_OK(flint_limiter_reset(limiter, "key", 3, 0, 0, &ticket, NewError()));
  CHECK(Durable(limiter) >= ticket);
  SetSync(SYNC_HOLDS);
  /* These would wait for ever without NO_SYNC, and the last one is a denial. */
  ticket = CheckWith(limiter, "key", 3, FLINT_LIMITER_NO_SYNC).ticket;
  CHECK(ticket > 0 && Durable(limiter) < ticket);
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, ticket, 0));
  CHECK_OK(Configure(limiter, Config("other", 1, MINUTE)));
  CHECK_OK(Reset(limiter, "other", FLINT_LIMITER_KIND_EXACT, FLINT_LIMITER_NO_SYNC));
  CHECK_OK(Remove(limiter, "other", FLINT_LIMITER_KIND_EXACT, FLINT_LIMITER_NO_SYNC));
  CHECK(!Decide(limiter, "key", 1).allowed);
  CHECK(Durable(limiter) < ticket);
  SetSync(SYNC_WORKS);
  CHECK_OK(Wait(limiter, ticket, FOREVER));
  CHECK(Durable(limiter) >= ticket);
  Close(limiter);
}

static void WaitTimesOut(void) {
  const Path path = NewPath();
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  SetSync(SYNC_HOLDS);
  Caller first = {.limiter = limiter, .ticket = Decide(limiter, "key", 1).ticket};
  Start(&first);
  AwaitHeldSync();
  const uint64_t second = Decide(limiter, "key", 1).ticket;
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, first.ticket, 20 * MS));
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, second, 20 * MS));
  CHECK_FAILS(TIMEOUT, "", Wait(limiter, second, 0));
  SetSync(SYNC_WORKS);
  CHECK_OK(Join(&first));
  CHECK_OK(Wait(limiter, second, 60 * SECOND));
  Close(limiter);
}

static int IsReadable(int32_t fd, int timeout_ms) {
  struct pollfd watched = {fd, POLLIN, 0};
  return poll(&watched, 1, timeout_ms) == 1 && (watched.revents & POLLIN) != 0;
}

static void Clear(int32_t fd) {
  uint64_t count = 0;
  CHECK(read(fd, &count, sizeof(count)) == sizeof(count) && !IsReadable(fd, 0));
}

static int IsOpen(int32_t fd) { return fcntl(fd, F_GETFD) >= 0; }

static void Watch(void) {
  const Path path = NewPath();
  const flint_limiter_options options = Lazy();
  flint_limiter* limiter = OpenWith(&path, &options);
  int32_t fds[2] = {-1, -1};
  CHECK_INVALID("fd is NULL", flint_limiter_watch(limiter, NULL, NewError()));
  CHECK_INVALID("fd -1 is not being watched", flint_limiter_unwatch(limiter, -1, NewError()));
  CHECK_INVALID("fd 0 is not being watched", flint_limiter_unwatch(limiter, 0, NewError()));
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  for (int i = 0; i < 2; ++i) CHECK_OK(flint_limiter_watch(limiter, &fds[i], NewError()));
  CHECK(fds[0] >= 0 && fds[1] >= 0 && fds[0] != fds[1]);
  const uint64_t ticket = Decide(limiter, "key", 1).ticket;
  CHECK(!IsReadable(fds[0], 0) && !IsReadable(fds[1], 0) && Durable(limiter) < ticket);
  CHECK_OK(Wait(limiter, ticket, FOREVER));
  for (int i = 0; i < 2; ++i) {
    CHECK(IsReadable(fds[i], 0));
    Clear(fds[i]);
  }
  CHECK_OK(flint_limiter_unwatch(limiter, fds[0], NewError()));
  CHECK(!IsOpen(fds[0]) && IsOpen(fds[1]));
  CHECK_INVALID("is not being watched", flint_limiter_unwatch(limiter, fds[0], NewError()));
  CHECK(Decide(limiter, "key", 1).allowed);
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  CHECK(IsReadable(fds[1], 0));
  Clear(fds[1]);
  CHECK_OK(flint_limiter_shutdown(limiter, NewError()));
  CHECK(IsReadable(fds[1], 0));
  Close(limiter);
  CHECK(!IsOpen(fds[1]));
  limiter = OpenMemory(NULL);
  CHECK_FAILS(UNSUPPORTED, "in memory", flint_limiter_watch(limiter, &fds[0], NewError()));
  Close(limiter);
}

/* Waiting for no time at all starts the sync, and the descriptor says when it is done. */
static void WatchInAlwaysMode(void) {
  const Path path = NewPath();
  flint_limiter_options options = Lazy();
  options.sync = FLINT_LIMITER_SYNC_ALWAYS;
  flint_limiter* limiter = OpenWith(&path, &options);
  int32_t fd = -1;
  uint64_t durable = 0;
  CHECK_OK(flint_limiter_watch(limiter, &fd, NewError()));
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  const uint64_t ticket = CheckWith(limiter, "key", 1, FLINT_LIMITER_NO_SYNC).ticket;
  const int32_t started = flint_limiter_wait(limiter, ticket, 0, NULL);
  CHECK(started == FLINT_LIMITER_TIMEOUT || started == FLINT_LIMITER_OK);
  while (durable < ticket && IsReadable(fd, PATIENCE_MS)) {
    Clear(fd);
    durable = Durable(limiter);
  }
  CHECK(durable >= ticket);
  SetSync(SYNC_FAILS);
  const uint64_t lost = CheckWith(limiter, "key", 1, FLINT_LIMITER_NO_SYNC).ticket;
  CHECK(lost > ticket);
  CHECK(flint_limiter_wait(limiter, lost, 0, NULL) != FLINT_LIMITER_OK);
  CHECK(IsReadable(fd, PATIENCE_MS));
  CHECK_FAILS(POISONED, path.text, Wait(limiter, Info(limiter).appended, 0));
  SetSync(SYNC_WORKS);
  CHECK_OK(flint_limiter_unwatch(limiter, fd, NewError()));
  CHECK_FAILS(POISONED, path.text, flint_limiter_close(&limiter, NewError()));
}

static void NoWaitForDisk(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  const uint32_t exact = FLINT_LIMITER_KIND_EXACT;
  const uint32_t flag = FLINT_LIMITER_NO_WAIT;
  const uint32_t both = FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC;
  flint_limiter_config config = Config("key", 1, MINUTE);
  flint_limiter_config prefix = Template("t", 1, MINUTE);
  flint_limiter_result result = NewResult();
  const flint_limiter_item item = Item("key", 1);
  uint64_t ticket = 7;
  CHECK_FAILS(WOULD_BLOCK, "", flint_limiter_limit(limiter, &config, flag, &ticket, NewError()));
  CHECK_FAILS(WOULD_BLOCK, "", flint_limiter_limit(limiter, &prefix, flag, &ticket, NewError()));
  CHECK(Info(limiter).limits == 0 && ticket == 7);
  CHECK_OK(flint_limiter_limit(limiter, &config, both, &ticket, NewError()));
  CHECK_OK(flint_limiter_limit(limiter, &prefix, both, &ticket, NewError()));
  const int32_t repeated = flint_limiter_limit(limiter, &config, flag, &ticket, NewError());
  CHECK(repeated == FLINT_LIMITER_WOULD_BLOCK || ticket == 0); /* what it repeats may be on disk */
  CHECK_OK(flint_limiter_flush(limiter, NewError()));
  CHECK_OK(flint_limiter_limit(limiter, &config, flag, &ticket, NewError())); /* nothing to write */
  CHECK(ticket == 0);
  CHECK_FAILS(WOULD_BLOCK, "", TryCheck(limiter, "key", 1, flag));
  CHECK_FAILS(WOULD_BLOCK, "",
              flint_limiter_check_all(limiter, &item, 1, sizeof(item), flag, &result,
                                      sizeof(result), &ticket, NewError()));
  CHECK_FAILS(WOULD_BLOCK, "", Reset(limiter, "key", exact, flag));
  CHECK_FAILS(WOULD_BLOCK, "", Remove(limiter, "key", exact, flag));
  CHECK_FAILS(WOULD_BLOCK, "", Reset(limiter, "t", FLINT_LIMITER_KIND_TEMPLATE, flag));
  CHECK_FAILS(WOULD_BLOCK, "", Remove(limiter, "t", FLINT_LIMITER_KIND_TEMPLATE, flag));
  CHECK(CountEvents(limiter) == 2 && Peek(limiter, "key", 1).allowed);
  CHECK_OK(flint_limiter_peek(limiter, "key", 3, 1, flag, NULL, &result, NewError()));
  CHECK(CheckWith(limiter, "key", 1, both).allowed);
  CHECK(!CheckWith(limiter, "key", 1, flag).allowed); /* a denial waits for nothing */
  CHECK_OK(Reset(limiter, "key", exact, both));
  CHECK_OK(Remove(limiter, "key", exact, both));
  CHECK_FAILS(NOT_CONFIGURED, "", Remove(limiter, "key", exact, flag));
  Close(limiter);
}

/* What each function answers while another thread is inside. */
static void CheckContended(uint32_t tell_busy, int32_t expected) {
  Clock clock;
  flint_limiter_options options = Options(FLINT_LIMITER_SYNC_ALWAYS);
  InitClock(&clock);
  options.clock = ReadClock;
  options.clock_argument = &clock;
  options.tell_busy = tell_busy;
  flint_limiter* limiter = OpenWith(&in_memory, &options);
  const flint_limiter_item item = Item("key", 1);
  flint_limiter_config config = Config("key", 2, MINUTE);
  flint_limiter_config prefix = Template("t", 2, MINUTE);
  flint_limiter_result result = NewResult();
  uint64_t denied = 0;
  CHECK_OK(Configure(limiter, Config("key", 1, MINUTE)));
  CHECK_OK(Configure(limiter, Template("u", 1, MINUTE)));
  Hold(&clock, 1);
  Caller holder = {.limiter = limiter,
                   .call = CallCheck}; /* the clock is read under the key's lock */
  Start(&holder);
  AwaitHeldReader(&clock);
  const uint32_t flag = FLINT_LIMITER_NO_WAIT;
#define CHECK_REFUSED(call) CheckFailure(expected, "", call, #call, WHERE)
  CHECK_REFUSED(TryCheck(limiter, "key", 1, flag));
  CHECK_REFUSED(flint_limiter_peek(limiter, "key", 3, 1, flag, NULL, &result, NewError()));
  CHECK_REFUSED(flint_limiter_check_all(limiter, &item, 1, sizeof(item), flag, &result,
                                        sizeof(result), &denied, NewError()));
  CHECK_REFUSED(flint_limiter_limit(limiter, &config, flag, NULL, NewError()));
  CHECK_REFUSED(flint_limiter_limit(limiter, &prefix, flag, NULL, NewError()));
  CHECK_REFUSED(Reset(limiter, "key", FLINT_LIMITER_KIND_EXACT, flag));
  CHECK_REFUSED(Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, flag));
  CHECK_REFUSED(Reset(limiter, "u", FLINT_LIMITER_KIND_TEMPLATE, flag));
  CHECK_REFUSED(Remove(limiter, "u", FLINT_LIMITER_KIND_TEMPLATE, flag));
#undef CHECK_REFUSED
  int32_t code = -1;
  CHECK_OK(flint_limiter_check_many(limiter, &item, 1, sizeof(item), flag, &result, sizeof(result),
                                    &code, NewError()));
  CHECK(code == expected);
  Hold(&clock, 0);
  CHECK_OK(Join(&holder));
  CHECK(IsFilled(&result.allowed, sizeof(result) - 4));
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 1 &&
        Info(limiter).limits == 2);
  Close(limiter);
}

static void NoWaitForLock(void) {
  CheckContended(0, FLINT_LIMITER_WOULD_BLOCK);
  CheckContended(1, FLINT_LIMITER_BUSY);
}

/* The disk, and room, are not a matter of moments. */
static void BusyIsNotTheDisk(void) {
  const Path path = NewPath();
  flint_limiter_options options = Options(FLINT_LIMITER_SYNC_ALWAYS);
  options.tell_busy = 1;
  flint_limiter* limiter = OpenWith(&path, &options);
  CHECK_OK(Configure(limiter, Config("key", 1, MINUTE)));
  CHECK_FAILS(WOULD_BLOCK, "", TryCheck(limiter, "key", 1, FLINT_LIMITER_NO_WAIT));
  Close(limiter);
}

static void NoWaitForRoom(void) {
  const Path path = NewPath();
  flint_limiter_options options = Lazy();
  options.tell_busy = 1; /* a background thread may hold a lock for a moment */
  flint_limiter* limiter = OpenWith(&path, &options);
  int32_t code = FLINT_LIMITER_OK;
  uint64_t allowed = 0;
  CHECK_OK(Configure(limiter, Config("key", MOST, 1)));
  SetSync(SYNC_HOLDS);
  while ((code == FLINT_LIMITER_OK || code == FLINT_LIMITER_BUSY) && allowed < 100000) {
    code = TryCheck(limiter, "key", 1, FLINT_LIMITER_NO_WAIT);
    allowed += code == FLINT_LIMITER_OK;
  }
  CHECK_CODE(WOULD_BLOCK, code);
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == allowed &&
        allowed > 1000);
  SetSync(SYNC_WORKS);
  CHECK_OK(TryCheck(limiter, "key", 1, 0));
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == allowed + 1);
  Close(limiter);
}

static void Poisoned(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  flint_limiter_result result = NewResult();
  flint_limiter_status_info entry;
  const flint_limiter_config config = Config("new", 5, MINUTE);
  CHECK_OK(Configure(limiter, Config("key", 5, MINUTE)));
  const uint64_t ticket = Decide(limiter, "key", 1).ticket;
  SetSync(SYNC_FAILS);
  CHECK_FAILS(POISONED, "Input/output error",
              flint_limiter_check(limiter, "key", 3, 1, 0, NULL, &result, NewError()));
  CHECK(IsFilled(&result.allowed, sizeof(result) - 4) && last_error.system_errno == EIO);
  SetSync(SYNC_WORKS); /* what has failed once is not tried again */
  CHECK_FAILS(POISONED, path.text, TryCheck(limiter, "key", 1, 0));
  CHECK_FAILS(POISONED, path.text, TryCheck(limiter, "key", 1, FLINT_LIMITER_NO_SYNC));
  CHECK_FAILS(POISONED, path.text, flint_limiter_limit(limiter, &config, 0, NULL, NewError()));
  CHECK_FAILS(POISONED, path.text, Reset(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
  CHECK_FAILS(POISONED, path.text, Remove(limiter, "key", FLINT_LIMITER_KIND_EXACT, 0));
  CHECK_FAILS(POISONED, path.text, flint_limiter_flush(limiter, NewError()));
  CHECK_FAILS(POISONED, path.text, Compact(limiter, NewError()));
  CHECK_FAILS(POISONED, path.text, Wait(limiter, Info(limiter).appended, FOREVER));
  CHECK_OK(Wait(limiter, ticket, FOREVER));
  CHECK(Peek(limiter, "key", 1).allowed && List(limiter, NULL, 0, &entry, 1) == 1);
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed >= 1);
  CHECK(Durable(limiter) >= ticket);
  CHECK_FAILS(POISONED, path.text, flint_limiter_shutdown(limiter, NewError()));
  CHECK_OK(flint_limiter_close(&limiter, NewError()));
  limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  const uint64_t allowed = Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed;
  CHECK(allowed == 1 || allowed == 2);
  CHECK(Decide(limiter, "key", 1).allowed);
  SetSync(SYNC_FAILS);
  CHECK_CODE(POISONED, TryCheck(limiter, "key", 1, 0));
  SetSync(SYNC_WORKS);
  CHECK_FAILS(POISONED, path.text, flint_limiter_close(&limiter, NewError()));
  CHECK(limiter == NULL);
}

static void DiskFull(void) {
  const Path path = NewPath();
  flint_limiter_options options = Lazy();
  options.segment_bytes = 1 << 18;
  flint_limiter* limiter = NULL;
  SetDiskFull(1);
  CHECK_FAILS(DISK_FULL, path.text, TryOpen(path.text, &options, &limiter));
  CHECK(limiter == NULL && last_error.system_errno == ENOSPC);
  SetDiskFull(0);
  limiter = OpenWith(&path, &options);
  CHECK_OK(Configure(limiter, Config("key", MOST, 1)));
  CHECK_OK(Configure(limiter, Config("denied", 1, YEAR)));
  CHECK(Decide(limiter, "denied", 1).allowed);
  SetDiskFull(1);
  int32_t code = FLINT_LIMITER_OK;
  uint64_t allowed = 0;
  while (code == FLINT_LIMITER_OK && allowed < 100000) {
    code = TryCheck(limiter, "key", 1, 0);
    allowed += code == FLINT_LIMITER_OK;
  }
  CHECK_CODE(DISK_FULL, code);
  CHECK(strstr(last_error.message, path.text) != NULL);
  CHECK_FAILS(DISK_FULL, path.text, TryCheck(limiter, "key", 1, 0));
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == allowed &&
        allowed > 1000);
  CHECK(!Decide(limiter, "denied", 1).allowed); /* still answered */
  SetDiskFull(0);
  for (int ms = 0; ms < PATIENCE_MS && code == FLINT_LIMITER_DISK_FULL; ms += 10) {
    SleepMs(10);
    code = TryCheck(limiter, "key", 1, 0);
  }
  CHECK_OK(code);
  Close(limiter);
  limiter = OpenWith(&path, &options);
  CHECK(Status(limiter, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == allowed + 1);
  CHECK(Status(limiter, "denied", FLINT_LIMITER_KIND_EXACT).total_denied == 1);
  Close(limiter);
}

static void CompactFlags(void) {
  const Path path = NewPath();
  flint_limiter* limiter = Open(&path, FLINT_LIMITER_SYNC_ALWAYS);
  const uint32_t bad[] = {FLINT_LIMITER_NO_SYNC, FLINT_LIMITER_DECISION_ONLY,
                          FLINT_LIMITER_IF_ABSENT, FLINT_LIMITER_ALL_COUNTERS, UINT32_MAX};
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); ++i) {
    CHECK_INVALID("flags is ", flint_limiter_compact(limiter, bad[i], NewError()));
  }
  CHECK(Info(limiter).compactions == 0);
  CHECK_OK(flint_limiter_compact(limiter, FLINT_LIMITER_NO_WAIT, NewError()));
  CHECK_OK(flint_limiter_compact(limiter, 0, NewError()));
  CHECK(Info(limiter).compactions >= 1);
  Close(limiter);
}

const Test durability_tests[] = {
    TEST(Tickets),
    TEST(SyncedBeforeAnswered),
    TEST(WaitTimesOut),
    TEST(Watch),
    TEST(WatchInAlwaysMode),
    TEST(NoWaitForDisk),
    TEST(NoWaitForLock),
    TEST(BusyIsNotTheDisk),
    TEST(NoWaitForRoom),
    TEST(Poisoned),
    TEST(DiskFull),
    TEST(CompactFlags),
    {NULL, NULL},
};
