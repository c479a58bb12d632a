"""``featx stats STORE``: what the records of a store are like, in numbers and on one page."""

from __future__ import annotations

import argparse

from featx.care.spread import Spread
from featx.care.statistics import Statistics
from featx.cli.bar import add_quiet, add_sample, bar
from featx.cli.output import add_json, check_png, deliver, describe, print_json, table

_EPILOG = """\
Records stream by one at a time, so memory does not grow. Quantiles are within 0.8 % of the value; counts, means, least
and most are exact. Exit code 4 when records are damaged: they are left out, and `featx verify` lists them.

  featx stats coco.featx
  featx stats coco.featx --sample 5000 --picture coco.png
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("store", help="folder or URL of the store, finished or not")
    add_sample(parser, "read")
    parser.add_argument("--picture", metavar="PNG", help="draw it all on one page")
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Count, and report."""
    from featx.care import stats

    if options.picture:
        check_png(options.picture)
    with bar(options, "records", resumes=False) as shown:
        found = stats(options.store, sample=options.sample, seed=options.seed, begin=shown.begin, tick=shown.tick)
    if options.picture:
        from featx.care.stats_page import stats_page
        from featx.draw import encode_png

        deliver(options.picture, encode_png(stats_page(found)))
    if options.json:
        print_json(found.to_dict())
    else:
        tell(found)
    return 4 if found.damaged else 0


def tell(found: Statistics) -> None:
    """For people."""
    read = f" (a sample of {found.total:,})" if found.sampled else ""
    print(f"{found.store}: {found.records:,} records{read}, {found.regions:,} regions")
    counts = sorted(found.counts.items())
    shown = ", ".join(f"{n}: {seen:,}" for n, seen in counts[:8]) + (", ..." if len(counts) > 8 else "")
    print(f"records with so many regions: {shown}")
    dead = len(found.dimensions.dead)
    print(f"zeros: {found.zero_share:.1%} of the features' values; dimensions that always are: {dead}")
    rows: list[tuple[str, ...]] = [("", "least", "5 %", "median", "mean", "95 %", "most")]
    named = [
        ("features", found.values), ("norms", found.norms), ("box area / picture", found.area),
        ("box width / height", found.aspect), ("box width, pixels", found.widths),
        ("box height, pixels", found.heights), ("picture width", found.sides[1]),
        ("picture height", found.sides[0]), *found.confs.items(),
    ]  # fmt: skip
    rows += [(name, *line(spread)) for name, spread in named]
    print(table(rows))
    for name, kind in found.classes.items():
        top = ", ".join(f"{label} {seen:,}" for label, seen in kind.top(8))
        print(f"{name}: {len(kind.counts):,} classes; {top}")
    for note in found.notes():
        print(f"note: {note}")


def line(spread: Spread) -> tuple[str, ...]:
    """A row of the table."""
    facts = spread.to_dict()
    return tuple(f"{facts[name]:.5g}" if name in facts else "-" for name in ("min", "p5", "p50", "mean", "p95", "max"))
