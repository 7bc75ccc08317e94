/* faults.c - a disk that is slow, broken or full. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support.h"

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int sync_mode;
  int holding; /* how many calls are being held */
  int disk_full;
  int cannot_lock;
} faults = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, SYNC_WORKS, 0, 0, 0};

int fdatasync(int fd) {
  pthread_mutex_lock(&faults.mutex);
  ++faults.holding;
  pthread_cond_broadcast(&faults.changed);
  while (faults.sync_mode == SYNC_HOLDS) pthread_cond_wait(&faults.changed, &faults.mutex);
  --faults.holding;
  const int fails = faults.sync_mode == SYNC_FAILS;
  pthread_mutex_unlock(&faults.mutex);
  if (fails) {
    errno = EIO;
    return -1;
  }
  return (int)syscall(SYS_fdatasync, fd);
}

int fallocate(int fd, int mode, off_t offset, off_t bytes) {
  pthread_mutex_lock(&faults.mutex);
  const int full = faults.disk_full;
  pthread_mutex_unlock(&faults.mutex);
  if (full) {
    errno = ENOSPC;
    return -1;
  }
  return (int)syscall(SYS_fallocate, fd, mode, offset, bytes);
}

int flock(int fd, int operation) {
  pthread_mutex_lock(&faults.mutex);
  const int fails = faults.cannot_lock;
  pthread_mutex_unlock(&faults.mutex);
  if (fails) {
    errno = ENOLCK;
    return -1;
  }
  return (int)syscall(SYS_flock, fd, operation);
}

static void SetFault(int* fault, int value) {
  pthread_mutex_lock(&faults.mutex);
  *fault = value;
  pthread_cond_broadcast(&faults.changed);
  pthread_mutex_unlock(&faults.mutex);
}

void SetSync(int mode) { SetFault(&faults.sync_mode, mode); }

void SetDiskFull(int full) { SetFault(&faults.disk_full, full); }

void SetCannotLock(int fails) { SetFault(&faults.cannot_lock, fails); }

void AwaitHeldSync(void) {
  pthread_mutex_lock(&faults.mutex);
  while (faults.holding == 0) pthread_cond_wait(&faults.changed, &faults.mutex);
  pthread_mutex_unlock(&faults.mutex);
}
