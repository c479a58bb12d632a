"""Optimisers against plain numpy and the published formulas; schedules against values computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from featx.errors import UsageError
from featx.task import Group
from featx.train.bert_adam import BertAdam
from featx.train.config import TrainConfig
from featx.train.distributed import World
from featx.train.learner import Learner
from featx.train.optim import optimiser, set_rate
from featx.train.schedule import schedule
from tests.toy_task import Toy

GRADIENTS = np.random.default_rng(1).standard_normal((20, 3, 4))
START = np.random.default_rng(2).standard_normal((3, 4))


def bert_adam(steps: int, lr: float, b1: float, b2: float, eps: float, decay: float) -> Any:
    """The update of google-research/bert's AdamWeightDecayOptimizer, written down in numpy."""
    p, m, v = START.copy(), np.zeros_like(START), np.zeros_like(START)
    for g in GRADIENTS[:steps]:
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        p = p - lr * (m / (np.sqrt(v) + eps) + decay * p)
    return p


def adamw(steps: int, lr: float, b1: float, b2: float, eps: float, decay: float) -> Any:
    """Loshchilov and Hutter, algorithm 2, with decay times rate as everybody does it."""
    p, m, v = START.copy(), np.zeros_like(START), np.zeros_like(START)
    for t, g in enumerate(GRADIENTS[:steps], 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        p = p - lr * decay * p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p


def momentum(steps: int, lr: float, mu: float, decay: float) -> Any:
    p, m = START.copy(), np.zeros_like(START)
    for g in GRADIENTS[:steps]:
        m = mu * m + g + decay * p
        p = p - lr * m
    return p


def trained(config: TrainConfig, steps: int) -> Any:
    """The parameter after ``steps`` steps of the configured optimiser, in float64."""
    parameter = torch.nn.Parameter(torch.tensor(START))
    made = optimiser([Group([parameter])], config)
    for gradient in GRADIENTS[:steps]:
        parameter.grad = torch.tensor(gradient)
        made.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_bert_adam_follows_the_published_formula(steps: int) -> None:
    config = TrainConfig(optimiser="bertadam", lr=0.03, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1)
    np.testing.assert_allclose(trained(config, steps), bert_adam(steps, 0.03, 0.8, 0.95, 1e-4, 0.1), rtol=1e-12)


def test_bert_adam_has_the_published_epsilon_unless_told_otherwise() -> None:
    config = TrainConfig(optimiser="bertadam", lr=0.03, weight_decay=0.01)
    np.testing.assert_allclose(trained(config, 20), bert_adam(20, 0.03, 0.9, 0.999, 1e-6, 0.01), rtol=1e-12)


def test_bert_adam_does_not_correct_the_bias() -> None:
    config = TrainConfig(optimiser="bertadam", lr=1.0, weight_decay=0.0)
    step = np.abs(trained(config, 1) - START)
    np.testing.assert_allclose(step, 0.1 / math.sqrt(0.001), rtol=1e-2)  # a corrected first step is 1


def test_adamw_and_sgd_are_what_their_names_say() -> None:
    config = TrainConfig(optimiser="adamw", lr=0.03, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1)
    np.testing.assert_allclose(trained(config, 20), adamw(20, 0.03, 0.8, 0.95, 1e-4, 0.1), rtol=1e-12)
    config = TrainConfig(optimiser="sgd", lr=0.03, momentum=0.7, weight_decay=0.1)
    np.testing.assert_allclose(trained(config, 20), momentum(20, 0.03, 0.7, 0.1), rtol=1e-12)


def test_bert_adam_passes_over_parameters_without_a_gradient() -> None:
    still, moved = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    moved.grad = torch.ones(2)
    BertAdam([still, moved], lr=0.1).step()
    assert still.tolist() == [1, 1]
    assert moved.tolist() != [1, 1]


@pytest.mark.parametrize("name", ["adamw", "adam", "bertadam", "sgd"])
def test_groups_have_their_own_rate_and_may_be_spared_the_decay(name: str) -> None:
    slow, kept = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    config = TrainConfig(optimiser=name, lr=0.5, weight_decay=0.2)
    made = optimiser([Group([slow], lr=0.1), Group([kept], decay=False), Group([])], config)
    set_rate(made, 0.25)
    assert [group["lr"] for group in made.param_groups] == [0.025, 0.25]
    assert [group["weight_decay"] for group in made.param_groups] == [0.2, 0.0]


def test_groups_without_parameters_or_with_one_twice_are_refused() -> None:
    parameter = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(UsageError, match="no parameter to train"):
        optimiser([Group([])], TrainConfig())
    with pytest.raises(UsageError, match="in two groups"):
        optimiser([Group([parameter]), Group([parameter])], TrainConfig())


@pytest.mark.parametrize(
    ("kind", "warmup", "expected"),
    [
        ("linear", 2, [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0]),
        ("linear", 0.2, [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0]),
        ("linear", 0, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0]),
        ("constant", 4, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]),
        ("cosine", 2, [0, 0.5, 1, 0.9619398, 0.8535534, 0.6913417, 0.5, 0.3086583, 0.1464466, 0.0380602, 0]),
        ("linear", 0.25, [0, 0.4, 0.8, 0.9333333, 0.8, 0.6666667, 0.5333333, 0.4, 0.2666667, 0.1333333, 0]),
        ("linear", 20, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]),
        ("linear", 10, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0]),
    ],
)
def test_schedules_have_the_values_computed_by_hand(kind: str, warmup: float, expected: list[float]) -> None:
    factor = schedule(kind, 10, warmup)
    assert [factor(step) for step in range(11)] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", [0, 0.5, 1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2]),
        ("cosine", [0, 0.5, 1, 0.8828427, 0.6, 0.3171573, 0.2, 0.2, 0.2]),
        ("constant", [0, 0.5, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_a_schedule_with_a_floor_falls_to_it_and_no_further(kind: str, expected: list[float]) -> None:
    factor = schedule(kind, 6, 2, 0.2)
    assert [factor(step) for step in range(9)] == pytest.approx(expected, abs=1e-7)


def test_a_published_snapshot_has_the_rates_of_the_run_it_was_planned_for() -> None:
    """gchhablani/multilingual-vqa: optax rises to 5e-5 in 1600 steps, then falls to 1e-6 in the rest of ten epochs."""
    settings = {"lr": 5e-5, "warmup": 1600, "lr_floor": 1e-6, "planned_steps": 17330, "batch": 1, "max_steps": 6000}
    learner = Learner(Toy(), TrainConfig.from_dict(settings), 6000, World(0, 1, torch.device("cpu")))
    for step, wanted in [(0, 0), (800, 2.5e-5), (1600, 5e-5), (6000, 5e-5 - 4.9e-5 * 4400 / 15730), (17330, 1e-6)]:
        assert learner.rate(step) == pytest.approx(wanted, rel=1e-9)


def test_a_floor_above_the_peak_is_refused() -> None:
    with pytest.raises(UsageError, match=r"train.lr_floor is 0\.1, above train.lr 0\.01"):
        TrainConfig(lr=0.01, lr_floor=0.1)


@pytest.mark.parametrize("steps", [7, 100, 1234])
def test_linear_is_the_schedule_of_the_published_bert_adam(steps: int) -> None:
    """airsplay/lxmert's warmup_linear: x / w below w, then (x - 1) / (w - 1), with x = step / steps."""
    factor = schedule("linear", steps, 0.1)
    for step in range(steps):
        x = step / steps
        assert factor(step) == pytest.approx(x / 0.1 if x < 0.1 else (x - 1) / (0.1 - 1), abs=1e-12)
