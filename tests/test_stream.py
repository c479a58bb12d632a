"""The detector that is waited for once in a batch: on the CPU it makes the choices of the plain one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from featx import ops
from featx.errors import UsageError
from featx_extractors import launching
from featx_extractors.conv import Conv
from featx_extractors.detector import Detector, Regions
from featx_extractors.network import Network
from featx_extractors.padded import can_select, first
from featx_extractors.preprocess import Frame, frame_for, to_input
from featx_extractors.profiles import PROFILES, Profile
from featx_extractors.stream import StreamDetector
from featx_extractors.weights import load_weights

SMALL = {"short_side": 128, "long_side": 224}
FEW = {"pre_nms": 12, "post_nms": 40, "rpn_nms": 0.2}  # fewer proposals than there is room for


def profile(name: str, **switches: Any) -> Profile:
    return replace(PROFILES[name], name="tested", **{**SMALL, **switches})


def inputs(chosen: Profile, number: int = 2) -> tuple[torch.Tensor, list[Frame]]:
    """Pictures of coarse noise."""
    frame = frame_for(96, 128, chosen)
    pixels = [
        np.kron(np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        for seed in range(number)
    ]
    return torch.stack([to_input(each, frame, chosen) for each in pixels]), [frame] * number


def equal(one: Regions, other: Regions) -> None:
    """The same regions in the same order. Matrix products have more rows in the padded way where proposals are few, and
    round otherwise."""
    for name in ("proposals", "object_ids", "attribute_ids"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b), name
    for name in ("features", "regressed", "object_confs"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-4)
    assert one.marks.keys() == other.marks.keys()
    assert all(torch.equal(one.marks[name], other.marks[name]) for name in one.marks)


CASES = [
    profile("lxmert-published"),
    profile("lxmert-published", **FEW),
    profile("caffe-10-100"),
    profile("milvlg-10-100", score_threshold=0.01, **{**FEW, "max_boxes": 38}),
    profile("hf-demo-fixed"),
    profile("hf-demo-fixed", **FEW),
    profile("airsplay-maxnms"),
    profile("airsplay-maxnms", final_clip=False, **FEW),
    profile("airsplay-notebook"),
    profile("airsplay-notebook", score_threshold=0.002, min_boxes=30, post_nms=20),
    profile("detectron2-c4", post_nms=60),
    profile("detectron2-c4", score_threshold=0.0, post_nms=60),  # any class may pass: the plain way
    profile("lxmert-published", superset=60),
    profile("caffe-10-100", superset=250, post_nms=300),  # more than there are proposals
    profile("hf-demo-fixed", superset=60),
]


@pytest.mark.parametrize("chosen", CASES, ids=lambda p: f"{p.select}-{p.post_nms}-{p.score_threshold}-{p.superset}")
def test_nothing_is_chosen_otherwise_for_not_waiting(chosen: Profile) -> None:
    weights = load_weights("seeded-tiny")
    plain, stream = Detector(weights, chosen), StreamDetector(weights, chosen, device="cpu")
    pictures, frames = inputs(chosen)
    for one, other in zip(plain.detect(pictures, frames), stream.detect(pictures, frames), strict=True):
        assert len(one.features)
        equal(one, other)


def test_which_rules_are_waited_for() -> None:
    waited = {index for index, chosen in enumerate(CASES) if not can_select(chosen)}
    assert waited == {11, 14}


class Reading(TorchDispatchMode):
    """Names the operators whose result, or whose shape, the host would have to wait for on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        waits = {"aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select", "aten::equal", "aten::unique_dim"}
        waits |= {"aten::_unique2", "aten::bincount", "featx::nms", "featx::select_boxes"}
        masked = name in ("aten::index", "aten::index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if masked or name in waits:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("chosen", CASES, ids=lambda p: f"{p.select}-{p.post_nms}-{p.score_threshold}-{p.superset}")
def test_no_value_of_a_batch_is_read_before_it_is_asked_for(chosen: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = StreamDetector(load_weights("seeded-tiny"), chosen, device="cpu")
    pictures, frames = inputs(chosen)
    detector.detect(pictures, frames)
    monkeypatch.setattr(StreamDetector, "region_features", plain_features)  # a CPU may look for windows that are alike
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # no check of regions, which is for the CPU only
    begin = partial(StreamDetector.begin.__wrapped__, detector)  # type: ignore[attr-defined]
    with torch.no_grad(), Reading() as reading:  # in inference mode torch does not tell of single values
        begun = begin(pictures.unbind(), frames)
    assert bool(reading.found) == (not can_select(chosen)), reading.found
    assert len(begun.result()) == 2
    boxes = [torch.tensor([[3.0, 4, 60, 80]])] * 2
    with torch.no_grad(), Reading() as reading:
        begin(pictures.unbind(), frames, boxes)
    assert not reading.found


def plain_features(self: StreamDetector, res4: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """What a GPU does: every bin of every region is pooled, and all go through res5."""
    rois, size = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1), self.profile.resolution
    if self.profile.pooler == "pool":
        pooled = ops.roi_pool(res4, rois, size, 1 / 16)
    else:
        pooled = ops.roi_align(res4, rois, size, 1 / 16, sampling_ratio=0, aligned=True)
    features: torch.Tensor = self.network.res5(pooled)
    return features


def test_values_that_are_read_are_seen() -> None:
    x = torch.arange(3.0)
    with torch.no_grad(), Reading() as reading:
        float(x.max())
        bool(x[0] > 1)
        x[x > 1]
        x[torch.tensor([0, 1])]
    assert reading.found == ["aten::_local_scalar_dense", "aten::_local_scalar_dense", "aten::index"]


def test_given_boxes_are_pooled_alike() -> None:
    chosen, weights = CASES[0], load_weights("seeded-tiny")
    pictures, frames = inputs(chosen)
    given = [torch.tensor([[3.0, 4, 60, 80], [0, 0, 127.5, 95]]), torch.zeros(0, 4)]
    plain = Detector(weights, chosen).describe(pictures, frames, given)
    stream = StreamDetector(weights, chosen, device="cpu").describe(pictures, frames, given)
    for one, other in zip(plain, stream, strict=True):
        equal(one, other)


def test_a_batch_may_be_read_after_the_next_was_begun() -> None:
    chosen = CASES[0]
    detector = StreamDetector(load_weights("seeded-tiny"), chosen, device="cpu")
    pictures, frames = inputs(chosen)
    expected = [detector.detect(pictures[i : i + 1], frames[:1])[0] for i in range(2)]
    begun = [detector.begin([pictures[i]], frames[:1]) for i in range(2)]
    for one, waiting in zip(expected, begun, strict=True):
        equal(one, waiting.result()[0])


def test_what_takes_part_goes_in_front_in_its_order() -> None:
    assert first(torch.tensor([False, True, False, True, True])).tolist() == [1, 3, 4, 0, 2]
    assert first(torch.zeros(0, dtype=torch.bool)).tolist() == []


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_convolution_whose_sums_come_in_one_pass(dtype: torch.dtype, relu: bool) -> None:
    random = torch.Generator().manual_seed(0)
    layer = Conv(torch.randn(8, 4, 3, 3, generator=random), torch.randn(8, generator=random), padding=1, relu=relu)
    layer.to(dtype)
    x, more = (torch.randn(2, channels, 5, 6, generator=random).to(dtype) for channels in (4, 8))
    for residual in (None, more):
        with torch.enable_grad():  # the plain way
            expected = layer(x, residual)
        torch.testing.assert_close(
            layer._summed(x, residual), expected, rtol=2e-2, atol=1e-5 if dtype.itemsize > 2 else 0.1
        )


@pytest.mark.parametrize(("how", "said"), [("fast", "eager"), ("graphs", "for a GPU"), ("compile", "for a GPU")])
def test_other_launches_than_there_are_or_fit_are_refused(how: Any, said: str) -> None:
    network = Network(load_weights("seeded-tiny").tensors, CASES[0])
    with pytest.raises(UsageError, match=said):
        launching.launched(network, torch.device("cpu"), how)


def test_a_recording_is_made_of_a_shape_that_comes_again_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Replay:
        """What a recording does: it reads and writes tensors of its own."""

        def __init__(self, function: Any, static: torch.Tensor, output: torch.Tensor) -> None:
            self.function, self.static, self.output = function, static, output

        def replay(self) -> None:
            self.output.copy_(self.function(self.static))

    def record(function: Any, x: torch.Tensor) -> Any:
        static = torch.empty_like(x)
        output = torch.empty_like(x)
        recorded.append(tuple(x.shape))
        return launching.Recorded(Replay(function, static, output), static, output)  # type: ignore[arg-type]

    recorded: list[tuple[int, ...]] = []
    monkeypatch.setattr(launching, "record", record)
    graphed = launching.Graphed(lambda x: x + 1, most=2)
    results = [graphed(torch.full((2,), float(i))) for i in range(4)]
    assert [r.tolist() for r in results] == [[1, 1], [2, 2], [3, 3], [4, 4]], "a replay wrote into a result"
    assert recorded == [(2,)]
    for shape in ((3,), (3,), (4,), (4,), (4,)):
        assert graphed(torch.zeros(shape)).tolist() == [1] * shape[0]
    assert recorded == [(2,), (3,)], "there is room for two"
