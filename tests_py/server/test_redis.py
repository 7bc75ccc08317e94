"""The Redis port, by redis-py, by redis-cli and byte by byte."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flint_server import DEADLINE_S, FlintServer, needs_server, read_all, running
from in_redis.redis_server import RedisServer

from flint import Limiter

pytestmark = needs_server

BIND = "--redis-bind=127.0.0.1:0"
DAY_S = 86_400
OK = b"+OK\r\n"


def port_of(server: FlintServer) -> int:
    return int(server.urls[-1].rsplit(":", 1)[1])


def client_of(server: FlintServer, **options: Any) -> Any:
    # Maps are what Redis 3's protocol has; with the second they are lists.
    options = {"protocol": 3, "socket_timeout": DEADLINE_S, **options}
    return redis.Redis(port=port_of(server), decode_responses=True, **options)


def plain(server: FlintServer, data: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port_of(server)), DEADLINE_S) as connection:
        connection.sendall(data)
        return read_all(connection)


def request(*words: str | bytes) -> bytes:
    encoded = [word.encode() if isinstance(word, str) else word for word in words]
    parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
    return b"*%d\r\n%s" % (len(parts), b"".join(parts))


QUIT = request("QUIT")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlintServer]:
    data = tmp_path_factory.mktemp("redis") / "data"
    with running(data, BIND, "--sync=batch") as server:
        assert server.urls[-1].startswith("redis://127.0.0.1:")
        yield server


@pytest.fixture
def client(server: FlintServer) -> Iterator[Any]:
    with client_of(server) as client:
        yield client


# ---- The connection ----------------------------------------------------------------------------


def test_a_client_connects(client: Any) -> None:
    assert client.ping() is True
    assert client.echo("a b") == "a b"
    assert client.client_setname("worker") is True
    assert client.client_getname() == "worker"
    assert client.client_id() > 0
    assert client.execute_command("SELECT", "0") in ("OK", True)
    assert client.info()["redis_mode"] == "standalone"
    assert client.info()["redis_version"] == "7.2.0"
    assert client.command()["CL.THROTTLE"]["arity"] == -5
    assert client.command_count() == len(client.execute_command("COMMAND LIST")) > 20


def test_both_versions_of_the_protocol(server: FlintServer) -> None:
    hello = plain(server, request("HELLO", "3") + QUIT)
    assert hello.startswith(b"%6\r\n$6\r\nserver\r\n$5\r\nflint\r\n")
    hello = plain(server, request("HELLO") + QUIT)
    assert hello.startswith(b"*12\r\n$6\r\nserver\r\n$5\r\nflint\r\n")
    assert plain(server, request("HELLO", "4") + QUIT).startswith(b"-NOPROTO ")
    with client_of(server, protocol=2) as two, client_of(server) as three:
        two.execute_command("FLINT.LIMIT", "versions", "RATE", 5, "PER", "1d")
        flat = two.execute_command("FLINT.PEEK", "versions")
        mapped = three.execute_command("FLINT.PEEK", "versions")
        # The rest is of another moment.
        assert dict(zip(flat[::2], flat[1::2], strict=True)).keys() == mapped.keys()
        assert flat[:2] == ["allowed", 1]
        assert mapped["allowed"] is True


def test_a_client_without_threads(server: FlintServer) -> None:
    async def ask() -> list[Any]:
        async with redis.asyncio.Redis(port=port_of(server), protocol=3) as client:
            await client.execute_command("FLINT.LIMIT", "aio", "RATE", 3, "PER", "1d")
            answers = [client.execute_command("FLINT.CHECK", "aio") for _ in range(5)]
            return list(await asyncio.gather(*answers))

    assert sum(answer[b"allowed"] for answer in asyncio.run(ask())) == 3


def test_answers_come_in_the_order_of_their_requests(client: Any) -> None:
    client.execute_command("FLINT.LIMIT", "order", "RATE", 40, "PER", "1d")
    with client.pipeline(transaction=False) as pipe:
        for number in range(100):
            pipe.execute_command("FLINT.CHECK", "order") if number % 2 else pipe.echo(str(number))
        answers = pipe.execute()
    assert answers[::2] == [str(number) for number in range(0, 100, 2)]
    assert [answer["remaining"] for answer in answers[1::2]] == [*range(39, -1, -1), *[0] * 10]


def test_redis_cli(server: FlintServer) -> None:
    program = shutil.which("redis-cli")
    if program is None:
        pytest.skip("redis-cli is not installed")
    done = subprocess.run(
        [program, "-p", str(port_of(server)), "CL.THROTTLE", "cli", "15", "30", "60", "1"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert done.stdout == "0\n16\n15\n-1\n2\n"


# ---- redis-cell and throttlecrab ---------------------------------------------------------------


def test_throttle_as_redis_cell_has_it(client: Any) -> None:
    def throttle(*words: int) -> Any:
        return client.execute_command("CL.THROTTLE", "cell", 2, 3, 3 * DAY_S, *words)

    assert throttle(0) == [0, 3, 3, -1, 0]
    assert throttle() == [0, 3, 2, -1, DAY_S]
    assert throttle(2) == [0, 3, 0, -1, 3 * DAY_S]
    limited, limit, remaining, retry_s, reset_s = throttle()
    assert (limited, limit, remaining) == (1, 3, 0)
    assert DAY_S - 60 < retry_s <= DAY_S
    assert 3 * DAY_S - 60 < reset_s <= 3 * DAY_S
    assert throttle(0)[:4] == [0, 3, 0, -1]
    # More than there can ever be.
    assert throttle(4)[:4] == [1, 3, 0, -1]
    # Another burst and rate for the same key go on with what it has used.
    assert client.execute_command("CL.THROTTLE", "cell", 9, 10, 3 * DAY_S, 1)[:2] == [0, 10]


def test_throttle_as_throttlecrab_has_it(client: Any) -> None:
    def throttle(*words: int) -> Any:
        return client.execute_command("THROTTLE", "crab", 3, 3, 3 * DAY_S, *words)

    assert throttle() == [1, 3, 2, DAY_S, 0]
    assert throttle(2)[:3] == [1, 3, 0]
    allowed, limit, remaining, _, retry_s = throttle()
    assert (allowed, limit, remaining) == (0, 3, 0)
    assert DAY_S - 60 < retry_s <= DAY_S
    with pytest.raises(redis.ResponseError, match="never"):
        throttle(4)


def test_a_quantity_is_judged_by_the_limit_that_decides(client: Any) -> None:
    def throttle(command: str, key: str, *words: int) -> Any:
        return client.execute_command(command, key, *words)

    client.execute_command("FLINT.LIMIT", "narrow", "RATE", 3, "PER", "1d")
    client.execute_command("FLINT.LIMIT", "wide", "RATE", 100, "PER", "1d")
    assert throttle("CL.THROTTLE", "narrow", 99, 100, 60, 4) == [1, 3, 3, -1, 0]
    assert throttle("CL.THROTTLE", "wide", 1, 2, 60, 50)[:4] == [0, 100, 50, -1]
    assert throttle("THROTTLE", "wide", 2, 2, 60, 40)[:3] == [1, 100, 10]
    with pytest.raises(redis.ResponseError, match="never"):
        throttle("THROTTLE", "narrow", 100, 100, 60, 4)
    assert client.execute_command("FLINT.STATUS", "narrow")["total_denied"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("-1", "30", "60"),
        ("15", "0", "60"),
        ("15", "30", "0"),
        ("15", "30", "x"),
        ("15", "30", ""),
        ("15", "30", "60", "-1"),
        ("18446744073709551615", "30", "60"),
        ("15", "30", "18446744073709551615"),
    ],
)
def test_a_throttle_that_cannot_be(client: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(redis.ResponseError):
        client.execute_command("CL.THROTTLE", "wrong", *words)
    assert client.execute_command("FLINT.STATUS", "wrong") is None


# ---- Flint's own commands ----------------------------------------------------------------------


def test_limits(client: Any) -> None:
    do = client.execute_command
    assert do("FLINT.LIMIT", "l:*", "RATE", 5, "PER", "1d", "BURST", 9) == "OK"
    assert do("FLINT.LIMIT", "l:*", "RATE", 50, "PER", "1d", "NX") == "OK"
    assert do("FLINT.LIMIT", "l:1", "RATE", 7, "PER", "60s", "ALGORITHM", "gcra") == "OK"
    assert do("FLINT.LIMIT", "l:1", "RATE", 70, "PER", "1h", "NAME", "hour") == "OK"
    template = do("FLINT.STATUS", "l:*")
    assert (template["rate"], template["burst"], template["kind"]) == (5, 9, "template")
    assert do("FLINT.STATUS", "l:1")["algorithm"] == "gcra"
    assert do("FLINT.STATUS", "l:1", "NAME", "hour")["rate"] == 70
    assert do("FLINT.STATUS", "none") is None
    decided = do("FLINT.CHECK", "l:2", "COST", 4)
    assert (decided["allowed"], decided["remaining"], decided["limit"]) == (True, 5, 9)
    assert do("FLINT.STATUS", "l:2")["total_allowed_cost"] == 4
    assert do("FLINT.RESET", "l:2") == "OK"
    assert do("FLINT.PEEK", "l:2")["remaining"] == 9
    assert do("FLINT.REMOVE", "l:1", "NAME", "hour") == "OK"
    assert do("FLINT.STATUS", "l:1", "NAME", "hour") is None
    assert do("FLINT.REMOVE", "l:*") == "OK"
    with pytest.raises(redis.ResponseError, match="NOT_CONFIGURED"):
        do("FLINT.CHECK", "l:3")


def test_a_limit_that_a_check_carries(client: Any) -> None:
    words = ("FLINT.CHECK", "carried", "RATE", 2, "PER", "1d")
    answers = [client.execute_command(*words) for _ in range(3)]
    assert [answer["allowed"] for answer in answers] == [True, True, False]
    assert answers[2]["retry_after_ns"] > 0


def test_limits_in_words(client: Any) -> None:
    words = ("FLINT.CHECK", "words", "LIMIT", "2/day; 3/week")
    answers = [client.execute_command(*words) for _ in range(3)]
    assert [answer["allowed"] for answer in answers] == [True, True, False]
    with pytest.raises(redis.ResponseError, match="at character 3: "):
        client.execute_command("FLINT.CHECK", "words", "LIMIT", "2/eon")
    with pytest.raises(redis.ResponseError, match="LIMIT says everything"):
        client.execute_command(*words, "RATE", 1, "PER", "1d")


def test_all_or_none(client: Any) -> None:
    do = client.execute_command
    do("FLINT.LIMIT", "all:*", "RATE", 2, "PER", "1d")
    one = do("FLINT.CHECKALL", "all:1", 2, "all:2", 1)
    assert (one["allowed"], one["denied_key"], len(one["results"])) == (True, None, 2)
    one = do("FLINT.CHECKALL", "all:2", 1, "all:1", 1)
    assert (one["allowed"], one["denied_key"], len(one["results"])) == (False, "all:1", 2)
    assert do("FLINT.PEEK", "all:2")["remaining"] == 1


def test_items_bring_limits(client: Any) -> None:
    do = client.execute_command
    items = ("lim:1", 1, "limit", "2/day", "lim:2", 1, "LIMIT", "5/day; 9/week", "lim:3", 1)
    with pytest.raises(redis.ResponseError, match="NOT_CONFIGURED"):
        do("FLINT.CHECKALL", *items)
    do("FLINT.LIMIT", "lim:3", "LIMIT", "4/day")
    for left in ([1, 4, 3], [0, 3, 2]):
        found = do("FLINT.CHECKALL", *items)
        assert [one["remaining"] for one in found["results"]] == left
    assert do("FLINT.CHECKALL", *items)["denied_key"] == "lim:1"
    many = do("FLINT.CHECKMANY", "lim:4", 1, "LIMIT", "2/day", "lim:3", 1)
    assert [one["remaining"] for one in many] == [1, 1]
    # A key of that name has its cost behind it, and no limit is a number.
    do("FLINT.LIMIT", "LIMIT", "LIMIT", "3/day")
    found = do("FLINT.CHECKALL", "lim:3", 1, "LIMIT", 2)
    assert [one["key"] for one in found["results"]] == ["lim:3", "LIMIT"]
    with pytest.raises(redis.ResponseError, match="LIMIT says everything"):
        do("FLINT.LIMIT", "x", "LIMIT", "3/day", "RATE", 1)


def test_listings(tmp_path: Path) -> None:
    with running(tmp_path / "data", BIND) as server, client_of(server) as client:
        do = client.execute_command
        keys = [f"k{number:03}" for number in range(250)]
        for key in keys:
            do("FLINT.LIMIT", key, "RATE", 3, "PER", "1d")
        found, cursor = [], ""
        while True:
            words = ("CURSOR", cursor) if cursor else ()
            cursor, page = do("FLINT.LIST", "COUNT", 64, *words)
            found += [one["key"] for one in page]
            if not cursor:
                break
        assert found == keys
        assert cursor == ""
        # A longest key with a longest name does not end it, and cursors are text.
        do("FLINT.LIMIT", "a" * 65_535, "RATE", 3, "PER", "1d", "NAME", "ü" * 127)
        cursor, page = do("FLINT.LIST", "COUNT", 1)
        assert (page[0]["name"], bytes.fromhex(cursor) != b"") == ("ü" * 127, True)
        assert do("FLINT.LIST", "COUNT", 1, "CURSOR", cursor)[1][0]["key"] == keys[0]
        assert len(server.json("GET", "/v1/limits")) == 251
        do("FLINT.REMOVE", "a" * 65_535)
        for _ in range(5):
            do("FLINT.CHECK", "k007")
        (top,) = do("FLINT.TOP", "BY", "denied", "COUNT", 10)
        assert (top["key"], top["total_denied"], top["total_allowed"]) == ("k007", 2, 3)
        assert do("FLINT.FLUSH") == "OK"
        cursor, events = do("FLINT.HISTORY", "KEY", "k007")
        assert [one["type"] for one in events if one["type"] != "LIMIT_CONFIGURED"] == [
            *["ALLOW"] * 3,
            *["DENY"] * 2,
        ]
        assert do("FLINT.HISTORY", "KEY", "k007", "CURSOR", cursor)[1] == []
        _, events = do("FLINT.HISTORY", "KEY", "k007", "NEWEST", "COUNT", 1)
        assert [one["type"] for one in events] == ["DENY"]
        assert do("FLINT.COMPACT") == "OK"
        info = do("FLINT.INFO")
        assert (info["limits"], info["compactions"], info["poisoned"]) == (250, 1, 0)
        do("FLINT.LIMIT", "k*", "RATE", 3, "PER", "1d", "NAME", "n")
        do("FLINT.LIMIT", "k*", "RATE", 4, "PER", "1d")
        for key, count in (("k*", 2), ("k249", 1), ("k", 0)):
            cursor, page = do("FLINT.LIST", "COUNT", 100, "KEY", key)
            assert [one["key"] for one in page] == [key] * count
        report = do("FLINT.DOCTOR")
        assert (report["ok"], report["limits"], report["damage"]) == (True, 252, None)


def test_a_page_holds_one_event_at_least(tmp_path: Path) -> None:
    with running(tmp_path / "data", BIND) as server, client_of(server) as client:
        for key in "abc":
            client.execute_command("FLINT.LIMIT", key, "RATE", 5, "PER", "1d")
        client.execute_command("FLINT.CHECKALL", "a", 1, "b", 1, "c", 1)
        client.execute_command("FLINT.CHECK", "a")
        for order in ((), ("NEWEST",)):
            pages, cursor = [], 0
            while True:
                words = ("COUNT", 2, *order, *(("CURSOR", cursor) if cursor else ()))
                cursor, events = client.execute_command("FLINT.HISTORY", *words)
                if not events:
                    break
                pages.append([event["key"] for event in events])
            assert ["a", "b", "c"] in pages
            assert sum(map(len, pages)) == 7


def test_keys_are_bytes_of_utf8(client: Any) -> None:
    words = ("RATE", 1, "PER", "1d")
    assert client.execute_command("FLINT.CHECK", "ключ \r\n $5", *words)["key"] == "ключ \r\n $5"
    with pytest.raises(redis.ResponseError, match="UTF-8"):
        client.execute_command("FLINT.CHECK", b"\xff", *words)
    with pytest.raises(redis.ResponseError):
        client.execute_command("FLINT.CHECK", "", *words)


# ---- What is refused ---------------------------------------------------------------------------


def test_every_command_wants_its_words(client: Any) -> None:
    for name, arity, *_ in client.execute_command("COMMAND INFO"):
        if abs(arity) == 1:
            continue
        with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
            client.execute_command(name, *[""] * (abs(arity) - 2))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("NONE",), 'unknown command "NONE"'),
        (("FLINT.CHECK", "a", "COSTS", "1"), 'the option "COSTS" is not known'),
        (("FLINT.CHECK", "a", "COST"), 'the option "COST" needs a value'),
        (("FLINT.CHECK", "a", "COST", "-1"), "COST must be a whole number"),
        (("FLINT.CHECK", "a", "RATE", "1"), "a limit needs RATE and PER"),
        (("FLINT.CHECK", "a", "RATE", "1", "PER", "x"), "PER must be digits with"),
        (("FLINT.LIMIT", "a", "RATE", "1", "PER", "1d", "ALGORITHM", "x"), "algorithm"),
        (("FLINT.LIMIT", "a", "RATE", "0", "PER", "1d"), "rate"),
        (("FLINT.CHECKALL", "a", "1", "b"), "a cost behind each key"),
        (("FLINT.CHECKALL", "a", "1", "LIMIT"), "a cost behind each key"),
        (("FLINT.CHECKALL", "a", "1", "LIMIT", "2/eon"), "at character 3: "),
        (("FLINT.TOP", "BY", "x"), "BY must be denied"),
        (("FLINT.TOP", "COUNT", "0"), "COUNT must be 1 to 1000"),
        (("FLINT.LIST", "CURSOR", "x"), "CURSOR is not"),
        (("SELECT", "1"), "one database"),
        (("CLIENT", "KILL"), "CLIENT takes"),
        (("CLIENT", "SETNAME", "a b"), "no blanks"),
        (("CLIENT", "SETNAME", "a" * 256), "255 bytes"),
        (("FLINT.CHECK", "a", "LIMIT", "1/s", "ALGORITHM", "gcra"), "LIMIT says everything"),
        (("FLINT.CHECK", "a", "ALGORITHM", "gcra"), "a limit needs RATE and PER"),
        (("COMMAND", "GETKEYS"), "COMMAND takes"),
        (("HELLO", "3", "X"), "HELLO takes"),
    ],
)
def test_what_cannot_be_meant(client: Any, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(redis.ResponseError, match=message):
        client.execute_command(*words)
    assert client.ping()


MALFORMED = {
    "HTTP": b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n" + request("FLINT.FLUSH"),
    "an inline command": b"FLINT.FLUSH\r\n",
    "an empty line": b"\r\n",
    "a bare line feed": b"*1\n$4\r\nPING\r\n",
    "no elements": b"*0\r\n",
    "fewer than none": b"*-1\r\n",
    "a sign": b"*+1\r\n$4\r\nPING\r\n",
    "a zero in front": b"*01\r\n$4\r\nPING\r\n",
    "a blank": b"*1 \r\n$4\r\nPING\r\n",
    "too many elements": b"*257\r\n",
    "a huge number": b"*99999999999999999999\r\n",
    "a long line": b"*" + b"1" * 70_000,
    "no string": b"*1\r\n:4\r\n",
    "an array in it": b"*1\r\n*1\r\n$4\r\nPING\r\n",
    "null": b"*1\r\n$-1\r\n",
    "a long string": b"*1\r\n$163841\r\n",
    "long strings": b"*2\r\n$163840\r\n" + b"a" * 163_840 + b"\r\n$1\r\n",
    "a string that is longer than it says": b"*1\r\n$3\r\nPING\r\n",
    "a string that is shorter than it says": b"*1\r\n$5\r\nPING\r\n\r\n",
    "an answer": b"+OK\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_ends_the_connection(server: FlintServer, data: bytes) -> None:
    answers = plain(server, request("ECHO", "before") + data + request("ECHO", "behind"))
    assert answers.startswith(b"$6\r\nbefore\r\n-ERR Protocol error: ")
    assert b"behind" not in answers
    assert answers.count(b"\r\n") == 3


def test_what_is_typed(server: FlintServer) -> None:
    assert plain(server, b"PING\r\nping\r\nquit\r\n") == b"+PONG\r\n+PONG\r\n+OK\r\n"


def test_bytes_may_come_one_by_one(server: FlintServer) -> None:
    data = request("ECHO", "a\r\n$1\r\nb") + request("ECHO", "") + QUIT
    with socket.create_connection(("127.0.0.1", port_of(server)), DEADLINE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            connection.sendall(bytes([byte]))
        assert read_all(connection) == b"$8\r\na\r\n$1\r\nb\r\n$0\r\n\r\n" + OK


# ---- Rights ------------------------------------------------------------------------------------


TOKENS = {"reader": "read", "checker": "check", "chief": "admin"}
NEEDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "peek": ("read", lambda do: do("FLINT.PEEK", "a")),
    "status": ("read", lambda do: do("FLINT.STATUS", "a")),
    "list": ("read", lambda do: do("FLINT.LIST")),
    "top": ("read", lambda do: do("FLINT.TOP")),
    "history": ("read", lambda do: do("FLINT.HISTORY")),
    "info": ("read", lambda do: do("FLINT.INFO")),
    "doctor": ("read", lambda do: do("FLINT.DOCTOR")),
    "check": ("check", lambda do: do("FLINT.CHECK", "a")),
    "check all": ("check", lambda do: do("FLINT.CHECKALL", "a", 1)),
    "throttle": ("check", lambda do: do("CL.THROTTLE", "t", 9, 9, 9)),
    "the other throttle": ("check", lambda do: do("THROTTLE", "t", 9, 9, 9)),
    "limit": ("admin", lambda do: do("FLINT.LIMIT", "a", "RATE", 9, "PER", "1d")),
    "reset": ("admin", lambda do: do("FLINT.RESET", "a")),
    "flush": ("admin", lambda do: do("FLINT.FLUSH")),
    "compact": ("admin", lambda do: do("FLINT.COMPACT")),
    "remove": ("admin", lambda do: do("FLINT.REMOVE", "a")),
}


def test_rights(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("".join(f"{token} {right}\n" for token, right in TOKENS.items()), "utf-8")
    ranks = list(TOKENS.values())
    with running(tmp_path / "data", BIND, f"--token-file={file}") as server:
        with client_of(server, password="chief") as chief:
            chief.execute_command("FLINT.LIMIT", "a", "RATE", 900, "PER", "1d")
        for token, right in TOKENS.items():
            with client_of(server, password=token) as client:
                for need, call in NEEDS.values():
                    if ranks.index(right) >= ranks.index(need):
                        call(client.execute_command)
                    else:
                        with pytest.raises(redis.exceptions.NoPermissionError):
                            call(client.execute_command)
        with (
            client_of(server, password="other") as client,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            client.ping()
        assert plain(server, request("PING") + QUIT).startswith(b"-NOAUTH ")
        assert plain(server, request("HELLO", "3") + QUIT).startswith(b"-NOAUTH ")
        # A stranger has no room for more than to say who he is.
        assert b"at most 16384 bytes" in plain(server, b"*2\r\n$4\r\nECHO\r\n$16381\r\n")
        assert b"1 to 10 elements" in plain(server, b"*11\r\n")
        failed = request("HELLO", "3", "AUTH", "default", "chief", "BOGUS") + request("PING") + QUIT
        assert [line[:5] for line in plain(server, failed).split(b"\r\n")[:2]] == [
            b"-ERR ",
            b"-NOAU",
        ]
        assert plain(server, request("NONE") + QUIT).startswith(b"-NOAUTH ")
        assert plain(server, request("AUTH", "chief") + QUIT) == OK + OK
        assert plain(server, request("AUTH", "default", "chief") + QUIT) == OK + OK
        assert plain(server, request("AUTH", "root", "chief") + QUIT).startswith(b"-WRONGPASS ")
        # Who has said a token that is taken away may do nothing more.
        with client_of(server, password="checker") as client:
            assert client.ping()
            file.write_text("chief admin\n", "utf-8")
            server.reload()
            with pytest.raises(redis.exceptions.AuthenticationError):
                client.ping()
        assert "checker" not in server.leave()


# ---- What is on disk ---------------------------------------------------------------------------


# What clients say when they connect, in their versions at the time and in the order in which they
# send it, and how each answer must begin. An error is one that the client goes on from.
def says(name: str, version: str, name_first: bool, words: bytes) -> list[tuple[bytes, bytes]]:
    client, setinfo = words.split()
    pairs = [(b"LIB-NAME", name.encode()), (b"LIB-VER", version.encode())]
    return [
        (request(client, setinfo, *pair), b"+OK") for pair in (pairs if name_first else pairs[::-1])
    ]


CAPITALS, SMALL = b"CLIENT SETINFO", b"client setinfo"
MOVING = ("moving-endpoint-type", "external-ip")
CONNECTING = {
    "ioredis 6.0.0": [
        (request("hello", "3", "AUTH", "default", "sesame"), b"%6"),
        *says("ioredis", "6.0.0", False, words=SMALL),
        (request("info"), b"$"),
    ],
    "node-redis 6.3.1": [
        (request("AUTH", "sesame"), b"+OK"),
        *says("node-redis", "6.3.1", False, words=CAPITALS),
    ],
    "node-redis 6.3.1, version 3": [
        (request("HELLO", "3", "AUTH", "default", "sesame"), b"%6"),
        *says("node-redis", "6.3.1", False, words=CAPITALS),
        (request("CLIENT", "MAINT_NOTIFICATIONS", "ON", *MOVING), b"-ERR "),
    ],
    "go-redis 9.23.0": [
        (request("hello", "2", "auth", "default", "sesame"), b"*12"),
        *says("go-redis(,go1.26.8)", "9.23.0", True, words=SMALL),
    ],
    "go-redis 9.23.0, version 3": [
        (request("hello", "3", "auth", "default", "sesame"), b"%6"),
        (request("client", "maint_notifications", "on", *MOVING), b"-ERR "),
        *says("go-redis(,go1.26.8)", "9.23.0", True, words=SMALL),
    ],
    "jedis 5.1.0": [
        (request("AUTH", "sesame"), b"+OK"),
        (request("HELLO", "3"), b"%6"),
        *says("jedis", "5.1.0", True, words=CAPITALS),
        (request("PING"), b"+PONG"),
    ],
}


def beginnings(answers: bytes) -> list[bytes]:
    """The first line of each answer; of maps and lists only of texts and numbers."""
    firsts, at = [], 0

    def skip(at: int) -> int:
        end = answers.index(b"\r\n", at)
        mark, said, behind = answers[at : at + 1], answers[at + 1 : end], end + 2
        if mark == b"$":
            return behind + int(said) + 2
        for _ in range(int(said) * {b"*": 1, b"%": 2}.get(mark, 0) if mark in b"*%" else 0):
            behind = skip(behind)
        return behind

    while at < len(answers):
        firsts.append(answers[at : answers.index(b"\r\n", at)])
        at = skip(at)
    return firsts


@pytest.mark.parametrize("name", CONNECTING)
def test_what_clients_say_when_they_connect(tmp_path: Path, name: str) -> None:
    (tmp_path / "tokens").write_text("sesame\n")
    (tmp_path / "tokens").chmod(0o600)
    with running(tmp_path / "data", BIND, f"--token-file={tmp_path / 'tokens'}") as server:
        asked = b"".join(words for words, _ in CONNECTING[name])
        throttle = request("CL.THROTTLE", "key", "15", "30", "60")
        answers = beginnings(plain(server, asked + throttle + QUIT))
        expected = [*(first for _, first in CONNECTING[name]), b"*5", b"+OK"]
        assert len(answers) == len(expected)
        for answer, first in zip(answers, expected, strict=True):
            assert answer.startswith(first)


AUTHENTICATING = [
    ("AUTH", "x"),
    ("AUTH", "default", "x"),
    ("AUTH", "default", ""),
    ("AUTH", "other", "x"),
    ("AUTH", "sesame"),
    ("AUTH", "default", "sesame"),
    ("HELLO", "3", "AUTH", "default", "x"),
    ("HELLO", "3", "AUTH", "other", "x"),
    ("HELLO", "3", "AUTH", "default", "sesame"),
    ("AUTH",),
    ("AUTH", "default", "x", "y"),
]


@pytest.mark.parametrize("password", ["", "sesame"], ids=["without a password", "with one"])
def test_who_comes_with_a_password_is_answered_as_by_redis(tmp_path: Path, password: str) -> None:
    """Clients know what it says, and go on where it lets them."""
    ours = ["--token", password] if password else []
    theirs = RedisServer(*([f"--requirepass {password}"] if password else []))

    def first_line(data: bytes) -> bytes:
        line = data.split(b"\r\n", 1)[0]
        if line.startswith(b"-ERR AUTH "):
            return line
        return line.split(b" ", 1)[0][:6]  # what kind of error; and HELLO has other fields

    with theirs, running(tmp_path / "data", BIND, *ours) as server:
        for words in AUTHENTICATING:
            address = ("127.0.0.1", theirs.port)
            with socket.create_connection(address, timeout=DEADLINE_S) as connection:
                connection.sendall(request(*words) + QUIT)
                expected = read_all(connection)
            found = plain(server, request(*words) + QUIT)
            is_hello = expected.startswith(b"%")
            assert is_hello == found.startswith(b"%"), words
            assert is_hello or first_line(found) == first_line(expected), words


def test_what_was_answered_survives_kill(tmp_path: Path) -> None:
    with running(tmp_path / "data", BIND) as server:
        with client_of(server) as client, client.pipeline(transaction=False) as pipe:
            for _ in range(50):
                pipe.execute_command("CL.THROTTLE", "k", 99, 100, 100 * DAY_S)
            assert sum(answer[0] == 0 for answer in pipe.execute()) == 50
        server.process.kill()
        server.left(-9)
    with Limiter(tmp_path / "data") as limiter:
        status = limiter.status("k")
    assert status is not None
    assert status["total_allowed"] == 50


def test_a_unix_socket_and_a_drain(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    bind = f"--redis-bind=unix:{path}"
    with (
        running(tmp_path / "data", bind) as server,
        redis.Redis(unix_socket_path=str(path)) as client,
    ):
        assert client.ping()
        assert server.leave()
        with pytest.raises(redis.ConnectionError):
            client.ping()
    assert not path.exists()
