"""HDF5's format by hand: its checksum against the vectors of its inventor, its structures against h5py."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from featx.store import hdf5_pages as pages

# What driver5() of lookup3.c (Bob Jenkins, May 2006, public domain) prints for hashlittle with the initial value 0.
VECTORS = {b"": 0xDEADBEEF, b"Four score and seven years ago": 0x17770551}
COUNTS = [1, 3, 31, 32, 33, 63, 64, 65, 128, 129, 1023, 1024, 1025, 5000]
DTYPES = ["<f2", "<f4", "<u2", "<i4", "<i8", "u1", "<u4", "<u8"]


def test_lookup3_gives_what_its_inventor_says() -> None:
    for data, expected in VECTORS.items():
        assert pages.lookup3(data) == expected
        if data:
            assert pages.lookup3_rows(np.frombuffer(data * 3, np.uint8).reshape(3, -1)).tolist() == [expected] * 3


def test_lookup3_gives_what_hdf5_itself_wrote(tmp_path: Path) -> None:
    """Every superblock and object header of a file by h5py ends with it."""
    with h5py.File(tmp_path / "x.h5", "w", libver="v110") as file:
        for length in range(1, 40):
            file.create_dataset(f"{length:0{length}}", data=np.zeros(length)).attrs["n" * length] = length
    data = (tmp_path / "x.h5").read_bytes()
    assert pages.lookup3(data[:44]) == struct.unpack_from("<I", data, 44)[0]
    checked = 0
    for place in range(0, len(data) - 4):
        if data[place : place + 5] == b"OHDR\2":
            flags = data[place + 5]
            head = 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
            width = 1 << (flags & 3)
            end = place + head + width + int.from_bytes(data[place + head : place + head + width], "little")
            assert pages.lookup3(data[place:end]) == struct.unpack_from("<I", data, end)[0]
            checked += 1
    assert checked == 40


@pytest.mark.parametrize("size", [1, 2, 11, 12, 13, 23, 24, 25, 511, 512])
def test_many_rows_side_by_side_have_the_checksum_of_each(size: int) -> None:
    rows = np.frombuffer(random.Random(size).randbytes(7 * size), np.uint8).reshape(7, size)
    assert pages.lookup3_rows(rows).tolist() == [pages.lookup3(row.tobytes()) for row in rows]
    assert len(pages.lookup3_rows(rows[:0])) == 0


class Built:
    """A file in memory, with rubbish between whatever is put into it."""

    def __init__(self, seed: int) -> None:
        self.data = bytearray(4096)
        self.rng = random.Random(seed)

    def put(self, data: bytes, align: int = 8) -> int:
        self.data += self.rng.randbytes(self.rng.randrange(40))
        self.data += bytes(-len(self.data) % align) + data
        return len(self.data) - len(data)

    def save(self, path: Path, root: bytes) -> Path:
        place = self.put(root)
        block = pages.superblock(len(self.data), place)
        self.data[: len(block)] = block
        path.write_bytes(self.data)
        return path


def scattered(count: int, path: Path) -> tuple[Path, dict[str, Any]]:
    """A file of two chunked datasets whose chunks lie anywhere, in no order."""
    built, draw = Built(count), np.random.default_rng(count)
    arrays = {
        "features": draw.standard_normal((count, 5, 3)).astype("<f2"),
        "seen": draw.integers(-(2**62), 2**62, count),
    }
    places = np.zeros((2, count), np.uint64)
    for row in draw.permutation(count).tolist():
        for number, array in enumerate(arrays.values()):
            places[number, row] = built.put(array[row].tobytes(), 1)
    at = built.put(b"")
    indices = []
    for made in pages.fixed_arrays(places, at):
        indices.append(len(built.data))
        built.data += made
    members = []
    for (name, array), index in zip(arrays.items(), indices, strict=True):
        layout = pages.chunked((1, *array.shape[1:]), array.itemsize, index)
        members.append((name, built.put(pages.dataset(array.shape, pages.number(array.dtype), layout))))
    return built.save(path, pages.group(members, [])), {**arrays, "places": places}


@pytest.mark.parametrize("count", COUNTS)
def test_h5py_finds_every_chunk_wherever_it_lies(tmp_path: Path, count: int) -> None:
    path, right = scattered(count, tmp_path / "x.h5")
    with h5py.File(path) as file:
        for number, name in enumerate(("features", "seen")):
            dataset = file[name]
            assert (dataset.dtype, dataset.shape) == (right[name].dtype, right[name].shape)
            assert dataset.chunks == (1, *right[name].shape[1:])
            assert (dataset[:] == right[name]).all()
            assert all((dataset[row] == right[name][row]).all() for row in {0, count // 2, count - 1})
            found = np.zeros(count, np.uint64)
            dataset.id.chunk_iter(lambda chunk, f=found: f.__setitem__(chunk.chunk_offset[0], chunk.byte_offset))
            assert (found == right["places"][number]).all()


@pytest.mark.parametrize("count", [1, 64, 65, 1025])
def test_a_flipped_bit_of_an_index_is_found_by_hdf5(tmp_path: Path, count: int) -> None:
    path, _ = scattered(count, tmp_path / "x.h5")
    data = path.read_bytes()
    first = data.index(b"FAHD")
    end = data.index(b"FAHD", first + 1) - 8  # of what is aligned to 8 bytes
    block = range(first + 32, end)
    for place in [*range(first, first + 28, 3), *random.Random(count).sample(block, min(30, len(block)))]:
        damaged = bytearray(data)
        damaged[place] ^= 16
        path.write_bytes(damaged)
        with pytest.raises((OSError, RuntimeError, KeyError)), h5py.File(path) as file:
            file["features"][:]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_is_of_the_dtype_that_h5py_sees(tmp_path: Path, dtype: str) -> None:
    built, values = Built(1), np.arange(12).astype(dtype).reshape(4, 3)
    place = built.put(values.tobytes())
    head = pages.dataset(values.shape, pages.number(values.dtype), pages.contiguous(place, values.nbytes))
    path = built.save(tmp_path / "x.h5", pages.group([("x", built.put(head))], []))
    with h5py.File(path) as file:
        assert file["x"].dtype == np.dtype(dtype)
        assert (file["x"][()] == values).all()
        kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
        assert file["x"].id.get_type().equal(kind)


def test_texts_attributes_and_names_are_utf_8(tmp_path: Path) -> None:
    built, texts = Built(2), ["", "plain", "größer 日本 " * 1000]
    place = built.put(pages.heap([text.encode() for text in texts]))
    named = dict(zip(("empty", "plain", "größer"), texts, strict=True))
    attributes = [pages.attribute_info(), pages.attribute("n", pages.number(np.dtype("<i8")), struct.pack("<q", -7))]
    for number, (name, text) in enumerate(named.items(), 1):
        reference = pages.heap_reference(place, number, len(text.encode()))
        attributes.append(pages.attribute(name, pages.free_text(), reference))
    keys = np.array([text.encode() for text in ("a", "né", "日本語")])
    where = pages.contiguous(built.put(keys.tobytes()), keys.nbytes)
    head = built.put(pages.dataset(keys.shape, pages.text(keys.itemsize), where, attributes))
    none = built.put(
        pages.dataset((3, 0), pages.number(np.dtype("<f4")), pages.contiguous(pages.UNDEFINED, 0), early=False)
    )
    path = built.save(tmp_path / "x.h5", pages.group([("größe", head), ("x" * 300, none)], attributes))
    with h5py.File(path) as file:
        assert set(file) == {"größe", "x" * 300}
        for owner in (file, file["größe"]):
            assert dict(owner.attrs) == {**named, "n": -7}
        assert file["größe"].asstr()[:].tolist() == ["a", "né", "日本語"]
        assert file["größe"].dtype == h5py.string_dtype("utf-8", keys.itemsize)
        assert file["x" * 300][()].shape == (3, 0)


def test_hdf5_may_go_on_with_the_file(tmp_path: Path) -> None:
    path, right = scattered(200, tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        file["features"][7] = 1
        file["more"] = np.arange(1000)
        file.attrs["who"] = "another"
        for number in range(50):
            file[f"group {number}/x"] = number
        del file["seen"]
    with h5py.File(path) as file:
        right["features"][7] = 1
        assert (file["features"][:] == right["features"]).all()
        assert (file["more"][:] == np.arange(1000)).all()
        assert sorted(file) == sorted(["features", "more", *(f"group {number}" for number in range(50))])
        assert file.attrs["who"] == "another"
