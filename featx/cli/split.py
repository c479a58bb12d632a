"""``featx split STORE OUT``: one store as several."""

from __future__ import annotations

import argparse

from featx.cli.bar import add_quiet, bar
from featx.cli.output import add_json, describe, many, print_json, table

_EPILOG = """\
Every store that is made is complete by itself. Records are copied as they are stored; a store of exactly N parts is
taken apart by its parts, whose files are copied. Killed, the same command goes on.

  featx split coco.featx halves --parts 2                  halves/1-of-2, halves/2-of-2
  featx split coco.featx sets --by train.txt minival.txt   sets/train, sets/minival; one key on a line
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("store", help="folder of the store")
    parser.add_argument("out", help="folder for the new stores")
    ways = parser.add_mutually_exclusive_group(required=True)
    ways.add_argument("--parts", type=int, metavar="N", help="so many stores of about equal size")
    ways.add_argument("--by", nargs="+", default=[], metavar="LIST", help="a store for each list of keys")
    parser.add_argument("--allow-missing", action="store_true", help="go on without keys that the store does not have")
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Split, and say what came of it."""
    from featx.care import split

    with bar(options) as shown:
        done = split(
            options.store, options.out, parts=options.parts, lists=options.by, allow_missing=options.allow_missing,
            begin=shown.begin, tick=shown.tick,
        )  # fmt: skip
    if options.json:
        made = [{"store": str(path), "records": n, "refused": m} for path, (n, m) in done.stores.items()]
        print_json({"stores": made, "left": done.left})
        return
    print(table([(str(path), many(n, "record"), f"{m:,} refused") for path, (n, m) in done.stores.items()]))
    if done.left:
        print(f"{many(done.left, 'record')} in no list")
