"""Questions about pictures, answered: ``featx.Predictor(model)("photo.jpg", "What colour is the car?")``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch

from featx import pairing
from featx.consumer import Answers, JudgesAnswerable, Score
from featx.data import AnswerSpace, Question
from featx.errors import UsageError
from featx.extractor import Extractor
from featx.live import Live
from featx.lxmert.place import DEFAULT, named
from featx.record import Record, RecordBatch
from featx.sight import Sight, Stored
from featx.store import StoreReader
from featx.tasks.about import task_of
from featx.tasks.corpus import with_other_pictures

Control = Literal["no-picture", "other-picture"]
Answer = dict[str, Any]  # {"score": float, "answer": str}


class Predictor:
    """A model that answers questions, and where the regions of pictures come from: see :class:`featx.sight.Sight`.

    model: folder, weights file or hub id; by default the one that comes with featx. store: a path or reader, whose keys
    can then be asked about. extractor: for photos; by default the one the model was trained with, built when it is
    first needed; a mapping changes options of that. texts: a store of text embeddings, for a model that reads these.
    answers, tokenizer, heads: for published weights without them, as the kind of model takes them (`featx models`
    lists the kinds). score: ``softmax`` over the answers, ``sigmoid`` of each, or ``logit``; by default what the
    model's loss trained. batch: questions per call of the network. allow_mismatch: accept features of another profile
    or weights than those it was trained on, and keep the differences in ``notes``.

    Raises UsageError, naming every difference, for a store or extractor of another profile, weights or dimension.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        store: Stored | None = None,
        extractor: Extractor | Mapping[str, Any] | None = None,
        *,
        texts: Stored | None = None,
        answers: str | os.PathLike[str] | None = None,
        tokenizer: str | os.PathLike[str] | None = None,
        heads: int | None = None,
        score: Score | None = None,
        device: str = "cpu",
        batch: int = 32,
        allow_mismatch: bool = False,
    ) -> None:
        if score not in (None, "softmax", "sigmoid", "logit"):
            raise UsageError(f"score is {score!r}", "choose softmax, sigmoid or logit")
        self.batch = pairing.count("batch", batch)
        self.model: Answers
        self.model, self.sight = Sight.of(
            _model(model), Answers, store, extractor, texts=texts, device=device, allow_mismatch=allow_mismatch,
            answers=_path(answers), tokenizer=_path(tokenizer), heads=heads,
        )  # fmt: skip
        self.score: Score = score or trained_score(self.model)

    @property
    def answers(self) -> AnswerSpace:
        """All answers the model chooses from."""
        return self.model.answers

    @property
    def store(self) -> StoreReader | None:
        """Whose keys can be asked about."""
        return self.sight.store

    @property
    def live(self) -> Live:
        """The extractor for photos, checked against what the model wants."""
        return self.sight.live

    @property
    def notes(self) -> list[str]:
        """What does not fit the model and was allowed."""
        return self.sight.notes

    def record(self, image: Any) -> Record:
        """The regions of an image, see :meth:`featx.sight.Sight.record`."""
        return self.sight.record(image)

    def __call__(self, image_or_key: Any = None, question: Any = None, top_k: int = 5, *, image: Any = None) -> Any:
        """The best answers, surest first: ``[{"score": 0.93, "answer": "red"}, ...]``.

        image_or_key (or image): a key of the store, a path, a URL, a PIL image, uint8 RGB ``[H, W, 3]`` or a Record. A
        list of these, of questions, or of both (pair by pair), or of ``{"image": ..., "question": ...}``, gives a list
        of such lists. Raises UsageError, KeyNotFound, PictureRefused.
        """
        pairing.count("top_k", top_k)
        images, questions, single = pairing.paired(image_or_key if image is None else image, question, "question")
        records = self.sight.records(images)
        found: list[list[Answer]] = []
        for begin in range(0, len(images), self.batch):
            part = slice(begin, begin + self.batch)
            found += self.batch_answers(self.sight.collate(records[part]), questions[part], top_k)
        return found[0] if single else found

    def is_longer(self, question: str) -> bool:
        """Whether a question is longer than the model reads, so that its end is cut off."""
        return self.model.is_cut(question)

    @torch.no_grad()
    def batch_answers(
        self, records: RecordBatch | None, questions: Sequence[str], top_k: int = 5
    ) -> list[list[Answer]]:
        """The best answers to each question about the record in its place; None: about no picture at all."""
        pairing.count("top_k", top_k)
        return self._best(self.model.logits(records, questions), top_k)

    @torch.no_grad()
    def look(self, image_or_key: Any, question: str, top_k: int = 5) -> tuple[list[Answer], list[float] | None]:
        """The best answers, and how much of the attention each region got (they sum to 1); None: it cannot say."""
        pairing.count("top_k", top_k)
        pairing.stated(question, "question")
        record = self.record(image_or_key)
        batch = self.sight.collate([record])
        found = self.model.attended(batch, [question])
        if found is None:
            return self.batch_answers(batch, [question], top_k)[0], None
        logits, weights = found
        return self._best(logits, top_k)[0], weights[0, : len(record)].tolist()

    def split(
        self, questions: Sequence[Question], top_k: int = 1, control: Control | None = None
    ) -> Iterator[tuple[Question, list[Answer]]]:
        """Answers to the questions of a split, whose pictures are keys of the store, batch by batch, in their order.

        control: answer without the picture (``no-picture``) or about another one of the split (``other-picture``), to
        see what the questions alone give away.
        """
        for part, records in self._parts(questions, control):
            yield from zip(part, self.batch_answers(records, [q.text for q in part], top_k), strict=True)

    def answerability(
        self, questions: Sequence[Question], control: Control | None = None
    ) -> Iterator[tuple[Question, float]]:
        """The chance, 0 to 1, that each question of a split can be answered; see :meth:`split`.

        Raises UsageError for a model that does not judge that.
        """
        model = self.model
        if not isinstance(model, JudgesAnswerable):
            raise UsageError(
                f"a model of the kind {model.name} does not judge whether a question can be answered",
                "use one that does, such as clip-linear",
            )
        for part, records in self._parts(questions, control):
            with torch.no_grad():
                chances = model.answerable(records, [q.text for q in part]).tolist()
            yield from zip(part, chances, strict=True)

    def _parts(
        self, questions: Sequence[Question], control: Control | None
    ) -> Iterator[tuple[Sequence[Question], RecordBatch | None]]:
        """The questions of a split batch by batch, with the records that are shown."""
        store = self.store
        if store is None:
            raise UsageError("the questions of a split are about the pictures of a store", "give the store")
        shown = with_other_pictures(questions) if control == "other-picture" else questions
        for begin in range(0, len(questions), self.batch):
            part = slice(begin, begin + self.batch)
            keys = [q.picture for q in shown[part]]
            yield questions[part], None if control == "no-picture" else store.get_batch(keys)

    def _best(self, logits: torch.Tensor, top_k: int) -> list[list[Answer]]:
        if self.score != "logit":
            logits = logits.softmax(dim=1) if self.score == "softmax" else logits.sigmoid()
        best = logits.topk(min(top_k, len(self.answers)), dim=1)
        return [
            [{"score": score, "answer": self.answers[i]} for score, i in zip(scores, classes, strict=True)]
            for scores, classes in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def _model(given: str | os.PathLike[str] | None) -> str:
    """Where the model is."""
    if given is None and not DEFAULT.is_dir():
        raise UsageError(
            f"this copy of featx comes without a model of its own ({DEFAULT} is not there)",
            "name one: a folder that `featx train` exported, or a hub id",
        )
    return os.fspath(named(os.fspath(DEFAULT if given is None else given)))


def trained_score(model: Answers) -> Score:
    """What the loss of a model makes of its logits, as the task says that it was trained by, or else its kind."""
    task = task_of(model.about)
    return model.score if task is None or task.score is None else task.score


def _path(given: str | os.PathLike[str] | None) -> str | None:
    return None if given is None else os.fspath(given)
