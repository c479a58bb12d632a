"""The switches of preprocessing: how a picture becomes an input of which size, as a frozen value.

``crop`` brings the short side to a length and cuts out the middle, as CLIP was trained; ``squash`` brings the whole
picture to a given size, as SigLIP was; ``aspect`` keeps the whole picture and its proportions, with sides that are
whole numbers of patches, so that inputs differ in size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from featx.errors import PictureRefused, UsageError, WeightsError
from featx_extractors.towers.family import Family
from featx_extractors.towers.geometry import Frame

Resize = Literal["crop", "squash", "aspect"]
Resample = Literal["pil", "tensor", "tensor-antialias"]
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # numbered as Pillow numbers them
_MOST = 1 << 27  # pixels of a resized picture: a strip of 1 x 5000 would be brought to 224 x 1,120,000
_SCALE = 1 / 255
_SQUASH = ("ViT", "DeiT", "Siglip")  # image processors that bring the whole picture to a size


@dataclass(frozen=True)
class Resizing:
    """short: of ``crop``, and of ``aspect`` if no area is given; size: (height, width) of ``squash``; crop: (height,
    width) of ``crop``, None: no cut; area: most pixels of ``aspect``. resample: Pillow on 8 bits, or torch on floats
    that are rounded to 8 bits, with or without antialiasing. scale, mean, std: of the values behind that.
    """

    resize: Resize
    short: int | None
    size: tuple[int, int] | None
    crop: tuple[int, int] | None
    area: int | None
    resample: Resample
    filter: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def switches(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def of(cls, switches: Mapping[str, Any]) -> Resizing:
        """Inverse of :meth:`switches`; other entries are left aside. Raises UsageError when one is absent."""
        names = [field.name for field in fields(cls)]
        if absent := [name for name in names if name not in switches]:
            raise UsageError(f"the profile has no {absent[0]!r}", "give the profile of a store of this extractor whole")
        given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in switches.items() if n in names}
        for name, fits in _FITS.items():
            if not fits(given[name]):
                raise UsageError(
                    f"the profile has {name} {switches[name]!r}", "give the profile of a store of this extractor whole"
                )
        found = cls(**given)
        needed = {"squash": found.size, "crop": found.crop or found.short, "aspect": found.short or found.area}
        if not needed[found.resize]:
            raise UsageError(
                f"the profile says resize: {found.resize}, and not to which size", "give the profile of a store whole"
            )
        return found

    def check(self, patch: int, size: bool, area: bool) -> None:
        """Raise UsageError for inputs without a whole patch, or larger than memory. size, area: what was asked for."""
        asked = " and ".join(name for name, given in (("size", size), ("area", area)) if given) or "the preprocessing"
        shortest = min(self.fixed) if self.fixed else self.short
        if (shortest is not None and shortest < patch) or (self.area is not None and self.area < patch**2):
            raise UsageError(
                f"{asked} makes inputs of {self._told()}, and a patch of this tower has {patch} x {patch} pixels",
                f"give a size of at least {patch}, or an area of at least {patch**2}",
            )
        largest = max(math.prod(self.fixed or (1,)), (self.short or 1) ** 2, self.area or 1)
        if largest > _MOST:
            raise UsageError(
                f"{asked} makes inputs of {self._told()}, more than the {_MOST:,} pixels that are possible",
                "give a smaller size, or area",
            )

    def _told(self) -> str:
        if self.fixed:
            return f"{self.fixed[1]} x {self.fixed[0]} pixels"
        return " and ".join(
            [
                *([f"a short side of {self.short}"] if self.short else []),
                *([f"{self.area:,} pixels"] if self.area else []),
            ]
        )

    @property
    def fixed(self) -> tuple[int, int] | None:
        """(height, width) of every input, None where they differ."""
        return {"squash": self.size, "crop": self.crop}.get(self.resize)

    def frame(self, height: int, width: int, patch: int) -> Frame:
        """The frame of a picture. Raises PictureRefused for a strip that would become larger than memory."""
        original = (height, width)
        resized = self._resized(original, patch)
        if resized[0] * resized[1] > _MOST:
            raise PictureRefused(
                "too-thin",
                f"the picture of {width} x {height} would be resized to {resized[1]} x {resized[0]}",
                "use resize: squash, or aspect with an area",
            )
        size = self.crop if self.resize == "crop" and self.crop else resized
        offset = (self._offset(resized[0], size[0]), self._offset(resized[1], size[1]))
        return Frame(original, resized, offset, size, patch)

    def _resized(self, original: tuple[int, int], patch: int) -> tuple[int, int]:
        if self.resize == "squash" and self.size:
            return self.size
        if self.resize == "aspect":
            return self._whole_patches(original, patch)
        height, width = original
        short = self.short or min(original)
        if width <= height:
            return int(short * height / width), short
        return short, int(short * width / height)

    def _offset(self, resized: int, size: int) -> int:
        """Of the cut along an axis: transformers' on Pillow halves downwards, torchvision rounds half to even."""
        if self.resample == "pil":
            return (resized - size) // 2
        return round((resized - size) / 2) if resized >= size else -((size - resized) // 2)

    def _whole_patches(self, original: tuple[int, int], patch: int) -> tuple[int, int]:
        height, width = original
        scale = min(
            self.short / min(original) if self.short else math.inf,
            math.sqrt(self.area / (height * width)) if self.area else math.inf,
        )
        rows, columns = (max(1, round(scale * side / patch)) for side in original)
        most = self.area // patch**2 if self.area else rows * columns
        if rows * columns > most:
            rows, columns = (max(1, math.floor(scale * side / patch)) for side in original)
        rows, columns = min(rows, max(1, most // columns)), min(columns, max(1, most // rows))
        return rows * patch, columns * patch


def _side(value: Any) -> bool:
    return value is None or (type(value) is int and value > 0)


def _sides(value: Any) -> bool:
    return value is None or (
        isinstance(value, tuple) and len(value) == 2 and all(type(v) is int and v > 0 for v in value)
    )


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _numbers(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(map(_number, value))


def _divisors(value: Any) -> bool:
    return _numbers(value) and all(part > 0 for part in value)


# switch -> what its value may be
_FITS: Mapping[str, Callable[[Any], bool]] = {
    "resize": get_args(Resize).__contains__, "short": _side, "size": _sides, "crop": _sides, "area": _side,
    "resample": get_args(Resample).__contains__, "filter": FILTERS.__contains__,
    "scale": lambda value: _number(value) and value > 0, "mean": _numbers, "std": _divisors,
}  # fmt: skip


def published(config: Mapping[str, Any], family: Family, native: int, where: str) -> Resizing:
    """What ``preprocessor_config.json`` says, and what it leaves out as the family has it.

    native: side of the tower's own input. Raises WeightsError for steps that are not known.
    """
    steps = {name: config.get(name, True) for name in ("do_resize", "do_rescale", "do_normalize")}
    if not all(steps.values()):
        off = next(name for name, value in steps.items() if not value)
        raise WeightsError(f"{where} says {off}: false", "expected a picture to be resized, scaled and normalised")
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    squashes = kind.startswith(_SQUASH) or (family.square and not kind.startswith("CLIP"))
    size, square = config.get("size"), config.get("default_to_square", squashes)
    short, whole = _short_or_whole(native if size is None else size, square, where)
    crop = None
    if whole is None and config.get("do_center_crop", not squashes):
        crop = _pair(config.get("crop_size", short), where)
    elif whole and config.get("do_center_crop") and _pair(config.get("crop_size", whole), where) != whole:
        raise WeightsError(f"{where} resizes to {whole} and cuts {config['crop_size']}", "expected one of the two")
    return Resizing(
        "squash" if whole else "crop", short, whole, crop, None, "pil", _filter(config.get("resample", 3), where),
        _scale(config.get("rescale_factor", _SCALE), where), _three(config.get("image_mean", family.mean), where),
        _deviations(config.get("image_std", family.std), where),
    )  # fmt: skip


def squashed(family: Family, side: int) -> Resizing:
    """The whole picture brought to a square of so many pixels, in the numbers of a family."""
    return Resizing("squash", None, (side, side), None, None, "pil", "bicubic", _SCALE, family.mean, family.std)


def _short_or_whole(size: Any, square: bool, where: str) -> tuple[int | None, tuple[int, int] | None]:
    if isinstance(size, Mapping):
        if type(size.get("shortest_edge")) is int and size["shortest_edge"] > 0 and not size.get("longest_edge"):
            return size["shortest_edge"], None
        if _sides((size.get("height"), size.get("width"))):
            return None, (size["height"], size["width"])
        raise WeightsError(f"{where} resizes to {dict(size)}", "expected shortest_edge, or height and width")
    side = _pair(size, where)
    return (None, side) if square or not isinstance(size, int) else (size, None)


def _pair(size: Any, where: str) -> tuple[int, int]:
    if isinstance(size, Mapping):
        size = (size.get("height"), size.get("width"))
    pair = (size, size) if isinstance(size, int) else tuple(size or ())
    if len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        raise WeightsError(f"{where} has the size {size!r}", "expected one or two whole numbers")
    return pair[0], pair[1]


def _three(values: Any, where: str) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or not _numbers(tuple(values)):
        raise WeightsError(f"{where} has {values!r} for mean or deviation", "expected three numbers, red green blue")
    return tuple(float(value) for value in values)


def _deviations(values: Any, where: str) -> tuple[float, ...]:
    found = _three(values, where)
    if min(found) <= 0:
        raise WeightsError(
            f"{where} has the deviations {values!r}", "expected numbers above 0: inputs are divided by them"
        )
    return found


def _scale(value: Any, where: str) -> float:
    if not _number(value) or value <= 0:
        raise WeightsError(f"{where} has the rescale_factor {value!r}", "expected a number above 0, such as 1/255")
    return float(value)


def _filter(number: Any, where: str) -> str:
    if type(number) is not int or not 0 <= number < len(FILTERS):
        raise WeightsError(f"{where} resamples by filter {number!r}", f"known are 0 to {len(FILTERS) - 1}, as Pillow's")
    return FILTERS[number]


def chosen(
    stated: Resizing, native: int, resize: str, size: int | None, area: int | None, resample: Resample
) -> Resizing:
    """The checkpoint's preprocessing with what a person asked for instead.

    resize: ``checkpoint``, ``squash`` or ``aspect``. size: side, or short side of ``aspect``; the cut of a checkpoint
    that crops keeps its share of the short side. area: most pixels of ``aspect``. Raises UsageError.
    """
    if area is not None and resize != "aspect":
        raise UsageError(f"area is given, but resize is {resize!r}", "an area belongs to resize: aspect")
    if resample != "pil" and stated.filter not in ("bilinear", "bicubic"):
        raise UsageError(f"resample is {resample!r}, which has no filter {stated.filter}", "use resample: pil")
    stated = replace(stated, resample=resample)
    if resize == "squash":
        side = size or native
        return replace(stated, resize="squash", short=None, size=(side, side), crop=None)
    if resize == "aspect":
        area = native**2 if size is None and area is None else area
        return replace(stated, resize="aspect", short=size, size=None, crop=None, area=area)
    if size is None:
        return stated
    if stated.resize == "squash":
        return replace(stated, size=(size, size))
    short, crop = stated.short or native, stated.crop or (native, native)
    return replace(stated, short=round(size * short / min(crop)), crop=stated.crop and (size, size))
