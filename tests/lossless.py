"""What every format that loses nothing is held to: all dtypes and shapes of the schema, odd keys, damage."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from featx.errors import FeatxError
from featx.formats import Item, Options, Records
from featx.formats.base import Format
from featx.formats.importer import import_items
from featx.record import Record
from featx.schema import Array, Field, Schema
from featx.store import create_store, open_part, open_store, verify
from tests.foreign import export_tsv, import_tsv

KEYS = ["a", "a/b.jpg", "né 100%", "../..", "x.y.z/", 'quo"te', "%2E", "._-"]
LABELS = {"objects": ["cat", "né"] * 50, "attributes": ["red"] * 99}
PROVENANCE = {"profile": {"name": "toy", "version": 3}}
_BOXES = Field("boxes", "float32", (4,))
SCHEMAS = {
    "float32": Schema((Field("features", "float32", (8,)), _BOXES, Field("object_ids", "int32")), "given", "regressed"),
    "float16, fixed rows": Schema(
        (Field("features", "float16", (6,)), _BOXES, Field("regressed_boxes", "float32", (4,))), rows=5
    ),
    "bfloat16": Schema((Field("features", "bfloat16", (3,)), _BOXES, Field("x", "bfloat16", (2, 3))), "grid", "grid"),
    "int8": Schema((Field("features", "int8", (8,)), _BOXES, Field("soft", "int8", (5,)), Field("half", "float16"))),
    "whole numbers": Schema(
        (Field("features", "float32", (2,)), _BOXES, Field("a", "int64"), Field("b", "uint8", (3,)))
    ),
    "per picture": Schema(
        (
            Field("features", "float16", (4,)), _BOXES, Field("pooled", "float32", (5,), "picture"),
            Field("seed", "int64", (), "picture"), Field("grid", "uint8", (2, 3), "picture"),
            Field("wide", "bfloat16", (2, 2, 2), "picture"),
        )
    ),
}  # fmt: skip


def values(rng: np.random.Generator, field: Field, rows: int, count: int) -> Array:
    """Any values of the dtype of a field, its extremes among them; padding is zeros."""
    shape = field.shape_for(rows)
    if field.memory_dtype.kind == "f":
        array = rng.normal(size=shape).astype(field.memory_dtype)
        if field.dtype == "bfloat16":
            array = (array.view("<u4") & 0xFFFF0000).view("<f4")
    else:
        ends = np.iinfo(field.memory_dtype)
        array = rng.integers(ends.min, ends.max, shape, field.memory_dtype, endpoint=True)
    if field.name.endswith("_ids"):
        array = np.abs(array % 99)
    if field.per == "region":
        array[count:] = 0
    return array


def picture(schema: Schema, seed: int) -> Record:
    """Record number ``seed``: every third is padded, number 4 has no regions at all."""
    rng = np.random.default_rng(seed)
    rows = schema.rows or (0 if seed == 4 else int(rng.integers(1, 6)))
    count = max(rows - 2, 0) if seed % 3 == 2 else rows
    height, width = 100 + seed, 200
    arrays = {field.name: values(rng, field, rows, count) for field in schema.fields}
    for name in arrays:
        if name.endswith("boxes"):
            corners = np.sort(rng.random((rows, 2, 2), np.float32), axis=1) * np.float32([width, height])
            arrays[name] = corners.reshape(rows, 4)
            arrays[name][count:] = 0
    return Record(arrays.pop("features"), arrays.pop("boxes"), (height, width), count, arrays)


def make(path: Path, schema: Schema, backend: str = "lmdb") -> Path:
    """A store of eight pictures with keys that a file system, a tar or a dot would not like."""
    create_store(path, backend, schema, PROVENANCE, LABELS)
    with open_part(path) as writer:
        for number, key in enumerate(KEYS):
            writer.put(key, picture(schema, number), number)
        writer.finish()
    return path


def export(form: Format, store: Path, out: Path, options: Options | None = None) -> Path:
    """A store as a foreign file."""
    with open_store(store) as reader:
        assert form.write(Records(reader, options), out, options or Options()) == len(reader)
    return out


def comes_back(form: Format, store: Path, out: Path, again: Path, options: Options | None = None) -> None:
    """Store -> format -> store: the same to the bit, as the digest over all stored bytes says."""
    export(form, store, out, options)
    assert form.detect(out)
    totals = import_items(form, out, again)
    first, second = open_store(store), open_store(again)
    assert second.schema == first.schema
    assert second.labels == first.labels
    assert second.manifest.provenance["source"]["provenance"] == first.manifest.provenance
    assert list(second.keys("source")) == list(first.keys("source"))
    for key in first:
        assert second[key] == first[key], key
    assert first.manifest.totals is not None
    assert (totals.records, totals.refused) == (len(first), 0)
    assert totals.digest == first.manifest.totals.digest
    assert verify(again).ok


def golden_comes_back(form: Format, shared: Path, folder: Path, out: Path) -> None:
    """TSV -> store -> format -> store -> TSV: byte for byte what was published."""
    golden = shared / "golden" / "train2014_obj36.tsv"
    import_tsv(golden, folder / "first")
    export(form, folder / "first", out)
    import_items(form, out, folder / "second")
    export_tsv(open_store(folder / "second"), folder / "out.tsv")
    assert (folder / "out.tsv").read_bytes() == golden.read_bytes()


def read(form: Format, path: Path, options: Options | None = None, start: int = 0) -> list[Item]:
    """All items of a source."""
    return list(form.read(path, options or Options(), start))


def use(form: Format, path: Path) -> list[Item]:
    """Do with a file, perhaps a damaged one, all that an import does. It raises nothing but FeatxError."""
    options, items = Options(), []
    form.detect(path)
    for step in (form.survey, form.schema, form.labels):
        with suppress(FeatxError):
            step(path, options)
    with suppress(FeatxError):
        items = read(form, path)
    assert all((item.record is None) == bool(item.problem) for item in items)
    numbers = [item.number for item in items]
    assert numbers == sorted(set(numbers))
    return items


@st.composite
def damages(draw: Any) -> tuple[float | None, list[tuple[float, int]]]:
    """Where to cut a file (a part of its length, None: nowhere), and which bytes to change into what."""
    cut = draw(st.none() | st.floats(0, 1))
    flips = draw(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4))
    return cut, flips


def damaged(data: bytes, damage: tuple[float | None, list[tuple[float, int]]], front: float = 1) -> bytes:
    """``data`` after a damage; bytes are changed in the first ``front`` of it only."""
    cut, flips = damage
    made = bytearray(data)
    for place, change in flips:
        made[min(int(place * front * len(made)), len(made) - 1)] ^= change
    return bytes(made if cut is None else made[: int(cut * len(made))])
