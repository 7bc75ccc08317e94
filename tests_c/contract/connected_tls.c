/* connected_tls.c - TLS between a limiter of flint_limiter_connect and the real server. */

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server.h"
#include "support.h"

#define HERE "IP:127.0.0.1,DNS:localhost"

/* ---- Certificates ---------------------------------------------------------------------------- */

typedef struct Pair {
  Path certificate;
  Path key;
} Pair;

static void Shell(const char* format, ...) {
  char command[3000];
  va_list arguments;
  va_start(arguments, format);
  const int bytes = vsnprintf(command, sizeof(command), format, arguments);
  va_end(arguments);
  CHECK(bytes > 0 && bytes < (int)sizeof(command));
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", command, (char*)NULL);
    _exit(127);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static Pair NewPair(void) {
  const Path path = NewPath();
  Pair pair;
  snprintf(pair.certificate.text, sizeof(pair.certificate.text), "%.500s.pem", path.text);
  snprintf(pair.key.text, sizeof(pair.key.text), "%.500s.key", path.text);
  return pair;
}

#define NEW_KEY "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"

static Pair NewAuthority(void) {
  const Pair pair = NewPair();
  Shell("openssl req -x509 " NEW_KEY " -keyout %s -out %s -subj /CN=authority -days 2 2>/dev/null",
        pair.key.text, pair.certificate.text);
  return pair;
}

static Pair Issue(const Pair* authority, const char* names, int days) {
  const Pair pair = NewPair();
  const Path request = NewPath();
  const Path extensions = NewPath();
  char text[200];
  snprintf(text, sizeof(text), "subjectAltName=%s\n", names);
  WriteFile(&extensions, text);
  Shell("openssl req " NEW_KEY " -keyout %s -out %s -subj /CN=one 2>/dev/null", pair.key.text,
        request.text);
  Shell(
      "openssl x509 -req -in %s -CA %s -CAkey %s -CAcreateserial -extfile %s -days %d -out %s "
      "2>/dev/null",
      request.text, authority->certificate.text, authority->key.text, extensions.text, days,
      pair.certificate.text);
  return pair;
}

/* ---- Servers and clients --------------------------------------------------------------------- */

static Server StartWith(const Pair* pair, const Pair* client_authority) {
  const ServerOptions options = {
      NULL, pair->certificate.text, pair->key.text,
      client_authority == NULL ? NULL : client_authority->certificate.text};
  return StartServerWith(&options);
}

static flint_limiter_connect_options Trusting(const Pair* authority) {
  flint_limiter_connect_options options = ConnectOptions(NULL, 0);
  options.tls_ca_file = authority->certificate.text;
  options.tls_ca_file_bytes = strlen(authority->certificate.text);
  return options;
}

static void Show(const Pair* pair, flint_limiter_connect_options* options) {
  options->tls_cert_file = pair->certificate.text;
  options->tls_cert_file_bytes = strlen(pair->certificate.text);
  options->tls_key_file = pair->key.text;
  options->tls_key_file_bytes = strlen(pair->key.text);
}

/* A server, who signs for it, and a limiter that it keeps. */
typedef struct Encrypted {
  Pair authority;
  Pair pair;
  Server server;
  flint_limiter* limiter;
} Encrypted;

static void OpenEncrypted(Encrypted* all, uint64_t timeout_ns) {
  all->authority = NewAuthority();
  all->pair = Issue(&all->authority, HERE, 2);
  all->server = StartWith(&all->pair, NULL);
  CHECK(strncmp(all->server.tcp_url, "flints://", 9) == 0);
  flint_limiter_connect_options options = Trusting(&all->authority);
  options.timeout_ns = timeout_ns;
  all->limiter = NULL;
  CHECK_OK(ConnectWith(all->server.tcp_url, &options, &all->limiter));
  if (all->limiter == NULL) exit(1);
  CHECK_OK(Configure(all->limiter, Config("key", 1000, YEAR)));
}

static void CloseEncrypted(Encrypted* all) {
  Close(all->limiter);
  EndServer(&all->server, SIGTERM);
}

/* ---- What is trusted ------------------------------------------------------------------------- */

/* Requests and answers of many records. */
static void TlsCarriesLongCalls(void) {
  enum { KEYS = 200, KEY_BYTES = 700 };
  static char keys[KEYS][KEY_BYTES + 1];
  flint_limiter_config configs[KEYS];
  Encrypted all;
  OpenEncrypted(&all, 0);
  for (int i = 0; i < KEYS; ++i) {
    const int number_bytes = snprintf(keys[i], sizeof(keys[i]), "%04d:", i);
    memset(keys[i] + number_bytes, 'k', KEY_BYTES - (size_t)number_bytes);
    configs[i] = Config(keys[i], 5, YEAR);
  }
  CHECK_OK(flint_limiter_limit_many(all.limiter, configs, KEYS, sizeof(configs[0]), 0, NULL,
                                    NewError()));
  flint_limiter_status_info page[KEYS + 1];
  PrepareEntries(page, KEYS + 1);
  uint64_t count = 0;
  static char text[(KEYS + 1) * (KEY_BYTES + 256)];
  CHECK_OK(flint_limiter_list(all.limiter, NULL, 0, 0, 0, page, KEYS + 1, sizeof(page[0]), text,
                              sizeof(text), &count, NewError()));
  CHECK(count == KEYS + 1 && HasKey(&page[7], keys[7]));
  CHECK(Decide(all.limiter, keys[199], 2).remaining == 3);
  CloseEncrypted(&all);
}

static void TlsTrusts(void) {
  const Pair authority = NewAuthority();
  const Pair pair = Issue(&authority, HERE, 2);
  const Server server = StartWith(&pair, NULL);
  const char* const port = strrchr(server.tcp_url, ':') + 1;
  char by_name[64];
  flint_limiter* limiter = NULL;
  flint_limiter_connect_options options = Trusting(&authority);
  snprintf(by_name, sizeof(by_name), "flints://localhost:%s", port);
  CHECK_OK(ConnectWith(by_name, &options, &limiter));
  CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
  CHECK(Decide(limiter, "key", 2).remaining == 3);
  Close(limiter);
  setenv("SSL_CERT_FILE", authority.certificate.text, 1); /* what the system trusts */
  limiter = Connect(server.tcp_url);
  CHECK(Decide(limiter, "key", 1).remaining == 2);
  Close(limiter);
  unsetenv("SSL_CERT_FILE");
  CHECK_FAILS(IO, "not trusted", ConnectWith(server.tcp_url, NULL, &limiter));
  const Pair other = NewAuthority();
  options = Trusting(&other);
  CHECK_FAILS(IO, "not trusted", ConnectWith(server.tcp_url, &options, &limiter));
  CHECK(limiter == NULL);
  options.lazy = 1;
  CHECK_OK(ConnectWith(server.tcp_url, &options, &limiter));
  CHECK_CODE(IO, TryCheck(limiter, "key", 1, 0));
  CHECK(strstr(last_error.message, "not trusted") != NULL);
  CHECK(strstr(last_error.message, "unknown") == NULL);
  Close(limiter);
  EndServer(&server, SIGTERM);
}

static void RefuseCertificate(const char* names, int days, const char* part) {
  const Pair authority = NewAuthority();
  const Pair pair = Issue(&authority, names, days);
  const Server server = StartWith(&pair, NULL);
  const flint_limiter_connect_options options = Trusting(&authority);
  flint_limiter* limiter = NULL;
  CHECK_FAILS(IO, part, ConnectWith(server.tcp_url, &options, &limiter));
  EndServer(&server, SIGTERM);
}

static void TlsRefusesCertificates(void) {
  RefuseCertificate("DNS:localhost", 2, "IP address mismatch");
  RefuseCertificate("DNS:other.example,IP:127.0.0.2", 2, "IP address mismatch");
  RefuseCertificate(HERE, -1, "expired");
}

static void TlsShowsCertificates(void) {
  const Pair authority = NewAuthority();
  const Pair others = NewAuthority();
  const Pair pair = Issue(&authority, HERE, 2);
  const Pair known = Issue(&authority, "DNS:client", 2);
  const Pair stranger = Issue(&others, "DNS:client", 2);
  const Server server = StartWith(&pair, &authority);
  flint_limiter* limiter = NULL;
  flint_limiter_connect_options options = Trusting(&authority);
  CHECK_FAILS(IO, "certificate required", ConnectWith(server.tcp_url, &options, &limiter));
  Show(&stranger, &options);
  CHECK_FAILS(IO, "unknown ca", ConnectWith(server.tcp_url, &options, &limiter));
  Show(&known, &options);
  CHECK_OK(ConnectWith(server.tcp_url, &options, &limiter));
  CHECK_OK(Configure(limiter, Config("key", 5, YEAR)));
  Close(limiter);
  const Path both = NewPath(); /* the certificate and its key */
  Shell("cat %s %s >%s", known.certificate.text, known.key.text, both.text);
  options.tls_cert_file = both.text;
  options.tls_cert_file_bytes = strlen(both.text);
  options.tls_key_file_bytes = 0;
  CHECK_OK(ConnectWith(server.tcp_url, &options, &limiter));
  CHECK(Decide(limiter, "key", 1).remaining == 4);
  Close(limiter);
  EndServer(&server, SIGTERM);
}

/* ---- What is refused ------------------------------------------------------------------------- */

static void TlsMeetsNoTls(void) {
  const Pair authority = NewAuthority();
  const Pair pair = Issue(&authority, HERE, 2);
  const Server plain = StartServer();
  const Server encrypted = StartWith(&pair, NULL);
  const flint_limiter_connect_options options = Trusting(&authority);
  flint_limiter* limiter = NULL;
  char url[sizeof(plain.tcp_url) + 1];  // for one letter more
  snprintf(url, sizeof(url), "flints://%s", plain.tcp_url + strlen("flint://"));
  CHECK_FAILS(IO, "does not speak TLS", ConnectWith(url, &options, &limiter));
  snprintf(url, sizeof(url), "flint://%s", encrypted.tcp_url + strlen("flints://"));
  CHECK_FAILS(IO, "if it speaks TLS, ask it by flints://", ConnectWith(url, NULL, &limiter));
  EndServer(&plain, SIGTERM);
  EndServer(&encrypted, SIGTERM);
}

static void TlsOptionsRefused(void) {
  const char* const url = "flints://127.0.0.1:1";
  const Pair authority = NewAuthority();
  const Pair other = NewAuthority();
  const Pair nowhere = NewPair();
  flint_limiter* limiter = NULL;
  flint_limiter_connect_options options = Trusting(&nowhere);
  options.lazy = 1; /* files are read all the same */
  CHECK_INVALID("No such file", ConnectWith(url, &options, &limiter));
  CHECK(strstr(last_error.message, "tls_ca_file") != NULL);
  CHECK_INVALID("are for flints://", ConnectWith("flint://127.0.0.1:1", &options, &limiter));
  options = Trusting(&authority);
  options.tls_ca_file = authority.key.text;
  options.tls_ca_file_bytes = strlen(authority.key.text);
  CHECK_INVALID("tls_ca_file", ConnectWith(url, &options, &limiter));
  options = Trusting(&authority);
  Show(&other, &options);
  options.tls_key_file = authority.key.text;
  CHECK_INVALID("key values mismatch", ConnectWith(url, &options, &limiter));
  options.tls_cert_file_bytes = 0;
  CHECK_INVALID("without options.tls_cert_file", ConnectWith(url, &options, &limiter));
  options.tls_key_file = NULL;
  CHECK_INVALID("tls_key_file is NULL", ConnectWith(url, &options, &limiter));
  options = Trusting(&authority);
  options.tls_ca_file = "a\0b";
  options.tls_ca_file_bytes = 3;
  CHECK_INVALID("tls_ca_file has a zero byte", ConnectWith(url, &options, &limiter));
  CHECK(limiter == NULL);
  options = Trusting(&authority);
  CHECK_FAILS(IO, "cannot connect to flints://127.0.0.1:1", ConnectWith(url, &options, &limiter));
}

/* ---- A server that fails, threads and children ----------------------------------------------- */

static void TlsServerStops(void) {
  Encrypted all;
  OpenEncrypted(&all, SECOND / 4);
  kill(all.server.process, SIGSTOP);
  CHECK_CODE(TIMEOUT, TryCheck(all.limiter, "key", 1, 0));
  CHECK(strstr(last_error.message, "whether the call took effect is unknown") != NULL);
  CHECK_CODE(TIMEOUT, TryCheck(all.limiter, "key", 1, 0)); /* on a new connection */
  CHECK(strstr(last_error.message, "unknown") == NULL);    /* TLS was not agreed on */
  kill(all.server.process, SIGCONT);
  CloseEncrypted(&all);
}

static void TlsServerDies(void) {
  Encrypted all;
  OpenEncrypted(&all, 0);
  EndServer(&all.server, SIGKILL);
  CHECK_CODE(IO, TryCheck(all.limiter, "key", 1, 0));
  Close(all.limiter);
}

static void TlsShutdownEndsCalls(void) {
  Encrypted all;
  Caller caller;
  OpenEncrypted(&all, 0);
  memset(&caller, 0, sizeof(caller));
  caller.limiter = all.limiter;
  caller.call = CallCheck;
  kill(all.server.process, SIGSTOP);
  Start(&caller);
  SleepMs(50);
  CHECK_OK(flint_limiter_shutdown(all.limiter, NewError()));
  CHECK(Join(&caller) == FLINT_LIMITER_CLOSED);
  kill(all.server.process, SIGCONT);
  CloseEncrypted(&all);
}

enum { FORKS = 10, CHILD_CALLS = 5, THREAD_CALLS = 200 };

static int32_t CheckOften(flint_limiter* limiter, flint_limiter_error* error) {
  int32_t code = FLINT_LIMITER_OK;
  for (int i = 0; i < THREAD_CALLS && code == FLINT_LIMITER_OK; ++i) {
    code = CallCheck(limiter, error);
  }
  return code;
}

static void DecideInChild(void* argument) {
  flint_limiter* limiter = argument;
  for (int i = 0; i < CHILD_CALLS; ++i) CHECK(Decide(limiter, "key", 1).allowed == 1);
  Close(limiter);
}

static void TlsForks(void) {
  Encrypted all;
  Caller callers[2];
  OpenEncrypted(&all, 0);
  memset(callers, 0, sizeof(callers));
  for (int i = 0; i < 2; ++i) {
    callers[i].limiter = all.limiter;
    callers[i].call = CheckOften;
    Start(&callers[i]);
  }
  for (int i = 0; i < FORKS; ++i) RunInChild(DecideInChild, all.limiter);
  for (int i = 0; i < 2; ++i) CHECK(Join(&callers[i]) == FLINT_LIMITER_OK);
  CHECK(Decide(all.limiter, "key", 1).remaining ==
        1000 - FORKS * CHILD_CALLS - 2 * THREAD_CALLS - 1);
  CloseEncrypted(&all);
}

const Test connected_tls_tests[] = {
    TEST(TlsCarriesLongCalls),
    TEST(TlsTrusts),
    TEST(TlsRefusesCertificates),
    TEST(TlsShowsCertificates),
    TEST(TlsMeetsNoTls),
    TEST(TlsOptionsRefused),
    TEST(TlsServerStops),
    TEST(TlsServerDies),
    TEST(TlsShutdownEndsCalls),
    TEST(TlsForks),
    {NULL, NULL},
};
