"""The process that tests_py/test_kill.py kills.

It opens a directory, writes down what it finds there, and then makes calls from several threads.
Each thread writes a line to standard output before a call and another when it has returned; the
lines are short enough for a pipe to take each as a whole or not at all.

    opening
    ready                     found.json is complete, the threads begin
    0 begin check slow:3 2    thread 0 is about to call allow("slow:3", 2)
    0 end allowed
    closing                   close() is about to be called, beside the threads
    closed
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import flint

THREADS = 4
# Nothing comes back during a test: the first unit after more than an hour.
RATE = 1_000_000
PER_S = 2**62 // 10**9
OWN_ALGORITHMS: list[flint.Algorithm] = [
    "sliding_window_log",
    "token_bucket",
    "fixed_window_counter",
    "gcra",
]
SHARED_ALGORITHMS: list[flint.Algorithm] = [
    "token_bucket",
    "gcra",
    "leaky_bucket",
    "fixed_window_counter",
    "sliding_window_counter",
]
LIMITS = [
    *((f"exact:{name}", RATE, PER_S, name) for name in SHARED_ALGORITHMS),
    ("slow:*", RATE, PER_S, "token_bucket"),
    ("pair:*", RATE, PER_S, "token_bucket"),
    ("deny:*", 1, PER_S, "token_bucket"),
    ("burst:*", 10**12, PER_S, "fixed_window_counter"),
    # Counters under this one are forgotten all the time.
    ("fast:*", 3, "20ms", "token_bucket"),
]
SHARES = {
    "exact": 25,
    "slow": 15,
    "burst": 5,
    "inline": 10,
    "fast": 8,
    "deny": 4,
    "pair": 15,
    "own": 16,
    "template": 1,
    "flush": 1,
}


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


class Caller(threading.Thread):
    """Makes calls until the limiter is closed. A key "own:…" is used by one thread alone."""

    def __init__(self, limiter: flint.Limiter, number: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.limiter = limiter
        self.number = number
        self.random = random.Random(seed * THREADS + number)
        self.own = f"own:{number}"

    def run(self) -> None:
        try:
            self.set_own_limit()  # an earlier process may have been killed after removing it
            while True:
                self.call_something()
        except flint.ClosedError:
            pass
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def call_something(self) -> None:
        [kind] = self.random.choices(list(SHARES), list(SHARES.values()))
        number, cost = self.random.randrange(20), self.random.randint(1, 3)
        if kind == "exact":
            self.check(f"exact:{self.random.choice(SHARED_ALGORITHMS)}", cost)
        elif kind in ("slow", "fast"):
            self.check(f"{kind}:{number}", cost)
        elif kind == "burst":
            most = 300 if self.limiter.sync == "batch" else 10
            self.check_often(f"burst:{number}", self.random.randint(1, most))
        elif kind == "inline":
            self.check(f"inline:{number}", cost, rate=RATE, per=PER_S)
        elif kind == "deny":
            self.check(f"deny:{number}", 1)
        elif kind == "pair":
            self.check_pair(number, cost)
        elif kind == "own":
            self.use_own_limit(cost)
        elif kind == "template":
            self.set_limit("slow:*", RATE + self.random.randrange(1000), "token_bucket")
        else:
            self.limiter.flush()

    def check(self, key: str, cost: int, **limit: Any) -> None:
        say(f"{self.number} begin check {key} {cost}")
        allowed = self.limiter.allow(key, cost, **limit)
        say(f"{self.number} end {'allowed' if allowed else 'denied'}")

    def check_often(self, key: str, times: int) -> None:
        """With nothing said in between, so that many kills come in the middle of a call."""
        say(f"{self.number} begin burst {key} {times}")
        for _ in range(times):
            if not self.limiter.allow(key):
                raise AssertionError(f"{key} was denied")
        say(f"{self.number} end allowed")

    def check_pair(self, number: int, cost: int) -> None:
        """Two keys that are only ever used together; threads name them in different order."""
        items: list[flint.Item] = [(f"pair:{side}:{number}", cost) for side in "ab"]
        self.random.shuffle(items)
        say(f"{self.number} begin pair {number} {cost}")
        allowed = self.limiter.allow_all(items)
        say(f"{self.number} end {'allowed' if allowed else 'denied'}")

    def use_own_limit(self, cost: int) -> None:
        choice = self.random.randrange(20)
        if choice == 0:
            say(f"{self.number} begin reset {self.own} 0")
            self.limiter.reset(self.own)
            say(f"{self.number} end done")
        elif choice == 1:
            say(f"{self.number} begin remove {self.own} 0")
            self.limiter.remove(self.own)
            say(f"{self.number} end done")
            self.set_own_limit()
        elif choice <= 3:
            self.set_own_limit()
        else:
            self.check(self.own, cost)

    def set_own_limit(self) -> None:
        self.set_limit(self.own, self.random.randint(10, 40), OWN_ALGORITHMS[self.number])

    def set_limit(self, key: str, rate: int, algorithm: flint.Algorithm) -> None:
        say(f"{self.number} begin limit {key} {rate}")
        self.limiter.limit(key, rate=rate, per=PER_S, algorithm=algorithm)
        say(f"{self.number} end done")


def keep_compacting(limiter: flint.Limiter) -> None:
    while True:
        limiter.compact()


def found(limiter: flint.Limiter) -> dict[str, Any]:
    return {"info": limiter.info(), "limits": limiter.list(counters=True)}


def main(options: dict[str, Any]) -> None:
    directory = Path(options["directory"])
    say("opening")
    limiter = flint.Limiter(directory / "data", sync=options["sync"], **options["sizes"])
    (directory / "found.json").write_text(json.dumps(found(limiter)), "utf-8")
    limiter.limit_many(LIMITS, if_absent=True)
    say("ready")
    for number in range(THREADS):
        Caller(limiter, number, options["seed"]).start()
    if options["compact"]:
        threading.Thread(target=keep_compacting, args=[limiter], daemon=True).start()
    if options["close_after_s"] is not None:
        time.sleep(options["close_after_s"])
        say("closing")
        limiter.close()
        say("closed")
    threading.Event().wait()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
