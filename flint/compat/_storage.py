"""A storage of `limits` in a limiter of Flint, as the arguments by which others open one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flint.plugins.limits  # noqa: F401 - registers its URLs
from flint.compat._place import Place

if TYPE_CHECKING:
    from flint.compat._place import Where


def storage_on(
    limiter: Where | None, storage_uri: str | None, options: dict[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """The `storage_uri` and the `storage_options` for a limiter; `options` are those of
    `flint.connect`, where it is a path or URL, and `key_prefix`. Raises TypeError beside another
    storage."""
    if storage_uri is not None:
        raise TypeError(f"limiter= takes the place of storage_uri={storage_uri!r}")
    kept = dict(options or {})
    named = {name: kept.pop(name) for name in ("key_prefix",) if name in kept}
    return "flint+memory://", {**named, "limiter": Place(limiter, **kept).limiter()}
