"""The network in training is the network at inference: same names, same numbers, whatever the profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from featx_extractors.anchors import detectron2_anchors
from featx_extractors.network import Network
from featx_extractors.profiles import PROFILES, Profile
from featx_extractors.training.coco import Names
from featx_extractors.training.export import trained_weights
from featx_extractors.training.model import TrainableDetector
from featx_extractors.training.start import initialise
from featx_extractors.weights import TINY, Architecture, read_normal, seeded_weights, write_normal
from featx_extractors.weights.architecture import PREDICTOR
from featx_extractors.weights.checkpoint import NORMALISED, UNIT

SIZES = Architecture(
    stem=16, width=8, out=16, blocks=(1, 2, 1, 2), rpn_hidden=8, anchors=6, classes=5, attributes=3, embedding=4,
    attribute_hidden=8,
)  # fmt: skip
NAMES = Names(tuple("abcde"), tuple("xyz"))
SWITCHES: dict[str, dict[str, Any]] = {
    "the Caffe original": {},
    "padded stem pool": {"stem_pool": "padded"},
    "strided res5": {"res5": "strided"},
    "another epsilon": {"norm_eps": 1e-2},
    "RoIAlign": {"pooler": "align", "resolution": 5},
}


def profile(**switches: Any) -> Profile:
    return replace(PROFILES["caffe-36"], resolution=switches.pop("resolution", 6), **switches)


def network(switches: Profile, **options: Any) -> TrainableDetector:
    model = TrainableDetector(SIZES, switches, **options)
    initialise(model, torch.from_numpy(detectron2_anchors([16, 32])), 3)
    return model


def with_statistics(model: TrainableDetector) -> TrainableDetector:
    """Batch norms that have seen something: every leaf away from its first value."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if ".norm." in name:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model


def test_the_state_is_the_normal_form() -> None:
    found = {name: tuple(t.shape) for name, t in network(profile()).state_dict().items()}
    assert found == SIZES.shapes()


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES.keys())
def test_the_trained_network_is_the_inference_network_on_the_exported_file(
    switches: dict[str, Any], tmp_path: Path
) -> None:
    chosen = profile(**switches)
    model = with_statistics(network(chosen)).eval()
    write_normal(trained_weights(model.tensors(), NAMES, chosen, NORMALISED, UNIT), tmp_path / "w.safetensors")
    inference = Network(read_normal(tmp_path / "w.safetensors").tensors, chosen).eval()
    pixels = torch.randn(2, 3, 75, 110, generator=torch.Generator().manual_seed(1))
    rois = torch.tensor([[0.0, 3, 5, 60, 70], [1, 20, 0, 109, 40], [1, 0, 0, 15, 15]])
    with torch.no_grad():
        res4, logits, deltas = model(pixels)
        features = model.region_features(res4, rois)
        classes, boxes = model.roi_heads.box_predictor(features)
        attributes = model.roi_heads.box_predictor.attributes(features, classes.argmax(1))
        expected = inference.trunk(pixels)
        expected_logits, expected_deltas = inference.proposal_head(expected)
        said = inference.predictor(features)
    for ours, theirs in (
        (res4, expected), (logits, expected_logits), (deltas, expected_deltas), (classes, said.class_logits),
        (boxes, said.deltas), (attributes, said.attribute_logits),
    ):  # fmt: skip
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES.keys())
def test_regions_are_pooled_and_described_as_at_inference(switches: dict[str, Any]) -> None:
    from featx_extractors.detector import Detector

    chosen = profile(**switches)
    model = with_statistics(network(chosen)).eval()
    weights = trained_weights(model.tensors(), NAMES, chosen, NORMALISED, UNIT)
    detector = Detector(weights, chosen)
    res4 = torch.rand(1, SIZES.out * 4, 6, 9)
    boxes = torch.tensor([[3.0, 5, 60, 70], [20, 0, 109, 40], [0, 0, 15, 15]])
    with torch.no_grad():
        ours = model.region_features(res4, torch.cat([torch.zeros(3, 1), boxes], 1))
        theirs = detector.region_features(res4, boxes)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_weights_from_elsewhere_survive_the_way_in_and_out() -> None:
    weights = seeded_weights(TINY)
    model = TrainableDetector(weights.architecture, PROFILES["caffe-36"])
    model.load(weights.tensors)
    found = model.tensors()
    assert found.keys() == weights.tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.tensors.items())


def test_a_step_changes_statistics_unless_norm_is_frozen() -> None:
    for frozen in (False, True):
        model = with_statistics(network(profile(), frozen_norm=frozen)).train()
        before = model.tensors()
        model(torch.randn(2, 3, 64, 64))
        changed = {n for n, t in model.tensors().items() if not torch.equal(t, before[n])}
        assert bool(changed) is not frozen
        norms = [p for n, p in model.named_parameters() if ".norm." in n]
        assert all(p.requires_grad is not frozen for p in norms)


def test_frozen_stages_neither_learn_nor_count() -> None:
    model = network(profile()).train()
    model.freeze(2)
    before = model.tensors()
    model(torch.randn(2, 3, 64, 64))
    still = [n for n in before if n.startswith(("backbone.stem", "backbone.res2"))]
    assert all(torch.equal(before[n], model.tensors()[n]) for n in still)
    trained = {n.split(".")[1] for n, p in model.named_parameters() if p.requires_grad and n.startswith("backbone")}
    assert trained == {"res3", "res4"}


def test_the_same_seed_gives_the_same_network_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    one = network(profile()).tensors()
    torch.manual_seed(2)
    torch.rand(7)
    two = network(profile()).tensors()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert 0.005 < one[f"{PREDICTOR}.cls_score.weight"].std() < 0.02
