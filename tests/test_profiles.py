"""Profiles are data: named, hashed, overridable, and refused when they make no sense."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from featx.errors import UsageError
from featx_extractors.profiles import PROFILES, Profile, get_profile

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def test_equal_switches_have_equal_hashes_whatever_their_name() -> None:
    assert PROFILES["caffe-36"].fingerprint == PROFILES["lxmert-published"].fingerprint
    assert len({p.fingerprint for p in PROFILES.values()}) == len(PROFILES) - 1


@pytest.mark.parametrize("name", [f.name for f in fields(Profile) if f.name not in ("name", "about")])
def test_every_switch_changes_the_hash(name: str) -> None:
    base = replace(PROFILES["caffe-36"], max_boxes=40)
    value = getattr(base, name)
    other: object
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, int | float):
        other = {"max_boxes": 50, "superset": 100}.get(name, value + 1)
    elif isinstance(value, tuple):
        other = tuple(v + 0.125 for v in value)
    else:
        choices = get_args(get_type_hints(Profile)[name])
        other = next(c for c in choices if c != value) if isinstance(value, str) else (1.0, 1.0, 1.0, 1.0)
    assert replace(base, **{name: other}).fingerprint != base.fingerprint


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)
def test_a_profile_survives_json(profile: Profile) -> None:
    data = json.loads(json.dumps(profile.to_dict()))
    assert get_profile({"base": "hf-demo", **data}) == profile


# peer-extractors 3.1 and 3.3, read column by column: what each peer is known to do.
@pytest.mark.parametrize(
    ("name", "switches"),
    [
        ("caffe-36", {"short_side": 600, "long_side": 1000, "plus_one": True, "clamp": False, "min_size": 16.0,
                      "filter_first": True, "pre_nms": 6000, "post_nms": 300, "rpn_nms": 0.7, "select": "classwise",
                      "thresholds": (0.3,), "score_threshold": 0.2, "boxes": "proposal", "attribute_background": True}),
        ("caffe-10-100", {"min_boxes": 10, "max_boxes": 100, "rows": None}),
        ("milvlg-36", {"clamp": True, "min_size_strict": True, "plus_one": True, "boxes": "proposal"}),
        ("airsplay-maxnms", {"resize": "pil", "plus_one": False, "clamp": True, "select": "maxnms", "short_side": 600,
                             "thresholds": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), "boxes": "regressed",
                             "final_clip": True, "attribute_background": False}),
        ("hf-demo", {"channels": "rgb", "resize": "torch", "short_side": 800, "long_side": 1333, "final_clip": False}),
        ("hf-demo-fixed", {"channels": "bgr"}),
        ("detectron2-c4", {"pooler": "align", "res5": "strided", "stem_pool": "padded", "select": "multilabel"}),
    ],
)  # fmt: skip
def test_profiles_say_what_their_peers_do(name: str, switches: dict[str, object]) -> None:
    profile = PROFILES[name]
    assert {key: getattr(profile, key) for key in switches} == switches


@pytest.mark.parametrize(
    ("text", "low", "high"), [("36", 36, 36), (36, 36, 36), ("10..100", 10, 100), ("10-20", 10, 20)]
)
def test_boxes_are_a_number_or_a_range(text: str | int, low: int, high: int) -> None:
    profile = PROFILES["caffe-36"].with_boxes(text)
    assert (profile.min_boxes, profile.max_boxes) == (low, high)
    assert profile.rows == (low if low == high else None)


@pytest.mark.parametrize("text", ["", "many", "0", "100..10", "-3", "10..", "301"])
def test_impossible_numbers_of_boxes_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        PROFILES["caffe-36"].with_boxes(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("resize", "bilinear"), ("select", "best"), ("channels", "BGR"), ("pooler", None), ("short_side", 0),
     ("short_side", "600"), ("short_side", 600.5), ("thresholds", []), ("thresholds", 0.3), ("plus_one", 1),
     ("pixel_mean", [1, 2]), ("delta_weights", [1, 1, 1]), ("rpn_nms", -1), ("post_nms", 0), ("min_size", None)],
)  # fmt: skip
def test_a_switch_takes_only_what_it_knows(name: str, value: object) -> None:
    """A typo that falls through to another branch would give other features and say nothing."""
    with pytest.raises(UsageError, match=name):
        get_profile({"base": "caffe-36", name: value})


def test_a_profile_is_a_name_or_a_mapping() -> None:
    with pytest.raises(UsageError, match="3"):
        get_profile(3)  # type: ignore[arg-type]


def test_an_unknown_profile_or_switch_is_named() -> None:
    with pytest.raises(UsageError, match="no profile is called 'lxmrt'"):
        get_profile("lxmrt")
    with pytest.raises(UsageError, match="no switch 'colour'"):
        get_profile({"base": "caffe-36", "colour": "red"})


EXTRACTIONS = [
    p for p in sorted(CONFIGS.glob("*.yaml")) if isinstance(yaml.safe_load(p.read_text()).get("extractor"), str)
]


@pytest.mark.parametrize("path", EXTRACTIONS, ids=lambda p: p.stem)
def test_every_configuration_names_a_profile_that_exists(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    if settings["extractor"] == "frcnn":
        assert path.stem.replace("_", "-") == get_profile(settings["profile"]).name.removesuffix("*")


def test_every_profile_has_a_configuration() -> None:
    named = {path.stem.replace("_", "-") for path in EXTRACTIONS}
    assert set(PROFILES) <= named | {"detectron2-c4"}
