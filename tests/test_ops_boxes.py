"""Box arithmetic against published implementations (fixtures) and against its own references."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from featx import ops
from featx.errors import UsageError
from featx.ops import boxes as reference

WEIGHTS = {"10_10_5_5": (10.0, 10.0, 5.0, 5.0), "1_1_1_1": (1.0, 1.0, 1.0, 1.0)}


@pytest.fixture(scope="module")
def arrays(shared: Path) -> dict[str, Tensor]:
    with np.load(shared / "fixtures/frcnn/ops/boxes.npz") as file:
        return {name: torch.as_tensor(file[name]) for name in file.files}


def close(found: Tensor, expected: Tensor) -> None:
    """exp and log may differ in the last bit between math libraries, everything else is exact."""
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", WEIGHTS)
def test_encoded_deltas_equal_those_of_detectron2_and_of_the_legacy_convention(
    arrays: dict[str, Tensor], name: str
) -> None:
    src, dst = arrays["src"], arrays["dst"]
    close(ops.encode_deltas(src, dst, WEIGHTS[name]), arrays[f"encode_{name}"])
    close(ops.encode_deltas(src, dst, WEIGHTS[name], plus_one=True), arrays[f"legacy_encode_{name}"])


@pytest.mark.parametrize("name", WEIGHTS)
def test_decoded_boxes_equal_those_of_detectron2_and_of_the_legacy_convention(
    arrays: dict[str, Tensor], name: str
) -> None:
    src, deltas, clamp = arrays["src"], arrays["deltas"], float(arrays["scale_clamp"])
    assert clamp == math.log(1000 / 16)
    decoded = ops.decode_deltas(deltas, src, WEIGHTS[name], clamp)
    for recorded in ("decode", "decode64"):  # the reference computes in float32 whatever it is given
        torch.testing.assert_close(decoded, arrays[f"{recorded}_{name}"], rtol=1e-6, atol=1e-4)
    legacy = ops.decode_deltas(deltas, src, WEIGHTS[name], clamp, plus_one=True)
    torch.testing.assert_close(legacy, arrays[f"legacy_decode_{name}"], rtol=1e-6, atol=1e-4)
    again = ops.decode_deltas(arrays[f"encode_{name}"], src, WEIGHTS[name], clamp)
    torch.testing.assert_close(again, arrays[f"roundtrip_{name}"], rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(again, arrays["dst"], rtol=1e-5, atol=1e-3)


def test_without_a_clamp_large_deltas_grow_freely() -> None:
    box, deltas = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([[0.0, 0.0, 5.0, 5.0]])
    width = lambda out: float(out[0, 2] - out[0, 0])  # noqa: E731
    assert width(ops.decode_deltas(deltas, box)) == pytest.approx(10 * 1000 / 16)
    assert width(ops.decode_deltas(deltas, box, clamp=None)) == pytest.approx(10 * math.exp(5))


def test_clipping_equals_detectron2_and_the_inclusive_clip_the_legacy_code(arrays: dict[str, Tensor]) -> None:
    size = (304, 400)
    clipped = ops.clip_boxes(arrays["clip_in"], size)
    assert torch.equal(clipped, arrays["clip_out"])
    w, h = clipped[:, 2] - clipped[:, 0], clipped[:, 3] - clipped[:, 1]
    for side in (0, 16):
        assert torch.equal((w > side) & (h > side), arrays[f"clip_nonempty_{side}"])
    legacy = ops.clip_boxes(arrays["clip_in"], size, inclusive=True)
    assert torch.equal(legacy, arrays["legacy_clip_out"])
    w, h = legacy[:, 2] - legacy[:, 0] + 1, legacy[:, 3] - legacy[:, 1] + 1
    assert torch.equal((w > 16) & (h > 16), arrays["legacy_nonempty_16"])


def test_iou_equals_detectron2_and_the_legacy_formula(arrays: dict[str, Tensor]) -> None:
    a, b = arrays["iou_a"], arrays["iou_b"]
    assert torch.equal(ops.box_iou(a, b), arrays["iou"])
    legacy = ops.box_iou(a, b, plus_one=True)
    torch.testing.assert_close(legacy.double(), arrays["iou_legacy64"], rtol=0, atol=2e-7)


def test_normalised_boxes_are_divided_by_the_size_of_their_own_picture(arrays: dict[str, Tensor]) -> None:
    boxes, sizes = arrays["norm_boxes"], arrays["norm_hw"]
    assert torch.equal(ops.normalize_boxes(boxes, sizes), arrays["norm_out"])
    ragged = torch.cat([boxes[0, :5], boxes[2]])
    expected = torch.cat([arrays["norm_out"][0, :5], arrays["norm_out"][2]])
    assert torch.equal(ops.normalize_boxes(ragged, sizes, torch.tensor([5, 0, 36])), expected)


def test_denormalised_boxes_are_the_pixels_again(arrays: dict[str, Tensor]) -> None:
    boxes, sizes = arrays["norm_boxes"], arrays["norm_hw"]
    torch.testing.assert_close(ops.denormalize_boxes(arrays["norm_out"], sizes), boxes, rtol=3e-7, atol=0)
    ragged = ops.denormalize_boxes(arrays["norm_out"].flatten(0, 1), sizes, torch.tensor([36, 36, 36]))
    torch.testing.assert_close(ragged, boxes.flatten(0, 1), rtol=3e-7, atol=0)


def test_every_geometry_states_what_its_model_declares() -> None:
    boxes, sizes = torch.tensor([[[10.0, 20.0, 50.0, 100.0]]]), torch.tensor([[200.0, 100.0]])  # 40 x 80 in 100 x 200
    geom4 = [0.1, 0.1, 0.5, 0.5]
    expected = {
        "geom4": geom4,
        "geom5": [*geom4, 3200 / 20000],
        "geom6": [*geom4, 0.4, 0.4],
        "geom7": [*geom4, 0.4, 0.4, 0.16],
    }
    for kind, values in expected.items():
        torch.testing.assert_close(ops.box_geometry(boxes, sizes, kind)[0, 0], torch.tensor(values))


def test_a_picture_without_boxes_and_a_batch_without_pictures_are_fine() -> None:
    assert ops.normalize_boxes(torch.zeros(2, 0, 4), torch.ones(2, 2)).shape == (2, 0, 4)
    assert ops.box_geometry(torch.zeros(0, 5, 4), torch.ones(0, 2), "geom7").shape == (0, 5, 7)
    assert ops.normalize_boxes(torch.zeros(0, 4), torch.ones(3, 2), torch.zeros(3, dtype=torch.int64)).shape == (0, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ops.normalize_boxes(torch.zeros(3, 4), torch.ones(1, 2)),
            r"boxes has shape \[3, 4\], expected \[B, N, 4",
        ),
        (lambda: ops.normalize_boxes(torch.zeros(2, 3, 4), torch.ones(1, 2)), "sizes has 1 rows, boxes has 2"),
        (
            lambda: ops.normalize_boxes(torch.zeros(3, 4), torch.ones(2, 2), torch.tensor([1, 1])),
            r"counts are \[1, 1\], boxes has 3 rows",
        ),
        (
            lambda: ops.normalize_boxes(torch.zeros(3, 4), torch.ones(2, 2), torch.tensor([-1, 4])),
            r"counts are \[-1, 4\]",
        ),
        (lambda: ops.box_geometry(torch.zeros(1, 3, 4), torch.ones(1, 2), "geom8"), "geometry 'geom8' is unknown"),
        (lambda: ops.encode_deltas(torch.zeros(3, 4), torch.zeros(2, 4)), "targets has 2 rows, boxes has 3"),
        (lambda: ops.encode_deltas(torch.zeros(3, 4), torch.zeros(3, 4), (1.0, 1.0)), "2 weights were given"),
        (lambda: ops.decode_deltas(torch.zeros(3, 6), torch.zeros(3, 4)), "deltas has 6 columns"),
        (lambda: ops.decode_deltas(torch.zeros(3, 4).double(), torch.zeros(3, 4)), "deltas is torch.float64"),
        (lambda: ops.clip_boxes(torch.zeros(3, 5), (1, 1)), r"boxes has shape \[3, 5\], expected \[..., 4\]"),
        (lambda: ops.clip_boxes(torch.zeros(3, 4, dtype=torch.int64), (1, 1)), "boxes is int64, expected float32"),
        (lambda: ops.box_iou(torch.zeros(4), torch.zeros(3, 4)), r"a has shape \[4\], expected \[N, 4\]"),
        (lambda: ops.box_iou([[0.0]], torch.zeros(3, 4)), "a is a list, expected a torch.Tensor"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_argument_is_named_with_what_was_found(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]


def random_boxes(generator: torch.Generator, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Half on a coarse grid (equal edges, zero sizes, duplicates), half anywhere; some inverted."""
    corners = torch.rand(n, 4, generator=generator, dtype=dtype) * 60 - 5
    corners[::2] = corners[::2].round()
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] / 2 - 2], 1)
    return boxes


@given(seed=st.integers(0, 10**6), n=st.integers(0, 70), m=st.integers(0, 40), plus_one=st.booleans())
def test_compiled_box_arithmetic_equals_its_reference(native: None, seed: int, n: int, m: int, plus_one: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    for dtype in (torch.float32, torch.float64):
        a, b = random_boxes(generator, n, dtype), random_boxes(generator, m, dtype)
        assert torch.equal(ops.box_iou(a, b, plus_one), reference.box_iou_reference(a, b, plus_one))
        assert torch.equal(
            ops.clip_boxes(a, (30, 40), plus_one), reference.clip_boxes_reference(a, 30.0 - plus_one, 40.0 - plus_one)
        )
        counts = torch.tensor([n - n // 3, 0, n // 3])
        sizes = torch.rand(3, 2, generator=generator, dtype=dtype) * 100 + 1
        for kind, columns in reference.GEOMETRIES.items():
            expected = reference.box_geometry_reference(a, sizes, counts, columns)
            assert torch.equal(ops.box_geometry(a, sizes, kind, counts), expected)
            grid = a[: n // 3 * 3].view(3, -1, 4)
            expected = reference.box_geometry_reference(grid.reshape(-1, 4), sizes, None, columns)
            assert torch.equal(ops.box_geometry(grid, sizes, kind).view(-1, columns), expected)
        expected = reference.denormalize_boxes_reference(a, sizes, counts)
        assert torch.equal(ops.denormalize_boxes(a, sizes, counts), expected)


@given(seed=st.integers(0, 10**6), n=st.integers(0, 40), classes=st.integers(0, 5), plus_one=st.booleans())
def test_compiled_deltas_equal_their_reference(native: None, seed: int, n: int, classes: int, plus_one: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = random_boxes(generator, n), random_boxes(generator, n)
    weights = [10.0, 10.0, 5.0, 5.0]
    expected = reference.encode_deltas_reference(a, b, weights, plus_one)
    torch.testing.assert_close(ops.encode_deltas(a, b, weights, plus_one), expected, equal_nan=True)
    deltas = torch.randn(n, 4 * classes, generator=generator) * 10
    expected = reference.decode_deltas_reference(deltas, a, weights, 2.0, plus_one)
    torch.testing.assert_close(ops.decode_deltas(deltas, a, weights, 2.0, plus_one), expected, rtol=1e-6, atol=1e-4)
