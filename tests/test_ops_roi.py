"""RoIPool and RoIAlign against recorded answers, against their references, and against finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from featx import ops
from featx.errors import UsageError
from featx.ops import roi_reference as reference

SCALE = 1 / 16
FORMATS = [torch.contiguous_format, torch.channels_last]


def load(shared: Path, name: str) -> dict[str, Tensor]:
    with np.load(shared / f"fixtures/frcnn/ops/{name}.npz") as file:
        return {key: torch.as_tensor(file[key]) for key in file.files}


@pytest.fixture(scope="module")
def pool(shared: Path) -> dict[str, Tensor]:
    return load(shared, "roi_pool")


@pytest.fixture(scope="module")
def align(shared: Path) -> dict[str, Tensor]:
    return load(shared, "roi_align")


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("bins", [7, 14])
def test_roi_pool_equals_the_legacy_layer_bit_for_bit(
    pool: dict[str, Tensor], bins: int, memory_format: torch.memory_format
) -> None:
    x = pool["x"].to(memory_format=memory_format).requires_grad_()
    out = ops.roi_pool(x, pool["rois"], bins, SCALE)
    assert torch.equal(out, pool[f"out_p{bins}"])
    assert out.is_contiguous(memory_format=memory_format)
    (grad,) = torch.autograd.grad(out, x, pool[f"gout_p{bins}"])
    torch.testing.assert_close(grad, pool[f"grad_p{bins}"], rtol=1e-6, atol=1e-5)  # sums in another order


@pytest.mark.parametrize("bins", [7, 14])
def test_the_gradient_of_a_bin_lands_on_its_first_maximum(pool: dict[str, Tensor], bins: int) -> None:
    """A copy of the map per region, so that each element of ``argmax`` can be told from the others by its region."""
    x, rois, argmax = pool["x"], pool["rois"].clone(), pool[f"argmax_p{bins}"].long()
    own = x[rois[:, 0].long()].requires_grad_()
    rois[:, 0] = torch.arange(len(rois))
    out = ops.roi_pool(own, rois, bins, SCALE)
    for i in range(bins):
        for j in range(bins):
            (grad,) = torch.autograd.grad(out[:, :, i, j].sum(), own, retain_graph=True)
            expected = torch.zeros_like(grad).flatten(2)
            where = argmax[:, :, i, j, None]
            expected.scatter_(2, where.clamp(min=0), (where >= 0).float())
            assert torch.equal(grad.flatten(2), expected)


def test_window_corners_round_half_away_from_zero(pool: dict[str, Tensor]) -> None:
    corners = reference.round_half_away(pool["rois"][:, 1:] * SCALE).long()
    assert torch.equal(corners, pool["window_corners"])
    size = (corners[:, 2:] - corners[:, :2] + 1).clamp(min=1)
    assert torch.equal(size, pool["window_size"])
    below = torch.tensor([0.49999997, -0.49999997, 2.5, -2.5, 8388609.0])
    assert reference.round_half_away(below).tolist() == [0, 0, 3, -3, 8388609]


@pytest.mark.parametrize("bins", [7, 14])
def test_bin_edges_are_those_of_float32_division(pool: dict[str, Tensor], bins: int) -> None:
    """On a ramp the maximum of a bin is its last row, and of the falling ramp its first: that shows the bins used."""
    start, end = pool[f"bin_start_p{bins}"], pool[f"bin_end_p{bins}"]
    length = torch.arange(128)
    rois = torch.stack([0 * length, 0 * length, 0 * length, 0 * length, length], 1).float()
    ramp = torch.arange(128.0)[None, None, :, None]
    last = ops.roi_pool(ramp, rois, (bins, 1), 1.0)[:, 0, :, 0]
    first = -ops.roi_pool(-ramp, rois, (bins, 1), 1.0)[:, 0, :, 0]
    assert torch.equal(last.long(), end - 1)
    assert torch.equal(first.long(), start)
    i, n = torch.arange(bins), length[:, None] + 1
    exact = (start != i * n // bins) | (end != -(-(i + 1) * n // bins))
    assert torch.equal(exact, pool[f"bin_differs_p{bins}"])
    assert exact.any()


ALIGN_CASES = [(a, r, p) for a in (0, 1) for r in (0, 2) for p in (7, 14)]
FORWARD_ERROR, GRADIENT_ERROR = 8.1e-6, 5.2e-5  # of the recorded float32 kernel against float64


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize(("aligned", "ratio", "bins"), ALIGN_CASES)
def test_roi_align_equals_the_recorded_kernel_within_its_own_rounding(
    align: dict[str, Tensor], aligned: int, ratio: int, bins: int, memory_format: torch.memory_format
) -> None:
    name = f"aligned{aligned}_sr{ratio}_p{bins}"
    x = align["x"].to(memory_format=memory_format).requires_grad_()
    out = ops.roi_align(x, align["rois"], bins, SCALE, ratio, bool(aligned))
    assert out.is_contiguous(memory_format=memory_format)
    (grad,) = torch.autograd.grad(out, x, align[f"gout_{bins}"])
    torch.testing.assert_close(out, align[f"out_{name}"], rtol=0, atol=2 * FORWARD_ERROR)
    torch.testing.assert_close(grad, align[f"grad_{name}"], rtol=0, atol=2 * GRADIENT_ERROR)
    if f"out64_{name}" in align:
        torch.testing.assert_close(out.double(), align[f"out64_{name}"], rtol=0, atol=FORWARD_ERROR)
        torch.testing.assert_close(grad.double(), align[f"grad64_{name}"], rtol=0, atol=GRADIENT_ERROR)
        double = align["x"].double().requires_grad_()
        out = ops.roi_align(double, align["rois"], bins, SCALE, ratio, bool(aligned))
        (grad,) = torch.autograd.grad(out, double, align[f"gout_{bins}"].double())
        torch.testing.assert_close(out, align[f"out64_{name}"], rtol=0, atol=1e-12)
        torch.testing.assert_close(grad, align[f"grad64_{name}"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("aligned", [0, 1])
def test_roi_align_takes_grids_that_are_not_square(align: dict[str, Tensor], aligned: int) -> None:
    out = ops.roi_align(align["x_b"], align["rois_b"], (5, 3), 0.25, 3, bool(aligned))
    torch.testing.assert_close(out, align[f"out_b_aligned{aligned}_sr3_5x3"], rtol=0, atol=2 * FORWARD_ERROR)


def random_case(seed: int, count: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    """A map with repeated values, and regions inside, outside, inverted, empty and on .5 of a feature pixel."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(2, channels, 9, 11, generator=generator) * 4).round() / 4
    corners = torch.rand(count, 4, generator=generator) * 260 - 60
    corners[::2] = (corners[::2] / 8).round() * 8
    corners[::5, 2:] = corners[::5, :2]
    corners[1::3, 2:] += corners[1::3, :2].clamp(min=0)
    return x, torch.cat([torch.randint(0, 2, (count, 1), generator=generator).float(), corners], 1)


SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 8))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 20), shape=SHAPES, last=st.booleans(), wide=st.booleans())
def test_compiled_roi_pool_equals_its_reference(
    native: None, seed: int, count: int, shape: tuple[int, int], last: bool, wide: bool
) -> None:
    x, rois = random_case(seed, count, 21 if wide else 1)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        y = x.to(dtype, memory_format=torch.channels_last if last else torch.contiguous_format)
        found = torch.ops.featx.roi_pool(y, rois, *shape, SCALE)
        expected = reference.roi_pool_reference(y, rois, *shape, SCALE)
        assert torch.equal(found, expected)
        assert found.is_contiguous(memory_format=reference.in_format_of(y))
    grad = torch.randn(expected.shape)
    y = y.float()
    torch.testing.assert_close(
        torch.ops.featx.roi_pool_backward(grad, y, rois, *shape, SCALE),
        reference.roi_pool_backward_reference(grad, y, rois, *shape, SCALE),
    )


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 20),
    shape=SHAPES,
    ratio=st.integers(0, 3),
    aligned=st.booleans(),
    last=st.booleans(),
)
def test_compiled_roi_align_equals_its_reference(
    native: None, seed: int, count: int, shape: tuple[int, int], ratio: int, aligned: bool, last: bool
) -> None:
    x, rois = random_case(seed, count)
    y = x.double().to(memory_format=torch.channels_last if last else torch.contiguous_format)
    how = (*shape, SCALE, ratio, aligned)
    found = torch.ops.featx.roi_align(y, rois.double(), *how)
    expected = reference.roi_align_reference(y, rois.double(), *how)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert found.is_contiguous(memory_format=reference.in_format_of(y))
    grad = torch.randn(expected.shape, dtype=torch.float64)
    torch.testing.assert_close(
        torch.ops.featx.roi_align_backward(grad, y, rois.double(), *how),
        reference.roi_align_backward_reference(grad, y, rois.double(), *how),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_pooling_is_the_rounded_float32_result(dtype: torch.dtype) -> None:
    x, rois = random_case(3, 12)
    for memory_format in FORMATS:
        y = x.to(dtype, memory_format=memory_format)
        assert torch.equal(ops.roi_pool(y, rois, 4, SCALE), ops.roi_pool(y.float(), rois, 4, SCALE).to(dtype))
        assert torch.equal(ops.roi_align(y, rois, 4, SCALE), ops.roi_align(y.float(), rois, 4, SCALE).to(dtype))


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_gradients_agree_with_finite_differences(memory_format: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 2, 6, 7, generator=generator, dtype=torch.float64).to(memory_format=memory_format)
    rois = torch.tensor([[0, 3, 5, 70, 60], [1, 20, 10, 50, 90], [0, -30, -30, 200, 20], [1, 40, 40, 40, 40]])
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: ops.roi_pool(y, rois.double(), (3, 2), SCALE), (x,))
    for aligned in (True, False):
        assert torch.autograd.gradcheck(lambda y, a=aligned: ops.roi_align(y, rois, (3, 2), SCALE, 2, a), (x,))


def test_a_map_that_is_a_view_is_pooled_like_its_copy() -> None:
    x, rois = random_case(4, 8)
    big = torch.cat([x, x + 1], 3)
    view = big[:, :, :, : x.shape[3]]
    assert not view.is_contiguous()
    assert torch.equal(ops.roi_pool(view, rois, 3, SCALE), ops.roi_pool(x, rois, 3, SCALE))
    assert torch.equal(ops.roi_align(view, rois, 3, SCALE), ops.roi_align(x, rois, 3, SCALE))


def test_a_value_that_is_not_a_number_is_not_hidden_by_the_maximum() -> None:
    for memory_format in FORMATS:
        x = torch.ones(1, 2, 4, 4)
        x[0, 1, 1, 1] = torch.nan
        out = ops.roi_pool(x.to(memory_format=memory_format), torch.tensor([[0.0, 0, 0, 3, 3]]), 2, 1.0)[0]
        assert out[0].isfinite().all()
        assert out[1].isnan().tolist() == [[True, False], [False, False]]


def test_regions_beyond_every_integer_do_no_harm() -> None:
    x = torch.rand(1, 2, 5, 5)
    rois = torch.tensor([[0, -1e30, -1e30, 1e30, 1e30], [0, 1e30, 0, torch.inf, 5], [0, torch.nan, 0, 4, 4]])
    out = ops.roi_pool(x, rois, 1, 1.0)[:, :, 0, 0]
    assert torch.equal(out[0], x.amax((0, 2, 3)))
    assert out[1].tolist() == [0, 0]


def test_no_region_gives_no_output() -> None:
    x = torch.rand(1, 2, 5, 5, requires_grad=True)
    for function in (ops.roi_pool, ops.roi_align):
        out = function(x, torch.zeros(0, 5), (3, 4), SCALE)
        assert out.shape == (0, 2, 3, 4)
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert not grad.any()


@pytest.mark.parametrize("name", ["roi_pool", "roi_align"])
def test_below_the_checks_a_region_of_no_picture_is_not_a_number(name: str) -> None:
    """What a GPU does, where the public function does not look at the values; the CPU kernels agree."""
    x, how = torch.rand(2, 3, 5, 5), (2, 2, 1.0) if name == "roi_pool" else (2, 2, 1.0, 0, True)
    rois = torch.tensor([[2.0, 0, 0, 3, 3], [-1.0, 0, 0, 3, 3], [1.0, 0, 0, 3, 3]])
    out = getattr(torch.ops.featx, name)(x, rois, *how)
    assert out.isnan().flatten(1).all(1).tolist() == [True, True, False]
    grad = getattr(torch.ops.featx, f"{name}_backward")(torch.ones_like(out), x, rois, *how)
    assert not grad[0].any()
    assert float(grad[1].sum()) == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f: f(torch.zeros(3, 4, 4), torch.zeros(1, 5), 7, SCALE),
            r"features has shape \[3, 4, 4\], expected \[B, C",
        ),
        (
            lambda f: f(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4), 7, SCALE),
            r"rois has shape \[1, 4\], expected \[K, 5\]",
        ),
        (lambda f: f(torch.zeros(1, 3, 4, 4).int(), torch.zeros(1, 5), 7, SCALE), "features is int32"),
        (lambda f: f(torch.zeros(1, 3, 4, 4), torch.zeros(1, 5), (0, 7), SCALE), "output_size is 0 x 7"),
        (lambda f: f(torch.zeros(1, 3, 4, 4), torch.ones(2, 5), 7, SCALE), "rois name pictures 1 to 1, features has 1"),
    ],
)
@pytest.mark.parametrize("function", [ops.roi_pool, ops.roi_align])
def test_a_wrong_argument_is_named_with_what_was_found(function: object, call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(function)  # type: ignore[operator]


def test_a_negative_sampling_ratio_is_refused() -> None:
    with pytest.raises(UsageError, match="sampling_ratio is -1"):
        ops.roi_align(torch.zeros(1, 1, 2, 2), torch.zeros(1, 5), 2, 1.0, sampling_ratio=-1)
