"""What a request that is not let in is answered with, unless the program has its own answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flint._web.request import Request

PROBLEM = "application/problem+json"

# By the reason of a verdict: the title, and the text of `detail`.
_TEXTS = {
    "denied": ("Too Many Requests", "rate limit exceeded"),
    "cost": ("Too Many Requests", "this request costs more than its rate limit ever admits"),
    "blocked": ("Forbidden", "forbidden"),
    "error": ("Service Unavailable", "the rate limiter cannot decide"),
}
_BODIES = {
    reason: json.dumps({"detail": text}, separators=(",", ":")).encode()
    for reason, (_, text) in _TEXTS.items()
}


def detail(reason: str) -> str:
    """What is wrong, in the words that clients see."""
    return _TEXTS[reason][1]


def answer(
    request: Request, reason: str, status: int, always_problem: bool, more: dict[str, Any]
) -> tuple[str, bytes]:
    """The content type and the body. `more` are members of a problem's own."""
    if not always_problem and not _names_problem(request):
        return "application/json", _BODIES[reason]
    title, text = _TEXTS[reason]
    problem = {"type": "about:blank", "title": title, "status": status, "detail": text, **more}
    return PROBLEM, json.dumps(problem, separators=(",", ":")).encode()


def _names_problem(request: Request) -> bool:
    """Whether Accept names problem details, and does not refuse them."""
    for field in request.headers("accept"):
        for entry in field.lower().split(","):
            media, *parameters = (part.strip() for part in entry.split(";"))
            if media == PROBLEM:
                return not any(p.startswith("q=0") and not p[3:].strip(".0") for p in parameters)
    return False
