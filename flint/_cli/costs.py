"""The items of `flint limit check-all`, from its keys and the two ways to say what they cost."""

from __future__ import annotations

from flint._cli.failure import CommandError, UsageError


def items(keys: list[str], pairs: list[str], listed: str | None) -> list[tuple[str, int]]:
    if not keys:
        raise UsageError("check-all needs at least one KEY")
    twice = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
    if twice is not None:
        raise CommandError(
            f"each key can be in a check-all once, and this one is there twice: {twice}"
        )
    if pairs and listed is not None:
        raise UsageError("--cost and --costs are both given; one of them is enough")
    if listed is not None:
        return list(zip(keys, in_order(listed, len(keys)), strict=True))
    by_key = {}
    for pair in pairs:
        key, cost = split(pair)
        if key in by_key:
            raise CommandError(f"duplicate --cost specified for key: {key}")
        by_key[key] = cost
    unknown = sorted(by_key.keys() - set(keys))
    if unknown:
        raise CommandError(f"--cost specified for unknown limit key(s): {', '.join(unknown)}")
    return [(key, by_key.get(key, 1)) for key in keys]


def split(pair: str) -> tuple[str, int]:
    """KEY=N. The key may hold a `=` itself: the number stands behind the last one."""
    key, equals, number = pair.rpartition("=")
    if not equals or not number.isascii() or not number.isdigit():
        raise CommandError(f'invalid --cost value "{pair}"; expected key=cost')
    return key, int(number)


def in_order(listed: str, count: int) -> list[int]:
    numbers = listed.split(",")
    if len(numbers) != count:
        raise UsageError(f"--costs has {len(numbers)} numbers for {count} keys: {listed}")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise UsageError(f'invalid --costs value "{listed}"; expected numbers, as in 1,10,1')
    return [int(number) for number in numbers]
