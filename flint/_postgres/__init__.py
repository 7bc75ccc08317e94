"""Limits that live in PostgreSQL: what `flint.PostgresLimiter` is made of."""
