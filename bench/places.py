"""Measures limits in Redis and PostgreSQL beside those of other limiters, on the same server.

    ./dev bench places [--quick] [--only NAME]... [--directory DIR]

Flint's algorithm that is nearest to the peer's is measured beside it: `allow()` of 1000 keys in
turn, which lets everything in, or refuses all but the first of each key; from one client, and from
8 (in PostgreSQL 16) at the same time. Rounds alternate. What a peer does is not always as exact.
PostgreSQL waits for the disk with every commit, and in other rows with none, for both sides alike.
Results go to bench/results/places/, unless --quick or --only is given.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import alone
import peers
import servers
from harness import (
    Bench,
    Case,
    Demand,
    Outcome,
    Side,
    alternate,
    at_least,
    case,
    faster,
    opened,
    python_side,
)
from sharing import Crowd

CLIENTS = (1, 8)
POSTGRES_CLIENTS = (1, 16)
# A peer, the method of targets_places.Peer that makes it, and the algorithm beside it.
PEERS = (
    ("limits, fixed window", "limits_fixed", "fixed_window_counter"),
    ("limits, sliding window counter", "limits_counter", "sliding_window_counter"),
    ("limits, moving window", "limits_moving", "sliding_window_log"),
    ("throttled-py, GCRA", "throttled_gcra", "gcra"),
    ("throttled-py, token bucket", "throttled_token", "token_bucket"),
    ("PyrateLimiter", "pyrate", "sliding_window_log"),
)


# The same of those whose environment is another one.
OTHER_PEERS = (
    ("fastapi-limiter 0.1", "fastapi_limiter", "fixed_window_counter"),
    ("flux-limiter, GCRA", "flux_gcra", "gcra"),
    ("flux-limiter, token bucket", "flux_token", "token_bucket"),
    ("flux-limiter, fixed window", "flux_fixed", "fixed_window_counter"),
)


@dataclass(frozen=True)
class PostgresPeer:
    """One that counts in PostgreSQL: the class of targets_postgres that makes it and what that is
    told, and the algorithm beside it."""

    shown: str
    target: str
    told: dict[str, str]
    algorithm: str
    demand: Demand


POSTGRES_PEERS = (
    PostgresPeer("PyrateLimiter", "Pyrate", {}, "sliding_window_log", at_least(1)),
    PostgresPeer(
        "fluxlimit, token bucket",
        "Fluxlimit",
        {"policy": "token_bucket"},
        "token_bucket",
        at_least(3),
    ),
    PostgresPeer(
        "fluxlimit, fixed window",
        "Fluxlimit",
        {"policy": "fixed_window"},
        "fixed_window_counter",
        at_least(3),
    ),
)
# Has the commits of who connects so wait for no disk.
NO_DISK = "?options=-c%20synchronous_commit%3Doff"
# As the documentation of fluxlimit has its users make it.
FLUXLIMIT_TABLE = """
create table fluxlimit_rate_limits (
  key text primary key,
  tokens float not null default 0,
  volume float not null default 0,
  count integer not null default 0,
  window_start float not null default 0,
  last_update float not null default 0,
  algorithm varchar(32) not null default 'token_bucket'
)
"""


@contextlib.contextmanager
def crowds_of(
    clients: int, kind: str, makers: Sequence[Callable[[], Side]]
) -> Iterator[list[Crowd]]:
    """Of Flint and of a peer."""
    with contextlib.ExitStack() as stack:
        ours, theirs = (stack.enter_context(opened(*[maker] * clients)) for maker in makers)
        crowds = [Crowd(f"{clients} x Flint", ours), Crowd(f"{clients} x {kind}", theirs)]
        # The first calls make the keys.
        for crowd in crowds:
            crowd.round(1000 * clients)
        yield crowds


def measured(bench: Bench, crowds: Sequence[Crowd], note: str = "") -> Outcome:
    calls = [len(one.sides) * one.sides[0].calibrate(bench.round_ns) for one in crowds]
    our_rounds, their_rounds = alternate(crowds, calls, bench.rounds)
    return faster(our_rounds, their_rounds, (crowds[0].what, crowds[1].what), note=note)


def in_redis(bench: Bench, kind: str, algorithm: str, clients: int, *, allows: bool) -> Outcome:
    is_other = kind in {one[1] for one in OTHER_PEERS}
    python = peers.places_peers() if is_other else peers.python_peers()
    with servers.redis_server(bench.place("redis"), pin=False) as port:
        told: dict[str, Any] = {"port": port, "allows": allows}
        if kind == "fastapi_limiter":
            target, told_too = "targets_places.FastapiLimiter", told
        else:
            target, told_too = "targets_places.Peer", {"kind": kind, **told}
        makers = [
            lambda: python_side("Flint", "targets_places.Flint", algorithm=algorithm, **told),
            lambda: python_side(kind, target, python=python, **told_too),
        ]
        with crowds_of(clients, kind, makers) as crowds:
            return measured(bench, crowds)


def written(url: str, crowd: Crowd) -> str:
    """What a thousand calls of a crowd write to the log of PostgreSQL."""
    psycopg = importlib.import_module("psycopg")
    with psycopg.connect(url, autocommit=True) as connection:
        at = "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        before = connection.execute(at).fetchone()[0]
        crowd.round(1000)
        after = connection.execute(at).fetchone()[0]
    return f"{after - before:,} bytes by {crowd.what}"


def in_postgres(
    bench: Bench, peer: PostgresPeer, clients: int, *, allows: bool, sync: str
) -> Outcome:
    python, kind = peers.places_peers(), peer.told.get("policy", peer.target.lower())
    with servers.postgres_server(bench.place("postgres")) as url:
        importlib.import_module("flint.postgres").create(url)
        with importlib.import_module("psycopg").connect(url) as connection:
            connection.execute(FLUXLIMIT_TABLE)
        told: dict[str, Any] = {"url": url, "allows": allows}
        told |= {"algorithm": peer.algorithm, "sync": sync}
        told_too = {"url": url + NO_DISK if sync == "batch" else url, "allows": allows, **peer.told}
        makers = [
            lambda: python_side("Flint", "targets_postgres.Flint", **told),
            lambda: python_side(kind, f"targets_postgres.{peer.target}", python=python, **told_too),
        ]
        with crowds_of(clients, kind, makers) as crowds:
            written_by = " and ".join(written(url, one) for one in crowds)
            note = f"a thousand calls write to the log of PostgreSQL: {written_by}"
            return measured(bench, crowds, note)


def work(store: str, algorithm: str, clients: int, *, allows: bool) -> str:
    what = "lets in" if allows else "refuses"
    many = "one client" if clients == 1 else f"{clients} clients"
    return f"`allow()` of `{algorithm}` in {store}, which {what}, {many}"


def name_of(*words: str, allows: bool, clients: int) -> str:
    what = "lets" if allows else "refuses"
    return "-".join([*words, what, str(clients)]).replace("_", "-")


def redis_case(peer: tuple[str, str, str], clients: int, *, allows: bool) -> Case:
    shown, kind, algorithm = peer

    def run(bench: Bench) -> Outcome:
        return in_redis(bench, kind, algorithm, clients, allows=allows)

    name = name_of(kind, allows=allows, clients=clients)
    done = work("Redis", algorithm, clients, allows=allows)
    return case(name, done, f"{shown}, on the same server", at_least(1), run)


def postgres_case(peer: PostgresPeer, clients: int, *, allows: bool, sync: str) -> Case:
    def run(bench: Bench) -> Outcome:
        return in_postgres(bench, peer, clients, allows=allows, sync=sync)

    words = ["postgres", peer.target.lower(), *peer.told.values()]
    words += ["batch"] if sync == "batch" else []
    name = name_of(*words, allows=allows, clients=clients)
    done = work("PostgreSQL", peer.algorithm, clients, allows=allows)
    done += ", batch mode" if sync == "batch" else ""
    return case(name, done, f"{peer.shown}, on the same server", peer.demand, run)


CASES: tuple[Case, ...] = tuple(
    redis_case(peer, clients, allows=allows)
    for peer in (*PEERS, *OTHER_PEERS)
    for allows in (True, False)
    for clients in CLIENTS
) + tuple(
    postgres_case(peer, clients, allows=allows, sync=sync)
    for peer in POSTGRES_PEERS
    for allows, sync in ((True, "always"), (True, "batch"), (False, "always"))
    for clients in POSTGRES_CLIENTS
)


if __name__ == "__main__":
    alone.main("places", "Measures limits in Redis and PostgreSQL.", CASES)
