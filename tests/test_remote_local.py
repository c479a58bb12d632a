"""What was read once is kept, within a limit; what is damaged, torn or full costs nothing but the time to fetch it."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.codec import encode, store_key
from featx.errors import StoreDamaged, UsageError
from featx.store import open_store
from featx.store.remote import local, posted, room
from featx.store.remote.local import LocalCache
from featx.store.remote.room import cache_folder, read_limit
from tests.forked import in_child
from tests.remote_double import Double, served, serving
from tests.store_oracle import FIXED, make_store, names, record_of
from tests.test_gather import assert_same

COUNT = 30
MB = 1 << 20


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("s") / "s", "lmdb", COUNT, schema=FIXED)


@pytest.fixture
def double(path: Path) -> Iterator[Double]:
    with serving(served(path)) as running:
        yield running


def stored(name: str) -> tuple[bytes, bytes]:
    key = store_key(name)
    return key, encode(record_of(name, FIXED), FIXED, key, 0)


def cache_at(folder: Path, limit: int = 8 * MB, digest: str = "d" * 32) -> LocalCache:
    return LocalCache(folder, digest, limit)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.records"))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_second_reading_asks_the_server_for_no_record(double: Double, path: Path, tmp_path: Path) -> None:
    folder, keys = open_store(path), list(open_store(path))
    with open_store(f"{double.url}/s", cache=tmp_path / "kept") as store:
        assert_same(store.get_batch(keys[:9]), folder.get_batch(keys[:9]))
        assert store[keys[10]] == folder[keys[10]]
    del double.asked[:], double.bodies[:]
    with open_store(f"{double.url}/s", cache=tmp_path / "kept") as store:
        for _ in range(2):
            assert_same(store.get_batch(keys[:9]), folder.get_batch(keys[:9]))
            assert store[keys[10]] == folder[keys[10]]
            assert store[keys[0]] == folder[keys[0]]
        assert double.asked == [("GET", "/v1/stores/s")]
        assert_same(store.get_batch(keys), folder.get_batch(keys))  # some are kept, some are not
    assert [body["keys"] for body in double.bodies] == [[key for n, key in enumerate(keys) if n > 8 and n != 10]]


def test_a_location_may_say_it(double: Double, path: Path, tmp_path: Path) -> None:
    where: dict[str, Any] = {"path": f"{double.url}/s", "cache": str(tmp_path / "kept"), "cache_limit": "20MB"}
    with open_store(where) as store:
        store.get_batch(names(3))
    assert len(segments(tmp_path / "kept")) == 1


def test_nothing_is_kept_unless_it_was_asked_for(
    double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATX_HOME", str(tmp_path / "home"))
    with open_store(f"{double.url}/s") as store:
        store.get_batch(names(3))
    assert not (tmp_path / "home").exists()
    with open_store(f"{double.url}/s", cache=True) as store:
        store.get_batch(names(3))
        totals = store.manifest.totals
    assert totals is not None
    assert segments(tmp_path)[0].parent == tmp_path / "home" / "records" / totals.digest


def test_the_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FEATX_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder(True) == Path("/xdg/featx/records")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(True) == Path.home() / ".cache/featx/records"
    monkeypatch.setenv("FEATX_HOME", "/home/of")
    assert cache_folder(True) == Path("/home/of/records")
    assert cache_folder(tmp_path) == tmp_path
    kept = cache_at(tmp_path / "new" / "deep")
    assert kept.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("10GB", 10**10), ("1.5 MB", 1_500_000), ("2MiB", 2 * MB), ("64m", 64 * 10**6), (5 * MB, 5 * MB), (None, 10**10)],
)
def test_limits_are_read(text: str | int | None, size: int) -> None:
    assert read_limit(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "10", "1e9", "1 PB", "GB", "9" * 400])
def test_limits_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cache_limit"):
        read_limit(text)


def test_what_was_put_is_got_by_every_process_and_again(tmp_path: Path) -> None:
    first, second = cache_at(tmp_path), cache_at(tmp_path)
    pairs = [stored(name) for name in names(8)]
    first.put(pairs[:4])
    second._looked = float("-inf")
    assert [second.get(key) for key, _ in pairs[:4]] == [record for _, record in pairs[:4]]
    second.put(pairs[4:])
    first.close()
    assert [first.get(key) for key, _ in pairs] == [record for _, record in pairs]
    assert len(segments(tmp_path)) == 2
    assert [cache_at(tmp_path).get(key) for key, _ in pairs] == [record for _, record in pairs]


def test_a_forked_child_goes_on_with_files_of_its_own(tmp_path: Path) -> None:
    cache, pairs = cache_at(tmp_path), [stored(name) for name in names(9)]
    cache.put(pairs[:3])

    def check() -> None:
        assert [cache.get(key) for key, _ in pairs[:3]] == [record for _, record in pairs[:3]]
        cache.put(pairs[3:6])
        assert cache.get(pairs[4][0]) == pairs[4][1]

    assert in_child(check) == 0
    cache.put(pairs[6:])
    cache._looked = float("-inf")
    assert [cache.get(key) for key, _ in pairs] == [record for _, record in pairs]


def test_only_sound_records_are_kept(tmp_path: Path) -> None:
    cache, (key, record) = cache_at(tmp_path), stored("a")
    broken = bytearray(record)
    broken[-30] ^= 1
    cache.put([(key, bytes(broken)), (store_key("b"), record), (store_key("c"), b""), (store_key("d"), b"x" * 99)])
    assert not len(cache)


@pytest.mark.parametrize("way", ["native", "plain"])
def test_damage_is_found_dropped_and_fetched_again(
    double: Double, path: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "plain":
        monkeypatch.setenv("FEATX_NATIVE", "0")
        monkeypatch.setattr("featx.store.remote.remote_store.reader", lambda: type("R", (), {"module": None}))
    keys, folder = list(open_store(path)), open_store(path)
    with open_store(f"{double.url}/s", cache=tmp_path / "kept") as store:
        store.get_batch(keys)
    file = segments(tmp_path / "kept")[0]
    data = bytearray(file.read_bytes())
    step = len(data) // len(keys)
    for place in (3, 7):
        data[step * place + 200] ^= 1
    file.write_bytes(data)
    del double.bodies[:]
    with open_store(f"{double.url}/s", cache=tmp_path / "kept") as store:
        assert_same(store.get_batch(keys), folder.get_batch(keys))
        fetched = {key for body in double.bodies for key in body["keys"]}
        assert 1 <= len(fetched) <= 2
        assert store[keys[0]] == folder[keys[0]]
        assert_same(store.get_batch(keys), folder.get_batch(keys))
        assert {key for body in double.bodies for key in body["keys"]} == fetched  # kept again, and sound


@pytest.mark.parametrize("way", ["native", "plain"])
def test_what_is_kept_is_checked_by_who_checks_nothing_else(
    double: Double, path: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "plain":
        monkeypatch.setattr("featx.store.remote.remote_store.reader", lambda: type("R", (), {"module": None}))
    keys, folder = list(open_store(path)), open_store(path)
    with open_store(f"{double.url}/s", cache=tmp_path / "kept", checksums="never") as store:
        store.get_batch(keys)
    file = segments(tmp_path / "kept")[0]
    data = bytearray(file.read_bytes())
    data[len(data) // len(keys) * 3 + 60] ^= 64  # in its features
    file.write_bytes(data)
    with open_store(f"{double.url}/s", cache=tmp_path / "kept", checksums="never") as store:
        assert_same(store.get_batch(keys), folder.get_batch(keys))


def test_whatever_the_files_hold_nothing_wrong_is_read(double: Double, path: Path, tmp_path: Path) -> None:
    keys, folder = list(open_store(path)), open_store(path)
    expected = folder.get_batch(keys)
    with open_store(f"{double.url}/s", cache=tmp_path / "kept") as store:
        store.get_batch(keys)
    file, rng = segments(tmp_path / "kept")[0], np.random.default_rng(0)
    index = file.with_suffix(".index")
    good = file.read_bytes(), index.read_bytes()
    for turn in range(12):
        for target, data in zip((file, index), good, strict=True):
            broken = bytearray(data)
            for _ in range(int(rng.integers(0, 20))):
                broken[int(rng.integers(len(broken)))] = int(rng.integers(256))
            target.write_bytes(bytes(broken)[: int(rng.integers(1, len(broken) + 1))] if turn % 2 else bytes(broken))
        with open_store(f"{double.url}/s", cache=tmp_path / "kept") as store:
            assert_same(store.get_batch(keys), expected)
            assert store[keys[turn]] == folder[keys[turn]]
        for made in segments(tmp_path / "kept"):
            if made != file:
                made.unlink()


def test_the_files_stay_within_the_limit_and_what_was_used_last_stays(tmp_path: Path) -> None:
    limit = 2 * MB
    pairs = [stored(name) for name in names(1200)]  # 4 MB and more
    for turn in range(12):
        cache = cache_at(tmp_path, limit)
        for file in segments(tmp_path):  # an hour goes by
            os.utime(file, (file.stat().st_atime - 3600, file.stat().st_mtime - 3600))
        cache.put(pairs[100 * turn : 100 * turn + 100])
        assert all(cache.get(key) == record for key, record in pairs[:5]), "in use, so it stays"
        assert all(cache.get(key) == record for key, record in pairs[100 * turn : 100 * turn + 100])
        assert size_of(tmp_path) <= 1.1 * limit
        cache.close()
    assert cache_at(tmp_path, limit).get(pairs[150][0]) is None


def test_other_stores_make_room_too(tmp_path: Path) -> None:
    limit, pairs = MB, [stored(name) for name in names(400)]
    old = cache_at(tmp_path, limit, "old")
    old.put(pairs[:200])
    for file in segments(tmp_path):
        os.utime(file, (0, 0))
    new = cache_at(tmp_path, limit, "new/36..36")
    new.put(pairs[200:])
    assert size_of(tmp_path) <= 1.2 * limit
    assert sum(new.get(key) is not None for key, _ in pairs[200:]) > 150
    old = cache_at(tmp_path, limit, "old")
    assert sum(old.get(key) is not None for key, _ in pairs[:200]) < 150


def test_a_loop_over_more_than_fits_finds_what_it_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, pairs = cache_at(tmp_path, MB), [stored(name) for name in names(500)]
    monkeypatch.setattr(local, "_LOOK", 0.01)
    monkeypatch.setattr(room, "PAUSE", 0.01)
    found = []
    for _ in range(3):
        found.append(0)
        for pair in pairs:
            if cache.get(pair[0]) == pair[1]:
                found[-1] += 1
            else:
                cache.put([pair])
    assert found[0] == 0
    assert min(found[1:]) > 150  # of 500, where 240 fit


def test_a_record_larger_than_a_segment_is_not_kept(tmp_path: Path) -> None:
    key = store_key("large")
    record = encode(
        record_of("large", FIXED._replace(rows=None) if hasattr(FIXED, "_replace") else FIXED), FIXED, key, 0
    )
    cache = cache_at(tmp_path, MB)
    cache._size = len(record) - 1
    cache.put([(key, record)])
    assert not len(cache)
    assert not segments(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_full_disk_switches_it_off_with_one_warning(
    double: Double, path: Path, tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posted, "PORTION", 20_000)
    keys, folder, calls = list(open_store(path)), open_store(path), []

    def full(handle: int, data: Any, at: int) -> int:
        calls.append(at)
        if len(calls) > 3:
            raise OSError(code, os.strerror(code))
        return os.pwrite(handle, data, at)

    monkeypatch.setattr(local, "os", _Os(full))
    with open_store(f"{double.url}/s", cache=tmp_path / "kept") as store:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(2):
                assert_same(store.get_batch(keys), folder.get_batch(keys))
        assert [str(one.message).split(":")[0] for one in seen] == [
            f"records are not kept in {segments(tmp_path)[0].parent} any more"
        ]
        del double.bodies[:]
        assert_same(store.get_batch(keys[:3]), folder.get_batch(keys[:3]))


class _Os:
    """``os``, with another ``pwrite``."""

    def __init__(self, pwrite: Any) -> None:
        self.pwrite = pwrite

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def test_a_folder_that_cannot_be_made_only_warns(double: Double, path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="records are not kept in"):
        store = open_store(f"{double.url}/s", cache=tmp_path / "file" / "kept")
    assert_same(store.get_batch(names(3)), open_store(path).get_batch(names(3)))
    store.close()


def test_a_folder_that_goes_away_only_costs_time(double: Double, path: Path, tmp_path: Path) -> None:
    keys, folder = list(open_store(path)), open_store(path)
    with open_store(f"{double.url}/s", cache=tmp_path / "kept") as store:
        store.get_batch(keys[:5])
        for file in (tmp_path / "kept").rglob("*.*"):
            file.unlink()
        store._cache._looked = float("-inf")  # type: ignore[attr-defined]
        assert_same(store.get_batch(keys), folder.get_batch(keys))


def test_threads_may_share_it(double: Double, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posted, "PORTION", 20_000)
    keys, folder = list(open_store(path)), open_store(path)
    expected, errors = folder.get_batch(keys), []
    with open_store(f"{double.url}/s", cache=tmp_path / "kept") as store:

        def read() -> None:
            try:
                for _ in range(5):
                    assert_same(store.get_batch(keys), expected)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors


def test_damage_that_the_server_has_is_told_and_not_kept(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s", "lmdb", 6, schema=FIXED)
    with serving(served(path)) as double, open_store(f"{double.url}/s", cache=tmp_path / "kept") as store:
        held = double.stores["s"]
        wrong = bytearray(held.stored_bytes(names(1)[0]))
        wrong[-20] ^= 1

        class Lying:
            manifest = held.manifest

            def find(self, key: bytes) -> bytes | None:
                return bytes(wrong) if key == store_key(names(1)[0]) else held.find(key)

        double.stores["s"] = Lying()  # type: ignore[assignment]
        for _ in range(2):
            with pytest.raises(StoreDamaged, match=r"picture 0\.jpg"):
                store.get_batch(names(3))
            with pytest.raises(StoreDamaged, match=r"picture 0\.jpg"):
                store[names(1)[0]]
        double.stores["s"] = held
        assert store[names(1)[0]] == record_of(names(1)[0], FIXED)
