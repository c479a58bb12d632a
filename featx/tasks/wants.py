"""What a trained model says about the stores it can read: ``wants`` in its ``featx.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featx.task import Wants

FIELDS = ("features", "boxes")


def wants_of(about: Mapping[str, Any], dim: int | None, more: tuple[str, ...] = ()) -> Wants:
    """What a model wants; ``about`` is its ``featx.json``, empty for one that comes without. more: further fields."""
    stated = about.get("wants") or {}
    return Wants((*FIELDS, *more), stated.get("dim") or dim, stated.get("profile"), stated.get("weights"))


def describe(wants: Wants, trained_on: Mapping[str, Any], extractor: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON form, completed by the store that was trained on: its profile, weights and extractor.

    ``extractor``: further options of that, which win over what the store states.
    """
    provenance = trained_on.get("provenance") or {}
    profile, weights = hashes(provenance)
    return {
        "fields": list(wants.fields),
        "dim": wants.dim,
        "profile": wants.profile or profile,
        "weights": wants.weights or weights,
        "extractor": recipe(provenance, extractor),
    }


def hashes(provenance: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """(hash of the profile, sha256 of the weights) a store states; None for what it does not."""
    profile, weights = provenance.get("profile"), provenance.get("weights")
    return (
        profile.get("hash") if isinstance(profile, Mapping) else None,
        weights.get("sha256") if isinstance(weights, Mapping) else None,
    )


def recipe(provenance: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any] | None:
    """Name and options of the extractor that makes such features again: ``{"name": ..., "options": {...}}``."""
    name = provenance.get("extractor")
    if not isinstance(name, str):
        return None
    options: dict[str, Any] = {}
    profile, weights = provenance.get("profile"), provenance.get("weights")
    if isinstance(profile, Mapping):
        options["profile"] = {k: v for k, v in profile.items() if k != "hash"}
    if isinstance(weights, Mapping) and weights.get("source"):
        options["weights"] = weights["source"]
    if provenance.get("precision"):
        options["precision"] = provenance["precision"]
    return {"name": name, "options": {**options, **more}}
