"""Flint as the place where other limiters keep what they count: one module for each of them, named
as theirs. Importing it registers what has to be registered."""
