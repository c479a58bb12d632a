"""The detector on a GPU: the choices of the CPU, one wait for a batch, recordings that change nothing.

All of it skips where there is no GPU, and fails there with FEATX_REQUIRE_CUDA=1.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.device import waits
from featx.record import Record
from featx_extractors.copies import fetched, pinned, sent
from featx_extractors.detector import Detector
from featx_extractors.frcnn import FRCNN
from featx_extractors.launching import Graphed
from featx_extractors.profiles import Profile
from featx_extractors.stream import StreamDetector
from featx_extractors.weights import load_weights
from tests.test_frcnn import extractor, picture
from tests.test_stream import CASES, inputs

pytestmark = pytest.mark.usefixtures("cuda")


def overlap(one: Record, other: Record) -> float:
    """Share of the regions of one that the other has, too: a near tie may fall the other way on a GPU."""
    apart = np.abs(one.boxes[: one.count, None] - other.boxes[None, : other.count]).max(2)
    return float((apart.min(1) < 0.05).mean())


@pytest.mark.parametrize("chosen", CASES[:11], ids=lambda p: f"{p.select}-{p.post_nms}-{p.score_threshold}")
def test_the_gpu_chooses_as_the_cpu(chosen: Profile, cuda: torch.device) -> None:
    weights = load_weights("seeded-tiny")
    pictures, frames = inputs(chosen)
    expected = Detector(weights, chosen).detect(pictures, frames)
    found = StreamDetector(weights, chosen, device=str(cuda)).detect(pictures, frames)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.features.is_cpu
        assert abs(len(ours.features) - len(theirs.features)) <= 2
        apart = (ours.proposals[:, None] - theirs.proposals[None]).abs().amax(2)
        assert (apart.amin(1) < 0.05).float().mean() > 0.9
        same = apart.argmin(1)[apart.amin(1) < 0.05]
        torch.testing.assert_close(ours.features[apart.amin(1) < 0.05], theirs.features[same], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "fp16"])
def test_features_at_given_boxes_are_close_in_every_precision(precision: str, cuda: torch.device) -> None:
    weights, chosen = load_weights("seeded-tiny"), CASES[0]
    pictures, frames = inputs(chosen)
    boxes = [torch.tensor([[3.0, 4, 60, 80], [0, 0, 127.5, 95]])] * 2
    expected = Detector(weights, chosen).describe(pictures, frames, boxes)
    found = StreamDetector(weights, chosen, device=str(cuda), precision=precision).describe(pictures, frames, boxes)
    for ours, theirs in zip(found, expected, strict=True):
        cosine = torch.nn.functional.cosine_similarity(ours.features, theirs.features)
        assert cosine.min() > (0.99999 if precision == "float32" else 0.995)


@pytest.mark.parametrize("chosen", [CASES[0], CASES[4], CASES[6], CASES[8]], ids=lambda p: p.select)
def test_a_batch_makes_the_host_wait_for_nothing(chosen: Profile, cuda: torch.device) -> None:
    detector = StreamDetector(load_weights("seeded-tiny"), chosen, device=str(cuda))
    pictures, frames = inputs(chosen)
    held = [pinned(each, cuda) for each in pictures]
    detector.begin(held, frames).result()  # the first of a shape makes anchors
    assert waits(lambda: detector.begin(held, frames), cuda) == 0


def test_records_of_batches_under_way_are_those_of_one_at_a_time(cuda: torch.device) -> None:
    frcnn: FRCNN = extractor(device=str(cuda))
    prepared = [frcnn.prepare(picture(seed)) for seed in range(4)]
    expected = [frcnn([each])[0] for each in prepared]
    begun = [frcnn.begin([each]) for each in prepared]
    for records, theirs in zip(begun, expected, strict=True):
        ours = records()[0]
        ours.check(frcnn.schema)
        assert overlap(ours, theirs) > 0.9


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_recorded_kernels_give_what_launched_ones_do(precision: str, cuda: torch.device) -> None:
    weights, chosen = load_weights("seeded-tiny"), CASES[0]
    pictures, frames = inputs(chosen)
    plain = StreamDetector(weights, chosen, device=str(cuda), precision=precision)
    graphs = StreamDetector(weights, chosen, device=str(cuda), precision=precision, launch="graphs")
    boxes = [torch.tensor([[3.0, 4, 60, 80], [0, 0, 127.5, 95]])] * 2
    expected = plain.describe(pictures, frames, boxes)
    for _ in range(4):  # plainly, recorded, replayed twice
        for ours, theirs in zip(graphs.describe(pictures, frames, boxes), expected, strict=True):
            torch.testing.assert_close(ours.features, theirs.features, rtol=1e-3, atol=1e-3)


def test_a_function_is_recorded_for_so_many_shapes_and_no_result_is_overwritten(cuda: torch.device) -> None:
    calls = []

    def double(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return x * 2

    graphed = Graphed(double, most=1)
    results = [graphed(torch.full((2,), float(i), device=cuda)) for i in range(5)]
    assert [r[0].item() for r in results] == [0, 2, 4, 6, 8]
    before = len(calls)
    graphed(torch.ones(2, device=cuda))
    assert len(calls) == before, "a recorded shape was computed anew"
    for _ in range(3):
        assert graphed(torch.ones(3, device=cuda)).tolist() == [2, 2, 2]
    assert calls[before:] == [3, 3, 3], "there was room for one recording"


def test_copies_arrive(cuda: torch.device) -> None:
    x = torch.arange(6.0)
    assert pinned(x, cuda).is_pinned()
    back = fetched(sent(x, cuda) + 1)
    torch.cuda.synchronize()
    assert back.tolist() == (x + 1).tolist()
