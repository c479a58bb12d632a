"""Batches: boxes stay on their things whatever is done to the picture, and what a batch says can be read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from featx import ops
from featx.errors import UsageError
from featx_extractors.profiles import PROFILES
from featx_extractors.training.batches import Batches, brightened, flipped, frames_of, mirrored, truths_of
from featx_extractors.training.coco import Annotated
from featx_extractors.training.options import DataOptions, TargetOptions
from featx_extractors.training.pictures import read_pixels

PROFILE = replace(
    PROFILES["scenes-36"], short_side=48, long_side=96, channels="rgb", pixel_mean=(0.0, 0.0, 0.0),
    pixel_std=(255.0, 255.0, 255.0),
)  # fmt: skip


def picture(folder: Path, name: str, size: tuple[int, int], box: tuple[int, int, int, int]) -> Annotated:
    """A black picture with one white box."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    cv2.imwrite(str(folder / f"{name}.png"), pixels)
    boxes = np.array([box], np.float32)
    return Annotated(name, folder / f"{name}.png", size, boxes, np.array([2]), ((1, 0),))


def make(**options: object) -> Batches:
    return Batches(PROFILE, DataOptions(**options), TargetOptions(attribute_order="falling"), 3)  # type: ignore[arg-type]


def test_a_batch_holds_pictures_of_several_sizes(tmp_path: Path) -> None:
    examples = [picture(tmp_path, "a", (48, 64), (8, 8, 40, 24)), picture(tmp_path, "b", (96, 72), (0, 0, 36, 48))]
    batch = make()(examples, None)
    assert batch["pixels"].shape == (2, 3, 64, 64)
    assert batch["pixels"].dtype == torch.float32
    assert batch["sizes"].tolist() == [[48, 64], [64, 48]]
    assert batch["originals"].tolist() == [[48, 64], [96, 72]]
    torch.testing.assert_close(batch["boxes"], torch.tensor([[[8.0, 8, 40, 24]], [[0, 0, 24, 32]]]))
    assert batch["attributes"].shape == (2, 1, 4)
    first, second = truths_of(batch, attributes=True)
    assert first.frame == frames_of(batch)[0]
    assert second.frame.size == (64, 48)
    assert first.attributes is not None
    torch.testing.assert_close(first.attributes, torch.tensor([[1 / 3, 2 / 3, 0, 0]]))
    assert truths_of(batch, attributes=False)[0].attributes is None


def test_boxes_without_attributes_teach_what_is_asked_for(tmp_path: Path) -> None:
    example = replace(picture(tmp_path, "a", (48, 64), (8, 8, 40, 24)), attributes=((),))
    for unannotated, expected in (("learn", [0, 0, 0, 1]), ("ignore", [0, 0, 0, 0])):
        rule = TargetOptions(unannotated=unannotated)  # type: ignore[arg-type]
        assert Batches(PROFILE, DataOptions(), rule, 3)([example], None)["attributes"].tolist() == [[expected]]


def test_corners_follow_the_convention_of_the_profile(tmp_path: Path) -> None:
    """py-faster-rcnn counts pixels: the box of columns 8 to 39 is 8, 39, and what it decodes to is 8, 40."""
    example = picture(tmp_path, "a", (48, 64), (8, 8, 40, 24))
    inclusive = Batches(replace(PROFILE, plus_one=True), DataOptions(), TargetOptions(), 3)([example], None)["boxes"]
    assert inclusive.tolist() == [[[8, 8, 39, 23]]]
    anchor = torch.tensor([[0.0, 0, 15, 15]])
    deltas = ops.encode_deltas(anchor, inclusive[0], plus_one=True)
    torch.testing.assert_close(ops.decode_deltas(deltas, anchor, plus_one=True), torch.tensor([[8.0, 8, 40, 24]]))


def test_pictures_without_boxes_get_none(tmp_path: Path) -> None:
    empty = replace(
        picture(tmp_path, "e", (48, 64), (0, 0, 5, 5)), boxes=np.zeros((0, 4), np.float32),
        classes=np.zeros(0, np.int64), attributes=(),
    )  # fmt: skip
    both = make()([empty, picture(tmp_path, "a", (48, 64), (8, 8, 40, 24))], None)
    assert [len(t.boxes) for t in truths_of(both, attributes=True)] == [0, 1]
    alone = make()([empty], None)
    assert truths_of(alone, attributes=True)[0].boxes.shape == (0, 4)


@pytest.mark.parametrize("seed", range(6))
def test_boxes_stay_on_their_things_however_a_picture_is_varied(seed: int, tmp_path: Path) -> None:
    example = picture(tmp_path, "a", (60, 90), (12, 18, 48, 36))
    batch = make(flip=0.5, scales=(0.75, 1.0, 1.25), brightness=0.3)([example], [np.random.default_rng(seed)])
    (truth,) = truths_of(batch, attributes=True)
    height, width = truth.frame.size
    light = batch["pixels"][0, 0, :height, :width]
    y, x = (light > 0.5 * light.max()).nonzero().T
    seen = torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1])
    assert (truth.boxes[0] - seen).abs().max() <= 1


def test_variation_follows_the_generator_and_happens(tmp_path: Path) -> None:
    example = picture(tmp_path, "a", (60, 90), (12, 18, 48, 36))
    varied = make(flip=0.5, scales=(0.75, 1.0), brightness=0.3)
    drawn = [varied([example], [np.random.default_rng(seed)])["boxes"].tolist() for seed in range(12)]
    assert drawn == [varied([example], [np.random.default_rng(seed)])["boxes"].tolist() for seed in range(12)]
    assert len({str(boxes) for boxes in drawn}) == 4  # two directions, two scales
    plain = {str(varied([example], None)["boxes"].tolist()) for _ in range(5)}
    assert len(plain) == 1


def test_a_mirror_image_and_its_boxes() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    turned, boxes = flipped(pixels, np.array([[0, 0, 0.5, 2]], np.float32))
    assert turned[0, 0].tolist() == pixels[0, 1].tolist()
    assert boxes.tolist() == [[1.5, 0, 2, 2]]


def test_brightness_is_cut_at_the_ends() -> None:
    assert brightened(np.array([0, 100, 250], np.uint8), 1.2).tolist() == [0, 120, 255]
    assert brightened(np.array([0, 101, 250], np.uint8), 0.5).tolist() == [0, 50, 125]


def test_padding_is_the_mirror_image() -> None:
    small = torch.arange(6.0).reshape(1, 2, 3)
    expected = torch.tensor([[0.0, 1, 2, 2, 1, 0, 0], [3, 4, 5, 5, 4, 3, 3], [3, 4, 5, 5, 4, 3, 3]])
    assert mirrored(small, 3, 7)[0].tolist() == expected.tolist()


def test_pictures_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    example = picture(tmp_path, "a", (48, 64), (8, 8, 40, 24))
    with pytest.raises(UsageError, match=r"a\.png is 48 x 64 .* say 64 x 48"):
        read_pixels(example.path, (64, 48))
    example.path.write_bytes(example.path.read_bytes()[:60])
    with pytest.raises(UsageError, match=r"a\.png: the file breaks off") as error:
        read_pixels(example.path, example.size)
    assert str(error.value).count("->") == 1


def test_an_unreadable_picture_is_a_blank_one_without_boxes_every_time(tmp_path: Path) -> None:
    examples = [picture(tmp_path, "a", (48, 64), (8, 8, 40, 24)), picture(tmp_path, "b", (48, 64), (0, 0, 32, 48))]
    whole = make()(examples, None)
    examples[0].path.unlink()
    drawn = []
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"a\.png: No such file or directory; a blank picture takes its place"):
            drawn.append(make()(examples, None))
    first, second = drawn
    assert first["unreadable"].tolist() == [True, False]
    assert first["pixels"][0].unique().numel() == 1
    assert truths_of(first, attributes=True)[0].boxes.shape == (0, 4)
    # What lies beside it is as it was, and another time it is the same.
    assert torch.equal(first["pixels"][1], whole["pixels"][1])
    assert torch.equal(first["boxes"][1], whole["boxes"][1])
    assert all(torch.equal(first[name], second[name]) for name in first)
