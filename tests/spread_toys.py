"""An extractor that other processes find by its name, and that may kill its process; and a look at what it made."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from featx.decode import decode
from featx.extractor import Picture
from featx.images import list_pictures
from featx.record import Record
from featx.store import open_store
from featx.store.verify import verify
from tests.fake import Fake, expected

ROOT = Path(__file__).parents[1]
ENTRY = "[featx.extractors]\ntoy-spread = tests.spread_toys:Mortal\n"


class Mortal(Fake):
    """Dies of the pictures ``poison``; asks to be told where it works in the folder ``log``, if given.

    once: it dies of them only where no file of that name in ``log`` says that it did before.
    """

    def __init__(
        self, poison: Sequence[str] = (), log: str = "", once: bool = False, raises: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self.poison, self.log, self.once, self.raises = set(poison), log, once, raises
        if log:
            (Path(log) / f"built-{os.getpid()}").touch()

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Mortal:
        return cls(**{name: value for name, value in options.items() if name != "device"})

    def __call__(self, batch: Sequence[Picture]) -> list[Record]:
        for picture in batch:
            mark = Path(self.log) / f"died-{picture.key}"
            if picture.key in self.poison and not (self.once and mark.exists()):
                mark.touch()
                if self.raises:
                    raise RuntimeError("the device gave up")
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


def offer(folder: Path) -> dict[str, str]:
    """A package of metadata alone in ``folder``; the environment of a process that is to find the extractor."""
    place = folder / "toy_spread-1.0.dist-info"
    place.mkdir(parents=True, exist_ok=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-spread\nVersion: 1.0\n")
    (place / "entry_points.txt").write_text(ENTRY)
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "OMP_NUM_THREADS": "1"}


def draw(folder: Path, count: int) -> Path:
    """Small pictures, all different, p000 and so on, one of them no picture."""
    folder.mkdir()
    random = np.random.default_rng(11)
    for i in range(count - 1):
        cv2.imwrite(str(folder / f"p{i:03}.png"), random.integers(0, 255, (12, 16, 3), np.uint8))
    (folder / "p999.jpg").write_text("not a picture")
    return folder


def check(photos: Path, path: Path, refused: Mapping[str, str] | None = None) -> str:
    """Assert that the store is finished and holds exactly the right record of every picture that was not refused, once;
    its digest."""
    refused = {"p999": "not-an-image"} if refused is None else refused
    with open_store(path) as store:
        reasons = {one.key: one.reason for one in store.failures()}
        assert reasons.keys() == refused.keys()
        keys = list(store.keys("source"))
        sources = [source for source in list_pictures(str(photos)) if source.key not in refused]
        assert keys == [source.key for source in sources]
        assert all(store[source.key] == expected(decode(source.read())) for source in sources)
    report = verify(path)
    assert report.ok
    assert not {"flight", "deaths.jsonl", "pulse.json"} & {file.name for file in path.glob("parts/*/*")}
    return str(report.totals.digest)


def running(path: Path) -> list[int]:
    """Processes that write a part of the store just now, by its locks."""
    from featx.store.lock import holder

    found = (holder(lock) for lock in path.glob("parts/*/.lock"))
    return [one.pid for one in found if one is not None and one.pid and one.alive()]


def until(what: Any, seconds: float = 60.0) -> Any:
    """The first true value of ``what()``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def command(*arguments: object) -> list[str]:
    """``featx`` by this Python."""
    return [sys.executable, "-m", "featx", *map(str, arguments)]
