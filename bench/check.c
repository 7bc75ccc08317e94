/* check.c DIRECTORY THREADS FLAGS [apart] - flint_limiter_check in batch mode, from one thread or
 * several, each with a key of its own. FLAGS is the number that it is called with. `apart`: each
 * thread has a limiter of its own too, in memory, so that threads share nothing of Flint. */
#include <pthread.h>
#include <stdbool.h>

#include "side.h"

#define MOST_THREADS 64
#define LOOK_EVERY 4096 /* checks between two looks at what is not on disk */

typedef struct worker {
  pthread_t thread;
  pthread_barrier_t* start;
  flint_limiter* limiter;
  uint32_t flags;
  char key[32];
  uint64_t calls;
  uint64_t allowed;
  uint64_t unsynced; /* bytes */
  int64_t started_ns;
  int64_t ended_ns;
} worker;

static void* work(void* argument) {
  worker* self = argument;
  const uint64_t key_bytes = strlen(self->key);
  flint_limiter_result result;
  memset(&result, 0, sizeof result);
  result.struct_size = sizeof result;
  self->allowed = self->unsynced = 0;
  pthread_barrier_wait(self->start);
  self->started_ns = now_ns();
  for (uint64_t i = 0; i < self->calls; ++i) {
    must(flint_limiter_check(self->limiter, self->key, key_bytes, 1, self->flags, NULL, &result,
                             NULL),
         "check");
    self->allowed += result.allowed;
    if (i % LOOK_EVERY == 0 || i + 1 == self->calls) {
      const uint64_t behind = unsynced_bytes(self->limiter, result.ticket);
      if (behind > self->unsynced) self->unsynced = behind;
    }
  }
  self->ended_ns = now_ns();
  return NULL;
}

/* From the first thread's start to the last one's end. */
static int64_t run_round(worker* workers, unsigned threads) {
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, threads);
  for (unsigned i = 0; i < threads; ++i) {
    workers[i].start = &start;
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) fail("pthread_create");
  }
  int64_t started_ns = INT64_MAX;
  int64_t ended_ns = 0;
  for (unsigned i = 0; i < threads; ++i) {
    pthread_join(workers[i].thread, NULL);
    if (workers[i].started_ns < started_ns) started_ns = workers[i].started_ns;
    if (workers[i].ended_ns > ended_ns) ended_ns = workers[i].ended_ns;
  }
  pthread_barrier_destroy(&start);
  return ended_ns - started_ns;
}

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) return 2;
  const bool apart = argc == 5;
  if (apart && (strcmp(argv[4], "apart") != 0 || strcmp(argv[1], ":memory:") != 0)) return 2;
  const unsigned threads = (unsigned)strtoul(argv[2], NULL, 10);
  if (threads < 1 || threads > MOST_THREADS) return 2;
  flint_limiter* limiter = open_limiter(argv[1], FLINT_LIMITER_SYNC_BATCH, 0);
  static worker workers[MOST_THREADS];
  for (unsigned i = 0; i < threads; ++i) {
    workers[i].limiter =
        apart && i > 0 ? open_limiter(argv[1], FLINT_LIMITER_SYNC_BATCH, 0) : limiter;
    workers[i].flags = (uint32_t)strtoul(argv[3], NULL, 10);
    snprintf(workers[i].key, sizeof workers[i].key, "user:%011u", 42 + i);
    configure(workers[i].limiter, FLINT_LIMITER_KIND_EXACT, workers[i].key);
  }
  const uint64_t bytes = event_bytes(limiter, workers[0].key); /* 0 in memory */
  uint64_t total = 0;
  ready("flint", flint_limiter_version());
  for (uint64_t calls = next_round(); calls > 0; calls = next_round()) {
    uint64_t made = 0;
    uint64_t allowed = 0;
    uint64_t unsynced = 0;
    for (unsigned i = 0; i < threads; ++i) workers[i].calls = calls / threads + 1;
    const int64_t ns = run_round(workers, threads);
    for (unsigned i = 0; i < threads; ++i) {
      made += workers[i].calls;
      allowed += workers[i].allowed;
      if (workers[i].unsynced > unsynced) unsynced = workers[i].unsynced;
    }
    must(flint_limiter_flush(limiter, NULL), "flush");
    total += allowed;
    printf("{\"ns\": %" PRId64 ", \"calls\": %" PRIu64 ", \"allowed\": %" PRIu64
           ", \"denied\": %" PRIu64 ", \"unsynced\": %" PRIu64 "}\n",
           ns, made, allowed, made - allowed, bytes == 0 ? total : unsynced / bytes);
    fflush(stdout);
  }
  for (unsigned i = 1; apart && i < threads; ++i) {
    must(flint_limiter_close(&workers[i].limiter, NULL), "close");
  }
  must(flint_limiter_close(&limiter, NULL), "close");
  return 0;
}
