"""A server's refusals as the exceptions of the embedded limiter."""

from __future__ import annotations

from flint import errors
from flint.errors import FlintServerError, NotConfiguredError

_NOT_CONFIGURED = "limit is not configured"
_NO_RATE = "no rate is named "
_CLASSES: dict[str, type[Exception]] = {
    "INVALID_ARGUMENT": ValueError,
    "NOT_CONFIGURED": NotConfiguredError,
    "LOCKED": errors.LockedError,
    "PERMISSION": errors.FlintPermissionError,
    "UNSUPPORTED": errors.UnsupportedError,
    "IO": errors.FlintOSError,
    "DISK_FULL": errors.DiskFullError,
    "CORRUPTION": errors.CorruptionError,
    "POISONED": errors.PoisonedError,
    "HISTORY_GONE": errors.HistoryGoneError,
    "TABLE_FULL": errors.TableFullError,
    "READ_ONLY": errors.ReadOnlyError,
}


def told(error: FlintServerError, code: str, key: str | None) -> Exception:
    """What a limiter raises for the same reason, whose name `code` is; FlintServerError for one
    that only servers know."""
    kind = _CLASSES.get(code) or _by_message(error)
    if kind is None:
        return error
    if kind is NotConfiguredError and key is not None:
        return NotConfiguredError(f"{_NOT_CONFIGURED}: {errors.shown(key)}")
    return kind(error.message)


def _by_message(error: FlintServerError) -> type[Exception] | None:
    """Servers of Flint 0.2 give no name; all that they refuse has the status 400."""
    if error.status != 400:
        return None
    if error.message.removeprefix("limit: ").startswith(_NO_RATE):
        return errors.RateError
    return NotConfiguredError if error.message.startswith(_NOT_CONFIGURED) else ValueError
