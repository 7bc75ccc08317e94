"""The surfaces of other limiters on Flint: a program that imports `flint.compat.fluxlimit` instead
of `fluxlimit` keeps its code. Each module says what it does otherwise than its original."""
