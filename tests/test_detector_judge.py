"""The judge of a network in training: what counts as a detection, and which attributes it is said to have."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from featx_extractors.anchors import detectron2_anchors
from featx_extractors.network import Predictions
from featx_extractors.preprocess import Frame
from featx_extractors.profiles import PROFILES
from featx_extractors.selection import Regression, select
from featx_extractors.training.coco import Names
from featx_extractors.training.export import trained_weights
from featx_extractors.training.judge import Judge, judging_profile
from featx_extractors.training.model import TrainableDetector
from featx_extractors.training.start import initialise
from featx_extractors.weights import Architecture
from featx_extractors.weights.checkpoint import NORMALISED, UNIT

SIZES = Architecture(
    stem=16, width=8, out=16, blocks=(1, 1, 1, 1), rpn_hidden=8, anchors=3, classes=2, attributes=7, embedding=4,
    attribute_hidden=8,
)  # fmt: skip
NAMES = Names(("cat", "dog"), tuple("abcdefg"))
PROFILE = PROFILES["scenes-36"]
FRAME = Frame((64, 64), (64, 64), (1.0, 1.0))


def batch() -> dict[str, torch.Tensor]:
    size = torch.tensor([[64, 64]])
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return {"pixels": pixels, "sizes": size, "originals": size, "scales": torch.ones(1, 2, dtype=torch.float64)}


def test_no_attribute_is_not_among_the_likeliest_attributes() -> None:
    model = TrainableDetector(SIZES, PROFILE).eval()
    initialise(model, torch.from_numpy(detectron2_anchors([32])), 0)
    head = model.roi_heads.box_predictor
    with torch.no_grad():
        head.attr_score.weight.zero_()
        head.attr_score.bias.copy_(torch.tensor([0.0, 4, 1, 5, 2, 3, -1, 99]))  # 99: "no attribute"
    judge = Judge(model, PROFILE, lambda: trained_weights(model.tensors(), NAMES, PROFILE, NORMALISED, UNIT))
    (found,) = judge.detections(batch())
    assert found["attributes"]
    assert found["attributes"] == [[3, 1, 5, 4, 2, 0, 6]] * len(found["attributes"])


def test_boxes_are_judged_where_they_were_moved_and_inside_the_picture() -> None:
    model = TrainableDetector(SIZES, PROFILE).eval()
    initialise(model, torch.from_numpy(detectron2_anchors([32])), 0)
    head = model.roi_heads.box_predictor
    with torch.no_grad():
        head.bbox_pred.weight.zero_()
        head.bbox_pred.bias.copy_(torch.tensor([0.0, 0, 20, 20] * 2))  # e ** 4 times as wide and high
    judge = Judge(model, PROFILE, lambda: trained_weights(model.tensors(), NAMES, PROFILE, NORMALISED, UNIT))
    # 64 / 1.27 is 50.4, as an input of a rounded size may be.
    scales = torch.full((1, 2), 1.27, dtype=torch.float64)
    (found,) = judge.detections({**batch(), "originals": torch.tensor([[50, 50]]), "scales": scales})
    assert found["boxes"] == [[0, 0, 50, 50]] * 2  # one of each class


def kept(boxes: list[list[float]], probs: list[list[float]], frame: Frame = FRAME) -> list[tuple[int, int]]:
    """Row and class of what counts, in a picture whose regions are ``boxes`` and are not moved."""
    profile, regions, said = judging_profile(PROFILE), torch.tensor(boxes), torch.tensor(probs)
    nothing = torch.zeros(len(boxes), 8)
    found = select(
        Regression(regions, nothing, UNIT, frame, profile), Predictions(nothing, said, said, nothing, None), regions
    )
    return list(zip(found.rows.tolist(), found.classes.tolist(), strict=True))


@pytest.mark.parametrize(
    ("second", "counts"),
    # IoU with the first box, 40 x 40: 30 / 50 is too much, 25 / 55 is not.
    [([10.0, 0, 50, 40], [(0, 0)]), ([15.0, 0, 55, 40], [(0, 0), (1, 0)])],
)
def test_of_two_boxes_that_overlap_by_more_than_half_the_surer_one_counts(
    second: list[float], counts: list[tuple[int, int]]
) -> None:
    sure, less = [0.9, 0.0, 0.1], [0.6, 0.0, 0.4]
    assert kept([[0.0, 0, 40, 40], second], [sure, less]) == counts


def test_every_class_of_a_region_above_a_twentieth_counts() -> None:
    assert kept([[0.0, 0, 40, 40]], [[0.3, 0.6, 0.1]]) == [(0, 1), (0, 0)]
    assert kept([[0.0, 0, 40, 40]], [[0.9, 0.04, 0.06]]) == [(0, 0)]


def test_a_hundred_detections_of_a_picture_count() -> None:
    wide = Frame((64, 6400), (64, 6400), (1.0, 1.0))
    boxes = [[50.0 * i, 0, 50.0 * i + 40, 40] for i in range(120)]
    probs = [[0.9 - i / 1000, 0.0, 0.1 + i / 1000] for i in range(120)]
    assert kept(boxes, probs, wide) == [(i, 0) for i in range(100)]


def test_only_the_selection_is_the_judges_own() -> None:
    selection = {"name", "select", "thresholds", "score_threshold", "boxes", "final_clip", "min_boxes", "max_boxes"}
    ours, theirs = judging_profile(PROFILE).to_dict(), replace(PROFILE).to_dict()
    assert {name for name in ours if ours[name] != theirs[name]} <= selection
