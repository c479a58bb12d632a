"""Record: the regions of one picture, with features. The one thing that crosses every boundary.

A record is N regions of one picture: ``features [N, D]``, ``boxes [N, 4]``, the picture's size, and
whatever other fields the :class:`Schema` of its store names. Thirty-six Faster R-CNN boxes are
N = 36; a 7x7 CLIP grid is N = 49 boxes that tile the picture. Boxes are float32 pixels
``x0, y0, x1, y1`` of the *upright original* picture (x to the right, y down). Nothing in a record is
normalised: that happens in the batch, by whoever needs it.

Needs numpy only; torch is never imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from featx.errors import RecordError

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, np.dtype[Any]]
BoxKind = Literal["proposal", "regressed", "given", "grid"]
Per = Literal["region", "picture"]

FEATURE_DTYPES = ("float16", "float32", "bfloat16")
# How each stored dtype looks in memory. numpy has no bfloat16: it is widened, exactly, to float32.
MEMORY_DTYPE: dict[str, np.dtype[Any]] = {
    name: np.dtype("float32" if name == "bfloat16" else name) for name in (*FEATURE_DTYPES, "int32", "int64", "uint8")
}


@dataclass(frozen=True)
class Field:
    """One array of a record: its name, stored dtype and the shape behind the region axis.

    ``per="region"`` arrays are ``[N, *shape]``; ``per="picture"`` arrays are ``shape``.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    per: Per = "region"

    def __post_init__(self) -> None:
        if self.dtype not in MEMORY_DTYPE:
            raise RecordError(
                f"field {self.name!r} has dtype {self.dtype!r}; a record holds {', '.join(MEMORY_DTYPE)}",
                "choose one of those dtypes in the extractor's schema",
            )
        object.__setattr__(self, "shape", tuple(self.shape))

    def shape_for(self, rows: int) -> tuple[int, ...]:
        """Shape of the array in a record of ``rows`` regions."""
        return (rows, *self.shape) if self.per == "region" else self.shape

    @property
    def memory_dtype(self) -> np.dtype[Any]:
        """dtype of the array in memory (bfloat16 is held as float32)."""
        return MEMORY_DTYPE[self.dtype]


@dataclass(frozen=True)
class Schema:
    """What every record of a store holds; ``features`` and ``boxes`` are always its first two fields.

    ``boxes`` says which box the array ``boxes`` is, ``pooled`` which box the features were taken
    from. Where the two differ, or an extractor keeps both, the other one is a field of its own, named
    ``proposal_boxes`` or ``regressed_boxes``. ``rows`` is N when every record has the same number of
    rows, None when it varies.
    """

    fields: tuple[Field, ...]
    boxes: BoxKind = "proposal"
    pooled: BoxKind = "proposal"
    rows: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        names = [f.name for f in self.fields]
        if names[:2] != ["features", "boxes"] or len(set(names)) != len(names):
            raise RecordError(
                f"schema has the fields {names}; the first two must be 'features', 'boxes', without repeats",
                "put features and boxes first and name every other field once",
            )

    @property
    def dim(self) -> int:
        """D, the length of one feature vector."""
        return int(self.fields[0].shape[0])

    @property
    def extras(self) -> tuple[Field, ...]:
        """The fields behind ``features`` and ``boxes``."""
        return self.fields[2:]

    def to_dict(self) -> dict[str, Any]:
        """JSON form, as it stands in a manifest."""
        return {
            "boxes": self.boxes,
            "pooled": self.pooled,
            "rows": self.rows,
            "fields": [{"name": f.name, "dtype": f.dtype, "shape": list(f.shape), "per": f.per} for f in self.fields],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        """Inverse of :meth:`to_dict`. Raises RecordError for a form this version does not know."""
        try:
            fields = tuple(Field(f["name"], f["dtype"], tuple(f["shape"]), f["per"]) for f in data["fields"])
            return cls(fields, data["boxes"], data["pooled"], data["rows"])
        except (KeyError, TypeError) as error:
            raise RecordError(f"schema is not readable: {error!r}", "see the schema section of FORMAT.md") from None


def region_schema(
    dim: int,
    dtype: str = "float16",
    *,
    boxes: BoxKind = "proposal",
    pooled: BoxKind = "proposal",
    rows: int | None = None,
    attributes: bool = True,
    other: str | None = None,
) -> Schema:
    """Schema of a region detector: features, boxes, class ids and confidences, and perhaps the other box.

    ``dtype`` is that of the features; boxes and confidences are always float32, ids int32. ``other`` names the field
    of the second box, ``regressed_boxes`` or ``proposal_boxes``.
    """
    if dtype not in FEATURE_DTYPES:
        raise RecordError(f"feature dtype {dtype!r} is unknown", f"choose one of {', '.join(FEATURE_DTYPES)}")
    fields = [Field("features", dtype, (dim,)), Field("boxes", "float32", (4,))]
    fields += [Field("object_ids", "int32"), Field("object_confs", "float32")]
    if attributes:
        fields += [Field("attribute_ids", "int32"), Field("attribute_confs", "float32")]
    if other is not None:
        fields.append(Field(other, "float32", (4,)))
    return Schema(tuple(fields), boxes, pooled, rows)


@dataclass(frozen=True, eq=False, repr=False)
class Record:
    """N regions of one picture.

    features: ``[N, D]`` float16 or float32 (a bfloat16 store gives float32).
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
        if list(self.names()) != [f.name for f in schema.fields]:
            raise RecordError(
                f"record has the fields {list(self.names())}, the schema {[f.name for f in schema.fields]}",
                "return exactly the schema's fields, in its order",
            )
        if schema.rows is not None and len(self.features) != schema.rows:
            raise RecordError(
                f"record has {len(self.features)} rows, the schema fixes {schema.rows}",
                "pad with zero rows and set count",
            )
        for f in schema.fields:
            self._check_field(f)
        self._check_boxes()

    def _check_field(self, f: Field) -> None:
        array, shape = self.array(f.name), f.shape_for(len(self.features))
        if array.shape != shape or array.dtype != f.memory_dtype:
            raise RecordError(
                f"field {f.name!r} is {array.dtype}{list(array.shape)}, expected {f.memory_dtype}{list(shape)}",
                "cast or reshape it in the extractor",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
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
        limit = np.array([width, height, width, height], np.float32) + 1
        if (boxes < -1).any() or (boxes > limit).any():
            raise RecordError(
                f"a box leaves the {width} x {height} picture: from {boxes.min(0).tolist()} to {boxes.max(0).tolist()}",
                "boxes are pixels of the upright original, not of the network's input",
            )


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

    def __repr__(self) -> str:
        named = {"features": self.features, "boxes": self.boxes, "mask": self.mask, "sizes": self.sizes, **self.extra}
        return "RecordBatch(" + ", ".join(f"{n} {list(t.shape)}" for n, t in named.items()) + ")"
