"""One part of a job with the fake extractor, as a process of its own: ``python -m tests.part_process JSON``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from featx import jobs
from featx.config import ExtractConfig
from featx.images import list_pictures, part
from featx.store import pulse
from tests.fake import Fake


def job(
    photos: str, store: str, k: int, n: int, *, backend: str = "lmdb", batch: int = 1, publish: str | None = None,
    **options: Any,
) -> jobs.Job:  # fmt: skip
    """Part k (from 1) of n of the pictures in ``photos``."""
    listing = list_pictures(photos)
    config = ExtractConfig(extractor="fake", backend=backend, batch=batch)
    return jobs.Job(store, config, Fake(**options), part(listing, k, n), listing, (k, n), publish=publish)


def start(photos: Path, store: Path, k: int, n: int, **options: Any) -> subprocess.Popen[str]:
    """The part as a process, with a pulse ten times a second."""
    arguments = json.dumps({"photos": str(photos), "store": str(store), "k": k, "n": n, **options})
    return subprocess.Popen([sys.executable, "-m", "tests.part_process", arguments], stderr=subprocess.PIPE, text=True)


def draw(folder: Path, count: int) -> Path:
    """Small pictures, all different, and a file that is none."""
    folder.mkdir()
    random = np.random.default_rng(5)
    for i in range(count - 1):
        cv2.imwrite(str(folder / f"p{i:03d}.png"), random.integers(0, 255, (12, 16, 3), np.uint8))
    (folder / "a_text.jpg").write_text("not a picture")
    return folder


def main() -> None:
    """Run it."""
    pulse.Heart.__init__.__defaults__ = (0.1,)
    jobs.run(job(**json.loads(sys.argv[1])), quiet=True)


if __name__ == "__main__":
    main()
