"""Folders of one file per picture for tests: npy and npz put together by hand, damage, and what all formats show."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from featx.errors import FeatxError, UsageError
from featx.formats import Format, Item, Options, Records
from featx.formats.importer import import_items
from featx.record import Record
from featx.schema import Array
from featx.store import StoreReader, open_store, verify
from tests.foreign import import_tsv

SIZE = (90, 120)  # of every picture that these tests make: height, width
NAMES = ("a", "b", "c", *map(str, range(60)))

Damage = tuple[float | None, list[tuple[float, int]]]  # where a file is cut, and what is added to which of its bytes
DAMAGES: st.SearchStrategy[Damage] = st.tuples(
    st.none() | st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=6)
)


def npy(descr: str, shape: tuple[int, ...], raw: bytes, order: str = "False") -> bytes:
    """An npy file of version 1.0 after numpy's NEP 1: magic, version, length and text of the header, values."""
    text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape!r}, }}".encode()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + b"\x01\x00" + struct.pack("<H", len(text)) + text + raw


def of(array: Array) -> bytes:
    """The npy file of an array of numbers."""
    return npy(array.dtype.str, array.shape, array.tobytes())


def npz(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of npy files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


def corners(rng: np.random.Generator, rows: int) -> Array:
    """Boxes [rows, 4] as parts of the sides of a picture."""
    return np.sort(rng.random((rows, 2, 2)), axis=1).reshape(rows, 4)


def pixels(rng: np.random.Generator, rows: int) -> Array:
    """Boxes [rows, 4] in a picture of ``SIZE``, float32."""
    height, width = SIZE
    return (corners(rng, rows) * [width, height, width, height]).astype("<f4")


def told_sizes(folder: Path) -> str:
    """A file for --sizes with every picture of ``NAMES``."""
    path = folder / "sizes.csv"
    path.write_text("".join(f"{name},90,120\n" for name in NAMES))
    return str(path)


def folder_of(path: Path, files: Mapping[str, bytes]) -> Path:
    """A folder of files, by their names within it."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def read(form: Format, path: Path, options: Options | None = None, start: int = 0) -> list[Item]:
    """All items of a source."""
    return list(form.read(path, options or Options(), start))


def problems(form: Format, path: Path, options: Options | None = None) -> dict[str, str]:
    """What is wrong with each picture, by its place."""
    return {item.place: item.problem for item in read(form, path, options)}


def damaged(data: bytes, damage: Damage) -> bytes:
    """``data`` with some bytes changed, and cut."""
    cut, changes = damage
    made = bytearray(data)
    for place, change in changes:
        made[min(int(place * len(made)), len(made) - 1)] ^= change
    return bytes(made if cut is None else made[: int(cut * len(made))])


def survives(form: Format, path: Path, place: Path, damage: Damage, options: Options) -> None:
    """A damaged file leads to a problem or is read; the pictures beside it are read in any case."""
    whole = place.read_bytes()
    try:
        place.write_bytes(damaged(whole, damage))
        form.detect(path)
        with suppress(FeatxError):
            form.survey(path, options)
        items = read(form, path, options)
    finally:
        place.write_bytes(whole)
    assert all((item.record is None) == bool(item.problem) for item in items)
    assert [item.number for item in items] == list(range(len(items)))
    assert sum(item.record is None for item in items) <= 1


def all_read(form: Format, path: Path, options: Options, *names: str) -> list[Record]:
    """The records of a folder, all of them good, known by the ``names`` of their files, and read from any one on."""
    assert form.detect(path)
    assert form.survey(path, options).total == len(names)
    items = read(form, path, options)
    expected = [(name.rpartition(".")[0], f"file {name}", "") for name in names]
    assert [(item.key, item.place, item.problem) for item in items] == expected
    for start in range(len(names)):
        assert [item.number for item in read(form, path, options, start)] == list(range(start, len(names)))
    return [item.record for item in items if item.record is not None]


def second_is_told(form: Format, path: Path, options: Options, keys: str, said: str) -> None:
    """Of three pictures the second is bad: what is wrong with it is told, and the others are read."""
    items = read(form, path, options)
    assert [(item.key, item.record is None) for item in items] == list(zip(keys, (False, True, False), strict=True))
    assert said in items[1].problem


def sizes_are_needed(form: Format, path: Path, told: Options, unknown: str) -> None:
    """Without sizes none of two pictures is read; with sizes the first, but not the second, which is ``unknown``."""
    with pytest.raises(UsageError, match="--sizes"):
        read(form, path)
    good, bad = read(form, path, told)
    assert good.record is not None
    assert repr(unknown) in bad.problem


def golden_through(
    form: Format, shared: Path, folder: Path, options: Options | None = None
) -> tuple[Path, StoreReader, StoreReader]:
    """TSV -> store -> format -> store: the folder, the first store and the second, whose records are all there."""
    import_tsv(shared / "golden" / "train2014_obj36.tsv", folder / "first")
    first, out = open_store(folder / "first"), folder / "out"
    assert form.write(Records(first, options), out, options or Options()) == 10
    assert form.detect(out)
    sizes = folder / "sizes.json"
    names = {key: str(Records(first, options).number(key)) if options else key for key in first.keys("source")}
    sizes.write_text(json.dumps({names[key]: first[key].size for key in names}))
    again = Options(
        sizes=str(sizes) if "sizes" in form.takes else "", allow_pickle="allow_pickle" in form.takes, dtype="float32"
    )
    totals = import_items(form, out, folder / "second", again)
    assert (totals.records, totals.refused) == (10, 0)
    assert verify(folder / "second").ok
    return out, first, open_store(folder / "second")
