"""The sections of a configuration that VLE's tasks read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from featx.checkpoint.save import SaveDtype
from featx.settings import Count, PartShare, Positive, Share
from featx.tasks.options import Length, refuse_sizes

Decay = Literal["all", "usual", "published"]


@dataclass(frozen=True)
class ModelOptions:
    """Section ``model``.

    weights: folder, file or hub id to start from; None: fresh weights. answers: the list of answers of these weights,
    if it is not beside them. tokenizer: folder or hub id, or ``{size: N}`` to learn N word pieces from the training
    texts; by default beside the weights. Sizes, for fresh weights: hidden (of text and fusion), feedforward (default
    four times hidden), heads (default one per 64), layers [text, fusion], buckets (distances between words), dim of the
    features (default: what the store holds), init_std, whiten (how many directions of the features count alike at
    first, see :mod:`featx.tasks.whiten`). max_length: tokens of a text with both ends; what is longer loses its end. By
    default what the weights were trained with, or 50, and 80 of VCR. types: token types, two and one for each object
    that a text of VCR names; weights with fewer get new ones behind their own.
    """

    weights: str | None = None
    answers: str | None = None
    tokenizer: str | Mapping[str, Any] | None = None
    hidden: Count | None = None
    feedforward: Count | None = None
    heads: Count | None = None
    layers: tuple[Count, Count] | None = None
    buckets: Count | None = None
    dim: Count | None = None
    init_std: Positive | None = None
    whiten: Count | None = None
    dropout: PartShare = 0.1
    max_length: Length | None = None
    types: Count | None = None

    def __post_init__(self) -> None:
        fresh = ("hidden", "feedforward", "heads", "layers", "buckets", "dim", "init_std", "whiten")
        refuse_sizes(self, self.weights, fresh)


@dataclass(frozen=True)
class DataOptions:
    """Section ``data``: one specification or a list of them for each split, see :mod:`featx.tasks.corpus`."""

    train: Any = field(default_factory=list)
    val: Any = field(default_factory=list)


@dataclass(frozen=True)
class AnswerData(DataOptions):
    """answers: a file with the list of answers, or ``{least: N}``: those that N questions of both splits settled on."""

    answers: str | Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TaskOptions:
    """What all of VLE's tasks have.

    rates: part of a parameter's name -> factor of the learning rate, ``{vqa_classifier: 50, cross_modal: 5}``. decay:
    weight decay on ``all`` parameters, not on biases and LayerNorm (``usual``), or ``published``: ``usual``, but also
    on the layer norms of heads. zero_features: the picture's features are zeros, for a baseline that knows the text
    alone. shuffle_pictures: evaluation gives every text another picture. save_dtype, extractor: as for
    :class:`featx.tasks.options.AnsweringOptions`.
    """

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    rates: Mapping[str, Positive] = field(default_factory=dict)
    decay: Decay = "usual"
    zero_features: bool = False
    shuffle_pictures: bool = False
    save_dtype: SaveDtype = "float32"
    extractor: Mapping[str, Any] = field(default_factory=dict)
    store: Any = None


@dataclass(frozen=True)
class VqaOptions(TaskOptions):
    """``vle-vqa``. targets: scores of an answer count how many annotators gave it as it is in the list (``raw``, as
    published), or after normalisation (``normalised``, as the challenge compares them).
    """

    data: AnswerData = AnswerData()
    targets: Literal["raw", "normalised"] = "raw"


@dataclass(frozen=True)
class MatchingOptions(TaskOptions):
    """``vle-itm``. swap: how often a caption is replaced by one of another picture."""

    swap: Share = 0.5


@dataclass(frozen=True)
class VcrOptions(TaskOptions):
    """``vle-vcr``. learns: ``answers`` (Q->A), ``rationales`` (QA->R, by the right answer), each a model of its own as
    published, or ``both`` by one network. upstream_geometry: the patches of an object are those that its box would
    touch if the picture had been stretched to a square, as the original has it though it crops; by default those whose
    cells in the record the box overlaps.
    """

    learns: Literal["both", "answers", "rationales"] = "both"
    upstream_geometry: bool = False


@dataclass(frozen=True)
class GroundingOptions(TaskOptions):
    """``vle-pbc``. share: a patch belongs to a text when more than this part of it lies in one of the text's boxes; 0:
    when it overlaps one at all.
    """

    share: PartShare = 0.0
