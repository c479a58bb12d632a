"""``featx diff A B``: what differs between two stores, by how much, and in which step of the pipeline."""

from __future__ import annotations

import argparse
import math

from featx.care.difference import Diff, from_one
from featx.care.spread import Spread
from featx.cli.bar import add_quiet, add_sample, bar
from featx.cli.output import add_json, check_png, deliver, describe, many, print_json, table

_EPILOG = """\
Regions are paired by the conventions in which boxes are known to differ (order, x1 - x0 + 1, clipping, frames, ...),
else so that the sum of their IoU is largest. Exit code 0 when the same pictures have the same records up to --tolerance
(of features, pixels and all other floats; ids, fields, order and number of regions always count), else 1;
4 when records are damaged: they are left out, and `featx verify` lists them.

  featx diff published.featx mine.featx
  featx diff float32.featx float16.featx --tolerance 0.02 --sample 1000 --picture diff.png
"""

_WORST = 5  # pictures that are named; --json has more


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("a", help="folder of a store")
    parser.add_argument("b", help="folder of another")
    parser.add_argument(
        "--tolerance", type=float, default=0.0, metavar="X", help="what may differ (default 0: nothing)"
    )
    add_sample(parser, "compare")
    parser.add_argument("--picture", metavar="PNG", help="draw it all on one page")
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare, and report; 1 when they differ, 4 when some could not be compared."""
    from featx.care import diff

    if options.picture:
        check_png(options.picture)
    with bar(options, "pictures", resumes=False) as shown:
        found = diff(
            options.a, options.b, tolerance=options.tolerance, sample=options.sample, seed=options.seed,
            begin=shown.begin, tick=shown.tick,
        )  # fmt: skip
    if options.picture:
        from featx.care.diff_page import diff_page
        from featx.draw import encode_png

        deliver(options.picture, encode_png(diff_page(found)))
    if options.json:
        print_json(found.to_dict())
    else:
        tell(found, options.tolerance)
    if found.damaged:
        return 4
    return 0 if found.same else 1


def tell(found: Diff, tolerance: float) -> None:
    """For people: what is common, by how much it differs, why, and where most."""
    print(f"A {found.a}\nB {found.b}")
    near = found.compared - found.equal - found.differing
    counts = [
        f"{found.equal:,} equal",
        *([f"{near:,} within the tolerance"] if near else []),
        f"{found.differing:,} differ",
    ]
    print(f"{found.compared:,} of {many(found.common, 'common picture')} compared: {', '.join(counts)}")
    for name, count, some in (("A", found.only_a, found.some_a), ("B", found.only_b, found.some_b)):
        if count:
            print(f"only in {name}: {many(count, 'picture')} ({', '.join(some[:5])}{', ...' if count > 5 else ''})")
    if found.regions[0] or found.regions[1]:
        print("regions: {:,} in A, {:,} in B, {:,} in both".format(*found.regions))
    if found.equal != found.compared:
        print(numbers(found))
    for hint in found.hints:
        print(
            f"\n{hint.text}\n  ({hint.pictures:,} of {many(found.compared, 'picture')})"
            if hint.pictures
            else f"\n{hint.text}"
        )
    if found.made:
        print("\ntheir makers say")
        print("\n".join(f"  {line}" for line in found.made))
    if found.worst and found.differing:
        print("\nmost different (0: the same, 1: no region in common)")
        print(table([(f"  {key}", f"{value:.3f}", "; ".join(why)[:90]) for key, value, why in found.worst[:_WORST]]))
    for message in found.damaged:
        print(f"damaged: {message}")
    print(verdict(found, tolerance))


def verdict(found: Diff, tolerance: float) -> str:
    """The last line."""
    if found.same:
        return "same"
    if found.damaged and not (found.differing or found.only_a or found.only_b):
        return f"{many(len(found.damaged), 'picture')} damaged, the others are the same"
    return f"they differ (tolerance {tolerance:g})"


def numbers(found: Diff) -> str:
    """A table of percentiles."""
    rows: list[tuple[str, ...]] = [("", "least", "5 %", "median", "95 %", "most")]
    for name, spread, turned in (
        ("IoU of boxes", found.overlap, True), ("cosine of features", found.cosine, True),
        ("largest difference", found.apart, False), ("relative difference", found.relative, False),
        ("box shift, pixels", found.shift, False),
    ):  # fmt: skip
        rows.append((name, *row(spread, turned)))
    agree = [f"{name} agree for {equal / total:.1%}" for name, (equal, total) in found.agree.items() if total]
    rest = [
        f"{name} differs by up to {number:.3g}" if math.isfinite(number) else f"{name} is not the same"
        for name, number in found.rest.items()
    ]
    return "\n".join([table(rows), *agree, *rest])


def row(spread: Spread, turned: bool) -> tuple[str, ...]:
    """min, p5, p50, p95, max."""
    facts = from_one(spread) if turned else spread.to_dict()
    return tuple(f"{facts[name]:.6g}" if name in facts else "-" for name in ("min", "p5", "p50", "p95", "max"))
