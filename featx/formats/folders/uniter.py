"""UNITER's folder of npz, one per picture (``tools/generate_npz.py`` of BUTD-UNITER-NLVR2), the source of its LMDB.

The name is that of the picture, as the readers build it: ``nlvr2_<id>-img0.npz``. The arrays are in ``uniter``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from featx.formats.folders.pictures import PictureFolder, content
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.uniter import ARRAYS, LOSSES, dump_of_record, record_of_dump
from featx.formats.values import npz
from featx.record import Record


class UniterNpz(PictureFolder):
    """UNITER, before its LMDB."""

    name = "uniter-npz"
    title = "npz folder of UNITER"
    source = "ChenRocks/BUTD-UNITER-NLVR2, tools/generate_npz.py"
    losses = ("the order of the pictures is that of their names", *LOSSES)
    takes = frozenset({"key", "sizes"})
    ending = ".npz"
    sized = True

    def fits(self, place: Path) -> bool:
        return {"norm_bb", "features"} <= npz.names(io.BytesIO(content(place)))

    def check(self, records: Records) -> None:
        records.need("object_confs", what=self.title)

    def load(self, root: Path, name: str, size: tuple[int, int] | None, options: Options) -> Record:
        assert size is not None
        [place] = self.places(root, name)
        return record_of_dump(npz.arrays(io.BytesIO(content(place)), ARRAYS), size)

    def files(self, key: str, record: Record) -> Iterator[tuple[str, bytes]]:
        yield key + self.ending, npz.pack(dump_of_record(key, record))
