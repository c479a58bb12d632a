"""The runner: order, batches, refusals, interruption and memory, with an extractor that can be checked."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from featx.decode import decode
from featx.errors import Interrupted
from featx.images import Listing, list_pictures
from featx.progress import Progress
from featx.record import Record
from featx.runner import Runner
from featx.store import PartWriter, create_store, open_part, open_store
from tests.fake import Fake, expected


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten small pictures of two sizes and two files that are none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(1)
    for i in range(10):
        shape = (24, 32, 3) if i % 2 else (20, 28, 3)
        cv2.imwrite(str(folder / f"p{i}.png"), random.integers(0, 255, shape, np.uint8))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture")
    return folder


def run(
    fake: Fake, sources: Listing, store: Path, *, batch: int = 1, on_note: Callable[[str], None] = lambda t: None
) -> Progress:
    create_store(store, "lmdb", fake.schema, fake.provenance(), fake.labels)
    progress = Progress(len(sources), stream=io.StringIO(), quiet=True)
    with open_part(store) as writer:
        Runner(fake, writer, progress, batch=batch, on_note=on_note).run(sources)
    progress.close()
    return progress


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("groups", [False, True])
def test_every_picture_is_stored_or_in_the_ledger_whatever_the_batch(
    photos: Path, tmp_path: Path, batch: int, groups: bool
) -> None:
    fake, sources = Fake(groups=groups), list_pictures(str(photos))
    run(fake, sources, tmp_path / "store", batch=batch)
    with open_store(tmp_path / "store") as store:
        assert {f.key: f.reason for f in store.failures()} == {"empty": "empty", "text": "not-an-image"}
        assert sorted(store.keys()) == [f"p{i}" for i in range(10)]
        for source in sources:
            if source.key in store:
                assert store[source.key] == expected(decode(source.read()))
    assert max(fake.batches) <= batch
    assert sorted(fake.seen) == sorted(set(fake.seen))


def test_batches_hold_one_group_only(photos: Path, tmp_path: Path) -> None:
    class Strict(Fake):
        def __call__(self, batch):  # type: ignore[no-untyped-def]
            assert len({picture.size for picture in batch}) == 1
            return super().__call__(batch)

    fake = Strict(groups=True)
    run(fake, list_pictures(str(photos)), tmp_path / "store", batch=4)
    assert sorted(fake.batches) == [1, 1, 4, 4]


def test_a_second_run_computes_nothing(photos: Path, tmp_path: Path) -> None:
    sources = list_pictures(str(photos))
    run(Fake(), sources, tmp_path / "store")
    again = Fake()
    run(again, sources, tmp_path / "store")
    assert again.seen == []


def test_out_of_memory_halves_the_batch_and_goes_on(photos: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    fake = Fake(memory=2)
    run(fake, list_pictures(str(photos)), tmp_path / "store", batch=8, on_note=notes.append)
    assert len(fake.seen) == 10
    assert max(fake.batches) == 2
    assert notes == ["out of memory: batches are now of 4", "out of memory: batches are now of 2"]


def test_batches_never_grow_again_after_running_out_of_memory(photos: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    fake = Fake(memory=2, groups=True)
    run(fake, list_pictures(str(photos)), tmp_path / "store", batch=5, on_note=notes.append)
    assert len(fake.seen) == 10
    assert len(notes) == 1, "the second group must not try the large batch again"


def test_one_picture_that_never_fits_is_refused(photos: Path, tmp_path: Path) -> None:
    run(Fake(memory=0), list_pictures(str(photos)), tmp_path / "store")
    with open_store(tmp_path / "store") as store:
        assert len(store) == 0
        assert sum(f.reason == "out-of-memory" for f in store.failures()) == 10


def test_records_that_break_the_contract_never_reach_the_store(photos: Path, tmp_path: Path) -> None:
    class Broken(Fake):
        def __call__(self, batch):  # type: ignore[no-untyped-def]
            record: Record
            for record in (records := super().__call__(batch)):
                record.features[0, 0] = np.nan
            return records

    run(Broken(), list_pictures(str(photos / "p1.png")), tmp_path / "store")
    with open_store(tmp_path / "store") as store:
        assert [f.reason for f in store.failures()] == ["bad-record"]
        assert len(store) == 0


def test_an_error_in_the_extractor_is_not_swallowed(photos: Path, tmp_path: Path) -> None:
    class Bug(Fake):
        def __call__(self, batch):  # type: ignore[no-untyped-def]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Bug(), list_pictures(str(photos)), tmp_path / "store")


def test_the_first_interrupt_finishes_the_batch_and_keeps_it(photos: Path, tmp_path: Path) -> None:
    class Interrupting(Fake):
        def __call__(self, batch):  # type: ignore[no-untyped-def]
            if len(self.seen) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(batch)

    sources, store = list_pictures(str(photos)), tmp_path / "store"
    first = Interrupting()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="committed"):
        run(first, sources, store)
    assert signal.getsignal(signal.SIGINT) is before
    with open_store(store, partial=True) as partial:
        assert len(partial) == 4
    second = Fake()
    run(second, sources, store)
    assert sorted(first.seen + second.seen) == [f"p{i}" for i in range(10)]


def test_the_second_interrupt_stops_at_once(photos: Path, tmp_path: Path) -> None:
    class Stubborn(Fake):
        def __call__(self, batch):  # type: ignore[no-untyped-def]
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(batch)

    with pytest.raises(KeyboardInterrupt):
        run(Stubborn(), list_pictures(str(photos)), tmp_path / "store")


def test_it_runs_outside_the_main_thread(photos: Path, tmp_path: Path) -> None:
    fake, sources = Fake(), list_pictures(str(photos))
    thread = threading.Thread(target=run, args=(fake, sources, tmp_path / "store"))
    thread.start()
    thread.join()
    assert len(fake.seen) == 10


def test_memory_is_bounded_by_the_batch_not_by_the_list(photos: Path, tmp_path: Path) -> None:
    """Decoding must wait for the network: never more than a few batches of pictures are in memory."""
    prepared = 0
    most = 0

    class Counting(Fake):
        def prepare(self, picture):  # type: ignore[no-untyped-def]
            nonlocal prepared
            prepared += 1
            return super().prepare(picture)

        def __call__(self, batch):  # type: ignore[no-untyped-def]
            nonlocal most
            most = max(most, prepared - len(self.seen))
            return super().__call__(batch)

    for i in range(100):
        (photos / f"q{i}.png").write_bytes((photos / "p0.png").read_bytes())
    run(Counting(slow=0.002), list_pictures(str(photos)), tmp_path / "store", batch=2)
    assert most <= 2 + 2 * 4 + 2 * 4 + 2


def test_parts_together_are_the_whole(photos: Path, tmp_path: Path) -> None:
    from featx.images import part

    sources, fake = list_pictures(str(photos)), Fake()
    create_store(tmp_path / "parts", "lmdb", fake.schema, fake.provenance(), fake.labels, parts=3)
    writers: list[PartWriter] = []
    for k in (3, 1, 2):
        with open_part(tmp_path / "parts", k - 1) as writer:
            Runner(fake, writer, Progress(1, stream=io.StringIO(), quiet=True)).run(part(sources, k, 3))
            writers.append(writer)
    run(Fake(), sources, tmp_path / "whole")
    with open_store(tmp_path / "parts") as parts, open_store(tmp_path / "whole") as whole:
        assert parts.manifest.totals == whole.manifest.totals
