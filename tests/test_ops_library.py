"""How the operators are found and loaded: compiled, switched off, damaged, and in processes without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from featx import ops

TESTS = Path(__file__).resolve().parent


def run(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_status_says_what_is_loaded_or_why_it_is_not() -> None:
    status = ops.native_status()
    assert status.loaded == status.cpu
    assert status.loaded != bool(status.reason)
    assert "setup.py build_ext" in status.how_to_build
    with pytest.raises(AttributeError):
        status.loaded = False  # type: ignore[misc]


def test_compiled_operators_can_be_switched_off() -> None:
    code = "from featx import ops; s = ops.native_status(); print(s.loaded, s.cpu, s.cuda, s.reason)"
    assert run(code, FEATX_NATIVE="0") == "False False False switched off by FEATX_NATIVE=0"


def test_a_library_that_cannot_be_loaded_is_explained_and_plain_torch_runs(tmp_path: Path) -> None:
    damaged = tmp_path / "_native.abi3.so"
    damaged.write_bytes(b"not a library")
    code = f"""
import importlib.machinery, importlib.util
found = importlib.util.find_spec
damaged = importlib.machinery.ModuleSpec("featx._native", None, origin={str(damaged)!r})
importlib.util.find_spec = lambda name, *a: damaged if name == "featx._native" else found(name, *a)
import torch
from featx import ops
status = ops.native_status()
assert not status.loaded and not status.cpu and "cannot load it" in status.reason, status
print(ops.nms(torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]]), torch.tensor([0.1, 0.2]), 0.5).tolist())
"""
    assert run(code, FEATX_NATIVE="auto") == "[1]"


def test_everything_holds_without_compiled_operators() -> None:
    """The tests of the operators once more, on the references."""
    files = [str(TESTS / f"test_ops_{name}.py") for name in ("boxes", "nms", "roi", "select")]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files],
        env={**os.environ, "FEATX_NATIVE": "0", "FEATX_REQUIRE_NATIVE": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=TESTS.parent,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert " passed" in result.stdout


def test_results_do_not_depend_on_the_number_of_threads(native: None) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, generator=generator) * 500
    boxes = torch.cat([corner, corner + 50 + torch.rand(300, 2, generator=generator) * 300], 1)
    probs = torch.softmax(torch.randn(300, 400, generator=generator), 1)
    features = torch.rand(1, 64, 40, 40, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    rois = torch.cat([torch.zeros(300, 1), boxes], 1)

    def everything() -> list[torch.Tensor]:
        chosen = ops.select_boxes(boxes, probs, score_threshold=0.9)  # no row passes: every probability is looked at
        out = ops.roi_align(features, rois, 7, 1 / 16), ops.roi_pool(features, rois, 7, 1 / 16)
        return [
            *chosen,
            *out,
            *torch.autograd.grad(sum(o.square().sum() for o in out), features),
            ops.box_iou(boxes, boxes),
        ]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = everything()
        torch.set_num_threads(3)
        assert all(torch.equal(a, b) for a, b in zip(alone, everything(), strict=True))
    finally:
        torch.set_num_threads(threads)
