"""Annotated pictures in both published forms, and a sentence for everything that can be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from featx.errors import UsageError
from featx_extractors.training.coco import read_coco

BASE: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
        {"id": 3, "file_name": "a.png", "width": 20, "height": 20},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 10, 20], "iscrowd": 0, "attribute_ids": [4, 0, 4]},
        {"id": 2, "image_id": 7, "category_id": 2, "bbox": [30.5, 20, 20, 20], "iscrowd": 0},
    ],
    "categories": [{"id": 9, "name": "cat"}, {"id": 2, "name": "dog"}],
    "attCategories": [{"id": 4, "name": "black"}, {"id": 0, "name": "small"}],
}


def write(folder: Path, **changes: Any) -> Path:
    for name, size in (("a.png", (20, 20, 3)), ("b.png", (30, 40, 3))):
        cv2.imwrite(str(folder / name), np.zeros(size, np.uint8))
    (folder / "x.json").write_text(json.dumps({**BASE, **changes}))
    return folder / "x.json"


def annotation(**changes: Any) -> list[dict[str, Any]]:
    return [{**BASE["annotations"][0], **changes}]


def test_visual_genome_in_the_form_of_grid_feats(tmp_path: Path) -> None:
    (one, other), names = read_coco(write(tmp_path), tmp_path)
    assert (names.objects, names.attributes) == (("dog", "cat"), ("small", "black"))
    assert (one.picture, one.size, one.path) == ("b", (30, 40), tmp_path / "b.png")
    # x y w h become corners, cut to the picture; ids count anew by rising id; a repeated attribute counts once.
    assert one.boxes.tolist() == [[1, 2, 11, 22], [30.5, 20, 40, 30]]
    assert one.classes.tolist() == [1, 0]
    assert one.attributes == ((1, 0), ())
    assert other.boxes.shape == (0, 4)
    assert other.classes.shape == (0,)


def test_visual_genome_in_the_form_of_milvlg(tmp_path: Path) -> None:
    entries = [{**BASE["annotations"][1], "attribute": [2, 1]}]
    named = [{"id": 1, "name": "black"}, {"id": 2, "name": "small"}]
    (one, _), names = read_coco(write(tmp_path, annotations=entries, attCategories=[], attributes=named) and
                                rewritten(tmp_path, "attCategories"), tmp_path)  # fmt: skip
    assert names.attributes == ("black", "small")
    assert one.attributes == ((1, 0),)


def rewritten(folder: Path, without: str) -> Path:
    data = json.loads((folder / "x.json").read_text())
    del data[without]
    (folder / "x.json").write_text(json.dumps(data))
    return folder / "x.json"


def test_plain_coco_has_no_attributes(tmp_path: Path) -> None:
    write(tmp_path, annotations=[BASE["annotations"][1]])
    (one, _), names = read_coco(rewritten(tmp_path, "attCategories"), tmp_path)
    assert names.attributes == ()
    assert one.attributes == ((),)


def test_crowds_and_boxes_without_area_are_left_out(tmp_path: Path) -> None:
    entries = (
        annotation(iscrowd=1)
        + annotation(iscrowd=True)
        + annotation(bbox=[5, 5, 0, 9])
        + annotation(bbox=[50, 5, 9, 9])
        + annotation()
    )
    (one, _), _ = read_coco(write(tmp_path, annotations=entries), tmp_path)
    assert one.boxes.tolist() == [[1, 2, 11, 22]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": None}, "has no list 'images'"),
        ({"annotations": [3]}, "has no list 'annotations'"),
        ({"categories": []}, "categories is empty"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "categories[1] has id 1 and name 'b'"),
        ({"categories": [{"id": "1", "name": "a"}]}, "categories[0]: id is '1'"),
        ({"images": [{"id": 7, "file_name": "b.png", "width": 0, "height": 30}]}, "images[0] is"),
        ({"annotations": annotation(image_id=99)}, "annotations[0] is of image 99"),
        ({"annotations": annotation(category_id=1)}, "category 1, which is not among the categories"),
        ({"annotations": annotation(bbox=[1, 2, 3])}, "bbox is [1, 2, 3]"),
        ({"annotations": annotation(bbox=[1, 2, 3, float("nan")])}, "bbox is [1, 2, 3, nan]"),
        ({"annotations": annotation(attribute_ids=[5])}, "attribute 5, which has no name"),
        ({"annotations": annotation(attribute_ids=4)}, "attribute 4, which has no name"),
        ({"annotations": annotation(attribute_ids=[[4]])}, "attribute [4], which has no name"),
        ({"annotations": annotation(attribute_ids=[4.0])}, "attribute 4.0, which has no name"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_coco(write(tmp_path, **changes), tmp_path)
    assert said in str(error.value)
    assert error.value.hint


def test_iscrowd_written_as_text_is_no_crowd(tmp_path: Path) -> None:
    (one, _), _ = read_coco(write(tmp_path, annotations=annotation(iscrowd="0")), tmp_path)
    assert len(one.boxes) == 1


def test_pictures_that_cannot_be_used_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "b.png").unlink()
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-8])
    with pytest.raises(UsageError, match=r"2 of the 2 pictures of .*x\.json .* first .*b\.png: No such file"):
        read_coco(file, tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "has 0 bytes"), (b"nonsense at all", "no picture format"), (None, "is 30 x 41 (height x width)")],
)
def test_what_is_wrong_with_a_picture_is_said(content: bytes | None, said: str, tmp_path: Path) -> None:
    file = write(tmp_path)
    if content is None:
        cv2.imwrite(str(tmp_path / "b.png"), np.zeros((30, 41, 3), np.uint8))
    else:
        (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(UsageError) as error:
        read_coco(file, tmp_path)
    assert "1 of the 2 pictures" in str(error.value)
    assert said in str(error.value)
    assert str(error.value).count("->") == 1  # one advice, not also that of the decoder


@pytest.mark.parametrize("text", ["", "[]", "{", "3"])
def test_a_file_that_is_no_json_object(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match="the annotations"):
        read_coco(tmp_path / "x.json", tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_coco(tmp_path / "absent.json", tmp_path)
