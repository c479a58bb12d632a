"""The settings of the loop: one frozen dataclass, checked before work starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_type_hints

from featx.errors import UsageError
from featx.settings import Count, Limit, NotNegative, PartShare, Positive, Whole, fit, read

# Settings that change how a run goes, not what comes out of it: a run may go on with others.
FREE = ("device", "workers", "checkpoint_every", "keep", "log_every", "tensorboard")
# Settings that early versions had not, and what these did.
LATER = {"bucket": False, "lr_floor": 0.0, "planned_steps": None}

Device = Annotated[
    str, Limit(lambda value: bool(re.fullmatch(r"cpu|cuda(:\d+)?", value)), "of the form cpu, cuda or cuda:N")
]


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
    schedule: linear or cosine (both to ``lr_floor``, a rate) or constant, behind ``warmup``: a fraction of all steps
        below 1, or a whole number of steps. planned_steps: how many steps the schedule is for, where these are not
        those of the run: one that ends early, as a published snapshot does, has the rates of the whole until then.
    clip: largest global norm of the gradient.
    precision: float32, or autocast to bfloat16, or (CUDA only) to float16 with a scaled loss.
    bucket: batches of records with similar numbers of regions, where these vary, so that less is padded. Which examples
        share a batch is then less a matter of chance; where all have the same number nothing changes.
    seed: of the order of examples, of what ``Task.prepare`` draws, of dropout, and of fresh weights.
    evaluate_every: epochs between evaluations; None: only at the end. patience: evaluations without a better score
        after which the run ends.
    device, workers (threads that make batches; 0: none), checkpoint_every (steps, beside the end of each epoch), keep
        (checkpoints), log_every (steps per line) and tensorboard may differ when a run goes on.
    """

    epochs: Count = 1
    max_steps: Count | None = None
    batch: Count = 32
    accumulate: Count = 1
    eval_batch: Count | None = None
    optimiser: Literal["adamw", "adam", "bertadam", "sgd"] = "adamw"
    lr: NotNegative = 1e-4
    betas: tuple[PartShare, PartShare] = (0.9, 0.999)
    eps: Positive | None = None
    momentum: PartShare = 0.9
    weight_decay: NotNegative = 0.01
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: PartShare | Count = 0.1
    lr_floor: NotNegative = 0.0
    planned_steps: Count | None = None
    clip: Positive | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    bucket: bool = False
    seed: Whole = 0
    evaluate_every: Count | None = 1
    patience: Count | None = None
    device: Device = "cpu"
    workers: Whole = 2
    checkpoint_every: Count | None = None
    keep: Count = 2
    log_every: Count = 10
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            fit(f"train.{name}", getattr(self, name), hint)
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.precision == "float16" and self.device == "cpu":
            raise UsageError("train.precision float16 needs CUDA", "choose bfloat16 or float32 for train.precision")
        if self.lr_floor > self.lr:
            raise UsageError(
                f"train.lr_floor is {self.lr_floor}, above train.lr {self.lr}", "the rate falls: give a lower lr_floor"
            )
        if self.patience is not None and self.evaluate_every is None:
            raise UsageError("train.patience counts evaluations, and there are none", "set train.evaluate_every")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Settings by name. Raises UsageError for an unknown one, with the one that was probably meant."""
        return read(cls, "train", values)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "betas": list(self.betas)}
