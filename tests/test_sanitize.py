"""The script around compute-sanitizer: what it calls, what it says when something is missing, its exit code."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import sanitize


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["sanitize"])
    assert sanitize.main() == 5
    assert "finds no GPU" in capsys.readouterr().err


def test_without_the_tool_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["sanitize"])
    monkeypatch.setattr(sanitize, "missing", lambda: "")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert sanitize.main() == 5
    assert "pip install nvidia-cuda-sanitizer-api" in capsys.readouterr().err


def test_the_tool_is_found_in_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "site" / "nvidia" / "cu13" / "bin" / "compute-sanitizer"
    tool.parent.mkdir(parents=True)
    tool.write_text("")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr("sys.path", [str(tmp_path), str(tmp_path / "site")])
    assert sanitize.find() == str(tool)


@pytest.mark.parametrize(("bad", "code"), [(None, 0), ("racecheck", 1)])
def test_every_tool_runs_and_one_that_finds_something_is_told(
    bad: str | None, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = []

    def call(words: list[str], env: dict[str, str]) -> Any:
        tool = words[words.index("--tool") + 1]
        called.append(tool)
        assert env["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"
        assert words[-3:] == ["-m", "tests.sanitize", "--kernels"]
        return subprocess.CompletedProcess(words, sanitize.FOUND if tool == bad else 0)

    run = sanitize.run
    monkeypatch.setattr("sys.argv", ["sanitize"])
    monkeypatch.setattr(sanitize, "missing", lambda: "")
    monkeypatch.setattr(sanitize, "find", lambda: "/bin/tool")
    monkeypatch.setattr(sanitize, "run", lambda program, tool: run(program, tool, call))
    assert sanitize.main() == code
    assert called == ["memcheck", "racecheck", "synccheck", "initcheck"]
    said = capsys.readouterr().out
    assert said.count("clean") == (4 if bad is None else 3)
    assert ("racecheck  found something" in said) == (bad is not None)
