"""What a backend has to bring.

It brings two small classes that know bytes only, a :class:`Shard` to read and a :class:`Log` to write, and a
:class:`Backend` that finds them in the folder of a part. Records, keys, manifests, ledgers, locks and resuming are the
same code for all backends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from featx.codec import Header
from featx.errors import MissingDependency, StoreDamaged, StoreError
from featx.schema import Schema

if TYPE_CHECKING:
    from featx.store.manifest import PartManifest

Bytes = bytes | memoryview
BACKENDS = {"lmdb": "featx.store.lmdb_store", "hdf5": "featx.store.hdf5_store"}


class Words(NamedTuple):
    """One file of records as the compiled reader has it: ``csrc/store/words.cpp`` takes the numbers in this order.

    kind, rest: the numbers before and behind the address of its marks. marks: how many records it can tell apart.
    owner: keeps the addresses among the numbers valid. mapped: the file, read-only, where records lie whole in it.
    """

    kind: tuple[int, ...]
    rest: tuple[int, ...]
    marks: int
    owner: object
    mapped: memoryview | None = None


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

    def after(self, key: bytes) -> Iterator[bytes]:
        """The keys behind ``key``, which need not be one of them, in ascending order."""
        return (own for own in self if own > key)

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
