"""What the groups of a damaged HDF5 file hold: names, the addresses of their headers, and what of it is lost.

Groups as h5py writes them: a B-tree of version 1 over symbol table nodes, with the names in a local heap (Specification
III.A.1, III.B to III.D); or link messages, in the header itself or in a fractal heap (IV.A.2.c, IV.A.2.g). Of a group
whose newer index cannot be followed, the links in the blocks of the heap are taken.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from featx.formats.hdf5.heap import LinkHeap, heap_ids
from featx.formats.hdf5.objects import LINK, LINK_INFO, SYMBOL_TABLE, Header
from featx.formats.hdf5.orphans import Entry, entries, orphans, symbol_node
from featx.formats.hdf5.raw import ADDRESS, UNDEFINED, Bytes, Damage, Fields, Unhandled

_NAME = 4096  # bytes of a name
_ALIGNED = 8  # bytes, names in a heap
_DEEPEST = 24  # levels of a tree
_SOME = ", and with it some pictures of the group"
_SOFT = 2  # cache type of an entry that is a soft link


class Link(NamedTuple):
    """A name in a group, and the address of its object: None for one that is elsewhere. problem: what is lost; then
    the name is '' and ``address`` the byte where it should be.
    """

    name: str
    address: int | None
    problem: str = ""


def links(file: Bytes, header: Header) -> list[Link]:
    """All links of a group by their names, and behind them what cannot be read. Raises Unhandled."""
    found = [Link("", header.offset, header.lost)] if header.lost else []
    for kind, take in ((LINK, _single), (SYMBOL_TABLE, _symbols), (LINK_INFO, _dense)):
        for message in header.all(kind):
            try:
                found.extend(take(file, message))
            except Damage as damage:
                found.append(_lost(damage))
    return sorted(found, key=lambda link: (link.problem != "", link.name.encode(errors="surrogateescape")))


def _single(file: Bytes, message: Fields) -> Iterator[Link]:
    yield _link(message)


def _lost(damage: Damage, what: str = "") -> Link:
    return Link("", damage.offset, f"{damage}{what}")


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")


# The older groups


def _symbols(file: Bytes, message: Fields) -> Iterator[Link]:
    tree, heap, names = message.address(), message.address(), None
    try:
        names = _names(file, heap)
    except Damage as damage:
        yield _lost(damage, ", and with them the names of all pictures of the group")
    seen, whole = {tree}, True
    known: list[Entry] = []
    for node in _nodes(file, tree, seen):
        if isinstance(node, Damage):
            whole = False
            yield _lost(node, _SOME)
        else:
            known.extend(entries(node))
    if names:
        more = [] if whole else orphans(file, heap, seen, known)
        yield from (_symbol(file, entry, *names) for entry in [*known, *more])


def _names(file: Bytes, heap: int) -> tuple[int, int]:
    """Where the names of a local heap begin and end."""
    fields = file.fields(heap, 32, "the heap of names", b"HEAP")
    fields.take(4)
    size, _, place = fields.address(), fields.address(), fields.address()
    file.read(place, min(size, 1), "the names")
    return place, place + size


def _nodes(file: Bytes, root: int, seen: set[int]) -> Iterator[Fields | Damage]:
    """The symbol table nodes below a B-tree of version 1, or why one cannot be read. seen: what was come to."""
    waiting = [(root, _DEEPEST)]
    while waiting:
        place, level = waiting.pop()
        try:
            if level < 0:
                yield symbol_node(file, place)
                continue
            own, below = children(file, place, level, 0, ADDRESS)
            fresh = list(dict.fromkeys(child for _, child in below if child not in seen))
            seen.update(fresh)
            waiting.extend((child, own - 1) for child in reversed(fresh))
        except Damage as damage:
            yield damage


def children(file: Bytes, place: int, highest: int, kind: int, key_size: int) -> tuple[int, list[tuple[bytes, int]]]:
    """Level of a node of a B-tree of version 1, and (key, address) of what is below it (III.A.1). Raises Damage."""
    head = file.fields(place, 24, "a node of an index", b"TREE")
    found, level, count = struct.unpack("<BBH", head.take(4))
    if found != kind or level > highest:
        raise Damage(place, f"the node of an index at byte {place} has type {found} and level {level}")
    body = file.fields(place + 24, count * (key_size + ADDRESS), "a node of an index")
    return level, [(body.take(key_size), body.address()) for _ in range(count)]


def _symbol(file: Bytes, entry: Entry, names: int, end: int) -> Link:
    try:
        if entry.name % _ALIGNED:
            raise Damage(
                names, f"a list of names leads to place {entry.name} of the names at byte {names}, where none is"
            )
        return Link(_name(file, names + entry.name, end), None if entry.cache == _SOFT else entry.address)
    except Damage as damage:
        return _lost(damage, f" (the header of the picture is at byte {entry.address})")


def _name(file: Bytes, place: int, end: int) -> str:
    """A name that ends with a zero."""
    available = min(end, file.length) - place
    found, zero, _ = file.read(place, max(min(available, _NAME), 1), "the name of a picture").partition(b"\0")
    if not zero or not found or available <= 0:
        raise Damage(place, f"the name of a picture at byte {place} has no end: the file has {file.length} bytes")
    return _text(found)


# The newer groups


def _link(message: Fields) -> Link:
    """A link message (IV.A.2.g). Raises Damage."""
    version, flags = message.number(1), message.number(1)
    kind = message.number(1) if flags & 8 else 0
    message.take(8 * bool(flags & 4) + bool(flags & 16))
    name = message.take(message.number(1 << (flags & 3)))
    if version != 1 or flags & 0xE0 or not name or len(name) > _NAME:
        raise Damage(message.offset + message.at, f"{message.what} at byte {message.offset} is no link")
    return Link(_text(name), message.address() if kind == 0 else None)


def _dense(file: Bytes, info: Fields) -> Iterator[Link]:
    """The links of a group that has them in a fractal heap."""
    version, flags = info.number(1), info.number(1)
    if version != 0:
        raise Unhandled(f"the links of a group are of version {version}")
    info.take(8 * (flags & 1))
    place, index = info.address(), info.address()
    if place == UNDEFINED:
        return
    try:
        heap = LinkHeap(file, place)
    except Damage as damage:
        yield _lost(damage, ", and with it all pictures of the group")
        return
    faults: list[Link] = []
    met: set[str] = set()
    for found in _indexed(file, index, heap):
        if found.problem:
            faults.append(found)
        else:
            met.add(found.name)
            yield found
    if faults:  # links carry their names: those that no node leads to are still in the blocks
        for found in _scanned(heap):
            if found.problem:
                faults.append(found)
            elif found.name not in met:
                met.add(found.name)
                yield found
        yield from faults if len(met) < heap.objects else ()


def _indexed(file: Bytes, index: int, heap: LinkHeap) -> Iterator[Link]:
    for id_ in heap_ids(file, index, heap.id_size):
        if isinstance(id_, Damage):
            yield _lost(id_, _SOME)
            continue
        try:
            yield _link(heap.object(id_))
        except Damage as damage:
            yield _lost(damage)


def _scanned(heap: LinkHeap) -> Iterator[Link]:
    """The links that lie one behind another from the beginning of each block on."""
    for block in heap.blocks():
        if isinstance(block, Damage):
            yield _lost(block, _SOME)
            continue
        while block.left and block.data[block.at] == 1:
            try:
                yield _link(block)
            except Damage:
                break
