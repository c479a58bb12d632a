"""Damaged files: always an error that names file or key, never a wrong record, never a dead process."""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from featx.errors import FeatxError, KeyNotFound, StoreDamaged, StoreError
from featx.schema import Field, Schema
from featx.store import create_store, open_part, open_store, verify
from tests.forked import in_child
from tests.store_oracle import KINDS, PROVENANCE, SCHEMA, make_store, names, record_of, write_missing

# Records below 2 KB lie inside the leaves of LMDB's tree, larger ones on pages of their own.
SMALL = Schema((Field("features", "float16", (8,)), Field("boxes", "float32", (4,))), rows=6)
PARTS = Path("parts") / "00000-of-00001"


@pytest.fixture(params=["lmdb", "hdf5"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def data_file(store: Path) -> Path:
    return next(path for path in store.rglob("*") if path.suffix in (".lmdb", ".h5"))


def survives(check: Callable[[], object]) -> None:
    """Run ``check`` in a child, so that a signal is a failure of this test and not the end of all tests."""
    assert in_child(check) == 0


def read_or_refuse(path: Path, schema: Schema, count: int, *, partial: bool = False) -> set[str]:
    """Read everything. Every record is right or refused; returns the messages."""
    said = set()
    try:
        store = open_store(path, partial=partial)
        for key in names(count):
            try:
                found = store[key]
            except (StoreDamaged, KeyNotFound) as error:
                said.add(error.message)
            else:
                assert found == record_of(key, schema)
        list(store.keys())
        list(store.keys("source"))
    except StoreError as error:
        said.add(error.message)
    return said


def fill(path: Path, backend: str, schema: Schema, count: int) -> Path:
    """A store without refusals."""
    create_store(path, backend, schema, PROVENANCE)
    with open_part(path) as writer:
        for ordinal, key in enumerate(names(count)):
            writer.put(key, record_of(key, schema), ordinal)
            if ordinal % 7 == 6:
                writer.commit()
        writer.finish()
    return path


@pytest.mark.parametrize("schema", [SCHEMA, SMALL], ids=["large", "small"])
def test_a_flipped_bit_anywhere_is_found_and_never_gives_a_wrong_record(
    tmp_path: Path, backend: str, schema: Schema
) -> None:
    store = fill(tmp_path / "s", backend, schema, 30)
    file, rng = data_file(store), random.Random(5)
    whole = file.read_bytes()
    used = len(whole)

    def check() -> None:
        harmed = 0
        for _ in range(150):
            place, bit = rng.randrange(used), 1 << rng.randrange(8)
            with file.open("r+b") as handle:
                handle.seek(place)
                handle.write(bytes([whole[place] ^ bit]))
            said = read_or_refuse(store, schema, 30)
            report = verify(store)
            harmed += bool(said)
            assert any(problem.path == file for problem in report.problems), f"byte {place}"
            with file.open("r+b") as handle:
                handle.seek(place)
                handle.write(whole[place : place + 1])
        assert harmed > (50 if schema is SCHEMA else 15)  # the rest fell into gaps between records

    survives(check)


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_of_a_record_is_reported_with_its_key(tmp_path: Path, kind: str) -> None:
    backend, schema = KINDS[kind]
    store = fill(tmp_path / "s", backend, schema, 12)
    file, key = data_file(store), names(12)[5]
    features = record_of(key, schema).features.tobytes()
    whole = file.read_bytes()
    start = whole.index(features)
    assert whole.count(features) == 1
    for place in range(start, start + len(features), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        file.write_bytes(damaged)
        reader = open_store(store)
        with pytest.raises(StoreDamaged, match=f"{key}.*checksum"):
            reader[key]
        with pytest.raises(StoreDamaged, match=key):
            reader.get_batch([names(12)[4], key])
        others = [name for name in names(12) if name != key]
        assert all(reader[name] == record_of(name, schema) for name in others)
        problems = [problem for problem in verify(store).problems if problem.key is not None]
        assert [(problem.path, problem.key) for problem in problems] == [(file, key)]
        reader.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_to_any_length_never_kills_the_reader(tmp_path: Path, kind: str) -> None:
    store = fill(tmp_path / "s", *KINDS[kind], 12)
    file = data_file(store)
    size = file.stat().st_size

    def check() -> None:
        for length in [*range(0, 9000, 501), *range(9000, size, size // 40), size - 1]:
            os.truncate(file, length)  # from long to short below
            with pytest.raises(StoreDamaged, match=f"{file.name} has {length} bytes"):
                open_store(store)
            assert not verify(store).ok

    survives(check)


def test_an_open_part_cut_to_any_length_keeps_its_whole_groups_and_never_kills_anybody(
    tmp_path: Path, backend: str
) -> None:
    create_store(tmp_path / "s", backend, SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        write_missing(writer, enumerate(names(12)))
    file = next((tmp_path / "s").rglob("records.log"))
    whole = file.read_bytes()

    def check() -> None:
        counts = []
        for length in [0, 1, 100, *range(200, len(whole), 1999), len(whole) - 1, len(whole)]:
            file.write_bytes(whole[:length])
            with open_store(tmp_path / "s", partial=True) as store:
                counts.append(len(store))
                assert all(store[key] == record_of(key) for key in store)
            assert verify(tmp_path / "s").ok
            with open_part(tmp_path / "s") as writer:
                assert (
                    sum(key in writer.done for key in names(12)) == counts[-1] + 1
                )  # the refused one is in the ledger
        assert counts == sorted(counts)
        assert set(counts) == {0, 3, 6, 8, 11}

    survives(check)
    file.write_bytes(b"")  # the writer begins anew
    with open_part(tmp_path / "s") as writer:
        assert len(write_missing(writer, enumerate(names(12)))) == 11
        writer.finish()


@pytest.mark.parametrize("change", ["magic", "version", "page size", "zeros", "text"])
def test_a_file_that_is_not_of_its_backend_is_damaged(tmp_path: Path, backend: str, change: str) -> None:
    store = fill(tmp_path / "s", backend, SCHEMA, 12)
    file = data_file(store)
    whole = bytearray(file.read_bytes())
    if change == "magic":
        whole[0:24] = bytes(24)
    elif change == "version":
        struct.pack_into("<I", whole, 20, 9)
        whole[8] ^= 0xFF
    elif change == "page size":
        struct.pack_into("<I", whole, 40, 1 << 30)
        whole[12] ^= 0xFF
    elif change == "zeros":
        whole[:] = bytes(len(whole))
    else:
        whole[:] = (b"all work and no play " * len(whole))[: len(whole)]
    file.write_bytes(whole)
    survives(lambda: refused(lambda: open_store(store), file.name))
    assert not verify(store).ok


def refused(work: Callable[[], object], name: str) -> None:
    with pytest.raises(StoreDamaged, match=name):
        work()


def test_lmdb_structure_is_walked_before_it_is_trusted(tmp_path: Path) -> None:
    pytest.importorskip("lmdb.verify")
    store = fill(tmp_path / "s", "lmdb", SCHEMA, 30)
    file = data_file(store)
    whole = bytearray(file.read_bytes())
    for page in range(2 * 2048, len(whole), 2048):  # every leaf of the tree, by its flags
        if struct.unpack_from("<H", whole, page + 10) == (2,):
            struct.pack_into("<H", whole, page + 16, 65000)  # where the first node begins: far behind the page
    file.write_bytes(whole)
    reader = open_store(store)
    for ask in (lambda: list(reader), lambda: "nobody" in reader, lambda: reader[min(names(30))]):
        with pytest.raises(StoreDamaged, match=str(file)):
            ask()
    report = verify(store)
    assert any(problem.path == file and "page" in problem.message for problem in report.problems)
    assert report.totals.records == 0  # nothing of such a file is read


def test_swapped_records_are_found_by_their_keys(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "lmdb", SMALL, 4)
    file = data_file(store)
    whole = file.read_bytes()
    first, second = (open_store(store).stored_bytes(name) for name in names(4)[:2])
    swapped = whole.replace(first, b"\1" * len(first)).replace(second, first).replace(b"\1" * len(first), second)
    assert swapped != whole
    file.write_bytes(swapped)
    reader = open_store(store)
    for name in names(4)[:2]:
        with pytest.raises(StoreDamaged, match=name):
            reader[name]
    found = {problem.key for problem in verify(store).problems}
    assert found >= set(names(4)[:2])


def test_damage_in_one_part_leaves_the_other_readable_on_request(tmp_path: Path, backend: str) -> None:
    store = make_store(tmp_path / "s", backend, 20, parts=2)
    shutil.rmtree(store / "parts" / "00001-of-00002")
    with pytest.raises(StoreDamaged):
        open_store(store)
    with open_store(store, partial=True) as reader:
        kept = list(reader)
        assert len(kept) == 9 or len(kept) == 10
        assert all(reader[key] == record_of(key) for key in kept)
    with open_part(store, 1) as writer:  # the hint of the error: its command makes it again
        write_missing(writer, list(enumerate(names(20)))[1::2])
        writer.finish()
    assert len(open_store(store)) == 18
    assert verify(store).ok


@pytest.mark.parametrize("kind", ["hdf5", "hdf5-fixed"])
def test_wrong_bytes_in_an_hdf5_index_never_give_a_wrong_record(tmp_path: Path, kind: str) -> None:
    h5py = pytest.importorskip("h5py")
    backend, schema = KINDS[kind]
    store = fill(tmp_path / "s", backend, schema, 12)
    file = data_file(store)
    whole = file.read_bytes()
    where = "offset" if schema.rows else "start"
    for name, value in [
        (where, 2**60),
        (where, 5),
        (where, 0),
        ("count", 9999),
        ("size", 7),
        ("ordinal", 777),
        ("checksum", 7),
    ]:
        with h5py.File(file, "r+") as handle:
            handle[name][3] = value
        said = read_or_refuse(store, schema, 12)
        assert said, name
        assert not verify(store).ok
        file.write_bytes(whole)
    with h5py.File(file, "r+") as handle:
        handle["keys"][3] = b"\xff\xfe"
    assert read_or_refuse(store, schema, 12)
    assert not verify(store).ok


def test_errors_of_the_store_are_featx_errors_with_a_hint(tmp_path: Path, backend: str) -> None:
    store = fill(tmp_path / "s", backend, SCHEMA, 3)
    data_file(store).write_bytes(b"short")
    with pytest.raises(FeatxError) as caught:
        open_store(store)
    assert caught.value.exit_code == 4
    assert caught.value.hint
