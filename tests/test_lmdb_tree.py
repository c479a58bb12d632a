"""The walk through a sealed LMDB file: every key that LMDB wrote is found, and no bytes lead out of the file."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from featx.errors import StoreDamaged
from featx.store import lmdb_tree
from featx.store.lmdb_tree import Tree, Value
from featx.store.native import Reader, reader
from tests.test_store_damage import survives

PAGE_SIZES = [512, 1024, 2048, 4096, 8192, 16384, 32768]


def empty_file(path: Path, page_size: int) -> None:
    """Two meta pages of a database without entries, byte by byte: LMDB takes the page size of a file from it."""
    for number in range(2):
        header = struct.pack("<QHHI", number, 0, 8, 0)
        meta = struct.pack("<IIQQ", 0xBEEFC0DE, 1, 0, 1 << 26)
        free = struct.pack("<IHHQQQQQ", page_size, 8, 0, 0, 0, 0, 0, 2**64 - 1)
        main = struct.pack("<IHHQQQQQ", 0, 0, 0, 0, 0, 0, 0, 2**64 - 1)
        page = header + meta + free + main + struct.pack("<QQ", 1, number)
        with path.open("ab") as file:
            file.write(page.ljust(page_size, b"\0"))


def write(path: Path, page_size: int, entries: dict[bytes, bytes], groups: int = 3) -> None:
    empty_file(path, page_size)
    with lmdb.open(str(path), 1 << 26, subdir=False, lock=False) as env:
        assert env.stat()["psize"] == page_size
        keys = list(entries)
        for first in range(groups):
            with env.begin(write=True) as txn:
                for key in keys[first::groups]:
                    txn.put(key, entries[key])


def entries_of(seed: int, count: int, longest: int, largest: int) -> dict[bytes, bytes]:
    """Keys of all lengths, some of them beginnings of others; values in the leaf and on pages of their own."""
    rng = random.Random(seed)
    keys = {rng.randbytes(rng.randint(1, longest)) for _ in range(count)}
    keys |= {key[: rng.randint(1, len(key))] for key in sorted(keys)[::4]}
    order = sorted(keys)
    rng.shuffle(order)
    return {key: rng.randbytes(rng.choice((0, 1, 30, largest // 4, largest))) for key in order}


Look = Callable[[Tree, bytes], Value | None]


@pytest.fixture(params=["compiled", "plain"])
def look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Look:
    if request.param == "plain":
        monkeypatch.setattr(lmdb_tree, "reader", lambda: Reader(None, "this test"))
    elif reader().module is None:
        pytest.skip(f"no compiled reader of stores: {reader().reason}")
    return Tree.find


def read(tree: Tree, place: Value | None) -> bytes | None:
    return None if place is None else bytes(tree.view[place.offset : place.offset + place.size])


@pytest.mark.parametrize("page_size", PAGE_SIZES)
@pytest.mark.parametrize("count", [1, 30, 3000])
def test_every_key_is_found_and_no_other(tmp_path: Path, look: Look, page_size: int, count: int) -> None:
    longest = min(511, page_size // 8)
    entries = entries_of(page_size + count, count, longest, 3 * page_size if count < 3000 else page_size // 2)
    write(tmp_path / "x.lmdb", page_size, entries, groups=1 if page_size == 512 else 3)  # LMDB fails with more there
    tree = Tree(tmp_path / "x.lmdb")
    assert (tree.meta.page_size, tree.meta.entries) == (page_size, len(entries))
    for key, value in entries.items():
        assert read(tree, look(tree, key)) == value
    for key in list(entries)[:200]:
        for other in (key + b"\0", key[:-1], key[:-1] + bytes([(key[-1] + 1) % 256]), b"\xff" * 600, b"\0"):
            assert read(tree, look(tree, other)) == entries.get(other)
    assert [(key, read(tree, place)) for key, place in tree.items()] == sorted(entries.items())


def test_an_empty_tree_holds_nothing(tmp_path: Path, look: Look) -> None:
    empty_file(tmp_path / "x.lmdb", 4096)
    tree = Tree(tmp_path / "x.lmdb")
    assert look(tree, b"a") is None
    assert list(tree.items()) == []


def test_a_deep_tree_is_walked_to_its_leaves(tmp_path: Path, look: Look) -> None:
    entries = {b"%08d" % n + b"k" * 100: b"v%d" % n for n in range(4000)}
    write(tmp_path / "x.lmdb", 512, entries, groups=1)
    with lmdb.open(str(tmp_path / "x.lmdb"), subdir=False, readonly=True, lock=False) as env:
        assert env.stat()["depth"] >= 5
    tree = Tree(tmp_path / "x.lmdb")
    assert all(read(tree, look(tree, key)) == value for key, value in entries.items())
    assert len(list(tree.items())) == 4000


def plainly(tree: Tree) -> Callable[[bytes], Value | None]:
    """The look-up in plain Python, whatever is compiled."""

    def find(key: bytes) -> Value | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lmdb_tree, "reader", lambda: Reader(None, "this test"))
            return tree.find(key)

    return find


def harmed(whole: bytes, page_size: int, rng: random.Random) -> bytes:
    """A copy with changes where they hurt: headers of pages, tables of nodes, nodes; or anywhere."""
    damaged = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 8))):
        page = rng.randrange(2, len(whole) // page_size) * page_size
        place = page + rng.choice((rng.randrange(16), rng.randrange(16, 60), rng.randrange(page_size)))
        if rng.random() < 0.5:
            damaged[place] ^= 1 << rng.randrange(8)
        else:
            damaged[place : place + 2] = rng.choice((b"\0\0", b"\xff\xff", rng.randbytes(2)))
    return bytes(damaged[: len(whole)])


@pytest.mark.parametrize("page_size", [512, 2048, 4096])
def test_a_damaged_tree_is_told_or_followed_the_same_by_both_and_never_out_of_the_file(
    tmp_path: Path, page_size: int
) -> None:
    rng, path = random.Random(page_size), tmp_path / "x.lmdb"
    entries = entries_of(5, 400, 60, 2 * page_size)
    write(path, page_size, entries)
    whole, keys = path.read_bytes(), [*list(entries)[:60], b"", b"nobody", b"\xff" * 511]

    def check() -> None:
        said = set()
        for _ in range(300):
            path.write_bytes(harmed(whole, page_size, rng))
            tree = Tree(path)
            for key in keys:
                outcomes = []
                for find in (tree.find, plainly(tree)):
                    try:
                        place = find(key)
                    except StoreDamaged:
                        outcomes.append("damaged")
                        continue
                    assert place is None or 0 <= place.offset <= place.offset + place.size <= len(whole)
                    outcomes.append(str(place))
                assert len(set(outcomes)) == 1, (key, outcomes)
                said.add(outcomes[0] if outcomes[0] in ("damaged", "None") else "found")
            try:
                listed = [key for key, _ in tree.items()]
                assert listed == sorted(set(listed))
            except StoreDamaged:
                pass
        assert said == {"damaged", "None", "found"}

    survives(check)


def test_a_tree_that_leads_around_in_a_circle_is_damaged(tmp_path: Path, look: Look) -> None:
    path = tmp_path / "x.lmdb"
    write(path, 512, {b"%06d" % n: b"v" * 20 for n in range(500)})
    whole = bytearray(path.read_bytes())
    root = Tree(path).meta.root
    (first,) = struct.unpack_from("<H", whole, root * 512 + 16)
    struct.pack_into("<HHH", whole, root * 512 + first, root & 0xFFFF, root >> 16, 0)
    path.write_bytes(whole)
    tree = Tree(path)
    with pytest.raises(StoreDamaged, match=r"x\.lmdb is damaged: its tree"):
        look(tree, b"000000")
    with pytest.raises(StoreDamaged):
        list(tree.items())


@pytest.mark.parametrize("flags", [2, 4, 8])
def test_a_database_of_another_order_is_refused(tmp_path: Path, flags: int) -> None:
    path = tmp_path / "x.lmdb"
    write(path, 4096, {b"a": b"b"})
    whole = bytearray(path.read_bytes())
    for page in range(2):
        struct.pack_into("<H", whole, page * 4096 + 16 + 24 + 48 + 4, flags)
    path.write_bytes(whole)
    with pytest.raises(StoreDamaged, match="ordered by the flags"):
        Tree(path)
