"""``featx push DIR URL``: a store to any store of objects."""

from __future__ import annotations

import argparse

from featx.cli.bar import bar
from featx.cli.output import describe
from featx.cli.pull import add_transfer, part_numbers, tell

_EPILOG = """\
Any protocol of fsspec: s3://, gs://, az://, hf://datasets/..., sftp://, file://, ... Parts are immutable: a file that
is there in its full length stays, so the same command goes on after an interruption, and later adds parts. A different
store is never overwritten. `featx pull` checks every file against its hash; --check does so at once.

  featx push coco.featx s3://bucket/coco.featx
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("folder", help="folder of the store")
    parser.add_argument("url", help="where to copy it")
    parser.add_argument("--check", action="store_true", help="read every file back and compare its hash")
    add_transfer(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Copy, and say what went."""
    from featx.care import push

    with bar(options) as shown:
        done = push(
            options.folder, options.url, parts=part_numbers(options.parts), jobs=options.jobs, check=options.check,
            begin=shown.begin, tick=shown.tick,
        )  # fmt: skip
    tell(options, options.url, done)
