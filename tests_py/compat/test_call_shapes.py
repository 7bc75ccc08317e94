"""Flask-Limiter and PyrateLimiter in their own shapes on Flint, and what is missing for others."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import pytest
from flask import Flask
from limits.errors import ConfigurationError

import flint
import flint.compat.flask_limiter
import flint.compat.pyrate_limiter
from flint.compat import _place, _storage
from flint.compat.pyrate_limiter import Duration, Rate


def home() -> str:
    return "hello"


def free() -> str:
    return "hello"


def test_flask_limiter(tmp_path: Path) -> None:
    module = flint.compat.flask_limiter
    for wanted in ([200, 200], [200, 429]):
        with flint.Limiter(tmp_path) as place:
            app = Flask("app")
            limiter = module.Limiter(
                module.get_remote_address, app=app, default_limits=["3 per day"], limiter=place
            )
            app.get("/")(home)
            app.get("/free")(limiter.exempt(free))
            client = app.test_client()
            assert [client.get("/").status_code for _ in range(2)] == wanted
            assert client.get("/free").status_code == 200
    assert module.RateLimitExceeded.__module__.startswith("flask_limiter")


def test_bad_configuration_gets_the_error_that_is_known() -> None:
    module = flint.compat.flask_limiter
    with flint.Limiter(":memory:") as place, pytest.raises(ConfigurationError):
        module.Limiter(module.get_remote_address, app=Flask("app"), strategy="other", limiter=place)
    with pytest.raises(ValueError, match="Invalid rate list"):
        flint.compat.pyrate_limiter.Limiter([], limiter=":memory:")


def test_pyrate_limiter(tmp_path: Path) -> None:
    module = flint.compat.pyrate_limiter
    assert doctest.testmod(module).failed == 0
    rates = [Rate(2, Duration.MINUTE), Rate(3, Duration.HOUR)]
    with flint.Limiter(tmp_path) as place:
        limiter = module.Limiter(rates, limiter=place, key="mails")
        assert [limiter.try_acquire("a", blocking=False) for _ in range(3)] == [True, True, False]
    with flint.Limiter(tmp_path) as place:
        limiter = module.Limiter(rates, limiter=place, key="mails")
        assert not limiter.try_acquire("a", blocking=False)
    bucket = module.InMemoryBucket(rates)
    assert module.Limiter(bucket).try_acquire("a", blocking=False)
    with pytest.raises(TypeError, match="counts where it is"):
        module.Limiter(bucket, limiter=":memory:")


def test_where_they_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with flint.Limiter(":memory:") as place:
        monkeypatch.setattr(_place, "default_limiter", lambda: place)
        assert _storage.storage_on(None, None, None)[1] == {"limiter": place}
        options = {"key_prefix": "mine"}
        assert _storage.storage_on(place, None, options)[1] == {**options, "limiter": place}
        assert options == {"key_prefix": "mine"}
        with pytest.raises(TypeError, match="limiter= takes the place of storage_uri='memory://'"):
            _storage.storage_on(place, "memory://", None)
        with pytest.raises(TypeError, match="for a limiter that is opened here: sync"):
            _storage.storage_on(place, None, {"sync": "batch"})


@pytest.mark.parametrize(
    ("module", "peer", "extra"),
    [
        ("flint.compat.slowapi", "starlette", "slowapi"),
        ("flint.compat.flask_limiter", "flask_limiter", "flask-limiter"),
        ("flint.compat.pyrate_limiter", "pyrate_limiter", "pyrate-limiter"),
        ("flint.plugins.limits", "limits", "limits"),
        ("flint.plugins.pyrate_limiter", "pyrate_limiter", "pyrate-limiter"),
        ("flint.plugins.throttled", "throttled", "throttled"),
        ("flint.plugins.django_cache", "django", "django"),
    ],
)
def test_the_extra_is_named_where_it_is_missing(
    module: str, peer: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    for name in [*sys.modules]:
        if name in (module, peer) or name.startswith((f"{module}.", f"{peer}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, peer, None)
    with pytest.raises(ImportError, match=rf'pip install "flint-limiter\[{extra}\]"'):
        importlib.import_module(module)
