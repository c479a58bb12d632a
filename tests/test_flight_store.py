"""A store behind grpc:// is the store in the folder: same records, batches, orders, errors; in any thread."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.errors import FeatxError, KeyNotFound, StoreDamaged, StoreError, UsageError
from featx.loading import FeatureLoader
from featx.schema import Field, Schema
from featx.serve.flight import FlightService, serve_flight
from featx.serve.mounted import Mounts
from featx.serve.settings import Settings
from featx.store import StoreReader, create_store, open_part, open_store, read_manifest
from featx.store.native import Reader
from featx.store.remote import flight_store, remote_store
from featx.store.remote.flight_store import FlightStore
from tests.flight_calls import served
from tests.store_oracle import FIXED, PROVENANCE, SCHEMA, make_store, names, record_of
from tests.test_gather import assert_same

COUNT = 40
INT8 = Schema((Field("features", "int8", (33,)), *SCHEMA.fields[1:]))
SCHEMAS = {"varying": SCHEMA, "fixed": FIXED, "int8": INT8}


@pytest.fixture(scope="module", params=SCHEMAS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    schema = SCHEMAS[request.param]
    return make_store(tmp_path_factory.mktemp("s") / "s", "lmdb", COUNT, parts=3, schema=schema)


@pytest.fixture(scope="module")
def service(path: Path) -> Iterator[FlightService]:
    with served(s=path) as running:
        yield running


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store, where the kind is not the point."""
    return make_store(tmp_path_factory.mktemp("s") / "s", "hdf5", COUNT, schema=FIXED)


@pytest.fixture(params=["native", "plain"])
def store(
    service: FlightService, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StoreReader]:
    if request.param == "plain":
        monkeypatch.setattr(remote_store, "reader", lambda: Reader(None, "left out"))
    monkeypatch.setattr(flight_store, "PORTION", 20_000)  # a few records, so that a batch is many portions
    with open_store(f"{service.location}/s") as opened:
        yield opened


def raised(action: Any) -> FeatxError:
    with pytest.raises(FeatxError) as caught:
        action()
    return caught.value


def test_records_keys_and_what_is_known_of_it_are_those_of_the_folder(store: StoreReader, path: Path) -> None:
    folder = open_store(path)
    assert isinstance(store, FlightStore)
    assert len(store) == len(folder)
    assert list(store) == list(store.keys()) == list(folder.keys())
    assert list(store.keys("source")) == list(folder.keys("source"))
    assert list(store.failures()) == list(folder.failures())
    assert store.parts == folder.parts
    assert store.manifest == folder.manifest
    assert read_manifest(store.url) == read_manifest(path)
    for key in folder:
        assert store.stored_bytes(key) == folder.stored_bytes(key)
        assert store[key] == folder[key]
    with pytest.raises(UsageError, match="'random'"):
        store.keys("random")  # type: ignore[arg-type]


def test_a_batch_is_that_of_the_folder_bit_for_bit(store: StoreReader, path: Path) -> None:
    folder = open_store(path)
    keys = [*list(folder)[::-2], list(folder)[3], *list(folder)[1::2], list(folder)[3]]
    options: list[dict[str, Any]] = [
        {}, {"boxes": "unit"}, {"dtype": "stored", "fields": []}, {"fields": ["pooled"], "boxes": "unit"},
    ]  # fmt: skip
    for chosen in options:
        assert_same(store.get_batch(keys, **chosen), folder.get_batch(keys, **chosen))


def test_a_batch_into_a_buffer_is_that_of_the_folder(store: StoreReader, path: Path) -> None:
    folder, keys = open_store(path), list(open_store(path))
    mine, other = (reader.buffer(50, 24 if reader.schema.rows is None else None) for reader in (store, folder))
    for some in (keys, keys[:3], [], keys[5:]):
        assert_same(store.get_batch(some, mine, boxes="unit"), folder.get_batch(some, other, boxes="unit"))


def test_row_counts_are_those_of_the_folder(store: StoreReader, path: Path) -> None:
    folder = open_store(path)
    keys = [*folder, *list(folder)[::3]] * 3  # more than one ticket takes
    np.testing.assert_array_equal(store.row_counts(keys), folder.row_counts(keys), strict=True)
    assert len(store.row_counts([])) == 0


BAD = [["nobody"], [names(7)[6]], [names(1)[0], "nobody"], [names(1)[0], names(7)[6]], ["new\nline"], [""]]


def test_errors_are_those_of_the_folder(store: StoreReader, path: Path) -> None:
    assert isinstance(store, FlightStore)
    for keys in BAD:
        for one, two in zip(errors_of(store, keys), errors_of(open_store(path), keys), strict=True):
            assert (type(one), one.message) == (type(two), two.message)
            assert one.hint.replace(store.url, "STORE") == two.hint


def errors_of(store: StoreReader, keys: list[str]) -> list[FeatxError]:
    """What asking for the last of ``keys``, or for all, raises."""
    actions = (lambda: store.get_batch(keys), lambda: store[keys[-1]], lambda: store.row_counts(keys))
    return [raised(action) for action in actions]


def test_membership_is_that_of_the_folder(store: StoreReader, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_store(path)
    asked = [*folder, names(COUNT)[6], "nobody", "", "new\nline", "x" * 1000]
    monkeypatch.setattr(remote_store, "FEW", 5)
    assert [key in store for key in asked] == [key in folder for key in asked]
    assert [key in store for key in reversed(asked)] == [key in folder for key in reversed(asked)]
    assert 7 not in store


def test_a_damaged_record_is_told_with_its_url(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s", "lmdb", 8)
    key, other = sorted(names(6))[:2]
    record, file = open_store(path).stored_bytes(key), next(path.glob("parts/*/records.lmdb"))
    content = bytearray(file.read_bytes())
    content[content.index(record) + 1000] ^= 4
    file.write_bytes(content)
    with served(s=path) as running, open_store(f"{running.location}/s") as store:
        for action in (lambda: store[key], lambda: store.get_batch([other, key])):
            error = raised(action)
            assert isinstance(error, StoreDamaged)
            assert key in error.message
            assert "has checksum" in error.message or "the bytes have checksum" in error.message
        assert_same(store.get_batch([other]), open_store(path).get_batch([other]))
        with open_store(f"{running.location}/s", checksums="never") as careless:
            careless.get_batch([key])


def test_threads_may_share_a_store(store: StoreReader, path: Path) -> None:
    folder = open_store(path)
    keys = list(folder)
    expected = [folder.get_batch(keys[n : n + 20]).clone() for n in range(8)]

    def read(turn: int) -> None:
        assert_same(store.get_batch(keys[turn % 8 : turn % 8 + 20]), expected[turn % 8])
        assert store[keys[turn]] == folder[keys[turn]]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(read, range(30)))


def test_a_pickle_opens_the_store_again(store: StoreReader, path: Path) -> None:
    again = pickle.loads(pickle.dumps(store))
    assert isinstance(again, FlightStore)
    assert list(again) == list(store)
    again.close()
    assert again[names(1)[0]] == open_store(path)[names(1)[0]]  # a closed one opens when it is used


def test_a_loader_feeds_from_a_url_as_from_the_folder(store: StoreReader, path: Path) -> None:
    loaders = [FeatureLoader(reader, batch=7, seed=3, epochs=2) for reader in (store, open_store(path))]
    count = 0
    for mine, other in zip(*loaders, strict=True):
        assert_same(mine, other)
        count += 1
    assert count == len(loaders[0])


def test_a_token_is_asked_for_and_not_shown(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEATX_TOKEN", raising=False)
    with served(token="sesame", s=single) as running:
        url = f"{running.location}/s"
        assert "wants a token" in raised(lambda: open_store(url)).message
        refused = raised(lambda: open_store(url, token="simsalabim"))
        assert (type(refused), "refuses the token" in refused.message) == (UsageError, True)
        assert "simsalabim" not in str(refused)
        monkeypatch.setenv("FEATX_TOKEN", "sesame")
        with open_store(url) as store:
            assert b"sesame" not in pickle.dumps(store)
            assert_same(store.get_batch(names(3)), open_store(single).get_batch(names(3)))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("grpc://user:word@127.0.0.1:1/s", "holds a user name or a password"),
        ("grpc://127.0.0.1:1/s?token=x", "query or a fragment"),
        ("grpc:///s", "no URL of a store"),
        ("grpc://127.0.0.1:x/s", "no URL of a store"),
        ("grpc+tls://127.0.0.1:1/s/t/u", "goes on behind"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, said: str) -> None:
    error = raised(lambda: open_store(url))
    assert isinstance(error, UsageError)
    assert said in error.message
    assert "http" not in error.message


def test_a_name_may_be_left_out_where_there_is_one_store(single: Path) -> None:
    with served(s=single) as running, open_store(running.location) as store:
        assert store.url == f"{running.location}/s"
    with served(s=single, t=single) as running:
        error = raised(lambda: open_store(running.location))
        assert "names no store, and the server has s, t" in error.message
        assert "no store at" in raised(lambda: open_store(f"{running.location}/u")).message


def test_nobody_there_is_said_in_time() -> None:
    error = raised(lambda: open_store("grpc://127.0.0.1:9/s", timeout=0.3))
    assert isinstance(error, StoreError)
    assert "grpc://127.0.0.1:9/s could not be read" in error.message


def test_a_store_that_is_replaced_is_told(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s", "lmdb", 8)
    mounts = Mounts.of(s=path)
    with serve_flight(Settings(), mounts) as running, open_store(f"{running.location}/s") as store:
        assert store[names(1)[0]] == record_of(names(1)[0])
        path.rename(tmp_path / "old")
        make_store(path, "lmdb", 9)
        assert mounts.stores["s"].renew()
        for action in (
            lambda: store[names(1)[0]],
            lambda: store.get_batch(names(2)),
            lambda: store.row_counts(names(2)),
        ):
            assert "was replaced" in raised(action).message
        with open_store(f"{running.location}/s") as again:
            assert len(again) == len(open_store(path))


def test_a_store_that_is_not_finished_opens_on_request(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of("a"), 0)
        writer.commit()
        with served(s=tmp_path / "s") as running:
            assert "unfinished" in raised(lambda: open_store(f"{running.location}/s")).message
            with open_store(f"{running.location}/s", partial=True) as store:
                assert (len(store), list(store), "b" in store) == (1, ["a"], False)
                assert store["a"] == record_of("a")
                with pytest.raises(KeyNotFound):
                    store["b"]


def test_long_and_composed_names_are_found(tmp_path: Path) -> None:
    long, composed = "deep/" * 120 + "é.jpg", "cafe\u0301 100% a?b#c.jpg"
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put(long, record_of("long"), 1)
        writer.put(composed, record_of("composed"), 0)
        writer.finish()
    folder = open_store(tmp_path / "s")
    with served(s=tmp_path / "s") as running, open_store(f"{running.location}/s") as store:
        assert sorted(store) == sorted(folder)
        assert store[composed] == record_of("composed")
        assert composed in store
        assert long in store
        assert store[long] == record_of("long")
        assert_same(store.get_batch([long, composed]), folder.get_batch([long, composed]))


def test_a_certificate_of_ones_own_is_trusted_when_named(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes a certificate here, is not installed")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    line += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)]
    subprocess.run(line, check=True, capture_output=True)
    with serve_flight(Settings(), Mounts.of(s=single), tls=(cert, key)) as running:
        url = f"{running.location}/s"
        assert url.startswith("grpc+tls://")
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        with open_store(url) as store:
            assert_same(store.get_batch(names(3)), open_store(single).get_batch(names(3)))
        monkeypatch.delenv("SSL_CERT_FILE")
        assert isinstance(raised(lambda: open_store(url, timeout=0.5)), StoreError)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
        assert "SSL_CERT_FILE" in raised(lambda: open_store(url)).message
    assert isinstance(
        raised(lambda: serve_flight(Settings(), Mounts.of(s=single), tls=(cert, tmp_path / "x"))), UsageError
    )


def test_a_server_that_comes_back_is_waited_for(single: Path) -> None:
    first = serve_flight(Settings(), Mounts.of(s=single))
    with open_store(f"{first.location}/s") as store, ThreadPoolExecutor(1) as pool:
        assert store[names(1)[0]] == record_of(names(1)[0], FIXED)
        first.close()
        batch = pool.submit(store.get_batch, names(3))
        with serve_flight(Settings(flight_port=first.port), Mounts.of(s=single)):
            assert_same(batch.result(), open_store(single).get_batch(names(3)))
