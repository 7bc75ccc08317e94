"""`python -m flint` is the command `flint`."""

import sys

from flint._cli.main import main

sys.exit(main())
