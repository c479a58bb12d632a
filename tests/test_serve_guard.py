"""Who may ask, how much, and what browsers are told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from featx.errors import UsageError
from featx.serve.extension import Extension
from featx.serve.mounted import Mounts
from featx.serve.run import check
from featx.serve.settings import Settings, is_loopback
from tests.serving import KEYS, Server, bytes_of, path_of, serving
from tests.store_oracle import KINDS, make_store

TOKEN = "a-token-of-many-letters"
RECORD = path_of("s", KEYS[0])
ASKED = [
    ("GET", RECORD),
    ("HEAD", RECORD),
    ("POST", "/v1/stores/s/records"),
    ("GET", "/v1/stores"),
    ("GET", "/metrics"),
    ("GET", "/nowhere"),
    ("GET", "/v1/stores/none/records/a"),
]
NONSENSE = [
    b"\0\1\2\3",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v1/stores/s/records HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{",
    b"GET " + b"a" * 100_000,
]
EXPECTED = bytes_of(KEYS[0], KINDS["lmdb"].schema)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("stores") / "s", "lmdb", 40)


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    with serving(Mounts.of(s=store), origins=("https://good.example",)) as running:
        yield running


@pytest.fixture(scope="module")
def secured(store: Path) -> Iterator[Server]:
    with serving(Mounts.of(s=store), token=TOKEN) as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_with_the_token_records_are_sent_and_without_it_nothing_is(secured: Server) -> None:
    assert secured.ask("GET", RECORD, headers=bearer(TOKEN)).body == EXPECTED
    assert secured.ask("GET", RECORD, headers={"authorization": f"bearer {TOKEN}"}).body == EXPECTED
    wrong = [bearer(TOKEN + "x"), bearer(TOKEN[:-1]), bearer(""), bearer("é"), {"authorization": f"Basic {TOKEN}"}, {}]
    for headers in wrong:
        for method, path in ASKED:
            answer = secured.ask(method, path, headers=headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), (headers, path)
            assert KEYS[0].encode() not in answer.body


def test_a_token_in_the_address_is_no_token(secured: Server) -> None:
    for query in (f"?token={TOKEN}", f"?access_token={TOKEN}"):
        assert secured.ask("GET", RECORD + query).status == 401


def test_health_needs_no_token_and_tells_nothing_of_a_store(secured: Server) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json"):
        answer = secured.ask("GET", path)
        assert answer.status == 200
        assert KEYS[0].encode() not in answer.body


def test_strangers_are_not_told_which_store_is_not_there(tmp_path: Path) -> None:
    for token, told in ((TOKEN, ["a store cannot be opened"]), (None, ["the store secret cannot be opened"])):
        with serving(Mounts.of(secret=tmp_path / "nothing"), token=token) as running:
            answer = running.ask("GET", "/readyz")
            assert (answer.status, answer.json["reasons"]) == (503, told)


def test_what_follows_a_body_is_no_header(server: Server) -> None:
    """Else a trailer would be taken for the host, or the origin, that a proxy or a browser has said."""
    import socket

    for host, trailer, status in ((b"localhost", b"evil", b"200"), (b"evil", b"localhost", b"421")):
        head = b"POST /v1/stores/s/records HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % host
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as connection:
            connection.sendall(head + b'c\r\n{"keys": []}\r\n0\r\nHost: %b\r\n\r\n' % trailer)
            assert connection.recv(4096).split()[1] == status


def test_the_token_is_in_no_log_and_no_answer(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serving(Mounts.of(s=store), token=TOKEN) as running:
        answers = [
            running.ask("GET", path, headers=bearer(token))
            for path in (RECORD, "/nowhere", "/metrics", "/openapi.json", "/v1/stores/s/records/none")
            for token in (TOKEN, "wrong")
        ]
    assert TOKEN not in caplog.text
    assert not [answer for answer in answers if TOKEN.encode() in answer.body or TOKEN in str(answer.headers)]
    assert TOKEN not in repr(Settings(token=TOKEN))


def test_without_a_token_only_names_of_this_machine_are_answered(server: Server) -> None:
    for host in ("localhost", "127.0.0.1", "LOCALHOST:8000", f"127.0.0.1:{server.port}", "[::1]:80"):
        assert server.ask("GET", RECORD, headers={"host": host}).status == 200, host
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "169.254.1.1"):
        for path in (RECORD, "/v1/stores", "/healthz"):
            assert server.ask("GET", path, headers={"host": host}).status == 421, (host, path)


def test_any_other_address_than_loopback_needs_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.4", "example.org", "127.0.0.1.example.org", ""):
        assert not is_loopback(host)
        with pytest.raises(UsageError, match="no token"):
            check(Settings(host=host))
        check(Settings(host=host, token=TOKEN))
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        check(Settings(host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_empty_token_is_none_that_anybody_could_be_kept_out_with(host: str) -> None:
    with pytest.raises(UsageError, match="the token is empty"):
        check(Settings(host=host, token=""))


def test_pages_of_other_hosts_read_nothing_unless_they_are_named(server: Server) -> None:
    plain = server.ask("GET", RECORD, headers={"origin": "https://evil.example"})
    assert not [name for name in plain.headers if name.startswith("access-control")]
    named = server.ask("GET", RECORD, headers={"origin": "https://good.example"})
    assert named.body == EXPECTED
    assert named.headers["access-control-allow-origin"] == "https://good.example"
    assert "etag" in named.headers["access-control-expose-headers"]
    assert "origin" in named.headers["vary"]
    asked = {"origin": "https://good.example", "access-control-request-method": "POST"}
    flight = server.ask("OPTIONS", "/v1/stores/s/records", headers=asked)
    assert (flight.status, flight.headers["access-control-allow-methods"]) == (204, "GET, HEAD, POST")
    asked["origin"] = "https://evil.example"
    assert server.ask("OPTIONS", "/v1/stores/s/records", headers=asked).status in (403, 405)


def test_a_foreign_page_cannot_make_the_server_work(server: Server) -> None:
    body = {"keys": [KEYS[0]]}
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        assert server.ask("POST", "/v1/stores/s/records", body, {"origin": origin}).status == 403, origin
    own = f"http://127.0.0.1:{server.port}"
    assert server.ask("POST", "/v1/stores/s/records", body, {"origin": own}).status == 200
    assert server.ask("POST", "/v1/stores/s/records", body, {"origin": "https://good.example"}).status == 200


def test_browsers_are_told_to_run_and_frame_nothing(server: Server) -> None:
    for path in (RECORD, "/v1/stores", "/nowhere", "/metrics"):
        headers = server.ask("GET", path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"


def test_a_policy_that_an_answer_brings_stays(store: Path) -> None:
    async def page(request: Request) -> Response:
        return Response("hello", headers={"content-security-policy": "script-src 'self'", "referrer-policy": "origin"})

    extension = Extension([Route("/", page)], open=frozenset({"/"}))
    with serving(Mounts.of(s=store), (extension,), token=TOKEN) as running:
        answer = running.ask("GET", "/")
        assert (answer.status, answer.headers["content-security-policy"]) == (200, "script-src 'self'")
        assert answer.headers["referrer-policy"] == "origin"
        assert answer.headers["x-frame-options"] == "DENY"


def test_a_request_that_takes_too_long_is_ended(store: Path) -> None:
    async def slow(request: Request) -> Response:
        import asyncio

        await asyncio.sleep(3600)
        return Response("never")

    with serving(Mounts.of(s=store), (Extension([Route("/slow", slow, methods=["POST"])]),), timeout=0.2) as running:
        answer = running.ask("POST", "/slow", {})
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert running.ask("GET", RECORD).body == EXPECTED
        with closing(HTTPConnection("127.0.0.1", running.port, timeout=30)) as connection:
            connection.putrequest("POST", "/v1/stores/s/records")
            connection.putheader("content-type", "application/json")
            connection.putheader("content-length", "100")
            connection.endheaders(b'{"keys')  # and no more
            assert connection.getresponse().status == 503


def test_a_mistake_of_the_server_is_told_without_its_insides(store: Path) -> None:
    async def broken(request: Request) -> Response:
        raise ZeroDivisionError("secret detail")

    with serving(Mounts.of(s=store), (Extension([Route("/broken", broken)]),)) as running:
        answer = running.ask("GET", "/broken")
        assert (answer.status, answer.json["error"]["code"]) == (500, "internal")
        assert b"secret detail" not in answer.body
        assert b"Traceback" not in answer.body
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert running.ask("GET", RECORD).body == EXPECTED


def test_clients_that_send_nonsense_or_leave_do_no_harm(server: Server) -> None:
    import socket

    for data in NONSENSE:
        with closing(socket.create_connection(("127.0.0.1", server.port))) as connection:
            connection.sendall(data)
    with closing(socket.create_connection(("127.0.0.1", server.port))) as connection:  # one that never reads
        connection.sendall(f"GET {RECORD} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 50)
    assert server.ask("GET", RECORD).body == EXPECTED


@pytest.mark.parametrize(
    "begin", [b"", b"GET / HTTP/1.1\r\nHost: loc", RECORD.encode()], ids=["nothing", "head", "next"]
)
def test_a_connection_on_which_no_whole_request_comes_is_ended(store: Path, begin: bytes) -> None:
    """However its pieces drip: each would otherwise hold a connection for as long as its client likes."""
    import socket
    import time

    with serving(Mounts.of(s=store), timeout=0.5) as running:
        with closing(socket.create_connection(("127.0.0.1", running.port), timeout=30)) as connection:
            if begin == RECORD.encode():  # the second request of a connection
                connection.sendall(b"GET " + begin + b" HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n")
            else:
                connection.sendall(begin)
            latest = time.monotonic() + 20
            connection.settimeout(0.1)
            ended = False
            while not ended and time.monotonic() < latest:
                try:
                    if begin:
                        connection.sendall(b"a" if begin != RECORD.encode() else b"x: y\r\n")
                    ended = connection.recv(65536) == b""
                except TimeoutError:
                    continue
                except OSError:
                    ended = True
        assert ended
        assert running.ask("GET", RECORD).body == EXPECTED
