/* latency.c DIRECTORY SCENARIO EVENTS - how long single checks take, in batch mode, one every two
 * microseconds, or hundred if they are `steady` (the next waits when one takes longer).
 *
 *   steady   one key, as a service writes that others look at
 *   quiet    one key, segments so large that none ends
 *   owner    the same, and the directory is shared: others may ask
 *   rotate   one key, segments of 8 MiB
 *   still    one key, after EVENTS events have been written and compacted, each round in a new
 *            directory
 *   compact  the same while they are compacted; as many checks as that takes
 *   grown    keys that have counters, each round in a new directory
 *   growing  the same keys when they come for the first time, while the table grows
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "side.h"

#define ONE_KEY "one:00000000042"
#define PACE_NS 2000
#define STEADY_PACE_NS 100000
#define MOST_SAMPLES (UINT64_C(1) << 24)
#define LOOK_EVERY 1024 /* checks between two looks at what is not on disk */
#define MIB (UINT64_C(1) << 20)

static uint32_t samples_ns[MOST_SAMPLES];
static int64_t pace_ns = PACE_NS;

typedef struct counted {
  uint64_t calls;
  uint64_t allowed;
  uint64_t unsynced; /* bytes */
  int64_t ns;
} counted;

/* Of one flint_limiter_compact in a thread of its own. */
typedef struct compaction {
  flint_limiter* limiter;
  pthread_t thread;
  atomic_bool done;
} compaction;

static void* compact(void* argument) {
  compaction* self = argument;
  must(flint_limiter_compact(self->limiter, 0, NULL), "compact");
  atomic_store(&self->done, true);
  return NULL;
}

static int name_key(char* key, size_t size, uint64_t number, bool many) {
  return many ? snprintf(key, size, "user:%011" PRIu64, number)
              : snprintf(key, size, "%s", ONE_KEY);
}

/* Up to `calls` checks, fewer when `until` becomes true before. */
static counted time_checks(flint_limiter* limiter, uint64_t calls, bool many, atomic_bool* until) {
  counted all = {0, 0, 0, 0};
  flint_limiter_result result;
  memset(&result, 0, sizeof result);
  result.struct_size = sizeof result;
  const int64_t begun_ns = now_ns();
  int64_t next_ns = begun_ns;
  while (all.calls < calls && !(until != NULL && atomic_load(until))) {
    char key[32];
    const int key_bytes = name_key(key, sizeof key, all.calls, many);
    int64_t started_ns = now_ns();
    while (started_ns < next_ns) started_ns = now_ns();
    must(flint_limiter_check(limiter, key, (uint64_t)key_bytes, 1, 0, NULL, &result, NULL),
         "check");
    const int64_t ended_ns = now_ns();
    const int64_t taken_ns = ended_ns - started_ns;
    samples_ns[all.calls++] = taken_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)taken_ns;
    all.allowed += result.allowed;
    if (all.calls % LOOK_EVERY == 0) {
      const uint64_t behind = unsynced_bytes(limiter, result.ticket);
      if (behind > all.unsynced) all.unsynced = behind;
    }
    next_ns = next_ns + pace_ns < ended_ns ? ended_ns : next_ns + pace_ns;
  }
  all.ns = now_ns() - begun_ns;
  return all;
}

static void check_untimed(flint_limiter* limiter, uint64_t calls, bool many) {
  flint_limiter_result result;
  memset(&result, 0, sizeof result);
  result.struct_size = sizeof result;
  for (uint64_t i = 0; i < calls; ++i) {
    char key[32];
    const int key_bytes = name_key(key, sizeof key, i, many);
    must(flint_limiter_check(limiter, key, (uint64_t)key_bytes, 1, 0, NULL, &result, NULL),
         "check");
  }
  must(flint_limiter_flush(limiter, NULL), "flush");
}

static int ascending(const void* a, const void* b) {
  const uint32_t left = *(const uint32_t*)a;
  const uint32_t right = *(const uint32_t*)b;
  return (left > right) - (left < right);
}

static void say(flint_limiter* limiter, counted all, uint64_t segments) {
  if (all.calls == 0) fail("nothing was measured");
  qsort(samples_ns, all.calls, sizeof samples_ns[0], ascending);
  printf("{\"ns\": %" PRId64 ", \"calls\": %" PRIu64 ", \"allowed\": %" PRIu64
         ", \"denied\": %" PRIu64 ", \"unsynced\": %" PRIu64 ", \"segments\": %" PRIu64,
         all.ns, all.calls, all.allowed, all.calls - all.allowed,
         all.unsynced / event_bytes(limiter, ONE_KEY), segments);
  static const struct {
    const char* name;
    double share;
  } shown[] = {{"p50_ns", 0.5}, {"p99_ns", 0.99}, {"p999_ns", 0.999}, {"p9999_ns", 0.9999}};
  for (size_t i = 0; i < sizeof shown / sizeof shown[0]; ++i) {
    printf(", \"%s\": %u", shown[i].name, samples_ns[(uint64_t)(all.calls * shown[i].share)]);
  }
  printf(", \"max_ns\": %u}\n", samples_ns[all.calls - 1]);
  fflush(stdout);
}

static uint64_t appended_bytes(flint_limiter* limiter) {
  flint_limiter_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  must(flint_limiter_get_info(limiter, &info, NULL), "info");
  return info.appended;
}

static void run_in_one_directory(const char* directory, uint64_t segment_bytes, uint32_t shared) {
  flint_limiter* limiter = open_with(directory, FLINT_LIMITER_SYNC_BATCH, segment_bytes, shared);
  configure(limiter, FLINT_LIMITER_KIND_EXACT, ONE_KEY);
  ready("flint", flint_limiter_version());
  for (uint64_t calls = next_round(); calls > 0; calls = next_round()) {
    const uint64_t before = appended_bytes(limiter);
    const counted all =
        time_checks(limiter, calls < MOST_SAMPLES ? calls : MOST_SAMPLES, false, NULL);
    must(flint_limiter_flush(limiter, NULL), "flush");
    say(limiter, all, appended_bytes(limiter) / segment_bytes - before / segment_bytes);
  }
  must(flint_limiter_close(&limiter, NULL), "close");
}

/* Writes so many events and opens the directory again. Without a snapshot the log begins at the
 * first of them, and opening starts to compact all. */
static flint_limiter* reopen_after(flint_limiter* limiter, const char* directory, uint64_t events) {
  check_untimed(limiter, events, false);
  must(flint_limiter_close(&limiter, NULL), "close");
  char snapshot[8192];
  snprintf(snapshot, sizeof snapshot, "%s/flint.snapshot", directory);
  unlink(snapshot);
  return open_limiter(directory, FLINT_LIMITER_SYNC_BATCH, 0);
}

static void run_round(flint_limiter* limiter, const char* scenario, uint64_t calls) {
  counted all;
  if (strcmp(scenario, "compact") == 0) {
    compaction running;
    running.limiter = limiter;
    atomic_init(&running.done, false);
    if (pthread_create(&running.thread, NULL, compact, &running) != 0) fail("pthread_create");
    all = time_checks(limiter, MOST_SAMPLES, false, &running.done);
    pthread_join(running.thread, NULL);
  } else if (strcmp(scenario, "still") == 0) {
    must(flint_limiter_compact(limiter, 0, NULL), "compact");
    all = time_checks(limiter, calls, false, NULL);
  } else {
    if (strcmp(scenario, "grown") == 0) check_untimed(limiter, calls, true);
    all = time_checks(limiter, calls, true, NULL);
  }
  must(flint_limiter_flush(limiter, NULL), "flush");
  say(limiter, all, 0);
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const char* scenario = argv[2];
  const bool steady = strcmp(scenario, "steady") == 0;
  if (steady) pace_ns = STEADY_PACE_NS;
  const bool owner = strcmp(scenario, "owner") == 0;
  if (steady || owner || strcmp(scenario, "quiet") == 0 || strcmp(scenario, "rotate") == 0) {
    run_in_one_directory(argv[1], strcmp(scenario, "rotate") == 0 ? 8 * MIB : 1024 * MIB, owner);
    return 0;
  }
  ready("flint", flint_limiter_version());
  uint64_t number = 0;
  for (uint64_t calls = next_round(); calls > 0; calls = next_round()) {
    char directory[4096];
    snprintf(directory, sizeof directory, "%s/%" PRIu64, argv[1], number++);
    flint_limiter* limiter = open_limiter(directory, FLINT_LIMITER_SYNC_BATCH, 0);
    configure(limiter, FLINT_LIMITER_KIND_TEMPLATE, "user:");
    configure(limiter, FLINT_LIMITER_KIND_EXACT, ONE_KEY);
    if (strcmp(scenario, "compact") == 0 || strcmp(scenario, "still") == 0) {
      limiter = reopen_after(limiter, directory, strtoull(argv[3], NULL, 10));
    }
    run_round(limiter, scenario, calls);
    must(flint_limiter_close(&limiter, NULL), "close");
  }
  return 0;
}
