"""Every public name of `flint`, which hands them out from here: what is never asked for need not be
loaded, and `flint version` asks for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

try:
    from flint._native import Result
    from flint._native import version as __version__
except ModuleNotFoundError as error:
    if error.name != "flint._native":
        raise
    raise ModuleNotFoundError(
        f"Flint's extension is not built in {str(Path(__file__).parent)!r}. In a source checkout "
        "`python setup.py build_ext --inplace` builds it, as every command of ./dev does; to use a "
        "Flint that is installed, start Python in another directory",
        name=error.name,
    ) from None

from flint._places import connect
from flint._surface.protocol import AnyLimiter
from flint._surface.rate import LimitDict
from flint._surface.types import (
    Algorithm,
    CheckAllDict,
    DamageDict,
    DoctorDict,
    HistoryConfigDict,
    HistoryDict,
    HistoryItemDict,
    InfoDict,
    Item,
    ItemDict,
    ItemResultDict,
    Mapped,
    OnError,
    StatusDict,
    Sync,
    Total,
    WhenFull,
)
from flint.errors import (
    ClosedError,
    ConfigError,
    CorruptionError,
    DiskFullError,
    FlintConnectionError,
    FlintError,
    FlintOSError,
    FlintPermissionError,
    FlintServerError,
    FlintWarning,
    ForkedError,
    HistoryGoneError,
    LockedError,
    NotConfiguredError,
    PoisonedError,
    RateError,
    RateLimitExceeded,
    ReadOnlyError,
    TableFullError,
    UnsupportedError,
)
from flint.limiter import Limiter, doctor
from flint.prometheus import CONTENT_TYPE, add_prometheus_route, prometheus_metrics

if TYPE_CHECKING:
    from flint._what_if import what_if
    from flint.config import from_config
    from flint.shared import SharedLimiter

__all__ = [
    "CONTENT_TYPE",
    "Algorithm",
    "AnyLimiter",
    "CheckAllDict",
    "CheckResult",
    "ClosedError",
    "ConfigError",
    "CorruptionError",
    "DamageDict",
    "DiskFullError",
    "DoctorDict",
    "FlintConnectionError",
    "FlintError",
    "FlintOSError",
    "FlintPermissionError",
    "FlintServerError",
    "FlintWarning",
    "ForkedError",
    "HistoryConfigDict",
    "HistoryDict",
    "HistoryGoneError",
    "HistoryItemDict",
    "InfoDict",
    "Item",
    "ItemDict",
    "ItemResultDict",
    "LimitDict",
    "Limiter",
    "LockedError",
    "Mapped",
    "NotConfiguredError",
    "OnError",
    "PoisonedError",
    "RateError",
    "RateLimitExceeded",
    "ReadOnlyError",
    "Result",
    "SharedCheckResult",
    "SharedLimiter",
    "StatusDict",
    "Sync",
    "TableFullError",
    "Total",
    "UnsupportedError",
    "WhenFull",
    "__version__",
    "add_prometheus_route",
    "connect",
    "doctor",
    "from_config",
    "get_include",
    "get_library_dir",
    "prometheus_metrics",
    "what_if",
]

# Their names in Flint 0.2.
CheckResult = Result
SharedCheckResult = Result


def __getattr__(name: str) -> object:
    if name == "from_config":  # who has no file loads no reader of one
        from flint.config import from_config

        return from_config
    if name == "what_if":
        from flint._what_if import what_if

        return what_if
    if name == "SharedLimiter":  # who asks no server loads no http.client
        from flint.shared import SharedLimiter

        return SharedLimiter
    raise AttributeError(f"module 'flint._public' has no attribute {name!r}")


def get_include() -> str:
    """The directory that holds `flint_limiter.h`, the header of the C library."""
    return str(Path(__file__).parent / "include")


def get_library_dir() -> str:
    """The directory that holds `libflint_limiter.so`."""
    return str(Path(__file__).parent / "lib")
