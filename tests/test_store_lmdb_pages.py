"""A sealed file is an ordinary LMDB file: py-lmdb and its own verifier read it, and py-lmdb may go on with it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import lmdb
import pytest

from featx.codec import store_key
from featx.errors import StoreDamaged
from featx.schema import Field, Schema
from featx.store import create_store, disk, open_part, open_store, verify
from featx.store.lmdb_format import PAGE_HEADER
from featx.store.lmdb_pages import free_tree, meta_pages, value_tree
from featx.store.lmdb_store import LmdbLog
from featx.store.log import RecordLog
from featx.store.log_group import PAGE, RUN, pages_of
from tests.store_oracle import PROVENANCE, SCHEMA, make_store, names, record_of, write_missing

checker = pytest.importorskip("lmdb.verify")
TINY = Schema((Field("features", "float16", (1,)), Field("boxes", "float32", (4,))), rows=1)


def values(count: int, length: int, seed: int = 0) -> list[tuple[bytes, bytes]]:
    """Keys of up to ``length`` bytes, in no order, with values from none to several pages."""
    rng = random.Random(seed)
    keys = {b"%d~" % rng.randrange(10**9) + b"k" * rng.randrange(max(1, length - 10)) for _ in range(count)}
    return [(key[:length], rng.randbytes(rng.choice([0, 1, 100, 2032, 2033, 5000]))) for key in keys]


def build(path: Path, content: list[tuple[bytes, bytes]], unused: int) -> None:
    """A file of values in runs behind ``unused`` unused pages, and its tree."""
    page, places, out = 2 + unused, [], bytearray((2 + unused) * PAGE)
    for key, value in content:
        places.append((key, page, len(value)))
        out += PAGE_HEADER.pack(page, 0, RUN, pages_of(len(value))) + value
        page += pages_of(len(value))
        out += bytes(page * PAGE - len(out))
    main = value_tree(sorted(places), page)
    free = free_tree(range(2, 2 + unused), page + len(main.pages))
    out += b"".join((*main.pages, *free.pages))
    path.write_bytes(meta_pages(free, main, len(out) // PAGE - 1) + out[2 * PAGE :])


@pytest.mark.parametrize("length", [12, 465])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 40, 300, 2000])
@pytest.mark.parametrize("unused", [0, 1, 123, 124, 3000])
def test_lmdb_reads_the_file_and_its_verifier_finds_nothing_wrong(
    tmp_path: Path, count: int, length: int, unused: int
) -> None:
    content = values(count, length)
    build(tmp_path / "f", content, unused)
    assert checker.verify(tmp_path / "f", subdir=False) == []
    with lmdb.open(str(tmp_path / "f"), subdir=False, readonly=True, lock=False) as env, env.begin() as txn:
        assert list(txn.cursor()) == sorted(content)
        assert all(txn.get(key) == value for key, value in content)
        assert txn.get(b"nobody") is None
        assert env.stat()["entries"] == len(content)
        assert env.stat()["psize"] == 2048
    assert (tmp_path / "f").stat().st_size == (env_last(tmp_path / "f") + 1) * 2048


def env_last(path: Path) -> int:
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env:
        return int(env.info()["last_pgno"])


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("unused", [0, 5, 300])
def test_lmdb_can_go_on_with_the_file(tmp_path: Path, count: int, unused: int) -> None:
    content = dict(values(count, 60))
    build(tmp_path / "f", list(content.items()), unused)
    rng = random.Random(1)
    with lmdb.open(str(tmp_path / "f"), 1 << 26, subdir=False) as env:
        for _ in range(30):
            with env.begin(write=True) as txn:
                for key, value in values(20, 60, rng.randrange(10**6)):
                    txn.put(key, value)
                    content[key] = value
                for key in rng.sample(sorted(content), 8):
                    assert txn.delete(key)
                    del content[key]
        with env.begin() as txn:
            assert dict(txn.cursor()) == content
    assert checker.verify(tmp_path / "f", subdir=False) == []


def test_a_hundred_thousand_keys_make_a_tree_of_three_levels(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", TINY, PROVENANCE)
    keys = [f"{n * 7919 % 100_003:06}" for n in range(100_000)]
    one = record_of("x", TINY)
    with disk.using(_Unsynced()), open_part(tmp_path / "s") as writer:
        for ordinal, key in enumerate(keys):
            writer.put(key, one, ordinal)
        writer.finish()
    (file,) = tmp_path.rglob("records.lmdb")
    assert checker.verify(file, subdir=False) == []
    with lmdb.open(str(file), subdir=False, readonly=True, lock=False) as env, env.begin() as txn:
        assert env.stat()["depth"] >= 3
        assert env.stat()["entries"] == 100_000
        assert list(txn.cursor().iternext(True, False)) == [store_key(key) for key in sorted(keys)]
    with open_store(tmp_path / "s") as store:
        assert len(store) == 100_000
        assert store[keys[70_000]] == one


class _Unsynced(disk.Disk):
    def sync(self, path: Path) -> None:
        """Quicker, and of no matter here."""


def test_every_record_of_a_store_is_a_value_of_the_file(tmp_path: Path) -> None:
    with open_store(make_store(tmp_path / "s", "lmdb", 30)) as store:
        (file,) = tmp_path.rglob("records.lmdb")
        with lmdb.open(str(file), subdir=False, readonly=True, lock=False) as env, env.begin() as txn:
            assert dict(txn.cursor()) == {store_key(key): store.stored_bytes(key) for key in store}
    assert checker.verify(file, subdir=False) == []


def test_sealing_writes_no_record_again(tmp_path: Path) -> None:
    written: list[tuple[int, int]] = []

    class Watching(disk.Disk):
        def write(self, path: Path, pieces: object, at: int) -> None:
            if path.name == "records.log":
                written.append((at, sum(len(piece) for piece in pieces)))  # type: ignore[attr-defined]
            super().write(path, pieces, at)  # type: ignore[arg-type]

    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with disk.using(Watching()), open_part(tmp_path / "s") as writer:
        write_missing(writer, enumerate(names(30)))
        writer.finish()
    (file,) = tmp_path.rglob("records.lmdb")
    assert sum(length for _, length in written) == file.stat().st_size
    assert sorted(written)[0] == (0, 4096)


def test_a_sealed_part_that_is_opened_again_is_the_log_that_it_was(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        write_missing(writer, enumerate(names(20)))
        before = next(tmp_path.rglob("records.log")).read_bytes()
        writer.finish()
    (file,) = tmp_path.rglob("records.lmdb")
    sealed = file.read_bytes()
    next(tmp_path.rglob("part.json")).unlink()  # its writer died before it was published
    with open_store(tmp_path / "s", partial=True) as store:
        assert all(store[key] == record_of(key) for key in store)
        assert len(store) == 18
    with open_part(tmp_path / "s") as writer:
        assert not file.exists()
        assert next(tmp_path.rglob("records.log")).read_bytes() == before
        assert write_missing(writer, enumerate(names(20))) == []
        writer.finish()
    assert file.read_bytes() == sealed
    assert verify(tmp_path / "s").ok


def test_a_sealed_part_that_lmdb_wrote_to_is_not_taken_for_a_log(tmp_path: Path) -> None:
    make_store(tmp_path / "s", "lmdb", 20)
    (file,) = tmp_path.rglob("records.lmdb")
    next(tmp_path.rglob("part.json")).unlink()
    with lmdb.open(str(file), 1 << 26, subdir=False) as env:
        for n in range(3):
            with env.begin(write=True) as txn:
                txn.put(b"more%d" % n, b"x" * 3000)
    with pytest.raises(StoreDamaged, match="changed by another program"):
        open_part(tmp_path / "s")
    with lmdb.open(str(file), subdir=False, readonly=True, lock=False) as env:
        env.copy(str(tmp_path / "compact"), compact=True)
    shutil.copy(tmp_path / "compact/data.mdb" if (tmp_path / "compact").is_dir() else tmp_path / "compact", file)
    with pytest.raises(StoreDamaged, match="changed by another program"):
        open_part(tmp_path / "s")
    assert file.exists()


def test_a_part_with_both_a_log_and_a_sealed_file_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "s", "lmdb", 5)
    (file,) = tmp_path.rglob("records.lmdb")
    next(tmp_path.rglob("part.json")).unlink()
    file.with_name("records.log").write_bytes(b"")
    with pytest.raises(StoreDamaged, match=r"both records\.lmdb and records\.log"):
        LmdbLog(file.parent, SCHEMA)
    assert isinstance(RecordLog(file.with_name("records.log")), RecordLog)
