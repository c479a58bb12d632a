"""Stores travel through fsspec: checked, resumable, never taken for whole too early, never over another store."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from featx.care import pull, push
from featx.care.transfer import Moved, parallel
from featx.cli import main
from featx.errors import MissingDependency, StoreDamaged, StoreError, UsageError
from featx.store import create_store, open_part, open_store, verify
from tests.store_oracle import PROVENANCE, SCHEMA, make_store, names, record_of


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """A store of objects on a bad day: every call that ``faults`` names fails so many times, or gives less."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    faults: ClassVar[dict[str, list[Any]]] = {}
    reads: ClassVar[list[tuple[str, int, int]]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://")))

    def fault(self, call: str) -> Any:
        waiting = self.faults.get(call) or [None]
        found = waiting.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        data = bytes(super().cat_file(path, start=start, end=end))
        if start is not None:
            self.reads.append((path.rpartition("/")[2], start, len(data)))
            keep = self.fault("range")
            return data if keep is None else data[:keep]
        return data

    def open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        lose = self.fault("open") if "w" in mode else None
        file = super().open(path, mode, **more)
        if lose:
            real = file.write
            file.write = lambda block: real(block[:-lose])
        return file


@pytest.fixture
def flaky() -> Iterator[type[Flaky]]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.store.clear()
    Flaky.pseudo_dirs[:] = [""]
    Flaky.faults.clear()
    Flaky.reads.clear()
    yield Flaky
    Flaky.store.clear()


@pytest.fixture
def memory() -> str:
    return f"memory://{uuid.uuid4().hex}/store"


@pytest.fixture(scope="module", params=["lmdb", "hdf5"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("stores") / "s", request.param, 40, parts=3)


def files(store: Path) -> dict[str, bytes]:
    """Every file of a store that counts."""
    found = {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.endswith((".lock", "-lock"))}


@pytest.mark.parametrize("scheme", ["file", "memory", "path"])
def test_a_store_comes_back_byte_for_byte(store: Path, tmp_path: Path, memory: str, scheme: str) -> None:
    url = {"file": f"file://{tmp_path}/there", "memory": memory, "path": str(tmp_path / "there")}[scheme]
    sent = push(store, url)
    assert (sent.parts, sent.complete) == ([0, 1, 2], True)
    came = pull(url, tmp_path / "back")
    assert came.complete
    assert came.bytes == sent.bytes
    assert files(tmp_path / "back") == files(store)
    assert verify(tmp_path / "back").ok
    assert push(store, url).bytes == 0
    assert pull(url, tmp_path / "back").bytes == 0


def test_chosen_parts_make_an_unfinished_store_and_the_rest_comes_later(
    store: Path, tmp_path: Path, memory: str
) -> None:
    assert not push(store, memory, parts=[2, 0]).complete
    with pytest.raises(StoreError, match="missing"):
        pull(memory, tmp_path / "no", parts=[1])
    first = pull(memory, tmp_path / "back")
    assert (first.parts, first.complete) == ([0, 2], False)
    with pytest.raises(StoreError, match="unfinished"):
        open_store(tmp_path / "back")
    with open_store(tmp_path / "back", partial=True) as reader:
        assert all(reader[key] == record_of(key) for key in reader)
        assert len(reader) > 10
    assert push(store, memory).complete
    assert pull(memory, tmp_path / "back").complete
    assert files(tmp_path / "back") == files(store)


def test_a_copy_that_is_not_whole_is_no_store(store: Path, tmp_path: Path, flaky: type[Flaky]) -> None:
    flaky.faults["open"] = [None] * 4 + [OSError("the line is dead")] * 9
    with pytest.raises(StoreError, match=r"failed 5 times.*the line is dead"):
        push(store, "flaky://there", jobs=1, pause=0)
    with pytest.raises(StoreError, match=r"no manifest\.json; a push to it was interrupted"):
        pull("flaky://there", tmp_path / "back", pause=0)
    flaky.faults.clear()
    push(store, "flaky://there", pause=0)
    flaky.faults["range"] = [OSError("gone")] * 99
    with pytest.raises(StoreError, match="failed 5 times"):
        pull("flaky://there", tmp_path / "back", pause=0)
    with pytest.raises(StoreError, match=r"manifest\.json"):
        open_store(tmp_path / "back", partial=True)
    flaky.faults.clear()
    assert pull("flaky://there", tmp_path / "back", pause=0).complete
    assert files(tmp_path / "back") == files(store)


def test_failures_now_and_then_and_short_answers_do_no_harm(store: Path, tmp_path: Path, flaky: type[Flaky]) -> None:
    flaky.faults["open"] = [None, OSError("reset"), 10, None, OSError("reset"), OSError("reset")] * 2
    push(store, "flaky://there", jobs=1, pause=0)
    flaky.faults["range"] = [OSError("time-out"), 1000, 0, None, 7] * 4
    assert pull("flaky://there", tmp_path / "back", jobs=1, pause=0).complete
    assert files(tmp_path / "back") == files(store)
    assert verify(tmp_path / "back").ok


def test_a_file_that_was_cut_goes_on_where_it_was(store: Path, tmp_path: Path, flaky: type[Flaky]) -> None:
    push(store, "flaky://there", pause=0)
    folder = tmp_path / "back" / "parts" / "00000-of-00003"
    source = next(path for path in (store / "parts" / "00000-of-00003").iterdir() if path.suffix in (".lmdb", ".h5"))
    flaky.faults["range"] = [5000] + [OSError("gone")] * 99
    with pytest.raises(StoreError):
        pull("flaky://there", tmp_path / "back", jobs=1, pause=0, parts=[0])
    drafts = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert 5000 in drafts.values()
    flaky.faults.clear()
    flaky.reads.clear()
    pull("flaky://there", tmp_path / "back", jobs=1, pause=0)
    begun = [(begin, length) for name, begin, length in flaky.reads if begin == 5000]
    assert begun, "the rest was asked for"
    assert (folder / source.name).read_bytes() == source.read_bytes()


def test_a_wrong_beginning_is_found_and_fetched_anew(store: Path, tmp_path: Path, memory: str) -> None:
    push(store, memory)
    pull(memory, tmp_path / "back")
    data = next(path for path in (tmp_path / "back").rglob("*") if path.suffix in (".lmdb", ".h5"))
    content = data.read_bytes()
    data.unlink()
    data.with_name(f".{data.name}.tmp").write_bytes(b"something else" * 20)
    pull(memory, tmp_path / "back")
    assert data.read_bytes() == content


def test_the_bar_of_a_copy_ends_full_whatever_had_to_be_done_again(
    store: Path, tmp_path: Path, flaky: type[Flaky]
) -> None:
    def run(work: Any, *where: Any) -> None:
        told: list[int] = []
        totals: list[int] = []
        work(*where, pause=0, jobs=1, begin=totals.append, tick=told.append)
        assert totals == [sum(path.stat().st_size for path in store.glob("parts/*/*") if path.name in counted)]
        assert sum(told) == totals[0]

    counted = {path.name for path in store.glob("parts/*/*")} - {"part.json", ".lock"}
    flaky.faults["open"] = [None, None, 10, None, OSError("reset"), 10, 10] * 2
    run(push, store, "flaky://there")
    run(push, store, "flaky://there")
    flaky.faults["range"] = [OSError("time-out"), 1000, 0, None, 7] * 4
    run(pull, "flaky://there", tmp_path / "back")
    data = next(path for path in (tmp_path / "back").rglob("*") if path.suffix in (".lmdb", ".h5"))
    data.unlink()
    data.with_name(f".{data.name}.tmp").write_bytes(b"something else" * 20)
    run(pull, "flaky://there", tmp_path / "back")
    run(pull, "flaky://there", tmp_path / "back")


def test_damage_on_the_other_side_is_told_and_never_becomes_a_store(
    store: Path, tmp_path: Path, flaky: type[Flaky]
) -> None:
    push(store, "flaky://there", pause=0)
    name = next(name for name in Flaky.store if name.endswith((".lmdb", ".h5")))
    content = bytearray(Flaky.store[name].getvalue())
    content[len(content) // 2] ^= 1
    Flaky().pipe_file(name, bytes(content))
    with pytest.raises(StoreDamaged, match="arrived twice"):
        pull("flaky://there", tmp_path / "back", pause=0)
    Flaky().pipe_file(name, bytes(content[:-1]))
    with pytest.raises(StoreDamaged, match=r"has \d+ bytes"):
        pull("flaky://there", tmp_path / "other", pause=0)
    assert not (tmp_path / "back" / "manifest.json").exists()


def test_a_damaged_file_is_not_pushed(store: Path, tmp_path: Path, memory: str) -> None:
    shutil.copytree(store, tmp_path / "s")
    data = next(path for path in (tmp_path / "s").rglob("*") if path.suffix in (".lmdb", ".h5"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=data.name):
            push(tmp_path / "s", memory)
        with pytest.raises(StoreError, match=r"manifest\.json"):
            pull(memory, tmp_path / "back")


def test_a_store_is_not_copied_onto_or_into_itself(store: Path, tmp_path: Path) -> None:
    before = files(store)
    for place, what in ((store, "the store itself"), (store / "below", "lies in the store")):
        for url in (str(place), place.as_uri()):
            with pytest.raises(UsageError, match=what):
                push(store, url)
        with pytest.raises(UsageError, match=what):
            pull(store.as_uri(), place)
    (tmp_path / "link").symlink_to(store)
    with pytest.raises(UsageError, match="the store itself"):
        push(store, str(tmp_path / "link"))
    assert files(store) == before


def test_check_reads_back_what_arrived(store: Path, flaky: type[Flaky]) -> None:
    push(store, "flaky://there", pause=0)
    name = next(name for name in Flaky.store if name.endswith((".lmdb", ".h5")))
    content = Flaky.store[name].getvalue()
    Flaky().pipe_file(name, bytes(len(content)))
    for part in [name for name in Flaky.store if name.endswith("part.json")]:
        Flaky().rm_file(part)
    push(store, "flaky://there", pause=0, check=True)
    assert Flaky.store[name].getvalue() == content


def test_a_different_store_is_never_overwritten(store: Path, tmp_path: Path, memory: str) -> None:
    other = make_store(tmp_path / "other", "lmdb", 9)
    push(store, memory)
    with pytest.raises(UsageError, match="different store"):
        push(other, memory)
    with pytest.raises(UsageError, match="different store"):
        pull(memory, other)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(UsageError, match="not empty"):
        pull(memory, tmp_path / "photos")
    with pytest.raises(UsageError, match="not empty"):
        push(store, str(tmp_path / "photos"))
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]


def test_two_stores_of_one_make_with_other_records_are_different(tmp_path: Path, memory: str) -> None:
    for name, salt in (("a", ""), ("b", "!")):
        create_store(tmp_path / name, "lmdb", SCHEMA, PROVENANCE)
        with open_part(tmp_path / name) as writer:
            writer.put("k", record_of("k" + salt), 0)
            writer.finish()
    push(tmp_path / "a", memory)
    with pytest.raises(UsageError, match="different store"):
        push(tmp_path / "b", memory)


def test_an_unfinished_store_gives_its_finished_parts(tmp_path: Path, memory: str) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE, parts=2)
    with open_part(tmp_path / "s", 1) as writer:
        for ordinal, key in enumerate(names(3)):
            writer.put(key, record_of(key), ordinal)
        writer.finish()
    assert push(tmp_path / "s", memory).parts == [1]
    done = pull(memory, tmp_path / "back")
    assert (done.parts, done.complete) == ([1], False)
    with open_store(tmp_path / "back", partial=True) as reader:
        assert set(reader) == set(names(3))


def test_mistakes_have_sentences(store: Path, tmp_path: Path, memory: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoreError, match=r"no store at .*manifest\.json"):
        pull(memory, tmp_path / "back")
    with pytest.raises(UsageError, match="nope"):
        pull("nope://bucket/store", tmp_path / "back")
    with pytest.raises(UsageError, match="part 7"):
        push(store, memory, parts=[7])
    with pytest.raises(UsageError, match="0 files"):
        push(store, memory, jobs=0)
    for words in (
        ["pull", memory, str(tmp_path / "back")],
        ["pull", "nope://x", str(tmp_path / "back")],
        ["push", str(store), memory, "--parts", "a"],
    ):
        assert main(words) in (2, 4)
        assert "->" in capsys.readouterr().err
    assert not (tmp_path / "back").exists()


def test_a_protocol_without_its_package_names_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingDependency) as caught:
        pull("s3://bucket/store", tmp_path / "back")
    assert caught.value.hint == "pip install s3fs"


def test_what_may_not_be_read_is_told_at_once(store: Path, tmp_path: Path, flaky: type[Flaky]) -> None:
    push(store, "flaky://there", pause=0)
    flaky.faults["range"] = [PermissionError("Forbidden"), *[OSError("never reached")] * 50]
    with pytest.raises(StoreError, match="may not be used: Forbidden"):
        pull("flaky://there", tmp_path / "back", jobs=1, pause=0)


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_error_that_stopped_a_copy_is_told_and_nothing_is_begun_after_it(jobs: int) -> None:
    begun: list[int] = []
    moved = Moved(lambda count: None)
    failed = Event()

    def task(number: int) -> None:
        begun.append(number)
        if number == 3:
            failed.set()
            raise StoreError("the third is missing")
        assert number < 3 or failed.wait(10)
        while number > 3 or (jobs > 1 and number > 0):  # under way until somebody stops them
            moved.travelled(1)

    with pytest.raises(StoreError, match="the third is missing"):
        parallel(jobs, moved, [partial(task, number) for number in range(4 if jobs > 1 else 50)])
    assert sorted(begun) == [0, 1, 2, 3]


def test_the_commands_copy_there_and_back(
    store: Path, tmp_path: Path, memory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(store), memory, "--check", "--quiet"]) == 0
    assert "complete, 3 of 3 parts" in capsys.readouterr().out
    assert main(["pull", memory, str(tmp_path / "back"), "--parts", "0,2", "--json"]) == 0
    assert '"complete": false' in capsys.readouterr().out
    assert main(["pull", memory, str(tmp_path / "back")]) == 0
    said = capsys.readouterr()
    assert "complete, 3 of 3 parts" in said.out
    assert "ETA" in said.err
