"""``vle-vqa``: questions about grids, with a list of answers as VLE was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.data import Question
from featx.lxmert.losses import bce_soft
from featx.settings import read
from featx.task import Batch, Task
from featx.tasks import corpus
from featx.tasks.accuracy import accuracies
from featx.tasks.vle.answers import first_seen, scores
from featx.tasks.vle.building import Start
from featx.tasks.vle.common import VleTask
from featx.tasks.vle.options import VqaOptions
from featx.vle.heads import VQA

if TYPE_CHECKING:
    import numpy as np

    from featx.record import RecordBatch


class VleVqa(VleTask):
    """Soft scores of every answer, by binary cross-entropy.

    As published, training leaves out questions that have no answer in the list; evaluation does not.
    """

    name: ClassVar[str] = "vle-vqa"
    head: ClassVar[str] = VQA

    def __init__(self, options: VqaOptions) -> None:
        self.options, data = options, options.data
        found = {
            split: list(corpus.answered(corpus.questions(specs, split), split))
            for split, specs in (("train", data.train), ("val", data.val))
        }
        start, everything = Start.of(options.model), corpus.distinct(q for split in found.values() for q in split)
        own = start.answers if start else None
        space = corpus.answer_space(data.answers, everything, first_seen) or own or first_seen(everything)
        self.space, asked = space, len(found["train"])
        found["train"] = [q for q in found["train"] if scores(q, space, options.targets == "raw")]
        super().__init__(options, found, start, space)
        if left := asked - len(found["train"]):
            self.notes = [*self.notes, f"{left} of {asked} training questions have no answer in the list: left out"]

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(VqaOptions, "", options))

    def prepare(
        self, examples: Sequence[Question], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """Words, grid, and target ``[B, C]``: the soft score of every answer."""
        known = [scores(q, self.space, self.options.targets == "raw") for q in examples]
        target = torch.from_numpy(self.space.targets(known))
        return {**self.inputs([q.text for q in examples], records), "target": target}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": bce_soft(self.model.answer_logits(self.states(batch)), batch["target"])}

    def predict(self, batch: Batch) -> list[str]:
        """The best answer to each question."""
        return [self.space[i] for i in self.model.answer_logits(self.states(batch)).argmax(dim=1).tolist()]

    def metric(self, examples: Sequence[Question], predictions: Sequence[Any]) -> dict[str, float]:
        """See :func:`featx.tasks.accuracy.accuracies`."""
        return accuracies(examples, predictions)
