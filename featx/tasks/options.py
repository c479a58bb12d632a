"""The sections of a configuration that LXMERT's tasks read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from featx.checkpoint.save import SaveDtype
from featx.errors import UsageError
from featx.lxmert.heads import OBJECTIVES, Objective
from featx.settings import Count, Limit, PartShare, Positive, Share, Whole

# Room for both ends of a question and one word piece.
Length = Annotated[int, Limit(lambda value: value >= 3, "of 3 or more")]
Decay = Literal["all", "usual"]


def refuse_sizes(options: Any, weights: str | None, fresh: Sequence[str]) -> None:
    """Raise UsageError where a section ``model`` names weights and one of the settings of ``fresh`` ones."""
    given = [name for name in fresh if getattr(options, name)]
    if weights and given:
        raise UsageError(f"model.weights and model.{given[0]} are both given", "the weights decide sizes: leave it out")


@dataclass(frozen=True)
class ModelOptions:
    """Section ``model``.

    weights: folder, file (airsplay's ``.pth`` too) or hub id to start from; None: fresh weights. answers: the list of
    answers of these weights, if it is not beside them. tokenizer: folder or hub id, or ``{size: N}`` to learn N word
    pieces from the training questions; by default beside the weights. Sizes, for fresh weights: hidden, feedforward
    (default four times hidden), heads (default one per 64), layers [language, regions, across both], dim of the
    features (default: what the store holds), init_std, box_std (how far apart places look at first; small networks
    need about 1), whiten (how many directions of the features count alike at first, see :mod:`featx.tasks.whiten`).
    max_length: word pieces of a question with both ends; what is longer loses its end. By default what the weights
    were trained with, or 20.
    """

    weights: str | None = None
    answers: str | None = None
    tokenizer: str | Mapping[str, Any] | None = None
    hidden: Count | None = None
    feedforward: Count | None = None
    heads: Count | None = None
    layers: tuple[Whole, Whole, Count] | None = None
    dim: Count | None = None
    init_std: Positive | None = None
    box_std: Positive | None = None
    whiten: Count | None = None
    dropout: PartShare = 0.1
    max_length: Length | None = None

    def __post_init__(self) -> None:
        fresh = ("hidden", "feedforward", "layers", "init_std", "box_std", "whiten", "dim")
        refuse_sizes(self, self.weights, fresh)


@dataclass(frozen=True)
class DataOptions:
    """Section ``data``: one specification or a list of them for each split, see :mod:`featx.tasks.corpus`.

    answers: a file with the list of answers, or ``{least: N}``: those that N questions of both splits settled on.
    """

    train: Any = field(default_factory=list)
    val: Any = field(default_factory=list)
    answers: str | Mapping[str, Any] | None = None


@dataclass(frozen=True)
class AnsweringOptions:
    """A task that answers questions.

    loss: ``bce_soft``, ``mce`` (both published), or ``ce``. zero_features: one region of zeros in place of the picture,
    for a baseline that knows the question alone. shuffle_pictures: evaluation gives every question another picture's
    regions. decay: weight decay on ``all`` parameters (published) or not on biases and LayerNorm (``usual``).
    save_dtype: of the exported weights. extractor: options with which the exported model makes features of a photo,
    besides those the store states (``{weights: tiny}``, since a store names its weights by their hash).
    """

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    loss: Literal["bce_soft", "mce", "ce"] = "bce_soft"
    zero_features: bool = False
    shuffle_pictures: bool = False
    decay: Decay = "all"
    save_dtype: SaveDtype = "float32"
    extractor: Mapping[str, Any] = field(default_factory=dict)
    store: Any = None


@dataclass(frozen=True)
class PretrainOptions:
    """The task of pre-training.

    objectives: some of ``words``, ``matched``, ``objects``, ``attributes``, ``features``, ``answers``. swap: how often
    a sentence is replaced by one of another picture. objects, attributes: numbers of names, where the store has none.
    The others are as for :class:`AnsweringOptions`.
    """

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    objectives: Annotated[Sequence[Objective], Limit(bool, "and at least one of them")] = OBJECTIVES
    swap: Share = 0.5
    objects: Count | None = None
    attributes: Count | None = None
    decay: Decay = "all"
    save_dtype: SaveDtype = "float32"
    extractor: Mapping[str, Any] = field(default_factory=dict)
    store: Any = None
