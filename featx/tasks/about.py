"""What an exported model says about itself: its ``featx.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from featx import __version__
from featx.errors import FeatxError
from featx.registry import load
from featx.task import Task
from featx.wants import Wants, hashes


def about(
    task: str,
    wants: Wants,
    trained_on: Mapping[str, Any],
    *,
    start: Mapping[str, Any],
    extractor: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """The JSON form. ``trained_on``: see :meth:`featx.task.Task.export`. start: ``featx.json`` of the weights it began
    with, empty without. extractor: see :func:`recipe`. more: further entries.
    """
    provenance = trained_on.get("provenance") or {}
    profile, weights = hashes(provenance)
    switches = {name: _stated(provenance, name, value) for name, value in wants.switches.items()}
    return {
        "featx": __version__,
        "task": task,
        **more,
        "wants": {  # what it was trained on counts, where that was not what the weights it began with want
            "fields": list(wants.fields),
            "dim": wants.dim,
            "profile": profile or wants.profile,
            "weights": weights or wants.weights,
            "extractor": recipe(trained_on, start.get("wants") or {}, extractor),
            **({"switches": switches} if switches else {}),
        },
        "figures": trained_on.get("figures", {}),
        "trained_on": {k: v for k, v in trained_on.items() if k != "figures"},
    }


def _stated(provenance: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """An entry of the profile of what a model was trained on."""
    profile = provenance.get("profile")
    return profile.get(name, otherwise) if isinstance(profile, Mapping) else otherwise


_OF_A_GPU = ("tf32", "float16")  # precisions that only a GPU has; what they round, any machine can compute


def recipe(trained_on: Mapping[str, Any], start: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any] | None:
    """Name and options of the extractor that makes such features again: ``{"name": ..., "options": {...}}``.

    What the store states (``trained_on``), and what a model trained before on the same weights (``start``: its
    ``wants``) knows of its extractor besides, such as where these weights are; ``more`` wins over both.
    """
    provenance = trained_on.get("provenance") or {}
    name = provenance.get("extractor")
    if not isinstance(name, str):
        return None
    options: dict[str, Any] = {}
    profile, weights = provenance.get("profile"), provenance.get("weights")
    if isinstance(profile, Mapping):
        options["profile"] = {k: v for k, v in profile.items() if k != "hash"}
    if provenance.get("precision"):  # an extractor that says how exactly it computes can be told how to store that
        precision = str(provenance["precision"])
        exact = "float32" if precision in _OF_A_GPU else precision
        options |= {"precision": exact, "dtype": trained_on.get("dtype") or "float32"}
    former = start.get("extractor") or {}
    same = former.get("name") == name and start.get("weights") == hashes(provenance)[1] is not None
    known = (former.get("options") or {}) if same else {}
    if isinstance(weights, Mapping) and weights.get("source"):
        known = {"weights": weights["source"], **known}
    return {"name": name, "options": {**known, **options, **more}}


def task_of(about: Mapping[str, Any]) -> type[Task] | None:
    """The task that exported a model; None for one of another origin, or one that is not installed here."""
    if not isinstance(about.get("task"), str):
        return None
    try:
        return cast(type[Task], load("featx.tasks", about["task"]))
    except FeatxError:
        return None
