"""Damaged foreign files lead to problems that are told, in every format: the short form of tests.fuzz_formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from featx.formats import FORMATS, get
from tests.fuzz_formats import fuzz

TIMES = 60


@pytest.mark.parametrize("name", [name for name in FORMATS if get(name).reads and get(name).writes])
def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path: Path, name: str) -> None:
    faults = list(fuzz([name], tmp_path, TIMES, 10**6))
    assert not faults, faults[0].trace
