"""Bias, shortcut and ReLU behind a convolution, against numbers written out by hand."""

from __future__ import annotations

import pytest
import torch

from featx import ops
from featx.errors import UsageError

X = torch.tensor([[[[1.0, -2.0]], [[3.0, -4.0]]]])  # [1, 2, 1, 2]
BIAS = torch.tensor([0.5, -1.0])


def test_each_channel_gets_its_bias() -> None:
    assert ops.add_bias(X, BIAS).tolist() == [[[[1.5, -1.5]], [[2.0, -5.0]]]]


def test_negative_sums_become_zero_and_nan_stays() -> None:
    x = X.clone()
    x[0, 0, 0, 0] = torch.nan
    found = ops.add_bias(x, BIAS, relu=True)
    assert found[0, 0, 0, 0].isnan()
    assert found[0, 1].tolist() == [[2.0, 0.0]]


def test_the_shortcut_is_added_before_relu() -> None:
    shortcut = torch.tensor([[[[-2.0, 2.0]], [[0.0, 4.5]]]])
    assert ops.add_bias(X, BIAS, shortcut, relu=True).tolist() == [[[[0.0, 0.5]], [[2.0, 0.0]]]]


def test_the_result_is_channels_last() -> None:
    x = torch.zeros(2, 3, 4, 5)
    assert ops.add_bias(x, torch.zeros(3)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("bias", "shortcut", "said"),
    [
        (torch.zeros(3), None, "bias has shape"), (BIAS.double(), None, "float64"),
        (BIAS, X[..., :1], "shortcut has shape"), (BIAS, X.half(), "float16"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(bias: torch.Tensor, shortcut: torch.Tensor | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ops.add_bias(X, bias, shortcut)
