"""The references: every array, every row. ``make parity`` prints what is asserted here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.parity.__main__ import KINDS, compare, main
from tests.parity.table import Table


@pytest.mark.parametrize("kind", KINDS)
def test_every_array_of_the_references_matches(shared: Path, kind: str) -> None:
    (folder,) = (shared / "fixtures").glob(f"*/{kind}")
    table, missed = compare([folder])
    assert not table.failed, f"\n{table}"
    assert not missed
    assert len(table.rows) > 20


def test_a_wrong_number_fails_the_table(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command must notice: one proposal moved by a tenth of a pixel, one id changed, one array nobody knows."""
    source, copy = shared / "fixtures/frcnn/hf", tmp_path / "hf"
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    with np.load(source / "image_a.npz") as data:
        arrays = {name: data[name] for name in data.files}
    arrays["proposals"] = arrays["proposals"] + 0.1
    arrays["out_obj_ids"] = np.roll(arrays["out_obj_ids"], 1)
    arrays["surprise"] = np.zeros(3)
    np.savez(copy / "image_a.npz", **arrays)
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    failed = [line.split()[2] for line in printed.out.splitlines() if " NO" in line]
    assert failed == ["proposals", "out_obj_ids"]
    assert "hf/image_a.npz: surprise" in printed.err


def test_a_wrong_accuracy_and_an_unknown_entry_fail_the_table(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON references are watched like arrays: one percent changed, one field nobody knows, one file nobody opens."""
    source, copy = shared / "fixtures/consumers/metrics", tmp_path / "metrics"
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    content = json.loads((source / "vizwiz.json").read_text())
    content["cases"][3]["percent"] += 0.01
    content["cases"][5]["surprise"] = 1
    (copy / "vizwiz.json").write_text(json.dumps(content))
    (copy / "new.json").write_text("[]")
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    failed = [" ".join(line.split()[1:3]) for line in printed.out.splitlines() if " NO" in line]
    assert failed == ["vizwiz: percent"]
    assert "metrics/vizwiz.json: cases.5.surprise" in printed.err
    assert "metrics/new.json: not opened" in printed.err


@pytest.mark.parametrize("arguments", [["/nowhere"], [".", "--only", "nothing"], ["."]])
def test_a_folder_of_another_form_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_a_nan_is_not_a_match() -> None:
    table = Table()
    table.close("peer", "stage", [np.nan, 1.0], [0.0, 1.0], 1e9)
    table.close("peer", "stage", [0.0], [np.nan], 1e9)
    assert len(table.failed) == 2
