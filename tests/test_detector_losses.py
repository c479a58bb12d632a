"""The losses: values worked out by hand, what they leave out, and that following them finds the boxes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from featx_extractors.anchors import detectron2_anchors
from featx_extractors.preprocess import Frame
from featx_extractors.profiles import PROFILES
from featx_extractors.proposals import anchor_grid
from featx_extractors.training.losses import Losses, attribute_loss, attribute_targets, smooth_l1
from featx_extractors.training.model import TrainableDetector
from featx_extractors.training.options import TargetOptions
from featx_extractors.training.regions import Sampled, Truth, sample_regions
from featx_extractors.training.start import initialise
from featx_extractors.weights import Architecture
from featx_extractors.weights.checkpoint import NORMALISED, UNIT

SIZES = Architecture(
    stem=16, width=8, out=16, blocks=(1, 1, 1, 1), rpn_hidden=8, anchors=3, classes=4, attributes=2, embedding=4,
    attribute_hidden=8,
)  # fmt: skip
PROFILE = replace(PROFILES["scenes-36"], resolution=3, plus_one=False)
SIDE = 64
CELL = torch.from_numpy(detectron2_anchors([32]))


def losses(**options: object) -> Losses:
    model = TrainableDetector(SIZES, PROFILE)
    initialise(model, CELL, 0)
    return Losses(model, TargetOptions(**options), NORMALISED, UNIT)  # type: ignore[arg-type]


def truth(*boxes: tuple[float, ...], classes: tuple[int, ...] = (), size: tuple[int, int] = (SIDE, SIDE)) -> Truth:
    return Truth(
        Frame(size, size, (1.0, 1.0)),
        torch.tensor(boxes).reshape(-1, 4),
        torch.tensor(classes or [0] * len(boxes), dtype=torch.int64),
        attribute_targets([(0,)] * len(boxes), SIZES.attributes, "falling"),
    )


def test_attributes_named_first_count_most() -> None:
    found = attribute_targets([(2, 0, 1), (), (1,)], 3, "falling")
    whole = 1 + 1 / 2 + 1 / 3
    torch.testing.assert_close(
        found, torch.tensor([[0.5 / whole, 1 / 3 / whole, 1 / whole, 0], [0, 0, 0, 1], [0, 1, 0, 0]])
    )
    equal = attribute_targets([(2, 0, 1)], 3, "equal")
    torch.testing.assert_close(equal, torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0]]))


def test_the_attribute_loss_is_the_mean_of_the_cross_entropies() -> None:
    logits = torch.tensor([[0.0, 0, 0], [math.log(2), 0, 0]])
    wanted = torch.tensor([[0.5, 0.5, 0], [1, 0, 0]])
    assert float(attribute_loss(logits, wanted)) == pytest.approx((math.log(3) + math.log(2)) / 2)
    assert float(attribute_loss(logits[:0], wanted[:0])) == 0


def test_smooth_l1_is_square_below_beta_and_linear_above() -> None:
    found, wanted = torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2)
    assert float(smooth_l1(found, wanted, 1.0)) == pytest.approx(0.5 * 0.25 + 3 - 0.5)
    assert float(smooth_l1(found, wanted, 0.0)) == pytest.approx(3.5)


def test_anchor_losses_worked_out_by_hand() -> None:
    # One square anchor a position, centred on 0, 16, 32, 48 in both axes; the box is the anchor around (16, 16).
    # Every logit is 0, so each sampled anchor costs log 2, and its deltas, which should be 0, are off by 0.2 each.
    cell = torch.from_numpy(detectron2_anchors([32], [1.0]))
    anchors = anchor_grid(cell, 4, 4)
    shown = truth((0.0, 0, 32, 32))
    rule = losses(anchor_sample=16, anchor_beta=0.0)
    parts = rule.of_anchors(torch.zeros(1, 16), torch.full((1, 16, 4), 0.2), anchors, [shown])
    # Shifted by 16 in one axis an anchor overlaps 1/3: neither, of which there are four. In both axes 1/7: background.
    labelled = 16 - 4
    assert float(parts["objectness"]) == pytest.approx(labelled * math.log(2) / 16)
    assert float(parts["anchor_boxes"]) == pytest.approx(4 * 0.2 / 16)


def test_padding_teaches_nothing() -> None:
    anchors = anchor_grid(CELL, 4, 4)
    rule = losses()
    logits = torch.zeros(1, len(anchors), requires_grad=True)
    small = truth((0.0, 0, 30, 30), size=(32, 48))
    rule.of_anchors(logits, torch.zeros(1, len(anchors), 4), anchors, [small])["objectness"].backward()
    assert logits.grad is not None
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    outside = (centres[:, 0] >= 48) | (centres[:, 1] >= 32)
    assert outside.any()
    assert not logits.grad[0, outside].any()
    assert logits.grad[0, ~outside].any()


def test_sampled_regions_say_what_they_show() -> None:
    torch.manual_seed(0)
    anchors = anchor_grid(CELL, 4, 4)
    count = len(anchors)
    shown = truth((10.0, 10, 40, 40), (30, 30, 62, 62), classes=(2, 1))
    options = TargetOptions(region_sample=32, region_share=0.25)
    regions = sample_regions(
        torch.randn(2, count), torch.randn(2, count, 4) * 0.1, anchors, [shown, truth()], PROFILE, options, 4, UNIT
    )
    picture = regions.rois[:, 0].long()
    # The picture without boxes has background only, and no picture has more objects than its share.
    assert not regions.is_object[picture == 1].any()
    assert 2 <= int(regions.is_object[picture == 0].sum()) <= 8
    assert (regions.classes[~regions.is_object] == 4).all()
    for roi, kind, box in zip(regions.rois, regions.classes, regions.boxes, strict=True):
        if kind < 4:
            low, high = torch.maximum(roi[1:3], box[:2]), torch.minimum(roi[3:], box[2:])
            shared = (high - low).clamp(min=0).prod()
            union = (roi[3:] - roi[1:3]).prod() + (box[2:] - box[:2]).prod() - shared
            assert shared / union >= 0.5
            assert box.tolist() == {2: [10, 10, 40, 40], 1: [30, 30, 62, 62]}[int(kind)]
    # The annotated boxes are among the candidates: that one of them is drawn exactly is certain here, as there are few.
    assert (regions.rois[regions.is_object, 1:] == regions.boxes[regions.is_object]).all(1).any()


def test_only_the_deltas_of_the_true_class_are_learnt() -> None:
    rule = losses()
    boxes = torch.tensor([[0.0, 0, 30, 30], [5, 5, 40, 40]])
    regions = Sampled(
        torch.tensor([[0.0, 1, 1, 31, 31], [0, 30, 30, 60, 60]]), torch.tensor([2, 4]), torch.tensor([True, False]),
        boxes, attribute_targets([(1,), ()], 2, "falling"),
    )  # fmt: skip
    features = torch.randn(2, SIZES.dim)
    rule.of_regions(features, regions)["boxes"].backward()
    gradient = rule.model.roi_heads.box_predictor.bbox_pred.weight.grad
    assert gradient is not None
    learnt = gradient.view(4, 4, -1).abs().sum((1, 2)) > 0
    assert learnt.tolist() == [False, False, True, False]


def test_every_parameter_learns_and_an_empty_batch_is_no_accident() -> None:
    torch.manual_seed(0)
    rule = losses(region_sample=16)
    rule.model.train()
    parts = rule(torch.randn(2, 3, SIDE, SIDE), [truth((4.0, 4, 40, 40)), truth()])
    parts["loss"].backward()
    assert parts["loss"].item() == pytest.approx(sum(v.item() for n, v in parts.items() if n != "loss"))
    still = [n for n, p in rule.model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert still == []
    rule.model.zero_grad()
    nothing = rule(torch.randn(2, 3, SIDE, SIDE), [truth(), truth()])
    nothing["loss"].backward()
    assert nothing["loss"].isfinite()
    assert nothing["boxes"].item() == nothing["attributes"].item() == 0


def test_following_the_losses_learns_two_pictures() -> None:
    torch.manual_seed(0)
    rule = losses(region_sample=16, anchor_sample=64)
    rule.model.train()
    pixels = torch.randn(2, 3, SIDE, SIDE)
    pixels[0, 0, 8:40, 8:40] += 4
    pixels[1, 1, 20:60, 16:48] += 4
    truths = [truth((8.0, 8, 40, 40), classes=(1,)), truth((16.0, 20, 48, 60), classes=(3,))]
    optimiser = torch.optim.AdamW(rule.model.parameters(), 3e-3)
    course = []
    for _ in range(60):
        loss = rule(pixels, truths)["loss"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        course.append(float(loss.detach()))
    assert sum(course[-5:]) < 0.4 * sum(course[:5])
