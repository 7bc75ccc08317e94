#include "server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Reads lines of standard output until all addresses are told. */
static void ReadUrls(Server* server, FILE* output) {
  char line[700];
  const char* const scheme = "redis";
  server->tcp_url[0] = '\0';
  for (int told = 0; told < 3 && fgets(line, sizeof(line), output) != NULL; ++told) {
    const char* const found = strstr(line, scheme);
    if (found == NULL || strstr(line, "://127.0.0.1:") == NULL) continue;
    snprintf(server->tcp_url, sizeof(server->tcp_url), "flint%.50s", found + strlen(scheme));
    server->tcp_url[strcspn(server->tcp_url, "\n")] = '\0';
  }
  CHECK(server->tcp_url[0] != '\0');
}

static void Run(const Server* server, const char* http, const char* redis) {
  const char* words[20] = {FLINT_SERVER,   "--data-dir", server->data.text, "--bind",      http,
                           "--redis-bind", redis,        "--redis-bind",    "127.0.0.1:0", "--sync",
                           "batch"};
  const ServerOptions* const options = &server->options;
  const char* const more[] = {"--tls-cert", options->certificate, "--tls-key",
                              options->key, "--tls-client-ca",    options->client_authority};
  size_t count = 11;
  for (size_t i = 0; i < sizeof(more) / sizeof(*more); i += 2) {
    if (more[i + 1] == NULL) continue;
    words[count++] = more[i];
    words[count++] = more[i + 1];
  }
  unsetenv("FLINT_SERVER_TOKEN");
  if (options->token != NULL) setenv("FLINT_SERVER_TOKEN", options->token, 1);
  execv(FLINT_SERVER, (char* const*)words);
  _exit(127);
}

void RestartServer(Server* server) {
  char http[600];
  char redis[600];
  int ends[2];
  snprintf(redis, sizeof(redis), "unix:%.400s.s", server->data.text);
  snprintf(http, sizeof(http), "unix:%.400s.h", server->data.text);
  snprintf(server->unix_url, sizeof(server->unix_url), "%s", redis);
  CHECK(pipe(ends) == 0);
  fflush(NULL);
  server->process = fork();
  if (server->process == 0) {
    dup2(ends[1], 1);
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(126);
    close(ends[0]);
    close(ends[1]);
    Run(server, http, redis);
  }
  close(ends[1]);
  FILE* const output = fdopen(ends[0], "r");
  ReadUrls(server, output);
  fclose(output);
}

Server StartServerWith(const ServerOptions* options) {
  Server server;
  server.options = *options;
  server.data = NewPath();
  RestartServer(&server);
  return server;
}

Server StartServer(void) {
  const ServerOptions none = {NULL, NULL, NULL, NULL};
  return StartServerWith(&none);
}

void EndServer(const Server* server, int signal_number) {
  int status = 0;
  kill(server->process, signal_number);
  CHECK(waitpid(server->process, &status, 0) == server->process);
}

int32_t ConnectWith(const char* url, const flint_limiter_connect_options* options,
                    flint_limiter** limiter) {
  return flint_limiter_connect(url, strlen(url), options, limiter, NewError());
}

flint_limiter_connect_options ConnectOptions(const char* token, uint64_t timeout_ns) {
  flint_limiter_connect_options options;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.timeout_ns = timeout_ns;
  options.token = token;
  options.token_bytes = token == NULL ? 0 : strlen(token);
  return options;
}

flint_limiter* Connect(const char* url) {
  flint_limiter* limiter = NULL;
  CHECK_OK(ConnectWith(url, NULL, &limiter));
  if (limiter == NULL) exit(1);
  return limiter;
}
