"""The rest of an LMDB file: the tree over values that lie in runs of pages already, the free list, the meta pages.

Layout: the 64 bit little-endian format of LMDB 0.9 (data version 1). A *node* is ``u16 u16 u16 u16 key ...``: on a
leaf the length of the value (low, high), a flag, the length of the key, then the key and the number of the page on
which the run of the value begins; on a branch the number of the page below (48 bits) and the length of the key. On a
page the places of its nodes grow from the front, in the order of the keys, and the nodes themselves from the back.
Trees are built from the bottom up and packed full; LMDB splits a full page when somebody adds to it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from featx.store.lmdb_format import (
    BIG_DATA,
    BRANCH,
    INTEGER_KEYS,
    LEAF,
    MAGIC,
    META,
    NO_PAGE,
    NUMBER,
    PAGE_HEADER,
    VERSION,
)
from featx.store.log_group import FIRST, PAGE, RUN, pages_of

COMMIT = 2  # the number of the newer meta page's commit; the other says the same under the one before
_ROOM = PAGE - PAGE_HEADER.size
_INLINE = (_ROOM // 2 & -2) - 2  # LMDB's longest node; a longer one has its value in a run of its own
_NODE = struct.Struct("<HHHH")
_DB = struct.Struct("<IHHQQQQQ")  # pad (page size), flags, depth, branch, leaf and overflow pages, entries, root


class Tree(NamedTuple):
    """One of the two databases of a file: its numbers, as a meta page has them, and the pages that are new."""

    flags: int = 0
    depth: int = 0
    branches: int = 0
    leaves: int = 0
    overflow: int = 0
    entries: int = 0
    root: int = NO_PAGE
    pages: tuple[bytes, ...] = ()


def value_tree(values: Sequence[tuple[bytes, int, int]], first: int) -> Tree:
    """The tree of values in runs, ``(key, page, length)`` by ascending key; its own pages begin at ``first``."""
    if not values:
        return Tree()
    pages, below = _leaves([(key, _big(key, page, length)) for key, page, length in values], first)
    leaves, depth = len(pages), 1
    while len(below) > 1:
        level, below = _branches(below, first + len(pages))
        pages += level
        depth += 1
    overflow = sum(pages_of(length) for _, _, length in values)
    return Tree(0, depth, len(pages) - leaves, leaves, overflow, len(values), below[0][1], tuple(pages))


def free_tree(unused: Sequence[int], first: int) -> Tree:
    """The list of unused pages as LMDB keeps it: one value under the number of the commit that set them free."""
    if not unused:
        return Tree(INTEGER_KEYS)
    key = NUMBER.pack(COMMIT - 1)
    value = struct.pack(f"<{len(unused) + 1}Q", len(unused), *sorted(unused, reverse=True))
    if _NODE.size + len(key) + len(value) <= _INLINE:
        node, run, pages = _NODE.pack(len(value), 0, 0, len(key)) + key + value, b"", 0
    else:
        node, run, pages = _big(key, first, len(value)), _run(first, value), pages_of(len(value))
    leaf = _page(first + pages, LEAF, [node])
    return Tree(INTEGER_KEYS, 1, 0, 1, pages, 1, first + pages, (run, leaf) if run else (leaf,))


def meta_pages(free: Tree, main: Tree, last: int) -> bytes:
    """Both meta pages of a file whose last used page is ``last``. They differ in the number of the commit alone."""
    size = (last + 1) * PAGE
    databases = b"".join(_DB.pack(pad, *db[:-1]) for pad, db in ((PAGE, free), (0, main)))
    pages = []
    for number, commit in enumerate((COMMIT, COMMIT - 1)):
        head = PAGE_HEADER.pack(number, 0, META, 0) + struct.pack("<IIQQ", MAGIC, VERSION, 0, size + -size % 65536)
        pages.append((head + databases + struct.pack("<QQ", last, commit)).ljust(PAGE, b"\0"))
    return b"".join(pages)


def _leaves(nodes: Sequence[tuple[bytes, bytes]], first: int) -> tuple[list[bytes], list[tuple[bytes, int]]]:
    """Pages of (key, node), and the (first key, number) of each."""
    cuts = _cuts([len(node) + 2 for _, node in nodes], 1)
    pages = [_page(first + n, LEAF, [node for _, node in nodes[a:b]]) for n, (a, b) in enumerate(pairwise(cuts))]
    return pages, [(nodes[cut][0], first + n) for n, cut in enumerate(cuts[:-1])]


def _branches(children: Sequence[tuple[bytes, int]], first: int) -> tuple[list[bytes], list[tuple[bytes, int]]]:
    """Pages over ``children``, and the (first key, number) of each. The first node of a page needs no key."""
    cuts = _cuts([_NODE.size + len(key) + len(key) % 2 + 2 for key, _ in children], 2)
    pages = []
    for number, (a, b) in enumerate(pairwise(cuts)):
        below = [(b"", children[a][1]), *children[a + 1 : b]]
        pages.append(_page(first + number, BRANCH, [_branch(key, page) for key, page in below]))
    return pages, [(children[cut][0], first + n) for n, cut in enumerate(cuts[:-1])]


def _cuts(costs: Sequence[int], least: int) -> list[int]:
    """Where to cut a row of nodes into pages, each filled as far as it goes, the last with at least ``least`` nodes."""
    cuts, used = [0], 0
    for place, cost in enumerate(costs):
        if used + cost > _ROOM:
            cuts.append(place)
            used = 0
        used += cost
    if len(cuts) > 1 and len(costs) - cuts[-1] < least:
        cuts[-1] = len(costs) - least
    return [*cuts, len(costs)]


def _big(key: bytes, page: int, length: int) -> bytes:
    node = _NODE.pack(length & 0xFFFF, length >> 16, BIG_DATA, len(key)) + key + NUMBER.pack(page)
    return node + b"\0" * (len(node) % 2)


def _branch(key: bytes, page: int) -> bytes:
    node = _NODE.pack(page & 0xFFFF, page >> 16 & 0xFFFF, page >> 32, len(key)) + key
    return node + b"\0" * (len(node) % 2)


def _page(number: int, flags: int, nodes: Sequence[bytes]) -> bytes:
    upper, places = PAGE, []
    for node in nodes:
        upper -= len(node)
        places.append(upper)
    lower = PAGE_HEADER.size + 2 * len(nodes)
    head = struct.pack(f"<QHHHH{len(nodes)}H", number, 0, flags, lower, upper, *places)
    return head + bytes(upper - lower) + b"".join(reversed(nodes))


def _run(page: int, value: bytes) -> bytes:
    run = PAGE_HEADER.pack(page, 0, RUN, pages_of(len(value))) + value
    return run + bytes(-len(run) % PAGE)


assert len(meta_pages(Tree(), Tree(), 1)) // PAGE == FIRST
