"""The numbers of LMDB's file format: 64 bit, little-endian, LMDB 0.9 (data version 1)."""

from __future__ import annotations

import struct

MAGIC, VERSION = 0xBEEFC0DE, 1
NO_PAGE = 2**64 - 1
BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8  # flags of a page; an overflow page begins a run that holds one value
KINDS = 0x7F  # those that say what a page is
BIG_DATA = 1  # flag of a leaf's node whose value lies in a run of its own
INTEGER_KEYS = 8  # flag of a database
ORDERS = 0x7F  # flags of a database that give its keys another order, or several values
PAGE_HEADER = struct.Struct("<QHHI")  # number, zero, flags, pages of the run; of others the ends of their free space
NUMBER = struct.Struct("<Q")  # of a page; a key of the free list
