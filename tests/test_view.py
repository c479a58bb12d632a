"""Views of a superset store: what would have been extracted with other numbers, to the bit, chosen when it is read."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx import cli
from featx.codec import encode, store_key
from featx.errors import StoreDamaged, UsageError
from featx.extractor import Picture
from featx.record import Record
from featx.store import StoreReader, create_store, open_part, open_store, read_manifest
from featx.store.rule import Rule
from featx.store.view import view_manifest
from featx.task import Wants, hashes
from featx.train.check import mismatches
from featx.train.recipe import read_recipe
from featx.train.sources import opened
from featx_extractors.frcnn import FRCNN
from featx_extractors.profiles import PROFILES

SMALL = {"short_side": 192, "long_side": 320}
SHAPES = ((120, 160), (97, 131), (160, 88))


def photos() -> list[Picture]:
    found = []
    for seed, (height, width) in enumerate(SHAPES):
        coarse = np.random.default_rng(seed).integers(0, 255, (-(-height // 8), -(-width // 8), 3), np.uint8)
        found.append(Picture(f"p{seed}", np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width]))
    return found


def extractor(profile: str, /, **options: Any) -> FRCNN:
    switches = {"base": profile, "name": profile, **SMALL, **options.pop("switches", {})}
    return FRCNN.from_options({"weights": "seeded-tiny", "profile": switches, **options})


def records(frcnn: FRCNN) -> list[Record]:
    found = [frcnn([frcnn.prepare(photo)])[0] for photo in photos()]
    for record in found:
        record.check(frcnn.schema)
    return found


def stored(folder: Path, frcnn: FRCNN, backend: str = "lmdb") -> Path:
    create_store(folder, backend, frcnn.schema, frcnn.provenance(), frcnn.labels)
    with open_part(folder) as writer:
        for ordinal, (photo, record) in enumerate(zip(photos(), records(frcnn), strict=True)):
            writer.put(photo.key, record, ordinal)
        writer.finish()
    return folder


def expect_equal(view: StoreReader, direct: FRCNN) -> None:
    """Every byte of every record, the schema and the provenance are those of a direct extraction."""
    assert view.schema == direct.schema
    assert view.manifest.provenance == direct.provenance()
    assert list(view.manifest.provenance["profile"]) == list(direct.provenance()["profile"])
    for ordinal, (photo, record) in enumerate(zip(photos(), records(direct), strict=True)):
        assert view.stored_bytes(photo.key) == encode(record, direct.schema, store_key(photo.key), ordinal)
        assert view[photo.key] == record


@cache
def most(profile: str) -> int:
    return min(100, PROFILES[profile].post_nms)


@pytest.fixture(scope="module")
def supersets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, StoreReader]]:
    """A superset store of each profile, made when it is first asked for."""
    made: dict[str, StoreReader] = {}

    class Made(dict[str, StoreReader]):
        def __missing__(self, profile: str) -> StoreReader:
            folder = tmp_path_factory.mktemp("superset") / profile
            self[profile] = open_store(stored(folder, extractor(profile, superset=most(profile), **low(profile))))
            return self[profile]

    made = Made()
    yield made
    for store in made.values():
        store.close()


def low(profile: str) -> dict[str, Any]:
    """An untrained network is sure of nothing: multilabel needs a lower threshold to have something to choose from."""
    return {"score_threshold": 0.02} if PROFILES[profile].select == "multilabel" else {}


@pytest.mark.parametrize("boxes", ["1", "36", "10..60", "20..50"])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_view_of_every_profile_equals_the_extraction_with_so_many_boxes(
    supersets: dict[str, StoreReader], profile: str, boxes: str
) -> None:
    expect_equal(supersets[profile].view(boxes=boxes), extractor(profile, boxes=boxes, **low(profile)))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_view_without_numbers_equals_the_profile_itself(supersets: dict[str, StoreReader], profile: str) -> None:
    expect_equal(supersets[profile].view(), extractor(profile, **low(profile)))


@pytest.mark.parametrize("profile", [name for name in PROFILES if PROFILES[name].select != "maxnms"])
@pytest.mark.parametrize("place", [0, 17, 35, 36, 58])
@pytest.mark.parametrize("boxes", ["36", "10..60"])
def test_a_view_with_another_threshold_equals_the_extraction_with_it(
    supersets: dict[str, StoreReader], profile: str, place: int, boxes: str
) -> None:
    """Thresholds are confidences that occur: at them > and >= part, and at the 36th exactly 36 reach it."""
    for name in ("p0", "p1"):
        confs = supersets[profile][name].selection_confs
        threshold = float(confs[min(place, len(confs) - 1)])
        direct = extractor(profile, boxes=boxes, score_threshold=threshold)
        expect_equal(supersets[profile].view(boxes=boxes, score_threshold=threshold), direct)
