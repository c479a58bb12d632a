"""Regions on the CPU share what their bins have in common, and nothing but the time tells."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from featx import ops
from featx_extractors import regions
from featx_extractors.detector import Detector
from featx_extractors.profiles import PROFILES
from featx_extractors.regions import SharedRegions, planes_of, pooled_rows, shared
from featx_extractors.weights import load_weights

CAFFE = PROFILES["caffe-36"]
KINDS = {
    "dilated": CAFFE,
    "strided": replace(CAFFE, name="strided", res5="strided"),
    "odd": replace(CAFFE, name="odd", resolution=7),
    "odd and strided": replace(CAFFE, name="odd-strided", resolution=7, res5="strided"),
}
PRECISIONS = ("float32", "bf16")


@cache
def detector(kind: str, precision: str = "float32") -> Detector:
    return Detector(load_weights("seeded-tiny"), KINDS[kind], precision=precision)


def scene(precision: str = "float32", count: int = 70) -> tuple[torch.Tensor, torch.Tensor]:
    """A map of 23 x 31 cells and boxes on it, of all sizes, some twice, some beyond its borders."""
    generator = torch.Generator().manual_seed(5)
    channels = int(detector("dilated").network.proposal_head.conv.weight.shape[1])
    res4 = torch.randn(1, channels, 23, 31, generator=generator).contiguous(memory_format=torch.channels_last)
    corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([560.0, 430.0]) - 30
    small = corners[:, 0] + torch.rand(count, 2, generator=generator) * 90
    far = torch.where(torch.arange(count)[:, None] % 2 == 0, corners[:, 1], small)
    boxes = torch.cat([torch.minimum(corners[:, 0], far), torch.maximum(corners[:, 0], far)], 1)
    boxes[count // 2 :: 7] = boxes[3]
    return res4.to(detector("dilated", precision).dtype), boxes


def plainly(model: Detector, res4: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Every bin of every region pooled, and all of them convolved."""
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
    features: torch.Tensor = model.network.res5(ops.roi_pool(res4, rois, model.profile.resolution, 1 / 16))
    return features


@torch.inference_mode()
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_features_are_those_of_pooling_every_bin(kind: str, precision: str) -> None:
    model = detector(kind, precision)
    res4, boxes = scene(precision)
    expected = plainly(model, res4, boxes)
    assert expected.std() > 0.01
    tolerance = 1e-5 if precision == "float32" else 2e-2
    torch.testing.assert_close(model.region_features(res4, boxes), expected, rtol=tolerance, atol=tolerance)


@torch.inference_mode()
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_do_not_tell_what_was_shared(kind: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = detector(kind, precision)
    res4, boxes = scene(precision)
    together = model.region_features(res4, boxes)
    for share, most, chunk in ((0.0, 12_000, 60), (1.0, 12_000, 7), (1.0, 300, 60), (1.0, 1, 60), (0.5, 900, 1)):
        monkeypatch.setattr(regions, "WORTH_SHARING", share)
        monkeypatch.setattr(regions, "MOST_WINDOWS", most)
        assert torch.equal(SharedRegions(model.network.res5, model.profile, chunk)(res4, boxes), together)


@torch.inference_mode()
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_region_does_not_know_its_companions(precision: str) -> None:
    model = detector("dilated", precision)
    res4, boxes = scene(precision)
    together = model.region_features(res4, boxes)
    for rows in ([0], [69], [5, 4], list(range(33)), [8] * 9, list(range(69, -1, -1))):
        assert torch.equal(model.region_features(res4, boxes[rows]), together[rows])


@torch.inference_mode()
def test_windows_are_pooled_as_their_definition_says() -> None:
    res4 = torch.randn(1, 32, 9, 12).contiguous(memory_format=torch.channels_last)
    windows = [(0, 0, 1, 1), (11, 8, 12, 9), (2, 3, 7, 4), (0, 0, 12, 9), (5, 5, 5, 6), (0, 0, 0, 0), (9, 3, 8, 4)]
    found = pooled_rows(res4, torch.tensor(windows))
    for row, (x0, y0, x1, y1) in zip(found, windows, strict=True):
        inside = res4[0, :, y0:y1, x0:x1].flatten(1)
        assert torch.equal(row, inside.max(1).values if inside.numel() else torch.zeros(32))


def test_equal_windows_and_equal_planes_are_found() -> None:
    """A box of one cell: all of its bins are that cell. The second rounds to the same cells as the first."""
    boxes = torch.tensor([[16.0, 32, 18, 34], [17.0, 31, 19, 33], [0.0, 0, 220, 220]])
    planes = planes_of(boxes, (20, 20), 14, step=2, phases=2)
    assert planes.owners.shape == (3, 4)
    assert len({*planes.owners[:2].flatten().tolist()}) == 1  # its four planes are one, and the other's
    assert len({*planes.owners.flatten().tolist()}) == 5
    distinct, places = shared(planes.windows().flatten(0, 1), (20, 20))
    # The large one has 15 x 15 cells in bins of 15/14: bin i covers cells i and i + 1 of each axis.
    assert len(distinct) == 14 * 14 + 1
    assert [1, 2, 2, 3] in distinct.tolist()
    assert len(places) == 5 * 49


@torch.inference_mode()
def test_the_first_block_sees_each_window_once() -> None:
    model = SharedRegions(detector("dilated").network.res5, CAFFE, 60)
    seen: list[int] = []
    model.blocks[0].conv1.register_forward_hook(lambda module, args, out: seen.append(args[0].shape[0]))
    rest: list[int] = []
    model.blocks[1].register_forward_hook(lambda module, args, out: rest.append(args[0].shape[0]))
    res4, _ = scene()
    boxes = torch.tensor([[16.0, 32, 18, 34]] * 50 + [[0.0, 0, 220, 220]] * 50)
    model(res4, boxes)
    assert seen == [2]  # pictures of 14 x 14 windows: 197 of them
    assert rest == [5]  # planes


@torch.inference_mode()
def test_of_a_strided_head_only_the_bins_that_are_read_are_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    pooled: list[int] = []
    pool = ops.roi_pool

    def counted(res4: torch.Tensor, rois: torch.Tensor, size: int, scale: float) -> torch.Tensor:
        pooled.append(len(rois) * size**2)
        return pool(res4, rois, size, scale)

    monkeypatch.setattr(ops, "roi_pool", counted)
    res4, _ = scene()
    boxes = torch.tensor([[0.0, 0, 220, 220], [32.0, 0, 252, 220]])
    detector("strided").region_features(res4, boxes)
    # 2 x 49 of 2 x 196 bins; the second box lies two cells further, so that 6 of its 7 columns are the first one's.
    assert pooled == [49 + 7]
