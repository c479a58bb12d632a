"""``featx get STORE KEY``: one record as an .npz file."""

from __future__ import annotations

import argparse
import io
import sys

from featx.cli.output import add_json, deliver, print_json
from featx.cli.viewing import add_view, view_asked
from featx.errors import UsageError
from featx.store import open_store


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("store", help="folder or URL of the store")
    parser.add_argument("key", help="one picture")
    parser.add_argument("-o", "--out", default="-", help=".npz file to write (default: stdout)")
    add_view(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the arrays of a record, plain numpy, no pickle."""
    import numpy as np

    with open_store(options.store, partial=True, view=view_asked(options)) as store:
        record = store[options.key]
    if options.json:
        arrays = {name: record.array(name).tolist() for name in record.names()}
        print_json({"key": options.key, "size": record.size, "count": record.count, **arrays})
        return
    arrays = {name: record.array(name) for name in record.names()}
    arrays["size"], arrays["count"] = np.array(record.size), np.array(record.count)
    if options.out == "-":
        if sys.stdout.isatty():
            raise UsageError("an .npz file is not for a terminal", "give -o FILE.npz, or --json")
        np.savez(sys.stdout.buffer, **arrays)
        return
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    deliver(options.out, buffer.getvalue())
    print(f"{options.out}: {record!r}")
