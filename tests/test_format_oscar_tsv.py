"""The TSV files of Oscar and VinVL, in and out; the peers' readers, transcribed, read what is written."""

from __future__ import annotations

import base64
import io
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featx.cli import main
from featx.errors import UsageError
from featx.formats import Item, Options, Records, detect, get
from featx.formats.importer import import_items
from featx.schema import Array
from featx.store import StoreReader, disk, open_store
from tests.foreign import import_tsv
from tests.lossless import damaged, damages

OSCAR, VINVL = get("oscar-tsv"), get("vinvl-tsv")
HEIGHT, WIDTH, DIM = 90, 120, 5


def coded(array: Array) -> str:
    return base64.b64encode(np.asarray(array, "<f4").tobytes()).decode()


def boxes_of(seed: int, rows: int) -> Array:
    corners = np.sort(np.random.default_rng(seed).random((rows, 2, 2), np.float32), axis=1).reshape(rows, 4)
    return corners * np.float32([WIDTH, HEIGHT, WIDTH, HEIGHT])


def matrix(seed: int, rows: int = 3) -> Array:
    """Features and the six numbers behind them, as VinVL's scripts put them together."""
    features = np.random.default_rng(seed).random((rows, DIM), np.float32)
    made = []
    for feature, (x0, y0, x1, y1) in zip(features, boxes_of(seed, rows).tolist(), strict=True):
        places = [x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT]
        made.append(np.concatenate([feature, np.float32(places)]))
    return np.array(made, np.float32).reshape(rows, DIM + 6)


def plain(key: str, seed: int, rows: int = 3, *between: str) -> str:
    return "\t".join([key, str(rows), *between, coded(matrix(seed, rows))]) + "\n"


def captioning(key: str, seed: int, rows: int = 3) -> str:
    return f"{key}\t{json.dumps({'num_boxes': rows, 'features': coded(matrix(seed, rows))})}\n"


def found(seed: int, rows: int = 3, **changes: Any) -> dict[str, Any]:
    """What convert_predictions_to_tsv puts into the second column."""
    rng = np.random.default_rng(seed)
    objects = [
        {
            "rect": box, "bbox_id": number, "class": ["cat", "dog"][number % 2], "conf": float(rng.random()),
            "feature": coded(rng.random(DIM)), "attributes": ["red", "big"], "attr_scores": [0.25, 0.75], **changes,
        }
        for number, box in enumerate(boxes_of(seed, rows).tolist())
    ]  # fmt: skip
    return {"objects": objects, "relations": None}


def prediction(key: str, seed: int, rows: int = 3, **changes: Any) -> str:
    return f"{key}\t{json.dumps(found(seed, rows, **changes))}\n"


class TSVFile:
    """oscar/utils/tsv_file.py: a row by the byte at which it begins."""

    def __init__(self, tsv_file: Path) -> None:
        self._fp = io.StringIO(tsv_file.read_bytes().decode(), newline="")
        self._lineidx = [int(line) for line in tsv_file.with_suffix(".lineidx").read_text().split()]

    def num_rows(self) -> int:
        return len(self._lineidx)

    def seek(self, idx: int) -> list[str]:
        self._fp.seek(self._lineidx[idx])
        return [s.strip() for s in self._fp.readline().split("\t")]


def get_img_feature(folder: Path, image_id: str) -> Array:
    """oscar/datasets/oscar_tsv.py."""
    tsv = TSVFile(folder / "features.tsv")
    image_id2idx = json.loads((folder / "imageid2idx.json").read_text())
    row = tsv.seek(image_id2idx[str(image_id)])
    num_boxes = int(row[1])
    assert row[0] == image_id
    return np.frombuffer(base64.b64decode(row[-1]), dtype=np.float32).reshape((num_boxes, -1))


@pytest.fixture
def sizes(tmp_path: Path) -> Options:
    path = tmp_path / "train.hw.tsv"
    path.write_text("".join(f'{key}\t[{{"height": {HEIGHT}, "width": {WIDTH}}}]\n' for key in ("a", "b", "né", "c")))
    return Options(sizes=str(path))


def read(form: Any, path: Path, options: Options, start: int = 0) -> list[Item]:
    return list(form.read(path, options, start))


def upside_down(key: str, seed: int) -> str:
    return f"{key}\t{json.dumps({'features': coded(matrix(seed)), 'num_boxes': 3})}\n"


@pytest.mark.parametrize("write", [plain, captioning, upside_down, lambda *row: plain(*row, 3, "extra", "columns")])
def test_features_and_places_are_read_from_either_kind_of_row(tmp_path: Path, sizes: Options, write: Any) -> None:
    path = tmp_path / "features.tsv"
    path.write_text(write("a", 1) + write("né", 2) + write("b", 3))
    assert detect(path) == [OSCAR]
    items = read(OSCAR, path, sizes)
    assert [item.key for item in items] == ["a", "né", "b"]
    assert [item.place for item in items][2] == f"byte {len((write('a', 1) + write('né', 2)).encode())}"
    for seed, item in enumerate(items, 1):
        record = item.record
        assert record is not None
        assert record.size == (HEIGHT, WIDTH)
        assert np.array_equal(record.features, matrix(seed)[:, :DIM])
        assert np.allclose(record.boxes, boxes_of(seed, 3), rtol=0, atol=2e-5)
    assert read(OSCAR, path, sizes, 2) == items[2:]


@pytest.mark.parametrize("told", ["a 90 120", "a\t90 120", 'a\t{"height": 90, "width": 120}', "a,90,120"])
def test_sizes_may_be_told_in_the_forms_of_hw_files(tmp_path: Path, told: str) -> None:
    (tmp_path / "features.tsv").write_text(plain("a", 1))
    (tmp_path / "hw").write_text(told + "\n")
    options = Options(sizes=str(tmp_path / "hw"))
    if told.startswith("a 90"):
        with pytest.raises(UsageError, match="cannot be read"):
            read(OSCAR, tmp_path / "features.tsv", options)
        return
    (item,) = read(OSCAR, tmp_path / "features.tsv", options)
    assert item.record is not None
    assert item.record.size == (90, 120)


BAD_OSCAR = {
    "cut": (plain("b", 2)[:-30], "it is cut"),
    "one column": ("b\n", "no tab"),
    "another number of boxes": (plain("b", 2).replace("\t3\t", "\t4\t"), "numbers for 4 boxes"),
    "no geometry": (f"b\t3\t{coded(np.random.default_rng(1).random((3, 11)))}\n", "not its place"),
    "not a number": (f"b\t1\t{coded(np.full((1, 11), np.nan))}\n", "not its place"),
    "no JSON": ('b\t{"num_boxes": 3, "fea\n', "Unterminated"),
    "other JSON": ('b\t{"num_boxes": 3}\n', "no num_boxes and features"),
    "features that are no text": ('b\t{"num_boxes": 3, "features": 3}\n', "no text"),
    "deep JSON": (f"b\t{'[' * 100000}\n", "too deeply"),
    "no base64": ("b\t3\t????\n", ""),
    "no size": (plain("z", 2), "the size of picture 'z'"),
}
BAD_VINVL = {
    "cut": (prediction("b", 2)[:-30], "it is cut"),
    "three columns": (prediction("b", 2)[:-1] + "\tx\n", "3 columns"),
    "no objects": ('b\t{"relations": null}\n', "no JSON with a list of objects"),
    "a box of three numbers": (prediction("b", 2, rect=[1, 2, 3]), "expected 4 numbers"),
    "a box of texts": (prediction("b", 2, rect=["1", 2, 3, 4]), "expected a number"),
    "no feature": (prediction("b", 2, feature=None), "the feature None"),
    "a feature of no floats": (prediction("b", 2, feature="AAAA"), "feature"),
    "an infinite side": (prediction("b", 2, rect=[0, 0, 1e300, 4]), "expected a number"),
    "a class without a name": (prediction("b", 2, **{"class": "cow"}), "the class 'cow' is not in the list"),
    "a class of no letters": (prediction("b", 2, **{"class": ""}), "the class '' is not in the list"),
    "an attribute without a score": (prediction("b", 2, attr_scores=[1.0]), "not a score for each"),
    "a score beyond all floats": (prediction("b", 2, conf=10**400), "expected a number"),
    "boxes outside": (prediction("b", 2, rect=[0, 0, 9000, 40]), "leaves the"),
}
LABELS = {"objects": ["dog", "cat"], "attributes": ["red", "big", "old"]}
CASES = [(OSCAR, plain, *case) for case in BAD_OSCAR.values()]
CASES += [(VINVL, prediction, *case) for case in BAD_VINVL.values()]


@pytest.mark.parametrize(("form", "write", "bad", "said"), CASES, ids=[*BAD_OSCAR, *BAD_VINVL])
def test_a_bad_row_is_told_with_its_byte_and_the_rest_is_kept(
    tmp_path: Path, sizes: Options, form: Any, write: Any, bad: str, said: str
) -> None:
    path, last = tmp_path / "x.tsv", write("c", 3) if bad.endswith("\n") else ""
    path.write_text(write("a", 1) + bad + last)
    totals = import_items(form, path, tmp_path / "s", replace(sizes, labels=LABELS if form is VINVL else {}))
    assert (totals.records, totals.refused) == (2 if last else 1, 1)
    with open_store(tmp_path / "s") as store:
        (refusal,) = store.failures()
    assert said in refusal.message
    assert f"byte {len(write('a', 1))}" in refusal.source


def test_objects_are_read_with_the_numbers_of_their_names(tmp_path: Path, sizes: Options) -> None:
    path = tmp_path / "predictions.tsv"
    path.write_text(prediction("a", 1) + prediction("né", 2, 0))
    assert detect(path) == [VINVL]
    first, empty = read(VINVL, path, replace(sizes, labels=LABELS))
    record, said = first.record, found(1)["objects"]
    assert record is not None
    assert record.size == (HEIGHT, WIDTH)
    assert np.array_equal(record.boxes, np.float32([one["rect"] for one in said]))
    assert [coded(row) for row in record.features] == [one["feature"] for one in said]
    assert record.object_ids.tolist() == [1, 0, 1]
    assert np.array_equal(record.object_confs, np.float32([one["conf"] for one in said]))
    assert record.attribute_ids.tolist() == [1, 1, 1]
    assert record.attribute_confs.tolist() == [0.75] * 3
    assert empty.record is not None
    assert len(empty.record) == 0
    (unnamed, _) = read(VINVL, path, sizes)
    assert unnamed.record is not None
    assert set(unnamed.record.extra) == {"object_confs"}


@pytest.mark.parametrize(("form", "write"), [(OSCAR, plain), (VINVL, prediction)])
def test_without_sizes_nothing_can_be_read(tmp_path: Path, form: Any, write: Any) -> None:
    (tmp_path / "x.tsv").write_text(write("a", 1))
    with pytest.raises(UsageError, match="--sizes FILE"):
        read(form, tmp_path / "x.tsv", Options())


@pytest.fixture(scope="module")
def golden(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    store = tmp_path_factory.mktemp("golden") / "s"
    labels = {
        kind: [line.split(",")[0] for line in (shared / "vocab" / f"vg_{kind}_vocab.txt").read_text().splitlines()]
        for kind in ("objects", "attributes")
    }
    import_tsv(shared / "golden" / "train2014_obj36.tsv", store, labels=labels)
    return open_store(store)


def sizes_of(store: StoreReader, path: Path) -> Options:
    path.write_text(json.dumps({key: store[key].size for key in store}))
    return Options(sizes=str(path), labels=store.labels)


def test_the_published_features_go_through_oscar_and_its_reader_finds_them(golden: StoreReader, tmp_path: Path) -> None:
    out = tmp_path / "features.tsv"
    assert OSCAR.write(Records(golden), out, Options()) == 10
    assert {path.name for path in [out, *OSCAR.beside(out)]} == {path.name for path in tmp_path.iterdir()}
    items = {item.key: item.record for item in read(OSCAR, out, Options(labels=golden.labels))}
    assert list(items) == list(golden.keys("source"))
    for key, record in items.items():
        expected, peer = golden[key], get_img_feature(tmp_path, key)
        height, width = expected.size
        assert np.array_equal(peer[:, :2048], expected.features)
        for row, (x0, y0, x1, y1) in zip(peer, expected.boxes.astype(float), strict=True):
            places = [x0 / width, y0 / height, x1 / width, y1 / height, (x1 - x0) / width, (y1 - y0) / height]
            assert np.allclose(row[2048:], places, rtol=0, atol=2e-7)
        assert record is not None
        for field in ("features", "boxes", "object_confs"):
            assert np.array_equal(record.array(field), expected.array(field)), field
        names = golden.labels["objects"]
        assert [names[n] for n in record.object_ids] == [names[n] for n in expected.object_ids]
        assert record.size == expected.size
    for path in (tmp_path / "label.tsv", tmp_path / "hw.tsv"):
        assert [TSVFile(path).seek(row)[0] for row in range(10)] == list(items)
    for path in (tmp_path / "label.tsv", tmp_path / "hw.tsv"):
        path.unlink()
    for item in read(OSCAR, out, sizes_of(golden, tmp_path / "sizes")):
        assert item.record is not None
        assert np.allclose(item.record.boxes, golden[item.key].boxes, rtol=0, atol=1e-4)


def test_the_published_features_go_through_vinvl_and_its_reader_finds_them(golden: StoreReader, tmp_path: Path) -> None:
    out = tmp_path / "predictions.tsv"
    assert VINVL.write(Records(golden), out, Options()) == 10
    items = {item.key: item.record for item in read(VINVL, out, sizes_of(golden, tmp_path / "sizes"))}
    rows = TSVFile(out)
    assert rows.num_rows() == 10
    for number, key in enumerate(golden.keys("source")):
        expected, record, (name, text) = golden[key], items[key], rows.seek(number)
        assert name == key
        objects = json.loads(text)["objects"]
        assert [one["rect"] for one in objects] == expected.boxes.tolist()
        assert [one["class"] for one in objects] == [golden.labels["objects"][n] for n in expected.object_ids]
        features = [np.frombuffer(base64.b64decode(one["feature"]), np.float32) for one in objects]
        assert np.array_equal(features, expected.features)
        assert record is not None
        for field in ("boxes", "features", "object_confs", "attribute_confs"):
            assert np.array_equal(record.array(field), expected.array(field)), field
        for field, kind in (("object_ids", "objects"), ("attribute_ids", "attributes")):
            names = golden.labels[kind]
            first = [names.index(names[n]) for n in expected.array(field)]  # some names are listed twice
            assert record.array(field).tolist() == first


def test_an_index_counts_bytes_not_characters(tmp_path: Path, sizes: Options) -> None:
    (tmp_path / "in.tsv").write_text(plain("né", 1) + plain("a", 2) + plain("b", 3))
    import_items(OSCAR, tmp_path / "in.tsv", tmp_path / "s", sizes)
    with open_store(tmp_path / "s") as store:
        OSCAR.write(Records(store), tmp_path / "features.tsv", Options())
    starts = [int(line) for line in (tmp_path / "features.lineidx").read_text().split()]
    content = (tmp_path / "features.tsv").read_bytes()
    assert [content[start:].split(b"\t")[0].decode() for start in starts] == ["né", "a", "b"]
    assert json.loads((tmp_path / "imageid2idx.json").read_text()) == {"né": 0, "a": 1, "b": 2}


def character_index(text: str) -> str:
    """As tsv_writer of scene_graph_benchmark makes it: characters, not bytes."""
    places, place = [], 0
    for line in text.splitlines(keepends=True):
        places.append(place)
        place += len(line)
    return "".join(f"{place}\n" for place in places)


WRONG = {
    "characters": (character_index, 2, "says {1} of the row that begins at byte {2}"),
    "too short": (lambda text: "0\n", 1, "says nothing of the row"),
    "of a longer file": (lambda text: byte_index(text) + "99\n100\n", 3, "lists 2 more rows"),
    "no numbers": (lambda text: "\x1b[2J" + "9" * 1000, 0, r"says b'\x1b[2J99"),
}


def byte_index(text: str) -> str:
    lines = text.encode().splitlines(keepends=True)
    return "".join(f"{sum(map(len, lines[:n]))}\n" for n in range(len(lines)))


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize(("form", "write"), [(OSCAR, plain), (VINVL, prediction)])
def test_a_wrong_index_is_told_and_every_row_is_read(
    tmp_path: Path, sizes: Options, form: Any, write: Any, name: str
) -> None:
    index, place, said = WRONG[name]
    text = write("a", 1) + write("né", 2) + write("b", 3)
    path, starts = tmp_path / "x.tsv", [*map(int, byte_index(text).split()), len(text.encode())]
    path.write_text(text)
    path.with_suffix(".lineidx").write_text(index(text))
    *rows, told = read(form, path, sizes)
    assert [row.key for row in rows if row.record] == ["a", "né", "b"]
    assert (told.number, told.record, told.place) == (3, None, f"byte {starts[place]}")
    assert said.format(0, starts[2] - 1, starts[2]) in told.problem
    assert read(form, path, sizes, 2) == [rows[2], told]
    path.with_suffix(".lineidx").write_text(byte_index(text))
    assert read(form, path, sizes) == rows
    import_items(form, path, tmp_path / "s", sizes)


def label(key: str, seed: int, rows: int = 3, **changes: Any) -> str:
    """A row of label.tsv, to the regions of ``plain(key, seed, rows)``."""
    objects = [
        {"class": ["cat", "dog"][number % 2], "rect": box, "conf": 0.5 + number / 8, **changes}
        for number, box in enumerate(boxes_of(seed, rows).tolist())
    ]
    return f"{key}\t{json.dumps(objects)}\n"


def test_labels_beside_the_features_tell_classes_boxes_and_even_sizes(tmp_path: Path) -> None:
    path, options = tmp_path / "train.feature.tsv", Options(labels=LABELS, key="img-{}")
    path.write_text(plain("a", 1) + "broken\n" + plain("né", 2))
    (tmp_path / "train.label.tsv").write_text(label("a", 1) + label("x", 5) + label("né", 2, conf=1))
    first, broken, last = read(OSCAR, path, options)
    assert (broken.record, "no tab" in broken.problem) == (None, True)
    for seed, item in ((1, first), (2, last)):
        assert item.record is not None
        assert item.record.size == (HEIGHT, WIDTH)
        assert np.array_equal(item.record.boxes, boxes_of(seed, 3)), "the pixels of the labels, not of the shares"
        assert item.record.object_ids.tolist() == [1, 0, 1]
    assert first.key == "img-a"
    assert first.record is not None
    assert first.record.object_confs.tolist() == [0.5, 0.625, 0.75]
    assert read(OSCAR, path, options, 2) == [last]
    assert read(OSCAR, path, Options(key="img-{}"))[0].record is not None, "names need not be told"


def test_sizes_beside_the_features_go_by_the_names_in_the_files(tmp_path: Path) -> None:
    path = tmp_path / "features.tsv"
    path.write_text(plain("a", 1) + plain("b", 2))
    (tmp_path / "hw.tsv").write_text('a\t[{"height": 90, "width": 120}]\n')
    first, last = read(OSCAR, path, Options(key="img-{}"))
    assert first.record is not None
    assert first.record.size == (HEIGHT, WIDTH)
    assert "the size of picture 'img-b' is not" in last.problem
    facts = OSCAR.survey(path, Options()).facts
    (tmp_path / "hw.tsv").write_text('a\t[{"height": 91, "width": 120}]\n')
    assert OSCAR.survey(path, Options()).facts != facts, "another file is another source"


UNLIKE = {
    "of another picture": (label("c", 2), "of 'c' in row 1"),
    "one region less": (label("b", 2, 2), "2 regions of 'b' in row 1, not 3"),
    "cut": ("", "of '' in row 1"),
    "other boxes": (label("b", 2, rect=[0, 0, 60, 45]), "not its boxes"),
    "a class that is not known": (label("b", 2, **{"class": "cow"}), "the class 'cow'"),
    "no list": ('b\t{"class": 1}\n', "no JSON with a list"),
    "no numbers": (label("b", 2, rect=[float("nan")] * 4), "not its boxes"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_labels_that_do_not_belong_to_a_row_are_told(tmp_path: Path, name: str) -> None:
    path, (other, said) = tmp_path / "features.tsv", UNLIKE[name]
    path.write_text(plain("a", 1) + plain("b", 2))
    (tmp_path / "label.tsv").write_text(label("a", 1) + other)
    (tmp_path / "hw.tsv").write_text("a\t90 120\nb\t90 120\n")
    first, last = read(OSCAR, path, Options(labels=LABELS))
    assert first.record is not None
    assert said in last.problem
    assert last.place == f"byte {len(plain('a', 1))}"


def test_labels_of_no_region_cannot_tell_a_size(tmp_path: Path) -> None:
    (tmp_path / "features.tsv").write_text(plain("a", 1, 0) + plain("b", 1) + plain("c", 1))
    wild = [label("b", 1, rect=[0, 0, float("nan"), 1]), label("c", 1, rect=[0, 0, 3e38, 1])]
    (tmp_path / "label.tsv").write_text(label("a", 1, 0) + "".join(wild))
    for item in read(OSCAR, tmp_path / "features.tsv", Options()):
        assert "no region tells the size" in item.problem


class VqaDataset:
    """The reader of features of oscar/run_vqa.py."""

    def __init__(self, img_feat_dir: Path, name: str) -> None:
        self.img_feature_file = (img_feat_dir / f"{name}_img_frcnn_feats.tsv").open()
        self.img_feat_offset_map = json.loads((img_feat_dir / f"{name}_img_frcnn_feats_offset_map.json").read_text())

    def get_img_feature(self, image_id: str) -> Array:
        self.img_feature_file.seek(self.img_feat_offset_map[image_id], 0)
        arr = [s.strip() for s in self.img_feature_file.readline().split("\t")]
        return np.frombuffer(base64.b64decode(arr[2]), dtype=np.float32).reshape((-1, DIM + 6))


def test_the_features_of_vqa_with_their_map_of_offsets_are_read(tmp_path: Path, sizes: Options) -> None:
    rows = {"a": plain("a", 1), "b": plain("b", 2, 5)}
    path = tmp_path / "val_img_frcnn_feats.tsv"
    path.write_text("".join(rows.values()))
    path.with_name("val_img_frcnn_feats_offset_map.json").write_text(json.dumps({"a": 0, "b": len(rows["a"])}))
    assert detect(path) == [OSCAR]
    peer = VqaDataset(tmp_path, "val")
    for item, seed, count in zip(read(OSCAR, path, sizes), (1, 2), (3, 5), strict=True):
        assert item.record is not None, item.problem
        assert np.array_equal(item.record.features, peer.get_img_feature(item.key)[:, :DIM])
        assert item.record.boxes == pytest.approx(boxes_of(seed, count), abs=1e-3)
    peer.img_feature_file.close()


def test_sizes_whose_first_key_begins_as_json_does_are_lines(tmp_path: Path) -> None:
    (tmp_path / "features.tsv").write_text(plain("{}", 1) + plain('{"b"', 2))
    (tmp_path / "hw.tsv").write_text('{}\t[{"height": 90, "width": 120}]\n{"b"\t[{"height": 91, "width": 120}]\n')
    for told in ("", "hw.tsv", "sizes.csv"):  # beside the features, and given
        if told:
            (tmp_path / "sizes.csv").write_text('{},90,120\n{"b",91,120\n')
            (tmp_path / "x.tsv").write_bytes((tmp_path / "features.tsv").read_bytes())
        path = tmp_path / ("x.tsv" if told else "features.tsv")
        items = read(OSCAR, path, Options(sizes=str(tmp_path / told) if told else ""))
        assert [(item.key, item.record and item.record.size) for item in items] == [
            ("{}", (90, 120)), ('{"b"', (91, 120)),
        ]  # fmt: skip


def test_sizes_in_json_that_was_cut_are_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text(plain("a", 1))
    (tmp_path / "sizes.json").write_text('{"a": [90, 120], "b": [90, 12')
    with pytest.raises(UsageError, match=r"sizes\.json cannot be read: JSONDecodeError"):
        read(OSCAR, tmp_path / "x.tsv", Options(sizes=str(tmp_path / "sizes.json")))


def test_background_has_the_name_that_vinvl_gives_it(tmp_path: Path, sizes: Options) -> None:
    (tmp_path / "x.tsv").write_text(prediction("a", 1, **{"class": "__background__"}))
    import_items(VINVL, tmp_path / "x.tsv", tmp_path / "s", replace(sizes, labels=LABELS))
    with open_store(tmp_path / "s") as store:
        assert store["a"].object_ids.tolist() == [-1] * 3
        VINVL.write(Records(store), tmp_path / "again.tsv", Options())
    objects = json.loads((tmp_path / "again.tsv").read_text().split("\t")[1])["objects"]
    assert [one["class"] for one in objects] == ["__background__"] * 3


def test_labels_of_an_earlier_export_do_not_stay_beside_other_features(tmp_path: Path, sizes: Options) -> None:
    (tmp_path / "x.tsv").write_text(plain("a", 1))
    import_items(OSCAR, tmp_path / "x.tsv", tmp_path / "s", sizes)
    (tmp_path / "label.tsv").write_text(label("z", 9))
    with open_store(tmp_path / "s") as store:
        OSCAR.write(Records(store), tmp_path / "features.tsv", Options())
    assert not (tmp_path / "label.tsv").exists()
    assert json.loads((tmp_path / "hw.tsv").read_text().split("\t")[1]) == [{"height": 90, "width": 120}]


def test_an_export_that_was_killed_before_the_features_had_their_name_goes_on(
    tmp_path: Path, sizes: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.tsv").write_text(plain("a", 1) + plain("b", 2))
    import_items(OSCAR, tmp_path / "x.tsv", tmp_path / "s", sizes)
    words = ["convert", str(tmp_path / "s"), str(tmp_path / "features.tsv"), "--to", "oscar-tsv", "--quiet"]

    settle = disk.settle

    def killed(path: Path) -> None:
        if path.name == "features.tsv":
            raise Killed
        settle(path)

    with monkeypatch.context() as patch:
        patch.setattr("featx.store.disk.settle", killed)
        with pytest.raises(Killed):
            main(words)
    assert (tmp_path / "features.lineidx").exists()
    assert not (tmp_path / "features.tsv").exists()
    assert main(words) == 0
    gone_on = (tmp_path / "features.tsv").read_bytes()
    assert main(words) == 2, "now it is there"
    assert main([*words, "--overwrite"]) == 0
    assert (tmp_path / "features.tsv").read_bytes() == gone_on


class Killed(BaseException):
    """The process ends here."""


def test_an_object_without_attributes_has_number_minus_one_and_none_again(tmp_path: Path, sizes: Options) -> None:
    said = found(1)
    said["objects"][1].update(attributes=[], attr_scores=[])
    del said["objects"][2]["attributes"], said["objects"][2]["attr_scores"]
    (tmp_path / "x.tsv").write_text(f"a\t{json.dumps(said)}\n")
    import_items(VINVL, tmp_path / "x.tsv", tmp_path / "s", replace(sizes, labels=LABELS))
    with open_store(tmp_path / "s") as store:
        assert store["a"].attribute_ids.tolist() == [1, -1, -1]
        assert store["a"].attribute_confs.tolist() == [0.75, 0, 0]
        VINVL.write(Records(store), tmp_path / "again.tsv", Options())
    objects = json.loads((tmp_path / "again.tsv").read_text().split("\t")[1])["objects"]
    assert [one["attributes"] for one in objects] == [["big"], [], []]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damages())
@pytest.mark.parametrize("write", [plain, captioning, prediction])
def test_no_damage_does_anything_but_problems(tmp_path: Path, sizes: Options, write: Any, damage: Any) -> None:
    form, path = (VINVL, tmp_path / "x.tsv") if write is prediction else (OSCAR, tmp_path / "x.tsv")
    path.write_bytes(damaged((write("a", 1) + write("né", 2, 0) + write("b", 3)).encode(), damage))
    detect(path)
    items = read(form, path, replace(sizes, labels=LABELS))
    assert all((item.record is None) == bool(item.problem) for item in items)
    assert [item.number for item in items] == list(range(len(items)))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damages(), name=st.sampled_from(["features.tsv", "label.tsv", "hw.tsv", "features.lineidx"]))
def test_no_damage_of_any_file_does_anything_but_problems(tmp_path: Path, damage: Any, name: str) -> None:
    features = plain("a", 1) + plain("né", 2, 0) + plain("b", 3)
    whole = {
        "features.tsv": features, "features.lineidx": byte_index(features),
        "label.tsv": label("a", 1) + label("né", 2, 0) + label("b", 3),
        "hw.tsv": "".join(f'{key}\t[{{"height": 90, "width": 120}}]\n' for key in ("a", "né", "b")),
    }  # fmt: skip
    for place, content in whole.items():
        (tmp_path / place).write_bytes(damaged(content.encode(), damage) if place == name else content.encode())
    items = []
    with suppress(UsageError):  # sizes that cannot be read
        items = read(OSCAR, tmp_path / "features.tsv", Options(labels=LABELS))
    assert items or name in ("hw.tsv", "features.tsv")
    assert [item.number for item in items] == list(range(len(items)))


def test_a_store_without_names_of_its_classes_is_not_written_as_vinvl(golden: StoreReader, tmp_path: Path) -> None:
    import_items(get("lxmert-tsv"), tsv_of(golden, tmp_path / "in.tsv"), tmp_path / "s", Options())
    with open_store(tmp_path / "s") as store, pytest.raises(UsageError, match="no names of its classes"):
        VINVL.write(Records(store), tmp_path / "out.tsv", Options())
    assert not (tmp_path / "out.tsv").exists()


def tsv_of(store: StoreReader, path: Path) -> Path:
    get("lxmert-tsv").write(Records(store), path, Options())
    return path
