"""What may not be read or written is said so, by name: it is neither damaged nor a surprise."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from featx.errors import StoreDamaged, StoreError, UsageError
from featx.schema import region_schema
from featx.store import create_store, disk, open_part, open_store, verify
from tests.foreign import export_tsv
from tests.store_oracle import KINDS, PROVENANCE, SCHEMA, make_store, record_of

NOBODY = 65534


@pytest.fixture(params=["lmdb", "hdf5"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)
        for place in Path(path).rglob("*"):
            if place.is_dir():
                place.chmod(0o755)


def as_nobody(check: Callable[[], object]) -> None:
    """Run ``check`` in a forked child without the rights of root, to whom nothing is forbidden."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setegid(NOBODY)
                os.seteuid(NOBODY)
            check()
        except BaseException as error:
            print(f"in the child: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def told(work: Callable[[], object], path: Path, verb: str) -> None:
    """``work`` says that ``path`` may not be read or written, and nothing of damage or free bytes."""
    with pytest.raises(StoreError) as caught:
        work()
    assert not isinstance(caught.value, StoreDamaged)
    assert f"{path} cannot be {verb}: Permission denied" in caught.value.message
    assert "free" not in str(caught.value)
    assert caught.value.hint


FILES = ["manifest.json", "parts/00000-of-00001/part.json", "parts/00000-of-00001/ledger.jsonl", "DATA"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_may_not_be_read_is_named_and_not_called_damaged(folder: Path, kind: str, name: str) -> None:
    backend, schema = KINDS[kind]
    store = make_store(folder / "s", backend, schema=schema)
    path = next(store.rglob("records*")) if name == "DATA" else store / name
    path.chmod(0)
    as_nobody(lambda: told(lambda: verify(store), path, "read"))
    as_nobody(lambda: told(lambda: list(open_store(store).failures()), path, "read"))


@pytest.mark.parametrize("name", ["", "parts", "parts/00000-of-00001"])
def test_a_folder_that_may_not_be_entered_is_told(folder: Path, backend: str, name: str) -> None:
    store = make_store(folder / "s", backend)
    (store / name).chmod(0)

    def check() -> None:
        for work in (open_store, verify):
            with pytest.raises(StoreError, match="cannot be read: Permission denied") as caught:
                work(store)
            assert str(store / name) in caught.value.message
            assert not isinstance(caught.value, StoreDamaged)

    as_nobody(check)


def test_a_folder_whose_names_may_not_be_listed_does_not_look_empty(folder: Path) -> None:
    store = make_store(folder / "s", "hdf5")
    part = store / "parts/00000-of-00001"
    part.chmod(0o311)
    as_nobody(lambda: told(lambda: open_store(store), part, "read"))


def test_an_unfinished_part_of_somebody_else_can_be_read(folder: Path, backend: str) -> None:
    create_store(folder / "s", backend, SCHEMA, PROVENANCE)
    with open_part(folder / "s") as writer:
        writer.put("a", record_of("a"), 0)
    before = sorted((folder / "s").rglob("*"))

    def check() -> None:
        with open_store(folder / "s", partial=True) as store:
            assert store["a"] == record_of("a")
        assert verify(folder / "s").ok

    as_nobody(check)
    assert sorted((folder / "s").rglob("*")) == before


def test_a_folder_that_may_not_be_written_is_told_when_writing(folder: Path, backend: str) -> None:
    make_store(folder / "done", backend)
    create_store(folder / "s", backend, SCHEMA, PROVENANCE)

    def check() -> None:
        told(lambda: create_store(folder / "new", backend, SCHEMA, PROVENANCE), folder / "new", "written")
        told(lambda: open_part(folder / "s"), folder / "s/parts", "written")

    as_nobody(check)


def test_an_export_to_where_nothing_may_be_written_is_told(folder: Path) -> None:
    store = make_store(folder / "s", "lmdb", 2, schema=region_schema(96))

    def check() -> None:
        with pytest.raises(UsageError, match=r"out.tsv cannot be written: Permission denied"):
            export_tsv(open_store(store), folder / "out.tsv")

    as_nobody(check)


def test_a_medium_that_cannot_be_written_is_told_without_free_bytes(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="x cannot be written: Read-only file system") as caught, disk.room(tmp_path):
        raise OSError(30, "Read-only file system", "x")
    assert "free" not in str(caught.value)
