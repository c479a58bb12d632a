"""Flip single bits of a finished store, one at a time, and look at what readers make of it.

``python -m tests.flip_store --flips 10000`` does so over a small store of each kind and prints what it saw.

A flip within a record must be reported with the record's key, by ``verify`` and by whoever reads it; one elsewhere
with the file; nothing that is read may be wrong; and no flip may kill the process: each is looked at in a child.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import h5py

from featx.errors import FeatxError, StoreDamaged
from featx.record import RecordBatch
from featx.schema import Schema
from featx.store import create_store, open_part, open_store, verify
from tests.store_oracle import KINDS, PROVENANCE, names, record_of

COUNT = 12
_CODES = ("fine", "unreported", "wrong", "error")


@dataclass
class Seen:
    """Flips within records and elsewhere, and those that were not as they must be: (offset, bit, what)."""

    within: int = 0
    elsewhere: int = 0
    bad: list[tuple[int, int, str]] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = Counter(what for *_, what in self.bad)
        told = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "all reported, none fatal, nothing wrong read"
        return f"{self.within} flips within records, {self.elsewhere} elsewhere: {told}"


def make(path: Path, kind: str) -> Path:
    """A store to be damaged. Returns its file of records."""
    create_store(path, *KINDS[kind], PROVENANCE)
    with open_part(path) as part:
        for ordinal, key in enumerate(names(COUNT)):
            part.put(key, record_of(key, part.schema), ordinal)
        part.finish()
    return next(file for file in path.rglob("records*") if file.suffix in (".lmdb", ".h5"))


def ranges(path: Path, file: Path) -> list[tuple[int, int, str]]:
    """Which bytes of the file belong to which record: (from, to, key)."""
    with open_store(path) as store:
        schema, stored = store.schema, {key: store.stored_bytes(key) for key in store}
    if file.suffix == ".lmdb" or schema.rows:
        data = file.read_bytes()
        return [(data.index(value), data.index(value) + len(value), key) for key, value in stored.items()]
    found = []
    with h5py.File(file) as arrays:
        start = arrays["start"][()].tolist()
        for name in (f.name for f in schema.fields):
            offset, size = arrays[name].id.get_offset(), arrays[name].nbytes // arrays[name].shape[0]
            for place, key in enumerate(arrays["keys"].asstr()[()]):
                rows = start[place : place + 2] if arrays[name].attrs["per"] == "region" else [place, place + 1]
                found.append((offset + rows[0] * size, offset + rows[1] * size, key))
    return found


def look(path: Path, file: Path, key: str | None) -> str:
    """What becomes of the store with a flipped bit in ``file``, within the record of ``key``."""
    problems = verify(path).problems
    if not any(problem.path == file for problem in problems):
        return "unreported"
    if key is not None and key not in {problem.key for problem in problems}:
        return "unreported"
    try:
        store = open_store(path)
    except StoreDamaged:
        return "fine" if key is None else "unreported"
    with store:
        named = set()
        for name in names(COUNT):
            try:
                if store[name] != record_of(name, store.schema):
                    return "wrong"
            except FeatxError as error:
                named |= {name} if name in error.message else set()
        try:
            batch = store.get_batch(names(COUNT))
        except FeatxError as error:
            if key is not None and key not in error.message:
                return "unreported"
        else:
            if key is not None or not right(batch, store.schema):
                return "wrong"
    return "fine" if key is None or named == {key} else "unreported"


def right(batch: RecordBatch, schema: Schema) -> bool:
    """Whether the batch holds what belongs to its keys."""
    for place, name in enumerate(batch.keys):
        record = record_of(name, schema)
        rows = len(record.features)
        same = (batch.features[place, :rows].numpy() == record.features).all()
        same &= (batch.boxes[place, :rows].numpy() == record.boxes).all()
        same &= (batch.extra["object_ids"][place, :rows].numpy() == record.object_ids).all()
        if not same or tuple(batch.sizes[place].tolist()) != record.size:
            return False
    return True


def flipped(path: Path, file: Path, whole: bytes, place: int, bit: int, key: str | None) -> str:
    """Flip a bit, look in a child, and flip it back. What was found, or which signal ended the child."""
    _put(file, place, bytes([whole[place] ^ bit]))
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            code = _CODES.index(look(path, file, key))
        except BaseException as error:
            print(f"byte {place}, bit {bit}: {error!r}", file=sys.stderr)
            code = _CODES.index("error")
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _put(file, place, whole[place : place + 1])
    return _CODES[status] if status >= 0 else f"killed by {signal.Signals(-status).name}"


def _put(file: Path, place: int, data: bytes) -> None:
    with file.open("r+b") as handle:
        handle.seek(place)
        handle.write(data)


def loop(folder: Path, kind: str, flips: int, seed: int) -> Seen:
    """Flip ``flips`` random bits, one after the other."""
    importlib.import_module("torch")  # once, and not in every child
    path = folder / "s"
    file, rng, seen = make(path, kind), random.Random(seed), Seen()
    whole, places = file.read_bytes(), ranges(path, file)
    for _ in range(flips):
        place, bit = rng.randrange(len(whole)), 1 << rng.randrange(8)
        key = next((key for start, end, key in places if start <= place < end), None)
        what = flipped(path, file, whole, place, bit, key)
        seen.within += key is not None
        seen.elsewhere += key is None
        if what != "fine":
            seen.bad.append((place, bit, what))
    shutil.rmtree(path)
    return seen


def main() -> int:
    """The loop, for people."""
    parser = argparse.ArgumentParser(prog="flip_store", description=__doc__)
    parser.add_argument("--flips", type=int, default=10_000, help="over all kinds of store together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    good = True
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            seen = loop(Path(folder), kind, options.flips // len(KINDS), options.seed)
            print(f"{kind}: {seen} ({time.perf_counter() - begin:.0f} s)")
            for place, bit, what in seen.bad[:10]:
                print(f"  byte {place}, bit {bit}: {what}")
            good &= not seen.bad
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
