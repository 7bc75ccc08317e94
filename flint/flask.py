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
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

try:
    import click
    from flask import Blueprint, Flask, Request, Response, after_this_request, current_app, request
    from flask.cli import AppGroup
    from werkzeug.exceptions import HTTPException, default_exceptions
except ImportError:
    raise ImportError('flint.flask needs Flask: pip install "flint-limiter[flask]"') from None

from flint._web.answer import detail
from flint._web.decision import Verdict, settle
from flint._web.found import Found
from flint._web.gate import Gate
from flint._web.opening import check_names, opened_for
from flint._web.policy import Policy, given_all
from flint._web.response import SentResponse, added
from flint.wsgi import WsgiRequest

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from flint._native import Result
    from flint._surface.protocol import AnyLimiter
    from flint._surface.rate import RateLike

    Where = AnyLimiter | str | os.PathLike[str]

__all__ = ["Policy", "RateLimiter"]

Limited = TypeVar("Limited")
_EXEMPT = "_flint_exempt"
_LIMITED = "_flint_limited"
# Of a request: the gates that have let it in, and what they have decided.
_DECIDED = "_flint_decided"


class _Request(WsgiRequest):
    def __init__(self, native: Request) -> None:
        super().__init__(native.environ, native)
        self.route = None if native.url_rule is None else native.url_rule.rule


# The request of the context: what is read from it often is not read through the proxy.
_current: Callable[[], Request] = cast("Any", request)._get_current_object


class RateLimiter:
    """The extension. `limiter` is a limiter, or a path or URL for `flint.connect`; without it
    `init_app` reads `app.config["FLINT_URL"]`. `default` is what holds, for each client and
    route, for views that have no limit of their own, but not for static files; a blueprint's limit
    counts beside it. The other options are those of `Policy` and hold for all limits that are made
    here, unless the limit says otherwise. `default` may also be a `Policy`, or several that are
    decided together, as in `limit`.

    A denial is the response itself, with Retry-After. Any thread. Each worker process opens the
    limiter: with several workers give a `flint.Limiter(path, shared=True)`, or a server's URL.
    """

    def __init__(
        self,
        app: Flask | None = None,
        limiter: Where | None = None,
        *,
        default: RateLike | Policy | Sequence[Policy] | None = None,
        **options: Any,
    ) -> None:
        self._options = options
        self._policies: list[Policy] = []  # all that have been made
        self._exempt: list[Blueprint] = []
        self._limiter: AnyLimiter | None = None
        self._default = None if default is None else self._gate_of_default(default)
        self._where = limiter
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, limiter: Where | None = None) -> None:
        """Limit this application. Raises RuntimeError where no limiter has been named."""
        where = limiter or self._where or app.config.get("FLINT_URL")
        if where is None:
            raise RuntimeError("RateLimiter needs a limiter: give it one, or set FLINT_URL")
        self._limiter = opened_for(self._policies, where)
        app.extensions["flint"] = self
        if self._default is not None:
            app.before_request(self._before)
        app.cli.add_command(commands)

    @property
    def limiter(self) -> AnyLimiter:
        """The limiter that decides."""
        if self._limiter is None:
            raise RuntimeError("RateLimiter has no application yet: call init_app")
        return self._limiter

    def limit(
        self,
        limits: RateLike | None = None,
        *,
        policy: Policy | Sequence[Policy] | None = None,
        **options: Any,
    ) -> Callable[[Limited], Limited]:
        """Limit a view, or a blueprint with all its views. `scope` of a name is shared by all that
        have it and the same limits; by default each route counts by itself. `policy` is one that
        has been made, or several that are decided together: a request counts in all of them or in
        none. Stands below `@app.route`; for a class-based view in its `decorators`."""
        gate = self._gate(policy, limits, options)

        def decorate(what: Limited) -> Limited:
            if isinstance(what, Blueprint):
                what.before_request(lambda: self._decide(gate))
                return cast("Limited", what)
            view = cast("Callable[..., Any]", what)
            is_async = iscoroutinefunction(view)

            @functools.wraps(view)
            def limited(*args: Any, **kwargs: Any) -> Any:
                denial = self._decide(gate)
                if denial is not None:
                    return denial
                return (current_app.ensure_sync(view) if is_async else view)(*args, **kwargs)

            setattr(limited, _LIMITED, True)
            return cast("Limited", limited)

        return decorate

    def exempt(self, what: Limited) -> Limited:
        """Leave a view, or a blueprint with all its views, out of the default."""
        if isinstance(what, Blueprint):
            self._exempt.append(what)
        else:
            setattr(what, _EXEMPT, True)
        return what

    def _gate(
        self,
        policy: Policy | Sequence[Policy] | None,
        limits: RateLike | None,
        options: dict[str, Any],
    ) -> Gate:
        own = {"scope": "route", **self._options, **options} if policy is None else options
        policies = given_all(policy, limits, own)
        if self._limiter is not None:
            check_names(policies, self._limiter)
        self._policies += policies
        return Gate(policies, _Request)

    def _gate_of_default(self, default: RateLike | Policy | Sequence[Policy]) -> Gate:
        some = default if isinstance(default, (list, tuple)) else [default]
        if any(isinstance(one, Policy) for one in some):
            return self._gate(cast("Policy", default), None, {})
        return self._gate(None, cast("RateLike", default), {})

    # ---- One request ----

    def _before(self) -> Response | None:
        if self._default is None or request.endpoint is None:
            return None
        view = current_app.view_functions.get(request.endpoint)
        if _is_static() or hasattr(view, _EXEMPT) or hasattr(view, _LIMITED):
            return None
        if self._exempt:
            blueprints = [current_app.blueprints[name] for name in request.blueprints]
            if any(one in self._exempt for one in blueprints):
                return None
        return self._decide(self._default)

    def _decide(self, gate: Gate) -> Response | None:
        """The answer to a request that is not let in."""
        native = _current()
        environ, rule = native.environ, native.url_rule
        limiter = self._limiter or self.limiter
        found = gate.check(
            limiter,
            native,
            environ["REQUEST_METHOD"],
            environ.get("REMOTE_ADDR"),
            None if rule is None else rule.rule,
        )
        if not isinstance(found, Verdict):
            if gate.is_shown:
                _note(native, limiter, gate, found)
            return None
        if found.allowed:
            if found.headers or found.pending:
                _note(native, limiter, gate, found)
            return None
        policy = found.policy or gate.policy
        if policy.on_denied is not None:
            own = current_app.ensure_sync(policy.on_denied)(request, found)
            return current_app.make_response(own)
        return Response(found.body, found.status, found.headers)


# Who has let a request in: its limiter and its gate, and what they decided.
_Decided: TypeAlias = "tuple[AnyLimiter, Gate, Result | Verdict]"


def _note(native: Request, limiter: AnyLimiter, gate: Gate, found: Result | Verdict) -> None:
    """Keep what is to be done with the response. A request that nobody limits costs nothing: Flask
    is told to call for this one alone."""
    decided: list[_Decided] | None = native.__dict__.get(_DECIDED)
    if decided is None:
        native.__dict__[_DECIDED] = decided = []
        after_this_request(lambda response: _finish(response, decided))
    decided.append((limiter, gate, found))


def _finish(response: Response, decided: list[_Decided]) -> Response:
    """Count the response where `when` says so, and add the headers."""
    headers = response.headers
    for limiter, gate, found in reversed(decided):  # of several the innermost is shown
        if not isinstance(found, Verdict):
            more = gate.headers(found)
        else:
            if found.pending:
                settle(limiter, found, SentResponse(response.status_code, headers.items()))
            more = found.headers
        for name, value in added(more, headers):
            headers.add(name, value)
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
        self._request = _Request(_current())

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
