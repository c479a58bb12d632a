"""SIGKILL at random moments: the whole command, the tiny network, both back ends."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from featx.store.verify import verify
from tests.kill_loop import LOST, killed, undisturbed

CONFIG = str(Path(__file__).resolve().parent.parent / "configs" / "seeded_tiny.yaml")


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_a_killed_run_resumes_and_ends_with_the_same_content(tmp_path: Path, backend: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(3)
    for i in range(40):
        small = noise.integers(0, 255, (9, 12, 3), np.uint8)
        cv2.imwrite(str(photos / f"{i}.png"), cv2.resize(small, (160 + 8 * (i % 5), 120)))
    settings = {"config": CONFIG, "backend": backend}
    digest, seconds = undisturbed([str(photos)], tmp_path / "whole", settings)
    calls, hits = killed([str(photos)], tmp_path / "killed", settings, kills=5, length=seconds, seed=7)
    report = verify(tmp_path / "killed")
    assert hits >= 2
    assert report.ok
    assert report.totals.digest == digest
    assert report.totals.records == 40
    assert sum(calls.values()) - 40 <= hits * LOST, "more was computed twice than was under way at the kills"
