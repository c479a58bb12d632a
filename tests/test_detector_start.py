"""Weights to go on from: their boxes stay the same, and are learnt in the units that they were published with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from featx_extractors.detector import Detector
from featx_extractors.preprocess import frame_for
from featx_extractors.profiles import PROFILES, Profile
from featx_extractors.training.coco import Names
from featx_extractors.training.export import trained_weights
from featx_extractors.training.judge import judging_profile
from featx_extractors.training.options import ModelOptions
from featx_extractors.training.start import started, training_deltas
from featx_extractors.weights import TINY, seeded_weights
from featx_extractors.weights.architecture import PREDICTOR
from featx_extractors.weights.checkpoint import UNIT, Weights4
from featx_extractors.weights.normal import Weights

PROFILE = replace(PROFILES["scenes-36"], short_side=64, long_side=96, min_size=2.0)


def stating(deltas: Weights4) -> tuple[Weights, Names]:
    """Weights of any values whose header says ``deltas``, and the names of all that they know."""
    weights = seeded_weights(TINY)
    names = Names(weights.header.objects or (), weights.header.attributes or ())
    factors = torch.tensor([d / n for d, n in zip(deltas, (10.0, 10.0, 5.0, 5.0), strict=True)]).repeat(TINY.classes)
    layer = f"{PREDICTOR}.bbox_pred"
    folded = {f"{layer}.weight": weights.tensors[f"{layer}.weight"] * factors[:, None],
              f"{layer}.bias": weights.tensors[f"{layer}.bias"] * factors}  # fmt: skip
    return Weights({**weights.tensors, **folded}, replace(weights.header, delta_weights=deltas)), names


def regressed(weights: Weights, profile: Profile) -> torch.Tensor:
    frame = frame_for(64, 80, profile)
    pixels = torch.randn(1, 3, *frame.size, generator=torch.Generator().manual_seed(4)) * 40
    return Detector(weights, judging_profile(profile)).detect(pixels, [frame])[0].regressed


@pytest.mark.parametrize("deltas", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (2.0, 3.0, 4.0, 5.0)])
def test_weights_go_on_in_the_published_units_and_give_the_same_boxes(deltas: Weights4) -> None:
    start, names = stating(deltas)
    model = started(ModelOptions(start="a file"), PROFILE, start, names)
    exported = trained_weights(model.tensors(), names, PROFILE, training_deltas(PROFILE), UNIT)
    assert exported.header.delta_weights == (10, 10, 5, 5)
    before, after = regressed(start, PROFILE), regressed(exported, PROFILE)
    assert len(before) > 5
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-3)
    row = model.tensors()[f"{PREDICTOR}.bbox_pred.weight"].view(TINY.classes, 4, -1)[7]
    scale = torch.tensor([10 / deltas[0], 10 / deltas[1], 5 / deltas[2], 5 / deltas[3]])
    expected = start.tensors[f"{PREDICTOR}.bbox_pred.weight"].view(TINY.classes, 4, -1)[7] * scale[:, None]
    torch.testing.assert_close(row, expected)


def test_a_profile_that_states_the_units_is_obeyed() -> None:
    profile = replace(PROFILE, delta_weights=(4.0, 4.0, 2.0, 2.0))
    assert training_deltas(profile) == (4, 4, 2, 2)
    start, names = stating((1.0, 1.0, 1.0, 1.0))  # overruled by the profile, also where they are run
    model = started(ModelOptions(start="a file"), profile, start, names)
    layer = f"{PREDICTOR}.bbox_pred.weight"
    assert torch.equal(model.tensors()[layer], start.tensors[layer])


def test_a_head_for_other_names_begins_in_the_published_units() -> None:
    start, names = stating((1.0, 1.0, 1.0, 1.0))
    model = started(ModelOptions(start="a file"), PROFILE, start, Names(("one", "two"), names.attributes))
    layer = model.tensors()[f"{PREDICTOR}.bbox_pred.weight"]
    assert layer.shape[0] == 8
    assert 0.0005 < layer.std() < 0.002  # fresh, so not scaled
