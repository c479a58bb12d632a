"""The entries of a foreign LMDB as numbered items, in the order of its own list of keys.

That list is the order in which the peer wrote, which is the order of its source; the tree has the order of the keys.
The list is held in memory, values are read one at a time. A file that lost pages has the order of its tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from featx.errors import FeatxError, StoreDamaged
from featx.formats.base import Survey
from featx.formats.lmdb.tree import Fault, LmdbTree, Place

_SAMPLES = 64  # values that are hashed for the identity of a file


class Entry(NamedTuple):
    """One entry: its number, its key, where it is in words, and its value or what is wrong."""

    number: int
    key: bytes
    place: str
    value: bytes
    problem: str = ""


def read_index(tree: LmdbTree, key: bytes) -> bytes | None:
    """The value of the list of keys, None when the file has none or it cannot be read."""
    try:
        place = tree.find(key)
        return tree.value(place) if place else None
    except StoreDamaged:
        return None


def entries(
    tree: LmdbTree, index: bytes, parse: Callable[[bytes], list[bytes]], start: int, *, recover: bool
) -> Iterator[Entry]:
    """Entries from number ``start`` on. ``parse`` makes the list of keys from the value of ``index``.

    A listed key that is not there, and whatever cannot be followed, are entries with a problem. Entries that are in the
    file but not in the list come last.
    """
    for number, place in enumerate(_order(tree, index, parse, recover)):
        if number >= start:
            yield _entry(tree, number, place)


def survey_of(path: Path, index: bytes, parse: Callable[[bytes], list[bytes]], *, recover: bool) -> Survey:
    """Number of items and identity of a file: hash of its keys and places, and of 64 values spread over them."""
    digest, number = hashlib.sha256(), 0
    with LmdbTree(path) as tree:
        step = max(tree.entries // _SAMPLES, 1)
        for number, found in enumerate(_order(tree, index, parse, recover), 1):
            digest.update(repr(found).encode())
            if isinstance(found, Place) and number % step == 0:
                digest.update(_value(tree, found) or b"")
        facts = {"sha256": digest.hexdigest(), "of": "keys, places and 64 values", "bytes": tree.length}
    return Survey(number, facts)


def _order(
    tree: LmdbTree, index: bytes, parse: Callable[[bytes], list[bytes]], recover: bool
) -> Iterator[Place | Fault | bytes]:
    """Places, faults, and listed keys that are not there, by the list of keys and then by the tree."""
    try:
        listed = parse(read_index(tree, index) or b"")
    except (ValueError, FeatxError):
        listed = []
    if not listed or tree.cut:
        yield from (found for found in tree.walk(recover=recover) if isinstance(found, Fault) or found.key != index)
        return
    there = 0
    for key in listed:
        try:
            place = tree.find(key)
            there += place is not None
            yield place or key
        except StoreDamaged as error:
            yield Fault(0, f"{key[:80]!r}: {error.message}")
    if there + 1 != tree.entries:
        known = {*listed, index}
        yield from (found for found in tree.walk(recover=recover) if isinstance(found, Fault) or found.key not in known)


def _entry(tree: LmdbTree, number: int, place: Place | Fault | bytes) -> Entry:
    if isinstance(place, bytes):
        return Entry(number, place, f"key {_shown(place)}", b"", "it is in the list of keys but has no entry")
    if isinstance(place, Fault):
        return Entry(number, b"", f"byte {place.offset}", b"", place.problem)
    where = f"key {_shown(place.key)}, byte {place.offset}"
    try:
        return Entry(number, place.key, where, tree.value(place))
    except StoreDamaged as error:
        return Entry(number, place.key, where, b"", error.message)


def _value(tree: LmdbTree, place: Place) -> bytes | None:
    try:
        return tree.value(place)
    except StoreDamaged:
        return None


def _shown(key: bytes) -> str:
    return repr(key[:200].decode(errors="backslashreplace"))
