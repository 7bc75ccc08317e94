"""Measures limits in Redis beside those of other limiters, on the same server.

    ./dev bench places [--quick] [--only NAME]... [--directory DIR]

Flint's algorithm that is nearest to the peer's is measured beside it: `allow()` of 1000 keys in
turn, which lets everything in, or refuses all but the first of each key; from one client, and from
8 at the same time. Rounds alternate. What a peer does is not always as exact. Results go to
bench/results/places/, unless --quick or --only is given.
"""

from __future__ import annotations

import contextlib
from typing import Any

import alone
import peers
import servers
from harness import (
    Bench,
    Case,
    Demand,
    Outcome,
    alternate,
    at_least,
    case,
    faster,
    opened,
    python_side,
)
from sharing import Crowd

CLIENTS = (1, 8)
# A peer, the method that makes it, and the algorithm beside it.
PEERS = (
    ("limits, fixed window", "limits_fixed", "fixed_window_counter"),
    ("limits, sliding window counter", "limits_counter", "sliding_window_counter"),
    ("limits, moving window", "limits_moving", "sliding_window_log"),
    ("throttled-py, GCRA", "throttled_gcra", "gcra"),
    ("throttled-py, token bucket", "throttled_token", "token_bucket"),
    ("PyrateLimiter", "pyrate", "sliding_window_log"),
)


def beside(bench: Bench, kind: str, algorithm: str, clients: int, *, allows: bool) -> Outcome:
    python = peers.python_peers()
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(servers.redis_server(bench.place("redis"), pin=False))
        told: dict[str, Any] = {"port": port, "allows": allows}
        makers = [
            lambda: python_side("Flint", "targets_places.Flint", algorithm=algorithm, **told),
            lambda: python_side(kind, "targets_places.Peer", python=python, kind=kind, **told),
        ]
        ours, theirs = (stack.enter_context(opened(*[maker] * clients)) for maker in makers)
        crowds = [Crowd(f"{clients} x Flint", ours), Crowd(f"{clients} x {kind}", theirs)]
        # The first calls make the keys.
        for crowd in crowds:
            crowd.round(1000 * clients)
        calls = [clients * side.calibrate(bench.round_ns) for side in (ours[0], theirs[0])]
        our_rounds, their_rounds = alternate(crowds, calls, bench.rounds)
        return faster(our_rounds, their_rounds, (crowds[0].what, crowds[1].what))


def one_case(peer: tuple[str, str, str], clients: int, demand: Demand, *, allows: bool) -> Case:
    shown, kind, algorithm = peer

    def run(bench: Bench) -> Outcome:
        return beside(bench, kind, algorithm, clients, allows=allows)

    what = "lets in" if allows else "refuses"
    many = "one client" if clients == 1 else f"{clients} clients"
    name = f"{kind.replace('_', '-')}-{what.split()[0]}-{clients}"
    work = f"`allow()` of `{algorithm}` in Redis, which {what}, {many}"
    return case(name, work, f"{shown}, on the same server", demand, run)


CASES: tuple[Case, ...] = tuple(
    one_case(peer, clients, at_least(1), allows=allows)
    for peer in PEERS
    for allows in (True, False)
    for clients in CLIENTS
)


if __name__ == "__main__":
    alone.main("places", "Measures limits in Redis.", CASES)
