"""Safetensors: files made byte by byte are read, and what we write the library of safetensors reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file

from featx.errors import UsageError
from featx.formats import Options, Records, get
from featx.formats.importer import import_items
from featx.formats.packed import safetensors as module
from featx.schema import Array, Schema
from featx.store import open_store
from tests.foreign import import_tsv
from tests.lossless import (
    KEYS,
    SCHEMAS,
    comes_back,
    export,
    make,
    picture,
    read,
)
from tests.test_formats_convert import make_store

FORM = get("safetensors")
BOXES = np.float32([[1, 2, 30, 40], [0, 0, 5.5, 6]])


def file_of(tensors: dict[str, tuple[str, Array]], metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of a file by the description of the format: u64 length, JSON, data; tensors in the order given."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(key: str, seed: float = 0.0) -> dict[str, tuple[str, Array]]:
    features = np.float32([[1.5, -2, 0.25], [0, 3, 65504]]) + np.float32(seed)
    return {
        f"{key}/features": ("F32", features),
        f"{key}/boxes": ("F32", BOXES),
        f"{key}/size": ("I32", np.int32([60, 50])),
    }


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.safetensors"
    path.write_bytes(file_of({**one("b/1"), **one("a", 0.5)}))
    return path


def test_a_file_made_byte_by_byte_is_read_in_the_order_of_its_bytes(two: Path) -> None:
    assert FORM.detect(two)
    items = read(FORM, two)
    assert [item.key for item in items] == ["b/1", "a"]
    length = int.from_bytes(two.read_bytes()[:8], "little")
    assert items[0].place == f"byte {8 + length}"
    record = items[1].record
    assert record is not None
    assert record.size == (60, 50)
    np.testing.assert_array_equal(record.features, np.float32([[2, -1.5, 0.75], [0.5, 3.5, 65504.5]]))
    np.testing.assert_array_equal(record.boxes, BOXES)
    assert read(FORM, two, start=1) == items[1:]
    assert FORM.survey(two, Options()).total == 2


def test_bfloat16_and_ids_of_a_foreign_file_are_read_as_what_they_are(tmp_path: Path) -> None:
    bits = np.array([[0x3F80, 0xC000, 0x7F00]], "<u2")  # 1, -2 and 2**127
    tensors = {
        "k/object_ids": ("I64", np.array([7])),
        "k/object_confs": ("F64", np.array([0.5])),
        "k/features": ("BF16", bits),
        "k/boxes": ("F32", BOXES[:1]),
        "k/image_h": ("I32", np.array([60], "<i4")),
        "k/image_w": ("I32", np.array([50], "<i4")),
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of(tensors))
    (item,) = read(FORM, path)
    assert item.record is not None, item.problem
    np.testing.assert_array_equal(item.record.features, np.float32([[1, -2, 2.0**127]]))
    assert item.record.object_ids.tolist() == [7]
    assert item.record.object_confs.tolist() == [0.5]
    import_items(FORM, path, tmp_path / "s")
    assert open_store(tmp_path / "s").schema.fields[0].dtype == "float32"


def test_a_number_beyond_float32_is_refused_as_infinity_is(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {**one("a"), **one("b")}
    tensors["a/features"] = ("F64", np.array([[1e300, 0, 0], [0, 0, 0]]))
    path.write_bytes(file_of(tensors))
    totals = import_items(FORM, path, tmp_path / "s")
    assert (totals.records, totals.refused) == (1, 1)
    (refusal,) = open_store(tmp_path / "s").failures()
    assert "infinity" in refusal.message


def test_a_file_without_sizes_takes_those_that_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of({name: tensor for name, tensor in one("k").items() if not name.endswith("size")}))
    (item,) = read(FORM, path)
    assert item.record is None
    (tmp_path / "sizes").write_text("k,60,50\n")
    (item,) = read(FORM, path, Options(sizes=str(tmp_path / "sizes")))
    assert item.record is not None
    assert item.record.size == (60, 50)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_the_library_reads_what_we_write_with_torch_and_numpy(tmp_path: Path, schema: Schema) -> None:
    torch, load_torch = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch").load_file
    path = export(FORM, make(tmp_path / "s", schema), tmp_path / "x.safetensors")
    with safetensors.safe_open(str(path), "pt") as file:
        for number, key in enumerate(KEYS):
            record = picture(schema, number)
            for field in schema.fields:
                found = file.get_tensor(f"{key}/{field.name}")
                stored = "float32" if field.dtype == "int8" else field.dtype
                assert found.dtype == getattr(torch, stored)
                if field.dtype != "int8":
                    np.testing.assert_array_equal(found.to(torch.float64).numpy(), record.array(field.name))
            assert file.get_tensor(f"{key}/size").tolist() == [100 + number, 200]
            padded = f"{key}/count" in file.keys()  # noqa: SIM118  a handle is no mapping
            assert padded == (record.count != len(record.features))
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["featx"])["schema"] == schema.to_dict()
    assert len(load_torch(path)) >= len(KEYS) * (len(schema.fields) + 1)


def test_the_library_finds_the_published_features(shared: Path, tmp_path: Path) -> None:
    import_tsv(shared / "golden" / "train2014_obj36.tsv", tmp_path / "s")
    found = load_file(export(FORM, tmp_path / "s", tmp_path / "x.safetensors"))
    assert found["COCO_train2014_000000132417/features"].shape == (36, 2048)
    assert found["COCO_train2014_000000132417/size"].tolist() == [333, 500]


def test_several_files_have_an_index_and_one_that_is_absent_is_told(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    comes_back(FORM, store, tmp_path / "out", tmp_path / "again", Options(shard_size=600))
    index = json.loads((tmp_path / "out" / "features.safetensors.index.json").read_bytes())
    files = sorted(place.name for place in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 2
    assert sorted(set(index["weight_map"].values())) == files
    found = {name: file for file in files for name in load_file(tmp_path / "out" / file)}
    assert found == index["weight_map"]
    sizes = [sum(a.nbytes for a in load_file(tmp_path / "out" / file).values()) for file in files]
    assert sum(sizes) == index["metadata"]["total_size"]
    assert max(sizes) <= 600
    (tmp_path / "out" / files[1]).unlink()
    (tmp_path / "out" / files[2]).write_bytes(b"\xff" * 100)
    items = read(FORM, tmp_path / "out")
    lost = {item.place: item.problem for item in items if item.record is None}
    assert list(lost) == [f"{files[2]}, byte 0", f"file {files[1]}"]
    assert "header" in lost[f"{files[2]}, byte 0"]
    whole = [name for name in files if name not in files[1:3]]
    assert {i.key for i in items if i.record} == {n.split("/")[0] for n, file in found.items() if file in whole}


def test_more_names_than_the_format_holds_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST", 5000)
    with open_store(make_store(tmp_path / "s")) as store, pytest.raises(UsageError, match="5,000 bytes"):
        FORM.write(Records(store), tmp_path / "x.safetensors", Options())
    assert [place.name for place in tmp_path.iterdir()] == ["s"]


def test_a_cut_file_keeps_every_picture_that_is_whole(tmp_path: Path) -> None:
    path = export(FORM, make_store(tmp_path / "s"), tmp_path / "x.safetensors")
    whole, data = read(FORM, path), path.read_bytes()
    path.write_bytes(data[: len(data) - 500])
    items = read(FORM, path)
    lost = [item for item in items if item.record is None]
    assert 0 < len(lost) < len(items) == len(whole)
    assert items[: -len(lost)] == whole[: -len(lost)]
    assert all("cut at" in item.problem and item.place.startswith("byte ") for item in lost)


def test_a_byte_that_breaks_the_header_costs_one_tensor_and_is_told_with_its_place(tmp_path: Path) -> None:
    path = export(FORM, make_store(tmp_path / "s"), tmp_path / "x.safetensors")
    whole, data = read(FORM, path), bytearray(path.read_bytes())
    place = data.index(b'"103/features"')
    data[place + 20] = ord("~")
    path.write_bytes(data)
    items = read(FORM, path)
    assert FORM.detect(path)
    assert [i for i in items if i.record] == [item for item in whole if item.key != "103"]
    lost = {item.key: item for item in items if item.record is None}
    assert "no features" in lost["103"].problem
    assert abs(int(lost[""].place.removeprefix("byte ")) - place) <= 2
    assert open_store(tmp_path / "s").labels == FORM.labels(path, Options()), "what is whole in front of it is kept"


@pytest.mark.parametrize(
    "front",
    [
        b"",
        b"\x05",
        (2**62).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        b"\x02" + b"\0" * 7 + b"[]",
    ],
)
def test_a_header_that_lies_about_its_length_is_a_clear_error(tmp_path: Path, front: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(front)
    assert not FORM.detect(path)
    with pytest.raises(UsageError, match="header"):
        read(FORM, path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"shape": [2**40, 2**40]}, "bytes"),
        ({"data_offsets": [0, 2**60], "shape": [2**55, 8]}, "cut at"),
        ({"dtype": "F8_E4M3"}, "dtype"),
        ({"shape": [-2, 3]}, "features"),
        ({"data_offsets": [24, 0]}, "features"),
        ({"shape": [6]}, "features"),
    ],
)
def test_a_tensor_that_lies_about_itself_is_told_and_costs_no_memory(
    two: Path, change: dict[str, Any], problem: str
) -> None:
    data = two.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["a/features"].update(change)
    text = json.dumps(header).encode()
    two.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    items = read(FORM, two)
    assert any(item.key == "b/1" and item.record for item in items)
    (lost,) = [item for item in items if item.key == "a"]
    assert lost.record is None
    assert problem in lost.problem


def test_weights_of_a_network_are_not_taken_for_regions(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_of({"layer.weight": ("F32", np.zeros((2, 2), np.float32))}))
    assert not FORM.detect(path)
    with pytest.raises(UsageError, match="KEY/FIELD"):
        FORM.schema(path, Options())


def test_a_dtype_that_is_told_counts_more_than_that_of_the_file(tmp_path: Path) -> None:
    path = export(FORM, make(tmp_path / "s", SCHEMAS["bfloat16"]), tmp_path / "x.safetensors")
    assert FORM.schema(path, Options()) == SCHEMAS["bfloat16"]
    changed = FORM.schema(path, Options(dtype="float32", box_kind="given"))
    assert (changed.fields[0].dtype, changed.boxes, changed.pooled) == ("float32", "given", "given")
