"""`python -m flint.compat.flux`."""

from __future__ import annotations

import sys

from flint.compat.flux._command import main

if __name__ == "__main__":
    sys.exit(main())
