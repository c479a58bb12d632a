"""``featx verify STORE``: every byte of a store against its checksums."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from featx.cli.output import add_json, print_json
from featx.store.verify import verify

SHOWN = 50


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("store", help="folder of the store, finished or not")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Report; 4 when anything is wrong."""
    report = verify(options.store)
    if options.json:
        found = [{"file": str(p.path), "key": p.key, "message": p.message} for p in report.problems]
        facts = {"parts": report.parts, "finished": report.finished, "totals": asdict(report.totals)}
        print_json({"ok": report.ok, **facts, "problems": found})
        return 0 if report.ok else 4
    for problem in report.problems[:SHOWN]:
        print(f"featx: {problem}", file=sys.stderr)
    if len(report.problems) > SHOWN:
        print(f"featx: ... and {len(report.problems) - SHOWN} more (--json lists all)", file=sys.stderr)
    totals, problems = report.totals, len(report.problems)
    print(f"{totals.records} records sound, {totals.refused} pictures refused, {problems} problems")
    print(f"{report.finished} of {report.parts} parts finished")
    print(f"digest {totals.digest}")
    return 0 if report.ok else 4
