"""From annotated pictures to a batch: decode, vary, bring to the network's input, pad to the largest of the batch.

Padding mirrors the picture at its right and bottom border instead of putting zeros there: batch norm learns its
statistics from every cell of the batch, and those of zeros are not what it meets at inference, which never pads. No
anchor in the padding is learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from featx.decode import decode
from featx.errors import PictureRefused, UsageError
from featx.schema import Array
from featx_extractors.preprocess import Frame, frame_for, to_input
from featx_extractors.profiles import Profile
from featx_extractors.training.coco import Annotated
from featx_extractors.training.losses import attribute_targets
from featx_extractors.training.options import DataOptions
from featx_extractors.training.regions import Truth

NO_BOX = -1  # class of the rows that fill up a picture's boxes


class Batches:
    """Makes batches for a profile. ``attributes``: how many there are, 0 for a network without that head."""

    def __init__(self, profile: Profile, options: DataOptions, attributes: int, order: str) -> None:
        self.profile, self.options, self.attributes, self.order = profile, options, attributes, order
        self.scaled = [_scaled(profile, factor) for factor in options.scales]

    def __call__(self, examples: Sequence[Annotated], rng: np.random.Generator | None) -> dict[str, torch.Tensor]:
        """A batch of B pictures with up to G boxes; without ``rng`` they are taken as they are.

        pixels ``[B, 3, H, W]`` float32, mirrored at right and bottom of smaller ones; sizes, originals ``[B, 2]``
        int64: (height, width) of the input and of the original; scales ``[B, 2]`` float64 (x, y); boxes ``[B, G, 4]``
        float32 input pixels, with corners as the profile counts them; classes ``[B, G]`` int64, -1 where there is no
        box; attributes ``[B, G, T + 1]`` float32: the distributions to learn.
        """
        pictures = [self._picture(example, rng) for example in examples]
        frames = [frame for _, frame, _ in pictures]
        height, width = (max(frame.size[axis] for frame in frames) for axis in (0, 1))
        pixels = torch.stack([mirrored(picture, height, width) for picture, _, _ in pictures])
        most = max(len(boxes) for _, _, boxes in pictures)
        boxes = torch.zeros(len(pictures), most, 4)
        classes = torch.full((len(pictures), most), NO_BOX)
        attributes = torch.zeros(len(pictures), most, self.attributes + 1)
        for i, ((_, _, found), example) in enumerate(zip(pictures, examples, strict=True)):
            boxes[i, : len(found)] = found
            classes[i, : len(found)] = torch.from_numpy(example.classes)
            if self.attributes:
                attributes[i, : len(found)] = attribute_targets(example.attributes, self.attributes, self.order)
        return {
            "pixels": pixels, "boxes": boxes, "classes": classes, "attributes": attributes,
            "sizes": torch.tensor([frame.size for frame in frames]),
            "originals": torch.tensor([frame.original for frame in frames]),
            "scales": torch.tensor([frame.scale for frame in frames], dtype=torch.float64),
        }  # fmt: skip

    def _picture(self, example: Annotated, rng: np.random.Generator | None) -> tuple[torch.Tensor, Frame, torch.Tensor]:
        pixels = read_pixels(example)
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


def read_pixels(example: Annotated) -> Array:
    """Upright RGB pixels ``[H, W, 3]`` uint8. Raises UsageError for a file that is no picture of the stated size."""
    try:
        pixels = decode(example.path.read_bytes())
    except (PictureRefused, OSError) as error:
        raise UsageError(f"{example.path} cannot be used: {error}", "replace it, or take it out of the list") from None
    if pixels.shape[:2] != example.size:
        raise UsageError(
            f"{example.path} is {pixels.shape[0]} x {pixels.shape[1]} (height x width), its annotations say "
            f"{example.size[0]} x {example.size[1]}",
            "the boxes would be elsewhere: use the pictures the annotations were made for",
        )
    return pixels


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
    sides = {name: max(16, round(getattr(profile, name) * factor)) for name in ("short_side", "long_side")}
    return replace(profile, **sides)
