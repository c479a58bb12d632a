"""``featx merge OUT A B ...``: several stores of one make as one."""

from __future__ import annotations

import argparse

from featx.cli.bar import add_quiet, bar
from featx.cli.output import add_json, describe, many, print_json

_EPILOG = """\
The stores must be complete, and agree about schema, provenance and labels; every difference is told. Parts are copied
as the files they are, and checked on the way; only a part that loses a duplicate is written anew. A key with equal
records in several stores is kept once; with different ones it is an error, unless --prefer says whose counts. The
parts of OUT are those of its sources: `featx compact` makes few of many. Killed, the same command goes on.

  featx merge coco.featx train2014.featx val2014.featx
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("out", help="folder of the new store")
    parser.add_argument("stores", nargs="+", help="two or more stores")
    parser.add_argument("--prefer", choices=("first", "last"), help="whose record counts where two differ")
    parser.add_argument("--backend", choices=("lmdb", "hdf5"), help="of the new store (default: that of the first)")
    parser.add_argument(
        "--link", action="store_true", help="hard links instead of copies: for stores that never change"
    )
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Merge, and say what came of it."""
    from featx.care import merge

    with bar(options) as shown:
        done = merge(
            options.out, options.stores, prefer=options.prefer, backend=options.backend, link=options.link,
            begin=shown.begin, tick=shown.tick,
        )  # fmt: skip
    totals = done.manifest.totals
    assert totals is not None
    if options.json:
        facts = {"records": totals.records, "refused": totals.refused, "digest": totals.digest}
        print_json({**facts, "parts": done.manifest.parts, "copied_parts": done.copied, "twice": done.twice})
        return
    made = [many(totals.records, "record"), many(totals.refused, "picture", "refused")]
    print(f"{done.path}: {', '.join(made)}, in {many(done.manifest.parts, 'part')}")
    print(f"{many(done.copied, 'part')} copied as files, {many(done.twice, 'key')} in several stores")
