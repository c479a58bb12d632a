"""featx.schema: what a record may hold is decided where a schema is made, not where the first record is written."""

from __future__ import annotations

from typing import Any

import pytest

from featx.errors import RecordError
from featx.schema import Field, Schema

FEATURES, BOXES = Field("features", "float16", (3,)), Field("boxes", "float32", (4,))


@pytest.mark.parametrize(
    ("features", "boxes", "said"),
    [
        (Field("features", "float16", (3, 2)), BOXES, r"features are float16 \[3, 2\] per region; expected \[D\]"),
        (Field("features", "float16"), BOXES, r"features are float16 \[\] per region"),
        (Field("features", "float16", (3,), "picture"), BOXES, "per picture"),
        (Field("features", "int32", (3,)), BOXES, "features are int32"),
        (FEATURES, Field("boxes", "float32", (5,)), r"boxes are float32 \[5\]"),
        (FEATURES, Field("boxes", "int32", (4,)), "boxes are int32"),
        (FEATURES, Field("boxes", "float32", (4,), "picture"), "per picture"),
    ],
)
def test_features_and_boxes_have_the_one_form_that_consumers_know(features: Field, boxes: Field, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        Schema((features, boxes))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"boxes": "pixels"}, "the boxes of the schema are 'pixels'"),
        ({"pooled": None}, "pooled from None"),
        ({"rows": -1}, "rows -1"),
        ({"rows": 36.0}, "rows 36.0"),
        ({"rows": True}, "rows True"),
    ],
)
def test_a_schema_says_what_its_boxes_are_and_how_many_rows_there_are(change: dict[str, Any], said: str) -> None:
    with pytest.raises(RecordError, match=said):
        Schema((FEATURES, BOXES), **change)


@pytest.mark.parametrize("shape", [(-1,), (2.0,), ("3",), (True,)])
def test_the_extents_of_a_field_are_whole_numbers(shape: Any) -> None:
    with pytest.raises(RecordError, match="expected whole numbers"):
        Field("x", "float32", shape)


def test_a_field_is_per_region_or_per_picture() -> None:
    with pytest.raises(RecordError, match="per box"):
        Field("x", "float32", (), "box")  # type: ignore[arg-type]


def test_a_manifest_cannot_bring_in_what_cannot_be_made() -> None:
    form = Schema((FEATURES, BOXES), rows=2).to_dict()
    assert Schema.from_dict(form) == Schema((FEATURES, BOXES), rows=2)
    form["fields"][0]["shape"] = [3, 3]
    with pytest.raises(RecordError, match="features are"):
        Schema.from_dict(form)
