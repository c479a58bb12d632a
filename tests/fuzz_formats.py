"""Damage foreign files at random, and read them: nothing but an item with a problem or a FeatxError may come of it.

    python -m tests.fuzz_formats --times 2000 --seed 1 [--format NAME ...]

A short form runs with the tests. What an error that is none of featx's came from is printed with its seed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from featx.errors import FeatxError
from featx.formats import FORMATS, Format, Options, Records, get
from featx.store import open_store
from tests.test_formats_convert import make_store, sizes_of

LIVELY = (0, 0, 1, 0x7F, 0x80, 0xFF)  # bytes that numbers and lengths are made wrong with
SLOW = 20.0  # seconds: files of some kilobytes are read in milliseconds


class Fault(NamedTuple):
    """An error that is none of featx's."""

    form: str
    seed: int
    trace: str


class Target:
    """A format, an export in it, and what each of its files should hold."""

    def __init__(self, form: Format, folder: Path) -> None:
        self.form, self.path, self.seconds = form, folder / f"foreign{form.suffix}", 0.0
        folder.mkdir()
        with open_store(make_store(folder / "store", 6, 2)) as store:
            form.write(Records(store), self.path, Options())
        sizes = sizes_of(folder / "sizes.json", 6)
        self.options = Options(
            allow_pickle="allow_pickle" in form.takes, sizes=str(sizes) if "sizes" in form.takes else ""
        )
        files = [self.path] if self.path.is_file() else sorted(p for p in self.path.rglob("*") if p.is_file())
        files += [place for place in form.beside(self.path) if place.is_file()]
        self._whole = {file: file.read_bytes() for file in files}

    def harm(self, chance: random.Random) -> None:
        """Change one or two of the files; the others are as they should be."""
        for file, content in self._whole.items():
            file.write_bytes(content)
        for file in chance.choices(list(self._whole), k=chance.randint(1, 2)):
            file.write_bytes(damaged(self._whole[file], chance))

    def read(self) -> None:
        """Everything that reads."""
        begin = time.perf_counter()
        self.form.detect(self.path)
        for step in (self._survey, self._schema, self._items):
            with suppress(FeatxError):
                step()
        self.seconds = max(self.seconds, time.perf_counter() - begin)

    def _survey(self) -> None:
        self.form.survey(self.path, self.options)

    def _schema(self) -> None:
        self.form.schema(self.path, self.options)
        self.form.labels(self.path, self.options)

    def _items(self) -> None:
        numbers = []
        for item in self.form.read(self.path, self.options):
            assert (item.record is None) == bool(item.problem), item
            if item.record is not None:
                str(item.record)
            numbers.append(item.number)
        assert numbers == sorted(set(numbers)), "items have rising numbers"


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, or a piece lost, put in twice, or cut off; most of it near to the beginning or the end."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        kind, length = chance.random(), max(1, len(made))
        edge = chance.choice([length, min(length, 600)])
        place = chance.randrange(edge) if chance.random() < 0.5 else length - 1 - chance.randrange(edge)
        size = chance.randint(1, 8)
        if kind < 0.8:
            made[place : place + size] = bytes(chance.choice((*LIVELY, chance.randrange(256))) for _ in range(size))
        elif kind < 0.87:
            del made[place : place + chance.choice([size, 100, length])]
        elif kind < 0.94:
            made[place:place] = made[place : place + size]
        else:
            made[place : place + 1] = bytes([made[place] ^ 1 << chance.randrange(8)]) if made else b""
    return bytes(made)


def fuzz(names: list[str], folder: Path, times: int, seed: int) -> Iterator[Fault]:
    """Damage and read an export of each format so many times. Yields every fault once."""
    for name in names:
        target, seen = Target(get(name), folder / name), set()
        for number in range(seed, seed + times):
            target.harm(random.Random(f"{name} {number}"))
            try:
                target.read()
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                if (place.filename, place.lineno) not in seen:
                    seen.add((place.filename, place.lineno))
                    yield Fault(name, number, traceback.format_exc())
        if target.seconds > SLOW:
            yield Fault(name, seed, f"reading took up to {target.seconds:.0f} s")


def main() -> int:
    """The command. 1 when there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000, help="for each format (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", action="append", help="this one only; may be repeated")
    options = parser.parse_args()
    warnings.simplefilter("error")
    names = options.format or [name for name in FORMATS if get(name).reads and get(name).writes]
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for fault in fuzz([name], Path(folder), options.times, options.seed):
                faults += 1
                print(f"{fault.form}, seed {fault.seed}:\n{fault.trace}", file=sys.stderr)
            print(f"{name}: {options.times} damaged files read", flush=True)
    print(f"{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main())
