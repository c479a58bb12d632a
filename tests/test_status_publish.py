"""Parts are published as they are finished, by many at once: no store is seen before it is whole, nothing is mixed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from featx import jobs
from featx.care import pull, push
from featx.care.publish import publish, publishing
from featx.cli import main
from featx.errors import Interrupted, PictureRefused, StoreError, UsageError
from featx.extractor import Picture
from featx.runner import opened
from featx.status import status
from featx.store import create_store, open_part, verify
from tests.fake import expected
from tests.part_process import draw, job, start

PARTS = 3


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("pictures") / "photos", 20)


@pytest.fixture(scope="module")
def digest(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the content that one process makes."""
    store = tmp_path_factory.mktemp("whole") / "s"
    jobs.run(job(str(photos), str(store), 1, 1), quiet=True)
    return verify(store).totals.digest


@pytest.fixture
def memory() -> str:
    return f"memory://{uuid.uuid4().hex}/store"


def run(photos: Path, store: Path, k: int, url: str | None = None, n: int = PARTS, **more: Any) -> list[str]:
    notes: list[str] = []
    jobs.run(job(str(photos), str(store), k, n, publish=url, **more), quiet=True, on_note=notes.append)
    return notes


def listed(url: str) -> set[str]:
    fs, root = fsspec.core.url_to_fs(url)
    return {str(path)[len(root) :].lstrip("/") for path in fs.find(root)} if fs.exists(root) else set()


def cat(url: str, name: str) -> bytes:
    fs, root = fsspec.core.url_to_fs(url)
    return bytes(fs.cat_file(f"{root}/{name}"))


def put(url: str, name: str, data: bytes) -> None:
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/{name}", data)


def part_name(k: int, name: str) -> str:
    return f"parts/{k - 1:05d}-of-{PARTS:05d}/{name}"


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_machines_that_share_nothing_make_one_store_behind_a_url(
    photos: Path, tmp_path: Path, memory: str, digest: str, backend: str
) -> None:
    for k, there in ((2, 1), (3, 2), (1, 3)):
        notes = run(photos, tmp_path / f"machine {k}", k, memory, backend=backend)
        assert f"part {k}/3 is published at {memory}" in notes[-1]
        assert ("manifest.json" in listed(memory)) == (there == PARTS), "the manifest comes last"
        assert status(memory).counts["done"] == there
        if there < PARTS:
            with pytest.raises(StoreError, match="no store at"):
                pull(memory, tmp_path / "early")
    assert status(memory).state == "complete"
    pull(memory, tmp_path / "copy")
    report = verify(tmp_path / "copy")
    assert report.ok
    assert report.totals.digest == digest
    for k in (1, 2, 3):
        own = tmp_path / f"machine {k}" / part_name(k, "part.json")
        assert cat(memory, part_name(k, "part.json")) == own.read_bytes()
    assert not [name for name in listed(memory) if "pulse" in name or "pushing" in name]


def test_a_shared_folder_is_published_part_by_part(photos: Path, tmp_path: Path, digest: str) -> None:
    url = (tmp_path / "there").as_uri()
    for k in (1, 3, 2):
        run(photos, tmp_path / "s", k, url)
    assert verify(tmp_path / "there").totals.digest == digest
    assert json.loads((tmp_path / "there/manifest.json").read_text()) == json.loads(
        (tmp_path / "s/manifest.json").read_text()
    )


def test_publishing_again_sends_nothing_and_changes_nothing(photos: Path, tmp_path: Path, memory: str) -> None:
    for k in (1, 2, 3):
        run(photos, tmp_path / "s", k, memory)
    before = {name: cat(memory, name) for name in listed(memory)}
    for k in (3, 1):
        assert "(0 bytes sent); the store is complete there" in run(photos, tmp_path / "s", k, memory)[-1]
        assert "(0 bytes sent)" in run(photos, tmp_path / "another machine", k, memory)[-1]
    assert {name: cat(memory, name) for name in listed(memory)} == before


def test_whoever_comes_next_completes_what_the_last_one_died_before(photos: Path, tmp_path: Path, memory: str) -> None:
    for k in (1, 2):
        run(photos, tmp_path / "s", k, memory)
    mark = cat(memory, ".pushing.json")
    run(photos, tmp_path / "s", 3, memory)
    complete = cat(memory, "manifest.json")
    fs, root = fsspec.core.url_to_fs(memory)
    fs.rm_file(f"{root}/manifest.json")
    put(memory, ".pushing.json", mark)
    assert status(memory).state == "unconfirmed"
    run(photos, tmp_path / "s", 1, memory)
    assert cat(memory, "manifest.json") == complete
    assert status(memory).state == "complete"


@pytest.mark.parametrize("place", ["memory", "file"])
def test_all_who_finish_at_the_same_time_leave_one_whole_store(
    photos: Path, tmp_path: Path, memory: str, digest: str, place: str
) -> None:
    url = memory if place == "memory" else (tmp_path / "there").as_uri()
    for k in (1, 2, 3):
        run(photos, tmp_path / f"m{k}", k)
    barrier, done, failed = threading.Barrier(PARTS), [], []

    def one(k: int) -> None:
        barrier.wait()
        try:
            done.append(publish(tmp_path / f"m{k}", url, k - 1))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(k,)) for k in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert any(each.complete for each in done)
    pull(url, tmp_path / "copy")
    assert verify(tmp_path / "copy").totals.digest == digest
    assert not [name for name in listed(url) if name.endswith(".tmp") or "pushing" in name]


class Meddled(MemoryFileSystem):  # type: ignore[misc]
    """A store of objects in which something happens when a file is written for the first time."""

    protocol = "meddled"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    before: ClassVar[dict[str, Any]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.replace("meddled://", "memory://")))

    def open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        if "w" in mode and (happens := self.before.pop(path.rpartition("/")[2], None)):
            happens()
        return super().open(path, mode, **more)


@pytest.fixture
def meddled() -> Iterator[type[Meddled]]:
    fsspec.register_implementation("meddled", Meddled, clobber=True)
    yield Meddled
    Meddled.store.clear()
    Meddled.pseudo_dirs[:] = [""]
    Meddled.before.clear()


def write_part_1(photos: Path, store: Path, *, backwards: bool) -> Path:
    """The part in one group; returns its file of records."""
    made = job(str(photos), str(store), 1, PARTS)
    schema, labels = made.extractor.schema, made.extractor.labels
    create_store(made.store, "lmdb", schema, made.provenance(), labels, parts=PARTS, sources=made.list_facts())
    with open_part(made.store) as writer:
        for source in reversed(made.sources) if backwards else made.sources:
            try:
                picture = opened(source, "pictures", made.policy)
            except PictureRefused as refusal:
                writer.refuse(source.key, source.ordinal, source.location, refusal.reason, refusal.message)
            else:
                assert isinstance(picture, Picture)
                writer.put(source.key, expected(picture.pixels), source.ordinal)
        writer.finish()
    return store / part_name(1, "records.lmdb")


def twice(photos: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Part 1 made on two machines: equal content in files as long as each other that differ."""
    first = write_part_1(photos, tmp_path / "a", backwards=False)
    second = write_part_1(photos, tmp_path / "b", backwards=True)
    assert verify(tmp_path / "a").totals == verify(tmp_path / "b").totals
    assert first.stat().st_size == second.stat().st_size
    assert first.read_bytes() != second.read_bytes()
    return tmp_path / "a", tmp_path / "b"


@pytest.mark.parametrize("moment", ["records.lmdb", "part.json"])
def test_a_part_that_two_send_at_once_is_that_of_one_of_them(
    photos: Path, tmp_path: Path, meddled: type[Meddled], moment: str
) -> None:
    url = f"meddled://{uuid.uuid4().hex}/s"
    a, b = twice(photos, tmp_path)
    meddled.before[moment] = lambda: publish(b, url, 0, pause=0)
    publish(a, url, 0, pause=0)
    for k in (2, 3):
        run(photos, tmp_path / "a", k, url)
    pull(url, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok


def test_a_copy_that_another_begins_and_completes_in_an_instant_is_gone_on_with(
    photos: Path, tmp_path: Path, meddled: type[Meddled]
) -> None:
    url = f"meddled://{uuid.uuid4().hex}/s"
    for k in (1, 2, 3):
        run(photos, tmp_path / "a", k)
    meddled.before[".pushing.json"] = lambda: [publish(tmp_path / "a", url, part, pause=0) for part in range(PARTS)]
    assert publish(tmp_path / "a", url, 1, pause=0).complete
    assert ".pushing.json" not in listed(url)
    pull(url, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok


def test_a_file_that_another_machine_left_is_not_taken_for_our_own(photos: Path, tmp_path: Path, memory: str) -> None:
    """It died between its file and its part.json; ours is as long, and differs."""
    a, b = twice(photos, tmp_path)
    publish(a, memory, 0)
    fs, root = fsspec.core.url_to_fs(memory)
    fs.rm_file(f"{root}/{part_name(1, 'part.json')}")
    publish(b, memory, 0)
    assert cat(memory, part_name(1, "records.lmdb")) == (b / part_name(1, "records.lmdb")).read_bytes()
    assert cat(memory, part_name(1, "part.json")) == (b / part_name(1, "part.json")).read_bytes()


def test_the_second_to_publish_a_part_leaves_that_of_the_first(photos: Path, tmp_path: Path, memory: str) -> None:
    a, b = twice(photos, tmp_path)
    publish(a, memory, 0)
    assert publish(b, memory, 0).bytes == 0
    assert cat(memory, part_name(1, "part.json")) == (a / part_name(1, "part.json")).read_bytes()


def test_an_interrupted_publishing_goes_on_and_sends_only_what_is_missing(
    photos: Path, tmp_path: Path, meddled: type[Meddled], digest: str
) -> None:
    url = f"meddled://{uuid.uuid4().hex}/s"

    def cut() -> None:
        raise KeyboardInterrupt

    meddled.before["ledger.jsonl"] = cut
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "s", 1, url)
    assert "part.json" not in {name.rpartition("/")[2] for name in listed(url)}
    assert status(url).counts["stopped"] == 1
    records = tmp_path / "s" / part_name(1, "records.lmdb")
    sent = records.stat().st_size if part_name(1, "records.lmdb") in listed(url) else 0
    part = sum(
        path.stat().st_size for path in records.parent.iterdir() if path.name in ("records.lmdb", "ledger.jsonl")
    )
    assert publish(tmp_path / "s", url, 0).bytes == part - sent
    for k in (2, 3):
        run(photos, tmp_path / "s", k, url)
    pull(url, tmp_path / "copy")
    assert verify(tmp_path / "copy").totals.digest == digest


def test_parts_that_do_not_make_the_list_make_no_store(photos: Path, tmp_path: Path, memory: str) -> None:
    """One was made of another list, by hand or by a mistake that nobody noticed."""
    for k in (1, 2):
        run(photos, tmp_path / "s", k, memory)
    other = job(str(photos), str(tmp_path / "s"), 3, PARTS, publish=memory)
    object.__setattr__(other, "sources", other.sources[1:])
    with pytest.raises(StoreError, match="some are in no part"):
        jobs.run(other, quiet=True)
    with pytest.raises(StoreError, match="some are in no part"):
        publish(tmp_path / "s", memory, 2)
    assert status(memory).state == "unconfirmed"
    assert "manifest.json" not in listed(memory)


def test_what_is_damaged_here_is_not_published(photos: Path, tmp_path: Path, memory: str) -> None:
    run(photos, tmp_path / "s", 1)
    records = tmp_path / "s" / part_name(1, "records.lmdb")
    data = bytearray(records.read_bytes())
    data[len(data) // 2] ^= 1
    records.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged"):
        publish(tmp_path / "s", memory, 0, pause=0)
    assert part_name(1, "part.json") not in listed(memory)


def test_a_url_that_is_another_store_s_is_found_out_before_any_work(photos: Path, tmp_path: Path, memory: str) -> None:
    run(photos, tmp_path / "s", 1, memory)
    with pytest.raises(UsageError, match="different store"):
        run(photos, tmp_path / "other", 1, memory, n=2)
    assert not list((tmp_path / "other").glob("parts/*"))
    put(f"{memory}2", "thesis.txt", b"mine")
    with pytest.raises(UsageError, match="no copy of a store"):
        run(photos, tmp_path / "third", 1, f"{memory}2")
    with pytest.raises(UsageError, match="the store itself"):
        run(photos, tmp_path / "s", 2, str(tmp_path / "s"))


def test_a_part_whose_content_became_another_is_not_put_over_the_published_one(
    photos: Path, tmp_path: Path, memory: str
) -> None:
    mine = tmp_path / "photos"
    shutil.copytree(photos, mine)
    run(mine, tmp_path / "s", 1, memory)
    shutil.copy(mine / "p001.png", mine / "a_text.jpg")
    again = job(str(mine), str(tmp_path / "s"), 1, PARTS, publish=memory)
    object.__setattr__(again, "retry_refused", True)
    with pytest.raises(UsageError, match="has another part 1/3"):
        jobs.run(again, quiet=True)


def test_push_goes_on_with_what_was_published(photos: Path, tmp_path: Path, memory: str) -> None:
    run(photos, tmp_path / "s", 2, memory)
    for k in (1, 3):
        run(photos, tmp_path / "s", k)
    done = push(tmp_path / "s", memory)
    assert done.complete
    pull(memory, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok


def test_the_pulse_of_a_running_part_is_seen_behind_the_url_and_its_end_too(
    photos: Path, tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[publish.__module__], "EVERY", 0.05)
    run(photos, tmp_path / "s", 1)
    folder = tmp_path / "s" / part_name(2, "")
    folder.mkdir()
    made = {"state": "running", "done": 4, "refused": 0, "total": 7, "rate": 2.0, "begun": 1.0, "moved": 1.0}

    def body() -> None:
        now = {**made, "time": time.time(), "process": {"host": "far", "pid": 7, "place": "", "since": 0}}
        with publishing(tmp_path / "s", memory, 1):
            (folder / "pulse.json").write_text(json.dumps(now))
            while not status(memory).counts["running"]:
                time.sleep(0.02)
            last = {**now, "state": "interrupted"}
            (folder / "pulse.json").write_text(json.dumps(last))
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        body()
    told = status(memory).parts[1]
    assert (told.state, told.why, told.done) == ("stopped", "interrupted", 4)


def test_processes_that_publish_to_one_folder_at_once(photos: Path, tmp_path: Path, digest: str) -> None:
    url = (tmp_path / "there").as_uri()
    running = [start(photos, tmp_path / f"m{k}", k, PARTS, publish=url) for k in (1, 2, 3)]
    for process in running:
        assert process.communicate(timeout=120)[1] == ""
    assert main(["status", url]) == 0
    assert verify(tmp_path / "there").totals.digest == digest


STOPS = """
import sys, time
from featx.care.remote import Remote
from tests.part_process import job
from featx import jobs

write = Remote.write

def slow(self, name, blocks, size):
    def crawl():
        for block in blocks():
            yield block[: len(block) // 2]
            if name.endswith("records.lmdb"):
                print("half", flush=True)
                time.sleep(60)
            yield block[len(block) // 2 :]
    write(self, name, crawl, size)

Remote.write = slow
jobs.run(job(sys.argv[1], sys.argv[2], 1, 3, publish=sys.argv[3]), quiet=True)
"""


def test_a_process_that_is_killed_while_it_sends_leaves_nothing_that_could_be_taken_for_a_part(
    photos: Path, tmp_path: Path, digest: str
) -> None:
    there = tmp_path / "there"
    words = [sys.executable, "-c", STOPS, str(photos), str(tmp_path / "s"), there.as_uri()]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    now = status(there.as_uri())
    assert (now.counts["done"], now.parts[0].state) == (0, "stopped")
    assert status(tmp_path / "s").parts[0].state == "done", "extraction was through"
    assert not (there / part_name(1, "records.lmdb")).exists()
    for k in (1, 2, 3):
        run(photos, tmp_path / "s", k, there.as_uri())
    assert status(there.as_uri()).state == "complete"
    assert verify(there).totals.digest == digest


def test_the_command_publishes_and_says_so(
    photos: Path, tmp_path: Path, memory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = str(Path(__file__).resolve().parent.parent / "configs" / "seeded_tiny.yaml")
    some = tmp_path / "photos"
    some.mkdir()
    for name in ("p000.png", "p001.png"):
        shutil.copy(photos / name, some)
    store = str(tmp_path / "s")
    for k in ("2/2", "1/2"):
        assert main(["extract", str(some), store, "--config", tiny, "--part", k, "--publish", memory, "--quiet"]) == 0
        assert f"part {k} is published at {memory}" in capsys.readouterr().err
    assert main(["status", memory]) == 0
    assert "(complete, lmdb, 2 parts)" in capsys.readouterr().out
    assert main(["extract", str(some), store, "--config", tiny, "--part", "1/2", "--publish", "s4://bucket/x"]) == 2
