from flint.compat.fluxlimit._errors import *  # noqa: F403
