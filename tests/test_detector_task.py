"""The task as the training loop sees it: options, examples, batches, losses, predictions, scores, export."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from featx.errors import UsageError
from featx.settings import read
from featx.train.recipe import read_recipe
from featx_extractors.frcnn import FRCNN
from featx_extractors.preprocess import Frame
from featx_extractors.profiles import PROFILES
from featx_extractors.proposals import propose
from featx_extractors.training.options import DetectorOptions, ModelOptions
from featx_extractors.training.regions import training_profile
from featx_extractors.training.task import DetectorTask
from featx_extractors.weights import TINY, load_weights, seeded_weights, write_normal
from featx_extractors.weights.architecture import PREDICTOR
from featx_extractors.weights.checkpoint import NORMALISED, UNIT
from featx_extractors.weights.normal import Weights

SMALL = {
    "stem": 16, "width": 8, "out": 16, "blocks": [1, 1, 1, 1], "rpn_hidden": 8, "embedding": 4, "attribute_hidden": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of red and blue boxes on grey, and their annotations."""
    folder = tmp_path_factory.mktemp("drawn")
    images, entries = [], []
    for i in range(4):
        size = (96, 128) if i % 2 else (128, 96)
        pixels = np.full((*size, 3), 128, np.uint8)
        for k, (x, y, colour) in enumerate(((10, 12, 0), (52, 50, 1))):
            pixels[y : y + 40, x : x + 36] = (0, 0, 255) if colour else (255, 0, 0)
            entries.append({
                "id": 2 * i + k, "image_id": i, "category_id": colour + 1, "bbox": [x, y, 36, 40], "iscrowd": 0,
                "attribute_ids": [colour],
            })  # fmt: skip
        cv2.imwrite(str(folder / f"p{i}.png"), pixels)
        images.append({"id": i, "file_name": f"p{i}.png", "height": size[0], "width": size[1]})
    named = [{"id": i, "name": name} for i, name in enumerate(("blue", "red"))]
    kinds = [{"id": i + 1, "name": name} for i, name in enumerate(("sea", "fire"))]
    data = {"images": images, "annotations": entries, "categories": kinds, "attCategories": named}
    (folder / "x.json").write_text(json.dumps(data))
    return folder


def options(drawn: Path, model: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    files = {"annotations": str(drawn / "x.json"), "pictures": str(drawn)}
    fresh = {"profile": "scenes-36", "architecture": SMALL, "sizes": [32, 64]}
    return {"model": fresh if model is None else model, "data": {"train": files, "val": files}, **sections}


def test_it_trains_predicts_and_is_scored(drawn: Path) -> None:
    task = DetectorTask.from_options(options(drawn, targets={"region_sample": 16}))
    assert task.wants() is None
    examples = task.examples("train")
    assert [task.key(e) for e in examples] == ["p0", "p1", "p2", "p3"]
    assert sum(len(g.parameters) for g in task.groups()) == len(list(task.model.parameters()))
    batch = task.prepare(examples, None, map(np.random.default_rng, range(len(examples))))
    assert all(len(tensor) == 4 for tensor in batch.values())
    task.model.train()
    parts = task.loss(batch)
    parts["loss"].backward()  # type: ignore[no-untyped-call]
    assert {"loss", "objectness", "anchor_boxes", "classes", "boxes", "attributes", "unreadable"} == parts.keys()
    task.model.eval()
    with torch.no_grad():
        predictions = task.predict(task.prepare(examples, None, None))
    assert len(json.loads(json.dumps(predictions))) == 4
    scores = task.metric(examples, predictions)
    assert next(iter(scores)) == "map50"
    assert all(0 <= value <= 1 for value in scores.values())


def test_perfect_predictions_score_one(drawn: Path) -> None:
    task = DetectorTask.from_options(options(drawn))
    examples = task.examples("val")
    perfect = [
        {
            "boxes": e.boxes.tolist(), "classes": e.classes.tolist(), "scores": [0.9] * len(e.boxes),
            "attributes": [[a[0], 1 - a[0]] for a in e.attributes],
        }
        for e in examples
    ]  # fmt: skip
    assert set(task.metric(examples, perfect).values()) == {1.0}
    nothing = [{"boxes": [], "classes": [], "scores": [], "attributes": []}] * len(examples)
    assert set(task.metric(examples, nothing).values()) == {0.0}


def test_norms_and_biases_do_not_decay(drawn: Path) -> None:
    task = DetectorTask.from_options(
        options(drawn, {"profile": "scenes-36", "architecture": SMALL, "backbone_lr": 0.1})
    )
    kinds = {(g.lr, g.decay): g.names for g in task.groups()}
    assert set(kinds) == {(0.1, True), (0.1, False), (1.0, True), (1.0, False)}
    for (rate, decay), names in kinds.items():
        for name in names:
            assert decay is not (".norm." in name or name.endswith(".bias"))
            assert (rate == 0.1) is name.startswith("backbone.")


def test_what_is_judged_is_the_network_as_it_stands(drawn: Path) -> None:
    task = DetectorTask.from_options(options(drawn))
    batch = task.prepare(task.examples("val"), None, None)
    task.model.eval()
    with torch.no_grad():
        first = task.predict(batch)
        assert task.predict(batch) == first
        for parameter in task.model.roi_heads.box_predictor.cls_score.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        assert task.predict(batch) != first


def test_predictions_do_not_depend_on_the_padding_of_a_batch(drawn: Path) -> None:
    task = DetectorTask.from_options(options(drawn))
    examples = task.examples("val")
    with torch.no_grad():
        together = task.predict(task.prepare(examples, None, None))
        alone = [task.predict(task.prepare([example], None, None))[0] for example in examples]
    assert together == alone


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_exported_extracts(dtype: str, drawn: Path, tmp_path: Path) -> None:
    model = {"profile": "scenes-36", "architecture": SMALL, "sizes": [32, 64], "dtype": dtype}
    task = DetectorTask.from_options(options(drawn, model))
    task.export(tmp_path, {"figures": {"map50": 0.5}})
    weights = load_weights(tmp_path / "weights.safetensors")
    header = weights.header
    assert (header.layout, header.trained, header.profile) == ("featx", True, "scenes-36")
    assert header.objects == ("sea", "fire")
    assert header.attributes == ("blue", "red")
    for name, tensor in task.model.tensors().items():
        assert torch.allclose(weights.tensors[name], tensor, rtol=0 if dtype == "float32" else 1e-3, atol=1e-6), name
    frcnn = FRCNN.from_options({"weights": str(tmp_path / "weights.safetensors")})
    assert frcnn.profile == PROFILES["scenes-36"]
    assert frcnn.notes() == []
    text = (tmp_path / "card.md").read_text()
    assert header.sha256 in text
    assert '"map50": 0.5' in text
    assert "fire" in text


def test_training_goes_on_from_any_weights(drawn: Path, tmp_path: Path) -> None:
    start = seeded_weights(TINY)
    write_normal(start, tmp_path / "start.safetensors")
    chosen = {"start": str(tmp_path / "start.safetensors"), "frozen_norm": True, "frozen_stages": 2}
    task = DetectorTask.from_options(options(drawn, chosen))
    assert task.profile.name == "caffe-36"
    state = task.model.tensors()
    kept = [n for n, t in start.tensors.items() if state[n].shape == t.shape and torch.equal(state[n], t)]
    assert {n for n in start.tensors if not n.startswith(PREDICTOR)} <= set(kept)  # the heads name other things
    assert state[f"{PREDICTOR}.cls_score.weight"].shape == (3, TINY.dim)
    task.model.train()
    task.loss(task.prepare(task.examples("train")[:2], None, map(np.random.default_rng, range(2))))["loss"].backward()  # type: ignore[no-untyped-call]
    assert task.model.backbone.res2[0].conv1.weight.grad is None
    assert task.model.roi_heads.box_predictor.cls_score.weight.grad is not None
    assert torch.equal(task.model.tensors()["backbone.res4.0.conv1.norm.running_mean"],
                       start.tensors["backbone.res4.0.conv1.norm.running_mean"])  # fmt: skip


def test_heads_that_name_the_same_things_are_kept(drawn: Path, tmp_path: Path) -> None:
    before = DetectorTask.from_options(options(drawn))
    before.export(tmp_path, {})
    after = DetectorTask.from_options(options(drawn, {"start": str(tmp_path / "weights.safetensors")}))
    ours, theirs = before.model.tensors(), after.model.tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_folded_deltas_are_trained_and_exported_in_the_published_units(drawn: Path, tmp_path: Path) -> None:
    start = seeded_weights(TINY)
    folded = Weights(start.tensors, replace(start.header, delta_weights=UNIT))
    write_normal(folded, tmp_path / "start.safetensors")
    task = DetectorTask.from_options(options(drawn, {"start": str(tmp_path / "start.safetensors")}))
    assert task.losses.delta_weights == task.weights().header.delta_weights == NORMALISED


def test_deltas_are_trained_in_the_units_that_a_profile_states(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "own", replace(PROFILES["scenes-36"], name="own", delta_weights=(4.0, 4.0, 2.0, 2.0)))
    task = DetectorTask.from_options(options(drawn, {"profile": "own", "architecture": SMALL}))
    assert task.losses.delta_weights == task.weights().header.delta_weights == (4, 4, 2, 2)


def test_proposals_are_as_many_as_are_asked_for() -> None:
    profile = training_profile(PROFILES["caffe-36"], 1)
    boxes = torch.tensor([[0.0, 0, 63, 63], [200, 0, 263, 63], [0, 200, 63, 263]])
    found = propose(torch.zeros(3), torch.zeros(3, 4), boxes, Frame((300, 300), (300, 300), (1.0, 1.0)), profile)
    assert len(found.boxes) == 1


def test_a_picture_that_became_unreadable_is_counted_and_does_not_end_a_run(drawn: Path, tmp_path: Path) -> None:
    for file in drawn.iterdir():
        shutil.copy(file, tmp_path)
    task = DetectorTask.from_options(options(tmp_path))
    examples = task.examples("train")
    task.model.train()
    assert task.loss(task.prepare(examples, None, None))["unreadable"].item() == 0
    (tmp_path / "p1.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"p1\.png: the file has 0 bytes; a blank picture takes its place"):
        batch = task.prepare(examples, None, None)
    assert batch["unreadable"].tolist() == [False, True, False, False]
    assert task.loss(batch)["unreadable"].item() == 0.25
    task.model.eval()
    with torch.no_grad():
        assert len(task.predict(batch)) == len(examples)


@pytest.mark.parametrize("entry", [{"iscrowd": 1}, {"bbox": [10, 12, 0, 40]}])
def test_annotations_without_a_box_to_learn_from_are_refused(
    entry: dict[str, Any], drawn: Path, tmp_path: Path
) -> None:
    data = json.loads((drawn / "x.json").read_text())
    data["annotations"] = [{**one, **entry} for one in data["annotations"]]
    (tmp_path / "y.json").write_text(json.dumps(data))
    given = options(drawn)
    given["data"]["train"] = {"annotations": str(tmp_path / "y.json"), "pictures": str(drawn)}
    with pytest.raises(UsageError, match=r"there is no box in .*y\.json"):
        DetectorTask.from_options(given)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modle": {}}, "modle is not a setting"),
        ({"model": {"profil": "x"}}, "model.profil is not a setting"),
        ({"model": {}}, "model.profile is missing"),
        ({"model": {"profile": "nobody"}}, "no profile is called 'nobody'"),
        ({"model": {"profile": "scenes-36", "architecture": {"classes": 3}}}, "architecture.classes is not"),
        ({"model": {"profile": "scenes-36", "architecture": {"out": 8}}}, "architecture.out is 8"),
        ({"model": {"profile": "scenes-36", "architecture": {"blocks": [1, 2]}}}, "architecture.blocks is [1, 2]"),
        ({"model": {"profile": "scenes-36", "architecture": {"width": "a"}}}, "architecture.width is 'a'"),
        ({"model": {"profile": "scenes-36", "sizes": [0]}}, "model.sizes is [0]"),
        ({"model": {"profile": "scenes-36", "dtype": "int8"}}, "model.dtype is 'int8'"),
        ({"model": {"profile": "scenes-36", "frozen_norm": True}}, "model.start is missing"),
        ({"model": {"start": "seeded-tiny", "architecture": {"out": 16}}}, "both given"),
        ({"data": {}}, "data.train is missing"),
        ({"data": {"train": {"annotations": "x.json"}}}, "data.train is"),
        ({"data": {"train": "x.json"}}, "data.train is 'x.json'"),
        ({"targets": {"attribute_order": "random"}}, "targets.attribute_order is 'random'"),
        ({"targets": {"anchor_sample": -1}}, "targets.anchor_sample is -1"),
        ({"targets": {"anchor_negative": 0.8}}, "anchor_negative is 0.8"),
        ({"targets": {"region_sample": 0}}, "targets.region_sample is 0"),
        ({"targets": {"anchor_share": 1.5}}, "targets.anchor_share is 1.5"),
        ({"targets": {"anchor_share": 0}}, "anchor_share is 0 of anchor_sample 256: no object would be learnt from"),
        ({"targets": {"region_sample": 3, "region_share": 0.25}}, "region_share is 0.25 of region_sample 3"),
        ({"targets": {"region_positive": 0}}, "targets.region_positive is 0"),
        ({"targets": {"anchor_positive": 1.1}}, "targets.anchor_positive is 1.1"),
        ({"targets": {"proposals": 0}}, "targets.proposals is 0"),
        ({"targets": {"anchor_beta": float("inf")}}, "targets.anchor_beta is inf"),
        ({"targets": {"unannotated": "skip"}}, "targets.unannotated is 'skip'"),
        ({"data": {"flip": 2}}, "data.flip is 2"),
        ({"data": {"brightness": 5}}, "data.brightness is 5"),
        ({"data": {"scales": [1, 0.01]}}, "data.scales is [1, 0.01]"),
        ({"model": {"profile": "scenes-36", "frozen_stages": 9}}, "model.frozen_stages is 9"),
        ({"model": {"profile": {"base": "caffe-36", "short_side": 320}}}, "model.profile is {'base'"),
        ({"model": {"start": 3}}, "model.start is 3"),
        ({"model": {"seed": -1}}, "model.seed is -1"),
        ({"model": {"ratios": []}}, "model.ratios is []"),
        ({"data": {"scales": []}}, "data.scales is []"),
        ({"targets": {"proposals": 1_000_001}}, "targets.proposals is 1000001"),
        ({"targets": {"anchor_beta": -0.1}}, "targets.anchor_beta is -0.1"),
        ({"targets": 3}, "targets is 3"),
    ],
)
def test_a_mistake_in_the_options_is_named(changes: dict[str, Any], said: str, drawn: Path) -> None:
    with pytest.raises(UsageError) as error:
        DetectorTask.from_options({**options(drawn), **changes})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("override", "found", "meant"),
    [
        ("model.profle=caffe-36", "model.profle is not a setting", "did you mean profile?"),
        ("model.architecture.width_=8", "model.architecture.width_ is not a setting", "did you mean width?"),
        ("data.flipp=0", "data.flipp is not a setting", "did you mean flip?"),
        ("modl.flip=0", "modl is not a setting", "did you mean model?"),
    ],
)
def test_a_setting_that_is_none_is_told_the_nearest_known_one(override: str, found: str, meant: str) -> None:
    config = Path(__file__).parents[1] / "configs" / "detector_scenes.yaml"
    with pytest.raises(UsageError) as error:
        read_recipe(str(config), [override]).build()
    assert error.value.message == found
    assert error.value.hint.startswith(meant)


def test_a_section_with_nothing_in_it_has_its_defaults(drawn: Path) -> None:
    assert DetectorTask.from_options(options(drawn, targets=None)).targets.region_sample == 64


def test_fresh_weights_follow_the_seed_of_the_run_unless_they_have_their_own(drawn: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"task": "detector", **options(drawn)}))

    def built(*overrides: str) -> dict[str, torch.Tensor]:
        task = read_recipe(str(path), overrides).build()
        return task.model.state_dict()

    def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(one[name], other[name]) for name in one)

    assert same(built("train.seed=3"), built("train.seed=3"))
    assert not same(built("train.seed=3"), built("train.seed=4"))
    assert same(built("train.seed=3", "model.seed=0"), built("train.seed=4", "model.seed=0"))
    assert not same(built("train.seed=3", "model.seed=0"), built("train.seed=3", "model.seed=1"))


def test_splits_must_name_the_same_things(drawn: Path, tmp_path: Path) -> None:
    data = json.loads((drawn / "x.json").read_text())
    data["categories"][0]["name"] = "lake"
    (tmp_path / "y.json").write_text(json.dumps(data))
    given = options(drawn)
    given["data"]["val"] = {"annotations": str(tmp_path / "y.json"), "pictures": str(drawn)}
    with pytest.raises(UsageError, match="do not name the same"):
        DetectorTask.from_options(given)


def test_anchors_of_a_fresh_network_are_those_asked_for() -> None:
    sizes = ModelOptions(sizes=(30.0, 60.0), ratios=(1.0,)).sized(3, 2)
    assert (sizes.anchors, sizes.classes, sizes.attributes) == (2, 3, 2)


@pytest.mark.parametrize("name", ["detector_scenes", "detector_vg"])
def test_the_configurations_are_understood(name: str) -> None:
    recipe = read_recipe(str(Path(__file__).parents[1] / "configs" / f"{name}.yaml"))
    assert recipe.task == DetectorTask.name
    chosen = read(DetectorOptions, "", recipe.options)
    assert chosen.model.start or chosen.model.resolved_profile(None).name == "scenes-36"
    assert {"annotations", "pictures"} == chosen.data.train.keys()
    assert chosen.targets.attribute_loss > 0
