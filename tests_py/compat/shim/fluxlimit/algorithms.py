from flint.compat.fluxlimit._algorithms import *  # noqa: F403
