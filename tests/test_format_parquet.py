"""Parquet: tables made by pyarrow are read, and what we write pyarrow and ``datasets`` read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.errors import MissingDependency, UsageError
from featx.formats import Options, get
from featx.formats.tables import parquet
from tests.lossless import (
    KEYS,
    SCHEMAS,
    comes_back,
    export,
    make,
    picture,
    read,
)
from tests.table_files import check, groups, table
from tests.test_formats_convert import make_store

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
FORM = get("parquet")


@pytest.mark.parametrize(
    "options", [{}, {"compression": "gzip"}, {"use_dictionary": True}, {"data_page_version": "2.0"}]
)
def test_a_table_of_others_is_read_by_the_names_of_its_columns(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(table(), path, **options)
    assert FORM.detect(path)
    items = read(FORM, path)
    check(items)
    assert items[1].place == "row group 0, row 1"
    assert read(FORM, path, start=1) == items[1:]
    assert FORM.survey(path, Options()).total == 2


def test_a_row_that_is_not_what_the_others_are_is_told_and_the_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for change in ({"image_id": [None, 7]}, {"features": [[[1, 2, 3], [1, 2]], [[1, 2, 3]]]}, {"image_w": [None, 51]}):
        pq.write_table(table(**change), path)
        first, second = read(FORM, path)
        assert first.record is None
        assert first.problem
        assert second.record is not None


def test_a_folder_of_files_is_one_source(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    groups(folder / "train-00001-of-00002.parquet", 1)
    pq.write_table(table(image_id=[8, 9]), folder / "train-00000-of-00002.parquet")
    assert FORM.detect(folder)
    items = read(FORM, folder)
    assert [item.key for item in items] == ["8", "9", "0", "1"]
    assert [item.number for item in items] == [0, 1, 2, 3]
    assert items[3].place == "train-00001-of-00002.parquet, row group 0, row 3"
    assert read(FORM, folder, start=3) == items[3:]


def test_pyarrow_reads_what_we_write_in_row_groups_of_a_stated_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_GROUP", 200)
    schema = SCHEMAS["whole numbers"]
    path = export(FORM, make(tmp_path / "s", schema), tmp_path / "x.parquet")
    assert pq.ParquetFile(path).num_row_groups > 2
    for number, row in enumerate(pq.read_table(path).to_pylist()):
        record = picture(schema, number)
        assert (row["key"], row["height"], row["width"]) == (KEYS[number], 100 + number, 200)
        assert row["count"] == record.count
        for field in schema.fields:
            assert row[field.name] == record.array(field.name).tolist()
    comes_back(FORM, tmp_path / "s", tmp_path / "y.parquet", tmp_path / "again")


def test_datasets_loads_what_we_write_as_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    datasets.disable_progress_bars()
    for name in ("float16, fixed rows", "bfloat16"):
        schema = SCHEMAS[name]
        path = export(FORM, make(tmp_path / name, schema), tmp_path / f"{name}.parquet")
        found = datasets.load_dataset("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
        dtype = str(schema.fields[0].memory_dtype)
        assert found.features["features"] == datasets.Array2D((schema.rows, schema.dim), dtype)
        for number, row in enumerate(found.with_format("numpy", dtype=np.float32)):
            assert row["key"] == KEYS[number]
            assert row["height"] == 100 + number
            np.testing.assert_array_equal(
                np.reshape(row["features"], (-1, schema.dim)), picture(schema, number).features
            )


def test_a_damaged_page_costs_its_rows_and_no_other_row_group(tmp_path: Path) -> None:
    path = groups(tmp_path / "x.parquet", write_page_checksum=True)
    whole, data = read(FORM, path), bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(1).column(1)
    assert place.path_in_schema.startswith("features")
    data[place.data_page_offset + place.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    items = read(FORM, path)
    assert [item.key for item in items] == ["0", "1", "", "4", "5"]
    assert items[2].number == 2
    assert items[2].place == "row group 1, row 2"
    assert items[2].problem.startswith("rows 2 to 3 cannot be read")
    assert "checksum" in items[2].problem or "CRC" in items[2].problem
    assert [item.record for item in items if item.record] == [whole[n].record for n in (0, 1, 4, 5)]
    assert read(FORM, path, start=4) == items[3:]


def test_of_a_damaged_row_group_the_rows_in_front_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    many = pa.concat_tables([table(image_id=[2 * n, 2 * n + 1]) for n in range(50)])
    options = {"use_dictionary": False, "data_page_size": 64, "write_batch_size": 2, "write_page_checksum": True}
    pq.write_table(many, path, compression="none", **options)
    whole, data = read(FORM, path), bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data[place.data_page_offset + place.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    items = read(FORM, path)
    assert 10 < len(items) < 100
    assert items[:-1] == whole[: len(items) - 1]
    assert items[-1].problem.startswith(f"rows {len(items) - 1} to 99 cannot be read")


def test_a_file_that_was_cut_has_no_directory_and_says_so(tmp_path: Path) -> None:
    path = groups(tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert FORM.detect(path)
    with pytest.raises(UsageError, match="at its end"):
        read(FORM, path)


def test_a_directory_that_lies_about_its_length_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for length in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0"):
        path.write_bytes(b"PAR1" + b"\0" * 40 + length + b"PAR1")
        with pytest.raises(UsageError, match="directory"):
            read(FORM, path)


def test_other_tables_are_refused_with_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), path)
    assert not FORM.detect(path)
    with pytest.raises(UsageError, match="text, label"):
        read(FORM, path)


def test_without_pyarrow_the_line_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = groups(tmp_path / "x.parquet")
    store = make_store(tmp_path / "s")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert FORM.detect(path)
    with pytest.raises(MissingDependency, match=r"pip install 'featx\[formats\]'"):
        read(FORM, path)
    with pytest.raises(MissingDependency, match="pyarrow"):
        export(FORM, store, tmp_path / "y.parquet")


def test_of_a_folder_of_files_one_that_is_broken_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    groups(tmp_path / "0.parquet", 1)
    (tmp_path / "1.parquet").write_bytes((tmp_path / "0.parquet").read_bytes()[:-9])
    pq.write_table(table(), tmp_path / "2.parquet")
    items = read(FORM, tmp_path)
    assert [item.key for item in items] == ["0", "1", "", "42", "7"]
    assert items[2].place == "file 1.parquet"
    assert "directory" in items[2].problem
    assert read(FORM, tmp_path, start=3) == items[3:]
    assert FORM.survey(tmp_path, Options()).total == 5


def test_of_a_folder_of_files_one_with_other_columns_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "0.parquet")
    groups(tmp_path / "1.parquet", 1)
    items = read(FORM, tmp_path)
    assert [item.key for item in items] == ["", "0", "1"]
    assert items[0].place == "file 0.parquet"
    assert "has the columns text" in items[0].problem
    assert read(FORM, tmp_path, start=1) == items[1:]
    assert FORM.survey(tmp_path, Options()).total == 3
