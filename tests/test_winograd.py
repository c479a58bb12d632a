"""Winograd's convolution against the direct one in float64: value, rounding, and bits that hang on nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from featx import ops
from featx.errors import UsageError
from featx_extractors.conv import Conv
from featx_extractors.winograd import WinogradConv

# B, C, K, H, W, dilation
SHAPES = [
    (2, 16, 64, 7, 7, 1), (1, 5, 3, 9, 13, 1), (2, 33, 70, 14, 14, 2), (1, 17, 40, 1, 2, 1), (1, 64, 32, 8, 5, 2),
    (1, 20, 33, 5, 6, 3), (1, 16, 130, 4, 11, 1), (1, 3, 2, 2, 2, 5),
]  # fmt: skip


def drawn(batch: int, channels: int, outputs: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Input as it comes behind a ReLU, weight that keeps its size, bias."""
    random = torch.Generator().manual_seed(channels + height)
    x = torch.randn(batch, channels, height, width, generator=random).relu()
    weight = torch.randn(outputs, channels, 3, 3, generator=random) / (3 * channels**0.5)
    return x.to(memory_format=torch.channels_last), weight, torch.randn(outputs, generator=random)


def direct(x: Tensor, weight: Tensor, bias: Tensor, dilation: int, relu: bool) -> Tensor:
    out = functional.conv2d(x, weight, bias, 1, dilation, dilation)
    return out.relu() if relu else out


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_direct_convolution(shape: tuple[int, ...], relu: bool) -> None:
    *sizes, dilation = shape
    x, weight, bias = drawn(*sizes)
    exact = direct(x.double(), weight.double(), bias.double(), dilation, relu)
    found = ops.winograd_conv(x, ops.winograd_weight(weight), bias, dilation=dilation, relu=relu)
    assert found.shape == exact.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert error(found, exact) < 1e-6


def test_many_channels_round_a_few_times_as_much_as_the_direct_convolution() -> None:
    x, weight, bias = drawn(2, 512, 64, 14, 14)
    exact = direct(x.double(), weight.double(), bias.double(), 2, False)
    found = error(ops.winograd_conv(x, ops.winograd_weight(weight), bias, dilation=2), exact)
    assert found < 4e-6
    assert found < 8 * error(direct(x, weight, bias, 2, False), exact)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_instruction_sets_give_the_same_bits(shape: tuple[int, ...], native: None) -> None:
    *sizes, dilation = shape
    x, weight, bias = drawn(*sizes)
    packed = ops.winograd_weight(weight)
    first, second = (ops.winograd_conv(x, packed, bias, dilation=dilation, level=level) for level in (2, 5))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("height", "width", "dilation"), [(14, 14, 2), (9, 11, 1)])
def test_the_bits_of_a_picture_depend_on_no_other_and_on_no_thread(
    height: int, width: int, dilation: int, native: None
) -> None:
    x, weight, bias = drawn(23, 40, 70, height, width)
    packed = ops.winograd_weight(weight)

    def computed(part: Tensor) -> Tensor:
        return ops.winograd_conv(part, packed, bias, dilation=dilation)

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        together = computed(x)
        for size in (1, 3, 7):
            assert torch.equal(torch.cat([computed(part) for part in x.split(size)]), together)
        torch.set_num_threads(3)
        assert torch.equal(computed(x), together)
    finally:
        torch.set_num_threads(threads)


def test_an_input_of_another_layout_gives_the_same() -> None:
    x, weight, bias = drawn(2, 16, 8, 6, 7)
    packed = ops.winograd_weight(weight)
    assert torch.equal(ops.winograd_conv(x.contiguous(), packed, bias), ops.winograd_conv(x, packed, bias))


@pytest.mark.parametrize("shape", [(0, 16, 7, 7), (2, 16, 0, 7)])
def test_nothing_in_gives_nothing_out(shape: tuple[int, ...]) -> None:
    packed = ops.winograd_weight(torch.ones(8, 16, 3, 3))
    assert ops.winograd_conv(torch.zeros(shape), packed, torch.zeros(8)).shape == (shape[0], 8, *shape[2:])


def test_nan_is_not_lost_behind_relu() -> None:
    x, weight, bias = drawn(1, 16, 8, 7, 7)
    x[0, 3, 2, 2] = torch.nan
    assert ops.winograd_conv(x, ops.winograd_weight(weight), bias, relu=True)[0, :, 1:4, 1:4].isnan().all()


def test_what_does_not_fit_is_named() -> None:
    packed = ops.winograd_weight(torch.ones(8, 16, 3, 3))
    with pytest.raises(UsageError, match="weight has shape"):
        ops.winograd_conv(torch.zeros(1, 17, 7, 7), packed, torch.zeros(8))
    with pytest.raises(UsageError, match="float64"):
        ops.winograd_conv(torch.zeros(1, 16, 7, 7).double(), packed, torch.zeros(8))
    with pytest.raises(UsageError, match="dilation is 0"):
        ops.winograd_conv(torch.zeros(1, 16, 7, 7), packed, torch.zeros(8), dilation=0)
    with pytest.raises(UsageError, match="weight has shape"):
        ops.winograd_weight(torch.ones(8, 16, 1, 1))


def test_plain_torch_gives_the_same_where_nothing_is_compiled() -> None:
    code = """
import torch
from featx import ops
assert not ops.winograd_compiled()
random = torch.Generator().manual_seed(1)
x, weight = torch.randn(2, 5, 9, 6, generator=random), torch.randn(70, 5, 3, 3, generator=random)
exact = torch.nn.functional.conv2d(x.double(), weight.double(), None, 1, 2, 2)
found = ops.winograd_conv(x, ops.winograd_weight(weight), torch.zeros(70), dilation=2)
assert (found - exact).abs().max() < 1e-4, (found - exact).abs().max()
"""
    environment = {**os.environ, "FEATX_NATIVE": "0", "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("dilation", [1, 2])
def test_the_layer_takes_the_place_of_the_direct_one(dilation: int, native: None) -> None:
    x, weight, bias = drawn(2, 64, 64, 14, 14)
    layer, plain = (kind(weight, bias, padding=dilation, dilation=dilation) for kind in (WinogradConv, Conv))
    with torch.inference_mode():
        assert layer.pays(x) == ops.winograd_compiled()
        torch.testing.assert_close(layer(x), plain(x), rtol=1e-5, atol=1e-5)


def test_the_layer_leaves_to_the_direct_one_what_is_not_float32_or_too_small() -> None:
    x, weight, bias = drawn(1, 64, 64, 14, 14)
    layer = WinogradConv(weight, bias, dilation=2)
    assert not layer.pays(x)  # gradients are wanted
    with torch.inference_mode():
        assert not layer.pays(x[..., :6])
        assert not layer.pays(x.bfloat16())
        assert not WinogradConv(weight[:32], bias[:32], padding=1).pays(x)
        assert not WinogradConv(weight, bias, padding=0).pays(x)
        assert not WinogradConv(weight, bias, padding=1, stride=2).pays(x)
        small = Conv(weight, bias, padding=2, dilation=2)(x[..., :6])
        assert torch.equal(layer(x[..., :6]), small)
        half, plain = layer.to(torch.bfloat16), Conv(weight, bias, padding=2, dilation=2).to(torch.bfloat16)
        assert torch.equal(half(x.bfloat16()), plain(x.bfloat16()))
