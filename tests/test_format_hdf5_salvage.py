"""Foreign HDF5 files that were cut, killed or damaged: what lies within them whole is read, all else is told.

The files are h5py's. Which pictures are there whole is told by h5py too: by the places of their bytes in the file
before it was cut, and by what the library still finds, by name, in that file with zeros for what is lost.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.errors import FeatxError, UsageError
from featx.formats import get
from featx.formats.base import Format, Item
from featx.formats.hdf5.raw import lookup3
from featx.formats.importer import import_items
from featx.formats.options import Options
from featx.schema import Array
from featx.store import open_store

FIXED, ADAPTIVE, VOLTA = map(get, ("vqa-hdf5-fixed", "vqa-hdf5-adaptive", "volta-hdf5"))
HEIGHT, WIDTH, DIM = 480, 640, 8
ARRAYS = ("image_features", "image_bb", "spatial_features")
Extents = dict[str, list[tuple[int, int]]]  # of a key: where its bytes lie


def rows_of(key: int, adaptive: bool = True) -> int:
    return 1 + key % 3 if adaptive else 3


def features_of(key: int, rows: int) -> Array:
    return np.arange(1, rows * DIM + 1, dtype="f4").reshape(rows, DIM) + np.float32(1000 * key)


def boxes_of(key: int, rows: int) -> Array:
    low = np.arange(rows, dtype="f4")[:, None] + np.float32([key + 1, key + 2])
    return np.concatenate([low, low + np.float32([300, 200])], 1)


def spatial_of(boxes: Array) -> Array:
    corner, side = (
        boxes[:, :2] / np.float32([WIDTH, HEIGHT]),
        (boxes[:, 2:] - boxes[:, :2]) / np.float32([WIDTH, HEIGHT]),
    )
    return np.concatenate([corner, corner + side, side], 1)


def values_of(key: int, rows: int) -> tuple[Array, Array, Array]:
    return features_of(key, rows), boxes_of(key, rows), spatial_of(boxes_of(key, rows))


def write_fixed(path: Path, count: int = 12, chunks: bool = False, **how: Any) -> Path:
    with h5py.File(path, "w", libver=how.pop("libver", None)) as file:
        shapes = [(count, 3, columns) for columns in (DIM, 4, 6)]
        kept = [{"chunks": (2, 2, shape[2]), **how} if chunks else how for shape in shapes]
        made = [file.create_dataset(n, s, "f", **k) for n, s, k in zip(ARRAYS, shapes, kept, strict=True)]
        for key in range(count):
            for array, values in zip(made, values_of(key, 3), strict=True):
                array[key] = values
    path.with_name(f"{path.stem}_imgid2idx.json").write_text(json.dumps({str(key): key for key in range(count)}))
    return path


def write_adaptive(path: Path, count: int = 12, **how: Any) -> Path:
    ends = np.cumsum([0, *(rows_of(key) for key in range(count))])
    with h5py.File(path, "w", **how) as file:
        made = [file.create_dataset(n, (ends[-1], c), "f") for n, c in zip(ARRAYS, (DIM, 4, 6), strict=True)]
        pos = file.create_dataset("pos_boxes", (count, 2), dtype="int32")
        for key in range(count):
            pos[key] = ends[key : key + 2]
            for array, values in zip(made, values_of(key, rows_of(key)), strict=True):
                array[ends[key] : ends[key + 1]] = values
    path.with_name(f"{path.stem}_imgid2idx.json").write_text(json.dumps({str(key): key for key in range(count)}))
    return path


def put(group: Any, key: int) -> None:
    rows = rows_of(key)
    group["features"], group["boxes"] = features_of(key, rows), boxes_of(key, rows)
    group["obj_id"], group["obj_conf"] = np.arange(rows), np.full(rows, 0.5, "f4")
    group["img_h"], group["img_w"] = HEIGHT, WIDTH


def write_volta(path: Path, count: int = 40, **how: Any) -> Path:
    with h5py.File(path, "w", **how) as file:
        for key in range(count):
            put(file.create_group(str(key)), key)
    return path


def extents(form: Format, path: Path) -> Extents:
    """Where the bytes of each picture lie, by h5py."""
    with h5py.File(path) as file:
        if form is VOLTA:
            arrays = {key: [file[key][name] for name in file[key]] for key in file}
            return {
                key: [(a.id.get_offset(), a.id.get_offset() + a.id.get_storage_size()) for a in some]
                for key, some in arrays.items()
            }
        count = len(file["pos_boxes" if form is ADAPTIVE else ARRAYS[0]])
        found: Extents = {}
        for key in range(count):
            first, last = (key, key + 1) if form is FIXED else file["pos_boxes"][key].tolist()
            named = [(name, first, last) for name in ARRAYS] + (
                [("pos_boxes", key, key + 1)] if form is ADAPTIVE else []
            )
            found[str(key)] = [extent for name, a, b in named for extent in _rows(file[name], a, b)]
        return found


def _rows(array: Any, first: int, last: int) -> list[tuple[int, int]]:
    if array.chunks is None:
        step = array.dtype.itemsize * int(np.prod(array.shape[1:]))
        return [(array.id.get_offset() + first * step, array.id.get_offset() + last * step)]
    chunks = [array.id.get_chunk_info(n) for n in range(array.id.get_num_chunks())]
    near = [c for c in chunks if c.chunk_offset[0] < last and c.chunk_offset[0] + array.chunks[0] > first]
    return [(c.byte_offset, c.byte_offset + c.size) for c in near]


def within(places: Extents, length: int) -> set[str]:
    """The pictures whose bytes the file still has."""
    return {key for key, some in places.items() if all(end <= length for _, end in some)}


def by_the_library(form: Format, whole: bytes, length: int) -> set[str]:
    """The pictures whose arrays the library still finds by name when zeros stand for what was lost."""
    found = set()
    try:
        with h5py.File(io.BytesIO(whole[:length] + bytes(len(whole) - length))) as file:
            if form is not VOLTA:
                shapes = [file[name].shape for name in (*ARRAYS, *(["pos_boxes"] if form is ADAPTIVE else []))]
                return {str(key) for key in range(shapes[-1][0])}
            for key in range(100):
                try:
                    arrays = [file[str(key)][name].shape for name in ("features", "boxes", "obj_id", "obj_conf")]
                    arrays += [file[str(key)][name].shape for name in ("img_h", "img_w")]
                    found.add(str(key))
                except (KeyError, OSError, RuntimeError, ValueError):
                    continue
    except (KeyError, OSError, RuntimeError, ValueError):
        pass
    return found


def read(form: Format, path: Path) -> list[Item]:
    """All items; none of them twice, each with a record of true values or with a problem that names a byte."""
    items = list(form.read(path, Options()))
    assert [item.number for item in items] == list(range(len(items)))
    for item in items:
        assert (item.record is None) == bool(item.problem)
        if item.record is not None:
            rows = rows_of(int(item.key), form is not FIXED)
            assert item.record.size == (HEIGHT, WIDTH)
            assert np.array_equal(item.record.features, features_of(int(item.key), rows))
            assert np.array_equal(item.record.boxes, boxes_of(int(item.key), rows))
    return items


def read_or_refused(form: Format, path: Path) -> list[Item]:
    """The same; nothing of a file of which a UsageError says that nothing in it can be located."""
    try:
        return read(form, path)
    except UsageError as error:
        if not re.search("byte", error.message) or "copy" not in error.hint:
            raise
        return []


def kept(items: list[Item]) -> set[str]:
    return {item.key for item in items if item.record is not None}


MAKERS: dict[str, tuple[Format, Callable[[Path], Path]]] = {
    "fixed": (FIXED, write_fixed),
    "fixed, latest": (FIXED, lambda path: write_fixed(path, libver="latest")),
    "fixed, chunks": (FIXED, lambda path: write_fixed(path, chunks=True)),
    "adaptive": (ADAPTIVE, write_adaptive),
    "adaptive, latest": (ADAPTIVE, lambda path: write_adaptive(path, libver="latest")),
    "volta": (VOLTA, write_volta),
    "volta, latest": (VOLTA, lambda path: write_volta(path, libver="latest")),
    "volta, v110": (VOLTA, lambda path: write_volta(path, libver="v110")),
    "volta, few, latest": (VOLTA, lambda path: write_volta(path, 5, libver="latest")),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_of_a_file_cut_anywhere_the_pictures_that_are_there_whole_are_read(tmp_path: Path, kind: str) -> None:
    form, make = MAKERS[kind]
    path = make(tmp_path / "x.hdf5")
    whole, places, most = path.read_bytes(), extents(form, path), 0
    ends = {end for some in places.values() for _, end in some}
    rng = np.random.default_rng(1)
    cuts = {*rng.choice(sorted(ends), 20).tolist(), *(rng.choice(sorted(ends), 20) - 1).tolist()}
    for length in sorted(cuts | set(rng.integers(0, len(whole), 40).tolist()) | {len(whole) - 1}):
        path.write_bytes(whole[:length])
        there, found = within(places, length), by_the_library(form, whole, length)
        items = read_or_refused(form, path)
        assert there & found <= kept(items) <= there, length
        assert not [item.problem for item in items if item.record is None and not re.search("byte|place", item.problem)]
        most = max(most, len(kept(items)))
        if form is not VOLTA and items:
            assert len(items) == len(places)
    assert most >= len(places) // 2


def test_pictures_of_a_large_group_are_found_though_the_nodes_above_them_are_cut_off(tmp_path: Path) -> None:
    """The tree of the names gets a new level late, and what was at its top a new place."""
    path = write_volta(tmp_path / "x.h5", 400)
    whole, places = path.read_bytes(), extents(VOLTA, path)
    length = len(whole) * 95 // 100
    path.write_bytes(whole[:length])
    there = within(places, length)
    found = kept(read(VOLTA, path))
    assert found <= there
    assert len(found) >= 0.9 * len(there)
    assert len(by_the_library(VOLTA, whole, length)) < 60  # of the first 100


def overwritten(path: Path, *signatures: bytes) -> None:
    """Put something else in the place of every occurrence of some signatures."""
    content = path.read_bytes()
    for signature in signatures:
        assert signature in content
        content = content.replace(signature, b"lost")
    path.write_bytes(content)


def test_pictures_are_found_though_the_tree_of_their_names_is_lost(tmp_path: Path) -> None:
    path = write_volta(tmp_path / "x.h5")
    content = bytearray(path.read_bytes())
    content[content.index(b"TREE") :][:4] = b"lost"
    at = content.index(b"TREE")
    content[at : at + 4] = b"lost"
    path.write_bytes(content)
    with h5py.File(path) as file, pytest.raises((RuntimeError, KeyError)):
        list(file)
    items = read(VOLTA, path)
    assert VOLTA.detect(path)
    assert kept(items) == {str(key) for key in range(40)}
    assert [item.place for item in items if item.problem] == [f"byte {at}"]
    assert f"byte {at}" in items[-1].problem


def test_no_picture_takes_the_name_of_one_of_another_group(tmp_path: Path) -> None:
    """Two groups whose names lie at the same places: a list of names that no tree leads to may be of either."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for key in range(60):
            put(file.create_group(f"{'ab'[key % 2]}/{key + 10}"), key + 10)
    content = path.read_bytes()
    trees = [match.start() for match in re.finditer(b"TREE", content)]
    for at in [*trees[:4], *trees[4::9]]:
        path.write_bytes(content[:at] + b"lost" + content[at + 4 :])
        items = []
        with contextlib.suppress(UsageError):  # of the tree of the root
            items = list(VOLTA.read(path, Options()))
        for item in items:
            if item.record is not None:
                group, _, key = item.key.partition("/")
                assert group == "ab"[int(key) % 2]
                assert np.array_equal(item.record.features, features_of(int(key), rows_of(int(key))))
        assert len(items) >= 30 or at == trees[0]


@pytest.mark.parametrize("lost", [b"BTHD", b"BTLF", b"FHIB"])
def test_names_in_a_newer_group_are_found_without_its_index(tmp_path: Path, lost: bytes) -> None:
    path = write_volta(tmp_path / "x.h5", 200, libver="latest")
    overwritten(path, lost)
    assert kept(read(VOLTA, path)) == {str(key) for key in range(200)}


@pytest.mark.parametrize("kind", [kind for kind, (form, _) in MAKERS.items() if form is not VOLTA])
def test_without_a_superblock_the_root_group_is_where_h5py_puts_it(tmp_path: Path, kind: str) -> None:
    form, make = MAKERS[kind]
    path = make(tmp_path / "x.hdf5")
    content = bytearray(path.read_bytes())
    size = 96 if content[8] == 0 else 48
    content[9:size] = b"\xa5" * (size - 9)
    content[9:15] = bytes([8, 8, 0, 0, 8, 8])
    path.write_bytes(content)
    with pytest.raises(OSError, match="nable"):
        h5py.File(path)
    assert kept(read(form, path)) == {str(key) for key in range(12)}


KILLED = """
import os, signal, sys
from pathlib import Path
import h5py
from tests.test_format_hdf5_salvage import put
with h5py.File(sys.argv[1], "w", libver=sys.argv[2]) as file:
    for key in range(90):
        put(file.create_group(str(key)), key)
        if key % int(sys.argv[3]) == 29:
            file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_of_a_writer_that_was_killed_all_is_read_that_it_had_flushed(tmp_path: Path, libver: str) -> None:
    root = Path(__file__).resolve().parent.parent
    for every, expected in ((40, 70), (1000, 30)):
        path = tmp_path / f"{every}.h5"
        subprocess.run([sys.executable, "-c", KILLED, str(path), libver, str(every)], cwd=root, check=False)
        assert {str(key) for key in range(expected)} <= kept(read(VOLTA, path))
    if libver == "latest":
        with pytest.raises(OSError, match="h5clear"):
            h5py.File(path)


def test_of_a_writer_that_was_killed_before_it_flushed_the_error_says_that_nothing_can_be_located(
    tmp_path: Path,
) -> None:
    root = Path(__file__).resolve().parent.parent
    for libver in ("earliest", "latest"):
        path = tmp_path / f"{libver}.h5"
        words = [sys.executable, "-c", KILLED.replace("== 29", "< 0"), str(path), libver, "99"]
        subprocess.run(words, cwd=root, check=False)
        assert path.stat().st_size > 10_000
        with pytest.raises(UsageError, match="byte") as caught:
            read(VOLTA, path)
        assert "run again what was killed" in caught.value.hint


def test_compressed_chunks_of_a_cut_file_are_left_to_the_library_and_told_when_it_does_not_open(tmp_path: Path) -> None:
    path = write_fixed(tmp_path / "x.hdf5", chunks=True, compression="gzip")
    whole, places = path.read_bytes(), extents(FIXED, path)
    length = sorted(end for some in places.values() for _, end in some)[-3] - 1
    path.write_bytes(whole[:length])
    found = kept(read(FIXED, path))
    assert found
    assert found <= within(places, length)
    path.write_bytes(whole[:9] + b"\7" + whole[10:])  # a version of the free-space index that does not exist
    with pytest.raises(OSError, match="nable"):
        h5py.File(path)
    with pytest.raises(UsageError, match="compressed, which only the HDF5 library reads"):
        read(FIXED, path)


def test_what_a_killed_writer_left_compressed_is_read_by_the_library_as_if_the_file_had_been_closed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.hdf5"
    write_fixed(path, chunks=True, compression="gzip", libver="latest")
    content = bytearray(path.read_bytes())
    content[11] = 1  # "this file is opened for write access": Specification II.A, version 3
    content[44:48] = lookup3(bytes(content[:44])).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(OSError, match="h5clear"):
        h5py.File(path)
    assert kept(read(FIXED, path)) == {str(key) for key in range(12)}
    assert path.read_bytes() == content


def test_a_group_whose_numbers_were_never_written_is_told_and_one_without_regions_is_kept(tmp_path: Path) -> None:
    path = write_volta(tmp_path / "x.h5", 2)
    with h5py.File(path, "r+") as file:
        file["0/features"][...] = 0
        file["0/boxes"][...] = 0
        put(file.create_group("empty"), 0)
        for name, array in {"features": np.zeros((0, DIM), "f4"), "boxes": np.zeros((0, 4), "f4")}.items():
            del file["empty"][name]
            file["empty"][name] = array
        del file["empty"]["obj_id"], file["empty"]["obj_conf"]
    for cut in (0, 1):
        path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
        items = {item.key: item for item in VOLTA.read(path, Options())}
        assert "zeros" in items["0"].problem
        assert items["1"].record is not None
        assert items["empty"].record is not None
        assert len(items["empty"].record) == 0


def test_groups_that_hold_themselves_are_gone_through_once(tmp_path: Path) -> None:
    path = write_volta(tmp_path / "x.h5", 5)
    with h5py.File(path, "r+") as file:
        group = file.create_group("z")
        for n in range(4):
            group[f"again{n}"] = group
        group["root"] = file["/"]
        put(group.create_group("7"), 7)
    for cut in (0, 1):
        path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
        items = list(VOLTA.read(path, Options(key="{}")))
        assert len(items) < 40
        assert {"0", "4", "z/7"} <= kept(items)


def test_a_cut_file_becomes_a_store_of_what_is_whole_and_a_ledger_of_the_rest(tmp_path: Path) -> None:
    path = write_fixed(tmp_path / "x.hdf5")
    whole, places = path.read_bytes(), extents(FIXED, path)
    length = places["8"][-1][1]
    path.write_bytes(whole[:length])
    totals = import_items(FIXED, path, tmp_path / "store")
    assert (totals.records, totals.refused) == (9, 3)
    assert sorted(open_store(tmp_path / "store").keys(), key=int) == [str(key) for key in range(9)]
    ledger = "\n".join(each.read_text() for each in (tmp_path / "store").rglob("*.jsonl"))
    first, last = places["9"][-1]
    assert f"would lie at bytes {first} to {last}, behind the end of the file at byte {length}" in ledger


@pytest.mark.parametrize("kind", MAKERS)
def test_a_healthy_file_is_read_by_the_library_alone(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, make = MAKERS[kind]
    path = make(tmp_path / "x.hdf5")
    monkeypatch.setattr("featx.formats.hdf5.file.Saved", None)
    assert all(item.record is not None for item in read(form, path))


@pytest.mark.parametrize("content", [b"\x80\x02}q\x00(K\x05", b"(dp1\nI900\nI0", b"\x80\x02}q\x00K\x05K\x00s", b""])
def test_a_pickle_of_ids_that_was_cut_is_an_error_that_names_the_byte(tmp_path: Path, content: bytes) -> None:
    path = write_fixed(tmp_path / "x.hdf5")
    (tmp_path / "x_imgid2idx.json").unlink()
    (tmp_path / "x_imgid2idx.pkl").write_bytes(content)
    with pytest.raises(UsageError, match=r"x_imgid2idx\.pkl cannot be read: .*byte \d+"):
        list(FIXED.read(path, Options(allow_pickle=True)))


def test_the_checksum_is_the_published_one() -> None:
    """The values that driver5() of Jenkins' lookup3.c prints."""
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Format, Path, bytes, list[int]]]:
    """Of every kind: a file, its content, and the places that are none of its data."""
    found = {}
    for n, (kind, (form, make)) in enumerate(MAKERS.items()):
        path = make(tmp_path_factory.mktemp(str(n)) / "x.hdf5")
        data = {at for some in extents(form, path).values() for low, high in some for at in range(low, high)}
        content = path.read_bytes()
        found[kind] = form, path, content, [at for at in range(len(content)) if at not in data]
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(sorted(MAKERS)),
    cut=st.floats(0, 1) | st.just(1.0),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    opens=st.booleans(),
)
def test_whatever_is_cut_off_or_changed_there_are_true_records_problems_or_an_error(
    files: Any, kind: str, cut: float, flips: list[tuple[float, int]], opens: bool
) -> None:
    """Without the library, whose crash would end the test, where structures change. Of the older files these have no
    checksum, so wrong values are possible then; of the newer ones they are not.
    """
    form, path, whole, places = files[kind]
    content = bytearray(whole)
    for where, value in flips:
        content[places[int(where * (len(places) - 1))]] = value
    path.write_bytes(content[: int(len(content) * cut)])
    sound = not flips or (cut == 1 and "latest" in kind)
    with mock.patch("h5py.File", h5py.File if opens and not flips else mock.Mock(side_effect=OSError("refused"))):
        form.detect(path)
        with contextlib.suppress(FeatxError):
            items = (read if sound else lambda form, path: list(form.read(path, Options())))(form, path)
            assert all((item.record is None) == bool(item.problem) for item in items)
