"""fluxlimit's limiter: rules by name on a back end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flint.compat.fluxlimit._backends import BaseBackend, MemoryBackend
from flint.compat.fluxlimit._errors import ConfigurationError, FluxlimitError, RateLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from flint.compat.fluxlimit._algorithms import AlgorithmConfig, BaseAlgorithm, LimitResult


@dataclass
class LimitRule:
    """A limit: its name, how it decides, its numbers, and what a check takes."""

    key: str
    algorithm: BaseAlgorithm
    config: AlgorithmConfig
    cost: int = 1


class RateLimiter:
    """Checks identifiers against rules. `key_func` makes the text under which an identifier is
    counted. It must be connected: `async with`, or `connect`."""

    def __init__(
        self,
        backend: BaseBackend | None = None,
        default_rule: LimitRule | None = None,
        key_func: Callable[[Any], str] | None = None,
    ) -> None:
        self.backend = backend or MemoryBackend()
        self.default_rule = default_rule
        self.key_func: Callable[[Any], str] = key_func or str
        self._rules: dict[str, LimitRule] = {}
        self._connected = False

    async def connect(self) -> None:
        await self.backend.connect()
        self._connected = True

    async def disconnect(self) -> None:
        await self.backend.disconnect()
        self._connected = False

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.disconnect()

    def add_rule(self, name: str, rule: LimitRule) -> Self:
        """Name a rule for checks to ask for."""
        self._rules[name] = rule
        return self

    def rule_of(self, rule_name: str | None) -> LimitRule:
        """The rule of that name, or the default one. Raises ConfigurationError without any."""
        if rule_name is not None:
            if rule_name not in self._rules:
                raise ConfigurationError(f"Rule '{rule_name}' not found")
            return self._rules[rule_name]
        if self.default_rule is None:
            raise ConfigurationError(
                "No rate limit rule configured. Set default_rule or pass rule_name."
            )
        return self.default_rule

    async def check(
        self, identifier: Any, rule_name: str | None = None, cost: int | None = None
    ) -> LimitResult:
        """Decide, and take the cost (the rule's unless given) if it is there."""
        if not self._connected:
            raise ConfigurationError(
                "RateLimiter not connected. Call await limiter.connect() first."
            )
        rule = self.rule_of(rule_name)
        taken = rule.cost if cost is None else cost
        key = self.key_func(identifier)
        return await rule.algorithm.check(self.backend, key, rule.config, taken)

    async def check_or_raise(
        self, identifier: Any, rule_name: str | None = None, cost: int | None = None
    ) -> LimitResult:
        """The same; RateLimitExceeded when it is denied."""
        result = await self.check(identifier, rule_name, cost)
        if not result.allowed:
            limit = self.rule_of(rule_name).key
            raise RateLimitExceeded(str(identifier), limit, result.retry_after)
        return result

    async def check_multiple(
        self, identifier: Any, rules: list[str], cost: int | None = None
    ) -> dict[str, LimitResult | None]:
        """A check by each of the rules, which decide for themselves; None where one failed."""

        async def one(name: str) -> LimitResult | None:
            try:
                return await self.check(identifier, name, cost)
            except FluxlimitError:
                return None

        return dict(zip(rules, await asyncio.gather(*map(one, rules)), strict=True))
