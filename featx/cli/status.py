"""``featx status STORE``: how an extraction stands, while it runs and afterwards."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from featx.cli.output import add_json, describe, human_time, many, print_json, table
from featx.errors import FeatxError, UsageError
from featx.progress import percentages

if TYPE_CHECKING:
    from featx.status import PartStatus, StoreStatus

ROWS = 40  # of parts, that people are shown
EVERY = 2.0  # seconds between two looks
_WIDTH = 30  # characters of the bar
_MAP = 64  # parts on a line
_MARKS = {"done": "#", "running": ">", "stopped": "!", "failed": "x", "not begun": "."}
_CLEAR = "\x1b[H\x1b[J"
_QUIET = 15.0  # seconds without a pulse that nobody need be told of
_EPILOG = """\
STORE is a folder that this machine sees, or the URL of a store that is pushed or published (`featx extract --publish`):
s3://, gs://, az://, file://, ... Nothing is locked, written or waited for, and the network is not asked.

A part is done, running (its process is there, or gave a sign of life within the last minute), stopped (interrupted,
killed, or silent for longer), failed (with an error, which is told) or not begun. `featx extract` with the same
arguments, or its --part K/N, does what is not done; nothing that was committed is computed again.

Exit codes: 0 the store is complete; 4 it is not (or there is none); 130 the watch was interrupted.

  featx status coco.featx                      as it is now
  featx status coco.featx --watch 5            every 5 seconds, until the store is complete
  featx status s3://bucket/coco.featx --json   for programs; with --watch a line of JSON for each look
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("store", help="folder or URL of the store")
    parser.add_argument(
        "--watch", nargs="?", type=float, const=EVERY, metavar="SECONDS",
        help=f"look again every so many seconds ({EVERY:g}), until the store is complete",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Tell once, or until it is complete."""
    from featx.status import status

    if options.watch is not None:
        return watched(options)
    now = status(options.store)
    if options.json:
        print_json(now.to_dict())
    else:
        print("\n".join(lines(now)))
    return 0 if now.state == "complete" else 4


def watched(options: argparse.Namespace) -> int:
    """Look again and again. On a terminal what is shown is drawn anew, elsewhere a line tells each change."""
    if not options.watch > 0:
        raise UsageError(f"--watch {options.watch:g} cannot be", "give the seconds between two looks, for example 5")
    screen, before = sys.stdout.isatty() and not options.json, ""
    for now in looks(options.store, options.watch):
        if options.json:
            print(json.dumps(now.to_dict()), flush=True)
        elif screen:
            draw(now)
        elif line(now) != before:
            print(before := line(now), flush=True)
        if now.state == "complete":
            break
    if not screen and not options.json:
        print("\n".join(lines(now)))
    return 0


def looks(store: str, seconds: float) -> Iterator[StoreStatus]:
    """How it stands, every so many seconds. The first look must succeed; of a later one that fails is told."""
    from featx.status import watch

    watching = watch(store)
    yield watching.look()
    while True:
        time.sleep(seconds)
        try:
            now = watching.look()
        except (FeatxError, OSError) as error:
            print(f"featx: {getattr(error, 'message', error)}; looking again", file=sys.stderr)
            continue
        yield now


def draw(now: StoreStatus) -> None:
    """Fill the terminal, and no more than that."""
    width, height = shutil.get_terminal_size()
    shown = [text[: width - 1] for text in lines(now)]
    if len(shown) >= height:
        shown = [*shown[: height - 2], "..."]
    print(_CLEAR + "\n".join(shown), flush=True)


def line(now: StoreStatus) -> str:
    """All in one line."""
    refused = f", {now.refused:,} refused" if now.refused else ""
    going = f", {now.rate:.3g}/s, {left(now.seconds_left)}" if now.counts["running"] else ""
    parts = ", ".join(f"{count} {state}" for state, count in now.counts.items() if count)
    return f"{now.state}: {amount(now.done, now.total)} pictures{refused}{going}; parts: {parts}"


def lines(now: StoreStatus) -> list[str]:
    """All for people."""
    manifest, counts = now.manifest, now.counts
    share = 1.0 if now.total == now.done else now.done / now.total if now.total else 0.0
    known = f"{bar(share)} {share:4.0%}  " if now.total is not None else ""
    rows = [
        ("store", f"{now.place}  ({now.state}, {manifest.backend}, {many(manifest.parts, 'part')})"),
        ("pictures", f"{known}{amount(now.done, now.total)}"),
        ("refused", ", ".join(f"{count:,} {reason}" for reason, count in now.reasons.items()) or f"{now.refused:,}"),
    ]
    if counts["running"]:
        rows.append(("rate", f"{now.rate:.3g}/s, {many(counts['running'], 'part')} at once"))
        rows.append(("time left", left(now.seconds_left)))
        if now.shares:
            rows.append(("busy", percentages(now.shares) + (f"; limit: {now.limit}" if now.limit else "")))
    rows.append(("parts", ", ".join(f"{count:,} {state} {_MARKS[state]}" for state, count in counts.items() if count)))
    rows += [("", text) for text in parts_map(now.parts)]
    shown = [*table(rows).split("\n"), *interesting(now), *refusals(now)]
    return [*shown, *advice(now)]


def interesting(now: StoreStatus) -> list[str]:
    """A row for each part about which there is something to say."""
    order = ("failed", "stopped", "running")
    parts = sorted((part for part in now.parts if part.state in order), key=lambda part: order.index(part.state))
    if not parts:
        return []
    rows: list[tuple[str, ...]] = [("part", "state", "pictures", "refused", "rate", "time left", "")]
    rows += [row(part, len(now.parts)) for part in parts[:ROWS]]
    more = [f"... and {len(parts) - ROWS:,} more (--json lists all)"] if len(parts) > ROWS else []
    return ["", *table(rows).split("\n"), *more]


def row(part: PartStatus, parts: int) -> tuple[str, ...]:
    """One part."""
    runs = part.state == "running"
    return (
        f"{part.part + 1}/{parts}", part.state, amount(part.done, part.total), f"{part.refused:,}",
        f"{part.rate:.3g}/s" if runs else "", left(part.seconds_left) if runs else "", said(part),
    )  # fmt: skip


def said(part: PartStatus) -> str:
    """Who writes a part, or wrote it, and why no more."""
    words = []
    if part.process is not None and part.process.host:
        words.append(f"pid {part.process.pid} on {part.process.host}")
    if part.deaths:
        words.append(many(part.deaths, "death", "before"))
    if part.why:
        words.append(part.why.partition("\n")[0])
    if part.heard is not None and (part.state != "running" or part.heard > _QUIET):
        words.append(f"{human_time(part.heard)} ago" if part.state != "running" else f"silent {human_time(part.heard)}")
    return ", ".join(words)


def refusals(now: StoreStatus) -> list[str]:
    """The latest pictures that were refused."""
    rows = [(one.reason, one.source, one.message.partition("\n")[0]) for one in now.recent]
    return ["", "last refused", *("  " + text for text in table(rows).split("\n"))] if rows else []


def advice(now: StoreStatus) -> list[str]:
    """What to do next, where something is to be done."""
    hints = {
        "unconfirmed": "every part is done, and the manifest does not say so: run the command of any part again",
        "failed": "run the commands of the parts that failed again, once their cause is gone",
        "stopped": "run the same command again, or those of the parts that are not done: nothing is computed twice",
        "not begun": "nobody has begun: run `featx extract`",
    }
    return ["", f"-> {hints[now.state]}"] if now.state in hints else []


def parts_map(parts: Sequence[PartStatus]) -> list[str]:
    """A mark for each part; with very many, for the least of several: what is not done must be seen."""
    if len(parts) < 2:
        return []
    order = "x!>.#"
    marks = [_MARKS[part.state] for part in parts]
    step = -(-len(marks) // (8 * _MAP))
    marks = [min(marks[at : at + step], key=order.index) for at in range(0, len(marks), step)]
    return ["".join(marks[at : at + _MAP]) for at in range(0, len(marks), _MAP)]


def amount(done: int, total: int | None) -> str:
    """``1,200 of 5,000``."""
    return f"{done:,} of {'?' if total is None else format(total, ',')}"


def left(seconds: float | None) -> str:
    """Time left."""
    return "unknown" if seconds is None else human_time(seconds)


def bar(share: float) -> str:
    """``[#########.....]``; full only when all is done."""
    filled = int(share * _WIDTH)
    return f"[{'#' * filled}{'.' * (_WIDTH - filled)}]"
