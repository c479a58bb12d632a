"""Arrow streams: tables made by pyarrow are read, and what we write pyarrow and ``datasets`` read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.errors import MissingDependency, UsageError
from featx.formats import Options, get
from featx.formats.importer import import_items
from featx.record import Record
from featx.schema import Schema, region_schema
from featx.store import create_store, open_part, open_store
from tests.lossless import (
    KEYS,
    SCHEMAS,
    comes_back,
    export,
    make,
    picture,
    read,
)
from tests.table_files import BOXES, ROWS, check, several, stream, table
from tests.test_formats_convert import make_store

pa = pytest.importorskip("pyarrow")
FORM = get("arrow")


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_a_table_of_others_is_read_by_the_names_of_its_columns(tmp_path: Path, kind: Any) -> None:
    features = pa.array([np.array(rows, kind.to_pandas_dtype()).tolist() for rows in ROWS["features"]])
    path = stream(tmp_path / "x.arrow", table(features=features.cast(pa.list_(pa.list_(kind)))))
    assert FORM.detect(path)
    items = read(FORM, path)
    check(items)
    assert items[0].record.features.dtype == (np.float16 if kind == pa.float16() else np.float32)
    assert read(FORM, path, start=1) == items[1:]
    assert FORM.survey(path, Options()).total == 2
    assert [item.key for item in read(FORM, path, Options(key="COCO_{:03d}"))] == ["COCO_042", "COCO_007"]


def test_lists_of_a_fixed_or_a_large_length_and_files_with_an_index_are_read(tmp_path: Path) -> None:
    boxes = pa.array(ROWS["boxes"], pa.large_list(pa.list_(pa.float32(), 4)))
    made = table(boxes=boxes, image_id=pa.array(["42", "7"], pa.large_string()))
    with pa.OSFile(str(tmp_path / "x.feather"), "wb") as file, pa.ipc.new_file(file, made.schema) as out:
        out.write_table(made)
    check(read(FORM, tmp_path / "x.feather"))
    with pa.OSFile(str(tmp_path / "y"), "wb") as file:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(file, made.schema, options=options) as out:
            out.write_table(made.slice(0, 1))
            out.write_table(made.slice(1))
    check(read(FORM, tmp_path / "y"))


def test_a_row_that_is_not_what_the_others_are_is_told_and_the_others_are_kept(tmp_path: Path) -> None:
    broken = [
        {"image_id": [None, 7]}, {"features": [[[1, 2, 3], [1, 2]], [[1, 2, 3]]]}, {"boxes": [None, BOXES[:1]]},
        {"boxes": [[[1, 2, 3, None]], BOXES[:1]]}, {"image_w": [None, 51]}, {"boxes": [BOXES[:1], BOXES[:1]]},
        {"image_id": ["a\nb", "7"]}, {"image_w": [1e300, 51]}, {"objects_id": [[1e300, 1], [9]]},
    ]  # fmt: skip
    for change in broken:
        first, second = read(FORM, stream(tmp_path / "x.arrow", table(**change)))
        assert (first.record, second.key) == (None, "7"), change
        assert second.record is not None
        assert first.place.endswith("row 0")
        assert first.problem


def test_other_tables_are_refused_with_their_columns(tmp_path: Path) -> None:
    path = stream(tmp_path / "x.arrow", pa.table({"text": ["a"], "label": [1]}))
    assert not FORM.detect(path)
    with pytest.raises(UsageError, match="text, label"):
        read(FORM, path)
    coded = stream(tmp_path / "y.arrow", table(image_id=pa.array(["a", "b"]).dictionary_encode()))
    with pytest.raises(UsageError, match="dictionary-encoded"):
        read(FORM, coded)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_pyarrow_reads_what_we_write(tmp_path: Path, schema: Schema) -> None:
    path = export(FORM, make(tmp_path / "s", schema), tmp_path / "x.arrow")
    with pa.ipc.open_stream(path) as reader:
        rows = reader.read_all().to_pylist()
    assert [row["key"] for row in rows] == KEYS
    for number, row in enumerate(rows):
        record = picture(schema, number)
        assert (row["height"], row["width"], row["count"]) == (100 + number, 200, record.count)
        for field in schema.fields:
            if field.dtype != "int8":
                np.testing.assert_array_equal(row[field.name] or 0, record.array(field.name) if row[field.name] else 0)
                assert np.size(row[field.name]) == record.array(field.name).size


def test_datasets_reads_what_we_write_as_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    for name in ("float16, fixed rows", "per picture"):
        schema = SCHEMAS[name]
        path = export(FORM, make(tmp_path / name, schema), tmp_path / f"{name}.arrow")
        found = datasets.Dataset.from_file(str(path))
        assert found.features["features"] == datasets.Array2D((schema.rows, schema.dim), "float16")
        assert found.features["boxes"] == datasets.Array2D((schema.rows, 4), "float32")
        for number, row in enumerate(found.with_format("numpy", dtype=np.float32)):
            record = picture(schema, number)
            assert row["key"] == KEYS[number]
            np.testing.assert_array_equal(np.reshape(row["features"], (-1, schema.dim)), record.features)
        comes_back(FORM, tmp_path / name, tmp_path / "y.arrow", tmp_path / f"{name} again")


def test_a_cut_stream_keeps_every_batch_that_is_whole(tmp_path: Path) -> None:
    path = several(tmp_path / "x.arrow")
    whole, data = read(FORM, path), path.read_bytes()
    path.write_bytes(data[:-300])
    items = read(FORM, path)
    assert items[:-1] == whole[:4]
    assert items[-1].number == 4
    assert "body would end at byte" in items[-1].problem
    assert items[-1].place.startswith("byte ")


def test_behind_a_damaged_batch_the_next_one_is_found(tmp_path: Path) -> None:
    path = several(tmp_path / "x.arrow")
    whole, data = read(FORM, path), bytearray(path.read_bytes())
    second = int(whole[2].place.split(",")[0].removeprefix("byte "))
    data[second + 4 : second + 8] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    items = read(FORM, path)
    assert [item.key for item in items] == ["0", "1", "", "4", "5"]
    assert items[2].place == f"byte {second}"
    assert "2,147,483,647 bytes" in items[2].problem
    assert read(FORM, path, start=3) == items[3:]


def test_a_damaged_byte_of_what_we_write_costs_a_megabyte_of_pictures(tmp_path: Path) -> None:
    rows, dim, each = 32, 1024, 32 * 1024 * 4  # 128 KB of features a picture: eight are a megabyte
    create_store(tmp_path / "s", "lmdb", region_schema(dim, "float32", attributes=False), {})
    ids, confs = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
    with open_part(tmp_path / "s") as writer:
        for number in range(40):
            features = np.full((rows, dim), number, np.float32)
            extra = {"object_ids": ids, "object_confs": confs}
            writer.put(f"{number:02d}", Record(features, np.zeros((rows, 4), np.float32), (9, 9), rows, extra), number)
        writer.finish()
    path = export(FORM, tmp_path / "s", tmp_path / "x.arrow")
    with pa.ipc.open_stream(path) as reader:
        assert {batch.num_rows for batch in reader} == {8}
    data = bytearray(path.read_bytes())
    place = data.index(np.full(64, 20, "<f4").tobytes())  # within the features of picture 20
    begin = data.rindex(b"\xff\xff\xff\xff", 0, place - (20 % 8) * each)  # of the message around it
    data[begin + 4 : begin + 8] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    items = read(FORM, path)
    assert [item.key for item in items if item.record] == [f"{n:02d}" for n in range(40) if not 16 <= n < 24]
    assert sum(item.record is None for item in items) == 1


def test_offsets_that_lead_out_of_a_batch_are_told(tmp_path: Path) -> None:
    path = several(tmp_path / "x.arrow")
    whole, data = read(FORM, path), bytearray(path.read_bytes())
    offsets = np.array([0, 2, 3], "<i4").tobytes()  # of the lists of features: two rows and one
    place = data.index(offsets)
    data[place + 4 : place + 8] = (2**30).to_bytes(4, "little")
    path.write_bytes(data)
    items = read(FORM, path)
    assert items[0].record is None
    assert "2 rows, cannot be read" in items[0].problem
    assert items[1:] == whole[2:]


def test_a_file_that_is_empty_or_has_no_schema_is_a_clear_error(tmp_path: Path) -> None:
    for data in (b"", b"\xff" * 4 + b"\x10\0\0\0", b"\xff" * 4 + b"\xff\xff\xff\x7f" + b"\0" * 64, b"ARROW1\0\0"):
        (tmp_path / "x.arrow").write_bytes(data)
        assert not FORM.detect(tmp_path / "x.arrow")
        with pytest.raises(UsageError, match=r"Arrow|schema"):
            read(FORM, tmp_path / "x.arrow")


def test_without_pyarrow_the_line_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = several(tmp_path / "x.arrow")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert FORM.detect(path)
    with pytest.raises(MissingDependency, match=r"pip install 'featx\[formats\]'"):
        read(FORM, path)


def test_a_field_that_has_the_name_of_a_column_or_too_many_sides_is_refused(tmp_path: Path) -> None:
    from featx.schema import Field

    first = region_schema(2, "float32", attributes=False).fields
    for number, field in enumerate((Field("height", "int32"), Field("deep", "float32", (1, 1, 1, 1, 1)))):
        store = make(tmp_path / f"s{number}", Schema((*first[:2], field)))
        with pytest.raises(UsageError, match=r"no place in a table|dimensions"):
            export(FORM, store, tmp_path / "x.arrow")
    assert not (tmp_path / "x.arrow").exists()


def test_names_and_boxes_of_the_store_are_those_of_the_table(tmp_path: Path) -> None:
    path = export(FORM, make_store(tmp_path / "s"), tmp_path / "x.arrow")
    import_items(FORM, path, tmp_path / "again", Options(labels={"attributes": ["y"] * 9}))
    assert open_store(tmp_path / "again").labels == {"objects": ["x"] * 9, "attributes": ["y"] * 9}


def test_of_a_folder_of_streams_one_that_is_broken_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    stream(folder / "data-00002-of-00003.arrow", table())
    stream(folder / "data-00000-of-00003.arrow", table(image_id=[8, 9]))
    (folder / "data-00001-of-00003.arrow").write_bytes(b"")
    (folder / "state.json").write_text("{}")
    items = read(FORM, folder)
    assert [item.key for item in items] == ["8", "9", "", "42", "7"]
    assert (items[2].place, items[2].record) == ("file data-00001-of-00003.arrow", None)
    assert read(FORM, folder, start=3) == items[3:]
    assert FORM.survey(folder, Options()).total == 5
