"""What a store says about itself: ``manifest.json`` for the whole, ``part.json`` for each finished part.

Both are JSON with a checksum of their own, published by atomic rename. A part exists for readers from
the instant its ``part.json`` does; the store is complete from the instant its manifest says so. Dates and
hosts may stand in a part's ``about``, which nothing compares.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from featx.errors import FeatxError, StoreDamaged, StoreError
from featx.schema import Schema
from featx.store import disk
from featx.store.agree import agree

FORMAT = 2  # written; 1 is read, too
TAIL = "tail:"  # of the hash of a file whose first bytes were written last
FRONT = 4096  # bytes: those


@dataclass(frozen=True)
class Totals:
    """Counts of a part or a store, and the digest of its content.

    digest: the sum, modulo 2**128, of ``xxh3_128(key, 0, checksum as u64 little-endian)`` over all
    records, as 32 hexadecimal digits. A sum does not depend on order, so equal content has an equal digest
    however it was parted and in whatever backend it lies, and the digest of a store is the sum of its parts.
    """

    records: int = 0
    refused: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    digest: str = "0" * 32

    @classmethod
    def of(cls, content: Iterable[tuple[bytes, int]], reasons: Iterable[str] = ()) -> Totals:
        """Totals of (key, checksum) pairs and the reasons of the refusals."""
        records, total = 0, 0
        for key, checksum in content:
            records += 1
            total += xxhash.xxh3_128_intdigest(key + b"\0" + checksum.to_bytes(8, "little"))
        counts = dict(sorted(Counter(reasons).items()))
        return cls(records, sum(counts.values()), counts, f"{total % 2**128:032x}")

    def __str__(self) -> str:
        return f"{self.records} records, {self.refused} refused, digest {self.digest}"

    def __add__(self, other: Totals) -> Totals:
        reasons = dict(sorted((Counter(self.reasons) + Counter(other.reasons)).items()))
        digest = (int(self.digest, 16) + int(other.digest, 16)) % 2**128
        return Totals(self.records + other.records, self.refused + other.refused, reasons, f"{digest:032x}")


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``: how a store was made, what its records hold, and whether it is complete.

    provenance: profile, weights, configuration, decoder, ...: JSON given by whoever made the store.
    labels: names of the classes, ``{"objects": [...], "attributes": [...]}``.
    sources: the whole list of pictures, of all parts: ``{"pictures": number, "sha256": ...}``; None: nobody said.
    totals: of the whole store once it is complete.
    """

    backend: str
    parts: int
    schema: Schema
    provenance: Mapping[str, Any]
    labels: Mapping[str, Any]
    featx: str = ""
    totals: Totals | None = None
    sources: Mapping[str, Any] | None = None
    format: int = FORMAT

    @property
    def complete(self) -> bool:
        """Whether every part was finished."""
        return self.totals is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "format": self.format,
            "featx": self.featx,
            "complete": self.complete,
            "totals": asdict(self.totals) if self.totals else None,
            "backend": self.backend,
            "parts": self.parts,
            "sources": self.sources,
            "schema": self.schema.to_dict(),
            "provenance": self.provenance,
            "labels": self.labels,
        }

    def save(self, store: Path) -> None:
        """Publish as the manifest of ``store``."""
        disk.publish(store / "manifest.json", self.document())

    def document(self) -> bytes:
        """The content of ``manifest.json``."""
        return _dump(self.to_dict())

    @classmethod
    def load(cls, store: Path) -> Manifest:
        """The manifest of ``store``. Raises StoreError for what is not a store, StoreDamaged for a bad file."""
        with disk.reading(store):
            return cls._load(store)

    @classmethod
    def _load(cls, store: Path) -> Manifest:
        if not store.exists():
            url = ":/" in str(store)  # what a path makes of ://
            hint = "this needs the folder of a store, and not a URL" if url else "check the path"
            raise StoreError(f"there is no store at {store}", hint)
        if not store.is_dir():
            raise StoreError(f"{store} is a file, a store is a folder", "`featx convert` reads foreign files")
        path = store / "manifest.json"
        return cls._of(_load(path, f"{store} is not a featx store: it has no manifest.json"), path)

    @classmethod
    def read(cls, document: bytes, where: str) -> Manifest:
        """The manifest in the content of a ``manifest.json``; ``where`` is what messages call it. Errors as of load."""
        return cls._of(_checked(document, where), where)

    @classmethod
    def _of(cls, data: dict[str, Any], where: Path | str) -> Manifest:
        with _Readable(where):
            totals = Totals(**data["totals"]) if data["complete"] else None
            facts = {name: data[name] for name in ("backend", "provenance", "labels", "featx")}
            sources = data.get("sources")
            return cls(
                **facts,
                format=int(data["format"]),
                parts=int(data["parts"]),
                schema=Schema.from_dict(data["schema"]),
                totals=totals,
                sources=None if sources is None else dict(sources),
            )

    def agree(self, other: Manifest) -> None:
        """Raise UsageError, naming each field that differs, unless ``other`` would write into this store."""
        agree(self.to_dict(), other.to_dict())

    def check_complete(self, totals: Totals) -> None:
        """Raise StoreError unless ``totals`` of all parts account for every picture of the list, once."""
        expected = None if self.sources is None else self.sources.get("pictures")
        found = totals.records + totals.refused
        if expected is not None and found != expected:
            what = "some are in two parts" if found > expected else "some are in no part"
            raise StoreError(
                f"all {self.parts} parts are finished and hold {found} pictures ({totals.records} records, "
                f"{totals.refused} refused), the list has {expected}: {what}",
                "the store stays unfinished: `featx verify` names what is there twice; delete the folder of the part "
                "that is wrong and run its command again, with the whole list",
            )


@dataclass(frozen=True)
class PartManifest:
    """``part.json``: the content of one finished part.

    files: size in bytes of each file of the part, by name.
    hashes: xxh3_128 of each file; only ``verify`` reads whole files.
    frames: hash of all by which records are found, by file name; the records have checksums of their own.
    aliases: the original of every key too long to be stored as it is, by stored key.
    about: whatever its writer wanted noted (dates, host, library versions); compared by nobody.
    """

    part: int
    parts: int
    totals: Totals
    files: Mapping[str, int]
    hashes: Mapping[str, str]
    frames: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Publish as the manifest of the part in ``folder``: the part is finished."""
        disk.publish(folder / "part.json", self.document())

    def document(self) -> bytes:
        """The content of ``part.json``."""
        return _dump({"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> PartManifest | None:
        """The manifest of the part in ``folder``, None while the part is not finished."""
        path = folder / "part.json"
        if not path.exists():
            return None
        return cls._of(_load(path, f"{folder} has no part.json"), path)

    @classmethod
    def read(cls, document: bytes, where: str) -> PartManifest:
        """The manifest in the content of a ``part.json``; ``where`` is what messages call it. Errors as of load."""
        return cls._of(_checked(document, where), where)

    @classmethod
    def _of(cls, data: dict[str, Any], where: Path | str) -> PartManifest:
        with _Readable(where):
            del data["format"]
            return cls(**{**data, "totals": Totals(**data["totals"])})

    def check_files(self, folder: Path) -> None:
        """Raise StoreDamaged unless every file of the part is there in its full length.

        This comes before any file is mapped: reading past the end of a mapped file kills the process.
        """
        for name, expected in self.files.items():
            path = folder / name
            found = path.stat().st_size if path.exists() else None
            if found != expected:
                state = "is missing" if found is None else f"has {found} bytes"
                raise StoreDamaged(
                    f"{path} {state}, its part.json says {expected}",
                    f"delete {folder} and run the extraction again: it makes only that part",
                )


def file_hash(path: Path, tick: Callable[[int], object] = lambda read: None, *, like: str = "") -> str:
    """xxh3_128 of a file, hexadecimal. ``tick`` is told of the bytes as they are read.

    ``like`` a hash that begins with "tail:", so does this, and is that of the bytes from 4096 on and then the first
    4096: those of a file that was a log are written last, and a hash cannot wait for them.
    """
    state, tail = xxhash.xxh3_128(), like.startswith(TAIL)
    block = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        file.seek(FRONT if tail else 0)
        while size := file.readinto(block):
            state.update(block[:size])
            tick(size)
        if tail:
            file.seek(0)
            state.update(front := file.read(FRONT))
            tick(len(front))
    return TAIL * tail + state.hexdigest()


def part_folder(store: Path, part: int, parts: int) -> Path:
    """Folder of one part; parts count from 0."""
    return store / "parts" / f"{part:05d}-of-{parts:05d}"


class _Readable:
    """Turns whatever goes wrong while taking a document apart into StoreDamaged."""

    def __init__(self, path: Path | str) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (KeyError, TypeError, ValueError, FeatxError)):
            raise _bad(self.path, f"it lacks or misuses {error}") from error


def _dump(data: dict[str, Any]) -> bytes:
    return json.dumps({**data, "checksum": _sum(data)}, indent=1, allow_nan=False).encode()


def _load(path: Path, absent: str) -> dict[str, Any]:
    """The checked JSON object in ``path``."""
    try:
        document = path.read_bytes()
    except FileNotFoundError:
        raise StoreError(absent, "check the path; an extraction writes the manifest first") from None
    except PermissionError:
        raise  # the reader of the store tells it, the same for all of its files
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}", "check the permissions and the disk") from error
    return _checked(document, path)


def _checked(document: bytes, where: Path | str) -> dict[str, Any]:
    """The JSON object in a document; a newer format is told before its checksum is looked at."""
    try:
        data = json.loads(document)
        found = data.pop("checksum", None)
        version = data["format"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise _bad(where, f"it is not a JSON object with a format ({error})") from None
    if isinstance(version, int) and version > FORMAT:
        raise StoreError(
            f"{where} was written by store format {version}, this featx reads up to {FORMAT}", "upgrade featx"
        )
    if version not in (1, FORMAT) or found != _sum(data):
        raise _bad(where, f"its checksum is {found}, its content makes {_sum(data)}")
    return dict(data)


def _sum(data: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def _bad(path: Path | str, what: str) -> StoreDamaged:
    return StoreDamaged(f"{path} is damaged: {what}", "restore the file from a copy, or extract again")
