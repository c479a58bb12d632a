"""What VQA and GQA have in common: questions about a picture, and a list of answers to choose from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.data import AnswerSpace, Question
from featx.errors import UsageError
from featx.lxmert.folder import Model, save_model
from featx.lxmert.inputs import blind, regions, words
from featx.lxmert.losses import LOSSES
from featx.lxmert.network import answer_logits
from featx.settings import read
from featx.task import Batch, Group, Split, Task
from featx.tasks import building, corpus
from featx.tasks.about import about
from featx.tasks.accuracy import accuracies
from featx.tasks.decay import decay_groups
from featx.tasks.options import AnsweringOptions
from featx.wants import Wants, wants_of

if TYPE_CHECKING:
    import numpy as np

    from featx.record import RecordBatch


class Answering(Task):
    """LxmertForQuestionAnswering on questions and the regions of a store."""

    model: Any
    partial_graph: ClassVar[bool] = True  # the vision side of the last layer does not reach the answer
    published_answers: ClassVar[int] = 9  # how many questions must settle on an answer, where nobody says

    def __init__(self, options: AnsweringOptions) -> None:
        self.options, data = options, options.data
        self._examples = {
            "train": corpus.answered(corpus.questions(data.train, "train"), "train"),
            "val": corpus.answered(corpus.questions(data.val, "val"), "val"),
        }
        start = building.Start.of(options.model)
        everything = corpus.distinct(q for split in self._examples.values() for q in split)
        known = start.own_answers if start else None  # of a model that is trained further
        self.answers = corpus.answer_space(data.answers, everything) or known or self._published(everything)
        asked = corpus.distinct(self._examples["train"])
        self.tokens = building.vocabulary(options.model, start, (q.text for q in asked))
        self.model, notes = building.answering(options, start, self.tokens, self.answers)
        self.notes = [*notes, *building.cut_short(self.tokens, [q.text for q in asked])]
        self._about = start.about if start else {}
        self._wants = wants_of(self._about, self.model.config.visual_feat_dim)

    def _published(self, found: Sequence[Question]) -> AnswerSpace:
        """The list of answers as it is published to be made."""
        return AnswerSpace.from_questions(found, self.published_answers)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(AnsweringOptions, "", options))

    def wants(self) -> Wants:
        return self._wants

    def examples(self, split: Split) -> Sequence[Question]:
        found = self._examples[split]
        return corpus.with_other_pictures(found) if split == "val" and self.options.shuffle_pictures else found

    def prepare(
        self, examples: Sequence[Question], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """Words, regions, and target ``[B, C]``: the soft score of every answer."""
        if records is None:
            raise UsageError("LXMERT reads a store", "name one in the configuration")
        dim = self.model.config.visual_feat_dim
        picture = blind(len(examples), dim) if self.options.zero_features else regions(records)
        target = torch.from_numpy(self.answers.targets([q.scores for q in examples]))
        return {**words(self.tokens, [q.text for q in examples]), **picture, "target": target}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": LOSSES[self.options.loss](answer_logits(self.model, batch), batch["target"])}

    def predict(self, batch: Batch) -> list[str]:
        """The best answer to each question."""
        return [self.answers[i] for i in answer_logits(self.model, batch).argmax(dim=1).tolist()]

    def metric(self, examples: Sequence[Question], predictions: Sequence[Any]) -> dict[str, float]:
        """See :func:`featx.tasks.accuracy.accuracies`."""
        return accuracies(examples, predictions)

    def groups(self) -> list[Group]:
        return decay_groups(self.model, self.options.decay)

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """The folder that transformers, ``featx ask`` and ``featx predict`` read, see :mod:`featx.lxmert.folder`."""
        said = about(
            self.name, self._wants, trained_on, start=self._about, extractor=self.options.extractor,
            loss=self.options.loss, max_length=self.tokens.max_length,
        )  # fmt: skip
        save_model(folder, Model(self.model, self.tokens, self.answers, said), self.options.save_dtype)
