"""The shipped detector on scenes that its recipe never drew: what its card claims, and what a newcomer sees first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featx.extractor import Picture
from featx.scenes import write_scenes
from featx.scenes.world import COLOURS, PATTERNS, SIZES
from featx_extractors.frcnn import FRCNN
from featx_extractors.training.coco import Annotated, read_coco
from featx_extractors.training.pictures import read_pixels
from featx_extractors.training.scores import Detections, Expected, assign, iou
from featx_extractors.training.task import DetectorTask
from featx_extractors.weights import load_weights

SEED = 4711  # not that of configs/detector_scenes.yaml
PICTURES = 40


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 1, PICTURES, SEED, ["en"], workers=1)
    return folder


@pytest.fixture(scope="module")
def pictures(scenes: Path) -> list[Annotated]:
    found, names = read_coco(scenes / "annotations/instances_val.json", scenes / "val")
    header = load_weights("tiny").header
    assert (header.objects, header.attributes) == (names.objects, names.attributes)
    return found


def test_it_finds_things_and_says_what_they_are_like(scenes: Path) -> None:
    files = {"annotations": str(scenes / "annotations/instances_val.json"), "pictures": str(scenes / "val")}
    task = DetectorTask.from_options({"model": {"start": "tiny"}, "data": {"train": files, "val": files}})
    examples = task.examples("val")
    with torch.no_grad():
        found = [one for example in examples for one in task.predict(task.prepare([example], None, None))]
    scores = task.metric(examples, found)
    assert scores["map50"] >= 0.9
    assert scores["attribute_accuracy"] >= 0.95
    assert scores["first_attribute"] >= 0.95
    assert scores["each_attribute"] >= 0.95
    # The mean over the three sorts hides the weakest, which are the patterns.
    shares = by_sort(examples, found, task.names.attributes)
    assert min(shares["colour"], shares["size"]) >= 0.98
    assert shares["pattern"] >= 0.88


def by_sort(examples: Sequence[Annotated], found: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Share of colours, patterns and sizes of found things that are among the three likeliest attributes."""
    right: dict[str, list[bool]] = {"colour": [], "pattern": [], "size": []}
    for example, one in zip(examples, found, strict=True):
        boxes, classes, scores = (np.array(one[name]) for name in ("boxes", "classes", "scores"))
        rows = assign(Detections(boxes, classes, scores, classes), Expected(example.boxes, example.classes, ()))
        for row, said in zip(rows, one["attributes"], strict=True):
            if row >= 0:
                for sort, attribute in zip(right, example.attributes[row], strict=True):
                    assert names[attribute] in {"colour": COLOURS, "pattern": PATTERNS, "size": SIZES}[sort]
                    right[sort].append(attribute in said[:3])
    return {sort: float(np.mean(values)) for sort, values in right.items()}


def test_its_records_hold_about_one_box_for_each_thing(pictures: list[Annotated]) -> None:
    frcnn = FRCNN.from_options({"weights": "tiny"})
    found = doubled = strays = named = 0
    for example in pictures:
        record = frcnn([frcnn.prepare(Picture(example.picture, read_pixels(example.path, example.size)))])[0]
        record.check(frcnn.schema)
        boxes = np.asarray(record.boxes, float)
        overlap = iou(boxes, example.boxes.astype(float))
        best, there = overlap.argmax(1), overlap.max(1) >= 0.5
        found += len(set(best[there].tolist()))
        doubled += int(there.sum()) - len(set(best[there].tolist()))
        strays += int((~there).sum())
        named += int((record.object_ids[there] == example.classes[best[there]]).sum())
    things = sum(len(example.boxes) for example in pictures)
    assert found >= 0.93 * things
    assert doubled <= 0.05 * things
    assert strays <= 0.03 * things
    assert named >= 0.95 * (found + doubled)


def test_it_runs_as_its_profile_says() -> None:
    frcnn = FRCNN.from_options({"weights": "tiny"})
    assert frcnn.profile.name == "scenes-36"
    assert frcnn.notes() == []
    assert frcnn.schema.dim == 256
    assert frcnn.provenance()["weights"]["trained"] is True
