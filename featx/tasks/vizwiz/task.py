"""The task. :mod:`featx.clip_linear.network` is what is trained, :mod:`featx.data.selection` what it learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.clip_linear.consumer import ClipLinear, save
from featx.clip_linear.losses import NONE, answer_loss, answerable_loss, type_loss
from featx.clip_linear.network import LinearClip, Scores
from featx.data import Question
from featx.data.answer_types import TYPINGS
from featx.data.selection import Selector
from featx.errors import UsageError
from featx.settings import read
from featx.task import Batch, Group, Split, Task
from featx.tasks import corpus
from featx.tasks.about import about
from featx.tasks.decay import decay_groups
from featx.tasks.vizwiz import building
from featx.tasks.vizwiz.options import VizwizOptions
from featx.tasks.vizwiz.scores import figures
from featx.tasks.vizwiz.texts import Texts
from featx.wants import Wants

if TYPE_CHECKING:
    import numpy as np

    from featx.record import RecordBatch


class ClipLinearVizwiz(Task):
    """Questions, each about one picture; both are read as embeddings from stores."""

    name: ClassVar[str] = "clip-linear-vizwiz"
    form: ClassVar[str | None] = "vizwiz"
    model: LinearClip

    def __init__(self, options: VizwizOptions) -> None:
        self.options, data = options, options.data
        self._examples: dict[str, Sequence[Question]] = {
            "train": corpus.answered(corpus.questions(data.train, "train"), "train"),
            "val": corpus.answered(corpus.questions(data.val, "val"), "val"),
        }
        self._texts = Texts(options.texts)
        for split in ("train", "val"):
            self._texts.check_hold(split, (q.text for q in self._examples[split]))
        self._selector = Selector(corpus.distinct(self._examples["train"]), data.answers.policy)
        self._typing = TYPINGS[data.types]
        self.consumer = (
            building.fresh(options, self._texts, self._selector, corpus.distinct(self._examples["train"]))
            if options.model.weights is None
            else building.further(options, self._texts)
        )
        self.model, self.answers = self.consumer.network, self.consumer.answers
        self.notes = self._told()

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(VizwizOptions, "", options))

    def wants(self) -> Wants:
        """A picture's embedding, by the tower that belongs to the network of the texts."""
        stated = self.consumer.wants
        return replace(stated, weights=stated.weights or self._texts.weights)

    def examples(self, split: Split) -> Sequence[Question]:
        found = self._examples[split]
        return corpus.with_other_pictures(found) if split == "val" and self.options.shuffle_pictures else found

    def prepare(
        self, examples: Sequence[Question], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """text ``[B, Dt]``, image ``[B, Di]``; classes ``[B]`` int64 answer and type, ``NONE`` where there is none;
        answerable ``[B]`` float32, -1 where it is not known.
        """
        if records is None:
            raise UsageError("the layers read a store of pictures' embeddings", "name one in the configuration")
        chosen = [self._selector(q) for q in examples]
        answers = [None if answer is None else self.answers.index(answer) for answer in chosen]
        types = [self._typing.index(q, answer) for q, answer in zip(examples, chosen, strict=True)]
        image = _rows(records, rngs)
        return {
            "text": self._texts.gather("val" if rngs is None else "train", [q.text for q in examples]),
            "image": torch.zeros_like(image) if self.options.zero_features else image,
            "answer": _classes(answers),
            "type": _classes(types),
            "answerable": torch.tensor([-1.0 if q.answerable is None else float(q.answerable) for q in examples]),
        }

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The sum of three; an answer outside the list adds nothing."""
        scores: Scores = self.model(batch["text"], batch["image"])
        parts = {
            "answer": answer_loss(scores, batch["answer"]),
            "type": type_loss(scores, batch["type"]),
            "answerable": answerable_loss(scores, batch["answerable"]),
        }
        weight = self.options.loss
        total = weight.answer * parts["answer"] + weight.type * parts["type"] + weight.answerable * parts["answerable"]
        return {"loss": total, **parts}

    def predict(self, batch: Batch) -> list[dict[str, Any]]:
        """For each question the best answer, the chance that it can be answered, and the type of its answer."""
        scores: Scores = self.model(batch["text"], batch["image"])
        rows = zip(
            scores.answers.argmax(dim=1).tolist(),
            self.model.act3(scores.answerable).tolist(),
            scores.types.argmax(dim=1).tolist(),
            strict=True,
        )
        names = self.consumer.types
        return [{"answer": self.answers[a], "answerable": chance, "type": names[t]} for a, chance, t in rows]

    def metric(self, examples: Sequence[Question], predictions: Sequence[Any]) -> dict[str, float]:
        """See :func:`featx.tasks.vizwiz.scores.figures`."""
        return figures(examples, predictions, self._selector, self._typing)

    def groups(self) -> list[Group]:
        return decay_groups(self.model, self.options.decay)

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """The folder that ``featx ask`` and ``featx predict`` read, see :mod:`featx.clip_linear.consumer`."""
        said = about(
            self.name, self.wants(), trained_on, start=self.consumer.about, extractor=self.options.extractor,
            texts=self._texts.provenance, policy=self.options.data.answers.policy,
        )  # fmt: skip
        save(folder, ClipLinear(self.model, self.answers, self.consumer.types, said), self.options.save_dtype)

    def _told(self) -> list[str]:
        """What a person should know of the answers and of the texts."""
        notes = [f"{len(self.answers):,} answers ({self.options.data.answers.policy})"]
        for split, found in self._examples.items():
            outside = sum(answer is None or answer not in self.answers for answer in map(self._selector, found))
            if outside:
                notes.append(f"{outside:,} of {len(found):,} {split} questions have an answer outside the list")
        if self._texts.weights is None:
            notes.append("the store of texts does not say which weights made it: nobody can see that pictures fit it")
        return notes


def _rows(records: RecordBatch, rngs: Iterable[np.random.Generator] | None) -> torch.Tensor:
    """One row ``[B, D]`` of each record: any of its rotations in training, the picture as it is in evaluation."""
    if rngs is None or records.features.shape[1] == 1:
        return records.features[:, 0]
    counts = records.mask.sum(dim=1).tolist()
    rows = [int(rng.integers(max(1, count))) for rng, count in zip(rngs, counts, strict=True)]
    return records.features[torch.arange(len(rows)), torch.tensor(rows)]


def _classes(found: Sequence[int | None]) -> torch.Tensor:
    return torch.tensor([NONE if one is None else one for one in found], dtype=torch.int64)
