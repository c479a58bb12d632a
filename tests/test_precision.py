"""Precisions: their names, where they are refused, and flags of the process that are as before after every call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from featx.errors import UsageError
from featx.tasks.about import recipe
from featx_extractors.frcnn import FRCNN
from featx_extractors.precision import PRECISIONS, precision_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FLAGS: Any = torch.backends


def state() -> list[Any]:
    """All that says whether TF32 is allowed, in both of torch's ways of saying it."""
    questions: list[Callable[[], Any]] = [
        lambda: FLAGS.cudnn.conv.fp32_precision, lambda: FLAGS.cudnn.rnn.fp32_precision,
        lambda: FLAGS.cuda.matmul.fp32_precision, lambda: FLAGS.mkldnn.matmul.fp32_precision,
        lambda: FLAGS.fp32_precision, lambda: FLAGS.cudnn.allow_tf32, lambda: FLAGS.cuda.matmul.allow_tf32,
        torch.get_float32_matmul_precision,
    ]  # fmt: skip
    answers = []
    for question in questions:
        try:
            answers.append(question())
        except RuntimeError:  # torch refuses the older question once the newer flags were set
            answers.append("refused")
    return answers


@pytest.fixture
def flags() -> Iterator[None]:
    """What a test does to the flags does not outlive it."""
    yield
    for owner in (FLAGS.cudnn.conv, FLAGS.cudnn.rnn, FLAGS.cuda.matmul, FLAGS.mkldnn.matmul):
        owner.fp32_precision = "none"
    FLAGS.fp32_precision = "none"
    FLAGS.cudnn.allow_tf32 = True
    FLAGS.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    FLAGS.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.parametrize(
    ("spelling", "name", "dtype"),
    [
        ("float32", "float32", torch.float32), ("fp32", "float32", torch.float32), ("tf32", "tf32", torch.float32),
        ("bf16", "bfloat16", torch.bfloat16), ("bfloat16", "bfloat16", torch.bfloat16),
        ("fp16", "float16", torch.float16), ("float16", "float16", torch.float16),
    ],
)  # fmt: skip
def test_every_spelling_has_one_name(spelling: str, name: str, dtype: torch.dtype) -> None:
    assert (precision_of(spelling).name, precision_of(spelling).dtype) == (name, dtype)


@pytest.mark.parametrize("name", ["half", "int8", "", 16, None])
def test_what_is_no_precision_is_told_those_there_are(name: Any) -> None:
    with pytest.raises(UsageError, match=r"float32.*tf32.*bfloat16.*float16"):
        precision_of(name)


@pytest.mark.parametrize(("name", "said"), [("tf32", "has no TF32"), ("fp16", "slower than float32")])
def test_a_cpu_refuses_what_it_cannot_do_well(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        FRCNN.from_options({"weights": "seeded-tiny", "precision": name})


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize(
    "before",
    [
        lambda: None,
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: setattr(FLAGS.cuda.matmul, "allow_tf32", True),
        lambda: setattr(FLAGS.cudnn, "allow_tf32", False),
        lambda: setattr(FLAGS, "fp32_precision", "tf32"),
        lambda: setattr(FLAGS.cudnn.conv, "fp32_precision", "ieee"),
        lambda: setattr(FLAGS.cuda.matmul, "fp32_precision", "tf32"),
    ],
    ids=["untouched", "medium", "matmul", "no tf32", "all", "conv", "newer matmul"],
)
def test_tf32_is_what_a_precision_says_and_afterwards_what_it_was(name: str, before: Callable[[], None]) -> None:
    before()
    was = state()
    with PRECISIONS[name].flags(GPU):
        assert (FLAGS.cudnn.conv.fp32_precision == "tf32") == (name == "tf32")
        assert FLAGS.cuda.matmul.fp32_precision != "tf32"
    assert state() == was
    with pytest.raises(KeyError), PRECISIONS[name].flags(GPU):
        raise KeyError
    assert state() == was


def test_a_cpu_leaves_the_flags_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx_extractors.precision._switch", lambda tf32: pytest.fail("flags were touched"))
    with PRECISIONS["bfloat16"].flags(CPU):
        pass


def test_making_a_detector_changes_no_flag() -> None:
    was = state()
    FRCNN.from_options({"weights": "seeded-tiny"})
    assert state() == was


def test_a_store_is_told_the_canonical_name() -> None:
    told = [FRCNN.from_options({"weights": "seeded-tiny", "precision": p}).provenance() for p in ("bf16", "bfloat16")]
    assert told[0] == told[1]
    assert told[0]["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("stored", "asked"),
    [("float32", "float32"), ("bfloat16", "bfloat16"), ("tf32", "float32"), ("float16", "float32")],
)
def test_a_model_of_features_from_a_gpu_can_be_shown_a_photo_anywhere(stored: str, asked: str) -> None:
    found = recipe({"provenance": {"extractor": "frcnn", "precision": stored}, "dtype": "float16"}, {}, {})
    assert found is not None
    assert found["options"]["precision"] == asked
