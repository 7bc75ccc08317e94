/* flint_limiter.h - the C interface of Flint, a persistent rate limiter that lives inside the
 * program that uses it.
 *
 * What Flint is not for: one limit shared by several machines (use a server that they all reach,
 * and flint_limiter_connect), several processes writing one data directory at the same time (the
 * second open fails with FLINT_LIMITER_LOCKED, unless both have flint_limiter_options.shared), and
 * counting that may be forgotten at exit (":memory:" does that, but any counter does too).
 *
 * Conventions
 *  1. Functions return a status code, FLINT_LIMITER_OK (0) or one of the codes below. A denial is
 *     a result, not an error. Released values never change meaning.
 *  2. Strings are a pointer and a length in bytes; they need no terminating zero and may contain
 *     one. Flint keeps no pointer after a call returns.
 *  3. Keys are 1 to 65,535 bytes of UTF-8 and not all white space.
 *  4. Structures start with `struct_size`, which the caller sets to sizeof the structure it was
 *     compiled with; Flint neither reads nor writes beyond it, so they can grow. Arrays are passed
 *     with a stride, a multiple of 8, for the same reason. Fill a structure with zeros before
 *     setting its fields. A structure, or a stride, that is smaller than in its first version is
 * refused with INVALID_ARGUMENT. Fields that a caller does not know count as zero, and are not
 *     filled. Fields that Flint does not know are ignored, and left alone: a program that needs a
 *     field of a later version than it was given asks flint_limiter_version first.
 *  5. Quantities (rate, burst, cost, per_ns) are 1 to 2^62, and a cost is at most the burst. What
 *     lies outside is refused with FLINT_LIMITER_INVALID_ARGUMENT before anything is written.
 *  6. Times end in `_ns` and are nanoseconds; points in time count from 1970-01-01 UTC.
 *  7. Every function but flint_limiter_close may be called from any thread at any time.
 *     flint_limiter_close must be the last call on a handle.
 *  8. `error` may be NULL; otherwise it is filled when the function does not return OK, and left
 *     alone when it does.
 *  9. After fork() a child can use its parent's limiter for nothing: every call returns
 *     FLINT_LIMITER_FORKED, and flint_limiter_close only nulls the handle. A limiter that is shared
 *     goes on in the child, which asks its parent; so does one of flint_limiter_connect, which asks
 *     the server.
 * 10. There are no callbacks but the clock.
 *
 * 11. On a limiter that was opened for reading only, what would change something returns READ_ONLY.
 *
 * What says nothing else exists since version 1.0.
 */
#ifndef FLINT_LIMITER_H
#define FLINT_LIMITER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(FLINT_LIMITER_BUILD)
#define FLINT_LIMITER_API __attribute__((visibility("default")))
#else
#define FLINT_LIMITER_API
#endif

/* ---- Status codes -------------------------------------------------------------------------- */

#define FLINT_LIMITER_OK 0
#define FLINT_LIMITER_INVALID_ARGUMENT 1 /* the message names it, its value and what is allowed */
#define FLINT_LIMITER_NOT_CONFIGURED 2   /* no limit or template covers the key */
#define FLINT_LIMITER_LOCKED 3           /* another limiter has the directory open */
#define FLINT_LIMITER_PERMISSION 4       /* the system refuses access to a file */
#define FLINT_LIMITER_UNSUPPORTED 5      /* the file system cannot lock, or the format is newer */
#define FLINT_LIMITER_IO 6               /* the system reports an error for a file */
#define FLINT_LIMITER_DISK_FULL 7        /* no room to record it, so it has not happened */
#define FLINT_LIMITER_CORRUPTION 8       /* the directory is damaged; see the error's position */
#define FLINT_LIMITER_CLOSED 9           /* flint_limiter_shutdown has been called */
#define FLINT_LIMITER_FORKED 10          /* the limiter belongs to the parent process */
#define FLINT_LIMITER_WOULD_BLOCK 11     /* NO_WAIT was given and the call would wait */
#define FLINT_LIMITER_TIMEOUT 12         /* the time given to wait is over */
#define FLINT_LIMITER_POISONED 13        /* an earlier write or sync failed; reads still work */
#define FLINT_LIMITER_NO_MEMORY 14       /* there is not enough memory for the call */
#define FLINT_LIMITER_INTERNAL 15        /* a defect of Flint; please report the message */
#define FLINT_LIMITER_HISTORY_GONE 16    /* the cursor lies before the history that is kept */
#define FLINT_LIMITER_TABLE_FULL 17      /* a new key, and max_keys of them are in use */
#define FLINT_LIMITER_READ_ONLY 18       /* the limiter was opened for reading only */
/* NO_WAIT was given, and another thread holds a lock for a moment: call again at once. Only with
 * flint_limiter_options.tell_busy, else WOULD_BLOCK stands for it. Since 1.1. */
#define FLINT_LIMITER_BUSY 19

/* ---- Other constants ----------------------------------------------------------------------- */

#define FLINT_LIMITER_TOKEN_BUCKET 1
#define FLINT_LIMITER_GCRA 2
#define FLINT_LIMITER_LEAKY_BUCKET 3
#define FLINT_LIMITER_FIXED_WINDOW_COUNTER 4
#define FLINT_LIMITER_SLIDING_WINDOW_LOG 5
#define FLINT_LIMITER_SLIDING_WINDOW_COUNTER 6

#define FLINT_LIMITER_SYNC_ALWAYS 0 /* admissions are on disk before they are answered */
#define FLINT_LIMITER_SYNC_BATCH 1  /* answered when they survive kill -9; synced soon after */

/* What a check is answered that cannot be decided, because of DISK_FULL, POISONED, IO, NO_MEMORY or
 * TABLE_FULL; the other two are counted in flint_limiter_info.undecided. */
#define FLINT_LIMITER_ON_ERROR_RAISE 0 /* the status code */
#define FLINT_LIMITER_ON_ERROR_ALLOW 1 /* OK, allowed and `undecided`; nothing is counted */
#define FLINT_LIMITER_ON_ERROR_DENY 2  /* OK, not allowed and `undecided`, to retry in 1 s */

/* What becomes of a key that is new when max_keys are in use. Those with nothing in use any more
 * are forgotten first in any case. */
#define FLINT_LIMITER_WHEN_FULL_REFUSE 0 /* TABLE_FULL */
#define FLINT_LIMITER_WHEN_FULL_EVICT 1  /* it takes the place of one that is nearly full again */

#define FLINT_LIMITER_MAPPED_AUTO 0  /* the ring is mapped, with a guard against SIGBUS */
#define FLINT_LIMITER_MAPPED_NEVER 1 /* it is written by system calls; no signal is handled */

/* How a check reads the time, where no clock is given: from the processor's counter, if that is
 * steady, never ahead of the system's clock and microseconds behind; or from the system, each time.
 * Since 1.1. */
#define FLINT_LIMITER_CLOCK_COUNTER 0
#define FLINT_LIMITER_CLOCK_SYSTEM 1

/* flint_limiter_info.role. Since 1.1. */
#define FLINT_LIMITER_ROLE_ALONE 0  /* the directory is not shared */
#define FLINT_LIMITER_ROLE_OWNER 1  /* this process decides, and serves the others */
#define FLINT_LIMITER_ROLE_CLIENT 2 /* another process does */

#define FLINT_LIMITER_KIND_EXACT 0    /* one key */
#define FLINT_LIMITER_KIND_TEMPLATE 1 /* every key that starts with a prefix */
#define FLINT_LIMITER_KIND_COUNTER 2  /* in listings: a key's own counter under a template */
#define FLINT_LIMITER_KIND_INLINE 3   /* in listings: configured by a check, forgotten when fresh */

/* Flags. NO_WAIT stands for every wait: for a lock, for room in the log, for the disk. The answer
 * is WOULD_BLOCK then (or BUSY), and nothing has changed. */
#define FLINT_LIMITER_NO_WAIT 1
/* Return before the change is on disk, with its ticket. Its sync starts when somebody waits for it,
 * here or by flint_limiter_wait, and at the latest after flush_every_ms. */
#define FLINT_LIMITER_NO_SYNC 2
#define FLINT_LIMITER_DECISION_ONLY 4 /* fill only `allowed`, `undecided` and `ticket` */
#define FLINT_LIMITER_IF_ABSENT 8     /* configure only keys that have no limit yet */
#define FLINT_LIMITER_ALL_COUNTERS 16 /* list and top: include the counters under templates */
/* Deny, and record that, whatever the limit says: for a caller who waited in a line of your own and
 * gives up. flint_limiter_check only. */
#define FLINT_LIMITER_REFUSE 32
/* An inline limit that has other values than those that come with the call takes these, and what
 * has been used counts on. That is recorded, so places that ask for one key with different values
 * make the log grow. A denial that comes with such a change is answered when the change is on disk,
 * in always mode. Without this flag an inline limit keeps its values until it is forgotten. Only
 * with an `inline_config`; a peek tells what would be, and changes nothing. Since 1.1. */
#define FLINT_LIMITER_UPDATE 64

/* Of flint_limiter_config.flags: to the keys of this limit or template those of shorter templates
 * apply too, each by its name. Since 1.1. */
#define FLINT_LIMITER_STACK 1

#define FLINT_LIMITER_BY_DENIED 0
#define FLINT_LIMITER_BY_ALLOWED 1
#define FLINT_LIMITER_BY_DENIED_COST 2
#define FLINT_LIMITER_BY_ALLOWED_COST 3

/* Bits of flint_limiter_info.warnings. The first three are what opening a directory of Flint 0.1 or
 * 0.2 met. */
#define FLINT_LIMITER_WARNING_CLAMPED 1 /* limits or costs beyond today's bounds */
/* The log was shorter than the snapshot said, as a crash in that version's compaction leaves it; it
 * was replayed from its start. */
#define FLINT_LIMITER_WARNING_SNAPSHOT_AHEAD 2
#define FLINT_LIMITER_WARNING_TORN_LEGACY 4 /* an unfinished last line was left out */
/* A SIGBUS handler has been installed since the ring was mapped and stands in the guard's place: a
 * ring that is cut short may now end the process. Install it before, or use mapped. Since 1.1. */
#define FLINT_LIMITER_WARNING_GUARD_REPLACED 8
/* Opening a directory of Flint 0.1 or 0.2: what was recorded of keys that are empty or longer than
 * 65,535 bytes was left out; it stays in flint.aof.v0 and flint.snapshot.v0. Since 1.1. */
#define FLINT_LIMITER_WARNING_LEFT_OUT 16

/* Types of flint_limiter_event. */
#define FLINT_LIMITER_EVENT_LIMIT_CONFIGURED 5
#define FLINT_LIMITER_EVENT_LIMIT_REMOVED 6
#define FLINT_LIMITER_EVENT_ALLOW 8
#define FLINT_LIMITER_EVENT_ALLOW_ALL 9
#define FLINT_LIMITER_EVENT_DENY 10
#define FLINT_LIMITER_EVENT_RESET 11

#define FLINT_LIMITER_NEWEST_FIRST 1 /* a flag of flint_limiter_history_query */

#define FLINT_LIMITER_MAX_KEY_BYTES 65535
#define FLINT_LIMITER_MAX_NAME_BYTES 255     /* of a limit's name; since 1.1 */
#define FLINT_LIMITER_MAX_LIMITS_OF_KEY 16   /* that decide together; since 1.1 */
#define FLINT_LIMITER_MAX_CURSOR_BYTES 66048 /* of flint_limiter_list_page; since 1.1 */
#define FLINT_LIMITER_MAX_ITEMS 1024         /* of one flint_limiter_check_all or _check_many */
#define FLINT_LIMITER_MIN_TEXT_BYTES 65536   /* of the text buffer of list and top */

/* ---- Structures ---------------------------------------------------------------------------- */

typedef struct flint_limiter flint_limiter; /* opaque */

/* What went wrong. `segment`, `offset` and `sequence` are set for FLINT_LIMITER_CORRUPTION and for
 * an UNSUPPORTED that was met inside a file. */
typedef struct flint_limiter_error {
  uint32_t struct_size;
  int32_t code;
  int32_t system_errno; /* 0 when the system had no part in it */
  uint32_t reserved;
  uint64_t offset;
  uint64_t sequence;
  char segment[64];   /* file name, zero-terminated */
  char message[1024]; /* UTF-8 unless it shows a path that is not; zero-terminated, cut at a
                         character if it must be */
} flint_limiter_error;

/* A clock: nanoseconds since 1970, 0 to 2^62. It stands for the wall clock and the boot clock, may
 * run on any thread under Flint's locks, and must neither block nor call Flint. */
typedef int64_t (*flint_limiter_clock)(void* argument);

/* How to open. All zeros are the defaults. */
typedef struct flint_limiter_options {
  uint32_t struct_size;
  uint32_t sync;               /* FLINT_LIMITER_SYNC_ALWAYS or _BATCH */
  uint64_t flush_every_events; /* batch: a sync starts after so many; 1 to 2^32, 0 means 100 */
  uint64_t flush_every_ms;     /* and at the latest after this; 1 to 3,600,000, 0 means 100 */
  uint64_t segment_bytes;      /* largest log segment; 256 KiB to 1 GiB, 0 means 8 MiB in always
                                  mode and 64 MiB in batch mode */
  uint64_t ring_bytes;         /* 256 KiB to 64 MiB, a power of two, 0 means 1 MiB */
  flint_limiter_clock clock;   /* NULL means the system's clocks */
  void* clock_argument;
  uint64_t max_unsynced_events; /* batch: with so many records not on disk an admission waits;
                                   0: no bound. Then no more admissions and changes can be
                                   lost with the power; denials do not wait */
  uint64_t max_downtime_ns;     /* the most time that passes for the limits while the directory is
                                   not open; 0: however long that was */
  uint64_t history_max_bytes;   /* of segments kept for history alone, in at most 256 files more
                                   than full ones would take; 0 means 256 MiB, 1 none */
  uint64_t history_max_age_ns;  /* and their age; 0: however old */
  uint64_t max_keys;            /* counters under templates and inline limits; 0: no bound */
  uint32_t when_full;           /* FLINT_LIMITER_WHEN_FULL_... */
  uint32_t on_error;            /* FLINT_LIMITER_ON_ERROR_... */
  uint32_t mapped;              /* FLINT_LIMITER_MAPPED_... */
  uint32_t sync_denials;        /* 1: in always mode a denial too is answered when it is on disk */
  /* Since 1.1. */
  uint32_t tell_busy;       /* 1: NO_WAIT answers BUSY where only another thread is in the way */
  uint32_t single_denials;  /* 1: each denial is a record of its own, as long as the log has room
                               for it at once; 0: of one key's denials between two syncs, those
                               behind the first 16 are one record */
  uint64_t lock_timeout_ns; /* how long to wait for a directory that another limiter has open, at
                               most 2^62; 0: not at all, or if it is shared 10 s: how long a call
                               looks for an owner */
  uint32_t file_mode;    /* permission bits of each file that is made from now on, 0600 to 0666 with
                            0600 in it, whatever the umask; 0 means 0600. A directory that is made
                            may be entered by whoever may read its files */
  uint32_t group_plus_1; /* 1 + the id of the group that they are given to; 0: the process's own */
  /* The most of the log that an opening may have to replay; 1 MiB to 2^62, 0 means 1 GiB, and at
   * least four segments count. It is looked at when a segment is full. With so much behind the
   * snapshot, admissions and changes wait for a compaction (NO_WAIT: WOULD_BLOCK) and denials are
   * answered as ever. When it cannot be compacted they fail as the compaction did, with
   * DISK_FULL, IO or NO_MEMORY; what could not be recorded has not happened then. */
  uint64_t max_replay_bytes;
  uint32_t clock_source; /* FLINT_LIMITER_CLOCK_...; nothing to a `clock` that is given */
  /* 1: processes of one user, on one machine and with one version of Flint, may have the directory
   * open together. Whoever gets its lock owns it, decides as ever, and serves the others by the
   * socket flint.sock in the directory; they are its clients, and any of them takes over when it is
   * gone. What a client's calls are is said with flint_limiter_open. */
  uint32_t shared;
  /* Of a client: how long the owner may say nothing before a call fails with TIMEOUT, or on_error
   * answers; at most 2^62, 0 means 1 s. An owner that waits for the disk says so. */
  uint64_t answer_timeout_ns;
} flint_limiter_options;

/* How to ask a server. All zeros are the defaults. Since 1.1. */
typedef struct flint_limiter_connect_options {
  uint32_t struct_size;
  uint32_t lazy;        /* 1: the server is looked for by the first call, not by connecting */
  uint64_t timeout_ns;  /* the most that each call takes, to connect and be answered; 1 ns to a day,
                           0 means 10 s. Looking a host's name up is the system's and has its own */
  const char* token;    /* the server's secret; up to 4,096 visible characters of ASCII */
  uint64_t token_bytes; /* 0: none is said */
  /* Of flints:// alone. Paths of files in PEM, which are read by connecting and not again. What
   * Python's ssl module calls cafile, certfile and keyfile. */
  const char* tls_ca_file;      /* whose certificates are trusted */
  uint64_t tls_ca_file_bytes;   /* 0: those that the system trusts */
  const char* tls_cert_file;    /* shown to a server that asks for it, with those behind it */
  uint64_t tls_cert_file_bytes; /* 0: none */
  const char* tls_key_file;     /* its key, without a password */
  uint64_t tls_key_file_bytes;  /* 0: it is in tls_cert_file */
} flint_limiter_connect_options;

/* A limit. `key` is the prefix (which may be empty) when `kind` is TEMPLATE. A key, and a prefix,
 * may have up to 16 limits, which are told apart by their names; one of them may have none. They
 * decide together: a check of the key is admitted when all of them admit it, and counts in all of
 * them or in none. */
typedef struct flint_limiter_config {
  uint32_t struct_size;
  uint32_t kind;      /* FLINT_LIMITER_KIND_EXACT or _TEMPLATE; ignored inline */
  const char* key;    /* ignored inline */
  uint64_t key_bytes; /* ignored inline */
  uint64_t rate;
  uint64_t per_ns;
  uint64_t burst;     /* 0 means rate; the window algorithms allow nothing else */
  uint32_t algorithm; /* FLINT_LIMITER_TOKEN_BUCKET ... */
  uint32_t reserved;
  const char* name;    /* up to 255 bytes of UTF-8; ignored inline; since 1.1, as what follows */
  uint64_t name_bytes; /* 0: the limit without a name */
  uint32_t flags;      /* FLINT_LIMITER_STACK or 0; ignored inline */
  uint32_t reserved_2;
} flint_limiter_config;

/* A decision. Of several limits of a key the numbers are those of one: when it is denied, of the
 * denying ones that which will deny longest; otherwise that which has the least left. */
typedef struct flint_limiter_result {
  uint32_t struct_size;
  uint32_t allowed; /* 1 or 0 */
  uint32_t algorithm;
  uint32_t undecided; /* 1: on_error has answered */
  uint64_t cost;
  uint64_t limit;          /* burst of the buckets, rate of the windows */
  uint64_t remaining;      /* whole units that would still be admitted */
  int64_t reset_at_ns;     /* when the limit is full again (windows: see the algorithm) */
  uint64_t reset_after_ns; /* the same, from now; rounded up */
  uint64_t retry_after_ns; /* until this cost would be admitted; 0 when it is; rounded up */
  uint64_t ticket;         /* for flint_limiter_wait: durable when that returns OK */
  uint32_t limit_count;    /* of the key; 0: one, and that has no name; since 1.1 */
  uint32_t limit_index;    /* whose the numbers are; in the order of flint_limiter_check_limits */
} flint_limiter_result;

/* What one limit of a key says, when several decide together or it has a name. Since 1.1. */
typedef struct flint_limiter_limit_result {
  uint32_t struct_size;
  uint32_t allowed; /* 1: as far as this limit goes, it may be admitted */
  uint32_t algorithm;
  uint32_t name_bytes; /* 0: the limit without a name */
  uint64_t limit;
  uint64_t remaining;
  int64_t reset_at_ns;
  uint64_t reset_after_ns;
  uint64_t retry_after_ns;
  char name[256]; /* zero-terminated */
} flint_limiter_limit_result;

/* One of the checks that flint_limiter_check_all makes together. */
typedef struct flint_limiter_item {
  uint32_t struct_size;
  uint32_t reserved;
  const char* key;
  uint64_t key_bytes;
  uint64_t cost;
} flint_limiter_item;

/* A limit and what has happened to it. A template's totals and stamps include all its counters'.
 * Stamps are 0 when the thing has never happened. */
typedef struct flint_limiter_status_info {
  uint32_t struct_size;
  uint32_t kind;
  const char* key; /* list and top: in the caller's text buffer; status: NULL */
  uint64_t key_bytes;
  uint64_t rate;
  uint64_t per_ns;
  uint64_t burst;
  uint32_t algorithm;
  uint32_t reserved;
  uint64_t remaining; /* a template: its burst */
  int64_t reset_at_ns;
  uint64_t total_allowed;
  uint64_t total_denied;
  uint64_t total_allowed_cost;
  uint64_t total_denied_cost;
  int64_t last_allowed_at_ns;
  int64_t last_denied_at_ns;
  int64_t last_reset_at_ns;
  uint64_t counters;   /* a template: how many counters it has now; otherwise 0 */
  const char* name;    /* list and top: in the text buffer, behind its key; status: NULL; since 1.1,
                          as what follows */
  uint64_t name_bytes; /* 0: a limit without a name */
  uint32_t flags;      /* FLINT_LIMITER_STACK or 0 */
  uint32_t reserved_2;
} flint_limiter_status_info;

/* What opening found and what the log holds now. */
typedef struct flint_limiter_info {
  uint32_t struct_size;
  uint32_t sync;
  uint64_t recovered_records;      /* replayed from the log when it was opened */
  uint64_t recovered_ring_records; /* of these, found only in the ring: a process had died */
  uint64_t torn_bytes;             /* cut from the log's end when it was opened, kept aside */
  uint64_t snapshot_limits;        /* read from the snapshot when it was opened */
  uint64_t limits;                 /* exact and inline limits and templates now */
  uint64_t counters;               /* counters under templates now */
  uint64_t log_bytes;              /* in segments now, headers included */
  uint64_t segments;
  uint64_t snapshot_bytes; /* 0: there is none */
  uint64_t sequence;       /* of the last record */
  uint64_t appended;       /* the newest ticket */
  uint64_t durable;        /* the newest ticket that is on disk */
  uint64_t syncs;          /* of the log since it was opened */
  uint64_t directory_mode; /* permission bits; 0 for ":memory:" */
  int64_t engine_time_ns;
  uint64_t converted_events; /* from a directory of Flint 0.1 or 0.2, when it was opened */
  uint64_t warnings;         /* FLINT_LIMITER_WARNING_... */
  uint64_t undecided;        /* checks that on_error answered, since it was opened */
  uint64_t evicted;          /* keys in use that made room for others, since it was opened */
  uint64_t compactions;      /* since it was opened */
  uint64_t compaction_failures;
  uint64_t compaction_done_bytes;  /* of the one that is running */
  uint64_t compaction_total_bytes; /* of the one that is running; 0: none is */
  uint64_t history_bytes;          /* in segments kept for history alone */
  uint64_t damaged_history;        /* such segments that could not be read when it was opened */
  uint64_t read_only;              /* 1: opened by flint_limiter_open_readonly */
  uint64_t compaction_failure;     /* FLINT_LIMITER_... of the last one; 0: it has succeeded */
  int64_t compaction_retry_at_ns;  /* wall clock: it is not tried again by itself before; 0: as soon
                                      as it is worth it */
  uint64_t history_failures;       /* to remove a segment that need not be kept; tried again */
  uint64_t unsynced_events;        /* records that are not on disk yet, at most */
  uint64_t since_sync_ns; /* since the log's last sync, or since it was opened; while the machine
                             sleeps this stands. 0 for ":memory:" and for reading only */
  uint64_t sync_time_ns;  /* that the system took for all `syncs` together */
  uint64_t poisoned;      /* 1: a write or sync has failed; admissions and changes are POISONED */
  uint64_t role;          /* FLINT_LIMITER_ROLE_... of this process; the rest is the owner's */
} flint_limiter_info;

/* What flint_limiter_doctor found. */
typedef struct flint_limiter_doctor_report {
  uint32_t struct_size;
  uint32_t snapshot_exists;  /* 1 or 0 */
  uint64_t limits;           /* exact and inline limits and templates */
  uint64_t counters;         /* under templates */
  uint64_t records;          /* in the log behind the snapshot */
  uint64_t ring_records;     /* of these, found only in the ring: a process died, or is writing */
  uint64_t history_events;   /* events in all segments */
  uint64_t segments;         /* of the log behind the snapshot */
  uint64_t history_segments; /* before it */
  uint64_t log_bytes;        /* in all segments */
  uint64_t snapshot_bytes;
  uint64_t seals;          /* whose SHA-256 was computed and compared */
  uint64_t torn_bytes;     /* that the next opening would cut from the end and keep aside */
  uint64_t directory_mode; /* permission bits */
} flint_limiter_doctor_report;

/* Which events flint_limiter_history returns. All zeros are all of them, oldest first. */
typedef struct flint_limiter_history_query {
  uint32_t struct_size;
  uint32_t flags; /* NEWEST_FIRST */
  uint32_t kind;  /* of the key: EXACT (any but a template's prefix) or TEMPLATE */
  uint32_t reserved;
  int64_t since_ns; /* wall clock, inclusive */
  int64_t until_ns; /* exclusive; 0 means without end */
  uint64_t cursor;  /* 0: the first page; then the `next_cursor` of the page before */
} flint_limiter_history_query;

/* Something that was recorded. Every item of an ALLOW_ALL is an event of its own; they share their
 * sequence number and stand together on one page. */
typedef struct flint_limiter_event {
  uint32_t struct_size;
  uint32_t type; /* FLINT_LIMITER_EVENT_... */
  uint64_t sequence;
  int64_t at_ns;       /* wall clock; of merged denials, the last's */
  int64_t first_at_ns; /* of merged denials, the first's */
  uint64_t count;      /* how many denials were merged; otherwise 1 */
  uint64_t cost;       /* of all of them; 0 for changes of limits */
  const char* key;     /* in the caller's text buffer */
  uint64_t key_bytes;
  uint32_t kind;      /* FLINT_LIMITER_KIND_... */
  uint32_t algorithm; /* of the key's limit, as the next three; LIMIT_REMOVED, RESET: 0 */
  uint64_t rate;
  uint64_t per_ns;
  uint64_t burst;
  uint32_t item_index; /* ALLOW_ALL: which of its item_count items; otherwise 0 of 1 */
  uint32_t item_count;
  const char* name;    /* of the limit, in the text buffer behind its key; since 1.1 */
  uint64_t name_bytes; /* 0: a limit without a name */
  /* Engine time is what limits are decided by: it never goes back, and its distances
   * are what replaying needs, where the wall clock was set meanwhile. */
  int64_t engine_ns;       /* as at_ns; since 1.1, as what follows */
  int64_t first_engine_ns; /* as first_at_ns */
  uint64_t prefix_bytes;   /* of the key, those of its template; 0 unless `kind` is COUNTER */
  uint32_t flags;          /* FLINT_LIMITER_STACK or 0, as `algorithm` */
  uint32_t reserved;       /* 0 */
} flint_limiter_event;

/* ---- Open and close ------------------------------------------------------------------------ */

/* Opens the data directory at `path`, creating it (mode 0700) and its parents if needed, and
 * recovers what an earlier process left. The path ":memory:" keeps everything in memory. `options`
 * may be NULL. On success `*limiter` must later be given to flint_limiter_close; otherwise it is
 * set to NULL. Errors: INVALID_ARGUMENT, LOCKED, PERMISSION, UNSUPPORTED, IO, DISK_FULL,
 * CORRUPTION, NO_MEMORY; with `shared` also TIMEOUT.
 *
 * With `shared`, and as a client: every call asks the owner, so each may wait; decisions and
 * changes with NO_WAIT always return WOULD_BLOCK. What is answered is as durable as the owner's
 * `sync` says, whatever NO_SYNC says: tickets are 0, flint_limiter_durable tells 0, and
 * flint_limiter_watch returns UNSUPPORTED. Every call may return TIMEOUT, and while nobody owns the
 * directory what opening it meets. One call takes at most 4 MiB; a page of a listing or of the
 * history holds at most 16,384 entries and 8 MiB of text. When the owner dies in the middle of a
 * call, the call is made again by who comes next: a check may then be counted twice. */
FLINT_LIMITER_API int32_t flint_limiter_open(const char* path, uint64_t path_bytes,
                                             const flint_limiter_options* options,
                                             flint_limiter** limiter, flint_limiter_error* error);

/* Opens a directory that another process may be writing, as it stands now: takes no lock and
 * creates, changes and deletes nothing. flint_limiter_status, _list, _top, _peek, _history (of what
 * has left the ring) and _get_info work; what would change something returns READ_ONLY. Time passes
 * for its limits as it does for the writer's. `options` may be NULL; its clock and max_downtime_ns
 * are used. Errors: INVALID_ARGUMENT, PERMISSION, UNSUPPORTED (also for a directory of Flint 0.1 or
 * 0.2, which opening for writing converts), IO (also where there is no directory, and for one that
 * has files but no log of Flint), CORRUPTION, NO_MEMORY. */
FLINT_LIMITER_API int32_t flint_limiter_open_readonly(const char* path, uint64_t path_bytes,
                                                      const flint_limiter_options* options,
                                                      flint_limiter** limiter,
                                                      flint_limiter_error* error);

/* A limiter that a Flint server keeps, asked by its port for the Redis protocol: `url` is
 * "flint://host:port" (without a port 7879), "flints://host:port" (the same in TLS 1.3 or 1.2),
 * "unix:path" or "flint+unix://path". All functions take it, with the answers and errors that they
 * have of a directory, and these differences:
 *  - Each call is a round trip. IO: the server cannot be reached, or ends the connection. TIMEOUT:
 *    it has not answered in time. Where the call may have taken effect the message says so; calls
 *    that cannot count twice are made once more when a kept connection has ended. PERMISSION: the
 *    token is wrong, or does not give the right. INTERNAL: what came is no answer. UNSUPPORTED: the
 *    server is older, or is not Flint's.
 *  - NO_WAIT always answers WOULD_BLOCK, but for compact. Tickets are 0: what is answered is as
 *    durable as the server's `sync` promises, and NO_SYNC changes nothing. flint_limiter_wait
 *    returns OK for it at once; flint_limiter_watch is UNSUPPORTED.
 *  - flint_limiter_limit_many sends 128 limits at a time, so when the server fails, those before
 *    may be configured. flint_limiter_check_many sends some 150 KB of keys at a time.
 *    flint_limiter_top finds 1,000 at most.
 *  - Any thread may call, each by a connection of its own; those that are idle are kept. A child
 *    after fork() goes on with connections of its own. shutdown ends the calls that wait.
 *  - With "flints://" the server's certificate must be one of an authority that is trusted, not
 *    expired, and for the host of the URL: else IO, and nothing is said to that server, not even
 *    the token. IO is also a port that speaks no TLS, or nothing else.
 * `options` may be NULL. Errors: INVALID_ARGUMENT (also a file of the options that cannot be used),
 * IO, TIMEOUT, PERMISSION, UNSUPPORTED, INTERNAL, NO_MEMORY. Since 1.1. */
FLINT_LIMITER_API int32_t flint_limiter_connect(const char* url, uint64_t url_bytes,
                                                const flint_limiter_connect_options* options,
                                                flint_limiter** limiter,
                                                flint_limiter_error* error);

/* Brings a limiter of flint_limiter_open_readonly up to what its directory holds now: reads what
 * has come since, or everything where the log goes on in another segment. On an error its state is
 * that of some moment in between. Errors: those of flint_limiter_open_readonly, CLOSED, FORKED;
 * INVALID_ARGUMENT for any other limiter. */
FLINT_LIMITER_API int32_t flint_limiter_refresh(flint_limiter* limiter, flint_limiter_error* error);

/* Verifies a data directory, which may be in use, without a lock and without writing: every record
 * against the chain, every seal's SHA-256, the snapshot's, that no segment is missing, and that the
 * records make sense. `report` is filled as far as it came in any case. Returns CORRUPTION for the
 * first damage, with its place in `error`; otherwise the directory is sound. Errors: as for
 * flint_limiter_open_readonly, and IO also for an empty directory. Takes time in proportion to the
 * files, and memory to the limits. */
FLINT_LIMITER_API int32_t flint_limiter_doctor(const char* path, uint64_t path_bytes,
                                               flint_limiter_doctor_report* report,
                                               flint_limiter_error* error);

/* Makes every later call return CLOSED and ends every call that is waiting: with CLOSED, or with OK
 * when what it waits for has come to be. Waits until no call is running; what was answered is on
 * disk when it returns OK. The handle must still be closed. */
FLINT_LIMITER_API int32_t flint_limiter_shutdown(flint_limiter* limiter,
                                                 flint_limiter_error* error);

/* Shuts down, unlocks the directory, frees the limiter and sets `*limiter` to NULL. Accepts NULL
 * and a pointer to NULL. Returns what flint_limiter_shutdown returned (OK if that had been called);
 * the limiter is freed in any case. */
FLINT_LIMITER_API int32_t flint_limiter_close(flint_limiter** limiter, flint_limiter_error* error);

/* ---- Limits -------------------------------------------------------------------------------- */

/* Configures a limit. With the values it has already, nothing changes and nothing is written. With
 * others, the change takes effect now and what was used (rounded up to whole units, at most the
 * new burst) counts as used now. A template gives every key under its prefix a counter of its own;
 * the longest matching prefix wins with all its templates, and the exact limits of a key win over
 * every template. Where a limit or template has the flag STACK, the templates of the next shorter
 * prefix apply to its keys too, but for names that are taken; and where one of these has it, so on.
 * `flags`: IF_ABSENT, NO_SYNC, NO_WAIT. `ticket` may be NULL; it is set to 0 when nothing was
 * written and what was found is on disk. Errors: INVALID_ARGUMENT, DISK_FULL, POISONED, CLOSED,
 * FORKED, WOULD_BLOCK, NO_MEMORY. */
FLINT_LIMITER_API int32_t flint_limiter_limit(flint_limiter* limiter,
                                              const flint_limiter_config* config, uint32_t flags,
                                              uint64_t* ticket, flint_limiter_error* error);

/* Configures `count` limits, `stride` bytes apart, with one wait for the disk. All are checked
 * before the first takes effect; a crash, or an error other than INVALID_ARGUMENT (WOULD_BLOCK
 * included), may keep the first of them only, in order. */
FLINT_LIMITER_API int32_t flint_limiter_limit_many(flint_limiter* limiter,
                                                   const flint_limiter_config* configs,
                                                   uint64_t count, uint64_t stride, uint32_t flags,
                                                   uint64_t* ticket, flint_limiter_error* error);

/* Deletes a limit; deleting a template deletes its counters. `kind` is EXACT (which also deletes
 * an inline limit or one counter under a template) or TEMPLATE. Errors: NOT_CONFIGURED and those
 * of flint_limiter_limit. `flags`: NO_SYNC, NO_WAIT. */
FLINT_LIMITER_API int32_t flint_limiter_remove(flint_limiter* limiter, const char* key,
                                               uint64_t key_bytes, uint32_t kind, uint32_t flags,
                                               uint64_t* ticket, flint_limiter_error* error);

/* The same for limits of one name: `name` of no bytes is the limit without a name, NULL (with 0
 * bytes) all of them, which is what flint_limiter_remove removes. A crash may keep some of several.
 * Since 1.1. */
FLINT_LIMITER_API int32_t flint_limiter_remove_named(flint_limiter* limiter, const char* key,
                                                     uint64_t key_bytes, const char* name,
                                                     uint64_t name_bytes, uint32_t kind,
                                                     uint32_t flags, uint64_t* ticket,
                                                     flint_limiter_error* error);

/* Forgets what was used: the full burst is available again. Totals stay. EXACT takes any key that
 * has a limit or a counter; TEMPLATE resets all counters of the template. Errors and flags as for
 * flint_limiter_remove. */
FLINT_LIMITER_API int32_t flint_limiter_reset(flint_limiter* limiter, const char* key,
                                              uint64_t key_bytes, uint32_t kind, uint32_t flags,
                                              uint64_t* ticket, flint_limiter_error* error);

/* The same for limits of one name, as flint_limiter_remove_named has it. Since 1.1. */
FLINT_LIMITER_API int32_t flint_limiter_reset_named(flint_limiter* limiter, const char* key,
                                                    uint64_t key_bytes, const char* name,
                                                    uint64_t name_bytes, uint32_t kind,
                                                    uint32_t flags, uint64_t* ticket,
                                                    flint_limiter_error* error);

/* ---- Decisions ----------------------------------------------------------------------------- */

/* Decides whether `cost` units may be used under `key` now, and counts them if so. In always mode
 * an admission is answered when it is on disk; threads that arrive together share a sync. A denial
 * uses up nothing and is answered at once. `inline_config` may be NULL; otherwise it is the limit
 * of a key that has none, forgotten again when fresh (it must be valid even if it is not used).
 * `flags`: NO_WAIT, NO_SYNC, DECISION_ONLY, REFUSE, UPDATE. Errors: INVALID_ARGUMENT,
 * NOT_CONFIGURED, DISK_FULL, POISONED, TABLE_FULL, CLOSED, FORKED, WOULD_BLOCK, NO_MEMORY; `result`
 * is left alone then. With on_error some of these are answered instead. After POISONED from an
 * admission in always mode it is unknown whether a later open will count it. */
FLINT_LIMITER_API int32_t flint_limiter_check(flint_limiter* limiter, const char* key,
                                              uint64_t key_bytes, uint64_t cost, uint32_t flags,
                                              const flint_limiter_config* inline_config,
                                              flint_limiter_result* result,
                                              flint_limiter_error* error);

/* Whether flint_limiter_check would admit `cost` now, and when it would otherwise, changing and
 * recording nothing: `remaining` and `reset_at_ns` are as they stand, without the cost. */
FLINT_LIMITER_API int32_t flint_limiter_peek(flint_limiter* limiter, const char* key,
                                             uint64_t key_bytes, uint64_t cost, uint32_t flags,
                                             const flint_limiter_config* inline_config,
                                             flint_limiter_result* result,
                                             flint_limiter_error* error);

/* flint_limiter_check that also tells what each limit of the key says: up to `capacity` entries,
 * `stride` bytes apart, all with the struct_size of the first. Those of the key's own come first,
 * in order of name, then those of templates, of the longest prefix first. `*count` is how many
 * limits have decided; 0 means one without a name, of which `result` says everything. With
 * DECISION_ONLY no entries are filled. `peek` is 0, or 1 to ask as flint_limiter_peek does.
 * Since 1.1. */
FLINT_LIMITER_API int32_t flint_limiter_check_limits(
    flint_limiter* limiter, const char* key, uint64_t key_bytes, uint64_t cost, uint32_t flags,
    const flint_limiter_config* inline_config, uint32_t peek, flint_limiter_result* result,
    flint_limiter_limit_result* limits, uint64_t capacity, uint64_t stride, uint64_t* count,
    flint_limiter_error* error);

/* Decides 1 to FLINT_LIMITER_MAX_ITEMS items with different keys, of at most 65,535 bytes in all,
 * together: all are counted, in one record, or none. `results` has room for `count`. When one is
 * denied, the results up to and including it are filled, `*denied_index` is its index and only its
 * denial is recorded; otherwise all are filled and `*denied_index` is `count`. `results[0].ticket`
 * covers all. Flags (but REFUSE) and errors as for
 * flint_limiter_check. */
FLINT_LIMITER_API int32_t flint_limiter_check_all(flint_limiter* limiter,
                                                  const flint_limiter_item* items, uint64_t count,
                                                  uint64_t item_stride, uint32_t flags,
                                                  flint_limiter_result* results,
                                                  uint64_t result_stride, uint64_t* denied_index,
                                                  flint_limiter_error* error);

/* Decides 1 to FLINT_LIMITER_MAX_ITEMS items one after the other, each as flint_limiter_check
 * would, with one wait for the disk: a key may come more than once, and an item that is denied or
 * fails changes nothing for the others. Each has its result and its code: `codes[i]` is what
 * flint_limiter_check would have returned, and where it is not OK the result is left alone. Returns
 * OK when every item has its code, whatever that is; otherwise nothing was decided and `codes` is
 * left alone. Flags (but REFUSE) as for flint_limiter_check. Errors: INVALID_ARGUMENT (of count,
 * strides, flags or a structure's size), CLOSED, FORKED, READ_ONLY, NO_MEMORY. Since 1.1. */
FLINT_LIMITER_API int32_t flint_limiter_check_many(flint_limiter* limiter,
                                                   const flint_limiter_item* items, uint64_t count,
                                                   uint64_t item_stride, uint32_t flags,
                                                   flint_limiter_result* results,
                                                   uint64_t result_stride, int32_t* codes,
                                                   flint_limiter_error* error);

/* ---- Reading ------------------------------------------------------------------------------- */

/* One limit. `kind` is EXACT (any key that has a limit or a counter of its own now, or that a
 * template covers) or TEMPLATE, whose totals take time in proportion to all counters. Errors:
 * INVALID_ARGUMENT, NOT_CONFIGURED, CLOSED, FORKED. */
FLINT_LIMITER_API int32_t flint_limiter_status(flint_limiter* limiter, const char* key,
                                               uint64_t key_bytes, uint32_t kind,
                                               flint_limiter_status_info* status,
                                               flint_limiter_error* error);

/* The same of the limit with a name; flint_limiter_status is for that without one. Since 1.1. */
FLINT_LIMITER_API int32_t flint_limiter_status_named(flint_limiter* limiter, const char* key,
                                                     uint64_t key_bytes, const char* name,
                                                     uint64_t name_bytes, uint32_t kind,
                                                     flint_limiter_status_info* status,
                                                     flint_limiter_error* error);

/* A page of all limits, in order of key bytes, kind and name bytes. `cursor` says where the page
 * before ended: its bytes are Flint's own affair, 0 of them begin. The cursor of this page is
 * written to `next_cursor`, of FLINT_LIMITER_MAX_CURSOR_BYTES, which may be `cursor` itself.
 * `text` has at least FLINT_LIMITER_MIN_TEXT_BYTES + FLINT_LIMITER_MAX_NAME_BYTES. Otherwise as
 * flint_limiter_list, which leaves out limits that have a name. Since 1.1. */
FLINT_LIMITER_API int32_t flint_limiter_list_page(flint_limiter* limiter, const char* cursor,
                                                  uint64_t cursor_bytes, uint32_t flags,
                                                  flint_limiter_status_info* entries,
                                                  uint64_t capacity, uint64_t stride, char* text,
                                                  uint64_t text_bytes, uint64_t* count,
                                                  char* next_cursor, uint64_t* next_cursor_bytes,
                                                  flint_limiter_error* error);

/* A page of limits without a name, in order of key bytes, then kind. For the first page `after` is
 * NULL; then it is the last key and `after_kind` the last kind of the page before. Up to `capacity`
 * entries, `stride` bytes apart; their keys are copied to `text`, of at least
 * FLINT_LIMITER_MIN_TEXT_BYTES.
 * `*count` 0 means the end. The page is not one moment's: limits may change between and within
 * pages. A limit that is there from the first page to the last is in exactly one of them; one that
 * comes meanwhile may be missing, and a template's totals may be those of when the listing began.
 * `flags`: ALL_COUNTERS.
 *
 * The first page takes time in proportion to all limits and counters, and so does about every
 * eighth part of a listing of very many; other pages take time in proportion to what they return.
 * Up to an eighth of the keys are held in memory until the listing has been read to its end, or a
 * call of flint_limiter_list or flint_limiter_get_info comes 10 seconds later. */
FLINT_LIMITER_API int32_t flint_limiter_list(flint_limiter* limiter, const char* after,
                                             uint64_t after_bytes, uint32_t after_kind,
                                             uint32_t flags, flint_limiter_status_info* entries,
                                             uint64_t capacity, uint64_t stride, char* text,
                                             uint64_t text_bytes, uint64_t* count,
                                             flint_limiter_error* error);

/* The `capacity` keys with the largest total, largest first; those with 0 are left out. Exact and
 * inline limits and, with ALL_COUNTERS, the counters under templates. `by`: FLINT_LIMITER_BY_*.
 * Returns fewer when their keys fill `text`. Takes time in proportion to all limits and counters.
 */
FLINT_LIMITER_API int32_t flint_limiter_top(flint_limiter* limiter, uint32_t by, uint32_t flags,
                                            flint_limiter_status_info* entries, uint64_t capacity,
                                            uint64_t stride, char* text, uint64_t text_bytes,
                                            uint64_t* count, flint_limiter_error* error);

FLINT_LIMITER_API int32_t flint_limiter_get_info(flint_limiter* limiter, flint_limiter_info* info,
                                                 flint_limiter_error* error);

/* A page of what has been recorded, read from the log's files: everything before the call that is
 * still kept. With `key` only events that name it (an ALLOW_ALL then comes with all its items). Up
 * to `capacity` events, `stride` bytes apart; their keys are copied to `text`, of at least
 * FLINT_LIMITER_MIN_TEXT_BYTES. `*count` 0 means that there is nothing more, now; `*next_cursor` is
 * where to go on. Sequence numbers of a sync that a crash cut off may be used again. Errors:
 * INVALID_ARGUMENT (also when an ALLOW_ALL alone is larger than the page; 1,024 entries hold any of
 * this version's), HISTORY_GONE, UNSUPPORTED (":memory:"), CORRUPTION, IO, CLOSED, FORKED. */
FLINT_LIMITER_API int32_t flint_limiter_history(flint_limiter* limiter, const char* key,
                                                uint64_t key_bytes,
                                                const flint_limiter_history_query* query,
                                                flint_limiter_event* events, uint64_t capacity,
                                                uint64_t stride, char* text, uint64_t text_bytes,
                                                uint64_t* count, uint64_t* next_cursor,
                                                flint_limiter_error* error);

/* ---- Durability ---------------------------------------------------------------------------- */

/* Waits until everything that was appended before the call is on disk. Errors: POISONED, CLOSED,
 * FORKED. */
FLINT_LIMITER_API int32_t flint_limiter_flush(flint_limiter* limiter, flint_limiter_error* error);

/* Waits until `ticket` is on disk, at most `timeout_ns` (0: not at all; UINT64_MAX: without end).
 * A caller that waits without end may have to do the syncing. For others a thread of the limiter
 * does it, and goes on when the time is over: with 0 that is what an event loop calls for the
 * newest ticket that it waits for.
 * Errors: TIMEOUT, POISONED, CLOSED, FORKED, INVALID_ARGUMENT (a ticket that was never given
 * out). */
FLINT_LIMITER_API int32_t flint_limiter_wait(flint_limiter* limiter, uint64_t ticket,
                                             uint64_t timeout_ns, flint_limiter_error* error);

/* The newest ticket that is on disk. */
FLINT_LIMITER_API int32_t flint_limiter_durable(flint_limiter* limiter, uint64_t* ticket,
                                                flint_limiter_error* error);

/* Sets `*fd` to an eventfd that becomes readable whenever flint_limiter_durable advances, when the
 * log fails (flint_limiter_wait then returns POISONED) and when the limiter is shut down: what an
 * event loop waits on for tickets of NO_SYNC. Read it to clear it, then ask flint_limiter_durable.
 * It belongs to the limiter: flint_limiter_unwatch closes it, as does flint_limiter_close. Errors:
 * UNSUPPORTED (":memory:"), IO, CLOSED, FORKED. */
FLINT_LIMITER_API int32_t flint_limiter_watch(flint_limiter* limiter, int32_t* fd,
                                              flint_limiter_error* error);
FLINT_LIMITER_API int32_t flint_limiter_unwatch(flint_limiter* limiter, int32_t fd,
                                                flint_limiter_error* error);

/* Replaces the log written so far by a snapshot, built from the files and held against the state in
 * memory. Checks go on meanwhile; flint_limiter_get_info tells how far it is. It also starts by
 * itself when the log has outgrown the snapshot. `flags`: NO_WAIT only starts it. Errors:
 * PERMISSION, IO, DISK_FULL, CORRUPTION, POISONED, CLOSED, FORKED, NO_MEMORY. */
FLINT_LIMITER_API int32_t flint_limiter_compact(flint_limiter* limiter, uint32_t flags,
                                                flint_limiter_error* error);

/* ---- Arithmetic, for counters that another store keeps --------------------------------------- */

/* These functions open nothing and remember nothing: they are what decides here, for who keeps the
 * counters in a database or a cache and wants the same answers to the nanosecond. Any thread may
 * call them. A store reads a counter, decides, and writes it back, under a lock or in a
 * transaction; or, where a script in the store decides, it computes with the numbers of
 * flint_limiter_get_span and flint_limiter_describe tells what its answer means. Times are the
 * store's: nanoseconds since any moment, 0 to 2^62, that never go back for one counter. Since
 * 1.1. */

/* What a counter remembers. All zeros are a new one, of which nothing has been used. What is not
 * named for an algorithm is not read, and stays as it was. */
typedef struct flint_limiter_state {
  uint32_t struct_size;
  uint32_t reserved;
  int64_t at_ns;     /* buckets: the theoretical arrival time, when all is there again.
                        fixed_window_counter: when the window began. sliding_window_log: the newest
                        admission */
  uint64_t fraction; /* buckets: what belongs to at_ns, in 1/rate nanoseconds; below the rate */
  int64_t index;     /* sliding_window_counter: which window, time / per_ns */
  uint64_t used;     /* windows: the units of the current one; 0 in a fixed_window_counter: none has
                        begun. sliding_window_log: the units of its entries */
  uint64_t previous; /* sliding_window_counter: the units of the window before */
  /* sliding_window_log: its entries are kept by the store, one for each time at which something was
   * admitted, with the units of that time. Those that are per_ns old or older have been dropped. */
  uint64_t entries;  /* how many there are, at most 2^20 */
  int64_t oldest_ns; /* the time of the oldest */
  int64_t leaves_ns; /* the time of the last of the oldest that must leave until the cost fits;
                        only read where the cost is denied */
} flint_limiter_state;

/* How long units take to come back: units * per_ns / rate, exactly; and the same in numbers that
 * are small enough for scripts whose only numbers are doubles. */
typedef struct flint_limiter_span {
  uint32_t struct_size;
  uint32_t nanoseconds;   /* of `ns`, those behind the seconds */
  uint64_t ns;            /* rounded down */
  uint64_t fraction;      /* what is left, in 1/rate nanoseconds; below the rate */
  uint64_t seconds;       /* of `ns`, whole ones */
  uint32_t fraction_high; /* of `fraction`, without the lowest 31 bits */
  uint32_t fraction_low;  /* the lowest 31 bits */
} flint_limiter_span;

/* Fills `span` for so many units, 1 to 2^62, of a limit's rate: a bucket admits a cost when
 * max(at_ns - now, 0) and the span of the cost are at most the span of the burst, and then moves
 * at_ns by the span of the cost. Of `config` rate, per_ns, burst and algorithm are read. Errors:
 * INVALID_ARGUMENT, also where the span is over 2^62 ns. */
FLINT_LIMITER_API int32_t flint_limiter_get_span(const flint_limiter_config* config, uint64_t units,
                                                 flint_limiter_span* span,
                                                 flint_limiter_error* error);

/* Decides whether `cost` units may be used at `now_ns`, and if so counts them in `state`; fills
 * `result` as flint_limiter_check does, but for ticket and undecided, which are 0. Its reset_at_ns
 * is in the store's time. Where a sliding_window_log admits, the store adds an entry, or the cost
 * to the entry of `now_ns`. Errors: INVALID_ARGUMENT; `state` and `result` are left alone then. */
FLINT_LIMITER_API int32_t flint_limiter_decide(const flint_limiter_config* config,
                                               flint_limiter_state* state, int64_t now_ns,
                                               uint64_t cost, flint_limiter_result* result,
                                               flint_limiter_error* error);

/* Fills `result` for a decision that the store has made: `state` is as it stands behind it, and
 * `allowed` what it was, 0 or 1. Errors: INVALID_ARGUMENT. */
FLINT_LIMITER_API int32_t flint_limiter_describe(const flint_limiter_config* config,
                                                 const flint_limiter_state* state, int64_t now_ns,
                                                 uint64_t cost, uint32_t allowed,
                                                 flint_limiter_result* result,
                                                 flint_limiter_error* error);

/* ---- About the library --------------------------------------------------------------------- */

/* "1.1.0"; static. */
FLINT_LIMITER_API const char* flint_limiter_version(void);

/* A sentence for a status code, "unknown status" for others; static. */
FLINT_LIMITER_API const char* flint_limiter_code_text(int32_t code);

/* The name of a status code as it stands above, without FLINT_LIMITER_ ("LOCKED"); "UNKNOWN" for
 * others; static. Since 1.1. */
FLINT_LIMITER_API const char* flint_limiter_code_name(int32_t code);

#ifdef __cplusplus
}
#endif

#endif /* FLINT_LIMITER_H */
