"""Decoding, network and writing work side by side: what each may be ahead of the others, and how errors arrive."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from featx.decode import decode
from featx.errors import FeatxError, Interrupted
from featx.images import Listing, list_pictures
from featx.progress import Progress
from featx.runner import Runner
from featx.runner.writing import WAITING
from featx.store import PartWriter, create_store, open_part, open_store
from featx.store.deaths import read_deaths
from tests.fake import Fake, expected


@pytest.fixture
def sources(tmp_path: Path) -> Listing:
    """A hundred tiny pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(1)
    for i in range(100):
        cv2.imwrite(str(folder / f"p{i:03}.png"), random.integers(0, 255, (8, 9, 3), np.uint8))
    return list_pictures(str(folder))


@pytest.fixture
def part(tmp_path: Path) -> Iterator[PartWriter]:
    """An open part; what becomes of it is up to the test."""
    fake = Fake()
    create_store(tmp_path / "store", "lmdb", fake.schema, fake.provenance(), fake.labels)
    writer = open_part(tmp_path / "store")
    yield writer
    writer.close()


class Gate:
    """Lets commits through only while it is open."""

    def __init__(self, part: PartWriter) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        self._commit, part.commit = part.commit, self  # type: ignore[method-assign]

    def __call__(self) -> None:
        self.reached.set()
        assert self.open.wait(10)
        self._commit()


def progress_of(sources: Listing) -> Progress:
    return Progress(len(sources), stream=io.StringIO(), quiet=True)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def settled(count: Callable[[], int], least: int) -> int:
    """What ``count`` says when it has said so for a while, and is not below ``least`` any more."""
    end = time.monotonic() + 20
    while count() < least and time.monotonic() < end:
        time.sleep(0.01)
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 0.3:
        if (now := count()) != before:
            before, since = now, time.monotonic()
        time.sleep(0.01)
    return before


def test_the_network_goes_on_while_a_commit_is_under_way_but_not_without_end(
    sources: Listing, part: PartWriter
) -> None:
    fake, gate, progress = Fake(), Gate(part), progress_of(sources)
    thread = in_thread(lambda: Runner(fake, part, progress).run(sources))
    assert gate.reached.wait(10)
    ahead = settled(lambda: len(fake.seen), WAITING + 2)
    assert WAITING < ahead <= 2 * WAITING + 1
    assert progress.summary().pictures == 0, "nothing is done before it is durable"
    gate.open.set()
    thread.join()
    assert progress.summary().pictures == 100


def test_a_large_batch_is_at_most_two_batches_ahead_of_the_disk(sources: Listing, part: PartWriter) -> None:
    fake, gate = Fake(), Gate(part)
    thread = in_thread(lambda: Runner(fake, part, progress_of(sources), batch=20).run(sources))
    assert gate.reached.wait(10)
    assert settled(lambda: len(fake.batches), 3) == 3, "one in the commit, one waiting, one at the door"
    gate.open.set()
    thread.join()
    assert fake.batches == [20] * 5


def test_records_are_written_in_the_order_in_which_they_were_computed(sources: Listing, part: PartWriter) -> None:
    fake, written, put = Fake(), [], part.put

    def noted(key: str, record: object, ordinal: int) -> None:
        written.append(key)
        put(key, record, ordinal)  # type: ignore[arg-type]

    part.put = noted  # type: ignore[method-assign]
    Runner(fake, part, progress_of(sources), batch=3).run(sources)
    assert written == fake.seen == [source.key for source in sources]


def test_what_waits_is_one_commit(sources: Listing, part: PartWriter) -> None:
    commits, commit = 0, part.commit

    def counted() -> None:
        nonlocal commits
        commits += 1
        time.sleep(0.02)
        commit()

    part.commit = counted  # type: ignore[method-assign]
    Runner(Fake(), part, progress_of(sources)).run(sources)
    assert 100 / WAITING <= commits <= 50


def test_what_writing_failed_of_is_raised_and_the_network_stops(sources: Listing, part: PartWriter) -> None:
    def full() -> None:
        raise FeatxError("no space left")

    fake, part.commit = Fake(), full  # type: ignore[method-assign]
    with pytest.raises(FeatxError, match="no space left"):
        Runner(fake, part, progress_of(sources)).run(sources)
    assert len(fake.seen) <= 2 * WAITING + 1
    assert "featx-write" not in {thread.name for thread in threading.enumerate()}


def test_what_the_last_batch_failed_of_is_raised_too(sources: Listing, part: PartWriter) -> None:
    def full() -> None:
        raise FeatxError("no space left")

    part.commit = full  # type: ignore[method-assign]
    with pytest.raises(FeatxError, match="no space left"):
        Runner(Fake(), part, progress_of(sources)).run(list(sources)[:1])
    assert part.finished is None


def test_an_error_of_the_network_keeps_what_was_computed_before(
    sources: Listing, part: PartWriter, tmp_path: Path
) -> None:
    class Bug(Fake):
        def __call__(self, batch):  # type: ignore[no-untyped-def]
            if len(self.seen) == 7:
                raise ZeroDivisionError
            return super().__call__(batch)

    with pytest.raises(ZeroDivisionError):
        Runner(Bug(), part, progress_of(sources)).run(sources)
    with open_store(tmp_path / "store", partial=True) as store:
        assert len(store) == 7


def test_an_error_of_decoding_that_nobody_expected_is_raised(sources: Listing, part: PartWriter) -> None:
    class Bug(Fake):
        def prepare(self, picture):  # type: ignore[no-untyped-def]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Runner(Bug(), part, progress_of(sources)).run(sources)


def test_an_interrupt_commits_everything_that_was_computed(sources: Listing, part: PartWriter, tmp_path: Path) -> None:
    class Interrupting(Fake):
        def __call__(self, batch):  # type: ignore[no-untyped-def]
            if len(self.seen) == 20:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(batch)

    fake, progress = Interrupting(), progress_of(sources)
    with pytest.raises(Interrupted):
        Runner(fake, part, progress).run(sources)
    assert len(fake.seen) == progress.summary().pictures == 21
    with open_store(tmp_path / "store", partial=True) as store:
        assert sorted(store) == sorted(fake.seen)


def test_the_second_interrupt_waits_only_for_the_commit_under_way(
    sources: Listing, part: PartWriter, tmp_path: Path
) -> None:
    fake, gate = Fake(), Gate(part)

    def interrupt() -> None:
        assert gate.reached.wait(10)
        settled(lambda: len(fake.seen), WAITING + 2)  # the network is waiting for the disk
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        gate.open.set()

    thread = in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        Runner(fake, part, progress_of(sources)).run(sources)
    thread.join()
    with open_store(tmp_path / "store", partial=True) as store:
        assert 1 <= len(store) <= WAITING < len(fake.seen)


@pytest.mark.parametrize("limit", ["decode", "network", "write"])
def test_the_summary_names_the_stage_that_the_others_waited_for(sources: Listing, part: PartWriter, limit: str) -> None:
    class Slow(Fake):
        def prepare(self, picture):  # type: ignore[no-untyped-def]
            time.sleep(0.02 if limit == "decode" else 0)
            return super().prepare(picture)

    if limit == "write":
        commit = part.commit

        def slow() -> None:
            time.sleep(0.05)
            commit()

        part.commit = slow  # type: ignore[method-assign]
    progress = progress_of(sources)
    fake = Slow(slow=0.01 if limit == "network" else 0)
    Runner(fake, part, progress, workers=3).run(list(sources)[:40])
    summary = progress.close()
    assert summary.limit == summary.to_dict()["limit"] == limit
    assert str(summary).endswith(f"; limit: {limit}")


class Device(Fake):
    """Computes in a thread of its own, as a GPU does: batches are begun, and waited for later."""

    def __init__(self, fails: str = "", **options: float) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.fails = fails
        self.begun: list[int] = []
        self.queue = ThreadPoolExecutor(1)

    def begin(self, batch):  # type: ignore[no-untyped-def]
        if len(batch) > self.memory:
            raise MemoryError
        self.begun.append(len(self.batches))
        return self.queue.submit(self._compute, batch).result

    def _compute(self, batch):  # type: ignore[no-untyped-def]
        if self.fails in [picture.key for picture in batch]:
            raise RuntimeError("the device gave up")
        return self(batch)


def test_the_next_batch_is_begun_before_a_device_is_done_with_the_one_before(
    sources: Listing, part: PartWriter, tmp_path: Path
) -> None:
    fake = Device(slow=0.02)
    progress = progress_of(sources)
    Runner(fake, part, progress, batch=20).run(sources)
    assert len(fake.begun) == 5
    assert all(done < begun for begun, done in enumerate(fake.begun) if begun), (
        "the device always had one to go on with"
    )
    assert progress.close().limit == "network"
    with open_store(tmp_path / "store") as store:
        for source in sources:
            assert store[source.key] == expected(decode(source.read()))


def test_a_device_that_runs_out_of_memory_is_given_smaller_batches(
    sources: Listing, part: PartWriter, tmp_path: Path
) -> None:
    fake, notes = Device(memory=3), list[str]()
    Runner(fake, part, progress_of(sources), batch=10, on_note=notes.append).run(sources)
    assert notes == ["out of memory: batches are now of 5", "out of memory: batches are now of 2"]
    assert fake.seen == [source.key for source in sources]
    with open_store(tmp_path / "store") as store:
        assert len(store) == 100


def test_what_a_device_failed_of_later_is_raised_and_what_it_did_before_is_kept(
    sources: Listing, part: PartWriter, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="gave up"):
        Runner(Device(fails="p020"), part, progress_of(sources)).run(sources)
    assert [death.error for death in read_deaths(part.folder)] == ["RuntimeError: the device gave up"]
    with open_store(tmp_path / "store", partial=True) as store:
        assert sorted(store) == [f"p{i:03}" for i in range(20)]
