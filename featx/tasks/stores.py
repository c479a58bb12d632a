"""What a task looks at in its stores before it is trained: what they state, and a sample of their regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from featx.errors import UsageError
from featx.record import Record
from featx.store import Manifest, is_location, located, open_store, read_manifest

PICTURES = 1000  # of a sample, evenly spaced
OTHERS = 4  # regions of each picture that may stand in for hidden ones


def manifests(store: Any) -> dict[str, Manifest]:
    """The manifest of every store that a configuration names, by its path; that of the training store comes first."""
    return {located(where)[0]: read_manifest(where) for where in locations(store)}


def locations(store: Any) -> list[Any]:
    """Where the stores of a configuration are; that of the training store comes first."""
    if isinstance(store, Mapping) and not is_location(store):
        store = [where for split, where in sorted(store.items()) if split in ("train", "val")]
    else:
        store = [store]
    return [where for where in store if where is not None]


def first(store: Any, purpose: str) -> Record:
    """The first record of the training store. Raises UsageError as :func:`sampled`."""
    return _records(store, purpose, 1)[0]


def sampled(store: Any, purpose: str) -> list[torch.Tensor]:
    """The regions ``[n, D]`` float32 of some pictures of the training store.

    Raises UsageError when there is none or it is empty; ``purpose`` says what they are for.
    """
    found = _records(store, purpose, PICTURES)
    return [torch.from_numpy(record.features[: len(record)].astype(np.float32)) for record in found]


def _records(store: Any, purpose: str, most: int) -> list[Record]:
    """At most so many, evenly spaced."""
    where = next(iter(locations(store)), None)
    if where is None:
        raise UsageError(f"{purpose} looks at the features of a store, and none is named", "name the store")
    with open_store(where) as reader:
        keys = list(reader.keys())
        places = np.linspace(0, len(keys) - 1, min(most, len(keys))).astype(int)
        records = [reader[keys[place]] for place in places]
    if not records:
        raise UsageError(
            f"the store {located(where)[0]} is empty, so {purpose} has nothing to look at", "extract pictures first"
        )
    return records


def other_regions(store: Any) -> torch.Tensor:
    """Regions ``[P, D]`` of a sample of pictures, to stand in for hidden ones: the same in every process and run."""
    chance = np.random.default_rng(0)
    found = sampled(store, "pre-training")
    return torch.cat([rows[chance.integers(len(rows), size=OTHERS)] for rows in found if len(rows)])
