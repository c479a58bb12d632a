"""From annotated pictures to a batch: decode, vary, bring to the network's input, pad to the largest of the batch.

Padding mirrors the picture at its right and bottom border instead of putting zeros there: batch norm learns its
statistics from every cell of the batch, and those of zeros are not what it meets at inference, which never pads. No
anchor in the padding is learnt from.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat

import numpy as np
import torch

from featx.errors import UsageError
from featx.schema import Array
from featx_extractors.preprocess import Frame, frame_for, to_input
from featx_extractors.profiles import Profile
from featx_extractors.training.coco import Annotated
from featx_extractors.training.losses import attribute_targets
from featx_extractors.training.options import DataOptions, TargetOptions
from featx_extractors.training.pictures import read_pixels
from featx_extractors.training.regions import Truth

NO_BOX = -1  # class of the rows that fill up a picture's boxes


class Batches:
    """Makes batches for a profile. ``attributes``: how many there are, 0 for a network without that head."""

    def __init__(self, profile: Profile, options: DataOptions, targets: TargetOptions, attributes: int) -> None:
        self.profile, self.options, self.targets, self.attributes = profile, options, targets, attributes
        self.scaled = [_scaled(profile, factor) for factor in options.scales]

    def __call__(
        self, examples: Sequence[Annotated], rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """A batch of B pictures with up to G boxes; without ``rngs``, one a picture, they are taken as they are.

        pixels ``[B, 3, H, W]`` float32, mirrored at right and bottom of smaller ones; sizes, originals ``[B, 2]``
        int64: (height, width) of the input and of the original; scales ``[B, 2]`` float64 (x, y); boxes ``[B, G, 4]``
        float32 input pixels, with corners as the profile counts them; classes ``[B, G]`` int64, -1 where there is no
        box; attributes ``[B, G, T + 1]`` float32: the distributions to learn; unreadable ``[B]`` bool: the file could
        not be used, and the picture is blank.
        """
        chances = repeat(None, len(examples)) if rngs is None else rngs
        read = [read_or_blank(example) for example in examples]
        pictures = [self._picture(*one, rng) for one, rng in zip(read, chances, strict=True)]
        frames = [frame for _, frame, _ in pictures]
        height, width = (max(frame.size[axis] for frame in frames) for axis in (0, 1))
        pixels = torch.stack([mirrored(picture, height, width) for picture, _, _ in pictures])
        most = max(len(boxes) for _, _, boxes in pictures)
        boxes = torch.zeros(len(pictures), most, 4)
        classes = torch.full((len(pictures), most), NO_BOX)
        attributes = torch.zeros(len(pictures), most, self.attributes + 1)
        for i, ((_, _, found), (_, example)) in enumerate(zip(pictures, read, strict=True)):
            boxes[i, : len(found)] = found
            classes[i, : len(found)] = torch.from_numpy(example.classes)
            if self.attributes:
                attributes[i, : len(found)] = self._wanted(example)
        unreadable = torch.tensor([shown is not asked for (_, shown), asked in zip(read, examples, strict=True)])
        return {
            "pixels": pixels, "boxes": boxes, "classes": classes, "attributes": attributes,
            "sizes": torch.tensor([frame.size for frame in frames]),
            "originals": torch.tensor([frame.original for frame in frames]),
            "scales": torch.tensor([frame.scale for frame in frames], dtype=torch.float64),
            "unreadable": unreadable,
        }  # fmt: skip

    def _wanted(self, example: Annotated) -> torch.Tensor:
        rule = self.targets
        return attribute_targets(example.attributes, self.attributes, rule.attribute_order, rule.unannotated)

    def _picture(
        self, pixels: Array, example: Annotated, rng: np.random.Generator | None
    ) -> tuple[torch.Tensor, Frame, torch.Tensor]:
        boxes, profile = example.boxes, self.profile
        if rng is not None:
            profile = self.scaled[rng.integers(len(self.scaled))]
            if rng.random() < self.options.flip:
                pixels, boxes = flipped(pixels, boxes)
            if self.options.brightness:
                pixels = brightened(pixels, 1 + self.options.brightness * rng.uniform(-1, 1))
        frame = frame_for(*example.size, profile)
        if profile.plus_one:  # corners are pixels of the box there, so the last one belongs to it
            boxes = boxes - np.array([0, 0, 1, 1], np.float32)
        return to_input(pixels, frame, profile), frame, frame.to_input(torch.from_numpy(boxes))


def read_or_blank(example: Annotated) -> tuple[Array, Annotated]:
    """Pixels and what is in them. A file that cannot be used is said, and is a grey picture of nothing.

    So one bad file does not end a run, and what takes its place is the same whenever it is read.
    """
    try:
        return read_pixels(example.path, example.size), example
    except UsageError as error:
        warnings.warn(f"{error.message}; a blank picture takes its place", stacklevel=1)
        nothing = replace(example, boxes=example.boxes[:0], classes=example.classes[:0], attributes=())
        return np.full((*example.size, 3), 128, np.uint8), nothing


def flipped(pixels: Array, boxes: Array) -> tuple[Array, Array]:
    """The mirror image of ``pixels [H, W, 3]`` and the boxes ``[G, 4]`` in it."""
    width = np.float32(pixels.shape[1])
    x0, y0, x1, y1 = boxes.T
    return np.ascontiguousarray(pixels[:, ::-1]), np.stack([width - x1, y0, width - x0, y1], 1)


def brightened(pixels: Array, factor: float) -> Array:
    """``pixels`` uint8 times ``factor``, rounded and cut to 0..255."""
    table = np.clip(np.rint(np.arange(256) * factor), 0, 255).astype(np.uint8)
    brighter: Array = table[pixels]
    return brighter


def mirrored(picture: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """``picture [3, h, w]`` continued to ``[3, height, width]`` by its mirror image, over and over."""
    rows, columns = (_mirror(size, wanted) for size, wanted in zip(picture.shape[1:], (height, width), strict=True))
    return picture[:, rows][:, :, columns]


def _mirror(size: int, wanted: int) -> torch.Tensor:
    """Indices 0 .. size - 1, size - 1 .. 0, 0 .. and so on: ``[wanted]``."""
    place = torch.arange(wanted) % (2 * size)
    return torch.minimum(place, 2 * size - 1 - place)


def frames_of(batch: Mapping[str, torch.Tensor]) -> list[Frame]:
    """The frames of a batch."""
    rows = zip(batch["sizes"].tolist(), batch["originals"].tolist(), batch["scales"].tolist(), strict=True)
    return [Frame(tuple(size), tuple(original), tuple(scale)) for size, original, scale in rows]


def truths_of(batch: Mapping[str, torch.Tensor], attributes: bool) -> list[Truth]:
    """What is annotated in each picture of a batch."""
    found = []
    for i, frame in enumerate(frames_of(batch)):
        there = batch["classes"][i] != NO_BOX
        wanted = batch["attributes"][i, there] if attributes else None
        found.append(Truth(frame, batch["boxes"][i, there], batch["classes"][i, there], wanted))
    return found


def _scaled(profile: Profile, factor: float) -> Profile:
    sides = {name: round(getattr(profile, name) * factor) for name in ("short_side", "long_side")}
    return replace(profile, **sides)
