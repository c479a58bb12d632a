"""The losses: values worked out by hand, what they leave out, and that following them finds the boxes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from featx_extractors.anchors import detectron2_anchors
from featx_extractors.preprocess import Frame
from featx_extractors.profiles import PROFILES, Profile
from featx_extractors.proposals import anchor_grid
from featx_extractors.training.losses import Losses, attribute_loss, attribute_targets, smooth_l1
from featx_extractors.training.model import TrainableDetector
from featx_extractors.training.options import TargetOptions
from featx_extractors.training.regions import Sampled, Truth, sample_regions
from featx_extractors.training.start import initialise
from featx_extractors.weights import Architecture
from featx_extractors.weights.checkpoint import NORMALISED, UNIT, Weights4

SIZES = Architecture(
    stem=16, width=8, out=16, blocks=(1, 1, 1, 1), rpn_hidden=8, anchors=3, classes=4, attributes=2, embedding=4,
    attribute_hidden=8,
)  # fmt: skip
PROFILE = replace(PROFILES["scenes-36"], resolution=3, plus_one=False)
SIDE = 64
CELL = torch.from_numpy(detectron2_anchors([32]))


def losses(profile: Profile = PROFILE, rpn_deltas: Weights4 = UNIT, **options: object) -> Losses:
    model = TrainableDetector(SIZES, profile)
    initialise(model, CELL, 0)
    return Losses(model, TargetOptions(**options), NORMALISED, rpn_deltas)  # type: ignore[arg-type]


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


def test_published_recipes_give_all_attributes_of_a_box_the_same_share() -> None:
    assert TargetOptions().attribute_order == "equal"
    equal = attribute_targets([(2, 0, 1), ()], 3, "equal")
    torch.testing.assert_close(equal, torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0], [0, 0, 0, 1]]))


def test_boxes_without_attributes_can_be_left_out_of_the_mean() -> None:
    wanted = attribute_targets([(0,), ()], 2, "equal", "ignore")
    assert wanted.tolist() == [[1, 0, 0], [0, 0, 0]]
    logits = torch.tensor([[math.log(2), 0.0, 0], [5.0, 0, 0]])
    assert float(attribute_loss(logits, wanted)) == pytest.approx(math.log(2))  # p of the first is 2 / 4
    assert float(attribute_loss(logits[1:], wanted[1:])) == 0


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


def test_anchor_deltas_are_measured_in_the_units_of_the_proposal_head() -> None:
    # The box lies 2 to the right of the anchor around (16, 16), 32 wide: dx is 2 / 32, in units of 8 it is 1 / 2.
    anchors = anchor_grid(torch.from_numpy(detectron2_anchors([32], [1.0])), 4, 4)
    rule = losses(rpn_deltas=(8.0, 8.0, 3.0, 3.0), anchor_sample=16, anchor_beta=0.0)
    deltas = torch.full((1, 16, 4), 0.2)
    found = rule.of_anchors(torch.zeros(1, 16), deltas, anchors, [truth((2.0, 0, 34, 32))])["anchor_boxes"]
    assert float(found) == pytest.approx((0.3 + 3 * 0.2) / 16)


def test_a_box_too_small_for_every_anchor_is_learnt_by_the_best() -> None:
    # 8 x 8 in the middle of the anchor around (16, 16): IoU 1 / 16, with all others less. Its width and height are off
    # by log 4, and its anchor is the one that should be surer of an object.
    anchors = anchor_grid(torch.from_numpy(detectron2_anchors([32], [1.0])), 4, 4)
    logits = torch.zeros(1, 16, requires_grad=True)
    rule = losses(anchor_sample=16, anchor_beta=0.0)
    parts = rule.of_anchors(logits, torch.zeros(1, 16, 4), anchors, [truth((12.0, 12, 20, 20))])
    assert float(parts["anchor_boxes"]) == pytest.approx(2 * math.log(4) / 16)
    parts["objectness"].backward()
    assert logits.grad is not None
    assert (logits.grad[0] < 0).nonzero().tolist() == [[5]]  # second row, second column of the 4 x 4 cells


def test_the_best_anchor_of_a_box_is_sought_where_learning_happens() -> None:
    # The picture is 32 high in a batch of 64 x 64. The anchor around (16, 32), in the padding, overlaps the box by 128
    # of 288; of those in the picture only the one around (16, 16) overlaps it, by 32 of 384.
    anchors = anchor_grid(torch.from_numpy(detectron2_anchors([16], [1.0])), 4, 4)
    logits = torch.zeros(1, 16, requires_grad=True)
    low = truth((8.0, 22, 24, 32), size=(32, 64))
    losses(anchor_sample=16).of_anchors(logits, torch.zeros(1, 16, 4), anchors, [low])["objectness"].backward()
    assert logits.grad is not None
    assert (logits.grad[0] < 0).nonzero().tolist() == [[5]]


def test_widths_of_anchors_count_as_the_profile_counts_them() -> None:
    # Counting pixels, the first anchor is 32 x 32, the second 32 x 22.5 and equal to the box, so the first overlaps it
    # by 22.5 / 32, more than 0.7; without the last pixel that would be 21.5 / 31, less than 0.7. The second has no
    # delta to learn. The first: centres are 4.75 apart, and heights differ by log(32 / 22.5).
    cell = torch.tensor([[-16.0, -16, 15, 15], [-16, -16, 15, 5.5]])
    anchors = anchor_grid(cell, 4, 4)
    rule = losses(replace(PROFILE, plus_one=True), anchor_sample=32, anchor_beta=0.0)
    shown = truth((0.0, 0, 31, 21.5))
    parts = rule.of_anchors(torch.zeros(1, 32), torch.zeros(1, 32, 4), anchors, [shown])
    assert float(parts["anchor_boxes"]) == pytest.approx((4.75 / 32 + math.log(32 / 22.5)) / 32)


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


def test_regions_are_compared_as_the_profile_counts_pixels() -> None:
    # The anchor of 32 x 32 decodes to corners at 32, so to 33 x 33 pixels, and the box has 32 x 17.2: 0.505 of them.
    # Without the last pixel that would be 31 x 16.2 of 32 x 32, 0.490.
    profile = replace(PROFILE, plus_one=True, min_size=0.0)
    region = torch.tensor([[0.0, 0, 31, 31]])
    options = TargetOptions(region_sample=4, region_share=0.5)
    shown = truth((0.0, 0, 31, 16.2), classes=(1,))
    found = sample_regions(torch.zeros(1, 1), torch.zeros(1, 1, 4), region, [shown], profile, options, 4, UNIT)
    assert found.is_object.tolist() == [True, True]  # the region, and the box itself


def told(rule: Losses) -> None:
    """A predictor that says the same of every region.

    Classes: 1/8 for each, 1/2 for background. Deltas: 0 for class 0, dx 0.2 for class 2, 7 for the others. Attributes:
    of class 2 3/5, 1/5, 1/5; of any other 1/3 each.
    """
    head = rule.model.roi_heads.box_predictor
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.cls_score.bias.copy_(torch.tensor([0, 0, 0, 0, math.log(4)]))
        head.bbox_pred.bias.copy_(torch.tensor([[0.0] * 4, [7.0] * 4, [0.2, 0, 0, 0], [7.0] * 4]).flatten())
        head.cls_embedding.weight[2, 0] = 1.0
        head.fc_attr.weight[0, SIZES.dim] = 1.0  # the first number of the embedding
        head.attr_score.weight[0, 0] = math.log(3)


@pytest.mark.parametrize("plus_one", [False, True])
def test_region_losses_worked_out_by_hand(plus_one: bool) -> None:
    rule = losses(replace(PROFILE, plus_one=plus_one), attribute_loss=0.25)
    told(rule)
    # Two things of classes 2 and 0 and two regions of background, each region 20 x 10. The first thing lies 1 to the
    # right: dx is 10 * 1 / 20. The second is twice as wide: dx is 10 * 10 / 20, dw 5 log 2.
    last = torch.tensor([0.0, 0, plus_one, plus_one])  # a corner that is a pixel of the box is one less
    region = torch.tensor([0.0, 0, 20, 10]) - last
    true = torch.tensor([[1.0, 0, 21, 10], [0, 0, 40, 10], [0, 0, 9, 9], [0, 0, 9, 9]]) - last
    regions = Sampled(
        torch.cat([torch.zeros(4, 1), region.expand(4, 4)], 1), torch.tensor([2, 0, 4, 4]),
        torch.tensor([True, True, False, False]), true, attribute_targets([(0,), (), (), ()], 2, "equal"),
    )  # fmt: skip
    parts = rule.of_regions(torch.randn(4, SIZES.dim), regions)
    assert parts["classes"].item() == pytest.approx((2 * math.log(8) + 2 * math.log(2)) / 4)
    first, second = 0.5 * (0.5 - 0.2) ** 2, (5 - 0.5) + (5 * math.log(2) - 0.5)
    assert parts["boxes"].item() == pytest.approx((first + second) / 4)
    assert parts["attributes"].item() == pytest.approx(0.25 * (math.log(5 / 3) + math.log(3)) / 2)


def test_a_batch_without_any_region_costs_nothing_and_harms_nothing() -> None:
    rule = losses(replace(PROFILE, min_size=1000.0))  # no proposal is that large
    rule.model.train()
    parts = rule(torch.randn(2, 3, SIDE, SIDE), [truth(), truth()])
    assert parts["classes"].item() == parts["boxes"].item() == parts["attributes"].item() == 0
    parts["loss"].backward()
    still = [n for n, p in rule.model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert still == []
    assert all(tensor.isfinite().all() for tensor in rule.model.state_dict().values())


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
