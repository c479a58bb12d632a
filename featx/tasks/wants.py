"""What a trained model says about the stores it can read: ``wants`` in its ``featx.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featx.wants import Wants

FIELDS = ("features", "boxes")


def wants_of(about: Mapping[str, Any], dim: int | None, more: tuple[str, ...] = ()) -> Wants:
    """What a model wants; ``about`` is its ``featx.json``, empty for one that comes without. more: further fields."""
    stated = about.get("wants") or {}
    return Wants((*FIELDS, *more), stated.get("dim") or dim, stated.get("profile"), stated.get("weights"))
