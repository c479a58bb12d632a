"""LMDB with a pickled mapping per picture and a pickled list of keys under ``b"keys"``: ViLBERT, volta, MMF.

One reader serves all of them, whichever names and encodings the mappings use (``regions``); they differ in what they
write. A picture's own name in its mapping must be its key, so entries of a damaged file cannot be taken for others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from featx.errors import FeatxError, UsageError
from featx.formats.base import Format, Item, Survey, item_of
from featx.formats.lmdb.items import Entry, entries, survey_of
from featx.formats.lmdb.tree import LmdbTree, Place, is_lmdb
from featx.formats.lmdb.write import LmdbWriter
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import KEYS, first, record_of
from featx.formats.values.pickle_write import dumps
from featx.formats.values.pickles import loads, need_trust
from featx.record import Record

INDEX = b"keys"


class PickledLmdb(Format):
    """What the formats of this kind share. marks: names that are in a value; absent: names that are in none."""

    pickled = "all"
    takes = frozenset({"key", "sizes", "background", "allow_pickle"})
    marks: ClassVar[tuple[bytes, ...]]
    absent: ClassVar[tuple[bytes, ...]] = ()

    def detect(self, path: Path) -> bool:
        """By a list of keys and the names in some value; nothing is unpickled."""
        if not is_lmdb(path):
            return False
        try:
            with LmdbTree(path) as tree:
                found = (place for place in tree.walk() if isinstance(place, Place) and place.key != INDEX)
                place = next(found, None)
                if place is None or tree.find(INDEX) is None:
                    return False
                value = tree.value(place)
        except FeatxError:
            return False
        return all(mark in value for mark in self.marks) and not any(mark in value for mark in self.absent)

    def survey(self, path: Path, options: Options) -> Survey:
        need_trust(options, f"{path} keeps its records")
        return survey_of(path, INDEX, _keys, recover=True)

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        need_trust(options, f"{path} keeps its records")
        sizes = Sizes.of(options)
        with LmdbTree(path) as tree:
            for entry in entries(tree, INDEX, _keys, start, recover=True):
                yield _item(entry, options, sizes)

    def write(self, records: Records, path: Path, options: Options) -> int:
        self.check(records)
        _check_index(records)
        keys = []
        with LmdbWriter(path) as out:
            for key, record in records:
                keys.append(key.encode())
                out.put(keys[-1], dumps(self.value(key, record)))
            out.put(INDEX, dumps(keys))
        return len(keys)

    def check(self, records: Records) -> None:
        """Raise UsageError for records that the format cannot hold."""

    @abstractmethod
    def value(self, key: str, record: Record) -> Mapping[str, Any]:
        """The mapping of a picture, in the peer's order and encoding."""


def _check_index(records: Records) -> None:
    """Raise UsageError for a picture whose key is that of the list of keys."""
    name = INDEX.decode()
    if name in records.store and name in records.keys():  # noqa: SIM118  iterating over them reads them
        raise UsageError(
            f"a picture has the key {name!r}, under which such files keep the list of all keys",
            "give it another key, export another format, or leave it out with --keys",
        )


def _keys(index: bytes) -> list[bytes]:
    """The list of keys; peers wrote bytes, and text where Python 2 wrote it."""
    listed = loads(index)
    if not isinstance(listed, list) or not all(isinstance(key, str | bytes | bytearray) for key in listed):
        raise ValueError("the list of keys is no list of names")
    return [key.encode() if isinstance(key, str) else bytes(key) for key in listed]


def _item(entry: Entry, options: Options, sizes: Sizes) -> Item:
    def record(key: str) -> Record:
        if entry.problem:
            raise ValueError(entry.problem)
        values = loads(entry.value)
        if not isinstance(values, dict):
            raise ValueError(f"it is a {type(values).__name__}, expected a mapping")
        own = first(values, KEYS)
        if own is not None and str(own) != entry.key.decode():
            raise ValueError(f"it says that it is {own!r:.80}")
        return record_of(values, sizes.find(key), options.background)

    def key() -> str:
        return key_of(entry.key.decode(), options) if entry.key else ""

    return item_of(entry.number, entry.place, key, record, (TypeError,))
