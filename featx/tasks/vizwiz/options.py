"""The sections of a configuration that the task of VizWiz reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from featx.checkpoint.save import SaveDtype
from featx.clip_linear.network import Gate
from featx.data.answer_types import TypingName
from featx.data.selection import Policy
from featx.errors import UsageError
from featx.settings import Count, NotNegative, PartShare
from featx.tasks.options import Decay


@dataclass(frozen=True)
class ModelOptions:
    """Section ``model``.

    weights: folder of a model that `featx train` exported, to go on from; it keeps its form, answers and types. For
    fresh weights: hidden (default 512), dropout (0.5), gate (``multiply``, as published and by default, or ``log``),
    dim of a picture's embedding (default: what the store holds), whiten (how many directions of the question's and
    of the picture's count alike at first, see :mod:`featx.tasks.whiten`: ``[30, 60]``; by default nothing is changed).
    """

    weights: str | None = None
    hidden: Count | None = None
    dropout: PartShare | None = None
    gate: Gate | None = None
    dim: Count | None = None
    whiten: tuple[Count, Count] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("hidden", "dropout", "gate", "dim", "whiten") if getattr(self, name) is not None]
        if self.weights and given:
            raise UsageError(
                f"model.weights and model.{given[0]} are both given", "the weights decide the form: leave it out"
            )


@dataclass(frozen=True)
class AnswerOptions:
    """Section ``data.answers``: which of ten answers is learned, and for how many questions it must be chosen."""

    policy: Policy = "paper"
    least: Count = 1
    file: str | None = None


@dataclass(frozen=True)
class DataOptions:
    """Section ``data``: one specification or a list of them for each split, see :mod:`featx.tasks.corpus`.

    answers: ``policy`` (``paper`` or ``confident``, see :mod:`featx.data.selection`) and ``least``; with ``file`` the
    list of answers is in that file. types: ``vizwiz``, those of the data set, or ``patterns`` of the answer.
    """

    train: Any = field(default_factory=list)
    val: Any = field(default_factory=list)
    answers: AnswerOptions = AnswerOptions()
    types: TypingName = "vizwiz"


@dataclass(frozen=True)
class LossOptions:
    """Section ``loss``: how much each part counts; the paper has the first two alike, and no third."""

    answer: NotNegative = 1.0
    type: NotNegative = 1.0
    answerable: NotNegative = 1.0


@dataclass(frozen=True)
class VizwizOptions:
    """The task.

    texts: a store of the questions' embeddings, keys are the texts; or one for each split. zero_features: zeros in
    place of the picture, for a baseline that knows the question alone. shuffle_pictures: evaluation gives every
    question another picture. decay, save_dtype, extractor: as for :class:`featx.tasks.options.AnsweringOptions`.
    """

    texts: Any = None
    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    loss: LossOptions = LossOptions()
    zero_features: bool = False
    shuffle_pictures: bool = False
    decay: Decay = "all"
    save_dtype: SaveDtype = "float32"
    extractor: Mapping[str, Any] = field(default_factory=dict)
    store: Any = None

    def __post_init__(self) -> None:
        if self.model.weights and self.data.answers.file:
            raise UsageError("model.weights and data.answers.file are both given", "the weights have their answers")
        if self.texts is None:
            raise UsageError(
                "no store of texts is named",
                "set texts to one that `featx extract QUESTIONS.json STORE --extractor clip-text` made",
            )
