"""Choice of the regions of a picture, against recorded answers and a brute-force statement of the rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from featx import ops
from featx.errors import UsageError
from featx.ops.select import select_boxes_reference

SETTINGS = [(10, 100, 0.2), (36, 36, 0.2), (10, 20, 0.4), (10, 100, 0.9)]


@pytest.fixture(scope="module")
def arrays(shared: Path) -> dict[str, Tensor]:
    with np.load(shared / "fixtures/frcnn/ops/nms.npz") as file:
        return {name: torch.as_tensor(file[name]) for name in file.files if name.startswith("adaptive")}


@pytest.mark.parametrize(("low", "high", "score"), SETTINGS)
def test_the_rows_kept_are_those_of_bottom_up_attention(
    arrays: dict[str, Tensor], low: int, high: int, score: float
) -> None:
    name = f"adaptive_{low}_{high}_{score}"
    probs = arrays["adaptive_probs"].roll(-1, dims=1)  # recorded with the background first
    rows, _ = ops.select_boxes(arrays["adaptive_boxes"], probs, score_threshold=score, min_boxes=low, max_boxes=high)
    assert rows.tolist() == arrays[f"{name}_keep"].tolist()
    best, ids = probs[rows, :-1].max(1)
    assert torch.equal(ids, arrays[f"{name}_objects_id"])
    assert torch.equal(best, arrays[f"{name}_objects_conf"])


def brute_force(
    boxes: np.ndarray, probs: np.ndarray, rule: tuple[float, float, int, int, bool, bool]
) -> tuple[list[int], list[float]]:
    """The rule as the paper's code states it: a loop over classes, each with its own NMS, box by box."""
    threshold, score, low, high, inclusive, plus_one = rule
    one, scores = np.float32(plus_one), np.zeros(len(boxes), dtype=np.float32)
    areas = (boxes[:, 2] - boxes[:, 0] + one) * (boxes[:, 3] - boxes[:, 1] + one)
    for prob in probs[:, :-1].T:
        kept: list[int] = []
        for i in sorted(range(len(boxes)), key=lambda row: (-prob[row], row)):
            for k in kept:
                corners = np.minimum(boxes[i, 2:], boxes[k, 2:]) - np.maximum(boxes[i, :2], boxes[k, :2]) + one
                inter = np.maximum(corners, np.float32(0)).prod()
                with np.errstate(invalid="ignore"):
                    iou = float(inter / (areas[k] + areas[i] - inter))
                if iou > threshold or (inclusive and iou == threshold):
                    break
            else:
                kept.append(i)
                scores[i] = max(scores[i], prob[i])
    rows = [row for row in range(len(boxes)) if scores[row] >= np.float32(score)]
    if not low <= len(rows) <= high:
        ranked = sorted(range(len(boxes)), key=lambda row: (-scores[row], row))
        rows = ranked[: low if len(rows) < low else high]
    return rows, scores[rows].tolist()


def proposals(seed: int, n: int, classes: int, sharp: float) -> tuple[Tensor, Tensor]:
    """Clusters of boxes on a grid; probabilities from a softmax, in places rounded so that they tie or are 0."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 6, (n, 2), generator=generator) * 5.0
    boxes = torch.cat([low, low + torch.randint(1, 9, (n, 2), generator=generator) * 2], 1)
    boxes[::2] += torch.rand(len(boxes[::2]), 4, generator=generator)
    probs = torch.softmax(torch.randn(n, classes + 1, generator=generator) * sharp, 1)
    probs[::3] = (probs[::3] * 8).round() / 8
    return boxes, probs


RULES = st.tuples(
    st.sampled_from([0.0, 0.3, 0.5, 1 / 3]),
    st.sampled_from([-1.0, 0.0, 1e-6, 0.05, 0.125, 0.2, 0.7, 2.0, float("inf"), float("nan")]),
    st.integers(0, 12),
    st.integers(1, 20),
    st.booleans(),
    st.booleans(),
).map(lambda r: (*r[:2], min(r[2], r[3]), *r[3:]))


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(0, 18),
    classes=st.integers(0, 9),
    sharp=st.sampled_from([0.0, 1.0, 6.0, 40.0]),
    rule=RULES,
)
@example(seed=0, n=1, classes=1, sharp=1.0, rule=(0.3, 0.2, 1, 1, True, True))
def test_the_rows_kept_are_those_of_the_rule(
    seed: int, n: int, classes: int, sharp: float, rule: tuple[float, float, int, int, bool, bool]
) -> None:
    boxes, probs = proposals(seed, n, classes, sharp)
    threshold, score, low, high, inclusive, plus_one = rule
    rows, scores = ops.select_boxes(
        boxes,
        probs,
        nms_threshold=threshold,
        score_threshold=score,
        min_boxes=low,
        max_boxes=high,
        inclusive=inclusive,
        plus_one=plus_one,
    )
    assert (rows.tolist(), scores.tolist()) == brute_force(boxes.numpy(), probs.numpy(), rule)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(0, 150),
    classes=st.integers(0, 200),
    sharp=st.sampled_from([0.0, 1.0, 6.0]),
    rule=RULES,
)
def test_compiled_selection_equals_its_reference(
    native: None, seed: int, n: int, classes: int, sharp: float, rule: tuple[float, float, int, int, bool, bool]
) -> None:
    boxes, probs = proposals(seed, n, classes, sharp)
    found = torch.ops.featx.select_boxes(boxes, probs, *rule)
    expected = select_boxes_reference(boxes, probs, *rule)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_fewer_proposals_than_the_minimum_are_all_kept() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [20, 20, 29, 29]])
    probs = torch.tensor([[0.3, 0.7], [0.5, 0.5], [0.6, 0.4]])
    rows, scores = ops.select_boxes(boxes, probs)
    assert rows.tolist() == [2, 1, 0]  # the twin of row 1 lost to it and has score 0
    assert scores.tolist() == pytest.approx([0.6, 0.5, 0.0])


def test_thresholds_rise_until_enough_boxes_survive() -> None:
    generator = torch.Generator().manual_seed(11)
    boxes = torch.rand(200, 2, generator=generator) * 100
    boxes = torch.cat([boxes, boxes + 20 + torch.rand(200, 2, generator=generator) * 30], 1)
    scores = torch.rand(200, generator=generator)
    counts = {t: len(ops.nms(boxes, scores, t)) for t in (0.1, 0.3, 0.5, 0.7)}
    assert sorted(counts.values()) == list(counts.values())
    for wanted in (counts[0.3], counts[0.3] + 1, counts[0.7]):
        used = next(t for t, count in counts.items() if count >= wanted)
        rows, threshold = ops.select_maxnms(boxes, scores, list(counts), min_boxes=wanted, max_boxes=wanted)
        assert threshold == used
        assert torch.equal(rows, ops.nms(boxes, scores, used)[:wanted])


def test_when_no_threshold_is_enough_the_last_result_is_returned_short() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [20, 20, 29, 29]])
    rows, threshold = ops.select_maxnms(boxes, torch.tensor([0.1, 0.2, 0.3]), (0.3, 0.5))
    assert (rows.tolist(), threshold) == ([2, 1], 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.select_boxes(torch.zeros(3, 4), torch.zeros(2, 5)), "probs has 2 rows, boxes has 3"),
        (lambda: ops.select_boxes(torch.zeros(3, 4), torch.zeros(3)), r"probs has shape \[3\], expected \[P, C\+1\]"),
        (lambda: ops.select_boxes(torch.zeros(3, 4), torch.zeros(3, 0)), "probs has no column"),
        (lambda: ops.select_boxes(torch.zeros(3, 4), torch.zeros(3, 2), min_boxes=5, max_boxes=2), "min_boxes is 5"),
        (lambda: ops.select_maxnms(torch.zeros(3, 4), torch.zeros(3), ()), "thresholds is empty"),
        (lambda: ops.select_maxnms(torch.zeros(3, 4), torch.zeros(3), (0.5,), max_boxes=0), "max_boxes 0"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_found(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]
