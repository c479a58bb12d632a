"""Which regions an answer depends on, told by hiding them; with a model whose arithmetic is followed by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from featx.record import Record
from featx.serve.answers.occlusion import hidden_together, weights
from featx.sight import Sight
from tests.toy_models import DIM, Toy


def predictor(score: str) -> Any:
    """A toy that asks for the first feature: its logits of yes, no, ? are m, -m, 0, m the greatest first feature."""
    w = torch.zeros(DIM)
    w[0] = 1
    model = Toy(w, {}, None)
    return SimpleNamespace(model=model, sight=Sight(model), score=score)


def record(
    first: list[float], boxes: np.ndarray[Any, Any] | None = None, rows: int = 0, objects: bool = True
) -> Record:
    """One region for each number, and rows of padding."""
    count = len(first)
    features = np.zeros((count + rows, DIM), np.float32)
    features[:count, 0] = first
    places = np.zeros((count + rows, 4), np.float32)
    if boxes is not None:
        places[:count] = boxes
    extra = {"object_ids": np.zeros(count + rows, np.int32)} if objects else {}
    return Record(features, places, (80, 160), count, extra)


def softmax(m: float) -> float:
    return float(np.exp(m) / (np.exp(m) + np.exp(-m) + 1))


@pytest.mark.parametrize("rows", [0, 3])
def test_only_the_region_that_decides_weighs_anything(rows: int) -> None:
    found = weights(predictor("softmax"), record([0.5, 2.0, 1.0], rows=rows), "?")
    assert found == pytest.approx([0, softmax(2) - softmax(1), 0], abs=1e-6)
    logit = weights(predictor("logit"), record([0.5, 2.0, 1.0], rows=rows), "?")
    assert logit == pytest.approx([0, 1.0, 0], abs=1e-6)
    sigmoid = weights(predictor("sigmoid"), record([0.5, 2.0, 1.0], rows=rows), "?")
    assert sigmoid[1] == pytest.approx(1 / (1 + np.exp(-2)) - 1 / (1 + np.exp(-1)), abs=1e-6)


def test_a_detected_region_that_is_hidden_is_not_there_at_all_and_a_cell_is_one_of_zeros() -> None:
    """Without the only region below zero the other one decides; as a row of zeros it would."""
    gone = weights(predictor("logit"), record([-3.0, -1.0]), "?")  # the answer is "no", of logit 1
    assert gone == pytest.approx([0.0, 1.0 - 3.0], abs=1e-5)
    cells = weights(predictor("logit"), record([-3.0, -1.0], objects=False), "?")
    assert cells == pytest.approx([1.0, 1.0], abs=1e-5)


def test_no_region_no_weight() -> None:
    assert weights(predictor("logit"), record([], rows=2), "?") == []


def grid(side: int, cls: bool) -> np.ndarray[Any, Any]:
    """Boxes of side x side cells of the 160 x 80 picture, row by row; in front of them, if so, one of all of it."""
    cells = [
        (160 * x / side, 80 * y / side, 160 * (x + 1) / side, 80 * (y + 1) / side)
        for y in range(side)
        for x in range(side)
    ]
    return np.float32([*([(0, 0, 160, 80)] if cls else []), *cells])


def test_many_cells_are_hidden_by_fields_and_the_class_token_alone() -> None:
    boxes = grid(16, cls=True)
    one = record([0.0] * len(boxes), boxes, objects=False)
    groups = hidden_together(one)
    assert len(groups) == 257
    assert sorted(set(groups.tolist())) == list(range(65))
    assert (groups == groups[0]).sum() == 1
    cells = groups[1:].reshape(16, 16)
    for y in range(8):
        for x in range(8):
            assert len(set(cells[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist())) == 1
    first = [0.0] * len(boxes)
    first[1 + 16 * 4 + 9] = 5.0  # the cell in row 4, column 9
    found = np.float32(weights(predictor("logit"), record(first, boxes, objects=False), "?"))[1:].reshape(16, 16)
    wanted = np.zeros((16, 16), np.float32)
    wanted[4:6, 8:10] = 5.0
    assert found == pytest.approx(wanted, abs=1e-5)


def test_up_to_64_regions_are_hidden_one_by_one() -> None:
    boxes = grid(8, cls=False)
    assert hidden_together(record([0.0] * 64, boxes)).tolist() == list(range(64))
    assert len(set(hidden_together(record([0.0] * 65, np.vstack([boxes, boxes[:1]]))).tolist())) == 64


def test_the_record_is_left_as_it_was(tmp_path: Path) -> None:
    one = record([0.5, 2.0])
    before = one.features.copy()
    weights(predictor("logit"), one, "?")
    assert np.array_equal(one.features, before)
