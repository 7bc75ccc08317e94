/* sharing.c - handles that share a directory: one owns it, the others ask it. They are all of this
 * process here, so that a sanitizer sees both ends of each call. */

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "support.h"

#define THREADS 4
#define BOTH 8 /* threads of two handles */
#define CALLS 400
#define HANDLES 12

static flint_limiter* Share(const Path* path, uint32_t sync) {
  flint_limiter_options options = Options(sync);
  options.shared = 1;
  return OpenWith(path, &options);
}

static uint64_t RoleOf(flint_limiter* limiter) { return Info(limiter).role; }

typedef struct Worker {
  pthread_t thread;
  flint_limiter* limiter;
  uint64_t allowed;
  uint64_t failed;
  int32_t code; /* of the first call that failed */
} Worker;

static void* Work(void* argument) {
  Worker* const worker = argument;
  for (int i = 0; i < CALLS; ++i) {
    flint_limiter_result result = NewResult();
    const int32_t code = flint_limiter_check(worker->limiter, "key", 3, 1, 0, NULL, &result, NULL);
    if (code == FLINT_LIMITER_OK) worker->allowed += result.allowed;
    if (code != FLINT_LIMITER_OK && worker->failed++ == 0) worker->code = code;
  }
  return NULL;
}

static void StartWorkers(Worker* workers, size_t count, flint_limiter* limiter) {
  memset(workers, 0, count * sizeof(*workers));
  for (size_t i = 0; i < count; ++i) {
    workers[i].limiter = limiter;
    CHECK(pthread_create(&workers[i].thread, NULL, Work, &workers[i]) == 0);
  }
}

static uint64_t JoinWorkers(Worker* workers, size_t count) {
  uint64_t allowed = 0;
  for (size_t i = 0; i < count; ++i) {
    CHECK(pthread_join(workers[i].thread, NULL) == 0);
    allowed += workers[i].allowed;
  }
  return allowed;
}

static void TheFirstOwnsAndAllCountTogether(void) {
  for (uint32_t sync = FLINT_LIMITER_SYNC_ALWAYS; sync <= FLINT_LIMITER_SYNC_BATCH; ++sync) {
    const Path path = NewPath();
    flint_limiter* owner = Share(&path, sync);
    flint_limiter* client = Share(&path, sync);
    CHECK(RoleOf(owner) == FLINT_LIMITER_ROLE_OWNER);
    CHECK(RoleOf(client) == FLINT_LIMITER_ROLE_CLIENT);
    CHECK_OK(Configure(client, Config("key", 5, YEAR)));
    for (uint64_t i = 0; i < 5; ++i) {
      const flint_limiter_result result = Decide(i % 2 == 0 ? owner : client, "key", 1);
      CHECK(result.allowed == 1 && result.remaining == 4 - i);
    }
    CHECK(Decide(owner, "key", 1).allowed == 0 && Decide(client, "key", 1).allowed == 0);
    CHECK(Status(client, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 5);
    CHECK_CODE(NOT_CONFIGURED, TryCheck(client, "other", 1, 0));
    Close(client);
    Close(owner);
  }
}

static void ThreadsOfBothNeverTakeTooMuch(void) {
  const Path path = NewPath();
  flint_limiter* owner = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  flint_limiter* client = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK_OK(Configure(owner, Config("key", 1000, YEAR)));
  Worker workers[BOTH];
  StartWorkers(workers, THREADS, owner);
  StartWorkers(workers + THREADS, THREADS, client);
  CHECK(JoinWorkers(workers, BOTH) == 1000);
  for (size_t i = 0; i < BOTH; ++i) CHECK(workers[i].failed == 0);
  Close(client);
  Close(owner);
}

static void AClientTakesOverFromAnOwnerThatCloses(void) {
  const Path path = NewPath();
  flint_limiter* owner = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  flint_limiter* client = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  flint_limiter* other = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK_OK(Configure(owner, Config("key", 700, YEAR)));
  Worker workers[BOTH];
  StartWorkers(workers, THREADS, client);
  StartWorkers(workers + THREADS, THREADS, other);
  SleepMs(5);
  Close(owner);
  /* One that was under way when the owner closed may have counted for nobody. */
  const uint64_t allowed = JoinWorkers(workers, BOTH);
  CHECK(allowed <= 700 && allowed + BOTH >= 700);
  for (size_t i = 0; i < BOTH; ++i) CHECK(workers[i].failed == 0);
  CHECK(Decide(client, "key", 1).allowed == 0 && Decide(other, "key", 1).allowed == 0);
  const uint32_t owners = (RoleOf(client) == FLINT_LIMITER_ROLE_OWNER ? 1u : 0u) +
                          (RoleOf(other) == FLINT_LIMITER_ROLE_OWNER ? 1u : 0u);
  CHECK(owners == 1);
  Close(client);
  Close(other);
}

static void ShuttingAClientDownEndsItsCalls(void) {
  const Path path = NewPath();
  flint_limiter* owner = Share(&path, FLINT_LIMITER_SYNC_ALWAYS);
  flint_limiter* client = Share(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(Configure(owner, Config("key", MOST, YEAR)));
  Worker workers[THREADS];
  StartWorkers(workers, THREADS, client);
  SleepMs(20);
  CHECK_OK(flint_limiter_shutdown(client, NewError()));
  JoinWorkers(workers, THREADS);
  for (size_t i = 0; i < THREADS; ++i) {
    CHECK(workers[i].failed == 0 || workers[i].code == FLINT_LIMITER_CLOSED);
  }
  CHECK_CODE(CLOSED, TryCheck(client, "key", 1, 0));
  CHECK(Decide(owner, "key", 1).allowed == 1);
  Close(client);
  Close(owner);
}

/* What has to do with the files or with tickets is the owner's alone. */
static void AClientHasNoTicketsAndNothingToRefresh(void) {
  const Path path = NewPath();
  flint_limiter* owner = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  flint_limiter* client = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  flint_limiter_error* const error = NewError();
  uint64_t ticket = 1;
  int32_t fd = -1;
  CHECK_OK(flint_limiter_durable(client, &ticket, error));
  CHECK(ticket == 0);
  CHECK_OK(flint_limiter_wait(client, ticket, 0, error));
  CHECK_CODE(INVALID_ARGUMENT, flint_limiter_wait(client, 1, 0, error));
  CHECK_CODE(UNSUPPORTED, flint_limiter_watch(client, &fd, error));
  CHECK_CODE(INVALID_ARGUMENT, flint_limiter_unwatch(client, 0, error));
  CHECK_CODE(INVALID_ARGUMENT, flint_limiter_refresh(client, error));
  Close(owner);
  CHECK(RoleOf(client) == FLINT_LIMITER_ROLE_OWNER);
  CHECK_OK(flint_limiter_watch(client, &fd, error));
  CHECK_OK(flint_limiter_unwatch(client, fd, error));
  Close(client);
}

/* Whoever cannot serve the others does not own, and says why, as often as it is asked. */
static void ATakeoverThatFailsIsToldAndTriedAgain(void) {
  const Path path = NewPath();
  flint_limiter* owner = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  flint_limiter* client = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK_OK(Configure(owner, Config("key", 2, YEAR)));
  CHECK(Decide(client, "key", 1).allowed == 1);
  Close(owner);
  const Path in_the_way = In(&path, "flint.sock");
  CHECK(mkdir(in_the_way.text, 0700) == 0);
  CHECK_CODE(UNSUPPORTED, TryCheck(client, "key", 1, 0));
  CHECK_CODE(UNSUPPORTED, TryStatus(client, "key", FLINT_LIMITER_KIND_EXACT));
  CHECK(rmdir(in_the_way.text) == 0);
  CHECK(Decide(client, "key", 1).allowed == 1 && Decide(client, "key", 1).allowed == 0);
  CHECK(RoleOf(client) == FLINT_LIMITER_ROLE_OWNER);
  Close(client);
}

/* Beside calls of the main thread, whose error it leaves alone. */
static void* CloseIt(void* argument) {
  flint_limiter* limiter = argument;
  CHECK_OK(flint_limiter_close(&limiter, NULL));
  return NULL;
}

/* A client that has been told that its answer takes a while is answered all the same, and does not
 * ask again, which would count twice. */
static void AnOwnerThatClosesAnswersWhoWaitsForTheDisk(void) {
  const Path path = NewPath();
  flint_limiter* owner = Share(&path, FLINT_LIMITER_SYNC_ALWAYS);
  flint_limiter* client = Share(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(Configure(owner, Config("key", 5, YEAR)));
  SetSync(SYNC_HOLDS);
  Caller caller = {.limiter = client, .call = CallCheck};
  Start(&caller);
  AwaitHeldSync();
  pthread_t closing;
  CHECK(pthread_create(&closing, NULL, CloseIt, owner) == 0);
  SleepMs(700);
  SetSync(SYNC_WORKS);
  CHECK_OK(Join(&caller));
  CHECK(pthread_join(closing, NULL) == 0);
  CHECK(Status(client, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 1);
  Close(client);
}

/* Opens with as few descriptors as will do: the last that an owner asks for, which tells it what is
 * on disk, it has not got. */
static flint_limiter* ShareWithFewDescriptors(const Path* path) {
  struct rlimit before;
  CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
  flint_limiter_options options = Options(FLINT_LIMITER_SYNC_ALWAYS);
  options.shared = 1;
  flint_limiter* limiter = NULL;
  for (rlim_t most = 3; limiter == NULL && most < 256; ++most) {
    const struct rlimit few = {most, before.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    (void)TryOpen(path->text, &options, &limiter);
  }
  CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(limiter != NULL);
  return limiter;
}

static void NothingIsAnsweredBeforeItIsOnDisk(void) {
  const Path path = NewPath();
  flint_limiter* owner = ShareWithFewDescriptors(&path);
  flint_limiter* client = Share(&path, FLINT_LIMITER_SYNC_ALWAYS);
  CHECK_OK(Configure(owner, Config("key", 5, YEAR)));
  SetSync(SYNC_HOLDS);
  Caller caller = {.limiter = client, .call = CallCheck};
  Start(&caller);
  AwaitHeldSync();
  while (Status(owner, "key", FLINT_LIMITER_KIND_EXACT).total_allowed == 0) SleepMs(1);
  SleepMs(500);
  CHECK(pthread_tryjoin_np(caller.thread, NULL) == EBUSY); /* still waiting */
  SetSync(SYNC_WORKS);
  CHECK_OK(Join(&caller));
  Close(client);
  Close(owner);
}

/* ---- What takes long ------------------------------------------------------------------------- */

static int32_t CallFlush(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_flush(limiter, error);
}

static int32_t CallRemove(flint_limiter* limiter, flint_limiter_error* error) {
  return flint_limiter_remove(limiter, "t", 1, FLINT_LIMITER_KIND_TEMPLATE, 0, NULL, error);
}

static int32_t CallMany(flint_limiter* limiter, flint_limiter_error* error) {
  const flint_limiter_item item = Item("key", 1);
  const flint_limiter_config config = Config("more", 1, YEAR);
  flint_limiter_result result = NewResult();
  int32_t code = FLINT_LIMITER_OK;
  const int32_t made = flint_limiter_check_many(limiter, &item, 1, sizeof(item), 0, &result,
                                                sizeof(result), &code, error);
  if (made != FLINT_LIMITER_OK || code != FLINT_LIMITER_OK) return made + code;
  return flint_limiter_limit_many(limiter, &config, 1, sizeof(config), 0, NULL, error);
}

/* An owner whose thread for calls that take long has one to make, until SYNC_WORKS. */
typedef struct Occupied {
  Path path;
  flint_limiter* owner;
  flint_limiter* client; /* which has asked for it */
  flint_limiter* other;
  Caller caller;
} Occupied;

static flint_limiter* ShareLazily(const Path* path) {
  flint_limiter_options options = Lazy();
  options.shared = 1;
  return OpenWith(path, &options);
}

static void Occupy(Occupied* all) {
  all->path = NewPath();
  all->owner = ShareLazily(&all->path);
  all->client = ShareLazily(&all->path);
  all->other = ShareLazily(&all->path);
  CHECK_OK(Configure(all->owner, Config("key", 5, YEAR)));
  CHECK_OK(Configure(all->owner, Template("t", 5, YEAR)));
  SetSync(SYNC_HOLDS);
  memset(&all->caller, 0, sizeof(all->caller));
  all->caller.limiter = all->client;
  all->caller.call = CallFlush;
  Start(&all->caller);
  AwaitHeldSync();
}

static void SeveralInOneCallDoNotWaitForWhatTakesLong(void) {
  Occupied all;
  Occupy(&all);
  Caller many = {.limiter = all.other, .call = CallMany};
  Start(&many);
  struct timespec until;
  CHECK(clock_gettime(CLOCK_REALTIME, &until) == 0);
  until.tv_sec += PATIENCE_MS / 1000;
  const int late = pthread_timedjoin_np(many.thread, NULL, &until);
  CHECK(late == 0);
  SetSync(SYNC_WORKS);
  if (late != 0) Join(&many);
  CHECK_OK(many.code);
  CHECK_OK(Join(&all.caller));
  Close(all.other);
  Close(all.client);
  Close(all.owner);
}

/* Whoever has gone before his call was begun did not make it. */
static void WhatWasAskedByWhoHasGoneIsNotMade(void) {
  for (int closes = 0; closes <= 1; ++closes) {
    Occupied all;
    Occupy(&all);
    Caller remover = {.limiter = all.other, .call = CallRemove};
    pthread_t closing;
    Start(&remover);
    SleepMs(300); /* it has been asked, and has to wait */
    if (closes) CHECK(pthread_create(&closing, NULL, CloseIt, all.owner) == 0);
    if (closes) SleepMs(300);
    CHECK_OK(flint_limiter_shutdown(all.other, NewError()));
    CHECK_CODE(CLOSED, Join(&remover));
    SleepMs(300);
    SetSync(SYNC_WORKS);
    CHECK_OK(Join(&all.caller));
    if (closes) CHECK(pthread_join(closing, NULL) == 0);
    CHECK_OK(flint_limiter_flush(all.client, NewError())); /* behind it, had it been made */
    CHECK_OK(TryStatus(all.client, "t", FLINT_LIMITER_KIND_TEMPLATE));
    Close(all.other);
    Close(all.client);
    if (!closes) Close(all.owner);
  }
}

/* Whoever asked for it asks the next owner: no call is lost where one closes. */
static void WhatHasNotBegunIsMadeByTheNextOwner(void) {
  Occupied all;
  Occupy(&all);
  Caller remover = {.limiter = all.other, .call = CallRemove};
  pthread_t closing;
  Start(&remover);
  SleepMs(300);
  CHECK(pthread_create(&closing, NULL, CloseIt, all.owner) == 0);
  SleepMs(300);
  SetSync(SYNC_WORKS);
  CHECK_OK(Join(&all.caller));
  CHECK(pthread_join(closing, NULL) == 0);
  CHECK_OK(Join(&remover));
  CHECK_CODE(NOT_CONFIGURED, TryStatus(all.client, "t", FLINT_LIMITER_KIND_TEMPLATE));
  Close(all.other);
  Close(all.client);
}

static void ManyComeAndGo(void) {
  const Path path = NewPath();
  flint_limiter* handles[HANDLES];
  for (size_t i = 0; i < HANDLES; ++i) handles[i] = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK_OK(Configure(handles[HANDLES - 1], Config("key", HANDLES, YEAR)));
  for (size_t i = 0; i < HANDLES; ++i) {
    CHECK(Decide(handles[i], "key", 1).allowed == 1);
    Close(handles[i]); /* each owns when all before it have gone */
  }
  flint_limiter* last = Share(&path, FLINT_LIMITER_SYNC_BATCH);
  CHECK(RoleOf(last) == FLINT_LIMITER_ROLE_OWNER && Decide(last, "key", 1).allowed == 0);
  Close(last);
}

const Test sharing_tests[] = {
    TEST(TheFirstOwnsAndAllCountTogether),
    TEST(ThreadsOfBothNeverTakeTooMuch),
    TEST(AClientTakesOverFromAnOwnerThatCloses),
    TEST(ShuttingAClientDownEndsItsCalls),
    TEST(AClientHasNoTicketsAndNothingToRefresh),
    TEST(ATakeoverThatFailsIsToldAndTriedAgain),
    TEST(AnOwnerThatClosesAnswersWhoWaitsForTheDisk),
    TEST(NothingIsAnsweredBeforeItIsOnDisk),
    TEST(SeveralInOneCallDoNotWaitForWhatTakesLong),
    TEST(WhatWasAskedByWhoHasGoneIsNotMade),
    TEST(WhatHasNotBegunIsMadeByTheNextOwner),
    TEST(ManyComeAndGo),
    {NULL, NULL},
};
