"""A store behind a URL is the store in the folder: same records, batches, orders, errors; in any thread and process."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featx.errors import FeatxError, KeyNotFound, StoreError, UsageError
from featx.loading import FeatureDataset, FeatureLoader
from featx.schema import Field, Schema
from featx.store import StoreReader, create_store, open_part, open_store, read_manifest
from featx.store.native import Reader
from featx.store.remote import fetched, posted, remote_store
from featx.store.remote.http_store import HttpStore
from tests.forked import in_child
from tests.remote_double import Double, served, serving
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
def double(path: Path) -> Iterator[Double]:
    with serving(served(path)) as running:
        yield running


@pytest.fixture(scope="module")
def single_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store, where the kind is not the point."""
    return make_store(tmp_path_factory.mktemp("s") / "s", "hdf5", COUNT, schema=FIXED)


@pytest.fixture(scope="module")
def single(single_path: Path) -> Iterator[Double]:
    with serving(served(single_path)) as running:
        yield running


@pytest.fixture(params=["native", "plain"])
def store(double: Double, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreReader]:
    if request.param == "plain":
        monkeypatch.setattr(remote_store, "reader", lambda: Reader(None, "left out"))
    monkeypatch.setattr(posted, "PORTION", 20_000)  # a few records, so that a batch is many portions
    double.faults.clear()
    with open_store(f"{double.url}/s") as opened:
        yield opened


def outcome(store: StoreReader, keys: Any, **options: Any) -> FeatxError:
    with pytest.raises(FeatxError) as caught:
        store.get_batch(keys, **options)
    return caught.value


def test_records_keys_and_what_is_known_of_it_are_those_of_the_folder(store: StoreReader, path: Path) -> None:
    folder = open_store(path)
    assert isinstance(store, HttpStore)
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
    for some in (keys, keys[:3], [], keys[5:] * 1):
        assert_same(store.get_batch(some, mine, boxes="unit"), folder.get_batch(some, other, boxes="unit"))


def test_row_counts_are_those_of_the_folder_and_only_headers_travel(
    store: StoreReader, double: Double, path: Path
) -> None:
    folder = open_store(path)
    keys = [*folder, *list(folder)[::3]]
    del double.bodies[:]
    np.testing.assert_array_equal(store.row_counts(keys), folder.row_counts(keys), strict=True)
    assert [body.get("only") for body in double.bodies] == ["headers"]
    assert len(store.row_counts([])) == 0


BAD = [["nobody"], [names(7)[6]], [names(1)[0], "nobody"], [names(1)[0], names(7)[6]], ["new\nline"], [""]]


def test_errors_are_those_of_the_folder(store: StoreReader, path: Path) -> None:
    assert isinstance(store, HttpStore)
    for keys in BAD:
        for one, two in zip(errors_of(store, keys), errors_of(open_store(path), keys), strict=True):
            assert (type(one), one.message) == (type(two), two.message)
            assert one.hint.replace(store.url, "STORE") == two.hint


def errors_of(store: StoreReader, keys: list[str]) -> list[FeatxError]:
    """What asking for the last of ``keys``, or for all, raises."""
    return [outcome(store, keys), raised(lambda: store[keys[-1]]), raised(lambda: store.row_counts(keys))]


def raised(action: Any) -> FeatxError:
    with pytest.raises(FeatxError) as caught:
        action()
    return caught.value


def test_a_near_key_is_suggested(store: StoreReader) -> None:
    wanted = names(COUNT)[3]
    with pytest.raises(KeyNotFound) as caught:
        store[wanted.removesuffix(".jpg")]
    assert wanted in caught.value.hint


def test_a_buffer_that_is_too_small_is_refused_as_by_the_folder(store: StoreReader, path: Path) -> None:
    folder, keys = open_store(path), list(open_store(path))
    mine, other = outcome(store, keys, out=store.buffer(50, 13)), outcome(folder, keys, out=folder.buffer(50, 13))
    assert (type(mine), mine.message) == (type(other), other.message)


def test_membership_is_that_of_the_folder_and_many_questions_are_one_list(
    store: StoreReader, double: Double, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, refused = open_store(path), names(COUNT)[6]
    asked = [*folder, refused, "nobody", "", "new\nline", "x" * 1000]
    assert [key in store for key in asked] == [key in folder for key in asked]
    assert 7 not in store
    monkeypatch.setattr(remote_store, "FEW", 3)
    with open_store(f"{double.url}/s") as again:
        del double.asked[:]
        assert all(key in again for key in folder)
        assert refused not in again
        assert [method for method, _ in double.asked] == ["HEAD"] * 3 + ["GET"]


def test_membership_is_not_answered_by_a_server_that_has_the_store_no_more(single_path: Path) -> None:
    with serving(served(single_path)) as double, open_store(f"{double.url}/s") as store:
        key = next(iter(open_store(single_path)))
        assert key in store
        assert "nobody" not in store
        del double.stores["s"]
        with pytest.raises(StoreError, match="there is no store at"):
            assert key in store


def test_rows_of_many_records_are_counted_in_few_buffers(single_path: Path) -> None:
    keys = list(open_store(single_path))
    with serving(served(single_path)) as double:
        double.most_keys = 3
        with open_store(f"{double.url}/s") as store:
            assert (store.row_counts(keys + keys[:2]) == open_store(single_path).row_counts(keys + keys[:2])).all()
            assert isinstance(store, HttpStore)
            assert len(store._posted._buffers._free) <= 2


def test_connections_are_used_again(store: StoreReader, double: Double) -> None:
    store[names(1)[0]]
    before = double.connections
    for key in names(5):
        store[key]
    assert double.connections == before


def test_keys_come_in_pages(store: StoreReader, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.store.remote.service.PAGE", 4)
    folder = open_store(path)
    assert list(store.keys()) == list(folder.keys())
    assert list(store.keys("source")) == list(folder.keys("source"))
    assert list(store.failures()) == list(folder.failures())


def test_a_server_that_takes_few_keys_gets_few(single_path: Path) -> None:
    folder, keys = open_store(single_path), [*open_store(single_path), *list(open_store(single_path))[:7]]
    with serving(served(single_path, most_keys=4)) as double, open_store(f"{double.url}/s") as store:
        assert_same(store.get_batch(keys), folder.get_batch(keys))
        np.testing.assert_array_equal(store.row_counts(keys), folder.row_counts(keys))
        assert max(len(body["keys"]) for body in double.bodies) <= 4


def test_a_server_that_takes_fewer_than_it_said_gets_fewer(single_path: Path) -> None:
    folder, keys = open_store(single_path), list(open_store(single_path))
    with serving(served(single_path)) as double, open_store(f"{double.url}/s") as store:
        double.most_keys = 3
        assert_same(store.get_batch(keys), folder.get_batch(keys))
        np.testing.assert_array_equal(store.row_counts(keys), folder.row_counts(keys))


def test_threads_may_share_a_store(store: StoreReader, path: Path) -> None:
    folder = open_store(path)
    keys = list(folder)
    expected = [folder.get_batch(keys[n : n + 20]).clone() for n in range(8)]

    def read(turn: int) -> None:
        assert_same(store.get_batch(keys[turn % 8 : turn % 8 + 20]), expected[turn % 8])
        assert store[keys[turn]] == folder[keys[turn]]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(read, range(30)))


def test_a_store_that_one_thread_closes_is_read_on_by_another(
    single: Double, single_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posted, "PORTION", 4000)  # a batch is many portions
    keys = list(open_store(single_path))
    expected = open_store(single_path).get_batch(keys)
    with open_store(f"{single.url}/s") as store, ThreadPoolExecutor(3) as pool:
        reading = [pool.submit(store.get_batch, keys) for _ in range(40)]
        while not all(one.done() for one in reading):
            store.close()
        for one in reading:
            assert_same(one.result(), expected)


def test_a_store_that_is_closed_whenever_threads_are_asked_for_is_read_on(
    single: Double, single_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(ThreadPoolExecutor):
        times = 3

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            if Closed.times:
                Closed.times -= 1
                store.close()  # what another thread may do at any time
            return super().submit(*args, **kwargs)

    monkeypatch.setattr(posted, "PORTION", 4000)
    monkeypatch.setattr(fetched, "ThreadPoolExecutor", Closed)
    keys = list(open_store(single_path))
    with open_store(f"{single.url}/s") as store:
        assert_same(store.get_batch(keys), open_store(single_path).get_batch(keys))
    assert Closed.times == 0


def test_a_pickle_opens_the_store_again(store: StoreReader, path: Path) -> None:
    again = pickle.loads(pickle.dumps(store))
    assert isinstance(again, HttpStore)
    assert list(again) == list(store)
    again.close()
    assert again[names(1)[0]] == open_store(path)[names(1)[0]]  # a closed one opens when it is used


def test_a_token_of_the_environment_is_not_in_a_pickle(single_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(served(single_path, token="sesame")) as double:
        monkeypatch.setenv("FEATX_TOKEN", "sesame")
        with open_store(f"{double.url}/s") as store:
            data = pickle.dumps(store)
            assert b"sesame" not in data
            assert "sesame" not in repr(store)
            assert len(pickle.loads(data)) == len(store)
            assert_same(store.get_batch(names(3)), open_store(single_path).get_batch(names(3)))


def test_a_forked_child_has_connections_of_its_own(store: StoreReader, path: Path) -> None:
    keys = list(open_store(path))
    expected, record = open_store(path).get_batch(keys), open_store(path)[keys[0]]
    store.get_batch(keys)  # connections and threads are there

    def check() -> None:
        for _ in range(3):
            assert_same(store.get_batch(keys), expected)
            assert store[keys[0]] == record

    assert in_child(check) == 0
    check()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_dataloader_read_from_a_url(single: Double, single_path: Path, context: str) -> None:
    folder = open_store(single_path)
    dataset = FeatureDataset(f"{single.url}/s")
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=18, num_workers=1 if context == "spawn" else 2, collate_fn=dataset.collate,
        multiprocessing_context=multiprocessing.get_context(context),
    )  # fmt: skip
    batches = list(loader)
    assert [key for batch in batches for key in batch.keys] == list(folder)
    for batch in batches:
        assert_same(batch, folder.get_batch(batch.keys))


def test_a_loader_feeds_from_a_url_as_from_the_folder(store: StoreReader, path: Path) -> None:
    folder = open_store(path)
    loaders = [FeatureLoader(reader, batch=7, seed=3, epochs=2) for reader in (store, folder)]
    count = 0
    for mine, other in zip(*loaders, strict=True):
        assert_same(mine, other)
        count += 1
    assert count == len(loaders[0])


def test_a_store_that_is_not_finished_opens_on_request(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of("a"), 0)
        writer.commit()
        with serving(served(tmp_path / "s")) as double:
            with pytest.raises(StoreError, match="unfinished") as caught:
                open_store(f"{double.url}/s")
            assert "partial=True" in caught.value.hint
            with open_store(f"{double.url}/s", partial=True, cache=tmp_path / "kept") as store:
                assert len(store) == 1
                assert list(store) == ["a"]
                assert "b" not in store
                assert store["a"] == record_of("a")
    assert not (tmp_path / "kept").exists()


def test_long_and_composed_names_are_found(tmp_path: Path) -> None:
    long, composed = "deep/" * 120 + "é.jpg", "cafe\u0301 100% a?b#c.jpg"
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put(long, record_of("long"), 1)
        writer.put(composed, record_of("composed"), 0)
        writer.finish()
    folder = open_store(tmp_path / "s")
    with serving(served(tmp_path / "s")) as double, open_store(f"{double.url}/s") as store:
        assert sorted(store) == sorted(folder)
        assert store[composed] == record_of("composed")
        assert composed in store
        assert_same(store.get_batch([long, composed]), folder.get_batch([long, composed]))


def test_a_batch_holds_few_buffers_however_many_portions_it_has(
    single: Double, single_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posted, "PORTION", 20_000)
    keys = list(open_store(single_path)) * 3
    with open_store(f"{single.url}/s") as store:
        out = store.buffer(COUNT * 3)
        for _ in range(5):
            store.get_batch(keys, out)
        assert isinstance(store, HttpStore)
        assert len(store._posted._buffers._free) <= fetched.AHEAD + 2


def test_nothing_is_left_running_when_a_batch_fails(store: StoreReader, double: Double, path: Path) -> None:
    keys = list(open_store(path))
    for _ in range(3):
        with pytest.raises(KeyNotFound):
            store.get_batch([*keys[:9], "nobody", *keys[9:]])
    store.close()
    assert_same(store.get_batch(keys), open_store(path).get_batch(keys))
    assert threading.active_count() < 60
