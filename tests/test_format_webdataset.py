"""WebDataset: tars made byte by byte are read, and what we write tarfile and webdataset read."""

from __future__ import annotations

import gc
import io
import json
import tarfile
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from featx.cli import main
from featx.errors import UsageError
from featx.formats import Options, get
from featx.schema import Field, Schema
from tests.lossless import (
    KEYS,
    SCHEMAS,
    comes_back,
    export,
    make,
    picture,
    read,
)
from tests.tar_files import BOXES, FEATURES, member, npy, sample
from tests.test_formats_convert import make_store

FORM = get("webdataset")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    path = tmp_path / "x.tar"
    data = (
        member("train/", b"", b"5") + sample("train/000042") + sample("b", {"key": "k.1", "image_h": 60, "image_w": 50})
    )
    path.write_bytes(data + sample("c", features=FEATURES.astype(np.float16)) + bytes(1024))
    return path


def test_a_tar_made_byte_by_byte_is_read(three: Path) -> None:
    assert FORM.detect(three)
    items = read(FORM, three)
    assert [item.key for item in items] == ["train/000042", "k.1", "c"]
    first, second, third = (item.record for item in items)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.size == second.size == (60, 50)
    np.testing.assert_array_equal(first.features, FEATURES)
    np.testing.assert_array_equal(second.boxes, BOXES)
    assert first.object_ids.tolist() == [7, 8]
    assert third.features.dtype == np.float16
    assert items[0].place == "byte 512"
    assert read(FORM, three, start=1) == items[1:]
    assert FORM.survey(three, Options()).total == 3


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_of_every_kind_of_tar_are_read(tmp_path: Path, form: int) -> None:
    name = "/".join(["folder" * 10] * 3) + "/né"
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as out:
        for rest, data in (
            ("features.npy", npy(FEATURES)),
            ("boxes.npy", npy(BOXES)),
            ("json", b'{"height":60,"width":50}'),
        ):
            info = tarfile.TarInfo(f"{name}.{rest}")
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    (item,) = read(FORM, tmp_path / "x.tar")
    assert item.key == name
    assert item.record is not None


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_tarfile_and_numpy_read_what_we_write(tmp_path: Path, schema: Schema) -> None:
    path = export(FORM, make(tmp_path / "s", schema), tmp_path / "x.tar")
    assert path.stat().st_size % 512 == 0
    with tarfile.open(path) as tar:
        found = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    assert all("/" not in name for name in found)
    for number, key in enumerate(KEYS):
        (name,) = {name.split(".")[0] for name in found if unquote(name.split(".")[0]) == key}
        record, told = picture(schema, number), json.loads(found[f"{name}.json"])
        assert [told[fact] for fact in ("key", "height", "width", "count")] == [key, 100 + number, 200, record.count]
        for field in schema.fields:
            array = np.load(io.BytesIO(found[f"{name}.{field.name}.npy"]))
            assert array.dtype == field.memory_dtype
            if field.dtype != "int8":
                np.testing.assert_array_equal(array, record.array(field.name))


# webdataset leaves its files to the garbage collector
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_what_we_write_with_its_own_decoders(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="the package webdataset is not installed")
    schema = SCHEMAS["per picture"]
    out = export(FORM, make(tmp_path / "s", schema), tmp_path / "out", Options(shard_size=12000))
    shards = sorted(map(str, out.iterdir()))
    assert [Path(shard).name for shard in shards] == [f"features-{n:06d}.tar" for n in range(len(shards))]
    assert len(shards) > 1
    assert all(Path(shard).stat().st_size <= 12000 for shard in shards)
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode())
    gc.collect()
    assert [sample["json"]["key"] for sample in samples] == KEYS
    assert [unquote(sample["__key__"]) for sample in samples] == KEYS
    for number, found in enumerate(samples):
        for field in schema.fields:
            np.testing.assert_array_equal(found[f"{field.name}.npy"], picture(schema, number).array(field.name))


def test_the_command_takes_the_size_of_a_file(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    words = ["convert", str(store), str(tmp_path / "out"), "--to", "webdataset", "--quiet"]
    assert main([*words, "--shard-size", "9000"]) == 0
    assert len(list((tmp_path / "out").iterdir())) > 2
    assert main([*words, "--overwrite"]) == 0
    assert [place.name for place in (tmp_path / "out").iterdir()] == ["features-000000.tar"]
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert main([*words, "--overwrite"]) == 2
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_byte_that_was_changed_in_an_array_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = export(FORM, make_store(tmp_path / "s"), tmp_path / "x.tar")
    whole, data = read(FORM, path), bytearray(path.read_bytes())
    data[data.index(b"103.features.npy") + 512 + 200] ^= 1
    path.write_bytes(data)
    items = read(FORM, path)
    (lost,) = [item for item in items if item.record is None]
    assert (lost.key, lost.number) == ("103", 3)
    assert lost.problem.startswith("features.npy: ")
    assert "checksum" in lost.problem
    assert [i for i in items if i.record] == [item for item in whole if item.key != "103"]


def test_a_cut_tar_keeps_every_picture_that_is_whole(three: Path) -> None:
    whole, data = read(FORM, three), three.read_bytes()
    three.write_bytes(
        data[: -1024 - 1024 - 400]  # the end, the JSON, and some of the boxes
    )
    items = read(FORM, three)
    assert items[:2] == whole[:2]
    assert items[2].key == "c"
    assert "no boxes" in items[2].problem
    assert "'c.boxes.npy' would end at byte" in items[3].problem
    assert items[3].place.startswith("byte ")


def test_behind_a_damaged_header_the_next_member_is_found(three: Path) -> None:
    whole, data = read(FORM, three), bytearray(three.read_bytes())
    place = data.index(b"b.features.npy")
    data[place + 130] ^= 1  # in its size; the checksum tells
    three.write_bytes(data)
    items = read(FORM, three)
    assert [item.key for item in items] == ["train/000042", "", "k.1", "c"]
    assert "no features" in items[2].problem
    assert items[1].problem.startswith(f"bytes {place} to ")
    assert [items[0], items[3].record] == [whole[0], whole[2].record]


def test_damage_in_front_of_a_folder_of_files_costs_none_of_the_others(tmp_path: Path) -> None:
    out = export(FORM, make(tmp_path / "s", SCHEMAS["bfloat16"]), tmp_path / "out", Options(shard_size=9000))
    files = sorted(out.iterdir())
    files[0].write_bytes(b"\xff" * 3000)
    assert FORM.detect(out)
    assert FORM.schema(out, Options()) == SCHEMAS["bfloat16"], "every file has it"
    items = read(FORM, out)
    assert items[0].place == "features-000000.tar, byte 0"
    assert [item.key for item in items[1:]] == KEYS[-len(items) + 1 :]
    assert [item.problem for item in items[1:] if item.record is None] == []
    files[1].unlink()
    (absent,) = [item for item in read(FORM, out)[1:] if item.record is None]
    assert absent.place == "file features-000001.tar"
    assert "not in the folder" in absent.problem


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x93NUMPY\x01\0\xff\xff", "no npy"),
        (npy(FEATURES)[:-4], "bytes"),
        (npy(FEATURES).replace(b"<f4", b"|O8"), "no array of numbers"),
        (npy(FEATURES).replace(b"(2, 3)", b"(9**99,"), "no array of numbers"),
        (npy(FEATURES).replace(b"(2, 3), }   ", b"(999999999),}"), "bytes"),
        (npy(FEATURES[0]), "expected floats"),
    ],
)
def test_an_array_that_is_none_is_told(tmp_path: Path, data: bytes, problem: str) -> None:
    facts = member("a.json", b'{"height": 60, "width": 50}')
    path = tmp_path / "x.tar"
    path.write_bytes(member("a.features.npy", data) + member("a.boxes.npy", npy(BOXES)) + facts)
    (item,) = read(FORM, path)
    assert item.key == "a"
    assert item.record is None
    assert problem in item.problem


def test_links_and_what_is_no_tar_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(member("a.features.npy", b"", b"2") + sample("b"))
    items = read(FORM, path)
    assert "no plain file" in items[1].problem
    assert items[0].key == "b"
    path.write_bytes(b"text" * 1000)
    assert not FORM.detect(path)
    with pytest.raises(UsageError, match="no member of a tar"):
        FORM.schema(path, Options())


def test_fields_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    fields = (*SCHEMAS["float32"].fields[:2], Field("a", "int32"), Field("A", "int32"))
    store = make(tmp_path / "s", Schema(fields))
    with pytest.raises(UsageError, match="in case only"):
        export(FORM, store, tmp_path / "x.tar")
    comes_back(
        FORM, make(tmp_path / "t", Schema((*fields[:2], Field("Dots.In", "uint8")))), tmp_path / "y.tar", tmp_path / "z"
    )


def test_to_find_out_that_a_file_is_no_tar_only_its_beginning_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with path.open("wb") as file:
        file.write(b"text")
        file.truncate(1 << 40)  # sparse; reading it through would take an hour
    assert not FORM.detect(path)
