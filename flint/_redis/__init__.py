"""Limits that live in Redis: what `flint.RedisLimiter` is made of."""
