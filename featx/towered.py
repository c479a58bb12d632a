"""Models that were trained together with a vision tower of their own: which features are theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featx.checkpoint.place import Place
from featx.wants import FIELDS, Wants

SWITCHES = {"tensor": "last_hidden_state", "cls": True}  # of the profile of a grid as all of them read it


def of_checkpoint(place: Place, tower: str | None) -> dict[str, Any]:
    """What a checkpoint says about itself by the tower it carries, as a ``featx.json``. tower: its hash, or None."""
    wants: dict[str, Any] = {"switches": SWITCHES}
    if tower is not None:
        where = place.hub_id or str(place.folder)
        wants |= {"weights": tower, "extractor": {"name": "clip", "options": {"weights": where, **SWITCHES}}}
    return {"wants": wants}


def wants_of_grid(about: Mapping[str, Any], dim: int) -> Wants:
    """What a model wants of its grids. about: its ``featx.json``, or :func:`of_checkpoint`; dim: D of the features."""
    stated = about.get("wants") or {}
    return Wants(
        FIELDS,
        stated.get("dim") or dim,
        stated.get("profile"),
        stated.get("weights"),
        dict(stated.get("switches") or {}),
    )
