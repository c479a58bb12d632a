"""What a store says about itself beside its records, as it travels in the metadata of a format that loses nothing."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from featx.errors import FeatxError
from featx.formats.base import Format
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import record_of
from featx.record import Record
from featx.schema import Array, Schema

NAME = "featx"  # of the entry in the metadata of a file
LOSSES = (
    "positions in the source list are counted anew, and pictures that were refused are not in the file",
    "int8 features are written as the float32 values that they read as; read again they are the same int8",
)
_VERSION = 1
NAMES = {  # of this project, as ``regions`` knows them
    "height": "image_h",
    "width": "image_w",
    "object_ids": "obj_id",
    "object_confs": "obj_conf",
    "attribute_ids": "attr_id",
    "attribute_confs": "attr_conf",
    "class_probs": "cls_prob",
}


@dataclass(frozen=True)
class Description:
    """schema: of every record. labels: names of the classes. provenance: of the store that was written."""

    schema: Schema
    labels: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @classmethod
    def of(cls, records: Records) -> Description:
        """That of the store whose records are written."""
        return cls(records.schema, records.labels, records.store.manifest.provenance)

    def dump(self) -> str:
        """As JSON text."""
        facts = {"schema": self.schema.to_dict(), "labels": self.labels, "provenance": self.provenance}
        return json.dumps({"version": _VERSION, **facts}, ensure_ascii=False)

    @classmethod
    def load(cls, text: str | bytes) -> Description:
        """Inverse of :meth:`dump`. Raises ValueError for what is none."""
        try:
            told = json.loads(text)
            if told["version"] != _VERSION:
                raise ValueError(f"it has version {told['version']!r}, this featx reads {_VERSION}")
            return cls(Schema.from_dict(told["schema"]), dict(told["labels"]), dict(told["provenance"]))
        except (FeatxError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            said = error.message if isinstance(error, FeatxError) else str(error)
            raise ValueError(f"what it says of its store cannot be read: {said:.200}") from None

    def record(self, values: Mapping[str, Any], size: tuple[int, int], count: int | None) -> Record:
        """The record of arrays by field name. count: of its real rows; None where all are.

        Raises ValueError for an array that is missing or does not fit the schema.
        """
        if missing := [name for name in self.schema.names if name not in values]:
            raise ValueError(f"it has no {', '.join(missing)}")
        rows = len(values["features"]) if values["features"].ndim else 0
        arrays: dict[str, Array] = {}
        for field in self.schema.fields:
            array, shape = values[field.name], field.shape_for(rows)
            if array.dtype != field.memory_dtype or array.shape != shape:
                found = f"{array.dtype}{list(array.shape)}"
                raise ValueError(f"{field.name} is {found}, expected {field.memory_dtype}{list(shape)}")
            arrays[field.name] = array
        count = rows if count is None else count
        if not 0 <= count <= rows:
            raise ValueError(f"it counts {count} regions in {rows} rows")
        return Record(arrays.pop("features"), arrays.pop("boxes"), size, count, arrays)


class Described(Format):
    """A format whose files carry a :class:`Description` when featx wrote them, and are read without one, too."""

    losses: ClassVar[tuple[str, ...]] = LOSSES
    lossless = True
    takes = frozenset({"key", "sizes", "background"})

    @abstractmethod
    def describe(self, path: Path) -> Description | None:
        """The description in a source, None where there is none. Raises UsageError for what is no such source."""

    def schema(self, path: Path, options: Options) -> Schema:
        told = self.describe(path)
        if told is None:
            return super().schema(path, options)
        features, *others = told.schema.fields
        fields = (replace(features, dtype=options.dtype or features.dtype), *others)
        boxes, pooled = options.box_kind or told.schema.boxes, options.box_kind or told.schema.pooled
        return replace(told.schema, fields=fields, boxes=boxes, pooled=pooled)

    def labels(self, path: Path, options: Options) -> Mapping[str, Any]:
        """Those that were told; else those that the store had."""
        told = self.describe(path)
        return {**(told.labels if told else {}), **options.labels}

    def facts(self, path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
        """``facts``, and where the records came from before they were written in this format."""
        told = self.describe(path)
        return {**facts, **({"provenance": told.provenance} if told else {})}


def undescribed(values: Mapping[str, Any], size: tuple[int, int] | None, count: int | None, background: str) -> Record:
    """The record of a mapping with names of this project or of others. Raises ValueError, as ``regions.record_of``."""
    found = record_of({NAMES.get(name, name): value for name, value in values.items()}, size, background)
    return found if count is None else Record(found.features, found.boxes, found.size, max(count, 0), found.extra)
