"""From a picture to the input of a tower and back: pixels as transformers makes them, cells where things are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from featx.errors import PictureRefused, UsageError
from featx.extractor import Picture
from featx_extractors.clip import CLIP
from featx_extractors.towers.family import CLIP as CLIP_FAMILY
from featx_extractors.towers.family import FAMILIES
from featx_extractors.towers.geometry import Frame, turned
from featx_extractors.towers.image_processor import image_processor
from featx_extractors.towers.pixels import to_input
from featx_extractors.towers.resizing import Resizing, chosen, published, squashed

SIZES = [(224, 224), (61, 47), (30, 91), (225, 224), (7, 300), (640, 480)]
CUTS: list[dict[str, Any]] = [
    {},
    {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
    {"size": {"shortest_edge": 20}, "crop_size": {"height": 33, "width": 28}},  # larger than the picture: padded
    {"size": {"height": 30, "width": 50}, "do_center_crop": False, "resample": 2},
    {"size": {"shortest_edge": 32}, "do_center_crop": False, "resample": 1},
    {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "rescale_factor": 1 / 127.5},
]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("settings", CUTS)
def test_inputs_are_those_of_transformers_bit_for_bit(size: tuple[int, int], settings: dict[str, Any]) -> None:
    stated = {
        **json.loads(CLIPImageProcessorPil().to_json_string()),
        "size": {"shortest_edge": 24},
        "crop_size": 24,
        **settings,
    }
    expected = CLIPImageProcessorPil(**stated)(Image.fromarray(noise(*size)), return_tensors="np")["pixel_values"][0]
    how = published(stated, CLIP_FAMILY, 24, "here")
    found = to_input(noise(*size), how.frame(*size, 8), how)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_siglip_without_a_file_of_settings_is_prepared_as_transformers_prepares_it() -> None:
    how = published({}, FAMILIES["siglip_vision_model"], 224, "here")
    expected = SiglipImageProcessorPil()(Image.fromarray(noise(90, 50)), return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(to_input(noise(90, 50), how.frame(90, 50, 16), how).numpy(), expected)


def test_a_processor_that_squashes_is_known_by_its_kind() -> None:
    for kind in ({"image_processor_type": "ViTImageProcessor"}, {"feature_extractor_type": "ViTFeatureExtractor"}):
        assert published({**kind, "size": 24}, CLIP_FAMILY, 32, "here").fixed == (24, 24)
    clip = published({"image_processor_type": "CLIPImageProcessor"}, FAMILIES["chinese_clip_vision_model"], 32, "here")
    assert (clip.resize, clip.short, clip.crop) == ("crop", 32, (32, 32))


def test_settings_of_2021_are_understood() -> None:
    how = published({"size": 24, "crop_size": 24, "resample": 3}, CLIP_FAMILY, 24, "here")
    assert (how.resize, how.short, how.crop) == ("crop", 24, (24, 24))
    assert how == published({}, CLIP_FAMILY, 24, "here")


@pytest.mark.parametrize("resample", ["tensor", "tensor-antialias"])
def test_the_cut_of_tensors_rounds_half_to_even(resample: Any) -> None:
    """torchvision's CenterCrop, whose way the README of the references describes; Pillow's halves downwards."""
    how = Resizing("crop", 4, None, (4, 4), None, resample, "bicubic", 1 / 255, (0, 0, 0), (1, 1, 1))
    assert [how.frame(4, width, 1).offset[1] for width in (5, 6, 7, 8, 9, 11)] == [0, 1, 2, 2, 2, 4]


@pytest.mark.parametrize("size", [*SIZES, (1, 400), (400, 1), (3000, 20)])
@pytest.mark.parametrize(("short", "area"), [(None, None), (48, None), (None, 5000), (64, 3000)])
def test_the_sides_of_a_whole_picture_are_patches_near_its_proportions(
    size: tuple[int, int], short: int | None, area: int | None
) -> None:
    native, patch = 32, 8
    how = chosen(published({}, CLIP_FAMILY, native, "here"), native, "aspect", short, area, "pil")
    frame = how.frame(*size, patch)
    assert frame.size == frame.resized
    assert frame.offset == (0, 0)
    assert all(side >= patch and side % patch == 0 for side in frame.size)
    most = area or (native**2 if short is None else None)
    assert most is None or frame.size[0] * frame.size[1] <= most
    if short is not None and area is None:
        scale = short / min(size)
        assert all(abs(side - scale * old) <= patch / 2 for side, old in zip(frame.size, size, strict=True))
    np.testing.assert_array_equal(frame.view(), [[0, 0, size[1], size[0]]])


def test_another_size_keeps_the_cuts_share_of_the_short_side() -> None:
    stated = published({"size": {"shortest_edge": 256}, "crop_size": 224}, CLIP_FAMILY, 224, "here")
    how = chosen(stated, 224, "checkpoint", 336, None, "pil")
    assert (how.short, how.crop) == (384, (336, 336))
    squashed = chosen(stated, 224, "squash", 384, None, "pil")
    assert squashed.fixed == (384, 384)
    fixed = published({"size": {"height": 224, "width": 224}}, FAMILIES["siglip_vision_model"], 224, "here")
    assert chosen(fixed, 224, "checkpoint", 384, None, "pil").fixed == (384, 384)


def test_a_strip_that_would_fill_the_memory_is_refused() -> None:
    how = published({}, CLIP_FAMILY, 224, "here")
    with pytest.raises(PictureRefused) as refusal:
        how.frame(1, 5000, 16)
    assert refusal.value.reason == "too-thin"


def test_a_filter_that_tensors_have_not_is_refused() -> None:
    with pytest.raises(UsageError, match="lanczos"):
        chosen(published({"resample": 1}, CLIP_FAMILY, 224, "here"), 224, "checkpoint", None, None, "tensor")


RESIZES: list[dict[str, Any]] = [
    {}, {"resize": "squash"}, {"resize": "aspect", "size": 64}, {"resample": "tensor"}, {"size": 64},
]  # fmt: skip


@pytest.mark.parametrize("options", RESIZES)
@pytest.mark.parametrize("size", [(120, 200), (200, 120), (90, 90)])
def test_a_thing_lies_in_the_cell_of_the_patch_that_sees_it(size: tuple[int, int], options: dict[str, Any]) -> None:
    """A white spot on black: the brightest patch of the input is the one whose box holds the spot's centre."""
    clip = CLIP(weights="seeded-clip-tiny", cls=False, **options)
    patch, random = clip.tower.patch, np.random.default_rng(3)
    seen = 0
    for _ in range(24):
        y, x = (int(random.integers(3, side - 3)) for side in size)
        pixels = np.zeros((*size, 3), np.uint8)
        pixels[y - 3 : y + 3, x - 3 : x + 3] = 255
        prepared = clip.prepare(Picture("p", pixels))
        light = prepared.inputs[0].mean(0)
        rows, columns = (side // patch for side in light.shape)
        means = light[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch).mean((1, 3)).flatten()
        boxes = prepared.frames[0].cells()
        x0, y0, x1, y1 = boxes.T
        inside = (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)
        assert inside.sum() <= 1
        clear = inside & (x0 + 3 <= x) & (x <= x1 - 3) & (y0 + 3 <= y) & (y <= y1 - 3)
        if clear.any():  # not on the border of two cells, and not outside of the cut
            seen += 1
            assert clear[int(means.argmax())]
    assert seen >= 1


@pytest.mark.parametrize("quarters", range(4))
def test_boxes_of_a_turned_picture_are_those_of_the_upright_one(quarters: int) -> None:
    upright = np.zeros((50, 80), bool)
    upright[10:30, 5:65] = True
    rows, columns = np.where(np.rot90(upright, quarters))
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    np.testing.assert_array_equal(turned(box, quarters, (50, 80)), [[5, 10, 65, 30]])


def test_what_a_cut_reaches_beyond_the_picture_has_no_size() -> None:
    frame = Frame((10, 10), (20, 20), (-6, -6), (32, 32), 8)
    boxes = frame.cells()
    assert boxes.min() == 0
    assert boxes.max() == 10
    np.testing.assert_array_equal(boxes[0], [0, 0, 1, 1])  # its first 6 pixels are padding, then 2 of 20 pixels for 10


def test_rotations_are_the_vectors_of_the_turned_pictures() -> None:
    four = CLIP(weights="seeded-clip-tiny", tensor="projected", also=("pooled",), rotations=True, dtype="float32")
    alone = CLIP(weights="seeded-clip-tiny", tensor="projected", dtype="float32")
    pixels = noise(60, 100)
    record = four([four.prepare(Picture("p", pixels))])[0]
    record.check(four.schema)
    assert record.features.shape == (4, 16)
    assert record.array("pooled").shape == (4, 32)
    for turn in range(4):
        one = alone([alone.prepare(Picture("p", np.ascontiguousarray(np.rot90(pixels, turn))))])[0]
        np.testing.assert_allclose(record.features[turn], one.features[0], atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"resize": "aspect", "size": 40}])
def test_the_features_of_a_picture_do_not_depend_on_its_batch(options: dict[str, Any]) -> None:
    clip = CLIP(weights="seeded-clip-tiny", dtype="float32", **options)
    prepared = [clip.prepare(Picture("p", noise(60, 100, seed))) for seed in range(5)]
    together = clip(prepared)
    for one, record in zip(prepared, together, strict=True):
        alone = clip([one])[0]
        np.testing.assert_allclose(record.features, alone.features, rtol=0, atol=1e-5)
    again = clip(prepared)
    assert all(a == b for a, b in zip(together, again, strict=True))


def test_only_inputs_of_one_size_share_a_batch() -> None:
    clip = CLIP(weights="seeded-clip-tiny", resize="aspect")
    groups = [clip.group(clip.prepare(Picture("p", noise(*size)))) for size in ((60, 100), (61, 101), (100, 60))]
    assert groups[0] == groups[1] != groups[2]


def test_bfloat16_is_near_and_named_in_the_provenance() -> None:
    pixels, records = noise(60, 100), []
    for precision in ("float32", "bfloat16"):
        clip = CLIP(weights="seeded-clip-tiny", dtype="float32", precision=precision)
        records.append(clip([clip.prepare(Picture("p", pixels))])[0].features)
        assert clip.provenance()["precision"] == precision
    assert 0 < np.abs(records[0] - records[1]).max() < 0.2 * np.abs(records[0]).max()


@pytest.mark.parametrize("size", [(48, 48), (32, 64), (24, 40)])
def test_positions_are_interpolated_as_the_published_formula_says(size: tuple[int, int]) -> None:
    """Bicubic on the grid of the table, the class token's row kept, half-pixel centres, as VLE does."""
    tower = CLIP(weights="seeded-clip-tiny").tower
    table = tower.network.embeddings.position_embedding.weight.detach()
    grid = table[1:].T.reshape(1, -1, 4, 4)
    rows, columns = size[0] // 8, size[1] // 8
    bent = torch.nn.functional.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    positions = torch.cat([table[:1], bent.flatten(2)[0].T])
    pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    embeddings: Any = tower.network.embeddings
    patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)[0]
    state = torch.cat([embeddings.class_embedding[None], patches]) + positions
    expected = tower.network.pre_layrnorm(state)  # type: ignore[operator]
    found = tower(pixels, [tower.choice("embeddings")])["embeddings"][0]
    torch.testing.assert_close(found, expected.detach(), atol=2e-6, rtol=1e-5)


def test_switches_written_as_settings_are_read_back_the_same() -> None:
    cases: list[dict[str, Any]] = [*CUTS, {"do_center_crop": False}]
    for settings in cases:
        how = published(settings, CLIP_FAMILY, 32, "x")
        assert published(image_processor(how), CLIP_FAMILY, 99, "x") == how
    square = squashed(CLIP_FAMILY, 240)
    assert (square.size, square.crop, square.mean) == ((240, 240), None, CLIP_FAMILY.mean)
    assert published(image_processor(square), CLIP_FAMILY, 99, "x") == square
