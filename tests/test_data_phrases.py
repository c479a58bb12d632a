"""Phrases are made of boxes: of every name, and of every attribute with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featx.data.phrases import Phrase, read_phrases
from featx.errors import UsageError
from featx.tasks import corpus

CONTENT: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a/one.jpg"}, {"id": 8, "file_name": "two.png"}],
    "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}],
    "attCategories": [{"id": 0, "name": "red"}, {"id": 1, "name": "small"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "attribute_ids": [0, 1]},
        {"id": 2, "image_id": 8, "category_id": 1, "bbox": [0, 0, 5, 5], "attribute_ids": []},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [10, 20, 1.5, 2.5], "attribute_ids": [0]},
        {"id": 4, "image_id": 7, "category_id": 2, "bbox": [5, 5, 5, 5]},
    ],
}


def write(folder: Path, **changes: Any) -> str:
    path = folder / "boxes.json"
    path.write_text(json.dumps({**CONTENT, **changes}))
    return str(path)


def test_the_boxes_of_a_phrase_are_those_of_all_things_it_fits(tmp_path: Path) -> None:
    first, second = (1.0, 2.0, 4.0, 6.0), (10.0, 20.0, 11.5, 22.5)
    assert read_phrases({"boxes": write(tmp_path)}) == [
        Phrase("7 car", "a/one", "car", (first, second)),
        Phrase("7 red car", "a/one", "red car", (first, second)),
        Phrase("7 small car", "a/one", "small car", (first,)),
        Phrase("7 tree", "a/one", "tree", ((5.0, 5.0, 10.0, 10.0),)),
        Phrase("8 car", "two", "car", ((0.0, 0.0, 5.0, 5.0),)),
    ]


def test_attributes_and_names_of_pictures_may_be_chosen(tmp_path: Path) -> None:
    spec = {"boxes": write(tmp_path), "attributes": ["small"], "image_name": "scene_{image_id:03d}"}
    found = corpus.phrases(spec, "train")
    assert [(p.picture, p.text) for p in found] == [
        ("scene_007", "car"), ("scene_007", "small car"), ("scene_007", "tree"), ("scene_008", "car"),
    ]  # fmt: skip
    (tmp_path / "held.txt").write_text("scene_007\n")
    assert [p.text for p in corpus.phrases({**spec, "without": str(tmp_path / "held.txt")}, "train")] == ["car"]


@pytest.mark.parametrize(
    ("changes", "spec", "told"),
    [
        ({}, {"attribute": ["red"]}, "unknown setting 'attribute'"),
        ({}, {"attributes": ["green"]}, "attributes is"),
        ({"categories": [{"id": 1, "name": "car"}]}, {}, "category_id"),
        ({"images": [{"id": 7, "file_name": "one.jpg"}]}, {}, "image_id"),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 0, 4]}]}, {}, "bbox"),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": "all"}]}, {}, "bbox"),
        ({"annotations": 3}, {}, "annotations is 3"),
        ({}, {"attributes": [["red"]]}, "attributes is"),
        (
            {"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "attribute_ids": [[1]]}]},
            {},
            "attribute_ids",
        ),
        ({"images": [{"id": 7, "file_name": "/"}]}, {}, "file_name"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    tmp_path: Path, changes: dict[str, Any], spec: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        read_phrases({"boxes": write(tmp_path, **changes), **spec})


def test_a_file_of_captions_has_no_phrases(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(UsageError, match="categories"):
        read_phrases({"boxes": str(path)})
    with pytest.raises(UsageError, match="no 'boxes'"):
        read_phrases({})
