"""Reading a foreign LMDB without mapping it: all that py-lmdb wrote, and what is left of a file not whole."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featx.errors import StoreDamaged, StoreError
from featx.formats.lmdb.tree import Fault, LmdbTree, Place, is_lmdb

PAGE = os.sysconf("SC_PAGE_SIZE")


def values(count: int, seed: int = 0) -> dict[bytes, bytes]:
    """Keys in no order, and values that fit a leaf, a page, and several pages."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice([0, 3, 700, 3000, 9000], count)
    return {f"{rng.integers(10**9)}".encode(): rng.bytes(int(length)) for length in lengths}


def write(path: Path, *transactions: dict[bytes, bytes], **options: object) -> Path:
    """An environment as py-lmdb writes it."""
    env = lmdb.open(str(path), map_size=1 << 28, **options)
    for entries in transactions:
        with env.begin(write=True) as txn:
            for key, value in entries.items():
                txn.put(key, value)
    env.close()
    return path


def read(path: Path, *, recover: bool = False) -> tuple[dict[bytes, bytes], list[Fault | str]]:
    """What can be read, and what is told."""
    found, told = {}, []
    with LmdbTree(path) as tree:
        for place in tree.walk(recover=recover):
            if isinstance(place, Fault):
                told.append(place)
                continue
            try:
                found[place.key] = tree.value(place)
            except StoreDamaged as error:
                told.append(error.message)
    return found, told


@pytest.mark.parametrize("count", [0, 1, 20, 1500])
@pytest.mark.parametrize("subdir", [True, False])
def test_all_entries_are_read_in_the_order_of_their_keys(tmp_path: Path, count: int, subdir: bool) -> None:
    entries = values(count)
    path = write(tmp_path / "db", entries, subdir=subdir)
    found, told = read(path)
    assert found == entries
    assert list(found) == sorted(entries)
    assert told == []


def test_a_key_is_found_and_a_missing_one_is_not(tmp_path: Path) -> None:
    entries = values(1500)
    with LmdbTree(write(tmp_path / "db", entries)) as tree:
        assert tree.entries == len(entries)
        for key in (*list(entries)[::37], min(entries), max(entries)):
            place = tree.find(key)
            assert place is not None
            assert tree.value(place) == entries[key]
        assert [tree.find(key) for key in (b"", b"0", b"5x", b"zz", b"\xff" * 500)] == [None] * 5


def test_a_later_transaction_replaces_and_the_newer_meta_page_counts(tmp_path: Path) -> None:
    first, second = values(300), values(300, 1)
    again = dict.fromkeys(list(first)[:50], b"again")
    found, _ = read(write(tmp_path / "db", first, second, again))
    assert found == first | second | again


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_of_a_file_that_was_cut_every_value_that_is_there_whole_is_read(tmp_path: Path, share: float) -> None:
    """Written in one transaction: nothing was ever freed, so every leaf in the file is a good one."""
    entries = values(1500)
    path = write(tmp_path / "db", entries) / "data.mdb"
    whole = path.read_bytes()
    cut = whole[: int(len(whole) * share)]
    path.write_bytes(cut)
    leaves = [at for at in range(2 * PAGE, len(cut) - PAGE, PAGE) if leaf_at(whole, at)]
    kept = {key for at in leaves for key, end in leaf_entries(whole, at) if end <= len(cut)}
    found, told = read(path)
    assert {key: entries[key] for key in found} == found
    assert kept <= set(found)
    assert told
    with LmdbTree(path) as tree:
        assert f"it has {len(cut)} bytes" in tree.cut


def leaf_at(file: bytes, at: int) -> bool:
    number, _, flags = struct.unpack_from("<QHH", file, at)
    return number * PAGE == at and flags == 2


def leaf_entries(file: bytes, at: int) -> list[tuple[bytes, int]]:
    """Keys of a leaf page, and where in the file their values end."""
    (lower,) = struct.unpack_from("<H", file, at + 12)
    found = []
    for place in struct.unpack_from(f"<{(lower - 16) // 2}H", file, at + 16):
        low, high, flags, length = struct.unpack_from("<HHHH", file, at + place)
        data = at + place + 8 + length
        begin = struct.unpack_from("<Q", file, data)[0] * PAGE + 16 if flags & 1 else data
        found.append((file[at + place + 8 : data], begin + (low | high << 16)))
    return found


def test_a_page_of_the_tree_that_is_gone_is_told_with_its_place_and_the_rest_is_read(tmp_path: Path) -> None:
    entries = values(1500)
    path = write(tmp_path / "db", entries) / "data.mdb"
    file = bytearray(path.read_bytes())
    lost = next(at for at in range(2 * PAGE, len(file), PAGE) if leaf_at(file, at))
    gone = {key for key, _ in leaf_entries(bytes(file), lost)}
    file[lost : lost + PAGE] = bytes(PAGE)
    path.write_bytes(file)
    found, told = read(path)
    assert found == {key: value for key, value in entries.items() if key not in gone}
    assert [(fault.offset, fault.problem.split(",")[0]) for fault in told] == [
        (lost, f"page {lost // PAGE} has number 0")
    ]


def test_after_several_transactions_old_leaves_are_looked_for_only_where_values_name_themselves(tmp_path: Path) -> None:
    entries = [values(400, seed) for seed in range(3)]
    path = write(tmp_path / "db", *entries) / "data.mdb"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    careful, told = read(path)
    assert told
    more, _ = read(path, recover=True)
    assert set(careful) < set(more)
    assert len(more) > 100


def test_a_database_with_duplicate_keys_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "db", {b"a": b"b"}) / "data.mdb"
    file = bytearray(path.read_bytes())
    for page in (0, PAGE):
        struct.pack_into("<H", file, page + 16 + 24 + 48 + 4, 4)  # MDB_DUPSORT among the flags of the main tree
    path.write_bytes(file)
    with pytest.raises(StoreDamaged, match="flags"):
        LmdbTree(tmp_path / "db")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(5000), bytes(16) + b"\xde\xc0\xef\xbe" + bytes(9000)])
def test_what_is_no_lmdb_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(StoreDamaged, match="none of its meta pages"):
        LmdbTree(tmp_path)
    with pytest.raises(StoreError, match="cannot be opened"):
        LmdbTree(tmp_path / "nothing")


def test_one_meta_page_is_enough(tmp_path: Path) -> None:
    entries = values(50)
    path = write(tmp_path / "db", entries) / "data.mdb"
    for page in (0, 1):
        whole = path.read_bytes()
        path.write_bytes(whole[: page * PAGE] + bytes(PAGE) + whole[(page + 1) * PAGE :])
        if page == 0:  # the last commit was in page 1
            assert read(path)[0] == entries
        path.write_bytes(whole)
    assert is_lmdb(path)
    assert is_lmdb(path.parent)
    assert not is_lmdb(path.parent / "lock.mdb")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = write(tmp_path_factory.mktemp("fuzz") / "db", values(120)) / "data.mdb"
    return path, path.read_bytes()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 2**32), st.binary(min_size=1, max_size=9)), max_size=6),
    cut=st.floats(0, 1),
)
def test_no_change_of_the_file_makes_more_than_a_fault(
    written: tuple[Path, bytes], changes: list[tuple[int, bytes]], cut: float
) -> None:
    path, whole = written
    file = bytearray(whole)
    tree_pages = [
        at for at in range(0, len(file), PAGE) if at < 2 * PAGE or struct.unpack_from("<QHH", file, at)[2] in (1, 2)
    ]
    for place, change in changes:
        at = tree_pages[place % len(tree_pages)] + place // 7 % PAGE
        file[at : at + len(change)] = change
    path.write_bytes(file[: int(len(file) * max(cut, 0.2))] if cut < 0.9 else file)
    with suppress(StoreDamaged), LmdbTree(path) as tree:
        for place in tree.walk(recover=True):
            if isinstance(place, Place):
                assert place.size >= 0
                with suppress(StoreDamaged):
                    assert len(tree.value(place)) == place.size
        for key in (b"0", b"5", b"999"):
            tree.find(key)
