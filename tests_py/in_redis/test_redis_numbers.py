"""The arithmetic of the scripts, in pairs of halves, beside Python's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from conftest import ROOT
from in_redis.redis_server import server

NUMBERS = (ROOT / "flint" / "_redis" / "scripts" / "numbers.lua").read_text("utf-8")
LOW = 2**31 - 1
CASES = 4000


def number(draw: random.Random) -> int:
    """Of up to 62 bits, of every size and near powers of two."""
    kind = draw.randrange(5)
    if kind == 0:
        return draw.randrange(1, 10)
    if kind == 1:
        return max(2 ** draw.randrange(63) - draw.randrange(2), 1)
    if kind == 2:
        return 2**62 - draw.randrange(3)
    return int(draw.randrange(1, 2 ** draw.randrange(1, 63)))


def asked(script: str, cases: list[tuple[int, ...]]) -> list[list[int]]:
    """What a script makes of the numbers of each case, `v[1]` and so on."""
    width = len(cases[0])
    text = f"""{NUMBERS}
local answer = {{}}
for at = 1, #ARGV, {2 * width} do
  local v = {{}}
  for n = 1, {width} do
    v[n] = {{tonumber(ARGV[at + 2 * n - 2]), tonumber(ARGV[at + 2 * n - 1])}}
  end
  for _, one in ipairs({{{script}}}) do
    answer[#answer + 1] = string.format('%.0f', one[1])
    answer[#answer + 1] = string.format('%.0f', one[2])
  end
end
return answer"""
    words = [half for case in cases for one in case for half in (one >> 31, one & LOW)]
    with server().client() as client:
        answer: Any = client.eval(text, 0, *words)
    halves = list(map(int, answer))
    wholes = [(halves[at] << 31) + halves[at + 1] for at in range(0, len(halves), 2)]
    size = len(wholes) // len(cases)
    return [wholes[at : at + size] for at in range(0, len(wholes), size)]


def drawn(seed: int, width: int, keep: Callable[..., bool]) -> list[tuple[int, ...]]:
    draw = random.Random(seed)
    cases: list[tuple[int, ...]] = []
    while len(cases) < CASES:
        case = tuple(number(draw) for _ in range(width))
        if keep(*case):
            cases.append(case)
    return cases


def test_scaled() -> None:
    cases = drawn(1, 3, lambda a, b, c: a * b // c < 2**62)
    assert sum(a * b >= 2**64 for a, b, _ in cases) > CASES / 10
    for at in range(0, CASES, 500):
        some = cases[at : at + 500]
        for (a, b, c), found in zip(some, asked("scaled(v[1], v[2], v[3])", some), strict=True):
            assert tuple(found) == divmod(a * b, c), (a, b, c)


def test_add_subtract_and_compare() -> None:
    cases = drawn(2, 2, lambda a, b: a >= b)[:1000]
    script = "add(v[1], v[2]), subtract(v[1], v[2]), less(v[2], v[1]) and ONE or ZERO"
    for (a, b), found in zip(cases, asked(script, cases), strict=True):
        assert found == [a + b, a - b, int(b < a)]
