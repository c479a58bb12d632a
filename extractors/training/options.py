"""What a person chooses about training a detector: plain dataclasses, one for each section of the YAML file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from featx.errors import UsageError
from featx_extractors.profiles import Profile, get_profile
from featx_extractors.weights.architecture import Architecture

T = TypeVar("T")
# With fewer, the gradient of a strided 1x1 convolution crashes torch 2.13 on the CPU (oneDNN, channels last).
LEAST_CHANNELS = {"stem": 16, "out": 16}
SECTIONS = ("model", "data", "targets")


@dataclass(frozen=True)
class ModelOptions:
    """The network and where it starts.

    ``profile`` is a name, for the weights name it as theirs; a profile of one's own goes into ``profiles`` first.

    start: any location of weights to fine-tune; None begins with fresh values drawn from ``seed``. profile: how the
    network is run, and so how it is trained; None is that of ``start``. architecture: sizes other than the defaults of
    :class:`Architecture`; classes and attributes come from the data. sizes, ratios: the anchors, sqrt(area) in input
    pixels and height / width. frozen_norm: batch norm keeps the statistics it has. frozen_stages: the first n of stem,
    res2, res3, res4 are not trained. backbone_lr: factor of the learning rate there. dtype: of the exported weights.
    """

    start: str | None = None
    profile: str | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[float, ...] = (64.0, 128.0, 256.0, 512.0)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    seed: int = 0
    frozen_norm: bool = False
    frozen_stages: int = 0
    backbone_lr: float = 1.0
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        _check_ranges(self, "model", {"frozen_stages": (0, 4)})

    def resolved_profile(self, published: str | None) -> Profile:
        """The profile; ``published`` is that of the weights one starts from."""
        profile = self.profile if self.profile is not None else published
        if profile is None:
            raise UsageError("model.profile is missing", "name a profile, for example scenes-36 or caffe-36")
        return get_profile(profile)

    def sized(self, classes: int, attributes: int) -> Architecture:
        """The sizes of a fresh network. Raises UsageError for one that it cannot have."""
        known = {f.name for f in fields(Architecture)} - {"classes", "attributes", "anchors"}
        _refuse_unknown(self.architecture, known, "model.architecture")
        for name, value in self.architecture.items():
            counts = value if name == "blocks" and isinstance(value, list | tuple) and len(value) == 4 else [value]
            least = LEAST_CHANNELS.get(name, 1)
            if (name == "blocks" and len(counts) != 4) or not all(type(n) is int and n >= least for n in counts):
                wanted = "four whole numbers above 0" if name == "blocks" else f"a whole number of {least} or more"
                raise UsageError(f"model.architecture.{name} is {value!r}", f"give {wanted}")
        sizes: dict[str, Any] = {n: tuple(v) if n == "blocks" else v for n, v in self.architecture.items()}
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
    flip: float = 0.5
    scales: tuple[float, ...] = (1.0,)
    brightness: float = 0.0

    def __post_init__(self) -> None:
        _check_ranges(self, "data", {"flip": (0, 1), "scales": (0.1, 10), "brightness": (0, 1)})


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

    anchor_positive: float = 0.7
    anchor_negative: float = 0.3
    anchor_sample: int = 256
    anchor_share: float = 0.5
    anchor_beta: float = 1 / 9
    proposals: int = 2000
    region_positive: float = 0.5
    region_sample: int = 64
    region_share: float = 0.25
    region_beta: float = 1.0
    attribute_order: Literal["equal", "falling"] = "equal"
    unannotated: Literal["learn", "ignore"] = "learn"
    attribute_loss: float = 0.5

    def __post_init__(self) -> None:
        share, limit, count = (0, 1), (0.1, 1), (1, 1_000_000)
        ranges = {
            "anchor_positive": limit, "anchor_sample": count, "anchor_share": share, "proposals": count,
            "region_positive": limit, "region_sample": count, "region_share": share,
        }  # fmt: skip
        _check_ranges(self, "targets", ranges)
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


def section(kind: type[T], options: Mapping[str, Any], name: str) -> T:
    """Section ``name`` of a task's options as its dataclass. Raises UsageError naming what is wrong."""
    given = options.get(name) or {}
    if not isinstance(given, Mapping):
        raise UsageError(f"{name} is {given!r}", f"the section {name} holds settings, one a line")
    hints = get_type_hints(kind)
    _refuse_unknown(given, set(hints), name)
    return kind(**{key: _typed(f"{name}.{key}", value, hints[key]) for key, value in given.items()})


def refuse_unknown_sections(options: Mapping[str, Any], also: tuple[str, ...] = ()) -> None:
    """Raise UsageError for a section that is none."""
    _refuse_unknown(options, {*SECTIONS, *also}, "this configuration")


def _refuse_unknown(given: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise UsageError(
            f"{where} has no setting {', '.join(map(repr, unknown))}", f"the settings are {', '.join(sorted(known))}"
        )


def _check_ranges(options: object, section: str, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise UsageError for a number, or one of several, that is not in its range, borders included."""
    for name, (least, most) in ranges.items():
        value = getattr(options, name)
        if not all(least <= number <= most for number in (value if isinstance(value, tuple) else (value,))):
            raise UsageError(f"{section}.{name} is {value}", f"it can be from {least} to {most}")


def _typed(name: str, value: Any, hint: Any) -> Any:
    """A value of YAML in the type of its field."""
    if hint is float and type(value) is int:
        return float(value)
    if get_origin(hint) is Literal and value not in get_args(hint):
        raise UsageError(f"{name} is {value!r}", f"choose {' or '.join(get_args(hint))}")
    if hint == tuple[float, ...]:
        numbers = (
            isinstance(value, list | tuple)
            and value
            and all(type(v) in (int, float) and 0 < v < math.inf for v in value)
        )
        if not numbers:
            raise UsageError(f"{name} is {value!r}", "give a list of positive numbers")
        return tuple(float(v) for v in value)
    if (fitting := _FITTING.get(hint)) and not fitting[0](value):
        raise UsageError(f"{name} is {value!r}", f"give {fitting[1]}")
    return value


# By type of a setting: what fits it, in code and in words.
_FITTING: dict[Any, tuple[Callable[[Any], bool], str]] = {
    int: (lambda value: type(value) is int and value >= 0, "a whole number of 0 or more"),
    float: (lambda value: type(value) is float and 0 <= value < math.inf, "a number of 0 or more"),
    bool: (lambda value: isinstance(value, bool), "true or false"),
    str | None: (lambda value: value is None or isinstance(value, str), "a name, or leave it out"),
    Mapping[str, Any]: (lambda value: isinstance(value, Mapping), "settings, one a line"),
}
