"""The sections of a configuration that the task of captions reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from featx.checkpoint.save import SaveDtype
from featx.clip_mbart.generate import Start
from featx.settings import Count, Limit, PartShare, Positive
from featx.tasks.options import Decay, refuse_sizes

# Room for the code of the language, a piece of a word and the end.
Length = Annotated[int, Limit(lambda value: value >= 3, "of 3 or more")]


@dataclass(frozen=True)
class ModelOptions:
    """Section ``model``.

    weights: folder, file or hub id to start from: a CLIP-Vision-mBART, or an mBART, whose text encoder is left out and
    before which comes a fresh projection; None: fresh weights. tokenizer: folder or hub id, or ``{size: N}`` to learn N
    entries from the training captions; by default beside the weights. Sizes, for fresh weights: hidden, feedforward
    (default four times hidden), heads (default one per 64), layers, dim of the features (default: what the store
    holds), init_std, whiten (how many directions of the features count alike at first, see
    :mod:`featx.tasks.whiten`). max_length: tokens of a caption with language and end; what is longer loses its end. By
    default what the weights were trained with, or 64.
    """

    weights: str | None = None
    tokenizer: str | Mapping[str, Any] | None = None
    hidden: Count | None = None
    feedforward: Count | None = None
    heads: Count | None = None
    layers: Count | None = None
    dim: Count | None = None
    init_std: Positive | None = None
    whiten: Count | None = None
    dropout: PartShare = 0.1
    max_length: Length | None = None

    def __post_init__(self) -> None:
        fresh = ("hidden", "feedforward", "heads", "layers", "init_std")
        refuse_sizes(self, self.weights, fresh)


@dataclass(frozen=True)
class DataOptions:
    """Section ``data``: one specification or a list of them for each split: ``{captions: FILE, language: fr}``.

    See :func:`featx.data.read_captions` and :mod:`featx.tasks.corpus`.
    """

    train: Any = field(default_factory=list)
    val: Any = field(default_factory=list)


@dataclass(frozen=True)
class SearchOptions:
    """Section ``search``: how evaluation writes captions, see :class:`featx.clip_mbart.generate.Search`.

    max_length None: as long as captions may be in training.
    """

    beams: Count = 1
    max_length: Length | None = None
    length_penalty: float = 1.0
    early_stopping: bool = True


@dataclass(frozen=True)
class CaptionOptions:
    """The task.

    start: the token before the language code, in training and in writing: ``eos``, mBART's own, or ``pad``, behind
    which the published model was trained. smoothing: of the labels. bleu: sacrebleu's tokeniser. zero_features: one row
    of zeros in place of the picture. shuffle_pictures: evaluation describes another picture. decay, save_dtype,
    extractor: as for :class:`featx.tasks.options.AnsweringOptions`.
    """

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    search: SearchOptions = SearchOptions()
    start: Start = "eos"
    smoothing: PartShare = 0.0
    bleu: Literal["13a", "intl", "none", "char", "zh"] = "13a"
    zero_features: bool = False
    shuffle_pictures: bool = False
    decay: Decay = "all"
    save_dtype: SaveDtype = "float32"
    extractor: Mapping[str, Any] = field(default_factory=dict)
    store: Any = None
