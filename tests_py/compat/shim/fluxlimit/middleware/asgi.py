from flint.compat.fluxlimit._asgi import *  # noqa: F403
