"""Anchors against the values of the published generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx_extractors.anchors import caffe_anchors, detectron2_anchors, family, grid, standard_anchors

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def published(shared: Path) -> Arrays:
    with np.load(shared / "fixtures/frcnn/ops/anchors.npz") as file:
        return dict(file)


@pytest.mark.parametrize("low", [2, 4, 8])
def test_caffe_cells_and_grids_are_exact(published: Arrays, low: int):
    scales = [s for s in (2, 4, 8, 16, 32) if s >= low]
    cell = caffe_anchors(scales)
    assert cell.dtype == np.float32
    np.testing.assert_array_equal(cell, published[f"legacy_cell_{low}_32"])
    np.testing.assert_array_equal(grid(cell, *published["hw_A"], 16), published[f"legacy_grid_{low}_32_A"])


@pytest.mark.parametrize("low", [32, 64])
def test_detectron2_cells_and_grids_are_exact(published: Arrays, low: int):
    cell = detectron2_anchors([s for s in (32, 64, 128, 256, 512) if s >= low])
    assert cell.dtype == np.float32
    np.testing.assert_array_equal(cell, published[f"cell_{low}_512"])
    for offset in (0.0, 0.5):
        for name in "AB":
            found = grid(cell, *published[f"hw_{name}"], 16, offset)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, published[f"grid_{low}_512_off{offset}_{name}"])


def test_other_sizes_ratios_and_strides(published: Arrays):
    cell = detectron2_anchors(published["custom_sizes"].tolist(), published["custom_ratios"].tolist())
    np.testing.assert_array_equal(cell, published["custom_cell"])
    found = grid(cell, *published["hw_A"], int(published["custom_stride"]), 0.25)
    np.testing.assert_array_equal(found, published["custom_grid_A"])


def test_every_published_array_was_compared(published: Arrays):
    cells = {"cell_32_512", "cell_64_512", "legacy_cell_2_32", "legacy_cell_4_32", "legacy_cell_8_32", "custom_cell"}
    grids = {f"grid_{low}_512_off{o}_{m}" for low in (32, 64) for o in (0.0, 0.5) for m in "AB"}
    grids |= {f"legacy_grid_{low}_32_A" for low in (2, 4, 8)} | {"custom_grid_A"}
    assert set(published) == cells | grids | {"hw_A", "hw_B", "custom_sizes", "custom_ratios", "custom_stride"}


@pytest.mark.parametrize(
    ("generator", "count", "name"),
    [
        ("caffe", 9, "legacy_cell_8_32"),
        ("caffe", 12, "legacy_cell_4_32"),
        ("caffe", 15, "legacy_cell_2_32"),
        ("detectron2", 12, "cell_64_512"),
        ("detectron2", 15, "cell_32_512"),
    ],
)
def test_the_usual_cells_are_known_by_their_size(published: Arrays, generator: Any, count: int, name: str):
    cell = standard_anchors(generator, count)
    assert cell is not None
    np.testing.assert_array_equal(cell, published[name])
    assert family(published[name].astype(np.float32)) == generator
    assert family(published[name][::-1].astype(np.float32)) == generator
    assert family(published[name].astype(np.float32) + 0.5) == "other"


@pytest.mark.parametrize("count", [0, 1, 10, 21])
def test_there_is_no_usual_cell_of_another_size(count: int):
    assert standard_anchors("caffe", count) is None
    assert family(np.zeros((count, 4), np.float32)) == "other"


def test_an_empty_map_has_no_anchors():
    assert grid(caffe_anchors(), 0, 5, 16).shape == (0, 4)
