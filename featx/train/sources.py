"""The stores of a run: one for both splits, or one for each; none for a task that reads none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast, get_args

from featx.errors import UsageError
from featx.store import Location as OnDisk
from featx.store import StoreReader, is_location, located, open_store
from featx.task import Split
from featx.wants import hashes

Location = OnDisk | StoreReader
Sources = Location | Mapping[str, Location] | None
Stores = Mapping[str, StoreReader]


@contextmanager
def opened(sources: Sources) -> Iterator[Stores]:
    """The stores by split. Paths, and ``{path: ..., boxes: 36}`` for views of supersets, are opened, and closed at
    the end; readers are used as they are.
    """
    splits = get_args(Split)
    if sources is None:
        named: Mapping[str, Location] = {}
    elif isinstance(sources, Mapping) and not is_location(sources):
        named = sources
    else:
        named = dict.fromkeys(splits, cast(Location, sources))
    if strange := sorted(set(named) - set(splits)):
        raise UsageError(f"store has the entry {strange[0]!r}", "give one path, or a mapping of train and val")
    with ExitStack() as stack:
        readers: dict[str, StoreReader] = {}
        for place in dict.fromkeys(map(_identity, named.values())):
            found = next(where for where in named.values() if _identity(where) == place)
            readers[place] = found if isinstance(found, StoreReader) else stack.enter_context(open_store(found))
        yield {split: readers[_identity(where)] for split, where in named.items()}


def _identity(where: Location) -> str:
    if isinstance(where, StoreReader):
        return str(id(where))
    folder, view = located(where)
    return repr((os.path.realpath(folder), view))


def fingerprint(store: StoreReader) -> dict[str, Any]:
    """What tells a store from another, wherever it lies: how it was made, what is in it."""
    totals, (profile, weights) = store.manifest.totals, hashes(store.manifest.provenance)
    return {
        "digest": totals.digest if totals else None,
        "records": len(store),
        "dim": store.schema.dim,
        "profile": profile,
        "weights": weights,
    }
