"""The settings of the loop: one frozen dataclass, checked before work starts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from featx.errors import UsageError

OPTIMISERS = ("adamw", "adam", "bertadam", "sgd")
SCHEDULES = ("linear", "cosine", "constant")
PRECISIONS = ("float32", "bfloat16", "float16")

# Settings that change how a run goes, not what comes out of it: a run may go on with others.
FREE = ("device", "workers", "checkpoint_every", "keep", "log_every", "tensorboard")

Check = tuple[Callable[[Any], bool], str]


def _whole(least: int) -> Check:
    return lambda value: type(value) is int and value >= least, f"a whole number of {least} or more"


def _real(fits: Callable[[float], bool], words: str) -> Check:
    return lambda value: type(value) in (int, float) and math.isfinite(value) and fits(value), words


def _one_of(*names: str) -> Check:
    return lambda value: value in names, f"one of {', '.join(names)}"


def _optional(check: Check) -> Check:
    return lambda value: value is None or check[0](value), f"{check[1]}, or nothing"


def _pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(_FRACTION[0](part) for part in value)


_POSITIVE = _real(lambda value: value > 0, "a number above 0")
_NOT_NEGATIVE = _real(lambda value: value >= 0, "a number of 0 or more")
_FRACTION = _real(lambda value: 0 <= value < 1, "a number from 0 to below 1")

# setting -> whether a value fits, and in words what would
_EXPECTED: Mapping[str, Check] = {
    "epochs": _whole(1),
    "max_steps": _optional(_whole(1)),
    "batch": _whole(1),
    "accumulate": _whole(1),
    "eval_batch": _optional(_whole(1)),
    "optimiser": _one_of(*OPTIMISERS),
    "lr": _NOT_NEGATIVE,
    "betas": (_pair, "two numbers from 0 to below 1"),
    "eps": _optional(_POSITIVE),
    "momentum": _FRACTION,
    "weight_decay": _NOT_NEGATIVE,
    "schedule": _one_of(*SCHEDULES),
    "warmup": (
        lambda value: _FRACTION[0](value) or _whole(1)[0](value),
        "a fraction of all steps below 1, or a whole number of steps",
    ),
    "clip": _optional(_POSITIVE),
    "precision": _one_of(*PRECISIONS),
    "seed": _whole(0),
    "evaluate_every": _optional(_whole(1)),
    "patience": _optional(_whole(1)),
    "device": (lambda value: bool(re.fullmatch(r"cpu|cuda(:\d+)?", str(value))), "cpu, cuda or cuda:N"),
    "workers": _whole(0),
    "checkpoint_every": _optional(_whole(1)),
    "keep": _whole(1),
    "log_every": _whole(1),
    "tensorboard": (lambda value: isinstance(value, bool), "true or false"),
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of ``featx train``, the section ``train:`` of its file. Raises UsageError for a value that does not fit.

    epochs: passes over the training examples. max_steps: end after so many steps, however many epochs that is.
    batch: examples of one step, over all processes. accumulate: how many pieces each process works a step through, to
        save memory: a batch of 32 is one of 32 however it is cut. The loss of a batch is the mean over its pieces, so
        a loss that is not a plain mean over examples (over masked words, say) weighs them a little differently.
    eval_batch: examples per process and call of an evaluation; None: as many as one piece of training.
    optimiser: adamw, adam (decay is added to the gradient), sgd, or bertadam, which LXMERT and BERT were trained with
        (no bias correction). lr: the peak rate. betas, eps: of the Adams; eps None is 1e-8, and 1e-6 for bertadam.
    schedule: linear (to zero), cosine (to zero) or constant, behind ``warmup``: a fraction of all steps below 1, or
        a whole number of steps. clip: largest global norm of the gradient.
    precision: float32, or autocast to bfloat16, or (CUDA only) to float16 with a scaled loss.
    seed: of the order of examples, of what ``Task.prepare`` draws, and of dropout.
    evaluate_every: epochs between evaluations; None: only at the end. patience: evaluations without a better score
        after which the run ends.
    device, workers (threads that make batches; 0: none), checkpoint_every (steps, beside the end of each epoch), keep
        (checkpoints), log_every (steps per line) and tensorboard may differ when a run goes on.
    """

    epochs: int = 1
    max_steps: int | None = None
    batch: int = 32
    accumulate: int = 1
    eval_batch: int | None = None
    optimiser: str = "adamw"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.01
    schedule: str = "linear"
    warmup: float = 0.1
    clip: float | None = None
    precision: str = "float32"
    seed: int = 0
    evaluate_every: int | None = 1
    patience: int | None = None
    device: str = "cpu"
    workers: int = 2
    checkpoint_every: int | None = None
    keep: int = 2
    log_every: int = 10
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, (fits, expected) in _EXPECTED.items():
            if not fits(getattr(self, name)):
                raise UsageError(f"train.{name} is {getattr(self, name)!r}", f"give {expected} for train.{name}")
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.precision == "float16" and self.device == "cpu":
            raise UsageError("train.precision float16 needs CUDA", "choose bfloat16 or float32 for train.precision")
        if self.patience is not None and self.evaluate_every is None:
            raise UsageError("train.patience counts evaluations, and there are none", "set train.evaluate_every")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Settings by name. Raises UsageError for an unknown one, with the one that was probably meant."""
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                close = get_close_matches(str(name), known, 1)
                meant = f"; did you mean train.{close[0]}?" if close else ""
                raise UsageError(f"train.{name} is not a setting{meant}", f"the settings are {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "betas": list(self.betas)}
