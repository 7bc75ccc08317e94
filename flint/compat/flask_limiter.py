"""Flask-Limiter on Flint: `from flint.compat.flask_limiter import Limiter`.

    limiter = Limiter(get_remote_address, app=app, default_limits=["100 per hour"])

is Flask-Limiter's, with all that it takes, and counts in Flint: in `limiter`, an open one or where
`flint.connect` opens one with `storage_options`; without it, that is FLINT_URL or FLINT_DATA_DIR,
else the directory .flint. RATELIMIT_STORAGE_URI of the app's configuration has no effect,
RATELIMIT_STRATEGY only with `strategy=None`. All other names of `flask_limiter` are here too, and
`get_remote_address`.

What Flask-Limiter does otherwise: its strategy is "fixed-window" unless one is given, which counts
what it denies. Here it is "moving-window", which does not, and is exact to the nanosecond. The
docstring of `flint.plugins.limits` says how each strategy counts. What Flask-Limiter decides itself
is as there: several limits of a route one after another; `flint.flask` decides them together.

The extra `flint-limiter[flask-limiter]` brings Flask-Limiter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import flask_limiter
    from flask_limiter import *  # noqa: F403
    from flask_limiter.util import get_remote_address
except ImportError:
    raise ImportError(
        'flint.compat.flask_limiter needs Flask-Limiter: pip install "flint-limiter[flask-limiter]"'
    ) from None

from flint.compat._storage import storage_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from flint.compat._place import Where

__all__ = [*flask_limiter.__all__, "get_remote_address"]


class Limiter(flask_limiter.Limiter):  # type: ignore[no-redef]
    """Flask-Limiter's, counting in Flint; the module's docstring says where. Raises what
    `flint.connect` raises."""

    def __init__(
        self,
        key_func: Callable[[], str],
        *,
        strategy: str | None = "moving-window",
        storage_uri: None = None,
        storage_options: dict[str, Any] | None = None,
        limiter: Where | None = None,
        **options: Any,
    ) -> None:
        uri, kept = storage_on(limiter, storage_uri, storage_options)
        super().__init__(
            key_func, strategy=strategy, storage_uri=uri, storage_options=kept, **options
        )
