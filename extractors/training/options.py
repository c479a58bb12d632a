"""What a person chooses about training a detector: plain dataclasses, one for each section of the YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

from featx.errors import UsageError
from featx.settings import Count, Limit, NotNegative, Positive, Share, Whole
from featx_extractors.profiles import Profile, get_profile
from featx_extractors.weights.architecture import Architecture

# With fewer, the gradient of a strided 1x1 convolution crashes torch 2.13 on the CPU (oneDNN, channels last).
Channels = Annotated[int, Limit(lambda value: value >= 16, "of 16 or more")]
Stages = Annotated[int, Limit(lambda value: 0 <= value <= 4, "from 0 to 4")]
Sample = Annotated[int, Limit(lambda value: 1 <= value <= 1_000_000, "from 1 to 1000000")]
Overlap = Annotated[float, Limit(lambda value: 0.1 <= value <= 1, "from 0.1 to 1")]
Factor = Annotated[float, Limit(lambda value: 0.1 <= value <= 10, "from 0.1 to 10")]
NotEmpty = Limit(bool, "and at least one of them")


@dataclass(frozen=True)
class Sizes:
    """Sizes of a fresh network, see :class:`Architecture`; None is the default there."""

    stem: Channels | None = None
    width: Count | None = None
    out: Channels | None = None
    blocks: tuple[Count, Count, Count, Count] | None = None
    rpn_hidden: Count | None = None
    embedding: Count | None = None
    attribute_hidden: Count | None = None


@dataclass(frozen=True)
class ModelOptions:
    """The network and where it starts.

    ``profile`` is a name, for the weights name it as theirs; a profile of one's own goes into ``profiles`` first.

    start: any location of weights to fine-tune; None begins with fresh values. profile: how the network is run, and so
    how it is trained; None is that of ``start``. architecture: sizes other than the defaults of :class:`Architecture`;
    classes and attributes come from the data. sizes, ratios: the anchors, sqrt(area) in input pixels and height /
    width. frozen_norm: batch norm keeps the statistics it has. frozen_stages: the first n of stem, res2, res3, res4 are
    not trained. seed: of fresh values; None: they follow ``train.seed``. backbone_lr: factor of the learning rate
    there. dtype: of the exported weights.
    """

    start: str | None = None
    profile: str | None = None
    architecture: Sizes = Sizes()
    sizes: Annotated[Sequence[Positive], NotEmpty] = (64.0, 128.0, 256.0, 512.0)
    ratios: Annotated[Sequence[Positive], NotEmpty] = (0.5, 1.0, 2.0)
    seed: Whole | None = None
    frozen_norm: bool = False
    frozen_stages: Stages = 0
    backbone_lr: NotNegative = 1.0
    dtype: Literal["float32", "float16"] = "float32"

    def resolved_profile(self, published: str | None) -> Profile:
        """The profile; ``published`` is that of the weights one starts from."""
        profile = self.profile if self.profile is not None else published
        if profile is None:
            raise UsageError("model.profile is missing", "name a profile, for example scenes-36 or caffe-36")
        return get_profile(profile)

    def sized(self, classes: int, attributes: int) -> Architecture:
        """The sizes of a fresh network."""
        given = {name: value for name, value in asdict(self.architecture).items() if value is not None}
        sizes: dict[str, Any] = {name: tuple(value) if name == "blocks" else value for name, value in given.items()}
        anchors = len(self.sizes) * len(self.ratios)
        return replace(Architecture(classes=classes, attributes=attributes, anchors=anchors), **sizes)


@dataclass(frozen=True)
class DataOptions:
    """Annotated pictures of each split, and how they are varied in training.

    train, val: ``{annotations: FILE.json, pictures: FOLDER}``. flip: chance of a mirror image. scales: factors of the
    profile's input size, one of which is drawn. brightness: largest relative change, 0.2 for 0.8 to 1.2.
    """

    train: Mapping[str, Any] = field(default_factory=dict)
    val: Mapping[str, Any] = field(default_factory=dict)
    flip: Share = 0.5
    scales: Annotated[Sequence[Factor], NotEmpty] = (1.0,)
    brightness: Share = 0.0


@dataclass(frozen=True)
class TargetOptions:
    """What is learnt from which candidates.

    Defaults: anchors Ren et al. 2015, except that all with their centre in the picture count, not only those that lie
    inside it whole; regions Girshick 2015; attributes Anderson et al. 2018.

    anchor_*, region_*: IoU from which a candidate is an object (below ``negative``: background), how many a picture
    are sampled and the largest share of objects. proposals: of a picture, that regions are sampled from. anchor_beta,
    region_beta: where smooth L1 turns from square to linear, 0 for L1. attribute_order: ``equal``: all attributes of a
    box alike; ``falling``: the n-th named counts 1 / n, as the first is what people name first. unannotated: a box
    without attributes teaches "no attribute" (``learn``), or nothing about attributes (``ignore``, as in
    grid-feats-vqa). attribute_loss: its weight among the losses.
    """

    anchor_positive: Overlap = 0.7
    anchor_negative: NotNegative = 0.3
    anchor_sample: Sample = 256
    anchor_share: Share = 0.5
    anchor_beta: NotNegative = 1 / 9
    proposals: Sample = 2000
    region_positive: Overlap = 0.5
    region_sample: Sample = 64
    region_share: Share = 0.25
    region_beta: NotNegative = 1.0
    attribute_order: Literal["equal", "falling"] = "equal"
    unannotated: Literal["learn", "ignore"] = "learn"
    attribute_loss: NotNegative = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.anchor_negative <= self.anchor_positive:
            raise UsageError(
                f"targets.anchor_negative is {self.anchor_negative} and anchor_positive {self.anchor_positive}",
                "give 0 <= negative <= positive <= 1",
            )
        for kind in ("anchor", "region"):
            size, part = getattr(self, f"{kind}_sample"), getattr(self, f"{kind}_share")
            if int(size * part) < 1:
                raise UsageError(
                    f"targets.{kind}_share is {part} of {kind}_sample {size}: no object would be learnt from",
                    "give a share that is one or more of them",
                )


@dataclass(frozen=True)
class DetectorOptions:
    """All that the task is built from; a detector reads no store, and where one is named it is left alone."""

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    targets: TargetOptions = TargetOptions()
    store: Any = None
