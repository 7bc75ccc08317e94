/* limiter_doc.h - the docstrings of LimiterBase, each behind the signature that inspect reads. */
#ifndef FLINT_EXT_LIMITER_DOC_H
#define FLINT_EXT_LIMITER_DOC_H

#define DECIDE_SIGNATURE                                                         \
  "($self, /, key, cost=1, *, rate=None, per=None, burst=None, algorithm=None, " \
  "limit=None)\n--\n\n"

#define ALLOW_DOC                                                                               \
  "allow" DECIDE_SIGNATURE                                                                      \
  "Decide whether cost units may be used under key now, count them if so, and return True or\n" \
  "False. See check, which answers the same with the numbers behind it."

#define CHECK_DOC                                                                                 \
  "check" DECIDE_SIGNATURE                                                                        \
  "Decide whether cost units may be used under key now, count them if so, and return a Result.\n" \
  "\n"                                                                                            \
  "key is taken literally, 1 to 65,535 bytes of UTF-8 and not all white space. cost is an\n"      \
  "integer from 1 to the limit's burst (or rate). With sync='always' an admission is answered\n"  \
  "when it is on disk; a denial uses up nothing and is answered at once.\n"                       \
  "\n"                                                                                            \
  "rate and per (with burst and algorithm if wanted) carry a limit along: it is configured if\n"  \
  "key has none and forgotten when nothing is used any more; other values than the last time\n"   \
  "take effect, and what is used counts on. They are as for Limiter.limit.\n"                     \
  "limit says the same in words, '10/minute', or several limits, '5/minute; 100/hour', which\n"   \
  "are decided together: all count or none (flint.rates).\n"                                      \
  "\n"                                                                                            \
  "Raises NotConfiguredError if neither a limit nor a template covers key, TypeError or\n"        \
  "ValueError for a bad argument (nothing is counted), DiskFullError, PoisonedError,\n"           \
  "TableFullError, ReadOnlyError, ClosedError or ForkedError. Safe to call from any thread."

#define PEEK_DOC                                                                               \
  "peek" DECIDE_SIGNATURE                                                                      \
  "Return the Result that check would return now, counting and recording nothing. Arguments\n" \
  "and errors are those of check."

#define ALLOW_ALL_DOC                                                                         \
  "allow_all($self, /, items)\n--\n\n"                                                        \
  "Decide several items together, count all of them or none, and return True or False. See\n" \
  "check_all."

#define CHECK_ALL_DOC                                                                            \
  "check_all($self, /, items)\n--\n\n"                                                           \
  "Decide 1 to 1,024 items with different keys, of at most 65,535 bytes in all, together: all\n" \
  "are counted, or none.\n"                                                                      \
  "\n"                                                                                           \
  "An item is a key, (key, cost), [key, cost] or {'key': key, 'cost': cost}; cost is 1 if it\n"  \
  "is left out. Returns {'allowed': bool, 'denied_key': str or None, 'results': [...]}, where\n" \
  "each result is a dict of key, allowed, cost, remaining, reset_at (RFC 3339, 'Z') and\n"       \
  "algorithm, and the list stops at the denied item. Only that denial is recorded.\n"            \
  "\n"                                                                                           \
  "Errors are those of check. Safe to call from any thread."

#define TEMPLATE_RULE                                                                              \
  "A trailing '*' of key means the template; template=False takes it literally, as is done when\n" \
  "only a limit of exactly that name is there. (Calls that decide always take it literally: "      \
  "their\n"                                                                                        \
  "keys may come from clients.)\n"

#define STATUS_DOC                                                                               \
  "status($self, /, key, template=None, *, name=None)\n--\n\n"                                   \
  "Return a dict about key's limit and what has happened to it, or None if nothing covers it.\n" \
  "\n"                                                                                           \
  "Its entries are key, rate, per_millis (whole milliseconds; per_ns is exact), algorithm,\n"    \
  "remaining, reset_at, total_allowed, total_denied, total_allowed_cost, total_denied_cost,\n"   \
  "last_allowed_at, last_denied_at, last_reset_at (RFC 3339, '+00:00', or None if never),\n"     \
  "burst, per_ns, template, name (None for a limit without one, which name=None asks for) and\n" \
  "stack. A template's totals include all its counters', so reading them\n"                      \
  "takes time in proportion to all counters.\n"                                                  \
  "\n" TEMPLATE_RULE                                                                             \
  "Reading changes nothing. Raises TypeError, ValueError, ClosedError or ForkedError."

#define TOP_DOC                                                                               \
  "top($self, /, by='denied', limit=20)\n--\n\n"                                              \
  "Return status dicts of the keys with the largest total, largest first.\n"                  \
  "\n"                                                                                        \
  "by is 'denied', 'allowed', 'denied_cost' or 'allowed_cost'; limit is 0 to 65,536. Keys\n"  \
  "under templates are included, templates themselves and totals of 0 are not. It looks at\n" \
  "every limit and counter."

#define REMOVE_DOC                                              \
  "_remove($self, /, key, template=None, *, name=None)\n--\n\n" \
  "Delete a limit; deleting a template deletes its counters."

#define RESET_DOC                                              \
  "_reset($self, /, key, template=None, *, name=None)\n--\n\n" \
  "Forget what was used of a limit, or of all counters of a template."

#define INFO_DOC                                                                                  \
  "info($self, /)\n--\n\n"                                                                        \
  "Return a dict of numbers about the open directory: what opening found (recovered_records,\n"   \
  "recovered_ring_records, torn_bytes, snapshot_limits), what there is now (limits, counters,\n"  \
  "log_bytes, segments, snapshot_bytes, sequence, appended, durable, syncs, directory_mode,\n"    \
  "engine_time_ns, history_bytes), what has happened since it was opened (compactions,\n"         \
  "compaction_failures, undecided: checks that on_error answered, evicted: keys that made room\n" \
  "for others), how far a compaction is (compaction_done_bytes of compaction_total_bytes, 0\n"    \
  "when none is running), whether the last one failed (compaction_failure, a code of the C\n"     \
  "header, and compaction_retry_at_ns, the wall clock at the next attempt; both else 0), how\n"   \
  "often a segment could not be removed (history_failures), how far the disk is behind\n"         \
  "(unsynced_events, at most, and since_sync_ns, since the last sync or the opening), how long\n" \
  "the syncs took together (sync_time_ns), poisoned (1: a write or sync has failed, which\n"      \
  "admissions and changes then raise), and sync."

#define FLUSH_DOC           \
  "flush($self, /)\n--\n\n" \
  "Wait until everything decided or configured before the call is on disk."

#define COMPACT_DOC                                                                               \
  "compact($self, /, *, wait=True)\n--\n\n"                                                       \
  "Replace the log written so far by a snapshot, built from the files and held against the\n"     \
  "state in memory. Checks go on meanwhile; info tells how far it is (compaction_done_bytes of\n" \
  "compaction_total_bytes). It also starts by itself when the log has outgrown the snapshot.\n"   \
  "wait=False only starts it."

#define REFRESH_DOC                                                                        \
  "refresh($self, /)\n--\n\n"                                                              \
  "Take over what has been written since, in a limiter of Limiter.open_readonly. Raises\n" \
  "ValueError in any other, and what open_readonly raises."

#define CLOSE_DOC                                                                             \
  "close($self, /)\n--\n\n"                                                                   \
  "Sync, unlock the directory and free the limiter. Calls that wait in other threads raise\n" \
  "ClosedError, as does every later call. Closing again does nothing, as does closing in a\n" \
  "forked child. Raises what the last sync met, and the limiter is closed all the same."

#define OPEN_DOC                                                                                 \
  "_open($self, data_dir, read_only, options, /)\n--\n\n"                                        \
  "Open. options is a dict of those of flint.Limiter, lengths of time in nanoseconds. What is\n" \
  "left out, or a number that is None, is the engine's default."

#define LIMIT_DOC                                                                         \
  "_limit($self, key, template, rate, per_ns, burst, algorithm, if_absent, name, stack, " \
  "/)\n--\n\n"                                                                            \
  "Configure one limit. template, burst and name may be None."

#define LIMIT_MANY_DOC                               \
  "_limit_many($self, limits, if_absent, /)\n--\n\n" \
  "Configure any number of limits, each in a form that limit_many takes."

#define HISTORY_DOC                                                                             \
  "_history($self, key, template, newest_first, since_ns, until_ns, cursor, capacity, /)\n--\n" \
  "\n"                                                                                          \
  "A page of history: a list of tuples, one for each item, and the next cursor. key may be\n"   \
  "None; until_ns 0 is without end."

#define DECIDED_DOC                                                                             \
  "_decided($self, pattern, cursor, capacity, numbers, /)\n--\n\n"                              \
  "A page of what was decided about keys of the pattern, and of resets: bytes of rows, each\n"  \
  "eight int64 (key's number, kind, at, first at, engine time, first engine time, cost,\n"      \
  "count; kind 0 denied, 1 allowed, 2 reset, 3 reset of a prefix), and the next cursor, 0 at\n" \
  "the end. Keys get their numbers in the dict numbers, which begin at 0."

#define REPLAY_DOC                                                                               \
  "_replay($self, clock, keys, rows, last_admitted, most, /)\n--\n\n"                            \
  "Decide about rows of _decided as this limiter would at their engine times, to which clock\n"  \
  "is moved. keys are by number, last_admitted an int64 of each; a cost above most is denied.\n" \
  "Returns a byte for each row: 0 denied, 1 allowed, 2 not known, and 4 more if it was allowed."

#define LIST_DOC                      \
  "_list($self, counters, /)\n--\n\n" \
  "Status dicts of all limits, with the counters under templates if counters is True."

#define CHECK_NOW_DOC                                                                             \
  "_check_now" DECIDE_SIGNATURE                                                                   \
  "What check decides, without waiting: (result, ticket), or None if it would have to wait for\n" \
  "a lock or for room. A ticket other than 0 is on disk when _durable says so."

#define REFUSE_NOW_DOC                                            \
  "_refuse_now" DECIDE_SIGNATURE                                  \
  "_check_now, but denied whatever the limit says, and recorded " \
  "so."

#define PEEK_NOW_DOC           \
  "_peek_now" DECIDE_SIGNATURE \
  "What peek says, or None if it would have to wait for a lock or for who owns the directory."

#define REFUSE_DOC \
  "_refuse" DECIDE_SIGNATURE "_refuse_now, which waits where it must, but not for the ticket."

#define CHECK_ALL_NOW_DOC                   \
  "_check_all_now($self, items, /)\n--\n\n" \
  "The same for check_all."

#define DURABLE_DOC                                                                              \
  "_durable($self, ticket, wait, /)\n--\n\n"                                                     \
  "Whether a ticket is on disk; with wait, not before it is. Raises PoisonedError if it never\n" \
  "will be, and ClosedError if the limiter was closed before it was. While the limiter is\n"     \
  "being closed it may still be, so that is False."

#define WATCH_DOC                                                                                \
  "_watch($self, /)\n--\n\n"                                                                     \
  "(name, fd): an eventfd that becomes readable when _durable may answer otherwise, which the\n" \
  "caller closes, and the name by which _unwatch ends that."

#define UNWATCH_DOC                  \
  "_unwatch($self, name, /)\n--\n\n" \
  "End a _watch. Does nothing when the limiter is closed."

#define ADOPT_DOC            \
  "_adopt($self, /)\n--\n\n" \
  "To be called first in a forked child, for a limiter that is shared: it goes on there."

#endif /* FLINT_EXT_LIMITER_DOC_H */
