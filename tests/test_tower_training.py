"""A small CLIP on drawn scenes: what cells are to say, where fresh heads look, and what a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from featx import jobs, open_store
from featx.cli import main
from featx.config import load_config
from featx.errors import FeatxError, UsageError
from featx.registry import load
from featx_extractors.tower_training.cells import Cells
from featx_extractors.tower_training.fresh import STEPS, new_clip
from featx_extractors.tower_training.letters import Letters
from featx_extractors.tower_training.model import Taught
from featx_extractors.tower_training.options import LossOptions, ModelOptions
from featx_extractors.tower_training.task import TowerTask
from featx_extractors.tower_training.variation import cropped
from featx_extractors.towers.loading import load_tower
from featx_extractors.training.coco import Names

NAMES = Names(("cat", "car"), ("red", "small", "striped"))
SMALL = {"size": 48, "patch": 12, "width": 24, "layers": 2, "heads": 2, "text_width": 16, "text_layers": 1,
         "text_heads": 2, "projection": 8}  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    assert main(["scenes", str(folder), "--train", "12", "--val", "4", "--seed", "3"]) == 0
    return folder


def configuration(scenes: Path, path: Path, **train: object) -> Path:
    data = {
        split: {"annotations": f"{scenes}/annotations/instances_{split}.json", "pictures": f"{scenes}/{split}"}
        for split in ("train", "val")
    }
    texts = {f"{s}_texts": [{"captions": f"{scenes}/captions/captions_{s}_en.json"}] for s in data}
    settings = {"epochs": 2, "batch": 4, "lr": 1e-3, **train}
    path.write_text(
        yaml.safe_dump({"task": "clip-tower", "model": SMALL, "data": {**data, **texts}, "train": settings})
    )
    return path


def task_of(path: Path) -> TowerTask:
    options = {k: v for k, v in yaml.safe_load(path.read_text()).items() if k not in ("task", "train")}
    made = load("featx.tasks", "clip-tower").from_options(options)
    assert isinstance(made, TowerTask)
    return made


def exported(path: Path, folder: Path) -> TowerTask:
    task = task_of(path)
    folder.mkdir()
    task.export(folder, {})
    return task


def test_a_cell_belongs_to_the_thing_it_is_most_in_the_middle_of() -> None:
    cells = Cells(2, 4, NAMES)  # of a picture of 80 x 40: cells of 20 pixels
    boxes = np.float32([[0, 0, 40, 40], [30, 0, 60, 20]])
    found = cells.targets(boxes, np.array([1, 0]), [(0, 2), ()], (40, 80))
    # The cat's box, widened by half a cell, is 20..70 times -10..30; the centre of cell 1, (30, 10), is 15 from its
    # middle (45, 10), of 25: 0.6; of the car's, 30 x 30 around (20, 20), it is 10 away: 0.33.
    assert found["classes"].reshape(2, 4).tolist() == [[1, 1, 0, 2], [1, 1, 2, 2]]
    assert found["attributes"].reshape(2, 4, 3)[0].tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert found["edges"].reshape(2, 4, 4)[0, 2].tolist() == [-1.0, -0.5, 0.5, 0.5]
    assert found["edges"].reshape(2, 4, 4)[0, 3].tolist() == [0, 0, 0, 0]
    nothing = cells.targets(boxes[:0], np.zeros(0, np.int64), [], (40, 80))
    assert nothing["classes"].tolist() == [2] * 8


def test_a_grid_that_says_what_is_wanted_has_almost_no_loss() -> None:
    cells = Cells(2, 2, NAMES)
    wanted = cells.targets(np.float32([[0, 0, 10, 10]]), np.array([1]), [(1,)], (20, 20))
    batch = {name: torch.from_numpy(array)[None] for name, array in wanted.items()}
    said = torch.full((1, 4, cells.outputs), -20.0)
    said[0, torch.arange(4), batch["classes"][0]] = 20
    said[..., 3:6] = 40 * batch["attributes"] - 20
    said[..., 6:] = batch["edges"]
    assert cells.losses(said, batch, LossOptions()) < 1e-6
    for place in (0, 3, 8):  # a class, an attribute, an edge that are not so, of the only cell with a thing
        wrong = said.clone()
        wrong[0, 0, place] += 45
        assert cells.losses(wrong, batch, LossOptions()) > 1


def test_the_heads_of_a_fresh_network_look_at_neighbours() -> None:
    side = 6
    options = ModelOptions(size=48, patch=8, width=144, layers=1, heads=9, text_width=16, text_heads=2, text_layers=1)
    model = new_clip(options, 20, (18, 19)).eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model.vision_model(pixel_values=torch.zeros(1, 3, 48, 48), output_attentions=True).attentions[0][0]
    for head, (right, down) in enumerate(STEPS):
        hits = [
            int(found[head, 1 + row * side + column, 1:].argmax()) == (row + down) * side + column + right
            for row in range(1, side - 1)
            for column in range(1, side - 1)
        ]
        assert np.mean(hits) > 0.8, f"head {head} looks {right} right and {down} down"


def test_words_are_those_of_the_texts_and_the_files_are_read_back(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    letters = Letters.of(["A red car.", "A cat, a car"], 5, 6)
    assert list(letters.words) == ["<|unknown|>", "a", "car", ",", ".", "cat", "<|startoftext|>", "<|endoftext|>"]
    ids, mask = letters.encode(["a CAR", "a red car . a cat"])
    assert ids.tolist() == [[6, 1, 2, 7, 7, 7], [6, 1, 0, 2, 4, 7]], "the end of a long text is cut, not its last token"
    assert mask.sum(dim=1).tolist() == [4, 6]
    letters.save(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again(["a CAR"])["input_ids"] == [[6, 1, 2, 7]]


def test_pictures_and_their_texts_are_told_from_others() -> None:
    model = Taught(new_clip(ModelOptions(**SMALL), 20, (18, 19)), 9)
    close, far = torch.eye(3, 8), torch.eye(3, 8).roll(1, 0)
    model.clip.logit_scale.data.fill_(3.0)
    assert model.contrast(close, close) < 1e-6
    assert model.contrast(close, far) > 10


def test_training_goes_down_and_leaves_a_clip_that_the_extractor_reads(scenes: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = configuration(scenes, tmp_path / "x.yaml", epochs=6)
    assert main(["train", str(config), "--out", str(tmp_path / "run")]) == 0
    events = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in events if event["event"] == "epoch"]
    assert losses[-1] < losses[0]
    best = tmp_path / "run/best"
    model = transformers.CLIPModel.from_pretrained(best)
    tower = load_tower(best)
    assert tower.origin.sha256 in (best / "card.md").read_text()
    settings = load_config(None, {"extractor": "clip", "weights": str(best), "dtype": "float32", "key_rule": "stem"})
    jobs.run(jobs.plan(str(scenes / "val"), str(tmp_path / "val.featx"), settings), quiet=True)
    store = open_store(tmp_path / "val.featx")
    (record, *_) = (store[key] for key in store.keys())  # noqa: SIM118
    assert record.features.shape == (17, 24)
    assert store.manifest.provenance["weights"]["sha256"] == tower.origin.sha256
    example = task_of(config).prepare(task_of(config).examples("val")[:1], None, None)
    with torch.no_grad():
        wanted = model.vision_model(pixel_values=example["pixels"]).last_hidden_state[0]
    np.testing.assert_allclose(record.features, wanted, atol=1e-5)


def test_evaluation_counts_cells_by_hand(scenes: Path, tmp_path: Path) -> None:
    task = task_of(configuration(scenes, tmp_path / "x.yaml"))
    pairs = task.examples("val")
    perfect = []
    for pair in pairs:
        one = pair.annotated
        wanted = task.cells.targets(one.boxes, one.classes, one.attributes, one.size)
        ids = [np.flatnonzero(row).tolist() for row in wanted["attributes"]]
        perfect.append({"classes": wanted["classes"].tolist(), "attributes": ids})
    assert task.metric(pairs, perfect) == {"things": 100, "cells": 100, "attributes": 100}
    empty = [{"classes": [len(task.names.objects)] * len(task.cells), "attributes": [[]] * len(task.cells)}] * len(
        pairs
    )
    found = task.metric(pairs, empty)
    there = np.mean([np.array(one["classes"]) < len(task.names.objects) for one in perfect])
    assert found["things"] == found["attributes"] == 0
    assert found["cells"] == pytest.approx(100 * (1 - there))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"model": {**SMALL, "patch": 13}}, "several whole patches"),
        ({"model": {**SMALL, "heads": 5}}, "divide the width"),
        ({"model": {**SMALL, "length": 2}}, "both ends and a word"),
        ({"data": {}}, "data.train is missing"),
    ],
)
def test_mistakes_are_named(scenes: Path, tmp_path: Path, change: dict[str, object], fault: str) -> None:
    options = yaml.safe_load(configuration(scenes, tmp_path / "x.yaml").read_text())
    with pytest.raises(UsageError) as error:
        TowerTask.from_options({k: v for k, v in {**options, **change}.items() if k not in ("task", "train")})
    assert fault in f"{error.value.message} {error.value.hint}"


def test_texts_about_other_pictures_are_named(scenes: Path, tmp_path: Path) -> None:
    options = yaml.safe_load(configuration(scenes, tmp_path / "x.yaml").read_text())
    options["data"]["train_texts"] = options["data"]["val_texts"]
    with pytest.raises(UsageError, match="says nothing about"):
        TowerTask.from_options({"model": options["model"], "data": options["data"]})


def test_a_run_goes_on_from_another_at_a_larger_size(scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    first = exported(configuration(scenes, tmp_path / "x.yaml"), tmp_path / "first")
    path = configuration(scenes, tmp_path / "y.yaml")
    whole = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(whole | {"model": {"weights": str(tmp_path / "first"), "size": 72}}))
    second = task_of(path)
    assert second.letters.words == first.letters.words
    before, after = first.model.clip.vision_model.embeddings, second.model.clip.vision_model.embeddings
    assert (after.image_size, after.patch_size) == (72, 12)
    torch.testing.assert_close(after.patch_embedding.weight, before.patch_embedding.weight, rtol=0, atol=0)
    # transformers' own bicubic interpolation of positions is the reference
    before.image_size = 48
    with torch.no_grad():
        wanted = before.interpolate_pos_encoding(torch.zeros(1, 1 + 6 * 6, 24), 72, 72)[0]
    torch.testing.assert_close(after.position_embedding.weight, wanted, rtol=0, atol=1e-6)
    batch = second.prepare(second.examples("train")[:3], None, None)
    assert batch["pixels"].shape == (3, 3, 72, 72)
    assert batch["classes"].shape == (3, 36)
    assert torch.isfinite(second.loss(batch)["loss"])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"weights": "FOLDER", "size": 50}, "model.size is 50, of patches of 12"),
        ({"weights": "FOLDER", "width": 48}, "model.weights and model.width are both given"),
        ({"weights": "nowhere"}, "nowhere"),
        ({"weights": "FOLDER", "size": 48, "spoil": "tokenizer.json"}, "holds no vocabulary"),
    ],
)
def test_weights_that_cannot_be_gone_on_from_are_refused(
    scenes: Path, tmp_path: Path, model: dict[str, object], said: str
) -> None:
    pytest.importorskip("transformers")
    exported(configuration(scenes, tmp_path / "x.yaml"), tmp_path / "first")
    spoilt = model.pop("spoil", None)
    if spoilt:
        (tmp_path / "first" / str(spoilt)).write_text("{}")
    path = configuration(scenes, tmp_path / "y.yaml")
    whole = yaml.safe_load(path.read_text())
    named = {k: str(tmp_path / "first") if v == "FOLDER" else v for k, v in model.items()}
    path.write_text(yaml.safe_dump(whole | {"model": named}))
    with pytest.raises(FeatxError, match=said):
        task_of(path)


def test_a_window_holds_every_box_at_the_same_pixels(scenes: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    boxes = np.float32([[20.5, 10, 40, 30], [30, 20, 70, 40]])
    sizes = set()
    for _ in range(200):
        window, moved = cropped(pixels, boxes, 0.5, rng)
        sizes.add(window.shape)
        (left, top), (height, width) = (boxes - moved)[0, :2].astype(int), window.shape[:2]
        assert (window == pixels[top : top + height, left : left + width]).all()
        assert (moved >= 0).all()
        assert (moved[:, 2] <= width).all()
        assert (moved[:, 3] <= height).all()
        assert width >= 50, "20 to 70 are needed"
        assert height >= 30
    assert len(sizes) > 20
    empty, _ = cropped(pixels, boxes[:0], 0.5, rng)
    assert min(empty.shape[0] / 60, empty.shape[1] / 80) >= 0.5


def test_texts_of_mirrored_pictures_are_left_out(scenes: Path, tmp_path: Path) -> None:
    path = configuration(scenes, tmp_path / "x.yaml")
    whole = yaml.safe_load(path.read_text())
    for share, told in ((0.0, 6), (1.0, 0)):
        whole["data"]["flip"] = share
        path.write_text(yaml.safe_dump(whole))
        task = task_of(path)
        batch = task.prepare(task.examples("train")[:6], None, [np.random.default_rng(i) for i in range(6)])
        assert int(batch["told"].sum()) == told
        assert ("ids" in batch) == bool(told)
        assert torch.isfinite(task.loss(batch)["loss"])
