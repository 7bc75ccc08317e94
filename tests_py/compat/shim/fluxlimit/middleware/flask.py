from flint.compat.fluxlimit._flask import Fluxlimit, init_fluxlimit  # noqa: F401
