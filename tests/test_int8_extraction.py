"""``--dtype int8`` from the command to the batch: what the extractor returns is what the store gives back."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from featx.cli import main
from featx.live import Live
from featx.store import open_store
from featx_extractors.frcnn import FRCNN

OPTIONS = {
    "weights": "seeded-tiny",
    "profile": {"base": "lxmert-published", "name": "tiny", "short_side": 192, "long_side": 320},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(3):
        small = np.random.default_rng(seed).integers(0, 255, (15, 20, 3), np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), np.kron(small, np.ones((8, 8, 1), np.uint8)))
    return folder


@pytest.fixture(scope="module", params=["lmdb", "hdf5"])
def store(request: pytest.FixtureRequest, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    config = folder / "tiny.yaml"
    config.write_text(json.dumps(OPTIONS))
    words = ["extract", photos, folder / "store", "--config", config, "--dtype", "int8", "--backend", request.param]
    assert main([str(word) for word in (*words, "--quiet")]) == 0
    return folder / "store"


def pixels(photo: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(photo))[:, :, ::-1])


def test_the_store_says_that_its_features_are_int8(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(store), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"name": "features", "dtype": "int8", "shape": [256], "per": "region"} in facts["schema"]["fields"]
    assert main(["inspect", str(store), "0"]) == 0
    assert "features" in capsys.readouterr().out
    assert main(["verify", str(store)]) == 0


def test_every_feature_is_within_half_a_scale_of_the_float32_one(store: Path, photos: Path) -> None:
    exact = Live(FRCNN.from_options({**OPTIONS, "dtype": "float32"}))
    for key in ("0", "1", "2"):
        expected = exact.record(pixels(photos / f"{key}.png"))
        found = open_store(store)[key]
        assert np.array_equal(found.boxes, expected.boxes)
        steps = expected.features.max(1, keepdims=True) / 255 * (1 + 2**-15)
        assert (expected.features >= 0).all()
        assert (np.abs(found.features - expected.features) <= steps / 2).all()
        assert (found.features[expected.features == 0] == 0).all()
        assert (found.features != expected.features).any()


def test_a_photo_shown_live_has_the_features_of_the_store(store: Path, photos: Path) -> None:
    live = Live.of({"name": "frcnn", "options": {**OPTIONS, "dtype": "int8"}})
    assert live.record(pixels(photos / "1.png")) == open_store(store)["1"]


def test_padding_rows_stay_zero_and_boxes_alone_need_no_scale(photos: Path) -> None:
    few = {**OPTIONS["profile"], "post_nms": 40, "pre_nms": 12, "rpn_nms": 0.2}  # type: ignore[dict-item]
    record = Live(FRCNN.from_options({**OPTIONS, "profile": few, "dtype": "int8"})).record(pixels(photos / "0.png"))
    assert 0 < record.count < 36
    assert not record.features[record.count :].any()
    bare = Live(FRCNN.from_options({**OPTIONS, "dtype": "int8", "boxes_only": True})).record(pixels(photos / "0.png"))
    assert bare.features.shape == (36, 0)


def test_batches_of_an_int8_store_are_float32(store: Path) -> None:
    opened = open_store(store)
    batch = opened.get_batch(["2", "0"])
    assert batch.features.dtype == torch.float32
    assert np.array_equal(batch.features.numpy(), np.stack([opened[key].features for key in ("2", "0")]))
