"""Do the stores hold what the task wants? Asked before the first step, and answered with every difference at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featx.errors import UsageError
from featx.store import StoreReader
from featx.task import Task
from featx.train.sources import Stores
from featx.wants import Mismatch, Wants, hashes, mismatches

SHOWN = 5  # missing pictures named

Examples = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Checked:
    """examples: those that can be used. notes: what is amiss and was allowed."""

    examples: Examples
    notes: Sequence[str]


def check(task: Task, stores: Stores, examples: Examples, *, allow: bool = False) -> Checked:
    """Compare the store of every split that has examples with ``task.wants()``, and with the training store.

    Raises UsageError that names every difference; ``allow`` makes notes of those with which a model can work, and drops
    examples without a record, as long as some are left.
    """
    wants = task.wants()
    if wants is None:
        return Checked(
            examples, [f"task {task.name} reads no store; the one that was given is not used"] * bool(stores)
        )
    amiss: list[tuple[str, Mismatch]] = []
    usable: dict[str, Sequence[Any]] = {}
    for split, found in examples.items():
        if found and split not in stores:
            raise UsageError(
                f"task {task.name} reads a store, and none was given for its {split} examples", "give --store PATH"
            )
        usable[split] = found
        if found:
            here, usable[split] = _compare(wants, stores[split], found, task)
            amiss += [(split, mismatch) for mismatch in here]
            wants = _alike(wants, stores[split])
    lines = [f"{split}: {mismatch}" for split, mismatch in amiss]
    left = all(len(usable[split]) for split, found in examples.items() if len(found))
    readable = left and all(mismatch.allowable for _, mismatch in amiss)
    if lines and not (allow and readable):
        advice = "extract the store again as expected"
        raise UsageError(
            f"the store does not fit task {task.name}:\n  " + "\n  ".join(lines),
            f"{advice}, or train on it all the same with --allow-mismatch" if readable else advice,
        )
    return Checked(usable, lines)


def _alike(wants: Wants, store: StoreReader) -> Wants:
    """What the stores to come must be, where the task does not know: as the one before."""
    profile, weights = hashes(store.manifest.provenance)
    return replace(
        wants,
        dim=wants.dim or store.schema.dim, profile=wants.profile or profile, weights=wants.weights or weights,
    )  # fmt: skip


def _compare(
    wants: Wants, store: StoreReader, examples: Sequence[Any], task: Task
) -> tuple[list[Mismatch], Sequence[Any]]:
    """What is amiss with the store of a split, and the examples that have a record."""
    amiss = list(mismatches(wants, store.schema, store.manifest.provenance))
    wanted = {task.key(example): None for example in examples}
    missing = missing_keys(wanted, store)
    if not missing:
        return amiss, examples
    left = [example for example in examples if task.key(example) not in missing]
    some = ", ".join(list(missing)[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
    picture = Mismatch(
        "pictures",
        f"no record for {len(missing):,} of {len(wanted):,} pictures, of {len(examples) - len(left):,} of "
        f"{len(examples):,} examples: {some}",
        f"a record for each; the keys of the store look like {next(iter(store.keys()), 'nothing')}",
        "image_name says how keys are made; `featx inspect STORE --failures` which pictures were refused",
    )
    return [*amiss, picture], left


def missing_keys(wanted: Iterable[str], store: StoreReader) -> dict[str, None]:
    """The keys of ``wanted`` that the store lacks, in their order; its keys are listed once, not looked up singly."""
    have = set(store.keys())
    return {key: None for key in wanted if key not in have and key not in store}
