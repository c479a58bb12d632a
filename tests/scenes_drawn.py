"""A small folder of scenes, as the tests of its files and of its drawing both look at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from featx.scenes import write_scenes

TRAIN, VAL, SEED = 16, 5, 11


def draw_folder(out: Path) -> Path:
    """The folder ``out``, drawn by two processes."""
    write_scenes(out, TRAIN, VAL, SEED, workers=2)
    return out


def load(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
