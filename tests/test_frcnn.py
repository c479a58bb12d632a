"""The extractor as a whole, on the tiny network: counts, batches, given boxes, both boxes, bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featx.errors import MissingDependency, PictureRefused, UsageError, WeightsError
from featx.extractor import Picture
from featx.record import Record
from featx.store import create_store, open_part
from featx_extractors.frcnn import FRCNN
from featx_extractors.preprocess import Frame, frame_for
from featx_extractors.profiles import PROFILES

TINY = {"base": "lxmert-published", "name": "tiny", "short_side": 192, "long_side": 320}


def extractor(**options: Any) -> FRCNN:
    return FRCNN.from_options({"weights": "seeded-tiny", "profile": TINY, "dtype": "float32", **options})


def picture(seed: int = 0, height: int = 120, width: int = 160, key: str = "p") -> Picture:
    small = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    return Picture(key, np.kron(small, np.ones((8, 8, 1), np.uint8)))


def one(frcnn: FRCNN, photo: Picture) -> Record:
    record = frcnn([frcnn.prepare(photo)])[0]
    record.check(frcnn.schema)
    return record


def test_fixed_36_means_exactly_36() -> None:
    record = one(extractor(), picture())
    assert (record.features.shape, record.count) == ((36, 256), 36)


def test_too_few_proposals_are_padded_and_counted() -> None:
    few = extractor(profile={**TINY, "post_nms": 40, "pre_nms": 12, "rpn_nms": 0.2}, boxes=36)
    record = one(few, picture())
    assert 0 < record.count < 36
    assert len(record.features) == 36
    for name in record.names():
        assert not record.array(name)[record.count :].any(), f"padding of {name} is not zero"
    assert record.boxes[: record.count].any(1).all()


def test_adaptive_records_hold_only_real_rows() -> None:
    frcnn = extractor(boxes="10..100")
    counts = {one(frcnn, picture(seed)).count for seed in range(4)}
    assert frcnn.schema.rows is None
    assert all(10 <= n <= 100 for n in counts)


@pytest.mark.parametrize("profile", ["lxmert-published", "hf-demo-fixed", "detectron2-c4", "airsplay-maxnms"])
def test_a_batch_equals_its_pictures_one_by_one(profile: str) -> None:
    frcnn = extractor(profile={"base": profile, "short_side": 192, "long_side": 320})
    photos = [frcnn.prepare(picture(seed)) for seed in range(3)]
    for together, alone in zip(frcnn(photos), (frcnn([p])[0] for p in photos), strict=True):
        assert together.count == alone.count
        for name in together.names():
            np.testing.assert_allclose(together.array(name), alone.array(name), atol=1e-4)


def test_pictures_of_another_shape_are_another_group() -> None:
    frcnn = extractor()
    groups = {frcnn.group(frcnn.prepare(picture(0, h, w))) for h, w in ((120, 160), (240, 320), (160, 120))}
    assert groups == {(192, 256), (256, 192)}


@pytest.mark.parametrize("height", [113, 120, 97])
@pytest.mark.parametrize("profile", ["lxmert-published", "hf-demo-fixed", "detectron2-c4"])
def test_feeding_a_stores_own_boxes_back_returns_its_features_bit_for_bit(
    tmp_path: Path, profile: str, height: int
) -> None:
    """airsplay/py-bottom-up-attention#15: given boxes must be the same operation as detection."""
    settings = {"base": profile, "short_side": 192, "long_side": 320, "min_boxes": 36, "max_boxes": 36}
    first = extractor(profile=settings)
    photos = [picture(s, height, 160, f"p{s}") for s in range(3)]
    create_store(tmp_path / "store", "lmdb", first.schema, first.provenance(), first.labels)
    records = {photo.key: one(first, photo) for photo in photos}
    with open_part(tmp_path / "store") as writer:
        for i, (key, record) in enumerate(records.items()):
            writer.put(key, record, i)
        writer.finish()
    again = extractor(profile=settings, given_boxes=str(tmp_path / "store"))
    for photo in photos:
        told, found = one(again, photo), records[photo.key]
        np.testing.assert_array_equal(told.features, found.features[: found.count])
        pooled = found.boxes if first.schema.boxes == "proposal" else found.proposal_boxes
        np.testing.assert_array_equal(told.boxes, pooled[: found.count])
    assert again.schema.boxes == again.schema.pooled == "given"
    assert again.provenance()["given_boxes"].startswith("store:")


def test_given_boxes_come_from_json_and_npz_alike(tmp_path: Path) -> None:
    boxes = np.array([[3, 4, 90, 100], [0, 0, 159.5, 119]], np.float32)
    (tmp_path / "b.json").write_text(json.dumps({"p": boxes.tolist()}))
    np.savez(tmp_path / "b.npz", p=boxes)
    records = [one(extractor(given_boxes=str(tmp_path / name)), picture()) for name in ("b.json", "b.npz")]
    assert records[0] == records[1]
    np.testing.assert_array_equal(records[0].boxes, boxes)


def test_a_picture_without_given_boxes_is_refused_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"other": [[0, 0, 5, 5]]}')
    with pytest.raises(PictureRefused) as refusal:
        extractor(given_boxes=str(tmp_path / "b.json")).prepare(picture())
    assert refusal.value.reason == "no-given-boxes"


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]", "not a JSON object"), ("{", "not a JSON object"), ('{"p": [[5, 5, 1, 1]]}', "x1 >= x0"),
     ('{"p": [[1, 2, 3]]}', "p"), ('{"p": "boxes"}', "p")],
)  # fmt: skip
def test_given_boxes_that_make_no_sense_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises((UsageError, PictureRefused), match=said):
        extractor(given_boxes=str(tmp_path / "b.json")).prepare(picture())


def test_no_given_box_at_all_is_an_empty_record(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"p": []}')
    record = one(extractor(given_boxes=str(tmp_path / "b.json")), picture())
    assert record.features.shape == (0, 256)


def test_boxes_only_stores_the_same_boxes_without_features() -> None:
    full, bare = one(extractor(), picture()), one(extractor(boxes_only=True), picture())
    assert bare.features.shape == (36, 0)
    np.testing.assert_array_equal(bare.boxes, full.boxes)
    np.testing.assert_array_equal(bare.object_ids, full.object_ids)


def test_both_boxes_are_kept_and_the_schema_says_which_was_pooled() -> None:
    published, demo = extractor(), extractor(profile={"base": "hf-demo-fixed", "short_side": 192, "long_side": 320})
    assert (published.schema.boxes, published.schema.pooled) == ("proposal", "proposal")
    assert (demo.schema.boxes, demo.schema.pooled) == ("regressed", "proposal")
    assert "regressed_boxes" in one(published, picture()).extra
    assert "proposal_boxes" in one(demo, picture()).extra


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (20, 400), (400, 20), (1, 150), (1, 20_000), (9_000, 1)])
@pytest.mark.parametrize("profile", ["lxmert-published", "hf-demo-fixed", "airsplay-maxnms"])
def test_tiny_and_thin_pictures_give_valid_records(profile: str, height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    frcnn = extractor(profile={"base": profile, "short_side": 192, "long_side": 320})
    record = one(frcnn, Picture("p", pixels))
    boxes = record.boxes[: record.count]
    assert (boxes >= 0).all()
    assert (boxes[:, 2::2] <= width + 1e-3).all()


def test_a_blank_picture_gives_a_valid_record() -> None:
    one(extractor(), Picture("p", np.full((100, 100, 3), 255, np.uint8)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_the_stored_dtype_only_rounds(dtype: str) -> None:
    exact, rounded = one(extractor(), picture()), one(extractor(dtype=dtype), picture())
    kind = {"float16": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    expected = torch.from_numpy(exact.features).to(kind).float().numpy()
    np.testing.assert_array_equal(rounded.features.astype(np.float32), expected)


def test_bfloat16_convolutions_stay_close() -> None:
    exact = extractor()
    fast = extractor(precision="bfloat16")
    prepared = exact.prepare(picture())
    boxes = [torch.tensor([[10.0, 10.0, 100.0, 90.0], [0.0, 0.0, 159.0, 119.0]])]
    inputs = prepared.pixels[None]
    a = exact.detector.describe(inputs, [prepared.frame], boxes)[0].features
    b = fast.detector.describe(inputs, [prepared.frame], boxes)[0].features
    assert torch.nn.functional.cosine_similarity(a, b).min() > 0.995
    assert not torch.equal(a, b)
    assert one(fast, picture()).count == 36


def test_the_way_to_the_original_and_back_keeps_border_boxes_exactly() -> None:
    for height, width in ((333, 500), (428, 640), (391, 408), (640, 407), (97, 1011)):
        frame: Frame = frame_for(height, width, PROFILES["lxmert-published"])
        border = torch.tensor([[0.0, 0.0, frame.size[1] - 1.0, frame.size[0] - 1.0], [8.0, 24.0, 56.0, 88.0]])
        assert torch.equal(frame.to_input(frame.to_original(border)), border)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"weights": "/nowhere/w.safetensors"}, WeightsError, "nowhere"),
        ({"weights": None}, UsageError, "--weights seeded"),
        ({"expect_sha256": "ab"}, WeightsError, "seed"),
        ({"profile": "lxmrt"}, UsageError, "lxmrt"),
        ({"boxes": "few"}, UsageError, "few"),
        ({"dtype": "float8"}, UsageError, "float8"),
        ({"precision": "int4"}, UsageError, "int4"),
        ({"colour": "red"}, UsageError, "colour"),
        ({"given_boxes": "/nowhere.json"}, UsageError, "nowhere"),
        ({"device": "gpu"}, UsageError, "gpu"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises((error, MissingDependency), match=said):
        extractor(**options)


def test_provenance_changes_with_everything_that_changes_features() -> None:
    base = extractor().provenance()
    others = [extractor(boxes=30), extractor(weights="seeded-tiny:1"), extractor(precision="bfloat16")]
    assert all(other.provenance() != base for other in others)
    assert extractor().provenance() == base
