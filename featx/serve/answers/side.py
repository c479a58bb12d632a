"""What was extracted on a miss, kept: in a store of its own beside the one that is served, which stays as it is.

A finished store does not grow: its digest stays true and its parts are immutable. So ``coco.featx`` gets a neighbour
``coco.cached.featx``, an ordinary store of the same schema, provenance and labels, whose parts stay open: each process
that serves writes one, and what it has committed is found by all. Only records that were made exactly as those of the
store go into it. Uploaded pictures are under the sha256 of their file, as by the key rule of that name. The folder may
be removed when no server runs; `finish` makes a whole store of it, which `featx merge` can add to the other.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.codec import store_key
from featx.errors import FeatxError, StoreError
from featx.serve.problems import log
from featx.store import Manifest, PartWriter, StoreReader, create_store, open_part, open_store

if TYPE_CHECKING:
    from featx.record import Record
    from featx.serve.answers.extraction import Seen

PARTS = 16  # so many processes can write
LARGEST = 10 << 30  # bytes of records beside a store; several processes may exceed it by what each writes
_EVERY = 1.0  # seconds between two looks for parts that others have begun
_PICTURES = ("decoder", "key_rule")  # of a store's provenance: what an extractor does not decide


class Side:
    """The records beside one store. Reading may be done by any thread, writing by one."""

    def __init__(self, path: Path, manifest: Manifest, largest: int = LARGEST) -> None:
        self.path, self.manifest, self.largest = path, manifest, largest
        self.written = 0
        self._writer: PartWriter | None = None
        self._reader: StoreReader | None = None
        self._parts: tuple[str, ...] = ()
        self._looked = 0.0
        self.trouble: str | None = None  # why nothing (more) is written

    def takes(self, schema: Any, provenance: Mapping[str, Any]) -> bool:
        """Whether records of an extractor are what an extraction into the store would have made."""
        theirs = {name: value for name, value in self.manifest.provenance.items() if name not in _PICTURES}
        return bool(schema == self.manifest.schema and json.loads(json.dumps(dict(provenance))) == theirs)

    def find(self, key: str) -> Record | None:
        """The record of a key, None when it was not kept."""
        try:
            reader = self._opened()
            return reader[key] if reader is not None and key in reader else None
        except (FeatxError, OSError) as error:  # it is a cache: what cannot be read is made again
            log.warning("%s cannot be read: %s", self.path, error)
            self._reader = None
            return None

    def put(self, records: Sequence[tuple[str, int, Seen]]) -> None:
        """Keep (key, ordinal, record)s, those that are there already left out; durable on return.

        What cannot be written is told in the log once, and then nothing more is tried.
        """
        if self.trouble is not None:
            return
        try:
            writer = self._begin()
            for key, ordinal, seen in {store_key(one[0]): one for one in records}.values():
                if self.written >= self.largest:
                    raise StoreError(f"{self.path} has got {self.written} bytes, and is to have {self.largest}", "")
                if key not in writer.done and self.find(key) is None:
                    writer.put(key, seen.record, ordinal)
                    self.written += seen.bytes
            writer.commit()
        except (FeatxError, OSError) as error:
            self.trouble = str(error)
            log.warning("what is extracted is not kept any more: %s", error)
            self.close()

    def retire(self) -> None:
        """Write nothing more: there is another store now. By the thread that writes."""
        self.trouble = "its store was replaced"
        self.close()

    def close(self) -> None:
        """Let go of the part; what was committed stays."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.commit()
            except (FeatxError, OSError) as error:
                log.warning("%s: %s", self.path, error)
            writer.close()

    def _begin(self) -> PartWriter:
        """A part that nobody else writes."""
        if self._writer is None:
            facts = self.manifest
            self.written = max(self.written, _bytes(self.path))
            create_store(self.path, "lmdb", facts.schema, facts.provenance, facts.labels, parts=PARTS)
            self._writer = next((writer for part in range(PARTS) if (writer := self._part(part)) is not None), None)
        if self._writer is None:
            raise StoreError(f"all {PARTS} parts of {self.path} are being written or finished", "")
        return self._writer

    def _part(self, part: int) -> PartWriter | None:
        try:
            writer = open_part(self.path, part)
        except StoreError:  # its writer is another process
            return None
        if writer.finished is None:
            return writer
        writer.close()
        return None

    def _opened(self) -> StoreReader | None:
        """The reader, opened anew when others have begun parts since; it follows by itself those that it knows."""
        now = time.monotonic()
        if self._reader is None or now - self._looked > _EVERY:
            self._looked = now
            parts = _folders(self.path)
            if parts and (self._reader is None or parts != self._parts):
                self._reader, self._parts = self._of_the_same_make(open_store(self.path, partial=True)), parts
        return self._reader

    def _of_the_same_make(self, reader: StoreReader) -> StoreReader | None:
        """The reader, or None where the records are of a store that was there before under that name."""
        theirs, ours = reader.manifest, self.manifest
        if (theirs.schema, theirs.provenance) == (ours.schema, ours.provenance):
            return reader
        reader.close()
        return None


def side_of(path: Path, name: str, manifest: Manifest, largest: int = LARGEST) -> Side:
    """The records beside the store ``name`` in ``path``: in ``NAME.cached.featx`` of the same folder."""
    return Side(path.absolute().parent / f"{name}.cached.featx", manifest, largest)


def finish(path: str | os.PathLike[str]) -> None:
    """Make a whole store of what a server that does not run any more has kept. Raises StoreError while one does."""
    for part in range(Manifest.load(Path(path)).parts):
        open_part(path, part).finish()


def _bytes(path: Path) -> int:
    """Of the files of all parts, whoever wrote them."""
    return sum(file.stat().st_size for file in path.glob("parts/*/*"))


def _folders(path: Path) -> tuple[str, ...]:
    """What tells one state of the parts from another: which there are, and which are finished."""
    try:
        folders = sorted(entry.name for entry in os.scandir(path / "parts") if entry.is_dir())
    except OSError:
        return ()
    return tuple(name + "." * (path / "parts" / name / "part.json").exists() for name in folders)
