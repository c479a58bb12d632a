"""What a store is to its readers, and what a backend has to bring.

A consumer sees :class:`StoreReader`. A backend brings two small classes that know bytes only, a
:class:`Shard` to read and a :class:`Log` to write, and a :class:`Backend` that finds them in the folder of
a part. Records, keys, manifests, ledgers, locks and resuming are the same code for all backends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

import numpy as np

from featx.codec import Header, decode, peek, store_key
from featx.errors import FeatxError, KeyNotFound, MissingDependency, StoreDamaged, StoreError, UsageError
from featx.record import Record, RecordBatch
from featx.schema import Array, Schema

if TYPE_CHECKING:
    from featx.store.gather import Gather
    from featx.store.ledger import Refusal
    from featx.store.manifest import Manifest, PartManifest

Order = Literal["key", "source"]
Bytes = bytes | memoryview
Checksums = Literal["always", "once", "never"]
BACKENDS = {"lmdb": "featx.store.lmdb_store", "hdf5": "featx.store.hdf5_store"}


class StoreReader(ABC):
    """A mapping from picture to :class:`Record`. Handles survive fork and pickling.

    checksums: when the bytes of a record are checked against its checksum. "always"; "once": a single record always,
    one of a batch the first time that this process reads it; "never": damage goes unnoticed, behind a
    header and in what says where a record is.
    """

    manifest: Manifest
    checksums: Checksums = "always"

    @abstractmethod
    def __len__(self) -> int:
        """Number of records."""

    @abstractmethod
    def __contains__(self, key: object) -> bool:
        """Whether the store holds a record for the picture ``key``."""

    @abstractmethod
    def keys(self, order: Order = "key") -> Iterator[str]:
        """All keys, sorted by their stored UTF-8 bytes, or in the order of the source list."""

    @abstractmethod
    def find(self, key: bytes) -> bytes | None:
        """The stored bytes under a stored key, None when there are none."""

    @abstractmethod
    def failures(self) -> Iterator[Refusal]:
        """The pictures that were refused, part by part."""

    @property
    @abstractmethod
    def parts(self) -> list[PartManifest]:
        """What every finished part says about itself, libraries and dates (``about``) among it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of all files. A closed reader opens them again when it is used."""

    @property
    def schema(self) -> Schema:
        """What every record holds."""
        return self.manifest.schema

    @property
    def labels(self) -> Mapping[str, Any]:
        """Names of the classes: ``{"objects": [...], "attributes": [...]}``."""
        return self.manifest.labels

    def stored_bytes(self, key: str) -> bytes:
        """The record of ``key`` as stored (FORMAT.md), not verified. Raises KeyNotFound."""
        found = self.find(store_key(key))
        if found is None:
            raise self._not_found(key)
        return found

    def __getitem__(self, key: str) -> Record:
        """The record of ``key``; its arrays are read-only. Raises KeyNotFound, StoreDamaged."""
        return decode(self.stored_bytes(key), self.schema, store_key(key), verify=self.checksums != "never")

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def get_batch(
        self, keys: Sequence[str], out: RecordBatch | None = None, *, dtype: str = "float32", boxes: str = "pixels",
        fields: Sequence[str] | None = None,
    ) -> RecordBatch:  # fmt: skip
        """The records of ``keys`` as one batch of torch tensors, padded with zeros to the longest.

        features ``[B, N, D]`` float32, boxes ``[B, N, 4]`` float32 pixels, mask ``[B, N]`` bool, sizes
        ``[B, 2]`` float32 (height, width), extra: the other ``fields`` (default: all).
        dtype: "stored" leaves features in the dtype of the store (int8 is always read as float32). boxes: "unit"
        divides by width and height. out: a batch from :meth:`buffer` to read into; views of its first B places are
        returned, and its own dtype, fields and N count. Raises KeyNotFound, StoreDamaged, UsageError for what does not
        fit, and MissingDependency without torch.
        """
        from featx.store.batch import gather

        return gather(keys, (self[key] for key in keys), self.schema, out, dtype, boxes, fields)

    def buffer(
        self, size: int, rows: int | None = None, *, dtype: str = "float32", fields: Sequence[str] | None = None,
        pin: bool = False,
    ) -> RecordBatch:  # fmt: skip
        """Memory for batches of up to ``size`` records, to be used again and again as ``out`` of :meth:`get_batch`.

        rows: N; needed where records differ in it. pin: page-locked, from which copies to a GPU can overlap with its
        work. Raises UsageError.
        """
        from featx.store.batch import allocate

        rows = self.schema.rows if rows is None else rows
        if rows is None:
            raise UsageError("records of this store differ in their rows", "say for how many rows the buffer is")
        return allocate(self.schema, size, rows, dtype, fields, pin)

    def row_counts(self, keys: Sequence[str]) -> Array:
        """Rows, and real rows among them, of the record of each key: ``[B, 2]`` int64. Raises KeyNotFound."""
        heads = [peek(self.stored_bytes(key), store_key(key)) for key in keys]
        return np.array([(head.rows, head.count) for head in heads], np.int64).reshape(-1, 2)

    def view(self, boxes: str | int | None = None, score_threshold: str | float | None = None) -> StoreReader:
        """This superset store as if it had been extracted with ``boxes`` (36, "10..100") and ``score_threshold``.

        None is what its profile says. Records, schema and provenance are, bit for bit, those of that extraction. A
        plain store has no view but itself. Raises UsageError for more than was kept or another rule.
        """
        from featx.store.view import view_of

        return view_of(self, boxes, score_threshold)

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def gathering(self) -> Gather | None:
        """What reads batches natively; None where they are read in plain Python."""
        return None

    def missing(self, key: str) -> FeatxError:
        """The error for a key that was not found."""
        return self._not_found(key)

    def _not_found(self, key: str) -> KeyNotFound:
        refusal = next((r for r in self.failures() if r.key == key), None)
        if refusal:
            return KeyNotFound(
                f"{key!r} is not in the store: it was refused ({refusal.reason}: {refusal.message})",
                "mend the picture and extract again with --retry-refused",
            )
        some = list(islice(self.keys(), 2000))
        close = get_close_matches(key, some, 3) or [k for k in some if key in k or k in key][:3]
        near = f"did you mean {', '.join(map(repr, close))}? " if close else ""
        return KeyNotFound(
            f"{key!r} is not among the {len(self)} records of the store",
            f"{near}`featx inspect STORE --keys` and `store.keys()` list what there is",
        )


class Words(NamedTuple):
    """One file of records as the compiled reader has it: ``csrc/store/words.cpp`` takes the numbers in this order.

    kind, rest: the numbers before and behind the address of its marks. marks: how many records it can tell apart.
    owner: keeps the addresses among the numbers valid.
    """

    kind: tuple[int, ...]
    rest: tuple[int, ...]
    marks: int
    owner: object


class Shard(ABC):
    """Records in one file, by stored key.

    frame: hash of all by which records are found, '' while the file may still change. expected: what it was when the
    file was finished, if that is known.
    """

    path: Path
    frame: str
    expected: str | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __contains__(self, key: object) -> bool: ...

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """The stored bytes of a record, None when the file does not hold the key."""

    @abstractmethod
    def __iter__(self) -> Iterator[bytes]:
        """All keys in ascending order."""

    @abstractmethod
    def headers(self) -> Iterator[tuple[bytes, Header]]:
        """All keys in ascending order, each with the header of its record; payloads are not touched."""

    @abstractmethod
    def close(self) -> None: ...

    def words(self) -> Words | None:
        """The file for the compiled reader; None: its records are read by :meth:`get`."""
        return None

    def trust(self) -> None:
        """Raise StoreDamaged unless the file finds its records as it did when it was finished.

        It reads all by which records are found, once. What it says of a key that is there can be believed without, for
        a record has a checksum of its own; that a key is not there, or which keys there are, cannot.
        """
        if self.expected is not None and self.frame != self.expected:
            raise StoreDamaged(
                f"{self.path} is damaged: the keys and places of its records are not those of its part.json",
                f"delete {self.path.parent} and run the extraction again: it makes only that part",
            )


class Sealed(NamedTuple):
    """What became of an open part: the hash of each file by name, the (key, checksum) of every record, and readers."""

    hashes: Mapping[str, str]
    checksums: Iterable[tuple[bytes, int]]
    shards: Sequence[Shard]


class Log(ABC):
    """The open part that a writer appends to."""

    @abstractmethod
    def __contains__(self, key: object) -> bool: ...

    @abstractmethod
    def append(self, group: Mapping[bytes, Bytes]) -> None:
        """Store a group of records, all or none; durable on return."""

    @abstractmethod
    def seal(self) -> Sealed:
        """Bring the files into their final form, and close them. Safe to repeat after a crash."""

    @abstractmethod
    def close(self) -> None: ...


class Backend(Protocol):
    """What the module of a backend offers."""

    def open_shards(self, folder: Path, schema: Schema, *, sealed: bool) -> list[Shard]:
        """All committed records of the part in ``folder``; ``sealed`` says that nobody writes it any more."""

    def open_log(self, folder: Path, schema: Schema) -> Log:
        """The part in ``folder`` for appending; mends what a crash left behind."""

    def structure(self, folder: Path, schema: Schema) -> Iterator[tuple[Path, str]]:
        """What is wrong with the frame of each file of a sealed part, found without mapping it."""


def open_sealed(name: str, folder: Path, schema: Schema, part: PartManifest, *, lazy: bool = False) -> list[Shard]:
    """The files of a finished part, checked against its manifest before anything is looked up in them.

    ``lazy`` leaves :meth:`Shard.trust` to the caller.
    """
    part.check_files(folder)
    shards = backend(name).open_shards(folder, schema, sealed=True)
    for shard in shards:
        shard.expected = part.frames.get(shard.path.name, "")
        if not lazy:
            shard.trust()
    found = sum(map(len, shards))
    if found != part.totals.records:
        raise StoreDamaged(
            f"{folder} is damaged: its files hold {found} records, its part.json says {part.totals.records}",
            f"delete {folder} and run the extraction again: it makes only that part",
        )
    return shards


def backend(name: str) -> Backend:
    """The backend called ``name``. Raises StoreError for an unknown one, MissingDependency for its package."""
    if name not in BACKENDS:
        raise StoreError(f"there is no store backend {name!r}", f"this featx knows {', '.join(BACKENDS)}")
    try:
        return cast(Backend, import_module(BACKENDS[name]))
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"the {name} backend needs the package {error.name}", f"pip install {error.name}"
        ) from None
