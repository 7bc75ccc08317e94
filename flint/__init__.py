"""Flint: a rate limiter that lives inside the program that uses it and remembers across restarts.

>>> import flint
>>> limiter = flint.Limiter(":memory:")
>>> limiter.limit("mail:*", rate=2, per="1h")
>>> limiter.allow("mail:alice"), limiter.allow("mail:alice"), limiter.allow("mail:alice")
(True, True, False)
"""

from __future__ import annotations

import os.path

TYPE_CHECKING = False  # typing itself would have to be loaded
if TYPE_CHECKING:
    from flint._public import *  # noqa: F403
    from flint._public import __version__ as __version__

# A directory of python-flint, whose module has the same name and whose users are many.
_PLACE = os.path.dirname(__file__)  # noqa: PTH120 - pathlib would have to be loaded
if os.path.isdir(f"{_PLACE}/flint_base"):  # noqa: PTH112
    import warnings

    from flint.errors import FlintWarning

    warnings.warn(
        f"python-flint is installed in {_PLACE!r} too, and both are the module flint, so that "
        "they break each other. Install one of them in another environment, and then this one anew",
        FlintWarning,
        stacklevel=2,
    )

# What the names lead to is loaded at the first use of one of them.
_ASKED_FOR = ("__all__", "__version__")


def __getattr__(name: str) -> object:
    if name.startswith("_") and name not in _ASKED_FOR:
        raise AttributeError(f"module 'flint' has no attribute {name!r}")
    from flint import _public

    loaded = {public: here for public, here in vars(_public).items() if public in _public.__all__}
    globals().update(loaded, __all__=_public.__all__)
    if name not in globals() and name in _public.__all__:
        globals()[name] = getattr(_public, name)  # one of those that few ask for
    try:
        return globals()[name]  # also a module that has been loaded on the way
    except KeyError:
        raise AttributeError(f"module 'flint' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    from flint import _public

    return sorted({*globals(), *_public.__all__})
