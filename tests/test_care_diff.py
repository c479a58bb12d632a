"""Every hint on a pair of records, or of stores, in which exactly that step differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.care import diff
from featx.care.comparison import compare
from featx.care.steps import STEPS, Reason, sentence
from featx.cli import main
from featx.record import Record
from featx.schema import Field, Schema
from featx.store import create_store, open_part

HEIGHT, WIDTH, ROWS, DIM = 375, 500, 20, 32


def record(seed: int, rows: int = ROWS, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Record:
    """Regions all over a picture; features like those behind a ReLU; ids from 1 on, attributes too."""
    rng = np.random.default_rng(seed)
    corner = rng.random((rows, 2)) * [0.6 * size[1], 0.6 * size[0]]
    extent = (0.1 + 0.28 * rng.random((rows, 2))) * [size[1], size[0]]
    boxes = np.concatenate([corner, corner + extent], 1).astype(np.float32)
    boxes[0, 2:] = size[1], size[0]  # two lie at the border
    boxes[1, :2] = 0
    extra = {
        "object_ids": rng.integers(1, 900, rows).astype(np.int32),
        "object_confs": rng.random(rows).astype(np.float32),
        "attribute_ids": rng.integers(1, 300, rows).astype(np.int32),
        "attribute_confs": rng.random(rows).astype(np.float32),
        "class_probs": rng.random((rows, 3)).astype(np.float32),
    }
    features = np.maximum(rng.normal(size=(rows, DIM)), 0).astype(np.float32)
    return Record(features, boxes, size, rows, extra)


def change(one: Record, **changes: Any) -> Record:
    """The record with other arrays; those of ``extra`` by their names."""
    extra = {**one.extra, **{name: changes.pop(name) for name in list(changes) if name in one.extra}}
    return replace(one, extra=extra, **changes)


def without(one: Record, *names: str) -> Record:
    """The record without some fields of ``extra``."""
    return replace(one, extra={name: array for name, array in one.extra.items() if name not in names})


def taken(one: Record, rows: Any) -> Record:
    """Some rows of a record, or all in another order."""
    extra = {name: array[rows] for name, array in one.extra.items()}
    return Record(one.features[rows], one.boxes[rows], one.size, len(one.boxes[rows]), extra)


def boxed(make: Callable[[Any], Any]) -> Callable[[Record], Record]:
    return lambda one: change(one, boxes=np.ascontiguousarray(make(one.boxes.astype(np.float64)), np.float32))


def featured(make: Callable[[Any], Any]) -> Callable[[Record], Record]:
    return lambda one: change(one, features=np.ascontiguousarray(make(one.features), np.float32))


def quantised(x: Any) -> Any:
    """int8 with one scale for each row, written out."""
    step = x.max(axis=1, keepdims=True) / 255
    return np.rint(x / step) * step


def brain(x: Any) -> Any:
    """bfloat16: the nearest float32 whose lower half is zero, ties to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def noisy(amount: float) -> Callable[[Any], Any]:
    return lambda x: x * (1 + amount * np.random.default_rng(5).normal(size=x.shape))


def mixed(x: Any) -> Any:
    """Features of other pixels: alike, not the same."""
    return np.maximum(x + 0.6 * np.random.default_rng(6).normal(size=x.shape), 0)


ROLL = np.roll(np.arange(ROWS), 1)
CASES: dict[str, Callable[[Record], Record]] = {
    "box noise": boxed(lambda b: b + 1e-3 * np.random.default_rng(2).random(b.shape)),
    "box order": lambda one: taken(one, np.random.default_rng(4).permutation(ROWS)),
    "fewer boxes": lambda one: taken(one, np.arange(0, ROWS, 2)),
    "plus one": boxed(lambda b: b + np.array([0, 0, 1, 1])),
    "shifted": boxed(lambda b: b + 1),
    "clip": boxed(lambda b: np.minimum(b, [WIDTH - 1, HEIGHT - 1] * 2)),
    "whole numbers": boxed(np.floor),
    "half boxes": boxed(lambda b: b.astype(np.float16)),
    "transposed": boxed(lambda b: b[:, [1, 0, 3, 2]]),
    "corner and size": boxed(lambda b: np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], 1)),
    "centre and size": boxed(lambda b: np.concatenate([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]], 1)),
    "normalised": boxed(lambda b: b / [WIDTH, HEIGHT, WIDTH, HEIGHT]),
    "normalised askew": boxed(lambda b: b / [HEIGHT, WIDTH, HEIGHT, WIDTH]),
    "resized frame": boxed(lambda b: b * 1.6),
    "mirrored": boxed(lambda b: np.stack([WIDTH - b[:, 2], b[:, 1], WIDTH - b[:, 0], b[:, 3]], 1)),
    "moved": boxed(lambda b: b + np.random.default_rng(3).normal(size=b.shape) * 4),
    "other boxes": lambda one: change(one, boxes=record(99).boxes),
    "codec float16": featured(lambda x: x.astype(np.float16)),
    "codec bfloat16": featured(brain),
    "codec int8": featured(quantised),
    "feature noise": featured(noisy(1e-6)),
    "feature precision": featured(noisy(3e-3)),
    "feature rows": lambda one: change(one, features=one.features[ROLL]),
    "feature norm": featured(lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)),
    "feature factor": featured(lambda x: 0.25 * x * 1.1),
    "other input": featured(mixed),
    "other network": featured(lambda x: np.random.default_rng(8).normal(size=x.shape)),
    "ids from one": lambda one: change(one, object_ids=one.object_ids + 1),
    "other ids": lambda one: change(one, object_ids=np.where(np.arange(ROWS) % 3, one.object_ids, 5).astype(np.int32)),
    "no attributes": lambda one: change(
        one, attribute_ids=np.zeros(ROWS, np.int32), attribute_confs=np.zeros(ROWS, np.float32)
    ),
    "other attributes": lambda one: change(one, attribute_ids=one.attribute_ids[::-1].copy()),
    "size": lambda one: replace(one, size=(WIDTH, HEIGHT)),
    "other size": lambda one: replace(one, size=(2 * HEIGHT, 2 * WIDTH)),
    "confidences": lambda one: change(one, object_confs=one.object_confs * np.float32(0.5)),
    "fewer fields": lambda one: without(one, "object_confs"),
    "other fields": lambda one: change(one, class_probs=1 - one.class_probs),
}  # fmt: skip
ALONG = {"no attributes": {"confidences"}}  # what else such a pair shows


@pytest.mark.parametrize("step", CASES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_step_is_named_and_no_other(step: str, seed: int) -> None:
    first = record(seed)
    second = CASES[step](first)
    found = compare("k", first, second)
    assert {reason.step for reason in found.reasons} == {step} | ALONG.get(step, set())
    turned = compare("k", second, first)
    assert {reason.step for reason in turned.reasons} == {step} | ALONG.get(step, set())
    assert found.differs(0)
    assert not found.equal


@pytest.mark.parametrize(
    ("step", "number"), [("resized frame", 1.6), ("feature factor", 0.275), ("shifted", 1.0), ("confidences", 0.45)]
)
def test_a_step_says_by_how_much(step: str, number: float) -> None:
    (reason,) = compare("k", record(1), CASES[step](record(1))).reasons
    assert reason.number == pytest.approx(number, rel=0.2 if step == "confidences" else 1e-3)
    (turned,) = compare("k", CASES[step](record(1)), record(1)).reasons
    assert turned.backwards == (step in ("resized frame", "shifted"))
    assert turned.number == pytest.approx(1 / reason.number if step == "feature factor" else reason.number, rel=1e-3)


def test_every_step_has_a_test_and_a_sentence() -> None:
    elsewhere = {"unclipped", "turned", "other box", "feature relu", "feature offset", "channels", "keys"}
    assert set(STEPS) == set(CASES) | elsewhere
    for step in STEPS:
        assert "{" not in sentence(Reason(step, number=0.5))


def test_equal_records_have_no_reason() -> None:
    found = compare("k", record(1), record(1))
    assert (found.equal, found.reasons, found.badness, found.differs(0)) == (True, [], 0.0, False)


def test_a_turned_picture_is_told_in_either_direction() -> None:
    first = record(1)
    x0, y0, x1, y1 = first.boxes.T
    for boxes in (np.stack([HEIGHT - y1, x0, HEIGHT - y0, x1], 1), np.stack([y0, WIDTH - x1, y1, WIDTH - x0], 1)):
        second = change(first, boxes=boxes, size=(WIDTH, HEIGHT))
        assert {reason.step for reason in compare("k", first, second).reasons} == {"size", "turned"}


def test_boxes_beyond_the_picture_and_clipped_ones() -> None:
    first = record(1)
    outside = change(first, boxes=first.boxes + np.array([-150, 0, 0, 9], np.float32))
    clipped = change(outside, boxes=np.clip(outside.boxes, 0, np.float32([WIDTH, HEIGHT] * 2)))
    assert [reason.step for reason in compare("k", outside, clipped).reasons] == ["unclipped"]
    assert compare("k", clipped, outside).reasons[0].backwards


def test_the_other_kind_of_box_is_found_where_a_record_has_both() -> None:
    first = record(1)
    regressed = first.boxes + np.random.default_rng(5).normal(size=first.boxes.shape).astype(np.float32) * 5
    both = replace(first, extra={**first.extra, "regressed_boxes": regressed})
    second = change(first, boxes=regressed)
    assert [reason.step for reason in compare("k", both, second).reasons] == ["other box", "fewer fields"]
    assert [reason.backwards for reason in compare("k", second, both).reasons] == [True, True]


def test_before_and_after_a_relu() -> None:
    first = change(record(1), features=np.random.default_rng(3).normal(size=(ROWS, DIM)).astype(np.float32))
    second = change(first, features=np.maximum(first.features, 0))
    assert [reason.step for reason in compare("k", first, second).reasons] == ["feature relu"]


def test_a_picture_without_regions_has_fewer() -> None:
    nothing = taken(record(1), np.arange(0))
    (reason,) = compare("k", record(1), nothing).reasons
    assert (reason.step, reason.backwards) == ("fewer boxes", False)
    assert compare("k", nothing, record(1)).badness == 1.0
    assert compare("k", nothing, nothing).equal


def test_two_steps_at_once_are_both_named() -> None:
    first = record(1)
    second = CASES["no attributes"](CASES["plus one"](taken(first, np.arange(ROWS)[::-1].copy())))
    steps = {reason.step for reason in compare("k", first, second).reasons}
    assert steps == {"box order", "plus one", "no attributes", "confidences"}


# Stores.

FIELDS = (
    Field("features", "float32", (DIM,)), Field("boxes", "float32", (4,)), Field("object_ids", "int32"),
    Field("object_confs", "float32"), Field("attribute_ids", "int32"), Field("attribute_confs", "float32"),
    Field("class_probs", "float32", (3,)),
)  # fmt: skip


def store(
    path: Path, make: Callable[[Record], Record], keys: Any = range(12), dtype: str = "float32",
    fields: tuple[Field, ...] = FIELDS, **provenance: Any,
) -> Path:  # fmt: skip
    """A store of ``make`` of the record of each number."""
    schema = Schema((replace(fields[0], dtype=dtype), *fields[1:]))
    create_store(path, "lmdb", schema, provenance)
    with open_part(path) as writer:
        for ordinal, key in enumerate(keys):
            one = make(record(ordinal))
            writer.put(str(key), change(one, features=one.features.astype(schema.fields[0].memory_dtype)), ordinal)
        writer.finish()
    return path


def same(one: Record) -> Record:
    return one


def test_equal_stores_are_the_same_in_any_backend(tmp_path: Path) -> None:
    found = diff(store(tmp_path / "a", same), store(tmp_path / "b", same))
    assert found.same
    assert (found.common, found.compared, found.equal, found.hints, found.worst) == (12, 12, 12, [], [])
    assert found.regions == (240, 240, 240)


def test_equal_values_are_equal_in_any_dtype_and_behind_any_padding(tmp_path: Path) -> None:
    first = change(record(1), features=record(1).features.astype(np.float16))
    wide = change(first, features=first.features.astype(np.float32))
    more = {name: np.concatenate([array, array[:3] * 0]) for name, array in wide.extra.items()}
    padded = Record(
        np.pad(wide.features, ((0, 3), (0, 0))), np.pad(wide.boxes, ((0, 3), (0, 0))), wide.size, ROWS, more
    )
    for second in (wide, padded):
        found = compare("k", first, second)
        assert (found.equal, found.reasons, found.differs(0)) == (True, [], False)
    a = store(tmp_path / "a", lambda one: change(one, features=np.rint(one.features)))
    b = store(tmp_path / "b", lambda one: change(one, features=np.rint(one.features)), dtype="float16")
    assert (diff(a, b).equal, diff(a, b).worst) == (12, [])


def test_a_tolerance_decides_what_counts(tmp_path: Path) -> None:
    a, b = store(tmp_path / "a", same), store(tmp_path / "b", same, dtype="float16")
    found = diff(a, b)
    assert not found.same
    assert [hint.step for hint in found.hints] == ["codec float16"]
    assert "schema.fields.0.dtype" in found.made[0]
    assert found.apart.most == max(
        float(np.abs(record(n).features - record(n).features.astype(np.float16)).max()) for n in range(12)
    )
    assert diff(a, b, tolerance=0.01).same
    assert not diff(a, store(tmp_path / "c", CASES["other ids"]), tolerance=99).same


NARROW = (Field("features", "float32", (DIM // 2,)), *FIELDS[1:])
PLAIN = tuple(one for one in FIELDS if not one.name.startswith("attribute"))


@pytest.mark.parametrize(
    ("step", "make", "fields"),
    [
        ("other network", lambda one: change(one, features=one.features[:, : DIM // 2].copy()), NARROW),
        ("other fields", lambda one: change(one, class_probs=np.float32(0.1) + 0 * one.class_probs), FIELDS),
        ("fewer fields", lambda one: without(one, "attribute_ids", "attribute_confs"), PLAIN),
    ],
    ids=["other width", "other probabilities", "no attributes"],
)
def test_stores_that_differ_in_any_array_are_not_the_same(
    tmp_path: Path, step: str, make: Callable[[Record], Record], fields: tuple[Field, ...]
) -> None:
    a, b = store(tmp_path / "a", same), store(tmp_path / "b", make, fields=fields)
    for found in (diff(a, b), diff(b, a)):
        assert (found.same, found.differing, found.equal) == (False, 12, 0)
        assert [hint.step for hint in found.hints] == [step]
        json.dumps(found.to_dict(), allow_nan=False)
    assert diff(a, b, tolerance=0.95).same == (step == "other fields")


def test_a_field_of_the_picture_is_compared_as_a_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = (*FIELDS, Field("pooled", "float32", (5,), "picture"), Field("scene", "int64", (), "picture"))

    def holding(pooled: float, scene: int) -> Callable[[Record], Record]:
        more = {"pooled": np.full(5, pooled, np.float32), "scene": np.array(scene, np.int64)}
        return lambda one: replace(one, extra={**one.extra, **more})

    a = store(tmp_path / "a", holding(1, 3), fields=fields)
    b = store(tmp_path / "b", holding(1.5, 3), fields=fields)
    c = store(tmp_path / "c", holding(1, 4), fields=fields)
    assert [diff(a, b, tolerance=tolerance).same for tolerance in (0.4, 0.6)] == [False, True]
    assert not diff(a, c, tolerance=99).same, "whole numbers have no tolerance"
    assert diff(a, b).to_dict()["fields_max_abs"] == {"pooled": 0.5}
    assert diff(a, c).to_dict()["fields_max_abs"] == {"scene": None}
    assert main(["diff", str(a), str(b), "--quiet"]) == 1
    assert "pooled differs by up to 0.5" in capsys.readouterr().out


UNFORGIVEN = {
    "box order", "fewer boxes", "other boxes", "feature rows", "other network", "ids from one", "other ids",
    "no attributes", "other attributes", "size", "other size", "fewer fields",
}  # fmt: skip


@pytest.mark.parametrize("step", CASES)
def test_a_tolerance_forgives_numbers_alone(step: str) -> None:
    first = record(1)
    assert compare("k", first, CASES[step](first)).differs(1e4) == (step in UNFORGIVEN)


def test_numbers_that_are_none_are_never_the_same() -> None:
    first = record(1)
    for name in ("features", "class_probs", "object_confs"):
        array = first.array(name).copy()
        array[3] = np.nan
        assert compare("k", first, change(first, **{name: array})).differs(1e4)


def test_the_summary_has_percentiles_and_the_worst_pictures_first(tmp_path: Path) -> None:
    def worse(one: Record) -> Record:
        n = next(n for n in range(12) if np.array_equal(record(n).boxes, one.boxes))
        return one if n % 2 else change(one, features=noisy(0.02 * n)(one.features).astype(np.float32))

    found = diff(store(tmp_path / "a", same), store(tmp_path / "b", worse))
    assert [key for key, _, _ in found.worst] == ["10", "8", "6", "4", "2"]
    facts = found.to_dict()
    assert facts["cosine"]["max"] == 1.0
    assert facts["cosine"]["min"] < facts["cosine"]["p5"] < facts["cosine"]["p50"] <= 1
    assert facts["iou"]["min"] == 1.0
    assert facts["id_agreement"] == {"object_ids": 1.0, "attribute_ids": 1.0}


def test_the_same_vector_everywhere_is_a_matter_of_the_mean(tmp_path: Path) -> None:
    offset = np.random.default_rng(1).normal(size=DIM).astype(np.float32) * 0.8
    found = diff(store(tmp_path / "a", same), store(tmp_path / "b", featured(lambda x: x + offset)))
    assert [hint.step for hint in found.hints] == ["feature offset"]


def test_pictures_without_colour_tell_the_order_of_channels(tmp_path: Path) -> None:
    def swapped(one: Record) -> Record:
        n = next(n for n in range(12) if np.array_equal(record(n).boxes, one.boxes))
        return one if n < 3 else featured(mixed)(one)

    found = diff(store(tmp_path / "a", same), store(tmp_path / "b", swapped))
    (hint,) = found.hints
    assert (hint.step, hint.pictures) == ("channels", 9)
    assert "25%" in hint.text


def test_keys_of_one_store_are_counted_and_another_rule_of_naming_is_told(tmp_path: Path) -> None:
    a = store(tmp_path / "a", same, [f"val2014/COCO_val2014_{n:012d}" for n in range(12)])
    b = store(tmp_path / "b", same, range(12))
    found = diff(a, b)
    assert (found.only_a, found.only_b, found.common) == (12, 12, 0)
    assert [hint.step for hint in found.hints] == ["keys"]
    part = diff(b, store(tmp_path / "c", same, range(9)))
    assert (part.only_a, part.only_b, part.common, part.same) == (3, 0, 9, False)
    assert part.some_a == ["10", "11", "9"]


def test_a_sample_compares_some_and_a_damaged_record_is_told(tmp_path: Path) -> None:
    a, b = store(tmp_path / "a", same), store(tmp_path / "b", same)
    assert diff(a, b, sample="5").compared == 5
    file = next(b.rglob("*.lmdb"))
    content = bytearray(file.read_bytes())
    content[content.index(record(4).features.tobytes()) + 3] ^= 1
    file.write_bytes(content)
    found = diff(a, b)
    assert (found.compared, len(found.damaged), found.same) == (11, 1, False)


def test_what_the_makers_say_is_shown(tmp_path: Path) -> None:
    found = diff(
        store(tmp_path / "a", same, profile={"channels": "bgr"}),
        store(tmp_path / "b", same, profile={"channels": "rgb"}),
    )
    assert found.same
    assert found.made == [f"provenance.profile.channels: {tmp_path / 'a'} has 'bgr', {tmp_path / 'b'} 'rgb'"]


def test_the_command_exits_with_0_or_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = store(tmp_path / "a", same), store(tmp_path / "b", CASES["no attributes"])
    assert main(["diff", str(a), str(a)]) == 0
    assert capsys.readouterr().out.endswith("same\n")
    assert main(["diff", str(a), str(b), "--quiet"]) == 1
    said = capsys.readouterr().out
    assert "its script never wrote them" in said
    assert "12 of 12 pictures" in said
    assert "0 equal, 12 differ" in said
    half = store(tmp_path / "half", same, dtype="float16")
    assert main(["diff", str(a), str(half), "--quiet", "--tolerance", "0.1"]) == 0
    said = capsys.readouterr().out
    assert "0 equal, 12 within the tolerance, 0 differ" in said
    assert "most different" not in said
    assert main(["diff", str(a), str(b), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["id_agreement"] == {"object_ids": 1.0, "attribute_ids": 0.0}
    assert {hint["step"] for hint in facts["hints"]} == {"no attributes", "confidences"}
    assert main(["diff", str(a), str(b), "--tolerance", "-1"]) == 2
    assert main(["diff", str(a), str(tmp_path / "none")]) == 4
