"""Records in a file that was a log, by the groups that it was written in: their indices are still in it.

They name every record once more, beside the tree of an LMDB file and the columns of an HDF5 file. What is found is
only a candidate: the checksum of a record, seeded by its key, decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from featx.care.pages import Pages, value_at
from featx.store.lmdb_format import PAGE_HEADER
from featx.store.log_group import MAGIC, PAGE, read_group


def grouped_values(path: Path, pages: Pages) -> Iterator[tuple[bytes, int, memoryview]]:
    """(key, page, what begins where its value should) for every record of every index that is whole."""
    if pages.size != PAGE:
        return
    table = pages.whole[: len(pages.whole) // PAGE * PAGE].reshape(-1, PAGE)
    begins = (table[:, PAGE_HEADER.size :][:, : len(MAGIC)] == np.frombuffer(MAGIC, np.uint8)).all(axis=1)
    with path.open("rb", buffering=0) as file:
        for first in np.flatnonzero(begins).tolist():
            group = read_group(file.fileno(), first, len(pages.whole), None)
            for key, page, entry in zip(group.keys, group.pages.tolist(), group.entries, strict=True) if group else ():
                yield key, page, value_at(pages, page)[: int(entry["length"])]
