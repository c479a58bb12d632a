"""``--boxes`` and ``--score-threshold`` of the commands that read a store: a view of a superset."""

from __future__ import annotations

import argparse
from typing import Any


def add_view(parser: argparse.ArgumentParser) -> None:
    """The two flags."""
    parser.add_argument("--boxes", help="of a superset store: read it as if extracted with 36 or 10..100 boxes")
    parser.add_argument("--score-threshold", help="of a superset store: the same for the score threshold")


def view_asked(options: argparse.Namespace) -> dict[str, Any]:
    """The argument ``view`` of ``open_store`` that the flags ask for; empty without them."""
    asked = {"boxes": options.boxes, "score_threshold": options.score_threshold}
    return {name: value for name, value in asked.items() if value is not None}
