"""Weights by halves: what a float16 file of the normal form holds, and what it may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from featx.errors import WeightsError
from featx_extractors.weights import TINY, inspect_weights, load_weights, read_normal, seeded_weights, write_normal
from featx_extractors.weights.architecture import CELL_ANCHORS, PREDICTOR
from featx_extractors.weights.normal import KEY, Weights, rounded_to_float16, tensors_sha256


def test_layers_are_halved_and_norms_are_not(tmp_path: Path) -> None:
    write_normal(seeded_weights(TINY), tmp_path / "half.safetensors", "float16")
    write_normal(seeded_weights(TINY), tmp_path / "whole.safetensors")
    stored = load_file(tmp_path / "half.safetensors")
    assert stored[f"{PREDICTOR}.cls_score.weight"].dtype == torch.float16
    assert stored["backbone.res2.0.conv1.weight"].dtype == torch.float16
    for name in ("backbone.res2.0.conv1.norm.weight", f"{PREDICTOR}.cls_score.bias", CELL_ANCHORS):
        assert stored[name].dtype == torch.float32, name
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]


def test_reading_widens_exactly_and_says_the_hash_of_what_it_gives(tmp_path: Path) -> None:
    weights, path = seeded_weights(TINY), tmp_path / "w.safetensors"
    write_normal(weights, path, "float16")
    read = read_normal(path)
    for name, tensor in read.tensors.items():
        assert tensor.dtype == torch.float32
        whole = weights.tensors[name].numpy()
        halved = name.endswith(".weight") and ".norm." not in name
        expected = whole.astype(np.float16).astype(np.float32) if halved else whole
        np.testing.assert_array_equal(tensor.numpy(), expected, err_msg=name)
    assert read.header.sha256 == tensors_sha256(read.tensors) == rounded_to_float16(weights).header.sha256
    assert read.header.sha256 != weights.header.sha256
    assert load_weights(path).header == read.header
    # What was rounded once stays as it is, in either width.
    write_normal(read, tmp_path / "again.safetensors", "float16")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    write_normal(read, tmp_path / "wide.safetensors")
    assert read_normal(tmp_path / "wide.safetensors").header == read.header


def test_numbers_beyond_float16_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    weights = seeded_weights(TINY)
    name = f"{PREDICTOR}.cls_score.weight"
    large = Weights({**weights.tensors, name: weights.tensors[name] * 1e8}, weights.header)
    with pytest.raises(WeightsError, match="float16 cannot hold"):
        write_normal(large, tmp_path / "w.safetensors", "float16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", [CELL_ANCHORS, "backbone.res2.0.conv1.norm.running_var", f"{PREDICTOR}.attr_score.bias"]
)
def test_other_tensors_by_halves_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_normal(seeded_weights(TINY), path, "float16")
    with safe_open(path, "pt") as file:
        header = file.metadata()[KEY]
    stored = load_file(path)
    stored[name] = stored[name].half()
    save_file(stored, path, metadata={KEY: header})
    with pytest.raises(WeightsError, match=r"float16, the normal form is float32"):
        read_normal(path)


def test_a_changed_number_is_noticed_in_a_float16_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_normal(seeded_weights(TINY), path, "float16")
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 4
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match="sha256"):
        read_normal(path)


def test_the_shipped_detector_is_a_location_like_any_other() -> None:
    report = inspect_weights("tiny")
    assert report["header"]["trained"] is True
    assert report["header"]["layout"] == "featx"
    assert report["header"]["profile"] == "scenes-36"
    assert report["file"]["bytes"] < 8e6
    weights = load_weights("tiny", expect_sha256=report["file"]["sha256"])
    assert len(weights.header.objects or ()) >= 12
    assert len(weights.header.attributes or ()) >= 8
    assert replace(weights.header, notes=()).trained
