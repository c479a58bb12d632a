"""Non-maximum suppression against recorded answers, a plain Python statement, and its own reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from featx import ops
from featx.errors import UsageError
from featx.ops.nms import nms_reference

CASES = ["random", "ties", "duplicates", "touching", "equal_threshold", "degenerate", "empty", "single", "big"]
BATCHED = ["batched", "batched_ties", "batched_big", "batched_far"]


@pytest.fixture(scope="module")
def arrays(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "fixtures/frcnn/ops/nms.npz") as file:
        return {name: file[name] for name in file.files}


def tensors(arrays: dict[str, np.ndarray], case: str, *names: str) -> list[Tensor]:
    return [torch.as_tensor(arrays[f"{case}_{name}"]) for name in names]


def recorded(arrays: dict[str, np.ndarray], prefix: str) -> dict[float, list[int]]:
    """Threshold -> kept indices, of all arrays called ``<prefix><threshold>``."""
    tails = {name: name.removeprefix(prefix) for name in arrays if name.startswith(prefix)}
    found = {float(tail): arrays[name].tolist() for name, tail in tails.items() if tail[:1].isdigit()}
    assert found, f"no array {prefix}<threshold>"
    return found


@pytest.mark.parametrize("case", CASES)
def test_survivors_equal_the_recorded_ones_in_order(arrays: dict[str, np.ndarray], case: str) -> None:
    boxes, scores = tensors(arrays, case, "boxes", "scores")
    for threshold, kept in recorded(arrays, f"{case}_keep_").items():
        assert ops.nms(boxes, scores, threshold).tolist() == kept
        assert ops.nms(boxes, scores, threshold, limit=5).tolist() == kept[:5]


@pytest.mark.parametrize("case", BATCHED)
def test_classes_do_not_suppress_each_other(arrays: dict[str, np.ndarray], case: str) -> None:
    boxes, scores, classes = tensors(arrays, case, "boxes", "scores", "classes")
    for threshold, kept in recorded(arrays, f"{case}_keep_").items():
        assert ops.batched_nms(boxes, scores, classes, threshold).tolist() == kept


def test_moving_classes_apart_in_float32_is_not_exact_but_comparing_classes_is(arrays: dict[str, np.ndarray]) -> None:
    """The peers add class * (largest coordinate + 1) to the boxes; far from the origin that rounds coordinates."""
    differs = dict.fromkeys(BATCHED, False)
    for case in BATCHED:
        boxes, scores, classes = tensors(arrays, case, "boxes", "scores", "classes")
        for threshold, kept in recorded(arrays, f"{case}_keep_offset_").items():
            moved = boxes + (classes.float() * (boxes.max() + 1))[:, None]
            assert ops.nms(moved, scores, threshold).tolist() == kept
            differs[case] = kept != ops.batched_nms(boxes, scores, classes, threshold).tolist()
    assert differs == {"batched": False, "batched_ties": False, "batched_big": False, "batched_far": True}


def test_the_legacy_convention_counts_one_pixel_more(arrays: dict[str, np.ndarray]) -> None:
    boxes, scores = tensors(arrays, "legacy", "boxes", "scores")
    for threshold, kept in recorded(arrays, "legacy_keep_").items():
        assert ops.nms(boxes, scores, threshold, plus_one=True).tolist() == kept


def test_inclusive_drops_at_the_threshold_and_the_other_rule_only_above_it(arrays: dict[str, np.ndarray]) -> None:
    boxes, scores = tensors(arrays, "legacy_equal", "boxes", "scores")
    above = ops.nms(boxes, scores, 0.5, plus_one=True)
    assert above.tolist() == arrays["legacy_equal_keep_caffe_0.5"].tolist()
    at = ops.nms(boxes, scores, 0.5, inclusive=True, plus_one=True)
    assert sorted(at.tolist()) == arrays["legacy_equal_keep_milvlg_0.5"].tolist()  # recorded in index order


def plain_nms(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, rule: tuple[float, bool, bool]) -> list[int]:
    """The definition, box by box, in numpy float32."""
    threshold, inclusive, plus_one = rule
    one = np.float32(plus_one)
    kept: list[int] = []
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = (boxes[:, 2] - boxes[:, 0] + one) * (boxes[:, 3] - boxes[:, 1] + one)
        for i in sorted(range(len(boxes)), key=lambda row: (-scores[row], row)):
            for k in kept:
                w = min(boxes[i, 2], boxes[k, 2]) - max(boxes[i, 0], boxes[k, 0]) + one
                h = min(boxes[i, 3], boxes[k, 3]) - max(boxes[i, 1], boxes[k, 1]) + one
                inter = max(w, np.float32(0)) * max(h, np.float32(0))
                iou = float(inter / (areas[k] + areas[i] - inter))
                if classes[i] == classes[k] and (iou > threshold or (inclusive and iou == threshold)):
                    break
            else:
                kept.append(i)
    return kept


def crowd(seed: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on a small grid with few distinct scores: ties, duplicates, zero sizes, IoU on the threshold."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 8, (n, 2), generator=generator).float()
    boxes = torch.cat([low, low + torch.randint(0, 7, (n, 2), generator=generator)], 1)
    boxes[::3] += torch.rand(len(boxes[::3]), 4, generator=generator) / 3
    scores = torch.randint(0, 6, (n,), generator=generator) / 5
    return boxes, scores, torch.randint(-1, 3, (n,), generator=generator)


RULES = st.tuples(st.sampled_from([0.0, 0.1, 1 / 3, 0.3, 0.5, 0.7, 1.0]), st.booleans(), st.booleans())


@given(seed=st.integers(0, 10**6), n=st.integers(0, 40), rule=RULES)
def test_the_survivors_are_those_of_the_definition(seed: int, n: int, rule: tuple[float, bool, bool]) -> None:
    boxes, scores, classes = crowd(seed, n)
    threshold, inclusive, plus_one = rule
    kept = ops.nms(boxes, scores, threshold, inclusive=inclusive, plus_one=plus_one)
    assert kept.tolist() == plain_nms(boxes.numpy(), scores.numpy(), np.zeros(n), rule)
    kept = ops.batched_nms(boxes, scores, classes, threshold, inclusive=inclusive, plus_one=plus_one)
    assert kept.tolist() == plain_nms(boxes.numpy(), scores.numpy(), classes.numpy(), rule)


@given(seed=st.integers(0, 10**6), n=st.integers(0, 300), rule=RULES, limit=st.integers(0, 90), named=st.booleans())
def test_compiled_nms_equals_its_reference(
    native: None, seed: int, n: int, rule: tuple[float, bool, bool], limit: int, named: bool
) -> None:
    boxes, scores, classes = crowd(seed, n)
    arguments = (boxes, scores, classes if named else None, *rule, limit)
    assert torch.equal(torch.ops.featx.nms(*arguments), nms_reference(*arguments))


def test_a_box_that_is_not_a_number_survives_and_drops_nothing() -> None:
    boxes = torch.tensor([[0.0, 0.0, torch.nan, 4.0], [0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0]])
    assert ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 1]
    assert ops.nms(boxes[1:], torch.tensor([0.5, torch.nan]), 0.5).tolist() == [1]  # NaN sorts first, as in torch


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.nms(torch.zeros(3, 5), torch.zeros(3), 0.5), r"boxes has shape \[3, 5\], expected \[N, 4\]"),
        (lambda: ops.nms(torch.zeros(3, 4), torch.zeros(3, 1), 0.5), r"scores has shape \[3, 1\], expected \[N\]"),
        (lambda: ops.nms(torch.zeros(3, 4), torch.zeros(2), 0.5), "scores has 2 rows, boxes has 3"),
        (lambda: ops.nms(torch.zeros(3, 4), torch.zeros(3), 0.5, limit=-1), "limit is -1"),
        (lambda: ops.batched_nms(torch.zeros(3, 4), torch.zeros(3), torch.zeros(3), 0.5), "classes is float32"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_found(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]
