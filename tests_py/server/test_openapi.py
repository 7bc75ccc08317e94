"""The description of the endpoints: it is whole, and answers are what it says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from flint_server import FlintServer, needs_server, running

pytestmark = needs_server

DESCRIBED = json.loads((ROOT / "server" / "openapi.json").read_text("utf-8"))
ROUTES = (ROOT / "server" / "http_routes.cc").read_text("utf-8")
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
KNOWN = {
    *("type", "description", "default", "examples", "format", "const", "enum"),
    *("minimum", "maximum", "minLength", "maxLength", "pattern"),
    *("items", "minItems", "maxItems", "properties", "required", "oneOf", "anyOf", "$ref"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlintServer]:
    with running(tmp_path_factory.mktemp("openapi") / "data") as server:
        yield server


# ---- What it says --------------------------------------------------------------------------------


def resolved(node: Any) -> Any:
    while "$ref" in node:
        value: Any = DESCRIBED
        for part in node["$ref"].removeprefix("#/").split("/"):
            value = value[part]
        node = value
    return node


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DESCRIBED["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_the_server_serves_it(server: FlintServer) -> None:
    assert server.json("GET", "/v1/openapi.json") == DESCRIBED
    assert DESCRIBED["openapi"] == "3.1.0"


def test_it_has_every_route() -> None:
    routes = re.findall(r'HttpRoute\{"(\w+)", ("[^"]+"|kOneLimitPath), Rights::k(\w+)', ROUTES)
    expected = {
        (path.strip('"').replace("kOneLimitPath", "/v1/limits/{key}"), method.lower()): rights
        for method, path, rights in routes
    }
    assert len(expected) > 20
    assert {(path, method) for path, method, _ in operations()} == set(expected)
    for path, method, operation in operations():
        said = operation["description"]
        is_open = operation["security"] == []
        right = expected[path, method].lower()
        assert said.endswith("Needs no token." if is_open else f"Right: {right}.")
        assert is_open == (path in ("/healthz", "/readyz"))


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema at or below a schema."""
    yield node
    for name in ("properties",):
        for one in node.get(name, {}).values():
            yield from schemas(one)
    for name in ("oneOf", "anyOf"):
        for one in node.get(name, []):
            yield from schemas(one)
    if "items" in node:
        yield from schemas(node["items"])


def all_schemas() -> Iterator[dict[str, Any]]:
    for schema in DESCRIBED["components"]["schemas"].values():
        yield from schemas(schema)
    for _, _, operation in operations():
        contents = [
            one.get("content", {}) for one in map(resolved, operation["responses"].values())
        ]
        contents.append(operation.get("requestBody", {}).get("content", {}))
        for content in contents:
            for media in content.values():
                yield from schemas(media["schema"])
        for parameter in operation.get("parameters", []):
            yield from schemas(parameter["schema"])


def test_it_is_well_formed() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)
    for path, method, operation in operations():
        in_path = [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]
        assert in_path == re.findall(r"{(\w+)}", path)
        assert operation["summary"]
        for status, answer in operation["responses"].items():
            assert re.fullmatch(r"[1-5](\d\d|XX)", status), (path, method)
            assert resolved(answer)["description"]
    for schema in all_schemas():
        assert schema.keys() <= KNOWN, schema
        resolved(schema)
        types = schema.get("type", [])
        assert set([types] if isinstance(types, str) else types) <= TYPES.keys()
        assert set(schema.get("required", [])) <= schema.get("properties", {}).keys()


# ---- What is answered ----------------------------------------------------------------------------


def fits(value: Any, schema: Any) -> bool:
    """Whether a value is what a schema says. An object has no field that is not described."""
    schema = resolved(schema)
    for name in ("oneOf", "anyOf"):
        if name in schema:
            return sum(fits(value, one) for one in schema[name]) >= 1
    types = schema.get("type", list(TYPES))
    classes = tuple(TYPES[name] for name in ([types] if isinstance(types, str) else types))
    if not isinstance(value, classes) or (isinstance(value, bool) and bool not in classes):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, list):
        return all(fits(one, schema.get("items", {})) for one in value)
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return set(schema["required"]) <= value.keys() and all(
            name in known and fits(one, known[name]) for name, one in value.items()
        )
    return not (isinstance(value, int) and value < schema.get("minimum", value))


BODIES: dict[str, Any] = {
    "/v1/limits": {"key": "a", "rate": "5/m"},
    "/v1/limits:batch": {"limits": [{"key": "b", "rate": "5/m", "name": "n"}]},
    "/v1/check": {"key": "a"},
    "/v1/peek": {"key": "a", "details": True},
    "/v1/allow": {"key": "a"},
    "/v1/checks:batch": {"checks": [{"key": "a"}, {"key": "none"}]},
    "/v1/check-all": {"items": [{"key": "a", "cost": 5}, {"key": "b", "cost": 1}]},
    "/v1/status": {"key": "a"},
    "/v1/reset": {"key": "a"},
    "/throttle": {"key": "t", "max_burst": 2, "count_per_period": 3, "period": 4},
    "/json": {"domain": "d", "descriptors": [{"entries": [{"key": "a", "value": "b"}]}]},
    "/v1/log/flush": None,
    "/v1/log/compact": None,
    "/v1/remove": {"key": "a"},
}
WRONG = ({}, {"key": 5}, [], "{", {"key": "none"}, {"key": "", "rate": 0, "per": ""})


def described(server: FlintServer, path: str, operation: Any, asked: tuple[Any, ...]) -> int:
    """Asks, and finds the answer in the description. The status."""
    status, fields, text = server.ask(*asked)
    responses = operation["responses"]
    answer = resolved(responses.get(str(status), responses.get(f"{status // 100}XX")))
    content = answer.get("content", {})
    media = fields.get("content-type", "").partition(";")[0]
    assert (media in content) or (not text and not content), (path, status, media)
    if text and media == "application/json":
        value = json.loads(text)
        is_free = path in ("/v1/info", "/v1/openapi.json")
        assert is_free or fits(value, content[media]["schema"]), (path, status, text)
    return status


def test_answers_are_as_described(server: FlintServer) -> None:
    found = {(path, method): operation for path, method, operation in operations()}
    for path, body in BODIES.items():
        asked = ("POST", path, body)
        assert described(server, path, found[path, "post"], asked) in (200, 204)
        if path not in ("/v1/reset", "/v1/remove"):
            continue
        assert server.json("POST", "/v1/limits", {"key": "a", "rate": "5/m"})
    for path, method in found:
        if method == "get":
            asked = ("GET", path.replace("{key}", "a"), None)
            assert described(server, path, found[path, method], asked) == 200
            if found[path, method].get("parameters"):
                more = ("GET", asked[1] + "?details=true&limit=3", None)
                assert described(server, path, found[path, method], more) == 200
                wrong = ("GET", asked[1] + "?limit=x&name=%ff&key=%ff", None)
                assert described(server, path, found[path, method], wrong) in (200, 400)


def test_refusals_are_as_described(server: FlintServer) -> None:
    for path, method, operation in operations():
        if method != "post" or "requestBody" not in operation:
            continue
        for body in WRONG:
            status = described(server, path, operation, ("POST", path, body))
            assert status != 500


@pytest.mark.skipif("FLINT_LONG" not in os.environ, reason="set FLINT_LONG=1")
def test_schemathesis(data_dir: Path) -> None:
    """Where it is installed: it makes requests out of the description, good ones and bad ones."""
    schemathesis = pytest.importorskip("schemathesis")
    with running(data_dir, "--sync", "batch") as server:
        schema = schemathesis.openapi.from_dict(DESCRIBED)
        schema.config.base_url = f"http://127.0.0.1:{server.port}"
        from hypothesis import HealthCheck, given, settings

        # A body of the right shape may name a key that has no limit, which is a 400; of many
        # checks what is wrong with one is its own answer.
        wrong = schemathesis.GenerationMode.NEGATIVE
        names = ("positive_data_acceptance", "negative_data_rejection")
        excluded = [schemathesis.checks.CHECKS.get_one(name) for name in names]
        for result in schema.get_all_operations():
            operation = result.ok()

            @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=wrong))
            @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
            def try_it(case: Any) -> None:
                case.call_and_validate(excluded_checks=excluded)

            try_it()
