"""The CLIP extractor as a whole, on an untrained tiny tower: rows, boxes, fields, batches, stores."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import featx
from featx.cli import main
from featx.draw import draw
from featx.errors import UsageError, WeightsError
from featx.extractor import Picture
from featx.record import Record
from featx.store import open_store
from featx_extractors.clip import CLIP
from tests.towers import save_clip


def extractor(**options: Any) -> CLIP:
    return CLIP.from_options({"weights": "seeded-clip-tiny", "dtype": "float32", **options})


def stated(**changes: Any) -> dict[str, Any]:
    """A profile as a store keeps it, but for the changes."""
    cut = {"resize": "crop", "short": 32, "size": None, "crop": [32, 32], "area": None, "resample": "pil"}
    return {**cut, "filter": "bicubic", "scale": 1 / 255, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], **changes}


def test_a_profile_as_a_store_keeps_it_is_accepted() -> None:
    assert extractor(profile=stated()).how.switches() == stated()


def picture(seed: int = 0, height: int = 60, width: int = 100, key: str = "p") -> Picture:
    return Picture(key, np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def one(clip: CLIP, photo: Picture) -> Record:
    record = clip([clip.prepare(photo)])[0]
    record.check(clip.schema)
    return record


def test_a_grid_begins_with_the_class_token_whose_box_is_the_view_and_its_cells_tile_it() -> None:
    record = one(extractor(), picture())
    assert record.features.shape == (17, 32)
    # 60 x 100 becomes 32 x 53 (cut from 53.3), and columns 10 to 42 are seen: 100 / 53 pixels each
    left, right = 10 * 100 / 53, 42 * 100 / 53
    np.testing.assert_allclose(record.boxes[0], [left, 0, right, 60], rtol=1e-6)
    quarter = (right - left) / 4
    for row in range(4):
        for column in range(4):
            box = [left + column * quarter, row * 15, left + (column + 1) * quarter, (row + 1) * 15]
            np.testing.assert_allclose(record.boxes[1 + 4 * row + column], box, rtol=1e-5)


def test_without_the_class_token_the_cells_alone_are_left() -> None:
    whole, cells = one(extractor(), picture()), one(extractor(cls=False), picture())
    np.testing.assert_array_equal(cells.features, whole.features[1:])
    np.testing.assert_array_equal(cells.boxes, whole.boxes[1:])


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
@pytest.mark.parametrize("resize", ["checkpoint", "aspect"])
def test_several_tensors_go_into_one_record_of_a_store(tmp_path: Path, backend: str, resize: str) -> None:
    photos = {key: picture(seed, 40 + 10 * seed, 90, key) for seed, key in enumerate("abc")}
    (tmp_path / "photos").mkdir()
    for key, photo in photos.items():
        Image.fromarray(photo.pixels).save(tmp_path / f"photos/{key}.png")
    also = ["post_layernorm", "hidden_-2", "embeddings", "pooled", "projected"]
    with pytest.warns(UserWarning, match="not trained"):
        featx.extract(
            str(tmp_path / "photos"), str(tmp_path / "s"), extractor="clip", weights="seeded-clip-tiny",
            also=also, resize=resize, dtype="float32", backend=backend, batch=3,
        )  # fmt: skip
    with open_store(tmp_path / "s") as store:
        records = {key: store[key] for key in photos}
    for key, record in records.items():
        assert list(record.extra) == also
        for name in also:
            expected = one(extractor(tensor=name, resize=resize), photos[key]).features
            found = record.array(name)
            np.testing.assert_allclose(found, expected if found.ndim == 2 else expected[0], atol=2e-5)


def test_a_stores_own_profile_makes_the_same_extractor_again() -> None:
    first = extractor(tensor="pooled", also=["projected"], resize="squash", size=48, resample="tensor", rotations=True)
    again = extractor(profile=first.provenance()["profile"])
    assert again.provenance() == first.provenance()
    assert again.schema == first.schema


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tensor": "hidden_2"}, "has 2 blocks"),
        ({"tensor": "hidden_-3"}, "has 2 blocks"),
        ({"tensor": "logits"}, "no tensor 'logits'"),
        ({"tensor": "pooled", "also": ["last_hidden_state"]}, "exchange"),
        ({"also": ["last_hidden_state"]}, "asked for twice"),
        ({"rotations": True}, "rotations of the grid"),
        ({"tensor": "pooled", "rotations": True, "resize": "aspect"}, "squares"),
        ({"tensor": "pooled", "cls": True}, "no class token"),
        ({"area": 100}, "belongs to resize: aspect"),
        ({"size": 0}, "size is 0"),
        ({"boxes": 36}, "boxes is not a setting"),
        ({"precision": "int4"}, "precision 'int4'"),
        ({"profile": {"tensor": "pooled"}}, "the profile has no"),
        ({"size": 4}, "a patch of this tower has 8 x 8 pixels"),
        ({"resize": "aspect", "size": 7}, "a patch of this tower"),
        ({"resize": "aspect", "area": 63}, "a patch of this tower"),
        ({"size": 99999}, "size makes inputs of 99999 x 99999 pixels"),
        ({"resize": "aspect", "area": 1 << 40}, "that are possible"),
        ({"profile": stated(resample="foo")}, "the profile has resample 'foo'"),
        ({"profile": stated(filter="bob")}, "the profile has filter 'bob'"),
        ({"profile": stated(crop=32)}, "the profile has crop 32"),
        ({"profile": stated(std=[1, 0, 1])}, "the profile has std [1, 0, 1]"),
        ({"profile": stated(scale=None)}, "the profile has scale None"),
        ({"profile": stated(resize="squash")}, "not to which size"),
    ],
)
def test_what_cannot_be_is_refused_before_any_picture(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        extractor(**options)
    assert said in f"{refusal.value.message} {refusal.value.hint}"


def test_another_hash_than_the_expected_one_is_refused() -> None:
    digest = extractor().provenance()["weights"]["sha256"]
    assert extractor(expect_sha256=digest.upper()).tower.origin.sha256 == digest
    with pytest.raises(WeightsError, match="expected 12ab"):
        extractor(expect_sha256="12ab")


def test_without_weights_nothing_is_extracted() -> None:
    with pytest.raises(UsageError, match="no weights were given"):
        CLIP.from_options({})


def test_a_grid_is_drawn_whole_its_cells_outlined_and_numbered_and_the_view_is_no_cell() -> None:
    clip, photo = extractor(), picture(height=320, width=320)
    canvas = draw(np.full((320, 320, 3), 40, np.uint8), one(clip, photo), None, schema=clip.schema)
    line = np.all(canvas == (90, 230, 255), axis=-1)
    zoom = 1280 // 320
    for edge in (80, 160, 240):  # 4 x 4 cells of 80 pixels
        assert line[: 320 * zoom, edge * zoom].mean() > 0.9
        assert line[edge * zoom, : 320 * zoom].mean() > 0.9
    assert line[: 320 * zoom, 120 * zoom].mean() < 0.1
    white = np.all(canvas == 255, axis=-1)
    for row in range(4):
        for column in range(4):
            corner = white[row * 80 * zoom : row * 80 * zoom + 30, column * 80 * zoom : column * 80 * zoom + 40]
            assert corner.any(), f"cell {row}, {column} has no number"


CONFIGS = [
    path
    for path in sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))
    if str(yaml.safe_load(path.read_text()).get("extractor")).startswith("clip")
]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_of_a_tower_extracts_with_an_untrained_one(path: Path, tmp_path: Path) -> None:
    """Whatever a file of configs/ says besides the weights is understood, and gives rows as many as it says."""
    said = yaml.safe_load(path.read_text())
    Image.fromarray(picture().pixels).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("What is this?")
    source = str(tmp_path / ("a.txt" if said["extractor"] == "clip-text" else "a.png"))
    with pytest.warns(UserWarning, match="not trained"):
        featx.extract(source, str(tmp_path / "s"), config=str(path), weights="seeded-clip-tiny")
    with open_store(tmp_path / "s") as store:
        assert len(store) == 1
        rows = store.manifest.schema.rows
    size = said.get("size", 32) // 8
    grid = rows in (size**2, size**2 + 1) if rows is not None else "aspect" in path.stem
    assert grid or rows == 1


def test_options_are_set_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(picture().pixels).save(tmp_path / "a.png")
    command = ["extract", str(tmp_path / "a.png"), str(tmp_path / "s"), "--extractor", "clip"]
    command += ["--weights", "seeded-clip-tiny", "--set", "tensor=pooled", "--set", "also=[projected]"]
    assert main(command) == 0
    with open_store(tmp_path / "s") as store:
        assert store["a"].features.shape == (1, 32)
        assert store["a"].array("projected").shape == (16,)
    assert main([*command, "--set", "size"]) == 2
    assert "--set 'size' is not understood" in capsys.readouterr().err
    assert main([*command, "--set", "tensors=pooled"]) == 2
    assert "did you mean tensor" in capsys.readouterr().err
    assert main([*command, "--set", "size=48"]) == 2
    assert "profile" in capsys.readouterr().err


def test_parts_of_one_store_may_have_their_weights_in_different_places_but_not_different_weights(
    tmp_path: Path,
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "ab":
        Image.fromarray(picture().pixels).save(photos / f"{name}.png")
    save_clip(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    save_clip(tmp_path / "other", seed=1)

    def extract(place: str, k: int) -> None:
        weights = str(tmp_path / place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the absent preprocessor_config.json
            featx.extract(str(photos), str(tmp_path / "s"), extractor="clip", weights=weights, part=(k, 2))

    extract("here", 1)
    with pytest.raises(UsageError, match=r"weights\.sha256"):
        extract("other", 2)
    extract("there", 2)
    with open_store(tmp_path / "s") as store:
        assert len(store) == 2
        assert store.manifest.provenance["weights"]["source"] == str(tmp_path / "here/model.safetensors")


SCENES = [
    "featx scenes data/scenes --train 16000 --val 400 --seed 1",
    "featx train configs/clip_scenes.yaml --out runs/clip && "
    "featx train configs/clip_scenes_fine.yaml --out runs/clip-fine",
    "for s in train val; do featx extract data/scenes/$s data/scenes/$s.clip.featx"
    " --config configs/clip_scenes_grid.yaml; done",
]


@pytest.mark.parametrize(
    "name",
    [
        "clip_bert_scenes",
        "clip_bert_scenes_en",
        "clip_bert_scenes_mlm",
        "clip_mbart_scenes",
        "vle_vqa_scenes",
        "vle_itm_scenes",
        "vle_pbc_scenes",
    ],
)
def test_every_recipe_for_grids_of_scenes_begins_with_the_commands_that_make_its_stores(name: str) -> None:
    text = (Path(__file__).resolve().parent.parent / f"configs/{name}.yaml").read_text()
    assert "".join(f"# {line}\n" for line in SCENES) in text


def test_the_recipe_of_clip_vision_bert_extracts_with_the_tower_it_begins_from() -> None:
    path = Path(__file__).resolve().parent.parent / "configs/clip_vision_bert_vqa.yaml"
    begins = yaml.safe_load(path.read_text())["model"]["weights"]
    assert f"--weights {begins} " in path.read_text()


def test_names_of_one_tensor_have_one_profile_and_fields_keep_the_name_asked_for() -> None:
    names = ["last_hidden_state", "hidden_1", "hidden_-1"]  # of two blocks
    profiles = [extractor(tensor=name).provenance()["profile"] for name in names]
    assert profiles[0] == profiles[1] == profiles[2]
    first = [extractor(tensor=name).provenance()["profile"] for name in ("hidden_0", "hidden_-2")]
    assert first[0] == first[1] != profiles[0]
    assert "hidden_-2" in one(extractor(also=["hidden_-2"]), picture()).names()
