"""Inside a worker: the extractor is built once, and then part after part is done, as ``--part k/n`` does it."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from typing import cast

from featx import jobs
from featx.errors import Interrupted, UsageError
from featx.extractor import Extractor
from featx.images import Listing
from featx.progress import Summary
from featx.registry import load
from featx.spread.task import Build, Failure, Outcome, Task

ORPHAN = 60.0  # seconds that a worker whose parent is gone has for the batch under way
_built: tuple[Build, Extractor] | None = None
_working = threading.Lock()


def settle(parent: int, threads: int) -> None:
    """Prepare a process of this machine, which process ``parent`` has started, for ``threads`` threads of a library.

    It leaves the group that Ctrl-C reaches, because the parent passes that on, once: two would mean "at once". And it
    ends when the parent has gone without a word.
    """
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # what came before this moment is for the parent to repeat
        signal.signal(number, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=_follow, args=(parent,), name="featx-parent", daemon=True).start()
    limit(threads)
    from joblib.externals.loky import process_executor

    process_executor._USE_PSUTIL = False  # it would take a model that is kept for a leak, and end the process


def limit(threads: int) -> None:
    """Let OpenCV use so many threads. The other libraries read OMP_NUM_THREADS when they are loaded."""
    import cv2

    cv2.setNumThreads(threads)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    if not _working.acquire(blocking=False):
        os.kill(os.getpid(), signal.SIGINT)
        _working.acquire(timeout=ORPHAN)
    os._exit(1)


def build(what: Build) -> Outcome:
    """Make the extractor, and keep it."""

    def make(note: Callable[[str], None]) -> None:
        for sentence in _extractor(what).notes():
            note(sentence)

    return _told(make)


def do(task: Task) -> Outcome:
    """Do a part: all that is still missing of it."""

    def run(note: Callable[[str], None]) -> Summary:
        config, of = task.build.config, (task.part + 1, task.parts)
        job = jobs.Job(
            task.store, config, _extractor(task.build), task.sources, Listing([], {}), of,
            task.retry_refused, task.publish, task.facts,
        )  # fmt: skip
        return jobs.run(job, quiet=True, on_note=note)

    return _told(run)


def _told(call: Callable[[Callable[[str], None]], Summary | None]) -> Outcome:
    """What a call returned, or raised, as data."""
    notes: list[str] = []
    with _working:
        try:
            return Outcome(notes, call(notes.append))
        except KeyboardInterrupt:
            return Outcome(notes, failure=Failure.of(Interrupted("stopped at once"), ""))
        except Exception as error:
            return Outcome(notes, failure=Failure.of(error, traceback.format_exc()))


def _extractor(what: Build) -> Extractor:
    global _built
    if _built is None or _built[0] != what:
        try:
            os.chdir(what.folder)
        except OSError as error:
            raise UsageError(
                f"the folder {what.folder} cannot be entered by a worker: {error.strerror}",
                "start the extraction in a folder that every machine sees under the same name",
            ) from None
        kind = cast(type[Extractor], load("featx.extractors", what.config.extractor))
        _built = what, kind.from_options(what.options)
    return _built[1]
