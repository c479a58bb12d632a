"""The error of a precision: measured at float32's own boxes, kept with the part, shown, and compared by nobody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from featx.cli import main
from featx.config import ExtractConfig
from featx.errors import UsageError
from featx.jobs import WORTH_MEASURING, Job, measured, plan, run
from featx.store import open_store
from featx_extractors.detector import Detector
from featx_extractors.deviation import deviation
from featx_extractors.frcnn import FRCNN
from tests.test_frcnn import TINY, extractor, picture

OPTIONS = {"weights": "seeded-tiny", "profile": TINY, "precision": "bf16"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"no picture")
    for seed, name in enumerate("bcd"):
        cv2.imwrite(str(folder / f"{name}.png"), picture(seed).pixels)
    return folder


def detectors() -> tuple[Detector, Detector]:
    fast, exact = extractor(precision="bf16"), extractor()
    return fast.detector, exact.detector


def test_the_figures_are_those_of_the_two_features_side_by_side() -> None:
    fast, exact = detectors()
    prepared = extractor().prepare(picture())
    found = deviation(fast, exact, prepared.pixels, prepared.frame)
    inputs, frames = prepared.pixels[None], [prepared.frame]
    boxes = exact.detect(inputs, frames)[0].proposals
    true, other = (each.describe(inputs, frames, [boxes])[0].features.double().numpy() for each in (exact, fast))
    assert found["regions"] == 36
    assert found["largest_error"] == pytest.approx(np.abs(true - other).max(), rel=1e-5)
    assert found["mean_error"] == pytest.approx(np.abs(true - other).mean(), rel=1e-5)
    assert found["mean_feature"] == pytest.approx(np.abs(true).mean(), rel=1e-5)
    lengths = np.linalg.norm(true, axis=1) * np.linalg.norm(other, axis=1)
    assert found["least_cosine"] == pytest.approx(((true * other).sum(1) / lengths).min(), rel=1e-5)
    assert 0 < found["largest_error"] < 1
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("profile", ["lxmert-published", "hf-demo-fixed", "airsplay-notebook"])
def test_a_precision_beside_itself_is_exact(profile: str) -> None:
    frcnn = extractor(profile={"base": profile, "short_side": 192, "long_side": 320})
    prepared = frcnn.prepare(picture())
    found = deviation(frcnn.detector, frcnn.detector, prepared.pixels, prepared.frame)
    assert found["largest_error"] == found["largest_confidence_error"] == 0
    assert found["same_object_id"] == found["least_cosine"] == 1


def test_no_box_is_no_error() -> None:
    fast, exact = detectors()
    prepared = extractor().prepare(picture())
    assert deviation(fast, exact, prepared.pixels, prepared.frame, torch.zeros(0, 4)) == {"regions": 0}


def test_features_beyond_the_numbers_of_a_precision_end_a_run_before_it_begins() -> None:
    fast, exact = detectors()
    prepared = extractor().prepare(picture())
    fast.network.res5.blocks[-1].conv3.bias.fill_(torch.inf)
    with pytest.raises(UsageError, match="bfloat16 some features are not finite"):
        deviation(fast, exact, prepared.pixels, prepared.frame)


def job(photos: Path, store: Path, part: tuple[int, int] = (1, 1), **options: Any) -> Job:
    return plan(str(photos), str(store), ExtractConfig(options={**OPTIONS, **options}), part_of=part)


def test_it_lies_with_the_part_and_is_shown(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(job(photos, tmp_path / "s"), quiet=True)
    with open_store(tmp_path / "s") as store:
        (part,) = store.parts
        assert len(store) == 3
        assert store.manifest.provenance["precision"] == "bfloat16"
    assert part.about["deviation"]["precision"] == "bfloat16"
    assert part.about["deviation"]["device"] == "cpu"
    assert part.about["deviation"]["regions"] == 36
    assert part.about["libraries"]["torch"]
    assert main(["inspect", str(tmp_path / "s")]) == 0
    shown = capsys.readouterr().out
    assert "bfloat16 on cpu: features of mean" in shown


def test_exact_features_need_no_figures(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(job(photos, tmp_path / "s", precision="float32"), quiet=True)
    with open_store(tmp_path / "s") as store:
        assert "deviation" not in store.parts[0].about
    assert main(["inspect", str(tmp_path / "s")]) == 0
    assert "are off by" not in capsys.readouterr().out


def test_small_parts_leave_it_to_the_first(photos: Path, tmp_path: Path) -> None:
    first, second = (job(photos, tmp_path / "s", (k, 2)) for k in (1, 2))
    assert measured(second, 2) == {}
    assert measured(second, WORTH_MEASURING)["deviation"]["regions"] == 36
    assert measured(first, 2)["deviation"]["regions"] == 36
    for each in (first, second):
        run(each, quiet=True)
    with open_store(tmp_path / "s") as store:
        assert ["deviation" in part.about for part in store.parts] == [True, False]


def test_a_process_measures_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = job(photos, tmp_path / "s")
    before = measured(one, 3)
    monkeypatch.setattr("featx_extractors.frcnn.deviation", lambda *a: pytest.fail("measured again"))
    assert measured(one, 3) == before


def test_a_part_without_a_usable_picture_has_no_figures(photos: Path, tmp_path: Path) -> None:
    for path in photos.glob("*.png"):
        path.unlink()
    assert measured(job(photos, tmp_path / "s"), 1) == {}


def test_an_extractor_that_is_begun_gives_its_records_when_asked() -> None:
    frcnn: FRCNN = extractor()
    prepared = [frcnn.prepare(picture(seed)) for seed in range(2)]
    begun = [frcnn.begin([each]) for each in prepared]
    assert [records()[0] for records in begun] == [frcnn([each])[0] for each in prepared]


def test_without_the_memory_for_a_second_network_the_run_goes_on_without_a_measure(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 262000000 bytes")

    monkeypatch.setattr("featx_extractors.frcnn.deviation", full)
    whole = job(photos, tmp_path / "s")
    assert measured(whole, WORTH_MEASURING) == {}
    assert run(whole, quiet=True).pictures == 3  # and one that is none
    assert not list((tmp_path / "s").rglob("deaths.jsonl"))


def test_any_other_error_of_the_measure_is_told(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx_extractors.frcnn.deviation", lambda *a: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        measured(job(photos, tmp_path / "s"), WORTH_MEASURING)
