"""Schema: which arrays every record of a store holds, with dtype and shape, and which boxes its boxes are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from featx.errors import RecordError

Array = np.ndarray[Any, np.dtype[Any]]
BoxKind = Literal["proposal", "regressed", "given", "grid"]
BOX_KINDS: tuple[BoxKind, ...] = get_args(BoxKind)
Per = Literal["region", "picture"]

FEATURE_DTYPES = ("float16", "float32", "bfloat16", "int8")
# How each stored dtype looks in memory: bfloat16 is widened to float32, and int8 is float32 quantised row by row.
MEMORY_DTYPE: dict[str, np.dtype[Any]] = {
    name: np.dtype("float32" if name in ("bfloat16", "int8") else name)
    for name in (*FEATURE_DTYPES, "int32", "int64", "uint8")
}
# A corner at 1000 pixels moves by up to a quarter in float16, by up to 2 in bfloat16 and in int8.
_COARSE = ("float16", "bfloat16", "int8")


@dataclass(frozen=True)
class Field:
    """One array of a record: its name, stored dtype and the shape behind the region axis.

    ``per="region"`` arrays are ``[N, *shape]``; ``per="picture"`` arrays are ``shape``. An int8 field is quantised row
    by row, so it is per region and its shape is ``(D,)``.
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
        if self.per not in get_args(Per) or not all(type(extent) is int and extent >= 0 for extent in self.shape):
            raise RecordError(
                f"field {self.name!r} is {list(self.shape)} per {self.per}; "
                "expected whole numbers per region or picture",
                "mend the schema of the extractor",
            )
        if self.dtype in _COARSE and (self.name == "boxes" or self.name.endswith("_boxes")):
            raise RecordError(
                f"field {self.name!r} has dtype {self.dtype!r}, which would move boxes by whole pixels",
                "store boxes as float32; only features may be coarser",
            )
        if self.dtype == "int8" and (self.per != "region" or len(self.shape) != 1):
            raise RecordError(
                f"field {self.name!r} is int8, {list(self.shape)} per {self.per}; expected [D] per region",
                "int8 has a scale for each region's vector; choose float16 for other arrays",
            )

    def shape_for(self, rows: int) -> tuple[int, ...]:
        """Shape of the array in a record of ``rows`` regions."""
        return (rows, *self.shape) if self.per == "region" else self.shape

    @property
    def memory_dtype(self) -> np.dtype[Any]:
        """dtype of the array in memory (bfloat16 and int8 are held as float32)."""
        return MEMORY_DTYPE[self.dtype]

    @property
    def stored_names(self) -> tuple[str, ...]:
        """Names of the arrays in which the field is stored, in their order: int8 has its scales before it."""
        return (f"{self.name}_scale", self.name) if self.dtype == "int8" else (self.name,)


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
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        names = [f.name for f in self.fields]
        if names[:2] != ["features", "boxes"] or len(set(names)) != len(names):
            raise RecordError(
                f"schema has the fields {names}; the first two must be 'features', 'boxes', without repeats",
                "put features and boxes first and name every other field once",
            )
        stored = [name for f in self.fields for name in f.stored_names]
        if taken := sorted({name for name in stored if stored.count(name) > 1}):
            raise RecordError(
                f"schema has a field {taken[0]!r}, the name of the scales of an int8 field", "give it another name"
            )
        self._check_features_and_boxes()
        if {self.boxes, self.pooled} - {*BOX_KINDS}:
            raise RecordError(
                f"the boxes of the schema are {self.boxes!r}, pooled from {self.pooled!r}",
                f"each is one of {', '.join(BOX_KINDS)}",
            )
        if self.rows is not None and not (type(self.rows) is int and self.rows >= 0):
            raise RecordError(f"the schema has rows {self.rows!r}", "give how many every record has, or None")
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "_hash", hash((self.fields, self.boxes, self.pooled, self.rows)))

    def _check_features_and_boxes(self) -> None:
        features, boxes = self.fields[:2]
        if (features.per, len(features.shape)) != ("region", 1) or features.dtype not in FEATURE_DTYPES:
            raise RecordError(
                f"features are {features.dtype} {list(features.shape)} per {features.per}; expected [D] per region",
                f"their dtype is one of {', '.join(FEATURE_DTYPES)}; put other arrays into fields of their own",
            )
        if (boxes.dtype, boxes.per, boxes.shape) != ("float32", "region", (4,)):
            raise RecordError(
                f"boxes are {boxes.dtype} {list(boxes.shape)} per {boxes.per}; expected float32 [4] per region",
                "store boxes as x0 y0 x1 y1 in pixels",
            )

    def __reduce__(self) -> tuple[Any, ...]:  # the hash of a name is another in another process
        return Schema, (self.fields, self.boxes, self.pooled, self.rows)

    def __hash__(self) -> int:  # a schema is a key of caches, asked for once a record
        return self._hash

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
