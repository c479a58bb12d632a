"""What formats that are a folder of one file per picture have in common: names, numbers, identity, bombs, delivery."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.errors import UsageError
from featx.formats import Options, Records, get
from featx.formats.folders.draft import walk
from featx.formats.importer import import_items
from featx.formats.values.npy import dump, dump_object, parse
from featx.formats.values.npz import arrays, names, pack
from featx.record import Record
from featx.schema import Array, region_schema
from featx.store import create_store, open_part, open_store
from tests.picture_files import DAMAGES, Damage, damaged, npy, npz, of, told_sizes
from tests.test_formats_convert import make_store

FORM = get("uniter-npz")
HALVES = np.arange(12, dtype="<f2").reshape(3, 4)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8", "<i8", "|u1", "|b1"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (2, 3, 4)])
def test_an_npy_file_is_read_as_numpy_reads_it(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype)
    for data in (of(array), numpy_saves(array), numpy_saves(np.asfortranarray(array))):
        found, expected = parse(data, "x"), np.load(io.BytesIO(data))
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    assert dump(array) == numpy_saves(array)


def numpy_saves(value: Any, *, pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, value, allow_pickle=pickled)
    return out.getvalue()


def test_the_header_of_python_2_and_of_version_2_is_read() -> None:
    long = npy("<f2", (3, 4), HALVES.tobytes()).replace(b"(3, 4)", b"(3L, 4L)").replace(b"}  ", b"}", 1)
    assert np.array_equal(parse(long, "x"), HALVES)
    first = npy("<f2", (3, 4), HALVES.tobytes())
    second = b"\x93NUMPY\x02\x00" + (int.from_bytes(first[8:10], "little")).to_bytes(4, "little") + first[10:]
    assert np.array_equal(parse(second, "x"), HALVES)


def test_a_dict_in_an_npy_file_is_what_numpy_reads_and_what_numpy_saves_is_read_where_it_may() -> None:
    value = {"objects": HALVES, "num_boxes": 3, "name": "né"}
    back = np.load(io.BytesIO(dump_object(value)), allow_pickle=True).item()
    assert back["num_boxes"] == 3
    assert np.array_equal(back["objects"], HALVES)
    saved = numpy_saves(value, pickled=True)
    assert parse(saved, "info", allow_pickle=True).item()["name"] == "né"
    with pytest.raises(ValueError, match="Object arrays are pickles"):
        parse(saved, "info")


class Trap:
    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


def test_a_pickle_that_runs_something_is_refused() -> None:
    with pytest.raises(UsageError, match="it asks for posix"):
        parse(numpy_saves(np.array(Trap(), object), pickled=True), "info", allow_pickle=True)


LIES = {
    "more values than there are": npy("<f4", (10**6, 10**6), bytes(40)),
    "fewer values than there are": npy("<f4", (2,), bytes(40)),
    "many axes": npy("<f4", (1,) * 9, bytes(4)),
    "text": npy("<U4", (1,), bytes(16)),
    "fields": npy("<f4", (1,), bytes(4)).replace(b"'<f4'", b"[('', '<f4')]"),
    "code": npy("<f4", (1,), bytes(4)).replace(b"(1,)", b"(exit(),)"),
    "a header without end": b"\x93NUMPY\x01\x00\xff\xff" + bytes(100),
    "another file": b"PK\x03\x04" + bytes(100),
    "nothing": b"",
}


@pytest.mark.parametrize("case", LIES)
def test_an_npy_file_that_lies_is_refused(case: str) -> None:
    with pytest.raises(ValueError, match=r"header|needs|axes|no npy file"):
        parse(LIES[case], "x")


def bomb(told: tuple[int, ...], length: int) -> bytes:
    """An archive whose member says that it has the shape ``told``, and swells to so many zeros."""
    return npz({"x": npy("<f4", told, bytes(length)), "y": of(HALVES)})


BOMBS = {
    "an array of a petabyte": bomb((1 << 48,), 400),
    "a gigabyte of nothing, said": bomb((1 << 28,), 40 << 20),
    "more than it says": bomb((4,), 40 << 20),
}


@pytest.mark.parametrize("case", BOMBS)
def test_an_archive_that_swells_is_refused_before_it_does(case: str) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"needs|longer"):
        arrays(io.BytesIO(BOMBS[case]), ["x", "y"])
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert np.array_equal(arrays(io.BytesIO(BOMBS[case]), ["y"])["y"], HALVES), "what is not asked for is not read"


def test_an_archive_that_swells_as_much_as_it_says_is_refused_where_no_picture_is_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("featx.formats.values.npy.LIMIT", 1 << 20)
    with pytest.raises(ValueError, match="longer than 1,048,576 bytes"):
        arrays(io.BytesIO(bomb((1 << 19,), 1 << 21)), ["x"])


def test_a_directory_of_a_million_names_is_refused() -> None:
    with pytest.raises(ValueError, match="directory"):
        names(io.BytesIO(npz({f"{n:0200}": b"" for n in range(6000)})))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_told(method: int) -> None:
    with pytest.raises(ValueError, match="method"):
        arrays(io.BytesIO(npz({"x": of(HALVES)}, method)), ["x"])


def test_what_is_packed_is_read_by_numpy_and_the_same_each_time() -> None:
    data = pack({"x": HALVES, "y": dump(HALVES[:0])})
    assert data == pack({"x": HALVES, "y": HALVES[:0]})
    with np.load(io.BytesIO(data)) as found:
        assert np.array_equal(found["x"], HALVES)
        assert found["y"].shape == (0, 4)


@given(damage=DAMAGES, stored=st.booleans())
def test_no_damage_of_an_archive_is_more_than_a_value_error(damage: Damage, stored: bool) -> None:
    data = npz({"x": of(HALVES), "y": of(HALVES)}, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
    try:
        found = arrays(io.BytesIO(damaged(data, damage)), ["x", "y"])
    except ValueError:
        return
    for array in found.values():  # the zip's own checksum held
        assert np.array_equal(array.ravel(), HALVES.ravel()) or array.dtype != HALVES.dtype


def test_folders_are_walked_as_deep_as_they_are_and_links_in_circles_end(tmp_path: Path) -> None:
    for name in ("a.npy", "b/c.npy", "b/d/e.npy", "f.txt", ".npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "round").symlink_to(tmp_path)
    assert list(walk(tmp_path, ".npy", nested=False)) == ["a.npy"]
    found = set(walk(tmp_path, ".npy", nested=True))
    assert {"a.npy", "b/c.npy", "b/d/e.npy"} <= found
    assert len(found) < 20


def test_what_is_no_file_is_a_problem_and_waits_for_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    os.mkfifo(folder / "a.npz")
    (folder / "b.npz").symlink_to("nowhere")
    with (folder / "c.npz").open("wb") as file:
        file.truncate(1 << 40)
    assert not FORM.detect(folder)
    options = Options(sizes=told_sizes(tmp_path))
    items = list(FORM.read(folder, options))
    assert [item.key for item in items] == ["a", "b", "c"]
    assert ["no file" in item.problem for item in items] == [True, True, False]
    assert "1,099,511,627,776 bytes" in items[2].problem


def test_the_identity_of_a_folder_is_its_content_wherever_it_lies(tmp_path: Path) -> None:
    with open_store(make_store(tmp_path / "s", 3)) as store:
        for name in ("x", "y"):
            FORM.write(Records(store), tmp_path / name, Options())
    first, second = (FORM.survey(tmp_path / name, Options()) for name in ("x", "y"))
    assert first == second
    (tmp_path / "y" / "101.npz").write_bytes((tmp_path / "y" / "102.npz").read_bytes())
    assert FORM.survey(tmp_path / "y", Options()).facts["sha256"] != first.facts["sha256"]
    (tmp_path / "x" / "102.npz").unlink()
    assert FORM.survey(tmp_path / "x", Options()).total == 2


def test_an_import_of_a_changed_folder_is_not_gone_on_with(tmp_path: Path) -> None:
    with open_store(make_store(tmp_path / "s", 3)) as store:
        FORM.write(Records(store), tmp_path / "x", Options())
    sizes = tmp_path / "sizes.csv"
    sizes.write_text("".join(f"{n},64,128\n" for n in range(100, 103)))
    import_items(FORM, tmp_path / "x", tmp_path / "again", Options(sizes=str(sizes)))
    (tmp_path / "x" / "102.npz").unlink()
    with pytest.raises(UsageError, match="sha256"):
        import_items(FORM, tmp_path / "x", tmp_path / "again", Options(sizes=str(sizes)))


def test_a_folder_of_other_things_is_never_replaced_and_one_of_its_own_is(tmp_path: Path) -> None:
    with open_store(make_store(tmp_path / "s", 3)) as store:
        path = tmp_path / "x"
        path.mkdir()
        (path / "mine.txt").write_text("mine")
        with pytest.raises(UsageError, match=r"mine\.txt"):
            FORM.write(Records(store), path, Options())
        (path / "mine.txt").rename(path / "old.npz")
        FORM.write(Records(store), path, Options())
        assert sorted(place.name for place in path.iterdir()) == ["100.npz", "101.npz", "102.npz"]
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="is a file"):
            FORM.write(Records(store), tmp_path / "file", Options())
    assert {place.name for place in tmp_path.iterdir()} == {"s", "x", "file"}


@pytest.mark.parametrize("key", ["a/b", "x" * 252])
def test_a_key_that_is_no_name_of_a_file_is_refused_before_anything_is_written(tmp_path: Path, key: str) -> None:
    create_store(tmp_path / "s", "lmdb", region_schema(4, "float32"), {})
    ids, confs = np.zeros(1, np.int32), np.ones(1, np.float32)
    extra = {"object_ids": ids, "object_confs": confs, "attribute_ids": ids, "attribute_confs": confs}
    box: Array = np.float32([[0, 0, 1, 1]])
    with open_part(tmp_path / "s") as writer:
        for number, name in enumerate(["fine", key]):
            writer.put(name, Record(np.ones((1, 4), np.float32), box, (9, 9), 1, extra), number)
        writer.finish()
    with open_store(tmp_path / "s") as store, pytest.raises(UsageError, match="name of a file"):
        FORM.write(Records(store), tmp_path / "x", Options())
    assert not (tmp_path / "x").exists()


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = Options(sizes=told_sizes(tmp_path))
    for name in ("file", "nowhere"):
        with pytest.raises(UsageError, match="no folder"):
            list(FORM.read(tmp_path / name, options))
        assert not FORM.detect(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no record"):
        FORM.schema(tmp_path / "empty", options)
