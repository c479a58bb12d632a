"""One step: the mean over pieces, the norm and its clipping, the precision, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from featx.errors import FeatxError, UsageError
from featx.task import Batch, Split, Task
from featx.train.config import TrainConfig
from featx.train.distributed import World
from featx.train.learner import Learner
from featx.train.meter import Meter

ALONE = World(0, 1, torch.device("cpu"))


class Given(Task):
    """A task whose loss a test writes down: a function of the parameter ``w [2]`` and the batch."""

    name = "given"

    def __init__(self, loss: Any) -> None:
        self.model = torch.nn.Module()
        self.w = self.model.w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        self._loss = loss

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Given:
        raise NotImplementedError

    def examples(self, split: Split) -> Sequence[Any]:
        return []

    def prepare(self, examples: Any, records: Any, rng: Any) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        found = self._loss(self.w, batch)
        return found if isinstance(found, dict) else {"loss": found}

    def predict(self, batch: Batch) -> list[Any]:
        raise NotImplementedError

    def metric(self, examples: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        raise NotImplementedError

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        raise NotImplementedError


def learner(loss: Any, **settings: Any) -> Learner:
    plain = {"optimiser": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "warmup": 0}
    return Learner(Given(loss), TrainConfig(**{**plain, **settings}), 10, ALONE)


def values(task: Any) -> list[float]:
    return [round(v, 6) for v in task.w.tolist()]


@pytest.mark.parametrize(
    ("clip", "moved"), [(None, [-2.0, -2.0]), (10.0, [-2.0, -2.0]), (1.0, [0.4, 1.2]), (2.5, [-0.5, 0.0])]
)
def test_gradients_are_clipped_by_their_global_norm(clip: float | None, moved: list[float]) -> None:
    made = learner(lambda w, batch: (w * torch.tensor([3.0, 4.0])).sum(), clip=clip)  # the gradient is (3, 4): norm 5
    told = made.step([{}], 0)
    assert told["norm"].item() == pytest.approx(5)
    assert values(made.task) == pytest.approx(moved, abs=1e-5)


def test_pieces_of_a_batch_add_up_to_the_batch() -> None:
    def loss(w: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        errors = (batch["x"] @ w - batch["y"]) ** 2
        return {"loss": errors.mean(), "largest": errors.max()}

    x, y = torch.randn(12, 2), torch.randn(12)
    whole, cut = learner(loss, lr=0.1), learner(loss, lr=0.1)
    told = whole.step([{"x": x, "y": y}], 0)
    pieces = [{"x": x[i : i + 3], "y": y[i : i + 3]} for i in range(0, 12, 3)]
    told_cut = cut.step(pieces, 0)
    assert values(cut.task) == pytest.approx(values(whole.task), abs=1e-6)
    assert told_cut["loss"].item() == pytest.approx(told["loss"].item())
    assert told_cut["norm"].item() == pytest.approx(told["norm"].item(), rel=1e-5)
    assert told["largest"].item() > told_cut["largest"].item(), "parts are means over the pieces"


def test_gradients_of_a_step_are_forgotten_before_the_next() -> None:
    made = learner(lambda w, batch: w.sum())
    for step in range(3):
        made.step([{}], step)
    assert values(made.task) == [-2.0, -1.0]


def test_the_rate_follows_the_schedule() -> None:
    made = learner(lambda w, batch: w.sum(), schedule="linear", warmup=2)
    for step in range(4):  # rates 0, 0.5, 1, 0.875
        made.step([{}], step)
    assert values(made.task) == [1 - 2.375, 2 - 2.375]


def test_bfloat16_is_the_precision_of_the_forward_pass_only() -> None:
    seen = []

    def loss(w: torch.Tensor, batch: Batch) -> torch.Tensor:
        out = torch.nn.functional.linear(batch["x"], w[None])
        seen.append(out.dtype)
        return out.float().mean()

    for precision in ("bfloat16", "float32"):
        made = learner(loss, precision=precision)
        told = made.step([{"x": torch.ones(2, 2)}], 0)
        assert made.task.model.w.dtype == told["loss"].dtype == torch.float32
        assert made.task.model.w.grad.dtype == torch.float32
    assert seen == [torch.bfloat16, torch.float32]


def test_a_scaled_loss_that_overflows_skips_its_step_and_lowers_the_scale() -> None:
    made = learner(
        lambda w, batch: w.sum() * batch["k"], precision="float16", device="cuda"
    )  # the device is the world's
    scale = made.scaler.get_scale()
    told = made.step([{"k": torch.tensor(float("inf"))}], 0)
    assert not torch.isfinite(told["norm"])
    assert values(made.task) == [1.0, 2.0]
    assert made.scaler.get_scale() == scale / 2
    told = made.step([{"k": torch.tensor(1.0)}], 1)
    assert told["norm"].item() == pytest.approx(2**0.5), "the norm is that of the gradient itself"
    assert values(made.task) == [0.0, 1.0]
    assert made.scaler.state_dict()["scale"] == scale / 2


def test_a_loss_without_its_name_is_refused() -> None:
    with pytest.raises(UsageError, match="has no 'loss'"):
        learner(lambda w, batch: {"total": w.sum()}).step([{}], 0)


def meter(lenient: bool = False) -> Meter:
    return Meter(ALONE, lenient=lenient, advice=lambda: "try less")


def scalars(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_a_line_tells_the_means_since_the_last_and_each_part_where_it_was() -> None:
    made = meter()
    made.add(1, scalars(loss=2.0, norm=1.0, rare=5.0))
    made.add(2, scalars(loss=4.0, norm=2.0))
    assert made.line() == {"loss": 3.0, "parts": {"rare": 5.0}, "norm": 1.5}
    made.add(3, scalars(loss=9.0, norm=3.0))
    assert made.line() == {"loss": 9.0, "norm": 3.0}
    assert made.epoch() == 5.0
    made.add(4, scalars(loss=1.0, norm=3.0))
    made.fetch()
    assert made.epoch() == 1.0


@pytest.mark.parametrize(("name", "value"), [("loss", float("nan")), ("loss", float("inf")), ("norm", float("nan"))])
def test_what_is_not_finite_is_named_with_its_step(name: str, value: float) -> None:
    made = meter()
    made.add(7, scalars(loss=1.0, norm=1.0))
    made.add(8, scalars(**{"loss": 1.0, "norm": 1.0, name: value}))
    made.add(9, scalars(loss=float("nan"), norm=float("nan")))
    with pytest.raises(FeatxError, match=r"at step 8\n  -> try less"):
        made.fetch()


def test_a_scaled_loss_may_overflow_its_gradient() -> None:
    made = meter(lenient=True)
    made.add(1, scalars(loss=1.0, norm=float("inf")))
    made.fetch()
    made.add(2, scalars(loss=float("inf"), norm=1.0))
    with pytest.raises(FeatxError, match="the loss became inf at step 2"):
        made.fetch()


def test_what_waits_to_be_told_survives_a_checkpoint() -> None:
    first, second = meter(), meter()
    for made in (first, second):
        made.add(1, scalars(loss=0.1, norm=1.0, part=3.0))
    first.fetch()
    resumed = meter()
    resumed.restore(first.state())
    for made in (resumed, second):
        made.add(2, scalars(loss=0.7, norm=2.0))
    assert resumed.line() == second.line()
    assert resumed.epoch() == second.epoch()
