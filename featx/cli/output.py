"""What every command does alike: JSON or text on stdout, errors on stderr, names and sizes for people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featx.delivery import delivery
from featx.errors import FeatxError, UsageError

CHOICES = {
    "dtype": ("float16", "float32", "bfloat16", "int8"),
    "precision": ("float32", "tf32", "bf16", "fp16", "bfloat16", "float16"),  # the last two: longer spellings
}


def describe(parser: argparse.ArgumentParser, text: str) -> None:
    """What ``--help`` says behind the arguments, in its own lines."""
    parser.epilog, parser.formatter_class = text, argparse.RawDescriptionHelpFormatter


def add_json(parser: argparse.ArgumentParser) -> None:
    """The ``--json`` flag of every command that reports."""
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def print_json(data: Any) -> None:
    """One JSON document, keys in their order."""
    print(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def fail(error: FeatxError, options: argparse.Namespace) -> int:
    """Print an error the way ``--json`` asks for and return its exit code."""
    if getattr(options, "json", False):
        kind = type(error).__name__
        print(json.dumps({"error": kind, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}))
    print(f"featx: {error}", file=sys.stderr)
    return error.exit_code


def check_png(path: str) -> None:
    """Raise UsageError for the name of another kind of file than PNG, before there is anything to write."""
    if Path(path).suffix.lower() not in ("", ".png"):
        raise UsageError(f"{path} is not the name of a PNG file", f"write {Path(path).with_suffix('.png')}")


def deliver(path: str, data: bytes) -> None:
    """Give the file ``path`` the content ``data``; see :func:`featx.delivery.delivery`."""
    with delivery(path) as file:
        file.write(data)


def many(count: int, one: str, behind: str = "") -> str:
    """``1 record``, ``2,000 records``, ``2 pictures refused``: a number of something, and what stands behind it."""
    return f"{count:,} {one}{'' if count == 1 else 's'}{behind and ' '}{behind}"


def human_bytes(count: float) -> str:
    """1536 -> ``1.5 kB``; decimal units, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_time(seconds: float) -> str:
    """95 -> ``1 min 35 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to their widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
