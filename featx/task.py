"""Task: what a model is to the training loop. The loop (``featx.train``) asks these questions and nothing else.

After open_clip's ``task/``: the loop owns epochs, optimiser, checkpoints, processes and logs, and never learns which
task it runs; a task owns model, loss, answers and score, and never learns how it is run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from featx.wants import Wants

if TYPE_CHECKING:
    import numpy as np
    import torch

    from featx.record import RecordBatch

Split = Literal["train", "val"]
Batch = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True)
class Group:
    """Parameters that share settings. ``lr`` multiplies the configured rate; ``decay`` False: no weight decay."""

    parameters: Sequence[torch.nn.Parameter]
    lr: float = 1.0
    decay: bool = True
    names: Sequence[str] = field(default=())


class Task(ABC):
    """One model and what it is trained for.

    A task is built in every process from the same options, so nothing of it is ever pickled. Examples are whatever
    the task likes; all that the loop does with them is count, choose and hand them back, and see whether a run goes on
    with the same ones: by the fields of a dataclass, or else by ``repr``, which must then say what they are.
    """

    name: ClassVar[str]
    model: torch.nn.Module
    partial_graph: ClassVar[bool] = False  # True: some parameters may get no gradient in a step
    notes: Sequence[str] = ()  # what a person should know of how it was built
    # What its loss makes of the logits of answers, where the exported model does not say; and the form of its
    # challenge's file of answers, where lists of questions do not tell: for `featx ask` and `featx predict`.
    score: ClassVar[Literal["softmax", "sigmoid"] | None] = None
    form: ClassVar[str | None] = None

    @classmethod
    @abstractmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        """Build from the task's part of a configuration. Raises UsageError for an option it does not know.

        Where the configuration names a store, ``options["store"]`` is its path, or one for each split.
        """

    def wants(self) -> Wants | None:
        """What it reads from a store; None for a task that reads no store."""
        return Wants()

    @abstractmethod
    def examples(self, split: Split) -> Sequence[Any]:
        """All examples of a split, in a fixed order; empty when there is no such split."""

    def key(self, example: Any) -> str:
        """The store key of the picture of an example."""
        return str(example.picture)

    @abstractmethod
    def prepare(
        self, examples: Sequence[Any], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """A batch of tensors, first axis B. ``rngs`` decide everything random; None means evaluation.

        There is one for each example, made when it is asked for. It depends on the seed, the epoch and the place of the
        example in it, so that what is drawn for an example does not depend on how a batch is shared or cut.
        Called in a background thread, so it must not touch the model or torch's global generator.

        ``records`` lie in memory that other records take when the step, or the prediction, of this batch is over. What
        is returned may be views of them; whatever is kept beyond that must be a copy.
        """

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Scalars: ``loss``, a mean over the batch, to be minimised, and its parts by name, to be logged."""

    @abstractmethod
    def predict(self, batch: Batch) -> list[Any]:
        """One JSON-able prediction for each example of a batch. Called in eval mode without gradients."""

    @abstractmethod
    def metric(self, examples: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        """Scores of a whole split. The first one decides which model is best; higher is better.

        ``predictions`` have been through JSON, so a tuple comes back as a list.
        """

    def groups(self) -> list[Group]:
        """What the optimiser is given; by default everything trainable, decayed alike."""
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        return [Group([p for _, p in named], names=[n for n, _ in named])]

    @abstractmethod
    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write what inference needs into ``folder`` (it exists, and is empty).

        ``trained_on``: provenance and labels of the store, and the figures of the evaluation, as JSON-able values.
        """
