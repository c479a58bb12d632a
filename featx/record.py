"""Record: the regions of one picture, with features. The one thing that crosses every boundary.

A record is N regions of one picture: ``features [N, D]``, ``boxes [N, 4]``, the picture's size, and
whatever other fields the schema of its store names. Thirty-six Faster R-CNN boxes are
N = 36; a 7x7 CLIP grid is N = 49 boxes that tile the picture. Boxes are float32 pixels
``x0, y0, x1, y1`` of the *upright original* picture (x to the right, y down). Nothing in a record is
normalised: that happens in the batch, by whoever needs it.

Needs numpy only; torch is never imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from featx.errors import RecordError
from featx.schema import Array, Field, Schema

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, repr=False)
class Record:
    """N regions of one picture.

    features: ``[N, D]`` float16 or float32 (bfloat16 and int8 stores give float32).
    boxes: ``[N, 4]`` float32, x0 y0 x1 y1, pixels of the upright original.
    size: (height, width) of the upright original, pixels.
    count: how many of the N rows are real; rows from ``count`` on are padding (zeros).
    extra: the other arrays by field name; each is also an attribute (``record.object_ids``).

    Shapes are checked on construction; values (finite, boxes inside) by :meth:`check`.
    """

    features: Array
    boxes: Array
    size: tuple[int, int]
    count: int = -1
    extra: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.boxes.shape != (len(self.features), 4):
            raise RecordError(
                f"features have shape {self.features.shape} and boxes {self.boxes.shape}; "
                "expected [N, D] and [N, 4] with the same N",
                "make the extractor return one box per feature row",
            )
        count = len(self.features) if self.count < 0 else int(self.count)
        if count > len(self.features):
            raise RecordError(
                f"count is {count} but there are {len(self.features)} rows", "count the real rows, not the padding"
            )
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))

    def __len__(self) -> int:
        """Number of real regions (without padding rows)."""
        return self.count

    def __getattr__(self, name: str) -> Array:
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return cast(Array, extra[name])
        raise AttributeError(f"this record has no field {name!r}; it has {', '.join(self.names())}")

    def names(self) -> Iterator[str]:
        """Field names, in schema order."""
        yield from ("features", "boxes", *self.extra)

    def array(self, name: str) -> Array:
        """The array of one field. Raises RecordError when the record has no such field."""
        try:
            return cast(Array, getattr(self, name))
        except AttributeError as error:
            raise RecordError(str(error), "ask for one of those fields") from None

    def __repr__(self) -> str:
        shapes = ", ".join(f"{n} {self.array(n).dtype}{list(self.array(n).shape)}" for n in self.names())
        return f"Record(size={self.size}, count={self.count}, {shapes})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        names = list(self.names())
        return (
            (self.size, self.count, names) == (other.size, other.count, list(other.names()))
            and all(self.array(n).dtype == other.array(n).dtype for n in names)
            and all(np.array_equal(self.array(n), other.array(n)) for n in names)
        )

    __hash__ = None  # type: ignore[assignment]

    def check(self, schema: Schema) -> None:
        """Raise RecordError unless the record fits ``schema`` and its values make sense.

        Sense means: every float is finite, no box is inverted, and every box lies within the picture
        give or take one pixel (the published features clip at the *resized* scale, which can pass the
        original border by a fraction of a pixel).
        """
        if ("features", "boxes", *self.extra) != schema.names:
            raise RecordError(
                f"record has the fields {list(self.names())}, the schema {[f.name for f in schema.fields]}",
                "return exactly the schema's fields, in its order",
            )
        if schema.rows is not None and len(self.features) != schema.rows:
            raise RecordError(
                f"record has {len(self.features)} rows, the schema fixes {schema.rows}",
                "pad with zero rows and set count",
            )
        for f, array in zip(schema.fields, (self.features, self.boxes, *self.extra.values()), strict=True):
            self._check_field(f, array)
        self._check_boxes()

    def _check_field(self, f: Field, array: Array) -> None:
        shape = f.shape_for(len(self.features))
        if array.shape != shape or array.dtype != f.memory_dtype:
            raise RecordError(
                f"field {f.name!r} is {array.dtype}{list(array.shape)}, expected {f.memory_dtype}{list(shape)}",
                "cast or reshape it in the extractor",
            )
        if array.dtype.kind == "f" and not _all_finite(array):
            raise RecordError(
                f"field {f.name!r} holds NaN or infinity",
                "float16 overflows above 65504: try --dtype float32, and check the weights",
            )

    def _check_boxes(self) -> None:
        boxes, (height, width) = self.boxes[: self.count], self.size
        if not len(boxes):
            return
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise RecordError("a box is inverted (x1 < x0 or y1 < y0)", "boxes are x0, y0, x1, y1")
        if boxes.min() < -1 or boxes[:, 0::2].max() > width + 1 or boxes[:, 1::2].max() > height + 1:
            raise RecordError(
                f"a box leaves the {width} x {height} picture: from {boxes.min(0).tolist()} to {boxes.max(0).tolist()}",
                "boxes are pixels of the upright original, not of the network's input",
            )


def _all_finite(array: Array) -> bool:
    """Whether no value is NaN or infinite. numpy asks that of float16 twenty times slower than of its bits."""
    if array.dtype != np.float16:
        return bool(np.isfinite(array).all())
    bits = np.ascontiguousarray(array).view(np.uint16)  # positive ones end at 0x7BFF, negative ones at 0xFBFF
    return bool(bits.max(initial=0) < 0xFC00 and bits.view(np.int16).max(initial=0) < 0x7C00)


@dataclass(frozen=True, repr=False)
class RecordBatch:
    """B records as torch tensors, padded to the longest.

    features ``[B, N, D]`` float32; boxes ``[B, N, 4]`` float32 pixels; mask ``[B, N]`` bool, True on real
    rows; sizes ``[B, 2]`` float32 (height, width); extra: the other fields, padded with zeros.
    """

    keys: tuple[str, ...]
    features: torch.Tensor
    boxes: torch.Tensor
    mask: torch.Tensor
    sizes: torch.Tensor
    extra: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        """The tensors of one record by name, views of the batch: features ``[N, D]``, ..., sizes ``[2]``."""
        if not -len(self) <= place < len(self):
            raise IndexError(f"record {place} of a batch of {len(self)}")
        return {name: tensor[place] for name, tensor in self.tensors.items()}

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        return {"features": self.features, "boxes": self.boxes, "mask": self.mask, "sizes": self.sizes, **self.extra}

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> RecordBatch:
        """The same records, every tensor changed."""
        return RecordBatch(
            self.keys, change(self.features), change(self.boxes), change(self.mask), change(self.sizes),
            {name: change(tensor) for name, tensor in self.extra.items()},
        )  # fmt: skip

    def clone(self) -> RecordBatch:
        """A copy in memory of its own: for batches that lie in a buffer which is used again."""
        return self.each(lambda tensor: tensor.clone())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> RecordBatch:
        """The batch on a device; dtypes stay."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> RecordBatch:
        """The batch in page-locked memory, from which copies to a GPU can overlap with its work."""
        return self.each(lambda tensor: tensor.pin_memory())

    def __repr__(self) -> str:
        return "RecordBatch(" + ", ".join(f"{n} {list(t.shape)}" for n, t in self.tensors.items()) + ")"
