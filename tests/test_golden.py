"""The published LXMERT features: what their ten photos prove about the profile that claims to reproduce them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from featx.decode import decode
from featx.extractor import Picture
from featx_extractors.frcnn import FRCNN
from featx_extractors.preprocess import frame_for
from featx_extractors.profiles import PROFILES
from tests.foreign import read_tsv

# COCO train2014 id: width, height, scale, largest x1 and y1 of any box (measured on the published file).
LIMITS = {
    132417: (500, 333, 1.801802, 499.5000, 332.4450),
    573195: (640, 428, 1.401869, 639.1467, 427.2867),
    578174: (640, 394, 1.522843, 639.5933, 393.3433),
    494628: (640, 513, 1.169591, 639.5400, 512.1450),
    207647: (408, 391, 1.534527, 407.2917, 390.3483),
    84002: (640, 480, 1.250000, 639.2000, 479.2000),
    306661: (640, 427, 1.405152, 639.0767, 426.2883),
    387267: (640, 360, 1.562500, 639.3600, 359.0400),
    131486: (407, 640, 1.474201, 406.3217, 638.9900),
    201446: (640, 438, 1.369863, 639.4800, 437.2700),
}
PUBLISHED = PROFILES["lxmert-published"]


def test_the_reference_file_is_the_published_one(shared: Path) -> None:
    content = (shared / "golden/train2014_obj36.tsv").read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith("a2148a4b761e7572c407d5787595de5c")


@pytest.mark.parametrize("number", LIMITS)
def test_the_profile_clips_where_the_published_boxes_end(shared: Path, number: int) -> None:
    width, height, scale, x1, y1 = LIMITS[number]
    frame = frame_for(height, width, PUBLISHED)
    assert frame.scale == pytest.approx((scale, scale), abs=5e-7)
    assert (frame.size[1] - 1) / frame.scale[0] == pytest.approx(x1, abs=6e-5)
    assert (frame.size[0] - 1) / frame.scale[1] == pytest.approx(y1, abs=6e-5)


def test_the_published_boxes_end_exactly_there(shared: Path) -> None:
    for row in read_tsv(shared / "golden/train2014_obj36.tsv"):
        assert row.record is not None
        frame = frame_for(*row.record.size, PUBLISHED)
        border = [(frame.size[1] - 1) / frame.scale[0], (frame.size[0] - 1) / frame.scale[1]]
        np.testing.assert_allclose(row.record.boxes[:, 2:].max(0), border, atol=1e-4)


@pytest.mark.parametrize("number", [132417, 84002, 131486])
def test_extraction_in_the_published_profile_obeys_the_limits(shared: Path, number: int) -> None:
    """Any weights will do: the limits come from the pipeline, not from what the network saw."""
    width, height, _, x1, y1 = LIMITS[number]
    photo = shared / "golden/images" / f"COCO_train2014_{number:012d}.jpg"
    frcnn = FRCNN(weights="seeded-tiny", profile="lxmert-published")
    pixels = decode(photo.read_bytes())
    assert pixels.shape == (height, width, 3)
    boxes = frcnn([frcnn.prepare(Picture("p", pixels))])[0].boxes
    assert boxes.min() >= 0
    assert (boxes[:, 2:].max(0) <= np.float32([x1, y1]) + 6e-5).all()
    assert boxes[:, 2:].max(0) == pytest.approx([x1, y1], abs=6e-5), "no box touches the border, so nothing was shown"
