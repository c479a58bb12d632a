"""``clip-bert-vqa``: one BERT over questions in any language and the grids of a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.clip_bert.consumer import save
from featx.clip_bert.losses import IGNORED, answer_loss
from featx.data import AnswerSpace, Question
from featx.data.answers import settled_answer
from featx.errors import UsageError
from featx.lxmert.losses import bce_soft
from featx.metrics import accuracy
from featx.metrics.report import Tally, percent
from featx.settings import read
from featx.task import Batch, Task
from featx.tasks import building as lxmert_building
from featx.tasks import corpus
from featx.tasks.clip_bert import building
from featx.tasks.clip_bert.common import ClipBertTask
from featx.tasks.clip_bert.options import ClipBertOptions

if TYPE_CHECKING:
    import numpy as np

    from featx.record import RecordBatch

_LEAST = 9  # how many questions must settle on an answer, where nobody says


class ClipBertVqa(ClipBertTask):
    """Questions of all languages in one list; a question is learned by the answer that its annotators settled on."""

    name: ClassVar[str] = "clip-bert-vqa"

    def __init__(self, options: ClipBertOptions) -> None:
        self.options, data = options, options.data
        start = building.Start.of(options.model)
        questions = {
            "train": corpus.answered(corpus.questions(data.train, "train"), "train"),
            "val": corpus.answered(corpus.questions(data.val, "val"), "val"),
        }
        super().__init__(options, questions, start)
        everything = corpus.distinct(q for split in questions.values() for q in split)
        own = start.own_answers if start else None
        self.answers = corpus.answer_space(data.answers, everything) or own or _published(everything)
        self._unknown = self._class_of_others()
        asked = corpus.distinct(questions["train"])
        self.tokens = building.vocabulary(options.model, start, (q.text for q in asked))
        self.built = building.build(options.model, start, options.store, self.tokens, self.answers)
        self.model = self.built.loaded.network
        self.notes = [*self.built.notes, *lxmert_building.cut_short(self.tokens, [q.text for q in asked])]

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(ClipBertOptions, "", options))

    def prepare(
        self, examples: Sequence[Question], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """Words, grid, and labels ``[B]`` int64, -100 where there is none; or target ``[B, C]`` of soft scores."""
        wanted = {"target": torch.from_numpy(self.answers.targets([q.scores for q in examples]))}
        if self.options.loss == "ce":
            wanted = {"labels": torch.tensor([self._class(q) for q in examples])}
        return {**self.inputs(examples, records), **wanted}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        logits = self.model.answer_logits(batch)
        if self.options.loss == "ce":
            return {"loss": answer_loss(logits, batch["labels"])}
        return {"loss": bce_soft(logits, batch["target"])}

    def predict(self, batch: Batch) -> list[str]:
        """The best answer to each question."""
        return [self.answers[i] for i in self.model.answer_logits(batch).argmax(dim=1).tolist()]

    def metric(self, examples: Sequence[Question], predictions: Sequence[Any]) -> dict[str, float]:
        """Percent: ``accuracy``, by the rule of each question's data set; then of each language.

        ``exact``: answers equal to the one that the annotators settled on, as the published figure counts, where all
        that are not in the list are one class; ``exact, known``: of questions whose answer is in the list.
        """
        tally, exact, known = Tally("language"), list[float](), list[float]()
        for question, answer in zip(examples, predictions, strict=True):
            tally.add(accuracy(question, answer), question.language)
            wanted = self._class(question)
            exact.append(float(wanted == self.answers.index(answer)))
            if wanted not in (IGNORED, self._unknown):
                known.append(exact[-1])
        report = tally.report()
        shares = {"exact": exact, "exact, known": known}
        return {
            "accuracy": report["overall"],
            **report["per language"],
            **{name: percent(hits) for name, hits in shares.items() if hits},
        }

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """The folder that ``featx ask`` and ``featx predict`` read, see :mod:`featx.clip_bert.consumer`."""
        said = self.said(trained_on, loss=self.options.loss)
        config = self.built.loaded.config
        save(folder, self.model, config, self.tokens, self.answers, said, self.options.save_dtype)

    def _class(self, question: Question) -> int:
        """The class of a question's answer; of others, that of unknown ones, or -100."""
        answer = settled_answer(question)
        found = None if answer is None else self.answers.index(answer)
        return found if found is not None else IGNORED if self._unknown is None else self._unknown

    def _class_of_others(self) -> int | None:
        if self.options.unknown is None:
            return None
        found = self.answers.index(self.options.unknown)
        if found is None:
            raise UsageError(
                f"unknown is {self.options.unknown!r}, which is not in the list of answers", "leave it out, or add it"
            )
        return found


def _published(found: Sequence[Question]) -> AnswerSpace:
    """The list of answers as it is published to be made."""
    return AnswerSpace.from_questions(found, _LEAST)
