"""The same on a Ray cluster of two nodes, of which one dies in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import featx
from tests.spread_toys import ROOT, check, draw, offer


def with_ray() -> str:
    """A Python that has Ray: this one, or the one that FEATX_RAY_PYTHON names (which must have featx, too)."""
    python = os.environ.get("FEATX_RAY_PYTHON") or (sys.executable if find_spec("ray") else None)
    if python is None:
        pytest.skip("ray is not installed; FEATX_RAY_PYTHON may name a Python that has it")
    return python


def test_a_cluster_that_loses_a_node_in_the_middle_makes_what_one_process_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, photos = with_ray(), draw(tmp_path / "photos", 80)
    environment = offer(tmp_path / "package")
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    featx.extract(str(photos), str(tmp_path / "one"), extractor="toy-spread")
    one = check(photos, tmp_path / "one")
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:  # a socket has a short path
        done = subprocess.run(
            [python, "-m", "tests.spread_nodes", str(photos), str(tmp_path / "s"), short],
            capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **environment},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["exit"] == 0, found["said"]
    assert found["lost"] >= 1
    assert "another goes on" in found["said"]
    assert "79 pictures in" in found["said"]
    assert check(photos, tmp_path / "s") == one


def test_without_ray_the_line_that_installs_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featx.errors import MissingDependency

    offer(tmp_path / "package")
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    monkeypatch.setitem(sys.modules, "ray", None)
    photos = draw(tmp_path / "photos", 3)
    with pytest.raises(MissingDependency, match=r"featx\[ray\]"):
        featx.extract(str(photos), str(tmp_path / "s"), extractor="toy-spread", executor="ray")
