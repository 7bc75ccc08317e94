"""Every public name of `flint`, which hands them out from here: what is never asked for need not be
loaded, and `flint version` asks for nothing."""

from __future__ import annotations

from pathlib import Path

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
    LimitDict,
    Mapped,
    OnError,
    StatusDict,
    Sync,
    Total,
    WhenFull,
)
from flint.errors import (
    ClosedError,
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
    RateLimitExceeded,
    ReadOnlyError,
    TableFullError,
    UnsupportedError,
)
from flint.limiter import Limiter, doctor

__all__ = [
    "Algorithm",
    "CheckAllDict",
    "CheckResult",
    "ClosedError",
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
    "RateLimitExceeded",
    "ReadOnlyError",
    "Result",
    "SharedCheckResult",
    "StatusDict",
    "Sync",
    "TableFullError",
    "Total",
    "UnsupportedError",
    "WhenFull",
    "__version__",
    "doctor",
    "get_include",
    "get_library_dir",
]

# Their names in Flint 0.2.
CheckResult = Result
SharedCheckResult = Result


def get_include() -> str:
    """The directory that holds `flint_limiter.h`, the header of the C library."""
    return str(Path(__file__).parent / "include")


def get_library_dir() -> str:
    """The directory that holds `libflint_limiter.so`."""
    return str(Path(__file__).parent / "lib")
