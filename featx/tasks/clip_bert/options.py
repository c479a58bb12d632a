"""The sections of a configuration that ``clip-bert-vqa`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from featx.checkpoint.save import SaveDtype
from featx.settings import Count, PartShare, Positive
from featx.tasks.options import DataOptions, Length, refuse_sizes


@dataclass(frozen=True)
class ModelOptions:
    """Section ``model``.

    weights: folder, file or hub id to start from; None: fresh weights. answers: the list of answers of these weights,
    if it is not beside them. tokenizer: folder or hub id, or ``{size: N}`` to learn N word pieces from the training
    questions; by default beside the weights. Sizes, for fresh weights: hidden, feedforward (default four times hidden),
    heads (default one per 64), layers, dim of the features (default: what the store holds), init_std (small networks
    need about 0.1 at a width of 64), whiten (how many directions of the features count alike at first, see
    :mod:`featx.tasks.whiten`), place_std (a place for each token of the picture, drawn with this deviation, see
    :func:`featx.clip_bert.places.spread`; None: one for all, as published). max_length: word pieces of a question with
    both ends; what is longer loses its end. By default what the weights were trained with, or 78.
    """

    weights: str | None = None
    answers: str | None = None
    tokenizer: str | Mapping[str, Any] | None = None
    hidden: Count | None = None
    feedforward: Count | None = None
    heads: Count | None = None
    layers: Count | None = None
    dim: Count | None = None
    init_std: Positive | None = None
    whiten: Count | None = None
    place_std: Positive | None = None
    dropout: PartShare = 0.1
    max_length: Length | None = None

    def __post_init__(self) -> None:
        fresh = ("hidden", "feedforward", "heads", "layers", "dim", "init_std", "whiten", "place_std")
        refuse_sizes(self, self.weights, fresh)


@dataclass(frozen=True)
class SentenceOptions:
    """Section ``data`` of ``clip-bert-mlm``: captions, questions or both, see :func:`featx.tasks.corpus.sentences`.

    words: specifications of further texts that a vocabulary is learned from, such as those of the task that follows.
    """

    train: Any = field(default_factory=list)
    val: Any = field(default_factory=list)
    words: Any = field(default_factory=list)


@dataclass(frozen=True)
class MlmOptions:
    """Everything of ``clip-bert-mlm``. hidden: the share of words to guess. Others: as of :class:`ClipBertOptions`."""

    model: ModelOptions = ModelOptions()
    data: SentenceOptions = field(default_factory=SentenceOptions)
    hidden: PartShare = 0.15
    decay: Literal["all", "usual"] = "usual"
    zero_features: bool = False
    shuffle_pictures: bool = False
    save_dtype: SaveDtype = "float32"
    extractor: Mapping[str, Any] = field(default_factory=dict)
    store: Any = None


@dataclass(frozen=True)
class ClipBertOptions:
    """Everything.

    loss: ``ce``, one class for each question, as published, or ``bce_soft``, the soft scores of all answers. unknown:
    the answer that stands for all that are not in the list, ``<unk>`` in the published one; without it, questions with
    such answers are not learned from. decay: weight decay not on biases and LayerNorm (``usual``, as published), or on
    ``all``. zero_features, shuffle_pictures, save_dtype, extractor: as for
    :class:`featx.tasks.options.AnsweringOptions`.
    """

    model: ModelOptions = ModelOptions()
    data: DataOptions = field(default_factory=DataOptions)
    loss: Literal["ce", "bce_soft"] = "ce"
    unknown: str | None = None
    decay: Literal["all", "usual"] = "usual"
    zero_features: bool = False
    shuffle_pictures: bool = False
    save_dtype: SaveDtype = "float32"
    extractor: Mapping[str, Any] = field(default_factory=dict)
    store: Any = None
