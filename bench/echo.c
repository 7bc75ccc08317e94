/* echo.c SOCKET ROLE REQUEST_BYTES REPLY_BYTES - the floor of what is asked of another process: a
 * message there and one back over a unix socket, which nobody looks at.
 *
 *   serve  answers whoever connects, a thread for each, until its input ends
 *   epoll  the same from one thread, as a server of many does
 *   ask    sends and receives, as often as each line asks for
 */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "side.h"

#define MOST_BYTES 4096

static size_t request_bytes;
static size_t reply_bytes;
static char bytes[MOST_BYTES];

static int receive_all(int fd, char* to, size_t size) {
  while (size > 0) {
    const ssize_t got = recv(fd, to, size, 0);
    if (got <= 0) return 0;
    size -= (size_t)got;
    to += got;
  }
  return 1;
}

static void* serve(void* argument) {
  const int fd = (int)(intptr_t)argument;
  char request[MOST_BYTES];
  while (receive_all(fd, request, request_bytes)) {
    if (send(fd, bytes, reply_bytes, MSG_NOSIGNAL) != (ssize_t)reply_bytes) break;
  }
  close(fd);
  return NULL;
}

static void* accept_all(void* argument) {
  const int listener = (int)(intptr_t)argument;
  for (;;) {
    const int fd = accept(listener, NULL, NULL);
    pthread_t thread;
    if (fd < 0 || pthread_create(&thread, NULL, serve, (void*)(intptr_t)fd) != 0) exit(1);
    pthread_detach(thread);
  }
}

/* A request is so short that it comes as a whole. */
static void* serve_all(void* argument) {
  const int listener = (int)(intptr_t)argument;
  const int all = epoll_create1(0);
  struct epoll_event event = {EPOLLIN, {.fd = listener}};
  if (epoll_ctl(all, EPOLL_CTL_ADD, listener, &event) != 0) exit(1);
  char request[MOST_BYTES];
  for (;;) {
    if (epoll_wait(all, &event, 1, -1) != 1) continue;
    int fd = event.data.fd;
    if (fd == listener) {
      fd = accept(listener, NULL, NULL);
      event = (struct epoll_event){EPOLLIN, {.fd = fd}};
      if (fd < 0 || epoll_ctl(all, EPOLL_CTL_ADD, fd, &event) != 0) exit(1);
    } else if (recv(fd, request, sizeof request, 0) <= 0 ||
               send(fd, bytes, reply_bytes, MSG_NOSIGNAL) != (ssize_t)reply_bytes) {
      close(fd);
    }
  }
}

static void ask(int fd) {
  char reply[MOST_BYTES];
  for (uint64_t calls = next_round(); calls > 0; calls = next_round()) {
    const int64_t started_ns = now_ns();
    for (uint64_t i = 0; i < calls; ++i) {
      if (send(fd, bytes, request_bytes, MSG_NOSIGNAL) != (ssize_t)request_bytes) fail("send");
      if (!receive_all(fd, reply, reply_bytes)) fail("recv");
    }
    printf("{\"ns\": %" PRId64 ", \"calls\": %" PRIu64 ", \"allowed\": %" PRIu64
           ", \"denied\": 0, \"unsynced\": null}\n",
           now_ns() - started_ns, calls, calls);
    fflush(stdout);
  }
}

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  request_bytes = strtoull(argv[3], NULL, 10);
  reply_bytes = strtoull(argv[4], NULL, 10);
  if (request_bytes > MOST_BYTES || reply_bytes > MOST_BYTES) return 2;
  struct sockaddr_un address;
  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (strcmp(argv[2], "ask") == 0) {
    if (connect(fd, (struct sockaddr*)&address, sizeof address) != 0) fail("connect");
    ready("echo", "1");
    ask(fd);
    return 0;
  }
  if (bind(fd, (struct sockaddr*)&address, sizeof address) != 0 || listen(fd, 64) != 0) {
    fail("listen");
  }
  void* (*const serving)(void*) = strcmp(argv[2], "epoll") == 0 ? serve_all : accept_all;
  pthread_t thread;
  if (pthread_create(&thread, NULL, serving, (void*)(intptr_t)fd) != 0) fail("thread");
  ready("echo", "1");
  while (next_round() > 0) continue;
  return 0;
}
