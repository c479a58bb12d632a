"""``featx pull URL DIR``: a store from any store of objects."""

from __future__ import annotations

import argparse

from featx.care.transfer import Transfer
from featx.cli.bar import add_quiet, bar
from featx.cli.output import add_json, describe, human_bytes, many, print_json
from featx.errors import UsageError

_EPILOG = """\
Any protocol of fsspec: s3://, gs://, az://, hf://datasets/..., https://, sftp://, file://, ...; what a protocol needs
besides is told. Every file is checked against its size and hash, several are copied at a time, one that was cut goes on
where it was. The manifest comes last, so a copy is never taken for whole before it is.

  featx pull s3://bucket/coco.featx coco.featx
  featx pull s3://bucket/coco.featx coco.featx --parts 0,3    two parts, as an unfinished store; later the rest
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("url", help="where the store is")
    parser.add_argument("folder", help="folder for the copy")
    add_transfer(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Copy, and say what came."""
    from featx.care import pull

    with bar(options) as shown:
        done = pull(
            options.url, options.folder, parts=part_numbers(options.parts), jobs=options.jobs,
            begin=shown.begin, tick=shown.tick,
        )  # fmt: skip
    tell(options, options.folder, done)


def add_transfer(parser: argparse.ArgumentParser) -> None:
    """What pull and push have in common."""
    parser.add_argument("--parts", metavar="K,...", help="only these parts, counted from 0")
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="files at a time (default 4)")
    add_quiet(parser)
    add_json(parser)


def part_numbers(text: str | None) -> list[int] | None:
    """``0,3`` as numbers. Raises UsageError."""
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--parts is {text!r}", "give numbers of parts, counted from 0: --parts 0,3") from None


def tell(options: argparse.Namespace, place: str, done: Transfer) -> None:
    """What was copied."""
    if options.json:
        facts = {"place": place, "parts": done.parts, "total_parts": done.total}
        print_json({**facts, "bytes": done.bytes, "complete": done.complete})
        return
    state = "complete" if done.complete else "unfinished"
    print(f"{place}: {state}, {len(done.parts)} of {many(done.total, 'part')}, {human_bytes(done.bytes)} copied")
