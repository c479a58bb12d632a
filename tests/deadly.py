"""An extractor that kills its own process, and what runs it in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from featx import jobs
from featx.config import load_config
from featx.extractor import Picture
from featx.images import list_pictures
from featx.jobs import Job
from featx.record import Record
from tests.fake import Fake

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.deadly"])


class Deadly(Fake):
    """Dies by SIGKILL when it meets one of ``keys``, in ``stage``: decode, network, measure, crowd or interrupt.

    interrupt: not dead, but asked to stop. crowd: in the network, but only if another picture has been taken up, and
    not been written, by then. raises: an unexpected error, instead of dying.
    """

    def __init__(self, keys: Sequence[str], stage: str, raises: bool = False) -> None:
        super().__init__()
        self.keys, self.stage, self.raises = set(keys), stage, raises
        self.taken = 0
        self._lock = threading.Lock()

    def _die(self, key: str) -> None:
        if key in self.keys or "*" in self.keys:
            if self.raises:
                raise RuntimeError("the device gave up\nat some place")
            os.kill(os.getpid(), signal.SIGKILL)

    def prepare(self, picture: Picture) -> Picture:
        with self._lock:
            self.taken += 1
        if self.stage == "decode":
            self._die(picture.key)
        return super().prepare(picture)

    def measured(self, first: Callable[[], Any]) -> dict[str, Any]:
        if self.stage == "measure":
            self._die(first().key)
            return {"looked at": first().key}
        return {}

    def __call__(self, batch: Sequence[Picture]) -> list[Record]:
        if self.stage == "crowd" and any(picture.key in self.keys for picture in batch):
            time.sleep(0.3)  # what can be taken up beside it is
            if self.taken > len(self.seen) + 1:
                self._die(next(iter(self.keys)))
        elif self.stage == "interrupt" and any(picture.key in self.keys for picture in batch):
            os.kill(os.getpid(), signal.SIGINT)
        elif self.stage == "network":
            for picture in batch:
                self._die(picture.key)
        return super().__call__(batch)


def child(photos: str, store: str, backend: str, options: dict[str, Any], retry: bool, notes: Any, batch: int) -> None:
    """One run of a store of one part."""
    listing, config = list_pictures(photos), load_config(None, {"backend": backend, "batch": batch})
    job = Job(store, config, Deadly(**options), list(listing), listing, (1, 1), retry)
    jobs.run(job, quiet=True, on_note=notes.put)


def run(
    photos: object, store: object, backend: str, keys: Sequence[str] = (), stage: str = "decode", *,
    raises: bool = False, retry: bool = False, batch: int = 1,
) -> tuple[int, list[str]]:  # fmt: skip
    """Run it in a process; how that ended (-9: killed), and what it said."""
    notes = _PROCESSES.SimpleQueue()
    options = {"keys": list(keys), "stage": stage, "raises": raises}
    process = _PROCESSES.Process(target=child, args=(str(photos), str(store), backend, options, retry, notes, batch))
    process.start()
    process.join(60)
    assert process.exitcode is not None
    said = []
    while not notes.empty():
        said.append(notes.get())
    return process.exitcode, said
