"""The configuration file: what it may say, and what a slip in it is told."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from featx.config import _EXPECTED, ExtractConfig, load_config
from featx.errors import UsageError


def config(tmp_path: Path, text: str, **flags: Any) -> ExtractConfig:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_config(str(path), flags)


def test_settings_are_taken_and_other_keys_go_to_the_extractor(tmp_path: Path) -> None:
    read = config(tmp_path, "batch: 4\nmax_refused: 0\nsalvage: true\nroot: null\nprofile: caffe-36\nboxes: 10..100\n")
    assert (read.batch, read.max_refused, read.salvage, read.root) == (4, 0, True, None)
    assert read.options == {"profile": "caffe-36", "boxes": "10..100"}


def test_flags_win_over_the_file_and_absent_flags_do_not(tmp_path: Path) -> None:
    read = config(tmp_path, "batch: 4\nworkers: 3\n", batch=2, workers=None)
    assert (read.batch, read.workers) == (2, 3)


def test_every_setting_has_its_type_checked() -> None:
    assert set(_EXPECTED) == {f.name for f in fields(ExtractConfig)} - {"options"}


@pytest.mark.parametrize(
    "line",
    [
        "max_refused: none", "max_refused: -1", "max_refused: 1.5", "max_refused: true", "max_pixels: 0",
        "max_pixels: 1e6x", "batch: '4'", "batch: true", "batch: null", "workers: 0", "salvage: maybe", "salvage: 1",
        "backend: sqlite", "backend: [lmdb]", "extractor: 7", "extractor: ''", "key_rule: 3", "key_rule: null",
        "root: 5", "image_name: [a]",
    ],
)  # fmt: skip
def test_a_setting_of_the_wrong_type_is_named_with_what_would_fit(line: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        config(tmp_path, line)
    name = line.partition(":")[0]
    assert caught.value.message.startswith(f"{name} is ")
    assert caught.value.hint.startswith("give ")


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("bakend", "backend"), ("workes", "workers"), ("max-refused", "max_refused"), ("keyrule", "key_rule")],
)
def test_a_slip_in_a_setting_is_not_passed_on_as_an_option(slip: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"did you mean {meant}") as caught:
        config(tmp_path, f"{slip}: 3")
    assert "image_name" in caught.value.hint


def test_no_option_of_our_extractors_looks_like_a_slip() -> None:
    from featx_extractors.detectron2 import Detectron2Config
    from featx_extractors.frcnn import FRCNNConfig

    names = {f.name for kind in (FRCNNConfig, Detectron2Config) for f in fields(kind)}
    assert set(load_config(None, dict.fromkeys(names, "x")).options) == names
