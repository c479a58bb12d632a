"""Sight: the records a model is shown, with the fields that it wants, and images and texts that belong together."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from featx import pairing
from featx.errors import RecordError, UsageError
from featx.record import Record
from featx.sight import Sight
from featx.spread import extract
from featx.store import open_store
from featx.tasks.about import about
from featx.wants import Wants
from tests import lxmert_toys as toys
from tests.toy_models import DIM, Toy


def toy(monkeypatch: pytest.MonkeyPatch, wants: Wants) -> Toy:
    monkeypatch.setattr(Toy, "wants", property(lambda self: wants))
    return Toy(torch.ones(DIM), {}, None)


def record(rows: int, **extra: np.ndarray) -> Record:
    return Record(
        np.full((rows, DIM), rows, np.float16), np.zeros((rows, 4), np.float32), (8, 9), -1,
        {"pooled": np.full(5, rows, np.float16), "object_ids": np.arange(rows, dtype=np.int32), **extra},
    )  # fmt: skip


def test_a_model_is_given_the_fields_it_wants_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    sight = Sight(toy(monkeypatch, Wants(("features", "boxes", "pooled", "object_ids"))))
    batch = sight.collate([record(2), record(3, other=np.zeros(3, np.float32))])
    assert set(batch.extra) == {"pooled", "object_ids"}
    assert batch.features.shape == (2, 3, DIM)
    assert batch.features[0, :, 0].tolist() == [2, 2, 0]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.extra["pooled"].tolist() == [[2] * 5, [3] * 5]
    assert batch.extra["object_ids"].tolist() == [[0, 1, 0], [0, 1, 2]]
    assert batch.sizes.tolist() == [[8, 9], [8, 9]]
    plain = Sight(toy(monkeypatch, Wants()))
    assert set(plain.collate([record(2)]).extra) == set()


def test_a_record_without_a_field_that_is_wanted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sight = Sight(toy(monkeypatch, Wants(("features", "boxes", "attribute_ids"))))
    with pytest.raises(RecordError, match="no field 'attribute_ids'"):
        sight.collate([record(2)])


def test_a_store_is_compared_with_what_the_model_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = toys.make_store(tmp_path / "store", provenance={**toys.PROVENANCE, "profile": {"tensor": "pooled"}})
    wants = Wants(("features", "boxes", "pooled"), switches={"tensor": "last_hidden_state", "cls": True})
    with pytest.raises(UsageError, match="the store does not fit the model m") as caught:
        Sight(toy(monkeypatch, wants), store, location="m")
    lines = caught.value.message.split("\n  ")
    assert len(lines) == 4
    assert lines[1].startswith("fields: found features, boxes")
    assert "found tensor 'pooled', expected tensor 'last_hidden_state'" in lines[2]
    assert "found no cls, expected cls True" in lines[3]
    some = Sight(toy(monkeypatch, Wants(switches={"cls": True})), store, allow_mismatch=True)
    assert len(some.notes) == 1


def test_an_image_that_is_named_twice_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sight = Sight(toy(monkeypatch, Wants()), toys.make_store(tmp_path / "store"))
    asked: list[str] = []
    real = sight.record
    monkeypatch.setattr(sight, "record", lambda image: asked.append(image) or real(image))
    found = sight.records(["p1", "p0", "p1"])
    assert asked == ["p1", "p0"]
    assert found[0] is found[2]
    assert sight.is_key("p0")
    assert sight.is_key("p99")  # what is neither a file nor a URL is taken for a key that is not there
    assert not sight.is_key("https://example.org/a.jpg")
    assert not sight.is_key(np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize("options", [{}, {"tensor": "projected"}, {"resize": "aspect", "size": 24, "cls": False}])
def test_a_photo_is_seen_as_a_store_of_its_extractor_has_it(tmp_path: Path, options: dict[str, object]) -> None:
    """A model of a CLIP: what its featx.json says of the store's extractor makes the same features of the photo."""
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photos/a.png"), pixels)
    settings = {"weights": "seeded-clip-tiny", "dtype": "float32", **options}
    with pytest.warns(UserWarning, match="seeded"):
        extract(str(tmp_path / "photos"), str(tmp_path / "store"), extractor="clip", key_rule="stem", **settings)
    store = open_store(tmp_path / "store")
    said = about(
        "some-task", Wants(dim=store.schema.dim), {"provenance": store.manifest.provenance}, start={},
        extractor={"dtype": "float32"},
    )  # fmt: skip
    sight = Sight(Toy(torch.ones(store.schema.dim), said, None), store)
    kept, seen = sight.record("a"), sight.record(tmp_path / "photos/a.png")
    assert sight.live.extractor.provenance() == {
        k: store.manifest.provenance[k] for k in sight.live.extractor.provenance()
    }
    assert np.abs(kept.features - seen.features).max() <= 1e-5
    assert np.array_equal(kept.boxes, seen.boxes)
    assert sight.notes == []


# --- images and texts -----------------------------------------------------------------------------------


def test_images_and_texts_are_paired_in_every_form() -> None:
    assert pairing.paired("a", "x", "text") == (["a"], ["x"], True)
    assert pairing.paired(["a", "b"], "x", "text") == (["a", "b"], ["x", "x"], False)
    assert pairing.paired("a", ["x", "y"], "text") == (["a", "a"], ["x", "y"], False)
    assert pairing.paired(iter("ab"), ("x", "y"), "text") == (["a", "b"], ["x", "y"], False)
    assert pairing.paired({"image": "a", "text": "x"}, None, "text") == (["a"], ["x"], True)
    rows = ({"image": one, "text": "x", "more": 1} for one in "ab")
    assert pairing.paired(rows, None, "text") == (["a", "b"], ["x", "x"], False)


@pytest.mark.parametrize(
    ("images", "texts", "message"),
    [
        ("a", None, "an image comes without its text"),
        ([{"image": "a", "question": "x"}], None, "an image comes without its text"),
        (["a", "b"], ["x", "y", "z"], "2 images and 3 texts"),
        ("a", " ", "the text is ' '"),
        ("a", 7, "the text is 7"),
    ],
)
def test_what_does_not_pair_is_a_sentence(images: object, texts: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pairing.paired(images, texts, "text")
