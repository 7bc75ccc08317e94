/* support.c - checking, a clock, directories, threads. */

#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- Checking -------------------------------------------------------------------------------- */

static pthread_mutex_t failures_mutex = PTHREAD_MUTEX_INITIALIZER;
static int failures;
flint_limiter_error last_error;

void Fail(const char* where, const char* what, const char* details) {
  pthread_mutex_lock(&failures_mutex);
  ++failures;
  fprintf(stderr, "  %s: %s: %s\n", where, what, details);
  pthread_mutex_unlock(&failures_mutex);
}

int Failures(void) {
  pthread_mutex_lock(&failures_mutex);
  const int count = failures;
  pthread_mutex_unlock(&failures_mutex);
  return count;
}

void ClearError(flint_limiter_error* error) {
  memset(error, FILLER, sizeof(*error));
  error->struct_size = sizeof(*error);
}

flint_limiter_error* NewError(void) {
  ClearError(&last_error);
  return &last_error;
}

void CheckCode(int32_t expected, int32_t code, const char* call, const char* where) {
  char details[96];
  if (code == expected) return;
  snprintf(details, sizeof(details), "returned %d (%s), not %d", code,
           flint_limiter_code_text(code), expected);
  Fail(where, call, details);
}

void CheckFailure(int32_t expected, const char* part, int32_t code, const char* call,
                  const char* where) {
  CheckCode(expected, code, call, where);
  if (code != expected) return;
  if (last_error.code != code || last_error.struct_size != sizeof(last_error) ||
      last_error.reserved != 0 ||
      memchr(last_error.segment, 0, sizeof(last_error.segment)) == NULL ||
      memchr(last_error.message, 0, sizeof(last_error.message)) == NULL) {
    Fail(where, call, "did not fill the error");
  } else if (strstr(last_error.message, part) == NULL) {
    Fail(where, call, last_error.message);
  }
}

int IsFilled(const void* memory, size_t size) {
  const unsigned char* bytes = memory;
  for (size_t i = 0; i < size; ++i) {
    if (bytes[i] != FILLER) return 0;
  }
  return 1;
}

void SleepMs(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&time, &time) != 0) {
  }
}

/* ---- A clock --------------------------------------------------------------------------------- */

void InitClock(Clock* clock) {
  memset(clock, 0, sizeof(*clock));
  pthread_mutex_init(&clock->mutex, NULL);
  pthread_cond_init(&clock->changed, NULL);
  clock->now_ns = (int64_t)START_NS;
  clock->owner = pthread_self();
}

int64_t ReadClock(void* argument) {
  Clock* clock = argument;
  pthread_mutex_lock(&clock->mutex);
  if (!pthread_equal(pthread_self(), clock->owner)) {
    ++clock->holding;
    pthread_cond_broadcast(&clock->changed);
    while (clock->held) pthread_cond_wait(&clock->changed, &clock->mutex);
    --clock->holding;
  }
  const int64_t now_ns = clock->now_ns;
  pthread_mutex_unlock(&clock->mutex);
  return now_ns;
}

void Advance(Clock* clock, int64_t ns) {
  pthread_mutex_lock(&clock->mutex);
  clock->now_ns += ns;
  pthread_mutex_unlock(&clock->mutex);
}

void Hold(Clock* clock, int held) {
  pthread_mutex_lock(&clock->mutex);
  clock->held = held;
  pthread_cond_broadcast(&clock->changed);
  pthread_mutex_unlock(&clock->mutex);
}

void AwaitHeldReader(Clock* clock) {
  pthread_mutex_lock(&clock->mutex);
  while (clock->holding == 0) pthread_cond_wait(&clock->changed, &clock->mutex);
  pthread_mutex_unlock(&clock->mutex);
}

/* ---- Directories ----------------------------------------------------------------------------- */

char root[256];

Path NewPath(void) {
  static int count;
  Path path;
  snprintf(path.text, sizeof(path.text), "%s/%d", root, ++count);
  return path;
}

Path In(const Path* directory, const char* name) {
  Path path;
  snprintf(path.text, sizeof(path.text), "%.400s/%.100s", directory->text, name);
  return path;
}

void WriteFile(const Path* path, const char* text) {
  FILE* file = fopen(path->text, "w");
  CHECK(file != NULL);
  if (file == NULL) return;
  fputs(text, file);
  fclose(file);
}

/* ---- Threads and children -------------------------------------------------------------------- */

static void* RunCaller(void* argument) {
  Caller* caller = argument;
  ClearError(&caller->error);
  if (caller->call != NULL) {
    caller->code = caller->call(caller->limiter, &caller->error);
  } else {
    caller->code = flint_limiter_wait(caller->limiter, caller->ticket, FOREVER, &caller->error);
  }
  return NULL;
}

void Start(Caller* caller) { CHECK(pthread_create(&caller->thread, NULL, RunCaller, caller) == 0); }

int32_t Join(Caller* caller) {
  CHECK(pthread_join(caller->thread, NULL) == 0);
  return caller->code;
}

void RunInChild(void (*body)(void* argument), void* argument) {
  int status = 0;
  fflush(NULL);
  const int before = Failures();
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    body(argument);
    fflush(NULL);
    _exit(Failures() == before ? 0 : 1);
  }
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
