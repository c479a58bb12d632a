"""The LXMERT TSV, in and out: the published file comes back byte for byte, bad rows are told and passed over."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.errors import UsageError
from featx.formats.records import Records
from featx.record import Record
from featx.schema import Array, region_schema
from featx.store import create_store, open_part, open_store, verify
from tests.foreign import export_tsv, import_tsv, read_tsv, write_tsv
from tests.store_oracle import make_store

COLUMNS = ["img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes"]
COLUMNS += ["boxes", "features"]


@pytest.fixture(params=["lmdb", "hdf5"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def coded(array: Array) -> str:
    return base64.b64encode(array.tobytes()).decode()


def row(key: str, rows: int = 3, dim: int = 8, **changes: Any) -> dict[str, Any]:
    """One picture as the columns of the original writer, which are csv text."""
    rng = np.random.default_rng(len(key) + rows)

    boxes = np.sort(rng.random((rows, 2, 2), np.float32) * 100, axis=1).reshape(rows, 4)
    made = {
        "img_id": key, "img_h": 100, "img_w": 100,
        "objects_id": coded(rng.integers(0, 1600, rows)), "objects_conf": coded(rng.random(rows, np.float32)),
        "attrs_id": coded(rng.integers(0, 400, rows)), "attrs_conf": coded(rng.random(rows, np.float32)),
        "num_boxes": rows, "boxes": coded(boxes), "features": coded(rng.random((rows, dim), np.float32)),
    }  # fmt: skip
    return {**made, **changes}


def tsv(*rows: dict[str, Any]) -> bytes:
    """The bytes that LXMERT's own writer, Python's csv module, gives these rows."""
    text = io.StringIO(newline="")
    csv.DictWriter(text, COLUMNS, delimiter="\t").writerows(rows)
    return text.getvalue().encode()


def test_the_published_file_comes_back_byte_for_byte(shared: Path, tmp_path: Path, backend: str) -> None:
    golden = shared / "golden" / "train2014_obj36.tsv"
    totals = import_tsv(golden, tmp_path / "s", backend)
    assert (totals.records, totals.refused) == (10, 0)
    store = open_store(tmp_path / "s")
    assert export_tsv(store, tmp_path / "out.tsv") == 10
    assert (tmp_path / "out.tsv").read_bytes() == golden.read_bytes()
    assert verify(tmp_path / "s").ok


def test_the_published_file_reads_as_the_numbers_it_is_known_for(shared: Path, tmp_path: Path) -> None:
    import_tsv(shared / "golden" / "train2014_obj36.tsv", tmp_path / "s", dtype="float16")
    store = open_store(tmp_path / "s")
    record = store["COCO_train2014_000000132417"]
    assert record.size == (333, 500)
    assert record.features.shape == (36, 2048)
    assert record.features.dtype == np.float16
    assert record.boxes[:, 2].max() == pytest.approx(499.5, abs=1e-4)  # (round(side * s) - 1) / s
    assert record.boxes[:, 3].max() == pytest.approx(332.445, abs=1e-4)
    bed = store["COCO_train2014_000000132417"].object_ids
    vocabulary = (shared / "vocab" / "vg_objects_vocab.txt").read_text().splitlines()
    assert {"bed", "pillow"} <= {vocabulary[i].split(",")[0] for key in store for i in store[key].object_ids}
    assert bed.max() < 1600
    assert store.schema.boxes == store.schema.pooled == "proposal"


def test_rows_keep_their_order_and_their_bytes_through_a_store(tmp_path: Path, backend: str) -> None:
    source = tsv(row("b"), row("a"), row('quoted "id"', 5), row("né", 0), row("c", 1))
    (tmp_path / "in.tsv").write_bytes(source)
    import_tsv(tmp_path / "in.tsv", tmp_path / "s", backend, labels={"objects": ["cat"] * 1600})
    store = open_store(tmp_path / "s")
    assert list(store.keys("source")) == ["b", "a", 'quoted "id"', "né", "c"]
    assert store.labels == {"objects": ["cat"] * 1600}
    out = io.BytesIO()
    write_tsv(Records(store), out)
    assert out.getvalue() == source


def test_padding_rows_are_not_exported(tmp_path: Path) -> None:
    schema = region_schema(8, "float32", rows=6)
    create_store(tmp_path / "s", "lmdb", schema, {})
    ids, confs = np.zeros(6, np.int32), np.zeros(6, np.float32)
    extra = {"object_ids": ids, "object_confs": confs, "attribute_ids": ids, "attribute_confs": confs}
    with open_part(tmp_path / "s") as writer:
        writer.put("a", Record(np.ones((6, 8), np.float32), np.zeros((6, 4), np.float32), (9, 9), 2, extra), 0)
        writer.finish()
    export_tsv(open_store(tmp_path / "s"), tmp_path / "out.tsv")
    (read,) = read_tsv(tmp_path / "out.tsv")
    assert read.record is not None
    assert read.record.features.shape == (2, 8)


def test_boxes_that_leave_the_picture_by_a_pixel_are_clipped_as_the_peer_asserts(tmp_path: Path) -> None:
    height, width = 60, 80
    boxes = np.float32([[-0.5, -1, 80.5, 61], [3, 4, 50, 60], [0, 0, 80, 59.75]])
    ids, confs = np.zeros(3, np.int32), np.zeros(3, np.float32)
    extra = {"object_ids": ids, "object_confs": confs, "attribute_ids": ids, "attribute_confs": confs}
    create_store(tmp_path / "s", "lmdb", region_schema(8, "float32"), {})
    with open_part(tmp_path / "s") as writer:
        writer.put("a", Record(np.ones((3, 8), np.float32), boxes, (height, width), 3, extra), 0)
        writer.finish()
    export_tsv(open_store(tmp_path / "s"), tmp_path / "out.tsv")
    with (tmp_path / "out.tsv").open(newline="") as file:
        [found] = csv.DictReader(file, COLUMNS, delimiter="\t")
    read = np.frombuffer(base64.b64decode(found["boxes"]), np.float32).reshape(3, 4)
    assert read.tolist() == [[0, 0, 80, 60], [3, 4, 50, 60], [0, 0, 80, 59.75]]
    shares = read / np.float32([width, height, width, height])  # what src/tasks/vqa_data.py asserts
    assert (shares <= 1 + 1e-5).all()
    assert (-shares <= 1e-5).all()


def cut_line(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1][:-30], *lines[2:]]


def cut_line_before_its_end(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1][:-30] + b"\r\n", *lines[2:]]


def change(name: str, value: Any) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [lines[0], tsv(row("bad", **{name: value})), *lines[2:]]


BAD = {
    "a row cut in the middle": (cut_line_before_its_end, ""),
    "a field missing": (lambda lines: [lines[0], lines[1].replace(b"\t3\t", b"\t", 1), *lines[2:]], "9 columns"),
    "no base64": (change("features", "????"), ""),
    "base64 without padding": (change("boxes", "AAAAA"), ""),
    "a wrong number of boxes": (change("num_boxes", 4), "reshape"),
    "fewer than no boxes": (change("num_boxes", -1), "-1 boxes"),
    "no boxes and yet features": (change("num_boxes", 0), "0 boxes"),
    "a number that is none": (change("img_h", "tall"), "tall"),
    "a width of 400 digits": (change("img_w", "9" * 400), "img_w is b'999"),
    "boxes of 400 digits": (change("num_boxes", "9" * 400), ""),
    "an id beyond int32": (change("objects_id", coded(np.full(3, 2**40))), "int32"),
    "an empty id": (change("img_id", ""), "empty key"),
    "not utf-8": (lambda lines: [lines[0], lines[1].replace(b"bad", b"\xff\xfe"), *lines[2:]], "utf-8"),
    "not a number": (change("features", coded(np.full((3, 8), np.nan, np.float32))), "NaN"),
    "boxes outside": (change("boxes", coded(np.full((3, 4), 1e6, np.float32))), "leaves the"),
    "another feature length": (lambda lines: [lines[0], tsv(row("bad", dim=9)), *lines[2:]], "expected float32[3, 8]"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_told_with_its_place_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    spoil, said = BAD[name]
    lines = spoil([tsv(row("first")), tsv(row("bad")), tsv(row("last"))])
    (tmp_path / "in.tsv").write_bytes(b"".join(lines))
    totals = import_tsv(tmp_path / "in.tsv", tmp_path / "s")
    assert (totals.records, totals.refused, totals.reasons) == (2, 1, {"bad-row": 1})
    store = open_store(tmp_path / "s")
    assert list(store.keys("source")) == ["first", "last"]
    (refusal,) = store.failures()
    assert refusal.source == f"in.tsv, byte {len(lines[0])}"
    assert refusal.ordinal == 1
    assert said in refusal.message


def test_a_file_that_was_cut_keeps_its_whole_rows(tmp_path: Path) -> None:
    whole = tsv(row("a"), row("b"), row("c"))
    (tmp_path / "in.tsv").write_bytes(whole[:-9])
    rows = list(read_tsv(tmp_path / "in.tsv"))
    assert [each.key for each in rows if each.record] == ["a", "b"]
    assert "it is cut" in rows[2].problem
    assert rows[2].place == f"byte {2 * len(whole) // 3}"


def test_a_repeated_row_is_refused_and_the_first_one_kept(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_bytes(tsv(row("a", 3), row("b"), row("a", 5)))
    for _ in range(2):  # the second time everything is done
        totals = import_tsv(tmp_path / "in.tsv", tmp_path / "s")
        assert (totals.records, totals.refused) == (2, 1)
    store = open_store(tmp_path / "s")
    assert len(store["a"]) == 3
    assert [(refusal.key, refusal.message) for refusal in store.failures()] == [
        ("row 2", "'a' is in an earlier row too")
    ]


def test_an_interrupted_import_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    source = tsv(*(row(f"k{n}", n % 5) for n in range(20)))
    (tmp_path / "in.tsv").write_bytes(source)
    calls = 0

    def interrupted(record: Record, schema: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr("featx.store.writer.GROUP_BYTES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Record, "check", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_tsv(tmp_path / "in.tsv", tmp_path / "s", backend)
    assert len(open_store(tmp_path / "s", partial=True)) == 11
    import_tsv(tmp_path / "in.tsv", tmp_path / "s", backend)
    out = io.BytesIO()
    write_tsv(Records(open_store(tmp_path / "s")), out)
    assert out.getvalue() == source


def test_another_file_is_not_mixed_into_a_store(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.tsv").write_bytes(tsv(row(name)))
    import_tsv(tmp_path / "a.tsv", tmp_path / "s")
    with pytest.raises(UsageError, match=r"provenance\.source\.sha256"):
        import_tsv(tmp_path / "b.tsv", tmp_path / "s")


@pytest.mark.parametrize("content", [b"", b"\r\n\r\n", b"hello\n", bytes(1000)])
def test_a_file_without_a_usable_row_is_refused_before_anything_is_made(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.tsv").write_bytes(content)
    with pytest.raises(UsageError, match="no row that can be read"):
        import_tsv(tmp_path / "in.tsv", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_store_without_the_columns_cannot_be_exported(tmp_path: Path) -> None:
    store = open_store(make_store(tmp_path / "s", "lmdb", 3))
    with pytest.raises(UsageError, match="no object_confs, attribute_ids, attribute_confs"):
        export_tsv(store, tmp_path / "out.tsv")
    assert not list(tmp_path.glob("*out.tsv"))


def test_an_export_that_fails_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.tsv").write_bytes(tsv(row("a"), row("b")))
    import_tsv(tmp_path / "in.tsv", tmp_path / "s")
    (tmp_path / "out.tsv").write_text("old")
    store = open_store(tmp_path / "s")
    monkeypatch.setattr(type(store), "find", lambda self, key: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_tsv(store, tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tsv", "out.tsv", "s"]


def test_an_export_into_a_folder_that_is_not_there_names_it_and_speaks_of_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_bytes(tsv(row("a")))
    import_tsv(tmp_path / "in.tsv", tmp_path / "s")
    with pytest.raises(UsageError, match=r"nowhere/out.tsv cannot be written: there is no folder") as caught:
        export_tsv(open_store(tmp_path / "s"), tmp_path / "nowhere" / "out.tsv")
    assert "free" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "one", "other"), [("objects", "object", "attribute"), ("attributes", "attribute", "object")]
)
def test_labels_that_do_not_reach_the_ids_of_the_first_row_are_refused(
    tmp_path: Path, kind: str, one: str, other: str
) -> None:
    ids = {"objects_id": coded(np.array([3, 453, 7])), "attrs_id": coded(np.array([3, 453, 7]))}
    (tmp_path / "in.tsv").write_bytes(tsv(row("empty", 0), row("a", **ids)))
    labels = {kind: [f"name {n}" for n in range(400)]}
    with pytest.raises(UsageError, match=f"{one} id 453 but the vocabulary has 400 names: was the {other} list"):
        import_tsv(tmp_path / "in.tsv", tmp_path / "s", labels=labels)
    assert not (tmp_path / "s").exists()
    assert import_tsv(tmp_path / "in.tsv", tmp_path / "s", labels={kind: ["x"] * 454}).records == 2


def test_a_later_row_with_an_id_beyond_the_labels_is_a_bad_row(tmp_path: Path) -> None:
    good, bad = ({"objects_id": coded(np.array([0, 1, last]))} for last in (1, 2))
    (tmp_path / "in.tsv").write_bytes(tsv(row("a", **good), row("b", **bad), row("c", **good)))
    totals = import_tsv(tmp_path / "in.tsv", tmp_path / "s", labels={"objects": ["cat", "dog"]})
    assert (totals.records, totals.refused) == (2, 1)
    (refusal,) = open_store(tmp_path / "s").failures()
    assert refusal.ordinal == 1
    assert refusal.message.startswith("object id 2 but the vocabulary has 2 names")
