"""docs/formats.md names every format there is, and none that is not."""

from __future__ import annotations

import re
from pathlib import Path

from featx.formats import FORMATS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "formats.md"


def test_the_table_names_every_format_once() -> None:
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`([^`]+)`", row)) == sorted(FORMATS)
