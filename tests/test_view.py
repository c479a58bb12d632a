"""Views of a superset store: what would have been extracted with other numbers, to the bit, chosen when it is read."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import featx
from featx import cli
from featx.care.cast import recast
from featx.codec import encode, store_key
from featx.errors import KeyNotFound, StoreDamaged, UsageError
from featx.extractor import Picture
from featx.record import Record, RecordBatch
from featx.store import StoreReader, create_store, open_part, open_store, read_manifest
from featx.tasks.stores import manifests, sampled
from featx.train.recipe import read_recipe
from featx.train.sources import fingerprint, opened
from featx.wants import Wants, hashes, mismatches
from featx_extractors.detector import Detector
from featx_extractors.frcnn import FRCNN
from featx_extractors.profiles import PROFILES

# Fewer proposals than the profiles have, still more than a superset keeps.
SMALL = {"short_side": 192, "long_side": 320}
PROPOSALS = 130
SHAPES = ((120, 160), (97, 131), (160, 88))


def photos() -> list[Picture]:
    found = []
    for seed, (height, width) in enumerate(SHAPES):
        coarse = np.random.default_rng(seed).integers(0, 255, (-(-height // 8), -(-width // 8), 3), np.uint8)
        found.append(Picture(f"p{seed}", np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width]))
    return found


def most(profile: str) -> int:
    return min(100, PROFILES[profile].post_nms)


def low(profile: str) -> dict[str, Any]:
    """An untrained network is sure of nothing: multilabel needs a lower threshold to have something to choose from."""
    return {"score_threshold": 0.02} if PROFILES[profile].select == "multilabel" else {}


def extractor(profile: str, /, **options: Any) -> FRCNN:
    proposals = min(PROPOSALS, PROFILES[profile].post_nms)
    switches = {"base": profile, "name": profile, "post_nms": proposals, **SMALL, **options.pop("switches", {})}
    return FRCNN.from_options({"weights": "seeded-tiny", "profile": switches, **options})


def records(frcnn: FRCNN) -> list[Record]:
    found = [frcnn([frcnn.prepare(photo)])[0] for photo in photos()]
    for record in found:
        record.check(frcnn.schema)
    return found


def stored(folder: Path, frcnn: FRCNN, backend: str = "lmdb") -> Path:
    create_store(folder, backend, frcnn.schema, frcnn.provenance(), frcnn.labels)
    with open_part(folder) as writer:
        for ordinal, (photo, record) in enumerate(zip(photos(), records(frcnn), strict=True)):
            writer.put(photo.key, record, ordinal)
        writer.finish()
    return folder


def expect_equal(view: StoreReader, direct: FRCNN) -> None:
    """Every byte of every record, the schema and the provenance are those of a direct extraction."""
    assert view.schema == direct.schema
    assert json.dumps(view.manifest.provenance) == json.dumps(direct.provenance())
    for ordinal, (photo, record) in enumerate(zip(photos(), records(direct), strict=True)):
        assert view.stored_bytes(photo.key) == encode(record, direct.schema, store_key(photo.key), ordinal)
        assert view[photo.key] == record


class Supersets(dict[str, Path]):
    """A superset store of each profile, made when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __missing__(self, profile: str) -> Path:
        self[profile] = stored(self.root / profile, extractor(profile, superset=most(profile), **low(profile)))
        return self[profile]


@pytest.fixture(scope="module")
def supersets(tmp_path_factory: pytest.TempPathFactory) -> Supersets:
    return Supersets(tmp_path_factory.mktemp("supersets"))


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of equal regions of equal maps are computed once: the network is the slow part."""
    compute = Detector.region_features

    def look_up(self: Detector, res4: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        place = (self.profile.pooler, self.profile.res5, res4.numpy().tobytes(), boxes.numpy().tobytes())
        if place not in FEATURES:
            FEATURES[place] = compute(self, res4, boxes)
        return FEATURES[place]

    monkeypatch.setattr(Detector, "region_features", look_up)


FEATURES: dict[Any, torch.Tensor] = {}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_view_of_every_profile_equals_the_extraction_with_36_boxes_and_with_10_to_60(
    supersets: Supersets, profile: str
) -> None:
    with open_store(supersets[profile]) as store:
        for boxes in ("36", "10..60"):
            expect_equal(store.view(boxes=boxes), extractor(profile, boxes=boxes, **low(profile)))


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("profile", PROFILES)
def test_a_view_equals_the_extraction_with_any_number_it_kept(supersets: Supersets, profile: str) -> None:
    with open_store(supersets[profile]) as store:
        expect_equal(store.view(), extractor(profile, **low(profile)))
        for boxes in ("1", "20..50", f"10..{most(profile)}", str(most(profile))):
            expect_equal(store.view(boxes), extractor(profile, boxes=boxes, **low(profile)))


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("profile", [name for name in PROFILES if PROFILES[name].select != "maxnms"])
def test_a_view_with_another_threshold_equals_the_extraction_with_it(supersets: Supersets, profile: str) -> None:
    """Thresholds are confidences that occur: at them > and >= part, and the 36th lets exactly 36 pass."""
    with open_store(supersets[profile]) as store:
        confs = store["p0"].selection_confs
        for place in (0, 35, 36, len(confs) - 1):
            for boxes in ("36", "10..60"):
                asked = {"boxes": boxes, "score_threshold": float(confs[place])}
                expect_equal(store.view(**asked), extractor(profile, **asked))


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_view_has_the_bytes_of_the_extraction_in_every_dtype_and_backend(
    tmp_path: Path, dtype: str, backend: str
) -> None:
    with open_store(stored(tmp_path / "s", extractor("caffe-36", superset=100, dtype=dtype), backend)) as store:
        expect_equal(store.view("36"), extractor("caffe-36", dtype=dtype))


def test_too_few_proposals_are_padded_and_counted_as_in_the_extraction(tmp_path: Path) -> None:
    few = {"post_nms": 60, "pre_nms": 12, "rpn_nms": 0.2, "drop_empty": True}
    with open_store(stored(tmp_path / "s", extractor("caffe-36", superset=60, switches=few))) as store:
        assert all(0 < len(store[key]) < 36 for key in store)
        view = store.view(boxes="36")
        expect_equal(view, extractor("caffe-36", switches=few))
        assert [len(view[key].features) for key in view] == [36, 36, 36]


def test_a_record_without_features_has_views_too(tmp_path: Path) -> None:
    with open_store(stored(tmp_path / "s", extractor("caffe-36", superset=100, boxes_only=True))) as store:
        expect_equal(store.view(boxes="10..20"), extractor("caffe-36", boxes="10..20", boxes_only=True))


def test_a_view_written_to_a_store_has_the_digest_of_the_extraction(supersets: Supersets, tmp_path: Path) -> None:
    with open_store(supersets["caffe-36"], view={"boxes": 36}) as view:
        manifest = view.manifest
        create_store(tmp_path / "copy", "lmdb", view.schema, manifest.provenance, view.labels)
        with open_part(tmp_path / "copy") as writer:
            for ordinal, key in enumerate(view.keys("source")):
                writer.put(key, view[key], ordinal)
            writer.finish()
    copied, direct = read_manifest(tmp_path / "copy"), read_manifest(stored(tmp_path / "d", extractor("caffe-36")))
    assert copied == direct
    assert copied.totals is not None
    assert manifest.totals is not None
    assert manifest.totals.digest != copied.totals.digest  # it is not known before all is read


def test_a_batch_of_a_view_is_that_of_the_extraction(supersets: Supersets, tmp_path: Path) -> None:
    direct = stored(tmp_path / "d", extractor("caffe-36", boxes="10..60"))
    with open_store(supersets["caffe-36"]) as superset, open_store(direct) as store:
        view, keys = superset.view("10..60"), ["p2", "p0", "p1"]
        ours, theirs = view.get_batch(keys), store.get_batch(keys)
        out = view.buffer(3, int(view.row_counts(keys).max()))
        again = view.get_batch(keys, out)
        np.testing.assert_array_equal(view.row_counts(keys), store.row_counts(keys))
    assert again.features.data_ptr() == out.features.data_ptr()
    for batch in (ours, again):
        assert list(batch.extra) == list(theirs.extra)
        for a, b in ((batch.features, theirs.features), (batch.boxes, theirs.boxes), (batch.mask, theirs.mask),
                     *((batch.extra[n], theirs.extra[n]) for n in theirs.extra)):  # fmt: skip
            assert torch.equal(a, b)


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "float32"])
@pytest.mark.parametrize("profile", PROFILES)
def test_batches_of_a_view_hold_its_records_read_natively_or_not(
    supersets: Supersets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, dtype: str, backend: str
) -> None:
    """Expected is what single records are, which the tests above hold to direct extraction."""
    path = converted(supersets[profile], tmp_path / "s", dtype, backend)
    with open_store(path) as store:
        for boxes in ("36", "10..60", "3..5"):
            view, keys = store.view(boxes), ["p2", "p0", "p2", "p1"]
            native = view.get_batch(keys, boxes="unit"), view.get_batch(keys, dtype="stored", fields=["object_ids"])
            room = view.buffer(6, 64, fields=())
            room.features.fill_(7)
            reused, counts = view.get_batch(keys, room), view.row_counts(keys)
            with monkeypatch.context() as patch:
                patch.setattr(type(store), "gathering", None)
                plain = view.get_batch(keys, boxes="unit"), view.get_batch(keys, dtype="stored", fields=["object_ids"])
                np.testing.assert_array_equal(view.row_counts(keys), counts)
            for one, other in zip(native, plain, strict=True):
                assert list(one.extra) == list(other.extra)
                for a, b in zip(tensors(one), tensors(other), strict=True):
                    assert (a.dtype, a.shape) == (b.dtype, b.shape)
                    assert torch.equal(a, b)
            for place, key in enumerate(keys):
                record = view[key]
                features = torch.from_numpy(record.features.astype(np.float32))
                assert torch.equal(reused.features[place, : len(features)], features)
                assert not reused.features[place, len(features) :].any()
                assert reused.mask[place].sum() == record.count == counts[place, 1]


def tensors(batch: RecordBatch) -> list[torch.Tensor]:
    return [batch.features, batch.boxes, batch.mask, batch.sizes, *batch.extra.values()]


def converted(source: Path, folder: Path, dtype: str, backend: str) -> Path:
    """The store with another dtype of features."""
    with open_store(source) as store:
        first, *others = store.schema.fields
        schema = replace(store.schema, fields=(replace(first, dtype=dtype), *others))
        create_store(folder, backend, schema, store.manifest.provenance, store.labels)
        with open_part(folder) as writer:
            for ordinal, key in enumerate(store.keys("source")):
                writer.put(key, recast(store[key], schema), ordinal)
            writer.finish()
    return folder


def test_a_buffer_too_small_for_a_view_and_a_missing_key_are_told(supersets: Supersets) -> None:
    with open_store(supersets["caffe-36"]) as store:
        view = store.view("10..60")
        with pytest.raises(UsageError, match=r"'p1' has \d+ rows, out has room for 4"):
            view.get_batch(["p1"], view.buffer(2, 4))
        with pytest.raises(KeyNotFound, match="'p9'"):
            view.get_batch(["p1", "p9"])
        with pytest.raises(KeyNotFound, match="'p9'"):
            view.row_counts(["p9"])
        assert len(view.get_batch([]).features) == 0


def test_views_pickle_and_close_and_know_their_keys(supersets: Supersets) -> None:
    with open_store(supersets["caffe-36"], view={"boxes": "36"}) as view:
        again = pickle.loads(pickle.dumps(view))
        assert again["p1"] == view["p1"]
        assert (len(view), list(view.keys()), "p0" in view, "x" in view) == (3, ["p0", "p1", "p2"], True, False)
        with pytest.raises(KeyNotFound, match="'p9'"):
            view["p9"]
        assert "36..36 boxes" in repr(view)
        again.close()
    assert len(view["p0"]) == 36  # a closed reader opens again


def test_a_view_of_a_view_is_one_of_the_superset(supersets: Supersets) -> None:
    with open_store(supersets["caffe-36"]) as store:
        assert store.view("5").view("36").stored_bytes("p0") == store.view("36").stored_bytes("p0")


def test_damage_in_the_superset_is_not_given_a_checksum_that_fits(tmp_path: Path) -> None:
    folder = stored(tmp_path / "s", extractor("caffe-36", superset=100))
    file = next(folder.glob("parts/*/records.lmdb"))
    with open_store(folder) as store:
        features = store["p1"].features[0].tobytes()
    content = bytearray(file.read_bytes())
    content[content.index(features) + 5] ^= 1
    file.write_bytes(content)
    with open_store(folder, view={"boxes": 36}) as view:
        view["p0"]
        for read in (view.stored_bytes, view.__getitem__, lambda key: view.get_batch([key])):
            with pytest.raises(StoreDamaged, match="p1"):
                read("p1")


@pytest.mark.parametrize(
    ("profile", "asked", "said"),
    [
        ("caffe-36", {"boxes": "101"}, "101 boxes are asked for, and the store keeps the best 100"),
        ("caffe-36", {"boxes": "10..200"}, "--superset 200"),
        ("caffe-36", {"boxes": "many"}, "many"),
        ("caffe-36", {"score_threshold": "high"}, "high"),
        ("hf-demo", {"score_threshold": 0.3}, "maxnms, looks at no score threshold"),
        ("detectron2-c4", {"score_threshold": 0.01}, "keeps what is above 0.02"),
    ],
)
def test_a_view_that_what_was_kept_does_not_decide_is_refused(
    supersets: Supersets, profile: str, asked: dict[str, Any], said: str
) -> None:
    with open_store(supersets[profile]) as store, pytest.raises(UsageError) as error:
        store.view(**asked)
    assert said in str(error.value)


def test_a_plain_store_has_no_view_but_itself(tmp_path: Path) -> None:
    with open_store(stored(tmp_path / "s", extractor("caffe-36"))) as store:
        assert store.view() is store
        assert store.view(boxes="36", score_threshold=0.2) is store
        for asked in ({"boxes": 30}, {"score_threshold": 0.3}):
            with pytest.raises(UsageError, match=r"no superset.*36\.\.36(.|\n)*--superset 100"):
                store.view(**asked)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"superset": "lots"}, "lots"),
        ({"superset": 20}, "wants up to 36"),
        ({"superset": 131}, "130 proposals"),
        ({"superset": 100, "boxes": "10..110"}, "up to 110"),
        ({"superset": 100, "given_boxes": "b.json"}, "given boxes"),
        ({"score_threshold": 2}, "from 0 to 1"),
    ],
)
def test_a_superset_that_cannot_be_is_refused_before_the_weights_are_read(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        extractor("caffe-36", **options)
    if "superset" not in options:
        with pytest.raises(UsageError, match="looks at no score threshold"):
            extractor("hf-demo", score_threshold=0.5)


def test_a_superset_is_no_store_of_its_profile_and_a_view_is(supersets: Supersets) -> None:
    """100 rows by falling score must not pass for the 36 that a model was trained on."""
    profile, weights = hashes(extractor("caffe-36").provenance())
    wants = Wants(dim=256, profile=profile, weights=weights)
    with open_store(supersets["caffe-36"]) as store:
        assert [m.what for m in mismatches(wants, store.schema, store.manifest.provenance)] == ["profile"]
        view = store.view(boxes=36)
        assert not list(mismatches(wants, view.schema, view.manifest.provenance))


def test_a_recipe_trains_on_views(supersets: Supersets, tmp_path: Path) -> None:
    path = supersets["caffe-36"]
    (tmp_path / "r.yaml").write_text(
        f"task: lxmert-vqa\nstore: {{train: {{path: {path}, boxes: 36}}, val: {{path: {path}, boxes: 10..60}}}}\n"
    )
    store = read_recipe(str(tmp_path / "r.yaml")).store
    with opened(store) as stores:
        assert [stores[split].schema.rows for split in ("train", "val")] == [36, None]
        assert fingerprint(stores["train"]) != fingerprint(stores["val"])
    assert [m.schema.rows for m in manifests({"path": path, "boxes": 5}).values()] == [5]
    assert {len(rows) for rows in sampled({"path": str(path), "boxes": 7}, "it")} == {7}
    with opened({"path": path, "boxes": 36}) as stores:
        assert stores["train"] is stores["val"]
    (tmp_path / "r.yaml").write_text(f"task: lxmert-vqa\nstore: {{path: {path}, box: 36}}\n")
    with pytest.raises(UsageError, match="boxes: 36"):
        read_recipe(str(tmp_path / "r.yaml"))


def test_commands_read_views(supersets: Supersets, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(supersets["caffe-36"])
    assert cli.main(["inspect", path]) == 0
    assert "superset" in capsys.readouterr().out
    assert cli.main(["inspect", path, "--boxes", "36", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["schema"]["rows"], shown["provenance"]["profile"]["max_boxes"]) == (36, 36)
    assert cli.main(["get", path, "p0", "--boxes", "12", "-o", str(tmp_path / "p0.npz")]) == 0
    with np.load(tmp_path / "p0.npz") as arrays:
        assert arrays["boxes"].shape == (12, 4)
    assert cli.main(["inspect", path, "--boxes", "200"]) == 2
    assert "at most 100" in capsys.readouterr().err


def test_the_command_makes_a_superset(tmp_path: Path) -> None:
    from featx.draw import encode_png

    (tmp_path / "photos").mkdir()
    for photo in photos():
        (tmp_path / "photos" / f"{photo.key}.png").write_bytes(encode_png(photo.pixels))
    made = [
        str(tmp_path / "photos"),
        str(tmp_path / "s"),
        "--profile",
        "caffe-36",
        "--weights",
        "seeded-tiny",
        "--quiet",
    ]
    assert cli.main(["extract", *made, "--superset", "50"]) == 0
    made[1] = str(tmp_path / "d")
    assert cli.main(["extract", *made, "--boxes", "5..40", "--score-threshold", "0.3"]) == 0
    asked = {"boxes": "5..40", "score_threshold": "0.3"}
    with featx.open_store(tmp_path / "s", view=asked) as view, featx.open_store(tmp_path / "d") as direct:
        assert view.manifest.provenance == direct.manifest.provenance
        assert [view.stored_bytes(key) for key in view] == [direct.stored_bytes(key) for key in direct]


@pytest.mark.parametrize("where", [None, "", 5, {"path": ""}, {"path": "s", "rows": 3}, {"boxes": 36}])
def test_a_location_is_a_path_or_a_mapping_with_one(where: Any) -> None:
    with pytest.raises(UsageError, match="path"):
        open_store(where)
