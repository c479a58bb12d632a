"""What a person chooses about training a CLIP: plain dataclasses, one for each section of the YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from featx.checkpoint.save import SaveDtype
from featx.errors import UsageError
from featx.settings import Count, Limit, NotNegative, Share, Whole

Length = Annotated[int, Limit(lambda value: value >= 3, "3 or more: both ends and a word")]
Part = Annotated[float, Limit(lambda value: 0 < value <= 1, "above 0, up to 1")]
Layers = Annotated[int, Limit(lambda value: 1 <= value <= 64, "from 1 to 64")]


@dataclass(frozen=True)
class ModelOptions:
    """Sizes of a fresh CLIP, or weights to go on from.

    weights: folder of a CLIP of this task, whose sizes and words hold; only ``size`` may be another, for which its
    positions are interpolated. Empty: fresh weights. size: side of the square input, to which a whole picture is
    squashed; patch: side of a patch; width, layers, heads of the vision tower, feedforward of both by default four
    times the width. look_around: the heads begin by looking at the neighbours of a cell, see
    :mod:`featx_extractors.tower_training.fresh`. text_width, text_layers, text_heads: of the text tower; words: how
    many its vocabulary has; length: tokens of a text with both ends; projection: width of the space that both share.
    seed: of the fresh weights.
    """

    weights: str = ""
    size: Count = 240
    patch: Count = 24
    width: Count = 192
    layers: Layers = 6
    heads: Count = 6
    look_around: bool = True
    text_width: Count = 128
    text_layers: Layers = 2
    text_heads: Count = 4
    words: Count = 1000
    length: Length = 40
    projection: Count = 128
    seed: Whole = 0
    dtype: SaveDtype = "float32"

    def __post_init__(self) -> None:
        for name, of, heads in (("width", self.width, self.heads), ("text_width", self.text_width, self.text_heads)):
            if of % heads:
                raise UsageError(f"model.{name} is {of}, and it has {heads} heads", "the heads divide the width")
        check_size(self.size, self.patch if not self.weights else 1)
        own = ("weights", "size", "dtype")
        given = [f.name for f in fields(self) if f.name not in own and getattr(self, f.name) != f.default]
        if self.weights and given:
            raise UsageError(
                f"model.weights and model.{given[0]} are both given", "the weights decide sizes: leave it out"
            )


def check_size(size: int, patch: int) -> None:
    """Raise UsageError for a size that is not several whole patches."""
    if size % patch or size == patch:
        raise UsageError(f"model.size is {size}, of patches of {patch}", "give a size of several whole patches")


@dataclass(frozen=True)
class DataOptions:
    """Pictures, boxes and sentences of each split.

    train, val: ``{annotations: FILE, pictures: FOLDER}``, as of the detector. train_texts, val_texts: specifications of
    captions (``captions:``) and questions (``questions:``) about the same pictures, by their keys; without them only
    the grid is taught. flip: how often a picture is mirrored; the texts of a mirrored one are left out, for they may
    tell left from right. crop: the least share of a picture's sides that the window taken from it may have; it never
    cuts a box. brightness: by how much it may be brighter or darker.
    """

    train: Mapping[str, Any] = field(default_factory=dict)
    val: Mapping[str, Any] = field(default_factory=dict)
    train_texts: Sequence[Mapping[str, Any]] = ()
    val_texts: Sequence[Mapping[str, Any]] = ()
    flip: Share = 0.0
    crop: Part = 1.0
    brightness: Share = 0.2


@dataclass(frozen=True)
class LossOptions:
    """Weights of the parts of the loss: the class of a cell, its attributes, its box, and pictures with their texts."""

    classes: NotNegative = 1.0
    attributes: NotNegative = 1.0
    boxes: NotNegative = 0.5
    texts: NotNegative = 0.5


@dataclass(frozen=True)
class TowerOptions:
    """The whole configuration but for ``train``."""

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    losses: LossOptions = LossOptions()
    store: Any = None
