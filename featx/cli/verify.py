"""``featx verify STORE``: a store, or a sample of it, against its checksums; and its repair."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from featx.cli.bar import add_quiet, add_sample, bar
from featx.cli.output import add_json, describe, many, print_json
from featx.errors import UsageError
from featx.store import Problem
from featx.store.verify import verify, volume

SHOWN = 50
_IN_PLACE = ""
_EPILOG = """\
Structure and sizes are checked before a file is mapped, then every checksum, the schema and the counts. Exit code 4
when anything is wrong, also when it was repaired.

  featx verify STORE                    every byte
  featx verify STORE --sample 2%        a random share of the records, and what it tells of the rest
  featx verify STORE --repair           keep what is sound, in place; the old parts stay as parts/.damaged-...
  featx verify STORE --repair NEW       the same as a new store; STORE is left alone
  featx verify STORE --drop-damaged     remove what a repair set aside

Lost records go to the ledger with the reason "damaged": `featx extract ... --retry-refused` makes exactly those again.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("store", help="folder of the store, finished or not")
    add_sample(parser, "check")
    parser.add_argument("--repair", nargs="?", const=_IN_PLACE, metavar="OUT", help="keep the good, list the rest")
    parser.add_argument("--drop-damaged", action="store_true", help="remove the folders that a repair set aside")
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Report; 4 when anything is wrong."""
    asked = [options.sample is not None, options.repair is not None, options.drop_damaged]
    if sum(asked) > 1:
        raise UsageError("--sample, --repair and --drop-damaged are three things", "ask for one of them at a time")
    if options.sample is not None:
        return sample(options)
    if options.repair is not None:
        return repair(options)
    if options.drop_damaged:
        return drop(options)
    return everything(options)


def everything(options: argparse.Namespace) -> int:
    """Every byte."""
    with bar(options, resumes=False) as shown:
        shown.begin(volume(options.store))
        report = verify(options.store, tick=shown.tick)
        shown.fill()
    if options.json:
        facts = {"parts": report.parts, "finished": report.finished, "totals": asdict(report.totals)}
        print_json({"ok": report.ok, **facts, "problems": [listed(p) for p in report.problems]})
        return 0 if report.ok else 4
    tell(report.problems)
    totals, problems = report.totals, len(report.problems)
    counts = [(totals.records, "record", "sound"), (totals.refused, "picture", "refused"), (problems, "problem", "")]
    print(", ".join(many(*row) for row in counts))
    print(f"{report.finished} of {many(report.parts, 'part')} finished")
    print(f"digest {totals.digest}")
    if problems:
        print(f"  -> featx verify {options.store} --repair keeps what is sound", file=sys.stderr)
    return 0 if report.ok else 4


def sample(options: argparse.Namespace) -> int:
    """A random share of the records."""
    from featx.care.sample import CERTAINTY, check_sample

    with bar(options, "records", resumes=False) as shown:
        found = check_sample(options.store, options.sample, options.seed, begin=shown.begin, tick=shown.tick)
    if options.json:
        facts: dict[str, Any] = {"records": found.records, "checked": found.checked, "damaged": found.damaged}
        print_json({"ok": found.ok, **facts, "rate_bound": found.bound, "certainty": CERTAINTY,
                    "problems": [listed(p) for p in found.problems]})  # fmt: skip
    else:
        tell(found.problems)
        print(found)
        if not found.ok:
            print(f"  -> featx verify {options.store} checks every record", file=sys.stderr)
    return 0 if found.ok else 4


def repair(options: argparse.Namespace) -> int:
    """Keep what is sound."""
    from featx.care import repair as mend

    with bar(options, kept="repaired") as shown:
        done = mend(options.store, options.repair or None, begin=shown.begin, tick=shown.tick)
        shown.fill()
    unnamed = sum(part.unnamed for part in done.parts)
    if options.json:
        parts = [{**asdict(part), "aside": part.aside and str(part.aside)} for part in done.parts]
        totals = done.manifest.totals and asdict(done.manifest.totals)
        facts: dict[str, Any] = {"ok": done.before.ok, "store": str(done.path), "complete": done.manifest.complete}
        problems = [listed(problem) for problem in done.before.problems]
        print_json({**facts, "totals": totals, "parts": parts, "notes": done.notes, "problems": problems})
        return 0 if done.before.ok else 4
    if done.before.ok:
        print(f"{options.store}: nothing was wrong" + (f"; {done.path} is a copy of it" if options.repair else ""))
        return 0
    tell(done.before.problems)
    for part in done.parts:
        lost = len(part.lost) + part.unnamed
        print(f"part {part.part}: {part.state}, {many(part.kept, 'record')} kept, {lost:,} lost")
        if part.aside:
            print(f"  what was there is kept in {part.aside}; --drop-damaged removes it")
    for key, why in list(done.lost.items())[:SHOWN]:
        print(f"lost {key}: {why}", file=sys.stderr)
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{done.path} is {'complete' if done.manifest.complete else 'unfinished'}")
    advise(bool(done.lost), bool(unnamed))
    return 4


def advise(named: bool, unnamed: bool) -> None:
    """How what is lost comes back."""
    if named:
        print(
            "  -> `featx extract` with the settings of the store and --retry-refused makes the lost again",
            file=sys.stderr,
        )
    if unnamed:
        print("  -> `featx extract` with the settings of the store makes what the open parts lack", file=sys.stderr)


def drop(options: argparse.Namespace) -> int:
    """Remove what was set aside."""
    from featx.care import drop_damaged

    gone = drop_damaged(options.store)
    if options.json:
        print_json({"removed": [str(path) for path in gone]})
    else:
        print("\n".join(f"removed {path}" for path in gone) or f"{Path(options.store)} keeps nothing damaged")
    return 0


def listed(problem: Problem) -> dict[str, Any]:
    """JSON form of a problem."""
    return {"file": str(problem.path), "key": problem.key, "message": problem.message}


def tell(problems: list[Problem]) -> None:
    """The first problems on stderr."""
    for problem in problems[:SHOWN]:
        print(f"featx: {problem}", file=sys.stderr)
    if len(problems) > SHOWN:
        print(f"featx: ... and {len(problems) - SHOWN} more (--json lists all)", file=sys.stderr)
