"""What every limiter answers, wherever it lives: a place joins by a line of `PLACES`."""
