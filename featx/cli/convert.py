"""``featx convert SOURCE OUT``: an LXMERT TSV into a store, or a store into an LXMERT TSV."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from featx.cli.output import CHOICES, add_json, delivery, print_json
from featx.errors import UsageError
from featx.formats.lxmert_tsv import import_tsv, write_tsv
from featx.labels import read_labels
from featx.store import open_store


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("source", help="a .tsv file, or the folder of a store")
    parser.add_argument("out", help="the folder of a store, or a .tsv file")
    parser.add_argument("--backend", choices=("lmdb", "hdf5"), help="of the store (default lmdb)")
    parser.add_argument("--dtype", choices=CHOICES["dtype"], help="of the store (default float32: nothing is lost)")
    parser.add_argument("--objects", help="vocabulary file of the object ids, one name per line")
    parser.add_argument("--attributes", help="vocabulary file of the attribute ids")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing .tsv")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Decide the direction by which of the two is a .tsv."""
    reading, writing = (Path(name).suffix.lower() == ".tsv" for name in (options.source, options.out))
    if reading == writing:
        found = "both SOURCE and OUT end" if reading else "neither SOURCE nor OUT ends"
        raise UsageError(f"{found} in .tsv", "name exactly one .tsv file; the other is the folder of a store")
    if reading:
        from_tsv(options)
    else:
        to_tsv(options)


def from_tsv(options: argparse.Namespace) -> None:
    """TSV -> store."""
    if not Path(options.source).is_file():
        state = "is not a file" if Path(options.source).exists() else "does not exist"
        raise UsageError(f"{options.source} {state}", "give a .tsv file")
    vocabularies = {"objects": options.objects, "attributes": options.attributes}
    labels = {what: list(read_labels(path, what)) for what, path in vocabularies.items() if path}
    totals = import_tsv(options.source, options.out, options.backend or "lmdb", options.dtype or "float32", labels)
    if options.json:
        print_json({"records": totals.records, "refused": totals.refused, "digest": totals.digest})
        return
    print(f"{options.out}: {totals.records} records, {totals.refused} rows refused")
    if totals.refused:
        print(f"featx: `featx inspect {options.out} --failures` lists them with their byte offsets", file=sys.stderr)


def to_tsv(options: argparse.Namespace) -> None:
    """Store -> TSV."""
    given = [f"--{name}" for name in ("backend", "dtype", "objects", "attributes") if getattr(options, name)]
    if given:
        raise UsageError(
            f"{', '.join(given)} does not apply to writing a .tsv", "these are about a store to be written"
        )
    if Path(options.out).is_file() and not options.overwrite:
        raise UsageError(f"{options.out} exists", "choose another name, or --overwrite")
    with open_store(options.source) as store, delivery(options.out) as file:
        rows = write_tsv(store, file)
    if options.json:
        print_json({"rows": rows})
    else:
        print(f"{options.out}: {rows} rows")
