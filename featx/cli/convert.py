"""``featx convert SOURCE OUT``: a foreign file into a store, or a store into a foreign file."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from featx.cli.bar import add_quiet, bar
from featx.cli.output import CHOICES, add_json, describe, print_json
from featx.cli.viewing import add_view, view_asked
from featx.errors import UsageError
from featx.formats import Format, Options, Records, detect, get, names
from featx.formats.draft import begun
from featx.formats.importer import check_source, import_items
from featx.labels import read_labels
from featx.store import open_store

_EPILOG = """\
What SOURCE is, is found out by its structure; --from names it where that is not enough. OUT is a store unless --to, or
the end of its name (.tsv: LXMERT's), says otherwise. From one foreign format to another there is a store between.
Bad items go to the ledger of the store with their place; killed, the same command goes on. `featx formats` lists all.

  featx convert val2014_obj36.tsv val.featx --objects objects_vocab.txt --attributes attributes_vocab.txt
  featx convert coco.lmdb coco.featx --allow-pickle --key COCO_val2014_{:012d}
  featx convert coco.featx coco_volta.h5 --to volta-hdf5
"""
_READING = ("backend", "dtype", "objects", "attributes", "box_kind")  # besides what the format itself takes
_WRITING = ("keys", "first", "boxes", "score_threshold", "overwrite")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("source", help="a foreign file or folder, or the folder of a store")
    parser.add_argument("out", help="the folder of a store, or a foreign file or folder")
    parser.add_argument("--from", dest="read_as", metavar="NAME", help="the format of SOURCE")
    parser.add_argument("--to", dest="write_as", metavar="NAME", help="the format of OUT")
    parser.add_argument("--backend", choices=("lmdb", "hdf5"), help="of the store (default lmdb)")
    parser.add_argument(
        "--dtype", choices=CHOICES["dtype"], help="of the store (default: what SOURCE says, or float32)"
    )
    parser.add_argument("--objects", help="vocabulary file of the object ids, one name per line")
    parser.add_argument("--attributes", help="vocabulary file of the attribute ids")
    for field in fields(Options):
        if field.metadata and field.name != "dtype":
            default = None if field.metadata.get("action") is None else False
            parser.add_argument(f"--{field.name.replace('_', '-')}", default=default, **field.metadata)
    add_view(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace what is at OUT")
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Decide the direction by what SOURCE is and what OUT is called."""
    source, out = Path(options.source), Path(options.out)
    is_store = (source / "manifest.json").exists() and not options.read_as
    target = get(options.write_as) if options.write_as else _by_suffix(out)
    if target is None and is_store:
        raise UsageError(
            f"{source} is a store, and the name of {out} says no format",
            f"--to names one: {', '.join(name for name in names() if get(name).writes)}",
        )
    if target is not None and not is_store:
        if not source.exists():
            raise UsageError(f"{source} does not exist", "give a foreign file, or the folder of a store")
        raise UsageError(f"{source} is no store, and {out} would be none", "convert to a store first, and then that")
    if target is None:
        read(options, _format_of(source, options.read_as))
    else:
        write(options, target)


def read(options: argparse.Namespace, form: Format) -> None:
    """Foreign -> store."""
    _check_flags(options, {*_READING, *form.takes}, f"reading {form.title}")
    vocabularies = {"objects": options.objects, "attributes": options.attributes}
    labels = {what: list(read_labels(path, what)) for what, path in vocabularies.items() if path}
    if not options.json:
        print(f"featx: {options.source} is {form.title} ({form.name})", file=sys.stderr)
    with bar(options, "records") as shown:
        totals = import_items(
            form, options.source, options.out, _told(options, labels=labels), backend=options.backend or "lmdb",
            begin=shown.begin, tick=shown.tick,
        )  # fmt: skip
    if options.json:
        facts = {"records": totals.records, "refused": totals.refused, "digest": totals.digest}
        print_json({"format": form.name, **facts, "losses": form.declared})
        return
    print(f"{options.out}: {totals.records} records, {totals.refused} refused")
    if totals.refused:
        print(f"featx: `featx inspect {options.out} --failures` lists them with their places", file=sys.stderr)


def write(options: argparse.Namespace, form: Format) -> None:
    """Store -> foreign."""
    _check_flags(options, {*_WRITING, *form.gives}, f"writing {form.title}")
    out = Path(options.out)
    if not out.absolute().parent.is_dir():
        raise UsageError(
            f"{out} cannot be written: there is no folder {out.absolute().parent}", "make the folder first"
        )
    if not options.overwrite and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise UsageError(f"{out} exists", "choose another name, or --overwrite")
    view = view_asked(options)
    with open_store(options.source, view=view) as store, bar(options, "records", resumes=form.resumes) as shown:
        records = Records(store, _told(options), tick=shown.tick)
        there = next((place for place in form.beside(out) if place.exists()), None)
        if there and not options.overwrite and not begun(records, form.name, out):
            raise UsageError(f"{there} exists", "choose another name, or --overwrite")
        shown.begin(len(records))
        number, kind = form.write(records, out, records.options), store.schema.boxes
    losses = form.declared
    if not form.lossless and kind != form.boxes:
        losses = (*losses, f"this store holds {kind} boxes: read the file with --box-kind {kind}")
    if options.json:
        print_json({"format": form.name, "records": number, "losses": losses})
    else:
        into_data = out.exists() and not (out.is_file() or out.is_dir())  # /dev/stdout, a pipe
        print(f"{out}: {number} records as {form.title}", file=sys.stderr if into_data else sys.stdout)
        for loss in losses:
            print(f"featx: {loss}", file=sys.stderr)


def _told(options: argparse.Namespace, **more: object) -> Options:
    """The flags that were given, as options of a format."""
    given = {field.name: getattr(options, field.name, None) for field in fields(Options)}
    return Options(**{**{name: value for name, value in given.items() if value is not None}, **more})


def _check_flags(options: argparse.Namespace, allowed: set[str], what: str) -> None:
    """Raise UsageError for flags that mean nothing here."""
    known = (*_READING, *_WRITING, *(field.name for field in fields(Options) if field.metadata))
    given = [name for name in dict.fromkeys(known) if getattr(options, name) and name not in allowed]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(
            f"{flags} does not apply to {what}", "leave it out; `featx convert --help` says what is for what"
        )


def _by_suffix(out: Path) -> Format | None:
    """The format that the end of a name stands for."""
    return next((form for form in map(get, names()) if form.suffix and form.suffix == out.suffix.lower()), None)


def _format_of(source: Path, name: str | None) -> Format:
    """The format of a source, by its name or its structure."""
    if not source.exists():
        raise UsageError(f"{source} does not exist", "give a foreign file, or the folder of a store")
    check_source(source)
    if name:
        form = get(name)
        if not form.reads:
            raise UsageError(f"featx does not read {form.title}", "`featx formats` lists what it reads")
        return form
    found = detect(source)
    if len(found) != 1:
        said = "could be " + " or ".join(form.name for form in found) if found else "has the structure of no format"
        raise UsageError(f"{source} {said}", "--from NAME says what it is; `featx formats` lists the names")
    return found[0]
