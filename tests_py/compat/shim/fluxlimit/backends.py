from flint.compat.fluxlimit._backends import *  # noqa: F403
