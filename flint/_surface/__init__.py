"""What every limiter is to its users, wherever its decisions are made: written over the few calls
that a place offers (`protocol`), and knowing no place."""
