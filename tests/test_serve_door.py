"""Connections that a compiled thread accepts: what it answers is, byte for byte, what Python answers alone, and what it
does not understand is handed over."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featx.serve import door
from featx.serve.mounted import Mounts
from tests.doors import EXPECTED, RECORD, Watched, alone, both, head, parsed, said, tag_of
from tests.serving import KEYS, REFUSALS, bytes_of, make_stores, path_of, serving
from tests.store_oracle import KINDS

pytestmark = pytest.mark.skipif(door.compiled() is None, reason="featx._lane is not compiled here")

TOKEN = "a-token-of-many-letters"
BEARER = f"authorization: Bearer {TOKEN}"
CASES = 200  # of the fuzzer

PLAIN = [  # what the thread answers itself
    head(RECORD),
    head(RECORD, method="HEAD"),
    head(RECORD, host="127.0.0.1:1234"),
    head(RECORD, host="LOCALHOST:8000"),
    head(RECORD, host="[::1]:80"),
    head(
        RECORD, "Accept: */*", "User-Agent: x", "Accept-Encoding: gzip, br", "X-Anything: 1", "Connection: Keep-Alive"
    ),
    head(RECORD, "accept: application/vnd.featx.record"),
    head(RECORD, "ACCEPT:   application/octet-stream"),
    head(RECORD, f"If-None-Match: {tag_of(KEYS[3])}"),
    head(RECORD, f"If-None-Match: {tag_of(KEYS[3])}", method="HEAD"),
    head(RECORD, f"If-None-Match: {tag_of(KEYS[4])}"),
    head(RECORD, f"If-None-Match: {tag_of(KEYS[4])}", method="HEAD"),
    head("/v1/stores/lmdb/records/" + "".join(f"%{ord(c):02x}" for c in KEYS[5])),
]
OTHER = [  # what it hands over
    head(path_of("lmdb", REFUSALS[0])),
    head(path_of("lmdb", "nobody")),
    head(path_of("lmdb", "é.jpg")),
    head(path_of("none", KEYS[0])),
    head("/v1/stores/lmdb/records/%zz"),
    head("/v1/stores/lmdb/records/%4"),
    head("/v1/stores/lmdb/records/"),
    head("/v1/stores/lmdb/records"),
    head("/v1/stores/lmdb/keys"),
    head("/v1/stores"),
    head("/healthz"),
    head(RECORD + "?as=json"),
    head(RECORD + "#x"),
    head(RECORD, "Range: bytes=0-9"),
    head(RECORD, f"If-Match: {tag_of(KEYS[3])}"),
    head(RECORD, "If-None-Match: *"),
    head(RECORD, f"If-None-Match: W/{tag_of(KEYS[3])}"),
    head(RECORD, 'If-None-Match: "other"'),
    head(RECORD, "Accept: application/json"),
    head(RECORD, "Accept:"),
    head(RECORD, "Accept: */*", "Accept: application/json"),
    head(RECORD, "Connection: close"),
    head(RECORD, "Origin: https://evil.example"),
    head(RECORD, "Content-Length: 0"),
    head(RECORD, "Unheard-Of: 1"),
    head(RECORD, "Expect: 100-continue"),
    head(RECORD, host="evil.example"),
    head(RECORD, host=None),
    head(RECORD, version="HTTP/1.0"),
    head(RECORD, method="PUT"),
    head(RECORD, method="OPTIONS"),
    head(RECORD, "X-Long: " + "a" * 9000),
    head(RECORD, "X-Tab:\ta"),
    head(RECORD, "Accept: */* "),
    head(RECORD, host="localhost "),
    head(RECORD, " folded: 1"),
    head(RECORD, "no colon"),
    head(RECORD).replace(b"\r\n", b"\n"),
    b"\0\1\2\3",
    b"\r\n" + head(RECORD),
    b"POST /v1/stores/lmdb/records HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n" + b'{"keys": []}',
]  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_plain_requests_are_answered_byte_for_byte_as_by_python(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    with both(stores, monkeypatch) as (ours, theirs), ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda sent: said(ours, sent), PLAIN))
        assert watched.seen == []
        assert answers == list(pool.map(lambda sent: said(theirs, sent), PLAIN))
    assert answers[0].endswith(EXPECTED)
    assert [answer.split()[1] for answer in answers] == [b"200"] * 8 + [b"304"] * 2 + [b"200"] * 3


def test_everything_else_is_handed_over_with_every_byte_of_it(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    with both(stores, monkeypatch) as (ours, theirs), ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda sent: said(ours, sent), OTHER))
        assert sorted(watched.seen) == sorted(OTHER)
        assert answers == list(pool.map(lambda sent: said(theirs, sent), OTHER))


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_record_of_every_kind_of_store_is_the_same(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str, watched: Watched
) -> None:
    sent = b"".join(head(path_of(kind, key)) for key in KEYS)
    with both({kind: stores[kind]}, monkeypatch) as (ours, theirs):
        answers = said(ours, sent)
        assert parsed(answers, []) == parsed(said(theirs, sent), [])
    assert [body for _, _, body in parsed(answers, [])] == [bytes_of(key, KINDS[kind].schema) for key in KEYS]
    assert len(watched.seen) == (kind == "hdf5")  # whose records do not lie whole in a file


def test_with_a_token_only_who_brings_it_is_answered(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    good = [head(RECORD, BEARER), head(RECORD, BEARER.replace("Bearer", "bEARER"), host="any.example")]
    bad = ["", BEARER + "x", BEARER[:-1], "authorization: Bearer ", f"authorization: {TOKEN}", "authorization: Bearer"]
    wrong = [head(RECORD, *([line] if line else [])) for line in bad]
    odd = [head(RECORD, BEARER.replace("Bearer", "Bearer ")), head(RECORD, BEARER, BEARER)]
    with both(stores, monkeypatch, token=TOKEN) as (ours, theirs):
        with ThreadPoolExecutor(16) as pool:
            cases = (*good, *wrong, *odd)
            answers = list(pool.map(lambda sent: said(ours, sent), cases))
            assert answers == list(pool.map(lambda sent: said(theirs, sent), cases))
        assert [answer.split()[1] == b"401" for answer in answers] == [sent in wrong for sent in cases]
    assert set(watched.seen) == {*wrong, *odd}


def test_mutated_requests_are_answered_as_by_python(stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)
    cases = [mutated(chance) for _ in range(CASES)]
    with both(stores, monkeypatch) as (ours, theirs), ThreadPoolExecutor(32) as pool:
        found = [list(pool.map(lambda sent: said(server, sent), cases)) for server in (ours, theirs)]  # noqa: B023
        for sent, own, other in zip(cases, *found, strict=True):
            assert agree(meaning(own), meaning(other)), sent
        assert ours.ask("GET", RECORD).body == EXPECTED


def mutated(chance: random.Random) -> bytes:
    """A request or some, with a few bytes changed, removed, doubled or thrown in."""
    made = bytearray(b"".join(chance.choice(PLAIN + OTHER) for _ in range(chance.choice((1, 1, 1, 2, 3)))))
    words = [b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"\0", b"%", b"%00", b"%0d%0a", b"//", b"/../", b"?", b"\xff",
             b";", b"HTTP/1.1", b"GET ", b"Host: localhost\r\n", b"Content-Length: 5\r\n", b'"', b"*/*",
             b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n"]  # fmt: skip
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        at, size = chance.randrange(len(made) + 1), chance.choice((0, 0, 1, 1, 4, 30))
        kind = chance.randrange(4)
        piece = bytes(made[at : at + size])
        made[at : at + size] = (
            chance.choice(words), chance.choice(words) + piece, bytes(chance.randrange(256) for _ in piece), piece * 2
        )[kind]  # fmt: skip
    return bytes(made)


def meaning(answers: bytes) -> list[tuple[list[bytes], bytes]]:
    """Lines and body of each answer. Of several requests in one piece Python sends the lines in another order when it
    has more to do."""
    found, left = list[tuple[list[bytes], bytes]](), answers
    while left:
        lines, _, rest = left.partition(b"\r\n\r\n")
        begin = rest.find(b"HTTP/1.1 ")  # no record has that in it
        found.append((sorted(lines.split(b"\r\n")), rest if begin < 0 else rest[:begin]))
        left = b"" if begin < 0 else rest[begin:]
    return found


def agree(own: list[tuple[list[bytes], bytes]], other: list[tuple[list[bytes], bytes]]) -> bool:
    """Whether the answers are the same. Python alone forgets what it was about to answer when nonsense follows at
    once: of these there may be more."""
    if own == other:
        return True
    left, records = iter(own), {b"", *(bytes_of(key, KINDS["lmdb"].schema) for key in KEYS)}
    same = bool(other) and all(any(answer == one for one in left) for answer in other)
    return same and b"HTTP/1.1 400 Bad Request" in other[-1][0] and all(body in records for _, body in own[:-1])


def test_without_it_the_loop_accepts(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    with alone(monkeypatch), serving(Mounts.of(**stores)) as server:
        assert server.ask("GET", path_of("lmdb", REFUSALS[0])).status == 404
        assert server.ask("GET", RECORD).body == EXPECTED
    assert watched.seen == []
