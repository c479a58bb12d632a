"""Questions about pictures, answered: ``featx.Predictor(model)("photo.jpg", "What colour is the car?")``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch

from featx.data import AnswerSpace, Question
from featx.device import usable_device
from featx.errors import UsageError, WeightsError
from featx.extractor import Extractor
from featx.live import Live, pixels_of
from featx.lxmert.folder import load_model
from featx.lxmert.inputs import blind, regions, words
from featx.lxmert.network import answer_logits, attended
from featx.lxmert.place import DEFAULT
from featx.record import Record, RecordBatch
from featx.schema import Field, Schema
from featx.store import StoreReader, open_store
from featx.store.batch import collate
from featx.tasks.corpus import with_other_pictures
from featx.tasks.wants import wants_of
from featx.wants import mismatches

Score = Literal["softmax", "sigmoid", "logit"]
Control = Literal["no-picture", "other-picture"]
Answer = dict[str, Any]  # {"score": float, "answer": str}


class Predictor:
    """A model, and where the regions of pictures come from: a store, an extractor, or both.

    model: folder, weights file or hub id; by default the one that comes with featx. store: a path or reader, whose keys
    can then be asked about. extractor: for photos; by default the one the model was trained with, built when it is
    first needed; a mapping changes options of that. answers, tokenizer, heads: for published weights without them, see
    :func:`featx.lxmert.folder.load_model`. score: ``softmax`` over the answers, ``sigmoid`` of each, or ``logit``; by
    default what the model's loss trained. batch: questions per call of the network. allow_mismatch: accept features of
    another profile or weights than those it was trained on, and keep the differences in ``notes``.

    Raises UsageError, naming every difference, for a store or extractor of another profile, weights or dimension.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        store: str | os.PathLike[str] | StoreReader | None = None,
        extractor: Extractor | Mapping[str, Any] | None = None,
        *,
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
        if not isinstance(extractor, Extractor | Mapping | None):
            raise UsageError(
                f"extractor is {extractor!r}", 'give an Extractor, or options of the model\'s own: {"weights": "tiny"}'
            )
        self.device, self.batch, self.allow_mismatch = usable_device(device), _count("batch", batch), allow_mismatch
        self.notes: list[str] = []
        self.location = "default" if model is None else os.fspath(model)
        self.model = load_model(_model(model), answers=_path(answers), tokenizer=_path(tokenizer), heads=heads)
        self.network = self.model.network.to(self.device)
        self.wants = wants_of(self.model.about, self.network.config.visual_feat_dim)
        self.score: Score = score or _trained_score(self.model.about)
        self.store = store if isinstance(store, StoreReader | None) else open_store(store)
        if self.store is not None:
            self.check(self.store.schema, self.store.manifest.provenance, "the store")
        self._extractor = extractor
        self._live: Live | None = None

    @property
    def answers(self) -> AnswerSpace:
        """All answers the model chooses from."""
        return cast(AnswerSpace, self.model.answers)

    def check(self, schema: Schema, provenance: Mapping[str, Any], what: str) -> None:
        """Raise UsageError when such records are not what the model was trained on, unless it can and may read them."""
        amiss = list(mismatches(self.wants, schema, provenance))
        readable = all(one.allowable for one in amiss)
        if amiss and not (readable and self.allow_mismatch):
            advice = "use the features it was trained on"
            raise UsageError(
                "\n  ".join([f"{what} does not fit the model {self.location}:", *map(str, amiss)]),
                f"{advice}, or accept others with allow_mismatch (--allow-mismatch)" if readable else advice,
            )
        self.notes += [f"{what}: {one}" for one in amiss]

    def __call__(self, image_or_key: Any, question: Any = None, top_k: int = 5) -> Any:
        """The best answers, surest first: ``[{"score": 0.93, "answer": "red"}, ...]``.

        image_or_key: a key of the store, a path, a URL, a PIL image, uint8 RGB ``[H, W, 3]`` or a Record. A list of
        these, of questions, or of both (pair by pair), or of ``{"image": ..., "question": ...}``, gives a list of such
        lists. Raises UsageError, KeyNotFound, PictureRefused.
        """
        _count("top_k", top_k)
        images, questions, single = _pairs(image_or_key, question)
        seen: dict[Any, Record] = {}
        for one in images:
            if _identity(one) not in seen:
                seen[_identity(one)] = self.record(one)
        records = [seen[_identity(one)] for one in images]
        found: list[list[Answer]] = []
        for begin in range(0, len(images), self.batch):
            part = slice(begin, begin + self.batch)
            found += self.batch_answers(_collate(records[part]), questions[part], top_k)
        return found[0] if single else found

    def is_longer(self, question: str) -> bool:
        """Whether a question has more word pieces than the model reads, so that its end is cut off."""
        return self.model.tokens.encode([question]).truncated > 0

    def record(self, image: Any) -> Record:
        """The regions of an image: from the store if it is a key there, otherwise extracted. Raises PictureRefused."""
        if isinstance(image, Record):
            dim = image.features.shape[1]
            if dim != self.wants.dim:
                raise UsageError(
                    f"the record's features have the dimension {dim}, the model reads {self.wants.dim}",
                    "extract with the network the model was made for",
                )
            return image
        if self.store is not None and isinstance(image, str) and (image in self.store or not _place(image)):
            return self.store[image]
        pixels = pixels_of(image)  # before the extractor is built, which takes its time
        return self.live.record(pixels)

    @property
    def live(self) -> Live:
        """The extractor for photos, checked against what the model wants."""
        if self._live is None:
            given = self._extractor
            self._see(Live(given) if isinstance(given, Extractor) else self._own_extractor(dict(given or {})))
        return cast(Live, self._live)

    def _own_extractor(self, changes: dict[str, Any]) -> Live:
        """The extractor the model was trained with. Of weights a store keeps the name and the sum, not the place."""
        recipe = (self.model.about.get("wants") or {}).get("extractor")
        stated = ((recipe or {}).get("options") or {}).get("weights")
        try:
            return Live.of(recipe, **changes)
        except WeightsError as error:
            if "weights" in changes or not stated:
                raise
            raise WeightsError(
                f"the model reads features that were made with the weights {stated} "
                f"(sha256 {self.wants.weights}), and they are not found: {error.message}",
                'say where they are: --weights FILE, in Python extractor={"weights": FILE}',
            ) from None

    def share_extractor(self, other: Predictor) -> None:
        """Take over the extractor that another predictor has built, if any. Raises UsageError when it does not fit."""
        if other is not self and other._live is not None and other._live is not self._live:
            self._see(other._live)

    def _see(self, live: Live) -> None:
        self.check(live.extractor.schema, live.extractor.provenance(), "the extractor")
        self._live = live

    @torch.no_grad()
    def batch_answers(
        self, records: RecordBatch | None, questions: Sequence[str], top_k: int = 5
    ) -> list[list[Answer]]:
        """The best answers to each question about the record in its place; None: about no picture at all."""
        _count("top_k", top_k)
        return self._best(answer_logits(self.network, self._batch(records, questions)), top_k)

    def look(self, image_or_key: Any, question: str, top_k: int = 5) -> tuple[list[Answer], list[float]]:
        """The best answers, and how much of the attention each region got (they sum to 1)."""
        _count("top_k", top_k)
        _asked(question)
        record = self.record(image_or_key)
        logits, weights = attended(self.network, self._batch(_collate([record]), [question]))
        return self._best(logits, top_k)[0], weights[0, : len(record)].tolist()

    def split(
        self, questions: Sequence[Question], top_k: int = 1, control: Control | None = None
    ) -> Iterator[tuple[Question, list[Answer]]]:
        """Answers to the questions of a split, whose pictures are keys of the store, batch by batch, in their order.

        control: answer without the picture (``no-picture``) or about another one of the split (``other-picture``), to
        see what the questions alone give away.
        """
        store = self.store
        if store is None:
            raise UsageError("the questions of a split are about the pictures of a store", "give the store")
        shown = with_other_pictures(questions) if control == "other-picture" else questions
        for begin in range(0, len(questions), self.batch):
            part = questions[begin : begin + self.batch]
            records = (
                None
                if control == "no-picture"
                else store.get_batch([q.picture for q in shown[begin : begin + self.batch]])
            )
            yield from zip(part, self.batch_answers(records, [q.text for q in part], top_k), strict=True)

    def _batch(self, records: RecordBatch | None, questions: Sequence[str]) -> dict[str, torch.Tensor]:
        seen = blind(len(questions), self.network.config.visual_feat_dim) if records is None else regions(records)
        batch = {**words(self.model.tokens, questions), **seen}
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def _best(self, logits: torch.Tensor, top_k: int) -> list[list[Answer]]:
        if self.score != "logit":
            logits = logits.softmax(dim=1) if self.score == "softmax" else logits.sigmoid()
        best = logits.topk(min(top_k, len(self.answers)), dim=1)
        return [
            [{"score": score, "answer": self.answers[i]} for score, i in zip(scores, classes, strict=True)]
            for scores, classes in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def _collate(records: Sequence[Record]) -> RecordBatch:
    """Features and boxes of records of any schema as one batch."""
    schema = Schema((Field("features", "float32", records[0].features.shape[1:]), Field("boxes", "float32", (4,))))
    return collate([""] * len(records), records, schema)


def _identity(image: Any) -> Any:
    """Equal for images that need be read but once."""
    return image if isinstance(image, str) else id(image)


def _model(given: str | os.PathLike[str] | None) -> str:
    """Where the model is."""
    if given is None and not DEFAULT.is_dir():
        raise UsageError(
            f"this copy of featx comes without a model of its own ({DEFAULT} is not there)",
            "name one: a folder that `featx train` exported, or a hub id",
        )
    return os.fspath(DEFAULT if given is None else given)


def _trained_score(about: Mapping[str, Any]) -> Score:
    """What the loss of a model makes of its logits: a softmax in pre-training too, sigmoids in the published VQA."""
    softmax = about.get("loss") in ("ce", "mce") or about.get("task") == "lxmert-pretrain"
    return "softmax" if softmax else "sigmoid"


def _path(given: str | os.PathLike[str] | None) -> str | None:
    return None if given is None else os.fspath(given)


def _place(text: str) -> bool:
    """Whether this names a file or a URL rather than a key."""
    return "://" in text or Path(text).is_file()


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}", "give a whole number of 1 or more")
    return value


def _asked(question: Any) -> str:
    if not isinstance(question, str) or not question.strip():
        raise UsageError(f"the question is {question!r}", 'ask something, such as "What is this?"')
    return question


def _pairs(image: Any, question: Any) -> tuple[list[Any], list[str], bool]:
    """Images and questions, one of each for every answer, and whether there was but one to begin with."""
    several = isinstance(image, list | tuple)
    images = list(image) if several else [image]
    if question is None:
        if not all(isinstance(one, Mapping) and {"image", "question"} <= set(one) for one in images):
            raise UsageError("no question was asked", 'give image and question, or {"image": ..., "question": ...}')
        return [one["image"] for one in images], [_asked(one["question"]) for one in images], not several
    several = several or isinstance(question, list | tuple)
    questions = [_asked(q) for q in (question if isinstance(question, list | tuple) else [question])]
    count = max(len(images), len(questions))
    if {len(images), len(questions)} - {1, count}:
        raise UsageError(f"{len(images)} images and {len(questions)} questions", "give as many of both, or one of one")
    return (images if len(images) == count else images * count,
            questions if len(questions) == count else questions * count, not several)  # fmt: skip
