"""Page faults of each batch, once all pages of the store were seen: ``python -m tests.loader_faults STORE``."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterable

from featx import FeatureDataset, FeatureLoader, open_store
from featx.record import RecordBatch

BATCH = 64


def faults(batches: Iterable[RecordBatch]) -> list[int]:
    """Between each batch and the one before, every value of which was looked at."""
    found, before = [], None
    for batch in batches:
        batch.features.sum()
        now = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        found += [] if before is None else [now - before]
        before = now
    return found


def main(path: str) -> None:
    """Print the faults of a batch, mean of an epoch, from the ring and in fresh memory, and the pages of a batch."""
    with open_store(path) as store, FeatureLoader(store, batch=BATCH, drop_last=True) as loader:
        places = {batch.features.data_ptr() for batch in loader}
        ring = faults(loader)
        dataset = FeatureDataset(store)
        fresh = faults(dataset.__getitems__(range(n, n + BATCH)) for n in range(0, len(dataset) - BATCH, BATCH))
        pages = store.get_batch(dataset.keys[:BATCH]).features.nbytes / resource.getpagesize()
    told = {name: sum(found) / len(found) for name, found in (("ring", ring), ("fresh", fresh))}
    print(json.dumps({**told, "pages": pages, "buffers": len(places)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
