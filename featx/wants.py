"""What a model expects of the records it reads, and how a store, or an extractor, differs from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from featx.schema import Schema

FIELDS = ("features", "boxes")
_ALLOWABLE = ("profile", "weights", "pictures")  # what can be done without: other fields or dimensions cannot be read


@dataclass(frozen=True)
class Wants:
    """What a model expects of the stores it reads; compared with them before the first step.

    fields: names every record must have. dim: D of the features, None for any. profile, weights: the hash of the
    extractor's profile and the sha256 of its weights that the model was trained with, None when it does not know.
    switches: entries of the profile that must have these values, for a model that knows what it reads but no hash:
    ``{"tensor": "last_hidden_state"}``.
    """

    fields: tuple[str, ...] = FIELDS
    dim: int | None = None
    profile: str | None = None
    weights: str | None = None
    switches: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mismatch:
    """One thing that a store has not as the model wants it."""

    what: str
    found: str
    expected: str
    advice: str

    @property
    def allowable(self) -> bool:
        """Whether a model can work all the same."""
        return self.what in _ALLOWABLE

    def __str__(self) -> str:
        return f"{self.what}: found {self.found}, expected {self.expected} ({self.advice})"


def wants_of(about: Mapping[str, Any], dim: int | None, more: tuple[str, ...] = ()) -> Wants:
    """What a model wants; ``about`` is its ``featx.json``, empty for one that comes without. more: further fields."""
    stated = about.get("wants") or {}
    return Wants((*FIELDS, *more), stated.get("dim") or dim, stated.get("profile"), stated.get("weights"))


def hashes(provenance: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """(hash of the profile, sha256 of the weights) of a store; None for what it does not state."""
    profile, weights = provenance.get("profile"), provenance.get("weights")
    return (
        profile.get("hash") if isinstance(profile, Mapping) else None,
        weights.get("sha256") if isinstance(weights, Mapping) else None,
    )


def mismatches(wants: Wants, schema: Schema, provenance: Mapping[str, Any]) -> Iterator[Mismatch]:
    """Fields, dimension, profile and weights of a store or an extractor, as far as the model cares."""
    have = [field.name for field in schema.fields]
    for name in wants.fields:
        if name not in have:
            yield Mismatch("fields", ", ".join(have), name, f"extract with an extractor whose records have {name}")
    if wants.dim is not None and wants.dim != schema.dim:
        yield Mismatch("dim", str(schema.dim), str(wants.dim), "extract with the network the model was made for")
    for what, found, expected in zip(
        ("profile", "weights"), hashes(provenance), (wants.profile, wants.weights), strict=True
    ):
        if expected is not None and found != expected:
            advice = f"extract with the {what} the model was trained with"
            yield Mismatch(what, str(found or "nothing stated"), expected, advice)
    profile = provenance.get("profile")
    stated = profile if isinstance(profile, Mapping) else {}
    for name, value in wants.switches.items():
        if stated.get(name) != value:
            found = f"{name} {stated[name]!r}" if name in stated else f"no {name}"
            yield Mismatch("profile", found, f"{name} {value!r}", f"extract with {name}: {value}")
