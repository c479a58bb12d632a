"""Writing a part of a store: open it, put records, finish it.

Killed at any moment, the same calls resume: what was committed is in ``done``, what was not is computed
again, and the content ends up the same. Parts may be written by different processes at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from featx.codec import KEY_LIMIT, encode_into, layout, store_key, text, unpack
from featx.errors import StoreError, UsageError
from featx.record import Record
from featx.store import disk
from featx.store.base import Log, Shard, backend, open_sealed
from featx.store.completion import complete, reopen_part
from featx.store.groups import Group, Groups
from featx.store.ledger import Refusal, append_lines, mend, read_ledger, read_lines
from featx.store.manifest import FORMAT, Manifest, PartManifest, Totals, file_hash, part_folder
from featx.store.pulse import Count, Heart, remove_pulse

GROUP_BYTES = 8 << 20  # a group is committed before it exceeds this, in the background


def open_part(
    path: str | os.PathLike[str],
    part: int = 0,
    *,
    retry_refused: bool = False,
    about: Mapping[str, Any] | None = None,
) -> PartWriter:
    """Open part ``part`` (from 0) of a store for writing, where its last writer left it.

    ``retry_refused`` forgets the refusals of earlier runs, so that those pictures are not ``done``. ``about`` is
    kept in ``part.json`` and compared by nobody: dates, host, library versions. Raises StoreError when another
    process writes the part.
    """
    return PartWriter(Path(path), part, retry_refused, about or {})


class PartWriter:
    """Writes one part. As a context manager it commits at the end, unless an error came first."""

    def __init__(self, store: Path, part: int, retry_refused: bool, about: Mapping[str, Any]) -> None:
        self.store, self.part = store, part
        self.about = json.loads(json.dumps(about, allow_nan=False))
        self.manifest = Manifest.load(store)
        if not 0 <= part < self.manifest.parts:
            raise UsageError(f"{store} has {self.manifest.parts} parts, there is no part {part}", "parts count from 0")
        self.schema = self.manifest.schema
        self.folder = part_folder(store, part, self.manifest.parts)
        self._groups = Groups(self._append, GROUP_BYTES)
        self._refusals: dict[bytes, Refusal] = {}
        self._heart: Heart | None = None
        with disk.room(self.folder):
            disk.make_folders(self.folder)
            self._lock = disk.Lock(self.folder / ".lock", f"part {part} of {self.manifest.parts} of {store}")
            try:
                self._open(retry_refused)
            except BaseException:
                self._lock.release()
                raise

    def _open(self, retry_refused: bool) -> None:
        """Take up where the last writer of the part left off."""
        ledger = self.folder / "ledger.jsonl"
        if self.manifest.format != FORMAT and (retry_refused or not (self.folder / "part.json").exists()):
            raise StoreError(
                f"{self.store} was begun in format {self.manifest.format}, this featx writes format {FORMAT}",
                "extract into another folder; what is there can be read with partial=True",
            )
        if retry_refused and read_ledger(ledger):
            reopen_part(self.store, self.folder)
            disk.publish(ledger, b"")
        self.finished = PartManifest.load(self.folder)
        self._log: Log | None = None
        self._shards: list[Shard] = []
        if self.finished:
            remove_pulse(self.folder)
            self._shards = open_sealed(self.manifest.backend, self.folder, self.schema, self.finished)
        else:
            mend(ledger)
            mend(self.folder / "aliases.jsonl")
            for above in (self.folder, self.folder.parent, self.store):
                disk.sync(above)  # a writer that was killed may have made a file whose name is not yet durable
            self._log = backend(self.manifest.backend).open_log(self.folder, self.schema)
        self._refused = {store_key(refusal.key) for refusal in read_ledger(ledger)}

    @property
    def done(self) -> Container[str]:
        """The pictures that are committed or refused: ``key in writer.done``."""
        return _Done(self)

    def ordinals(self) -> set[int]:
        """The positions in the source list of all that was committed or refused before the part was opened."""
        shards = backend(self.manifest.backend).open_shards(self.folder, self.schema, sealed=self.finished is not None)
        heads = chain.from_iterable(shard.headers() for shard in shards)
        refused = (refusal.ordinal for refusal in read_ledger(self.folder / "ledger.jsonl"))
        found = {*(head.ordinal for _, head in heads), *refused}
        for shard in shards:
            shard.close()
        return found

    def put(self, key: str, record: Record, ordinal: int) -> None:
        """Add the record of a picture to the group; ``ordinal`` is its position in the source list.

        Raises RecordError for a record that breaks the contract or the schema (nothing of it reaches the
        disk), UsageError for a bad key or one that the part already has.
        """
        stored = self._fresh(key)
        record.check(self.schema)
        space = self._groups.space(layout(self.schema, len(record.features))[1])
        encode_into(space, record, self.schema, stored, ordinal)
        self._groups.add(stored, space, _alias(key, stored))

    def put_stored(self, key: str, stored: bytes) -> None:
        """Add a record of a store of the same schema as it is stored there: its bytes, checked against its checksum.

        Raises StoreDamaged for bytes that are not a record of this schema and key, UsageError as :meth:`put`.
        """
        name = self._fresh(key)
        unpack(stored, self.schema, name)
        self._groups.space(len(stored))
        self._groups.add(name, stored, _alias(key, name))

    def refuse(self, key: str, ordinal: int, source: str, reason: str, message: str) -> None:
        """Note that a picture cannot be used; goes to the ledger with the next commit."""
        self._refusals[self._fresh(key)] = Refusal(key, ordinal, source, reason, message)

    def commit(self) -> None:
        """Make everything put and refused so far durable. Raises FeatxError when the disk is full."""
        self._groups.commit()
        with disk.room(self.folder):
            append_lines(self.folder / "ledger.jsonl", [r._asdict() for r in self._refusals.values()])
            self._refused |= self._refusals.keys()
            self._refusals = {}

    def _append(self, group: Group) -> None:
        with disk.room(self.folder, group.size):
            # Names first: a name without its record does no harm, a record without its name would.
            append_lines(self.folder / "aliases.jsonl", [{"key": name} for name in group.names])
            self._writable.append(group.records)

    def beating(self, total: int, count: Callable[[], Count]) -> AbstractContextManager[object]:
        """While this is entered, a pulse tells from outside how the part of ``total`` pictures is doing; see ``pulse``.

        ``count`` is asked from another thread. A finished part has none.
        """
        if self.finished is not None:
            return nullcontext()
        self._heart = Heart(self.folder, total, count)
        return self._heart

    def finish(self) -> PartManifest:
        """Commit, seal the files and publish the part; the last part to finish completes the store.

        Finishing a finished part changes nothing, but completes the store if its last writer died before that. Raises
        StoreError, and leaves the store unfinished, when its parts do not make the number of pictures in ``sources``.
        """
        self.commit()
        with disk.room(self.folder):
            if self.finished is None:
                sealed = self._seal()
                if self._heart is not None:
                    self._heart.stop()  # a finished part holds no pulse
                sealed.save(self.folder)
                self.finished = sealed
                disk.remove(self.folder / "aliases.jsonl")
            self.close()
            complete(self.store)
        return self.finished

    def _seal(self) -> PartManifest:
        ledger, aliases = self.folder / "ledger.jsonl", read_lines(self.folder / "aliases.jsonl")
        sealed = self._writable.seal()
        self._log = None
        self._shards = list(sealed.shards)
        files = [*(self.folder / name for name in sealed.hashes), *([ledger] if ledger.exists() else [])]
        names = {store_key(row["key"]): row["key"] for row in aliases}
        return PartManifest(
            self.part,
            self.manifest.parts,
            Totals.of(sealed.checksums, (r.reason for r in read_ledger(ledger))),
            {path.name: path.stat().st_size for path in files},
            {path.name: sealed.hashes.get(path.name) or file_hash(path) for path in files},
            {shard.path.name: shard.frame for shard in self._shards},
            {text(key): name for key, name in names.items() if self._holds(key)},
            self.about,
        )

    def close(self) -> None:
        """Let go of the part without committing; its state stays for the next writer. Closing twice is harmless."""
        try:
            for owned in (self._groups, self._log, *self._shards):
                if owned is not None:
                    owned.close()
            self._log, self._shards = None, []
        finally:
            self._lock.release()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()

    @property
    def _writable(self) -> Log:
        if self._log is None:
            raise UsageError(f"part {self.part} of {self.store} is finished or closed", "open it again")
        return self._log

    def _holds(self, key: bytes) -> bool:
        if self._groups.is_sent(key):
            self._groups.wait()
        return (self._log is not None and key in self._log) or any(key in shard for shard in self._shards)

    def _fresh(self, key: str) -> bytes:
        """The stored form of a key that this part must not have yet."""
        stored = store_key(key)
        known = (self._groups, self._refusals, self._refused, self._writable)
        if any(stored in place for place in known):
            raise UsageError(
                f"part {self.part} has {key!r} already", "skip what is in `writer.done`, and give every picture one key"
            )
        return stored


class _Done:
    """Membership of the pictures a writer need not be given again, committed or refused."""

    def __init__(self, writer: PartWriter) -> None:
        self._writer = writer

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        stored = store_key(key)
        return stored in self._writer._refused or self._writer._holds(stored)


def _alias(key: str, stored: bytes) -> str | None:
    """The original to be kept of a key that is stored shortened."""
    return key if len(stored) > KEY_LIMIT else None
