"""Rate limits in Flask.

    from flask import Flask
    from flint.flask import RateLimiter

    app = Flask(__name__)
    limits = RateLimiter(app, "data/limits", default="100/minute")

    @app.get("/search")
    @limits.limit("10/minute; 100/day")
    def search(): ...

The extra `flint-limiter[flask]` brings what this module needs.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast

try:
    import click
    from flask import Blueprint, Flask, Response, after_this_request, current_app, g, request
    from flask.cli import AppGroup
    from werkzeug.exceptions import HTTPException, default_exceptions
except ImportError:
    raise ImportError('flint.flask needs Flask: pip install "flint-limiter[flask]"') from None

from flint._web.answer import detail
from flint._web.decision import decide, settle
from flint._web.found import Found
from flint._web.opening import opened
from flint._web.policy import Policy
from flint._web.response import SentResponse, added
from flint.wsgi import WsgiRequest

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike
    from flint._web.decision import Verdict

    Where = AnyLimiter | str | os.PathLike[str]

__all__ = ["Policy", "RateLimiter"]

Limited = TypeVar("Limited")
_EXEMPT = "_flint_exempt"
_LIMITED = "_flint_limited"


class _Request(WsgiRequest):
    def __init__(self) -> None:
        super().__init__(request.environ, request)

    @property
    def route(self) -> str | None:  # type: ignore[override]
        return None if request.url_rule is None else request.url_rule.rule


class RateLimiter:
    """The extension. `limiter` is a limiter, or a path or URL for `flint.connect`; without it
    `init_app` reads `app.config["FLINT_URL"]`. `default` is what holds, for each client and
    route, for views that have no limit of their own, but not for static files; a blueprint's limit
    counts beside it. The other options are those of `Policy` and hold for all limits that are made
    here, unless the limit says otherwise.

    A denial is the response itself, with Retry-After. Any thread. Each worker process opens the
    limiter, so with a data directory there can be one worker only.
    """

    def __init__(
        self,
        app: Flask | None = None,
        limiter: Where | None = None,
        *,
        default: RateLike | None = None,
        **options: Any,
    ) -> None:
        self._options = options
        self._default = None if default is None else self._policy(default, {})
        self._where = limiter
        self._limiter: AnyLimiter | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, limiter: Where | None = None) -> None:
        """Limit this application. Raises RuntimeError where no limiter has been named."""
        where = limiter or self._where or app.config.get("FLINT_URL")
        if where is None:
            raise RuntimeError("RateLimiter needs a limiter: give it one, or set FLINT_URL")
        self._limiter = opened(where)
        app.extensions["flint"] = self
        app.before_request(self._before)
        app.after_request(self._after)
        app.cli.add_command(commands)

    @property
    def limiter(self) -> AnyLimiter:
        """The limiter that decides."""
        if self._limiter is None:
            raise RuntimeError("RateLimiter has no application yet: call init_app")
        return self._limiter

    def limit(self, limits: RateLike | None = None, **options: Any) -> Callable[[Limited], Limited]:
        """Limit a view, or a blueprint with all its views. `scope` of a name is shared by all that
        have it and the same limits; by default each route counts by itself. Stands below
        `@app.route`; for a class-based view in its `decorators`."""
        policy = self._policy(limits, options)

        def decorate(what: Limited) -> Limited:
            if isinstance(what, Blueprint):
                what.before_request(lambda: self._decide(policy))
                return cast("Limited", what)
            view = cast("Callable[..., Any]", what)

            @functools.wraps(view)
            def limited(*args: Any, **kwargs: Any) -> Any:
                denial = self._decide(policy)
                if denial is not None:
                    return denial
                return current_app.ensure_sync(view)(*args, **kwargs)

            setattr(limited, _LIMITED, True)
            return cast("Limited", limited)

        return decorate

    def exempt(self, view: Limited) -> Limited:
        """Leave a view out of the default."""
        setattr(view, _EXEMPT, True)
        return view

    def _policy(self, limits: RateLike | None, options: dict[str, Any]) -> Policy:
        return Policy(limits, **{"scope": "route", **self._options, **options})

    # ---- One request ----

    def _before(self) -> Response | None:
        g._flint = []
        if self._default is None or request.endpoint is None:
            return None
        view = current_app.view_functions.get(request.endpoint)
        if _is_static() or hasattr(view, _EXEMPT) or hasattr(view, _LIMITED):
            return None
        return self._decide(self._default)

    def _decide(self, policy: Policy) -> Response | None:
        """The answer to a request that is not let in."""
        verdict = decide(self.limiter, policy, _Request())
        if verdict.allowed:
            g._flint.append((policy, verdict))
            return None
        if policy.on_denied is not None:
            own = current_app.ensure_sync(policy.on_denied)(request, verdict)
            return current_app.make_response(own)
        return Response(verdict.body, verdict.status, verdict.headers)

    def _after(self, response: Response) -> Response:
        decided: list[tuple[Policy, Verdict]] = g.pop("_flint", [])
        for policy, verdict in reversed(decided):  # of several the innermost is shown
            if verdict.pending is not None:
                sent = SentResponse(response.status_code, response.headers.items())
                settle(self.limiter, policy, verdict, sent)
            response.headers.extend(added(verdict.headers, response.headers.items()))
        return response


def _is_static() -> bool:
    """Whether the request is for a static file of the application or of a blueprint."""
    name = request.blueprint
    owner = current_app if name is None else current_app.blueprints[name]
    own = "static" if name is None else f"{name}.static"
    return request.endpoint == own and owner.has_static_folder


# ---- For flint.rate_limit ----------------------------------------------------------------------


class FoundRequest(Found):
    """The request of the context."""

    def __init__(self) -> None:
        self._request = _Request()

    @property
    def limiter(self) -> AnyLimiter | None:
        extension: RateLimiter | None = current_app.extensions.get("flint")
        return None if extension is None else extension.limiter

    def denied(self, verdict: Verdict) -> Any:
        """Raises, as the function may not be the view itself; the application's error handlers
        apply."""
        self._show([one for one in verdict.headers if not one[0].startswith("Content-")])
        kind = default_exceptions.get(verdict.status, HTTPException)
        response = Response(verdict.body, verdict.status, verdict.headers)
        raise kind(detail(verdict.reason), response)

    def allowed(self, verdict: Verdict, answer: Any) -> Any:
        self._show(verdict.headers)
        return answer

    def _show(self, headers: list[tuple[str, str]]) -> None:
        def show(response: Response) -> Response:
            for name, value in headers:
                response.headers.setdefault(name, value)
            return response

        after_this_request(show)


# ---- flask flint -------------------------------------------------------------------------------

commands = AppGroup("flint", help="Limits of this application.")


def _of_application() -> AnyLimiter:
    limiter: RateLimiter = current_app.extensions["flint"]
    return limiter.limiter


@commands.command("list")
def list_limits() -> None:
    """Keys that have something in use, and limits."""
    for one in _of_application().list(counters=True):
        click.echo(f"{one['remaining']} of {one['rate']} left: {one['key']!r}")


@commands.command("reset")
@click.argument("key")
def reset(key: str) -> None:
    """Forget what is used of KEY."""
    _of_application().reset(key)
    click.echo("reset")
