"""Flint in ten lines. Run it twice: the second run knows what the first has used up."""

from flint import Limiter

with Limiter("data/limits") as limiter:
    limiter.limit("user:*", rate=100, per="1m")  # 100 requests a minute for every user
    result = limiter.check("user:42")
    if result:
        print(f"go on, {result.remaining} left")
    else:
        print(f"try again in {result.retry_after:.1f} s")
