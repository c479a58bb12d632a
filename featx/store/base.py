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

from featx.codec import Header, decode, store_key
from featx.errors import KeyNotFound, MissingDependency, StoreDamaged, StoreError
from featx.record import Record, RecordBatch
from featx.schema import Schema

if TYPE_CHECKING:
    from featx.store.ledger import Refusal
    from featx.store.manifest import Manifest, PartManifest

Order = Literal["key", "source"]
BACKENDS = {"lmdb": "featx.store.lmdb_store", "hdf5": "featx.store.hdf5_store"}


class StoreReader(ABC):
    """A mapping from picture to :class:`Record`. Handles survive fork and pickling."""

    manifest: Manifest

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
        return decode(self.stored_bytes(key), self.schema, store_key(key))

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def get_batch(self, keys: Sequence[str]) -> RecordBatch:
        """The records of ``keys`` as one batch of torch tensors, padded to the longest.

        features ``[B, N, D]`` float32, boxes ``[B, N, 4]`` float32 pixels, mask ``[B, N]`` bool, sizes
        ``[B, 2]`` float32 (height, width). Raises KeyNotFound, StoreDamaged, and MissingDependency without torch.
        """
        from featx.store.batch import collate

        return collate(keys, (self[key] for key in keys), self.schema)

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


class Shard(ABC):
    """Records in one file, by stored key.

    frame: hash of all by which records are found, '' while the file may still change.
    """

    path: Path
    frame: str

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


class Sealed(NamedTuple):
    """What became of an open part: the hash of each file by name, and the (key, checksum) of every record."""

    hashes: Mapping[str, str]
    checksums: Iterable[tuple[bytes, int]]


class Log(ABC):
    """The open part that a writer appends to."""

    @abstractmethod
    def __contains__(self, key: object) -> bool: ...

    @abstractmethod
    def append(self, group: Mapping[bytes, bytes]) -> None:
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

    def structure(self, folder: Path) -> Iterator[tuple[Path, str]]:
        """What is wrong with the frame of each file of a sealed part, found without mapping it."""


def open_sealed(name: str, folder: Path, schema: Schema, part: PartManifest) -> list[Shard]:
    """The files of a finished part, checked against its manifest before anything is looked up in them."""
    part.check_files(folder)
    shards = backend(name).open_shards(folder, schema, sealed=True)
    for shard in shards:
        if shard.frame != part.frames.get(shard.path.name):
            raise StoreDamaged(
                f"{shard.path} is damaged: the keys and places of its records are not those of its part.json",
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
