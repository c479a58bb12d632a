"""A job as a whole: parts of one store must be parts of one list, and the Python entry does what the command does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import featx
from featx import jobs
from featx.config import load_config
from featx.errors import UsageError
from featx.store.verify import verify

TINY = str(Path(__file__).resolve().parent.parent / "configs" / "seeded_tiny.yaml")


def photo(folder: Path, name: str, seed: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), np.uint8)
    cv2.imwrite(str(folder / f"{name}.png"), cv2.resize(noise, (120, 90)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(6):
        photo(tmp_path / "photos", str(i), i)
    return tmp_path / "photos"


def run_part(photos: Path, store: Path, k: int, n: int) -> None:
    jobs.run(jobs.plan(str(photos), str(store), load_config(TINY, {}), part_of=(k, n)), quiet=True)


@pytest.mark.parametrize("change", ["one less", "one more", "another name"])
def test_parts_of_a_list_that_changed_in_between_are_refused(photos: Path, tmp_path: Path, change: str) -> None:
    """Block borders move with the list: a picture would fall between two parts, or into both, and nobody would know."""
    run_part(photos, tmp_path / "store", 1, 2)
    if change != "one more":
        (photos / "2.png").unlink()
    if change != "one less":
        photo(photos, "2b")
    with pytest.raises(UsageError, match=r"list of 6 pictures|begun with 6 pictures"):
        run_part(photos, tmp_path / "store", 2, 2)


def test_a_store_is_not_resumed_with_another_folder(photos: Path, tmp_path: Path) -> None:
    run_part(photos, tmp_path / "store", 1, 2)
    photo(tmp_path / "other", "0", 99)
    with pytest.raises(UsageError, match="begun with 6 pictures, this list has 1"):
        run_part(tmp_path / "other", tmp_path / "store", 1, 2)


def test_all_parts_of_one_list_make_a_complete_store(photos: Path, tmp_path: Path) -> None:
    for k in (2, 1):
        run_part(photos, tmp_path / "store", k, 2)
    report = verify(tmp_path / "store")
    assert report.ok
    assert report.totals.records == 6
    with featx.open_store(tmp_path / "store") as store:
        assert list(store.keys("source")) == [str(i) for i in range(6)]


def test_extract_from_python_warns_about_untrained_weights_and_returns_counts(photos: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="not trained"):
        summary = featx.extract(str(photos), str(tmp_path / "store"), config=TINY, backend="hdf5", quiet=True)
    assert (summary.pictures, summary.refused) == (6, 0)
    with featx.open_store(tmp_path / "store") as store:
        batch = store.get_batch(["3", "5"])
    assert batch.features.shape == (2, 36, 256)
    assert batch.mask.all()


def test_provenance_does_not_change_with_the_wording_of_a_profile(photos: Path, tmp_path: Path) -> None:
    def provenance(**profile: Any) -> dict[str, Any]:
        settings = {"profile": {"base": "caffe-36", "short_side": 192, **profile}}
        job = jobs.plan(str(photos), str(tmp_path / "s"), load_config(TINY, settings))
        return job.provenance()

    assert provenance(about="one") == provenance(about="another")
    assert provenance() != provenance(plus_one=False)
