"""fluxlimit's own tests import this name; each module says again what Flint has."""

import importlib

from flint.compat import fluxlimit as flint_s
from fluxlimit.middleware import asgi as asgi

_ON_DEMAND = ("Fluxlimit", "init_fluxlimit")
_ELSEWHERE = (*_ON_DEMAND, "RateLimitMetrics")
globals().update(
    {name: getattr(flint_s, name) for name in flint_s.__all__ if name not in _ELSEWHERE}
)


def __getattr__(name: str) -> object:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module 'fluxlimit' has no attribute {name!r}")
    return getattr(importlib.import_module("fluxlimit.middleware.flask"), name)
