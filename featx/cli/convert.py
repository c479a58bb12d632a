"""``featx convert SOURCE OUT``: an LXMERT TSV into a store, or a store into an LXMERT TSV."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from featx.cli.output import add_json, print_json
from featx.errors import UsageError
from featx.formats.lxmert_tsv import export_tsv, import_tsv
from featx.labels import read_labels
from featx.store import open_store


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("source", help="a .tsv file, or the folder of a store")
    parser.add_argument("out", help="the folder of a store, or a .tsv file")
    parser.add_argument("--backend", choices=("lmdb", "hdf5"), default="lmdb", help="of the store (default lmdb)")
    parser.add_argument("--dtype", default="float32", help="features of the store (default float32: nothing is lost)")
    parser.add_argument("--objects", help="vocabulary file of the object ids, one name per line")
    parser.add_argument("--attributes", help="vocabulary file of the attribute ids")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing .tsv")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Decide the direction by what SOURCE is."""
    if Path(options.source).is_dir():
        to_tsv(options)
    elif Path(options.source).is_file():
        from_tsv(options)
    else:
        raise UsageError(f"{options.source} does not exist", "give a .tsv file or the folder of a store")


def from_tsv(options: argparse.Namespace) -> None:
    """TSV -> store."""
    vocabularies = {"objects": options.objects, "attributes": options.attributes}
    labels = {what: list(read_labels(path, what)) for what, path in vocabularies.items() if path}
    totals = import_tsv(options.source, options.out, options.backend, options.dtype, labels)
    if options.json:
        print_json({"records": totals.records, "refused": totals.refused, "digest": totals.digest})
        return
    print(f"{options.out}: {totals.records} records, {totals.refused} rows refused")
    if totals.refused:
        print(f"featx: `featx inspect {options.out} --failures` lists them with their byte offsets", file=sys.stderr)


def to_tsv(options: argparse.Namespace) -> None:
    """Store -> TSV."""
    if Path(options.out).exists() and not options.overwrite:
        raise UsageError(f"{options.out} exists", "choose another name, or --overwrite")
    with open_store(options.source) as store:
        rows = export_tsv(store, options.out)
    if options.json:
        print_json({"rows": rows})
    else:
        print(f"{options.out}: {rows} rows")
