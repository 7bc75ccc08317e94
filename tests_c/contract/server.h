/* server.h - the real server, and limiters that it keeps. */
#ifndef FLINT_CONTRACT_SERVER_H
#define FLINT_CONTRACT_SERVER_H

#include <sys/types.h>

#include "support.h"

/* NULL: none. */
typedef struct ServerOptions {
  const char* token;
  const char* certificate; /* with it and its key TCP speaks TLS */
  const char* key;
  const char* client_authority;
} ServerOptions;

typedef struct Server {
  pid_t process;
  ServerOptions options;
  Path data;
  char unix_url[600];
  char tcp_url[64];
} Server;

Server StartServer(void);
Server StartServerWith(const ServerOptions* options);
/* Another process, with the same data and at the same socket. */
void RestartServer(Server* server);
void EndServer(const Server* server, int signal_number);

int32_t ConnectWith(const char* url, const flint_limiter_connect_options* options,
                    flint_limiter** limiter);
flint_limiter_connect_options ConnectOptions(const char* token, uint64_t timeout_ns);
flint_limiter* Connect(const char* url);

#endif /* FLINT_CONTRACT_SERVER_H */
