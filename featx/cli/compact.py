"""``featx compact STORE OUT``: a store written anew, in few files or another form."""

from __future__ import annotations

import argparse

from featx.cli.bar import add_quiet, bar
from featx.cli.output import CHOICES, add_json, describe, human_bytes, many, print_json

_EPILOG = """\
Records are copied as they are stored, in the order of their keys. Only --dtype and --drop-padding take them apart; then
`recoded` in the provenance says so. STORE is left alone. Killed, the same command goes on.

  featx compact many-parts.featx one.featx
  featx compact coco.featx coco16.featx --dtype float16
  featx compact coco.featx coco.h5 --backend hdf5 --parts 4
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("store", help="folder of the store")
    parser.add_argument("out", help="folder of the new store")
    parser.add_argument("--parts", type=int, default=1, metavar="N", help="of the new store (default 1)")
    parser.add_argument("--backend", choices=("lmdb", "hdf5"), help="of the new store (default: the same)")
    parser.add_argument("--dtype", choices=CHOICES["dtype"], help="of its features (default: the same)")
    parser.add_argument("--drop-padding", action="store_true", help="leave out the rows behind the regions of a record")
    parser.add_argument("--drop-refused", action="store_true", help="leave out the ledger of refused pictures")
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write it, and say what came of it."""
    from featx.care import compact
    from featx.store import open_store

    with bar(options) as shown:
        compact(
            options.store, options.out, parts=options.parts, backend=options.backend, dtype=options.dtype,
            drop_padding=options.drop_padding, drop_refused=options.drop_refused, begin=shown.begin, tick=shown.tick,
        )  # fmt: skip
    sizes = []
    for path in (options.store, options.out):
        with open_store(path) as store:
            totals = store.manifest.totals
            sizes.append(sum(sum(part.files.values()) for part in store.parts))
    assert totals is not None
    if options.json:
        facts = {"records": totals.records, "refused": totals.refused, "digest": totals.digest}
        print_json({**facts, "bytes_before": sizes[0], "bytes": sizes[1]})
        return
    print(f"{options.out}: {many(totals.records, 'record')}, {many(totals.refused, 'picture', 'refused')}")
    print(f"{human_bytes(sizes[0])} before, {human_bytes(sizes[1])} now; digest {totals.digest}")
