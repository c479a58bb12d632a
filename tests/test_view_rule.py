"""What a superset notes decides every choice: replayed rules against plain ones, on confidences full of ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from featx.errors import UsageError
from featx.store.rule import Rule, fingerprint, parse_boxes, parse_threshold
from featx_extractors.network import Predictions
from featx_extractors.preprocess import Frame
from featx_extractors.profiles import PROFILES, Profile
from featx_extractors.selection import Regression
from featx_extractors.superset import candidates

Array = np.ndarray[Any, np.dtype[Any]]
SIDE = 24
CLASSES = 3
UNIT = (1.0, 1.0, 1.0, 1.0)
Kept = list[tuple[int, int]]  # (proposal, class), in order


def iou(a: Array, b: Array, one: int) -> float:
    """Of boxes with whole corners: areas are exact, the quotient is one float32 division."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]) + one, min(a[3], b[3]) - max(a[1], b[1]) + one
    inner = max(w, 0) * max(h, 0)
    union = sum((box[2] - box[0] + one) * (box[3] - box[1] + one) for box in (a, b)) - inner
    return float(np.float32(inner) / np.float32(union)) if union else 0.0


def greedy(entries: Sequence[tuple[float, int, int]], boxes: Array, threshold: float, profile: Profile) -> Kept:
    """Survivors among (confidence, proposal, class) in the order of the input; equals keep that order."""
    kept: Kept = []
    for _, row, of in sorted(entries, key=lambda entry: -entry[0]):
        overlaps = [
            iou(boxes[other], boxes[row], int(profile.plus_one))
            for other, its in kept
            if its == of or profile.select == "maxnms"
        ]
        if not any(v >= threshold if profile.nms_inclusive else v > threshold for v in overlaps):
            kept.append((row, of))
    return kept


def plain(boxes: Array, probs: Array, profile: Profile) -> Kept:
    """The three rules as their authors wrote them down, one region at a time; ties by rank, then by class."""
    best = [int(np.argmax(row[:-1])) for row in probs]
    if profile.select == "classwise":
        found = caffe(boxes, probs, profile)
        kept = [(row, best[row]) for row in found]
    else:
        if profile.select == "maxnms":
            entries = [(float(row[best[i]]), i, best[i]) for i, row in enumerate(probs)]
        else:
            entries = [
                (float(row[c]), i, c)
                for i, row in enumerate(probs)
                for c in range(CLASSES)
                if row[c] > np.float32(profile.score_threshold)
            ]
        for threshold in profile.thresholds:
            kept = greedy(entries, boxes, threshold, profile)[: profile.max_boxes]
            if len(kept) >= profile.min_boxes:
                break
    if profile.drop_empty:
        kept = [(row, of) for row, of in kept if boxes[row][2] > boxes[row][0] and boxes[row][3] > boxes[row][1]]
    return kept


def caffe(boxes: Array, probs: Array, profile: Profile) -> list[int]:
    """Rows of generate_tsv.py: in the order of the proposals, or by falling max_conf where MIN or MAX decides."""
    max_conf = np.zeros(len(boxes), np.float32)
    for c in range(CLASSES):
        entries = [(float(row[c]), i, c) for i, row in enumerate(probs)]
        for row, _ in greedy(entries, boxes, profile.thresholds[0], profile):
            max_conf[row] = max(max_conf[row], probs[row, c])
    passing = [i for i in range(len(boxes)) if max_conf[i] >= np.float32(profile.score_threshold)]
    ranked = sorted(range(len(boxes)), key=lambda i: (-max_conf[i], i))
    if len(passing) < profile.min_boxes:
        return ranked[: profile.min_boxes]
    return ranked[: profile.max_boxes] if len(passing) > profile.max_boxes else passing


def case(seed: int, most: int = 26) -> tuple[Array, Array]:
    """Boxes with whole corners, some without area, and probabilities in sixteenths."""
    random = np.random.default_rng(seed)
    rows = int(random.integers(0, most))
    corners = np.sort(random.integers(0, SIDE, (rows, 2, 2)), axis=1).reshape(rows, 4)
    return corners.astype(np.float32), (random.integers(0, 17, (rows, CLASSES + 1)) / 16).astype(np.float32)


def kept_by(boxes: Array, probs: Array, profile: Profile) -> tuple[Array, Array, dict[str, Array]]:
    """Proposals, classes and marks of the superset, from the extractor's own code."""
    regions, table = torch.from_numpy(boxes), torch.from_numpy(probs)
    frame = Frame((SIDE, SIDE), (SIDE, SIDE), (1.0, 1.0))
    deltas = torch.zeros(len(boxes), 4 * CLASSES)
    predictions = Predictions(torch.zeros(len(boxes), 1), table, table, deltas, None)
    kept, marks = candidates(Regression(regions, deltas, UNIT, frame, profile), predictions, regions)
    return kept.rows.numpy(), kept.classes.numpy(), {name: values.numpy() for name, values in marks.items()}


def profiles(select: str) -> list[Profile]:
    base = replace(PROFILES["caffe-36"], select=select, score_threshold=0.25, min_boxes=1, max_boxes=1, superset=8)
    if select == "classwise":
        return [base, replace(base, plus_one=False, nms_inclusive=False, drop_empty=True)]
    several = replace(base, plus_one=False, nms_inclusive=False, thresholds=(0.05, 0.2, 0.4, 0.6, 0.9))
    return [several, replace(several, drop_empty=True), replace(several, thresholds=(0.4,), superset=20)]


@pytest.mark.parametrize("select", ["classwise", "maxnms", "multilabel"])
def test_every_choice_from_a_superset_is_the_one_made_from_all_proposals(select: str) -> None:
    by_rank = 0  # choices in which the order of the proposals is not that of the superset
    for number, superset in enumerate(profiles(select)):
        for seed in range(20):
            boxes, probs = case(100 * number + seed)
            rows, classes, marks = kept_by(boxes, probs, superset)
            for low, high in ((1, 1), (3, 3), (8, 8), (2, 6), (1, 8), (5, 7)):
                for threshold in (0.0, 0.25, 0.5, 0.625, 0.75, 1.0):
                    if select == "multilabel" and threshold < superset.score_threshold:
                        continue
                    profile = replace(superset, min_boxes=low, max_boxes=high, score_threshold=threshold, superset=0)
                    chosen = Rule.of(profile.to_dict()).rows(marks, boxes[rows])
                    expected = plain(boxes, probs, profile)
                    assert list(zip(rows[chosen].tolist(), classes[chosen].tolist(), strict=True)) == expected
                    by_rank += bool(np.any(np.diff(chosen) < 0))
    assert (by_rank > 0) == (select == "classwise")


def test_exactly_as_many_as_were_kept_are_told_from_too_many() -> None:
    """Four disjoint boxes reach the threshold of a superset of four: in the order of the proposals. Five: by score."""
    profile = replace(PROFILES["caffe-36"], min_boxes=1, max_boxes=4, superset=4, score_threshold=0.5)
    boxes = np.array([[5 * i, 0, 5 * i + 3, 3] for i in range(5)], np.float32)
    for last, order in ((0.25, [0, 1, 2, 3]), (0.5, [3, 2, 1, 0])):
        probs = np.zeros((5, CLASSES + 1), np.float32)
        probs[:, 0] = [0.5625, 0.625, 0.75, 0.875, last]
        rows, _, marks = kept_by(boxes, probs, profile)
        assert rows.tolist() == [3, 2, 1, 0]
        assert marks["next_conf"] == np.float32(last)
        assert rows[Rule.of(profile.to_dict()).rows(marks, boxes[rows])].tolist() == order


def test_nobody_left_out_is_noted_below_every_threshold() -> None:
    boxes, probs = case(3)
    _, _, marks = kept_by(boxes[:4], probs[:4], profiles("classwise")[0])
    assert marks["next_conf"] == -1
    assert marks["proposal_ranks"].dtype == np.int32


def test_a_superset_must_hold_what_its_profile_wants_and_the_proposals_can_give() -> None:
    profile = PROFILES["milvlg-10-100"]
    assert profile.with_superset(100).superset == 100
    for number in (36, 301):
        with pytest.raises(UsageError, match=f"superset of {number}"):
            profile.with_superset(number)
    with pytest.raises(UsageError, match="32 NMS thresholds"):
        replace(PROFILES["hf-demo"], thresholds=tuple(np.linspace(0.1, 0.9, 32).tolist()), superset=100)


def test_hashes_of_profiles_are_those_of_before_supersets_were() -> None:
    """Stores and models state them: a formula that moved would make strangers of what belongs together."""
    assert PROFILES["caffe-36"].fingerprint == "2d7026800c006d06"
    assert fingerprint(PROFILES["caffe-36"].switches()) != PROFILES["caffe-36"].with_superset(100).fingerprint


@pytest.mark.parametrize("text", ["", "few", "0", "5..2", "-1", "3.5", "10..", None])
def test_boxes_that_are_no_number_or_range_are_refused(text: Any) -> None:
    with pytest.raises(UsageError):
        parse_boxes(text)


@pytest.mark.parametrize("text", ["", "half", "-0.1", "1.5", "nan", None, True])
def test_thresholds_that_are_no_share_are_refused(text: Any) -> None:
    with pytest.raises(UsageError, match="score threshold"):
        parse_threshold(text)
